/* SPDX-License-Identifier: Apache-2.0 */
/* probe_test.c - what the probes say of shards that turn, hang and stop; and the form of OpenMetrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/run/shard.h"
#include "core/run/clock.h"
#include "net/server/openmetrics.h"
#include "net/server/probe.h"

#include <string.h>

static void one_shard(void *arg)
{
	const char *why = NULL;
	(void)arg;
	assert_true(probe_alive(NULL)); /* it starts: no reason to be killed */
	assert_false(probe_ready(&why));
	assert_string_equal(why, "starting");
	probe_set_pulse(0, clock_fresh_ns());
	probe_begin(); /* the directory is not asked here */
	assert_true(probe_started() && probe_alive(NULL));
	assert_false(probe_ready(&why));
	assert_string_equal(why, "the directory does not answer");
	probe_set_pulse(0, clock_fresh_ns() - 6000000000ull);
	assert_false(probe_alive(&why));
	assert_string_equal(why, "a shard does not turn");
	probe_set_pulse(0, clock_fresh_ns());
	assert_true(probe_alive(NULL));
}

static void a_shard_that_hangs_is_not_alive(void **state)
{
	(void)state;
	probe_open(1, 5);
	assert_int_equal(shard_run_alone(one_shard, NULL), OK);
}

static void labels_and_help_are_escaped(void **state)
{
	struct buf out;
	(void)state;
	buf_init(&out, 4096);
	om_label(&out, "tenant", SLICE_LIT("a\"b\\c\nd"));
	assert_true(slice_eq(buf_slice(&out), SLICE_LIT("tenant=\"a\\\"b\\\\c\\nd\"")));
	buf_release(&out);
	buf_init(&out, 4096);
	om_family(&out, "x_bytes", OM_COUNTER, "bytes", "two\nlines");
	om_sample(&out, "x_bytes", OM_COUNTER, "shard=\"1\"", UINT64_MAX);
	assert_true(slice_eq(buf_slice(&out), SLICE_LIT("# TYPE penfold_x_bytes counter\n# UNIT penfold_x_bytes bytes\n# HELP penfold_x_bytes two\\nlines\n"
							"penfold_x_bytes_total{shard=\"1\"} 18446744073709551615\n")));
	buf_release(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(a_shard_that_hangs_is_not_alive), cmocka_unit_test(labels_and_help_are_escaped) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
