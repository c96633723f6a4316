/* SPDX-License-Identifier: Apache-2.0 */
/*
 * restate.c - compact.h's C2 and C4: what a replay without the victims would miss, said again.
 *
 * Where does a replay get what from?  A message record carries flags and MODSEQ as they were when it was written, so a flags
 * record in log n matters only to messages whose record lies below n.  The record of a message that is expunged in log n lies
 * in n or below, so the expunge matters, as a tombstone, only while a lower log is left; as history it matters as long as the
 * folder's floor is below it.  Of folders and the account everything is said as it is now: newest wins, whatever is left.
 */
#include "storage/compact.h"

#include "core/base/limits.h"
#include "storage/keyword.h"
#include "storage/log.h"

#include <stdlib.h>

/* ---- C2: reading a victim ---- */

static void said_add(struct said *s, struct said_range r)
{
	struct said_range *last = s->count > 0 ? &s->at[s->count - 1] : NULL;
	if (last && last->folder == r.folder && last->log == r.log && last->modseq == r.modseq && r.first <= (uint64_t)last->last + 1 &&
	    r.first >= last->first) { /* goes on where the last one ended */
		last->last = r.last > last->last ? r.last : last->last;
		return;
	}
	if (s->count == s->cap) {
		s->cap = s->cap ? 2 * s->cap : 64;
		s->at = xrealloc(s->at, s->cap * sizeof(*s->at));
	}
	s->at[s->count++] = r;
}

struct reading {
	struct compaction *c;
	uint32_t log;
};

static void touch(struct compaction *c, uint32_t folder)
{
	if (folder > 0 && ranges_add(&c->touched, folder, folder) != OK)
		c->all_folders = true;
}

static void read_flags(struct reading *rd, const struct record *r)
{
	struct flags_record f;
	if (!flags_get(r, &f)) {
		rd->c->damaged = true;
		return;
	}
	touch(rd->c, f.fixed.folder);
	for (uint32_t i = 0; i < f.fixed.range_count; i++)
		said_add(&rd->c->flags, (struct said_range){ f.fixed.folder, f.ranges[i].first, f.ranges[i].last, rd->log, 0 });
}

static void read_expunge(struct reading *rd, const struct record *r, uint64_t sequence)
{
	struct expunge_record e;
	if (!expunge_get(r, &e)) {
		rd->c->damaged = true;
		return;
	}
	touch(rd->c, e.fixed.folder);
	for (uint32_t i = 0; i < e.fixed.range_count; i++)
		said_add(&rd->c->expunges, (struct said_range){ e.fixed.folder, e.ranges[i].first, e.ranges[i].last, 0,
		                                                e.fixed.modseq ? e.fixed.modseq : sequence });
}

static void read_commit(void *arg, uint64_t offset, const struct commit_header *header, struct slice heads)
{
	struct reading *rd = arg;
	struct record r;
	size_t at = 0;
	(void)offset;
	rd->c->unknown = rd->c->unknown || !commit_header_known(header);
	while (record_next(heads, &at, &r) == RECORD_NEXT_OK) {
		rd->c->unknown = rd->c->unknown || !record_known(&r);
		if (r.type == RECORD_FLAGS)
			read_flags(rd, &r);
		else if (r.type == RECORD_EXPUNGE)
			read_expunge(rd, &r, header->sequence);
		else if (r.type == RECORD_MESSAGE && r.payload.len >= sizeof(struct message_fixed))
			touch(rd->c, get_le32(r.payload.ptr + offsetof(struct message_fixed, folder)));
		else if (r.type == RECORD_FOLDER || r.type == RECORD_FACT)
			rd->c->all_folders = true;
	}
}

static int by_place(const void *x, const void *y)
{
	const struct said_range *a = x, *b = y;
	if (a->folder != b->folder)
		return a->folder < b->folder ? -1 : 1;
	return a->first != b->first ? (a->first < b->first ? -1 : 1) : (a->last > b->last) - (a->last < b->last);
}

static int by_modseq(const void *x, const void *y)
{
	const struct said_range *a = x, *b = y;
	if (a->folder != b->folder)
		return a->folder < b->folder ? -1 : 1;
	return a->modseq != b->modseq ? (a->modseq < b->modseq ? -1 : 1) : by_place(x, y);
}

