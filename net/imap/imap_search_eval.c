/* SPDX-License-Identifier: Apache-2.0 */
/* imap_search_eval.c - a program and the messages of a view: see imap_search.h. */
#include "net/imap/imap_search.h"

#include "core/base/log.h"
#include "core/run/fiber.h"

#include <stdio.h>

/* ---- Kleene's logic ---- */

static uint8_t not_of(uint8_t v) { return v == SEARCH_UNKNOWN ? SEARCH_UNKNOWN : !v; }

static uint8_t all_of(const uint8_t *v, size_t count)
{
	uint8_t result = SEARCH_TRUE;
	for (size_t i = 0; i < count; i++) {
		if (v[i] == SEARCH_FALSE)
			return SEARCH_FALSE;
		if (v[i] == SEARCH_UNKNOWN)
			result = SEARCH_UNKNOWN;
	}
	return result;
}

static uint8_t any_of(const uint8_t *v, size_t count)
{
	uint8_t result = SEARCH_FALSE;
	for (size_t i = 0; i < count; i++) {
		if (v[i] == SEARCH_TRUE)
			return SEARCH_TRUE;
		if (v[i] == SEARCH_UNKNOWN)
			result = SEARCH_UNKNOWN;
	}
	return result;
}

enum search_value search_judge(const struct search_program *s)
{
	size_t top = 0;
	for (size_t i = 0; i < s->count; i++) {
		const struct search_key *k = &s->keys[i];
		if (k->op > SEARCH_NOT) {
			s->stack[top++] = s->values[i];
			continue;
		}
		ASSERT(k->operands > 0 || k->op == SEARCH_NOT);
		size_t n = k->op == SEARCH_NOT ? 1 : k->operands;
		ASSERT(top >= n);
		top -= n;
		const uint8_t *v = s->stack + top;
		s->stack[top] = k->op == SEARCH_NOT ? not_of(*v) : k->op == SEARCH_AND ? all_of(v, n) : any_of(v, n);
		top++;
	}
	ASSERT(top == 1);
	return (enum search_value)s->stack[0];
}

/* ---- what the row tells ---- */

static bool has_keyword(struct imap_session *p, struct search_key *k, uint32_t set)
{
	uint32_t cursor = 0;
	struct slice name;
	if (!set)
		return false;
	if (set == k->last_keywords)
		return k->last_had;
	k->last_keywords = set;
	k->last_had = false;
	while (!k->last_had && account_keyword_next(p->account, set, &cursor, &name))
		k->last_had = slice_eq_nocase(name, k->name);
	return k->last_had;
}

static uint8_t by_row(struct imap_session *p, struct search_key *k, uint32_t index, const struct message *m)
{
	switch (k->op) {
	case SEARCH_ALL:
		return SEARCH_TRUE;
	case SEARCH_NONE:
		return SEARCH_FALSE;
	case SEARCH_SET:
		return ranges_contains(&k->set.ranges, k->set.uid ? m->uid : index + 1);
	case SEARCH_FLAG:
		return (m->flags & k->number) != 0;
	case SEARCH_KEYWORD:
		return has_keyword(p, k, m->keywords);
	case SEARCH_LARGER:
		return m->size > k->number;
	case SEARCH_SMALLER:
		return m->size < k->number;
	case SEARCH_MODSEQ:
		return m->modseq >= k->number;
	default:
		return SEARCH_UNKNOWN;
	}
}

/* ---- what the record tells ---- */

static int64_t day_of(int64_t seconds) { return seconds >= 0 ? seconds / 86400 : -((86399 - seconds) / 86400); }

static bool is_email_id(const uint8_t guid[16], struct slice id)
{
	char hex[34] = "M";
	for (size_t i = 0; i < 16; i++)
		snprintf(hex + 1 + 2 * i, 3, "%02x", guid[i]);
	return slice_eq(id, slice_of(hex, 33));
}

/* Dates as the server shows them, time and zone disregarded (RFC 9051 section 6.4.4). A copy whose save date is not known has its
 * INTERNALDATE for one (RFC 8514 section 4.3). */
