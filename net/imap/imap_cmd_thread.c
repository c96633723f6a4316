/* SPDX-License-Identifier: Apache-2.0 */
/* imap_cmd_thread.c - THREAD (RFC 5256): messages that match, as the trees that imap_thread.c makes of them. */
#include "net/imap/imap_keys.h"
#include "net/imap/imap_search.h"
#include "net/imap/imap_thread.h"

#include "core/run/clock.h"
#include "core/run/fiber.h"

struct thread {
	struct search_program program;
	struct bits found;
	struct threads threads;
	struct thread_walk walk;
	struct keys_budget budget;
	enum thread_how how;
	bool begun;
};

static void drop(struct imap_session *p)
{
	struct thread *t = p->cmd->state;
	search_release(&t->program);
	bits_release(&t->found);
	threads_release(&t->threads);
	keys_budget_release(&t->budget);
}

static enum step tell_on(struct imap_session *p)
{
	struct thread *t = p->cmd->state;
	char piece[32];
	size_t len;
	p->cmd->resume = tell_on;
	if (!t->begun)
		REPLY_LIT(&p->s.reply, "* THREAD ");
	t->begun = true;
	for (;;) {
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		if (!thread_walk_next(&t->threads, &t->walk, piece, &len))
			break;
		reply_put(&p->s.reply, slice_of(piece, len));
	}
	REPLY_LIT(&p->s.reply, "\r\n");
	return t->program.damaged ? imap_no(p, "CORRUPTION", "some messages could not be read") : imap_ok(p, "threaded");
}

static enum err references(struct thread *t, struct slice ids)
{
	struct slice id;
	enum err e = OK;
	while (e == OK && slice_next(&ids, 0, &id))
		if (id.len)
			e = threads_reference(&t->threads, id);
	return e;
}

static enum err add(struct imap_session *p, struct thread *t, uint32_t index)
{
	struct imap_source *source;
	struct message m;
	enum err e = keys_open(p, &t->program, index, true, &source);
	if (e == ERR_NOT_FOUND) /* damaged: it is left out, and said so at the end */
		return OK;
	if (e != OK)
		return e;
	const struct structure_keys *k = &source->structure->keys;
	view_message(p->view, index, &m);
	const struct thread_message item = { .number = p->cmd->uid ? m.uid : index + 1, .sent_s = keys_sent(source), .arrived_s = source->m.internal_date_s,
					     .subject = k->subject, .reply = k->reply, .id = k->message_id };
	e = t->how == THREAD_ORDEREDSUBJECT ? OK : references(t, k->references);
	if (e == OK)
		e = threads_add(&t->threads, &item);
	imap_source_unref(source);
	return e == OK ? keys_budget_take(&t->budget, threads_memory_bytes(&t->threads)) : e;
}

static enum step run(struct imap_session *p, struct thread *t)
{
	uint64_t seed;
	bits_init(&t->found, view_count(p->view));
	if (search_run(p, &t->program, &t->found) != OK)
		return STEP_ABORT;
	random_bytes(&seed, sizeof seed);
	threads_init(&t->threads, t->how, seed, fiber_breathe);
	for (size_t i = bits_next(&t->found, 0); i != SIZE_MAX; i = bits_next(&t->found, i + 1)) {
		enum err e = add(p, t, (uint32_t)i);
		if (e != OK)
			return imap_fail(p, e);
		fiber_breathe();
		if (session_dying(&p->s))
			return STEP_ABORT;
	}
	threads_make(&t->threads);
	thread_walk_begin(&t->threads, &t->walk);
	return tell_on(p);
}

enum step imap_cmd_thread(struct imap_session *p)
{
	static const char *const names[] = { [THREAD_ORDEREDSUBJECT] = "ORDEREDSUBJECT", [THREAD_REFERENCES] = "REFERENCES", [THREAD_REFS] = "REFS" };
	struct imap_args *a = &p->cmd->args;
	struct thread *t = arena_zalloc(a->arena, sizeof *t);
	size_t how = 0;
	if (!t)
		return imap_fail(p, ERR_LIMIT);
	p->cmd->state = t;
	p->cmd->drop = drop;
	if (!imap_sp(a))
		return imap_bad_args(p);
	while (how < ARRAY_LEN(names) && !imap_word(a, names[how]))
		how++;
	if (how == ARRAY_LEN(names))
		return imap_bad(p, "no such threading algorithm");
	t->how = (enum thread_how)how;
	if (!imap_sp(a))
		return imap_bad_args(p);
	enum search_read e = search_read(p, &t->program, true);
	return e == SEARCH_READ ? run(p, t) : search_refuse(p, e);
}
