/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_replace.c - REPLACE and UID REPLACE (RFC 8508): APPEND of one message in whose commit another leaves the selected mailbox
 * (invariant 13).
 *
 * Everything of the message on its way in is APPEND's; here is what is more: which one leaves, and the answer.
 */
#include "net/imap/imap_append.h"

/* The whole UIDs of the view, or its last one. */
static bool find(struct imap_session *p, struct appending *ap, uint64_t number)
{
	struct message m;
	uint32_t count = view_count(p->view), index = (uint32_t)number - 1;
	if (p->cmd->uid)
		index = view_index(p->view, (uint32_t)number);
	if (index >= count)
		return false;
	view_message(p->view, index, &m);
	ap->replaces_uid = m.uid;
	return !p->cmd->uid || m.uid == number;
}

bool imap_replace_read(struct imap_session *p, struct appending *ap)
{
	struct imap_args *a = &p->cmd->args;
	uint64_t number = 0;
	bool star;
	ap->replaces = true;
	if (!imap_sp(a))
		return false;
	star = imap_skip(a, '*');
	if (!star && !imap_number(a, UINT32_MAX, &number))
		return false;
	a->why = "no message has the number 0";
	if (!star && !number)
		return false;
	if (star && view_count(p->view)) {
		struct message m;
		view_message(p->view, view_count(p->view) - 1, &m);
		number = p->cmd->uid ? m.uid : view_count(p->view);
	}
	if (p->enabled & IMAP_UIDONLY && !p->cmd->uid)
		imap_append_refuse(ap, IMAP_S_BAD, "UIDREQUIRED", "message numbers were given up by UIDONLY");
	else if (p->read_only)
		imap_append_refuse(ap, IMAP_S_NO, "NOPERM", "the mailbox was opened by EXAMINE");
	else if (!number || !find(p, ap, number))
		imap_append_refuse(ap, p->cmd->uid ? IMAP_S_NO : IMAP_S_BAD, NULL, "no message has this number");
	return true;
}

uint64_t imap_replaced_bytes(const struct imap_session *p, const struct appending *ap)
{
	struct message m;
	uint32_t index = ap->replaces_uid && p->view ? view_index(p->view, ap->replaces_uid) : UINT32_MAX;
	if (index == UINT32_MAX || index >= view_count(p->view))
		return 0;
	view_message(p->view, index, &m);
	return m.uid == ap->replaces_uid ? m.size : 0;
}

/* As for MOVE: the new UID is told before the old message's expunge (RFC 8508 section 4.3). */
enum step imap_replaced(struct imap_session *p, const char *code)
{
	reply_printf(&p->s.reply, "* OK [%s] it is in its place\r\n", code);
	return imap_ok_expunged(p, "replaced");
}
