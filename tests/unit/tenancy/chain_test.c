/* SPDX-License-Identifier: Apache-2.0 */
/* Several directories: a passwd-file beside SQLite, its changes, what a broken one does, and who decides. */
#include "tenancy/auth.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/app_password.h"
#include "tenancy/directory.h"
#include "tenancy/manage.h"
#include "core/run/redis.h"
#include "tenancy/backend.h"
#include "tests/unit/support/fiber_main.h"
#include "tests/unit/support/redis_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define S(text) slice_str(text)
#define SECRET_WORD "{SHA256-CRYPT}$5$rounds=1000$penfoldtestsalt$EkePfaULlJiZfBHyXVj5RZDmbxvGpeJTH1ECgOmzau4" /* of "secret word" */

static const char *data;
static char file[256];
static struct manage *manage;
static struct directory_source sources[4];
static struct redis_settings redis_at;
static struct redis *to_redis;

static void made(enum err e)
{
	if (e)
		fail_msg("%s", manage_why(manage));
}

/* In one step, as one should. */
static void write_file(const char *text)
{
	char fresh[300];
	snprintf(fresh, sizeof(fresh), "%s.new", file);
	FILE *f = fopen(fresh, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(rename(fresh, file), 0);
}

static void prepare(const char *text)
{
	char why[MANAGE_WHY_BYTES];
	data = test_folder();
	snprintf(file, sizeof(file), "%s/users", data);
	assert_int_equal(manage_open(data, &manage, why), OK);
	made(manage_tenant_add(manage, S("demo")));
	made(manage_tenant_add(manage, S("other")));
	made(manage_domain_add(manage, S("demo.example"), S("demo"), S("")));
	made(manage_domain_add(manage, S("alias.example"), S("demo"), S("demo.example")));
	made(manage_domain_add(manage, S("other.example"), S("other"), S("")));
	made(manage_account_add(manage, S("anna@demo.example"), S(""), S(SECRET_WORD)));
	if (text)
		write_file(text);
	sources[0] = (struct directory_source){ .kind = DIRECTORY_SQLITE };
	sources[1] = (struct directory_source){ .kind = DIRECTORY_PASSWD_FILE, .path = file, .tenant = "demo", .domain = "demo.example" };
	sources[2] = sources[0];
	sources[3] = (struct directory_source){ .kind = DIRECTORY_REDIS, .tenant = "demo" };
}

static void begin_with(const struct directory_source *first, unsigned count)
{
	struct auth_config auth = { 0 };
	struct directory_config directory = { .data_path = data, .default_domain = "demo.example", .sources = first, .source_count = count, .redis = &redis_at, .poll_ms = 50 };
	assert_int_equal(directory_open(&directory), OK);
	assert_int_equal(directory_start(), OK);
	assert_int_equal(auth_open(&auth), OK);
}

static void end(void)
{
	auth_close();
	directory_stop();
	directory_close();
	manage_close(manage);
}

static const char *try_login(const char *login, const char *password)
{
	static char got[512];
	struct auth_request r = { .protocol = AUTH_POP3, .login = S(login), .peer = SLICE_LIT("192.0.2.1") };
	struct subject *s;
	enum err e = auth_password(&r, S(password), &s);
	if (e)
		return err_name(e);
	snprintf(got, sizeof(got), "%.*s", SLICE_ARG(s->name));
	subject_unref(s);
	return got;
}

static enum err rcpt(const char *address, uint64_t *id_out)
{
	struct subject *s;
	enum err e = directory_rcpt(S(address), &s);
	*id_out = e ? 0 : s->account_id;
	subject_unref(s);
	return e;
}

/* Until a login gives this, or long enough for any machine has gone by. */
static void becomes(const char *login, const char *password, const char *expect)
{
	uint64_t end_ms = clock_now_ms() + 10000;
	while (strcmp(try_login(login, password), expect) && clock_now_ms() < end_ms)
		fiber_sleep(20);
	assert_string_equal(try_login(login, password), expect);
}

FIBER_TEST(a_file_beside_sqlite)
{
	uint64_t bert, again;
	struct subject *s;
	prepare("# accounts\n\nbert:" SECRET_WORD "::::/home/bert::userdb_quota_rule=*:storage=1M:messages=7 userdb_mail=maildir:~/Mail\n"
		"Carl+Cash@Demo.Example:" SECRET_WORD "\r\n"
		"eve@new.example:" SECRET_WORD ":1000:1000::::nologin\n"
		"fred@demo.example:*\n"
		"gina@demo.example:" SECRET_WORD "::::::allow_nets=192.0.2.0/24\n"
		"mallory@other.example:" SECRET_WORD "\n"
		"bert:{PLAIN}the second line of a name does not count\n"
		"anna:{PLAIN}nor that of one whom SQLite knows\n");
	begin_with(sources, 2);
	for (int warm = 0; warm < 2; warm++) {
		assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example");
		assert_string_equal(try_login("bert@demo.example", "secret word"), "bert@demo.example");
		assert_string_equal(try_login("BERT%alias.example", "secret word"), "bert@demo.example");
		assert_string_equal(try_login("bert+tag", "secret word"), "bert@demo.example");
		assert_string_equal(try_login("carl+cash@demo.example", "secret word"), "carl+cash@demo.example");
		assert_string_equal(try_login("bert@demo.example", "wrong"), "auth");
		assert_string_equal(try_login("eve@new.example", "secret word"), "auth");
		assert_string_equal(try_login("fred@demo.example", "*"), "auth");
		assert_string_equal(try_login("gina@demo.example", "secret word"), "auth"); /* a limit that is not understood is no permission */
		assert_string_equal(try_login("mallory@other.example", "secret word"), "auth"); /* another tenant's domain */
		assert_string_equal(try_login("anna@demo.example", "nor that of one whom SQLite knows"), "auth");
	}
	assert_int_equal(directory_rcpt(S("bert@demo.example"), &s), OK);
	assert_int_equal(s->quota_bytes, MIB(1));
	assert_int_equal(s->quota_messages, 7);
	assert_true(slice_eq(s->tenant, S("demo")));
	bert = s->account_id;
	subject_unref(s);
	assert_int_equal(rcpt("eve@new.example", &again), OK); /* takes mail; its domain has become the tenant's */
	assert_int_equal(rcpt("fred@demo.example", &again), OK);
	assert_int_equal(rcpt("mallory@other.example", &again), ERR_NOT_FOUND);
	end();
	assert_true(bert != 0);
}

FIBER_TEST(ids_are_kept_and_never_used_again)
{
	uint64_t bert, carl, again;
	int64_t removed;
	prepare("bert:" SECRET_WORD "\ncarl:" SECRET_WORD "\n");
	begin_with(sources, 2);
	assert_int_equal(rcpt("bert@demo.example", &bert), OK);
	assert_int_equal(rcpt("carl@demo.example", &carl), OK);
	assert_true(bert != carl);
	/* bert leaves and comes back: his mail is his; carl is removed by the operator in between: another carl gets another id */
	write_file("dora:" SECRET_WORD "\n");
	becomes("dora@demo.example", "secret word", "dora@demo.example");
	assert_string_equal(try_login("bert@demo.example", "secret word"), "auth");
	assert_int_equal(rcpt("bert@demo.example", &again), ERR_NOT_FOUND);
	made(manage_account_remove(manage, S("carl@demo.example"), false, &removed));
	assert_int_equal(removed, carl);
	write_file("bert:" SECRET_WORD "\ncarl:" SECRET_WORD "\n");
	becomes("carl@demo.example", "secret word", "carl@demo.example");
	assert_int_equal(rcpt("bert@demo.example", &again), OK);
	assert_int_equal(again, bert);
	assert_int_equal(rcpt("carl@demo.example", &again), OK);
	assert_true(again > carl);
	/* what is set for it in SQLite counts: suspended within a second, and an application password works */
	char stored[STORED_PASSWORD_BYTES_MAX];
	struct setting_value yes;
	assert_int_equal(app_password_store(S("a long secret of a machine"), stored), OK);
	made(manage_app_password_add(manage, S("bert@demo.example"), S("phone"), S(stored), 0));
	becomes("bert@demo.example", "a long secret of a machine", "bert@demo.example");
	assert_int_equal(setting_parse(SET_SUSPENDED, S("yes"), &yes), OK);
	made(manage_account_set(manage, S("bert@demo.example"), SET_SUSPENDED, &yes));
	becomes("bert@demo.example", "secret word", "denied");
	end();
}

FIBER_TEST(a_broken_file_keeps_the_old_one)
{
	static const char *const broken[] = { "bert:" SECRET_WORD "\nthis is no line\n", "", "a b@demo.example:" SECRET_WORD "\n",
					      "bert@..:" SECRET_WORD "\n", "bert:" SECRET_WORD "::::::userdb_quota_rule=*:storage=much\n" };
	prepare("bert:" SECRET_WORD "\n");
	begin_with(sources, 2);
	for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
		write_file(broken[i]);
		fiber_sleep(PASSWD_FILE_LOOK_MS + 300); /* it is looked at; what follows holds whether or not */
		assert_string_equal(try_login("bert@demo.example", "secret word"), "bert@demo.example");
	}
	assert_int_equal(unlink(file), 0);
	fiber_sleep(PASSWD_FILE_LOOK_MS + 300);
	assert_string_equal(try_login("bert@demo.example", "secret word"), "bert@demo.example");
	write_file("carl:" SECRET_WORD "\n"); /* and a good one heals it */
	becomes("carl@demo.example", "secret word", "carl@demo.example");
	becomes("bert@demo.example", "secret word", "auth");
	end();
}

