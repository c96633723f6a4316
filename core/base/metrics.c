/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - see metrics.h. */
#include "core/base/metrics.h"
#include "core/base/limits.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STEPS_EXACT 16
#define TOP_BITS 40
static_assert_c(HISTOGRAM_STEPS == STEPS_EXACT + (TOP_BITS - 4) * 16, "steps from 2^4 up to 2^40");

/* A histogram's cells: its sum, then its steps. */
#define HISTOGRAM_CELLS (1 + HISTOGRAM_STEPS)

/* The linker's array of all definitions; weak, because a program may have none. */
extern struct metric *const __start_penfold_metrics[] __attribute__((weak));
extern struct metric *const __stop_penfold_metrics[] __attribute__((weak));

/* One thread's cells; all of them hang on a list that only grows. */
struct cells {
	struct cells *next;
	int64_t at[];
};
static struct cells *all_cells;
static _Thread_local struct cells *my_cells;
static uint32_t cell_count;
static struct metric **sorted;
static size_t sorted_count;

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct metric *const *)a)->name, (*(struct metric *const *)b)->name);
}

/* Before main: gives every metric its cells. */
__attribute__((constructor)) static void metrics_setup(void)
{
	size_t count = __start_penfold_metrics ? (size_t)(__stop_penfold_metrics - __start_penfold_metrics) : 0;
	if (!count)
		return;
	sorted = xmalloc(count * sizeof(struct metric *));
	memcpy(sorted, __start_penfold_metrics, count * sizeof(struct metric *));
	qsort(sorted, count, sizeof(struct metric *), by_name);
	for (size_t i = 0; i < count; i++) {
		ASSERT(i == 0 || strcmp(sorted[i - 1]->name, sorted[i]->name) != 0); /* unique names */
		sorted[i]->cell = cell_count;
		cell_count += sorted[i]->kind == METRIC_KIND_HISTOGRAM ? HISTOGRAM_CELLS : 1;
		ASSERT(cell_count <= METRIC_CELLS_MAX);
	}
	sorted_count = count;
}

__attribute__((noinline)) static struct cells *cells_open(void)
{
	struct cells *c = xcalloc(1, sizeof(*c) + cell_count * sizeof(c->at[0]));
	c->next = __atomic_load_n(&all_cells, __ATOMIC_RELAXED);
	while (!__atomic_compare_exchange_n(&all_cells, &c->next, c, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
		;
	my_cells = c;
	return c;
}

/* Only this thread writes the cell: a load and a store, atomic for the sake of readers. */
static inline void bump(uint32_t cell, int64_t n)
{
	struct cells *c = LIKELY(my_cells) ? my_cells : cells_open();
	int64_t was = __atomic_load_n(&c->at[cell], __ATOMIC_RELAXED);
	__atomic_store_n(&c->at[cell], (int64_t)((uint64_t)was + (uint64_t)n), __ATOMIC_RELAXED);
}

void metric_add(const struct metric *m, int64_t n)
{
	ASSERT_SLOW(m->kind == METRIC_KIND_GAUGE || (m->kind == METRIC_KIND_COUNTER && n >= 0));
	bump(m->cell, n);
}

void metric_record(const struct metric *m, uint64_t value)
{
	ASSERT(m->kind == METRIC_KIND_HISTOGRAM); /* its neighbours' cells are at stake */
	bump(m->cell, (int64_t)value);
	bump(m->cell + 1 + histogram_step(value), 1);
}

/* ---- histograms ---- */

unsigned histogram_step(uint64_t value)
{
	if (value < STEPS_EXACT)
		return (unsigned)value;
	if (value >> TOP_BITS)
		return HISTOGRAM_STEPS - 1;
	unsigned exponent = 63 - (unsigned)__builtin_clzll(value); /* 4 .. 39 */
	return (exponent - 3) * 16 + (unsigned)(value >> (exponent - 4)) - 16;
}

uint64_t histogram_upper(unsigned step)
{
	ASSERT(step < HISTOGRAM_STEPS);
	if (step < STEPS_EXACT)
		return step;
	unsigned shift = step / 16 - 1;
	return ((uint64_t)(step % 16 + 17) << shift) - 1;
}

uint64_t histogram_quantile(const uint64_t steps[HISTOGRAM_STEPS], uint64_t count, unsigned permille)
{
	uint64_t seen = 0, rank = count / 1000 * permille + (count % 1000 * permille + 999) / 1000;
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		seen += steps[i];
		if (seen >= rank && seen)
			return histogram_upper(i);
	}
	return 0;
}

/* ---- reading ---- */

static uint64_t sum_of(uint32_t cell)
{
	uint64_t sum = 0;
	for (struct cells *c = __atomic_load_n(&all_cells, __ATOMIC_ACQUIRE); c; c = c->next)
		sum += (uint64_t)__atomic_load_n(&c->at[cell], __ATOMIC_RELAXED);
	return sum;
}

static void read_histogram(const struct metric *m, struct metric_value *v)
{
	uint64_t steps[HISTOGRAM_STEPS];
	v->sum = sum_of(m->cell);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		steps[i] = sum_of(m->cell + 1 + i);
		v->count += steps[i];
		if (steps[i])
			v->max = histogram_upper(i);
	}
	v->p50 = histogram_quantile(steps, v->count, 500);
	v->p90 = histogram_quantile(steps, v->count, 900);
	v->p99 = histogram_quantile(steps, v->count, 990);
	v->p999 = histogram_quantile(steps, v->count, 999);
}

struct metric_value metric_read(const struct metric *m)
{
	struct metric_value v = { .metric = m };
	if (m->kind == METRIC_KIND_HISTOGRAM)
		read_histogram(m, &v);
	else
		v.value = (int64_t)sum_of(m->cell);
	return v;
}

void metrics_walk(void (*visit)(void *arg, const struct metric_value *v), void *arg)
{
	for (size_t i = 0; i < sorted_count; i++) {
		struct metric_value v = metric_read(sorted[i]);
		visit(arg, &v);
	}
}

void metrics_each(void (*visit)(void *arg, const struct metric *m), void *arg)
{
	for (size_t i = 0; i < sorted_count; i++)
		visit(arg, sorted[i]);
}

uint64_t metric_steps(const struct metric *m, uint64_t steps_out[HISTOGRAM_STEPS])
{
	ASSERT(m->kind == METRIC_KIND_HISTOGRAM);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
		steps_out[i] = sum_of(m->cell + 1 + i);
	return sum_of(m->cell);
}

size_t metrics_count(void) { return sorted_count; }
