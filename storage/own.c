/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own.c - an account's owner: load, take, roll, seal.  The rules' numbers are fence.h's.
 */
#include "storage/own.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/commit.h"
#include "storage/fence.h"
#include "storage/gate.h"
#include "storage/folder.h"
#include "storage/log.h"
#include "storage/recover.h"
#include "storage/sweep.h"

#include <fcntl.h>
#include <stdlib.h>

METRIC_COUNTER(metric_takeovers, "store_takeovers_total", "Unsealed accounts that were taken over");
METRIC_COUNTER(metric_fenced, "store_fenced_total", "Accounts lost to another owner, or not to be trusted any more");
METRIC_COUNTER(metric_logs, "store_logs_made_total", "Logs made");

void own_lost(struct account *a, const char *why)
{
	if (a->state == ACCOUNT_LOST)
		return;
	a->state = ACCOUNT_LOST;
	metric_inc(&metric_fenced);
	log_event(LOG_ERROR, "store.lost", LOG_U64("account", a->id), LOG_Z("why", why));
}

/* ---- the cut ---- */

static void log_add(struct account *a, uint32_t number, uint64_t end, uint64_t inode)
{
	a->logs = xrealloc(a->logs, (a->log_count + 1) * sizeof(*a->logs));
	a->logs[a->log_count++] = (struct log){ .number = number, .end = end, .inode = inode };
}

/* The log is ours: what is appended from now on goes there. */
static void log_owned(struct account *a, struct account_live *live, uint32_t number, int fd, uint64_t end,
		      uint64_t inode)
{
	if (live->log_fd >= 0)
		file_close(live->log_fd);
	live->log_fd = fd;
	live->log_at = live->previous_end = live->synced_end = end;
	log_name(number, live->own_name);
	log_name(number + 1, live->next_name);
	log_add(a, number, end, inode);
	a->state = ACCOUNT_OWNED;
	metric_inc(&metric_logs);
}

/* F6 to F8: writes the cut of what memory says, and takes it into memory as any other commit. Closes fd on failure. */
static enum err cut_and_own(struct account *a, struct account_live *live, uint32_t number, int fd, uint32_t flags,
			    struct slice more)
{
	struct store_shard *s = store_self();
	struct fence_cut cut = { .account_id = a->id,
				 .salt = a->salt,
				 .sequence = a->sequence + 1,
				 .take = ++s->takes,
				 .incarnation = s->incarnation,
				 .wall_ms = clock_wall_ms(),
				 .flags = flags,
				 .more = more };
	struct cut_end *ends = recover_ends(a, &cut.count);
	struct commit_header header;
	struct file_info info;
	struct buf heads;
	enum err e;

	cut.ends = ends;
	buf_init(&heads, COMMIT_HEADS_BYTES_MAX);
	e = file_stat(fd, &info) < 0 ? ERR_IO : fence_cut(live->dir_fd, fd, number, &cut, &heads, &header);
	if (e == OK) {
		log_owned(a, live, number, fd, header.bytes, info.inode);
		e = apply_commit(a, number, 0, &header, buf_slice(&heads));
		ASSERT(e == OK);
	} else {
		file_close(fd);
	}
	free(ends);
	buf_release(&heads);
	return e;
}

/* ---- load ---- */

/* What a new account begins with. Also one whose first owner was stopped before he had written anything. */
static bool account_begin(struct account *a, struct buf *more)
{
	struct folder_record inbox = { .fixed = { .op = FOLDER_CREATE,
						  .uidl_formula = UIDL_FORMULA_HEX,
						  .folder = FOLDER_INBOX,
						  .flags = FOLDER_FLAG_SUBSCRIBED,
						  .uidnext = 1 },
				       .name = SLICE_LIT("INBOX") };

	while (a->salt == 0)
		random_bytes(&a->salt, sizeof(a->salt));
	inbox.fixed.uidvalidity = (uint32_t)max_u64((uint64_t)a->last_uidvalidity + 1, (uint64_t)clock_wall_s());
	const struct folder *f = account_folder(a, FOLDER_INBOX);
	return (f && f->uidvalidity) || folder_put(more, 0, &inbox); /* an unborn account's is in memory only */
}