/* Not "unknown": what a directory that cannot answer would say is not known, and the next must not be asked instead. */
FIBER_TEST(a_failing_directory_is_not_an_unknown_name)
{
	uint64_t id;
	prepare(NULL);
	begin_with(sources, 2); /* SQLite, then a file that is not there */
	assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example");
	assert_string_equal(try_login("bert@demo.example", "secret word"), "temp");
	assert_int_equal(rcpt("bert@demo.example", &id), ERR_TEMP);
	end();
	prepare(NULL);
	begin_with(sources + 1, 2); /* the file first: anna may be locked out there */
	assert_string_equal(try_login("anna@demo.example", "secret word"), "temp");
	write_file("bert:" SECRET_WORD "\n");
	becomes("anna@demo.example", "secret word", "anna@demo.example");
	becomes("bert@demo.example", "secret word", "bert@demo.example");
	end();
}

FIBER_TEST(the_first_that_knows_a_name_decides)
{
	uint64_t by_file, by_sqlite;
	prepare("anna:{PLAIN}another word\n");
	begin_with(sources + 1, 2); /* the file first */
	assert_string_equal(try_login("anna@demo.example", "another word"), "anna@demo.example");
	assert_string_equal(try_login("anna@demo.example", "secret word"), "auth");
	assert_int_equal(rcpt("anna@demo.example", &by_file), OK);
	auth_close();
	directory_stop();
	directory_close();
	begin_with(sources, 2); /* SQLite first: the same account, by its own password */
	assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example");
	assert_string_equal(try_login("anna@demo.example", "another word"), "auth");
	assert_int_equal(rcpt("anna@demo.example", &by_sqlite), OK);
	assert_int_equal(by_file, by_sqlite);
	auth_close();
	directory_stop();
	directory_close();
	begin_with(sources + 1, 1); /* the file alone */
	assert_string_equal(try_login("anna@demo.example", "another word"), "anna@demo.example");
	end();
}

