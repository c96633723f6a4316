/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h - intrusive doubly linked lists; the link lives in the member, the list owns nothing.
 *
 * A link that is in no list points at itself, so removing twice is harmless and membership can be asked.
 */
#ifndef PENFOLD_CORE_BASE_LIST_H
#define PENFOLD_CORE_BASE_LIST_H

#include "core/base/base.h"

struct link {
	struct link *prev, *next;
};

struct list {
	struct link head;
};

static inline void link_init(struct link *l) { l->prev = l->next = l; }
static inline bool link_linked(const struct link *l) { return l->next != l; }
static inline void list_init(struct list *l) { link_init(&l->head); }
static inline bool list_empty(const struct list *l) { return l->head.next == &l->head; }

static inline void link_insert_after(struct link *at, struct link *l)
{
	l->prev = at;
	l->next = at->next;
	at->next->prev = l;
	at->next = l;
}
static inline void list_push_front(struct list *list, struct link *l) { link_insert_after(&list->head, l); }
static inline void list_push_back(struct list *list, struct link *l) { link_insert_after(list->head.prev, l); }

static inline void link_remove(struct link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}
static inline struct link *list_first(const struct list *l) { return list_empty(l) ? NULL : l->head.next; }
static inline struct link *list_last(const struct list *l) { return list_empty(l) ? NULL : l->head.prev; }
static inline struct link *list_pop_front(struct list *l)
{
	struct link *first = list_first(l);
	if (first)
		link_remove(first);
	return first;
}

#define LIST_FIRST(list, type, member) (list_empty(list) ? NULL : CONTAINER_OF((list)->head.next, type, member))
/* Walks links; the current one may be removed while walking. */
#define LIST_FOREACH(list, it)                                                                \
	for (struct link *it = (list)->head.next, *it##_next = it->next; it != &(list)->head; \
	     it = it##_next, it##_next = it->next)

#endif
