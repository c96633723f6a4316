/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.c - writes and reads state files.
 *
 * Writing a large account's takes longer than a shard may be held, so the encoder lets others run and gives up when the
 * account has changed meanwhile: what it has would be of two times.
 */
#include "storage/state.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/folder.h"
#include "storage/keyword.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

METRIC_COUNTER(saved, "store_state_files_written_total", "state files written");
METRIC_COUNTER(ignored, "store_state_files_ignored_total", "state files found that do not count");

#define VARINT_BYTES_MAX 10
#define ROW_ENCODED_MAX (8 * VARINT_BYTES_MAX + 8)

/* ---- varints ---- */

static size_t varint_put(char *out, uint64_t v)
{
	size_t n = 0;
	while (v >= 0x80) {
		out[n++] = (char)(v | 0x80);
		v >>= 7;
	}
	out[n++] = (char)v;
	return n;
}

static bool put(struct buf *b, uint64_t v)
{
	char bytes[VARINT_BYTES_MAX];
	return buf_put(b, bytes, varint_put(bytes, v));
}

static bool put_text(struct buf *b, struct slice s) { return put(b, s.len) && buf_put(b, s.ptr, s.len); }

/* Small numbers of either sign become small numbers. */
static uint64_t zigzag(uint64_t now, uint64_t before)
{
	uint64_t d = now - before;
	return (d << 1) ^ (d >> 63 ? ~0ull : 0);
}
static uint64_t unzigzag(uint64_t v, uint64_t before) { return before + ((v >> 1) ^ (v & 1 ? ~0ull : 0)); }

struct reader {
	const unsigned char *at, *end;
	bool bad;
};

static uint64_t get(struct reader *r)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		unsigned char c = *r->at++;
		v |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			return v;
	}
	r->bad = true;
	return 0;
}

static uint64_t get_max(struct reader *r, uint64_t max)
{
	uint64_t v = get(r);
	if (v > max)
		r->bad = true;
	return r->bad ? 0 : v;
}
static uint32_t get32(struct reader *r) { return (uint32_t)get_max(r, UINT32_MAX); }

static struct slice get_bytes(struct reader *r, uint64_t bytes)
{
	if (r->bad || bytes > (uint64_t)(r->end - r->at)) {
		r->bad = true;
		return slice_of(NULL, 0);
	}
	r->at += bytes;
	return slice_of(r->at - bytes, (size_t)bytes);
}
static struct slice get_text(struct reader *r, uint64_t max) { return get_bytes(r, get_max(r, max)); }

/* ---- rows ---- */

/* Where the body's record is, seen from the message's: mostly just before it. */
static uint64_t body_distance(const struct row *row)
{
	return row->body_log == row->record_log ? 2 * zigzag(row->record_offset, row->body_offset) : 2 * (uint64_t)row->body_log + 1;
}

static bool row_put(struct buf *b, const struct row *row, const struct row *before, const struct rows *rows)
{
	char *p = buf_room(b, ROW_ENCODED_MAX);
	if (!p)
		return false;
	size_t n = varint_put(p, row->uid - before->uid);
	n += varint_put(p + n, row->size);
	p[n++] = (char)row->flags;
	n += varint_put(p + n, row->keywords);
	n += varint_put(p + n, zigzag(row->modseq, before->modseq));
	n += varint_put(p + n, zigzag(row->record_log, before->record_log));
	n += varint_put(p + n, zigzag(row->record_offset, before->record_offset));
	n += varint_put(p + n, body_distance(row));
	if (row->body_log != row->record_log)
		n += varint_put(p + n, row->body_offset);
	uint32_t hash = row->rcpt_hash & 0xffffffu;
	memcpy(p + n, &hash, 3);
	b->len += n + 3;
	return row->flags & ROW_UIDL ? put_text(b, rows_uidl(rows, row->uid)) : true;
}

