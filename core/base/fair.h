/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fair.h - a queue in which everybody's things stand in a line of their own, and the lines are served in turn.
 *
 * For whoever has something scarce to give out: a shard's time and stacks (core/run/fiber.h), threads (offload), hashes (tenancy/auth).  Who floods
 * it has a long line; everybody else waits for one turn of each other line, not for the flood (invariant 11).
 *
 * A class is a number below FAIR_CLASSES that means nothing here.  0 is the house itself; fair_class() makes one of any hash.  Classes are
 * fewer than tenants may be: some share a line, which nobody can foresee if the hash is seeded.
 *
 * Everything completes now, takes constant time and allocates nothing: what is queued brings its link.  No lock inside.
 */
#ifndef PENFOLD_CORE_BASE_FAIR_H
#define PENFOLD_CORE_BASE_FAIR_H

#include "core/base/base.h"
#include "core/base/limits.h"
#include "core/base/list.h"

typedef uint16_t fair_class_t;

struct fair_line {
	struct link active; /* among the lines that are not empty */
	struct list items;
	uint32_t count;
};

struct fair {
	struct list active; /* the first is served next */
	uint32_t count;     /* in all lines */
	struct fair_line line[FAIR_CLASSES];
};

static inline fair_class_t fair_class(uint64_t hash) { return (fair_class_t)(1 + hash % (FAIR_CLASSES - 1)); }

static inline void fair_init(struct fair *f)
{
	list_init(&f->active);
	f->count = 0;
	for (size_t i = 0; i < FAIR_CLASSES; i++) {
		link_init(&f->line[i].active);
		list_init(&f->line[i].items);
		f->line[i].count = 0;
	}
}

static inline bool fair_empty(const struct fair *f) { return f->count == 0; }

/* To the end of its class's line; a line that was empty comes after all others. */
static inline void fair_push(struct fair *f, fair_class_t whose, struct link *l)
{
	struct fair_line *line = &f->line[whose];
	list_push_back(&line->items, l);
	f->count++;
	if (line->count++ == 0)
		list_push_back(&f->active, &line->active);
}

/* Takes out something that is in the line of that class. */
static inline void fair_remove(struct fair *f, fair_class_t whose, struct link *l)
{
	struct fair_line *line = &f->line[whose];
	link_remove(l);
	f->count--;
	if (--line->count == 0)
		link_remove(&line->active);
}

/* The first of the line whose turn it is, which then is last among the lines; NULL if there is nothing. */
static inline struct link *fair_pop(struct fair *f)
{
	struct link *first = list_first(&f->active);
	if (!first)
		return NULL;
	struct fair_line *line = CONTAINER_OF(first, struct fair_line, active);
	struct link *l = line->items.head.next; /* an active line is not empty */
	fair_remove(f, (fair_class_t)(line - f->line), l);
	if (line->count) {
		link_remove(first);
		list_push_back(&f->active, first);
	}
	return l;
}

#endif
