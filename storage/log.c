/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.c - the scan of a log.
 *
 * Whether a commit counts is known only when the next one is seen, so commits wait in a queue until a later header says
 * that they were synced, or until the end, where their message bytes are read.  In a log that was written commit by commit
 * the queue holds one; flags that were written without a sync make it longer.
 */
#include "storage/log.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "core/run/file.h"

#include <stdlib.h>

/* ---- a window on the file ---- */

struct window {
	int fd;
	uint64_t limit; /* nothing is read at or behind it */
	char *ptr;
	size_t cap, len;
	uint64_t offset; /* of ptr[0] */
	bool failed;
};

/* The bytes [offset, offset + bytes), or NULL: not all there, or the disk failed. Valid until the next call. */
static const char *window_get(struct window *w, uint64_t offset, size_t bytes)
{
	if (offset >= w->offset && offset + bytes <= w->offset + w->len)
		return w->ptr + (offset - w->offset);
	if (bytes > w->limit || offset > w->limit - bytes)
		return NULL;
	/* far from the last one: the next one may be as far, so read less */
	size_t want = offset > w->offset + w->len + LOG_READ_NEAR_BYTES ? LOG_READ_FAR_BYTES : LOG_READ_BYTES;
	want = (size_t)min_u64(max_size(want, bytes), w->limit - offset);
	if (want > w->cap) {
		free(w->ptr);
		w->cap = want;
		w->ptr = xmalloc(want);
	}
	w->offset = offset;
	w->len = 0;
	int64_t n = file_read(w->fd, w->ptr, want, offset);
	if (n < 0) {
		w->failed = true;
		return NULL;
	}
	w->len = (size_t)n;
	return w->len >= bytes ? w->ptr : NULL;
}

/* How many bytes can be had at an offset, at most `max`, at least 1; 0 at the end. */
static size_t window_have(struct window *w, uint64_t offset, size_t max)
{
	if (!window_get(w, offset, 1))
		return 0;
	return min_size(max, (size_t)(w->offset + w->len - offset));
}

/* ---- the scan ---- */

struct pending {
	uint64_t offset;
	struct commit_header header;
	char *heads; /* NULL: not whole */
};

struct bad_range {
	uint64_t start, end;
	uint64_t uids; /* at most so many may have been given in it */
};

struct scanner {
	const struct log_scan *scan;
	struct log_scan_result *result;
	struct window window;
	uint64_t salt;
	uint64_t synced; /* the highest mark seen, or the limit: below it message bytes are not read */
	uint64_t marked; /* the highest mark seen */
	uint64_t end;    /* of the last commit that was handed out or waits */
	struct pending *queue;
	size_t queue_len, queue_cap;
	struct bad_range bad[LOG_BAD_RANGES_MAX];
	size_t bad_len;
};

static uint64_t pending_end(const struct pending *p) { return p->offset + p->header.bytes; }

/* `heads_bytes`: of these bytes at most so many can be heads, the rest would be message bytes. */
static void bad_add(struct scanner *s, uint64_t start, uint64_t end, uint64_t heads_bytes)
{
	uint64_t uids = heads_bytes / FORMAT_MESSAGE_BYTES_MIN;

	ASSERT(start < end);
	/* too many to tell apart: what lies between goes with them in the report */
	if (s->bad_len == LOG_BAD_RANGES_MAX) {
		struct bad_range *last = &s->bad[s->bad_len - 1];
		last->end = max_u64(last->end, end);
		last->uids += uids;
		return;
	}
	s->bad[s->bad_len++] = (struct bad_range){ start, end, uids };
}

