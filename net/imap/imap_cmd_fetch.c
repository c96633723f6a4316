/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_fetch.c - FETCH (RFC 9051 section 6.4.5): message by message, item by item, as there is room.
 *
 * The cursor is {message, item, bytes}; whatever is full, the stack goes back and imap_fetch_on begins there again.  What needs nothing but
 * the row (FLAGS, UID, RFC822.SIZE, MODSEQ) reads nothing; what needs the message's records or structure reads those; only the rest reads
 * the message.  All that is needed is there before a message's answer begins, so that one that is damaged is left out, and NO says so at the end.
 *
 * \Seen of BODY[...] is set before the bytes are sent, for some hundred messages in one commit, and told with them.
 */
#include "net/imap/imap_fetch.h"

#include "core/base/log.h"
#include "core/run/fiber.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static enum step fetch_on(struct imap_session *p);

static void drop(struct imap_session *p)
{
	struct imap_fetch *f = p->cmd->state;
	imap_bytes_release(&f->bytes);
	if (f->source)
		imap_source_unref(f->source);
	f->source = NULL;
	free(f->seen);
	imap_set_release(&f->set);
	imap_vanished_release(&f->gone);
}

/* ---- \Seen ---- */

/* Sets \Seen on the unseen among the next messages of the set. */
static void mark_some(struct imap_session *p, struct imap_fetch *f)
{
	struct imap_set ahead = f->set; /* shares the ranges */
	uint32_t index = f->index;
	f->seen_count = 0;
	if (!f->seen)
		f->seen = xmalloc(IMAP_SEEN_MESSAGES * sizeof *f->seen);
	for (unsigned n = 0; n < IMAP_SEEN_MESSAGES; n++) {
		struct message m;
		view_message(p->view, index, &m);
		if (!(m.flags & FLAG_SEEN) && m.modseq > f->changed_since)
			f->seen[f->seen_count++] = m.uid;
		f->seen_until = index + 1;
		if (!imap_set_next(p, &ahead, &index))
			break;
	}
	uint64_t modseq;
	if (!f->seen_count)
		return;
	enum err e = account_flags(p->account, p->folder, f->seen, f->seen_count, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq);
	if (e != OK) { /* the message can be read all the same */
		f->seen_count = 0;
		return;
	}
	p->cmd->told_uids = f->seen;
	p->cmd->told_count = f->seen_count;
	p->cmd->told_modseq = modseq;
}

static bool marked(const struct imap_fetch *f, uint32_t uid)
{
	for (size_t i = 0; i < f->seen_count && f->seen[i] <= uid; i++)
		if (f->seen[i] == uid)
			return true;
	return false;
}

/* ---- items ---- */

static void put_date(struct imap_session *p, int64_t seconds, int zone_min)
{
	static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
	time_t local = (time_t)(seconds + 60 * zone_min);
	struct tm tm;
	if (!gmtime_r(&local, &tm) || tm.tm_year < -1900 || tm.tm_year > 8099)
		gmtime_r(&(time_t){ 0 }, &tm);
	int zone = abs(zone_min);
	reply_printf(&p->s.reply, "\"%02d-%s-%04d %02d:%02d:%02d %c%02d%02d\"", tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
		     tm.tm_min, tm.tm_sec, zone_min < 0 ? '-' : '+', zone / 60, zone % 60);
}

static void put_email_id(struct imap_session *p, const uint8_t guid[16])
{
	char hex[33];
	for (size_t i = 0; i < 16; i++)
		snprintf(hex + 2 * i, 3, "%02x", guid[i]);
	reply_printf(&p->s.reply, "EMAILID (M%s)", hex);
}

static enum err put_item(struct imap_session *p, struct imap_fetch *f, const struct imap_item *item)
{
	struct reply *r = &p->s.reply;
	const struct message *m = &f->message;
	switch ((enum imap_item_kind)item->kind) {
	case ITEM_FLAGS:
		REPLY_LIT(r, "FLAGS ");
		imap_put_flags(p, m);
		return OK;
	case ITEM_UID:
		reply_printf(r, "UID %u", m->uid);
		return OK;
	case ITEM_INTERNALDATE:
		REPLY_LIT(r, "INTERNALDATE ");
		put_date(p, f->source->m.internal_date_s, f->source->m.internal_date_zone_min);
		return OK;
	case ITEM_SIZE:
		reply_printf(r, "RFC822.SIZE %llu", (unsigned long long)m->size);
		return OK;
	case ITEM_MODSEQ:
		reply_printf(r, "MODSEQ (%llu)", (unsigned long long)m->modseq);
		return OK;
	case ITEM_SAVEDATE:
		REPLY_LIT(r, "SAVEDATE ");
		if (f->source->m.save_date_s)
			put_date(p, f->source->m.save_date_s, 0);
		else
			REPLY_LIT(r, "NIL");
		return OK;
	case ITEM_EMAILID:
		put_email_id(p, f->source->m.guid);
		return OK;
	case ITEM_THREADID:
		REPLY_LIT(r, "THREADID NIL"); /* RFC 8474 section 5.2: threads are not computed */
		return OK;
	case ITEM_ENVELOPE:
	case ITEM_BODY_SHORT:
	case ITEM_BODYSTRUCTURE:
	case ITEM_PREVIEW:
		return imap_fetch_structure(p, f, item);
	case ITEM_BINARY:
	case ITEM_BINARY_SIZE:
		return imap_fetch_binary(p, f, item);
	case ITEM_BODY:
		return imap_fetch_section(p, f, item);
	}
	UNREACHABLE();
}

