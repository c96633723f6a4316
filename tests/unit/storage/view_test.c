/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of a folder against a model that copies everything; UIDLs; what they cost. */
#include "core/base/limits.h"
#include "storage/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#define VIEWS 6

/* A list of UIDs, copied whole for every view. */
struct list_of {
	uint32_t *uids;
	uint32_t count, cap;
};

static uint64_t seed = 88172645463325252ull;
static uint32_t random_below(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 20) % n);
}

static struct row row_of(uint32_t uid)
{
	return (struct row){ .uid = uid, .size = 100 + uid % 1000, .modseq = uid, .record_log = 1, .record_offset = 8 * uid, .body_log = 1 };
}

static void list_put(struct list_of *l, uint32_t uid)
{
	uint32_t at = l->count;
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 64;
		l->uids = xrealloc(l->uids, l->cap * sizeof(uint32_t));
	}
	while (at > 0 && l->uids[at - 1] > uid)
		at--;
	memmove(&l->uids[at + 1], &l->uids[at], (l->count - at) * sizeof(uint32_t));
	l->uids[at] = uid;
	l->count++;
}

static void list_take(struct list_of *l, uint32_t at)
{
	memmove(&l->uids[at], &l->uids[at + 1], (l->count - at - 1) * sizeof(uint32_t));
	l->count--;
}

static struct list_of list_copy(const struct list_of *l)
{
	struct list_of copy = { xmalloc((l->count + 1) * sizeof(uint32_t)), l->count, l->count + 1 };
	memcpy(copy.uids, l->uids, l->count * sizeof(uint32_t));
	return copy;
}

static void check_view(const struct view *v, const struct list_of *l)
{
	uint64_t bytes = 0;
	assert_int_equal(view_count(v), l->count);
	for (uint32_t i = 0; i < l->count; i++) {
		struct message m;
		view_message(v, i, &m);
		assert_int_equal(m.uid, l->uids[i]);
		assert_int_equal(m.size, 100 + m.uid % 1000);
		bytes += m.size;
	}
	for (uint32_t i = 0; i < 20 && l->count > 0; i++) { /* and not in order */
		uint32_t at = random_below(l->count);
		assert_int_equal(view_row(v, at)->uid, l->uids[at]);
		at = at + 1 < l->count ? at + 1 : 0;
		assert_int_equal(view_row(v, at)->uid, l->uids[at]);
	}
	assert_int_equal(view_bytes(v), bytes);
}

struct diff_check {
	const struct list_of *old, *new_;
	uint32_t i, j;
};

static bool diff_each(void *arg, const struct view_change *c)
{
	struct diff_check *d = arg;
	for (;;) { /* walk the model up to its next difference */
		uint32_t a = d->i < d->old->count ? d->old->uids[d->i] : UINT32_MAX, b = d->j < d->new_->count ? d->new_->uids[d->j] : UINT32_MAX;
		assert_true(a != UINT32_MAX || b != UINT32_MAX);
		if (a != b) {
			assert_int_equal(c->uid, a < b ? a : b);
			assert_int_equal(c->come, b < a);
			assert_int_equal(c->index, a < b ? d->i++ : d->j++);
			return true;
		}
		d->i++;
		d->j++;
	}
}

static void check_diff(const struct view *a, const struct view *b, const struct list_of *old, const struct list_of *new_)
{
	struct diff_check d = { old, new_, 0, 0 };
	version_diff(a->version, b->version, diff_each, &d);
	while (d.i < old->count && d.j < new_->count && old->uids[d.i] == new_->uids[d.j])
		d.i++, d.j++;
	assert_true(d.i == old->count && d.j == new_->count);
}

static void count_released(void *arg, const struct row *row)
{
	(void)row;
	++*(uint32_t *)arg;
}

