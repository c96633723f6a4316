/* SPDX-License-Identifier: Apache-2.0 */
/*
 * append.c - account_append and account_copy: messages into folders.
 *
 * A message is two records.  The body's comes first, its bytes go behind all heads of the commit straight from where they were
 * received; the message's record bears this copy's own header lines.  A copy inside the account is a message record alone.
 */
#include "storage/account_private.h"

#include "core/base/limits.h"
#include "storage/commit.h"
#include "storage/folder.h"
#include "storage/keyword.h"
#include "storage/source.h"
#include "storage/sweep.h"

#include <stdlib.h>

/* ---- the plan of a commit ---- */

/* The next UID of a folder, counting those given by this commit so far. */
static uint32_t uid_planned(struct folder *f, const struct commit *commit)
{
	if (f->planned_sequence != commit_sequence(commit)) {
		f->planned_sequence = commit_sequence(commit);
		f->uidnext_planned = f->uidnext;
	}
	return f->uidnext_planned;
}

static enum err uid_take(struct folder *f, const struct commit *commit, uint32_t wanted, uint32_t *uid_out)
{
	uint32_t next = uid_planned(f, commit);

	if (wanted != 0 && wanted < next) /* invariant 6: no UID is given twice */
		return ERR_EXISTS;
	if (wanted != 0)
		next = wanted;
	if (next == UINT32_MAX)
		return ERR_LIMIT;
	f->uidnext_planned = next + 1;
	*uid_out = next;
	return OK;
}

/* May so much be added? Judged under the commit, with what it already holds. */
static enum err quota_take(const struct account *a, struct commit *commit, uint64_t size, uint64_t bytes_max,
			   uint64_t messages_max)
{
	struct commit_plan *plan = commit_plan(commit);

	if (bytes_max != 0 && a->bytes + plan->bytes + size > bytes_max)
		return ERR_QUOTA;
	if (messages_max != 0 && a->messages + plan->messages + 1 > messages_max)
		return ERR_QUOTA;
	plan->bytes += size;
	plan->messages++;
	return OK;
}

static struct folder *folder_for_messages(const struct account *a, uint32_t id)
{
	struct folder *f = account_folder(a, id);

	return f && !f->noselect && !f->provisional ? f : NULL;
}

/* A commit that could not take a record: later, or never. */
static enum err no_room(const struct commit *commit) { return commit_empty(commit) ? ERR_LIMIT : ERR_AGAIN; }

/* ---- append ---- */

struct append_change {
	struct change c;
	const struct append *items;
	size_t count;
	struct appended *out;
	int64_t now_s;
	struct keywords_fresh *fresh; /* NULL: all keywords are known */
	uint8_t replaced_guid[GUID_BYTES]; /* zero if its record does not read */
	bool replaced_external;
};

static const struct row *replaced_row(const struct account *a, const struct append *item)
{
	struct folder *f = account_folder(a, item->replaces_folder);

	return f ? rows_find(&f->rows, item->replaces_uid) : NULL;
}

/* Its GUID is read before the commit, which must not wait. A damaged message can be replaced like any other. */
static enum err replaced_read(struct account *a, struct append_change *ac)
{
	const struct row *row = replaced_row(a, ac->items);
	struct window window = { NULL, 0, 0 };
	struct message_record m;

	if (!row)
		return ERR_DENIED;
	ac->replaced_external = row->flags & ROW_EXTERNAL;
	enum err e = source_message(a, ac->items->replaces_folder, row, &window, &m);
	if (e == OK)
		memcpy(ac->replaced_guid, m.fixed.guid, GUID_BYTES);
	window_release(&window);
	return e == ERR_CORRUPT ? OK : e;
}

static enum err replaced_expunge(const struct append_change *ac, const struct account *a, struct commit *commit)
{
	const struct append *item = ac->items;
	const struct uid_range range = { item->replaces_uid, item->replaces_uid };
	struct expunge_record e = { .fixed = { .folder = item->replaces_folder, .range_count = 1, .guid_count = 1 },
				    .ranges = &range,
				    .guids = ac->replaced_guid };

	if (commit_plan(commit)->expunges)
		return ERR_AGAIN; /* another change may expunge the same message */
	if (!replaced_row(a, item))
		return ERR_DENIED;
	commit_plan(commit)->expunges = true;
	return expunge_put(commit_heads(commit), 0, &e) ? OK : no_room(commit);
}

