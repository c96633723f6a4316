/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structure.c - handles of structures: from a record, or else made by reading the message.
 *
 * A computed one is remembered by its body's GUID, in a short list with the last used first: clients fetch a large message piece by piece, and
 * each piece must not cost a pass over all of it.
 */
#include "storage/structure_private.h"

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/base/metrics.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "core/run/shard.h"

#include <stdlib.h>

METRIC_COUNTER(computed, "store_structures_computed_total", "structures of messages that had to be made by reading them again");

#define READ_BYTES KIB(64) /* of a message at a time */

/* In memory that is never shared between shards but for a body's, which has one user. */
struct handle {
	struct structure s;
	uint32_t refs;
	size_t bytes; /* with everything it owns */
	struct mime_tree *tree; /* its own, or NULL */
	struct arena arena;
	struct buf preview;
	struct link link; /* remembered */
	uint8_t guid[GUID_BYTES];
};

struct memory {
	struct list list; /* the last used first */
	size_t bytes;
};

static struct handle *handle_of(const struct structure *s)
{
	return CONTAINER_OF((struct structure *)(uintptr_t)s, struct handle, s);
}

struct structure *structure_new(size_t bytes, char **memory_out)
{
	const size_t head = (sizeof(struct handle) + 15) & ~(size_t)15;
	struct handle *h = xmalloc(head + bytes);

	memset(h, 0, sizeof(*h));
	h->refs = 1;
	h->bytes = head + bytes;
	arena_init(&h->arena, STRUCTURE_ARENA_BYTES_MAX);
	buf_init(&h->preview, 4 * STRUCTURE_PREVIEW_CHARS_MAX + 4);
	if (memory_out)
		*memory_out = (char *)h + head;
	return &h->s;
}

void structure_close(const struct structure *s)
{
	struct handle *h = s ? handle_of(s) : NULL;

	if (!h || --h->refs)
		return;
	mime_tree_free(h->tree);
	arena_release(&h->arena);
	buf_release(&h->preview);
	free(h);
}

/* ---- making one ---- */

struct structure *structure_make(struct mime_tree *tree, struct slice text, bool whole)
{
	struct structure *s = structure_new(0, NULL);
	struct handle *h = handle_of(s);
	uint64_t wanted;
	const struct mime_part *part = structure_preview_part(tree, &wanted);

	s->tree = h->tree = tree;
	structure_keys_make(&h->arena, tree->parts[0].fields, &s->keys);
	if (part)
		structure_preview(&h->preview, part, text, whole);
	s->preview = buf_slice(&h->preview);
	return s;
}

/* What a record of any size would have held takes less memory, and is the same. */
static struct structure *packed(struct structure *s)
{
	struct structure_stored stored;
	struct body_record record = { .fixed = { .bytes = UINT64_MAX } };
	struct structure *small;

	if (!structure_encode(s, STRUCTURE_COMPUTED_BYTES_MAX / 2, &stored))
		return s;
	structure_to_record(&stored, &record);
	small = structure_decode(&record);
	structure_stored_release(&stored);
	ASSERT(small != NULL);
	structure_close(s);
	return small;
}

const struct structure *structure_of_bytes(struct slice body)
{
	struct mime_parser *parser = mime_open();
	struct mime_tree *tree;
	const struct mime_part *part;
	uint64_t wanted;

	mime_feed(parser, body);
	tree = mime_close(parser);
	part = structure_preview_part(tree, &wanted);
	struct slice text = part ? slice_upto(slice_from(body, (size_t)part->body_offset), (size_t)wanted) : slice_of("", 0);
	return packed(structure_make(tree, text, !part || text.len == part->body_bytes));
}

/* ---- reading the message ---- */

static enum err read_at(const struct message_source *m, uint64_t at, char *out, size_t bytes)
{
	int64_t n;

	if (m->body) {
		memcpy(out, m->body + at, bytes);
		return OK;
	}
	n = file_read(m->fd, out, bytes, m->offset + at);
	return n < 0 ? err_from_errno((int)-n) : (size_t)n == bytes ? OK : ERR_IO;
}

static enum err read_tree(const struct message_source *m, char *block, struct mime_tree **tree_out)
{
	struct mime_parser *parser = mime_open();
	enum err e = OK;

