/* SPDX-License-Identifier: Apache-2.0 */
/* bits.c - see bits.h. */
#include "core/base/bits.h"

#include <stdlib.h>

/* ---- bitset ---- */

static size_t word_count(const struct bits *b) { return (b->count + 63) / 64; }

void bits_init(struct bits *b, size_t count)
{
	b->count = count;
	b->words = xcalloc(word_count(b), sizeof(*b->words));
}

void bits_release(struct bits *b)
{
	free(b->words);
	*b = (struct bits){ 0 };
}

void bits_clear_all(struct bits *b)
{
	if (b->count)
		memset(b->words, 0, word_count(b) * sizeof(*b->words));
}

size_t bits_total(const struct bits *b)
{
	size_t total = 0;
	for (size_t i = 0; i < word_count(b); i++)
		total += (size_t)__builtin_popcountll(b->words[i]);
	return total;
}

size_t bits_next(const struct bits *b, size_t from)
{
	if (from >= b->count)
		return SIZE_MAX;
	size_t i = from / 64;
	uint64_t word = b->words[i] & (~(uint64_t)0 << (from % 64));
	while (!word) {
		if (++i == word_count(b))
			return SIZE_MAX;
		word = b->words[i];
	}
	return i * 64 + (size_t)__builtin_ctzll(word);
}

/* ---- ranges ---- */

void ranges_init(struct ranges *r, size_t max) { *r = (struct ranges){ .max = max }; }

void ranges_release(struct ranges *r)
{
	free(r->at);
	ranges_init(r, r->max);
}

/* The first range whose last number is >= value, or count. */
static size_t find(const struct ranges *r, uint32_t value)
{
	size_t low = 0, high = r->count;
	if (high && r->at[high - 1].last < value)
		return high; /* the common case: larger than all */
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (r->at[mid].last < value)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool grow(struct ranges *r)
{
	if (r->count == r->max)
		return false;
	if (r->count == r->cap) {
		r->cap = min_size(r->max, max_size(4, r->cap * 2));
		r->at = xrealloc(r->at, r->cap * sizeof(*r->at));
	}
	return true;
}

static bool insert(struct ranges *r, size_t i, struct range range)
{
	if (!grow(r))
		return false;
	memmove(r->at + i + 1, r->at + i, (r->count - i) * sizeof(*r->at));
	r->at[i] = range;
	r->count++;
	return true;
}

static void cut(struct ranges *r, size_t i, size_t count)
{
	if (!count)
		return;
	memmove(r->at + i, r->at + i + count, (r->count - i - count) * sizeof(*r->at));
	r->count -= count;
}

enum err ranges_add(struct ranges *r, uint32_t first, uint32_t last)
{
	ASSERT(first <= last);
	/* all ranges that overlap or touch the new one become one with it */
	size_t i = find(r, first ? first - 1 : 0), end = i;
	while (end < r->count && (last == UINT32_MAX || r->at[end].first <= last + 1))
		end++;
	if (i == end)
		return insert(r, i, (struct range){ first, last }) ? OK : ERR_LIMIT;
	if (r->at[i].first > first)
		r->at[i].first = first;
	if (r->at[end - 1].last > last)
		last = r->at[end - 1].last;
	r->at[i].last = last;
	cut(r, i + 1, end - i - 1);
	return OK;
}

enum err ranges_remove(struct ranges *r, uint32_t first, uint32_t last)
{
	ASSERT(first <= last);
	size_t i = find(r, first);
	if (i < r->count && r->at[i].first < first) {
		struct range *left = &r->at[i];
		if (left->last > last) { /* out of the middle */
			if (!insert(r, i + 1, (struct range){ last + 1, left->last }))
				return ERR_LIMIT;
			r->at[i].last = first - 1;
			return OK;
		}
		left->last = first - 1;
		i++;
	}
	size_t end = i;
	while (end < r->count && r->at[end].last <= last)
		end++;
	if (end < r->count && r->at[end].first <= last)
		r->at[end].first = last + 1;
	cut(r, i, end - i);
	return OK;
}

bool ranges_contains(const struct ranges *r, uint32_t value)
{
	size_t i = find(r, value);
	return i < r->count && r->at[i].first <= value;
}

uint64_t ranges_total(const struct ranges *r)
{
	uint64_t total = 0;
	for (size_t i = 0; i < r->count; i++)
		total += (uint64_t)r->at[i].last - r->at[i].first + 1;
	return total;
}

bool ranges_next(const struct ranges *r, uint32_t from, uint32_t *value_out)
{
	size_t i = find(r, from);
	if (i == r->count)
		return false;
	*value_out = r->at[i].first > from ? r->at[i].first : from;
	return true;
}

/* ---- text ---- */

static bool parse_number(struct slice s, uint32_t star, uint32_t *value_out)
{
	uint64_t value = 0;
	if (s.len == 1 && s.ptr[0] == '*') {
		*value_out = star;
		return star != 0;
	}
	if (!slice_u64(s, UINT32_MAX, &value) || s.ptr[0] == '0')
		return false;
	*value_out = (uint32_t)value;
	return true;
}

static bool parse_range(struct slice s, uint32_t star, struct range *out)
{
	size_t colon = slice_find(s, ':');
	uint32_t a = 0, b = 0;
	if (!parse_number(slice_upto(s, colon), star, &a))
		return false;
	b = a;
	if (colon != SIZE_MAX && !parse_number(slice_from(s, colon + 1), star, &b))
		return false;
	*out = a <= b ? (struct range){ a, b } : (struct range){ b, a };
	return true;
}

static int by_first(const void *a, const void *b)
{
	const struct range *x = a, *y = b;
	return x->first < y->first ? -1 : x->first > y->first;
}

/* Sorts and joins what came in any order: one sort, so that a hostile order costs no more than a friendly one. */
static void normalise(struct ranges *r)
{
	if (r->count < 2)
		return;
	qsort(r->at, r->count, sizeof(*r->at), by_first);
	size_t to = 0;
	for (size_t i = 1; i < r->count; i++) {
		struct range *into = &r->at[to];
		if (into->last == UINT32_MAX || r->at[i].first <= into->last + 1)
			into->last = r->at[i].last > into->last ? r->at[i].last : into->last;
		else
			r->at[++to] = r->at[i];
	}
	r->count = to + 1;
}

enum err ranges_parse(struct ranges *r, struct slice text, uint32_t star)
{
	ranges_clear(r);
	if (text.len == 0 || text.ptr[text.len - 1] == ',')
		return ERR_SYNTAX;
	for (struct slice word; slice_next(&text, ',', &word);) {
		struct range range = { 0, 0 };
		enum err e = parse_range(word, star, &range) ? OK : ERR_SYNTAX;
		if (e == OK && !insert(r, r->count, range))
			e = ERR_LIMIT;
		if (e != OK) {
			ranges_clear(r);
			return e;
		}
	}
	normalise(r);
	return OK;
}

bool ranges_format(const struct ranges *r, struct buf *out)
{
	size_t was = out->len;
	for (size_t i = 0; i < r->count; i++) {
		char text[24];
		size_t len = 0;
		if (i)
			text[len++] = ',';
		len += put_u64(text + len, r->at[i].first);
		if (r->at[i].last != r->at[i].first) {
			text[len++] = ':';
			len += put_u64(text + len, r->at[i].last);
		}
		if (!buf_put(out, text, len)) {
			out->len = was;
			return false;
		}
	}
	return true;
}
