/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb.h - how long the commands of a protocol take, by verb, and the one line for each that took too long.
 *
 *     VERBS_DEFINE(pop3_verbs, "pop3", VERBS, name_of);          in the protocol; `.verbs = &pop3_verbs` in its struct proto
 *     verb_is(&pop3_verbs, index);                               by a handler, once it knows what it carries out
 *
 * A handler's call is timed by session.c from its begin to its return, on its fiber: the waits that are ours are in it (store, directory,
 * Redis, hash), the client's are not.  A command that goes on after the client has taken some of its output counts with its first call,
 * a login that moves to another shard counts there once more as the verb "enter".  A call that names no verb counts nowhere.
 *
 * Counting is plain additions in cells of the calling shard, one bucket for each power of two from about a microsecond (VERB_FIRST_BITS) up; readers add the
 * shards up and are at most a moment behind.
 *
 * At and above verb_set_slow_ms a line "net.slow" tells who, which verb, how long, and how much of that was waited for what; at most
 * VERB_SLOW_LINES a second and shard, the rest is counted.  The last VERB_SLOW_KEPT are kept for the status page.
 */
#ifndef PENFOLD_NET_VERB_H
#define PENFOLD_NET_VERB_H

#include "core/base/limits.h"
#include "core/run/fiber.h"

struct session;

#define VERB_FIRST_BITS 10
#define VERB_BUCKETS 28 /* up to 2^10 ns, 2^11, ... 2^36 ns (69 s); the last: above */

struct verb_cells {
	uint64_t sum_ns, bucket[VERB_BUCKETS];
};

struct verbs {
	const char *protocol;
	unsigned count;
	const char *(*name)(unsigned index); /* a static word */
	struct verb_cells *cells;            /* of shard 0, then of shard 1, ... */
};
#define VERBS_DEFINE(var, protocol, count, name)                                                         \
	static struct verb_cells var##_cells[SHARDS_MAX * (count)];                                      \
	static const struct verbs var = { protocol, count, name, var##_cells };                          \
	static const struct verbs *const verbs_entry_##var __attribute__((section("penfold_verbs"), used)) = &var

/* Now, in a handler. Where nobody times it does nothing. */
void verb_is(const struct verbs *verbs, unsigned index);

/* ---- for session.c ---- */

struct verb_run {
	const struct verbs *verbs; /* NULL: none was named */
	unsigned index;
	uint64_t begin_ns;
	struct fiber_waited before;
};
/* Around a handler's call, on its fiber. */
void verb_begin(struct verb_run *run);
void verb_end(struct verb_run *run, const struct session *s);

/* 0: nothing is slow. Any thread. */
void verb_set_slow_ms(uint32_t ms);

/* ---- reading: any thread ---- */

struct verb_figure {
	const char *protocol, *verb;
	uint64_t count;
	struct verb_cells cells;
};
/* Verbs of all protocols, whether they have been used or not. */
void verbs_walk(void (*visit)(void *arg, const struct verb_figure *figure), void *arg);
/* The upper end of the bucket in which that share lies, at most an hour; 0 without any. */
uint64_t verb_quantile_ns(const struct verb_figure *figure, unsigned permille);

struct verb_slow {
	uint64_t session, took_ms, waited_ms[FIBER_WAITS];
	int64_t at_wall_ms;
	const char *protocol, *verb;
	char account[ROSTER_NAME_BYTES_MAX], tenant[ROSTER_NAME_BYTES_MAX]; /* cut if longer; empty: nobody is logged in */
	char peer[48];
};
/* The last slow commands, newest first; returns how many. */
unsigned verb_slow_last(struct verb_slow out[VERB_SLOW_KEPT]);
extern const char *const verb_wait_words[FIBER_WAITS]; /* "store" */

#endif