static enum err cut_and_begin(struct account *a, struct account_live *live, uint32_t number, int fd, uint32_t flags)
{
	struct buf more;
	enum err e;

	buf_init(&more, KIB(1));
	if (!account_begin(a, &more))
		UNREACHABLE();
	e = cut_and_own(a, live, number, fd, flags, buf_slice(&more));
	buf_release(&more);
	return e;
}

static enum err make_first(struct account *a, struct account_live *live)
{
	int fd;
	enum err e = fence_make(live->dir_fd, 1, &fd);

	return e == OK ? cut_and_begin(a, live, 1, fd, 0) : e;
}

/* F11 */
static enum err load_sealed(struct account *a, struct account_live *live, const struct fence_names *names,
			    int newest_fd)
{
	char own[LOG_NAME_BYTES], next[LOG_NAME_BYTES];
	enum err e = recover_run(a, live->dir_fd, names, UINT32_MAX, file_shared() || gate_is_open());

	if (e != OK)
		return e;
	log_name(names->newest, own);
	log_name(names->newest + 1, next);
	e = fence_look(live->dir_fd, newest_fd, own, next);
	a->state = ACCOUNT_SEALED;
	return e;
}

static enum err load_takeover(struct account *a, struct account_live *live, const struct fence_names *names)
{
	uint32_t number = names->newest + 1;
	enum err e;
	int fd;

	if (number == LOG_NUMBER_MAX)
		return ERR_LIMIT;
	metric_inc(&metric_takeovers);
	e = fence_make(live->dir_fd, number, &fd); /* F2 to F4 */
	if (e != OK)
		return e;
	e = recover_run(a, live->dir_fd, names, number, true); /* F5 */
	if (e != OK) {
		file_close(fd);
		return e;
	}
	a->sequence += SEQUENCE_SKIP;
	return cut_and_begin(a, live, number, fd, CUT_UNCLEAN | (a->repair_count ? CUT_DAMAGE : 0));
}

/* No log can be made. With the folder to ourselves nobody else can write, so what is there may be shown. */
static enum err load_read_only(struct account *a, struct account_live *live, const struct fence_names *names,
			       enum err why)
{
	enum err e;

	if (file_shared() || gate_is_open() || (why != ERR_FULL && why != ERR_IO))
		return why;
	account_forget(a);
	e = recover_run(a, live->dir_fd, names, names->newest + 1, true);
	if (e != OK)
		return e;
	a->state = ACCOUNT_SEALED;
	a->read_only = true;
	a->starved = why == ERR_FULL;
	log_event(LOG_ALARM, "store.read_only", LOG_U64("account", a->id), LOG_ERR(why));
	return OK;
}

/* Ranges found bad: their UIDs must not be given again even when the log that had them is gone. */
static enum err repair_build(struct change *c, struct account *a, struct commit *commit)
{
	(void)c;
	return recover_put_repairs(a, commit_heads(commit)) ? OK : ERR_LIMIT;
}

static enum err repair(struct account *a)
{
	struct change c = { .build = repair_build, .alone = true, .frees = true };
	enum err e;

	if (a->repair_count == 0 || a->read_only)
		return OK;
	e = commit_run(a, &c);
	if (e == OK) {
		free(a->repairs);
		a->repairs = NULL;
		a->repair_count = 0;
	}
	return e;
}

static enum err load_existing(struct account *a, struct account_live *live, const struct fence_names *names)
{
	bool sealed;
	int fd;
	enum err e = recover_peek_sealed(live->dir_fd, names->newest, &sealed, &fd);

	if (e == OK && sealed)
		e = load_sealed(a, live, names, fd);
	else if (e == OK)
		e = load_takeover(a, live, names);
	if (fd >= 0)
		file_close(fd);
	if (e == ERR_FULL || e == ERR_IO)
		e = load_read_only(a, live, names, e);
	if (e != OK)
		return e;
	e = repair(a);
	if (e != OK && e != ERR_FENCED) {
		a->read_only = true; /* DESIGN section 4: read-only only if no new log can be written */
		e = OK;
	}
	if (e == OK && a->state == ACCOUNT_OWNED)
		sweep_after_takeover(a, live, names);
	return e;
}

