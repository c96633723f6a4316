/* SPDX-License-Identifier: Apache-2.0 */
/* verb.c - see verb.h. */
#include "net/verb.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "net/session.h"

#include <pthread.h>
#include <stdio.h>

METRIC_COUNTER(slow, "slow_commands_total", "Commands that took log.slow_ms or longer");

const char *const verb_wait_words[FIBER_WAITS] = { [FIBER_WAIT_STORE] = "store", [FIBER_WAIT_DIRECTORY] = "directory", [FIBER_WAIT_REDIS] = "redis",
						    [FIBER_WAIT_HASH] = "hash" };

/* The linker's array of all definitions; weak, because a program may have none. */
extern const struct verbs *const __start_penfold_verbs[] __attribute__((weak));
extern const struct verbs *const __stop_penfold_verbs[] __attribute__((weak));

static uint64_t slow_ns = UINT64_MAX; /* atomic */

/* The last slow ones: a lock, because they are rare, and text. */
static struct {
	pthread_mutex_t lock;
	struct verb_slow last[VERB_SLOW_KEPT];
	uint64_t count;
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* How many lines this second; each line is its shard's own. */
static struct {
	_Alignas(64) uint64_t second;
	unsigned lines;
} said[SHARDS_MAX];

void verb_set_slow_ms(uint32_t ms) { __atomic_store_n(&slow_ns, ms ? (uint64_t)ms * 1000000 : UINT64_MAX, __ATOMIC_RELAXED); }

/* ---- timing ---- */

void verb_is(const struct verbs *verbs, unsigned index)
{
	struct verb_run *run = fiber_local();
	ASSERT(index < verbs->count);
	if (!run)
		return;
	run->verbs = verbs;
	run->index = index;
}

void verb_begin(struct verb_run *run)
{
	run->verbs = NULL;
	run->before = fiber_waited();
	run->begin_ns = clock_fresh_ns();
	fiber_set_local(run);
}

static inline void add(uint64_t *cell, uint64_t n) { __atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED); }

static unsigned bucket_of(uint64_t ns)
{
	unsigned bits = ns > 1 ? 64 - (unsigned)__builtin_clzll(ns - 1) : 0; /* ns <= 2^bits */
	return bits <= VERB_FIRST_BITS ? 0 : (unsigned)min_u64(bits - VERB_FIRST_BITS, VERB_BUCKETS - 1);
}

static bool may_say(void)
{
	uint64_t second = clock_now_ms() / 1000;
	unsigned me = shard_index();
	if (said[me].second != second)
		said[me].lines = 0;
	said[me].second = second;
	return said[me].lines++ < VERB_SLOW_LINES;
}

static void copy_name(char out[ROSTER_NAME_BYTES_MAX], struct slice name)
{
	size_t len = min_size(name.len, ROSTER_NAME_BYTES_MAX - 1);
	if (len)
		memcpy(out, name.ptr, len);
	out[len] = 0;
}

static void keep(const struct verb_slow *one)
{
	pthread_mutex_lock(&kept.lock);
	kept.last[kept.count++ % VERB_SLOW_KEPT] = *one;
	pthread_mutex_unlock(&kept.lock);
}

static void tell(const struct verb_run *run, const struct session *s, uint64_t took_ns)
{
	struct fiber_waited now = fiber_waited();
	struct session_facts facts = { 0 };
	struct verb_slow one = { .session = s->id, .took_ms = took_ns / 1000000, .at_wall_ms = clock_wall_ms(), .protocol = s->proto->name,
				 .verb = run->verbs->name(run->index) };
	if (s->proto->describe)
		s->proto->describe(s, &facts);
	for (unsigned i = 0; i < FIBER_WAITS; i++)
		one.waited_ms[i] = (now.ns[i] - run->before.ns[i]) / 1000000;
	copy_name(one.account, facts.login);
	copy_name(one.tenant, facts.tenant);
	memcpy(one.peer, s->peer, sizeof one.peer);
	metric_inc(&slow);
	keep(&one);
	if (may_say())
		log_event(LOG_WARN, "net.slow", LOG_U64("session", s->id), LOG_Z("peer", s->peer), LOG_Z("protocol", one.protocol), LOG_Z("verb", one.verb),
			  LOG_U64("ms", one.took_ms), LOG_STR("tenant", facts.tenant), LOG_STR("user", facts.login),
			  LOG_U64("store_ms", one.waited_ms[FIBER_WAIT_STORE]), LOG_U64("directory_ms", one.waited_ms[FIBER_WAIT_DIRECTORY]),
			  LOG_U64("redis_ms", one.waited_ms[FIBER_WAIT_REDIS]), LOG_U64("hash_ms", one.waited_ms[FIBER_WAIT_HASH]));
}

void verb_end(struct verb_run *run, const struct session *s)
{
	fiber_set_local(NULL);
	if (!run->verbs)
		return;
	uint64_t took_ns = clock_fresh_ns() - run->begin_ns;
	struct verb_cells *cells = &run->verbs->cells[shard_index() * run->verbs->count + run->index];
	add(&cells->sum_ns, took_ns);
	add(&cells->bucket[bucket_of(took_ns)], 1);
	if (UNLIKELY(took_ns >= __atomic_load_n(&slow_ns, __ATOMIC_RELAXED)))
		tell(run, s, took_ns);
}

/* ---- reading ---- */

static void add_up(const struct verbs *v, unsigned index, struct verb_figure *out)
{
	*out = (struct verb_figure){ .protocol = v->protocol, .verb = v->name(index) };
	for (unsigned shard = 0; shard < SHARDS_MAX; shard++) {
		const struct verb_cells *c = &v->cells[shard * v->count + index];
		out->cells.sum_ns += __atomic_load_n(&c->sum_ns, __ATOMIC_RELAXED);
		for (unsigned i = 0; i < VERB_BUCKETS; i++)
			out->cells.bucket[i] += __atomic_load_n(&c->bucket[i], __ATOMIC_RELAXED);
	}
	for (unsigned i = 0; i < VERB_BUCKETS; i++)
		out->count += out->cells.bucket[i];
}

void verbs_walk(void (*visit)(void *arg, const struct verb_figure *figure), void *arg)
{
	for (const struct verbs *const *v = __start_penfold_verbs; v && v < __stop_penfold_verbs; v++)
		for (unsigned i = 0; i < (*v)->count; i++) {
			struct verb_figure figure;
			add_up(*v, i, &figure);
			visit(arg, &figure);
		}
}

uint64_t verb_quantile_ns(const struct verb_figure *figure, unsigned permille)
{
	uint64_t seen = 0, rank = figure->count / 1000 * permille + (figure->count % 1000 * permille + 999) / 1000;
	for (unsigned i = 0; i < VERB_BUCKETS; i++) {
		seen += figure->cells.bucket[i];
		if (seen && seen >= rank)
			return UINT64_C(1) << (VERB_FIRST_BITS + i);
	}
	return 0;
}

unsigned verb_slow_last(struct verb_slow out[VERB_SLOW_KEPT])
{
	pthread_mutex_lock(&kept.lock);
	unsigned count = (unsigned)min_u64(kept.count, VERB_SLOW_KEPT);
	for (unsigned i = 0; i < count; i++)
		out[i] = kept.last[(kept.count - 1 - i) % VERB_SLOW_KEPT];
	pthread_mutex_unlock(&kept.lock);
	return count;
}