/* Bytes that mean something to a log, to SQL, to LDAP, to a format or to the file itself are bytes. */
FIBER_TEST(strange_names_in_a_file)
{
	static const char *const strange[] = { "'; DROP TABLE accounts; --", "' OR '1'='1", "%s%n%n", "%{user}", "${jndi:x}", "*)(uid=*", "an*", "anna\\", "{}",
					       "anna\t", "anna\r\nbert", "an\x01na", "anna\"", "an:na", "#anna", "__proto__" };
	prepare("o'brien@demo.example:" SECRET_WORD "\n%s%n@demo.example:" SECRET_WORD "\n*|uid=*@demo.example:" SECRET_WORD "\n"
		"'--drop-table-accounts--@demo.example:" SECRET_WORD "\n${x}@demo.example:" SECRET_WORD "\n");
	begin_with(sources, 2);
	assert_string_equal(try_login("o'brien@demo.example", "secret word"), "o'brien@demo.example");
	assert_string_equal(try_login("%s%n@demo.example", "secret word"), "%s%n@demo.example");
	assert_string_equal(try_login("'--drop-table-accounts--@demo.example", "secret word"), "'--drop-table-accounts--@demo.example");
	assert_string_equal(try_login("*|uid=*@demo.example", "secret word"), "*|uid=*@demo.example");
	for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
		char login[128];
		snprintf(login, sizeof(login), "%s@demo.example", strange[i]);
		assert_string_equal(try_login(login, "secret word"), "auth");
	}
	char nul[] = "an\0na@demo.example";
	struct subject *s;
	struct auth_request r = { .protocol = AUTH_POP3, .login = slice_of(nul, sizeof(nul) - 1) };
	assert_int_equal(auth_password(&r, S("secret word"), &s), ERR_AUTH);
	assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example"); /* the tables are there */
	end();
}

