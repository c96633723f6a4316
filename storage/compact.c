/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c - choosing victims, and the job: steps C1 to C6 of compact.h, with C3 in here.
 */
#include "storage/compact.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/keyword.h"
#include "storage/structure_private.h"

#include <stdlib.h>

METRIC_COUNTER(jobs_done, "store_compactions_total", "compaction jobs that ended well");
METRIC_COUNTER(jobs_failed, "store_compactions_given_up_total", "compaction jobs that were given up, to be tried again");
METRIC_COUNTER(moved_messages, "store_relocated_messages_total", "messages appended again by compaction");
METRIC_COUNTER(moved_bytes, "store_relocated_bytes_total", "their bytes");

struct upkeep *upkeep_self(void) { return shard_local(SHARD_SLOT_UPKEEP); }

bool upkeep_stopping(void)
{
	const struct upkeep *u = upkeep_self();
	return !u || u->stopping || store_self()->stopping;
}

/* ---- which logs ---- */

/* 1 MiB; less where logs are sealed so small that it would be a large part of one. */
static uint64_t worth_bytes(uint64_t bytes) { return min_u64(bytes, store_self()->config.seal_bytes / 4); }

static bool mostly_dead(const struct log *log)
{
	uint64_t dead = log->end - min_u64(log->live_bytes, log->end);
	return dead > worth_bytes(COMPACT_DEAD_BYTES_MIN) && dead > log->end / 2;
}

static bool may_be_victim(const struct log *log) { return !log->stub && !log->damaged && log->end > 0; }

static bool is_small(const struct log *log) { return log->end < worth_bytes(COMPACT_SMALL_BYTES); }

static uint32_t count_small(const struct account *a)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i + 1 < a->log_count; i++)
		n += may_be_victim(&a->logs[i]) && is_small(&a->logs[i]);
	return n;
}

/* The newest log is never a victim, unless it is sealed: what is relocated goes to the newest, or to the one behind it. */
static void choose(struct compaction *c)
{
	const struct account *a = c->a;
	uint32_t count = a->log_count - (a->state == ACCOUNT_OWNED);
	bool merge = count_small(a) > COMPACT_SMALL_LOGS_MAX;
	c->victim_count = 0;
	for (uint32_t i = 0; i < count && c->victim_count < COMPACT_LOGS_MAX; i++) {
		const struct log *log = &a->logs[i];
		if (may_be_victim(log) && (mostly_dead(log) || (merge && is_small(log))))
			c->victims[c->victim_count++] = (struct victim){ .number = log->number, .end = log->end };
	}
}

static bool worth(const struct account *a)
{
	for (uint32_t i = 0; i < a->log_count; i++)
		if (may_be_victim(&a->logs[i]) && mostly_dead(&a->logs[i]))
			return true;
	return (a->log_count > COMPACT_SMALL_LOGS_MAX && count_small(a) > COMPACT_SMALL_LOGS_MAX) ||
	       (a->log_count > 1 && a->logs[0].end == 0 && !a->logs[0].damaged);
}

bool compaction_is_victim(const struct compaction *c, uint32_t log)
{
	for (uint32_t i = 0; i < c->victim_count; i++)
		if (c->victims[i].number == log)
			return true;
	return false;
}

/* ---- commits of a job ---- */

struct job_change {
	struct change change;
	struct compaction *compaction;
};

struct compaction *compaction_of(struct change *change)
{
	return CONTAINER_OF(change, struct job_change, change)->compaction;
}

enum err compaction_commit(struct compaction *c, enum err (*build)(struct change *, struct account *, struct commit *))
{
	struct job_change j = { .change = { .build = build, .alone = true, .frees = true }, .compaction = c };
	if (upkeep_stopping())
		return ERR_BUSY;
	enum err e = commit_run(c->a, &j.change);
	if (e == OK && j.change.sequence > 0)
		c->sequence = j.change.sequence;
	return e;
}

/* ---- C3: a batch ---- */

static struct victim *victim_of(struct compaction *c, uint32_t log)
{
	for (uint32_t i = 0; i < c->victim_count; i++)
		if (c->victims[i].number == log)
			return &c->victims[i];
	return NULL;
}

