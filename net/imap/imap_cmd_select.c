/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_select.c - SELECT and EXAMINE (RFC 9051 sections 6.3.2 and 6.3.3) with CONDSTORE and QRESYNC (RFC 7162), UNSELECT, CLOSE.
 *
 * A folder of a million messages is selected without reading one: the view is pinned, and only the first unseen message is looked for
 * (RFC 3501 wants its number), by flags in memory.  QRESYNC's answer may be long and is told as there is room.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"

struct select {
	struct slice name;
	bool qresync;
	uint64_t uidvalidity, modseq;
	struct ranges known;
	bool has_known;
	struct imap_vanished vanished;
	uint32_t flags_at;
	uint64_t told_modseq;
};

static void drop(struct imap_session *p)
{
	struct select *s = p->cmd->state;
	ranges_release(&s->known);
	imap_vanished_release(&s->vanished);
}

/* ---- arguments ---- */

/* "(uidvalidity modseq [known-uids [(known-sequence-set known-uid-set)]])": the last is a hint that is not needed here. */
static bool read_qresync(struct imap_session *p, struct select *s)
{
	struct imap_args *a = &p->cmd->args;
	struct slice text;
	if (!(p->enabled & IMAP_QRESYNC)) {
		a->why = "ENABLE QRESYNC first";
		return false;
	}
	if (!imap_sp(a) || !imap_open(a) || !imap_number(a, UINT32_MAX, &s->uidvalidity) || !imap_sp(a) || !imap_number(a, INT64_MAX, &s->modseq))
		return false;
	s->qresync = true;
	if (imap_skip(a, ' ') && !imap_peek(a, '(')) {
		if (!imap_set_text(a, &text))
			return false;
		if (ranges_parse(&s->known, text, 0) != OK) {
			a->why = "a set of UIDs out of form";
			return false;
		}
		s->has_known = true;
		imap_skip(a, ' ');
	}
	if (imap_skip(a, '(') && (!imap_set_text(a, &text) || !imap_sp(a) || !imap_set_text(a, &text) || !imap_need(a, ')')))
		return false;
	return imap_need(a, ')');
}

static bool read_parameters(struct imap_session *p, struct select *s)
{
	struct imap_args *a = &p->cmd->args;
	if (imap_at_end(a))
		return true;
	if (!imap_sp(a) || !imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		if (imap_word(a, "CONDSTORE")) {
			p->enabled |= IMAP_CONDSTORE;
		} else if (imap_word(a, "QRESYNC")) {
			if (s->qresync || !read_qresync(p, s))
				return false;
		} else {
			a->why = "no such parameter";
			return false;
		}
	}
	return imap_end(a);
}

/* ---- answers ---- */

static void put_first_unseen(struct imap_session *p, const struct folder_info *info)
{
	if (imap_rev2(p) || p->enabled & IMAP_UIDONLY || !info->unseen) /* it is a message number */
		return;
	for (uint32_t i = 0; i < view_count(p->view); i++) {
		struct message m;
		view_message(p->view, i, &m);
		if (!(m.flags & FLAG_SEEN)) {
			reply_printf(&p->s.reply, "* OK [UNSEEN %u] the first of them\r\n", i + 1);
			return;
		}
		if (i % 4096 == 4095)
			fiber_breathe();
	}
}

static void put_facts(struct imap_session *p, const struct folder_info *info)
{
	struct reply *r = &p->s.reply;
	REPLY_LIT(r, "* FLAGS ");
	imap_put_known_flags(p, false);
	if (p->read_only)
		REPLY_LIT(r, "\r\n* OK [PERMANENTFLAGS ()] only to be read");
	else {
		REPLY_LIT(r, "\r\n* OK [PERMANENTFLAGS ");
		imap_put_known_flags(p, true);
		REPLY_LIT(r, "] to be kept");
	}
	reply_printf(r, "\r\n* %u EXISTS\r\n", p->exists_told);
	if (!imap_rev2(p))
		REPLY_LIT(r, "* 0 RECENT\r\n");
	reply_printf(r, "* OK [UIDVALIDITY %u] they stay\r\n* OK [UIDNEXT %u] the next one's\r\n* OK [HIGHESTMODSEQ %llu] it stands here\r\n",
		     info->uidvalidity, info->uidnext, (unsigned long long)max_u64(info->modseq, 1));
	reply_printf(r, "* OK [MAILBOXID (F%u-%u)] it is this one\r\n", info->id, info->uidvalidity);
	if (imap_rev2(p)) {
		struct select *s = p->cmd->state;
		REPLY_LIT(r, "* LIST () \"/\" ");
		imap_put_mailbox(p, s->name);
		REPLY_LIT(r, "\r\n");
	}
}