/* Ranges of flags that overlap become one, of the newest log: too much said does no harm. */
static void join_flags(struct said *s)
{
	size_t n = 0;
	if (s->count > 0)
		qsort(s->at, s->count, sizeof(*s->at), by_place);
	for (size_t i = 0; i < s->count; i++) {
		struct said_range *last = n > 0 ? &s->at[n - 1] : NULL;
		if (last && last->folder == s->at[i].folder && s->at[i].first <= last->last) {
			last->last = last->last > s->at[i].last ? last->last : s->at[i].last;
			last->log = last->log > s->at[i].log ? last->log : s->at[i].log;
		} else
			s->at[n++] = s->at[i];
	}
	s->count = n;
}

enum err restate_read(struct compaction *c)
{
	for (uint32_t i = 0; i < c->victim_count; i++) {
		struct victim *v = &c->victims[i];
		struct reading rd = { c, v->number };
		struct log_scan scan = { .fd = source_fd(v->file), .number = v->number, .salt = c->a->salt, .limit = v->end,
			                 .commit = read_commit, .arg = &rd };
		struct log_scan_result result;
		enum err e = log_scan(&scan, &result);
		if (e)
			return e;
		struct log *log = account_log(c->a, v->number);
		/* bad bytes may be wanted, and what we do not understand we cannot say again: such a log stays */
		if (log && (result.damaged_bytes > 0 || c->damaged || c->unknown))
			log->damaged = true;
		if (result.damaged_bytes > 0 || c->damaged)
			return ERR_CORRUPT;
		if (c->unknown)
			return ERR_READONLY;
	}
	join_flags(&c->flags);
	if (c->expunges.count > 0)
		qsort(c->expunges.at, c->expunges.count, sizeof(*c->expunges.at), by_modseq);
	return OK;
}

/* ---- C4: flags ---- */

/* One record: messages in a row of a folder whose flags are the same in every way. */
struct same_flags {
	uint32_t folder, flags, keywords;
	uint64_t modseq;
	struct uid_range range;
};

static bool put_flags(struct compaction *c, struct commit *commit, const struct same_flags *s)
{
	static const uint64_t none[KEYWORD_WORDS];
	const struct keyword_set *set = keywords_get(c->a->keywords, s->keywords);
	struct flags_record r = {
		.fixed = { .folder = s->folder, .set = s->flags, .clear = ROW_FLAGS & ~s->flags, .flags = FLAGS_CLEAR_KEYWORDS,
		           .keyword_words = (uint16_t)(s->keywords ? keyword_set_words(set) : 0), .modseq = s->modseq, .range_count = 1 },
		.keywords_set = set->words, .keywords_clear = none, .ranges = &s->range,
	};
	return s->range.first == 0 || flags_put(commit_heads(commit), RECORD_RELOCATED, &r);
}

static bool same(const struct same_flags *s, const struct row *row)
{
	return s->range.first > 0 && s->flags == (row->flags & ROW_FLAGS) && s->keywords == row->keywords && s->modseq == row->modseq;
}

/* Goes through one range from flags_uid on; false: enough for this commit, or for this turn of the shard, since a build must not wait. */
static bool restate_flags_range(struct compaction *c, struct commit *commit, const struct said_range *said)
{
	const struct folder *f = account_folder(c->a, said->folder);
	struct same_flags run = { .folder = said->folder };
	const struct row *row;
	uint64_t uid = max_u64(c->flags_uid, said->first);
	while (f && uid <= said->last && (row = rows_from(&f->rows, (uint32_t)uid)) != NULL && row->uid <= said->last) {
		bool wanted = row->record_log < said->log;
		if (!wanted || !same(&run, row) || c->rows_left == 0) {
			if (!put_flags(c, commit, &run))
				return false;
			c->flags_uid = row->uid;
			run.range.first = 0;
			if (commit_heads(commit)->len >= COMPACT_RESTATE_BYTES || c->rows_left == 0)
				return false;
		}
		c->rows_left -= c->rows_left > 0;
		if (wanted && run.range.first == 0)
			run = (struct same_flags){ said->folder, row->flags & ROW_FLAGS, row->keywords, row->modseq, { row->uid, row->uid } };
		run.range.last = row->uid;
		uid = (uint64_t)row->uid + 1;
	}
	return put_flags(c, commit, &run);
}

