/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_purge.c - the verb account purge, and the deleting itself when no server runs.
 *
 * The store belongs to one process (its folder is locked).  If that is a server, marking is all that is done here: it looks
 * for marked accounts and deletes their mail (purge.c).  Else this program takes the folder for a moment.
 */
#include "net/server/cmd_account.h"

#include "core/run/shard.h"
#include "net/server/cli_args.h"
#include "storage/store.h"

#include <stdio.h>
#include <stdlib.h>

const char purge_help[] = "The messages of accounts that were removed are kept until this verb names them: by address (all removed accounts of that name), by the\n"
			  "id that account list --removed shows, or --all of them. Without a server they are deleted at once; a running server is asked to and\n"
			  "does so within a minute. What is deleted cannot be brought back.";

struct ids {
	uint64_t *id;
	size_t count, cap;
};

static bool collect(void *arg, const struct manage_removed *r)
{
	struct ids *ids = arg;
	if (!r->purge)
		return true;
	if (ids->count == ids->cap) {
		ids->cap = ids->cap ? ids->cap * 2 : 64;
		ids->id = xrealloc(ids->id, ids->cap * sizeof(uint64_t));
	}
	ids->id[ids->count++] = (uint64_t)r->id;
	return true;
}

struct deleting {
	const struct store_config *config;
	const struct ids *ids;
	size_t deleted; /* the first so many are gone */
	enum err result;
};

static void delete_all(void *arg)
{
	struct deleting *d = arg;
	d->result = store_start(d->config);
	if (d->result)
		return;
	while (!d->result && d->deleted < d->ids->count) {
		d->result = account_destroy(d->ids->id[d->deleted]);
		if (d->result == ERR_NOT_FOUND) /* it never got a message */
			d->result = OK;
		d->deleted += d->result == OK;
	}
	store_stop();
}

enum err purge_now(struct cli *cli, struct manage *m, uint64_t *deleted_out, bool *server_out)
{
	struct store_config config;
	struct ids ids = { NULL, 0, 0 };
	store_config_default(&config);
	config.data_path = cli_data(cli);
	*deleted_out = 0;
	*server_out = false;
	enum err e = store_lock(&config);
	if (e == ERR_IN_USE) {
		*server_out = true;
		return OK;
	}
	if (e) {
		cli_fail(CLI_FAILED, "the data folder cannot be taken: %s", err_name(e));
		return e;
	}
	e = manage_removed(m, collect, &ids);
	struct deleting d = { .config = &config, .ids = &ids };
	if (!e && ids.count) {
		e = shard_run_alone(delete_all, &d);
		e = e ? e : d.result;
	}
	store_unlock();
	for (size_t i = 0; i < d.deleted; i++)
		if (!manage_purged(m, (int64_t)ids.id[i]))
			++*deleted_out;
	free(ids.id);
	if (e)
		cli_fail(CLI_FAILED, "not all mail could be deleted: %s", err_name(e));
	return e;
}

int cmd_account_purge(struct cli *cli, int argc, char **argv)
{
	bool all = false, server;
	uint64_t marked, deleted;
	int status;
	const struct cli_option options[] = { { "--all", NULL, &all }, { NULL, NULL, NULL } };
	if (!cli_take("account purge", options, &argc, argv, 0, 1))
		return CLI_USAGE;
	if (all == (argc == 1) || (argc && !argv[0][0]))
		return cli_misuse("account purge", "either an address, an id, or --all is expected");
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_purge(m, slice_str(all ? "" : argv[0]), &marked));
	if (!status && purge_now(cli, m, &deleted, &server))
		status = CLI_FAILED;
	manage_close(m);
	if (status)
		return status;
	if (cli->json)
		return cli_print_json(json_pack("{s:I, s:b}", "accounts", (json_int_t)(server ? marked : deleted), "by_server", (int)server));
	printf("the mail of %llu removed accounts is %s\n", (unsigned long long)(server ? marked : deleted), server ? "being deleted by the running server" : "deleted");
	return CLI_OK;
}