static bool row_get(struct reader *r, struct row *row, struct slice *uidl_out)
{
	struct row before = *row;
	row->uid = before.uid + (uint32_t)get_max(r, UINT32_MAX - before.uid);
	row->size = get_max(r, ROW_SIZE_MAX) & ROW_SIZE_MAX;
	struct slice flags = get_bytes(r, 1);
	row->flags = flags.len ? (unsigned char)flags.ptr[0] : 0;
	row->keywords = (uint32_t)get_max(r, KEYWORD_SETS_MAX) & 0xffffffu;
	row->modseq = unzigzag(get(r), before.modseq);
	row->record_log = (uint32_t)unzigzag(get(r), before.record_log);
	row->record_offset = (uint32_t)unzigzag(get(r), before.record_offset);
	uint64_t distance = get(r);
	bool same = distance % 2 == 0;
	row->body_log = same ? row->record_log : (uint32_t)(distance / 2);
	/* zigzag(record, body): record = body + d */
	row->body_offset = same ? (uint32_t)(2 * (uint64_t)row->record_offset - unzigzag(distance / 2, row->record_offset)) : get32(r);
	struct slice hash = get_bytes(r, 3);
	uint32_t h = 0;
	if (hash.len == 3)
		memcpy(&h, hash.ptr, 3);
	row->rcpt_hash = h & 0xffffffu;
	*uidl_out = row->flags & ROW_UIDL ? get_text(r, UIDL_BYTES_MAX) : slice_of(NULL, 0);
	return !r->bad && row->uid > before.uid && row->uid < UINT32_MAX && (!(row->flags & ROW_UIDL) || uidl_out->len > 0);
}

/* ---- encode ---- */

struct encoder {
	const struct account *a;
	struct buf *b;
	struct log_position at; /* when it began */
};

/* Lets others run; false if they changed the account. */
static bool still(const struct encoder *e)
{
	fiber_breathe();
	return e->a->state != ACCOUNT_LOST && e->a->last.log == e->at.log && e->a->last.offset == e->at.offset;
}

static bool encode_logs(const struct encoder *e)
{
	bool ok = put(e->b, e->a->log_count);
	for (uint32_t i = 0; ok && i < e->a->log_count; i++) {
		const struct log *l = &e->a->logs[i];
		ok = put(e->b, l->number) && put(e->b, l->live_bytes) && put(e->b, l->damaged) && put(e->b, l->set_aside_end);
	}
	return ok;
}

static bool encode_keywords(const struct encoder *e)
{
	const struct keywords *k = e->a->keywords;
	bool ok = put(e->b, k ? k->count : 0);
	for (uint32_t i = 0; k && ok && i < k->count; i++)
		ok = put_text(e->b, k->names[i]);
	ok = ok && put(e->b, k ? k->set_count : 0);
	for (uint32_t i = 0; k && ok && i < k->set_count; i++) {
		size_t words = keyword_set_words(&k->sets[i]);
		ok = put(e->b, words) && buf_put(e->b, k->sets[i].words, words * sizeof(uint64_t));
	}
	return ok;
}

static bool encode_vanished(const struct encoder *e, const struct vanished *v)
{
	uint64_t before = 0;
	bool ok = put(e->b, v->floor) && put(e->b, v->count);
	for (uint32_t i = 0; ok && i < v->count; i++) {
		const struct vanished_range *r = &v->at[i];
		ok = put(e->b, zigzag(r->modseq, before)) && put(e->b, r->first) && put(e->b, r->last - r->first);
		before = r->modseq;
	}
	return ok;
}

static bool encode_rows(const struct encoder *e, const struct rows *rows)
{
	struct row before = { 0 };
	const struct row *row;
	bool ok = put(e->b, rows_count(rows));
	unsigned seen = 0;
	for (uint64_t uid = 1; ok && uid <= UINT32_MAX && (row = rows_from(rows, (uint32_t)uid)) != NULL;) {
		ok = row_put(e->b, row, &before, rows);
		before = *row;
		uid = (uint64_t)row->uid + 1;
		if (++seen % 256 == 0)
			ok = ok && still(e);
	}
	return ok;
}

static bool encode_folder(const struct encoder *e, const struct folder *f)
{
	struct buf *b = e->b;
	return put(b, f->id) && put(b, f->uidvalidity) && put(b, f->uidnext) && put(b, f->special_use) && put(b, f->uidl_formula) &&
	       put(b, f->subscribed + 2u * f->noselect) && put(b, f->modseq) && put_text(b, slice_of(f->name, f->name_bytes)) &&
	       encode_vanished(e, &f->vanished) && encode_rows(e, &f->rows);
}

