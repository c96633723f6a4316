/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ranges_fuzz.c - sequence sets: any text is refused or becomes ascending ranges whose text says the same.
 *
 * The first byte is the largest number in use (`*`); then the text.  What was parsed is also built again by ranges_add in
 * reverse order and taken apart by ranges_remove.
 */
#include "core/base/bits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_order(const struct ranges *r)
{
	for (size_t i = 0; i < r->count; i++)
		ASSERT(r->at[i].first <= r->at[i].last && (i == 0 || (uint64_t)r->at[i - 1].last + 1 < r->at[i].first));
}

static void check_text(const struct ranges *r)
{
	struct buf text;
	struct ranges again;
	buf_init(&text, MIB(1));
	ranges_init(&again, 1000);
	ASSERT(ranges_format(r, &text));
	ASSERT(ranges_parse(&again, buf_slice(&text), 0) == OK);
	ASSERT(again.count == r->count && memcmp(again.at, r->at, r->count * sizeof(*r->at)) == 0);
	ranges_release(&again);
	buf_release(&text);
}

static void check_steps(const struct ranges *r)
{
	struct ranges again;
	ranges_init(&again, 1000);
	for (size_t i = r->count; i > 0; i--)
		ASSERT(ranges_add(&again, r->at[i - 1].first, r->at[i - 1].last) == OK);
	ASSERT(ranges_total(&again) == ranges_total(r));
	for (size_t i = 0; i < r->count; i++) {
		uint32_t value = 0;
		ASSERT(ranges_next(&again, 0, &value) && value == r->at[i].first);
		ASSERT(ranges_remove(&again, r->at[i].first, r->at[i].last) == OK);
		check_order(&again);
	}
	ASSERT(again.count == 0);
	ranges_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct ranges r;
	if (size == 0)
		return 0;
	ranges_init(&r, 1000);
	if (ranges_parse(&r, slice_of(data + 1, size - 1), data[0]) == OK) {
		ASSERT(r.count > 0);
		check_order(&r);
		check_text(&r);
		check_steps(&r);
	} else {
		ASSERT(r.count == 0);
	}
	ranges_release(&r);
	return 0;
}
