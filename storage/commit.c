/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.c - group commit: the queue, the leader, the write.
 *
 * The leader's road through one commit: take the account if need be, build, write and sync, look, take the heads into memory,
 * wake.  Only the leader touches the log.  A commit's scratch (heads, pieces) is lent by the shard, so that neither an account
 * at rest nor a message costs an allocation.
 */
#include "storage/commit.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/fence.h"
#include "storage/own.h"
#include "storage/recover.h"

#include <errno.h>
#include <stdlib.h>

METRIC_COUNTER(metric_commits, "store_commits_total", "Commits written and synced");
METRIC_COUNTER(metric_changes, "store_changes_total", "Changes that were in them");
METRIC_COUNTER(metric_unsynced, "store_commits_unsynced_total", "Commits of flags, synced later");
METRIC_COUNTER(metric_refused, "store_changes_late_total", "Changes refused because their deadline had passed");
METRIC_COUNTER(metric_failed, "store_commits_failed_total", "Commits whose write or sync failed");
METRIC_HISTOGRAM(metric_batch, "store_commit_changes", "Changes in one commit");
METRIC_HISTOGRAM(metric_ns, "store_commit_ns", "Write, sync and look of a commit, in nanoseconds");

static const char zeros[8];

/* Bytes behind the heads: some pieces of memory, or a range of another file. */
struct item {
	uint64_t at, bytes; /* from the first byte behind the heads; without padding */
	int first, count;   /* pieces */
	int fd;             /* -1: memory */
	uint64_t offset;
	size_t record; /* of its body, in the heads */
};

/* What a leader borrows. */
struct scratch {
	struct scratch *next;
	struct buf heads;
	struct iovec iov[COMMIT_PIECES_MAX + 2]; /* [0] the header, [1] the heads */
	struct item items[COMMIT_CHANGES_MAX];
};

struct commit {
	struct account *a;
	struct account_live *live;
	struct scratch *s;
	uint64_t sequence;
	uint64_t data_bytes;
	int pieces;
	int item_count;
	bool ranges; /* some items are ranges of files */
	uint32_t changes;
	struct commit_plan plan;
	const struct body *last_body;
	struct commit_header header;
	char header_bytes[COMMIT_HEADER_BYTES];
};

/* ---- scratch ---- */

static struct scratch *scratch_get(void)
{
	struct store_shard *shard = store_self();
	struct scratch *s = shard->scratch;

	if (s) {
		shard->scratch = s->next;
	} else {
		s = xmalloc(sizeof(*s));
		buf_init(&s->heads, COMMIT_HEADS_BYTES_MAX);
	}
	buf_clear(&s->heads);
	return s;
}

static void scratch_put(struct scratch *s)
{
	struct store_shard *shard = store_self();

	if (s->heads.cap > SCRATCH_KEPT_BYTES)
		buf_release(&s->heads);
	s->next = shard->scratch;
	shard->scratch = s;
}

void commit_release_scratch(void)
{
	struct store_shard *shard = store_self();

	while (shard->scratch) {
		struct scratch *s = shard->scratch;
		shard->scratch = s->next;
		buf_release(&s->heads);
		free(s);
	}
}

/* ---- for build functions ---- */

struct buf *commit_heads(struct commit *commit) { return &commit->s->heads; }
bool commit_empty(const struct commit *commit) { return commit->changes == 0; }
uint64_t commit_sequence(const struct commit *commit) { return commit->sequence; }
struct commit_plan *commit_plan(struct commit *commit) { return &commit->plan; }

static struct iovec *piece_add(struct commit *c, const void *ptr, size_t bytes)
{
	struct iovec *v = &c->s->iov[2 + c->pieces++];

	v->iov_base = (void *)(uintptr_t)ptr; /* the kernel only reads it */
	v->iov_len = bytes;
	return v;
}

static struct item *item_add(struct commit *c, size_t record, uint64_t bytes, int fd, uint64_t offset)
{
	struct item *it = &c->s->items[c->item_count++];

	*it = (struct item){
		.at = c->data_bytes, .bytes = bytes, .first = c->pieces, .fd = fd, .offset = offset, .record = record
	};
	c->data_bytes += format_pad8(bytes);
	return it;
}