bool state_encode(const struct account *a, struct buf *out)
{
	struct encoder e = { a, out, a->last };
	bool ok = put(out, a->next_folder) && put(out, a->last_uidvalidity) && put(out, a->sequence) && put(out, a->bytes) &&
	          put(out, a->messages) && encode_logs(&e) && encode_keywords(&e) &&
	          put_text(out, slice_of(a->subscriptions, a->subscriptions_bytes)) && put(out, a->folder_count);
	for (uint32_t i = 0; ok && i < a->folder_count; i++)
		ok = encode_folder(&e, a->folders[i]) && still(&e);
	return ok;
}

/* ---- decode ---- */

static void decode_logs(struct reader *r, struct account *a)
{
	uint64_t count = get_max(r, LOGS_MAX);
	for (uint64_t i = 0; i < count && !r->bad; i++) {
		struct log *l = account_log(a, get32(r));
		uint64_t live = get(r), damaged = get_max(r, 1), aside = get(r);
		if (!l || r->bad)
			continue;
		l->live_bytes = live;
		l->damaged = damaged;
		l->set_aside_end = aside;
	}
}

/* Sets get new numbers: *map_out[old] = new. */
static void decode_keywords(struct reader *r, struct account *a, uint32_t **map_out, uint64_t *count_out)
{
	uint64_t names = get_max(r, KEYWORDS_MAX);
	for (uint64_t i = 0; i < names && !r->bad; i++) {
		struct slice name = get_text(r, KEYWORD_BYTES_MAX);
		if (name.len > 0)
			(void)keywords_define(&a->keywords, i, name);
	}
	uint64_t sets = get_max(r, min_u64(KEYWORD_SETS_MAX, (uint64_t)(r->end - r->at)));
	*map_out = xcalloc(sets + 1, sizeof(**map_out));
	for (uint64_t i = 0; i < sets && !r->bad; i++) {
		struct keyword_set set = { { 0 } };
		struct slice words = get_bytes(r, get_max(r, KEYWORD_WORDS) * sizeof(uint64_t));
		if (words.len > 0)
			memcpy(set.words, words.ptr, words.len);
		(*map_out)[i] = words.len ? keywords_set(&a->keywords, set.words, KEYWORD_WORDS) : 0;
	}
	*count_out = sets;
}

static void decode_vanished(struct reader *r, struct vanished *v)
{
	uint64_t before = 0;
	vanished_raise_floor(v, get(r));
	uint64_t count = get_max(r, VANISHED_RANGES_MAX);
	for (uint64_t i = 0; i < count && !r->bad; i++) {
		uint64_t modseq = unzigzag(get(r), before);
		uint32_t first = get32(r), last = first + (uint32_t)get_max(r, UINT32_MAX - first);
		if (first > 0 && !r->bad)
			vanished_add(v, first, last, modseq);
		before = modseq;
	}
}

static void decode_rows(struct reader *r, struct folder *f, const uint32_t *map, uint64_t map_count)
{
	struct row row = { 0 };
	struct slice uidl;
	uint64_t count = get_max(r, UINT32_MAX);
	for (uint64_t i = 0; i < count && !r->bad; i++) {
		if (!row_get(r, &row, &uidl) || row.keywords > map_count) {
			r->bad = true;
			return;
		}
		struct row added = row;
		added.keywords = (row.keywords ? map[row.keywords] : 0) & 0xffffffu;
		if (uidl.len)
			rows_uidl_set(&f->rows, row.uid, uidl);
		rows_append(&f->rows, &added);
		f->unseen += !(row.flags & FLAG_SEEN);
		if (i % 1024 == 0)
			fiber_breathe();
	}
}