static enum err build_flags(struct compaction *c, struct commit *commit)
{
	c->rows_left = COMPACT_RESTATE_ROWS;
	for (; c->flags_at < c->flags.count; c->flags_at++, c->flags_uid = 0)
		if (!restate_flags_range(c, commit, &c->flags.at[c->flags_at])) {
			c->more = true;
			return OK;
		}
	return OK;
}

/* ---- C4: expunges ---- */

static bool lower_log_left(const struct compaction *c)
{
	uint32_t highest = c->victims[c->victim_count - 1].number;
	for (uint32_t i = 0; i < c->a->log_count && c->a->logs[i].number < highest; i++)
		if (!c->a->logs[i].stub && c->a->logs[i].end > 0 && !compaction_is_victim(c, c->a->logs[i].number))
			return true;
	return false;
}

/* One record of ranges [from, to) of one folder under the newest MODSEQ of them: sorted, joined. */
static bool put_expunges(struct compaction *c, struct commit *commit, size_t from, size_t to)
{
	struct said_range *at = c->expunges.at;
	struct uid_range *ranges = xmalloc((to - from) * sizeof(*ranges));
	struct expunge_record r = { .fixed = { .folder = at[from].folder, .modseq = at[to - 1].modseq }, .ranges = ranges };
	uint32_t n = 0;
	qsort(at + from, to - from, sizeof(*at), by_place);
	for (size_t i = from; i < to; i++) {
		if (n > 0 && at[i].first <= (uint64_t)ranges[n - 1].last + 1)
			ranges[n - 1].last = at[i].last > ranges[n - 1].last ? at[i].last : ranges[n - 1].last;
		else
			ranges[n++] = (struct uid_range){ at[i].first, at[i].last };
	}
	r.fixed.range_count = n;
	bool ok = expunge_put(commit_heads(commit), RECORD_RELOCATED, &r);
	free(ranges);
	return ok;
}

/* Where the record that begins at `at` ends: old expunges of a folder share one, the newest are told apart by MODSEQ. */
static size_t expunge_group(const struct compaction *c, size_t at)
{
	const struct said_range *s = c->expunges.at;
	size_t folder_end = at, end = at + 1;
	while (folder_end < c->expunges.count && s[folder_end].folder == s[at].folder)
		folder_end++;
	if (folder_end - at > VANISHED_EXACT)
		return at + min_size(COMPACT_RANGES_PER_RECORD, folder_end - at - VANISHED_EXACT);
	while (end < folder_end && s[end].modseq == s[at].modseq)
		end++;
	return end;
}

static enum err build_expunges(struct compaction *c, struct commit *commit)
{
	bool tombstones = lower_log_left(c);
	while (c->expunges_at < c->expunges.count) {
		size_t from = c->expunges_at, to = expunge_group(c, from);
		const struct said_range *s = c->expunges.at;
		const struct folder *f = account_folder(c->a, s[from].folder);
		if (commit_heads(commit)->len >= COMPACT_RESTATE_BYTES) {
			c->more = true;
			return OK;
		}
		if (f && (tombstones || s[to - 1].modseq > f->vanished.floor) && !put_expunges(c, commit, from, to))
			return ERR_LIMIT;
		c->expunges_at = to;
	}
	return OK;
}

/* ---- C4: folders and the account ---- */

static bool put_fact(struct commit *commit, enum fact_kind kind, uint32_t folder, uint64_t value, struct slice data)
{
	struct fact_record f = { .fixed = { .kind = (uint16_t)kind, .folder = folder, .value = value }, .data = data };
	return fact_put(commit_heads(commit), RECORD_RELOCATED | (kind == FACT_COUNTERS || kind == FACT_SET_ASIDE ? RECORD_IGNORABLE : 0), &f);
}

static bool put_folder(struct commit *commit, const struct folder *f)
{
	struct folder_record r = {
		.fixed = { .op = FOLDER_STATE, .uidl_formula = f->uidl_formula,
		           .flags = (uint16_t)((f->subscribed ? FOLDER_FLAG_SUBSCRIBED : 0) | (f->noselect ? FOLDER_FLAG_NOSELECT : 0)),
		           .folder = f->id, .uidvalidity = f->uidvalidity, .uidnext = f->uidnext, .special_use = f->special_use,
		           .modseq = f->modseq, .vanished_floor = f->vanished.floor },
		.name = slice_of(f->name, f->name_bytes),
	};
	return folder_put(commit_heads(commit), RECORD_RELOCATED, &r);
}