/* The message bytes of a commit in the unsynced tail: only they can tell whether its write came to its end. */
static bool body_good(struct scanner *s, uint64_t record_at, const struct body_record *body, uint64_t commit_end)
{
	uint64_t at = record_at + body->fixed.data_distance, left = body->fixed.bytes;
	struct hash_stream hash;

	if (body->fixed.flags & BODY_EXTERNAL)
		return true;
	if (body->fixed.data_distance > commit_end - record_at || left > commit_end - at)
		return false;
	hash_init(&hash, 0);
	while (left > 0) {
		size_t n = window_have(&s->window, at, (size_t)min_u64(left, LOG_READ_BYTES));
		if (n == 0)
			return false;
		hash_add(&hash, slice_of(s->window.ptr + (at - s->window.offset), n));
		at += n;
		left -= n;
		fiber_breathe();
	}
	return hash_sum64(&hash) == body->fixed.hash;
}

static bool pending_data_good(struct scanner *s, const struct pending *p)
{
	struct slice heads = slice_of(p->heads, p->header.heads_bytes);
	struct record r;
	size_t at = 0;

	/* the padding of the last body has no hash: the file must at least be as long as the commit says */
	if (!window_get(&s->window, pending_end(p) - 1, 1))
		return false;
	while (record_next(heads, &at, &r) == RECORD_NEXT_OK) {
		struct body_record body;
		if (r.type != RECORD_BODY || r.version != 1)
			continue;
		if (!body_get(&r, &body) ||
		    !body_good(s, p->offset + COMMIT_HEADER_BYTES + r.offset, &body, pending_end(p)))
			return false;
	}
	return true;
}

static bool heads_seal(struct slice heads)
{
	struct record r;
	size_t at = 0;
	bool seal = false;

	while (record_next(heads, &at, &r) == RECORD_NEXT_OK)
		seal = r.type == RECORD_SEAL;
	return seal;
}

/* The oldest commit of the queue counts or does not. */
static void pending_settle(struct scanner *s, const struct pending *p, bool whole)
{
	struct log_scan_result *r = s->result;
	struct slice heads = slice_of(p->heads, p->header.heads_bytes);

	if (!whole) {
		bad_add(s, p->offset, pending_end(p), p->header.heads_bytes);
		return;
	}
	r->commits++;
	r->end = pending_end(p);
	r->last_offset = p->offset;
	r->last_hash = p->header.header_hash;
	r->last_sequence = p->header.sequence;
	r->sealed = heads_seal(heads);
	if (s->scan->commit)
		s->scan->commit(s->scan->arg, p->offset, &p->header, heads);
	fiber_breathe();
}

static void queue_drop_first(struct scanner *s, size_t count)
{
	if (count == 0)
		return;
	for (size_t i = 0; i < count; i++)
		free(s->queue[i].heads);
	s->queue_len -= count;
	memmove(s->queue, s->queue + count, s->queue_len * sizeof(*s->queue));
}

/* Hands out what is known to be synced up to `mark`. */
static void queue_settle(struct scanner *s, uint64_t mark)
{
	size_t n = 0;

	while (n < s->queue_len && pending_end(&s->queue[n]) <= mark) {
		pending_settle(s, &s->queue[n], s->queue[n].heads != NULL);
		n++;
	}
	queue_drop_first(s, n);
}

/* At the end: what is left was never said to be synced; its bytes decide. */
static void queue_finish(struct scanner *s)
{
	for (size_t i = 0; i < s->queue_len; i++)
		pending_settle(s, &s->queue[i], s->queue[i].heads && pending_data_good(s, &s->queue[i]));
	queue_drop_first(s, s->queue_len);
}