/* Random appends, removals, pins and unpins; every so often everything is compared. */
static void random_walk(uint32_t steps, uint32_t append_weight, uint32_t burst)
{
	struct rows r;
	struct list_of now = { 0 }, lists[VIEWS] = { 0 };
	struct view *views[VIEWS] = { 0 };
	uint32_t uid = 0, removed = 0, released = 0, direct = 0;
	rows_init(&r);
	for (uint32_t step = 0; step < steps; step++) {
		uint32_t n = 1 + random_below(burst), which = random_below(VIEWS);
		bool add = random_below(100) < append_weight;
		for (uint32_t i = 0; i < n && add; i++) {
			uid += 1 + random_below(3);
			struct row row = row_of(uid);
			rows_append(&r, &row);
			list_put(&now, uid);
		}
		for (uint32_t i = 0; i < n && !add && now.count > 0; i++) {
			uint32_t at = random_below(now.count);
			struct row row;
			assert_true(rows_remove(&r, now.uids[at], &row));
			assert_int_equal(row.uid, now.uids[at]);
			assert_false(rows_remove(&r, now.uids[at], NULL));
			removed++;
			direct += list_empty(&r.views);
			list_take(&now, at);
		}
		if (random_below(4) == 0 && !views[which]) {
			views[which] = rows_pin(&r, 7);
			lists[which] = list_copy(&now);
		} else if (random_below(6) == 0 && views[which]) {
			check_view(views[which], &lists[which]);
			rows_unpin(views[which], count_released, &released);
			free(lists[which].uids);
			views[which] = NULL;
		}
		if (step % 37 == 0) {
			struct view *newest = rows_pin(&r, 7);
			check_view(newest, &now);
			for (int i = 0; i < VIEWS; i++)
				if (views[i]) {
					check_view(views[i], &lists[i]);
					check_diff(views[i], newest, &lists[i], &now);
				}
			rows_unpin(newest, count_released, &released);
		}
		assert_int_equal(rows_count(&r), now.count);
		if (now.count > 0) {
			uint32_t at = random_below(now.count);
			assert_int_equal(rows_find(&r, now.uids[at])->uid, now.uids[at]);
			assert_int_equal(rows_from(&r, now.uids[at])->uid, now.uids[at]);
			if (at + 1 < now.count)
				assert_int_equal(rows_from(&r, now.uids[at] + 1)->uid, now.uids[at + 1]);
		}
		assert_null(rows_find(&r, uid + 1));
		assert_null(rows_from(&r, uid + 1));
	}
	for (int i = 0; i < VIEWS; i++)
		if (views[i]) {
			rows_unpin(views[i], count_released, &released);
			free(lists[i].uids);
		}
	assert_int_equal(released + direct, removed); /* each was held for somebody, and let go once */
	free(now.uids);
	rows_release(&r);
}

static void test_random(void **state)
{
	(void)state;
	random_walk(4000, 55, 3);
	random_walk(1500, 50, 200);
	random_walk(600, 70, 900);
	random_walk(3000, 40, 10);
}

/* A replay meets relocated records out of order. */
static void test_between(void **state)
{
	(void)state;
	for (uint32_t round = 0; round < 6; round++) {
		static const uint32_t counts[] = { 5, 64, 513, 3000, 40000, 70000 };
		uint32_t n = counts[round];
		uint32_t *order = xmalloc(n * sizeof(uint32_t));
		struct rows r;
		struct list_of all = { 0 };
		for (uint32_t i = 0; i < n; i++)
			order[i] = i + 1;
		for (uint32_t i = n; i > 1 && round != 5; i--) {
			uint32_t j = random_below(i), keep = order[i - 1];
			order[i - 1] = order[j];
			order[j] = keep;
		}
		for (uint32_t i = 0; round == 5 && i < n; i++) /* two halves, the upper first */
			order[i] = i < n / 2 ? n / 2 + i + 1 : i - n / 2 + 1;
		rows_init(&r);
		for (uint32_t i = 0; i < n; i++) {
			struct row row = row_of(order[i]);
			rows_append(&r, &row);
			if (i % 5 == 4) /* some go again meanwhile */
				assert_true(rows_remove(&r, order[i - 2], NULL));
		}
		for (uint32_t i = 0; i < n; i++)
			if (rows_find(&r, i + 1))
				list_put(&all, i + 1);
		assert_int_equal(all.count, n - n / 5);
		struct view *v = rows_pin(&r, 1);
		check_view(v, &all);
		rows_unpin(v, NULL, NULL);
		free(all.uids);
		free(order);
		rows_release(&r);
	}
}

static bool count_each(void *arg, struct row *row)
{
	(void)row;
	++*(uint32_t *)arg;
	return true;
}

