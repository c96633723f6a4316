/* SPDX-License-Identifier: Apache-2.0 */
/* seqset_fuzz.c - sequence sets: read, written, read again they are the same; bounds hold whatever the text. */
#include "core/base/bits.h"
#include "core/base/limits.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ranges r, again;
	struct buf text;
	ranges_init(&r, IMAP_SET_RANGES_MAX);
	ranges_init(&again, IMAP_SET_RANGES_MAX);
	buf_init(&text, MIB(1));
	if (ranges_parse(&r, slice_of(data, size), 1000) == OK && r.count) {
		ASSERT(ranges_format(&r, &text));
		ASSERT(ranges_parse(&again, buf_slice(&text), 0) == OK && again.count == r.count);
		for (size_t i = 0; i < r.count; i++) {
			ASSERT(r.at[i].first == again.at[i].first && r.at[i].last == again.at[i].last && r.at[i].first <= r.at[i].last);
			ASSERT(i == 0 || r.at[i - 1].last + 1 < r.at[i].first);
		}
	}
	buf_release(&text);
	ranges_release(&r);
	ranges_release(&again);
	return 0;
}
