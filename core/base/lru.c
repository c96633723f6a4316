/* SPDX-License-Identifier: Apache-2.0 */
/* lru.c - see lru.h. */
#include "core/base/lru.h"

void lru_init(struct lru *l, uint64_t bytes_max, void (*evict)(struct lru_node *n))
{
	*l = (struct lru){ .bytes_max = bytes_max, .evict = evict };
	list_init(&l->list);
}

void lru_add(struct lru *l, struct lru_node *n, uint64_t bytes)
{
	n->bytes = bytes;
	n->pins = 0;
	list_push_front(&l->list, &n->link);
	l->bytes += bytes;
	l->count++;
}

void lru_remove(struct lru *l, struct lru_node *n)
{
	ASSERT(l->count > 0 && l->bytes >= n->bytes);
	link_remove(&n->link);
	l->bytes -= n->bytes;
	l->count--;
}

void lru_touch(struct lru *l, struct lru_node *n)
{
	if (n->pins)
		return;
	link_remove(&n->link);
	list_push_front(&l->list, &n->link);
}

void lru_resize(struct lru *l, struct lru_node *n, uint64_t bytes)
{
	ASSERT(l->bytes >= n->bytes);
	l->bytes = l->bytes - n->bytes + bytes;
	n->bytes = bytes;
}

void lru_pin(struct lru *l, struct lru_node *n)
{
	ASSERT(l->count > 0 && n->pins < UINT32_MAX);
	if (n->pins++ == 0)
		link_remove(&n->link);
}

void lru_unpin(struct lru *l, struct lru_node *n)
{
	ASSERT(n->pins > 0);
	if (--n->pins == 0)
		list_push_front(&l->list, &n->link);
}

size_t lru_trim(struct lru *l)
{
	size_t gone = 0;
	for (; l->bytes > l->bytes_max && !list_empty(&l->list); gone++) {
		struct lru_node *n = CONTAINER_OF(list_last(&l->list), struct lru_node, link);
		lru_remove(l, n);
		l->evict(n);
	}
	return gone;
}
