/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flags.c - account_flags: flags and keywords, shown at once and synced within a second.
 *
 * A keyword that the account's table does not know yet is given a number by a fact in the same commit; such a change shares
 * its commit with no other, so that two cannot give one number to two names.
 */
#include "storage/account_private.h"

#include "storage/commit.h"
#include "storage/keyword.h"

#include <stdlib.h>

struct flags_change {
	struct change c;
	uint32_t folder;
	const uint32_t *uids;
	size_t count;
	enum flags_how how;
	uint32_t flags;
	const struct slice *keywords;
	size_t keyword_count;
	struct uid_range *ranges; /* room for count */
	struct flags_terms terms;
	uint64_t modseq;
};

/* Would the change leave this message as it is? */
static bool flags_same(const struct flags_change *fc, const struct row *row)
{
	uint32_t flags = row->flags & ROW_FLAGS;

	if (fc->keyword_count > 0 || fc->how == FLAGS_SET)
		return false;
	return fc->how == FLAGS_ADD ? (flags | fc->flags) == flags : (flags & fc->flags) == 0;
}

static uint32_t flags_collect(const struct flags_change *fc, const struct folder *f)
{
	const struct flags_terms *terms = &fc->terms;
	uint32_t ranges = 0, last = 0;

	for (size_t i = 0; i < fc->count; i++) {
		uint32_t uid = fc->uids[i];
		const struct row *row = uid > last ? rows_find(&f->rows, uid) : NULL;
		if (terms->news)
			terms->news[i] = row && row->modseq > terms->known;
		if (terms->failed)
			terms->failed[i] = row && row->modseq > terms->unchanged_since;
		if (!row || (terms->failed && terms->failed[i]) || flags_same(fc, row))
			continue;
		if (ranges > 0 && fc->ranges[ranges - 1].last + 1 == uid)
			fc->ranges[ranges - 1].last = uid;
		else
			fc->ranges[ranges++] = (struct uid_range){ uid, uid };
		last = uid;
	}
	return ranges;
}

static bool named_before(const struct flags_change *fc, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (slice_eq_nocase(fc->keywords[k], fc->keywords[i]))
			return true;
	return false;
}

/* The keywords' bits; names that are new get numbers and facts. */
static enum err flags_keywords(const struct flags_change *fc, const struct account *a, struct commit *commit,
			       struct keyword_set *set_out)
{
	uint32_t next = keywords_next(a->keywords);

	*set_out = (struct keyword_set){ { 0 } };
	for (size_t i = 0; i < fc->keyword_count; i++) {
		uint32_t number = keywords_find(a->keywords, fc->keywords[i]);
		if (number == KEYWORD_NONE) {
			if (fc->how == FLAGS_REMOVE || named_before(fc, i))
				continue; /* no message can have it, or its bit is set already */
			if (next >= KEYWORDS_MAX)
				return ERR_LIMIT;
			struct fact_record fact = { .fixed = { .kind = FACT_KEYWORD, .value = next },
						    .data = fc->keywords[i] };
			if (!fact_put(commit_heads(commit), 0, &fact))
				return ERR_LIMIT;
			number = next++;
		}
		set_out->words[number / 64] |= (uint64_t)1 << (number % 64);
	}
	return OK;
}

static enum err flags_build(struct change *c, struct account *a, struct commit *commit)
{
	struct flags_change *fc = CONTAINER_OF(c, struct flags_change, c);
	const struct folder *f = account_folder(a, fc->folder);
	static const struct keyword_set none;
	struct keyword_set set;
	struct flags_record r = { .fixed = { .folder = fc->folder }, .ranges = fc->ranges };

