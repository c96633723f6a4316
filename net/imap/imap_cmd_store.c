/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_store.c - STORE (RFC 9051 section 6.4.6) with UNCHANGEDSINCE (RFC 7162 section 3.1.3).
 *
 * One commit for all messages; its effects show at once and are synced within store.flags_sync_ms (DESIGN section 4).  The condition is
 * judged under the commit, so of two sessions that race one is told MODIFIED.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"

#include <stdlib.h>

struct store {
	struct imap_flags flags;
	enum flags_how how;
	bool silent, conditional;
	uint64_t unchanged_since, modseq;
	uint32_t *uids, *told;
	bool *failed, *news;
	size_t count, at;
	bool any_failed;
};

static void drop(struct imap_session *p)
{
	struct store *s = p->cmd->state;
	free(s->uids);
	free(s->failed);
	free(s->news);
	free(s->told);
}

static bool read_arguments(struct imap_session *p, struct store *s)
{
	struct imap_args *a = &p->cmd->args;
	if (!imap_sp(a))
		return false;
	if (imap_skip(a, '(')) {
		if (!imap_word(a, "UNCHANGEDSINCE") || !imap_sp(a) || !imap_number(a, INT64_MAX, &s->unchanged_since) || !imap_need(a, ')') ||
		    !imap_sp(a))
			return false;
		s->conditional = true;
	}
	s->how = imap_skip(a, '+') ? FLAGS_ADD : imap_skip(a, '-') ? FLAGS_REMOVE : FLAGS_SET;
	s->silent = imap_word(a, "FLAGS.SILENT");
	if (!s->silent && !imap_word(a, "FLAGS")) {
		a->why = "expected FLAGS";
		return false;
	}
	return imap_sp(a) && imap_flag_list(p, true, &s->flags) && imap_end(a);
}

static enum step ended(struct imap_session *p, struct store *s)
{
	if (!s->any_failed)
		return imap_ok(p, "stored");
	uint32_t *failed = xmalloc(s->count * sizeof *failed);
	size_t count = 0;
	for (size_t i = 0; i < s->count; i++)
		if (s->failed[i])
			failed[count++] = p->cmd->uid ? s->uids[i] : view_index(p->view, s->uids[i]) + 1;
	struct buf code;
	struct ranges ranges;
	buf_init(&code, IMAP_CODE_BYTES_MAX);
	ranges_init(&ranges, count);
	for (size_t i = 0; i < count; i++)
		(void)!ranges_add(&ranges, failed[i], failed[i]); /* there is room for each */
	bool fits = buf_put(&code, "MODIFIED ", 9) && ranges_format(&ranges, &code) && buf_put(&code, "", 1);
	ranges_release(&ranges);
	free(failed);
	/* so many that no line holds them: the client looks for itself */
	enum step step = imap_ok_code(p, fits ? code.ptr : "MODIFIED 1:*", "some were changed meanwhile");
	buf_release(&code);
	return step;
}

static enum step tell(struct imap_session *p)
{
	struct store *s = p->cmd->state;
	p->cmd->resume = tell;
	for (; s->at < s->count; s->at++) {
		struct message m;
		uint32_t index = view_index(p->view, s->uids[s->at]);
		if (s->failed && s->failed[s->at])
			continue;
		if (s->silent && !(p->enabled & IMAP_CONDSTORE))
			break;
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		view_message(p->view, index, &m);
		imap_put_fetch(p, index, m.uid);
		if (!s->silent) {
			REPLY_LIT(&p->s.reply, "FLAGS ");
			imap_put_flags(p, &m);
			imap_put_flags_facts(p, &m);
		} else if (p->cmd->uid && !(p->enabled & IMAP_UIDONLY)) {
			reply_printf(&p->s.reply, "UID %u MODSEQ (%llu)", m.uid, (unsigned long long)m.modseq);
		} else {
			reply_printf(&p->s.reply, "MODSEQ (%llu)", (unsigned long long)m.modseq);
		}
		REPLY_LIT(&p->s.reply, ")\r\n");
	}
	return ended(p, s);
}

/* Of which messages the update at the end has nothing to say. With .SILENT the client reckons what its own change makes of the flags that it
 * knows: where others have changed them meanwhile, or the condition was not met, it must be told (RFC 9051 section 6.4.6). */
static void note_told(struct imap_session *p, struct store *s)
{
	s->told = xmalloc(max_size(s->count, 1) * sizeof *s->told);
	for (size_t i = 0; i < s->count; i++)
		if (!(s->failed && s->failed[i]) && !(s->silent && s->news[i]))
			s->told[p->cmd->told_count++] = s->uids[i];
	p->cmd->told_uids = s->told;
}

static enum step store(struct imap_session *p, struct store *s)
{
	if (s->conditional) {
		imap_condstore_on(p);
		s->failed = xcalloc(max_size(s->count, 1), sizeof *s->failed);
	}
	s->news = xcalloc(max_size(s->count, 1), sizeof *s->news);
	const struct flags_terms terms = { .unchanged_since = s->unchanged_since, .known = p->modseq_told, .failed = s->failed, .news = s->news };
	enum err e = s->count ? account_flags_since(p->account, p->folder, s->uids, s->count, s->how, s->flags.flags, s->flags.keywords,
						    s->flags.keyword_count, &terms, &s->modseq)
			      : OK;
	if (e != OK)
		return imap_fail(p, e);
	for (size_t i = 0; s->failed && i < s->count; i++)
		s->any_failed |= s->failed[i];
	note_told(p, s);
	p->cmd->told_modseq = s->modseq;
	return tell(p);
}

enum step imap_cmd_store(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct store *s = arena_zalloc(a->arena, sizeof *s);
	struct imap_set set;
	if (!s)
		return imap_fail(p, ERR_LIMIT);
	if (!imap_sp(a) || !imap_set_read(p, &set))
		return imap_bad_args(p);
	bool good = read_arguments(p, s);
	p->cmd->state = s;
	p->cmd->drop = drop;
	if (good && !p->read_only)
		s->uids = imap_set_uids(p, &set, &s->count);
	imap_set_release(&set);
	if (!good)
		return imap_bad_args(p);
	if (p->read_only)
		return imap_no(p, "NOPERM", "the mailbox was opened by EXAMINE");
	return store(p, s);
}
