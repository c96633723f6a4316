/* SPDX-License-Identifier: Apache-2.0 */
/* mutf7_fuzz.c - names: what decodes is written back to the same bytes, what encodes is read back, and each name has one spelling. */
#include "net/imap/imap_parse.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct slice in = slice_of(data, size), out, back;
	arena_init(&arena, MIB(4));
	if (imap_mutf7_decode(&arena, in, &out)) {
		ASSERT(imap_utf8_good(out));
		ASSERT(imap_mutf7_encode(&arena, out, &back) && slice_eq(back, in));
	}
	if (imap_utf8_good(in) && imap_mutf7_encode(&arena, in, &out))
		ASSERT(imap_mutf7_decode(&arena, out, &back) && slice_eq(back, in));
	if (!imap_name_read(&arena, in, size & 1, &out))
		ASSERT(imap_name_good(out));
	arena_release(&arena);
	return 0;
}
