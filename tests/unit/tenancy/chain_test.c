/* SPDX-License-Identifier: Apache-2.0 */
/* Several directories: a passwd-file beside SQLite, its changes, what a broken one does, and who decides. */
#include "tenancy/auth.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/app_password.h"
#include "tenancy/directory.h"
#include "tenancy/manage.h"
#include "tests/unit/support/fiber_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define S(text) slice_str(text)
#define SECRET_WORD "{SHA256-CRYPT}$5$rounds=1000$penfoldtestsalt$EkePfaULlJiZfBHyXVj5RZDmbxvGpeJTH1ECgOmzau4" /* of "secret word" */

static const char *data;
static char file[256];
static struct manage *manage;
static struct directory_source sources[3];

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
}

static void begin_with(const struct directory_source *first, unsigned count)
{
	struct auth_config auth = { 0 };
	struct directory_config directory = { .data_path = data, .default_domain = "demo.example", .sources = first, .source_count = count, .poll_ms = 50 };
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_file_beside_sqlite),
		cmocka_unit_test(ids_are_kept_and_never_used_again),
		cmocka_unit_test(a_broken_file_keeps_the_old_one),
		cmocka_unit_test(a_failing_directory_is_not_an_unknown_name),
		cmocka_unit_test(the_first_that_knows_a_name_decides),
		cmocka_unit_test(strange_names_in_a_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
