/* SPDX-License-Identifier: Apache-2.0 */
/* guard_test.c - who may come in: counting by address and network, bounded memory, and the defence against guessing. */
#include "tenancy/guard.h"

#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/directory.h"
#include "tenancy/decision.h"
#include "tenancy/manage.h"
#include "tenancy/source.h"
#include "tests/unit/support/fiber_main.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static struct limits_config rules;
static struct manage *manage;

static struct addr address(const char *text)
{
	struct addr a;
	char with_port[80];
	snprintf(with_port, sizeof(with_port), strchr(text, ':') ? "[%s]:1" : "%s:1", text);
	assert_int_equal(addr_parse(slice_str(with_port), &a), OK);
	return a;
}

static enum limit come(const char *text, bool waits, uint32_t *source_out)
{
	struct addr a = address(text);
	uint32_t count;
	return source_open(&a, waits, source_out, &count);
}

static struct source_stats stats(void)
{
	struct source_stats s;
	source_stats(&s);
	return s;
}

static void begin(void)
{
	limits_config_default(&rules);
	limits_configure(&rules);
	source_open_process(rules.cache_bytes_max);
}

/* ---- counting ---- */

static void at_each_level(void **state)
{
	(void)state;
	uint32_t s[8], extra;
	begin();
	rules.per_address = 2;
	rules.per_net24 = 3;
	rules.per_net64 = 2;
	rules.per_net48 = 3;
	limits_configure(&rules);
	assert_int_equal(come("192.0.2.1", false, &s[0]), LIMIT_NONE);
	assert_int_equal(come("192.0.2.1", false, &s[1]), LIMIT_NONE);
	assert_int_equal(come("192.0.2.1", false, &extra), LIMIT_ADDRESS);
	assert_int_equal(come("::ffff:192.0.2.1", false, &extra), LIMIT_ADDRESS); /* the same address */
	assert_int_equal(come("192.0.2.2", false, &s[2]), LIMIT_NONE);
	assert_int_equal(come("192.0.2.3", false, &extra), LIMIT_NET24);
	assert_int_equal(come("192.0.3.3", false, &s[3]), LIMIT_NONE);
	assert_int_equal(come("2001:db8:0:1::1", false, &s[4]), LIMIT_NONE);
	assert_int_equal(come("2001:db8:0:1::2", false, &s[5]), LIMIT_NONE);
	assert_int_equal(come("2001:db8:0:1::3", false, &extra), LIMIT_NET64);
	assert_int_equal(come("2001:db8:0:2::3", false, &s[6]), LIMIT_NONE);
	assert_int_equal(come("2001:db8:0:3::3", false, &extra), LIMIT_NET48);
	assert_int_equal(come("2001:db8:1:3::3", false, &s[7]), LIMIT_NONE);
	for (int i = 0; i < 8; i++)
		source_close(s[i], false);
	assert_int_equal(stats().held, 0);
	assert_int_equal(stats().idle, 0); /* nobody is remembered for having been here */
	struct addr local;
	uint32_t count;
	assert_int_equal(addr_parse(SLICE_LIT("unix:/x"), &local), OK);
	assert_int_equal(source_open(&local, true, &extra, &count), LIMIT_NONE);
	assert_int_equal(extra, 0);
	source_close_process();
}

static void exempt_are_not_counted(void **state)
{
	(void)state;
	struct cidr net;
	uint32_t s;
	begin();
	assert_int_equal(cidr_parse(SLICE_LIT("127.0.0.0/8"), &net), OK);
	rules.per_address = 1;
	rules.exempt = &net;
	rules.exempt_count = 1;
	limits_configure(&rules);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(come("127.9.9.9", true, &s), LIMIT_NONE);
		assert_int_equal(s, 0);
	}
	source_close_process();
}

