/* SPDX-License-Identifier: Apache-2.0 */
/* imap_keys.c - see imap_keys.h. */
#include "net/imap/imap_keys.h"

#include "core/base/log.h"

#include <stdlib.h>

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

enum err keys_open(struct imap_session *p, struct search_program *s, uint32_t index, struct imap_source **source_out)
{
	struct imap_source *source = xcalloc(1, sizeof *source);
	struct message m;
	enum err e = message_open(p->view, index, &source->m);
	if (e != OK) {
		free(source);
	} else {
		source->references = 1;
		e = imap_source_header(source);
		if (e == OK) {
			*source_out = source;
			return OK;
		}
		imap_source_unref(source);
	}
	view_message(p->view, index, &m);
	s->damaged = true;
	log_event(LOG_WARN, "imap.search_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name), LOG_U64("uid", m.uid), LOG_ERR(e));
	return ERR_NOT_FOUND;
}

/* A field's value, unfolded, in the scratch arena; false: none. */
static bool field(struct search_program *s, const struct imap_source *source, const char *name, struct slice *out)
{
	arena_reset(&s->scratch);
	if (!mime_field_find(slice_of(source->header, source->header_bytes), slice_str(name), out))
		return false;
	*out = mime_unfold(&s->scratch, *out);
	return out->ptr != NULL;
}

int64_t keys_sent(struct search_program *s, const struct imap_source *source)
{
	struct slice value;
	struct mime_date date;
	return field(s, source, "Date", &value) && mime_date(value, &date) ? date.utc_s : source->m.internal_date_s;
}

static struct slice folded(struct search_program *s, struct slice text)
{
	buf_clear(&s->folded);
	(void)imap_fold(&s->folded, text); /* what does not fit is cut off */
	return slice_upto(buf_slice(&s->folded), IMAP_SORT_KEY_BYTES_MAX);
}

enum err keys_subject(struct search_program *s, const struct imap_source *source, struct slice *out, bool *reply_out)
{
	struct slice value, base;
	*out = slice_of("", 0);
	*reply_out = false;
	buf_clear(&s->decoded);
	if (!field(s, source, "Subject", &value))
		return OK;
	(void)mime_words_decode(&s->decoded, value);
	enum err e = mime_base_subject(&s->scratch, buf_slice(&s->decoded), &base, reply_out);
	if (e == OK)
		*out = folded(s, base);
	return e;
}

/* RFC 5957 section 3: the display name decoded, else mailbox@host. */
static void put_display(struct search_program *s, const struct mime_address *address)
{
	if (address->name.len && mime_words_decode(&s->decoded, address->name) && s->decoded.len)
		return;
	buf_clear(&s->decoded);
	(void)buf_put(&s->decoded, address->mailbox.ptr, address->mailbox.len);
	if (address->kind == MIME_MAILBOX && address->host.len) {
		(void)buf_put(&s->decoded, "@", 1);
		(void)buf_put(&s->decoded, address->host.ptr, address->host.len);
	}
}

enum err keys_address(struct search_program *s, const struct imap_source *source, const char *name, bool display, struct slice *out)
{
	const struct mime_address *list;
	struct slice value;
	size_t count;
	*out = slice_of("", 0);
	buf_clear(&s->decoded);
	if (!field(s, source, name, &value))
		return OK;
	enum err e = mime_addresses(&s->scratch, value, &list, &count);
	if (e != OK || !count)
		return e;
	if (display) {
		put_display(s, &list[0]);
		*out = folded(s, buf_slice(&s->decoded));
	} else { /* of a group: its name, which is where ENVELOPE has it */
		*out = folded(s, list[0].mailbox);
	}
	return OK;
}