/* INBOX, empty; UIDVALIDITY is given, and INBOX made, by the first commit. Polling what was never used costs no disk. */
static enum err load_unborn(struct account *a)
{
	struct folder *inbox = folder_add(a, FOLDER_INBOX, SLICE_LIT("INBOX"));

	if (!inbox)
		UNREACHABLE();
	inbox->subscribed = true; /* as it will be */
	a->state = ACCOUNT_SEALED;
	return OK;
}

static enum err load_directory(struct account *a)
{
	struct account_live *live;
	struct fence_names names;
	enum err e = account_live_get(a, &live);

	if (e != OK)
		return e;
	e = fence_list(live->dir_fd, &names); /* F1 */
	if (e == OK)
		e = names.newest == 0 ? load_unborn(a) : load_existing(a, live, &names);
	fence_names_release(&names);
	account_live_put(live);
	return e;
}

enum err own_load(struct account *a)
{
	char path[ACCOUNT_PATH_BYTES];
	enum err e;

	account_path(a->id, path);
	int there = file_exists(store_self()->data_fd, path);
	if (there < 0)
		e = err_from_errno(-there);
	else
		e = there ? load_directory(a) : load_unborn(a);
	if (e != OK)
		log_event(LOG_ERROR, "store.load", LOG_U64("account", a->id), LOG_ERR(e));
	return e;
}

/* ---- take ---- */

/* F5 for an account that is in memory: the newest log is still the one that was read, so all that it pins is, too. */
static enum err newest_unchanged(const struct account *a, const struct account_live *live)
{
	const struct log newest = a->logs[a->log_count - 1]; /* a copy: the table may move while we wait */
	char name[LOG_NAME_BYTES];
	struct file_info info;

	log_name(newest.number, name);
	int fd = file_open(live->dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return err_from_errno(-fd) == ERR_NOT_FOUND ? ERR_FENCED : ERR_IO;
	enum err e = OK;
	if (file_sync(fd) < 0 || file_stat(fd, &info) < 0)
		e = ERR_IO;
	else if (info.inode != newest.inode || info.bytes != newest.end)
		e = ERR_FENCED;
	file_close(fd);
	return e;
}

/* An account's first log. */
static enum err own_make(struct account *a, struct account_live *live)
{
	enum err e = make_first(a, live);

	if (e == ERR_FENCED)
		own_lost(a, "somebody else made it");
	else if (e != OK)
		own_lost(a, "its first log could not be written"); /* the name may be there: load again */
	return e;
}

enum err own_take(struct account *a, struct account_live *live)
{
	struct fence_names names;
	bool made = false;
	uint32_t number;
	enum err e;
	int fd;

	ASSERT(a->state == ACCOUNT_SEALED);
	if (account_unborn(a))
		return own_make(a, live);
	e = fence_list(live->dir_fd, &names); /* F1 */
	number = names.newest + 1;
	if (e == OK && names.newest != a->logs[a->log_count - 1].number)
		e = ERR_FENCED;
	fence_names_release(&names);
	if (e == OK && number == LOG_NUMBER_MAX)
		e = ERR_LIMIT;
	if (e == OK)
		e = fence_make(live->dir_fd, number, &fd); /* F2 to F4 */
	if (e == OK) {
		made = true;
		e = newest_unchanged(a, live); /* F5 */
		if (e == OK)
			/* F6, F8; memory is already the replay (F7) */
			e = cut_and_own(a, live, number, fd, 0, slice_of(NULL, 0));
		else
			file_close(fd);
	}
	if (e == ERR_FENCED)
		own_lost(a, "somebody else took it");
	else if (e != OK && made)
		own_lost(a, "its cut could not be written"); /* the fence stands before our own feet, too: load again */
	return e;
}

/* ---- seal and roll ---- */

/* One commit of records without data, outside of the queue: who calls leads. */
static enum err append_alone(struct account *a, struct account_live *live, struct buf *heads)
{
	struct commit_header header = { .sequence = a->sequence + 1,
					.bytes = COMMIT_HEADER_BYTES + heads->len,
					.records = 1,
					.previous_end = live->previous_end,
					.synced_end = live->synced_end };
	char bytes[COMMIT_HEADER_BYTES];
	uint32_t own = a->logs[a->log_count - 1].number;

