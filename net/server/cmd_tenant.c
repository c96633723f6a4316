/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_tenant.c - the verbs tenant add, list, remove, set, suspend, resume. */
#include "net/server/cli_args.h"

#include <stdio.h>

static const struct cli_option none[] = { { NULL, NULL, NULL } };

static int done(struct cli *cli, struct manage *m, enum err e, const char *word, const char *name)
{
	int status = cli_outcome(m, e);
	manage_close(m);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:s}", word, name));
	printf("tenant %s %s\n", name, word);
	return CLI_OK;
}

static int cmd_tenant_add(struct cli *cli, int argc, char **argv)
{
	int status;
	if (!cli_take("tenant add", none, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	return m ? done(cli, m, manage_tenant_add(m, slice_str(argv[0])), "added", argv[0]) : status;
}

static int cmd_tenant_remove(struct cli *cli, int argc, char **argv)
{
	int status;
	if (!cli_take("tenant remove", none, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	return m ? done(cli, m, manage_tenant_remove(m, slice_str(argv[0])), "removed", argv[0]) : status;
}

/* All of the words are looked at before the first is stored, and all are stored or none. */
static int cmd_tenant_set(struct cli *cli, int argc, char **argv)
{
	enum setting_id id;
	struct setting_value value;
	int status;
	if (!cli_take("tenant set", none, &argc, argv, 2, 1 + SET_COUNT))
		return CLI_USAGE;
	for (int i = 1; i < argc; i++)
		if (!cli_setting("tenant set", argv[i], &id, &value))
			return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	enum err e = manage_begin(m);
	for (int i = 1; i < argc && !e; i++) {
		if (!cli_setting("tenant set", argv[i], &id, &value))
			UNREACHABLE();
		e = manage_tenant_set(m, slice_str(argv[0]), id, &value);
	}
	if (!e)
		e = manage_commit(m);
	return done(cli, m, e, "changed", argv[0]);
}

/* The verbs operators look for first; both do what `tenant set NAME suspended=` does. */
static int suspended(struct cli *cli, const char *verb, bool on, int argc, char **argv)
{
	struct setting_value value = { .number = on };
	int status;
	if (!cli_take(verb, none, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	return m ? done(cli, m, manage_tenant_set(m, slice_str(argv[0]), SET_SUSPENDED, &value), on ? "suspended" : "resumed", argv[0]) : status;
}

static int cmd_tenant_suspend(struct cli *cli, int argc, char **argv)
{
	return suspended(cli, "tenant suspend", true, argc, argv);
}

static int cmd_tenant_resume(struct cli *cli, int argc, char **argv)
{
	return suspended(cli, "tenant resume", false, argc, argv);
}

/* ---- list ---- */

struct listing {
	struct cli_table table;
	json_t *json;
	bool one;
};

static json_t *json_of(const struct manage_tenant *t)
{
	json_t *settings = json_object();
	for (unsigned i = 0; i < SET_COUNT; i++)
		if (!setting_get((enum setting_id)i)->account_only)
			json_object_set_new(settings, setting_get((enum setting_id)i)->name, cli_json_setting((enum setting_id)i, &t->settings[i]));
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:o}", "name", cli_json_string(t->name), "id", (json_int_t)t->id, "created_s",
			 (json_int_t)t->created_s, "domains", (json_int_t)t->domains, "accounts", (json_int_t)t->accounts, "settings", settings);
}

static bool row(void *arg, const struct manage_tenant *t)
{
	struct listing *l = arg;
	char text[SETTING_TEXT_BYTES];
	if (l->json) {
		json_array_append_new(l->json, json_of(t));
		return true;
	}
	if (!l->one) {
		cli_table_cell(&l->table, "%.*s", SLICE_ARG(t->name));
		cli_table_cell(&l->table, "%llu", (unsigned long long)t->domains);
		cli_table_cell(&l->table, "%llu", (unsigned long long)t->accounts);
		cli_table_cell(&l->table, "%s", t->settings[SET_SUSPENDED].number ? "suspended" : "active");
		return true;
	}
	for (unsigned i = 0; i < SET_COUNT; i++) {
		const struct setting *s = setting_get((enum setting_id)i);
		if (s->account_only)
			continue;
		setting_format((enum setting_id)i, &t->settings[i], text);
		cli_table_cell(&l->table, "%s", s->name);
		cli_table_cell(&l->table, "%s", text);
		cli_table_cell(&l->table, "%s", t->settings[i].is_default ? "(default)" : "");
		cli_table_cell(&l->table, "%s", s->help);
	}
	return true;
}

static int cmd_tenant_list(struct cli *cli, int argc, char **argv)
{
	int status;
	if (!cli_take("tenant list", none, &argc, argv, 0, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	struct listing l = { .table = { .columns = 4 }, .json = cli->json ? json_array() : NULL, .one = argc == 1 };
	struct slice only = slice_str(argc ? argv[0] : "");
	static const char *const head[] = { "TENANT", "DOMAINS", "ACCOUNTS", "STATE" };
	for (int i = 0; i < 4 && !l.one && !l.json; i++)
		cli_table_cell(&l.table, "%s", head[i]);
	status = cli_outcome(m, manage_tenants(m, argc ? &only : NULL, row, &l));
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

const struct verb tenant_verbs[] = {
	{ "tenant add", "NAME", "add a customer; domains and accounts belong to one",
	  "NAME is 1 to 64 letters, digits, dots, hyphens and underscores.\n"
	  "Next: penfold domain add DOMAIN --tenant NAME",
	  cmd_tenant_add },
	{ "tenant list", "[NAME]", "list the tenants, or all settings of one", NULL, cmd_tenant_list },
	{ "tenant remove", "NAME", "remove a tenant that has no domains any more", NULL, cmd_tenant_remove },
	{ "tenant set", "NAME SETTING=VALUE...", "change settings of a tenant and so of its accounts",
	  "Settings (\"default\" as value takes one back; penfold tenant list NAME shows them):\n"
	  "  suspended             yes: nobody of it logs in, mail for it is refused\n"
	  "  pop3 imap lmtp        no: that protocol is off\n"
	  "  quota_bytes           room per account: 500M, 2G, none\n"
	  "  quota_messages        messages per account, or none\n"
	  "  over_quota            mail for a full account is refused for good (permanent: 552) or for now (temporary: 452)\n"
	  "  login_delay_s         seconds between two POP3 logins of an account\n"
	  "  expire_days           days that mail stays in INBOX, or never; 0: until POP3 has downloaded it. Announced as EXPIRE\n"
	  "  subaddress_separator  user+anything is user; one character, or none\n"
	  "  plain_passwords       yes: passwords may be kept readable ({PLAIN}), which APOP needs\n"
	  "  schemes               password schemes that may be stored, e.g. \"YESCRYPT ARGON2ID\", or all\n"
	  "  password_scheme       scheme of passwords set with account add and account password\n"
	  "  xtnd                  POP3's XTND: xlst lists header fields, xmit sends mail (needs xmit in the configuration), all, off\n"
	  "  sessions_max          sessions of all its accounts together, or none: as limits.per_tenant says\n"
	  "  account_sessions_max  sessions of one account, or none: as limits.per_account says\n"
	  "  guess_delay_max_s     the longest delay behind failed logins; none: no delay\n"
	  "  trusted_networks      no delay behind failed logins from there: \"192.0.2.0/24 2001:db8::/48\", or none\n"
	  "  plaintext_login       no: nobody logs in without TLS, not even from this machine; yes: as the listener says\n"
	  "  deletion              expunge: what POP3 deletes is gone; trash: it goes to the folder Trash\n"
	  "  end_on_password_change  yes: an account's open sessions end when its password changes\n"
	  "  junk                  no: mail that the spam filter marked (lmtp.junk_header) goes to INBOX as any other\n"
	  "All of the changes are made or none. A running server sees them within a second.",
	  cmd_tenant_set },
	{ "tenant suspend", "NAME", "nobody of it logs in and mail for it is refused, until it is resumed",
	  "A running server sees it within a second. Open sessions end, POP3 without update.", cmd_tenant_suspend },
	{ "tenant resume", "NAME", "take a suspension back", NULL, cmd_tenant_resume },
	{ NULL, NULL, NULL, NULL, NULL }
};
