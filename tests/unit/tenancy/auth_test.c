/* SPDX-License-Identifier: Apache-2.0 */
/* Who may come in: proofs, the verified-login cache, the bounded queue of hashes, and that nobody learns who exists. */
#include "tenancy/auth.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/app_password.h"
#include "tenancy/app_used.h"
#include "tenancy/directory.h"
#include "tenancy/manage.h"
#include "tenancy/password.h"
#include "tests/unit/support/fiber_main.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define S(text) slice_str(text)

static const char *data;
static struct manage *manage;

static void made(enum err e)
{
	if (e)
		fail_msg("%s", manage_why(manage));
}

static void add(const char *name, const char *scheme, const char *password)
{
	char stored[STORED_PASSWORD_BYTES_MAX];
	assert_int_equal(password_make(scheme, S(password), stored), OK);
	made(manage_account_add(manage, S(name), S(""), S(stored)));
}

static void set(const char *tenant, enum setting_id id, const char *text)
{
	struct setting_value v;
	assert_int_equal(setting_parse(id, S(text), &v), OK);
	made(manage_tenant_set(manage, S(tenant), id, &v));
}

static void begin(struct auth_config config)
{
	char why[MANAGE_WHY_BYTES];
	data = test_folder();
	assert_int_equal(manage_open(data, &manage, why), OK);
	made(manage_tenant_add(manage, S("demo")));
	made(manage_domain_add(manage, S("demo.example"), S("demo"), S("")));
	made(manage_domain_add(manage, S("alias.example"), S("demo"), S("demo.example")));
	made(manage_tenant_add(manage, S("plain")));
	made(manage_domain_add(manage, S("plain.example"), S("plain"), S("")));
	set("plain", SET_PLAIN_PASSWORDS, "yes");
	add("anna@demo.example", "SHA512-CRYPT", "pass word");
	add("bert@demo.example", "SHA512-CRYPT", "pass word"); /* the same password */
	add("mrose@plain.example", "PLAIN", "tanstaaf");
	struct directory_config directory = { .data_path = data, .poll_ms = 50 };
	assert_int_equal(directory_open(&directory), OK);
	assert_int_equal(directory_start(), OK);
	assert_int_equal(auth_open(&config), OK);
}

static void end(void)
{
	auth_close();
	directory_stop();
	directory_close();
	manage_close(manage);
}

static struct auth_stats stats(void)
{
	struct auth_stats s;
	auth_stats(&s);
	return s;
}

/* The name that came in, or the outcome. */
static const char *try_login(const char *login, const char *password)
{
	static char got[512];
	struct auth_request r = { .protocol = AUTH_POP3, .login = S(login), .peer = SLICE_LIT("192.0.2.1") };
	struct subject *s;
	enum err e = auth_password(&r, S(password), &s);
	assert_true((e == OK) == (s != NULL));
	if (e)
		return err_name(e);
	snprintf(got, sizeof(got), "%.*s", SLICE_ARG(s->name));
	subject_unref(s);
	return got;
}

static void set_account(const char *name, enum setting_id id, const char *text)
{
	struct setting_value v;
	assert_int_equal(setting_parse(id, S(text), &v), OK);
	made(manage_account_set(manage, S(name), id, &v));
}

static const char *try_as(enum auth_protocol protocol, const char *act_for, const char *login, const char *password)
{
	static char got[512];
	struct auth_request r = { .protocol = protocol, .login = S(login), .authzid = S(act_for), .peer = SLICE_LIT("192.0.2.1") };
	struct subject *s;
	enum err e = auth_password(&r, S(password), &s);
	assert_true((e == OK) == (s != NULL));
	if (e)
		return err_name(e);
	snprintf(got, sizeof(got), "%.*s", SLICE_ARG(s->name));
	subject_unref(s);
	return got;
}

static void settle(void)
{
	fiber_sleep(200); /* four polls */
}

FIBER_TEST(right_and_wrong)
{
	begin((struct auth_config){ 0 });
	for (int warm = 0; warm < 2; warm++) {
		assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
		assert_string_equal(try_login("ANNA%alias.example", "pass word"), "anna@demo.example");
		assert_string_equal(try_login("anna+x@demo.example", "pass word"), "anna@demo.example");
		assert_string_equal(try_login("bert@demo.example", "pass word"), "bert@demo.example");
		assert_string_equal(try_login("mrose@plain.example", "tanstaaf"), "mrose@plain.example");
		assert_string_equal(try_login("anna@demo.example", "pass word "), "auth");
		assert_string_equal(try_login("anna@demo.example", "Pass word"), "auth");
		assert_string_equal(try_login("anna@demo.example", ""), "auth");
		assert_string_equal(try_login("nobody@demo.example", "pass word"), "auth");
		assert_string_equal(try_login("anna@nowhere.example", "pass word"), "auth");
		assert_string_equal(try_login("anna@plain.example", "pass word"), "auth");
		assert_string_equal(try_login("", ""), "auth");
		assert_string_equal(try_login("anna", "pass word"), "auth");
	}
	struct auth_request nul = { .protocol = AUTH_POP3, .login = S("anna@demo.example") };
	struct subject *s;
	assert_int_equal(auth_password(&nul, SLICE_LIT("pass word\0"), &s), ERR_AUTH);
	end();
}

