/* SPDX-License-Identifier: Apache-2.0 */
/* probe.c - see probe.h. */
#include "net/server/probe.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/server/drain.h"
#include "tenancy/directory.h"

#include <pthread.h>
#include <stdio.h>
#include <time.h>

static struct {
	unsigned shards;
	uint64_t loop_ns, opened_ns;
	/* atomic from here */
	uint32_t started, stopping;
	uint64_t pulse_ns[SHARDS_MAX], answered_ns;
} probe;

static pthread_mutex_t shards_stay = PTHREAD_MUTEX_INITIALIZER;

static struct {
	struct timer timer;
	uint64_t questions, asked_ms;
	bool busy, on;
} part[SHARDS_MAX];

#define GET(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define SET(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELEASE)

/* Not a shard's clock: that of one that hangs stands still. */
uint64_t probe_boot_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void probe_set_pulse(unsigned shard, uint64_t at_ns) { SET(probe.pulse_ns[shard], at_ns); }

void probe_begin(void) { __atomic_fetch_add(&probe.started, 1, __ATOMIC_ACQ_REL); }

/* ---- on the shards ---- */

/* A name that nobody asked for before, so that the directory itself must say that it serves no such domain. */
static void ask(void *arg)
{
	char name[64];
	bool served;
	(void)arg;
	int len = snprintf(name, sizeof name, "probe-%llu.invalid", (unsigned long long)++part[0].questions);
	if (directory_domain(slice_of(name, (size_t)len), &served) == OK)
		SET(probe.answered_ns, probe_boot_ns());
	part[0].busy = false;
}

static void beat(struct timer *t)
{
	unsigned me = shard_index();
	probe_set_pulse(me, probe_boot_ns());
	timer_set(t, HTTP_PULSE_MS);
	if (me != 0 || part[0].busy || clock_now_ms() < part[0].asked_ms + PROBE_ASK_MS)
		return;
	part[0].asked_ms = clock_now_ms();
	part[0].busy = fiber_start("probe", ask, NULL) == OK;
}

void probe_open(unsigned shards, uint32_t loop_s)
{
	probe.shards = shards;
	probe.loop_ns = (uint64_t)loop_s * 1000000000;
	probe.opened_ns = probe_boot_ns();
	SET(probe.started, 0);
	SET(probe.stopping, 0);
	SET(probe.answered_ns, 0);
}

void probe_start(void)
{
	unsigned me = shard_index();
	part[me].busy = false;
	part[me].asked_ms = 0;
	timer_init(&part[me].timer, beat);
	if (me == 0)
		ask(NULL);
	probe_set_pulse(me, probe_boot_ns());
	timer_set(&part[me].timer, HTTP_PULSE_MS);
	probe_begin();
}

void probe_stop(void)
{
	pthread_mutex_lock(&shards_stay); /* for as long as a scrape copies numbers */
	SET(probe.stopping, 1);
	pthread_mutex_unlock(&shards_stay);
	timer_clear(&part[shard_index()].timer);
	while (part[shard_index()].busy)
		fiber_sleep(10);
}

/* ---- answers ---- */

bool probe_started(void) { return probe.shards && GET(probe.started) >= probe.shards; }

unsigned probe_hold(void)
{
	pthread_mutex_lock(&shards_stay);
	return probe_started() && !GET(probe.stopping) ? probe.shards : 0;
}

void probe_let(void) { pthread_mutex_unlock(&shards_stay); }

uint64_t probe_uptime_s(void) { return (probe_boot_ns() - probe.opened_ns) / 1000000000; }

static bool say(const char **why_out, const char *why)
{
	if (why_out)
		*why_out = why;
	return false;
}

bool probe_alive(const char **why_out)
{
	uint64_t now = probe_boot_ns();
	if (!probe_started() || GET(probe.stopping)) /* a start reads much, a stop writes much: neither is a reason to be killed */
		return true;
	for (unsigned i = 0; i < probe.shards; i++) {
		uint64_t pulse = GET(probe.pulse_ns[i]);
		if (now > pulse && now - pulse > probe.loop_ns)
			return say(why_out, "a shard does not turn");
	}
	return true;
}

bool probe_ready(const char **why_out)
{
	if (!probe_started())
		return say(why_out, "starting");
	if (GET(probe.stopping))
		return say(why_out, "stopping");
	if (drain_wanted())
		return say(why_out, "draining");
	if (probe_boot_ns() - GET(probe.answered_ns) > PROBE_ASK_S_MAX * 1000000000ull)
		return say(why_out, "the directory does not answer");
	return probe_alive(why_out);
}
