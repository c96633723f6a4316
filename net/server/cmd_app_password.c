/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_app_password.c - the verbs account app-password add, list, remove. */
#include "net/server/cli_args.h"
#include "net/server/cmd_account.h"
#include "tenancy/app_password.h"
#include "tenancy/auth.h"

#include <stdio.h>
#include <time.h>

static const struct {
	const char *name;
	unsigned bit;
} protocols[] = { { "pop3", 1u << AUTH_POP3 }, { "imap", 1u << AUTH_IMAP } };

/* "pop3", "imap", "pop3,imap"; 0 for all of them. */
static bool parse_protocols(struct slice text, unsigned *bits_out)
{
	struct slice word;
	*bits_out = 0;
	while (slice_next(&text, ',', &word)) {
		unsigned bit = 0;
		for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
			if (slice_eq_nocase(slice_trim(word), slice_str(protocols[i].name)))
				bit = protocols[i].bit;
		if (!bit)
			return false;
		*bits_out |= bit;
	}
	return *bits_out != 0;
}

/* The secret: made here, or read. An exit status. */
static int take_secret(bool from_stdin, char bytes[PASSWORD_BYTES_MAX + 2], struct slice *secret_out)
{
	if (!from_stdin) {
		if (app_password_make(bytes))
			return cli_fail(CLI_FAILED, "no random bytes");
		*secret_out = slice_str(bytes);
		return CLI_OK;
	}
	return cli_password("account app-password add", true, bytes, secret_out) ? CLI_OK : CLI_FAILED;
}

static int report_added(struct cli *cli, const char *account, const char *label, struct slice secret, bool made)
{
	if (cli->json) {
		json_t *j = json_pack("{s:o, s:o}", "account", cli_json_string(slice_str(account)), "added", cli_json_string(slice_str(label)));
		if (made)
			json_object_set_new(j, "secret", cli_json_string(secret));
		return cli_print_json(j);
	}
	if (made)
		printf("%.*s\n", SLICE_ARG(secret));
	else
		printf("application password %s added\n", label);
	return CLI_OK;
}

int cmd_app_password_add(struct cli *cli, int argc, char **argv)
{
	const char *only = NULL;
	bool from_stdin = false;
	unsigned bits = 0;
	char bytes[PASSWORD_BYTES_MAX + 2], stored[STORED_PASSWORD_BYTES_MAX];
	struct slice secret;
	int status;
	const struct cli_option options[] = { { "--password-stdin", NULL, &from_stdin }, { "--protocols", &only, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("account app-password add", options, &argc, argv, 2, 2))
		return CLI_USAGE;
	if (only && !parse_protocols(slice_str(only), &bits))
		return cli_misuse("account app-password add", "--protocols takes pop3, imap or both with a comma between them");
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = take_secret(from_stdin, bytes, &secret);
	if (!status && app_password_store(secret, stored))
		status = cli_fail(CLI_USAGE, "an application password is %zu to %zu bytes, made by a machine and not by a person", APP_SECRET_BYTES_MIN,
				  PASSWORD_BYTES_MAX);
	if (!status)
		status = cli_outcome(m, manage_app_password_add(m, slice_str(argv[0]), slice_str(argv[1]), slice_str(stored), bits));
	manage_close(m);
	if (!status)
		status = report_added(cli, argv[0], argv[1], secret, !from_stdin);
	explicit_bzero(bytes, sizeof(bytes));
	return status;
}

int cmd_app_password_remove(struct cli *cli, int argc, char **argv)
{
	int status;
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	if (!cli_take("account app-password remove", options, &argc, argv, 2, 2))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_app_password_remove(m, slice_str(argv[0]), slice_str(argv[1])));
	manage_close(m);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:o, s:o}", "account", cli_json_string(slice_str(argv[0])), "removed", cli_json_string(slice_str(argv[1]))));
	printf("application password %s removed\n", argv[1]);
	return CLI_OK;
}

struct listing {
	struct cli_table table;
	json_t *json;
};

static void time_cell(struct cli_table *t, int64_t seconds)
{
	char text[32] = "-";
	struct tm tm;
	time_t when = (time_t)seconds;
	if (seconds && gmtime_r(&when, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &tm);
	cli_table_cell(t, "%s", text);
}

static bool row(void *arg, const struct manage_app_password *p)
{
	struct listing *l = arg;
	char names[32] = "";
	json_t *list = json_array();
	for (size_t i = 0; i < ARRAY_LEN(protocols); i++)
		if (p->protocols & protocols[i].bit) {
			size_t len = strlen(names);
			snprintf(names + len, sizeof(names) - len, "%s%s", len ? "," : "", protocols[i].name);
			json_array_append_new(list, json_string(protocols[i].name));
		}
	if (l->json) {
		json_array_append_new(l->json, json_pack("{s:o, s:o, s:I, s:o}", "name", cli_json_string(p->label), "protocols", list, "created_s",
							 (json_int_t)p->created_s, "used_s", p->used_s ? json_integer(p->used_s) : json_null()));
		return true;
	}
	json_decref(list);
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(p->label));
	cli_table_cell(&l->table, "%s", names);
	time_cell(&l->table, p->created_s);
	time_cell(&l->table, p->used_s);
	return true;
}

int cmd_app_password_list(struct cli *cli, int argc, char **argv)
{
	static const char *const head[] = { "NAME", "PROTOCOLS", "CREATED", "LAST USED" };
	int status;
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	if (!cli_take("account app-password list", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	struct listing l = { .table = { .columns = ARRAY_LEN(head) }, .json = cli->json ? json_array() : NULL };
	for (unsigned i = 0; i < l.table.columns && !l.json; i++)
		cli_table_cell(&l.table, "%s", head[i]);
	status = cli_outcome(m, manage_app_passwords(m, slice_str(argv[0]), row, &l));
	manage_close(m);
	if (status) {
		json_decref(l.json);
		return status;
	}
	if (l.json)
		return cli_print_json(l.json);
	cli_table_print(&l.table);
	return CLI_OK;
}

const char app_password_help[] =
	"NAME says what it is for (\"phone\"). The secret is made here, 120 random bits, and printed once; with --password-stdin it is the first\n"
	"line of standard input, at least 20 bytes that a machine made (it is kept by a fast hash, so a person's password would not do).\n"
	"--protocols: good for those only. It works wherever the password itself does (USER and PASS, AUTH PLAIN and LOGIN); not for APOP.\n"
	"account app-password list shows when each was last used, to within an hour.";
