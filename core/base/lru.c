/* SPDX-License-Identifier: Apache-2.0 */
/* lru.c - see lru.h. */
#include "core/base/lru.h"

void lru_init(struct lru *l, uint64_t bytes_max, void (*evict)(struct lru_node *n))
{
	*l = (struct lru){ .bytes_max = bytes_max, .evict = evict };
	list_init(&l->list);
	list_init(&l->heavy);
}

void lru_share(struct lru *l, struct lru_line *lines)
{
	ASSERT(l->count == 0);
	l->lines = lines;
}

/* ---- classes ---- */

static void weigh(struct lru *l, struct lru_line *line)
{
	bool heavy = line->bytes > l->bytes_max / LRU_SHARES;
	if (heavy && !link_linked(&line->heavy))
		list_push_back(&l->heavy, &line->heavy);
	else if (!heavy && link_linked(&line->heavy))
		link_remove(&line->heavy);
}

static void line_add(struct lru *l, struct lru_node *n)
{
	if (!l->lines)
		return;
	struct lru_line *line = &l->lines[n->whose];
	if (line->count++ == 0) {
		link_init(&line->heavy);
		list_init(&line->list);
	}
	line->bytes += n->bytes;
	weigh(l, line);
}

static void line_remove(struct lru *l, struct lru_node *n)
{
	if (!l->lines)
		return;
	struct lru_line *line = &l->lines[n->whose];
	line->count--;
	line->bytes -= n->bytes;
	weigh(l, line);
}

static void enqueue(struct lru *l, struct lru_node *n)
{
	list_push_front(&l->list, &n->link);
	if (l->lines)
		list_push_front(&l->lines[n->whose].list, &n->own);
}

static void dequeue(struct lru_node *n)
{
	link_remove(&n->link);
	link_remove(&n->own);
}

/* ---- entries ---- */

void lru_add(struct lru *l, struct lru_node *n, fair_class_t whose, uint64_t bytes)
{
	n->bytes = bytes;
	n->pins = 0;
	n->whose = whose;
	link_init(&n->own);
	line_add(l, n);
	enqueue(l, n);
	l->bytes += bytes;
	l->count++;
}

void lru_remove(struct lru *l, struct lru_node *n)
{
	ASSERT(l->count > 0 && l->bytes >= n->bytes);
	dequeue(n);
	line_remove(l, n);
	l->bytes -= n->bytes;
	l->count--;
}

void lru_touch(struct lru *l, struct lru_node *n)
{
	if (n->pins)
		return;
	dequeue(n);
	enqueue(l, n);
}

void lru_resize(struct lru *l, struct lru_node *n, uint64_t bytes)
{
	ASSERT(l->bytes >= n->bytes);
	l->bytes = l->bytes - n->bytes + bytes;
	if (l->lines) {
		l->lines[n->whose].bytes += bytes - n->bytes;
		weigh(l, &l->lines[n->whose]);
	}
	n->bytes = bytes;
}

void lru_pin(struct lru *l, struct lru_node *n)
{
	ASSERT(l->count > 0 && n->pins < UINT32_MAX);
	if (n->pins++ == 0)
		dequeue(n);
}

void lru_unpin(struct lru *l, struct lru_node *n)
{
	ASSERT(n->pins > 0);
	if (--n->pins == 0)
		enqueue(l, n);
}

/* ---- who goes ---- */

static struct lru_node *victim(const struct lru *l)
{
	LIST_FOREACH (&l->heavy, it) {
		struct lru_line *line = CONTAINER_OF(it, struct lru_line, heavy);
		if (!list_empty(&line->list))
			return CONTAINER_OF(list_last(&line->list), struct lru_node, own);
	}
	return CONTAINER_OF(list_last(&l->list), struct lru_node, link);
}

size_t lru_trim(struct lru *l)
{
	size_t gone = 0;
	for (; l->bytes > l->bytes_max && !list_empty(&l->list); gone++) {
		struct lru_node *n = victim(l);
		lru_remove(l, n);
		l->evict(n);
	}
	return gone;
}
