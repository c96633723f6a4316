/* SPDX-License-Identifier: Apache-2.0 */
/* table_test.c - a million entries in and out against a plain model, order, limits, colliding keys; the LRU beside it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/lru.h"
#include "core/base/table.h"

#include <stdlib.h>

#define MANY 1000000

struct entry {
	uint64_t id;
	struct table_node node;
	bool in;
};

static struct slice key_of(const struct table_node *n)
{
	const struct entry *e = CONTAINER_OF(n, struct entry, node);
	return slice_of(&e->id, sizeof(e->id));
}

static uint64_t rng = 88172645463325252;
static uint64_t rnd(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

static void a_million_in_and_out(void **state)
{
	(void)state;
	struct entry *all = xcalloc(MANY, sizeof(*all));
	struct table t;
	table_init(&t, MANY, 42, key_of);
	for (size_t i = 0; i < MANY; i++) {
		all[i].id = i * 3;
		assert_int_equal(table_add(&t, &all[i].node), OK);
	}
	assert_int_equal(t.count, MANY);
	for (size_t i = 0; i < MANY; i++) {
		assert_ptr_equal(table_find_u64(&t, i * 3), &all[i].node);
		assert_null(table_find_u64(&t, i * 3 + 1));
	}
	struct entry extra = { .id = 1 };
	assert_int_equal(table_add(&t, &extra.node), ERR_LIMIT);
	assert_int_equal(table_add(&t, &all[7].node), ERR_EXISTS);
	size_t at = 0;
	for (struct table_node *n = table_first(&t); n; n = table_next(&t, n))
		assert_ptr_equal(n, &all[at++].node);
	assert_int_equal(at, MANY);
	for (size_t i = 0; i < MANY; i += 2)
		table_remove(&t, &all[i].node);
	for (size_t i = 0; i < MANY; i++)
		assert_ptr_equal(table_find_u64(&t, i * 3), i % 2 ? &all[i].node : NULL);
	for (size_t i = 1; i < MANY; i += 2)
		table_remove(&t, &all[i].node);
	assert_int_equal(t.count, 0);
	assert_null(table_first(&t));
	table_release(&t);
	free(all);
}

/* Every step is checked against a flag in the entry, also while the table is growing. */
static void random_steps(uint64_t seed, size_t ids)
{
	struct entry *all = xcalloc(ids, sizeof(*all));
	struct table t;
	size_t count = 0;
	table_init(&t, ids, seed, key_of);
	for (size_t i = 0; i < ids; i++)
		all[i].id = i << 32;
	for (size_t step = 0; step < ids * 20; step++) {
		/* mostly adding at first, mostly removing at the end */
		struct entry *e = &all[rnd() % ids];
		assert_int_equal(table_find_u64(&t, e->id) == &e->node, e->in);
		bool add = rnd() % (ids * 20) > step;
		if (add) {
			assert_int_equal(table_add(&t, &e->node), e->in ? ERR_EXISTS : OK);
			count += !e->in;
			e->in = true;
		} else if (e->in) {
			table_remove(&t, &e->node);
			e->in = false;
			count--;
		}
		assert_int_equal(t.count, count);
	}
	for (size_t i = 0; i < ids; i++)
		assert_int_equal(table_find_u64(&t, all[i].id) != NULL, all[i].in);
	table_release(&t);
	free(all);
}

static void random_tables(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 200; seed++)
		random_steps(seed, 1 + rnd() % 60);
	random_steps(7, 20000);
}

static void order_is_insertion_order_under_every_seed(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 20; seed++) {
		struct entry all[100] = { 0 };
		struct table t;
		table_init(&t, 100, seed, key_of);
		for (size_t i = 0; i < 100; i++) {
			all[i].id = 1000 - i;
			assert_int_equal(table_add(&t, &all[i].node), OK);
		}
		table_remove(&t, &all[3].node);
		assert_int_equal(table_add(&t, &all[3].node), OK); /* now the youngest */
		size_t at = 0;
		LIST_FOREACH(&t.order, it) {
			struct entry *e = CONTAINER_OF(it, struct entry, node.order);
			size_t expected = at == 99 ? 3 : at < 3 ? at : at + 1;
			assert_int_equal(e->id, 1000 - expected);
			at++;
			table_remove(&t, &e->node); /* the current one may go */
		}
		assert_int_equal(at, 100);
		table_release(&t);
	}
}

struct named {
	struct table_node node;
	struct slice name;
};
static struct slice name_of(const struct table_node *n) { return CONTAINER_OF(n, struct named, node)->name; }

