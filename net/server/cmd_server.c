/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_server.c - the verbs serve, config check and stats. */
#include "net/server/admin.h"
#include "net/server/cli_args.h"
#include "net/server/serve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int cmd_serve(struct cli *cli, int argc, char **argv)
{
	if (argc)
		return cli_misuse("serve", "\"%s\" is not expected", argv[0]);
	if (!cli_config(cli))
		return CLI_USAGE;
	if (!cli->config->listeners_count)
		return cli_fail(CLI_USAGE, "%s: listeners: expected at least one", cli->config_path);
	return serve(cli->config);
}

static int cmd_config_check(struct cli *cli, int argc, char **argv)
{
	if (argc)
		return cli_misuse("config check", "\"%s\" is not expected", argv[0]);
	if (!cli_config(cli))
		return CLI_USAGE;
	if (cli->json)
		return cli_print_json(json_pack("{s:b, s:s, s:s, s:i}", "ok", 1, "file", cli->config_path, "data", cli->config->data, "listeners",
						(int)cli->config->listeners_count));
	printf("%s: good; %u listeners, data in %s\n", cli->config_path, cli->config->listeners_count, cli->config->data);
	return CLI_OK;
}

static void print_metrics(json_t *stats)
{
	const char *name;
	json_t *value;
	json_object_foreach(json_object_get(stats, "metrics"), name, value) {
		if (json_is_integer(value)) {
			printf("%-48s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(value));
			continue;
		}
		printf("%-48s", name);
		const char *part;
		json_t *number;
		json_object_foreach(value, part, number)
			printf(" %s=%" JSON_INTEGER_FORMAT, part, json_integer_value(number));
		putchar('\n');
	}
}

static void print_shards(json_t *stats)
{
	size_t index;
	json_t *shard;
	json_array_foreach(json_object_get(stats, "shards"), index, shard) {
		const char *name;
		json_t *value;
		json_object_foreach(shard, name, value)
			printf("shard[%zu].%-*s %" JSON_INTEGER_FORMAT "\n", index, 38, name, json_integer_value(value));
	}
}

static void print_memory(json_t *stats)
{
	const char *name;
	json_t *value;
	json_object_foreach(json_object_get(stats, "memory"), name, value)
		if (json_is_integer(value))
			printf("memory.%-41s %" JSON_INTEGER_FORMAT "\n", name, json_integer_value(value));
}

/* ---- stats --tenants ---- */

struct usage_listing {
	struct cli_table table;
	json_t *json;
};

static bool usage_row(void *arg, const struct manage_usage *u)
{
	struct usage_listing *l = arg;
	char removed[32];
	snprintf(removed, sizeof removed, u->tenant_id ? "#%lld" : "(others)", (long long)u->tenant_id);
	if (l->json) {
		json_t *o = json_pack("{s:o, s:I}", "tenant", u->tenant.len ? cli_json_string(u->tenant) : json_null(), "id", (json_int_t)u->tenant_id);
		for (int i = 0; i < USAGE_COUNTERS; i++)
			json_object_set_new(o, usage_names[i], json_integer((json_int_t)u->counters[i]));
		json_array_append_new(l->json, o);
		return true;
	}
	cli_table_cell(&l->table, "%.*s", u->tenant.len ? (int)u->tenant.len : (int)strlen(removed), u->tenant.len ? u->tenant.ptr : removed);
	for (int i = 0; i < USAGE_COUNTERS; i++)
		cli_table_cell(&l->table, "%llu", (unsigned long long)u->counters[i]);
	return true;
}

/* A running server first writes what it has counted; without one the file has all of it. */
static bool usage_is_fresh(struct cli *cli, bool *running_out)
{
	char *answer = NULL;
	enum err e = admin_ask(cli->config->admin_socket, "{\"verb\": \"usage\"}", &answer);
	bool fresh = e == ERR_CLOSED || (e == OK && strstr(answer, "written"));
	*running_out = e != ERR_CLOSED;
	free(answer);
	return fresh;
}

static int stats_of_tenants(struct cli *cli, const char *tenant)
{
	int status;
	bool running;
	struct usage_listing l = { .table = { .columns = 1 + USAGE_COUNTERS } };
	struct slice only = tenant ? slice_str(tenant) : slice_of(NULL, 0);
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	bool fresh = usage_is_fresh(cli, &running);
	if (!fresh)
		fprintf(stderr, "penfold: the running server could not write its latest figures; these are older\n");
	if (cli->json)
		l.json = json_array();
	else
		cli_table_cell(&l.table, "TENANT");
	for (int i = 0; i < USAGE_COUNTERS && !l.json; i++)
		cli_table_cell(&l.table, "%s", usage_names[i]);
	status = cli_outcome(m, manage_usage(m, tenant ? &only : NULL, usage_row, &l));
	if (l.json && !status)
		status = cli_print_json(json_pack("{s:O, s:b, s:b}", "tenants", l.json, "running", running, "fresh", fresh));
	if (!l.json)
		cli_table_print(&l.table);
	json_decref(l.json);
	manage_close(m);
	return status;
}

static int cmd_stats(struct cli *cli, int argc, char **argv)
{
	char *answer;
	const char *tenant = NULL;
	bool tenants = false;
	const struct cli_option options[] = { { "--tenant", &tenant, NULL }, { "--tenants", NULL, &tenants }, { NULL, NULL, NULL } };
	if (!cli_take("stats", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	if (tenant || tenants)
		return cli_config(cli) ? stats_of_tenants(cli, tenant) : CLI_USAGE;
	if (!cli_config(cli))
		return CLI_USAGE;
	enum err e = admin_ask(cli->config->admin_socket, "stats", &answer);
	if (e == ERR_CLOSED)
		return cli_fail(CLI_FAILED, "no server answers on %s", cli->config->admin_socket);
	if (e != OK)
		return cli_fail(CLI_FAILED, "%s: %s", cli->config->admin_socket, err_name(e));
	json_t *stats = json_loads(answer, 0, NULL);
	free(answer);
	if (!stats)
		return cli_fail(CLI_FAILED, "%s: the answer is not JSON", cli->config->admin_socket);
	if (cli->json)
		return cli_print_json(stats);
	printf("io backend %s\n", json_string_value(json_object_get(stats, "backend")));
	print_metrics(stats);
	print_shards(stats);
	print_memory(stats);
	json_decref(stats);
	return CLI_OK;
}

const struct verb server_verbs[] = {
	{ "serve", "", "run the server in the foreground",
	  "Serves until SIGTERM or SIGINT, which stop it in order: listeners, then sessions, then the store.\n"
	  "SIGHUP reads the configuration again and applies what can change while sessions go on.\n"
	  "SIGUSR2 lets a new process of this program take over (penfold upgrade).\n"
	  "The log goes to standard error, one event a line.",
	  cmd_serve },
	{ "config check", "", "check the configuration file and say what is wrong with it",
	  "One line names file, line, key and what was expected. Exit status 2 if anything is wrong.", cmd_config_check },
	{ "stats", "[--tenants | --tenant T]", "figures of the running server",
	  "Counters, latencies (nanoseconds, percentiles) and per-shard figures since its start, asked through admin_socket.\n"
	  "--tenants: what each tenant used since usage.db was made: sessions, logins right and wrong, bytes in and out, deliveries, refusals.\n"
	  "It outlives restarts and needs no running server.", cmd_stats },
	{ NULL, NULL, NULL, NULL, NULL }
};
