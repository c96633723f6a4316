/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view_private.h - the tree of a folder's versions, for rows.c and view.c only.
 *
 * A node's slots say where each child ends (so that an index finds its child) and at which UID it begins (so that a UID
 * does).  `ends` count messages of this version; `uid_first` is a lower bound of the child's rows and above those of the
 * child before.
 */
#ifndef PENFOLD_STORAGE_VIEW_PRIVATE_H
#define PENFOLD_STORAGE_VIEW_PRIVATE_H

#include "storage/view.h"

#include <string.h>

struct page {
	uint32_t refs; /* leaves and held rows */
	uint16_t used, cap;
	uint64_t modseq_max; /* of all its rows: not below any */
	struct row *rows;    /* ascending UIDs; moves when the page grows */
};

struct leaf {
	uint32_t refs;
	uint16_t count;    /* bits set */
	uint16_t words;
	struct page *page;
	uint64_t bits[];   /* which of the page's rows are in */
};

struct slot {
	void *child; /* struct leaf in a branch, struct branch in a version */
	uint32_t end;
	uint32_t uid_first;
};

struct branch {
	uint32_t refs;
	uint16_t n, cap;
	struct slot slots[];
};

struct version {
	uint32_t refs;
	uint32_t count; /* messages */
	uint64_t bytes; /* sum of their sizes */
	uint32_t n, cap;
	struct slot slots[];
};

struct held {
	struct link link;
	uint64_t number; /* views up to this one may show it */
	struct page *page;
	uint32_t slot;
};

void version_unref(struct version *v);
void page_unref(struct page *p);

/* Eight hex digits, lower case: nibbles are spread over bytes, then all are turned into digits at once. */
static inline void put_hex8(char out[8], uint32_t value)
{
	uint64_t x = value;
	x = ((x & 0xffff0000u) << 16) | (x & 0xffffu);
	x = ((x & 0x0000ff000000ff00ull) << 8) | (x & 0x000000ff000000ffull);
	x = ((x & 0x00f000f000f000f0ull) << 4) | (x & 0x000f000f000f000full);
	uint64_t letters = ((x + 0x0606060606060606ull) >> 4) & 0x0101010101010101ull;
	x += 0x3030303030303030ull + letters * ('a' - '9' - 1);
	x = __builtin_bswap64(x);
	memcpy(out, &x, 8);
}

/* uidl.c */
void rows_uidl_forget(struct rows *r, uint32_t uid);
void rows_uidl_release(struct rows *r);
size_t rows_uidl_memory_bytes(const struct rows *r);

/* The first slot whose end is above the index; the index must be below the last end. */
static inline uint32_t slot_by_index(const struct slot *slots, uint32_t n, uint32_t index)
{
	uint32_t low = 0, high = n - 1;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (slots[mid].end > index)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static inline bool leaf_has(const struct leaf *l, uint32_t slot)
{
	return slot / 64 < l->words && (l->bits[slot / 64] >> (slot % 64) & 1);
}

/* The first set bit at or behind `slot`, or UINT32_MAX. */
static inline uint32_t leaf_next(const struct leaf *l, uint32_t slot)
{
	for (uint32_t w = slot / 64; w < l->words; w++) {
		uint64_t bits = l->bits[w];
		if (w == slot / 64)
			bits &= ~0ull << (slot % 64);
		if (bits)
			return 64 * w + (uint32_t)__builtin_ctzll(bits);
	}
	return UINT32_MAX;
}

/* The row slot of the leaf's k-th message (k < count). */
static inline uint32_t leaf_select(const struct leaf *l, uint32_t k)
{
	if (l->count == l->page->used)
		return k; /* all are in */
	uint32_t w = 0;
	for (;; w++) {
		uint32_t ones = (uint32_t)__builtin_popcountll(l->bits[w]);
		if (k < ones)
			break;
		k -= ones;
	}
	uint64_t bits = l->bits[w];
	for (; k > 0; k--)
		bits &= bits - 1;
	return 64 * w + (uint32_t)__builtin_ctzll(bits);
}

/* How many messages of the leaf lie below a row slot. */
static inline uint32_t leaf_rank(const struct leaf *l, uint32_t slot)
{
	uint32_t k = 0;
	for (uint32_t w = 0; w < slot / 64; w++)
		k += (uint32_t)__builtin_popcountll(l->bits[w]);
	if (slot % 64)
		k += (uint32_t)__builtin_popcountll(l->bits[slot / 64] & ((1ull << (slot % 64)) - 1));
	return k;
}

#endif
