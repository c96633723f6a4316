/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.h - counters, gauges and histograms: written by the thread that sees the event, summed by whoever reads.
 *
 *     METRIC_COUNTER(pop3_logins, "pop3_logins_total", "POP3 sessions that reached the TRANSACTION state");
 *     METRIC_HISTOGRAM(commit_ns, "store_commit_ns", "from queueing to the sync's completion, in nanoseconds");
 *     ...  metric_inc(&pop3_logins);  metric_record(&commit_ns, ns);
 *
 * A definition at file scope is all: the linker collects them.  Counting touches only the thread's own cells (a plain add,
 * no lock, no shared cache line); every thread's cells live as long as the process, so nothing is lost when one ends.
 * Readers add up all threads' cells; a sum taken while others count is at most a moment old, cell by cell.
 *
 * A histogram is log-linear: values below 16 exactly, then 16 steps for each power of two (an error of at most 1/16) up to
 * 2^40, above which values count as 2^40 (in nanoseconds: 18 minutes).
 *
 * All calls complete now; none fails.  Names are unique (checked at the start) and sorted where they are listed.
 */
#ifndef PENFOLD_CORE_BASE_METRICS_H
#define PENFOLD_CORE_BASE_METRICS_H

#include "core/base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum metric_kind { METRIC_KIND_COUNTER, METRIC_KIND_GAUGE, METRIC_KIND_HISTOGRAM };

struct metric {
	const char *name, *help;
	enum metric_kind kind;
	uint32_t cell; /* first of its cells; given at the start */
};

#define METRIC_DEFINE(var, name, help, kind)                \
	static struct metric var = { name, help, kind, 0 }; \
	static struct metric *const metric_entry_##var __attribute__((section("penfold_metrics"), used)) = &var
#define METRIC_COUNTER(var, name, help) METRIC_DEFINE(var, name, help, METRIC_KIND_COUNTER)     /* only grows */
#define METRIC_GAUGE(var, name, help) METRIC_DEFINE(var, name, help, METRIC_KIND_GAUGE)         /* up and down */
#define METRIC_HISTOGRAM(var, name, help) METRIC_DEFINE(var, name, help, METRIC_KIND_HISTOGRAM) /* metric_record only */

void metric_add(const struct metric *m, int64_t n);
static inline void metric_inc(const struct metric *m) { metric_add(m, 1); }
static inline void metric_dec(const struct metric *m) { metric_add(m, -1); } /* gauges */
void metric_record(const struct metric *m, uint64_t value);

/* ---- reading ---- */
struct metric_value {
	const struct metric *metric;
	int64_t value; /* counters and gauges */
	/* histograms */
	uint64_t count, sum, max; /* sum and max of the values as given, max to the step's upper end */
	uint64_t p50, p90, p99, p999;
};
struct metric_value metric_read(const struct metric *m);
/* Every metric, in the order of names. */
void metrics_walk(void (*visit)(void *arg, const struct metric_value *v), void *arg);
/* The same, unread. */
void metrics_each(void (*visit)(void *arg, const struct metric *m), void *arg);
size_t metrics_count(void);

/* The steps of a histogram, for who keeps one of his own (a load generator). */
#define HISTOGRAM_STEPS 592 /* 16 + 36 * 16 */
unsigned histogram_step(uint64_t value);
uint64_t histogram_upper(unsigned step); /* the largest value that counts there */
/* A histogram's counts by step; returns the sum of its values. */
uint64_t metric_steps(const struct metric *m, uint64_t steps_out[HISTOGRAM_STEPS]);
/* The value below or at which `permille` of `count` values lie. */
uint64_t histogram_quantile(const uint64_t steps[HISTOGRAM_STEPS], uint64_t count, unsigned permille);

#ifdef __cplusplus
}
#endif
#endif