/* ---- Redis ---- */

static void hash_is(const char *key, const char *field, const char *value)
{
	const struct slice args[] = { SLICE_LIT("HSET"), S(key), S(field), S(value) };
	struct redis_answer a = { .run_id = "" };
	assert_int_equal(redis_ask(to_redis, &(struct redis_command){ .args = args, .count = 4, .key = 1, .ms_max = 20000 }, &a), OK);
	redis_answer_release(&a);
}

static void no_hash(const char *key)
{
	const struct slice args[] = { SLICE_LIT("DEL"), S(key) };
	struct redis_answer a = { .run_id = "" };
	assert_int_equal(redis_ask(to_redis, &(struct redis_command){ .args = args, .count = 2, .key = 1, .ms_max = 20000 }, &a), OK);
	redis_answer_release(&a);
}

static bool redis_began(struct test_redis *server)
{
	static const char *addresses[1];
	if (!test_redis_start(server, NULL))
		return false;
	addresses[0] = server->address;
	redis_at = (struct redis_settings){ .addresses = addresses, .address_count = 1 };
	assert_int_equal(redis_open(&redis_at, &to_redis), OK);
	return true;
}

FIBER_TEST(accounts_in_redis)
{
	struct test_redis server;
	struct subject *s;
	uint64_t carl, again;
	if (!redis_began(&server))
		skip();
	prepare(NULL);
	hash_is("pf:u:carl@demo.example", "password", SECRET_WORD);
	hash_is("pf:u:carl@demo.example", "quota_bytes", "4096");
	hash_is("pf:u:lock@demo.example", "password", "!");
	hash_is("pf:u:full@demo.example", "quota_messages", "0");
	hash_is("pf:u:bad@demo.example", "quota_bytes", "much");
	hash_is("pf:u:mal@other.example", "password", SECRET_WORD);
	hash_is("pf:u:anna@demo.example", "password", "{PLAIN}not hers");
	const struct directory_source chain[] = { sources[0], sources[3] };
	begin_with(chain, 2);
	for (int warm = 0; warm < 2; warm++) {
		assert_string_equal(try_login("carl@demo.example", "secret word"), "carl@demo.example");
		assert_string_equal(try_login("carl@demo.example", "wrong"), "auth");
		assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example");
		assert_string_equal(try_login("anna@demo.example", "not hers"), "auth");
		assert_string_equal(try_login("nobody@demo.example", "secret word"), "auth");
		assert_string_equal(try_login("lock@demo.example", "!"), "auth");
		assert_string_equal(try_login("mal@other.example", "secret word"), "auth"); /* another tenant's domain */
		assert_string_equal(try_login("bad@demo.example", "x"), "temp");            /* not understood is not unknown */
	}
	assert_int_equal(rcpt("full@demo.example", &again), OK); /* without a password: takes mail */
	assert_int_equal(directory_rcpt(S("carl@demo.example"), &s), OK);
	assert_int_equal(s->quota_bytes, 4096);
	carl = s->account_id;
	subject_unref(s);
	/* changes are seen without any notice of Redis's, also of names that were not there */
	no_hash("pf:u:carl@demo.example");
	becomes("carl@demo.example", "secret word", "auth");
	assert_int_equal(rcpt("carl@demo.example", &again), ERR_NOT_FOUND);
	hash_is("pf:u:carl@demo.example", "password", "{PLAIN}another");
	becomes("carl@demo.example", "another", "carl@demo.example");
	assert_string_equal(try_login("carl@demo.example", "secret word"), "auth");
	assert_int_equal(rcpt("carl@demo.example", &again), OK);
	assert_int_equal(again, carl);
	/* DESIGN section 7: what is known serves on, the rest waits; SQLite's do not notice */
	test_redis_stop(&server);
	fiber_sleep(DIRECTORY_FETCHED_MS + 200);
	assert_string_equal(try_login("carl@demo.example", "another"), "carl@demo.example");
	assert_string_equal(try_login("carl@demo.example", "wrong"), "auth");
	assert_string_equal(try_login("dora@demo.example", "secret word"), "temp");
	assert_string_equal(try_login("anna@demo.example", "secret word"), "anna@demo.example");
	test_redis_restart(&server, NULL);
	becomes("dora@demo.example", "secret word", "auth");
	end();
	redis_close(to_redis);
	test_redis_stop(&server);
}

