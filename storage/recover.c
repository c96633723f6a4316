/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.c - from a directory of logs to an account in memory.
 *
 * Three passes over the logs: highest to lowest, to open and to see how each begins and which cut is the newest whole one;
 * then, to settle where each ends; then lowest to highest, to replay.  Only the newest log has no cut above it and is read
 * without knowing its end.
 */
#include "storage/recover.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/folder.h"
#include "storage/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

METRIC_COUNTER(metric_torn, "store_tears_total", "Unsynced commits that a crash cut off, found at a load");
METRIC_COUNTER(metric_damaged, "store_damage_total", "Ranges of logs that had been synced and are damaged");
METRIC_COUNTER(metric_replayed, "store_replayed_commits_total", "Commits read from logs when accounts were loaded");

struct older {
	uint32_t number;
	int fd;        /* -1: absent, or closed again to save descriptors */
	bool absent;
	bool pinned;   /* the newest whole cut says where it ends */
	struct log_first first;
	uint64_t end;
	uint64_t inode;
};

struct recover {
	struct account *a;
	int dir_fd;
	bool sync;
	struct older *logs; /* ascending */
	uint32_t count;
	const struct log_first *cut; /* the newest whole one; NULL: none */
	uint64_t raise;     /* UIDNEXT, of every folder */
	enum err failed;
};

/* ---- opening: F5 ---- */

static enum err older_open_fd(const struct recover *rc, struct older *o)
{
	char name[LOG_NAME_BYTES];

	log_name(o->number, name);
	o->fd = file_open(rc->dir_fd, name, O_RDONLY, 0);
	if (o->fd == -ENOENT) {
		o->absent = true;
		return OK;
	}
	return o->fd < 0 ? err_from_errno(-o->fd) : OK;
}

static enum err older_open(struct recover *rc, struct older *o)
{
	struct file_info info;
	enum err e = older_open_fd(rc, o);

	if (e != OK || o->absent)
		return e;
	if (file_stat(o->fd, &info) < 0)
		return ERR_IO;
	o->inode = info.inode;
	e = log_first_read(o->fd, o->number, &o->first);
	/* what lies below a pinned end was synced by whoever pinned it */
	if (e == OK && rc->sync && !rc->cut && file_sync(o->fd) < 0)
		e = ERR_IO;
	return e;
}

static enum err open_all(struct recover *rc)
{
	for (uint32_t i = rc->count; i > 0; i--) {
		struct older *o = &rc->logs[i - 1];
		enum err e = older_open(rc, o);
		if (e != OK)
			return e;
		if (!rc->cut && o->first.kind == LOG_FILE_LOG)
			rc->cut = &o->first;
		if (rc->a->salt == 0)
			rc->a->salt = o->first.salt;
		/* a replay of very many logs opens them by name again, and whoever called us looks before he shows anything (F7) */
		if (o->fd >= 0 && rc->count - i >= RECOVER_OPEN_LOGS_MAX) {
			file_close(o->fd);
			o->fd = -1;
		}
	}
	return OK;
}

/* ---- ends ---- */

static uint64_t pinned_end(const struct log_first *cut, uint32_t number)
{
	for (uint32_t i = 0; i < cut->cut_count; i++)
		if (cut->cut[i].log == number)
			return cut->cut[i].end;
	return 0;
}

static void damage_event(const struct account *a, uint32_t log, uint64_t start, uint64_t end, const char *what)
{
	metric_inc(&metric_damaged);
	log_event(LOG_ALARM, "store.damage", LOG_U64("account", a->id), LOG_U64("log", log), LOG_U64("start", start), LOG_U64("end", end),
	          LOG_Z("what", what));
}

static void repair_add(struct account *a, uint32_t log, uint64_t start, uint64_t end, bool damage)
{
	a->repairs = xrealloc(a->repairs, (a->repair_count + 1) * sizeof(*a->repairs));
	a->repairs[a->repair_count++] = (struct repair){ log, damage, start, end };
}

/* Empty, or its first commit is not whole: nothing, unless a cut says that there was something. */
static void older_end_of_fence(struct recover *rc, struct older *o)
{
	if (o->end > 0 && o->first.bytes == 0) {
		damage_event(rc->a, o->number, 0, o->end, "the file is empty");
		repair_add(rc->a, o->number, 0, o->end, true);
		rc->raise += o->end / FORMAT_MESSAGE_BYTES_MIN;
		o->end = 0;
	}
}

static void settle_ends(struct recover *rc)
{
	bool below_cut = false;

	for (uint32_t i = rc->count; i > 0; i--) {
		struct older *o = &rc->logs[i - 1];
		o->pinned = below_cut;
		o->end = below_cut ? pinned_end(rc->cut, o->number) : o->first.bytes; /* without a pin: found by the replay */
		if (o->absent || o->first.kind == LOG_FILE_STUB)
			o->end = 0;
		else if (o->first.kind == LOG_FILE_FENCE && o->pinned)
			older_end_of_fence(rc, o);
		below_cut = below_cut || rc->cut == &o->first;
	}
}

