/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli.h - the command line: one program, many verbs.
 *
 *     penfold [--config FILE] [--json] VERB [ARGUMENTS]
 *
 * For the verbs, one small file each (cmd_*.c).  A verb gets the common options already taken out of its arguments, in
 * whatever place they stood.  It prints results on standard output (a table, or with --json one JSON document) and objections on standard
 * error, one line each, and returns an exit status of CLI_....  Verbs are plain blocking programs; only `serve` is a server.
 */
#ifndef PENFOLD_NET_SERVER_CLI_H
#define PENFOLD_NET_SERVER_CLI_H

#include "net/server/config.h"

#include <jansson.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_NOT_FOUND = 3 };

struct cli {
	const char *config_path; /* --config, else $PENFOLD_CONFIG, else /etc/penfold/penfold.yaml */
	const char *data;        /* --data: the folder, instead of the configuration's; NULL if not given */
	bool json;
	bool help;               /* --help was given: the verb prints its help and returns CLI_OK */
	struct config *config;   /* after cli_config */
};

struct verb {
	const char *name;    /* "account add" */
	const char *usage;   /* "ADDRESS [--password-stdin]" */
	const char *summary; /* one line */
	const char *help;    /* paragraphs; may be NULL */
	int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is the first argument behind the verb */
};

/* Loads the configuration; false after one line on standard error (return CLI_USAGE then). */
bool cli_config(struct cli *cli);
/* The data folder: --data, or the configuration's `data`; NULL after one line on standard error. */
const char *cli_data(struct cli *cli);
/* "penfold: text" on standard error; returns `status`. */
int cli_fail(int status, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* "penfold account add: text, try --help"; returns CLI_USAGE. */
int cli_misuse(const char *verb, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints and frees a document; returns CLI_OK. */
int cli_print_json(json_t *document);

/* The tables of verbs, each ended by a NULL name. */
extern const struct verb server_verbs[]; /* cmd_server.c */
extern const struct verb live_verbs[];   /* cmd_live.c */
extern const struct verb fsck_verbs[];   /* cmd_fsck.c */
extern const struct verb tenant_verbs[]; /* cmd_tenant.c */
extern const struct verb domain_verbs[]; /* cmd_domain.c */
extern const struct verb account_verbs[]; /* cmd_account.c */
extern const struct verb sdps_verbs[];   /* cmd_sdps.c */
extern const struct verb certificate_verbs[]; /* cmd_certificate.c */

#endif
