/* SPDX-License-Identifier: Apache-2.0 */
/* bits_test.c - the bitset, and ranges against a plain array of flags, at 0 and 2^32-1, at their bound, and as text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/bits.h"

static void bitset(void **state)
{
	(void)state;
	struct bits b;
	bits_init(&b, 130);
	assert_true(bits_next(&b, 0) == SIZE_MAX);
	static const size_t set[] = { 0, 1, 63, 64, 127, 128, 129 };
	for (size_t i = 0; i < ARRAY_LEN(set); i++)
		bits_set(&b, set[i]);
	size_t at = 0;
	for (size_t i = bits_next(&b, 0); i != SIZE_MAX; i = bits_next(&b, i + 1))
		assert_int_equal(i, set[at++]);
	assert_int_equal(at, ARRAY_LEN(set));
	assert_int_equal(bits_total(&b), ARRAY_LEN(set));
	bits_clear(&b, 64);
	assert_false(bits_get(&b, 64));
	assert_true(bits_get(&b, 63));
	bits_clear_all(&b);
	assert_int_equal(bits_total(&b), 0);
	bits_release(&b);
	bits_init(&b, 0);
	assert_true(bits_next(&b, 0) == SIZE_MAX);
	bits_release(&b);
}

static uint64_t rng = 0x9e3779b97f4a7c15;
static uint32_t rnd(uint32_t below)
{
	rng = rng * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(rng >> 33) % below;
}

static void check_against(const struct ranges *r, const bool *model, uint32_t base, uint32_t count)
{
	uint64_t total = 0;
	uint32_t value = 0;
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(ranges_contains(r, base + i), model[i]);
		total += model[i];
	}
	assert_true(ranges_total(r) == total);
	for (size_t i = 0; i < r->count; i++) {
		assert_true(r->at[i].first <= r->at[i].last);
		assert_true(i == 0 || (uint64_t)r->at[i - 1].last + 1 < r->at[i].first); /* neither overlap nor touch */
	}
	bool more = ranges_next(r, 0, &value);
	for (uint32_t i = 0; i < count; i++)
		if (model[i]) {
			assert_true(more && value == base + i);
			more = value != UINT32_MAX && ranges_next(r, value + 1, &value);
		}
	assert_false(more);
}

static void random_steps(uint32_t base)
{
	bool model[64] = { false };
	struct ranges r;
	ranges_init(&r, 1000);
	for (int step = 0; step < 3000; step++) {
		uint32_t a = rnd(64), b = a + rnd(64 - a), most = a + rnd(4);
		b = b < most ? b : most < 64 ? most : 63;
		bool add = rnd(2);
		enum err e = add ? ranges_add(&r, base + a, base + b) : ranges_remove(&r, base + a, base + b);
		assert_int_equal(e, OK);
		for (uint32_t i = a; i <= b; i++)
			model[i] = add;
		check_against(&r, model, base, 64);
	}
	ranges_release(&r);
}

static void random_ranges(void **state)
{
	(void)state;
	random_steps(0);
	random_steps(1000);
	random_steps(UINT32_MAX - 63);
}

static void the_whole_world(void **state)
{
	(void)state;
	struct ranges r;
	uint32_t value;
	ranges_init(&r, 2);
	assert_int_equal(ranges_add(&r, 0, UINT32_MAX), OK);
	assert_true(ranges_total(&r) == (uint64_t)1 << 32);
	assert_int_equal(ranges_remove(&r, 5, 5), OK);
	assert_int_equal(ranges_remove(&r, 9, 9), ERR_LIMIT); /* three ranges */
	assert_true(ranges_contains(&r, 9) && !ranges_contains(&r, 5));
	assert_int_equal(ranges_remove(&r, 0, 0), OK);
	assert_int_equal(ranges_remove(&r, UINT32_MAX, UINT32_MAX), OK);
	assert_true(ranges_next(&r, 5, &value) && value == 6);
	assert_false(ranges_next(&r, UINT32_MAX, &value));
	assert_int_equal(ranges_add(&r, UINT32_MAX, UINT32_MAX), OK); /* touches: no new range */
	assert_int_equal(ranges_add(&r, 5, 5), OK);
	assert_int_equal(r.count, 1);
	assert_int_equal(ranges_remove(&r, 0, UINT32_MAX), OK);
	assert_int_equal(r.count, 0);
	ranges_release(&r);
}

