/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structure_keys.c - what SORT and THREAD compare (RFC 5256, RFC 5957), out of the fields as they were sent.
 *
 * Encoded words are decoded before anything is compared; then texts are folded, since every comparison ignores case.  Ids are not.
 */
#include "storage/structure_private.h"

#include "core/base/limits.h"

struct maker {
	struct arena *arena;
	struct slice fields;
	struct buf plain, folded; /* of the text at hand */
};

static struct slice field_of(const struct maker *m, const char *name)
{
	struct slice value;

	if (!mime_field_find(m->fields, slice_str(name), &value))
		return slice_of("", 0);
	value = mime_unfold(m->arena, value);
	return value.ptr ? value : slice_of("", 0);
}

/* Cut between characters. */
static struct slice cut(struct slice s, size_t max)
{
	if (s.len <= max)
		return s;
	while (max > 0 && ((unsigned char)s.ptr[max] & 0xC0) == 0x80)
		max--;
	return slice_upto(s, max);
}

static struct slice keep(const struct maker *m, struct slice s)
{
	struct slice kept = s.len ? arena_slice(m->arena, s) : slice_of("", 0);

	return kept.ptr ? kept : slice_of("", 0);
}

static struct slice fold(struct maker *m, struct slice text)
{
	buf_clear(&m->folded);
	(void)mime_casemap(&m->folded, cut(text, STRUCTURE_KEY_BYTES_MAX));
	return keep(m, cut(buf_slice(&m->folded), STRUCTURE_KEY_BYTES_MAX));
}

static struct slice decode(struct maker *m, struct slice value)
{
	buf_clear(&m->plain);
	(void)mime_words_decode(&m->plain, value);
	return buf_slice(&m->plain);
}

static void make_subject(struct maker *m, struct structure_keys *k)
{
	struct slice base;
	struct slice subject = decode(m, field_of(m, "Subject"));

	if (mime_base_subject(m->arena, subject, &base, &k->reply) == OK)
		k->subject = fold(m, base);
}

static struct slice full_address(struct maker *m, const struct mime_address *a)
{
	buf_clear(&m->plain);
	if (!buf_put(&m->plain, a->mailbox.ptr, a->mailbox.len) || (a->host.len && !buf_put(&m->plain, "@", 1)) ||
	    (a->host.len && !buf_put(&m->plain, a->host.ptr, a->host.len)))
		return slice_of("", 0);
	return buf_slice(&m->plain);
}

/* `name_out` may be NULL. A group counts by its name. */
static void make_address(struct maker *m, const char *field, struct slice *mailbox_out, struct slice *name_out)
{
	const struct mime_address *list;
	struct slice value;
	size_t count;

	if (!mime_field_find(m->fields, slice_str(field), &value) || mime_addresses(m->arena, value, &list, &count) != OK || !count)
		return;
	*mailbox_out = fold(m, list[0].kind == MIME_MAILBOX ? list[0].mailbox : decode(m, list[0].mailbox));
	if (!name_out)
		return;
	if (list[0].kind == MIME_GROUP_START)
		*name_out = *mailbox_out;
	else
		*name_out = fold(m, list[0].name.len ? decode(m, list[0].name) : full_address(m, &list[0]));
}

/* Above the bound the first id stays, the root of the thread, and the newest, the parents. */
static bool put_id(struct buf *ids, struct slice id, size_t *first_bytes_io)
{
	if (id.len + 1 > STRUCTURE_REFERENCES_BYTES_MAX / 4 || slice_find(id, 0) != SIZE_MAX)
		return true;
	while (ids->len + id.len + 1 > STRUCTURE_REFERENCES_BYTES_MAX) {
		size_t second = slice_find(slice_from(buf_slice(ids), *first_bytes_io), 0) + 1;
		ASSERT(*first_bytes_io + second <= ids->len);
		memmove(ids->ptr + *first_bytes_io, ids->ptr + *first_bytes_io + second, ids->len - *first_bytes_io - second);
		ids->len -= second;
	}
	if (!buf_put(ids, id.ptr, id.len) || !buf_put(ids, "", 1))
		return false;
	if (!*first_bytes_io)
		*first_bytes_io = ids->len;
	return true;
}

static void make_ids(struct maker *m, struct structure_keys *k)
{
	struct slice rest = field_of(m, "Message-ID"), id;
	struct buf ids;
	size_t first_bytes = 0;

	if (mime_id_next(m->arena, &rest, &id) && id.len <= STRUCTURE_KEY_BYTES_MAX)
		k->message_id = id;
	buf_init(&ids, STRUCTURE_REFERENCES_BYTES_MAX);
	rest = field_of(m, "References");
	while (mime_id_next(m->arena, &rest, &id) && put_id(&ids, id, &first_bytes))
		;
	rest = field_of(m, "In-Reply-To");
	if (!ids.len && mime_id_next(m->arena, &rest, &id))
		(void)put_id(&ids, id, &first_bytes);
	k->references = keep(m, buf_slice(&ids));
	buf_release(&ids);
}

void structure_keys_make(struct arena *arena, struct slice fields, struct structure_keys *k)
{
	struct maker m = { .arena = arena, .fields = fields };

	memset(k, 0, sizeof(*k));
	buf_init(&m.plain, 4 * MIME_FIELD_BYTES_MAX);
	buf_init(&m.folded, KIB(64));
	make_subject(&m, k);
	make_address(&m, "From", &k->from, &k->from_name);
	make_address(&m, "To", &k->to, &k->to_name);
	make_address(&m, "Cc", &k->cc, NULL);
	make_ids(&m, k);
	k->dated = mime_date(field_of(&m, "Date"), &k->date);
	if (!k->dated)
		memset(&k->date, 0, sizeof(k->date));
	buf_release(&m.plain);
	buf_release(&m.folded);
}
