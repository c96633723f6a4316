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
#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(metric_torn, "store_tears_total", "Unsynced commits that a crash cut off, found at a load");
METRIC_COUNTER(metric_damaged, "store_damage_total", "Ranges of logs that had been synced and are damaged");
METRIC_COUNTER(metric_replayed, "store_replayed_commits_total", "Commits read from logs when accounts were loaded");

struct older {
	uint32_t number;
	int fd; /* -1: absent, or closed again to save descriptors */
	bool absent;
	bool pinned; /* the newest whole cut says where it ends */
	struct log_first first;
	uint64_t end;
	uint64_t inode;
};

/* A bad range of a log, until all logs are read: a later one may say that it is known. */
struct found {
	uint32_t log;
	bool damage;
	uint64_t start, end, uids;
};

struct recover {
	struct account *a;
	struct found *found;
	uint32_t found_count;
	int dir_fd;
	bool sync;
	struct older *logs; /* ascending */
	uint32_t count;
	const struct log_first *cut; /* the newest whole one; NULL: none */
	uint64_t raise;              /* UIDNEXT, of every folder */
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
	return log_first_read(o->fd, o->number, &o->first);
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
		/* a replay of very many logs opens them by name again, and whoever called us looks before he shows
		 * anything (F7) */
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
	log_event(LOG_ALARM, "store.damage", LOG_U64("account", a->id), LOG_U64("log", log), LOG_U64("start", start),
		  LOG_U64("end", end), LOG_Z("what", what));
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
		/* without a pin: found by the replay */
		o->end = below_cut ? pinned_end(rc->cut, o->number) : o->first.bytes;
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
			a->logs[a->log_count++] = (struct log){ .number = o->number,
								.stub = o->first.kind == LOG_FILE_STUB,
								.end = o->end,
								.inode = o->inode };
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

	rc->found = xrealloc(rc->found, (rc->found_count + 1) * sizeof(*rc->found));
	rc->found[rc->found_count++] = (struct found){ o->number, damage, start, end, uids };
}

/* Those that no FACT_SET_ASIDE names: they are told, and their UIDs will be skipped. */
static void judge_found(struct recover *rc)
{
	for (uint32_t i = 0; i < rc->found_count; i++) {
		const struct found *f = &rc->found[i];
		struct log *log = account_log(rc->a, f->log);
		if (log && f->start < log->set_aside_end)
			continue; /* and the fact has told whether it is damage: below a cut a tear looks like it */
		if (log && f->damage)
			log->damaged = true;
		if (f->damage) {
			damage_event(rc->a, f->log, f->start, f->end, "bytes that had been synced");
		} else {
			metric_inc(&metric_torn);
			log_event(LOG_WARN, "store.tear", LOG_U64("account", rc->a->id), LOG_U64("log", f->log),
				  LOG_U64("start", f->start), LOG_U64("end", f->end));
		}
		repair_add(rc->a, f->log, f->start, f->end, f->damage);
		rc->raise += f->uids;
	}
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
	struct log_scan scan = { .number = o->number,
				 .salt = rc->a->salt,
				 .limit = o->pinned ? o->end : UINT64_MAX,
				 .commit = replay_commit,
				 .bad = replay_bad,
				 .arg = args };
	struct log_scan_result result;
	struct log *log = account_log(rc->a, o->number);
	const uint32_t found = rc->found_count;
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
	/* F5: read, then synced: an older owner's write may have come between. What lies below a pin was synced by
	 * whoever pinned it. */
	if (rc->sync && !o->pinned && file_sync(o->fd) < 0)
		return ERR_IO;
	ASSERT(log != NULL);
	if (o->first.kind == LOG_FILE_FENCE && !o->pinned && result.commits == 0) {
		/* somebody was stopped while he wrote his cut: he gave no UIDs */
		rc->found_count = found;
		log->end = o->end = 0;
		return OK;
	}
	if (!o->pinned)
		log->end = o->end = result.end;
	return OK;
}

static bool damage_found(const struct account *a)
{
	for (uint32_t i = 0; i < a->repair_count; i++)
		if (a->repairs[i].damage)
			return true;
	return false;
}