/* A header was found: what it says of those before it, then it waits itself. */
static void queue_add(struct scanner *s, uint64_t offset, const struct commit_header *header)
{
	struct pending p = { .offset = offset, .header = *header };
	const char *heads;

	while (s->queue_len > 0 && pending_end(&s->queue[s->queue_len - 1]) > header->previous_end) {
		/* disowned: its write failed and the owner went on behind it */
		s->end = s->queue[s->queue_len - 1].offset;
		free(s->queue[--s->queue_len].heads);
	}
	s->marked = max_u64(s->marked, header->synced_end);
	s->synced = max_u64(s->synced, s->marked);
	queue_settle(s, s->synced);
	if (header->previous_end > s->end)
		bad_add(s, s->end, header->previous_end, header->previous_end - s->end);

	heads = window_get(&s->window, offset + COMMIT_HEADER_BYTES, header->heads_bytes);
	if (heads && commit_heads_good(header, slice_of(heads, header->heads_bytes))) {
		p.heads = xmalloc(max_size(header->heads_bytes, 1));
		memcpy(p.heads, heads, header->heads_bytes);
	}
	if (s->queue_len == s->queue_cap) {
		s->queue_cap = s->queue_cap ? 2 * s->queue_cap : 4;
		s->queue = xrealloc(s->queue, s->queue_cap * sizeof(*s->queue));
	}
	s->queue[s->queue_len++] = p;
	s->end = pending_end(&p);
}

/* Only the first commit can be read without the salt, and it tells it. */
static bool first_salt(struct scanner *s, const struct commit_header *header)
{
	const char *heads = window_get(&s->window, COMMIT_HEADER_BYTES, header->heads_bytes);
	struct open_record open;
	struct record r;
	size_t at = 0;

	if (!heads || !commit_heads_good(header, slice_of(heads, header->heads_bytes)) ||
	    record_next(slice_of(heads, header->heads_bytes), &at, &r) != RECORD_NEXT_OK || r.type != RECORD_OPEN ||
	    !open_get(&r, &open))
		return false;
	s->salt = open.fixed.salt;
	return true;
}

static bool header_at(struct scanner *s, uint64_t offset, struct commit_header *header_out)
{
	const char *p = window_get(&s->window, offset, COMMIT_HEADER_BYTES);

	return p && commit_header_get(p, s->salt, s->scan->number, offset, header_out);
}

/* Nothing is where the next commit should be: looks for one behind. */
static bool header_search(struct scanner *s, uint64_t offset, uint64_t *offset_out, struct commit_header *header_out)
{
	for (;;) {
		size_t n = window_have(&s->window, offset, LOG_READ_BYTES);
		if (n < COMMIT_HEADER_BYTES && !window_get(&s->window, offset, COMMIT_HEADER_BYTES))
			return false;
		n = (size_t)(s->window.offset + s->window.len - offset);
		size_t i = commit_header_find(slice_of(s->window.ptr + (offset - s->window.offset), n), s->salt,
					      s->scan->number, offset, header_out);
		if (i != SIZE_MAX) {
			*offset_out = offset + i;
			return true;
		}
		offset += (n - COMMIT_HEADER_BYTES) / 8 * 8 + 8;
		fiber_breathe();
	}
}

static void scan_commits(struct scanner *s)
{
	uint64_t at = s->scan->from, found;
	struct commit_header header;

	for (;;) {
		found = at;
		bool there = header_at(s, at, &header) || header_search(s, at + 8, &found, &header);
		if (!there)
			return;
		if (found == 0 && s->salt == 0 && !first_salt(s, &header))
			return;
		queue_add(s, found, &header);
		at = pending_end(&s->queue[s->queue_len - 1]);
	}
}

static void scan_report(struct scanner *s)
{
	for (size_t i = 0; i < s->bad_len; i++) {
		struct bad_range b = s->bad[i];
		/* Whoever cut the log here had read a whole commit up to the limit. He may have stepped over a tear
		 * before it, which is no damage now because of the cut. */
		bool damage = s->marked > b.start || b.end >= s->scan->limit;
		if (damage)
			s->result->damaged_bytes += b.end - b.start;
		else
			s->result->torn_bytes += b.end - b.start;
		if (s->scan->bad)
			s->scan->bad(s->scan->arg, b.start, b.end, b.uids, damage);
	}
}

