/* SPDX-License-Identifier: Apache-2.0 */
/* The directory as a running server uses it: look-ups, cache, changes by another connection, failures. */
#include "tenancy/directory.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "tenancy/backend.h"
#include "tenancy/manage.h"
#include "tenancy/record.h"
#include "tests/unit/support/fiber_main.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *data;
static sqlite3 *other; /* somebody who edits the database by hand */

#define S(text) slice_str(text)

static void sql(const char *text)
{
	char *why = NULL;
	if (sqlite3_exec(other, text, NULL, NULL, &why))
		fail_msg("%s: %s", text, why);
}

static void made(enum err e, struct manage *m)
{
	if (e)
		fail_msg("%s", manage_why(m));
}

/* A tenant with a domain, an alias and three accounts; another tenant. */
static void sample(void)
{
	char why[MANAGE_WHY_BYTES], path[256];
	struct manage *m;
	data = test_folder();
	assert_int_equal(manage_open(data, &m, why), OK);
	made(manage_tenant_add(m, S("demo")), m);
	made(manage_tenant_add(m, S("Other")), m);
	made(manage_domain_add(m, S("Demo.Example"), S("demo"), S("")), m);
	made(manage_domain_add(m, S("alias.example"), S(""), S("demo.example")), m);
	made(manage_domain_add(m, S("other.example"), S("other"), S("")), m);
	made(manage_account_add(m, S("Anna@demo.example"), S(""), S("{SSHA}W6ph5Mm5Pz8GgiULbPgzG37mj9gweHg=")), m);
	made(manage_account_add(m, S("o'brien@demo.example"), S(""), S("")), m);
	made(manage_account_add(m, S("%s%n{x}@demo.example"), S(""), S("")), m);
	manage_close(m);
	snprintf(path, sizeof(path), "%s/directory.db", data);
	assert_int_equal(sqlite3_open_v2(path, &other, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
	sqlite3_busy_timeout(other, 2000);
	sql("PRAGMA foreign_keys = ON");
}

static void open_directory(uint64_t cache_bytes)
{
	struct directory_config c = { .data_path = data, .default_domain = "demo.example", .cache_bytes_max = cache_bytes, .poll_ms = 50, .ask_ms_max = 1000 };
	assert_int_equal(directory_open(&c), OK);
	assert_int_equal(directory_start(), OK);
}

static void close_directory(void)
{
	directory_stop();
	directory_close();
	sqlite3_close(other);
}

static struct directory_stats stats(void)
{
	struct directory_stats s;
	directory_stats(&s);
	return s;
}

/* Waits until the poll has seen one more change; says how long that took. */
static uint64_t wait_for_change(uint64_t before)
{
	uint64_t start = clock_now_ms();
	while (stats().changes == before && clock_now_ms() < start + 5000)
		fiber_sleep(5);
	assert_true(stats().changes > before);
	return clock_now_ms() - start;
}

static enum err rcpt(const char *address)
{
	struct subject *s;
	enum err e = directory_rcpt(slice_str(address), &s);
	subject_unref(s);
	return e;
}

FIBER_TEST(finds_what_is_there)
{
	struct subject *s;
	bool served;
	sample();
	open_directory(MIB(1));
	assert_int_equal(directory_rcpt(S("ANNA+list@Alias.Example"), &s), OK);
	assert_true(slice_eq(s->name, S("anna@demo.example")));
	assert_true(slice_eq(s->tenant, S("demo")));
	assert_true(s->pop3 && s->imap && s->lmtp && !s->suspended && !s->apop);
	assert_int_equal(s->quota_bytes, 0);
	assert_int_equal(s->expire_days, -1);
	assert_int_equal(s->subaddress_separator, '+');
	assert_int_equal(s->over_quota, OVER_QUOTA_PERMANENT);
	assert_int_equal(s->credential_version, 1);
	subject_unref(s);
	assert_int_equal(rcpt("anna"), OK); /* default domain */
	assert_int_equal(rcpt("nobody@demo.example"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("anna@nowhere.example"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("anna@other.example"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("anna@"), ERR_SYNTAX);
	assert_int_equal(directory_domain(S("ALIAS.example."), &served), OK);
	assert_true(served);
	assert_int_equal(directory_domain(S("nowhere.example"), &served), OK);
	assert_false(served);
	close_directory();
}

FIBER_TEST(strange_names_are_only_names)
{
	sample();
	open_directory(MIB(1));
	assert_int_equal(rcpt("o'brien@demo.example"), OK);
	assert_int_equal(rcpt("%s%n{x}@demo.example"), OK);
	static const char *const strange[] = { "'; DROP TABLE accounts; --@demo.example", "' OR '1'='1@demo.example", "%@demo.example", "_nna@demo.example",
					       "an*@demo.example", ")(uid=*@demo.example", "anna\\@demo.example", "{}@demo.example", "%{user}@demo.example",
					       "?1@demo.example", "anna'@demo.example", "anna;@demo.example", "anna--@demo.example" };
	for (size_t i = 0; i < ARRAY_LEN(strange); i++)
		assert_int_equal(rcpt(strange[i]), ERR_NOT_FOUND);
	assert_int_equal(rcpt("an\tna@demo.example"), ERR_SYNTAX);
	assert_int_equal(rcpt("anna@demo.example'--"), ERR_SYNTAX);
	assert_int_equal(rcpt("anna@demo.example"), OK); /* the tables are still there */
	close_directory();
}

FIBER_TEST(a_change_is_seen_within_a_second)
{
	struct subject *before, *after;
	sample();
	open_directory(MIB(1));
	assert_int_equal(rcpt("new@demo.example"), ERR_NOT_FOUND);
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &before), OK);
	uint64_t misses = stats().misses, changes = stats().changes;

	/* warm: no further questions */
	assert_int_equal(rcpt("new@demo.example"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("anna@demo.example"), OK);
	assert_int_equal(stats().misses, misses);

	sql("INSERT INTO accounts (domain_id, local_part) SELECT id, 'new' FROM domains WHERE name = 'demo.example';"
	    "UPDATE tenants SET suspended = 1, quota_bytes = 7 WHERE name = 'demo'");
	assert_in_range(wait_for_change(changes), 0, 1000);
	assert_int_equal(rcpt("new@demo.example"), OK);
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &after), OK);
	assert_true(after->suspended);
	assert_int_equal(after->quota_bytes, 7);
	assert_false(before->suspended); /* who holds the old one keeps it */
	assert_int_equal(after->account_id, before->account_id);
	subject_unref(before);
	subject_unref(after);

	changes = stats().changes;
	sql("DELETE FROM accounts WHERE local_part = 'new'");
	wait_for_change(changes);
	assert_int_equal(rcpt("new@demo.example"), ERR_NOT_FOUND);
	close_directory();
}

FIBER_TEST(extremes_of_all_tenants)
{
	sample();
	open_directory(MIB(1));
	assert_int_equal(directory_extremes().login_delay_max_s, 0);
	assert_int_equal(directory_extremes().expire_days_min, -1);
	uint64_t changes = stats().changes;
	sql("UPDATE tenants SET login_delay_s = 60, expire_days = -1 WHERE name = 'demo';"
	    "UPDATE tenants SET login_delay_s = 900, expire_days = 5 WHERE name = 'other'");
	wait_for_change(changes);
	assert_int_equal(directory_extremes().login_delay_max_s, 900);
	assert_int_equal(directory_extremes().expire_days_min, 5);
	close_directory();
}

/* A file of the first release gets what came later, and keeps what it has. */
FIBER_TEST(an_older_file_is_brought_up_to_date)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m;
	sample();
	sql("DROP TABLE sdps_hosts; ALTER TABLE tenants DROP COLUMN xtnd; DROP TRIGGER credentials_limit;"
	    "ALTER TABLE credentials DROP COLUMN app; ALTER TABLE credentials DROP COLUMN protocols; ALTER TABLE credentials DROP COLUMN created_s;"
	    "ALTER TABLE accounts DROP COLUMN master; ALTER TABLE accounts DROP COLUMN source;"
	    " ALTER TABLE tenants DROP COLUMN sessions_max; ALTER TABLE tenants DROP COLUMN account_sessions_max;"
	    " ALTER TABLE tenants DROP COLUMN guess_delay_max_s; ALTER TABLE tenants DROP COLUMN trusted_networks;"
	    "ALTER TABLE tenants DROP COLUMN plaintext_login; ALTER TABLE tenants DROP COLUMN deletion; ALTER TABLE tenants DROP COLUMN end_on_password_change;"
	    " ALTER TABLE tenants DROP COLUMN junk; ALTER TABLE accounts DROP COLUMN junk; PRAGMA user_version = 1");
	assert_int_equal(manage_open(data, &m, why), OK);
	struct manage_new_host host = { .name = S("new.example.net"), .tenant = S("demo"), .mode = SDPS_MAILDROP };
	made(manage_host_add(m, &host), m);
	manage_close(m);
	open_directory(MIB(1));
	assert_int_equal(rcpt("anna@demo.example"), OK);
	assert_int_equal(rcpt("anybody@new.example.net"), OK);
	close_directory();
}

/* ---- SDPS hosts ---- */

static void add_host(struct manage *m, const char *name, const char *tenant, enum sdps_mode mode, enum err expect)
{
	struct manage_new_host host = { .name = S(name), .tenant = S(tenant), .mode = mode };
	enum err e = manage_host_add(m, &host);
	if (e != expect)
		fail_msg("%s: %s (%s)", name, err_name(e), e ? manage_why(m) : "");
}

static void rcpt_is(const char *address, const char *name, enum sdps_mode mode, bool maildrop)
{
	struct subject *s;
	assert_int_equal(directory_rcpt(S(address), &s), OK);
	if (!slice_eq(s->name, S(name)) || s->sdps != mode || s->maildrop != maildrop || s->sdps_user.len)
		fail_msg("%s: %.*s", address, SLICE_ARG(s->name));
	subject_unref(s);
}

FIBER_TEST(hosts_take_their_mail)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m;
	int64_t id;
	bool gone;
	sample();
	open_directory(MIB(1));
	assert_int_equal(manage_open(data, &m, why), OK);
	assert_int_equal(rcpt("x@vision25.example.net"), ERR_NOT_FOUND);
	uint64_t before = stats().changes;
	add_host(m, "Vision25.example.net", "demo", SDPS_MAILDROP, OK);
	add_host(m, "books.example.net", "demo", SDPS_ACCOUNTS, OK);
	add_host(m, "demo.example", "demo", SDPS_ACCOUNTS, OK); /* a domain that is there */
	add_host(m, "other.example", "demo", SDPS_ACCOUNTS, ERR_DENIED);
	add_host(m, "alias.example", "demo", SDPS_ACCOUNTS, ERR_DENIED);
	add_host(m, "vision25.example.net", "demo", SDPS_ACCOUNTS, ERR_EXISTS);
	add_host(m, "vision25.example.com", "other", SDPS_ACCOUNTS, ERR_EXISTS); /* its short name */
	add_host(m, "nodot", "demo", SDPS_ACCOUNTS, ERR_SYNTAX);
	add_host(m, "x y.example", "demo", SDPS_ACCOUNTS, ERR_SYNTAX);
	add_host(m, "x.example", "nobody", SDPS_ACCOUNTS, ERR_NOT_FOUND);
	struct manage_new_host quiet = { .name = S("vision25.example.com"), .tenant = S("other"), .mode = SDPS_ACCOUNTS, .no_short_name = true };
	made(manage_host_add(m, &quiet), m);
	made(manage_account_add(m, S("own@vision25.example.net"), S(""), S("")), m);
	assert_int_equal(manage_domain_remove(m, S("books.example.net")), ERR_EXISTS);
	wait_for_change(before);
	fiber_sleep(150);
	rcpt_is("X@vision25.example.net", "@vision25.example.net", SDPS_MAILDROP, true);
	rcpt_is("\"a b\"@VISION25.example.net", "@vision25.example.net", SDPS_MAILDROP, true);
	rcpt_is("own@vision25.example.net", "own@vision25.example.net", SDPS_MAILDROP, false);
	rcpt_is("anna@demo.example", "anna@demo.example", SDPS_ACCOUNTS, false);
	assert_int_equal(rcpt("x@books.example.net"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("x+vision25"), ERR_NOT_FOUND); /* never for mail */
	assert_int_equal(rcpt("x@vision25"), ERR_NOT_FOUND);
	assert_int_equal(rcpt("vision25"), ERR_NOT_FOUND);
	/* by hand, too */
	sql("UPDATE domains SET alias_of = (SELECT id FROM domains WHERE name = 'vision25.example.net') WHERE name = 'alias.example'");
	fiber_sleep(200);
	rcpt_is("x@alias.example", "@vision25.example.net", SDPS_MAILDROP, true);
	sql("UPDATE domains SET alias_of = (SELECT id FROM domains WHERE name = 'demo.example') WHERE name = 'alias.example'");
	/* and gone: with its domain only if that came with it and is empty */
	made(manage_host_remove(m, S("vision25.example.net"), true, &id, &gone), m);
	assert_true(id > 0 && !gone);
	made(manage_account_remove(m, S("own@vision25.example.net"), false, &id), m);
	made(manage_host_remove(m, S("books.example.net"), false, &id, &gone), m);
	assert_true(id == 0 && gone);
	made(manage_host_remove(m, S("demo.example"), false, &id, &gone), m);
	assert_true(id == 0 && !gone);
	assert_int_equal(manage_host_remove(m, S("demo.example"), false, &id, &gone), ERR_NOT_FOUND);
	fiber_sleep(200);
	assert_int_equal(rcpt("x@vision25.example.net"), ERR_NOT_FOUND);
	rcpt_is("anna@demo.example", "anna@demo.example", SDPS_NONE, false);
	manage_close(m);
	close_directory();
}

FIBER_TEST(credential_version_follows_every_change)
{
	struct subject *s;
	uint64_t version = 0, changes;
	static const char *const edits[] = { "SELECT 1", "UPDATE credentials SET stored = '{PLAIN}x'", "UPDATE credentials SET stored = '{PLAIN}x'",
					     "DELETE FROM credentials", "INSERT INTO credentials (account_id, stored) SELECT id, '{PLAIN}x' FROM accounts" };
	sample();
	open_directory(MIB(1));
	for (size_t i = 0; i < ARRAY_LEN(edits); i++) {
		changes = stats().changes;
		sql(edits[i]);
		if (i)
			wait_for_change(changes);
		assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
		assert_true(s->credential_version > version);
		version = s->credential_version;
		subject_unref(s);
	}
	close_directory();
}

/* As the file has it now, whatever the cache says. */
FIBER_TEST(accounts_asked_for_by_id)
{
	struct subject *s;
	sample();
	open_directory(MIB(1));
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
	struct standing two[2] = { { .account_id = s->account_id }, { .account_id = 999999 } };
	assert_int_equal(directory_standings(two, 2), OK);
	assert_true(two[0].found && !two[0].suspended && two[0].pop3 && two[0].imap && !two[0].end_on_password_change);
	assert_int_equal(two[0].credential_version, s->credential_version);
	assert_false(two[1].found);
	sql("UPDATE tenants SET suspended = 1, imap = 0, end_on_password_change = 1");
	assert_int_equal(directory_standings(two, 2), OK);
	assert_true(two[0].found && two[0].suspended && two[0].pop3 && !two[0].imap && two[0].end_on_password_change);
	sql("UPDATE tenants SET suspended = 0; UPDATE accounts SET suspended = 1, imap = 1");
	assert_int_equal(directory_standings(two, 1), OK);
	assert_true(two[0].suspended && two[0].imap);
	subject_unref(s);
	close_directory();
}

FIBER_TEST(stale_answers_serve_when_it_fails)
{
	char path[256];
	sample();
	open_directory(MIB(1));
	assert_int_equal(rcpt("anna@demo.example"), OK);
	assert_int_equal(rcpt("nobody@demo.example"), ERR_NOT_FOUND);
	/* a change that cannot be read: the file under the name is no database any more */
	uint64_t changes = stats().changes;
	sql("UPDATE tenants SET quota_bytes = 9");
	wait_for_change(changes);
	sql("PRAGMA wal_checkpoint(TRUNCATE)"); /* what is moved away below is the whole of it */
	snprintf(path, sizeof(path), "%s/directory.db", data);
	char away[300];
	snprintf(away, sizeof(away), "%s.away", path);
	assert_int_equal(rename(path, away), 0);
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "this is not a database, but it is long enough to look at ......................................................", 100), 100);
	close(fd);
	fiber_sleep(300); /* the poll finds another file: all connections are opened anew */
	assert_int_equal(rcpt("anna@demo.example"), OK);
	assert_int_equal(rcpt("nobody@demo.example"), ERR_NOT_FOUND);
	assert_true(stats().stale_served >= 2);
	assert_int_equal(rcpt("unknown@demo.example"), ERR_TEMP);

	/* and back */
	assert_int_equal(rename(away, path), 0);
	fiber_sleep(DIRECTORY_RETRY_MS + 300);
	assert_int_equal(rcpt("unknown@demo.example"), ERR_NOT_FOUND);
	struct subject *s;
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
	assert_int_equal(s->quota_bytes, 9);
	subject_unref(s);
	close_directory();
}

