/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_search_return.c - what of a result is told, and how: SEARCH and SORT (RFC 3501, RFC 5256) or ESEARCH (RFC 9051, 4731, 5267, 9394),
 * and kept for "$" (RFC 5182).
 *
 * The answer is written as there is room: its cursor is {stage, place}.
 */
#include "net/imap/imap_search.h"

#include "core/run/fiber.h"

#include <stdlib.h>

/* ---- RETURN ---- */

bool imap_partial_range(struct imap_args *a, uint32_t *first_out, uint32_t *last_out, bool *from_end_out)
{
	uint64_t first, last;
	bool minus = imap_skip(a, '-');
	if (!imap_number(a, UINT32_MAX, &first) || !imap_need(a, ':') || minus != imap_skip(a, '-') || !imap_number(a, UINT32_MAX, &last) || !first ||
	    !last) {
		a->why = "a range out of form";
		return false;
	}
	*from_end_out = minus;
	*first_out = (uint32_t)min_u64(first, last);
	*last_out = (uint32_t)max_u64(first, last);
	return true;
}

static bool read_option(struct imap_args *a, struct search_return *r)
{
	static const struct {
		const char *name;
		uint8_t bit;
	} options[] = { { "MIN", RETURN_MIN },     { "MAX", RETURN_MAX },   { "ALL", RETURN_ALL },
			{ "COUNT", RETURN_COUNT }, { "SAVE", RETURN_SAVE }, { "PARTIAL", RETURN_PARTIAL } };
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		if (!imap_word(a, options[i].name))
			continue;
		if (options[i].bit == RETURN_PARTIAL &&
		    (!imap_sp(a) || r->wanted & RETURN_PARTIAL || !imap_partial_range(a, &r->partial_first, &r->partial_last, &r->partial_from_end)))
			return false;
		r->wanted |= options[i].bit;
		return true;
	}
	a->why = "no such return option";
	return false;
}

bool search_return_read(struct imap_session *p, struct search_return *r)
{
	struct imap_args *a = &p->cmd->args;
	r->extended = true;
	if (!imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);)
		if (!read_option(a, r))
			return false;
	if (!r->wanted)
		r->wanted = RETURN_ALL;
	a->why = "PARTIAL and ALL together"; /* RFC 9394 section 3.1 */
	return !(r->wanted & RETURN_PARTIAL && r->wanted & RETURN_ALL);
}

/* ---- what is found ---- */

/* The index at a place of the result; the next place. SIZE_MAX: no more. */
static size_t index_at(const struct search_answer *a, uint32_t at)
{
	if (a->order)
		return at < a->count ? a->order[at] : SIZE_MAX;
	return bits_next(a->found, at);
}

static uint32_t next_place(const struct search_answer *a, uint32_t at, size_t index) { return a->order ? at + 1 : (uint32_t)index + 1; }

static size_t last_index(const struct search_answer *a)
{
	if (a->order)
		return a->order[a->count - 1];
	size_t i = a->found->count;
	while (i && !bits_get(a->found, i - 1))
		i--;
	return i - 1;
}

static uint32_t number_of(const struct imap_session *p, size_t index)
{
	struct message m;
	if (!p->cmd->uid)
		return (uint32_t)index + 1;
	view_message(p->view, (uint32_t)index, &m);
	return m.uid;
}

static uint64_t modseq_of(const struct imap_session *p, size_t index)
{
	struct message m;
	view_message(p->view, (uint32_t)index, &m);
	return m.modseq;
}

/* RFC 7162 section 3.1.10 (of RFC 4731): of MIN and MAX alone it is theirs, else that of all. */
static uint64_t highest_modseq(struct imap_session *p, const struct search_answer *a)
{
	uint64_t highest = 0;
	uint8_t some = a->r.wanted & (RETURN_MIN | RETURN_MAX | RETURN_ALL | RETURN_COUNT | RETURN_PARTIAL);
	if (a->r.extended && some && !(some & ~(RETURN_MIN | RETURN_MAX))) {
		if (some & RETURN_MIN)
			highest = modseq_of(p, index_at(a, 0));
		if (some & RETURN_MAX)
			highest = max_u64(highest, modseq_of(p, last_index(a)));
		return highest;
	}
	for (size_t i = bits_next(a->found, 0); i != SIZE_MAX; i = bits_next(a->found, i + 1)) {
		highest = max_u64(highest, modseq_of(p, i));
		if (i % 1024 == 0)
			fiber_breathe();
	}
	return highest;
}

