/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several shards ask for the same names at once while somebody changes the directory: one query a key, waiters on other
 * shards woken, answers right at every moment, nobody left waiting.  Also the test to run under ThreadSanitizer.
 */
#include "tenancy/auth.h"
#include "tenancy/directory.h"
#include "tenancy/manage.h"
#include "tenancy/password.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "tests/unit/support/fiber_main.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARDS = 2, FIBERS = 16, ROUNDS = 150, NAMES = 8 };

static sqlite3 *other;
static unsigned ended;
static unsigned wrong;
static uint64_t answers;

static void must(bool right)
{
	if (!right)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_RELAXED);
}

static void ask(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		char name[64], expect[64];
		struct subject *s = NULL;
		snprintf(name, sizeof(name), "user%u+x@alias.example", (n + i) % NAMES);
		snprintf(expect, sizeof(expect), "user%u@demo.example", (n + i) % NAMES);
		must(directory_rcpt(slice_str(name), &s) == OK && slice_eq(s->name, slice_str(expect)));
		subject_unref(s);
		must(directory_rcpt(SLICE_LIT("nobody@demo.example"), &s) == ERR_NOT_FOUND);
		if (i % 10 == 0) {
			struct auth_request r = { .protocol = AUTH_POP3, .login = slice_str(name) };
			enum err e = auth_password(&r, SLICE_LIT("secret"), &s);
			must(e == OK && slice_eq(s->name, slice_str(expect)));
			subject_unref(s);
			must(auth_password(&r, SLICE_LIT("wrong"), &s) == ERR_AUTH);
		}
		__atomic_add_fetch(&answers, 1, __ATOMIC_RELAXED);
		if (i % 50 == n) /* somebody's change, now and then; the poll drops the cache */
			must(sqlite3_exec(other, "UPDATE tenants SET quota_bytes = coalesce(quota_bytes, 0) + 1", NULL, NULL, NULL) == SQLITE_OK);
		fiber_sleep(1);
	}
	if (__atomic_add_fetch(&ended, 1, __ATOMIC_ACQ_REL) == SHARDS * FIBERS)
		shards_stop();
}

static enum err start(void *arg, unsigned index)
{
	(void)arg;
	enum err e = directory_start();
	for (unsigned i = 0; i < FIBERS && !e; i++)
		e = fiber_start("ask", ask, (void *)(uintptr_t)(index * FIBERS + i));
	return e;
}

static void stop(void *arg, unsigned index)
{
	(void)arg;
	(void)index;
	directory_stop();
}

static void many_shards_one_directory(void **state)
{
	(void)state;
	char why[MANAGE_WHY_BYTES], path[256], stored[STORED_PASSWORD_BYTES_MAX], name[64];
	const char *data = test_folder();
	struct manage *m;
	assert_int_equal(manage_open(data, &m, why), OK);
	assert_int_equal(manage_tenant_add(m, SLICE_LIT("demo")), OK);
	assert_int_equal(manage_domain_add(m, SLICE_LIT("demo.example"), SLICE_LIT("demo"), SLICE_LIT("")), OK);
	assert_int_equal(manage_domain_add(m, SLICE_LIT("alias.example"), SLICE_LIT("demo"), SLICE_LIT("demo.example")), OK);
	for (unsigned i = 0; i < NAMES; i++) {
		assert_int_equal(password_make("SSHA256", SLICE_LIT("secret"), stored), OK);
		snprintf(name, sizeof(name), "user%u@demo.example", i);
		assert_int_equal(manage_account_add(m, slice_str(name), SLICE_LIT(""), slice_str(stored)), OK);
	}
	manage_close(m);
	snprintf(path, sizeof(path), "%s/directory.db", data);
	assert_int_equal(sqlite3_open_v2(path, &other, SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, NULL), SQLITE_OK);
	sqlite3_busy_timeout(other, 5000);

	struct directory_config directory = { .data_path = data, .poll_ms = 5 };
	struct auth_config auth = { .hash_parallel_max = 2 };
	assert_int_equal(directory_open(&directory), OK);
	assert_int_equal(auth_open(&auth), OK);
	struct shards_config config = { .count = SHARDS, .offload_threads = 4, .backend = getenv("PENFOLD_IO_BACKEND"), .start = start, .stop = stop };
	assert_int_equal(shards_run(&config), OK);
	struct directory_stats s;
	directory_stats(&s);
	struct auth_stats a;
	auth_stats(&a);
	print_message("           %llu rounds: %llu hits, %llu questions, %llu joined, %llu changes, %llu hashes\n", (unsigned long long)answers,
		      (unsigned long long)s.hits, (unsigned long long)s.misses, (unsigned long long)s.joined, (unsigned long long)s.changes,
		      (unsigned long long)a.hashes);
	assert_int_equal(wrong, 0);
	assert_int_equal(s.failed, 0);
	assert_true(s.joined > 0 && s.changes > 1);
	assert_int_equal(a.hashing + a.waiting, 0);
	auth_close();
	directory_close();
	sqlite3_close(other);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(many_shards_one_directory) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