static const struct older *older_find(const struct recover *rc, uint64_t number)
{
	for (uint32_t i = 0; i < rc->count; i++)
		if (rc->logs[i].number == number && !rc->logs[i].absent)
			return &rc->logs[i];
	return NULL;
}

/* A log that the newest whole cut names with an end and that is gone, while a lower one is still there. */
static void check_missing(struct recover *rc)
{
	uint32_t lowest = UINT32_MAX;

	for (uint32_t i = 0; i < rc->count && lowest == UINT32_MAX; i++)
		if (rc->logs[i].end > 0 && rc->logs[i].pinned)
			lowest = rc->logs[i].number;
	for (uint32_t i = 0; rc->cut && i < rc->cut->cut_count; i++) {
		struct cut_end c = rc->cut->cut[i];
		if (c.end == 0 || c.log <= lowest || older_find(rc, c.log))
			continue;
		damage_event(rc->a, (uint32_t)c.log, 0, c.end, "the file is missing");
		repair_add(rc->a, (uint32_t)c.log, 0, c.end, true);
		rc->raise += c.end / FORMAT_MESSAGE_BYTES_MIN;
	}
}

/* The account's table of logs, as the state file needs it: a log without a pin ends for now where its file does. */
static void fill_logs(struct recover *rc)
{
	struct account *a = rc->a;

	free(a->logs);
	a->logs = xcalloc(max_size(rc->count, 1), sizeof(*a->logs));
	a->log_count = 0;
	for (uint32_t i = 0; i < rc->count; i++) {
		struct older *o = &rc->logs[i];
		if (!o->absent)
			a->logs[a->log_count++] = (struct log){
				.number = o->number, .stub = o->first.kind == LOG_FILE_STUB, .end = o->end, .inode = o->inode
			};
	}
}

/* ---- replay ---- */

static void replay_commit(void *arg, uint64_t offset, const struct commit_header *header, struct slice heads)
{
	struct recover *rc = ((struct recover **)arg)[0];
	const struct older *o = ((struct older **)arg)[1];
	enum err e = apply_commit(rc->a, o->number, offset, header, heads);

	metric_inc(&metric_replayed);
	if (e != OK)
		log_event(LOG_ALARM, "store.unknown_record", LOG_U64("account", rc->a->id), LOG_U64("log", o->number),
		          LOG_U64("offset", offset), LOG_ERR(e));
}

static void replay_bad(void *arg, uint64_t start, uint64_t end, uint64_t uids, bool damage)
{
	struct recover *rc = ((struct recover **)arg)[0];
	const struct older *o = ((struct older **)arg)[1];
	const struct log *log = account_log(rc->a, o->number);

	if (log && start < log->set_aside_end)
		return; /* told, and its UIDs skipped, by a commit that was read */
	if (damage) {
		damage_event(rc->a, o->number, start, end, "bytes that had been synced");
	} else {
		metric_inc(&metric_torn);
		log_event(LOG_WARN, "store.tear", LOG_U64("account", rc->a->id), LOG_U64("log", o->number), LOG_U64("start", start),
		          LOG_U64("end", end));
	}
	repair_add(rc->a, o->number, start, end, damage);
	rc->raise += uids;
}

/* A file whose first commit is not whole has no cut; if others in it are, it was a log and the first is damaged. */
static bool replay_wanted(const struct recover *rc, const struct older *o)
{
	if (o->absent || o->first.kind == LOG_FILE_STUB || o->end == 0 || o->number < rc->a->last.log)
		return false;
	return o->first.kind == LOG_FILE_LOG || rc->a->salt != 0;
}

static enum err replay_log(struct recover *rc, struct older *o)
{
	void *args[2] = { rc, o };
	struct log_scan scan = { .number = o->number, .salt = rc->a->salt, .limit = o->pinned ? o->end : UINT64_MAX,
		                 .commit = replay_commit, .bad = replay_bad, .arg = args };
	struct log_scan_result result;
	struct log *log = account_log(rc->a, o->number);
	const uint64_t raise = rc->raise;
	const uint32_t repairs = rc->a->repair_count;
	enum err e;

	if (o->fd < 0) {
		e = older_open_fd(rc, o);
		if (e != OK || o->absent)
			return e;
	}
	scan.fd = o->fd;
	scan.from = o->number == rc->a->last.log ? rc->a->last.end : 0;
	if (scan.from > scan.limit)
		return ERR_CORRUPT; /* a state file that lies; state_load checks it */
	e = log_scan(&scan, &result);
	if (e != OK)
		return e;
	ASSERT(log != NULL);
	if (o->first.kind == LOG_FILE_FENCE && !o->pinned && result.commits == 0) {
		/* somebody was stopped while he wrote his cut: he gave no UIDs */
		rc->raise = raise;
		rc->a->repair_count = repairs;
		log->end = o->end = 0;
		return OK;
	}
	if (!o->pinned)
		log->end = o->end = result.end;
	log->damaged = log->damaged || result.damaged_bytes > 0;
	return OK;
}

