/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_idle.c - IDLE (RFC 2177): until DONE, what changes is told when it changes.
 *
 * While idle a session is parked; the folder's watch wakes it (session_poke) on its own shard, with no polling.  Many commits
 * between two looks are one look.
 */
#include "net/imap/imap_private.h"

static void changed(struct folder_watch *watch)
{
	struct imap_session *p = CONTAINER_OF(watch, struct imap_session, watch);
	session_poke(&p->s);
}

static void leave(struct imap_session *p)
{
	p->idling = false;
	folder_unwatch(&p->watch);
}

static enum step done(struct imap_session *p, struct slice line)
{
	p->cmd->continued = NULL;
	leave(p);
	if (!slice_eq_nocase(slice_trim(line), SLICE_LIT("DONE")))
		return imap_bad(p, "expected DONE");
	imap_update_release(&p->cmd->update);
	return imap_ok(p, "no longer idle");
}

enum step imap_cmd_idle(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	p->cmd->continued = done;
	p->cmd->drop = leave;
	p->idling = true;
	if (p->state == IMAP_SELECTED) {
		p->watch.changed = changed;
		folder_unwatch(&p->watch);
		if (folder_watch(p->account, p->folder, &p->watch) != OK)
			link_init(&p->watch.link); /* deleted meanwhile: quiet from now on */
	}
	REPLY_LIT(&p->s.reply, "+ idling\r\n");
	return imap_update_idle(p);
}
