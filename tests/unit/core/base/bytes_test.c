/* SPDX-License-Identifier: Apache-2.0 */
/* bytes_test.c - slices at their edges, numbers at 2^64, the buffer at its maximum; errors' words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/rc.h"

#include <errno.h>
#include <stdlib.h>

#define NONE slice_of(NULL, 0)

static void numbers_up_to_the_last(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t max, value;
		bool ok;
	} cases[] = {
		{ "0", UINT64_MAX, 0, true },
		{ "007", UINT64_MAX, 7, true },
		{ "18446744073709551615", UINT64_MAX, UINT64_MAX, true },
		{ "18446744073709551616", UINT64_MAX, 0, false },
		{ "18446744073709551620", UINT64_MAX, 0, false },
		{ "184467440737095516150", UINT64_MAX, 0, false },
		{ "99999999999999999999999999", UINT64_MAX, 0, false },
		{ "00000000000000000000000000000000000000000001", UINT64_MAX, 1, true },
		{ "4294967295", UINT32_MAX, UINT32_MAX, true },
		{ "4294967296", UINT32_MAX, 0, false },
		{ "", UINT64_MAX, 0, false },
		{ "-1", UINT64_MAX, 0, false },
		{ "+1", UINT64_MAX, 0, false },
		{ " 1", UINT64_MAX, 0, false },
		{ "1 ", UINT64_MAX, 0, false },
		{ "1a", UINT64_MAX, 0, false },
		{ "\xb1", UINT64_MAX, 0, false },
		{ "1", 0, 0, false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		uint64_t value = 4711;
		assert_int_equal(slice_u64(slice_str(cases[i].text), cases[i].max, &value), cases[i].ok);
		assert_true(value == (cases[i].ok ? cases[i].value : 4711));
	}
	uint64_t value;
	assert_false(slice_u64(NONE, UINT64_MAX, &value));
	assert_false(slice_u64(slice_of("1\0", 2), UINT64_MAX, &value));
}

static void digits(void **state)
{
	(void)state;
	char out[21] = { 0 };
	assert_int_equal(put_u64(out, 0), 1);
	assert_string_equal(out, "0");
	assert_int_equal(put_u64(out, UINT64_MAX), 20);
	assert_string_equal(out, "18446744073709551615");
	char hex[9] = { 0 };
	put_hex32(hex, 0x0123abcd);
	assert_string_equal(hex, "0123abcd");
}

static void comparing(void **state)
{
	(void)state;
	assert_true(slice_eq(NONE, SLICE_LIT("")));
	assert_true(slice_eq_nocase(SLICE_LIT("RetR"), SLICE_LIT("rETr")));
	assert_false(slice_eq_nocase(SLICE_LIT("@"), SLICE_LIT("`"))); /* 0x20 apart, but no letters */
	assert_false(slice_eq_nocase(SLICE_LIT("["), SLICE_LIT("{")));
	assert_false(slice_eq_nocase(SLICE_LIT("\xc4"), SLICE_LIT("\xe4")));
	assert_true(slice_starts_nocase(SLICE_LIT("UIDL 1"), SLICE_LIT("uidl")));
	assert_false(slice_starts_nocase(SLICE_LIT("UID"), SLICE_LIT("uidl")));
	assert_true(slice_starts_nocase(NONE, NONE));
	assert_true(slice_cmp(SLICE_LIT("a"), SLICE_LIT("ab")) < 0);
	assert_true(slice_cmp(SLICE_LIT("\xff"), SLICE_LIT("a")) > 0);
	assert_true(slice_cmp(SLICE_LIT("ab"), SLICE_LIT("a")) > 0);
	assert_int_equal(slice_cmp(NONE, SLICE_LIT("")), 0);
	assert_true(slice_eq_consttime(SLICE_LIT("secret"), SLICE_LIT("secret")));
	assert_false(slice_eq_consttime(SLICE_LIT("secret"), SLICE_LIT("secres")));
	assert_false(slice_eq_consttime(SLICE_LIT("secret"), SLICE_LIT("secre")));
	assert_true(slice_eq_consttime(NONE, NONE));
}

