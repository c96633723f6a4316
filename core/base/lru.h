/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lru.h - which of the caller's entries go when their bytes are over a bound: the least recently used ones.
 *
 * For warm accounts and caches, mostly beside a table.  A `struct lru_node` is embedded in the entry; the caller owns the
 * entry and says how many bytes it counts.  An entry in use is pinned (counted, never evicted); pins nest.
 *
 * With lru_share() entries belong to classes (fair.h), and a class that holds more than its share of the bound loses its own least recent entries before
 * anybody else's go: who fills a cache fills it for himself.  While there is room nobody is held to a share.
 *
 * Nothing is evicted behind the caller's back: after adding or growing he calls lru_trim at a point where losing any
 * unpinned entry is fine.  Not shared between threads.  All calls complete now; none fails.
 */
#ifndef PENFOLD_CORE_BASE_LRU_H
#define PENFOLD_CORE_BASE_LRU_H

#include "core/base/fair.h"
#include "core/base/list.h"

#ifdef __cplusplus
extern "C" {
#endif

struct lru_node {
	struct link link; /* in the list only while unpinned */
	struct link own;  /* the same, in its class's */
	uint64_t bytes;
	uint32_t pins;
	fair_class_t whose;
};

/* Of one class; all zero until something of it is there. */
struct lru_line {
	struct link heavy; /* among those above their share */
	struct list list;
	uint64_t bytes;
	size_t count;
};

struct lru {
	struct list list;          /* most recently used first; unpinned entries only */
	uint64_t bytes, bytes_max; /* of all entries, pinned ones too */
	size_t count;
	struct lru_line *lines; /* FAIR_CLASSES of them, the caller's; NULL: no shares */
	struct list heavy;
	void (*evict)(struct lru_node *n); /* it has left already: the caller frees it */
};

void lru_init(struct lru *l, uint64_t bytes_max, void (*evict)(struct lru_node *n));
/* Before anything is added. `lines`: FAIR_CLASSES zeroed ones, for as long as the LRU lives. */
void lru_share(struct lru *l, struct lru_line *lines);
void lru_add(struct lru *l, struct lru_node *n, fair_class_t whose, uint64_t bytes); /* as the most recent, unpinned */
void lru_remove(struct lru *l, struct lru_node *n); /* pinned or not; evict is not called */
void lru_touch(struct lru *l, struct lru_node *n);  /* just used; harmless when pinned */
void lru_resize(struct lru *l, struct lru_node *n, uint64_t bytes);
void lru_pin(struct lru *l, struct lru_node *n);
void lru_unpin(struct lru *l, struct lru_node *n); /* the last one makes it the most recent */
/* Evicts the least recent, of heavy classes first, until bytes <= bytes_max or only pinned ones are left; returns how many went. */
size_t lru_trim(struct lru *l);

#ifdef __cplusplus
}
#endif
#endif