enum err commit_range(struct commit *commit, size_t record_offset, int fd, uint64_t offset, uint64_t bytes)
{
	if (commit->item_count == COMMIT_CHANGES_MAX)
		return ERR_AGAIN;
	item_add(commit, record_offset, bytes, fd, offset);
	commit->ranges = true;
	return OK;
}

static enum err body_data(struct commit *c, const struct body *body, size_t record)
{
	struct item *it;
	size_t pad = (size_t)(format_pad8(body->bytes) - body->bytes);

	if (body->external)
		return OK;
	if (body->spool_fd >= 0)
		return commit_range(c, record, body->spool_fd, 0, body->bytes);
	if (c->item_count == COMMIT_CHANGES_MAX || c->pieces + (int)body->chunk_count + 1 > (int)COMMIT_PIECES_MAX)
		return ERR_AGAIN;
	it = item_add(c, record, body->bytes, -1, 0);
	for (uint32_t i = 0; i < body->chunk_count; i++)
		piece_add(c, body->chunks[i].ptr, body->chunks[i].len);
	if (pad > 0)
		piece_add(c, zeros, pad);
	it->count = c->pieces - it->first;
	return OK;
}

enum err commit_body(struct commit *commit, const struct body *body)
{
	struct body_record r = { .fixed = { .bytes = body->bytes,
					    .hash = body->hash,
					    .header_bytes = body->header_bytes,
					    .flags = (body->external ? BODY_EXTERNAL : 0) |
						     (body->dots_unknown ? BODY_DOTS_UNKNOWN : 0),
					    .dot_count = body->dot_count },
				 .dots = body->dots };
	size_t record = commit->s->heads.len;

	if (commit->last_body == body)
		return OK; /* the same for several folders or recipients: it is there */
	memcpy(r.fixed.guid, body->guid, GUID_BYTES);
	structure_to_record(&body->structure, &r);
	if (!body_put(&commit->s->heads, 0, &r))
		return ERR_AGAIN;
	commit->last_body = body;
	return body_data(commit, body, record);
}

/* ---- changes of the queue ---- */

static void change_done(struct change *c, enum err result)
{
	c->result = result;
	c->done = true;
	if (c->fiber != fiber_self()) /* the leader's own */
		fiber_wake(c->fiber);
}

static void queue_fail(struct account_live *live, enum err e)
{
	struct link *l;

	while ((l = list_pop_front(&live->queue)) != NULL)
		change_done(CONTAINER_OF(l, struct change, link), e);
}

/* Lets one change judge itself and add its records; takes them back if it is not to be. */
static enum err change_build(struct commit *commit, struct change *c)
{
	const struct commit before = *commit;
	const size_t heads = commit->s->heads.len;
	enum err e = c->build(c, commit->a, commit);

	if (e != OK || commit->s->heads.len == heads) { /* or nothing is to be written: it is done as it is */
		commit->s->heads.len = heads;
		commit->data_bytes = before.data_bytes;
		commit->pieces = before.pieces;
		commit->item_count = before.item_count;
		commit->ranges = before.ranges;
		commit->plan = before.plan;
		commit->last_body = before.last_body;
		return e;
	}
	commit->changes++;
	return OK;
}

static uint64_t commit_bytes(const struct commit *c) { return COMMIT_HEADER_BYTES + c->s->heads.len + c->data_bytes; }

/* Moves changes from the queue into the commit; those that are refused leave at once. */
static void commit_build(struct commit *commit, struct list *batch, bool *sync_out)
{
	struct account_live *live = commit->live;
	bool closed = false;

	while (!closed && !list_empty(&live->queue) && commit->changes < COMMIT_CHANGES_MAX &&
	       commit_bytes(commit) < COMMIT_BYTES_MAX) {
		struct change *c = LIST_FIRST(&live->queue, struct change, link);
		if (c->alone && !commit_empty(commit))
			return;
		if (c->deadline_ms < clock_now_ms()) {
			metric_inc(&metric_refused);
			link_remove(&c->link);
			change_done(c, ERR_TIMEOUT);
			continue;
		}
		uint32_t changes = commit->changes;
		enum err e = change_build(commit, c);
		if (e == ERR_AGAIN && !commit_empty(commit))
			return;
		link_remove(&c->link);
		if (e != OK || commit->changes == changes) {
			change_done(c, e == ERR_AGAIN ? ERR_LIMIT : e);
			continue;
		}
		c->sequence = commit->sequence;
		list_push_back(batch, &c->link);
		*sync_out = *sync_out || !c->later_sync;
		closed = c->alone;
	}
}

