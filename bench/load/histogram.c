/* SPDX-License-Identifier: Apache-2.0 */
/* histogram: see histogram.h. */
#include "bench/load/histogram.h"

#include <math.h>

static unsigned bucket_of(uint64_t ns)
{
	unsigned msb = ns ? 63u - (unsigned)__builtin_clzll(ns) : 0;
	unsigned shift = msb > 6 ? msb - 6 : 0;

	if (shift > 35)
		return HISTOGRAM_BUCKETS - 1;
	return (shift << 6) + (unsigned)(ns >> shift);
}

uint64_t histogram_bucket_top(unsigned index)
{
	unsigned shift = index < 128 ? 0 : (index >> 6) - 1;
	uint64_t mantissa = index - (shift << 6);

	return ((mantissa + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->count++;
	h->sum += ns;
	if (ns > h->max)
		h->max = ns;
	h->bucket[bucket_of(ns)]++;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
	uint64_t wanted = (uint64_t)ceil((double)h->count * percent / 100.0);
	uint64_t seen = 0;

	if (!h->count)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen >= wanted && seen)
			return histogram_bucket_top(i) < h->max ? histogram_bucket_top(i) : h->max;
	}
	return h->max;
}

double histogram_mean(const struct histogram *h)
{
	return h->count ? (double)h->sum / (double)h->count : 0.0;
}