FIBER_TEST(keys_of_strange_names)
{
	static const struct { const char *local, *key; } table[] = {
		{ "ann", "pf:u:ann@demo.example" }, { "a.b_c-d+e=f", "pf:u:a.b_c-d+e=f@demo.example" },
		{ "{x}", "pf:u:%7Bx%7D@demo.example" }, { "a%7bb", "pf:u:a%257bb@demo.example" }, { "a@b", "pf:u:a%40b@demo.example" },
		{ "*?[]", "pf:u:%2A%3F%5B%5D@demo.example" }, { "a b:c", "pf:u:a%20b%3Ac@demo.example" }, { "\xc3\xb6", "pf:u:%C3%B6@demo.example" },
		{ "a\r\nDEL x", "pf:u:a%0D%0A%44%45%4C%20x@demo.example" },
	};
	char out[DIRECTORY_REDIS_KEY_BYTES_MAX];
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_true(slice_eq(directory_redis_key(S(table[i].local), S("demo.example"), out), S(table[i].key)));
}

/* The login table's forms, by whichever directory the account comes. */
FIBER_TEST(every_form_by_every_kind)
{
	static const struct { const char *login, *account; } forms[] = {
		{ "%s@demo.example", "%s@demo.example" }, { "%s@DEMO.Example", "%s@demo.example" }, { "%s", "%s@demo.example" },
		{ "%s%%demo.example", "%s@demo.example" }, { "%s+tag@demo.example", "%s@demo.example" }, { "%s@alias.example", "%s@demo.example" },
		{ "%s%%alias.example", "%s@demo.example" }, { "%s@b\xc3\xbc" "cher.example", "%s@xn--bcher-kva.example" },
		{ "%s@xn--bcher-kva.example", "%s@xn--bcher-kva.example" }, { "%s+vision25", "%s@vision25.example.net" },
		{ "%s+vision25.example.net", "%s@vision25.example.net" }, { "%s@vision25", "%s@vision25.example.net" },
		{ "%s+tag+vision25", "%s@vision25.example.net" }, { "%s@nowhere.example", "auth" }, { "%s+nohost", "%s@demo.example" },
		/* an exact account beats its reading as a subaddress */
		{ "%s+own@demo.example", "%s+own@demo.example" },
	};
	static const char *const names[] = { "sqll", "file", "redi" }, *const domains[] = { "demo.example", "xn--bcher-kva.example", "vision25.example.net" };
	struct test_redis server;
	char text[2000] = "", name[128], login[128], account[128];
	bool with_redis = redis_began(&server);
	prepare(NULL);
	made(manage_domain_add(manage, S("xn--bcher-kva.example"), S("demo"), S("")));
	made(manage_host_add(manage, &(struct manage_new_host){ .name = S("vision25.example.net"), .tenant = S("demo"), .mode = SDPS_ACCOUNTS }));
	for (size_t d = 0; d < ARRAY_LEN(domains); d++)
		for (int own = 0; own <= (d == 0); own++) {
			const char *tail = own ? "+own" : "";
			snprintf(name, sizeof(name), "sqll%s@%s", tail, domains[d]);
			made(manage_account_add(manage, S(name), S(""), S(SECRET_WORD)));
			snprintf(text + strlen(text), sizeof(text) - strlen(text), "file%s@%s:%s\n", tail, domains[d], SECRET_WORD);
			snprintf(name, sizeof(name), "pf:u:redi%s@%s", tail, domains[d]);
			if (with_redis)
				hash_is(name, "password", SECRET_WORD);
		}
	write_file(text);
	const struct directory_source chain[] = { sources[0], sources[1], sources[3] };
	begin_with(chain, with_redis ? 3 : 2);
	for (size_t n = 0; n < (with_redis ? 3u : 2u); n++)
		for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
			/* %s stands first in all of them */
			bool percent = !strncmp(forms[i].login + 2, "%%", 2);
			snprintf(login, sizeof(login), "%s%s", names[n], forms[i].login + 2 + percent);
			bool none = !strcmp(forms[i].account, "auth");
			snprintf(account, sizeof(account), "%s%s", none ? "auth" : names[n], none ? "" : forms[i].account + 2);
			assert_string_equal(try_login(login, "secret word"), account);
			assert_string_equal(try_login(login, "wrong"), "auth");
		}
	end();
	if (with_redis)
		redis_close(to_redis);
	if (with_redis)
		test_redis_stop(&server);
}