	for (uint64_t at = 0; at < m->bytes && e == OK;) {
		size_t n = (size_t)min_u64(m->bytes - at, READ_BYTES);
		e = read_at(m, at, block, n);
		if (e == OK)
			mime_feed(parser, slice_of(block, n));
		at += n;
		fiber_breathe(); /* invariant 8 */
	}
	if (e == OK)
		*tree_out = mime_close(parser);
	else
		mime_abort(parser);
	return e;
}

static enum err compute(const struct message_source *m, struct structure **s_out)
{
	char *block = xmalloc(READ_BYTES);
	const struct mime_part *part = NULL;
	struct mime_tree *tree;
	uint64_t wanted = 0;
	enum err e = read_tree(m, block, &tree);

	if (e == OK) {
		part = structure_preview_part(tree, &wanted);
		if (part)
			e = read_at(m, part->body_offset, block, (size_t)wanted);
		if (e == OK)
			*s_out = packed(structure_make(tree, slice_of(block, (size_t)wanted), !part || wanted == part->body_bytes));
		else
			mime_tree_free(tree);
	}
	free(block);
	metric_inc(&computed);
	return e;
}

enum err structure_restate(const struct message_source *source, struct structure_stored *out)
{
	struct structure *s;
	enum err e = compute(source, &s);

	memset(out, 0, sizeof(*out));
	if (e != OK)
		return e;
	e = structure_encode(s, STRUCTURE_BYTES_MAX, out) ? OK : ERR_LIMIT;
	structure_close(s);
	return e;
}

/* ---- those that were computed ---- */

static void forget(struct memory *m, struct handle *h)
{
	link_remove(&h->link);
	m->bytes -= h->bytes;
	structure_close(&h->s);
}

static struct handle *recall(struct memory *m, const uint8_t guid[GUID_BYTES])
{
	LIST_FOREACH(&m->list, it)
	{
		struct handle *h = CONTAINER_OF(it, struct handle, link);
		if (memcmp(h->guid, guid, GUID_BYTES) != 0)
			continue;
		link_remove(&h->link);
		list_push_front(&m->list, &h->link);
		return h;
	}
	return NULL;
}

static void remember(struct memory *m, struct structure *s, const uint8_t guid[GUID_BYTES])
{
	struct handle *h = handle_of(s);

	if (h->tree || recall(m, guid)) /* not packed: more than 2^32 lines; or somebody else was as quick */
		return;
	memcpy(h->guid, guid, GUID_BYTES);
	h->refs++;
	list_push_front(&m->list, &h->link);
	m->bytes += h->bytes;
	while (m->bytes > STRUCTURE_COMPUTED_BYTES_MAX)
		forget(m, CONTAINER_OF(list_last(&m->list), struct handle, link));
}

/* ---- structure.h ---- */

void structure_start(void)
{
	struct memory *m = xcalloc(1, sizeof(*m));

	list_init(&m->list);
	shard_set_local(SHARD_SLOT_STRUCTURE, m);
}

void structure_stop(void)
{
	struct memory *m = shard_local(SHARD_SLOT_STRUCTURE);

	if (!m)
		return;
	while (!list_empty(&m->list))
		forget(m, CONTAINER_OF(list_last(&m->list), struct handle, link));
	free(m);
	shard_set_local(SHARD_SLOT_STRUCTURE, NULL);
}

const struct structure *structure_known(const struct message_source *source)
{
	struct memory *m = shard_local(SHARD_SLOT_STRUCTURE);
	struct structure *s = structure_decode(source->record);
	struct handle *h;

	if (s)
		return s;
	h = m ? recall(m, source->record->fixed.guid) : NULL;
	if (!h)
		return NULL;
	h->refs++;
	return &h->s;
}

enum err structure_open(const struct message_source *source, const struct structure **structure_out)
{
	struct structure *s;
	enum err e;

	*structure_out = structure_known(source);
	if (*structure_out)
		return OK;
	e = compute(source, &s);
	if (e != OK)
		return e;
	struct memory *m = shard_local(SHARD_SLOT_STRUCTURE);
	if (m)
		remember(m, s, source->record->fixed.guid);
	*structure_out = s;
	return OK;
}