/* Copies a record of a victim; its window moves along. */
static enum err take_record(struct compaction *c, struct victim *v, uint64_t offset, uint16_t type, size_t *at_out)
{
	struct window *w = &v->window;
	struct record r;
	if (w->ptr && (offset < w->offset || offset >= w->offset + w->len))
		window_release(w);
	enum err e = window_need(w, source_fd(v->file), offset, SOURCE_GUESS_BYTES);
	if (e)
		return e;
	if (!window_record(w, offset, &r) || r.type != type)
		return ERR_CORRUPT;
	*at_out = c->records.len;
	return buf_put(&c->records, w->ptr + (offset - w->offset), r.bytes) ? OK : ERR_LIMIT;
}

/* The message record may lie in a log that stays. */
static enum err take_message(struct compaction *c, struct batch_item *it)
{
	struct victim *v = victim_of(c, it->row.record_log), other = { .number = it->row.record_log };
	if (v)
		return take_record(c, v, it->row.record_offset, RECORD_MESSAGE, &it->message_at);
	enum err e = source_pin_log(c->a, other.number, &other.file);
	if (e)
		return e;
	e = take_record(c, &other, it->row.record_offset, RECORD_MESSAGE, &it->message_at);
	window_release(&other.window);
	source_unpin(other.file);
	return e;
}

static size_t moved_slot(const struct moved *m, struct body_place from)
{
	size_t i = (size_t)hash64(slice_of(&from, sizeof(from)), 0) & (m->size - 1);
	while (m->from[i].log != 0 && memcmp(&m->from[i], &from, sizeof(from)) != 0)
		i = (i + 1) & (m->size - 1);
	return i;
}

static void moved_add(struct moved *m, struct body_place from, struct body_place to)
{
	if (2 * (m->count + 1) > m->size) {
		struct moved larger = { .size = m->size ? 2 * m->size : 256 };
		larger.from = xcalloc(larger.size, sizeof(from));
		larger.to = xcalloc(larger.size, sizeof(to));
		for (size_t i = 0; i < m->size; i++)
			if (m->from[i].log != 0)
				moved_add(&larger, m->from[i], m->to[i]);
		free(m->from);
		free(m->to);
		*m = larger;
	}
	size_t i = moved_slot(m, from);
	m->count += m->from[i].log == 0;
	m->from[i] = from;
	m->to[i] = to;
}

/* After a batch's commit: the rows say where their bodies are now. */
static void moved_note(struct compaction *c)
{
	for (uint32_t i = 0; i < c->item_count; i++) {
		const struct batch_item *it = &c->items[i];
		const struct folder *f = it->folder && it->body_at != SIZE_MAX ? account_folder(c->a, it->folder) : NULL;
		const struct row *row = f ? rows_find(&f->rows, it->row.uid) : NULL;
		if (row && row->body_log != it->row.body_log)
			moved_add(&c->moved, (struct body_place){ it->row.body_log, it->row.body_offset },
			          (struct body_place){ row->body_log, row->body_offset });
	}
}

/* Puts another structure into the body record that was taken last. */
static enum err replace_structure(struct compaction *c, const struct batch_item *it, struct body_record *body, const struct structure_stored *stored)
{
	struct buf fresh;
	enum err e;
	structure_to_record(stored, body);
	buf_init(&fresh, SOURCE_RECORD_BYTES_MAX);
	e = body_put(&fresh, 0, body) ? OK : ERR_LIMIT; /* its other parts lie in `records` */
	if (!e) {
		c->records.len = it->body_at;
		e = buf_put(&c->records, fresh.ptr, fresh.len) ? OK : ERR_LIMIT;
	}
	buf_release(&fresh);
	return e;
}

/* A log cannot be mended, but its bodies are written again now: one without a structure, or with an older version's, gets ours. What cannot be made
 * is no reason to keep a log. */
static enum err refresh_structure(struct compaction *c, const struct batch_item *it)
{
	struct record r;
	struct body_record body;
	struct structure_stored stored;
	struct source_file *file = NULL;
	if (!record_get(slice_from(buf_slice(&c->records), it->body_at), &r) || !body_get(&r, &body) || !structure_stale(&body))
		return OK; /* what does not read is told when it is put */
	struct message_source m = { .fd = it->body_fd, .offset = it->row.body_offset + body.fixed.data_distance, .bytes = body.fixed.bytes, .record = &body };
	if (body.fixed.flags & BODY_EXTERNAL) {
		if (source_pin_body(c->a, body.fixed.guid, &file) != OK)
			return OK;
		m.fd = source_fd(file);
		m.offset = 0;
	}
	enum err e = structure_restate(&m, &stored);
	if (file)
		source_unpin(file);
	if (!e)
		e = replace_structure(c, it, &body, &stored);
	else
		e = OK;
	structure_stored_release(&stored);
	return e;
}