/* ---- messages ---- */

static bool open_source(struct imap_session *p, struct imap_fetch *f)
{
	enum err e = imap_source_open(p->view, f->index, f->needs_bytes, &f->source);
	for (size_t i = 0; e == OK && i < f->item_count; i++)
		e = imap_fetch_prepare(f->source, &f->items[i]);
	if (e == OK)
		return true;
	if (f->source)
		imap_source_unref(f->source);
	f->source = NULL;
	f->damaged = true;
	log_event(LOG_WARN, "imap.message_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name),
		  LOG_U64("uid", f->message.uid), LOG_ERR(e));
	return false;
}

static void begin_message(struct imap_session *p, struct imap_fetch *f)
{
	if (f->marks_seen && !p->read_only && f->index >= f->seen_until)
		mark_some(p, f);
	view_message(p->view, f->index, &f->message);
	if (f->message.modseq <= f->changed_since && f->changed_since)
		return;
	if (f->needs_source && !open_source(p, f))
		return;
	view_message(p->view, f->index, &f->message); /* opening may have waited */
	imap_put_fetch(p, f->index, f->message.uid);
	f->in_message = true;
	f->first = true;
	f->item = 0;
}

static void end_message(struct imap_session *p, struct imap_fetch *f)
{
	if (!f->has_flags && marked(f, f->message.uid)) {
		REPLY_LIT(&p->s.reply, " FLAGS ");
		view_message(p->view, f->index, &f->message);
		imap_put_flags(p, &f->message);
		if (p->enabled & IMAP_CONDSTORE && !f->has_modseq)
			reply_printf(&p->s.reply, " MODSEQ (%llu)", (unsigned long long)f->message.modseq);
	} else if (f->has_flags && !f->has_modseq && p->enabled & IMAP_CONDSTORE && marked(f, f->message.uid)) {
		reply_printf(&p->s.reply, " MODSEQ (%llu)", (unsigned long long)f->message.modseq);
	}
	REPLY_LIT(&p->s.reply, ")\r\n");
	f->in_message = false;
	if (f->source)
		imap_source_unref(f->source);
	f->source = NULL;
}

static enum step ended(struct imap_session *p, const struct imap_fetch *f)
{
	if (f->unknown_encoding)
		return imap_no(p, "UNKNOWN-CTE", "a part has an encoding that nobody knows");
	return f->damaged ? imap_no(p, "CORRUPTION", "some messages could not be read") : imap_ok(p, "fetched");
}

/* One item, or the begin or end of a message. ERR_CLOSED: all is told. */
static enum err step_on(struct imap_session *p, struct imap_fetch *f)
{
	if (!f->in_message) {
		if (!imap_set_next(p, &f->set, &f->index))
			return ERR_CLOSED;
		begin_message(p, f);
		return OK;
	}
	if (f->item == f->item_count) {
		end_message(p, f);
		return OK;
	}
	if (!f->first)
		REPLY_LIT(&p->s.reply, " ");
	f->first = false;
	return put_item(p, f, &f->items[f->item++]);
}

static enum step fetch_on(struct imap_session *p)
{
	struct imap_fetch *f = p->cmd->state;
	p->cmd->resume = fetch_on;
	if (!imap_vanished_tell(p, &f->gone))
		return STEP_RESUME;
	for (unsigned n = 1;; n++) {
		enum err e = imap_fetch_flush(p, f);
		if (e == ERR_AGAIN || reply_full(&p->s.reply))
			return STEP_RESUME;
		if (e == OK)
			e = step_on(p, f);
		if (e == ERR_CLOSED)
			return ended(p, f);
		if (e != OK || session_dying(&p->s))
			return STEP_ABORT; /* half an answer is out: only the end of the connection tells the client */
		if (n % 64 == 0)
			fiber_breathe();
	}
}

enum step imap_cmd_fetch(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct imap_fetch *f = arena_zalloc(a->arena, sizeof *f);
	if (!f)
		return imap_fail(p, ERR_LIMIT);
	if (!imap_sp(a) || !imap_set_read(p, &f->set))
		return imap_bad_args(p);
	ranges_init(&f->gone.ranges, 1);
	p->cmd->state = f;
	p->cmd->drop = drop;
	if (!imap_sp(a) || !imap_fetch_read_items(p, f))
		return imap_bad_args(p);
	if (f->vanished)
		imap_vanished_collect(p, f->changed_since, &f->set.ranges, &f->gone);
	if (f->partial_first) /* before CHANGEDSINCE: RFC 9394 section 3.4 */
		imap_set_keep(p, &f->set, f->partial_first, f->partial_last, f->partial_from_end);
	return fetch_on(p);
}
