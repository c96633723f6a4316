/* SPDX-License-Identifier: Apache-2.0 */
/* hash_test.c - XXH3's published values (they are on disk), and that pieces give the same as the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/hash.h"

#include <stdlib.h>

/* The sanity checks of the XXH3 specification hash a buffer made like this. */
static void fill(unsigned char *out, size_t bytes)
{
	uint64_t gen = 2654435761u;
	for (size_t i = 0; i < bytes; i++) {
		out[i] = (unsigned char)(gen >> 56);
		gen *= 11400714785074694797u;
	}
}

static void published_values(void **state)
{
	(void)state;
	static const uint64_t seed64 = 0x9e3779b185ebca8d; /* PRIME64 of the specification's tests */
	unsigned char bytes[2367];
	fill(bytes, sizeof(bytes));
	assert_true(hash64(slice_of(NULL, 0), 0) == 0x2d06800538d394c2);
	assert_true(hash64(slice_of(bytes, 0), seed64) == 0xa8a6b918b2f0364a);
	assert_true(hash64(slice_of(bytes, 1), 0) == 0xc44bdff4074eecdb);
	assert_true(hash64(slice_of(bytes, 1), seed64) == 0x032be332dd766ef8);
	struct hash128 h = hash128(slice_of(bytes, 0), 0);
	assert_true(h.lo == 0x6001c324468d497f && h.hi == 0x99aa06d3014798d8);
}

static void pieces(void **state)
{
	(void)state;
	static const size_t sizes[] = { 0, 1, 3, 16, 17, 128, 129, 240, 241, 256, 1024, 5000 };
	unsigned char *bytes = malloc(5000);
	struct hash_stream *h = malloc(sizeof(*h) + 1);
	assert_non_null(bytes);
	assert_non_null(h);
	fill(bytes, 5000);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (size_t step = 1; step <= sizes[i] + 1; step = step * 3 + 1) {
			hash_init(h, 12345);
			for (size_t at = 0; at < sizes[i]; at += step) {
				hash_add(h, slice_of(bytes + at, min_size(step, sizes[i] - at)));
				(void)hash_sum64(h); /* asking does not end it */
			}
			assert_true(hash_sum64(h) == hash64(slice_of(bytes, sizes[i]), 12345));
			assert_true(hash128_eq(hash_sum128(h), hash128(slice_of(bytes, sizes[i]), 12345)));
		}
	assert_true(hash64(slice_of(bytes, 100), 1) != hash64(slice_of(bytes, 100), 2));
	free(h);
	free(bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(published_values), cmocka_unit_test(pieces) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
