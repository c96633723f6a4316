/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock: the one clock of the load generator.
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

#endif