static void those_who_wait_are_bounded_apart(void **state)
{
	(void)state;
	uint32_t s[40];
	char text[32];
	begin();
	rules.waiting = 8;
	rules.waiting_per_address = 3;
	limits_configure(&rules);
	for (int i = 0; i < 3; i++)
		assert_int_equal(come("192.0.2.1", true, &s[i]), LIMIT_NONE);
	assert_int_equal(come("192.0.2.1", true, &s[3]), LIMIT_WAITING_ADDRESS);
	for (int i = 3; i < 6; i++) {
		snprintf(text, sizeof(text), "192.0.2.%d", i);
		assert_int_equal(come(text, true, &s[i]), LIMIT_NONE);
	}
	assert_int_equal(come("192.0.2.77", true, &s[6]), LIMIT_WAITING); /* 6 of 8: the rest is for who is at home */
	for (int i = 0; i < 3; i++)
		source_entered(s[i]);
	assert_int_equal(stats().waiting, 3);
	assert_int_equal(come("192.0.2.77", true, &s[6]), LIMIT_NONE);
	for (int i = 0; i < 7; i++)
		source_close(s[i], i >= 3);
	assert_int_equal(stats().waiting, 0);
	assert_int_equal(stats().held, 0);
	source_close_process();
}

static void seats(void **state)
{
	(void)state;
	begin();
	rules.per_account = 2;
	limits_configure(&rules);
	struct subject a = { .account_id = 1, .tenant_id = 7, .tenant_sessions_max = 3 }, b = { .account_id = 2, .tenant_id = 7, .tenant_sessions_max = 3 };
	assert_int_equal(seats_take(&a, true), LIMIT_NONE);
	assert_int_equal(seats_take(&a, true), LIMIT_NONE);
	assert_int_equal(seats_take(&a, true), LIMIT_ACCOUNT);
	assert_int_equal(seats_take(&b, true), LIMIT_NONE);
	assert_int_equal(seats_take(&b, true), LIMIT_TENANT);
	seats_give(&a, true);
	assert_int_equal(seats_take(&b, true), LIMIT_NONE);
	seats_give(&a, true);
	seats_give(&b, true);
	seats_give(&b, true);
	assert_int_equal(stats().held, 0);
	assert_int_equal(stats().idle, 0);
	source_close_process();
}

static void *hammer(void *arg)
{
	unsigned seed = (unsigned)(uintptr_t)arg;
	char text[32];
	uint32_t held[16] = { 0 };
	for (int i = 0; i < 40000; i++) {
		unsigned k = (unsigned)rand_r(&seed);
		source_close(held[i % 16], true);
		held[i % 16] = 0;
		snprintf(text, sizeof(text), "10.0.%u.%u", k / 64 % 4, k % 64);
		(void)come(text, true, &held[i % 16]);
	}
	for (int i = 0; i < 16; i++)
		source_close(held[i], true);
	return NULL;
}

static void from_many_threads(void **state)
{
	(void)state;
	pthread_t t[4];
	begin();
	rules.per_address = 5;
	rules.waiting = 40;
	limits_configure(&rules);
	for (uintptr_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, hammer, (void *)(i + 1)), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(stats().held, 0);
	assert_int_equal(stats().waiting, 0);
	source_close_process();
}

/* ---- guessing ---- */

static void made(enum err e)
{
	if (e)
		fail_msg("%s", manage_why(manage));
}

static void open_all(void)
{
	char why[MANAGE_WHY_BYTES];
	const char *data = test_folder();
	assert_int_equal(manage_open(data, &manage, why), OK);
	made(manage_tenant_add(manage, SLICE_LIT("demo")));
	made(manage_domain_add(manage, SLICE_LIT("demo.example"), SLICE_LIT("demo"), SLICE_LIT("")));
	made(manage_domain_add(manage, SLICE_LIT("alias.example"), SLICE_LIT("demo"), SLICE_LIT("demo.example")));
	made(manage_account_add(manage, SLICE_LIT("ann@demo.example"), SLICE_LIT(""), SLICE_LIT("{SHA512}z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==")));
	struct directory_config directory = { .data_path = data, .poll_ms = 50, .default_domain = "demo.example" };
	assert_int_equal(directory_open(&directory), OK);
	assert_int_equal(directory_start(), OK);
	begin();
	rules.failures_free = 3;
	rules.name_failures_free = 5;
	rules.delay_first_ms = 1000;
	rules.delay_ms_max = 4000;
	limits_configure(&rules);
}

static void close_all(void)
{
	directory_stop();
	directory_close();
	manage_close(manage);
	source_close_process();
}

/* One login; the delay that was asked for, or -1: refused. The wait itself is not made. */
static int64_t login(const char *from, const char *name, const char *password, enum err outcome)
{
	uint32_t source;
	struct guard_pass pass;
	assert_int_equal(come(from, true, &source), LIMIT_NONE);
	enum err e = guard_ask(source, slice_str(name), slice_str(password), &pass);
	if (e != ERR_BUSY)
		guard_tell(&pass, outcome);
	assert_true((e == OK) == (e != ERR_BUSY && !pass.delay_ms));
	source_close(source, true);
	return e == ERR_BUSY ? -1 : (int64_t)pass.delay_ms;
}

