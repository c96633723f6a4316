/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_account.c - the verbs account add, list, remove, password, set. */
#include "net/server/cmd_account.h"

#include "net/server/cli_args.h"
#include "tenancy/password.h"

#include <stdio.h>

static int done(struct cli *cli, const char *word, const char *name)
{
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", word, cli_json_string(slice_str(name))));
	printf("account %s %s\n", name, word);
	return CLI_OK;
}

/* Reads a password and hashes it in the scheme asked for, or the tenant's. An exit status. */
static int read_and_hash(struct manage *m, const char *verb, const char *name, bool from_stdin, const char *scheme,
			 char stored[STORED_PASSWORD_BYTES_MAX])
{
	char tenants_scheme[SETTING_TEXT_BYTES], bytes[PASSWORD_BYTES_MAX + 2];
	struct slice password;
	/* The name is looked at first: nobody likes to type a password twice for nothing. */
	int status = cli_outcome(m, manage_account_scheme(m, slice_str(name), tenants_scheme));
	if (status)
		return status;
	if (!cli_password(verb, from_stdin, bytes, &password))
		return CLI_FAILED;
	enum err e = password_make(scheme ? scheme : tenants_scheme, password, stored);
	explicit_bzero(bytes, sizeof(bytes));
	if (e == ERR_SYNTAX)
		return cli_fail(CLI_USAGE, "passwords are not made in the scheme %s", scheme ? scheme : tenants_scheme);
	if (e)
		return cli_fail(CLI_FAILED, "a password is 1 to %zu bytes without NUL and line ends", PASSWORD_BYTES_MAX);
	return CLI_OK;
}

static int cmd_account_add(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "", *scheme = NULL;
	bool from_stdin = false, no_password = false;
	char stored[STORED_PASSWORD_BYTES_MAX] = "";
	int status;
	const struct cli_option options[] = { { "--password-stdin", NULL, &from_stdin },
					      { "--no-password", NULL, &no_password },
					      { "--tenant", &tenant, NULL },
					      { "--scheme", &scheme, NULL },
					      { NULL, NULL, NULL } };
	if (!cli_take("account add", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = no_password ? CLI_OK : read_and_hash(m, "account add", argv[0], from_stdin, scheme, stored);
	if (!status)
		status = cli_outcome(m, manage_account_add(m, slice_str(argv[0]), slice_str(tenant), slice_str(stored)));
	explicit_bzero(stored, sizeof(stored));
	manage_close(m);
	return status ? status : done(cli, "added", argv[0]);
}

static int cmd_account_password(struct cli *cli, int argc, char **argv)
{
	const char *scheme = NULL;
	bool from_stdin = false;
	char stored[STORED_PASSWORD_BYTES_MAX];
	int status;
	const struct cli_option options[] = { { "--password-stdin", NULL, &from_stdin }, { "--scheme", &scheme, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("account password", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = read_and_hash(m, "account password", argv[0], from_stdin, scheme, stored);
	if (!status)
		status = cli_outcome(m, manage_account_password(m, slice_str(argv[0]), slice_str(stored)));
	explicit_bzero(stored, sizeof(stored));
	manage_close(m);
	return status ? status : done(cli, "changed", argv[0]);
}

static int cmd_account_set(struct cli *cli, int argc, char **argv)
{
	enum setting_id id;
	struct setting_value value;
	int status;
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	if (!cli_take("account set", options, &argc, argv, 2, 1 + SET_COUNT))
		return CLI_USAGE;
	for (int i = 1; i < argc; i++)
		if (!cli_setting("account set", argv[i], &id, &value))
			return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	enum err e = manage_begin(m);
	for (int i = 1; i < argc && !e; i++) {
		if (!cli_setting("account set", argv[i], &id, &value))
			UNREACHABLE();
		e = manage_account_set(m, slice_str(argv[0]), id, &value);
	}
	if (!e)
		e = manage_commit(m);
	status = cli_outcome(m, e);
	manage_close(m);
	return status ? status : done(cli, "changed", argv[0]);
}

static int cmd_account_remove(struct cli *cli, int argc, char **argv)
{
	bool purge = false, server = false;
	int64_t id;
	uint64_t deleted = 0;
	int status;
	const struct cli_option options[] = { { "--purge", NULL, &purge }, { NULL, NULL, NULL } };
	if (!cli_take("account remove", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_account_remove(m, slice_str(argv[0]), purge, &id));
	if (!status && purge && purge_now(cli, m, &deleted, &server))
		status = CLI_FAILED;
	manage_close(m);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:o, s:I, s:s}", "removed", cli_json_string(slice_str(argv[0])), "id", (json_int_t)id, "mail",
						!purge ? "kept" : server ? "is being deleted by the server" : "deleted"));
	printf("account %s removed; its mail %s\n", argv[0],
	       !purge ? "is kept until account purge" : server ? "is being deleted by the running server" : "is deleted");
	return CLI_OK;
}

/* ---- list ---- */

struct listing {
	struct cli_table table;
	json_t *json;
};

static const enum setting_id shown[] = { SET_SUSPENDED, SET_POP3, SET_IMAP, SET_LMTP, SET_QUOTA_BYTES, SET_QUOTA_MESSAGES, SET_MASTER };

static bool row(void *arg, const struct manage_account *a)
{
	struct listing *l = arg;
	char text[SETTING_TEXT_BYTES];
	if (l->json) {
		json_t *settings = json_object();
		for (unsigned i = 0; i < ARRAY_LEN(shown); i++)
			json_object_set_new(settings, setting_get(shown[i])->name,
					    a->settings[shown[i]].is_default ? json_null() : cli_json_setting(shown[i], &a->settings[shown[i]]));
		json_array_append_new(l->json, json_pack("{s:o, s:I, s:o, s:s?, s:I, s:o}", "name", cli_json_string(a->name), "id", (json_int_t)a->id, "tenant",
							 cli_json_string(a->tenant), "scheme", a->scheme, "created_s", (json_int_t)a->created_s, "settings",
							 settings));
		return true;
	}
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(a->name));
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(a->tenant));
	cli_table_cell(&l->table, "%s", a->scheme ? a->scheme : "no password");
	cli_table_cell(&l->table, "%s", a->settings[SET_SUSPENDED].number ? "suspended" : "active");
	size_t len = 0;
	char own[512] = "";
	for (unsigned i = 1; i < ARRAY_LEN(shown); i++)
		if (!a->settings[shown[i]].is_default && len < sizeof(own)) {
			setting_format(shown[i], &a->settings[shown[i]], text);
			len += (size_t)snprintf(own + len, sizeof(own) - len, "%s%s=%s", len ? " " : "", setting_get(shown[i])->name, text);
		}
	cli_table_cell(&l->table, "%s", own);
	return true;
}

static bool removed_row(void *arg, const struct manage_removed *r)
{
	struct listing *l = arg;
	if (l->json) {
		json_array_append_new(l->json, json_pack("{s:o, s:I, s:o, s:I, s:b}", "name", cli_json_string(r->name), "id", (json_int_t)r->id, "tenant",
							 cli_json_string(r->tenant), "removed_s", (json_int_t)r->removed_s, "purge", (int)r->purge));
		return true;
	}
	cli_table_cell(&l->table, "%lld", (long long)r->id);
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(r->name));
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(r->tenant));
	cli_table_cell(&l->table, "%s", r->purge ? "being deleted" : "kept");
	return true;
}

