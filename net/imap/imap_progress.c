/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_progress.c - INPROGRESS (RFC 9585): a command that takes long tells how far it is, so that its client does not give it up.
 *
 * For SEARCH, SORT and THREAD while they look for what matches, and say nothing else; FETCH and LIST are heard of anyway.  It is told
 * between messages, never within an answer; who does not read is not written to for ever (reply_full).
 */
#include "net/imap/imap_private.h"

#include "core/run/clock.h"

void imap_progress_begin(struct imap_progress *g, uint32_t goal)
{
	*g = (struct imap_progress){ .due_ms = clock_fresh_ns() / 1000000 + imap_settings.progress_ms, .goal = goal };
}

void imap_progress_at(struct imap_session *p, struct imap_progress *g, uint32_t done)
{
	uint64_t now = clock_fresh_ns() / 1000000;
	if (now < g->due_ms)
		return;
	g->due_ms = now + imap_settings.progress_ms;
	done += g->before;
	if (reply_full(&p->s.reply) || done >= g->goal)
		return;
	REPLY_LIT(&p->s.reply, "* OK [INPROGRESS (");
	reply_printf(&p->s.reply, "\"%.*s\" %u %u)] %u%% so far\r\n", SLICE_ARG(p->cmd->tag), done, g->goal, (unsigned)((uint64_t)done * 100 / g->goal));
	session_send_now(&p->s);
}