/* ---- the write ---- */

/* Heads are complete: where each body's bytes will be, hashes, header. */
static void commit_finish(struct commit *c)
{
	struct account_live *live = c->live;
	struct slice heads;
	size_t at = 0;

	for (int i = 0; i < c->item_count; i++)
		body_set_distance(&c->s->heads, c->s->items[i].record,
				  c->s->heads.len - c->s->items[i].record + c->s->items[i].at);
	heads = buf_slice(&c->s->heads);
	c->header = (struct commit_header){ .sequence = c->sequence,
					    .bytes = commit_bytes(c),
					    .previous_end = live->previous_end,
					    .synced_end = live->synced_end };
	while (at < heads.len) { /* ours: whole by construction */
		at += get_le32(heads.ptr + at + offsetof(struct record_header, bytes));
		c->header.records++;
	}
	commit_header_put(&c->header, heads, c->a->salt, c->a->logs[c->a->log_count - 1].number, live->log_at,
			  c->header_bytes);
	c->s->iov[0] = (struct iovec){ c->header_bytes, sizeof(c->header_bytes) };
	c->s->iov[1] = (struct iovec){ heads.len ? c->s->heads.ptr : NULL, heads.len };
}

/* Some bodies are in files: these are copied first, the header comes last. *source_out: it was the source that
 * failed. */
static int write_ranges(struct commit *c, bool *source_out)
{
	uint64_t data_at = c->live->log_at + COMMIT_HEADER_BYTES + c->s->heads.len;
	int r = 0;

	for (int i = 0; i < c->item_count && r >= 0; i++) {
		const struct item *it = &c->s->items[i];
		if (it->fd < 0)
			r = file_write(c->live->log_fd, &c->s->iov[2 + it->first], it->count, data_at + it->at);
		else
			r = file_copy_range(it->fd, it->offset, c->live->log_fd, data_at + it->at, it->bytes);
		*source_out = it->fd >= 0;
		/* the file must be as long as the commit says, even if its last body needs padding */
		size_t pad = (size_t)(format_pad8(it->bytes) - it->bytes);
		struct iovec end = { (void *)(uintptr_t)zeros, pad };
		if (r >= 0 && it->fd >= 0 && pad > 0)
			r = file_write(c->live->log_fd, &end, 1, data_at + it->at + it->bytes);
	}
	return r;
}

static int commit_write(struct commit *c, bool sync, bool *source_out)
{
	struct account_live *live = c->live;
	int count = 2 + c->pieces;
	int r = 0;

	if (c->ranges) {
		r = write_ranges(c, source_out);
		count = 2;
	}
	if (r < 0)
		return r;
	*source_out = false;
	return sync ? file_commit(live->log_fd, c->s->iov, count, live->log_at)
		    : file_write(live->log_fd, c->s->iov, count, live->log_at);
}

/* ---- what is not synced yet keeps account and descriptors ---- */

static void commit_unsynced(struct account *a, struct account_live *live)
{
	if (live->unsynced++ > 0)
		return;
	lru_pin(&store_self()->lives, &live->lru);
	lru_pin(&store_self()->warm, &a->warm);
	timer_set(&live->flags_timer, store_self()->config.flags_sync_ms);
}

void commit_synced(struct account *a, struct account_live *live)
{
	if (live->unsynced == 0)
		return;
	live->unsynced = 0;
	timer_clear(&live->flags_timer);
	lru_unpin(&store_self()->lives, &live->lru);
	lru_unpin(&store_self()->warm, &a->warm);
}

static void flush_fiber(void *arg)
{
	struct account *a = account_known((uint64_t)(uintptr_t)arg);

	if (a)
		(void)commit_flush(a); /* what it means is in the log, and in the account's state */
}

/* By id: the account may have gone when the fiber runs. */
void commit_flags_timer(struct timer *t)
{
	struct account_live *live = CONTAINER_OF(t, struct account_live, flags_timer);

	if (fiber_start("store.flags", flush_fiber, (void *)(uintptr_t)live->account->id) != OK)
		timer_set(t, FLUSH_RETRY_MS);
}

/* ---- when it fails ---- */