static bool knows(const struct select *s, uint32_t uid) { return !s->has_known || ranges_contains(&s->known, uid); }

static enum step resync(struct imap_session *p)
{
	struct select *s = p->cmd->state;
	uint32_t index;
	p->cmd->resume = resync;
	if (!imap_vanished_tell(p, &s->vanished))
		return STEP_RESUME;
	while (s->qresync && view_next_changed(p->view, s->flags_at, s->modseq, &index)) {
		struct message m;
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		s->flags_at = index + 1;
		view_message(p->view, index, &m);
		if (!knows(s, m.uid))
			continue;
		imap_put_fetch(p, index, m.uid);
		if (!(p->enabled & IMAP_UIDONLY))
			reply_printf(&p->s.reply, "UID %u ", m.uid);
		REPLY_LIT(&p->s.reply, "FLAGS ");
		imap_put_flags(p, &m);
		reply_printf(&p->s.reply, " MODSEQ (%llu))\r\n", (unsigned long long)m.modseq);
	}
	p->modseq_told = s->told_modseq;
	return imap_ok_code(p, p->read_only ? "READ-ONLY" : "READ-WRITE", "selected");
}

static enum step select_folder(struct imap_session *p, bool read_only)
{
	struct select *s = p->cmd->state;
	struct folder_info info;
	enum err e = folder_find(p->account, s->name, &info);
	if (e == OK && info.noselect)
		e = ERR_NOT_FOUND;
	if (e == OK && !info.uidvalidity)
		e = account_begun(p->account);
	if (e == OK)
		e = view_open(p->account, info.id, &p->view);
	if (e != OK)
		return imap_fail(p, e);
	p->state = IMAP_SELECTED;
	p->folder = info.id;
	p->read_only = read_only;
	folder_info(p->account, p->folder, &info);
	s->told_modseq = p->modseq_told = info.modseq;
	p->exists_told = view_count(p->view);
	put_first_unseen(p, &info);
	put_facts(p, &info);
	s->qresync = s->qresync && s->uidvalidity == info.uidvalidity;
	if (s->qresync)
		imap_vanished_collect(p, s->modseq, s->has_known ? &s->known : NULL, &s->vanished);
	return resync(p);
}

static enum step select_command(struct imap_session *p, bool read_only)
{
	struct imap_args *a = &p->cmd->args;
	struct select *s = arena_zalloc(a->arena, sizeof *s);
	if (!s)
		return imap_fail(p, ERR_LIMIT);
	ranges_init(&s->known, IMAP_SET_RANGES_MAX);
	ranges_init(&s->vanished.ranges, 1);
	p->cmd->state = s;
	p->cmd->drop = drop;
	if (!imap_sp(a) || !imap_mailbox(a, &s->name) || !read_parameters(p, s))
		return imap_bad_args(p);
	if (p->state == IMAP_SELECTED) {
		imap_leave_folder(p); /* also if the new one cannot be selected: RFC 9051 section 6.3.2 */
		REPLY_LIT(&p->s.reply, "* OK [CLOSED] the mailbox before is closed\r\n");
	}
	return select_folder(p, read_only);
}

enum step imap_cmd_select(struct imap_session *p) { return select_command(p, false); }
enum step imap_cmd_examine(struct imap_session *p) { return select_command(p, true); }

enum step imap_cmd_unselect(struct imap_session *p)
{
	if (!imap_end(&p->cmd->args))
		return imap_bad_args(p);
	imap_leave_folder(p);
	return imap_ok(p, "unselected");
}
