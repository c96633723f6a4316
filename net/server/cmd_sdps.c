/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_sdps.c - the verbs sdps add, list, password, remove. */
#include "net/server/cmd_account.h"

#include "net/server/cli_args.h"
#include "tenancy/password.h"

#include <stdio.h>

static int done(struct cli *cli, const char *word, const char *name)
{
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", word, cli_json_string(slice_str(name))));
	printf("SDPS host %s %s\n", name, word);
	return CLI_OK;
}

/* ---- passwords ---- */

struct passwords {
	char bytes[SDPS_PASSWORDS_MAX][STORED_PASSWORD_BYTES_MAX];
	struct slice stored[SDPS_PASSWORDS_MAX];
	size_t count;
};

static int hash(struct passwords *p, struct slice password, const char *scheme)
{
	enum err e = password_make(scheme, password, p->bytes[p->count]);
	if (e == ERR_SYNTAX)
		return cli_fail(CLI_USAGE, "passwords are not made in the scheme %s", scheme);
	if (e)
		return cli_fail(CLI_FAILED, "a password is 1 to %zu bytes without NUL and line ends", PASSWORD_BYTES_MAX);
	p->stored[p->count] = slice_str(p->bytes[p->count]);
	p->count++;
	return CLI_OK;
}

/* One or two. */
static int read_passwords(struct passwords *p, const char *verb, bool from_stdin, const char *scheme)
{
	char text[PASSWORD_BYTES_MAX + 2];
	struct slice password;
	p->count = 0;
	if (!cli_password(verb, from_stdin, text, &password))
		return CLI_FAILED;
	int status = hash(p, password, scheme);
	if (!status && !cli_password_more(from_stdin, text, &password))
		status = CLI_FAILED;
	if (!status && password.len)
		status = hash(p, password, scheme);
	explicit_bzero(text, sizeof(text));
	return status;
}

/* ---- add ---- */

static bool mode_of(const char *word, enum sdps_mode *mode_out)
{
	*mode_out = word && !strcmp(word, "accounts") ? SDPS_ACCOUNTS : word && !strcmp(word, "maildrop") ? SDPS_MAILDROP : SDPS_NONE;
	return *mode_out != SDPS_NONE;
}

static int add(struct manage *m, struct manage_new_host *host, bool with_passwords, bool from_stdin, const char *scheme)
{
	char tenants_scheme[SETTING_TEXT_BYTES];
	struct passwords p = { .count = 0 };
	/* The tenant is looked at first: nobody likes to type a password for nothing. */
	int status = cli_outcome(m, manage_tenant_scheme(m, host->tenant, tenants_scheme));
	if (!status && with_passwords)
		status = read_passwords(&p, "sdps add", from_stdin, scheme ? scheme : tenants_scheme);
	host->stored = p.stored;
	host->stored_count = p.count;
	if (!status)
		status = cli_outcome(m, manage_host_add(m, host));
	explicit_bzero(&p, sizeof(p));
	return status;
}