static enum err literal_take(const struct append_change *ac, const struct folder *f, struct commit *commit,
			     const struct append *item, uint32_t uid)
{
	struct commit_plan *plan = commit_plan(commit);

	if (item->uidl.len == 0)
		return OK;
	if (plan->literals && item == ac->items)
		return ERR_AGAIN; /* another change of this commit brings some, and only memory is compared with */
	for (const struct append *other = ac->items; other < item; other++)
		if (other->folder == item->folder && slice_eq(other->uidl, item->uidl))
			return ERR_EXISTS;
	plan->literals = true;
	return rows_uidl_check(&f->rows, f->uidvalidity, uid, item->uidl);
}

/* What takes another's place counts as the difference: no message more, and bytes only if it is larger. */
static enum err append_quota(const struct account *a, struct commit *commit, const struct append *item, uint64_t size)
{
	const struct row *replaced = item->replaces_uid ? replaced_row(a, item) : NULL;

	if (!replaced)
		return quota_take(a, commit, size, item->quota_bytes, item->quota_messages);
	bool grows = size > replaced->size && item->quota_bytes;
	return quota_take(a, commit, size, grows ? item->quota_bytes + replaced->size : 0, 0);
}

static enum err append_one(struct append_change *ac, struct account *a, struct commit *commit, size_t i)
{
	const struct append *item = &ac->items[i];
	struct folder *f = folder_for_messages(a, item->folder);
	uint64_t size = item->prefix.len + item->body->bytes;
	uint32_t uid;

	if (!f)
		return ERR_NOT_FOUND;
	enum err e = uid_take(f, commit, item->uid, &uid);
	if (e == OK)
		e = append_quota(a, commit, item, size);
	if (e == OK)
		e = literal_take(ac, f, commit, item, uid);
	struct keyword_set set;
	if (e == OK)
		e = keywords_claim(a, commit, ac->fresh, item->keywords, item->keyword_count, &set);
	if (e == OK)
		e = commit_body(commit, item->body);
	if (e != OK)
		return e;
	struct message_record m = {
		.fixed = { .folder = item->folder,
			   .uid = uid,
			   .flags = item->flags & ROW_FLAGS,
			   .bytes = size,
			   .internal_date_s = item->internal_date_s ? item->internal_date_s : ac->now_s,
			   .save_date_s = ac->now_s,
			   .internal_date_zone_min = item->internal_date_zone_min,
			   .body_flags = item->body->external ? BODY_EXTERNAL : 0 },
		.prefix = item->prefix,
		.uidl = item->uidl,
		.from = item->envelope_from,
		.rcpt = item->envelope_rcpt,
	};
	m.keywords = set.words;
	m.fixed.keyword_words = (uint16_t)keyword_set_words(&set);
	memcpy(m.fixed.guid, item->body->guid, GUID_BYTES);
	if (!message_put(commit_heads(commit), 0, &m))
		return no_room(commit);
	ac->out[i] = (struct appended){ .uid = uid, .uidvalidity = f->uidvalidity, .modseq = commit_sequence(commit) };
	return OK;
}

static enum err append_build(struct change *c, struct account *a, struct commit *commit)
{
	struct append_change *ac = CONTAINER_OF(c, struct append_change, c);
	enum err e = OK;

	if (ac->fresh)
		ac->fresh->count = 0;
	for (size_t i = 0; i < ac->count && e == OK; i++)
		e = append_one(ac, a, commit, i);
	if (e == OK && ac->items->replaces_uid)
		e = replaced_expunge(ac, a, commit);
	/* UIDs that were planned for a refused change stay unused in this commit; the next one begins from what was
	 * given */
	return e;
}

static enum err append_check(const struct append *items, size_t count, bool *external_out)
{
	*external_out = false;
	for (size_t i = 0; i < count; i++) {
		const struct append *it = &items[i];
		if (it->envelope_from.len > ENVELOPE_BYTES_MAX || it->envelope_rcpt.len > ENVELOPE_BYTES_MAX ||
		    it->prefix.len > PREFIX_BYTES_MAX || it->uidl.len > UIDL_BYTES_MAX ||
		    it->prefix.len + it->body->bytes > ROW_SIZE_MAX)
			return ERR_LIMIT;
		for (size_t k = 0; k < it->keyword_count; k++)
			if (!keyword_good(it->keywords[k]))
				return ERR_SYNTAX;
		*external_out = *external_out || it->body->external;
	}
	return OK;
}

/* Bodies with files of their own are named in the account's directory before a record names them. */
static enum err link_bodies(struct account *a, const struct append *items, size_t count)
{
	struct account_live *live;
	enum err e = account_live_get(a, &live);

	if (e != OK)
		return e;
	for (size_t i = 0; i < count && e == OK; i++)
		if (items[i].body->external)
			e = body_link(items[i].body, live->dir_fd);
	account_live_put(live);
	return e;
}