/* A host that is one maildrop, with one or two passwords of the scheme that unknown names cost. */
static void add_maildrop(const char *name, const char *first, const char *second)
{
	char bytes[2][STORED_PASSWORD_BYTES_MAX];
	struct slice stored[2];
	assert_int_equal(password_make(NULL, S(first), bytes[0]), OK);
	assert_int_equal(password_make(NULL, S(second ? second : first), bytes[1]), OK);
	stored[0] = S(bytes[0]);
	stored[1] = S(bytes[1]);
	struct manage_new_host host = { .name = S(name), .tenant = S("demo"), .mode = SDPS_MAILDROP, .stored = stored, .stored_count = second ? 2 : 1 };
	made(manage_host_add(manage, &host));
}

/* What a login sees: "whole" or the local part. */
static const char *sees(const char *login, const char *password)
{
	static char got[512];
	struct auth_request r = { .protocol = AUTH_POP3, .login = S(login) };
	struct subject *s;
	enum err e = auth_password(&r, S(password), &s);
	if (e)
		return err_name(e);
	assert_true(s->maildrop && s->sdps == SDPS_MAILDROP && s->account_id);
	snprintf(got, sizeof(got), "%.*s", SLICE_ARG(s->sdps_user.len ? s->sdps_user : S("whole")));
	subject_unref(s);
	return got;
}

FIBER_TEST(a_host_and_its_users)
{
	static const char *const logins[][2] = {
		{ "vision25", "whole" }, { "VISION25.example.net", "whole" }, { "fred+vision25", "fred" }, { "Jane+vision25.example.net", "jane" },
		{ "fred@vision25", "fred" }, { "fred%vision25", "fred" }, { "fred@vision25.example.net", "fred" },
	};
	begin((struct auth_config){ 0 });
	add_maildrop("vision25.example.net", "first word", "second");
	settle();
	for (size_t i = 0; i < ARRAY_LEN(logins); i++) {
		assert_string_equal(sees(logins[i][0], "first word"), logins[i][1]);
		assert_string_equal(sees(logins[i][0], "second"), logins[i][1]);
		assert_string_equal(sees(logins[i][0], "third"), "auth");
	}
	assert_string_equal(try_login("vision25", "second"), "@vision25.example.net");
	assert_string_equal(try_login("fred+vision25", "second"), "fred@vision25.example.net");
	/* replaced: the old ones are forgotten, also by the cache of verified logins */
	char stored[STORED_PASSWORD_BYTES_MAX];
	assert_int_equal(password_make(NULL, S("third"), stored), OK);
	struct slice one = S(stored);
	made(manage_host_passwords(manage, S("vision25.example.net"), &one, 1));
	assert_int_equal(manage_host_passwords(manage, S("demo.example"), &one, 1), ERR_NOT_FOUND);
	settle();
	assert_string_equal(sees("fred+vision25", "third"), "fred");
	assert_string_equal(sees("fred+vision25", "second"), "auth");
	assert_string_equal(sees("vision25", "first word"), "auth");
	set("demo", SET_SUSPENDED, "yes");
	settle();
	assert_string_equal(sees("vision25", "third"), "denied");
	end();
}

FIBER_TEST(suspended_and_protocol_off)
{
	begin((struct auth_config){ 0 });
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	set("demo", SET_SUSPENDED, "yes");
	settle();
	assert_string_equal(try_login("anna@demo.example", "pass word"), "denied");
	assert_string_equal(try_login("anna@demo.example", "wrong"), "auth"); /* only who knows the password hears more */
	set("demo", SET_SUSPENDED, "no");
	set("demo", SET_POP3, "no");
	settle();
	assert_string_equal(try_login("anna@demo.example", "pass word"), "denied");
	struct auth_request imap = { .protocol = AUTH_IMAP, .login = S("anna@demo.example") };
	struct subject *s;
	assert_int_equal(auth_password(&imap, S("pass word"), &s), OK);
	subject_unref(s);
	end();
}

FIBER_TEST(verified_logins_are_remembered_until_a_change)
{
	char stored[STORED_PASSWORD_BYTES_MAX];
	begin((struct auth_config){ 0 });
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	uint64_t hashes = stats().hashes;
	for (int i = 0; i < 10; i++)
		assert_string_equal(try_login("anna+tag@alias.example", "pass word"), "anna@demo.example");
	assert_int_equal(stats().hashes, hashes);
	assert_int_equal(stats().verified_hits, 10);
	/* nobody profits from another's: same password, other account; other password, same account */
	assert_string_equal(try_login("bert@demo.example", "pass word"), "bert@demo.example");
	assert_string_equal(try_login("anna@demo.example", "wrong"), "auth");
	assert_int_equal(stats().hashes, hashes + 2);
	/* a wrong one is not remembered as right, or as wrong */
	assert_string_equal(try_login("anna@demo.example", "wrong"), "auth");
	assert_int_equal(stats().hashes, hashes + 3);

	assert_int_equal(password_make("SHA512-CRYPT", S("new one"), stored), OK);
	made(manage_account_password(manage, S("anna@demo.example"), S(stored)));
	settle();
	assert_string_equal(try_login("anna@demo.example", "pass word"), "auth");
	assert_string_equal(try_login("anna@demo.example", "new one"), "anna@demo.example");
	/* the old password back again: another version, so it is asked again */
	hashes = stats().hashes;
	assert_int_equal(password_make("SHA512-CRYPT", S("pass word"), stored), OK);
	made(manage_account_password(manage, S("anna@demo.example"), S(stored)));
	settle();
	assert_string_equal(try_login("anna@demo.example", "new one"), "auth");
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	assert_int_equal(stats().hashes, hashes + 2);
	end();
}

