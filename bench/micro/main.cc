/* SPDX-License-Identifier: Apache-2.0 */
/* micro: what single modules cost; bench/README.md.  --benchmark_filter=REGEX chooses. */
#include <benchmark/benchmark.h>

BENCHMARK_MAIN();
