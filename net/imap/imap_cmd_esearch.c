/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_esearch.c - ESEARCH: one search through several mailboxes (MULTISEARCH, RFC 7377).
 *
 * The mailboxes are taken from the tree of all names, in its order and each once, before the first is opened; one that goes meanwhile is
 * passed over.  The program is read once and turned to each mailbox's view; the session's own view stands aside while that is done, never
 * while the command waits for its client, so that whatever ends the session finds it as it was.  Answers are of UIDs, one for each mailbox in
 * which something was found.
 */
#include "core/run/fiber.h"
#include "net/imap/imap_list.h"
#include "net/imap/imap_search.h"

#include <stdlib.h>

struct place {
	uint32_t folder;
	struct slice name;
};
struct esearch {
	struct search_program program;
	struct search_answer answer;
	struct imap_progress progress;
	struct imap_list names;
	bool *taken;          /* of names */
	struct place *places; /* in the arena, like taken */
	size_t count, at;
	struct view *view;    /* of places[at], while it is searched and told; or NULL */
	struct bits found;
	struct search_return r;
	bool with_modseq, not_saved;
};

static void put_away(struct esearch *s)
{
	bits_release(&s->found);
	if (s->view)
		view_close(s->view);
	s->view = NULL;
}

static void drop(struct imap_session *p)
{
	struct esearch *s = p->cmd->state;
	put_away(s);
	search_release(&s->program);
	free(s->names.entries);
}

/* ---- which mailboxes ---- */

/* A place is taken once. */
static void take(struct esearch *s, size_t i)
{
	const struct imap_entry *e = &s->names.entries[i];
	if (s->taken[i] || !e->exists)
		return;
	s->taken[i] = true;
	s->places[s->count++] = (struct place){ e->folder, e->name };
}

enum reach { REACH_ONE, REACH_CHILDREN, REACH_TREE };

static bool reaches(struct slice top, enum reach reach, struct slice name)
{
	if (slice_eq(name, top))
		return true;
	if (reach == REACH_ONE || name.len <= top.len || name.ptr[top.len] != '/' || memcmp(name.ptr, top.ptr, top.len) != 0)
		return false;
	return reach == REACH_TREE || slice_find(slice_from(name, top.len + 1), '/') == SIZE_MAX;
}

/* "INBOX", "(INBOX Sent)". What is not there is passed over. */
static bool read_named(struct imap_session *p, struct esearch *s, enum reach reach)
{
	struct imap_args *a = &p->cmd->args;
	struct folder_info info;
	struct slice name;
	if (!imap_sp(a))
		return false;
	bool many = imap_skip(a, '('), first = true;
	do {
		if (!first && !imap_sp(a))
			return false;
		first = false;
		if (!imap_mailbox(a, &name))
			return false;
		struct slice top = folder_find(p->account, name, &info) == OK ? info.name : name; /* INBOX in its own letters */
		for (size_t i = 0; i < s->names.count; i++)
			if (reaches(top, reach, s->names.entries[i].name))
				take(s, i);
		fiber_breathe();
	} while (many && !imap_skip(a, ')'));
	return true;
}

static void take_all(struct esearch *s, bool subscribed_only)
{
	for (size_t i = 0; i < s->names.count; i++)
		if (!subscribed_only || s->names.entries[i].subscribed)
			take(s, i);
}

static void take_folder(struct esearch *s, uint32_t folder)
{
	for (size_t i = 0; i < s->names.count; i++)
		if (s->names.entries[i].folder == folder)
			take(s, i);
}

static bool read_source(struct imap_session *p, struct esearch *s, bool *others_out)
{
	struct imap_args *a = &p->cmd->args;
	struct folder_info inbox;
	if (imap_word(a, "selected")) {
		a->why = "no mailbox is selected";
		if (p->state != IMAP_SELECTED)
			return false;
		take_folder(s, p->folder);
		return true;
	}
	*others_out = true;
	if (imap_word(a, "inboxes")) {
		if (folder_find(p->account, SLICE_LIT("INBOX"), &inbox) == OK)
			take_folder(s, inbox.id);
	} else if (imap_word(a, "personal")) {
		take_all(s, false);
	} else if (imap_word(a, "subscribed")) {
		take_all(s, true);
	} else if (imap_word(a, "subtree")) {
		return read_named(p, s, REACH_TREE);
	} else if (imap_word(a, "subtree-one")) {
		return read_named(p, s, REACH_CHILDREN);
	} else if (imap_word(a, "mailboxes")) {
		return read_named(p, s, REACH_ONE);
	} else {
		a->why = "no such source of messages";
		return false;
	}
	return true;
}

/* "IN (selected subtree Work)", or nothing: the selected mailbox. */
static bool read_sources(struct imap_session *p, struct esearch *s, bool *others_out)
{
	struct imap_args *a = &p->cmd->args;
	*others_out = false;
	if (!imap_word(a, "IN")) {
		take_folder(s, p->folder);
		a->why = "no mailbox is selected";
		return p->state == IMAP_SELECTED;
	}
	if (!imap_sp(a) || !imap_open(a))
		return false;
	bool any = false;
	for (bool first = true; imap_more(a, &first);) {
		a->why = "no such scope option"; /* there are none yet: RFC 7377 section 4 */
		if ((any && imap_peek(a, '(')) || !read_source(p, s, others_out))
			return false;
		any = true;
	}
	if (!any)
		a->why = "expected a source of messages";
	return any && imap_sp(a);
}