static uint8_t by_record(const struct search_program *s, const struct search_key *k, const struct message_source *m)
{
	int64_t day = day_of(m->internal_date_s + 60 * m->internal_date_zone_min);
	int64_t saved = m->save_date_s ? day_of(m->save_date_s) : day;
	switch (k->op) {
	case SEARCH_BEFORE:
		return day < k->day;
	case SEARCH_ON:
		return day == k->day;
	case SEARCH_SINCE:
		return day >= k->day;
	case SEARCH_SAVED_BEFORE:
		return saved < k->day;
	case SEARCH_SAVED_ON:
		return saved == k->day;
	case SEARCH_SAVED_SINCE:
		return saved >= k->day;
	case SEARCH_OLDER:
		return m->internal_date_s <= s->now_s - (int64_t)k->number;
	case SEARCH_YOUNGER:
		return m->internal_date_s >= s->now_s - (int64_t)k->number;
	case SEARCH_EMAILID:
		return is_email_id(m->guid, k->name);
	default:
		return SEARCH_UNKNOWN;
	}
}

static void fill_record(struct search_program *s, const struct message_source *m)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->values[i] == SEARCH_UNKNOWN && s->keys[i].op > SEARCH_NOT)
			s->values[i] = by_record(s, &s->keys[i], m);
}

/* ---- a message ---- */

/* Not all fields are in its structure. */
static bool kept_cut(const struct imap_source *source) { return source->structure && source->structure->tree->truncated; }

/* The phases that need the message itself. */
static enum err judge_source(struct search_program *s, struct imap_source *source, enum search_value *value_io)
{
	enum err e = OK;
	if (s->has_phase[PHASE_RECORD]) {
		fill_record(s, &source->m);
		*value_io = search_judge(s);
	}
	if (*value_io == SEARCH_UNKNOWN && s->has_phase[PHASE_KEPT]) {
		e = search_kept(s, source);
		*value_io = search_judge(s);
	}
	if (e == OK && *value_io == SEARCH_UNKNOWN && (s->has_phase[PHASE_HEADER] || kept_cut(source))) {
		e = search_header(s, source);
		*value_io = search_judge(s);
	}
	if (e == OK && *value_io == SEARCH_UNKNOWN && s->has_phase[PHASE_BODY]) {
		e = search_body(s, source);
		*value_io = search_judge(s);
	}
	return e;
}

static bool matches(struct imap_session *p, struct search_program *s, uint32_t index)
{
	struct message m;
	view_message(p->view, index, &m);
	for (size_t i = 0; i < s->count; i++)
		s->values[i] = by_row(p, &s->keys[i], index, &m);
	enum search_value v = search_judge(s);
	if (v != SEARCH_UNKNOWN)
		return v == SEARCH_TRUE;
	struct imap_source *source;
	enum err e = imap_source_open(p->view, index, false, &source);
	if (e == OK) {
		e = judge_source(s, source, &v);
		imap_source_unref(source);
	}
	if (e != OK) {
		s->damaged = true;
		log_event(LOG_WARN, "imap.search_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name), LOG_U64("uid", m.uid),
			  LOG_ERR(e));
	}
	return e == OK && v == SEARCH_TRUE;
}

/* The next message that may match. */
static bool next_candidate(const struct imap_session *p, struct imap_set *only, uint32_t *at_io, uint32_t *index_out)
{
	if (only)
		return imap_set_next(p, only, index_out);
	*index_out = *at_io;
	return (*at_io)++ < view_count(p->view);
}

enum err search_run(struct imap_session *p, struct search_program *s, struct bits *found)
{
	struct imap_set only; /* shares the ranges */
	struct imap_progress own, *progress = s->progress ? s->progress : &own;
	uint32_t at = 0, index;
	if (!s->progress)
		imap_progress_begin(&own, view_count(p->view));
	if (s->only)
		only = s->only->set;
	for (unsigned n = 1; next_candidate(p, s->only ? &only : NULL, &at, &index); n++) {
		if (matches(p, s, index))
			bits_set(found, index);
		if (n % 32 == 0 || s->has_phase[PHASE_KEPT] || s->has_phase[PHASE_HEADER] || s->has_phase[PHASE_BODY])
			fiber_breathe();
		imap_progress_at(p, progress, index + 1);
		if (session_dying(&p->s))
			return ERR_CLOSED;
	}
	return OK;
}
