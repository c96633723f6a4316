/* SPDX-License-Identifier: Apache-2.0 */
/* What tenants used: counted, bounded, written, kept. */
#include "tenancy/usage.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "tenancy/manage.h"
#include "tests/unit/support/fiber_main.h"

#include <sqlite3.h>
#include <stdio.h>

#define S(text) slice_str(text)

static const char *data;

struct sums {
	size_t rows, unnamed;
	uint64_t demo[USAGE_COUNTERS], others[USAGE_COUNTERS], all_logins;
};

static bool add_row(void *arg, const struct manage_usage *u)
{
	struct sums *s = arg;
	s->rows++;
	s->unnamed += u->tenant.len == 0;
	s->all_logins += u->counters[USAGE_LOGINS];
	if (slice_eq(u->tenant, S("demo")))
		memcpy(s->demo, u->counters, sizeof(s->demo));
	if (!u->tenant_id)
		memcpy(s->others, u->counters, sizeof(s->others));
	return true;
}

static struct sums read_back(const char *tenant)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m;
	struct sums s = { 0 };
	struct slice only = tenant ? S(tenant) : S("");
	assert_int_equal(manage_open(data, &m, why), OK);
	assert_int_equal(manage_usage(m, tenant ? &only : NULL, add_row, &s), OK);
	manage_close(m);
	return s;
}

static uint64_t demo_id;
static bool take_id(void *arg, const struct manage_tenant *t)
{
	(void)arg;
	demo_id = (uint64_t)t->id;
	return true;
}

static void begin(void)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m;
	data = test_folder();
	assert_int_equal(manage_open(data, &m, why), OK);
	assert_int_equal(manage_tenant_add(m, S("idle")), OK);
	assert_int_equal(manage_tenant_add(m, S("demo")), OK);
	struct slice only = S("demo");
	assert_int_equal(manage_tenants(m, &only, take_id, NULL), OK);
	manage_close(m);
	usage_add(demo_id, USAGE_LOGINS, 1); /* before it is open: nobody's */
	assert_int_equal(usage_open(data, 1), OK);
	usage_start();
}

static void end(void)
{
	usage_stop();
	usage_close();
}

FIBER_TEST(sums_outlive_the_process)
{
	begin();
	usage_add(demo_id, USAGE_SESSIONS, 1);
	usage_add(demo_id, USAGE_BYTES_OUT, 5000000000);
	assert_int_equal(usage_flush(), OK);
	assert_int_equal(read_back(NULL).demo[USAGE_BYTES_OUT], 5000000000);
	usage_add(demo_id, USAGE_BYTES_OUT, 1);
	usage_add(0, USAGE_LOGINS_FAILED, 2);
	end();
	assert_int_equal(usage_open(data, 1), OK);
	usage_start();
	usage_add(demo_id, USAGE_BYTES_OUT, 1);
	end();
	struct sums s = read_back(NULL);
	assert_int_equal(s.demo[USAGE_BYTES_OUT], 5000000002);
	assert_int_equal(s.demo[USAGE_SESSIONS], 1);
	assert_int_equal(s.demo[USAGE_LOGINS], 0);
	assert_int_equal(s.others[USAGE_LOGINS_FAILED], 2);
	assert_true(s.rows == 3 && s.unnamed == 1); /* idle is shown, too */
	s = read_back("demo");
	assert_true(s.rows == 1 && s.demo[USAGE_SESSIONS] == 1);
}

FIBER_TEST(more_tenants_than_there_is_room_for)
{
	enum { MORE = 50 };
	begin();
	for (int twice = 0; twice < 2; twice++)
		for (uint64_t t = 1; t <= USAGE_TENANTS_MAX + MORE; t++)
			usage_add(1000 + t * 7919, USAGE_LOGINS, 1);
	assert_int_equal(usage_flush(), OK);
	struct sums s = read_back(NULL);
	assert_int_equal(s.others[USAGE_LOGINS], 2 * MORE);
	assert_int_equal(s.all_logins, 2 * (USAGE_TENANTS_MAX + MORE)); /* none is lost */
	assert_int_equal(s.rows, 2 + USAGE_TENANTS_MAX + 1);
	usage_add(1, USAGE_LOGINS, 1); /* written: there is room again */
	assert_int_equal(usage_flush(), OK);
	assert_int_equal(read_back(NULL).others[USAGE_LOGINS], 2 * MORE);
	end();
}

static void by_hand(const char *sql)
{
	char path[512];
	sqlite3 *db;
	snprintf(path, sizeof(path), "%s/usage.db", data);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

FIBER_TEST(what_could_not_be_written_waits)
{
	begin();
	usage_add(demo_id, USAGE_LOGINS, 1);
	assert_int_equal(usage_flush(), OK);
	by_hand("ALTER TABLE usage RENAME TO away");
	usage_add(demo_id, USAGE_LOGINS, 10);
	assert_int_not_equal(usage_flush(), OK);
	usage_add(demo_id, USAGE_LOGINS, 100);
	by_hand("DROP TABLE IF EXISTS usage; ALTER TABLE away RENAME TO usage");
	assert_int_equal(usage_flush(), OK);
	assert_int_equal(read_back(NULL).demo[USAGE_LOGINS], 111);
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sums_outlive_the_process),
		cmocka_unit_test(more_tenants_than_there_is_room_for),
		cmocka_unit_test(what_could_not_be_written_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
