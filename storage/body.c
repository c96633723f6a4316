/* SPDX-License-Identifier: Apache-2.0 */
/*
 * body.c - makes bodies: checks or mends line ends as bytes stream in, and keeps them in memory, a spool file, or for good.
 *
 * The writer gathers output in chunks.  In memory they stay; once a message is too large for that, whatever was gathered
 * goes to the spool file whenever BODY_SPOOL_WRITE_BYTES have come together, so a message of any size costs that much.
 * Hashing follows the chunks, not the lines: few, large steps.
 */
#include "storage/body.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "storage/gate.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define SPOOL_NAME_BYTES (12 + 2 * GUID_BYTES + 1) /* "<shard>-<guid>" */
#define SPOOL_DIR "spool"
#define CHUNKS_PER_WRITE 32

struct body_shard {
	int spool_dir_fd;
	uint64_t memory_body_bytes, file_body_bytes, message_bytes_max, reserve_bytes;
	struct body *drops; /* spool files to remove, linked by their post */
	bool dropping;
	struct timer drop_again;
};

struct body_writer {
	enum body_policy policy;
	enum err failed; /* stays */
	struct body *body;
	uint32_t chunk_cap;      /* of body->chunks, in entries */
	uint32_t chunk_at;       /* the one being filled */
	uint64_t written;        /* to the spool file */
	uint64_t hashed;         /* bytes that the hash has seen */
	uint64_t dot_cap;
	bool after_cr;           /* the last byte was CR; its LF is due */
	bool line_start;         /* the next byte begins a line */
	bool header_done;
	struct mime_parser *mime;
	uint64_t parsed;         /* bytes that it has seen */
	char *header;            /* gathered when it does not lie in one chunk */
	size_t header_len;
	struct hash_stream hash;
};

static struct body_shard *shard_state(void)
{
	struct body_shard *s = shard_local(SHARD_SLOT_BODY);
	ASSERT(s != NULL);
	return s;
}

static enum err err_from_result(int64_t r)
{
	return r >= 0 ? OK : err_from_errno((int)-r);
}

static void put_guid(char *out, const uint8_t guid[GUID_BYTES])
{
	for (int i = 0; i < GUID_BYTES; i++) {
		out[2 * i] = "0123456789abcdef"[guid[i] >> 4];
		out[2 * i + 1] = "0123456789abcdef"[guid[i] & 15];
	}
	out[2 * GUID_BYTES] = 0;
}

static void spool_name(const struct body *body, char out[SPOOL_NAME_BYTES])
{
	int n = snprintf(out, SPOOL_NAME_BYTES, "%u-", body->home);
	ASSERT(n > 0 && n + 2 * GUID_BYTES < SPOOL_NAME_BYTES);
	put_guid(out + n, body->guid);
}

/* ---- chunks ---- */

/* A chunk with room: the one being filled, or the next. */
static struct body_chunk *chunk_with_room(struct body_writer *w)
{
	struct body *b = w->body;
	if (b->chunk_count > 0 && b->chunks[w->chunk_at].len < b->chunks[w->chunk_at].cap)
		return &b->chunks[w->chunk_at];
	if (w->chunk_at + 1 < b->chunk_count)
		return &b->chunks[++w->chunk_at]; /* kept from before the last flush */
	if (b->chunk_count == w->chunk_cap) {
		w->chunk_cap = w->chunk_cap ? 2 * w->chunk_cap : 4;
		b->chunks = xrealloc(b->chunks, w->chunk_cap * sizeof(*b->chunks));
	}
	size_t cap = BODY_CHUNK_FIRST_BYTES;
	if (b->chunk_count > 0)
		cap = min_size(2 * (size_t)b->chunks[b->chunk_count - 1].cap, BODY_CHUNK_BYTES_MAX);
	w->chunk_at = b->chunk_count++;
	b->chunks[w->chunk_at] = (struct body_chunk){ xmalloc(cap), 0, (uint32_t)cap };
	return &b->chunks[w->chunk_at];
}

