/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_domain.c - the verbs domain add, list, remove. */
#include "net/server/cli_args.h"

#include <stdio.h>

static int done(struct cli *cli, struct manage *m, enum err e, const char *word, const char *name)
{
	int status = cli_outcome(m, e);
	manage_close(m);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:o}", word, cli_json_string(slice_str(name))));
	printf("domain %s %s\n", name, word);
	return CLI_OK;
}

static int cmd_domain_add(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "", *alias_of = "";
	int status;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { "--alias-of", &alias_of, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("domain add", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	if (!*tenant && !*alias_of)
		return cli_misuse("domain add", "--tenant TENANT is missing (or --alias-of DOMAIN)");
	struct manage *m = cli_manage(cli, &status);
	return m ? done(cli, m, manage_domain_add(m, slice_str(argv[0]), slice_str(tenant), slice_str(alias_of)), "added", argv[0]) : status;
}

static int cmd_domain_remove(struct cli *cli, int argc, char **argv)
{
	int status;
	const struct cli_option options[] = { { NULL, NULL, NULL } };
	if (!cli_take("domain remove", options, &argc, argv, 1, 1))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	return m ? done(cli, m, manage_domain_remove(m, slice_str(argv[0])), "removed", argv[0]) : status;
}

struct listing {
	struct cli_table table;
	json_t *json;
};

static bool row(void *arg, const struct manage_domain *d)
{
	struct listing *l = arg;
	if (l->json) {
		json_array_append_new(l->json, json_pack("{s:o, s:o, s:o, s:I, s:I}", "name", cli_json_string(d->name), "tenant", cli_json_string(d->tenant),
							 "alias_of", d->alias_of.len ? cli_json_string(d->alias_of) : json_null(), "accounts",
							 (json_int_t)d->accounts, "created_s", (json_int_t)d->created_s));
		return true;
	}
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(d->name));
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(d->tenant));
	cli_table_cell(&l->table, "%llu", (unsigned long long)d->accounts);
	cli_table_cell(&l->table, "%.*s", SLICE_ARG(d->alias_of));
	return true;
}

static int cmd_domain_list(struct cli *cli, int argc, char **argv)
{
	const char *tenant = "";
	int status;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { NULL, NULL, NULL } };
	if (!cli_take("domain list", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	struct listing l = { .table = { .columns = 4 }, .json = cli->json ? json_array() : NULL };
	static const char *const head[] = { "DOMAIN", "TENANT", "ACCOUNTS", "ALIAS OF" };
	for (int i = 0; i < 4 && !l.json; i++)
		cli_table_cell(&l.table, "%s", head[i]);
	status = cli_outcome(m, manage_domains(m, slice_str(tenant), row, &l));
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

const struct verb domain_verbs[] = {
	{ "domain add", "DOMAIN --tenant TENANT | DOMAIN --alias-of DOMAIN", "serve a domain for a tenant",
	  "DOMAIN may be written in any case and script: b\303\274cher.example is kept as xn--bcher-kva.example.\n"
	  "--alias-of: every address of DOMAIN is the same address in the other one, which must be served already.",
	  cmd_domain_add },
	{ "domain list", "[--tenant TENANT]", "list the domains", NULL, cmd_domain_list },
	{ "domain remove", "DOMAIN", "stop serving a domain that has no accounts and aliases any more", NULL, cmd_domain_remove },
	{ NULL, NULL, NULL, NULL, NULL }
};