static unsigned asked;
static void ask_anna(void *arg)
{
	(void)arg;
	assert_int_equal(rcpt("anna@demo.example"), OK);
	asked++;
}

FIBER_TEST(one_query_for_many_askers)
{
	sample();
	open_directory(MIB(1));
	asked = 0;
	for (int i = 0; i < 50; i++)
		assert_int_equal(fiber_start("asks", ask_anna, NULL), OK);
	while (asked < 50)
		fiber_sleep(1);
	assert_int_equal(stats().misses, 2); /* the domain, the account */
	assert_true(stats().joined >= 49);
	close_directory();
}

FIBER_TEST(bytes_are_bounded)
{
	char name[64];
	uint64_t most = 0;
	sample();
	open_directory(KIB(256));
	assert_int_equal(rcpt("anna@demo.example"), OK);
	for (int i = 0; i < 5000; i++) {
		snprintf(name, sizeof(name), "guess%d@demo.example", i);
		assert_int_equal(rcpt(name), ERR_NOT_FOUND);
		most = max_u64(most, stats().cache_bytes);
	}
	assert_true(most <= KIB(256));
	/* guesses have a quarter of the room: they did not push the account out */
	uint64_t misses = stats().misses;
	assert_int_equal(rcpt("anna@demo.example"), OK);
	assert_int_equal(stats().misses, misses);
	close_directory();
}

