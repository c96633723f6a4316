/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_why.c - the verb why. */
#include "core/base/limits.h"
#include "net/server/admin.h"
#include "net/server/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text_of(json_t *d, const char *key) { return json_string_value(json_object_get(d, key)); }
static json_int_t number_of(json_t *d, const char *key) { return json_integer_value(json_object_get(d, key)); }

/* A client's bytes: nothing that a terminal would take for itself. */
static void print_shown(const char *key, const char *text)
{
	if (!text || !*text)
		return;
	printf(" %s=", key);
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || *text == 0x7f ? '?' : *text);
}

static void print_decision(json_t *d)
{
	char when[32];
	time_t s = (time_t)(number_of(d, "time_ms") / 1000);
	struct tm tm;
	gmtime_r(&s, &tm);
	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	printf("%s.%03dZ %-8s %s", when, (int)(number_of(d, "time_ms") % 1000), text_of(d, "decision"), text_of(d, "reason"));
	print_shown("protocol", text_of(d, "protocol"));
	print_shown("address", text_of(d, "address"));
	print_shown("login", text_of(d, "login"));
	print_shown("account", text_of(d, "account"));
	if (number_of(d, "delay_ms"))
		printf(" delay_ms=%" JSON_INTEGER_FORMAT, number_of(d, "delay_ms"));
	if (number_of(d, "failures"))
		printf(" failures=%" JSON_INTEGER_FORMAT, number_of(d, "failures"));
	printf(" session=%" JSON_INTEGER_FORMAT "\n", number_of(d, "session"));
}

static int print_all(struct cli *cli, json_t *answer, const char *who)
{
	size_t index;
	json_t *d, *list = json_object_get(answer, "decisions");
	bool none = json_array_size(list) == 0;
	if (cli->json) {
		int status = cli_print_json(answer);
		return none ? CLI_NOT_FOUND : status;
	}
	json_array_foreach(list, index, d)
		print_decision(d);
	json_decref(answer);
	return none ? cli_fail(CLI_NOT_FOUND, "nothing was decided about %s lately", who) : CLI_OK;
}

static int cmd_why(struct cli *cli, int argc, char **argv)
{
	char line[ADMIN_LINE_BYTES_MAX];
	char *text;
	if (argc != 1)
		return cli_misuse("why", "one LOGIN or ADDRESS is expected");
	if (strpbrk(argv[0], "\r\n") || snprintf(line, sizeof line, "why %s", argv[0]) >= (int)sizeof line)
		return cli_misuse("why", "this is neither a login nor an address");
	if (!cli_config(cli))
		return CLI_USAGE;
	enum err e = admin_ask(cli->config->admin_socket, line, &text);
	if (e == ERR_CLOSED)
		return cli_fail(CLI_FAILED, "no server answers on %s", cli->config->admin_socket);
	if (e != OK)
		return cli_fail(CLI_FAILED, "%s: %s", cli->config->admin_socket, err_name(e));
	json_t *answer = json_loads(text, 0, NULL);
	free(text);
	if (!answer)
		return cli_fail(CLI_FAILED, "%s: the answer is not JSON", cli->config->admin_socket);
	return print_all(cli, answer, argv[0]);
}

const struct verb why_verbs[] = {
	{ "why", "LOGIN|ADDRESS", "what was decided lately about a login or an address, and why",
	  "The newest first: accepted; delayed, behind failed logins of that address, network or login; or refused, by a wrong password or a limit.\n"
	  "The running server remembers some thousand of each in memory. LOGIN is as the client sent it, or the account's name.\n"
	  "Exit status 3 if nothing is known.",
	  cmd_why },
	{ NULL, NULL, NULL, NULL, NULL }
};
