/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_import.c - the verb account import: a passwd-file becomes accounts, in one transaction.
 *
 * Nothing is hashed again, so a hundred thousand lines take seconds.  Lines that cannot be taken are told by number; with
 * --strict one of them is enough to take none.  A running server goes on reading what was there until the commit.
 */
#include "net/server/cmd_account.h"

#include "net/server/cli_args.h"
#include "tenancy/passwd_file.h"

#include <stdio.h>
#include <stdlib.h>

#define TOLD_MAX 100 /* lines that are told one by one; the rest is counted */

const char import_help[] =
	"Each line of standard input is one account, as in Dovecot's passwd-file:\n"
	"  user@domain:{SCHEME}hash:uid:gid:gecos:home:shell:userdb_quota_rule=*:storage=1G\n"
	"Only name, password and quota rule are used; fields behind the password may be missing. Empty lines and those beginning with # are\n"
	"passed over. Hashes are taken as they are; a line whose scheme is unknown, is not allowed by the tenant or costs too much to check is\n"
	"told with its number and left out.\n"
	"--tenant TENANT  domains that are not served yet are added to it; other tenants' domains are refused.\n"
	"                 Without it the domains must be served already.\n"
	"--replace        accounts that are there get the password of the file; else they are told and left alone.\n"
	"--strict         if any line cannot be taken, none is.\n"
	"A server may be running: it sees all of it, once it is complete, within a second. Exit status 1 if any line was left out.";

struct import {
	struct manage *m;
	const char *tenant;
	bool replace, strict;
	uint64_t line, added, replaced, refused;
	json_t *told;
	char *refused_why; /* instead of manage_why, for one line; NULL */
};

static void tell(struct import *im, const char *why)
{
	im->refused++;
	if (im->refused > TOLD_MAX)
		return;
	if (im->told)
		json_array_append_new(im->told, json_pack("{s:I, s:s}", "line", (json_int_t)im->line, "why", why));
	else
		fprintf(stderr, "line %llu: %s\n", (unsigned long long)im->line, why);
}

/* Adds a domain that is not there when --tenant says whose it would be. */
static enum err add_account(struct import *im, const struct passwd_line *p)
{
	struct slice tenant = slice_str(im->tenant);
	enum err e = manage_account_add(im->m, p->user, tenant, p->stored);
	size_t at = slice_rfind(p->user, '@');
	if (e != ERR_NOT_FOUND || !tenant.len || at == SIZE_MAX)
		return e;
	struct slice domain = slice_from(p->user, at + 1);
	e = manage_domain_add(im->m, domain, tenant, slice_of(NULL, 0));
	if (e)
		return e;
	e = manage_account_add(im->m, p->user, tenant, p->stored);
	if (e) { /* a line that is not taken leaves no domain behind */
		char why[MANAGE_WHY_BYTES];
		snprintf(why, sizeof(why), "%s", manage_why(im->m));
		(void)manage_domain_remove(im->m, domain);
		im->refused_why = xstrdup(why);
	}
	return e;
}

static enum err set_number(struct import *im, struct slice user, enum setting_id id, uint64_t number)
{
	struct setting_value value = { .number = (int64_t)number };
	return manage_account_set(im->m, user, id, &value);
}

static enum err settings_of_line(struct import *im, const struct passwd_line *p)
{
	enum err e = OK;
	if (p->has_quota_bytes)
		e = set_number(im, p->user, SET_QUOTA_BYTES, p->quota_bytes);
	if (!e && p->has_quota_messages)
		e = set_number(im, p->user, SET_QUOTA_MESSAGES, p->quota_messages);
	if (!e && p->nologin) {
		e = set_number(im, p->user, SET_POP3, 0);
		if (!e)
			e = set_number(im, p->user, SET_IMAP, 0);
	}
	return e;
}

/* An error of the database itself, as opposed to one of this line. */
static bool is_fatal(enum err e)
{
	return e == ERR_IO || e == ERR_FULL || e == ERR_CORRUPT || e == ERR_BUSY;
}

static enum err import_line(struct import *im, struct slice line)
{
	struct passwd_line p;
	const char *why;
	im->line++;
	enum err e = passwd_line_parse(line, &p, &why);
	if (e == ERR_NOT_FOUND)
		return OK;
	if (e) {
		tell(im, why);
		return OK;
	}
	e = add_account(im, &p);
	bool there = e == ERR_EXISTS && im->replace;
	if (there)
		e = manage_account_password(im->m, p.user, p.stored);
	if (!e)
		e = settings_of_line(im, &p);
	if (!e)
		*(there ? &im->replaced : &im->added) += 1;
	else if (!is_fatal(e))
		tell(im, im->refused_why ? im->refused_why : manage_why(im->m));
	free(im->refused_why);
	im->refused_why = NULL;
	return is_fatal(e) ? e : OK;
}

static enum err import_all(struct import *im, FILE *from)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t len;
	enum err e = OK;
	while (!e && (len = getline(&line, &cap, from)) >= 0) {
		if (len && line[len - 1] == '\n')
			len--;
		e = import_line(im, slice_of(line, (size_t)len));
	}
	if (line)
		explicit_bzero(line, cap);
	free(line);
	return e;
}

static int report(struct cli *cli, struct import *im, bool kept)
{
	if (cli->json) {
		cli_print_json(json_pack("{s:I, s:I, s:I, s:I, s:b, s:o}", "lines", (json_int_t)im->line, "added", (json_int_t)im->added, "replaced",
					 (json_int_t)im->replaced, "refused", (json_int_t)im->refused, "kept", (int)kept, "problems", im->told));
		return kept && !im->refused ? CLI_OK : CLI_FAILED;
	}
	if (im->refused > TOLD_MAX)
		fprintf(stderr, "and %llu more lines\n", (unsigned long long)(im->refused - TOLD_MAX));
	if (!kept)
		return cli_fail(CLI_FAILED, "%llu lines cannot be taken: nothing was imported (--strict)", (unsigned long long)im->refused);
	printf("%llu accounts added, %llu replaced, %llu lines left out\n", (unsigned long long)im->added, (unsigned long long)im->replaced,
	       (unsigned long long)im->refused);
	return im->refused ? CLI_FAILED : CLI_OK;
}

int cmd_account_import(struct cli *cli, int argc, char **argv)
{
	struct import im = { .tenant = "" };
	int status;
	const struct cli_option options[] = { { "--tenant", &im.tenant, NULL }, { "--replace", NULL, &im.replace }, { "--strict", NULL, &im.strict }, { NULL, NULL, NULL } };
	if (!cli_take("account import", options, &argc, argv, 0, 0))
		return CLI_USAGE;
	im.m = cli_manage(cli, &status);
	if (!im.m)
		return status;
	im.told = cli->json ? json_array() : NULL;
	enum err e = manage_begin(im.m);
	if (!e)
		e = import_all(&im, stdin);
	bool keep = !e && !(im.strict && im.refused);
	if (keep)
		e = manage_commit(im.m);
	else
		manage_undo(im.m);
	status = cli_outcome(im.m, e);
	manage_close(im.m);
	if (!status)
		return report(cli, &im, keep);
	json_decref(im.told);
	return status;
}