static void cutting(void **state)
{
	(void)state;
	struct slice s = SLICE_LIT("a@b@c");
	assert_int_equal(slice_find(s, '@'), 1);
	assert_int_equal(slice_rfind(s, '@'), 3);
	assert_true(slice_find(s, 'x') == SIZE_MAX && slice_rfind(NONE, 'x') == SIZE_MAX && slice_find(NONE, 0) == SIZE_MAX);
	assert_true(slice_eq(slice_from(s, 4), SLICE_LIT("c")));
	assert_int_equal(slice_from(s, 6).len, 0);
	assert_int_equal(slice_from(s, SIZE_MAX).len, 0);
	assert_int_equal(slice_from(NONE, 3).len, 0);
	assert_true(slice_eq(slice_upto(s, SIZE_MAX), s));
	assert_true(slice_eq(slice_trim(SLICE_LIT(" \t a b\t ")), SLICE_LIT("a b")));
	assert_int_equal(slice_trim(SLICE_LIT("  ")).len, 0);
	assert_true(slice_eq(slice_trim(SLICE_LIT("\r\n")), SLICE_LIT("\r\n")));
}

static void words(void **state)
{
	(void)state;
	struct slice rest = SLICE_LIT("a,,b,"), word;
	static const char *const expected[] = { "a", "", "b" };
	for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
		assert_true(slice_next(&rest, ',', &word));
		assert_true(slice_eq(word, slice_str(expected[i])));
	}
	assert_false(slice_next(&rest, ',', &word));
	rest = NONE;
	assert_false(slice_next(&rest, ',', &word));
}

static void copying(void **state)
{
	(void)state;
	char *copy = slice_dup(slice_of("a\0b", 3));
	assert_string_equal(copy, "a?b");
	free(copy);
	copy = slice_dup(NONE);
	assert_string_equal(copy, "");
	free(copy);
}

static void little_endian(void **state)
{
	(void)state;
	unsigned char at[9] = { 0 };
	put_le64(at + 1, 0x0102030405060708);
	assert_int_equal(at[1], 8);
	assert_int_equal(at[8], 1);
	assert_int_equal(get_le32(at + 1), 0x05060708);
	assert_int_equal(get_le16(at + 3), 0x0506);
	assert_true(get_le64(at + 1) == 0x0102030405060708);
}

static void buffer_at_its_maximum(void **state)
{
	(void)state;
	struct buf b;
	buf_init(&b, 100);
	assert_true(buf_put(&b, NULL, 0));
	assert_true(buf_put(&b, "0123456789", 10));
	assert_true(buf_printf(&b, "%s-%d", "x", 42));
	assert_true(slice_eq(buf_slice(&b), SLICE_LIT("0123456789x-42")));
	char eighty_six[86];
	memset(eighty_six, 'y', sizeof(eighty_six));
	assert_false(buf_printf(&b, "%.86s!", eighty_six));
	assert_int_equal(b.len, 14);
	assert_true(buf_put(&b, eighty_six, 86)); /* the very last byte */
	assert_int_equal(b.len, 100);
	assert_false(buf_put(&b, "z", 1));
	assert_null(buf_room(&b, 1));
	assert_null(buf_room(&b, SIZE_MAX));
	assert_non_null(buf_room(&b, 0));
	assert_true(buf_printf(&b, "%s", ""));
	buf_clear(&b);
	assert_true(buf_printf(&b, "%.86s%s", eighty_six, "01234567890123")); /* its NUL needs no room */
	assert_int_equal(b.len, 100);
	buf_release(&b);
	assert_true(buf_put(&b, "again", 5));
	buf_release(&b);
}

static void outcomes(void **state)
{
	(void)state;
	for (int e = 0; e < ERR_COUNT; e++) {
		assert_true(strlen(err_name((enum err)e)) > 1);
		for (int f = 0; f < e; f++)
			assert_string_not_equal(err_name((enum err)e), err_name((enum err)f));
	}
	assert_int_equal(err_from_errno(0), OK);
	assert_int_equal(err_from_errno(ENOSPC), ERR_FULL);
	assert_int_equal(err_from_errno(EDQUOT), ERR_FULL);
	assert_int_equal(err_from_errno(EIO), ERR_IO);
	assert_int_equal(err_from_errno(ESTALE), ERR_FENCED);
	assert_int_equal(err_from_errno(EPIPE), ERR_CLOSED);
	assert_int_equal(err_from_errno(ENOENT), ERR_NOT_FOUND);
	assert_int_equal(err_from_errno(123456), ERR_IO);
}

static void counting_references(void **state)
{
	(void)state;
	struct rc r;
	rc_init(&r);
	rc_get(&r);
	assert_int_equal(rc_count(&r), 2);
	assert_false(rc_put(&r));
	assert_true(rc_put(&r));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_up_to_the_last), cmocka_unit_test(digits),
		cmocka_unit_test(comparing),              cmocka_unit_test(cutting),
		cmocka_unit_test(words),                  cmocka_unit_test(copying),
		cmocka_unit_test(little_endian),          cmocka_unit_test(buffer_at_its_maximum),
		cmocka_unit_test(outcomes),               cmocka_unit_test(counting_references),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
