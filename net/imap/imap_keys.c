/* SPDX-License-Identifier: Apache-2.0 */
/* imap_keys.c - see imap_keys.h. */
#include "net/imap/imap_keys.h"

#include "core/base/log.h"

static _Thread_local size_t shard_taken; /* by all SORTs and THREADs of this shard */

enum err keys_budget_take(struct keys_budget *b, size_t bytes)
{
	if (shard_taken - b->taken + bytes > IMAP_SORT_SHARD_BYTES_MAX)
		return ERR_LIMIT;
	shard_taken = shard_taken - b->taken + bytes;
	b->taken = bytes;
	return OK;
}

void keys_budget_release(struct keys_budget *b)
{
	shard_taken -= b->taken;
	b->taken = 0;
}

enum err keys_open(struct imap_session *p, struct search_program *s, uint32_t index, bool structure, struct imap_source **source_out)
{
	struct message m;
	enum err e = imap_source_open(p->view, index, false, source_out);
	if (e == OK && structure) {
		e = imap_source_structure(*source_out);
		if (e != OK)
			imap_source_unref(*source_out);
	}
	if (e == OK)
		return OK;
	view_message(p->view, index, &m);
	s->damaged = true;
	log_event(LOG_WARN, "imap.search_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name), LOG_U64("uid", m.uid), LOG_ERR(e));
	return ERR_NOT_FOUND;
}

int64_t keys_sent(const struct imap_source *source)
{
	const struct structure_keys *k = &source->structure->keys;
	return k->dated ? k->date.utc_s : source->m.internal_date_s;
}
