/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_idle.c - IDLE (RFC 2177): until DONE, what changes is told when it changes.
 *
 * While idle a session is parked like any other and keeps its tag alone; the folder's watch wakes it (session_poke) on its own shard,
 * with no polling.  Many commits between two looks are one look.
 */
#include "net/imap/imap_private.h"

#include <stdlib.h>

static void changed(struct folder_watch *watch)
{
	struct imap_session *p = CONTAINER_OF(watch, struct imap_session, watch);
	session_poke(&p->s);
}

void imap_idle_leave(struct imap_session *p)
{
	folder_unwatch(&p->watch);
	free(p->idle_tag);
	p->idle_tag = NULL;
}

/* IDLE as a command again: its end is a command's end. */
static bool back(struct imap_session *p)
{
	struct imap_command *c = imap_command_begin(p);
	return buf_printf(&c->text, "%s IDLE", p->idle_tag) && imap_read_verb(c);
}

enum step imap_idle_line(struct imap_session *p, struct slice line)
{
	bool good = back(p);
	imap_idle_leave(p);
	if (!good)
		return STEP_ABORT; /* cannot be: it was a tag before */
	return slice_eq_nocase(slice_trim(line), SLICE_LIT("DONE")) ? imap_ok(p, "no longer idle") : imap_bad(p, "expected DONE");
}

enum step imap_idle_poked(struct imap_session *p) { return back(p) ? imap_update_idle(p) : STEP_ABORT; }

enum step imap_cmd_idle(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	p->idle_tag = slice_dup(p->cmd->tag);
	if (p->state == IMAP_SELECTED) {
		p->watch.changed = changed;
		folder_unwatch(&p->watch);
		if (folder_watch(p->account, p->folder, &p->watch) != OK)
			link_init(&p->watch.link); /* deleted meanwhile: quiet from now on */
	}
	REPLY_LIT(&p->s.reply, "+ idling\r\n");
	return imap_update_idle(p);
}