static void keys_of_any_length(void **state)
{
	(void)state;
	struct named all[300];
	char bytes[300] = { 0 };
	struct table t;
	table_init(&t, 300, 1, name_of);
	for (size_t i = 0; i < 300; i++) { /* runs of NUL: equal but for the length */
		all[i].name = slice_of(bytes, i);
		assert_int_equal(table_add(&t, &all[i].node), OK);
	}
	for (size_t i = 0; i < 300; i++)
		assert_ptr_equal(table_find(&t, slice_of(bytes, i)), &all[i].node);
	table_release(&t);
	assert_null(table_find(&t, slice_of(bytes, 1)));
}

/* ---- lru ---- */

struct item {
	struct lru_node node;
	int number;
};
static int evicted[16];
static size_t evicted_count;
static void on_evict(struct lru_node *n) { evicted[evicted_count++] = CONTAINER_OF(n, struct item, node)->number; }

static void the_least_recent_goes(void **state)
{
	(void)state;
	struct lru l;
	struct item items[5];
	lru_init(&l, 30, on_evict);
	evicted_count = 0;
	for (int i = 0; i < 5; i++) {
		items[i].number = i;
		lru_add(&l, &items[i].node, 0, 10);
	}
	lru_touch(&l, &items[0].node);
	lru_pin(&l, &items[1].node);
	lru_pin(&l, &items[1].node);
	assert_int_equal(lru_trim(&l), 2);
	assert_int_equal(evicted[0], 2);
	assert_int_equal(evicted[1], 3);
	assert_int_equal(l.bytes, 30);
	lru_unpin(&l, &items[1].node);
	lru_resize(&l, &items[1].node, 100);
	assert_int_equal(lru_trim(&l), 2); /* the pinned one alone is too large, and stays */
	assert_int_equal(evicted[2], 4);
	assert_int_equal(evicted[3], 0);
	assert_int_equal(l.bytes, 100);
	lru_unpin(&l, &items[1].node);
	assert_int_equal(lru_trim(&l), 1);
	assert_int_equal(l.count, 0);
	assert_int_equal(l.bytes, 0);
	lru_add(&l, &items[2].node, 0, 5);
	lru_pin(&l, &items[2].node);
	lru_remove(&l, &items[2].node);
	assert_int_equal(l.bytes, 0);
	assert_int_equal(evicted_count, 5);
}

/* Class 1 fills the room and loses its own; the entry of class 2, older than all of them, stays until its class is above its share. */
static void who_fills_it_fills_it_for_himself(void **state)
{
	(void)state;
	static struct lru_line lines[FAIR_CLASSES];
	struct lru l;
	struct item items[16];
	lru_init(&l, 100, on_evict);
	lru_share(&l, lines);
	evicted_count = 0;
	for (int i = 0; i < 16; i++)
		items[i].number = i;
	lru_add(&l, &items[0].node, 2, 20);
	for (int i = 1; i < 11; i++) {
		lru_add(&l, &items[i].node, 1, 10);
		(void)lru_trim(&l);
	}
	assert_int_equal(evicted_count, 2);
	assert_true(evicted[0] == 1 && evicted[1] == 2);
	for (int i = 3; i < 11; i++) /* all of class 1 in use: then the other's has to go */
		lru_pin(&l, &items[i].node);
	lru_add(&l, &items[11].node, 3, 10);
	lru_pin(&l, &items[11].node);
	assert_int_equal(lru_trim(&l), 1);
	assert_int_equal(evicted[2], 0);
	for (int i = 3; i < 11; i++)
		lru_unpin(&l, &items[i].node);
	lru_unpin(&l, &items[11].node);
	lru_resize(&l, &items[10].node, 1); /* class 1 has 71, class 3 has 10 */
	lru_add(&l, &items[12].node, 3, 50);
	assert_int_equal(lru_trim(&l), 4); /* two are above their share: who was first */
	assert_true(evicted[3] == 3 && evicted[6] == 6);
	for (int i = 7; i < 13; i++)
		lru_remove(&l, &items[i].node);
	assert_true(l.bytes == 0 && l.count == 0 && list_empty(&l.heavy) && list_empty(&l.list));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_fills_it_fills_it_for_himself),
		cmocka_unit_test(a_million_in_and_out),
		cmocka_unit_test(random_tables),
		cmocka_unit_test(order_is_insertion_order_under_every_seed),
		cmocka_unit_test(keys_of_any_length),
		cmocka_unit_test(the_least_recent_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
