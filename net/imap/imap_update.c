/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_update.c - what has changed in the selected mailbox and the client was not told: at the end of commands, and in IDLE.
 *
 * The session's view is advanced to the newest version, and the difference of the two is told: EXPUNGE (or VANISHED) for what has gone,
 * EXISTS for what has come, then FETCH for each message that was there before and whose flags have a MODSEQ above what was told.  Where no
 * expunge may be told (FETCH, STORE and SEARCH by message numbers: RFC 9051 section 7.5.1) the view stays, so numbers
 * do; what has gone can still be read.
 *
 * All of it may be longer than the output has room: what has gone is listed at once (4 bytes each) and told as room comes; flags are
 * found by walking, and pages without newer ones are stepped over.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"

#include <stdlib.h>

void imap_update_release(struct imap_update *u)
{
	free(u->gone);
	*u = (struct imap_update){ .gone = NULL };
}

static void note_gone(void *arg, uint32_t uid, uint32_t index)
{
	struct imap_update *u = arg;
	if (u->gone_count == u->gone_cap) {
		u->gone_cap = u->gone_cap ? 2 * u->gone_cap : 16;
		u->gone = xrealloc(u->gone, u->gone_cap * sizeof *u->gone);
	}
	/* each EXPUNGE counts all that follow down by one */
	u->gone[u->gone_count] = u->uids ? uid : index + 1 - u->gone_count;
	u->gone_count++;
}

static void begin(struct imap_session *p, bool expunge)
{
	struct imap_update *u = &p->cmd->update;
	struct folder_info info;
	imap_update_release(u);
	u->begun = true;
	u->uids = p->enabled & (IMAP_QRESYNC | IMAP_UIDONLY);
	u->told_modseq = p->modseq_told;
	if (folder_info(p->account, p->folder, &info) != OK)
		return; /* deleted by another session: this one keeps what it has seen */
	u->told_modseq = info.modseq;
	u->flags_end = p->exists_told;
	if (expunge && !view_newest(p->view) && view_advance(&p->view, note_gone, u)) {
		u->flags_end = p->exists_told - u->gone_count;
		u->exists = view_count(p->view) != u->flags_end;
		p->exists_told = view_count(p->view);
	}
}

/* ---- telling ---- */

static bool tell_vanished(struct imap_session *p, struct imap_update *u)
{
	while (u->gone_at < u->gone_count) {
		uint32_t n = (uint32_t)min_u64(u->gone_count - u->gone_at, 256);
		if (reply_full(&p->s.reply))
			return false;
		REPLY_LIT(&p->s.reply, "* VANISHED ");
		imap_put_uids(p, u->gone + u->gone_at, n);
		REPLY_LIT(&p->s.reply, "\r\n");
		u->gone_at += n;
	}
	return true;
}

static bool tell_gone(struct imap_session *p, struct imap_update *u)
{
	if (u->uids)
		return tell_vanished(p, u);
	for (; u->gone_at < u->gone_count; u->gone_at++) {
		if (reply_full(&p->s.reply))
			return false;
		reply_printf(&p->s.reply, "* %u EXPUNGE\r\n", u->gone[u->gone_at]);
	}
	return true;
}

static bool told_already(const struct imap_command *c, const struct message *m)
{
	if (m->modseq != c->told_modseq || !c->told_count)
		return false;
	size_t low = 0, high = c->told_count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (c->told_uids[mid] < m->uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low < c->told_count && c->told_uids[low] == m->uid;
}

void imap_put_fetch(struct imap_session *p, uint32_t index, uint32_t uid)
{
	if (p->enabled & IMAP_UIDONLY)
		reply_printf(&p->s.reply, "* %u UIDFETCH (", uid);
	else
		reply_printf(&p->s.reply, "* %u FETCH (", index + 1);
}

void imap_put_flags_facts(struct imap_session *p, const struct message *m)
{
	if ((p->cmd->uid || p->enabled & IMAP_QRESYNC) && !(p->enabled & IMAP_UIDONLY))
		reply_printf(&p->s.reply, " UID %u", m->uid);
	if (p->enabled & IMAP_CONDSTORE)
		reply_printf(&p->s.reply, " MODSEQ (%llu)", (unsigned long long)m->modseq);
}

static bool tell_flags(struct imap_session *p, struct imap_update *u)
{
	uint32_t index;
	if (u->told_modseq <= p->modseq_told)
		return true;
	while (view_next_changed(p->view, u->flags_at, p->modseq_told, &index) && index < u->flags_end) {
		struct message m;
		if (reply_full(&p->s.reply))
			return false;
		view_message(p->view, index, &m);
		u->flags_at = index + 1;
		if (told_already(p->cmd, &m))
			continue;
		imap_put_fetch(p, index, m.uid);
		REPLY_LIT(&p->s.reply, "FLAGS ");
		imap_put_flags(p, &m);
		imap_put_flags_facts(p, &m);
		REPLY_LIT(&p->s.reply, ")\r\n");
	}
	return true;
}

/* False: output is full. */
static bool tell(struct imap_session *p)
{
	struct imap_update *u = &p->cmd->update;
	if (!u->told_gone) {
		if (!tell_gone(p, u))
			return false;
		u->told_gone = true;
		if (u->exists)
			reply_printf(&p->s.reply, "* %u EXISTS\r\n", p->exists_told);
		if (u->exists && !imap_rev2(p))
			REPLY_LIT(&p->s.reply, "* 0 RECENT\r\n");
	}
	if (!tell_flags(p, u))
		return false;
	p->modseq_told = u->told_modseq;
	return true;
}

static bool may_tell(const struct imap_session *p)
{
	const struct imap_verb *v = p->cmd->verb;
	return p->state == IMAP_SELECTED && v && v->tells != IMAP_TELLS_NOTHING;
}

enum step imap_update_and_end(struct imap_session *p)
{
	struct imap_command *c = p->cmd;
	if (may_tell(p)) {
		if (!c->update.begun)
			begin(p, c->verb->tells == IMAP_TELLS_ALL || c->uid);
		if (!tell(p)) {
			c->resume = imap_update_and_end;
			return STEP_RESUME;
		}
	}
	reply_put(&p->s.reply, c->last);
	imap_command_free(p);
	return STEP_NEXT;
}

enum step imap_update_idle(struct imap_session *p)
{
	struct imap_command *c = p->cmd;
	if (p->state == IMAP_SELECTED) {
		if (!c->update.begun)
			begin(p, true);
		if (!tell(p)) {
			c->resume = imap_update_idle;
			return STEP_RESUME;
		}
	}
	imap_command_free(p);
	return STEP_NEXT;
}