/* What lies behind the last commit: bytes of a write that did not come to its end, or that were cut off by rot. */
static void scan_tail(struct scanner *s)
{
	uint64_t at = s->end;
	uint64_t end = s->scan->limit != UINT64_MAX ? s->scan->limit : s->window.limit;

	s->result->bytes = end;
	if (at < end)
		bad_add(s, at, end, end - at);
}

enum err log_scan(const struct log_scan *scan, struct log_scan_result *result_out)
{
	struct scanner s = { .scan = scan, .result = result_out, .salt = scan->salt, .end = scan->from };
	struct file_info info;

	ASSERT(scan->from % 8 == 0 && scan->from <= scan->limit);
	*result_out = (struct log_scan_result){ .end = scan->from };
	if (file_stat(scan->fd, &info) < 0)
		return ERR_IO;
	/* the file as it is now: what is appended while we read is none of ours */
	s.window = (struct window){ .fd = scan->fd, .limit = min_u64(scan->limit, info.bytes) };
	if (scan->limit != UINT64_MAX)
		s.synced = scan->limit; /* who cut it here had read and synced it */
	scan_commits(&s);
	queue_settle(&s, s.synced);
	queue_finish(&s);
	scan_tail(&s);
	if (!s.window.failed)
		scan_report(&s);
	result_out->salt = s.salt;
	free(s.queue);
	free(s.window.ptr);
	return s.window.failed ? ERR_IO : OK;
}

/* ---- the first commit ---- */

static void first_take(struct log_first *f, uint32_t number, const struct commit_header *header, struct slice heads)
{
	struct record r;
	struct open_record open = { .fixed = { .log = 0 } };
	struct cut_record cut;
	struct stub_fixed stub;
	size_t at = 0;

	f->unknown = !commit_header_known(header);
	f->sequence = header->sequence;
	f->commit_bytes = header->bytes;
	while (record_next(heads, &at, &r) == RECORD_NEXT_OK) {
		if (r.type == RECORD_STUB && stub_get(&r, &stub) && stub.log == number) {
			f->kind = LOG_FILE_STUB;
		} else if (r.type == RECORD_OPEN && open_get(&r, &open)) {
			f->salt = open.fixed.salt;
			f->account_id = open.fixed.account_id;
			f->take = open.fixed.take;
			memcpy(f->incarnation, open.fixed.incarnation, sizeof(f->incarnation));
			f->unknown = f->unknown || open.fixed.format != FORMAT_VERSION || open.fixed.required != 0;
		} else if (r.type == RECORD_CUT && cut_get(&r, &cut) && open.fixed.log == number) {
			f->kind = LOG_FILE_LOG;
			f->cut_count = cut.fixed.count;
			free(f->cut);
			f->cut = xmalloc(max_size(cut.fixed.count * sizeof(*f->cut), 1));
			memcpy(f->cut, cut.ends, cut.fixed.count * sizeof(*f->cut));
		}
	}
}

enum err log_first_read(int fd, uint32_t number, struct log_first *first_out)
{
	struct window w = { .fd = fd, .limit = UINT64_MAX };
	struct commit_header header;
	struct file_info info;
	const char *p;

	*first_out = (struct log_first){ .kind = LOG_FILE_FENCE };
	if (file_stat(fd, &info) < 0)
		return ERR_IO;
	first_out->bytes = info.bytes;
	w.limit = info.bytes;
	p = window_get(&w, 0, COMMIT_HEADER_BYTES);
	if (p && commit_header_get(p, 0, number, 0, &header) && header.heads_bytes <= info.bytes) {
		p = window_get(&w, COMMIT_HEADER_BYTES, header.heads_bytes);
		if (p && commit_heads_good(&header, slice_of(p, header.heads_bytes)))
			first_take(first_out, number, &header, slice_of(p, header.heads_bytes));
	}
	free(w.ptr);
	return w.failed ? ERR_IO : OK;
}

void log_first_release(struct log_first *first)
{
	free(first->cut);
	first->cut = NULL;
}
