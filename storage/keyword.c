/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyword.c - names by linear search (there are few), sets by a small open-addressing index.
 */
#include "storage/keyword.h"

#include "core/base/hash.h"

#include <stdlib.h>

#define SETS_FIRST 8u

static const struct keyword_set empty_set;

static struct keywords *keywords_make(struct keywords **k)
{
	if (!*k) {
		*k = xcalloc(1, sizeof(**k));
		(*k)->sets = xcalloc(SETS_FIRST, sizeof(*(*k)->sets));
		(*k)->set_cap = SETS_FIRST;
		(*k)->set_count = 1;
		(*k)->index_bits = 4;
		(*k)->index = xcalloc((size_t)1 << 4, sizeof(uint32_t));
	}
	return *k;
}

void keywords_release(struct keywords **kp)
{
	struct keywords *k = *kp;

	if (!k)
		return;
	for (uint32_t i = 0; i < k->count; i++)
		free((char *)(uintptr_t)k->names[i].ptr);
	free(k->sets);
	free(k->index);
	free(k);
	*kp = NULL;
}

bool keywords_define(struct keywords **kp, uint64_t number, struct slice name)
{
	struct keywords *k;

	if (number >= KEYWORDS_MAX || name.len == 0 || name.len > KEYWORD_BYTES_MAX)
		return false;
	k = keywords_make(kp);
	if (k->names[number].ptr)
		return true;
	k->names[number] = slice_of(slice_dup(name), name.len);
	if (k->count <= number)
		k->count = (uint32_t)number + 1;
	return true;
}

uint32_t keywords_find(const struct keywords *k, struct slice name)
{
	for (uint32_t i = 0; k && i < k->count; i++)
		if (slice_eq_nocase(k->names[i], name))
			return i;
	return KEYWORD_NONE;
}

uint32_t keywords_next(const struct keywords *k)
{
	if (!k)
		return 0;
	return k->count < KEYWORDS_MAX ? k->count : KEYWORD_NONE;
}

bool keyword_good(struct slice name)
{
	if (name.len == 0 || name.len > KEYWORD_BYTES_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];
		if (c <= ' ' || c >= 0x7f || strchr("(){%*\"\\]", c))
			return false;
	}
	return true;
}

/* ---- sets ---- */

static uint64_t set_hash(const struct keyword_set *set) { return hash64(slice_of(set, sizeof(*set)), 0); }

/* Where the set is in the index, or the free place for it. */
static uint32_t *index_slot(const struct keywords *k, const struct keyword_set *set)
{
	uint32_t mask = (1u << k->index_bits) - 1, i = (uint32_t)set_hash(set) & mask;

	while (k->index[i] != 0 && memcmp(&k->sets[k->index[i]], set, sizeof(*set)) != 0)
		i = (i + 1) & mask;
	return &k->index[i];
}

static void index_grow(struct keywords *k)
{
	if (k->set_count < (1u << k->index_bits) / 2)
		return;
	free(k->index);
	k->index_bits++;
	k->index = xcalloc((size_t)1 << k->index_bits, sizeof(uint32_t));
	for (uint32_t i = 1; i < k->set_count; i++)
		*index_slot(k, &k->sets[i]) = i;
}

uint32_t keywords_set(struct keywords **kp, const uint64_t *words, size_t count)
{
	struct keyword_set set = { { 0 } };
	struct keywords *k;
	uint32_t *slot;

	if (count > 0)
		memcpy(set.words, words, min_size(count, KEYWORD_WORDS) * sizeof(*words));
	if (memcmp(&set, &empty_set, sizeof(set)) == 0)
		return 0;
	k = keywords_make(kp);
	slot = index_slot(k, &set);
	if (*slot != 0)
		return *slot;
	if (k->set_count > KEYWORD_SETS_MAX)
		return 0;
	if (k->set_count == k->set_cap) {
		k->set_cap *= 2;
		k->sets = xrealloc(k->sets, k->set_cap * sizeof(*k->sets));
	}
	uint32_t number = *slot = k->set_count;
	k->sets[k->set_count++] = set;
	index_grow(k);
	return number;
}

const struct keyword_set *keywords_get(const struct keywords *k, uint32_t set)
{
	if (set == 0)
		return &empty_set;
	ASSERT(k && set < k->set_count);
	return &k->sets[set];
}

size_t keyword_set_words(const struct keyword_set *set)
{
	size_t n = KEYWORD_WORDS;

	while (n > 0 && set->words[n - 1] == 0)
		n--;
	return n;
}

size_t keywords_memory_bytes(const struct keywords *k)
{
	return k ? sizeof(*k) + k->set_cap * sizeof(*k->sets) + ((size_t)4 << k->index_bits) + k->count * (size_t)32
		 : 0;
}