static void emit(struct body_writer *w, const char *ptr, size_t len)
{
	w->body->bytes += len;
	while (len > 0) {
		struct body_chunk *c = chunk_with_room(w);
		size_t n = min_size(len, c->cap - c->len);
		memcpy(c->ptr + c->len, ptr, n);
		c->len += (uint32_t)n;
		ptr += n;
		len -= n;
	}
}

static void chunks_free(struct body *b)
{
	for (uint32_t i = 0; i < b->chunk_count; i++)
		free(b->chunks[i].ptr);
	free(b->chunks);
	b->chunks = NULL;
	b->chunk_count = 0;
}

/* Where the header ends as far as is known, within what is kept of it. */
static uint64_t header_kept(const struct body_writer *w)
{
	return min_u64(w->header_done ? w->body->header_bytes : w->body->bytes, BODY_HEADER_KEPT_BYTES);
}

/* Copies what the chunks hold of the header behind what was copied before. */
static void header_gather(struct body_writer *w)
{
	uint64_t end = header_kept(w), at = w->written;
	if (end <= w->header_len)
		return;
	w->header = xrealloc(w->header, end);
	for (uint32_t i = 0; i < w->body->chunk_count && w->header_len < end; i++) {
		const struct body_chunk *c = &w->body->chunks[i];
		if (at + c->len > w->header_len) {
			size_t skip = (size_t)(w->header_len - at), n = min_size(c->len - skip, (size_t)end - w->header_len);
			memcpy(w->header + w->header_len, c->ptr + skip, n);
			w->header_len += n;
		}
		at += c->len;
	}
	ASSERT(w->header_len == end);
}

static void hash_chunks(struct body_writer *w)
{
	if (w->hashed == 0)
		hash_init(&w->hash, 0);
	for (uint32_t i = 0; i < w->body->chunk_count; i++) {
		hash_add(&w->hash, slice_of(w->body->chunks[i].ptr, w->body->chunks[i].len));
		w->hashed += w->body->chunks[i].len;
	}
	ASSERT(w->hashed == w->body->bytes);
}

/* Parts are found as the bytes come in, while they are in the caches: those behind what was seen before. A parser is large: who sends a few bytes and waits
 * has none. */
static void parse_chunks(struct body_writer *w)
{
	const struct body *b = w->body;
	uint64_t at = w->written;

	if (!w->mime)
		w->mime = mime_open();

	for (uint32_t i = 0; i < b->chunk_count && w->parsed < b->bytes; i++) {
		const struct body_chunk *c = &b->chunks[i];
		if (at + c->len > w->parsed) {
			size_t skip = (size_t)(w->parsed - at);
			mime_feed(w->mime, slice_of(c->ptr + skip, c->len - skip));
			w->parsed = at + c->len;
		}
		at += c->len;
	}
	ASSERT(w->parsed == b->bytes);
}

/* ---- the spool file ---- */

static enum err spool_open(struct body_writer *w)
{
	char name[SPOOL_NAME_BYTES];
	spool_name(w->body, name);
	int fd = file_create_excl(shard_state()->spool_dir_fd, name, 0600);
	if (fd < 0)
		return err_from_result(fd);
	w->body->spool_fd = fd;
	return OK;
}