FIBER_TEST(a_warm_look_up_is_cheap)
{
	enum { TIMES = 20000 };
	uint64_t best = UINT64_MAX;
	struct subject *s;
	sample();
	open_directory(MIB(1));
	assert_int_equal(rcpt("anna@demo.example"), OK);
	for (int round = 0; round < 20; round++) {
		uint64_t start = clock_fresh_ns();
		for (int i = 0; i < TIMES / 20; i++) {
			assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
			subject_unref(s);
		}
		best = min_u64(best, (clock_fresh_ns() - start) / (TIMES / 20));
	}
	print_message("           warm look-up: %llu ns\n", (unsigned long long)best);
	assert_true(best < 5000); /* measured 0.3 us; wide, for sanitizers and busy machines */
	close_directory();
}

FIBER_TEST(removed_accounts_wait_for_their_purge)
{
	char why[MANAGE_WHY_BYTES];
	struct manage *m;
	struct subject *s;
	int64_t removed;
	uint64_t id, changes;
	sample();
	open_directory(MIB(1));
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
	uint64_t anna = s->account_id;
	subject_unref(s);
	assert_int_equal(directory_purge_next(0, &id), ERR_NOT_FOUND);
	changes = stats().changes;
	assert_int_equal(manage_open(data, &m, why), OK);
	made(manage_account_remove(m, S("anna@demo.example"), true, &removed), m);
	assert_int_equal(removed, anna);
	made(manage_account_add(m, S("anna@demo.example"), S(""), S("")), m);
	wait_for_change(changes);
	assert_int_equal(directory_rcpt(S("anna@demo.example"), &s), OK);
	assert_true(s->account_id > anna); /* a new account of the old name never gets the old one's mail */
	subject_unref(s);
	assert_int_equal(directory_purge_next(0, &id), OK);
	assert_int_equal(id, anna);
	assert_int_equal(directory_purge_next(id, &id), ERR_NOT_FOUND);
	assert_int_equal(directory_purge_done(anna), OK);
	assert_int_equal(directory_purge_next(0, &id), ERR_NOT_FOUND);
	manage_close(m);
	close_directory();
}

