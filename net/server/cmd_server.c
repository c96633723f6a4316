/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_server.c - the verbs serve, config check and stats. */
#include "net/server/admin.h"
#include "net/server/cli.h"
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

static int cmd_stats(struct cli *cli, int argc, char **argv)
{
	char *answer;
	if (argc)
		return cli_misuse("stats", "\"%s\" is not expected", argv[0]);
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
	  "The log goes to standard error, one event a line.",
	  cmd_serve },
	{ "config check", "", "check the configuration file and say what is wrong with it",
	  "One line names file, line, key and what was expected. Exit status 2 if anything is wrong.", cmd_config_check },
	{ "stats", "", "figures of the running server",
	  "Counters, latencies (nanoseconds, percentiles) and per-shard figures since its start, asked through admin_socket.", cmd_stats },
	{ NULL, NULL, NULL, NULL, NULL }
};
