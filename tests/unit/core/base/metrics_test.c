/* SPDX-License-Identifier: Apache-2.0 */
/* metrics_test.c - cells of several threads, steps and quantiles of histograms, the walk's order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/metrics.h"

#include <pthread.h>
#include <string.h>

METRIC_COUNTER(zebras, "zebras_total", "counted by threads");
METRIC_GAUGE(open_doors, "open_doors", "up and down");
METRIC_HISTOGRAM(waiting_ns, "waiting_ns", "a histogram");
METRIC_HISTOGRAM(other_ns, "other_ns", "its neighbour");

static void *count(void *arg)
{
	(void)arg;
	for (int i = 0; i < 100000; i++) {
		metric_inc(&zebras);
		metric_add(&open_doors, i % 2 ? -1 : 1);
		metric_record(&waiting_ns, (uint64_t)i);
	}
	metric_inc(&open_doors);
	return NULL;
}

static void threads_are_added_up(void **state)
{
	(void)state;
	pthread_t threads[4];
	metric_dec(&open_doors);
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
	(void)metric_read(&waiting_ns); /* while they count */
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(metric_read(&zebras).value, 400000);
	assert_int_equal(metric_read(&open_doors).value, 3);
	struct metric_value v = metric_read(&waiting_ns);
	assert_int_equal(v.count, 400000);
	assert_true(v.sum == (uint64_t)4 * 99999 * 50000);
	assert_true(v.p50 >= 49999 && v.p50 <= 49999 + 49999 / 16);
	assert_true(v.p99 >= 98999 && v.p99 <= 98999 + 98999 / 16);
	assert_true(v.max >= 99999 && v.max <= 99999 + 99999 / 16);
	assert_int_equal(metric_read(&other_ns).count, 0);
}

static void steps(void **state)
{
	(void)state;
	assert_int_equal(histogram_step(0), 0);
	assert_int_equal(histogram_step(15), 15);
	assert_int_equal(histogram_step(16), 16);
	assert_int_equal(histogram_step(31), 31);
	assert_int_equal(histogram_step(32), 32);
	assert_int_equal(histogram_step(33), 32);
	assert_int_equal(histogram_step(((uint64_t)1 << 40) - 1), HISTOGRAM_STEPS - 1);
	assert_int_equal(histogram_step((uint64_t)1 << 40), HISTOGRAM_STEPS - 1);
	assert_int_equal(histogram_step(UINT64_MAX), HISTOGRAM_STEPS - 1);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		uint64_t upper = histogram_upper(i);
		assert_int_equal(histogram_step(upper), i);
		if (i + 1 < HISTOGRAM_STEPS)
			assert_int_equal(histogram_step(upper + 1), i + 1);
	}
	assert_true(histogram_upper(HISTOGRAM_STEPS - 1) == ((uint64_t)1 << 40) - 1);
}

static void quantiles(void **state)
{
	(void)state;
	uint64_t s[HISTOGRAM_STEPS] = { 0 };
	assert_int_equal(histogram_quantile(s, 0, 500), 0);
	s[3] = 1;
	assert_int_equal(histogram_quantile(s, 1, 1), 3);
	assert_int_equal(histogram_quantile(s, 1, 999), 3);
	s[5] = 1;
	assert_int_equal(histogram_quantile(s, 2, 500), 3);
	assert_int_equal(histogram_quantile(s, 2, 501), 5);
	s[3] = 999;
	assert_int_equal(histogram_quantile(s, 1000, 999), 3);
	assert_int_equal(histogram_quantile(s, 1000, 1000), 5);
}

static const char *names[16];
static size_t name_count;
static void visit(void *arg, const struct metric_value *v)
{
	(void)arg;
	assert_true(name_count < ARRAY_LEN(names));
	names[name_count++] = v->metric->name;
}

static void walk_in_the_order_of_names(void **state)
{
	(void)state;
	metrics_walk(visit, NULL);
	assert_int_equal(name_count, metrics_count());
	assert_int_equal(name_count, 4); /* core/base itself counts nothing */
	assert_string_equal(names[0], "open_doors");
	assert_string_equal(names[3], "zebras_total");
	for (size_t i = 1; i < name_count; i++)
		assert_true(strcmp(names[i - 1], names[i]) < 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_are_added_up),
		cmocka_unit_test(steps),
		cmocka_unit_test(quantiles),
		cmocka_unit_test(walk_in_the_order_of_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