static bool read_return(struct imap_session *p, struct esearch *s, bool others)
{
	struct imap_args *a = &p->cmd->args;
	s->r = (struct search_return){ .extended = true, .wanted = RETURN_ALL };
	if (imap_word(a, "RETURN")) {
		s->r.wanted = 0;
		if (!imap_sp(a) || !search_return_read(p, &s->r) || !imap_sp(a))
			return false;
	}
	a->why = "SAVE is for the selected mailbox alone";
	return !(others && s->r.wanted & RETURN_SAVE);
}

/* ---- one after the other ---- */

static uint32_t messages_of(struct imap_session *p, const struct esearch *s)
{
	struct folder_info info;
	uint64_t total = 0;
	for (size_t i = 0; i < s->count; i++)
		if (folder_info(p->account, s->places[i].folder, &info) == OK)
			total += info.messages;
	return (uint32_t)min_u64(total, UINT32_MAX);
}

/* The mailbox's view stands in for the session's. */
static struct view *stand_in(struct imap_session *p, struct view *view)
{
	struct view *own = p->view;
	p->view = view;
	return own;
}

/* Of the selected mailbox what its client may know; of others what there is now. */
static enum err search_place(struct imap_session *p, struct esearch *s)
{
	const struct place *at = &s->places[s->at];
	bool selected = p->state == IMAP_SELECTED && at->folder == p->folder;
	struct folder_info info;
	if (folder_info(p->account, at->folder, &info) != OK)
		return OK;
	if (!selected && view_open(p->account, at->folder, &s->view) != OK)
		return OK;
	struct view *own = selected ? p->view : stand_in(p, s->view);
	bits_init(&s->found, view_count(p->view));
	search_turn_to(p, &s->program, selected);
	enum err e = search_run(p, &s->program, &s->found);
	if (e == OK) {
		s->answer = (struct search_answer){ .name = "ESEARCH", .r = s->r, .found = &s->found, .mailbox = at->name,
						    .uidvalidity = info.uidvalidity };
		search_answer_begin(p, &s->answer, s->with_modseq);
		if (s->r.wanted & RETURN_SAVE)
			s->not_saved = !search_save(p, &s->answer);
	}
	s->progress.before += view_count(p->view);
	stand_in(p, own);
	return e;
}

/* RFC 7377 section 2.1: nothing is said of a mailbox in which nothing was found. */
static bool tell_place(struct imap_session *p, struct esearch *s)
{
	if (!s->found.count || !s->answer.count)
		return true;
	struct view *own = s->view ? stand_in(p, s->view) : p->view;
	bool whole = search_tell(p, &s->answer);
	stand_in(p, own);
	return whole;
}

static enum step go_on(struct imap_session *p)
{
	struct esearch *s = p->cmd->state;
	p->cmd->resume = go_on;
	for (;;) {
		if (!tell_place(p, s))
			return STEP_RESUME;
		put_away(s);
		s->answer = (struct search_answer){ .name = NULL };
		if (s->at == s->count)
			break;
		if (search_place(p, s) != OK || session_dying(&p->s))
			return STEP_ABORT;
		s->at++;
		fiber_breathe(); /* mailboxes may be many and empty */
	}
	if (s->not_saved)
		return imap_no(p, "NOTSAVED", "the result is too scattered to be kept");
	return s->program.damaged ? imap_no(p, "CORRUPTION", "some messages could not be read") : imap_ok(p, "searched");
}

enum step imap_cmd_esearch(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct esearch *s = arena_zalloc(a->arena, sizeof *s);
	if (!s)
		return imap_fail(p, ERR_LIMIT);
	p->cmd->state = s;
	p->cmd->drop = drop;
	p->cmd->uid = true; /* answers are of UIDs */
	p->cmd->any_number = true;
	bits_init(&s->found, 0);
	enum err e = imap_list_collect(p, &s->names);
	s->taken = e == OK ? arena_zalloc(a->arena, s->names.count + 1) : NULL;
	s->places = s->taken ? arena_alloc(a->arena, (s->names.count + 1) * sizeof *s->places) : NULL;
	if (!s->places)
		return imap_fail(p, ERR_LIMIT);
	bool others;
	if (!imap_sp(a) || !read_sources(p, s, &others) || !read_return(p, s, others))
		return imap_bad_args(p);
	enum search_read read = search_read(p, &s->program, false);
	if (read == SEARCH_READ_CHARSET && s->r.wanted & RETURN_SAVE)
		imap_saved_forget(p); /* RFC 5182 section 2.1 */
	if (read != SEARCH_READ)
		return search_refuse(p, read);
	s->with_modseq = s->program.modseq;
	imap_progress_begin(&s->progress, messages_of(p, s));
	s->program.progress = &s->progress;
	return go_on(p);
}