	commit_header_put(&header, buf_slice(heads), a->salt, own, live->log_at, bytes);
	struct iovec iov[2] = { { bytes, sizeof(bytes) }, { heads->ptr, heads->len } };
	int r = file_commit(live->log_fd, iov, 2, live->log_at);
	if (r < 0)
		return err_from_errno(-r);
	enum err e = fence_look(live->dir_fd, live->log_fd, live->own_name, live->next_name);
	if (e != OK)
		return e;
	uint64_t at = live->log_at;
	live->log_at = live->previous_end = live->synced_end = at + header.bytes;
	commit_synced(a, live);
	a->logs[a->log_count - 1].end = live->log_at;
	e = apply_commit(a, own, at, &header, buf_slice(heads));
	ASSERT(e == OK);
	return OK;
}

enum err own_seal(struct account *a, struct account_live *live, enum seal_reason reason)
{
	struct seal_fixed seal = {
		.reason = reason, .wall_ms = clock_wall_ms(), .messages = a->messages, .bytes = a->bytes
	};
	uint64_t end = live->synced_end;
	struct buf heads;
	enum err e;

	ASSERT(a->state == ACCOUNT_OWNED && live->log_fd >= 0);
	buf_init(&heads, KIB(1));
	if (!seal_put(&heads, &seal))
		UNREACHABLE();
	e = append_alone(a, live, &heads);
	buf_release(&heads);
	if (e == ERR_FENCED) {
		own_lost(a, "the look found another owner");
	} else if (e != OK) {
		/* whether the seal is on disk is not known: a log that says where this one ended takes its place */
		enum err rolled = own_roll(a, live, end, CUT_FAILED_SYNC);
		return rolled == OK ? e : rolled;
	} else {
		file_close(live->log_fd);
		live->log_fd = -1;
		a->state = ACCOUNT_SEALED;
	}
	return e;
}

enum err own_roll(struct account *a, struct account_live *live, uint64_t end, uint32_t flags)
{
	uint32_t number = a->logs[a->log_count - 1].number + 1;
	enum err e;
	int fd;

	ASSERT(a->state != ACCOUNT_LOST && a->log_count > 0);
	a->logs[a->log_count - 1].end = end;
	e = number == LOG_NUMBER_MAX ? ERR_LIMIT : fence_make(live->dir_fd, number, &fd); /* F2 to F4; F5 is known */
	if (e == OK)
		e = cut_and_own(a, live, number, fd, flags, slice_of(NULL, 0)); /* F6, F8 */
	if (e == ERR_FENCED) {
		own_lost(a, "somebody else made the next log");
	} else if (e != OK) {
		a->read_only = true;
		a->keep = true;
		log_event(LOG_ALARM, "store.read_only", LOG_U64("account", a->id), LOG_ERR(e));
	}
	return e;
}

/* ---- descriptors given up and taken again ---- */

/* What a full disk left behind the last commit: ranges that were given up, each as long as its header says. */
static uint64_t behind_leavings(const struct account *a, int fd, uint64_t at, uint64_t file_bytes)
{
	uint32_t own = a->logs[a->log_count - 1].number;
	struct commit_header header;
	char bytes[COMMIT_HEADER_BYTES];

	while (at < file_bytes && file_read(fd, bytes, sizeof(bytes), at) == (int64_t)sizeof(bytes) &&
	       commit_header_get(bytes, a->salt, own, at, &header))
		at += header.bytes;
	return max_u64(at, format_pad8(file_bytes));
}

enum err own_reopen(struct account *a, struct account_live *live)
{
	const struct log own = a->logs[a->log_count - 1];
	struct file_info info;

	log_name(own.number, live->own_name);
	log_name(own.number + 1, live->next_name);
	int fd = file_open(live->dir_fd, live->own_name, O_RDWR, 0);
	if (fd < 0)
		return err_from_errno(-fd) == ERR_NOT_FOUND ? ERR_FENCED : err_from_errno(-fd);
	if (file_stat(fd, &info) < 0 || info.inode != own.inode || info.bytes < own.end) {
		file_close(fd);
		return ERR_FENCED; /* F10 */
	}
	live->log_fd = fd;
	live->previous_end = live->synced_end = own.end;
	live->log_at = behind_leavings(a, fd, own.end, info.bytes);
	return OK;
}
