/* SPDX-License-Identifier: Apache-2.0 */
/* One holder at a time, half-open holders passed over, LOGIN-DELAY remembered and bounded. */
#include "tenancy/maildrop_lock.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "tests/unit/support/fiber_main.h"

#include <stdio.h>
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

/* Who excludes whom in the maildrop of an SDPS host: who would see the same message, and nobody else. */
FIBER_TEST(users_of_a_host)
{
	static const struct {
		const char *holder, *taker;
		uint64_t takers_account;
		enum err expect;
	} table[] = {
		{ "", "", 7, ERR_IN_USE },        { "", "fred", 7, ERR_IN_USE },  { "fred", "", 7, ERR_IN_USE },
		{ "fred", "fred", 7, ERR_IN_USE }, { "fred", "jane", 7, OK },      { "fred", "fre", 7, OK },
		{ "fred", "fred", 8, OK },         { "", "", 8, OK },              { "fred", "", 8, OK },
	};
	assert_int_equal(maildrop_lock_start(), OK);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct maildrop_lock holder = { .probe = alive, .user = slice_str(table[i].holder) }, taker = { .probe = alive, .user = slice_str(table[i].taker) };
		assert_int_equal(maildrop_lock(&holder, 7, HERE, 0), OK);
		enum err e = maildrop_lock(&taker, table[i].takers_account, HERE, 0);
		if (e != table[i].expect)
			fail_msg("\"%s\" against \"%s\": %s", table[i].taker, table[i].holder, err_name(e));
		assert_true(holder.held);
		assert_int_equal(taker.held, e == OK);
		maildrop_unlock(&taker);
		maildrop_unlock(&holder);
		assert_int_equal(maildrop_lock(&taker, table[i].takers_account, HERE, 0), OK);
		maildrop_unlock(&taker);
	}
	maildrop_lock_stop();
}

FIBER_TEST(a_host_passes_over_dead_users)
{
	struct maildrop_lock a = { .probe = dead, .user = SLICE_LIT("a") }, b = { .probe = dead, .user = SLICE_LIT("b") },
			     c = { .probe = alive, .user = SLICE_LIT("c") }, host = { .probe = alive };
	assert_int_equal(maildrop_lock_start(), OK);
	assert_int_equal(maildrop_lock(&a, 7, HERE, 0), OK);
	assert_int_equal(maildrop_lock(&b, 7, HERE, 0), OK);
	assert_int_equal(maildrop_lock(&c, 7, HERE, 0), OK);
	assert_int_equal(maildrop_lock(&host, 7, THERE, 0), ERR_IN_USE);
	assert_true(a.held && b.held && c.held);
	assert_int_equal(maildrop_lock(&host, 7, HERE, 0), ERR_IN_USE); /* c lives */
	assert_true(c.held);
	maildrop_unlock(&c);
	assert_int_equal(maildrop_lock(&host, 7, HERE, 0), OK);
	assert_false(a.held || b.held);
	maildrop_unlock(&a); /* late, harmless */
	assert_int_equal(maildrop_lock(&c, 7, THERE, 0), ERR_IN_USE);
	maildrop_unlock(&host);
	maildrop_lock_stop();
}

FIBER_TEST(delay_and_bound_of_users)
{
	struct maildrop_lock *locks = calloc(LOCK_USERS_MAX, sizeof(*locks)), one = { .probe = alive };
	char(*names)[16] = calloc(LOCK_USERS_MAX, sizeof(*names));
	assert_int_equal(maildrop_lock_start(), OK);
	for (int i = 0; i < LOCK_USERS_MAX; i++) {
		snprintf(names[i], sizeof(names[i]), "u%d", i);
		locks[i].user = slice_str(names[i]);
		assert_int_equal(maildrop_lock(&locks[i], 7, HERE, i ? 0 : 60), OK);
	}
	one.user = SLICE_LIT("one more");
	assert_int_equal(maildrop_lock(&one, 7, HERE, 0), ERR_TEMP);
	assert_int_equal(maildrop_lock(&one, 8, HERE, 0), OK); /* another host's */
	maildrop_unlock(&one);
	maildrop_unlock(&locks[0]);
	assert_int_equal(maildrop_lock(&one, 7, HERE, 60), OK); /* room again, and its own delay */
	maildrop_unlock(&one);
	assert_int_equal(maildrop_lock(&locks[0], 7, HERE, 60), ERR_BUSY);
	assert_int_equal(maildrop_lock(&one, 7, HERE, 60), ERR_BUSY);
	maildrop_lock_stop();
	free(locks);
	free(names);
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
		cmocka_unit_test(users_of_a_host), cmocka_unit_test(a_host_passes_over_dead_users), cmocka_unit_test(delay_and_bound_of_users),
		cmocka_unit_test(many_locks_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
