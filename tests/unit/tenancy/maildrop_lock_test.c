/* SPDX-License-Identifier: Apache-2.0 */
/* One holder at a time, half-open holders passed over, LOGIN-DELAY remembered and bounded. */
#include "tenancy/maildrop_lock.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "tests/unit/support/fiber_main.h"

#include <stdlib.h>

#define HERE SLICE_LIT("192.0.2.1")
#define THERE SLICE_LIT("2001:db8::7")

static int probes;
static bool alive(struct maildrop_lock *lock)
{
	(void)lock;
	probes++;
	return true;
}
static bool dead(struct maildrop_lock *lock)
{
	(void)lock;
	probes++;
	return false;
}

FIBER_TEST(the_second_is_refused)
{
	struct maildrop_lock a = { .probe = alive }, b = { .probe = alive }, c = { .probe = alive };
	assert_int_equal(maildrop_lock_start(), OK);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 0), OK);
	assert_true(a.held && a.token && a.since_wall_s);
	assert_int_equal(maildrop_lock(&b, 7, HERE, 0), ERR_IN_USE);
	assert_int_equal(maildrop_lock(&b, 7, THERE, 0), ERR_IN_USE);
	assert_false(b.held);
	assert_int_equal(maildrop_lock(&c, 8, THERE, 0), OK); /* another account */
	maildrop_unlock(&b);                                  /* not held: harmless */
	assert_true(a.held);
	maildrop_unlock(&a);
	maildrop_unlock(&a);
	assert_int_equal(maildrop_lock(&b, 7, THERE, 0), OK);
	assert_int_not_equal(b.token, c.token);
	maildrop_unlock(&b);
	maildrop_unlock(&c);
	maildrop_lock_stop();
}

FIBER_TEST(a_half_open_holder_is_passed_over)
{
	struct maildrop_lock holder = { .probe = dead }, other = { .probe = alive }, same = { .probe = alive }, third = { .probe = NULL };
	assert_int_equal(maildrop_lock_start(), OK);
	assert_int_equal(maildrop_lock(&holder, 7, HERE, 60), OK);
	probes = 0;
	/* from elsewhere nobody is asked: a stranger cannot find out, or throw out */
	assert_int_equal(maildrop_lock(&other, 7, THERE, 0), ERR_IN_USE);
	assert_int_equal(maildrop_lock(&other, 7, SLICE_LIT(""), 0), ERR_IN_USE);
	assert_int_equal(probes, 0);
	/* from the same address the dead one gives way, and LOGIN-DELAY does not punish its client */
	assert_int_equal(maildrop_lock(&same, 7, HERE, 60), OK);
	assert_int_equal(probes, 1);
	assert_false(holder.held);
	/* its late release frees nothing */
	maildrop_unlock(&holder);
	assert_int_equal(maildrop_lock(&third, 7, HERE, 0), ERR_IN_USE); /* `same` is alive */
	maildrop_unlock(&same);
	/* a holder without a probe is always alive */
	assert_int_equal(maildrop_lock(&third, 7, HERE, 0), OK);
	assert_int_equal(maildrop_lock(&same, 7, HERE, 0), ERR_IN_USE);
	maildrop_unlock(&third);
	maildrop_lock_stop();
}

FIBER_TEST(login_delay)
{
	struct maildrop_lock a = { .probe = alive }, b = { .probe = alive };
	assert_int_equal(maildrop_lock_start(), OK);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 1), OK);
	assert_int_equal(maildrop_lock(&b, 7, HERE, 1), ERR_IN_USE); /* in use says more than too soon */
	maildrop_unlock(&a);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 1), ERR_BUSY);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 0), OK); /* the tenant took the delay away */
	maildrop_unlock(&a);
	assert_int_equal(maildrop_lock(&b, 8, HERE, 1), OK); /* each account for itself */
	maildrop_unlock(&b);
	fiber_sleep(1100);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 1), OK); /* a refusal did not prolong it */
	maildrop_unlock(&a);
	/* more accounts than are remembered: somebody is forgotten, nobody kept out, the latest are kept */
	for (uint64_t id = 100; id < 100 + 2 * LOCK_DELAY_ENTRIES; id++) {
		assert_int_equal(maildrop_lock(&a, id, HERE, 3600), OK);
		maildrop_unlock(&a);
	}
	assert_int_equal(maildrop_lock(&a, 99 + 2 * LOCK_DELAY_ENTRIES, HERE, 3600), ERR_BUSY);
	maildrop_lock_stop();
}

FIBER_TEST(many_locks_in_order)
{
	enum { MANY = 5000 };
	struct maildrop_lock *locks = calloc(MANY, sizeof(*locks)), *cursor = NULL;
	assert_int_equal(maildrop_lock_start(), OK);
	for (uint64_t i = 0; i < MANY; i++)
		assert_int_equal(maildrop_lock(&locks[i], i + 1, HERE, 0), OK);
	for (uint64_t i = 0; i < MANY; i += 2)
		maildrop_unlock(&locks[i]);
	uint64_t expect = 2;
	while (maildrop_lock_next(&cursor)) {
		assert_int_equal(cursor->account_id, expect);
		assert_true(slice_eq(slice_str(cursor->peer), HERE));
		expect += 2;
	}
	assert_int_equal(expect, MANY + 2);
	struct maildrop_lock one = { .held = false };
	for (uint64_t i = 0; i < MANY; i++) {
		enum err e = maildrop_lock(&one, i + 1, HERE, 0);
		assert_int_equal(e, i % 2 ? ERR_IN_USE : OK);
		maildrop_unlock(&one);
	}
	maildrop_lock_stop(); /* the rest is let go */
	free(locks);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_second_is_refused), cmocka_unit_test(a_half_open_holder_is_passed_over), cmocka_unit_test(login_delay),
		cmocka_unit_test(many_locks_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
