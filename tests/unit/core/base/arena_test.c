/* SPDX-License-Identifier: Apache-2.0 */
/* arena_test.c - the maximum, alignment, reuse, and (under AddressSanitizer) that what is free is poisoned. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/arena.h"
#include "core/base/limits.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define WITH_ASAN 1
#endif

static void alignment_and_contents(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, MIB(1));
	unsigned char *all[200];
	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		all[i] = arena_alloc(&a, i * 7);
		assert_non_null(all[i]);
		assert_int_equal((uintptr_t)all[i] % 16, 0);
		memset(all[i], (int)i, i * 7);
	}
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		for (size_t k = 0; k < i * 7; k++)
			assert_int_equal(all[i][k], i);
	arena_release(&a);
	assert_int_equal(a.used_bytes, 0);
}

static void the_maximum(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, 1024);
	assert_null(arena_alloc(&a, 1025));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 15));
	assert_non_null(arena_alloc(&a, 1008));
	assert_null(arena_alloc(&a, 17));
	assert_non_null(arena_alloc(&a, 1));
	assert_null(arena_alloc(&a, 0)); /* even nothing needs an address of its own */
	assert_null(arena_copy(&a, SLICE_LIT("")));
	assert_null(arena_slice(&a, SLICE_LIT("x")).ptr);
	assert_null(arena_printf(&a, "x").ptr);
	arena_reset(&a);
	assert_non_null(arena_alloc(&a, 1024));
	arena_release(&a);
}

static void small_at_birth(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, MIB(1));
	assert_null(a.chunk);
	assert_non_null(arena_alloc(&a, 10));
	assert_true((size_t)(a.end - a.at) < ARENA_FIRST_CHUNK_BYTES);
	arena_release(&a);
}

static void large_requests_leave_the_rest_in_use(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, MIB(8));
	char *before = arena_alloc(&a, 16);
	assert_non_null(arena_alloc(&a, MIB(1)));
	char *after = arena_alloc(&a, 16);
	assert_ptr_equal(after, before + 16);
	arena_release(&a);
}

static void reset_keeps_little(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, MIB(8));
	assert_non_null(arena_alloc(&a, MIB(1))); /* first of all, so the current chunk */
	arena_reset(&a);
	assert_null(a.chunk);
	char *first = arena_alloc(&a, 100);
	arena_reset(&a);
	assert_ptr_equal(arena_alloc(&a, 100), first);
	for (int i = 0; i < 1000; i++)
		assert_non_null(arena_alloc(&a, 1000));
	arena_reset(&a);
	assert_int_equal(a.used_bytes, 0);
	assert_true((size_t)(a.end - a.at) <= ARENA_CHUNK_BYTES_MAX);
	arena_release(&a);
}

static void copies(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a, KIB(4));
	assert_string_equal(arena_copy(&a, slice_of("abc", 2)), "ab");
	assert_string_equal(arena_copy(&a, slice_of(NULL, 0)), "");
	struct slice s = arena_slice(&a, SLICE_LIT("a\0b"));
	assert_true(slice_eq(s, SLICE_LIT("a\0b")));
	assert_non_null(arena_slice(&a, slice_of(NULL, 0)).ptr);
	s = arena_printf(&a, "%05d", 42);
	assert_true(slice_eq(s, SLICE_LIT("00042")));
	assert_int_equal(s.ptr[s.len], 0);
	const char *z = arena_zalloc(&a, 100);
	for (int i = 0; i < 100; i++)
		assert_int_equal(z[i], 0);
	arena_release(&a);
}

static void poisoned_when_free(void **state)
{
	(void)state;
#ifdef WITH_ASAN
	struct arena a;
	arena_init(&a, KIB(4));
	char *p = arena_alloc(&a, 10);
	assert_false(__asan_address_is_poisoned(p + 9));
	assert_true(__asan_address_is_poisoned(p + 10));
	assert_true(__asan_address_is_poisoned(p + 16));
	arena_reset(&a);
	assert_true(__asan_address_is_poisoned(p));
	arena_release(&a);
#else
	skip();
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(alignment_and_contents),
		cmocka_unit_test(the_maximum),
		cmocka_unit_test(small_at_birth),
		cmocka_unit_test(large_requests_leave_the_rest_in_use),
		cmocka_unit_test(reset_keeps_little),
		cmocka_unit_test(copies),
		cmocka_unit_test(poisoned_when_free),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