static void finish(struct recover *rc)
{
	struct account *a = rc->a;

	for (uint32_t i = a->folder_count; i > 0; i--) {
		struct folder *f = a->folders[i - 1];
		if (!f->provisional) {
			f->uidnext = (uint32_t)min_u64(f->uidnext + rc->raise, UINT32_MAX);
			continue;
		}
		for (const struct row *row; (row = rows_from(&f->rows, 1)) != NULL;) {
			struct row gone;
			rows_remove(&f->rows, row->uid, &gone);
			a->bytes -= gone.size;
			a->messages--;
		}
		folder_drop(a, f);
	}
}

static enum err recover_all(struct recover *rc)
{
	enum err e = open_all(rc);

	if (e != OK)
		return e;
	settle_ends(rc);
	fill_logs(rc);
	check_missing(rc);
	e = state_load(rc->a, rc->dir_fd);
	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	for (uint32_t i = 0; i < rc->count; i++) {
		if (replay_wanted(rc, &rc->logs[i]))
			e = replay_log(rc, &rc->logs[i]);
		else
			e = OK;
		if (e != OK)
			return e;
	}
	finish(rc);
	return OK;
}

enum err recover_run(struct account *a, int dir_fd, const struct fence_names *names, uint32_t below, bool sync)
{
	struct recover rc = { .a = a, .dir_fd = dir_fd, .sync = sync };
	enum err e;

	free(a->repairs); /* of a try before this one */
	a->repairs = NULL;
	a->repair_count = 0;
	rc.logs = xcalloc(max_size(names->count, 1), sizeof(*rc.logs));
	while (rc.count < names->count && names->logs[rc.count] < below) {
		rc.logs[rc.count] = (struct older){ .number = names->logs[rc.count], .fd = -1 };
		rc.count++;
	}
	e = recover_all(&rc);
	for (uint32_t i = 0; i < rc.count; i++) {
		if (rc.logs[i].fd >= 0)
			file_close(rc.logs[i].fd);
		log_first_release(&rc.logs[i].first);
	}
	free(rc.logs);
	return e;
}

/* ---- around it ---- */

enum err recover_peek_sealed(int dir_fd, uint32_t number, bool *sealed_out, int *fd_out)
{
	const size_t seal_bytes = COMMIT_HEADER_BYTES + RECORD_HEADER_BYTES + sizeof(struct seal_fixed);
	_Alignas(8) char bytes[COMMIT_HEADER_BYTES + RECORD_HEADER_BYTES + sizeof(struct seal_fixed)];
	char name[LOG_NAME_BYTES];
	struct commit_header header;
	struct log_first first;
	struct record r;
	struct seal_fixed seal;
	enum err e;

	*sealed_out = false;
	log_name(number, name);
	*fd_out = file_open(dir_fd, name, O_RDONLY, 0);
	if (*fd_out < 0)
		return err_from_errno(-*fd_out);
	e = log_first_read(*fd_out, number, &first);
	log_first_release(&first);
	if (e != OK || first.kind != LOG_FILE_LOG || first.bytes < seal_bytes + first.commit_bytes || first.bytes % 8 != 0)
		return e;
	/* what a reader believes must be durable: on a shared store its owner may be about to sync it */
	if (file_shared() && file_sync(*fd_out) < 0)
		return ERR_IO;
	if (file_read(*fd_out, bytes, seal_bytes, first.bytes - seal_bytes) != (int64_t)seal_bytes)
		return ERR_IO;
	*sealed_out = commit_header_get(bytes, first.salt, number, first.bytes - seal_bytes, &header) && header.bytes == seal_bytes &&
	              commit_heads_good(&header, slice_of(bytes + COMMIT_HEADER_BYTES, header.heads_bytes)) &&
	              record_get(slice_of(bytes + COMMIT_HEADER_BYTES, header.heads_bytes), &r) && r.type == RECORD_SEAL && seal_get(&r, &seal);
	return OK;
}

bool recover_put_repairs(const struct account *a, struct buf *heads)
{
	for (uint32_t i = 0; i < a->folder_count; i++) {
		struct fact_record fact = { .fixed = { .kind = FACT_UIDNEXT, .folder = a->folders[i]->id, .value = a->folders[i]->uidnext } };
		if (!fact_put(heads, 0, &fact))
			return false;
	}
	for (uint32_t i = 0; i < a->repair_count; i++) {
		const uint64_t range[3] = { a->repairs[i].log, a->repairs[i].start, a->repairs[i].end };
		struct fact_record fact = { .fixed = { .kind = FACT_SET_ASIDE, .value = a->repairs[i].damage },
			                    .data = slice_of(range, sizeof(range)) };
		if (!fact_put(heads, RECORD_IGNORABLE, &fact))
			return false;
	}
	return true;
}

struct cut_end *recover_ends(const struct account *a, uint32_t *count_out)
{
	struct cut_end *ends = xmalloc(max_size(a->log_count, 1) * sizeof(*ends));
	uint32_t n = 0;

	for (uint32_t i = a->log_count; i > 0; i--)
		ends[n++] = (struct cut_end){ a->logs[i - 1].number, a->logs[i - 1].stub ? 0 : a->logs[i - 1].end };
	*count_out = n;
	return ends;
}