static void the_bound(void **state)
{
	(void)state;
	struct ranges r;
	ranges_init(&r, 3);
	assert_int_equal(ranges_add(&r, 1, 1), OK);
	assert_int_equal(ranges_add(&r, 3, 3), OK);
	assert_int_equal(ranges_add(&r, 5, 5), OK);
	assert_int_equal(ranges_add(&r, 9, 9), ERR_LIMIT);
	assert_int_equal(ranges_add(&r, 2, 2), OK); /* joins two */
	assert_int_equal(ranges_add(&r, 9, 9), OK);
	assert_int_equal(r.count, 3);
	ranges_release(&r);
}

static void text(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out; /* out NULL: a syntax error */
		uint32_t star;
	} cases[] = {
		{ "1:5,7,9:12", "1:5,7,9:12", 0 },
		{ "1", "1", 0 },
		{ "5:1", "1:5", 0 },
		{ "9,8,7,1:3,2:5,6", "1:9", 0 },
		{ "3,3,3", "3", 0 },
		{ "4294967295", "4294967295", 0 },
		{ "4294967295,4294967294:4294967295,1", "1,4294967294:4294967295", 0 },
		{ "*", "17", 17 },
		{ "4:*", "4:17", 17 },
		{ "*:20", "17:20", 17 },
		{ "*", NULL, 0 },
		{ "", NULL, 0 },
		{ ",", NULL, 0 },
		{ "1,", NULL, 0 },
		{ ",1", NULL, 0 },
		{ "1,,2", NULL, 0 },
		{ "0", NULL, 0 },
		{ "01", NULL, 0 },
		{ "0:5", NULL, 0 },
		{ "1:", NULL, 0 },
		{ ":1", NULL, 0 },
		{ "1:2:3", NULL, 0 },
		{ "4294967296", NULL, 0 },
		{ "-1", NULL, 0 },
		{ "1 ,2", NULL, 0 },
		{ "a", NULL, 0 },
		{ "**", NULL, 5 },
	};
	struct ranges r;
	struct buf b;
	ranges_init(&r, 10);
	buf_init(&b, 1000);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(ranges_parse(&r, slice_str(cases[i].in), cases[i].star), cases[i].out ? OK : ERR_SYNTAX);
		buf_clear(&b);
		assert_true(ranges_format(&r, &b));
		assert_true(slice_eq(buf_slice(&b), slice_str(cases[i].out ? cases[i].out : "")));
	}
	assert_int_equal(ranges_parse(&r, SLICE_LIT("1,2,3,4,5,6,7,8,9,10,11"), 0), ERR_LIMIT);
	assert_int_equal(r.count, 0);
	buf_release(&b);
	ranges_release(&r);
}

static void text_above_the_buffer(void **state)
{
	(void)state;
	struct ranges r;
	struct buf b;
	ranges_init(&r, 10);
	buf_init(&b, 6);
	assert_int_equal(ranges_parse(&r, SLICE_LIT("10,20,30"), 0), OK);
	assert_true(buf_put(&b, "x", 1));
	assert_false(ranges_format(&r, &b));
	assert_true(slice_eq(buf_slice(&b), SLICE_LIT("x")));
	buf_release(&b);
	ranges_release(&r);
}

/* A hostile order must not cost more than a sort: 65,536 numbers, falling. */
static void falling_numbers_are_cheap(void **state)
{
	(void)state;
	struct buf b;
	struct ranges r;
	buf_init(&b, MIB(1));
	ranges_init(&r, 65536);
	for (uint32_t i = 65536; i > 0; i--)
		assert_true(buf_printf(&b, "%u%s", (unsigned)i * 2, i > 1 ? "," : ""));
	assert_int_equal(ranges_parse(&r, buf_slice(&b), 0), OK);
	assert_int_equal(r.count, 65536);
	assert_int_equal(r.at[0].first, 2);
	ranges_release(&r);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bitset),    cmocka_unit_test(random_ranges), cmocka_unit_test(the_whole_world),
		cmocka_unit_test(the_bound), cmocka_unit_test(text),          cmocka_unit_test(text_above_the_buffer),
		cmocka_unit_test(falling_numbers_are_cheap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