static enum err take_item(struct compaction *c, struct batch_item *it)
{
	struct victim *v = victim_of(c, it->row.body_log);
	enum err e = take_message(c, it);
	it->body_at = SIZE_MAX;
	it->body = (struct body_place){ it->row.body_log, it->row.body_offset };
	if (e || !v)
		return e;
	size_t slot = c->moved.count > 0 ? moved_slot(&c->moved, it->body) : 0;
	if (c->moved.count > 0 && c->moved.from[slot].log != 0) {
		it->body = c->moved.to[slot];
		return OK;
	}
	it->body_fd = source_fd(v->file);
	c->batch_bytes += it->row.flags & ROW_EXTERNAL ? 0 : it->row.size;
	e = take_record(c, v, it->row.body_offset, RECORD_BODY, &it->body_at);
	return e ? e : refresh_structure(c, it);
}

static struct slice record_bytes(const struct compaction *c, size_t at)
{
	return slice_of(c->records.ptr + at, get_le32(c->records.ptr + at + offsetof(struct record_header, bytes)));
}

/* Two messages with one body: it is put once. */
static bool body_said(const struct compaction *c, const struct batch_item *it)
{
	for (const struct batch_item *b = c->items; b < it; b++)
		if (b->body_at != SIZE_MAX && b->row.body_log == it->row.body_log && b->row.body_offset == it->row.body_offset && b->folder)
			return true;
	return false;
}

static enum err put_body(struct compaction *c, struct commit *commit, const struct batch_item *it)
{
	struct buf *heads = commit_heads(commit);
	struct record r;
	struct body_record body;
	size_t at = heads->len;
	if (!record_get(record_bytes(c, it->body_at), &r) || !body_get(&r, &body))
		return ERR_CORRUPT;
	uint64_t from = it->row.body_offset + body.fixed.data_distance;
	bool external = body.fixed.flags & BODY_EXTERNAL;
	body.fixed.data_distance = 0;
	if (!body_put(heads, RECORD_RELOCATED, &body))
		return ERR_LIMIT;
	return external || body.fixed.bytes == 0 ? OK : commit_range(commit, at, it->body_fd, from, body.fixed.bytes);
}

static enum err put_message(struct compaction *c, struct commit *commit, const struct batch_item *it, const struct row *row)
{
	struct record r;
	struct message_record m;
	if (!record_get(record_bytes(c, it->message_at), &r) || !message_get(&r, &m) || m.fixed.uid != row->uid || m.fixed.folder != it->folder)
		return ERR_CORRUPT;
	const struct keyword_set *set = keywords_get(c->a->keywords, row->keywords);
	m.fixed.flags = row->flags & ROW_FLAGS;
	m.fixed.modseq = row->modseq;
	m.fixed.keyword_words = (uint16_t)(row->keywords ? keyword_set_words(set) : 0);
	m.keywords = set->words;
	m.fixed.body_log = it->body_at == SIZE_MAX ? it->body.log : 0;
	m.fixed.body_offset = it->body_at == SIZE_MAX ? it->body.offset : 0;
	return message_put(commit_heads(commit), RECORD_RELOCATED, &m) ? OK : ERR_LIMIT;
}

static bool still_there(const struct row *row, const struct row *was)
{
	return row && row->record_log == was->record_log && row->record_offset == was->record_offset && row->body_log == was->body_log &&
	       row->body_offset == was->body_offset;
}

static enum err build_batch(struct change *change, struct account *a, struct commit *commit)
{
	struct compaction *c = compaction_of(change);
	enum err e = OK;
	for (struct batch_item *it = c->items; it < c->items + c->item_count && !e; it++) {
		const struct folder *f = account_folder(a, it->folder);
		const struct row *row = f ? rows_find(&f->rows, it->row.uid) : NULL;
		if (!still_there(row, &it->row)) {
			it->folder = 0; /* expunged while its records were read: left behind */
			continue;
		}
		if (it->body_at != SIZE_MAX && !body_said(c, it))
			e = put_body(c, commit, it);
		if (!e)
			e = put_message(c, commit, it, row);
	}
	return e;
}