static void wrong(const char *from, const char *name, int first, int count)
{
	char password[32];
	for (int i = 0; i < count; i++) {
		snprintf(password, sizeof(password), "wrong%d", first + i);
		(void)login(from, name, password, ERR_AUTH);
	}
}

FIBER_TEST(delays_grow_up_to_a_bound_and_queue)
{
	open_all();
	for (int known = 0; known < 2; known++) {
		const char *from = known ? "192.0.2.1" : "198.51.100.1", *name = known ? "ann" : "nobody";
		assert_int_equal(login(from, name, "a", ERR_AUTH), 0);
		assert_int_equal(login(from, name, "b", ERR_AUTH), 0);
		assert_int_equal(login(from, name, "c", ERR_AUTH), 0);
		assert_int_equal(login(from, name, "d", ERR_AUTH), 1000);
		assert_int_equal(login(from, name, "e", ERR_AUTH), 2000);
		assert_int_equal(login(from, name, "f", ERR_AUTH), 4000);
		bool refused = false; /* none of these waited: one behind the other, until the queue is full */
		for (int i = 0; i < 10; i++)
			refused = refused || login(from, name, "g", ERR_TEMP) < 0;
		assert_true(refused);
	}
	assert_int_equal(login("203.0.113.1", "somebody", "x", ERR_AUTH), 0); /* another address, another name */
	close_all();
}

FIBER_TEST(a_name_in_all_its_forms)
{
	static const char *const forms[] = { "ann", "ANN", "ann@demo.example", "ann+x@demo.example", "ann%demo.example", "ann@alias.example", "Ann+y@ALIAS.example" };
	static const char *const nobody[] = { "zoe", "ZOE", "zoe@demo.example", "zoe+x@demo.example", "zoe%demo.example", "zoe@alias.example", "Zoe+y@ALIAS.example" };
	open_all();
	for (int known = 0; known < 2; known++) {
		char from[32];
		for (int i = 0; i < 7; i++) {
			snprintf(from, sizeof(from), "10.%d.%d.1", known, i);
			assert_int_equal(login(from, known ? forms[i] : nobody[i], "x", ERR_AUTH), i < 5 ? 0 : i == 5 ? 1000 : 2000);
		}
	}
	close_all();
}

/* user+host: whether it exists, and as what, makes no difference to the entry it has. */
FIBER_TEST(the_sdps_form_tells_nothing)
{
	open_all();
	struct manage_new_host host = { .name = SLICE_LIT("books.example.net"), .tenant = SLICE_LIT("demo"), .mode = SDPS_ACCOUNTS };
	made(manage_host_add(manage, &host));
	made(manage_account_add(manage, SLICE_LIT("john@books.example.net"), SLICE_LIT(""),
				SLICE_LIT("{SHA512}z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==")));
	fiber_sleep(200); /* four polls */
	static const char *const users[] = { "john", "zoe" }, *const hosts[] = { "", "+books", "+nowhere", "@books.example.net" };
	int64_t delays[2][4];
	for (int u = 0; u < 2; u++)
		for (int h = 0; h < 4; h++)
			for (int i = 0; i < 6; i++) { /* each attempt from an address of its own: what shows is the login's count */
				char name[64], from[32];
				snprintf(from, sizeof(from), "10.%d.%d.1", u, h * 10 + i);
				snprintf(name, sizeof(name), "%s%s", users[u], hosts[h]);
				delays[u][h] = login(from, name, "x", ERR_AUTH);
			}
	for (int f = 0; f < 4; f++)
		assert_int_equal(delays[0][f], delays[1][f]);
	close_all();
}

FIBER_TEST(at_home)
{
	open_all();
	assert_int_equal(login("192.0.2.1", "ann", "right", OK), 0);
	wrong("192.0.2.1", "bob", 0, 6);                               /* others behind the same address */
	for (int i = 0; i < 10; i++) {                                 /* and an attack on the login from elsewhere */
		char from[32];
		snprintf(from, sizeof(from), "10.0.%d.1", i);
		wrong(from, "ann", i, 1);
	}
	assert_true(login("192.0.2.1", "carl", "x", ERR_TEMP) != 0);
	assert_true(login("203.0.113.9", "ann", "x", ERR_TEMP) != 0);
	assert_int_equal(login("192.0.2.1", "ann", "right", OK), 0);
	assert_int_equal(login("192.0.2.200", "ann", "right", OK), 0); /* his provider gave him another address */
	wrong("192.0.2.1", "ann", 100, GUARD_PAIR_FAILURES_FREE);      /* now they guess his password from there */
	assert_true(login("192.0.2.1", "ann", "right", ERR_TEMP) != 0);
	close_all();
}