/* Writes what the chunks hold and empties them, keeping as many as the next write needs. */
static enum err spool_flush(struct body_writer *w)
{
	struct body *b = w->body;
	struct body_shard *s = shard_state();
	struct file_space space;
	/* Asked for each write: one large message is more than a reserve. */
	if (file_space(s->spool_dir_fd, &space) == 0 && space.free_bytes < s->reserve_bytes)
		return ERR_FULL;
	if (b->spool_fd < 0) {
		enum err e = spool_open(w);
		if (e)
			return e;
	}
	header_gather(w);
	hash_chunks(w);
	for (uint32_t at = 0; at < b->chunk_count;) {
		struct iovec iov[CHUNKS_PER_WRITE];
		int n = 0;
		uint64_t bytes = 0;
		for (; at < b->chunk_count && n < CHUNKS_PER_WRITE; at++) {
			if (b->chunks[at].len == 0)
				continue;
			iov[n].iov_base = b->chunks[at].ptr;
			iov[n++].iov_len = b->chunks[at].len;
			bytes += b->chunks[at].len;
		}
		int r = n > 0 ? file_write(b->spool_fd, iov, n, w->written) : 0;
		if (r < 0)
			return err_from_result(r);
		w->written += bytes;
	}
	uint64_t kept = 0;
	uint32_t left = 0;
	for (uint32_t i = 0; i < b->chunk_count; i++) { /* the first are the smallest: not worth keeping */
		struct body_chunk *c = &b->chunks[i];
		c->len = 0;
		if (kept >= BODY_SPOOL_WRITE_BYTES || c->cap < BODY_CHUNK_BYTES_MAX)
			free(c->ptr);
		else {
			kept += c->cap;
			b->chunks[left++] = *c;
		}
	}
	b->chunk_count = left;
	w->chunk_at = 0;
	ASSERT(w->written == b->bytes);
	return OK;
}

static bool flush_due(const struct body_writer *w)
{
	uint64_t held = w->body->bytes - w->written;
	return w->body->spool_fd >= 0 ? held >= BODY_SPOOL_WRITE_BYTES : held > shard_state()->memory_body_bytes;
}

/* ---- lines ---- */

static void line_begun(struct body_writer *w, char first, uint64_t offset)
{
	struct body *b = w->body;
	w->line_start = false;
	if (first != '.' || b->dots_unknown)
		return;
	if (b->dot_count == BODY_DOTS_MAX) {
		b->dots_unknown = true;
		b->dot_count = 0;
		return;
	}
	uint64_t *dots = (uint64_t *)(uintptr_t)b->dots;
	if (b->dot_count == w->dot_cap) {
		w->dot_cap = w->dot_cap ? 2 * w->dot_cap : 8;
		dots = xrealloc(dots, w->dot_cap * sizeof(*dots));
		b->dots = dots;
	}
	dots[b->dot_count++] = offset;
}

/* A CRLF ends before this offset. */
static void line_ended(struct body_writer *w, uint64_t offset)
{
	if (w->line_start && !w->header_done) {
		w->header_done = true;
		w->body->header_bytes = offset;
	}
	w->line_start = true;
}

/* BODY_REFUSE: what comes in goes out, or nothing does. */
static enum err take_refuse(struct body_writer *w, struct slice in)
{
	const char *p = in.ptr, *end = in.ptr + in.len;
	uint64_t base = w->body->bytes;
	if (memchr(p, 0, in.len))
		return ERR_SYNTAX;
	while (p < end) {
		if (w->after_cr) {
			if (*p++ != '\n')
				return ERR_SYNTAX;
			w->after_cr = false;
			line_ended(w, base + (uint64_t)(p - in.ptr));
			continue;
		}
		if (w->line_start && *p != '\r')
			line_begun(w, *p, base + (uint64_t)(p - in.ptr));
		const char *cr = memchr(p, '\r', (size_t)(end - p));
		const char *stop = cr ? cr : end;
		if (memchr(p, '\n', (size_t)(stop - p)))
			return ERR_SYNTAX;
		w->after_cr = cr != NULL;
		p = cr ? cr + 1 : end;
	}
	emit(w, in.ptr, in.len);
	return OK;
}

static void mend_line_end(struct body_writer *w)
{
	emit(w, "\r\n", 2);
	line_ended(w, w->body->bytes);
	w->after_cr = false;
}

/* BODY_MEND: every CR, LF and CRLF becomes CRLF. */
static enum err take_mend(struct body_writer *w, struct slice in)
{
	const char *p = in.ptr, *end = in.ptr + in.len;
	if (memchr(p, 0, in.len))
		return ERR_SYNTAX;
	while (p < end) {
		if (w->after_cr) {
			mend_line_end(w);
			p += *p == '\n';
			continue;
		}
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		const char *stop = lf ? lf : end;
		const char *cr = memchr(p, '\r', (size_t)(stop - p));
		if (cr)
			stop = cr;
		if (stop > p) {
			if (w->line_start)
				line_begun(w, *p, w->body->bytes);
			emit(w, p, (size_t)(stop - p));
		}
		if (cr)
			w->after_cr = true;
		else if (lf)
			mend_line_end(w);
		p = stop < end ? stop + 1 : end;
	}
	return OK;
}