static enum err append_run(struct account *account, struct append_change *ac, bool external)
{
	if (!external)
		return commit_run(account, &ac->c);
	sweep_hold(account);
	enum err e = link_bodies(account, ac->items, ac->count);
	if (e == OK)
		e = commit_run(account, &ac->c);
	if (e != OK)
		account->orphans = true;
	sweep_release(account);
	return e;
}

enum err account_append(struct account *account, const struct append *items, size_t count, struct appended *out)
{
	struct append_change ac = {
		.c = { .build = append_build }, .items = items, .count = count, .out = out, .now_s = clock_wall_s()
	};
	bool external;
	enum err e = append_check(items, count, &external);

	ASSERT(account->refs > 0 && count > 0);
	ASSERT(count == 1 || !items->replaces_uid);
	if (e != OK)
		return e;
	if (account->read_only)
		return ERR_READONLY;
	if (store_disk_low())
		return ERR_FULL;
	if (items->replaces_uid)
		e = replaced_read(account, &ac);
	if (e != OK)
		return e;
	for (size_t i = 0; i < count && !ac.c.alone; i++)
		ac.c.alone = !keywords_all_known(account, items[i].keywords, items[i].keyword_count);
	if (ac.c.alone)
		ac.fresh = xcalloc(1, sizeof(*ac.fresh));
	e = append_run(account, &ac, external);
	free(ac.fresh);
	account->orphans |= e == OK && ac.replaced_external;
	return e;
}

/* ---- copy and move ---- */

struct copy_source {
	uint32_t uid;
	char *bytes; /* what the record's slices point to */
	struct message_record record;
};

struct copy_change {
	struct change c;
	uint32_t from, to;
	bool move;
	struct copy_source *sources;
	size_t count;
	struct appended *out;
	uint64_t quota_bytes, quota_messages;
	int64_t now_s;
	struct slice name; /* of the folder that is made in the same commit; empty: `to` is there already */
	struct folder_fixed made;
};

/* The next UID of the target; of a folder that this very commit makes they begin at 1. */
static enum err copy_uid(struct copy_change *cc, struct folder *to, const struct commit *commit, uint32_t *uid_out)
{
	if (to)
		return uid_take(to, commit, 0, uid_out);
	*uid_out = cc->made.uidnext++;
	return OK;
}

/* A message record for the copy: what it is comes from the old record, what it has now from the row. */
static enum err copy_one(struct copy_change *cc, struct account *a, struct folder *to, struct commit *commit, size_t i,
			 const struct row *row)
{
	const struct copy_source *s = &cc->sources[i];
	const struct keyword_set *set = keywords_get(a->keywords, row->keywords);
	struct message_record m = s->record;
	uint32_t uid;
	enum err e = copy_uid(cc, to, commit, &uid);

	if (e == OK && !cc->move)
		e = quota_take(a, commit, row->size, cc->quota_bytes, cc->quota_messages);
	if (e != OK)
		return e;
	m.fixed.folder = cc->to;
	m.fixed.uid = uid;
	m.fixed.flags = row->flags & ROW_FLAGS;
	m.fixed.modseq = 0;
	m.fixed.save_date_s = cc->now_s;
	m.fixed.body_log = row->body_log;
	m.fixed.body_offset = row->body_offset;
	m.fixed.body_flags = row->flags & ROW_EXTERNAL ? BODY_EXTERNAL : 0;
	m.keywords = set->words;
	m.fixed.keyword_words = (uint16_t)keyword_set_words(set);
	if (!message_put(commit_heads(commit), 0, &m))
		return no_room(commit);
	cc->out[i] = (struct appended){ .uid = uid, .uidvalidity = to ? to->uidvalidity : cc->made.uidvalidity, .modseq = commit_sequence(commit) };
	return OK;
}

static enum err copy_expunge(struct copy_change *cc, struct commit *commit, size_t i)
{
	const struct uid_range range = { cc->sources[i].uid, cc->sources[i].uid };
	struct expunge_record e = { .fixed = { .folder = cc->from, .range_count = 1, .guid_count = 1 },
				    .ranges = &range,
				    .guids = cc->sources[i].record.fixed.guid };

	return expunge_put(commit_heads(commit), 0, &e) ? OK : no_room(commit);
}

/* The folder's record comes before the messages that are in it. */
static enum err copy_make_folder(struct copy_change *cc, const struct account *a, struct commit *commit)
{
	struct folder_record r = { .name = cc->name };
	enum err e = folder_create_judge(a, cc->name, 0, &r.fixed);

	if (e != OK)
		return e;
	cc->made = r.fixed;
	cc->to = r.fixed.folder;
	return folder_put(commit_heads(commit), 0, &r) ? OK : no_room(commit);
}

