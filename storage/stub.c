/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stub.c - compact.h's C5 and C6: stubs take the victims' names, and leave.
 */
#include "storage/compact.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/own.h"

#include <errno.h>
#include <stdlib.h>

#define STUB_NEW_NAME "stub.new"

METRIC_COUNTER(stubs, "store_stubs_total", "logs that became stubs");

struct held_check {
	const struct compaction *c;
	bool held;
};

static bool check_held(void *arg, struct row *row)
{
	struct held_check *h = arg;
	h->held = compaction_is_victim(h->c, row->record_log) || compaction_is_victim(h->c, row->body_log);
	return !h->held;
}

bool stub_held(const struct compaction *c)
{
	struct held_check h = { c, false };
	for (uint32_t i = 0; i < c->a->folder_count && !h.held; i++)
		rows_each_held(&c->a->folders[i]->rows, check_held, &h);
	/* a deleted folder that views still show is not in the list, but its views hold the account's logs as much */
	return h.held || c->a->gone_folders > 0;
}

/* One whole synced record: a commit of its own at the beginning of a new file. */
static int write_stub(const struct compaction *c, int fd, uint32_t log)
{
	struct stub_fixed stub = { .log = log, .relocated_to = c->a->logs[c->a->log_count - 1].number, .sequence = c->sequence };
	struct commit_header header = { .sequence = c->sequence, .records = 1 };
	char bytes[COMMIT_HEADER_BYTES];
	struct buf heads;
	memcpy(stub.incarnation, store_self()->incarnation, sizeof(stub.incarnation));
	buf_init(&heads, KIB(1));
	if (!stub_put(&heads, &stub))
		UNREACHABLE();
	header.bytes = COMMIT_HEADER_BYTES + heads.len;
	commit_header_put(&header, buf_slice(&heads), c->a->salt, log, 0, bytes);
	struct iovec iov[2] = { { bytes, sizeof(bytes) }, { heads.ptr, heads.len } };
	int r = file_commit(fd, iov, 2, 0);
	buf_release(&heads);
	return r;
}

static int stub_take_name(const struct compaction *c, int dir_fd, uint32_t log)
{
	char name[LOG_NAME_BYTES];
	log_name(log, name);
	int r = file_unlink(dir_fd, STUB_NEW_NAME);
	if (r < 0 && r != -ENOENT)
		return r;
	int fd = file_create_excl(dir_fd, STUB_NEW_NAME, 0600);
	if (fd < 0)
		return fd;
	r = write_stub(c, fd, log);
	file_close(fd);
	return r < 0 ? r : file_rename(dir_fd, STUB_NEW_NAME, dir_fd, name);
}

enum err stub_victims(struct compaction *c, int dir_fd)
{
	uint32_t taken = 0;
	int r = 0;
	ASSERT(c->sequence > 0); /* the relocation was committed, so it passed the look (F12) */
	for (uint32_t i = 0; i < c->victim_count && r >= 0; i++) {
		/* a client of a shared store would rename a file that it has open away first, and the name would be gone for a moment */
		bool idle = source_forget_log(c->a, c->victims[i].number);
		if (!idle && file_shared()) {
			c->victim_count = i;
			break;
		}
		r = stub_take_name(c, dir_fd, c->victims[i].number);
		taken += r >= 0;
	}
	if (taken > 0) {
		int sync = file_sync_dir(dir_fd);
		if (sync < 0) { /* whether the stubs are there is not known any more: what is must be read again */
			own_lost(c->a, "the directory could not be synced");
			return ERR_IO;
		}
	}
	for (uint32_t i = 0; i < taken; i++) {
		struct log *log = account_log(c->a, c->victims[i].number);
		ASSERT(log != NULL && !log->stub);
		log->stub = true; /* now it counts (F12) */
		log->end = 0;
		log->live_bytes = 0;
		metric_inc(&stubs);
	}
	return r < 0 ? err_from_errno(-r) : OK;
}

/* The lowest name is a stub, or the empty log of somebody who slept. */
static bool lowest_is_empty(const struct account *a)
{
	return a->log_count > 1 && a->logs[0].end == 0 && !a->logs[0].damaged;
}

void stub_sweep(struct account *a, int dir_fd)
{
	char name[LOG_NAME_BYTES];
	while (a->state == ACCOUNT_OWNED && lowest_is_empty(a)) {
		uint32_t number = a->logs[0].number;
		log_name(number, name);
		int r = file_unlink(dir_fd, name);
		if ((r < 0 && r != -ENOENT) || a->logs[0].number != number)
			return;
		memmove(a->logs, a->logs + 1, --a->log_count * sizeof(*a->logs));
	}
}
