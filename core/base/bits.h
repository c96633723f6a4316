/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bits.h - sets of small numbers: a plain bitset, and a set of u32 kept as ascending ranges ("1:5,7,9:12").
 *
 * The bitset is for dense numbers with a known end (message numbers of a session's view).  The ranges are for UIDs: sets that
 * are mostly runs, bounded by how many runs there are.  Both own their memory (xmalloc) until released.  All calls complete
 * now; what can fail says so.
 */
#ifndef PENFOLD_CORE_BASE_BITS_H
#define PENFOLD_CORE_BASE_BITS_H

#include "core/base/bytes.h"
#include "core/base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- a bitset of `count` bits, all clear at birth ---- */
struct bits {
	uint64_t *words;
	size_t count;
};
void bits_init(struct bits *b, size_t count);
void bits_release(struct bits *b);
void bits_clear_all(struct bits *b);
static inline bool bits_get(const struct bits *b, size_t i)
{
	ASSERT(i < b->count);
	return b->words[i / 64] >> (i % 64) & 1;
}
static inline void bits_set(struct bits *b, size_t i)
{
	ASSERT(i < b->count);
	b->words[i / 64] |= (uint64_t)1 << (i % 64);
}
static inline void bits_clear(struct bits *b, size_t i)
{
	ASSERT(i < b->count);
	b->words[i / 64] &= ~((uint64_t)1 << (i % 64));
}
size_t bits_total(const struct bits *b); /* how many are set */
/* The first set bit at or behind `from`, or SIZE_MAX:  for (i = bits_next(b, 0); i != SIZE_MAX; i = bits_next(b, i + 1)) */
size_t bits_next(const struct bits *b, size_t from);

/* ---- ascending ranges of u32, neither overlapping nor touching ---- */
struct range {
	uint32_t first, last; /* both inside; first <= last */
};
struct ranges {
	struct range *at;
	size_t count, cap, max;
};
void ranges_init(struct ranges *r, size_t max); /* `max` ranges at most */
void ranges_release(struct ranges *r);
static inline void ranges_clear(struct ranges *r) { r->count = 0; }

/* first <= last.  OK or ERR_LIMIT (one range too many; nothing changed).  Adding in ascending order is O(1). */
enum err ranges_add(struct ranges *r, uint32_t first, uint32_t last) MUST_USE;
/* Also ERR_LIMIT: taking the middle out of a range makes two. */
enum err ranges_remove(struct ranges *r, uint32_t first, uint32_t last) MUST_USE;
bool ranges_contains(const struct ranges *r, uint32_t value);
uint64_t ranges_total(const struct ranges *r); /* how many numbers */
/* The smallest member >= from; false when there is none. */
bool ranges_next(const struct ranges *r, uint32_t from, uint32_t *value_out);

/*
 * "1:5,7,12:9": numbers 1 .. 2^32-1 without leading zeros, in any order, overlaps allowed, a pair in either order (RFC 9051
 * sequence-set; `*` is `star`, the largest number in use; star 0: `*` is refused).  Replaces the set.
 * ERR_SYNTAX, or ERR_LIMIT for more than `max` ranges before they are joined; the set is then empty.
 */
enum err ranges_parse(struct ranges *r, struct slice text, uint32_t star) MUST_USE;
/* Appends the text of the set (nothing for an empty one); false, and nothing appended, above the buffer's maximum. */
bool ranges_format(const struct ranges *r, struct buf *out) MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
