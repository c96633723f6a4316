/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sweep.c - the broom.
 *
 * A B file is an orphan if no message names its GUID, in any folder.  If one message cannot be asked (its record does not
 * read), nothing is taken for an orphan.
 */
#include "storage/sweep.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"

#include <errno.h>

METRIC_COUNTER(metric_orphans, "store_orphans_removed_total", "Files of large messages that no message named any more");

/* ---- logs ---- */

/* Lowest first (F12): what lies lowest and holds nothing was a stub, or the empty log of somebody who slept. */
static void sweep_logs(struct account *a, int dir_fd)
{
	while (a->log_count > 1 && a->logs[0].end == 0 && !a->logs[0].damaged) {
		char name[LOG_NAME_BYTES];
		uint32_t number = a->logs[0].number;
		log_name(number, name);
		int r = file_unlink(dir_fd, name);
		if (r < 0 && r != -ENOENT)
			return;
		if (a->logs[0].number != number)
			return; /* a compaction had the same thought */
		a->log_count--;
		memmove(a->logs, a->logs + 1, a->log_count * sizeof(*a->logs));
	}
}

/* ---- bodies ---- */

struct broom {
	struct buf guids; /* of B files, until a message names them */
};

static bool broom_add(void *arg, const char *name, bool is_dir)
{
	struct broom *b = arg;
	uint8_t guid[GUID_BYTES];

	return is_dir || !body_file_guid(name, guid) || buf_put(&b->guids, guid, sizeof(guid));
}

static void broom_spare(struct broom *b, const uint8_t guid[GUID_BYTES])
{
	for (size_t i = 0; i < b->guids.len; i += GUID_BYTES)
		if (memcmp(b->guids.ptr + i, guid, GUID_BYTES) == 0) {
			b->guids.len -= GUID_BYTES;
			memmove(b->guids.ptr + i, b->guids.ptr + b->guids.len, GUID_BYTES);
			return;
		}
}

static bool spare_folder(struct account *a, uint32_t id, struct broom *b)
{
	uint64_t uid = 1;

	for (;;) {
		const struct folder *f = account_folder(a, id); /* afresh: reading waits */
		const struct row *row = f && uid <= UINT32_MAX ? rows_from(&f->rows, (uint32_t)uid) : NULL;
		uint8_t guid[GUID_BYTES];
		if (!row)
			return true;
		struct row copy = *row;
		uid = (uint64_t)copy.uid + 1;
		if (!(copy.flags & ROW_EXTERNAL))
			continue;
		if (source_guid(a, &copy, guid) != OK)
			return false;
		broom_spare(b, guid);
	}
}

static bool spare_named(struct account *a, struct broom *b)
{
	for (uint32_t i = 0; i < a->folder_count; i++)
		if (!spare_folder(a, a->folders[i]->id, b))
			return false;
	return true;
}

/* A view may show a message that is expunged, and its body must stay. */
static bool views_open(const struct account *a)
{
	for (uint32_t i = 0; i < a->folder_count; i++)
		if (!list_empty(&a->folders[i]->rows.views))
			return true;
	return false;
}

static void sweep_bodies(struct account *a, int dir_fd)
{
	struct broom b;

	buf_init(&b.guids, SWEEP_BYTES_MAX);
	if (file_list(dir_fd, broom_add, &b) == 0 && b.guids.len > 0 && spare_named(a, &b) && !views_open(a)) {
		for (size_t i = 0; i < b.guids.len; i += GUID_BYTES) {
			char name[BODY_FILE_NAME_BYTES];
			body_file_name((const uint8_t *)b.guids.ptr + i, name);
			if (file_unlink(dir_fd, name) == 0)
				metric_inc(&metric_orphans);
		}
	}
	buf_release(&b.guids);
}

static bool sweep_may(const struct account *a)
{
	/* after damage, what names a body may be in the damaged range */
	return a->state == ACCOUNT_OWNED && !a->read_only && a->repair_count == 0 && a->linking == 0 && !a->sweeping &&
	       !views_open(a);
}

void sweep_after_takeover(struct account *a, struct account_live *live, const struct fence_names *names)
{
	sweep_logs(a, live->dir_fd);
	if (!names->bodies || !sweep_may(a))
		return;
	a->sweeping = true;
	sweep_bodies(a, live->dir_fd);
	a->sweeping = false;
}

static void sweep_fiber(void *arg)
{
	struct account *a = arg;
	struct account_live *live;

	if (sweep_may(a) && account_live_get(a, &live) == OK) {
		a->sweeping = true;
		a->orphans = false;
		sweep_bodies(a, live->dir_fd);
		a->sweeping = false;
		account_live_put(live);
	}
	account_unpin(a);
}

void sweep_begin(struct account *a)
{
	if (!sweep_may(a) || store_self()->stopping)
		return;
	account_pin(a);
	if (fiber_start("store.sweep", sweep_fiber, a) != OK)
		account_unpin(a); /* another time */
}

void sweep_hold(struct account *a)
{
	while (a->sweeping)
		fiber_sleep(SWEEP_WAIT_MS);
	a->linking++;
}

void sweep_release(struct account *a)
{
	ASSERT(a->linking > 0);
	a->linking--;
}
