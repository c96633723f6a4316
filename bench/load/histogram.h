/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram: latencies, counted in log-linear buckets.
 *
 * A value up to 127 has a bucket of its own; above that every power of two is
 * cut into 64 equal buckets, so that any percentile is read with an error below
 * 1.6 % and the whole thing is one array of fixed size. Values are nanoseconds;
 * what exceeds the top (2^42 ns, 73 minutes) is counted in the last bucket.
 * The maximum is kept exactly. Embedded; nothing to release; nothing fails.
 */
#ifndef BENCH_LOAD_HISTOGRAM_H
#define BENCH_LOAD_HISTOGRAM_H

#include <stdint.h>

/* 2^42 is the first value beyond: shifts 0..35, 64 buckets each, and the 64
 * extra ones of shift 0. */
#define HISTOGRAM_BUCKETS (36 * 64 + 64)

struct histogram {
	uint64_t count;
	uint64_t sum;
	uint64_t max;
	uint64_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/* The smallest bucket's upper end that at least `percent` (0..100) of all
 * values do not exceed; never above the true maximum. 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

/* The largest value that bucket `index` counts. */
uint64_t histogram_bucket_top(unsigned index);

/* The mean in nanoseconds; 0 when empty. */
double histogram_mean(const struct histogram *h);

#endif