/* Reads the records of one item; what does not read is not lost by us, so its log is left as it is. */
static enum err take_or_mark(struct compaction *c, struct batch_item *it)
{
	enum err e = take_item(c, it);
	const struct folder *f = e ? account_folder(c->a, it->folder) : NULL;
	if (!e)
		return OK;
	if (!f || !still_there(rows_find(&f->rows, it->row.uid), &it->row))
		return ERR_AGAIN;
	struct log *log = account_log(c->a, compaction_is_victim(c, it->row.record_log) ? it->row.record_log : it->row.body_log);
	if (e == ERR_CORRUPT && log) {
		log->damaged = true;
		log_event(LOG_ALARM, "store.message_damaged", LOG_U64("account", c->a->id), LOG_U64("folder", it->folder),
		          LOG_U64("uid", it->row.uid), LOG_U64("log", log->number), LOG_U64("offset", it->row.record_offset));
	}
	return e;
}

static enum err commit_items(struct compaction *c)
{
	enum err e = c->item_count > 0 ? compaction_commit(c, build_batch) : OK;
	if (!e) {
		moved_note(c);
		metric_add(&moved_messages, c->item_count);
		metric_add(&moved_bytes, (int64_t)c->batch_bytes);
		fiber_sleep(c->batch_bytes / COMPACT_BYTES_PER_MS);
	}
	c->item_count = 0;
	c->batch_bytes = 0;
	buf_clear(&c->records);
	return e;
}

/* Takes a message along; commits first when its records would make the commit's heads too large. */
static enum err add_item(struct compaction *c, uint32_t folder, const struct row *row)
{
	size_t before = c->records.len;
	uint64_t bytes_before = c->batch_bytes;
	struct batch_item *it = &c->items[c->item_count];
	*it = (struct batch_item){ .folder = folder, .row = *row };
	enum err e = take_or_mark(c, it);
	if (!e && c->item_count > 0 && c->records.len > COMPACT_RESTATE_BYTES) {
		const struct batch_item again = { .folder = folder, .row = it->row };
		c->records.len = before;
		c->batch_bytes = bytes_before;
		e = commit_items(c);
		c->items[0] = again;
		if (!e)
			e = take_or_mark(c, &c->items[0]);
	}
	if (e)
		return e;
	c->item_count++;
	return c->item_count == COMPACT_BATCH_MESSAGES || c->batch_bytes >= COMPACT_BATCH_BYTES ? commit_items(c) : OK;
}

