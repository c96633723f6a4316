/* SPDX-License-Identifier: Apache-2.0 */
/* structure_disk.c - a structure to the bytes of a body record and back; drawn in structure_private.h. */
#include "storage/structure_private.h"

#include "core/base/limits.h"

#include <stdlib.h>

static_assert_c(STRUCTURE_BYTES_MAX + BODY_DOTS_MAX * 8u + RECORD_HEADER_BYTES + sizeof(struct body_fixed) < SOURCE_NEAR_BYTES,
		"a message's records lie near each other");

/* ---- encode ---- */

static bool put16(struct buf *b, uint16_t v) { return buf_put(b, &v, sizeof(v)); }
static bool put32(struct buf *b, uint32_t v) { return buf_put(b, &v, sizeof(v)); }
static bool put64(struct buf *b, uint64_t v) { return buf_put(b, &v, sizeof(v)); }
static bool put_bytes(struct buf *b, struct slice s) { return !s.len || buf_put(b, s.ptr, s.len); }
static bool put_text(struct buf *b, struct slice s) { return s.len <= UINT16_MAX && put16(b, (uint16_t)s.len) && put_bytes(b, s); }

static bool put_part(struct buf *b, const struct mime_tree *tree, uint32_t i)
{
	const struct mime_part *p = &tree->parts[i];
	const struct part_disk disk = { .header_offset = p->header_offset,
					.body_offset = p->body_offset,
					.body_bytes = p->body_bytes,
					.decoded_bytes = p->decoded_bytes,
					.lines = (uint32_t)p->lines,
					.parent = i ? p->parent : 0,
					.encoding = p->encoding,
					.kind = (uint8_t)(p->kind | (p->digest ? PART_DIGEST : 0)) };

	return p->lines <= UINT32_MAX && buf_put(b, &disk, sizeof(disk));
}

static bool put_structure(struct buf *b, const struct mime_tree *tree)
{
	bool ok = put32(b, tree->truncated ? STRUCTURE_TRUNCATED : 0);

	for (uint32_t i = 1; ok && i < tree->part_count; i++)
		ok = put32(b, (uint32_t)tree->parts[i].fields.len) && put_bytes(b, tree->parts[i].fields);
	return ok;
}

static bool put_keys(struct buf *b, const struct structure_keys *k)
{
	const uint16_t flags = (uint16_t)((k->dated ? KEYS_DATED : 0) | (k->reply ? KEYS_REPLY : 0));

	return put64(b, (uint64_t)k->date.utc_s) && put32(b, (uint32_t)k->date.local_day) && put16(b, (uint16_t)k->date.zone_min) &&
	       put16(b, flags) && put_text(b, k->subject) && put_text(b, k->from) && put_text(b, k->to) && put_text(b, k->cc) &&
	       put_text(b, k->from_name) && put_text(b, k->to_name) && put_text(b, k->message_id) && put_text(b, k->references);
}

bool structure_encode(const struct structure *s, size_t bytes_max, struct structure_stored *out)
{
	const struct mime_tree *tree = s->tree;
	struct buf b;
	size_t envelope, structure, preview, keys;
	bool ok = true;

	memset(out, 0, sizeof(*out));
	buf_init(&b, bytes_max);
	for (uint32_t i = 0; ok && i < tree->part_count; i++)
		ok = put_part(&b, tree, i);
	envelope = b.len;
	ok = ok && put_bytes(&b, tree->parts[0].fields);
	structure = b.len;
	ok = ok && put_structure(&b, tree);
	preview = b.len;
	ok = ok && s->preview.len <= UINT16_MAX && put_bytes(&b, s->preview);
	keys = b.len;
	ok = ok && put_keys(&b, &s->keys);
	if (!ok) {
		buf_release(&b);
		return false;
	}
	out->memory = b.ptr;
	out->version = STRUCTURE_VERSION;
	out->part_count = tree->part_count;
	out->parts = (const struct part_disk *)(const void *)b.ptr;
	out->envelope = slice_of(b.ptr + envelope, structure - envelope);
	out->structure = slice_of(b.ptr + structure, preview - structure);
	out->preview = slice_of(b.ptr + preview, keys - preview);
	out->keys = slice_of(b.ptr + keys, b.len - keys);
	return true;
}

void structure_stored_release(struct structure_stored *stored)
{
	free(stored->memory);
	memset(stored, 0, sizeof(*stored));
}

void structure_to_record(const struct structure_stored *stored, struct body_record *record)
{
	record->fixed.structure_version = stored->version;
	record->fixed.part_count = stored->part_count;
	record->parts = stored->parts;
	record->envelope = stored->envelope;
	record->structure = stored->structure;
	record->preview = stored->preview;
	record->keys = stored->keys;
}

/* ---- decode ---- */

static bool take(struct slice *s, size_t bytes, struct slice *out)
{
	*out = slice_upto(*s, bytes);
	*s = slice_from(*s, bytes);
	return out->len == bytes;
}

static bool take_text(struct slice *s, struct slice *out)
{
	struct slice length;

	return take(s, 2, &length) && take(s, get_le16(length.ptr), out);
}

