/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_fsck.c - the verb fsck: reads accounts through and says what it finds.
 *
 * It takes the data folder's lock, so it runs only while no server does; the running server scrubs by itself.
 */
#include "net/server/cli_args.h"

#include "core/run/file.h"
#include "core/run/shard.h"
#include "storage/fsck.h"
#include "storage/store.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct fsck_run {
	struct cli *cli;
	struct store_config store;
	struct fsck_options options;
	struct fsck_totals totals;
	uint64_t account_id; /* 0 = all */
	json_t *findings;    /* with --json */
	enum err result;
};

static void show(void *arg, const struct finding *finding)
{
	struct fsck_run *run = arg;
	char text[FINDING_TEXT_BYTES];
	if (run->findings) {
		size_t len = finding_json(finding, text, sizeof text);
		json_t *one = json_loadb(text, len, 0, NULL);
		if (one)
			json_array_append_new(run->findings, one);
		return;
	}
	finding_text(finding, text, sizeof text);
	printf("%s: account %llu: %s\n", finding_severity_name(finding_severity(finding->kind)), (unsigned long long)finding->account_id,
	       text);
}

static void check(void *arg)
{
	struct fsck_run *run = arg;
	int fd = file_open(AT_FDCWD, run->store.data_path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) {
		run->result = err_from_errno(-fd);
		return;
	}
	run->result = run->account_id ? fsck_account(fd, run->account_id, &run->options, show, run, &run->totals) :
					fsck_all(fd, &run->options, show, run, &run->totals);
	file_close(fd);
}

static bool keep_id(void *arg, const struct manage_account *account)
{
	*(uint64_t *)arg = (uint64_t)account->id;
	return false;
}

/* An id, or an address that the directory knows. */
static int find_account(struct cli *cli, const char *word, uint64_t *id_out)
{
	int status;
	if (slice_u64(slice_str(word), UINT64_MAX, id_out) && *id_out)
		return CLI_OK;
	struct manage *m = cli_manage(cli, &status);
	if (!m)
		return status;
	status = cli_outcome(m, manage_accounts(m, SLICE_LIT(""), SLICE_LIT(""), slice_str(word), keep_id, id_out));
	manage_close(m);
	return status;
}

static unsigned long long worst(const struct fsck_totals *totals, enum finding_severity severity)
{
	unsigned long long n = 0;
	for (int k = 0; k < FINDING_COUNT; k++)
		if (finding_severity((enum finding_kind)k) == severity)
			n += totals->findings[k];
	return n;
}

static int report(struct fsck_run *run)
{
	const struct fsck_totals *t = &run->totals;
	unsigned long long errors = worst(t, FINDING_ERROR), warnings = worst(t, FINDING_WARNING), notes = worst(t, FINDING_NOTE);
	if (run->result != OK && run->result != ERR_IO) {
		json_decref(run->findings);
		return cli_fail(run->result == ERR_NOT_FOUND ? CLI_NOT_FOUND : CLI_FAILED, "fsck: %s",
				run->result == ERR_NOT_FOUND ? "the account has no mail directory" : err_name(run->result));
	}
	int status = errors || run->result != OK ? CLI_FAILED : CLI_OK;
	if (run->findings) {
		cli_print_json(json_pack("{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "findings", run->findings, "accounts",
					 (json_int_t)t->accounts, "logs", (json_int_t)t->logs, "commits", (json_int_t)t->commits,
					 "messages", (json_int_t)t->messages, "bodies", (json_int_t)t->bodies, "bytes_read",
					 (json_int_t)t->bytes_read, "errors", (json_int_t)errors, "warnings", (json_int_t)warnings,
					 "notes", (json_int_t)notes));
		return status;
	}
	printf("%llu accounts, %llu logs, %llu messages, %llu MiB read: %llu errors, %llu warnings, %llu notes\n",
	       (unsigned long long)t->accounts, (unsigned long long)t->logs, (unsigned long long)t->messages,
	       (unsigned long long)(t->bytes_read >> 20), errors, warnings, notes);
	return status;
}

static int cmd_fsck(struct cli *cli, int argc, char **argv)
{
	struct fsck_run run = { .cli = cli };
	const struct cli_option options[] = { { "--rebuild", NULL, &run.options.rebuild },
					      { "--quick", NULL, &run.options.skip_bodies },
					      { NULL, NULL, NULL } };
	if (!cli_take("fsck", options, &argc, argv, 0, 1))
		return CLI_USAGE;
	store_config_default(&run.store);
	run.store.data_path = cli_data(cli);
	if (!run.store.data_path)
		return CLI_USAGE;
	int status = argc ? find_account(cli, argv[0], &run.account_id) : CLI_OK;
	if (status)
		return status;
	enum err e = store_lock(&run.store);
	if (e == ERR_IN_USE)
		return cli_fail(CLI_FAILED, "a server uses %s; stop it first (it scrubs by itself: store.scrub_days)", run.store.data_path);
	if (e)
		return cli_fail(CLI_FAILED, "%s cannot be taken: %s", run.store.data_path, err_name(e));
	run.findings = cli->json ? json_array() : NULL;
	e = shard_run_alone(check, &run);
	store_unlock();
	if (e)
		run.result = e;
	return report(&run);
}

const struct verb fsck_verbs[] = {
	{ "fsck", "[ADDRESS|ID] [--quick] [--rebuild]", "check stored mail, offline",
	  "Reads every log of one account, or of all, every message's bytes and every file, and explains what it finds.\n"
	  "Logs are never changed and no mail is removed. Exit status 1 if something that was promised is damaged or missing.\n\n"
	  "  --quick     records only, not the bytes of messages\n"
	  "  --rebuild   throws caches (state files) away and makes them anew",
	  cmd_fsck },
	{ NULL, NULL, NULL, NULL, NULL }
};
