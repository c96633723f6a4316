/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apply.c - takes a whole commit into memory: the one way an account changes, for replay and for live commits alike
 * (invariant 2: the log is the mailbox; invariant 13: a commit shows whole or not at all).
 *
 * A replay may meet anything twice (compaction leaves duplicates when it is interrupted) and may meet changes of messages
 * whose own record it has not seen (it was relocated to a later log).  So everything here is said so that hearing it again,
 * or late, does no harm: a message that is there is brought up to date, flags of one that is not are left to its relocated
 * record, which carries them, and an expunge counts in the history whether or not the message is known.
 */
#include "storage/account_private.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "storage/folder.h"
#include "storage/keyword.h"

#include <stdlib.h>

struct apply {
	struct account *a;
	uint32_t log;
	uint64_t heads_at; /* where in the log the heads begin */
	uint64_t sequence;
	struct slice heads;
	/* the commit's bodies, in order, and where the last search ended: messages name them in the same order */
	struct apply_body {
		size_t offset;
		uint32_t flags;
		const char *guid;
	} * bodies, few[8];
	size_t body_count, body_at;
	uint32_t touched; /* the last folder that was told of, so that a commit tells it once */
	enum err result;
};

static void apply_fail(struct apply *ap, enum err e)
{
	if (ap->result == OK || e == ERR_CORRUPT)
		ap->result = e;
	ap->a->read_only = true;
}

/*
 * The folder that a change names.  One that is not known yet was made in a log that has become a stub: its state comes with a
 * relocation, later in the replay.  Until then it is provisional; one that stays so was deleted (recover.c drops it).
 */
static struct folder *folder_named(struct apply *ap, uint32_t id)
{
	struct folder *f = account_folder(ap->a, id);

	if (!f && id > 0) {
		f = folder_add(ap->a, id, slice_of("", 0));
		if (f)
			f->provisional = true;
	}
	if (!f)
		apply_fail(ap, ERR_CORRUPT);
	else if (ap->touched != id && !list_empty(&f->watches))
		folder_tell(f); /* who is told looks later: nobody waits in here */
	ap->touched = id;
	return f;
}

/* ---- places ---- */

struct log *account_log(const struct account *a, uint32_t number)
{
	for (uint32_t i = a->log_count; i > 0; i--) /* mostly the newest */
		if (a->logs[i - 1].number == number)
			return &a->logs[i - 1];
	return NULL;
}

static void log_live(struct account *a, uint32_t number, uint64_t bytes, bool add)
{
	struct log *log = account_log(a, number);

	if (!log)
		return;
	log->live_bytes = add ? log->live_bytes + bytes : log->live_bytes - min_u64(bytes, log->live_bytes);
}

static void row_live(struct account *a, const struct row *row, bool add)
{
	/* A record far from its body's is a copy's, and the body counts with the message that it came with. What lies between the two is the
	 * body's record, mostly structure: the larger part of a small message. */
	bool own = row->body_log == row->record_log && row->record_offset > row->body_offset && row->record_offset - row->body_offset <= SOURCE_NEAR_BYTES;

	log_live(a, row->record_log, ROW_LOG_BYTES, add);
	if (own)
		log_live(a, row->body_log, (row->flags & ROW_EXTERNAL ? 0 : row->size) + (row->record_offset - row->body_offset), add);
}

static void row_count(struct account *a, struct folder *f, const struct row *row, bool add)
{
	if (add) {
		a->bytes += row->size;
		a->messages++;
		f->unseen += !(row->flags & FLAG_SEEN);
	} else {
		ASSERT(a->messages > 0 && a->bytes >= row->size);
		a->bytes -= row->size;
		a->messages--;
		f->unseen -= !(row->flags & FLAG_SEEN);
	}
	row_live(a, row, add);
}

/* ---- bodies ---- */