/* Unsynced flags that were shown are not on disk any more: memory is not what the logs say. */
static void lost_if_shown(struct account *a, struct account_live *live)
{
	if (live->unsynced > 0)
		own_lost(a, "flags that were shown could not be synced");
	commit_synced(a, live);
}

/*
 * The file is not to be trusted behind what was synced before, and is never synced again (invariant 1): the next log cuts it
 * there.  If that cannot be made, the account is read-only as of that length.
 */
static void log_condemned(struct account *a, struct account_live *live, int r)
{
	log_event(LOG_ALARM, "store.sync_failed", LOG_U64("account", a->id),
		  LOG_U64("log", a->logs[a->log_count - 1].number), LOG_U64("synced", live->synced_end), LOG_ERRNO(-r));
	(void)own_roll(a, live, live->synced_end, CUT_FAILED_SYNC);
	lost_if_shown(a, live);
}

/* The disk is full: the write did not come to its end, but nothing that was there is in doubt. The next commit
 * begins behind it. */
static bool write_given_up(struct commit *c, int r)
{
	struct file_info info;

	if ((r != -ENOSPC && r != -EDQUOT) || file_stat(c->live->log_fd, &info) < 0)
		return false;
	if (info.bytes >= c->live->log_at + c->header.bytes)
		return false; /* all was written, so it was the sync */
	if (info.bytes > c->live->log_at)
		/* previous_end stays, so the gap has a name; nothing is written over (invariant 3) */
		c->live->log_at += c->header.bytes;
	return true;
}

static enum err commit_failed(struct commit *c, int r, bool source)
{
	metric_inc(&metric_failed);
	if (write_given_up(c, r))
		return ERR_FULL;
	if (source) {
		/* the other file did not read: nothing of this commit's header is on disk, so the range is a gap */
		c->live->log_at += c->header.bytes;
		return ERR_IO;
	}
	log_condemned(c->a, c->live, r);
	return ERR_IO;
}

/* ---- one commit ---- */

/* Written, synced and looked at: now it is true. */
static void commit_apply(struct commit *c, bool synced)
{
	struct account_live *live = c->live;
	struct account *a = c->a;
	struct log *own = &a->logs[a->log_count - 1];
	uint64_t at = live->log_at;

	live->log_at = live->previous_end = own->end = at + c->header.bytes;
	if (synced) {
		live->synced_end = live->log_at;
		commit_synced(a, live);
	} else {
		commit_unsynced(a, live);
	}
	enum err e = apply_commit(a, own->number, at, &c->header, buf_slice(&c->s->heads));
	ASSERT(e == OK); /* we wrote it: it says nothing that we do not know */
	a->resized = true;
}

static enum err commit_store(struct commit *c, bool sync)
{
	struct account_live *live = c->live;
	uint64_t began_ns = clock_fresh_ns();
	bool source = false;

	commit_finish(c);
	if (live->log_at + c->header.bytes > LOG_BYTES_MAX)
		return ERR_LIMIT;
	int r = commit_write(c, sync, &source);
	store_wrote(c->header.bytes);
	if (r < 0)
		return commit_failed(c, r, source);
	/* F8, F9, invariant 1: nothing is told or shown before the sync and the look */
	enum err e = fence_look(live->dir_fd, live->log_fd, live->own_name, live->next_name);
	if (e != OK) {
		own_lost(c->a, "the look found another owner");
		return e;
	}
	metric_inc(sync ? &metric_commits : &metric_unsynced);
	metric_add(&metric_changes, c->changes);
	metric_record(&metric_batch, (uint64_t)c->changes);
	metric_record(&metric_ns, clock_fresh_ns() - began_ns);
	commit_apply(c, sync);
	return OK;
}

/* The account can be written to: owned, its log open and not too long. */
static enum err commit_ready(struct account *a, struct account_live *live)
{
	enum err e = OK;

	if (a->state == ACCOUNT_LOST)
		return ERR_FENCED;
	if (a->read_only)
		return ERR_READONLY;
	if (a->state == ACCOUNT_OWNED && live->log_fd < 0) {
		e = own_reopen(a, live);
		if (e == ERR_FENCED)
			own_lost(a, "its log is not ours any more");
	}
	if (e == OK && a->state == ACCOUNT_OWNED && live->log_at >= store_self()->config.seal_bytes) {
		e = own_seal(a, live, SEAL_SIZE);
		lost_if_shown(a, live);
		if (e == OK)
			state_save(a, live->dir_fd);
	}
	if (e == OK && a->state == ACCOUNT_SEALED)
		e = own_take(a, live);
	return a->state == ACCOUNT_LOST ? ERR_FENCED : e;
}