/* What the messages and expunges of a victim said of a folder without naming it. */
static bool put_folder_facts(struct commit *commit, const struct folder *f)
{
	struct slice none = slice_of(NULL, 0);
	return put_fact(commit, FACT_UIDNEXT, f->id, f->uidnext, none) && put_fact(commit, FACT_MODSEQ, f->id, f->modseq, none) &&
	       put_fact(commit, FACT_VANISHED_FLOOR, f->id, f->vanished.floor, none);
}

static bool put_folder_ids(struct commit *commit, const struct account *a)
{
	uint32_t *ids = xmalloc((a->folder_count + 1) * sizeof(*ids));
	for (uint32_t i = 0; i < a->folder_count; i++)
		ids[i] = a->folders[i]->id;
	bool ok = put_fact(commit, FACT_FOLDERS, 0, 0, slice_of(ids, a->folder_count * sizeof(*ids)));
	free(ids);
	return ok;
}

static bool put_set_aside(struct commit *commit, const struct account *a)
{
	for (uint32_t i = 0; i < a->log_count; i++) {
		const uint64_t range[3] = { a->logs[i].number, 0, a->logs[i].set_aside_end };
		if (a->logs[i].set_aside_end > 0 && !a->logs[i].stub && !put_fact(commit, FACT_SET_ASIDE, 0, a->logs[i].damaged, slice_of(range, sizeof(range))))
			return false;
	}
	return true;
}

static bool put_account_facts(struct commit *commit, const struct account *a)
{
	struct slice none = slice_of(NULL, 0);
	const struct keywords *k = a->keywords;
	for (uint32_t i = 0; k && i < k->count; i++)
		if (k->names[i].len > 0 && !put_fact(commit, FACT_KEYWORD, 0, i, k->names[i]))
			return false;
	return put_folder_ids(commit, a) && put_fact(commit, FACT_LAST_UIDVALIDITY, 0, a->last_uidvalidity, none) &&
	       put_fact(commit, FACT_NEXT_FOLDER, 0, a->next_folder, none) && put_fact(commit, FACT_SEQUENCE, 0, a->sequence, none) &&
	       put_fact(commit, FACT_SUBSCRIPTIONS, 0, 0, slice_of(a->subscriptions, a->subscriptions_bytes)) && put_set_aside(commit, a);
}

/* Folders by rising id, so that one made or deleted between two commits of this does not disturb: folder_at is the next id. */
static enum err build_folders(struct compaction *c, struct commit *commit)
{
	const struct account *a = c->a;
	const uint64_t counters[2] = { a->messages, a->bytes };
	/* always something, so that there is a commit, and the look, before a stub is made (F12) */
	if (!put_fact(commit, FACT_COUNTERS, 0, 0, slice_of(counters, sizeof(counters))) ||
	    (c->all_folders && !c->facts_said && !put_account_facts(commit, a)))
		return ERR_LIMIT;
	c->facts_said = true;
	for (uint32_t i = 0; i < a->folder_count; i++) {
		const struct folder *f = a->folders[i];
		if (f->id < c->folder_at || (!c->all_folders && !ranges_contains(&c->touched, f->id)))
			continue;
		if (commit_heads(commit)->len >= COMPACT_RESTATE_BYTES) {
			c->folder_at = f->id;
			c->more = true;
			return OK;
		}
		if (!(c->all_folders ? put_folder(commit, f) : put_folder_facts(commit, f)))
			return ERR_LIMIT;
	}
	return OK;
}

/* All of it, mostly in one commit; what does not fit goes on in the next, each part from where it had come to. */
static enum err build_restate(struct change *change, struct account *a, struct commit *commit)
{
	struct compaction *c = compaction_of(change);
	static enum err (*const parts[])(struct compaction *, struct commit *) = { build_flags, build_expunges, build_folders };
	enum err e = OK;
	(void)a;
	c->more = false;
	for (size_t i = 0; i < ARRAY_LEN(parts) && !e && !c->more; i++)
		e = parts[i](c, commit);
	return e;
}

enum err restate_run(struct compaction *c)
{
	enum err e;
	do {
		e = compaction_commit(c, build_restate);
		fiber_breathe();
	} while (!e && c->more);
	return e;
}

void restate_release(struct compaction *c)
{
	free(c->flags.at);
	free(c->expunges.at);
}