static void decode_folder(struct reader *r, struct account *a, const uint32_t *map, uint64_t map_count)
{
	uint32_t id = get32(r), uidvalidity = get32(r), uidnext = get32(r), use = get32(r);
	uint64_t formula = get_max(r, UINT8_MAX), bits = get_max(r, 3), modseq = get(r);
	struct slice name = get_text(r, FOLDER_NAME_BYTES_MAX);
	struct folder *f = r->bad || id == 0 || account_folder(a, id) ? NULL : folder_add(a, id, name);
	if (!f) {
		r->bad = true;
		return;
	}
	f->uidvalidity = uidvalidity;
	f->uidnext = uidnext;
	f->special_use = use;
	f->uidl_formula = (uint8_t)formula;
	f->subscribed = bits & 1;
	f->noselect = bits & 2;
	f->modseq = modseq;
	decode_vanished(r, &f->vanished);
	decode_rows(r, f, map, map_count);
}

bool state_decode(struct account *a, struct slice body)
{
	struct reader r = { (const unsigned char *)body.ptr, (const unsigned char *)body.ptr + body.len, false };
	uint32_t *map = NULL;
	uint64_t map_count = 0;
	a->next_folder = get32(&r);
	a->last_uidvalidity = get32(&r);
	a->sequence = get(&r);
	a->bytes = get(&r);
	a->messages = get(&r);
	decode_logs(&r, a);
	decode_keywords(&r, a, &map, &map_count);
	struct slice names = get_text(&r, SUBSCRIPTIONS_BYTES_MAX), name;
	while (slice_next(&names, 0, &name))
		if (name.len > 0)
			subscription_set(a, name, true);
	uint64_t folders = get_max(&r, FOLDERS_MAX);
	for (uint64_t i = 0; i < folders && !r.bad; i++)
		decode_folder(&r, a, map, map_count);
	free(map);
	uint64_t messages = 0;
	for (uint32_t i = 0; i < a->folder_count; i++)
		messages += rows_count(&a->folders[i]->rows);
	return !r.bad && r.at == r.end && messages == a->messages;
}

/* ---- files ---- */

static void header_fill(struct state_header *h, const struct account *a, struct slice body)
{
	*h = (struct state_header){ .magic = STATE_MAGIC, .version = STATE_VERSION, .account_id = a->id, .salt = a->salt, .log = a->last.log,
		                    .offset = a->last.offset, .end = a->last.end, .header_hash = a->last.header_hash,
		                    .sequence = a->last.sequence, .body_bytes = body.len, .body_hash = hash64(body, 0) };
	h->header_hash_own = hash64(slice_of(h, offsetof(struct state_header, header_hash_own)), 0);
}

static int write_new(int dir_fd, struct state_header *h, struct slice body)
{
	int fd = file_open(dir_fd, STATE_NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0)
		return fd;
	struct iovec iov[2] = { { h, sizeof(*h) }, { (void *)(uintptr_t)body.ptr, body.len } };
	int r = file_write(fd, iov, 2, 0);
	file_close(fd);
	return r < 0 ? r : file_rename(dir_fd, STATE_NEW_NAME, dir_fd, STATE_NAME);
}

/*
 * Is a new one worth writing?  What has been appended since the last one must be replayed by the next load, which is cheap as
 * long as it is little beside the file itself: so a large account is not written whole again for one message.
 */
static bool worth(const struct account *a)
{
	const struct log *covered = account_log(a, a->state_log);
	uint64_t since = 0;
	if (a->state_end == 0 || !covered || covered->stub)
		return true;
	for (uint32_t i = a->log_count; i > 0 && a->logs[i - 1].number >= a->state_log; i--)
		since += a->logs[i - 1].number == a->state_log ? a->logs[i - 1].end - min_u64(a->state_end, a->logs[i - 1].end) : a->logs[i - 1].end;
	return since > a->state_bytes / STATE_WORTH_PART;
}

void state_save(struct account *a, int dir_fd)
{
	struct state_header h;
	struct buf body;
	ASSERT(a->state != ACCOUNT_LOADING);
	/* what made it read-only, or is still to be repaired, must be met again by the next load */
	if (a->last.log == 0 || a->state == ACCOUNT_LOST || a->read_only || a->repair_count > 0 || !worth(a))
		return;
	const struct log_position at = a->last;
	buf_init(&body, STATE_BYTES_MAX);
	if (state_encode(a, &body)) {
		header_fill(&h, a, buf_slice(&body));
		int r = write_new(dir_fd, &h, buf_slice(&body));
		if (r >= 0) {
			a->state_log = at.log;
			a->state_end = at.end;
			a->state_bytes = sizeof(h) + body.len;
			metric_inc(&saved);
		} else
			log_event(LOG_WARN, "store.state_not_written", LOG_U64("account", a->id), LOG_ERRNO(-r));
	}
	buf_release(&body);
}

