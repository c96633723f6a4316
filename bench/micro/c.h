/* SPDX-License-Identifier: Apache-2.0 */
/*
 * c.h - the house's faces as C++ sees them, for Google Benchmark.
 *
 * Everything in one extern "C" block; also what a face keeps to its own room (the wheel), since
 * a benchmark times the inside.  BENCH_FIBER runs a case's loop on a fiber of a shard of its own,
 * which is where calls that may wait must be made.
 */
#ifndef PENFOLD_BENCH_MICRO_C_H
#define PENFOLD_BENCH_MICRO_C_H

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

extern "C" {
#include "core/base/bytes.h"
#include "core/base/limits.h"
}

#define BENCH_CHECK(cond) ((cond) ? (void)0 : (void)(fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond), abort()))

static inline struct slice slice_of_string(const std::string &s)
{
	return slice_of(s.data(), s.size());
}

#endif