/* What the queue holds becomes one commit, as far as it goes. */
static void commit_one(struct account *a, struct account_live *live)
{
	struct commit c = { .a = a, .live = live };
	struct store_shard *shard = store_self();
	struct list batch;
	bool sync = shard->config.flags_sync_ms == 0 || live->unsynced >= COMMIT_UNSYNCED_MAX;
	struct link *l;
	enum err e = commit_ready(a, live);

	if (e != OK) {
		queue_fail(live, e);
		return;
	}
	list_init(&batch);
	c.s = scratch_get();
	c.sequence = ++a->sequence; /* used, even if nothing comes of it */
	commit_build(&c, &batch, &sync);
	e = commit_empty(&c) ? OK : commit_store(&c, sync);
	scratch_put(c.s);
	while ((l = list_pop_front(&batch)) != NULL)
		change_done(CONTAINER_OF(l, struct change, link), e);
}

/* ---- leading ---- */

static void lead_end(struct account_live *live)
{
	struct change *next = LIST_FIRST(&live->queue, struct change, link);

	ASSERT(live->leading);
	if (next) {
		next->lead = true;
		fiber_wake(next->fiber);
		return;
	}
	live->leading = false;
	waitq_wake_all(&live->idle);
}

/* Waits until nobody leads, then leads. */
static void lead_begin(struct account_live *live)
{
	while (live->leading)
		(void)waitq_wait(&live->idle, 0);
	live->leading = true;
}

enum err commit_run(struct account *a, struct change *c)
{
	struct account_live *live;
	enum err e = account_live_get(a, &live);

	if (e != OK)
		return e;
	c->fiber = fiber_self();
	c->deadline_ms = clock_now_ms() + store_self()->config.commit_ms_max;
	link_init(&c->link);
	list_push_back(&live->queue, &c->link);
	while (live->leading && !c->done && !c->lead)
		fiber_park();
	if (!c->done) {
		live->leading = true;
		while (!c->done)
			commit_one(a, live);
		lead_end(live);
	}
	account_live_put(live);
	if (c->result == OK)
		compact_consider(a);
	return c->result;
}

/* ---- flags, later ---- */

static enum err flush_now(struct account *a, struct account_live *live)
{
	enum err e;
	int r;

	if (live->unsynced == 0)
		return OK;
	if (a->state != ACCOUNT_OWNED) { /* lost meanwhile: there is nothing that could be synced */
		commit_synced(a, live);
		return ERR_FENCED;
	}
	ASSERT(live->log_fd >= 0); /* pinned since it was written to */
	r = file_sync(live->log_fd);
	if (r < 0) {
		metric_inc(&metric_failed);
		log_condemned(a, live, r);
		return ERR_IO;
	}
	commit_synced(a, live);
	live->synced_end = live->log_at;
	e = fence_look(live->dir_fd, live->log_fd, live->own_name, live->next_name);
	if (e != OK)
		own_lost(a, "the look found another owner");
	return e;
}

enum err commit_flush(struct account *a)
{
	struct account_live *live;
	enum err e;

	if (!a->live || a->live->unsynced == 0)
		return OK;
	e = account_live_get(a, &live);
	if (e != OK)
		return e;
	lead_begin(live);
	e = flush_now(a, live);
	lead_end(live);
	account_live_put(live);
	return e;
}

enum err commit_seal(struct account *a, enum seal_reason reason)
{
	struct account_live *live;
	enum err e;

	if (a->state != ACCOUNT_OWNED || a->read_only)
		return OK;
	e = account_live_get(a, &live);
	if (e != OK)
		return e;
	lead_begin(live);
	if (a->state == ACCOUNT_OWNED && !a->read_only && live->log_fd < 0)
		e = own_reopen(a, live);
	if (e == OK && a->state == ACCOUNT_OWNED && !a->read_only) {
		e = own_seal(a, live, reason);
		lost_if_shown(a, live);
	}
	lead_end(live);
	account_live_put(live);
	return e;
}