/* The bound on a query's steps is each query's own, however many a connection has answered. */
FIBER_TEST(a_connection_answers_for_ever)
{
	const struct directory_backend *backend;
	struct record *record;
	void *self;
	sample();
	assert_int_equal(directory_sqlite_open(data, &backend, &self), OK);
	/* some thirty steps each: four times the bound in all */
	for (int i = 0; i < 4 * DIRECTORY_STEPS_MAX / 30; i++) {
		enum err e = backend->account(self, S("anna"), S("demo.example"), NULL, &record);
		if (e)
			fail_msg("question %d: %s", i, err_name(e));
		fact_unref(&record->fact);
	}
	backend->close(self);
	sqlite3_close(other);
}

static void refuses_a_foreign_or_newer_file(void **state)
{
	(void)state;
	char path[256], why[MANAGE_WHY_BYTES];
	struct manage *m;
	data = test_folder();
	snprintf(path, sizeof(path), "%s/directory.db", data);
	assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
	sql("CREATE TABLE something (x)");
	assert_int_equal(manage_open(data, &m, why), ERR_CONFIG);
	assert_string_equal(why, "directory.db is not Penfold's");
	sql("DROP TABLE something");
	assert_int_equal(manage_open(data, &m, why), OK);
	manage_close(m);
	sql("PRAGMA user_version = 1000");
	assert_int_equal(manage_open(data, &m, why), ERR_CONFIG);
	assert_non_null(strstr(why, "newer"));
	sqlite3_close(other);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_what_is_there),
		cmocka_unit_test(strange_names_are_only_names),
		cmocka_unit_test(a_change_is_seen_within_a_second),
		cmocka_unit_test(extremes_of_all_tenants),
		cmocka_unit_test(an_older_file_is_brought_up_to_date), cmocka_unit_test(hosts_take_their_mail), cmocka_unit_test(credential_version_follows_every_change),
		cmocka_unit_test(accounts_asked_for_by_id),
		cmocka_unit_test(stale_answers_serve_when_it_fails),
		cmocka_unit_test(one_query_for_many_askers),
		cmocka_unit_test(bytes_are_bounded),
		cmocka_unit_test(a_warm_look_up_is_cheap),
		cmocka_unit_test(removed_accounts_wait_for_their_purge),
		cmocka_unit_test(a_connection_answers_for_ever),
		cmocka_unit_test(refuses_a_foreign_or_newer_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