/* Everybody with everybody's password, several times, so that cold, warm and refused answers mix: each is as it must be. */
FIBER_TEST(nobody_comes_in_as_another)
{
	enum { USERS = 24, PASSWORDS = 5 };
	char name[64], alias[64], password[32];
	begin((struct auth_config){ .cache_bytes_max = 4096 }); /* small: entries push each other out */
	for (int u = 0; u < USERS; u++) {
		snprintf(name, sizeof(name), "user%d@demo.example", u);
		snprintf(password, sizeof(password), "secret%d", u % PASSWORDS); /* shared by several */
		add(name, "SSHA256", password);
	}
	settle();
	for (int round = 0; round < 4; round++)
		for (int u = 0; u < USERS; u++)
			for (int w = 0; w < PASSWORDS; w++) {
				snprintf(name, sizeof(name), "user%d@demo.example", u);
				snprintf(alias, sizeof(alias), "User%d+%d@alias.example", u, w);
				snprintf(password, sizeof(password), "secret%d", w);
				assert_string_equal(try_login(round % 2 ? alias : name, password), w == u % PASSWORDS ? name : "auth");
			}
	assert_true(stats().verified_hits > 0);
	end();
}

FIBER_TEST(they_are_forgotten_in_time)
{
	begin((struct auth_config){ .cache_ttl_s = 1 });
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	fiber_sleep(1100);
	uint64_t hashes = stats().hashes;
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	assert_int_equal(stats().hashes, hashes + 1);
	end();
}

FIBER_TEST(apop)
{
	/* RFC 1939's own example */
	struct slice timestamp = SLICE_LIT("<1896.697170952@dbc.mtview.ca.us>"), digest = SLICE_LIT("c4c9334bac560ecc979e58001b3e22fb");
	struct auth_request r = { .protocol = AUTH_POP3, .login = S("mrose@plain.example") }, anna = { .protocol = AUTH_POP3, .login = S("anna@demo.example") };
	struct subject *s;
	begin((struct auth_config){ 0 });
	assert_true(auth_apop_offered(SLICE_LIT("")));
	assert_int_equal(auth_apop(&r, timestamp, digest, &s), OK);
	assert_true(slice_eq(s->name, S("mrose@plain.example")));
	subject_unref(s);
	assert_int_equal(auth_apop(&r, timestamp, SLICE_LIT("C4C9334BAC560ECC979E58001B3E22FB"), &s), OK);
	subject_unref(s);
	assert_int_equal(auth_apop(&r, timestamp, SLICE_LIT("c4c9334bac560ecc979e58001b3e22fc"), &s), ERR_AUTH);
	assert_int_equal(auth_apop(&r, SLICE_LIT("<1@x>"), digest, &s), ERR_AUTH);
	assert_int_equal(auth_apop(&r, timestamp, slice_upto(digest, 31), &s), ERR_AUTH);
	assert_int_equal(auth_apop(&r, timestamp, SLICE_LIT(""), &s), ERR_AUTH);
	assert_int_equal(auth_apop(&anna, timestamp, digest, &s), ERR_AUTH); /* no reversible secret */
	r.login = S("nobody@plain.example");
	assert_int_equal(auth_apop(&r, timestamp, digest, &s), ERR_AUTH);
	set("plain", SET_PLAIN_PASSWORDS, "no");
	settle();
	assert_false(auth_apop_offered(SLICE_LIT("")));
	r.login = S("mrose@plain.example");
	assert_int_equal(auth_apop(&r, timestamp, digest, &s), ERR_AUTH);
	end();
}

/* ---- the queue ---- */

static char wrong[] = "wrong";
static unsigned ended, busy, timeout, refused;
static void guess(void *arg)
{
	const char *word = try_login("anna@demo.example", arg);
	busy += !strcmp(word, "busy");
	timeout += !strcmp(word, "timeout");
	refused += !strcmp(word, "auth");
	ended++;
}

static void guess_at_once(unsigned n)
{
	ended = busy = timeout = refused = 0;
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(fiber_start("guess", guess, wrong), OK);
	while (ended < n)
		fiber_sleep(1);
}

FIBER_TEST(a_full_queue_sheds)
{
	begin((struct auth_config){ .hash_queue_max = 5, .hash_parallel_max = 1 });
	guess_at_once(40);
	/* one runs and five wait at a time: the first six were begun in one turn of the loop */
	assert_int_equal(busy, 40 - 6);
	assert_int_equal(refused, 6);
	assert_int_equal(stats().waiting + stats().hashing, 0);
	assert_int_equal(stats().shed, 34);
	end();
}

static unsigned place;
static void honest(void *arg)
{
	(void)arg;
	assert_string_equal(try_login("mona@plain.example", "pass word"), "mona@plain.example");
	place = ended + 1; /* it may be the first */
}

