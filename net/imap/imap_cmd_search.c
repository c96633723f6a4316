/* SPDX-License-Identifier: Apache-2.0 */
/* imap_cmd_search.c - SEARCH (RFC 9051 section 6.4.4): read, run, tell; with RETURN, or after ENABLE IMAP4rev2, as ESEARCH. */
#include "net/imap/imap_search.h"

struct search {
	struct search_program program;
	struct search_answer answer;
	struct bits found;
	bool not_saved;
};

static void drop(struct imap_session *p)
{
	struct search *s = p->cmd->state;
	search_release(&s->program);
	bits_release(&s->found);
}

static enum step tell_on(struct imap_session *p)
{
	struct search *s = p->cmd->state;
	p->cmd->resume = tell_on;
	if (!search_tell(p, &s->answer))
		return STEP_RESUME;
	if (s->not_saved)
		return imap_no(p, "NOTSAVED", "the result is too scattered to be kept");
	return s->program.damaged ? imap_no(p, "CORRUPTION", "some messages could not be read") : imap_ok(p, "searched");
}

static enum step run(struct imap_session *p, struct search *s)
{
	bits_init(&s->found, view_count(p->view));
	if (search_run(p, &s->program, &s->found) != OK)
		return STEP_ABORT;
	s->answer.name = "SEARCH";
	s->answer.found = &s->found;
	search_answer_begin(p, &s->answer, s->program.modseq);
	if (s->answer.r.wanted & RETURN_SAVE)
		s->not_saved = !search_save(p, &s->answer);
	return tell_on(p);
}

enum step imap_cmd_search(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct search *s = arena_zalloc(a->arena, sizeof *s);
	if (!s)
		return imap_fail(p, ERR_LIMIT);
	p->cmd->state = s;
	p->cmd->drop = drop;
	s->answer.r = (struct search_return){ .extended = imap_rev2(p), .wanted = RETURN_ALL };
	if (!imap_sp(a))
		return imap_bad_args(p);
	if (imap_word(a, "RETURN")) {
		s->answer.r.wanted = 0;
		if (!imap_sp(a) || !search_return_read(p, &s->answer.r) || !imap_sp(a))
			return imap_bad_args(p);
	}
	enum search_read e = search_read(p, &s->program, false);
	if (e == SEARCH_READ_CHARSET && s->answer.r.wanted & RETURN_SAVE)
		imap_saved_forget(p); /* RFC 5182 section 2.1: a search that is answered NO leaves "$" empty */
	return e == SEARCH_READ ? run(p, s) : search_refuse(p, e);
}