void search_answer_begin(struct imap_session *p, struct search_answer *a, bool with_modseq)
{
	a->count = (uint32_t)bits_total(a->found);
	if (with_modseq && a->count)
		a->modseq = highest_modseq(p, a);
}

/* ---- telling ---- */

/* `left` results from `at` on as a set: runs joined, in their order. */
static bool tell_set(struct imap_session *p, struct search_answer *a)
{
	while (a->left) {
		size_t index = index_at(a, a->at);
		if (reply_full(&p->s.reply))
			return false;
		uint32_t first = number_of(p, index), last = first;
		for (;;) {
			a->at = next_place(a, a->at, index);
			if (!--a->left || (index = index_at(a, a->at)) == SIZE_MAX || number_of(p, index) != last + 1)
				break;
			last++;
			if (last % 4096 == 0)
				fiber_breathe();
		}
		if (a->open)
			REPLY_LIT(&p->s.reply, ",");
		a->open = true;
		reply_u64(&p->s.reply, first);
		if (last > first)
			reply_printf(&p->s.reply, ":%u", last);
	}
	return true;
}

/* Sets the cursor on results [skip, skip + left). */
static void begin_set(struct search_answer *a, uint32_t skip, uint32_t left)
{
	a->at = 0;
	a->open = false;
	a->left = left;
	if (a->order)
		a->at = skip;
	else
		while (skip--)
			a->at = (uint32_t)bits_next(a->found, a->at) + 1;
}

static void begin_partial(struct imap_session *p, struct search_answer *a)
{
	const struct search_return *r = &a->r;
	uint32_t first = r->partial_first, last = (uint32_t)min_u64(r->partial_last, a->count);
	const char *minus = r->partial_from_end ? "-" : "";
	reply_printf(&p->s.reply, " PARTIAL (%s%u:%s%u ", minus, r->partial_first, minus, r->partial_last);
	a->left = 0;
	if (first > last) {
		REPLY_LIT(&p->s.reply, "NIL");
		return;
	}
	begin_set(a, r->partial_from_end ? a->count - last : first - 1, last - first + 1);
}

enum { STAGE_BEGIN, STAGE_ALL, STAGE_PARTIAL, STAGE_PARTIAL_SET, STAGE_END, STAGE_PLAIN };

static void tell_head(struct imap_session *p, struct search_answer *a)
{
	struct reply *r = &p->s.reply;
	REPLY_LIT(r, "* ESEARCH (TAG ");
	imap_put_string(p, p->cmd->tag);
	if (a->uidvalidity) {
		REPLY_LIT(r, " MAILBOX ");
		imap_put_mailbox(p, a->mailbox);
		reply_printf(r, " UIDVALIDITY %u", a->uidvalidity);
	}
	reply_printf(r, ")%s", p->cmd->uid ? " UID" : "");
	if (a->count && a->r.wanted & RETURN_MIN)
		reply_printf(r, " MIN %u", number_of(p, index_at(a, 0)));
	if (a->count && a->r.wanted & RETURN_MAX)
		reply_printf(r, " MAX %u", number_of(p, last_index(a)));
	if (a->r.wanted & RETURN_COUNT)
		reply_printf(r, " COUNT %u", a->count);
	a->left = 0;
	if (a->count && a->r.wanted & RETURN_ALL) {
		REPLY_LIT(r, " ALL ");
		begin_set(a, 0, a->count);
	}
}

