/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keyword.h - an account's keywords: the table of names, and the sets of them that messages have.
 *
 * A keyword is a number below KEYWORDS_MAX; a message refers to a set of them, and equal sets are one set with one number, so
 * that a row needs 24 bits however many keywords there are.  Set 0 is empty.  Numbers of sets are of this memory only; on
 * disk a set is a mask of as many words as it needs.
 *
 * A `struct keywords *` is NULL as long as an account uses none.  All calls complete now.
 */
#ifndef PENFOLD_STORAGE_KEYWORD_H
#define PENFOLD_STORAGE_KEYWORD_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "storage/store.h"

#define KEYWORD_WORDS (KEYWORDS_MAX / 64)
#define KEYWORD_NONE UINT32_MAX

struct keyword_set {
	uint64_t words[KEYWORD_WORDS];
};

struct keywords {
	uint32_t count;
	uint32_t set_count, set_cap;
	struct keyword_set *sets; /* [0] is the empty one */
	uint32_t *index;          /* hash of a set -> its number; 0 = free */
	uint32_t index_bits;
	struct slice names[KEYWORDS_MAX]; /* own memory; a number that was never told has no name */
};
/* What one change has named so far (flags.c: keywords_claim). */
struct keywords_fresh {
	struct slice names[KEYWORDS_MAX];
	uint32_t count; /* 0 at the begin of each build */
};

void keywords_release(struct keywords **k);
/* Gives a number its name (both from a record). False: out of range. A second name for a number is ignored. */
bool keywords_define(struct keywords **k, uint64_t number, struct slice name);
/* Case of ASCII letters does not count. KEYWORD_NONE if it is not in the table. */
uint32_t keywords_find(const struct keywords *k, struct slice name);
/* The next free number, or KEYWORD_NONE when the table is full. */
uint32_t keywords_next(const struct keywords *k);

/* The number of the set with these bits; words beyond KEYWORD_WORDS are ignored. */
uint32_t keywords_set(struct keywords **k, const uint64_t *words, size_t count);
/* The bits of a set; and how many words of it are needed. */
const struct keyword_set *keywords_get(const struct keywords *k, uint32_t set);
size_t keyword_set_words(const struct keyword_set *set);
size_t keywords_memory_bytes(const struct keywords *k);

#endif