/* Sixty guesses at one tenant stand in its line; the other tenant's user, who came last, is served second or third. */
FIBER_TEST(tenants_have_their_turns_at_a_hash)
{
	begin((struct auth_config){ .hash_queue_max = 1000, .hash_parallel_max = 1 });
	set("plain", SET_PASSWORD_SCHEME, "SHA512-CRYPT");
	add("mona@plain.example", "SHA512-CRYPT", "pass word");
	fiber_sleep(300); /* the change is seen */
	ended = place = 0;
	for (unsigned i = 0; i < 60; i++)
		assert_int_equal(fiber_start("guess", guess, wrong), OK);
	assert_int_equal(fiber_start("honest", honest, NULL), OK);
	while (ended < 60 || !place)
		fiber_sleep(1);
	assert_true(place > 0 && place < 10);
	end();
}

/* The last quarter of the places is not for who has most of them. */
FIBER_TEST(a_flooded_queue_has_a_place_for_others)
{
	begin((struct auth_config){ .hash_queue_max = 100, .hash_parallel_max = 1 });
	add("mona@plain.example", "SHA512-CRYPT", "pass word");
	fiber_sleep(300);
	ended = busy = refused = place = 0;
	for (unsigned i = 0; i < 150; i++)
		assert_int_equal(fiber_start("guess", guess, wrong), OK);
	while (!busy)
		fiber_yield();
	assert_in_range(stats().waiting, 60, 75); /* few have hashed to the end meanwhile */
	assert_int_equal(fiber_run_for(7, "honest", honest, NULL), OK);
	while (ended < 150 || !place)
		fiber_sleep(1);
	end();
}

FIBER_TEST(who_waits_too_long_goes)
{
	begin((struct auth_config){ .hash_queue_max = 1000, .hash_wait_ms_max = 20, .hash_parallel_max = 1 });
	guess_at_once(100);
	assert_int_equal(timeout + refused, 100);
	assert_true(timeout > 0 && refused > 0);
	assert_int_equal(stats().waiting + stats().hashing, 0);
	/* and afterwards all is as before */
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	end();
}

/* ---- time ---- */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

enum { ROUNDS = 61 };
static uint64_t median(uint64_t samples[ROUNDS])
{
	qsort(samples, ROUNDS, sizeof(samples[0]), compare);
	return samples[ROUNDS / 2];
}

static uint64_t timed(const char *login)
{
	uint64_t start = clock_fresh_ns();
	assert_string_equal(try_login(login, "wrong"), "auth");
	return clock_fresh_ns() - start;
}

/*
 * Wrong password, unknown name: medians of interleaved tries differ by less than 1.35.  A short cut (no hash, or one of another
 * scheme) makes them differ by 50 and more; noise on a busy machine hits both alike and moves a median of 61 by a few percent.
 */
FIBER_TEST(unknown_names_take_as_long)
{
	uint64_t known[ROUNDS], unknown[ROUNDS];
	begin((struct auth_config){ 0 });
	for (int i = -3; i < ROUNDS; i++) {
		uint64_t a = timed("anna@demo.example"), b = timed("nobody@demo.example");
		if (i >= 0) {
			known[i] = a;
			unknown[i] = b;
		}
	}
	uint64_t a = median(known), b = median(unknown);
	print_message("           wrong password %llu us, unknown name %llu us\n", (unsigned long long)a / 1000, (unsigned long long)b / 1000);
	assert_true(a * 100 < b * 135 && b * 100 < a * 135);
	end();
}

/* A host with two passwords, one with one, and none at all. */
FIBER_TEST(host_names_take_as_long)
{
	enum { TRIES = 15 };
	static const char *const logins[] = { "two", "one", "none", "fred+two", "fred+none", "fred@one", "fred@none" };
	static uint64_t took[ARRAY_LEN(logins)][ROUNDS];
	uint64_t least = UINT64_MAX, most = 0;
	begin((struct auth_config){ 0 });
	add_maildrop("two.example.net", "first", "second");
	add_maildrop("one.example.net", "first", NULL);
	settle();
	for (int i = -1; i < TRIES; i++)
		for (size_t k = 0; k < ARRAY_LEN(logins); k++) {
			uint64_t ns = timed(logins[k]);
			for (int r = i * ROUNDS / TRIES; i >= 0 && r < (i + 1) * ROUNDS / TRIES; r++)
				took[k][r] = ns;
		}
	for (size_t k = 0; k < ARRAY_LEN(logins); k++) {
		uint64_t m = median(took[k]);
		least = min_u64(least, m);
		most = max_u64(most, m);
	}
	print_message("           wrong password or no such host: %llu to %llu us\n", (unsigned long long)least / 1000, (unsigned long long)most / 1000);
	assert_true(most * 100 < least * 150); /* one hash less would be half */
	end();
}

FIBER_TEST(a_warm_login_is_cheap)
{
	enum { TIMES = 1000 };
	uint64_t best = UINT64_MAX;
	struct auth_request r = { .protocol = AUTH_POP3, .login = S("anna@demo.example") };
	struct subject *s;
	begin((struct auth_config){ 0 });
	assert_string_equal(try_login("anna@demo.example", "pass word"), "anna@demo.example");
	for (int round = 0; round < 20; round++) {
		uint64_t start = clock_fresh_ns();
		for (int i = 0; i < TIMES; i++) {
			assert_int_equal(auth_password(&r, S("pass word"), &s), OK);
			subject_unref(s);
		}
		best = min_u64(best, (clock_fresh_ns() - start) / TIMES);
	}
	print_message("           warm login: %llu ns\n", (unsigned long long)best);
	assert_true(best < 20000); /* measured below 2 us; wide, for sanitizers and busy machines */
	end();
}

