/* SPDX-License-Identifier: Apache-2.0 */
/* Times by verb: nobody times what is not timed, buckets, quantiles, the slow ones. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "net/session.h"
#include "net/verb.h"

#include <string.h>

static const char *name(unsigned index) { return index ? "SLOW" : "QUICK"; }
VERBS_DEFINE(toys, "toy", 2, name);

static struct verb_figure found[2];
static void take(void *arg, const struct verb_figure *f)
{
	(void)arg;
	if (!strcmp(f->protocol, "toy"))
		found[!strcmp(f->verb, "SLOW")] = *f;
}

static void describe(const struct session *s, struct session_facts *out)
{
	(void)s;
	out->login = SLICE_LIT("ann@demo.example");
	out->tenant = SLICE_LIT("demo");
}

static const struct proto proto = { .name = "toy", .describe = describe };

static void one(unsigned verb, uint64_t ms, enum fiber_wait what)
{
	const struct session s = { .proto = &proto, .id = 7, .peer = "192.0.2.1:1" };
	struct verb_run run;
	verb_begin(&run);
	verb_is(&toys, verb);
	enum fiber_wait before = fiber_wait_for(what);
	if (ms)
		fiber_sleep(ms);
	(void)fiber_wait_for(before);
	verb_end(&run, &s);
}

FIBER_TEST(calls_count_where_they_lie)
{
	struct verb_run run;
	const struct session s = { .proto = &proto };
	verb_is(&toys, 0); /* nobody times it */
	verb_begin(&run);
	verb_end(&run, &s); /* nothing was named */
	verbs_walk(take, NULL);
	assert_int_equal(found[0].count + found[1].count, 0);
	assert_int_equal(verb_quantile_ns(&found[0], 500), 0);
	for (int i = 0; i < 9; i++)
		one(0, 0, FIBER_WAIT_STORE);
	one(0, 40, FIBER_WAIT_STORE);
	verbs_walk(take, NULL);
	assert_int_equal(found[0].count, 10);
	assert_int_equal(found[1].count, 0);
	assert_true(found[0].cells.sum_ns >= 30000000);
	assert_true(verb_quantile_ns(&found[0], 990) >= 30000000);
	assert_true(verb_quantile_ns(&found[0], 990) <= verb_quantile_ns(&found[0], 1000));
}

FIBER_TEST(the_slow_are_kept_newest_first_with_what_they_waited_for)
{
	struct verb_slow last[VERB_SLOW_KEPT];
	assert_int_equal(verb_slow_last(last), 0); /* nothing is slow unless somebody says so */
	verb_set_slow_ms(10);
	one(1, 30, FIBER_WAIT_REDIS);
	one(1, 40, FIBER_WAIT_HASH);
	verb_set_slow_ms(0);
	one(1, 30, FIBER_WAIT_STORE);
	assert_int_equal(verb_slow_last(last), 2);
	assert_string_equal(last[0].verb, "SLOW");
	assert_string_equal(last[0].account, "ann@demo.example");
	assert_string_equal(last[0].tenant, "demo");
	assert_string_equal(last[0].peer, "192.0.2.1:1");
	assert_true(last[0].took_ms >= 10 && last[0].waited_ms[FIBER_WAIT_HASH] >= 10 && !last[0].waited_ms[FIBER_WAIT_REDIS]);
	assert_true(last[1].waited_ms[FIBER_WAIT_REDIS] >= 10 && !last[1].waited_ms[FIBER_WAIT_STORE]);
	verb_set_slow_ms(1);
	for (unsigned i = 0; i < VERB_SLOW_KEPT + 3; i++)
		one(1, 8, FIBER_WAIT_STORE);
	assert_int_equal(verb_slow_last(last), VERB_SLOW_KEPT);
	verb_set_slow_ms(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(calls_count_where_they_lie),
		cmocka_unit_test(the_slow_are_kept_newest_first_with_what_they_waited_for),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