FIBER_TEST(an_ipv6_household_is_one)
{
	open_all();
	for (int i = 0; i < 4; i++) {
		char from[64];
		snprintf(from, sizeof(from), "2001:db8::%d", i + 1);
		assert_int_equal(login(from, "dora", i == 0 ? "a" : i == 1 ? "b" : i == 2 ? "c" : "d", ERR_AUTH), i < 3 ? 0 : 1000);
	}
	close_all();
}

FIBER_TEST(the_same_wrong_password_again)
{
	open_all();
	for (int i = 0; i < 50; i++)
		assert_int_equal(login("192.0.2.1", "ann", "the old one", ERR_AUTH), 0);
	assert_int_equal(login("192.0.2.1", "ann", "right", OK), 0);
	for (int i = 0; i < 50; i++) /* two devices in turn */
		assert_int_equal(login("192.0.2.1", "ann", i % 2 ? "the old one" : "an older one", ERR_AUTH), 0);
	close_all();
}

FIBER_TEST(memory_is_bounded_and_who_is_at_home_stays)
{
	open_all();
	source_close_process();
	source_open_process(KIB(512));
	uint64_t most = stats().idle_max;
	assert_int_equal(login("192.0.2.1", "ann", "right", OK), 0);
	for (int i = 0; i < 20000; i++) {
		char from[32], name[32];
		snprintf(from, sizeof(from), "10.%d.%d.1", i / 250, i % 250);
		snprintf(name, sizeof(name), "u%d@elsewhere.example", i);
		wrong(from, name, 0, 1);
		assert_true(stats().idle <= most);
	}
	assert_true(stats().forgotten > 1000);
	wrong("192.0.2.1", "bob", 0, 8);
	assert_int_equal(login("192.0.2.1", "ann", "right", OK), 0);
	close_all();
}

FIBER_TEST(decisions_are_found)
{
	struct decision out[DECISIONS_SHOWN_MAX];
	for (int i = 0; i < 10000; i++) {
		struct decision d = { .kind = i % 2 ? DECISION_REFUSED : DECISION_ACCEPTED, .protocol = "pop3", .reason = "test", .session = (uint64_t)i };
		decision_note(&d, i % 2 ? SLICE_LIT("192.0.2.1") : SLICE_LIT("192.0.2.2"), i == 9000 ? SLICE_LIT("Ann") : SLICE_LIT("x"), SLICE_LIT("ann@demo.example"));
	}
	assert_int_equal(decisions_about(SLICE_LIT("aNN"), out, 10), 1);
	assert_int_equal(out[0].session, 9000);
	assert_int_equal(decisions_about(SLICE_LIT("192.0.2.1"), out, DECISIONS_SHOWN_MAX), DECISIONS_SHOWN_MAX);
	assert_int_equal(out[0].session, 9999);
	assert_int_equal(out[1].session, 9997);
	assert_int_equal(decisions_about(SLICE_LIT("ann@demo.example"), out, 4), 4);
	assert_int_equal(out[0].session, 9999);
	assert_int_equal(out[1].session, 9998);
	assert_int_equal(decisions_about(SLICE_LIT(""), out, 4), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(at_each_level), cmocka_unit_test(exempt_are_not_counted), cmocka_unit_test(those_who_wait_are_bounded_apart),
		cmocka_unit_test(seats), cmocka_unit_test(from_many_threads), cmocka_unit_test(delays_grow_up_to_a_bound_and_queue),
		cmocka_unit_test(a_name_in_all_its_forms), cmocka_unit_test(the_sdps_form_tells_nothing), cmocka_unit_test(at_home), cmocka_unit_test(an_ipv6_household_is_one),
		cmocka_unit_test(the_same_wrong_password_again), cmocka_unit_test(memory_is_bounded_and_who_is_at_home_stays),
		cmocka_unit_test(decisions_are_found),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
