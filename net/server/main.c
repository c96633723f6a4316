/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.c - finds the verb and runs it.
 *
 * Options may stand anywhere: --config FILE, --data DIR, --json, --help.  Everything else is the verb (one or two words)
 * and its own arguments.
 */
#include "net/server/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct verb *const tables[] = { server_verbs, live_verbs, fsck_verbs, tenant_verbs, domain_verbs, account_verbs, sdps_verbs, certificate_verbs };

static void print_usage(FILE *to)
{
	fputs("penfold - a mail access server: LMTP in, POP3 out, for many tenants\n\n"
	      "usage: penfold [--config FILE] [--json] VERB [ARGUMENTS]\n\n",
	      to);
	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct verb *v = tables[t]; v->name; v++)
			fprintf(to, "  %-18s %s\n", v->name, v->summary);
	fputs("\nThe first steps:\n"
	      "  penfold --config penfold.yaml config check\n"
	      "  penfold --config penfold.yaml tenant add demo\n"
	      "  penfold --config penfold.yaml domain add demo.example --tenant demo\n"
	      "  penfold --config penfold.yaml account add ann@demo.example\n"
	      "  penfold --config penfold.yaml serve\n\n"
	      "penfold VERB --help says more. FILE is /etc/penfold/penfold.yaml or $PENFOLD_CONFIG unless given;\n"
	      "deploy/penfold.yaml in the source documents every key.\n",
	      to);
}

static void print_help(const struct verb *v)
{
	printf("usage: penfold [--config FILE] [--json] %s%s%s\n\n%s\n", v->name, v->usage[0] ? " " : "", v->usage, v->summary);
	if (v->help)
		printf("\n%s\n", v->help);
}

/* The verb that the first one or two words name; *words_out how many. */
static const struct verb *find_verb(int argc, char **argv, int *words_out)
{
	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct verb *v = tables[t]; v->name; v++) {
			const char *space = strchr(v->name, ' ');
			size_t first = space ? (size_t)(space - v->name) : strlen(v->name);
			if (strlen(argv[0]) != first || strncmp(argv[0], v->name, first) != 0)
				continue;
			if (space && (argc < 2 || strcmp(argv[1], space + 1) != 0))
				continue;
			*words_out = space ? 2 : 1;
			return v;
		}
	return NULL;
}

/* Takes the common options out of the arguments; false if one lacks its value. */
static bool take_options(struct cli *cli, int *argc_io, char **argv)
{
	int kept = 0;
	for (int i = 0; i < *argc_io; i++) {
		bool config = !strcmp(argv[i], "--config"), data = !strcmp(argv[i], "--data");
		if (config || data) {
			if (i + 1 >= *argc_io)
				return false;
			*(config ? &cli->config_path : &cli->data) = argv[++i];
		} else if (!strncmp(argv[i], "--config=", 9)) {
			cli->config_path = argv[i] + 9;
		} else if (!strncmp(argv[i], "--data=", 7)) {
			cli->data = argv[i] + 7;
		} else if (!strcmp(argv[i], "--json")) {
			cli->json = true;
		} else if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			cli->help = true;
		} else {
			argv[kept++] = argv[i];
		}
	}
	*argc_io = kept;
	return true;
}

int main(int argc, char **argv)
{
	const char *env = getenv("PENFOLD_CONFIG");
	struct cli cli = { .config_path = env ? env : "/etc/penfold/penfold.yaml" };
	int words = 0;
	argc--;
	argv++;
	if (!take_options(&cli, &argc, argv))
		return cli_fail(CLI_USAGE, "--config and --data need a value");
	if (argc == 0) {
		print_usage(cli.help ? stdout : stderr);
		return cli.help ? CLI_OK : CLI_USAGE;
	}
	const struct verb *verb = find_verb(argc, argv, &words);
	if (!verb)
		return cli_fail(CLI_USAGE, "no verb \"%s%s%s\"; penfold --help lists them", argv[0], argc > 1 ? " " : "",
				argc > 1 ? argv[1] : "");
	if (cli.help) {
		print_help(verb);
		return CLI_OK;
	}
	int status = verb->run(&cli, argc - words, argv + words);
	config_release(cli.config);
	return status;
}