static void bodies_collect(struct apply *ap)
{
	struct record r;
	size_t at = 0, count = 0;

	while (record_next(ap->heads, &at, &r) == RECORD_NEXT_OK)
		count += r.type == RECORD_BODY;
	ap->bodies = count <= ARRAY_LEN(ap->few) ? ap->few : xmalloc(count * sizeof(*ap->bodies));
	at = 0;
	while (count > 0 && record_next(ap->heads, &at, &r) == RECORD_NEXT_OK) {
		if (r.type != RECORD_BODY || r.version != 1 || r.payload.len < sizeof(struct body_fixed))
			continue;
		ap->bodies[ap->body_count++] = (struct apply_body){
			r.offset, get_le32(r.payload.ptr + offsetof(struct body_fixed, flags)), r.payload.ptr
		};
	}
}

static const struct apply_body *body_find(struct apply *ap, const uint8_t guid[GUID_BYTES])
{
	for (size_t n = 0; n < ap->body_count; n++) {
		const struct apply_body *b = &ap->bodies[ap->body_at];
		if (memcmp(b->guid, guid, GUID_BYTES) == 0)
			return b;
		ap->body_at = (ap->body_at + 1) % ap->body_count;
	}
	return NULL;
}

/* ---- messages ---- */

static struct slice local_part(struct slice address)
{
	size_t at = slice_rfind(address, '@');

	return at == SIZE_MAX ? address : slice_upto(address, at);
}

static void row_of_message(struct apply *ap, const struct record *r, const struct message_record *m, struct row *row)
{
	const struct apply_body *body = body_find(ap, m->fixed.guid);

	*row = (struct row){
		.modseq = m->fixed.modseq ? m->fixed.modseq : ap->sequence,
		.size = min_u64(m->fixed.bytes, ROW_SIZE_MAX) & ROW_SIZE_MAX,
		.rcpt_hash = m->rcpt.len ? row_rcpt_hash(local_part(m->rcpt)) & 0xffffff : 0,
		.uid = m->fixed.uid,
		.flags = (m->fixed.flags & ROW_FLAGS) | (m->uidl.len ? ROW_UIDL : 0),
		.keywords = keywords_set(&ap->a->keywords, m->keywords, m->fixed.keyword_words) & 0xffffff,
		.record_log = ap->log,
		.record_offset = (uint32_t)(ap->heads_at + r->offset),
		.body_log = m->fixed.body_log,
		.body_offset = m->fixed.body_offset,
	};
	if (body) {
		row->body_log = ap->log;
		row->body_offset = (uint32_t)(ap->heads_at + body->offset);
		row->flags |= body->flags & BODY_EXTERNAL ? ROW_EXTERNAL : 0;
	} else if (m->fixed.body_flags & BODY_EXTERNAL) {
		row->flags |= ROW_EXTERNAL;
	}
}

/* The message is there already: its records have moved, and it bears its flags as they were when they did. */
static void row_moved(struct apply *ap, struct folder *f, struct row *old, const struct row *row)
{
	row_live(ap->a, old, false);
	old->record_log = row->record_log;
	old->record_offset = row->record_offset;
	old->body_log = row->body_log;
	old->body_offset = row->body_offset;
	row_live(ap->a, old, true);
	f->unseen += !(row->flags & FLAG_SEEN);
	f->unseen -= !(old->flags & FLAG_SEEN);
	rows_flags(&f->rows, row->uid, row->flags & ROW_FLAGS, row->keywords, row->modseq);
}

static void apply_message(struct apply *ap, const struct record *r)
{
	struct message_record m;
	struct folder *f;
	struct row row, *old;

	if (!message_get(r, &m)) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	f = folder_named(ap, m.fixed.folder);
	if (!f)
		return;
	row_of_message(ap, r, &m, &row);
	old = rows_find(&f->rows, row.uid);
	if (old) {
		row_moved(ap, f, old, &row);
	} else {
		if (m.uidl.len)
			rows_uidl_set(&f->rows, row.uid, m.uidl);
		rows_append(&f->rows, &row);
		row_count(ap->a, f, &row, true);
	}
	if (row.uid >= f->uidnext)
		f->uidnext = row.uid < UINT32_MAX ? row.uid + 1 : UINT32_MAX;
	f->modseq = max_u64(f->modseq, row.modseq);
}

/* ---- flags and expunge ---- */