/* As strange_names_in_a_file, by class: nothing in a name is a command, a pattern or somebody else's key to Redis. */
FIBER_TEST(strange_names_in_redis)
{
	static const char *const strange[] = { "%s%n%n", "%{user}", "{anna}", "an*", "ann?", "[a]nna", "anna\t", "anna\r\nDEL pf:u:anna@demo.example", "anna\n",
					       "anna\"", "anna'", "' OR '1'='1", "*)(uid=*", "pf:u:anna", "${jndi:x}", "anna%40demo.example" };
	struct test_redis server;
	if (!redis_began(&server))
		skip();
	prepare(NULL);
	hash_is("pf:u:bert@demo.example", "password", SECRET_WORD);
	hash_is("pf:u:o%27brien@demo.example", "password", SECRET_WORD);
	hash_is("pf:u:%25s%25n@demo.example", "password", SECRET_WORD);
	begin_with(&sources[3], 1);
	assert_string_equal(try_login("o'brien@demo.example", "secret word"), "o'brien@demo.example");
	assert_string_equal(try_login("%s%n@demo.example", "secret word"), "%s%n@demo.example");
	for (size_t i = 0; i < ARRAY_LEN(strange); i++) {
		char login[128];
		snprintf(login, sizeof(login), "%s@demo.example", strange[i]);
		assert_string_equal(try_login(login, "secret word"), "auth");
	}
	assert_string_equal(try_login("bert@demo.example", "secret word"), "bert@demo.example"); /* the keys are there */
	end();
	redis_close(to_redis);
	test_redis_stop(&server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_beside_sqlite),
		cmocka_unit_test(ids_are_kept_and_never_used_again),
		cmocka_unit_test(a_broken_file_keeps_the_old_one),
		cmocka_unit_test(a_failing_directory_is_not_an_unknown_name),
		cmocka_unit_test(the_first_that_knows_a_name_decides),
		cmocka_unit_test(strange_names_in_a_file),
		cmocka_unit_test(accounts_in_redis),
		cmocka_unit_test(keys_of_strange_names),
		cmocka_unit_test(every_form_by_every_kind),
		cmocka_unit_test(strange_names_in_redis),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