/* ---- store.h ---- */

enum err body_begin(enum body_policy policy, struct body_writer **writer_out)
{
	struct body_writer *w = xmalloc(sizeof(*w));
	memset(w, 0, offsetof(struct body_writer, hash));
	w->policy = policy;
	w->line_start = true;
	w->body = xcalloc(1, sizeof(*w->body));
	rc_init(&w->body->refs);
	w->body->home = shard_index();
	w->body->spool_fd = -1;
	random_bytes(w->body->guid, GUID_BYTES);
	*writer_out = w;
	return OK;
}

enum err body_write(struct body_writer *writer, struct slice bytes)
{
	struct body_writer *w = writer;
	while (!w->failed && bytes.len > 0) {
		/* in steps, so that one large slice holds neither memory nor the shard (invariants 7, 8) */
		struct slice step = slice_upto(bytes, BODY_CHUNK_BYTES_MAX);
		bytes = slice_from(bytes, step.len);
		w->failed = w->policy == BODY_REFUSE ? take_refuse(w, step) : take_mend(w, step);
		if (!w->failed && w->body->bytes > shard_state()->message_bytes_max)
			w->failed = ERR_LIMIT;
		bool flush = !w->failed && flush_due(w);
		if (flush || (!w->failed && w->body->bytes - w->parsed >= BODY_PARSE_BYTES))
			parse_chunks(w);
		if (flush)
			w->failed = spool_flush(w);
		if (bytes.len > 0)
			fiber_breathe();
	}
	return w->failed;
}

/* Ends the last line and the header. */
static enum err finish_lines(struct body_writer *w)
{
	if (w->after_cr && w->policy == BODY_REFUSE)
		return ERR_SYNTAX;
	if (w->after_cr || !w->line_start)
		mend_line_end(w);
	if (!w->header_done)
		w->body->header_bytes = w->body->bytes;
	w->header_done = true;
	parse_chunks(w);
	return OK;
}

/* The beginning of the preview's part, from where the bytes are now; less if it cannot be read. */
static size_t body_peek(const struct body *b, uint64_t from, char *out, size_t bytes)
{
	uint64_t at = 0;
	size_t n = 0;

	if (b->spool_fd >= 0) {
		int64_t r = file_read(b->spool_fd, out, bytes, from);
		return r > 0 ? (size_t)r : 0;
	}
	for (uint32_t i = 0; i < b->chunk_count && n < bytes; i++) {
		const struct body_chunk *c = &b->chunks[i];
		if (at + c->len > from + n) {
			size_t skip = (size_t)(from + n - at), take = min_size(c->len - skip, bytes - n);
			memcpy(out + n, c->ptr + skip, take);
			n += take;
		}
		at += c->len;
	}
	return n;
}

static void finish_structure(struct body_writer *w)
{
	struct body *b = w->body;
	struct mime_tree *tree = mime_close(w->mime);
	uint64_t wanted;
	const struct mime_part *part = structure_preview_part(tree, &wanted);
	uint64_t part_bytes = part ? part->body_bytes : 0;
	char *text = xmalloc((size_t)wanted + 1);
	size_t n = part ? body_peek(b, part->body_offset, text, (size_t)wanted) : 0;
	struct structure *s = structure_make(tree, slice_of(text, n), n == part_bytes);

	w->mime = NULL;
	(void)structure_encode(s, STRUCTURE_BYTES_MAX, &b->structure); /* too large: it is made again when it is asked for */
	structure_close(s);
	free(text);
}

static void finish_header(struct body_writer *w)
{
	struct body *b = w->body;
	uint64_t kept = header_kept(w);
	if (b->spool_fd < 0 && b->chunk_count > 0 && kept <= b->chunks[0].len) {
		b->header = slice_of(b->chunks[0].ptr, kept);
		return;
	}
	header_gather(w);
	b->header_own = w->header;
	b->header = slice_of(w->header, w->header_len);
	w->header = NULL;
}