static enum err copy_build(struct change *c, struct account *a, struct commit *commit)
{
	struct copy_change *cc = CONTAINER_OF(c, struct copy_change, c);
	struct folder *from = account_folder(a, cc->from), *to = folder_for_messages(a, cc->to);
	enum err e = OK;

	if (!from || (!to && !cc->name.len))
		return ERR_NOT_FOUND;
	if (cc->name.len)
		e = copy_make_folder(cc, a, commit);
	if (cc->move && commit_plan(commit)->expunges)
		return ERR_AGAIN;
	commit_plan(commit)->expunges = commit_plan(commit)->expunges || cc->move;
	for (size_t i = 0; i < cc->count && e == OK; i++) {
		const struct row *row = rows_find(&from->rows, cc->sources[i].uid);
		cc->out[i] = (struct appended){ .uid = 0 };
		if (!row || !cc->sources[i].bytes)
			continue; /* expunged meanwhile, or not there when it was read */
		e = copy_one(cc, a, to, commit, i, row);
		if (e == OK && cc->move)
			e = copy_expunge(cc, commit, i);
	}
	return e;
}

static struct slice bytes_keep(char **at, struct slice s)
{
	struct slice kept = slice_of(*at, s.len);

	if (s.len > 0)
		memcpy(*at, s.ptr, s.len);
	*at += s.len;
	return kept;
}

/* Of a record that was read, keeps what a copy's record needs: the window it lies in is larger. */
static void source_keep(struct copy_source *s)
{
	struct message_record *m = &s->record;
	char *at = s->bytes = xmalloc(m->prefix.len + m->from.len + m->rcpt.len + 1);

	m->prefix = bytes_keep(&at, m->prefix);
	m->from = bytes_keep(&at, m->from);
	m->rcpt = bytes_keep(&at, m->rcpt);
	m->uidl = slice_of(NULL, 0); /* a literal belongs to one message */
	m->keywords = NULL;
}

/* The records are read before the commit; what cannot fit into one is refused before it fills memory. */
static enum err copy_read(struct account *a, struct copy_change *cc)
{
	uint64_t bytes = 0;

	for (size_t i = 0; i < cc->count; i++) {
		struct copy_source *s = &cc->sources[i];
		struct folder *f = account_folder(a, cc->from);
		const struct row *row = f ? rows_find(&f->rows, s->uid) : NULL;
		struct window window = { NULL, 0, 0 };
		enum err e = row ? source_message(a, cc->from, row, &window, &s->record) : OK;
		if (row && e == OK) {
			source_keep(s);
			bytes += FORMAT_MESSAGE_BYTES_MIN + s->record.prefix.len;
		}
		window_release(&window);
		if (e != OK)
			return e;
		if (bytes > COMMIT_HEADS_BYTES_MAX)
			return ERR_LIMIT;
	}
	return OK;
}

static enum err copy_run(struct account *account, const struct copy *copy, struct slice name, struct appended *out, uint32_t *folder_out)
{
	struct copy_change cc = { .c = { .build = copy_build, .frees = copy->move, .alone = name.len > 0 },
				  .name = name,
				  .from = copy->from,
				  .to = copy->to,
				  .move = copy->move,
				  .count = copy->count,
				  .out = out,
				  .quota_bytes = copy->quota_bytes,
				  .quota_messages = copy->quota_messages,
				  .now_s = clock_wall_s() };
	enum err e;

	ASSERT(account->refs > 0);
	if (account->read_only)
		return ERR_READONLY;
	if (!copy->move && store_disk_low())
		return ERR_FULL;
	cc.sources = xcalloc(max_size(copy->count, 1), sizeof(*cc.sources));
	for (size_t i = 0; i < copy->count; i++)
		cc.sources[i].uid = copy->uids[i];
	sweep_hold(account); /* a body with a file of its own must not lose it between its old name and its new one */
	e = copy_read(account, &cc);
	if (e == OK)
		e = commit_run(account, &cc.c);
	sweep_release(account);
	for (size_t i = 0; i < copy->count; i++)
		free(cc.sources[i].bytes);
	free(cc.sources);
	*folder_out = cc.to;
	return e;
}

enum err account_copy(struct account *account, const struct copy *copy, struct appended *out)
{
	uint32_t folder;

	return copy_run(account, copy, slice_of(NULL, 0), out, &folder);
}

enum err account_move_to_new(struct account *account, uint32_t from, const uint32_t *uids, size_t count, struct slice name, uint32_t *folder_out)
{
	const struct copy copy = { .from = from, .uids = uids, .count = count, .move = true };
	struct appended *out = xcalloc(max_size(count, 1), sizeof(*out));
	enum err e = name.len ? copy_run(account, &copy, name, out, folder_out) : ERR_SYNTAX;

	free(out);
	return e;
}
