/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_expunge.c - EXPUNGE, UID EXPUNGE (RFC 4315) and CLOSE: messages with \Deleted go, all in one commit (invariants 1 and 13).
 *
 * What has gone is told by the update at the command's end, like what others expunge.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"

#include <stdio.h>
#include <stdlib.h>

/* UIDs of the view's messages with \Deleted, of `set` or of all. */
static uint32_t *deleted_uids(struct imap_session *p, struct imap_set *set, size_t *count_out)
{
	uint32_t *uids = NULL, index = 0;
	size_t count = 0, cap = 0;
	for (uint32_t n = 0; set ? imap_set_next(p, set, &index) : n < view_count(p->view); n++) {
		struct message m;
		view_message(p->view, set ? index : n, &m);
		if (m.flags & FLAG_DELETED) {
			if (count == cap) {
				cap = cap ? 2 * cap : 64;
				uids = xrealloc(uids, cap * sizeof *uids);
			}
			uids[count++] = m.uid;
		}
		if (n % 4096 == 4095)
			fiber_breathe();
	}
	*count_out = count;
	return uids;
}

static enum err expunge(struct imap_session *p, struct imap_set *set)
{
	size_t count, removed;
	uint32_t *uids = deleted_uids(p, set, &count);
	enum err e = count ? account_expunge(p->account, p->folder, uids, count, &removed) : OK;
	free(uids);
	return e;
}

/* HIGHESTMODSEQ goes with the OK once the client knows MODSEQs (RFC 7162 section 3.2.7). */
enum step imap_ok_expunged(struct imap_session *p, const char *text)
{
	struct folder_info info;
	char code[48];
	if (!(p->enabled & IMAP_QRESYNC) || folder_info(p->account, p->folder, &info) != OK)
		return imap_ok(p, text);
	snprintf(code, sizeof code, "HIGHESTMODSEQ %llu", (unsigned long long)max_u64(info.modseq, 1));
	return imap_ok_code(p, code, text);
}

static enum step expunged(struct imap_session *p, enum err e) { return e == OK ? imap_ok_expunged(p, "expunged") : imap_fail(p, e); }

enum step imap_cmd_expunge(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct imap_set set;
	if (p->cmd->uid ? !imap_sp(a) || !imap_set_read(p, &set) : !imap_end(a))
		return imap_bad_args(p);
	enum err e = OK;
	bool bad = p->cmd->uid && !imap_end(a);
	if (!bad && !p->read_only)
		e = expunge(p, p->cmd->uid ? &set : NULL);
	if (p->cmd->uid)
		imap_set_release(&set);
	if (bad)
		return imap_bad_args(p);
	return p->read_only ? imap_no(p, "NOPERM", "the mailbox was opened by EXAMINE") : expunged(p, e);
}

enum step imap_cmd_close(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	enum err e = p->read_only ? OK : expunge(p, NULL);
	if (e == ERR_NOT_FOUND)
		e = OK; /* the folder itself was deleted */
	if (e != OK)
		return imap_fail(p, e);
	imap_leave_folder(p);
	return imap_ok(p, "closed");
}