static uint32_t keywords_changed(struct account *a, const struct flags_record *fr, uint32_t set)
{
	struct keyword_set now = *keywords_get(a->keywords, set);

	for (size_t i = 0; i < KEYWORD_WORDS; i++) {
		if (fr->fixed.flags & FLAGS_CLEAR_KEYWORDS)
			now.words[i] = 0;
		if (i < fr->fixed.keyword_words)
			now.words[i] = (now.words[i] & ~fr->keywords_clear[i]) | fr->keywords_set[i];
	}
	return keywords_set(&a->keywords, now.words, KEYWORD_WORDS);
}

static void apply_flags_range(struct apply *ap, struct folder *f, const struct flags_record *fr, struct uid_range range)
{
	uint64_t modseq = fr->fixed.modseq ? fr->fixed.modseq : ap->sequence;
	bool keywords = fr->fixed.keyword_words > 0 || fr->fixed.flags & FLAGS_CLEAR_KEYWORDS;
	const struct row *row;
	uint64_t uid = range.first;

	while (uid <= range.last && (row = rows_from(&f->rows, (uint32_t)uid)) != NULL && row->uid <= range.last) {
		uint32_t flags = ((row->flags & ~fr->fixed.clear) | fr->fixed.set) & ROW_FLAGS;
		uint32_t set = keywords ? keywords_changed(ap->a, fr, row->keywords) : row->keywords;
		f->unseen += !(flags & FLAG_SEEN);
		f->unseen -= !(row->flags & FLAG_SEEN);
		uid = (uint64_t)row->uid + 1;
		rows_flags(&f->rows, row->uid, flags, set, modseq);
	}
	f->modseq = max_u64(f->modseq, modseq);
}

static void apply_flags(struct apply *ap, const struct record *r)
{
	struct flags_record fr;
	struct folder *f;

	if (!flags_get(r, &fr)) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	f = folder_named(ap, fr.fixed.folder);
	for (uint32_t i = 0; f && i < fr.fixed.range_count; i++)
		apply_flags_range(ap, f, &fr, fr.ranges[i]);
}

static void apply_expunge(struct apply *ap, const struct record *r)
{
	struct expunge_record e;
	struct folder *f;
	const struct row *next;
	struct row row;

	if (!expunge_get(r, &e)) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	f = folder_named(ap, e.fixed.folder);
	if (!f)
		return;
	uint64_t modseq = e.fixed.modseq ? e.fixed.modseq : ap->sequence;
	for (uint32_t i = 0; i < e.fixed.range_count; i++) {
		struct uid_range range = e.ranges[i];
		while ((next = rows_from(&f->rows, range.first)) != NULL && next->uid <= range.last) {
			bool removed = rows_remove(&f->rows, next->uid, &row);
			ASSERT(removed);
			row_count(ap->a, f, &row, false);
		}
		vanished_add(&f->vanished, range.first, range.last, modseq);
		if (range.last >= f->uidnext) /* its message record is gone, but its UID was given */
			f->uidnext = range.last < UINT32_MAX ? range.last + 1 : UINT32_MAX;
	}
	f->modseq = max_u64(f->modseq, modseq);
}

/* ---- folders ---- */

static void folder_delete_now(struct account *a, struct folder *f)
{
	const struct row *row;
	struct row gone;

	while ((row = rows_from(&f->rows, 1)) != NULL) {
		bool removed = rows_remove(&f->rows, row->uid, &gone);
		ASSERT(removed);
		row_count(a, f, &gone, false);
	}
	folder_drop(a, f);
}

static void folder_rename_tree(struct account *a, struct slice from, struct slice to)
{
	char name[2 * FOLDER_NAME_BYTES_MAX];

	if (to.len > FOLDER_NAME_BYTES_MAX)
		return;
	for (uint32_t i = 0; i < a->folder_count; i++) {
		struct folder *f = a->folders[i];
		struct slice old = slice_of(f->name, f->name_bytes);
		if (f->id == FOLDER_INBOX || !folder_is_below(old, from) ||
		    old.len - from.len + to.len > FOLDER_NAME_BYTES_MAX)
			continue;
		memcpy(name, to.ptr, to.len);
		memcpy(name + to.len, old.ptr + from.len, old.len - from.len);
		folder_set_name(f, slice_of(name, old.len - from.len + to.len));
	}
}