static bool get_keys(struct slice in, struct structure_keys *k)
{
	struct slice fixed, *const texts[KEYS_TEXTS] = { &k->subject,   &k->from,    &k->to,         &k->cc,
							 &k->from_name, &k->to_name, &k->message_id, &k->references };

	if (!take(&in, KEYS_FIXED_BYTES, &fixed))
		return false;
	k->date.utc_s = (int64_t)get_le64(fixed.ptr);
	k->date.local_day = (int32_t)get_le32(fixed.ptr + 8);
	k->date.zone_min = (int16_t)get_le16(fixed.ptr + 12);
	k->dated = get_le16(fixed.ptr + 14) & KEYS_DATED;
	k->reply = get_le16(fixed.ptr + 14) & KEYS_REPLY;
	for (unsigned i = 0; i < KEYS_TEXTS; i++)
		if (!take_text(&in, texts[i]))
			return false;
	return !in.len && (!k->references.len || !k->references.ptr[k->references.len - 1]);
}

/* A part lies in its parent's body, and that one can have parts. */
static bool part_fits(const struct mime_tree *tree, uint32_t i, const struct part_disk *d, uint64_t body_bytes)
{
	const struct mime_part *p = &tree->parts[i];
	uint64_t from = 0, end = body_bytes;

	if (i) {
		if (d->parent >= i || tree->parts[d->parent].kind == MIME_LEAF)
			return false;
		from = tree->parts[d->parent].body_offset;
		end = from + tree->parts[d->parent].body_bytes;
	}
	return p->kind <= MIME_MESSAGE && p->encoding <= MIME_ENCODING_UNKNOWN && p->header_offset >= from && p->header_offset <= p->body_offset &&
	       p->body_offset <= end && p->body_bytes <= end - p->body_offset;
}

static bool get_part(struct mime_tree *tree, uint32_t i, const struct part_disk *d, uint64_t body_bytes, uint16_t *last_child)
{
	struct mime_part *p = &tree->parts[i];

	*p = (struct mime_part){ .header_offset = d->header_offset,
				 .body_offset = d->body_offset,
				 .body_bytes = d->body_bytes,
				 .decoded_bytes = d->decoded_bytes,
				 .lines = d->lines,
				 .parent = i ? d->parent : MIME_NO_PART,
				 .child = MIME_NO_PART,
				 .next = MIME_NO_PART,
				 .kind = d->kind & (PART_DIGEST - 1),
				 .encoding = d->encoding,
				 .digest = (d->kind & PART_DIGEST) != 0 };
	last_child[i] = MIME_NO_PART;
	if (!part_fits(tree, i, d, body_bytes))
		return false;
	if (i) {
		uint16_t before = last_child[d->parent];
		if (before == MIME_NO_PART)
			tree->parts[d->parent].child = (uint16_t)i;
		else
			tree->parts[before].next = (uint16_t)i;
		last_child[d->parent] = (uint16_t)i;
	}
	return true;
}

/* No part that holds others is without one: those who walk the tree rely on it. */
static bool get_fields(struct mime_tree *tree, struct slice envelope, struct slice in)
{
	struct slice flags, length;

	if (!take(&in, 4, &flags))
		return false;
	tree->truncated = get_le32(flags.ptr) & STRUCTURE_TRUNCATED;
	tree->parts[0].fields = envelope;
	for (uint32_t i = 1; i < tree->part_count; i++)
		if (!take(&in, 4, &length) || !take(&in, get_le32(length.ptr), &tree->parts[i].fields))
			return false;
	for (uint32_t i = 0; i < tree->part_count; i++)
		if ((tree->parts[i].kind == MIME_LEAF) != (tree->parts[i].child == MIME_NO_PART))
			return false;
	return !in.len;
}

/* Into `tree`, which has room for the parts; slices point into the record's. */
static bool get_all(const struct body_record *r, struct mime_tree *tree, struct structure_keys *keys)
{
	uint16_t last_child[MIME_PARTS_MAX];

	tree->part_count = r->fixed.part_count;
	for (uint32_t i = 0; i < tree->part_count; i++)
		if (!get_part(tree, i, &r->parts[i], r->fixed.bytes, last_child))
			return false;
	return get_fields(tree, r->envelope, r->structure) && get_keys(r->keys, keys);
}

static char *keep(char **at, struct slice *s)
{
	if (s->len)
		memcpy(*at, s->ptr, s->len);
	*s = slice_of(*at, s->len);
	*at += s->len;
	return *at;
}

struct structure *structure_decode(const struct body_record *stored)
{
	const size_t count = stored->fixed.part_count;
	struct body_record r = *stored;
	struct structure *s;
	struct mime_tree *tree;
	char *at;

	if (stored->fixed.structure_version != STRUCTURE_VERSION || count == 0 || count > MIME_PARTS_MAX)
		return NULL;
	size_t fixed = sizeof(*tree) + count * sizeof(struct mime_part), texts = r.envelope.len + r.structure.len + r.preview.len + r.keys.len;
	s = structure_new(fixed + texts, &at);
	tree = (struct mime_tree *)(void *)at;
	tree->parts = (struct mime_part *)(tree + 1);
	at += fixed;
	(void)keep(&at, &r.envelope);
	(void)keep(&at, &r.structure);
	(void)keep(&at, &r.preview);
	(void)keep(&at, &r.keys);
	s->tree = tree;
	s->preview = r.preview;
	if (get_all(&r, tree, &s->keys))
		return s;
	structure_close(s);
	return NULL;
}

bool structure_good(const struct body_record *record)
{
	struct structure *s;

	if (record->fixed.structure_version != STRUCTURE_VERSION)
		return true;
	s = structure_decode(record);
	structure_close(s);
	return s != NULL;
}
