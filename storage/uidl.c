/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uidl.c - unique ids of POP3: the formula, and the literals that an import brought along (invariant 6).
 *
 * Literals are few or none, so they live beside the rows: an array by UID, and an index by text, which an import of a large
 * folder needs to find doubles.  The index holds UIDs, which stay true when the array moves.
 */
#include "storage/view_private.h"

#include "core/base/hash.h"
#include "core/run/clock.h"

#include <stdlib.h>

#define INDEX_FREE 0u
#define INDEX_LEFT UINT32_MAX /* never a UID of ours: the last one is not given out */

struct literal {
	uint32_t uid;
	uint32_t len;
	char *text;
};

struct literals {
	struct literal *at; /* ascending UIDs */
	size_t count, cap;
	uint32_t *index; /* by text: UIDs, open addressing */
	size_t index_size, index_used; /* a power of two; used counts those that left, too */
	uint64_t seed;
};

void uidl_formula(uint32_t uid, uint32_t uidvalidity, char out[UIDL_FORMULA_BYTES])
{
	put_hex8(out, uid);
	put_hex8(out + 8, uidvalidity);
}

/* ---- the array by UID ---- */

static size_t literal_lower(const struct literals *l, uint32_t uid)
{
	size_t low = 0, high = l->count;
	if (high > 0 && l->at[high - 1].uid < uid)
		return high;
	while (low < high) {
		size_t mid = (low + high) / 2;
		if (l->at[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static struct literal *literal_find(const struct literals *l, uint32_t uid)
{
	size_t i = literal_lower(l, uid);
	return i < l->count && l->at[i].uid == uid ? &l->at[i] : NULL;
}

struct slice rows_uidl(const struct rows *r, uint32_t uid)
{
	const struct literal *found = r->literals ? literal_find(r->literals, uid) : NULL;
	return found ? slice_of(found->text, found->len) : slice_of(NULL, 0);
}

/* ---- the index by text ---- */

static size_t index_home(const struct literals *l, struct slice text)
{
	return (size_t)hash64(text, l->seed) & (l->index_size - 1);
}

/* The slot that names the literal with this text, or SIZE_MAX. */
static size_t index_find(const struct literals *l, struct slice text)
{
	if (l->index_size == 0)
		return SIZE_MAX;
	for (size_t i = index_home(l, text); l->index[i] != INDEX_FREE; i = (i + 1) & (l->index_size - 1)) {
		const struct literal *one = l->index[i] == INDEX_LEFT ? NULL : literal_find(l, l->index[i]);
		if (one && slice_eq(text, slice_of(one->text, one->len)))
			return i;
	}
	return SIZE_MAX;
}

static void index_put(struct literals *l, const struct literal *one)
{
	size_t i = index_home(l, slice_of(one->text, one->len));
	while (l->index[i] != INDEX_FREE)
		i = (i + 1) & (l->index_size - 1);
	l->index[i] = one->uid;
	l->index_used++;
}

static void index_room(struct literals *l)
{
	if (4 * (l->index_used + 1) <= 3 * l->index_size)
		return;
	size_t size = 8;
	while (size < 2 * (l->count + 1))
		size *= 2;
	free(l->index);
	l->index = xcalloc(size, sizeof(*l->index));
	l->index_size = size;
	l->index_used = 0;
	for (size_t i = 0; i < l->count; i++)
		index_put(l, &l->at[i]);
}

/* ---- the face ---- */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Does the formula give this text to some UID of this UIDVALIDITY? */
static bool formula_gives(struct slice text, uint32_t uidvalidity, uint32_t *uid_out)
{
	uint32_t half[2] = { 0, 0 };
	if (text.len != UIDL_FORMULA_BYTES)
		return false;
	for (size_t i = 0; i < UIDL_FORMULA_BYTES; i++) {
		int v = hex_digit(text.ptr[i]);
		if (v < 0)
			return false;
		half[i / 8] = half[i / 8] << 4 | (uint32_t)v;
	}
	*uid_out = half[0];
	return half[1] == uidvalidity;
}

enum err rows_uidl_check(const struct rows *r, uint32_t uidvalidity, uint32_t uid, struct slice literal)
{
	if (literal.len == 0 || literal.len > UIDL_BYTES_MAX)
		return ERR_SYNTAX;
	for (size_t i = 0; i < literal.len; i++)
		if (literal.ptr[i] < 0x21 || literal.ptr[i] > 0x7e)
			return ERR_SYNTAX;
	uint32_t other;
	if (formula_gives(literal, uidvalidity, &other) && other != uid)
		return ERR_EXISTS;
	if (r->literals) {
		size_t i = index_find(r->literals, literal);
		if (i != SIZE_MAX && r->literals->index[i] != uid)
			return ERR_EXISTS;
	}
	return OK;
}

void rows_uidl_set(struct rows *r, uint32_t uid, struct slice literal)
{
	ASSERT(uid > 0 && uid != INDEX_LEFT && literal.len > 0 && literal.len <= UIDL_BYTES_MAX);
	struct literals *l = r->literals;
	if (!l) {
		l = r->literals = xcalloc(1, sizeof(*l));
		random_bytes(&l->seed, sizeof(l->seed));
	}
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 4;
		l->at = xrealloc(l->at, l->cap * sizeof(*l->at));
	}
	index_room(l);
	size_t i = literal_lower(l, uid);
	ASSERT(i == l->count || l->at[i].uid != uid);
	memmove(&l->at[i + 1], &l->at[i], (l->count - i) * sizeof(*l->at));
	l->at[i] = (struct literal){ uid, (uint32_t)literal.len, xmalloc(literal.len) };
	memcpy(l->at[i].text, literal.ptr, literal.len);
	l->count++;
	index_put(l, &l->at[i]);
	struct row *row = rows_find(r, uid);
	if (row)
		row->flags |= ROW_UIDL;
}

void rows_uidl_forget(struct rows *r, uint32_t uid)
{
	struct literals *l = r->literals;
	struct literal *one = l ? literal_find(l, uid) : NULL;
	if (!one)
		return;
	size_t slot = index_find(l, slice_of(one->text, one->len));
	ASSERT(slot != SIZE_MAX);
	l->index[slot] = INDEX_LEFT;
	free(one->text);
	memmove(one, one + 1, (size_t)(&l->at[l->count] - (one + 1)) * sizeof(*one));
	if (--l->count == 0)
		rows_uidl_release(r);
}

void rows_uidl_release(struct rows *r)
{
	struct literals *l = r->literals;
	for (size_t i = 0; l && i < l->count; i++)
		free(l->at[i].text);
	if (l) {
		free(l->at);
		free(l->index);
	}
	free(l);
	r->literals = NULL;
}

size_t rows_uidl_memory_bytes(const struct rows *r)
{
	const struct literals *l = r->literals;
	return l ? sizeof(*l) + l->cap * sizeof(*l->at) + l->index_size * sizeof(*l->index) + l->count * 48 : 0;
}