static void apply_folder_state(struct apply *ap, const struct folder_record *fr)
{
	const struct folder_fixed *d = &fr->fixed;
	struct folder *f = account_folder(ap->a, d->folder);

	if (!f && d->folder > 0)
		f = folder_add(ap->a, d->folder, fr->name);
	if (!f) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	folder_set_name(f, fr->name);
	f->provisional = false;
	f->uidvalidity = d->uidvalidity;
	f->uidnext = f->uidnext > d->uidnext ? f->uidnext : d->uidnext;
	f->special_use = d->special_use;
	f->uidl_formula = d->uidl_formula;
	f->subscribed = d->flags & FOLDER_FLAG_SUBSCRIBED;
	f->noselect = d->flags & FOLDER_FLAG_NOSELECT;
	f->modseq = max_u64(f->modseq, d->op == FOLDER_CREATE ? ap->sequence : d->modseq);
	vanished_raise_floor(&f->vanished, d->vanished_floor);
	ap->a->next_folder = (uint32_t)max_u64(ap->a->next_folder, (uint64_t)d->folder + 1);
	ap->a->last_uidvalidity = (uint32_t)max_u64(ap->a->last_uidvalidity, d->uidvalidity);
}

static void apply_subscribe(struct apply *ap, struct slice name, bool on)
{
	struct folder *f = folder_by_name(ap->a, name);

	if (f)
		f->subscribed = on;
	if (!f || !on)
		subscription_set(ap->a, name, on);
}

static void apply_folder(struct apply *ap, const struct record *r)
{
	struct folder_record fr;
	struct folder *f;

	if (!folder_get(r, &fr)) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	f = account_folder(ap->a, fr.fixed.folder);
	folder_names_changed(ap->a);
	switch ((enum folder_op)fr.fixed.op) {
	case FOLDER_CREATE:
	case FOLDER_STATE:
		apply_folder_state(ap, &fr);
		break;
	case FOLDER_RENAME:
		folder_rename_tree(ap->a, fr.name, fr.name2);
		break;
	case FOLDER_DELETE:
		if (f && f->id != FOLDER_INBOX) {
			if (f->subscribed) /* a subscription is to a name, and outlives the folder (RFC 9051) */
				subscription_set(ap->a, slice_of(f->name, f->name_bytes), true);
			folder_delete_now(ap->a, f);
		}
		break;
	case FOLDER_SUBSCRIBE:
	case FOLDER_UNSUBSCRIBE:
		apply_subscribe(ap, fr.name, fr.fixed.op == FOLDER_SUBSCRIBE);
		break;
	case FOLDER_SET_USE:
		if (f)
			f->special_use = fr.fixed.special_use;
		break;
	}
}

/* ---- facts ---- */

/* All folders but these are gone. */
static void fact_folders(struct apply *ap, struct slice ids)
{
	for (uint32_t i = ap->a->folder_count; i > 0; i--) {
		struct folder *f = ap->a->folders[i - 1];
		bool there = f->id == FOLDER_INBOX;
		for (size_t k = 0; k + 4 <= ids.len && !there; k += 4)
			there = get_le32(ids.ptr + k) == f->id;
		if (!there)
			folder_delete_now(ap->a, f);
	}
}

static void fact_subscriptions(struct apply *ap, struct slice names)
{
	struct slice name;

	ap->a->subscriptions_bytes = 0;
	while (slice_next(&names, 0, &name))
		if (name.len > 0)
			subscription_set(ap->a, name, true);
}

static void fact_of_folder(struct apply *ap, const struct fact_record *fact)
{
	struct folder *f = folder_named(ap, fact->fixed.folder);
	uint64_t value = fact->fixed.value;

	if (!f)
		return;
	if (fact->fixed.kind == FACT_UIDNEXT)
		f->uidnext = (uint32_t)max_u64(f->uidnext, min_u64(value, UINT32_MAX));
	else if (fact->fixed.kind == FACT_VANISHED_FLOOR)
		vanished_raise_floor(&f->vanished, value);
	else
		f->modseq = max_u64(f->modseq, value);
}