static int cmd_account_list(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "", *domain = "";
	bool removed = false;
	int status;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { "--domain", &domain, NULL }, { "--removed", NULL, &removed }, { NULL, NULL, NULL } };
	if (!cli_take("account list", options, &argc, argv, 0, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	static const char *const head[] = { "ACCOUNT", "TENANT", "PASSWORD", "STATE", "OWN SETTINGS" }, *const removed_head[] = { "ID", "ACCOUNT", "TENANT", "MAIL" };
	struct listing l = { .table = { .columns = removed ? ARRAY_LEN(removed_head) : ARRAY_LEN(head) }, .json = cli->json ? json_array() : NULL };
	for (unsigned i = 0; i < l.table.columns && !l.json; i++)
		cli_table_cell(&l.table, "%s", (removed ? removed_head : head)[i]);
	struct slice only = slice_str(argc ? argv[0] : "");
	status = cli_outcome(m, removed ? manage_removed(m, removed_row, &l) : manage_accounts(m, slice_str(tenant), slice_str(domain), only, row, &l));
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

const struct verb account_verbs[] = {
	{ "account add", "ADDRESS [--password-stdin | --no-password] [--scheme SCHEME] [--tenant TENANT]", "add a mail account",
	  "ADDRESS is user@domain; the domain must be served (penfold domain add). The password is asked for on the terminal, or is the\n"
	  "first line of standard input with --password-stdin; it is never an argument, where other users of the machine would see it.\n"
	  "--no-password: mail is taken, nobody can log in.\n"
	  "--scheme: YESCRYPT (the default unless the tenant's password_scheme says otherwise), ARGON2ID, BLF-CRYPT, SHA512-CRYPT, ...\n"
	  "--tenant: fails unless the domain is that tenant's.",
	  cmd_account_add },
	{ "account app-password add", "ADDRESS NAME [--password-stdin] [--protocols pop3,imap]", "add a password for one device or program", app_password_help,
	  cmd_app_password_add },
	{ "account app-password list", "ADDRESS", "list an account's application passwords and their last use", NULL, cmd_app_password_list },
	{ "account app-password remove", "ADDRESS NAME", "revoke an application password", NULL, cmd_app_password_remove },
	{ "account import", "[--tenant TENANT] [--replace] [--strict]", "add accounts from a passwd-file on standard input", import_help, cmd_account_import },
	{ "account list", "[ADDRESS] [--tenant TENANT] [--domain DOMAIN] [--removed]", "list accounts, or removed ones whose mail is still kept", NULL,
	  cmd_account_list },
	{ "account password", "ADDRESS [--password-stdin] [--scheme SCHEME]", "change an account's password", NULL, cmd_account_password },
	{ "account purge", "ADDRESS | ID | --all", "delete the mail of removed accounts", purge_help, cmd_account_purge },
	{ "account remove", "ADDRESS [--purge]", "remove an account; its mail is kept unless --purge",
	  "From now on nobody logs in as ADDRESS and mail for it is refused (a running server: within a second). Its messages stay on disk,\n"
	  "listed by account list --removed, until account purge. An account added later under the same name starts empty.\n"
	  "--purge deletes the messages too: at once, or, while a server runs, by that server.",
	  cmd_account_remove },
	{ "account set", "ADDRESS SETTING=VALUE...", "change settings of one account",
	  "Settings (\"default\" as value: as its tenant has it): suspended, pop3, imap, lmtp, quota_bytes, quota_messages, junk, and\n"
	  "master: none, tenant (may log in as any account of its tenant with its own password) or server (as anybody).\n"
	  "penfold tenant set --help explains them. ADDRESS may be @HOST: the maildrop of an SDPS host.",
	  cmd_account_set },
	{ NULL, NULL, NULL, NULL, NULL }
};
