/* SPDX-License-Identifier: Apache-2.0 */
/* purge.c - see purge.h. */
#include "net/server/purge.h"

#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/fleet/owner.h"
#include "storage/store.h"
#include "tenancy/directory.h"

#define PURGE_LOOK_MS 5000   /* nobody waits for it */
#define PURGE_AGAIN_MS 60000 /* for what was in use */

/* Shard 0's. */
static struct {
	struct timer timer;
	uint64_t seen_changes, again_ms;
	bool busy, stopping;
	struct waitq idle;
} purge;

struct destroying {
	uint64_t account_id;
	enum err result;
};

static void destroy(void *arg)
{
	struct destroying *d = arg;
	/* a shard that ends may have put its store away already */
	d->result = shard_stopping() ? ERR_BUSY : owner_destroy(d->account_id);
}

/* One account; false when the directory or the owner cannot be asked now. */
static bool purge_one(uint64_t account_id)
{
	struct destroying d = { account_id, OK };
	if (shard_call(store_shard_of(account_id), "purge", destroy, &d))
		return false;
	if (d.result == OK || d.result == ERR_NOT_FOUND) { /* not found: it never got a message */
		log_event(LOG_INFO, "account.purged", LOG_U64("account", account_id));
		return directory_purge_done(account_id) == OK;
	}
	/* In use: its sessions may go on until they end, then its turn comes. */
	if (d.result == ERR_BUSY || d.result == ERR_TEMP)
		return false;
	if (d.result != ERR_IN_USE)
		log_event(LOG_ERROR, "account.purge_failed", LOG_U64("account", account_id), LOG_ERR(d.result));
	return true;
}

static void look(void *arg)
{
	(void)arg;
	uint64_t id = 0;
	while (!purge.stopping && directory_purge_next(id, &id) == OK && purge_one(id))
		;
	purge.busy = false;
	if (purge.stopping)
		waitq_wake_all(&purge.idle);
	else
		timer_set(&purge.timer, PURGE_LOOK_MS);
}

static void due(struct timer *t)
{
	struct directory_stats s;
	directory_stats(&s);
	bool reason = s.changes != purge.seen_changes || clock_now_ms() >= purge.again_ms;
	if (reason && fiber_start("purge", look, NULL) == OK) {
		purge.seen_changes = s.changes;
		purge.again_ms = clock_now_ms() + PURGE_AGAIN_MS;
		purge.busy = true;
		return;
	}
	timer_set(t, PURGE_LOOK_MS);
}

void purge_start(void)
{
	if (shard_index() != 0)
		return;
	purge.busy = purge.stopping = false;
	purge.again_ms = 0; /* what was marked while no server ran */
	waitq_init(&purge.idle);
	timer_init(&purge.timer, due);
	timer_set(&purge.timer, PURGE_LOOK_MS);
}

void purge_stop(void)
{
	if (shard_index() != 0)
		return;
	purge.stopping = true;
	timer_clear(&purge.timer);
	while (purge.busy)
		waitq_wait(&purge.idle, 0);
}
