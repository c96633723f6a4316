/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.c - linear probing over tags and pointers.
 *
 * A tag is 32 bits of the key's hash; its upper bits are the entry's home slot, the rest spares most looks at entries.
 * So slots can be filled anew from tags alone, without touching the entries.
 *
 * In `now` a removal shifts the following entries back, which leaves no trace.  In `old` (while growing) it leaves TAG_LEFT,
 * because old is being emptied from its front and dies soon.
 */
#include "core/base/table.h"
#include "core/base/hash.h"
#include "core/base/limits.h"

#include <stdlib.h>

#define TAG_FREE 0u
#define TAG_LEFT 1u
#define FIRST_BITS 4
#define MOVE_SLOTS 16 /* old slots emptied by an insertion: old is empty long before now is full */
#define NO_SLOT SIZE_MAX

static uint32_t tag_of(const struct table *t, struct slice key)
{
	uint32_t tag = (uint32_t)(hash64(key, t->seed) >> 32);
	return tag > TAG_LEFT ? tag : tag + 2;
}

static size_t slot_count(const struct table_slots *s) { return s->tags ? (size_t)1 << s->bits : 0; }
static size_t home_of(const struct table_slots *s, uint32_t tag) { return tag >> (32 - s->bits); }
static size_t next_of(const struct table_slots *s, size_t at) { return (at + 1) & (((size_t)1 << s->bits) - 1); }

static void slots_open(struct table_slots *s, unsigned bits)
{
	s->bits = bits;
	s->tags = xcalloc((size_t)1 << bits, sizeof(*s->tags));
	s->nodes = xmalloc(sizeof(struct table_node *) << bits); /* read only where a tag says so */
}

static void slots_close(struct table_slots *s)
{
	free(s->tags);
	free(s->nodes);
	*s = (struct table_slots){ 0 };
}

void table_init(struct table *t, size_t max, uint64_t seed, struct slice (*key_of)(const struct table_node *n))
{
	ASSERT(max > 0 && max <= TABLE_ENTRIES_MAX);
	*t = (struct table){ .key_of = key_of, .seed = seed, .max = max };
	list_init(&t->order);
}

void table_release(struct table *t)
{
	slots_close(&t->now);
	slots_close(&t->old);
	list_init(&t->order);
	t->count = t->old_at = 0;
}

static size_t slot_find(const struct table *t, const struct table_slots *s, uint32_t tag, struct slice key)
{
	if (!s->tags)
		return NO_SLOT;
	for (size_t at = home_of(s, tag); s->tags[at] != TAG_FREE; at = next_of(s, at))
		if (s->tags[at] == tag && slice_eq(t->key_of(s->nodes[at]), key))
			return at;
	return NO_SLOT;
}

static void slot_put(struct table_slots *s, uint32_t tag, struct table_node *n)
{
	size_t at = home_of(s, tag);
	while (s->tags[at] != TAG_FREE)
		at = next_of(s, at);
	s->tags[at] = tag;
	s->nodes[at] = n;
}

/* Empties `count` more slots of old. */
static void move_some(struct table *t, size_t count)
{
	if (!t->old.tags)
		return;
	size_t end = min_size(slot_count(&t->old), t->old_at + count);
	for (; t->old_at < end; t->old_at++) {
		uint32_t *tag = &t->old.tags[t->old_at];
		if (*tag <= TAG_LEFT)
			continue;
		slot_put(&t->now, *tag, t->old.nodes[t->old_at]);
		*tag = TAG_LEFT;
	}
	if (end == slot_count(&t->old))
		slots_close(&t->old);
}

static void grow_if_full(struct table *t)
{
	size_t slots = slot_count(&t->now);
	if (slots && t->count < slots / 4 * 3)
		return;
	ASSERT(!t->old.tags); /* MOVE_SLOTS an insertion has emptied it */
	t->old = t->now;
	t->old_at = 0;
	slots_open(&t->now, slots ? t->old.bits + 1 : FIRST_BITS);
}

struct table_node *table_find(const struct table *t, struct slice key)
{
	uint32_t tag = tag_of(t, key);
	size_t at = slot_find(t, &t->now, tag, key);
	if (at != NO_SLOT)
		return t->now.nodes[at];
	at = slot_find(t, &t->old, tag, key);
	return at != NO_SLOT ? t->old.nodes[at] : NULL;
}

enum err table_add(struct table *t, struct table_node *n)
{
	struct slice key = t->key_of(n);
	if (table_find(t, key))
		return ERR_EXISTS;
	if (t->count >= t->max)
		return ERR_LIMIT;
	move_some(t, MOVE_SLOTS);
	grow_if_full(t);
	slot_put(&t->now, tag_of(t, key), n);
	list_push_back(&t->order, &n->order);
	t->count++;
	return OK;
}

/* Closes the gap at `hole`: who follows and may stand there, does. */
static void shift_back(struct table_slots *s, size_t hole)
{
	size_t mask = slot_count(s) - 1;
	for (size_t at = next_of(s, hole); s->tags[at] != TAG_FREE; at = next_of(s, at)) {
		size_t home = home_of(s, s->tags[at]);
		if (((at - home) & mask) < ((at - hole) & mask))
			continue; /* its home lies behind the hole */
		s->tags[hole] = s->tags[at];
		s->nodes[hole] = s->nodes[at];
		hole = at;
	}
	s->tags[hole] = TAG_FREE;
}

void table_remove(struct table *t, struct table_node *n)
{
	struct slice key = t->key_of(n);
	uint32_t tag = tag_of(t, key);
	size_t at = slot_find(t, &t->now, tag, key);
	if (at != NO_SLOT) {
		ASSERT(t->now.nodes[at] == n);
		shift_back(&t->now, at);
	} else {
		at = slot_find(t, &t->old, tag, key);
		ASSERT(at != NO_SLOT && t->old.nodes[at] == n);
		t->old.tags[at] = TAG_LEFT;
	}
	link_remove(&n->order);
	t->count--;
}
