/* SPDX-License-Identifier: Apache-2.0 */
/* tenant_figure.c - see tenant_figure.h. */
#include "tenancy/tenant_figure.h"

#include "core/run/fiber.h"
#include "core/run/shard.h"

#include <stdlib.h>
#include <string.h>

/* A place is its shard's: the name is written before the id is published, and neither changes again. */
struct table {
	struct tenant_figure place[TENANT_FIGURE_SLOTS];
	uint64_t other[TENANT_COUNTS];
};
static struct table *tables[SHARDS_MAX]; /* atomic; made at a shard's first count, kept as long as the process */

static struct table *own_table(void)
{
	struct table **at = &tables[shard_index()];
	struct table *t = __atomic_load_n(at, __ATOMIC_RELAXED);
	if (LIKELY(t != NULL))
		return t;
	t = xcalloc(1, sizeof *t);
	__atomic_store_n(at, t, __ATOMIC_RELEASE);
	return t;
}

/* NULL: no place. Ids are given in turn, so that their low bits spread by themselves. */
static struct tenant_figure *place_of(struct table *t, uint64_t id, struct slice name)
{
	for (unsigned i = 0; i < TENANT_FIGURE_PROBES; i++) {
		struct tenant_figure *p = &t->place[(id + i) % TENANT_FIGURE_SLOTS];
		if (p->id == id)
			return p;
		if (p->id)
			continue;
		memcpy(p->name, name.ptr, min_size(name.len, sizeof(p->name) - 1));
		__atomic_store_n(&p->id, id, __ATOMIC_RELEASE);
		return p;
	}
	return NULL;
}

void tenant_figure_add(uint64_t tenant_id, struct slice name, enum tenant_count what)
{
	if (!fiber_self() || !tenant_id)
		return;
	struct table *t = own_table();
	struct tenant_figure *p = place_of(t, tenant_id, name);
	uint64_t *cell = p ? &p->count[what] : &t->other[what];
	__atomic_store_n(cell, __atomic_load_n(cell, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
}

/* ---- reading ---- */

static int by_id(const void *a, const void *b)
{
	const struct tenant_figure *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static uint64_t busy(const struct tenant_figure *f) { return f->count[TENANT_LOGINS] + f->count[TENANT_DELIVERIES]; }

static int by_business(const void *a, const void *b)
{
	uint64_t x = busy(a), y = busy(b);
	return x > y ? -1 : x < y ? 1 : by_id(a, b);
}

static void add_counts(uint64_t *to, const uint64_t *from)
{
	for (unsigned i = 0; i < TENANT_COUNTS; i++)
		to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* One after another, as they lie; tenants that are on several shards several times. */
static size_t gather(struct tenant_figure *all, unsigned shards, struct tenant_figure *other)
{
	size_t count = 0;
	for (unsigned s = 0; s < shards; s++) {
		const struct table *t = __atomic_load_n(&tables[s], __ATOMIC_ACQUIRE);
		for (unsigned i = 0; t && i < TENANT_FIGURE_SLOTS; i++) {
			uint64_t id = __atomic_load_n(&t->place[i].id, __ATOMIC_ACQUIRE);
			if (!id)
				continue;
			all[count] = (struct tenant_figure){ .id = id };
			memcpy(all[count].name, t->place[i].name, sizeof all[count].name);
			add_counts(all[count++].count, t->place[i].count);
		}
		if (t)
			add_counts(other->count, t->other);
	}
	return count;
}

static size_t merge(struct tenant_figure *all, size_t count)
{
	size_t kept = 0;
	qsort(all, count, sizeof *all, by_id);
	for (size_t i = 0; i < count; i++) {
		if (kept && all[kept - 1].id == all[i].id)
			add_counts(all[kept - 1].count, all[i].count);
		else
			all[kept++] = all[i];
	}
	return kept;
}

unsigned tenant_figures(struct tenant_figure out[TENANT_FIGURE_TOP], struct tenant_figure *other_out)
{
	unsigned shards_seen = SHARDS_MAX;
	while (shards_seen && !__atomic_load_n(&tables[shards_seen - 1], __ATOMIC_ACQUIRE))
		shards_seen--;
	struct tenant_figure *all = xcalloc((size_t)shards_seen * TENANT_FIGURE_SLOTS + 1, sizeof *all);
	*other_out = (struct tenant_figure){ .name = "other" };
	size_t count = merge(all, gather(all, shards_seen, other_out));
	qsort(all, count, sizeof *all, by_business);
	unsigned top = (unsigned)min_size(count, TENANT_FIGURE_TOP);
	memcpy(out, all, top * sizeof *all);
	for (size_t i = top; i < count; i++)
		add_counts(other_out->count, all[i].count);
	free(all);
	return top;
}
