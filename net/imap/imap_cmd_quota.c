/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_quota.c - GETQUOTA, GETQUOTAROOT, SETQUOTA (RFC 9208): one root "" for the account, STORAGE in KiB and MESSAGE.
 *
 * Limits are the operator's; SETQUOTA is refused.
 */
#include "net/imap/imap_private.h"

static void put_quota(struct imap_session *p)
{
	struct account_usage usage;
	const struct subject *s = p->subject;
	account_usage(p->account, &usage);
	REPLY_LIT(&p->s.reply, "* QUOTA \"\" (");
	if (s->quota_bytes)
		reply_printf(&p->s.reply, "STORAGE %llu %llu", (unsigned long long)((usage.bytes + 1023) / 1024), (unsigned long long)(s->quota_bytes / 1024));
	if (s->quota_messages)
		reply_printf(&p->s.reply, "%sMESSAGE %llu %llu", s->quota_bytes ? " " : "", (unsigned long long)usage.messages,
			     (unsigned long long)s->quota_messages);
	REPLY_LIT(&p->s.reply, ")\r\n");
}

enum step imap_cmd_getquota(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice root;
	if (!imap_sp(a) || !imap_astring(a, &root) || !imap_end(a))
		return imap_bad_args(p);
	if (root.len)
		return imap_no(p, "NONEXISTENT", "no such quota root");
	put_quota(p);
	return imap_ok(p, "that is how it stands");
}

enum step imap_cmd_getquotaroot(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice name;
	struct folder_info info;
	if (!imap_sp(a) || !imap_mailbox(a, &name) || !imap_end(a))
		return imap_bad_args(p);
	if (folder_find(p->account, name, &info) != OK)
		return imap_fail(p, ERR_NOT_FOUND);
	REPLY_LIT(&p->s.reply, "* QUOTAROOT ");
	imap_put_mailbox(p, info.name);
	REPLY_LIT(&p->s.reply, " \"\"\r\n");
	put_quota(p);
	return imap_ok(p, "that is how it stands");
}

enum step imap_cmd_setquota(struct imap_session *p) { return imap_no(p, "NOPERM", "limits are the operator's"); }
