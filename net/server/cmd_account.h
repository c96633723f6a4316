/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_account.h - the verbs of accounts that are long enough for a file of their own.
 *
 * For cmd_account.c, which holds the table of all account verbs.  Each is a verb as cli.h describes it, with its help text
 * beside it; they block, print one line for what went wrong, and return an exit status.
 */
#ifndef PENFOLD_NET_SERVER_CMD_ACCOUNT_H
#define PENFOLD_NET_SERVER_CMD_ACCOUNT_H

#include "net/server/cli.h"

int cmd_account_import(struct cli *cli, int argc, char **argv); /* cmd_import.c */
extern const char import_help[];
int cmd_account_purge(struct cli *cli, int argc, char **argv); /* cmd_purge.c */
extern const char purge_help[];

int cmd_app_password_add(struct cli *cli, int argc, char **argv); /* cmd_app_password.c */
int cmd_app_password_list(struct cli *cli, int argc, char **argv);
int cmd_app_password_remove(struct cli *cli, int argc, char **argv);
extern const char app_password_help[];

struct manage;
/* Deletes the mail of the removed accounts that are marked, unless a server runs, which then does it by itself: *server_out. ERR_... with a
 * line on standard error when something could not be deleted. */
enum err purge_now(struct cli *cli, struct manage *m, uint64_t *deleted_out, bool *server_out);

#endif