/* A folder whose state was not found: it was deleted and its log became a stub, or its state was in a damaged range. */
static void finish_provisional(struct account *a, struct folder *f, bool damage)
{
	char name[32];
	const struct row *row;
	struct row gone;

	if (damage || f->id == FOLDER_INBOX) {
		int n = snprintf(name, sizeof(name), "Recovered %u", f->id);
		folder_names_changed(a);
		folder_set_name(f, f->id == FOLDER_INBOX ? SLICE_LIT("INBOX") : slice_of(name, (size_t)n));
		/* the old one is not known: all its UIDs are new to clients */
		a->last_uidvalidity = f->uidvalidity = (uint32_t)max_u64((uint64_t)a->last_uidvalidity + 1,
									 (uint64_t)clock_wall_s());
		a->next_folder = (uint32_t)max_u64(a->next_folder, (uint64_t)f->id + 1);
		f->provisional = false;
		f->restate = true;
		return;
	}
	while ((row = rows_from(&f->rows, 1)) != NULL) {
		bool removed = rows_remove(&f->rows, row->uid, &gone);
		ASSERT(removed);
		a->bytes -= gone.size;
		a->messages--;
	}
	folder_drop(a, f);
}

static void finish(struct recover *rc)
{
	struct account *a = rc->a;
	bool damage = damage_found(a), history = false;

	for (uint32_t i = 0; i < a->log_count; i++)
		history = history || a->logs[i].end > 0;
	if (!account_folder(a, FOLDER_INBOX) && history) {
		struct folder *inbox = folder_add(a, FOLDER_INBOX, slice_of(NULL, 0));
		ASSERT(inbox);
		inbox->provisional = true;
	}
	for (uint32_t i = a->folder_count; i > 0; i--) {
		struct folder *f = a->folders[i - 1];
		if (f->provisional)
			finish_provisional(a, f, damage);
	}
	for (uint32_t i = 0; i < a->folder_count; i++)
		a->folders[i]->uidnext = (uint32_t)min_u64(a->folders[i]->uidnext + rc->raise, UINT32_MAX);
}

/* Without the salt no commit but the first of a log can be told from a message that looks like one. Was there
 * anything behind it? */
static enum err check_salt(struct recover *rc)
{
	_Alignas(8) char bytes[KIB(4)];

	for (uint32_t i = 0; i < rc->count && rc->a->salt == 0; i++) {
		struct older *o = &rc->logs[i];
		if (o->absent || o->first.kind != LOG_FILE_FENCE || o->first.bytes <= COMMIT_HEADER_BYTES)
			continue;
		if (o->fd < 0 && older_open_fd(rc, o) != OK)
			return ERR_IO;
		int64_t n = file_read(o->fd, bytes, sizeof(bytes), 0);
		for (int64_t at = 8; at + 8 <= n; at += 8)
			if (get_le32(bytes + at) == COMMIT_MAGIC || o->first.bytes > sizeof(bytes)) {
				damage_event(rc->a, o->number, 0, o->first.bytes,
					     "the account's salt is lost; see penfold fsck");
				return ERR_CORRUPT;
			}
	}
	return OK;
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
	e = check_salt(rc);
	if (e != OK)
		return e;
	for (uint32_t i = 0; i < rc->count; i++) {
		if (replay_wanted(rc, &rc->logs[i]))
			e = replay_log(rc, &rc->logs[i]);
		else
			e = OK;
		if (e != OK)
			return e;
	}
	judge_found(rc);
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
	free(rc.found);
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
	if (e != OK || first.kind != LOG_FILE_LOG || first.bytes < seal_bytes + first.commit_bytes ||
	    first.bytes % 8 != 0)
		return e;
	if (file_read(*fd_out, bytes, seal_bytes, first.bytes - seal_bytes) != (int64_t)seal_bytes)
		return ERR_IO;
	*sealed_out = commit_header_get(bytes, first.salt, number, first.bytes - seal_bytes, &header) &&
		      header.bytes == seal_bytes &&
		      commit_heads_good(&header, slice_of(bytes + COMMIT_HEADER_BYTES, header.heads_bytes)) &&
		      record_get(slice_of(bytes + COMMIT_HEADER_BYTES, header.heads_bytes), &r) &&
		      r.type == RECORD_SEAL && seal_get(&r, &seal);
	return OK;
}

bool recover_put_repairs(const struct account *a, struct buf *heads)
{
	for (uint32_t i = 0; i < a->folder_count; i++) {
		const struct folder *f = a->folders[i];
		struct folder_record state = { .fixed = { .op = FOLDER_STATE,
							  .folder = f->id,
							  .uidvalidity = f->uidvalidity,
							  .uidnext = f->uidnext,
							  .uidl_formula = UIDL_FORMULA_HEX,
							  .modseq = f->modseq },
					       .name = slice_of(f->name, f->name_bytes) };
		if (f->restate && !folder_put(heads, 0, &state))
			return false;
		struct fact_record fact = { .fixed = { .kind = FACT_UIDNEXT, .folder = f->id, .value = f->uidnext } };
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
