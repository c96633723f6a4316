/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report: the figures of a run, for people and for programs.
 *
 * Text goes to standard output. JSON (--json FILE, or "-" instead of the text)
 * is one object; times in microseconds, names with their unit last. `server_us`
 * and `client_us` are CPU per operation in the measured window. A mix (options.h)
 * is {the run's figures, "streams": [a stream's figures, ...]}, each stream with
 * the buckets of its latencies.
 */
#ifndef BENCH_LOAD_REPORT_H
#define BENCH_LOAD_REPORT_H

#include "bench/load/engine.h"

void report_text(const struct options *o, const struct options *streams, unsigned count, const struct window *w, const struct result *r);

/* Ends the program when the file cannot be written. */
void report_json(const struct options *o, const struct options *streams, unsigned count, const struct window *w, const struct result *r);

#endif