/* An application password: the secret is kept by a fast hash. */
static void add_app(const char *account, const char *label, const char *secret, unsigned protocols)
{
	char stored[STORED_PASSWORD_BYTES_MAX];
	assert_int_equal(app_password_store(S(secret), stored), OK);
	made(manage_app_password_add(manage, S(account), S(label), S(stored), protocols));
}

struct app_seen {
	unsigned count, used;
};

static bool see_app(void *arg, const struct manage_app_password *p)
{
	struct app_seen *seen = arg;
	seen->count++;
	seen->used += p->used_s != 0;
	return true;
}

FIBER_TEST(application_passwords)
{
	char made_here[APP_SECRET_TEXT_BYTES], again[APP_SECRET_TEXT_BYTES], stored[STORED_PASSWORD_BYTES_MAX];
	struct app_seen seen = { 0, 0 };
	begin((struct auth_config){ 0 });
	assert_int_equal(app_password_make(made_here), OK);
	assert_int_equal(app_password_make(again), OK);
	assert_int_equal(strlen(made_here), APP_SECRET_TEXT_BYTES - 1);
	assert_string_not_equal(made_here, again);
	assert_int_equal(app_password_store(S("too short"), stored), ERR_SYNTAX);
	add_app("anna@demo.example", "phone", made_here, 0);
	add_app("anna@demo.example", "old reader", "0123456789-0123456789", 1u << AUTH_POP3);
	assert_int_equal(manage_app_password_add(manage, S("anna@demo.example"), S("phone"), S("{PLAIN}x"), 0), ERR_EXISTS);
	assert_int_equal(manage_app_password_add(manage, S("anna@demo.example"), S(""), S("{PLAIN}x"), 0), ERR_SYNTAX);
	assert_int_equal(manage_app_password_add(manage, S("anna@demo.example"), S("a\r\nb"), S("{PLAIN}x"), 0), ERR_SYNTAX);
	settle();
	for (int warm = 0; warm < 2; warm++) { /* what is remembered for one protocol is not for another */
		assert_string_equal(try_as(AUTH_POP3, "", "anna@demo.example", made_here), "anna@demo.example");
		assert_string_equal(try_as(AUTH_IMAP, "", "anna@demo.example", made_here), "anna@demo.example");
		assert_string_equal(try_as(AUTH_POP3, "", "anna@demo.example", "pass word"), "anna@demo.example");
		assert_string_equal(try_as(AUTH_POP3, "", "anna@demo.example", "0123456789-0123456789"), "anna@demo.example");
		assert_string_equal(try_as(AUTH_IMAP, "", "anna@demo.example", "0123456789-0123456789"), "auth");
		assert_string_equal(try_as(AUTH_POP3, "", "bert@demo.example", made_here), "auth");
	}
	assert_int_equal(app_used_flush(data), OK);
	made(manage_app_passwords(manage, S("anna@demo.example"), see_app, &seen));
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.used, 2);
	/* writing it made no cached answer stale: the directory's file has not changed */
	made(manage_app_password_remove(manage, S("anna@demo.example"), S("phone")));
	assert_int_equal(manage_app_password_remove(manage, S("anna@demo.example"), S("phone")), ERR_NOT_FOUND);
	settle();
	assert_string_equal(try_as(AUTH_POP3, "", "anna@demo.example", made_here), "auth");
	/* by hand in the database: the limit to a protocol counts at once, cached login or not */
	char path[512];
	sqlite3 *by_hand;
	snprintf(path, sizeof(path), "%s/directory.db", data);
	assert_int_equal(sqlite3_open(path, &by_hand), SQLITE_OK);
	assert_int_equal(sqlite3_exec(by_hand, "UPDATE credentials SET protocols = 2 WHERE label = 'old reader'", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(by_hand);
	settle();
	assert_string_equal(try_as(AUTH_POP3, "", "anna@demo.example", "0123456789-0123456789"), "auth");
	assert_string_equal(try_as(AUTH_IMAP, "", "anna@demo.example", "0123456789-0123456789"), "anna@demo.example");
	end();
}

FIBER_TEST(a_use_is_written_once_an_hour)
{
	char path[512];
	sqlite3 *db;
	sqlite3_stmt *st;
	data = test_folder();
	int64_t first = 1000000;
	app_used_note(7, first);
	assert_int_equal(app_used_flush(data), OK);
	app_used_note(7, first + APP_USED_EVERY_S - 1); /* soon again: not told */
	assert_int_equal(app_used_flush(data), OK);
	snprintf(path, sizeof(path), "%s/last_used.db", data);
	for (int late = 0; late < 2; late++) {
		assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
		assert_int_equal(sqlite3_prepare_v2(db, "SELECT used_s FROM used WHERE credential_id = 7", -1, &st, NULL), SQLITE_OK);
		assert_int_equal(sqlite3_step(st), SQLITE_ROW);
		assert_int_equal(sqlite3_column_int64(st, 0), late ? first + APP_USED_EVERY_S : first);
		sqlite3_finalize(st);
		sqlite3_close(db);
		app_used_note(7, first + APP_USED_EVERY_S);
		assert_int_equal(app_used_flush(data), OK);
	}
}

static void begin_masters(void)
{
	begin((struct auth_config){ .master_separator = '*' });
	add("boss@demo.example", "SHA512-CRYPT", "boss word");
	add("root@plain.example", "SHA512-CRYPT", "root word");
	add("star*anna@demo.example", "SHA512-CRYPT", "star word"); /* an exact account beats the form */
	set_account("boss@demo.example", SET_MASTER, "tenant");
	set_account("root@plain.example", SET_MASTER, "server");
	settle();
}

FIBER_TEST(masters)
{
	begin_masters();
	for (int warm = 0; warm < 2; warm++) {
		assert_string_equal(try_login("anna@demo.example*boss@demo.example", "boss word"), "anna@demo.example");
		assert_string_equal(try_login("anna@alias.example*BOSS@demo.example", "boss word"), "anna@demo.example");
		assert_string_equal(try_login("anna+x@demo.example*boss@demo.example", "boss word"), "anna@demo.example");
		assert_string_equal(try_as(AUTH_POP3, "anna@demo.example", "boss@demo.example", "boss word"), "anna@demo.example");
		assert_string_equal(try_as(AUTH_POP3, "boss@demo.example", "boss@demo.example", "boss word"), "boss@demo.example");
		assert_string_equal(try_as(AUTH_POP3, "anna@demo.example", "anna@demo.example", "pass word"), "anna@demo.example");
		/* the tenant is the fence, unless the master is the server's */
		assert_string_equal(try_login("mrose@plain.example*boss@demo.example", "boss word"), "auth");
		assert_string_equal(try_as(AUTH_POP3, "mrose@plain.example", "boss@demo.example", "boss word"), "auth");
		assert_string_equal(try_login("mrose@plain.example*root@plain.example", "root word"), "mrose@plain.example");
		assert_string_equal(try_login("anna@demo.example*root@plain.example", "root word"), "anna@demo.example");
		/* nobody, a wrong password, no master, the user's own password */
		assert_string_equal(try_login("nobody@demo.example*boss@demo.example", "boss word"), "auth");
		assert_string_equal(try_login("anna@demo.example*nobody@demo.example", "boss word"), "auth");
		assert_string_equal(try_login("anna@demo.example*boss@demo.example", "pass word"), "auth");
		assert_string_equal(try_login("anna@demo.example*bert@demo.example", "pass word"), "auth");
		assert_string_equal(try_as(AUTH_POP3, "anna@demo.example", "bert@demo.example", "pass word"), "auth");
		assert_string_equal(try_login("*boss@demo.example", "boss word"), "auth");
		assert_string_equal(try_login("anna@demo.example*", "pass word"), "auth");
		assert_string_equal(try_login("star*anna@demo.example", "star word"), "star*anna@demo.example");
	}
	/* a device's secret gives no power over others, nor does one remembered from the device's own login */
	add_app("boss@demo.example", "phone", "a long secret that a machine made", 0);
	settle();
	for (int warm = 0; warm < 2; warm++) {
		assert_string_equal(try_login("boss@demo.example", "a long secret that a machine made"), "boss@demo.example");
		assert_string_equal(try_login("anna@demo.example*boss@demo.example", "a long secret that a machine made"), "auth");
	}
	set_account("boss@demo.example", SET_POP3, "no");
	settle();
	assert_string_equal(try_login("anna@demo.example*boss@demo.example", "boss word"), "auth");
	set_account("boss@demo.example", SET_POP3, "yes");
	set_account("boss@demo.example", SET_SUSPENDED, "yes");
	settle();
	assert_string_equal(try_login("anna@demo.example*boss@demo.example", "boss word"), "auth");
	set_account("boss@demo.example", SET_SUSPENDED, "no");
	set_account("anna@demo.example", SET_SUSPENDED, "yes");
	settle();
	assert_string_equal(try_login("anna@demo.example*boss@demo.example", "boss word"), "denied");
	assert_string_equal(try_login("anna@demo.example*boss@demo.example", "wrong word"), "auth"); /* only a master learns of it */
	set_account("boss@demo.example", SET_MASTER, "none");
	settle();
	assert_string_equal(try_login("anna@demo.example*boss@demo.example", "boss word"), "auth");
	end();
}

FIBER_TEST(there_is_no_master_login_unless_it_is_configured)
{
	begin((struct auth_config){ 0 });
	set_account("bert@demo.example", SET_MASTER, "server");
	settle();
	assert_string_equal(try_login("anna@demo.example*bert@demo.example", "pass word"), "auth");
	assert_string_equal(try_as(AUTH_POP3, "anna@demo.example", "bert@demo.example", "pass word"), "anna@demo.example");
	end();
}

/*
 * Who is refused learns nothing by the clock.  Each round tries every kind of refused login once, in a fresh random order, so
 * that whatever loads the machine falls on all alike.  A kind is told apart from a wrong password if a rank test (Mann-Whitney, normal
 * approximation, two-sided) says so beyond Z_MAX *and* the difference is large enough to be used: the chance that a try of one kind takes
 * longer than one of the other is off 1/2 by more than EFFECT_MAX.
 *
 * False positives: both conditions must hold, and with 200 rounds an effect of 0.2 is 6.9 standard errors.  Measured in 20 runs under a load of 12 on two
 * processors, the kind that lies farthest off (by one who is no master) has z +1.4 on average with a deviation of 1.1, the largest of all was
 * 3.6: an alarm is 5 deviations away, 3e-7, with 10 comparisons 3e-6 a run, so even with heavier tails fewer than one in 10,000.  That it
 * can fail: the mutant below skips the hash for one kind and must be caught each time.
 */
enum { KINDS = 11, SAMPLES = 200 };
#define Z_MAX 4.8
#define EFFECT_MAX 0.2

struct refused_kind {
	const char *what, *login, *password;
	unsigned against; /* the kind that it must not be told from */
};

/* The share of pairs in which a > b, ties by half; and z. */
static double rank_test(const uint64_t *a, const uint64_t *b, double *z_out)
{
	double more = 0, n = SAMPLES;
	for (int i = 0; i < SAMPLES; i++)
		for (int j = 0; j < SAMPLES; j++)
			more += a[i] > b[j] ? 1 : a[i] == b[j] ? 0.5 : 0;
	double mean = n * n / 2, variance = n * n * (2 * n + 1) / 12;
	*z_out = (more - mean) / sqrt(variance);
	return more / (n * n);
}

static bool told_apart(const uint64_t *a, const uint64_t *b, double *share_out, double *z_out)
{
	*share_out = rank_test(a, b, z_out);
	return fabs(*z_out) > Z_MAX && fabs(*share_out - 0.5) > EFFECT_MAX;
}

static uint64_t one_try(const struct refused_kind *k)
{
	struct auth_request r = { .protocol = AUTH_POP3, .login = S(k->login), .peer = SLICE_LIT("192.0.2.1") };
	struct subject *s = NULL;
	uint64_t start = clock_fresh_ns();
	enum err e = auth_password(&r, S(k->password), &s);
	uint64_t took = clock_fresh_ns() - start;
	assert_int_equal(e, ERR_AUTH); /* the words: one outcome for all of them */
	return took;
}

FIBER_TEST(statistics_tell_nobody_apart)
{
	static uint64_t took[KINDS + 1][SAMPLES];
	static const struct refused_kind kinds[KINDS] = {
		{ "a wrong password", "anna@cheap.example", "wrong", 0 },
		{ "an unknown name", "nobody@cheap.example", "wrong", 0 },
		{ "a suspended account", "sue@cheap.example", "wrong", 0 },
		{ "a locked account (it has no password)", "mute@cheap.example", "wrong", 0 },
		{ "an account without this protocol", "popless@cheap.example", "wrong", 0 },
		{ "an account over its quota", "full@cheap.example", "wrong", 0 },
		{ "an account with application passwords", "bert@cheap.example", "wrong", 0 },
		{ "by a master with a wrong password", "anna@cheap.example*boss@cheap.example", "wrong", 5 },
		{ "by a master, nobody", "nobody@cheap.example*boss@cheap.example", "wrong", 5 },
		{ "by one who is no master", "anna@cheap.example*bert@cheap.example", "wrong", 5 },
		{ "by nobody", "anna@cheap.example*nobody@cheap.example", "wrong", 5 },
	};
	begin((struct auth_config){ .master_separator = '*' });
	/* a thousand rounds: enough that one hash less would show */
	static const char cheap[] = "{SHA256-CRYPT}$5$rounds=1000$penfoldtestsalt$EkePfaULlJiZfBHyXVj5RZDmbxvGpeJTH1ECgOmzau4",
			  *const names[] = { "anna@cheap.example", "bert@cheap.example", "sue@cheap.example", "boss@cheap.example",
					    "popless@cheap.example", "full@cheap.example" };
	made(manage_domain_add(manage, S("cheap.example"), S("demo"), S("")));
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		made(manage_account_add(manage, S(names[i]), S(""), S(cheap)));
	made(manage_account_add(manage, S("mute@cheap.example"), S(""), S("")));
	set_account("sue@cheap.example", SET_SUSPENDED, "yes");
	set_account("boss@cheap.example", SET_MASTER, "tenant");
	set_account("popless@cheap.example", SET_POP3, "no");
	set_account("full@cheap.example", SET_QUOTA_BYTES, "1");
	set_account("full@cheap.example", SET_QUOTA_MESSAGES, "1");
	for (int i = 0; i < CREDENTIALS_PER_ACCOUNT_MAX - 1; i++) {
		char label[16];
		snprintf(label, sizeof(label), "%d", i);
		add_app("bert@cheap.example", label, "a long secret that a machine made", 0);
	}
	settle();
	log_set_level(LOG_ERROR);
	for (int round = -2; round < SAMPLES; round++) { /* the first two fill the caches */
		unsigned order[KINDS + 1], seed;
		random_bytes(&seed, sizeof(seed));
		for (unsigned i = 0; i <= KINDS; i++)
			order[i] = i;
		for (unsigned i = KINDS; i > 0; i--, seed = seed * 1103515245u + 12345u) {
			unsigned j = (seed >> 8) % (i + 1), kept = order[i];
			order[i] = order[j];
			order[j] = kept;
		}
		for (unsigned i = 0; i <= KINDS; i++) {
			unsigned k = order[i];
			uint64_t ns;
			if (k < KINDS) {
				ns = one_try(&kinds[k]);
			} else { /* the mutant: what it would take to refuse without a hash */
				struct subject *s;
				uint64_t start = clock_fresh_ns();
				assert_int_equal(directory_rcpt(S("nobody@cheap.example"), &s), ERR_NOT_FOUND);
				ns = clock_fresh_ns() - start;
			}
			if (round >= 0)
				took[k][round] = ns;
		}
	}
	log_set_level(LOG_INFO);
	double share, z;
	for (int k = 1; k < KINDS; k++) {
		unsigned as = kinds[k].against;
		bool apart = told_apart(took[k], took[as], &share, &z);
		print_message("           %-40s longer in %.2f of pairs, z %+.1f\n", kinds[k].what, share, z);
		if (apart)
			fail_msg("%s is told from %s by the time: longer in %.2f of pairs, z %.1f", kinds[k].what, kinds[as].what, share, z);
	}
	assert_true(told_apart(took[KINDS], took[0], &share, &z)); /* it can fail */
	end();
}

/* RFC 4013: U+00E9 and e with U+0301 are one; U+2168 is IX; what is no UTF-8 is bytes. */
#define NFC "caf\xc3\xa9"
#define NFD "cafe\xcc\x81"

FIBER_TEST(one_form_for_all_keyboards)
{
	static const char *const schemes[] = { "SHA256-CRYPT", "SCRAM-SHA-256", "PLAIN" };
	begin((struct auth_config){ 0 });
	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		char name[64];
		const char *domain = strcmp(schemes[i], "PLAIN") ? "demo.example" : "plain.example";
		static const struct { const char *set, *typed; bool right; } cases[] = {
			{ NFC, NFC, true }, { NFC, NFD, true }, { NFD, NFC, true }, { NFD, NFD, true }, { "\xe2\x85\xa8", "IX", true }, { "IX", "\xe2\x85\xa8", true },
			{ NFC, "cafe", false }, { "caf\xe9", "caf\xe9", true }, { "caf\xe9", NFC, false }, { "IX", "ix", false }, { "a\xc2\xa0z", "a z", true },
			{ "a\xc2\xadz", "az", true }, { "\xc2\xad", "", false }, { "\xef\xbf\xbd", "\xef\xbf\xbd", true }, /* forbidden: as bytes */
		};
		for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
			snprintf(name, sizeof(name), "form%zu%zu@%s", i, k, domain);
			add(name, schemes[i], cases[k].set);
			const char *got = try_login(name, cases[k].typed);
			assert_string_equal(got, cases[k].right ? name : "auth");
		}
	}
	assert_string_equal(try_login("\xe2\x85\xa8@demo.example", "pass word"), "auth");
	end();
	begin((struct auth_config){ 0 });
	add("ix@demo.example", "SHA256-CRYPT", "pass word");
	assert_string_equal(try_login("\xe2\x85\xa8@demo.example", "pass word"), "ix@demo.example"); /* names, too */
	end();
}