static void test_flags(void **state)
{
	(void)state;
	struct rows r;
	uint32_t changed = 0, all = 0, held = 0;
	rows_init(&r);
	for (uint32_t uid = 1; uid <= 2000; uid++) {
		struct row row = row_of(uid);
		row.modseq = 5;
		rows_append(&r, &row);
	}
	struct view *v = rows_pin(&r, 1);
	assert_true(rows_flags(&r, 700, FLAG_SEEN | FLAG_DRAFT, 3, 9));
	assert_true(rows_flags(&r, 1700, FLAG_SEEN, 0, 8));
	assert_false(rows_flags(&r, 2001, FLAG_SEEN, 0, 8));
	rows_each_changed(&r, 5, count_each, &changed);
	assert_int_equal(changed, 2);
	rows_each(&r, count_each, &all);
	assert_int_equal(all, 2000);
	struct message m;
	view_message(v, 699, &m); /* flags are seen through every version */
	assert_int_equal(m.flags, FLAG_SEEN | FLAG_DRAFT);
	assert_int_equal(m.modseq, 9);
	assert_true(rows_remove(&r, 700, NULL));
	view_message(v, 699, &m);
	assert_int_equal(m.uid, 700);
	rows_each_held(&r, count_each, &held);
	assert_int_equal(held, 1);
	rows_unpin(v, NULL, NULL);
	assert_true(list_empty(&r.held));
	rows_release(&r);
}

static struct slice uidl_of(const struct view *v, uint32_t index, char out[UIDL_BYTES_MAX])
{
	return slice_of(out, view_uidl(v, index, out));
}

static void test_uidl(void **state)
{
	(void)state;
	struct rows r;
	char out[UIDL_BYTES_MAX], expected[32];
	rows_init(&r);
	for (uint32_t i = 0; i < 5000; i++) {
		uint32_t uid = random_below(UINT32_MAX), validity = random_below(UINT32_MAX);
		snprintf(expected, sizeof(expected), "%08x%08x", uid, validity);
		uidl_formula(uid, validity, out);
		assert_memory_equal(out, expected, UIDL_FORMULA_BYTES);
	}
	struct row row = row_of(0x1a);
	rows_append(&r, &row);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1b, slice_str("UID27-77")), OK);
	rows_uidl_set(&r, 0x1b, slice_str("UID27-77")); /* before its row */
	row = row_of(0x1b);
	rows_append(&r, &row);
	row = row_of(0x1c);
	rows_append(&r, &row);
	rows_uidl_set(&r, 0x1c, slice_str("other")); /* behind it */
	struct view *v = rows_pin(&r, 0x77);
	assert_true(slice_eq(uidl_of(v, 0, out), slice_str("0000001a00000077")));
	assert_true(slice_eq(uidl_of(v, 1, out), slice_str("UID27-77")));
	assert_true(slice_eq(uidl_of(v, 2, out), slice_str("other")));
	/* literals may not meet each other nor the formula (invariant 6) */
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("UID27-77")), ERR_EXISTS);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1b, slice_str("UID27-77")), OK);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("0000001a00000077")), ERR_EXISTS);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0, slice_str("00ffff1a00000077")), ERR_EXISTS);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1a, slice_str("0000001a00000077")), OK);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("0000001a00000078")), OK);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("0000001A00000077")), OK);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("")), ERR_SYNTAX);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("a b")), ERR_SYNTAX);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("\x7f")), ERR_SYNTAX);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d,
	                                 slice_str("0123456789012345678901234567890123456789012345678901234567890123456789x")), ERR_SYNTAX);
	assert_true(rows_remove(&r, 0x1b, NULL));
	assert_true(slice_eq(uidl_of(v, 1, out), slice_str("UID27-77"))); /* the view still says it */
	rows_unpin(v, NULL, NULL);
	assert_int_equal(rows_uidl(&r, 0x1b).len, 0);
	assert_int_equal(rows_uidl_check(&r, 0x77, 0x1d, slice_str("UID27-77")), OK);
	rows_release(&r);
}

static void test_many_literals(void **state)
{
	(void)state;
	struct rows r;
	char text[32];
	rows_init(&r);
	for (uint32_t uid = 1; uid <= 20000; uid++) {
		struct row row = row_of(uid);
		int n = snprintf(text, sizeof(text), "UID%u-1234", uid);
		assert_int_equal(rows_uidl_check(&r, 1, uid, slice_of(text, (size_t)n)), OK);
		rows_uidl_set(&r, uid, slice_of(text, (size_t)n));
		rows_append(&r, &row);
		if (uid % 3 == 0)
			assert_true(rows_remove(&r, uid - 1, NULL));
	}
	assert_int_equal(rows_uidl_check(&r, 1, 30000, slice_str("UID19999-1234")), ERR_EXISTS);
	assert_int_equal(rows_uidl_check(&r, 1, 30000, slice_str("UID19997-1234")), OK); /* went */
	rows_release(&r);
}