static int cmd_sdps_add(struct cli *cli, int argc, char **argv)
{
	const char *tenant = NULL, *mode_word = NULL, *scheme = NULL;
	bool from_stdin = false, no_password = false, no_short_name = false;
	struct manage_new_host host;
	enum sdps_mode mode;
	int status;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL },
					      { "--mode", &mode_word, NULL },
					      { "--scheme", &scheme, NULL },
					      { "--password-stdin", NULL, &from_stdin },
					      { "--no-password", NULL, &no_password },
					      { "--no-short-name", NULL, &no_short_name },
					      { NULL, NULL, NULL } };
	if (!cli_take("sdps add", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	if (!tenant)
		return cli_misuse("sdps add", "--tenant TENANT is missing");
	if (!mode_of(mode_word, &mode))
		return cli_misuse("sdps add", "--mode is accounts or maildrop");
	if (mode == SDPS_ACCOUNTS && (from_stdin || scheme))
		return cli_misuse("sdps add", "in mode accounts every user has a password of its own (penfold account add)");
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	host = (struct manage_new_host){ .name = slice_str(argv[0]), .tenant = slice_str(tenant), .mode = mode, .no_short_name = no_short_name };
	status = add(m, &host, mode == SDPS_MAILDROP && !no_password, from_stdin, scheme);
	manage_close(m);
	return status ? status : done(cli, "added", argv[0]);
}

static int cmd_sdps_password(struct cli *cli, int argc, char **argv)
{
	const char *scheme = NULL;
	bool from_stdin = false;
	char tenants_scheme[SETTING_TEXT_BYTES];
	struct passwords p = { .count = 0 };
	int status;
	const struct cli_option options[] = { { "--password-stdin", NULL, &from_stdin }, { "--scheme", &scheme, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("sdps password", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_host_scheme(m, slice_str(argv[0]), tenants_scheme));
	if (!status)
		status = read_passwords(&p, "sdps password", from_stdin, scheme ? scheme : tenants_scheme);
	if (!status)
		status = cli_outcome(m, manage_host_passwords(m, slice_str(argv[0]), p.stored, p.count));
	explicit_bzero(&p, sizeof(p));
	manage_close(m);
	return status ? status : done(cli, "changed", argv[0]);
}

/* ---- remove ---- */

static int cmd_sdps_remove(struct cli *cli, int argc, char **argv)
{
	bool purge = false, server = false, domain = false;
	int64_t id;
	uint64_t deleted = 0;
	int status;
	const struct cli_option options[] = { { "--purge", NULL, &purge }, { NULL, NULL, NULL } };
	if (!cli_take("sdps remove", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_host_remove(m, slice_str(argv[0]), purge, &id, &domain));
	if (!status && purge && id && purge_now(cli, m, &deleted, &server))
		status = CLI_FAILED;
	manage_close(m);
	if (status)
		return status;
	const char *mail = !id ? "none" : !purge ? "kept" : server ? "is being deleted by the server" : "deleted";
	if (cli->json)
		return cli_print_json(json_pack("{s:o, s:I, s:s, s:b}", "removed", cli_json_string(slice_str(argv[0])), "id", (json_int_t)id, "mail", mail,
						"domain_removed", (int)domain));
	printf("SDPS host %s removed; its domain is %s; mail of its maildrop: %s\n", argv[0], domain ? "removed, too" : "still served", mail);
	return CLI_OK;
}

/* ---- list ---- */

struct listing {
	struct cli_table table;
	json_t *json;
};

static bool row(void *arg, const struct manage_host *h)
{
	struct listing *l = arg;
	const char *mode = h->mode == SDPS_MAILDROP ? "maildrop" : "accounts";
	if (l->json) {
		json_array_append_new(l->json, json_pack("{s:o, s:o, s:o, s:s, s:I, s:I, s:I}", "name", cli_json_string(h->name), "short_name",
							 h->short_name.len ? cli_json_string(h->short_name) : json_null(), "tenant",
							 cli_json_string(h->tenant), "mode", mode, "passwords", (json_int_t)h->passwords, "accounts",
							 (json_int_t)h->accounts, "created_s", (json_int_t)h->created_s));
		return true;
	}
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(h->name));
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(h->short_name));
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(h->tenant));
	cli_table_cell(&l->table, "%s", mode);
	cli_table_cell(&l->table, "%llu", (unsigned long long)h->passwords);
	cli_table_cell(&l->table, "%llu", (unsigned long long)h->accounts);
	return true;
}

static int cmd_sdps_list(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "";
	int status;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("sdps list", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	static const char *const head[] = { "HOST", "SHORT NAME", "TENANT", "MODE", "PASSWORDS", "ACCOUNTS" };
	struct listing l = { .table = { .columns = ARRAY_LEN(head) }, .json = cli->json ? json_array() : NULL };
	for (size_t i = 0; i < ARRAY_LEN(head) && !l.json; i++)
		cli_table_cell(&l.table, "%s", head[i]);
	status = cli_outcome(m, manage_hosts(m, slice_str(tenant), row, &l));
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

const struct verb sdps_verbs[] = {
	{ "sdps add", "HOST --tenant TENANT --mode accounts|maildrop [--password-stdin | --no-password] [--scheme SCHEME] [--no-short-name]",
	  "serve an SDPS host for a tenant",
	  "HOST is a full name, vision25.example.net; its first part is the short name that logins may use. Its domain is added if need be.\n"
	  "--mode accounts: the users are accounts (penfold account add john@vision25.example.net); john+vision25 and john@vision25 are\n"
	  "further names for them to log in with.\n"
	  "--mode maildrop: the host is one maildrop that takes all mail for anything@HOST but that of accounts with exactly that name. Who logs in as\n"
	  "vision25 sees all of it, as john+vision25 only mail to john. All of them use the host's password, or its second one.\n"
	  "--password-stdin: one or two lines of standard input; else they are asked for. --no-password: nobody can log in yet.\n"
	  "--no-short-name: for a host whose short name another host has.",
	  cmd_sdps_add },
	{ "sdps list", "[--tenant TENANT]", "list the SDPS hosts", NULL, cmd_sdps_list },
	{ "sdps password", "HOST [--password-stdin] [--scheme SCHEME]", "change the passwords of a host that is one maildrop",
	  "Both are replaced: by one or two lines of standard input with --password-stdin, else by what is typed.", cmd_sdps_password },
	{ "sdps remove", "HOST [--purge]", "remove an SDPS host; its mail is kept unless --purge",
	  "The maildrop goes as an account does (penfold account list --removed). The domain goes, too, if sdps add added it and no accounts or\n"
	  "alias domains hang on it; accounts stay what they are.",
	  cmd_sdps_remove },
	{ NULL, NULL, NULL, NULL, NULL }
};