/* The first folder with an id at or above this one; NULL: there is none. */
static const struct folder *folder_from(const struct account *a, uint32_t id)
{
	uint32_t low = 0, high = a->folder_count;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (a->folders[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low < a->folder_count ? a->folders[low] : NULL;
}

/*
 * The next message that lies in a victim, from a folder and UID on.  Lets others run on its way through a large folder, so
 * everything is looked up afresh by number.
 */
static bool next_row(const struct compaction *c, uint32_t *folder_io, uint64_t *uid_io, struct row *row_out)
{
	const struct folder *f;
	for (unsigned seen = 1; (f = folder_from(c->a, *folder_io)) != NULL; seen++) {
		const struct row *row = NULL;
		if (f->id > *folder_io) {
			*folder_io = f->id;
			*uid_io = 1;
		}
		if (*uid_io <= UINT32_MAX)
			row = rows_from(&f->rows, (uint32_t)*uid_io);
		if (!row) {
			*folder_io = f->id + 1;
			*uid_io = 1;
		} else {
			*uid_io = (uint64_t)row->uid + 1;
			*row_out = *row;
			if (compaction_is_victim(c, row->record_log) || compaction_is_victim(c, row->body_log))
				return true;
		}
		if (seen % 256 == 0)
			fiber_breathe();
	}
	return false;
}

static enum err relocate_pass(struct compaction *c, bool *found_out)
{
	uint32_t folder = 0;
	uint64_t uid = 1;
	struct row row;
	*found_out = false;
	while (next_row(c, &folder, &uid, &row)) {
		enum err e = add_item(c, folder, &row);
		*found_out = true;
		if (e)
			return e;
		fiber_breathe();
		if (c->a->state == ACCOUNT_LOST)
			return ERR_FENCED;
	}
	return commit_items(c);
}

/*
 * Until a pass finds nothing.  Victims are sealed, but a COPY that was committed before the relocation of the message that it
 * copies names a body in a victim, and may stand in a folder that the pass had left behind.  One that is built after a
 * relocation was applied names the new place, so an empty pass stays true.
 */
static enum err relocate(struct compaction *c)
{
	bool found = true;
	enum err e = OK;
	while (!e && found)
		e = relocate_pass(c, &found);
	return e;
}

/* ---- the job ---- */

static enum err pin_victims(struct compaction *c)
{
	for (uint32_t i = 0; i < c->victim_count; i++) {
		enum err e = source_pin_log(c->a, c->victims[i].number, &c->victims[i].file);
		if (e)
			return e;
	}
	return OK;
}

static void unpin_victims(struct compaction *c)
{
	for (uint32_t i = 0; i < c->victim_count; i++) {
		struct victim *v = &c->victims[i];
		window_release(&v->window);
		if (v->file)
			source_unpin(v->file);
		v->file = NULL;
	}
}

static enum err compact_victims(struct compaction *c, int dir_fd)
{
	if (stub_held(c))
		return ERR_BUSY;
	enum err e = pin_victims(c);
	if (!e)
		e = restate_read(c);
	if (!e)
		e = relocate(c);
	if (!e)
		e = restate_run(c);
	unpin_victims(c);
	for (uint64_t waited = 0; !e && stub_held(c); waited += 100) { /* expunged meanwhile, and shown */
		if (waited >= COMPACT_HELD_WAIT_MS || upkeep_stopping())
			return ERR_BUSY;
		fiber_sleep(100);
	}
	return e ? e : stub_victims(c, dir_fd);
}

/* C1, if nothing is held in it: else the job would be given up with the account let go. */
static enum err seal_if_dead(struct compaction *c)
{
	const struct log *newest = &c->a->logs[c->a->log_count - 1];
	if (!may_be_victim(newest) || !mostly_dead(newest))
		return OK;
	c->victims[0].number = newest->number;
	c->victim_count = 1;
	return stub_held(c) ? ERR_BUSY : commit_seal(c->a, SEAL_COMPACT);
}

static enum err compact_account(struct account *a)
{
	struct account_live *live;
	enum err e = account_live_get(a, &live);
	if (e)
		return e;
	struct compaction *c = xcalloc(1, sizeof(*c));
	c->a = a;
	buf_init(&c->records, COMPACT_RECORDS_BYTES_MAX);
	ranges_init(&c->touched, FOLDERS_MAX);
	e = seal_if_dead(c);
	if (!e && a->state == ACCOUNT_LOST)
		e = ERR_FENCED;
	if (!e) {
		choose(c);
		if (c->victim_count > 0)
			e = compact_victims(c, live->dir_fd);
		if (!e)
			stub_sweep(a, live->dir_fd);
		if (!e && c->victim_count > 0)
			state_save(a, live->dir_fd);
	}
	unpin_victims(c);
	restate_release(c);
	ranges_release(&c->touched);
	buf_release(&c->records);
	free(c->moved.from);
	free(c->moved.to);
	free(c);
	account_live_put(live);
	return e;
}

/* The account is pinned since it was considered: one that was lost and read anew meanwhile is another, with a job of its own. */
static void compact_job(void *arg)
{
	struct upkeep *u = upkeep_self();
	struct account *a = arg;
	enum err e = u->stopping ? ERR_BUSY : OK;
	if (!e && a->state == ACCOUNT_OWNED && !a->read_only)
		e = compact_account(a);
	a->compacting = false;
	if (e)
		a->compact_again_ms = clock_now_ms() + COMPACT_AGAIN_MS;
	metric_inc(e ? &jobs_failed : &jobs_done);
	if (e && e != ERR_BUSY && e != ERR_AGAIN)
		log_event(LOG_WARN, "store.compaction_given_up", LOG_U64("account", a->id), LOG_ERR(e));
	account_unpin(a);
	u->compactions--;
	if (--u->jobs == 0)
		waitq_wake_all(&u->done);
}

void compact_consider(struct account *a)
{
	struct upkeep *u = upkeep_self();
	if (!u || u->stopping || a->compacting || a->read_only || a->state != ACCOUNT_OWNED || u->compactions >= COMPACT_JOBS_MAX || !worth(a))
		return;
	if (clock_now_ms() < a->compact_again_ms)
		return;
	account_pin(a);
	if (fiber_start("store.compact", compact_job, a) != OK) {
		account_unpin(a);
		return;
	}
	a->compacting = true;
	u->compactions++;
	u->jobs++;
}