/* The file's bytes, or NULL: there is none, or it cannot be read. */
static char *read_whole(int dir_fd, size_t *bytes_out)
{
	struct file_info info;
	int fd = file_open(dir_fd, STATE_NAME, O_RDONLY, 0);
	if (fd < 0)
		return NULL;
	char *all = NULL;
	if (file_stat(fd, &info) == 0 && info.bytes >= sizeof(struct state_header) && info.bytes <= STATE_BYTES_MAX) {
		all = xmalloc((size_t)info.bytes);
		if (file_read(fd, all, (size_t)info.bytes, 0) != (int64_t)info.bytes) {
			free(all);
			all = NULL;
		}
		*bytes_out = (size_t)info.bytes;
	}
	file_close(fd);
	return all;
}

static bool header_good(const struct state_header *h, const struct account *a, struct slice body)
{
	return h->header_hash_own == hash64(slice_of(h, offsetof(struct state_header, header_hash_own)), 0) && h->magic == STATE_MAGIC &&
	       h->version == STATE_VERSION && h->account_id == a->id && (a->salt == 0 || h->salt == a->salt) && h->body_bytes == body.len &&
	       h->body_hash == hash64(body, 0);
}

/* Is the commit that it covers up to in its log, whole, and below where the log ends? */
static bool commit_there(const struct state_header *h, const struct account *a, int dir_fd)
{
	const struct log *log = h->log <= LOG_NUMBER_MAX ? account_log(a, (uint32_t)h->log) : NULL;
	char name[LOG_NAME_BYTES], bytes[COMMIT_HEADER_BYTES];
	struct commit_header c;
	if (!log || log->stub || h->end > log->end || h->offset >= h->end || h->offset % 8 != 0)
		return false;
	log_name(log->number, name);
	int fd = file_open(dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return false;
	bool good = file_read(fd, bytes, sizeof(bytes), h->offset) == (int64_t)sizeof(bytes) &&
	            commit_header_get(bytes, h->salt, log->number, h->offset, &c) && c.header_hash == h->header_hash &&
	            c.sequence == h->sequence && h->offset + c.bytes == h->end && c.heads_bytes <= COMMIT_HEADS_BYTES_MAX;
	if (good) {
		char *heads = xmalloc(max_size(c.heads_bytes, 1));
		good = file_read(fd, heads, c.heads_bytes, h->offset + COMMIT_HEADER_BYTES) == (int64_t)c.heads_bytes &&
		       commit_heads_good(&c, slice_of(heads, c.heads_bytes));
		free(heads);
	}
	file_close(fd);
	return good;
}

enum err state_load(struct account *a, int dir_fd)
{
	struct state_header h;
	size_t bytes = 0;
	char *all = a->ignore_state ? NULL : read_whole(dir_fd, &bytes);
	if (!all)
		return ERR_NOT_FOUND;
	memcpy(&h, all, sizeof(h));
	struct slice body = slice_of(all + sizeof(h), bytes - sizeof(h));
	bool good = header_good(&h, a, body) && commit_there(&h, a, dir_fd);
	if (good && !state_decode(a, body)) {
		good = false; /* hashes are right, so a program of ours wrote what it does not understand */
		account_forget(a);
		log_event(LOG_ERROR, "store.state_not_understood", LOG_U64("account", a->id));
	}
	if (good) {
		a->salt = h.salt;
		a->last = (struct log_position){ (uint32_t)h.log, h.offset, h.end, h.header_hash, h.sequence };
		a->state_log = (uint32_t)h.log;
		a->state_end = h.end;
		a->state_bytes = bytes;
	} else
		metric_inc(&ignored);
	free(all);
	return good ? OK : ERR_NOT_FOUND;
}