/* Somebody else vouches for a name: whom the client names must be the same account, in any spelling. */
FIBER_TEST(proved_names)
{
	static const struct { const char *proved, *wanted, *outcome; } cases[] = {
		{ "anna@demo.example", "", "anna@demo.example" },
		{ "anna@demo.example", "anna@demo.example", "anna@demo.example" },
		{ "Anna@Demo.Example", "anna%alias.example", "anna@demo.example" },
		{ "anna+shop@alias.example", "anna@demo.example", "anna@demo.example" },
		{ "anna@demo.example", "bert@demo.example", "auth" },
		{ "anna@demo.example", "nobody@demo.example", "auth" },
		{ "anna@demo.example", "a@b@c", "auth" },
		{ "nobody@demo.example", "", "auth" },
		{ "nobody@demo.example", "anna@demo.example", "auth" },
		{ "", "anna@demo.example", "auth" },
		{ "nobody@demo.example", "nobody@demo.example", "auth" },
	};
	begin((struct auth_config){ 0 });
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct auth_request r = { .protocol = AUTH_POP3, .login = S(cases[i].proved), .authzid = S(cases[i].wanted) };
		struct subject *s = NULL;
		enum err e = auth_proved(&r, &s);
		if (s)
			assert_true(slice_eq(s->name, S(cases[i].outcome)));
		else
			assert_string_equal(err_name(e), cases[i].outcome);
		if (s)
			subject_unref(s);
	}
	assert_false(auth_bearer_offered());
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(right_and_wrong),
		cmocka_unit_test(a_host_and_its_users), cmocka_unit_test(host_names_take_as_long), cmocka_unit_test(suspended_and_protocol_off),
		cmocka_unit_test(verified_logins_are_remembered_until_a_change),
		cmocka_unit_test(nobody_comes_in_as_another),
		cmocka_unit_test(they_are_forgotten_in_time),
		cmocka_unit_test(apop),
		cmocka_unit_test(a_full_queue_sheds),
		cmocka_unit_test(tenants_have_their_turns_at_a_hash),
		cmocka_unit_test(a_flooded_queue_has_a_place_for_others),
		cmocka_unit_test(who_waits_too_long_goes),
		cmocka_unit_test(unknown_names_take_as_long),
		cmocka_unit_test(a_warm_login_is_cheap),
		cmocka_unit_test(application_passwords),
		cmocka_unit_test(a_use_is_written_once_an_hour),
		cmocka_unit_test(masters),
		cmocka_unit_test(there_is_no_master_login_unless_it_is_configured),
		cmocka_unit_test(statistics_tell_nobody_apart),

		cmocka_unit_test(proved_names), cmocka_unit_test(one_form_for_all_keyboards) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
