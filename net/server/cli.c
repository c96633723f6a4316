/* SPDX-License-Identifier: Apache-2.0 */
/* cli.c - see cli.h. */
#include "net/server/cli.h"

#include "core/run/shard.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

int cli_fail(int status, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fputs("penfold: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	return status;
}

int cli_misuse(const char *verb, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	fprintf(stderr, "penfold %s: ", verb);
	vfprintf(stderr, fmt, args);
	fputs("; try --help\n", stderr);
	va_end(args);
	return CLI_USAGE;
}

bool cli_config(struct cli *cli)
{
	char error[512];
	if (cli->config)
		return true;
	if (config_load(cli->config_path, &cli->config, error, sizeof error) == OK) {
		/* tools that read the store run on the same door as the server */
		ASSERT(shard_set_backend(cli->config->io.backend) == OK);
		return true;
	}
	fprintf(stderr, "%s\n", error);
	return false;
}

const char *cli_data(struct cli *cli)
{
	if (cli->data)
		return cli->data;
	return cli_config(cli) ? cli->config->data : NULL;
}

int cli_print_json(json_t *document)
{
	json_dumpf(document, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
	putchar('\n');
	json_decref(document);
	return fflush(stdout) == 0 ? CLI_OK : CLI_FAILED;
}