static bool keep_odd(void *arg, const struct row *row)
{
	(void)arg;
	return row->uid % 2;
}

static void test_filter(void **state)
{
	(void)state;
	struct rows r;
	rows_init(&r);
	for (uint32_t uid = 1; uid <= 1500; uid++) {
		struct row row = row_of(uid);
		rows_append(&r, &row);
	}
	struct view *v = rows_pin(&r, 1);
	view_filter(v, keep_odd, NULL);
	assert_int_equal(view_count(v), 750);
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < 750; i++) {
		assert_int_equal(view_row(v, i)->uid, 2 * i + 1);
		bytes += view_row(v, i)->size;
	}
	assert_int_equal(view_bytes(v), bytes);
	rows_unpin(v, NULL, NULL);
	rows_release(&r);
	assert_int_equal(row_rcpt_hash(slice_str("John")), row_rcpt_hash(slice_str("jOHN")));
	assert_int_not_equal(row_rcpt_hash(slice_str("john")), row_rcpt_hash(slice_str("joan")));
}

static void test_empty(void **state)
{
	(void)state;
	struct rows r;
	rows_init(&r);
	struct view *v = rows_pin(&r, 1);
	assert_int_equal(view_count(v), 0);
	struct row row = row_of(1);
	rows_append(&r, &row);
	assert_int_equal(view_count(v), 0);
	struct view *w = rows_pin(&r, 1);
	assert_true(rows_remove(&r, 1, NULL));
	assert_int_equal(rows_count(&r), 0);
	assert_int_equal(view_row(w, 0)->uid, 1);
	rows_unpin(v, NULL, NULL);
	assert_int_equal(view_row(w, 0)->uid, 1);
	rows_unpin(w, NULL, NULL);
	assert_null(r.newest);
	rows_release(&r);
}

static void test_memory(void **state)
{
	(void)state;
	struct rows r;
	rows_init(&r);
	assert_int_equal(rows_memory_bytes(&r), 0);
	for (uint32_t uid = 1; uid <= 10; uid++) {
		struct row row = row_of(uid);
		rows_append(&r, &row);
	}
	rows_trim(&r);
	assert_true(rows_memory_bytes(&r) <= 10 * 40 + 160);
	for (uint32_t uid = 11; uid <= 1000000; uid++) {
		struct row row = row_of(uid);
		rows_append(&r, &row);
	}
	assert_true(rows_memory_bytes(&r) <= 1000000ull * 41);
	for (uint32_t uid = 1; uid <= 1000000; uid++) /* one in fifty stays, spread over all pages */
		if (uid % 50)
			assert_true(rows_remove(&r, uid, NULL));
	assert_int_equal(rows_count(&r), 20000);
	assert_true(rows_memory_bytes(&r) <= 20000 * 60);
	rows_release(&r);
}

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Printed, and asserted only very loosely: the machine may be busy, or a sanitizer be on. */
static void test_speed(void **state)
{
	(void)state;
	struct rows r;
	char out[UIDL_BYTES_MAX];
	uint64_t sum = 0;
	rows_init(&r);
	for (uint32_t uid = 1; uid <= 100000; uid++) {
		struct row row = row_of(uid);
		rows_append(&r, &row);
		if (uid % 7 == 0)
			assert_true(rows_remove(&r, uid, NULL));
	}
	struct view *v = rows_pin(&r, 1);
	double start = now_ns();
	for (uint32_t i = 0; i < v->count; i++)
		sum += view_uidl(v, i, out) + (unsigned char)out[7];
	double each = (now_ns() - start) / v->count;
	start = now_ns();
	for (uint32_t i = 0; i < 1000; i++) { /* a change beside a pinned view */
		struct view *w = rows_pin(&r, 1);
		struct row row = row_of(200000 + i);
		rows_append(&r, &row);
		rows_unpin(w, NULL, NULL);
	}
	printf("view_uidl %.1f ns, append beside a pinned view %.0f ns (%llu)\n", each, (now_ns() - start) / 1000, (unsigned long long)sum % 10);
	assert_true(each < 1000);
	rows_unpin(v, NULL, NULL);
	rows_release(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_empty),  cmocka_unit_test(test_random), cmocka_unit_test(test_between), cmocka_unit_test(test_flags),
		cmocka_unit_test(test_uidl),   cmocka_unit_test(test_many_literals), cmocka_unit_test(test_filter),
		cmocka_unit_test(test_memory), cmocka_unit_test(test_speed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
