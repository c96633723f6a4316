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

/* Its references, or where there are none what it answers (RFC 5256 section 3, REFERENCES step 1). */
static enum err references(struct thread *t, struct search_program *s, struct slice fields)
{
	static const char *const names[] = { "References", "In-Reply-To" };
	enum err e = OK;
	bool some = false;
	for (size_t i = 0; i < ARRAY_LEN(names) && !some && e == OK; i++) {
		struct slice value, id;
		arena_reset(&s->scratch);
		if (!mime_field_find(fields, slice_str(names[i]), &value))
			continue;
		for (unsigned n = 0; e == OK && n < IMAP_THREAD_REFERENCES_MAX && mime_id_next(&s->scratch, &value, &id); n++) {
			e = threads_reference(&t->threads, id);
			some = true;
			if (i == 1)
				break; /* only the first of In-Reply-To */
		}
	}
	return e;
}

static enum err add(struct imap_session *p, struct thread *t, uint32_t index)
{
	struct search_program *s = &t->program;
	struct imap_source *source;
	struct message m;
	struct thread_message item = { .id = slice_of("", 0) };
	struct slice value, rest;
	enum err e = keys_open(p, s, index, &source);
	if (e == ERR_NOT_FOUND) /* damaged: it is left out, and said so at the end */
		return OK;
	if (e != OK)
		return e;
	struct slice fields = slice_of(source->header, source->header_bytes);
	view_message(p->view, index, &m);
	item.number = p->cmd->uid ? m.uid : index + 1;
	item.sent_s = keys_sent(s, source);
	item.arrived_s = source->m.internal_date_s;
	e = t->how == THREAD_ORDEREDSUBJECT ? OK : references(t, s, fields);
	if (e == OK)
		e = keys_subject(s, source, &item.subject, &item.reply); /* lies in the program's buffers */
	struct arena ids;
	arena_init(&ids, MIME_FIELD_BYTES_MAX * 2);
	if (e == OK && mime_field_find(fields, SLICE_LIT("Message-ID"), &value)) {
		rest = value;
		if (!mime_id_next(&ids, &rest, &item.id))
			item.id = slice_of("", 0);
	}
	if (e == OK)
		e = threads_add(&t->threads, &item);
	arena_release(&ids);
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
