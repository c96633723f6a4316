/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cli_args.h - what the managing verbs share: their options, tables on a terminal, passwords from a terminal, outcomes.
 *
 * Everything blocks; objections go to standard error, one line each.
 */
#ifndef PENFOLD_NET_SERVER_CLI_ARGS_H
#define PENFOLD_NET_SERVER_CLI_ARGS_H

#include "core/base/limits.h"
#include "net/server/cli.h"
#include "tenancy/manage.h"

/* An option with a value ("--tenant T", "--tenant=T") or a flag. */
struct cli_option {
	const char *name;         /* "--tenant"; NULL ends the list */
	const char **value_out;   /* or NULL */
	bool *flag_out;           /* or NULL */
};
/* Takes them out of the arguments; what is left must be least to most words. False after a line (return CLI_USAGE). "--" ends options. */
bool cli_take(const char *verb, const struct cli_option *options, int *argc_io, char **argv, int least, int most);

/* The directory; NULL after a line, *status_out is what to return. */
struct manage *cli_manage(struct cli *cli, int *status_out);
/* The exit status of an outcome, after its line when it is not OK. */
int cli_outcome(const struct manage *m, enum err e);

/* "key=value": false after a line. */
bool cli_setting(const char *verb, const char *word, enum setting_id *id_out, struct setting_value *value_out);

/* A password from the first line of standard input, or asked for twice without echo on a terminal. False after a line. */
bool cli_password(const char *verb, bool from_stdin, char out[PASSWORD_BYTES_MAX + 2], struct slice *password_out);

/* A further one, which may be left out: the next line of standard input, or asked for. Empty = none. False after a line. */
bool cli_password_more(bool from_stdin, char out[PASSWORD_BYTES_MAX + 2], struct slice *password_out);

/* Rows of cells, printed with aligned columns. */
struct cli_table {
	unsigned columns;
	size_t cells, cap;
	char **cell;
};
void cli_table_cell(struct cli_table *t, const char *fmt, ...) PRINTF_LIKE(2, 3);
void cli_table_print(struct cli_table *t); /* and frees */

/* A JSON string; bytes that are no UTF-8 (an edit by hand) become '?'. */
json_t *cli_json_string(struct slice s);
/* The setting's value as JSON: bool, number or string. */
json_t *cli_json_setting(enum setting_id id, const struct setting_value *value);

#endif