static bool tell_extended(struct imap_session *p, struct search_answer *a)
{
	switch (a->stage) {
	case STAGE_BEGIN:
		tell_head(p, a);
		a->stage = STAGE_ALL;
		__attribute__((fallthrough));
	case STAGE_ALL:
		if (!tell_set(p, a))
			return false;
		a->stage = STAGE_PARTIAL;
		__attribute__((fallthrough));
	case STAGE_PARTIAL:
		if (a->r.wanted & RETURN_PARTIAL)
			begin_partial(p, a);
		a->stage = STAGE_PARTIAL_SET;
		__attribute__((fallthrough));
	case STAGE_PARTIAL_SET:
		if (!tell_set(p, a))
			return false;
		if (a->r.wanted & RETURN_PARTIAL)
			REPLY_LIT(&p->s.reply, ")");
	}
	if (a->modseq)
		reply_printf(&p->s.reply, " MODSEQ %llu", (unsigned long long)a->modseq);
	REPLY_LIT(&p->s.reply, "\r\n");
	return true;
}

static bool tell_plain(struct imap_session *p, struct search_answer *a)
{
	if (a->stage == STAGE_BEGIN) {
		reply_printf(&p->s.reply, "* %s", a->name);
		begin_set(a, 0, a->count);
		a->stage = STAGE_PLAIN;
	}
	for (; a->left; a->left--) {
		size_t index = index_at(a, a->at);
		if (reply_full(&p->s.reply))
			return false;
		REPLY_LIT(&p->s.reply, " ");
		reply_u64(&p->s.reply, number_of(p, index));
		a->at = next_place(a, a->at, index);
	}
	if (a->modseq)
		reply_printf(&p->s.reply, " (MODSEQ %llu)", (unsigned long long)a->modseq);
	REPLY_LIT(&p->s.reply, "\r\n");
	return true;
}

bool search_tell(struct imap_session *p, struct search_answer *a)
{
	if (a->r.extended && a->r.wanted == RETURN_SAVE)
		return true; /* RFC 5182 section 2.1: kept, not told */
	return a->r.extended ? tell_extended(p, a) : tell_plain(p, a);
}

/* ---- SEARCHRES ---- */

void imap_saved_forget(struct imap_session *p)
{
	if (p->saved)
		ranges_release(&p->saved->uids);
	free(p->saved);
	p->saved = NULL;
}

static bool keep(struct imap_session *p, size_t index)
{
	struct message m;
	view_message(p->view, (uint32_t)index, &m);
	return ranges_add(&p->saved->uids, m.uid, m.uid) == OK;
}

static bool keep_all(struct imap_session *p, const struct search_answer *a)
{
	for (size_t i = bits_next(a->found, 0); i != SIZE_MAX; i = bits_next(a->found, i + 1)) {
		if (!keep(p, i))
			return false;
		if (i % 1024 == 0)
			fiber_breathe();
	}
	return true;
}

static bool keep_partial(struct imap_session *p, const struct search_answer *a)
{
	struct search_answer part = *a;
	uint32_t last = (uint32_t)min_u64(a->r.partial_last, a->count), first = a->r.partial_first;
	if (first > last)
		return true;
	begin_set(&part, a->r.partial_from_end ? a->count - last : first - 1, last - first + 1);
	for (; part.left; part.left--) {
		size_t index = index_at(&part, part.at);
		if (!keep(p, index))
			return false;
		part.at = next_place(&part, part.at, index);
	}
	return true;
}

/* RFC 5182 section 2.4, RFC 9394 section 3.2: of MIN, MAX and PARTIAL without others theirs are kept, else all. */
static bool keep_wanted(struct imap_session *p, const struct search_answer *a)
{
	uint8_t wanted = a->r.wanted;
	if (!a->count)
		return true;
	if (wanted & (RETURN_ALL | RETURN_COUNT) || wanted == RETURN_SAVE)
		return keep_all(p, a);
	return (!(wanted & RETURN_MIN) || keep(p, index_at(a, 0))) && (!(wanted & RETURN_MAX) || keep(p, last_index(a))) &&
	       (!(wanted & RETURN_PARTIAL) || keep_partial(p, a));
}

bool search_save(struct imap_session *p, const struct search_answer *a)
{
	imap_saved_forget(p);
	p->saved = xcalloc(1, sizeof *p->saved);
	ranges_init(&p->saved->uids, IMAP_SET_RANGES_MAX);
	if (keep_wanted(p, a))
		return true;
	imap_saved_forget(p);
	return false;
}
