/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain.c - see drain.h.
 *
 * Each shard looks at the process's wish every DRAIN_TICK_MS.  Of its sessions it ends as many a tick as must go for the last to be told
 * at the end of the time: sessions that end by themselves make the others' turns come later, never earlier than a steady pace.
 */
#include "net/server/drain.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/listen.h"
#include "net/roster.h"

/* Atomic. */
static struct {
	uint32_t wanted;
	uint64_t begun_ms, grace_ms, spread_ms;
} drain;

static struct {
	struct timer timer;
	bool on, paused, busy;
	uint32_t left; /* atomic: sessions, and one while connections are still taken */
} part[SHARDS_MAX];

#define GET(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SET(x, v) __atomic_store_n(&(x), (v), __ATOMIC_SEQ_CST)

bool drain_wanted(void) { return GET(drain.wanted); }

enum drain_state drain_now(void)
{
	if (!drain_wanted())
		return DRAIN_NONE;
	if (clock_now_ms() < GET(drain.begun_ms) + GET(drain.grace_ms))
		return DRAIN_GRACE;
	for (unsigned i = 0; i < shard_count(); i++)
		if (GET(part[i].left))
			return DRAIN_ENDING;
	return DRAIN_DONE;
}

/* ---- on each shard ---- */

static void end_some(uint64_t end_ms)
{
	uint64_t sessions, ending, now_ms = clock_now_ms();
	roster_count_here(&sessions, &ending);
	uint64_t ticks = now_ms < end_ms ? (end_ms - now_ms) / DRAIN_TICK_MS + 1 : 1, waiting = sessions - ending;
	roster_end_oldest((size_t)((waiting + ticks - 1) / ticks), "drain");
	SET(part[shard_index()].left, (uint32_t)sessions);
}

static void tick(void *arg)
{
	unsigned me = shard_index();
	(void)arg;
	bool wanted = drain_wanted();
	uint64_t from_ms = GET(drain.begun_ms) + GET(drain.grace_ms);
	if (!wanted && part[me].paused) {
		listeners_resume();
		part[me].paused = false;
	}
	if (wanted && clock_now_ms() >= from_ms) {
		if (!part[me].paused)
			listeners_pause();
		part[me].paused = true;
		end_some(from_ms + GET(drain.spread_ms));
	} else {
		SET(part[me].left, 1);
	}
	if (part[me].on)
		timer_set(&part[me].timer, DRAIN_TICK_MS);
	part[me].busy = false;
}

static void due(struct timer *t)
{
	unsigned me = shard_index();
	if (!drain_wanted() && !part[me].paused) { /* nearly always: no fiber for that */
		timer_set(t, DRAIN_TICK_MS);
		return;
	}
	part[me].busy = true;
	if (fiber_start("drain", tick, NULL) != OK) {
		part[me].busy = false;
		timer_set(t, DRAIN_TICK_MS);
	}
}

void drain_start(void)
{
	unsigned me = shard_index();
	part[me].on = true;
	part[me].paused = part[me].busy = false;
	SET(part[me].left, 1);
	timer_init(&part[me].timer, due);
	timer_set(&part[me].timer, DRAIN_TICK_MS);
}

void drain_stop(void)
{
	unsigned me = shard_index();
	part[me].on = false;
	timer_clear(&part[me].timer);
	while (part[me].busy) /* it waits for nothing: a turn or two */
		fiber_yield();
}

/* ---- from anywhere ---- */

bool drain_begin(uint32_t grace_ms, uint32_t spread_ms)
{
	if (drain_wanted())
		return false;
	SET(drain.grace_ms, grace_ms);
	SET(drain.spread_ms, spread_ms);
	SET(drain.begun_ms, clock_now_ms());
	for (unsigned i = 0; i < shard_count(); i++)
		SET(part[i].left, 1);
	SET(drain.wanted, 1);
	log_event(LOG_INFO, "server.drain", LOG_U64("grace_ms", grace_ms), LOG_U64("spread_ms", spread_ms));
	return true;
}

bool drain_end(void)
{
	if (!drain_wanted())
		return false;
	SET(drain.wanted, 0);
	log_event(LOG_INFO, "server.undrain");
	return true;
}