static enum err finish_spool(struct body_writer *w)
{
	struct body *b = w->body;
	enum err e = b->bytes > w->written ? spool_flush(w) : OK;
	if (e)
		return e;
	chunks_free(b);
	b->external = b->bytes > shard_state()->file_body_bytes;
	/* invariant 1: a record names B.<guid> only after its bytes are durable; body_link adds the name */
	return b->external ? err_from_result(file_sync(b->spool_fd)) : OK;
}

static void writer_free(struct body_writer *w)
{
	mime_abort(w->mime);
	free(w->header);
	free(w);
}

enum err body_end(struct body_writer *writer, struct body **body_out)
{
	struct body_writer *w = writer;
	struct body *b = w->body;
	enum err e = w->failed;
	if (!e)
		e = finish_lines(w);
	if (!e && (b->spool_fd >= 0 || b->bytes > shard_state()->memory_body_bytes)) {
		e = finish_spool(w);
		if (!e)
			finish_header(w);
	} else if (!e) {
		finish_header(w);
		hash_chunks(w);
	}
	if (e) {
		body_abort(w);
		*body_out = NULL;
		return e;
	}
	finish_structure(w);
	if (w->hashed == 0)
		hash_init(&w->hash, 0);
	b->hash = hash_sum64(&w->hash);
	ASSERT(b->header_bytes <= b->bytes);
	writer_free(w);
	*body_out = b;
	return OK;
}

void body_abort(struct body_writer *writer)
{
	body_unref(writer->body);
	writer_free(writer);
}

struct body *body_ref(struct body *body)
{
	rc_get(&body->refs);
	return body;
}

uint64_t body_bytes(const struct body *body) { return body->bytes; }
struct slice body_header(const struct body *body) { return body->header; }

/* ---- the end of a body ---- */

static void body_free(struct body *b)
{
	chunks_free(b);
	free((void *)(uintptr_t)b->dots);
	free(b->header_own);
	structure_stored_release(&b->structure);
	free(b);
}

/* On a fiber of the home shard: removes the spool files that wait for it. */
static void drop_spools(void *arg)
{
	struct body_shard *s = arg;
	while (s->drops) {
		struct body *b = s->drops;
		s->drops = b->drop.next ? CONTAINER_OF(b->drop.next, struct body, drop) : NULL;
		char name[SPOOL_NAME_BYTES];
		spool_name(b, name);
		file_close(b->spool_fd);
		(void)file_unlink(s->spool_dir_fd, name); /* what stays is swept at the next start */
		body_free(b);
	}
	s->dropping = false;
}

static void drop_begin(struct body_shard *s)
{
	if (s->dropping || !s->drops)
		return;
	if (fiber_start("spool drop", drop_spools, s) == OK)
		s->dropping = true;
	else
		timer_set(&s->drop_again, BODY_SPOOL_RETRY_MS);
}

static void drop_later(struct timer *t)
{
	drop_begin(CONTAINER_OF(t, struct body_shard, drop_again));
}

/* On the home shard's loop. */
static void body_drop(struct post *p)
{
	struct body_shard *s = shard_local(SHARD_SLOT_BODY);
	struct body *b = CONTAINER_OF(p, struct body, drop);
	if (!s) { /* the store has stopped: the file is swept at the next start */
		file_close(b->spool_fd);
		body_free(b);
		return;
	}
	p->next = s->drops ? &s->drops->drop : NULL;
	s->drops = b;
	drop_begin(s);
}

void body_unref(struct body *body)
{
	if (!rc_put(&body->refs))
		return;
	if (body->spool_fd < 0) {
		body_free(body);
		return;
	}
	body->drop.run = body_drop;
	shard_post(body->home, &body->drop);
}

/* ---- names ---- */