static void apply_fact(struct apply *ap, const struct record *r)
{
	struct account *a = ap->a;
	struct fact_record fact;
	struct log *log;

	if (!fact_get(r, &fact)) {
		apply_fail(ap, ERR_CORRUPT);
		return;
	}
	switch ((enum fact_kind)fact.fixed.kind) {
	case FACT_KEYWORD:
		if (!keywords_define(&a->keywords, fact.fixed.value, fact.data))
			apply_fail(ap, ERR_CORRUPT);
		break;
	case FACT_LAST_UIDVALIDITY:
		a->last_uidvalidity = (uint32_t)max_u64(a->last_uidvalidity, min_u64(fact.fixed.value, UINT32_MAX));
		break;
	case FACT_NEXT_FOLDER:
		a->next_folder = (uint32_t)max_u64(a->next_folder, min_u64(fact.fixed.value, UINT32_MAX));
		break;
	case FACT_UIDNEXT:
	case FACT_VANISHED_FLOOR:
	case FACT_MODSEQ:
		fact_of_folder(ap, &fact);
		break;
	case FACT_FOLDERS:
		fact_folders(ap, fact.data);
		break;
	case FACT_SUBSCRIPTIONS:
		fact_subscriptions(ap, fact.data);
		break;
	case FACT_SEQUENCE:
		a->sequence = max_u64(a->sequence, fact.fixed.value);
		break;
	case FACT_SET_ASIDE:
		log = fact.data.len >= 24 ? account_log(a, (uint32_t)get_le64(fact.data.ptr)) : NULL;
		if (log) {
			log->damaged = log->damaged || fact.fixed.value != 0;
			log->set_aside_end = max_u64(log->set_aside_end, get_le64(fact.data.ptr + 16));
		}
		break;
	case FACT_COUNTERS:
		break;
	default:
		if (!(r->flags & RECORD_IGNORABLE))
			apply_fail(ap, ERR_READONLY);
	}
}

/* ---- all ---- */

static void apply_record(struct apply *ap, const struct record *r)
{
	struct open_record open;

	if (!record_known(r)) {
		if (!(r->flags & RECORD_IGNORABLE))
			apply_fail(ap, ERR_READONLY);
		return;
	}
	switch ((enum record_type)r->type) {
	case RECORD_OPEN:
		if (open_get(r, &open) && ap->a->salt == 0)
			ap->a->salt = open.fixed.salt;
		if (open_get(r, &open) && (open.fixed.format != FORMAT_VERSION || open.fixed.required != 0))
			apply_fail(ap, ERR_READONLY);
		break;
	case RECORD_FOLDER:
		apply_folder(ap, r);
		break;
	case RECORD_MESSAGE:
		apply_message(ap, r);
		break;
	case RECORD_FLAGS:
		apply_flags(ap, r);
		break;
	case RECORD_EXPUNGE:
		apply_expunge(ap, r);
		break;
	case RECORD_FACT:
		apply_fact(ap, r);
		break;
	case RECORD_CUT:  /* the fence's business */
	case RECORD_BODY: /* found by its messages */
	case RECORD_SEAL:
	case RECORD_STUB:
	case RECORD_MOVED:
		break;
	}
}

enum err apply_commit(struct account *a, uint32_t log, uint64_t offset, const struct commit_header *header,
		      struct slice heads)
{
	struct apply ap = { .a = a,
			    .log = log,
			    .heads_at = offset + COMMIT_HEADER_BYTES,
			    .sequence = header->sequence,
			    .heads = heads };
	struct record r;
	size_t at = 0;
	int next;

	if (offset + header->bytes > LOG_BYTES_MAX) {
		apply_fail(&ap, ERR_CORRUPT);
		return ap.result;
	}
	if (!commit_header_known(header))
		apply_fail(&ap, ERR_READONLY);
	bodies_collect(&ap);
	while ((next = record_next(heads, &at, &r)) == RECORD_NEXT_OK)
		apply_record(&ap, &r);
	if (next == RECORD_NEXT_BAD)
		apply_fail(&ap, ERR_CORRUPT);
	if (ap.bodies != ap.few)
		free(ap.bodies);
	a->sequence = max_u64(a->sequence, header->sequence);
	a->last = (struct log_position){ log, offset, offset + header->bytes, header->header_hash, header->sequence };
	return ap.result;
}