	if (!f)
		return ERR_NOT_FOUND;
	r.fixed.range_count = flags_collect(fc, f);
	fc->modseq = f->modseq;
	if (r.fixed.range_count == 0)
		return OK;
	if (fc->keyword_count > 0 && a->keywords && a->keywords->set_count >= KEYWORD_SETS_NEW_MAX)
		return ERR_LIMIT;
	enum err e = flags_keywords(fc, a, commit, &set);
	if (e != OK)
		return e;
	r.fixed.set = fc->how == FLAGS_REMOVE ? 0 : fc->flags;
	r.fixed.clear = fc->how == FLAGS_ADD ? 0 : fc->how == FLAGS_REMOVE ? fc->flags : ROW_FLAGS;
	r.fixed.flags = fc->how == FLAGS_SET ? FLAGS_CLEAR_KEYWORDS : 0;
	r.fixed.keyword_words = (uint16_t)keyword_set_words(&set);
	r.keywords_set = fc->how == FLAGS_REMOVE ? none.words : set.words;
	r.keywords_clear = fc->how == FLAGS_REMOVE ? set.words : none.words;
	fc->modseq = commit_sequence(commit);
	if (!flags_put(commit_heads(commit), 0, &r))
		return commit_empty(commit) ? ERR_LIMIT : ERR_AGAIN;
	return OK;
}

static bool keywords_new(const struct flags_change *fc, const struct account *a)
{
	for (size_t i = 0; i < fc->keyword_count; i++)
		if (keywords_find(a->keywords, fc->keywords[i]) == KEYWORD_NONE)
			return true;
	return false;
}

enum err account_flags_since(struct account *account, uint32_t folder, const uint32_t *uids, size_t count, enum flags_how how, uint32_t flags,
			     const struct slice *keywords, size_t keyword_count, const struct flags_terms *terms, uint64_t *modseq_out)
{
	struct flags_change fc = { .c = { .build = flags_build, .later_sync = true, .frees = true },
				   .folder = folder,
				   .uids = uids,
				   .count = count,
				   .how = how,
				   .flags = flags & ROW_FLAGS,
				   .keywords = keywords,
				   .keyword_count = keyword_count,
				   .terms = *terms };

	ASSERT(account->refs > 0);
	for (size_t i = 0; i < keyword_count; i++)
		if (!keyword_good(keywords[i]))
			return ERR_SYNTAX;
	if (account->read_only)
		return ERR_READONLY;
	fc.c.alone = keywords_new(&fc, account);
	fc.ranges = xmalloc(max_size(count, 1) * sizeof(*fc.ranges));
	enum err e = commit_run(account, &fc.c);
	free(fc.ranges);
	if (e == OK)
		*modseq_out = fc.modseq;
	return e;
}

enum err account_flags(struct account *account, uint32_t folder, const uint32_t *uids, size_t count, enum flags_how how,
		       uint32_t flags, const struct slice *keywords, size_t keyword_count, uint64_t *modseq_out)
{
	const struct flags_terms none = { .failed = NULL };

	return account_flags_since(account, folder, uids, count, how, flags, keywords, keyword_count, &none, modseq_out);
}

/* ---- names of messages that are on their way in ---- */

bool keywords_all_known(const struct account *a, const struct slice *names, size_t count)
{
	struct flags_change fc = { .keywords = names, .keyword_count = count };

	return !keywords_new(&fc, a);
}

enum err keywords_claim(const struct account *a, struct commit *commit, struct keywords_fresh *fresh, const struct slice *names, size_t count,
			struct keyword_set *set_out)
{
	uint32_t next = keywords_next(a->keywords);

	*set_out = (struct keyword_set){ { 0 } };
	for (size_t i = 0; i < count; i++) {
		uint32_t number = keywords_find(a->keywords, names[i]), at = 0;
		if (number == KEYWORD_NONE) {
			while (at < fresh->count && !slice_eq_nocase(fresh->names[at], names[i]))
				at++;
			if (next >= KEYWORDS_MAX || at >= KEYWORDS_MAX - next)
				return ERR_LIMIT;
			struct fact_record fact = { .fixed = { .kind = FACT_KEYWORD, .value = next + at }, .data = names[i] };
			if (at == fresh->count && !fact_put(commit_heads(commit), 0, &fact))
				return ERR_LIMIT;
			fresh->names[at] = names[i];
			fresh->count = at == fresh->count ? at + 1 : fresh->count;
			number = next + at;
		}
		set_out->words[number / 64] |= (uint64_t)1 << (number % 64);
	}
	return OK;
}
