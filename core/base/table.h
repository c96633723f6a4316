/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.h - a bounded hash table of the caller's own structs, found by a key of bytes, walked in insertion order.
 *
 * For a shard's accounts by id, login caches, GUIDs in a compaction.  A `struct table_node` is embedded in the entry, which
 * the caller owns, and which must neither move nor change its key while it is in the table.  The table's own memory is 12
 * bytes a slot, at most three quarters of the slots used; it does not shrink before table_release.
 *
 * Keys are hashed by XXH3 under a seed that the caller draws at random (random_bytes of core/run), so a stranger cannot
 * aim at one slot.  Nothing that can be observed depends on hash order: a walk goes in insertion order.
 *
 * Growing is spread over the following insertions, so that no single call pays for a million entries.  Not shared between
 * threads.  All calls complete now.
 */
#ifndef PENFOLD_CORE_BASE_TABLE_H
#define PENFOLD_CORE_BASE_TABLE_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/list.h"

#ifdef __cplusplus
extern "C" {
#endif

struct table_node {
	struct link order;
};

struct table_slots {
	uint32_t *tags; /* 0 = never used, 1 = left, else the entry's hash */
	struct table_node **nodes;
	unsigned bits; /* 2^bits slots */
};

struct table {
	struct list order; /* insertion order */
	struct slice (*key_of)(const struct table_node *n);
	uint64_t seed;
	size_t count, max;
	struct table_slots now, old; /* old: being emptied into now, or all NULL */
	size_t old_at;               /* old's slots below it are empty */
};

/* `max` entries at most (1 .. TABLE_ENTRIES_MAX); key_of gives an entry's key, valid while the entry is. */
void table_init(struct table *t, size_t max, uint64_t seed, struct slice (*key_of)(const struct table_node *n));
/* Frees the table's memory.  The entries belong to the caller: walk and free them first. */
void table_release(struct table *t);

/* NULL when there is none. */
struct table_node *table_find(const struct table *t, struct slice key);
/* For keys that are a uint64_t in the entry: key_of returns slice_of(&e->id, 8). */
static inline struct table_node *table_find_u64(const struct table *t, uint64_t key)
{
	return table_find(t, slice_of(&key, sizeof(key)));
}
/* OK; ERR_EXISTS: an entry has this key already; ERR_LIMIT: `max` reached.  After an error nothing has changed. */
enum err table_add(struct table *t, struct table_node *n) MUST_USE;
/* The entry must be in the table. */
void table_remove(struct table *t, struct table_node *n);

/* The walk, oldest entry first; NULL at the end.  Also: LIST_FOREACH(&t->order, it), where the current one may be removed. */
static inline struct table_node *table_first(const struct table *t)
{
	return LIST_FIRST(&t->order, struct table_node, order);
}
static inline struct table_node *table_next(const struct table *t, const struct table_node *n)
{
	return n->order.next == &t->order.head ? NULL : CONTAINER_OF(n->order.next, struct table_node, order);
}

#ifdef __cplusplus
}
#endif
#endif
