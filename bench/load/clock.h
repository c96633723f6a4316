/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: the one clock of the load generator, and its dice.
 *
 * Nanoseconds of CLOCK_MONOTONIC. Every latency, deadline and arrival time in
 * bench/load is a difference of two such values. Completes now.
 */
#ifndef BENCH_LOAD_CLOCK_H
#define BENCH_LOAD_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NS_PER_S 1000000000ull

static inline uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline double ns_to_s(uint64_t ns)
{
	return (double)ns / 1e9;
}

/* The next of a sequence of numbers uniform in 0..1, both excluded (splitmix64). */
static inline double random_share(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15ull;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
	return ((double)((x ^ (x >> 31)) >> 11) + 0.5) / 9007199254740992.0;
}

#endif