void body_file_name(const uint8_t guid[GUID_BYTES], char name_out[BODY_FILE_NAME_BYTES])
{
	name_out[0] = 'B';
	name_out[1] = '.';
	put_guid(name_out + 2, guid);
}

bool body_file_guid(const char *name, uint8_t guid_out[GUID_BYTES])
{
	if (strlen(name) != BODY_FILE_NAME_BYTES - 1 || name[0] != 'B' || name[1] != '.')
		return false;
	for (int i = 0; i < 2 * GUID_BYTES; i++) {
		char c = name[2 + i];
		int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
		if (v < 0)
			return false;
		guid_out[i / 2] = (uint8_t)(i % 2 ? guid_out[i / 2] | v : v << 4);
	}
	return true;
}

enum err body_link(const struct body *body, int account_dir_fd)
{
	ASSERT(body->external && body->spool_fd >= 0);
	char from[SPOOL_NAME_BYTES], to[BODY_FILE_NAME_BYTES];
	spool_name(body, from);
	body_file_name(body->guid, to);
	int r = file_link(shard_state()->spool_dir_fd, from, account_dir_fd, to);
	if (r < 0 && r != -EEXIST)
		return err_from_result(r);
	return err_from_result(file_sync_dir(account_dir_fd));
}

/* ---- start and stop ---- */

struct sweep {
	char (*names)[SPOOL_NAME_BYTES];
	size_t count, cap;
};

/* Ours to sweep: the names of this shard, and on shard 0 those of shards that there are no longer. */
static bool sweep_wants(const char *name)
{
	char *end;
	unsigned long shard = strtoul(name, &end, 10);
	if (end == name || *end != '-' || strlen(name) >= SPOOL_NAME_BYTES)
		return false;
	return shard == shard_index() || (shard_index() == 0 && shard >= shard_count());
}

static bool sweep_note(void *arg, const char *name, bool is_dir)
{
	struct sweep *s = arg;
	if (is_dir || !sweep_wants(name))
		return true;
	if (s->count == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 16;
		s->names = xrealloc(s->names, s->cap * sizeof(*s->names));
	}
	strcpy(s->names[s->count++], name); /* fits: sweep_wants */
	return true;
}

static enum err spool_sweep(int spool_dir_fd)
{
	struct sweep sweep = { 0 };
	int r = file_list(spool_dir_fd, sweep_note, &sweep);
	for (size_t i = 0; i < sweep.count && r >= 0; i++)
		r = file_unlink(spool_dir_fd, sweep.names[i]);
	free(sweep.names);
	return err_from_result(r);
}

enum err body_start(const struct store_config *config, int data_dir_fd)
{
	char name[sizeof(SPOOL_DIR) + 1 + NAME_MAX] = SPOOL_DIR;
	if (config->node) /* what another process has there is not ours to sweep */
		snprintf(name, sizeof(name), SPOOL_DIR ".%.*s", NAME_MAX - (int)sizeof(SPOOL_DIR), config->node);
	int r = file_mkdir(data_dir_fd, name, 0700);
	if (r < 0 && r != -EEXIST)
		return err_from_result(r);
	int fd = file_open(data_dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_from_result(fd);
	enum err e = gate_is_open() ? OK : spool_sweep(fd); /* the process before us still writes there */
	if (e) {
		file_close(fd);
		return e;
	}
	struct body_shard *s = xcalloc(1, sizeof(*s));
	s->spool_dir_fd = fd;
	s->memory_body_bytes = config->memory_body_bytes;
	s->file_body_bytes = config->file_body_bytes;
	s->message_bytes_max = config->message_bytes_max;
	s->reserve_bytes = config->reserve_bytes;
	timer_init(&s->drop_again, drop_later);
	shard_set_local(SHARD_SLOT_BODY, s);
	return OK;
}

void body_stop(void)
{
	struct body_shard *s = shard_state();
	while (s->dropping) /* its fiber uses the state */
		fiber_sleep(1);
	drop_spools(s);
	timer_clear(&s->drop_again);
	file_close(s->spool_dir_fd);
	shard_set_local(SHARD_SLOT_BODY, NULL);
	free(s);
}
