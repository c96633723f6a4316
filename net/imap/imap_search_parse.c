/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_search_parse.c - search keys (RFC 9051 section 6.4.4 and the extensions) become a program.
 *
 * Nesting is kept in a list of frames that the client can make IMAP_SEARCH_DEPTH_MAX deep, not on our stack: a frame is an open list, a
 * NOT or an OR that waits for its operands.  When an operand is complete, whatever it completes goes to the program in postfix order.
 */
#include "net/imap/imap_search.h"

#include "core/run/clock.h"

#include <stdio.h>

enum arg { ARG_NONE, ARG_FLAG, ARG_UNFLAG, ARG_KEYWORD, ARG_UNKEYWORD, ARG_NUMBER, ARG_AGE, ARG_DATE, ARG_STRING, ARG_HEADER, ARG_FIELD, ARG_UID,
	   ARG_MODSEQ, ARG_EMAILID, ARG_THREADID };

static const struct word {
	const char *name;
	uint8_t op, arg;
	uint8_t bit;
	const char *field;
} words[] = {
	{ "ALL", SEARCH_ALL, ARG_NONE, 0, NULL },
	{ "ANSWERED", SEARCH_FLAG, ARG_FLAG, FLAG_ANSWERED, NULL },
	{ "BCC", SEARCH_HEADER, ARG_FIELD, 0, "Bcc" },
	{ "BEFORE", SEARCH_BEFORE, ARG_DATE, 0, NULL },
	{ "BODY", SEARCH_BODY, ARG_STRING, 0, NULL },
	{ "CC", SEARCH_HEADER, ARG_FIELD, 0, "Cc" },
	{ "DELETED", SEARCH_FLAG, ARG_FLAG, FLAG_DELETED, NULL },
	{ "DRAFT", SEARCH_FLAG, ARG_FLAG, FLAG_DRAFT, NULL },
	{ "EMAILID", SEARCH_EMAILID, ARG_EMAILID, 0, NULL },
	{ "FLAGGED", SEARCH_FLAG, ARG_FLAG, FLAG_FLAGGED, NULL },
	{ "FROM", SEARCH_HEADER, ARG_FIELD, 0, "From" },
	{ "HEADER", SEARCH_HEADER, ARG_HEADER, 0, NULL },
	{ "KEYWORD", SEARCH_KEYWORD, ARG_KEYWORD, 0, NULL },
	{ "LARGER", SEARCH_LARGER, ARG_NUMBER, 0, NULL },
	{ "MODSEQ", SEARCH_MODSEQ, ARG_MODSEQ, 0, NULL },
	{ "NEW", SEARCH_NONE, ARG_NONE, 0, NULL }, /* nothing is \Recent (README, Limits): RECENT is never true, OLD always */
	{ "OLD", SEARCH_ALL, ARG_NONE, 0, NULL },
	{ "OLDER", SEARCH_OLDER, ARG_AGE, 0, NULL },
	{ "ON", SEARCH_ON, ARG_DATE, 0, NULL },
	{ "RECENT", SEARCH_NONE, ARG_NONE, 0, NULL },
	{ "SAVEDATESUPPORTED", SEARCH_ALL, ARG_NONE, 0, NULL },
	{ "SAVEDBEFORE", SEARCH_SAVED_BEFORE, ARG_DATE, 0, NULL },
	{ "SAVEDON", SEARCH_SAVED_ON, ARG_DATE, 0, NULL },
	{ "SAVEDSINCE", SEARCH_SAVED_SINCE, ARG_DATE, 0, NULL },
	{ "SEEN", SEARCH_FLAG, ARG_FLAG, FLAG_SEEN, NULL },
	{ "SENTBEFORE", SEARCH_SENT_BEFORE, ARG_DATE, 0, NULL },
	{ "SENTON", SEARCH_SENT_ON, ARG_DATE, 0, NULL },
	{ "SENTSINCE", SEARCH_SENT_SINCE, ARG_DATE, 0, NULL },
	{ "SINCE", SEARCH_SINCE, ARG_DATE, 0, NULL },
	{ "SMALLER", SEARCH_SMALLER, ARG_NUMBER, 0, NULL },
	{ "SUBJECT", SEARCH_HEADER, ARG_FIELD, 0, "Subject" },
	{ "TEXT", SEARCH_TEXT, ARG_STRING, 0, NULL },
	{ "THREADID", SEARCH_NONE, ARG_THREADID, 0, NULL }, /* THREADID is NIL everywhere */
	{ "TO", SEARCH_HEADER, ARG_FIELD, 0, "To" },
	{ "UID", SEARCH_SET, ARG_UID, 0, NULL },
	{ "UNANSWERED", SEARCH_FLAG, ARG_UNFLAG, FLAG_ANSWERED, NULL },
	{ "UNDELETED", SEARCH_FLAG, ARG_UNFLAG, FLAG_DELETED, NULL },
	{ "UNDRAFT", SEARCH_FLAG, ARG_UNFLAG, FLAG_DRAFT, NULL },
	{ "UNFLAGGED", SEARCH_FLAG, ARG_UNFLAG, FLAG_FLAGGED, NULL },
	{ "UNKEYWORD", SEARCH_KEYWORD, ARG_UNKEYWORD, 0, NULL },
	{ "UNSEEN", SEARCH_FLAG, ARG_UNFLAG, FLAG_SEEN, NULL },
	{ "YOUNGER", SEARCH_YOUNGER, ARG_AGE, 0, NULL },
};

struct frame {
	uint8_t kind; /* SEARCH_AND: a list; SEARCH_OR; SEARCH_NOT */
	uint32_t operands;
};
struct reader {
	struct imap_session *p;
	struct search_program *s;
	struct frame *frames;
	size_t depth;
	bool uidonly;
};

static bool no(struct reader *r, const char *why)
{
	r->p->cmd->args.why = why;
	return false;
}

static struct search_key *emit(struct reader *r, enum search_op op)
{
	struct search_program *s = r->s;
	if (s->count == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 16;
		struct search_key *more = cap > IMAP_SEARCH_KEYS_MAX ? NULL : arena_zalloc(&r->p->cmd->arena, cap * sizeof *more);
		if (!more) {
			no(r, "too many search keys");
			return NULL;
		}
		if (s->count)
			memcpy(more, s->keys, s->count * sizeof *more);
		s->keys = more;
		s->cap = cap;
	}
	struct search_key *k = &s->keys[s->count++];
	*k = (struct search_key){ .op = (uint8_t)op, .last_keywords = 0 };
	return k;
}

/* ---- arguments of a key ---- */

static bool needle(struct reader *r, struct search_key *k)
{
	struct imap_args *a = &r->p->cmd->args;
	struct slice text, charset = r->s->charset;
	struct buf plain, folded;
	if (!imap_sp(a) || !imap_astring(a, &text))
		return false;
	if (!charset.len && !imap_utf8_good(text))
		return no(r, "a string that is not UTF-8");
	buf_init(&plain, IMAP_COMMAND_BYTES_MAX * 4);
	buf_init(&folded, IMAP_COMMAND_BYTES_MAX * 4);
	bool good = mime_to_utf8(&plain, charset.len ? charset : SLICE_LIT("UTF-8"), text) && mime_casemap(&folded, buf_slice(&plain));
	k->needle = good && folded.len ? arena_slice(a->arena, buf_slice(&folded)) : slice_of("", 0);
	good = good && k->needle.ptr;
	buf_release(&plain);
	buf_release(&folded);
	return good || no(r, "too long");
}

static bool set(struct reader *r, struct search_key *k, bool uid)
{
	if (!imap_set_text(&r->p->cmd->args, &k->set_text) || !imap_set_judge(r->p, k->set_text, uid, &k->set)) {
		k->op = SEARCH_NONE; /* it holds no set */
		return false;
	}
	k->op = SEARCH_SET;
	return true;
}

/* MODSEQ [entry-name entry-type] number: RFC 7162 section 3.1.5. There is one MODSEQ for all flags, whichever is named. */
static bool modseq(struct reader *r, struct search_key *k)
{
	struct imap_args *a = &r->p->cmd->args;
	struct slice entry;
	if (!imap_sp(a))
		return false;
	if (imap_peek(a, '"')) {
		if (!imap_string(a, &entry) || !imap_sp(a))
			return false;
		if (!slice_starts_nocase(entry, SLICE_LIT("/flags/")))
			return no(r, "no such metadata item");
		if (!imap_word(a, "all") && !imap_word(a, "priv") && !imap_word(a, "shared"))
			return no(r, "expected all, priv or shared");
		if (!imap_sp(a))
			return false;
	}
	r->s->modseq = true;
	return imap_number(a, INT64_MAX, &k->number);
}

static bool keyword(struct reader *r, struct search_key *k)
{
	struct imap_args *a = &r->p->cmd->args;
	if (!imap_sp(a) || !imap_atom(a, &k->name))
		return false;
	if (slice_eq_nocase(k->name, SLICE_LIT("$Forwarded"))) { /* a flag of the store */
		k->op = SEARCH_FLAG;
		k->number = FLAG_FORWARDED;
	}
	return true;
}

static bool arguments(struct reader *r, struct search_key *k, const struct word *w)
{
	struct imap_args *a = &r->p->cmd->args;
	k->number = w->bit;
	switch ((enum arg)w->arg) {
	case ARG_NONE:
	case ARG_FLAG:
	case ARG_UNFLAG:
		return true;
	case ARG_KEYWORD:
	case ARG_UNKEYWORD:
		return keyword(r, k);
	case ARG_NUMBER:
		return imap_sp(a) && imap_number(a, INT64_MAX, &k->number);
	case ARG_AGE: /* RFC 5032: nz-number */
		return imap_sp(a) && imap_number(a, UINT32_MAX, &k->number) && (k->number || no(r, "an interval of no length"));
	case ARG_DATE:
		return imap_sp(a) && imap_date(a, &k->day);
	case ARG_STRING:
		return needle(r, k);
	case ARG_HEADER:
		if (!imap_sp(a) || !imap_astring(a, &k->name))
			return false;
		k->kept = mime_field_kept(k->name);
		return needle(r, k);
	case ARG_FIELD:
		k->name = slice_str(w->field);
		k->kept = true;
		return needle(r, k);
	case ARG_UID:
		return imap_sp(a) && set(r, k, true);
	case ARG_MODSEQ:
		return modseq(r, k);
	case ARG_EMAILID:
	case ARG_THREADID:
		return imap_sp(a) && imap_atom(a, &k->name);
	}
	UNREACHABLE();
}

/* ---- nesting ---- */

static bool open_frame(struct reader *r, enum search_op kind)
{
	if (r->depth == IMAP_SEARCH_DEPTH_MAX)
		return no(r, "search keys nested too deep");
	r->frames[r->depth++] = (struct frame){ .kind = (uint8_t)kind };
	return true;
}

static bool close_frame(struct reader *r)
{
	struct frame *f = &r->frames[--r->depth];
	if (f->kind == SEARCH_AND && f->operands == 1)
		return true;
	struct search_key *k = emit(r, (enum search_op)f->kind);
	if (k)
		k->operands = f->kind == SEARCH_NOT ? 1 : f->operands;
	return k != NULL;
}

/* An operand is whole: so is what was waiting for it alone. */
static bool operand_done(struct reader *r)
{
	for (;;) {
		struct frame *f = &r->frames[r->depth - 1];
		f->operands++;
		if (f->kind == SEARCH_AND || (f->kind == SEARCH_OR && f->operands < 2))
			return true;
		if (!close_frame(r))
			return false;
	}
}

static bool plain_key(struct reader *r, const struct word *w)
{
	struct search_key *k = emit(r, (enum search_op)w->op);
	if (!k || !arguments(r, k, w))
		return false;
	if ((w->arg == ARG_UNFLAG || w->arg == ARG_UNKEYWORD) && !emit(r, SEARCH_NOT))
		return false;
	return operand_done(r);
}

static const struct word *find_word(struct slice name)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (slice_eq_nocase(name, slice_str(words[i].name)))
			return &words[i];
	return NULL;
}

static bool number_set(struct reader *r)
{
	struct search_key *k = emit(r, SEARCH_NONE);
	bool saved = imap_peek(&r->p->cmd->args, '$');
	r->uidonly |= !saved && r->p->enabled & IMAP_UIDONLY;
	return k && set(r, k, false) && operand_done(r);
}

/* A key, or the beginning of one that nests. */
static bool read_key(struct reader *r, bool *opened_out)
{
	struct imap_args *a = &r->p->cmd->args;
	struct slice name;
	*opened_out = false;
	if (imap_skip(a, '(')) {
		*opened_out = true;
		return open_frame(r, SEARCH_AND);
	}
	if (a->at < a->end && ((*a->at >= '0' && *a->at <= '9') || *a->at == '*' || *a->at == '$'))
		return number_set(r);
	if (!imap_atom(a, &name))
		return no(r, "expected a search key");
	if (slice_eq_nocase(name, SLICE_LIT("NOT")) || slice_eq_nocase(name, SLICE_LIT("OR")))
		return open_frame(r, name.len == 3 ? SEARCH_NOT : SEARCH_OR) && imap_sp(a) && (*opened_out = true);
	const struct word *w = find_word(name);
	return w ? plain_key(r, w) : no(r, "no such search key");
}

static bool close_lists(struct reader *r)
{
	struct imap_args *a = &r->p->cmd->args;
	while (imap_skip(a, ')')) {
		const struct frame *f = &r->frames[r->depth - 1];
		if (r->depth == 1 || f->kind != SEARCH_AND || !f->operands)
			return no(r, "a ) that closes nothing");
		if (!close_frame(r) || !operand_done(r))
			return false;
	}
	return true;
}

static bool read_keys(struct reader *r)
{
	struct imap_args *a = &r->p->cmd->args;
	bool opened;
	if (!open_frame(r, SEARCH_AND))
		return false;
	for (;;) {
		if (!read_key(r, &opened))
			return false;
		if (opened)
			continue;
		if (!close_lists(r))
			return false;
		if (imap_at_end(a))
			break;
		if (!imap_sp(a))
			return false;
	}
	if (r->depth != 1)
		return no(r, "expected )");
	return close_frame(r);
}

/* ---- all ---- */

static enum search_phase phase_of(const struct search_key *k)
{
	if (k->op < SEARCH_SENT_BEFORE)
		return k->op < SEARCH_BEFORE ? PHASE_ROW : PHASE_RECORD;
	if (k->op >= SEARCH_BODY)
		return PHASE_BODY;
	return k->op < SEARCH_HEADER || k->kept ? PHASE_KEPT : PHASE_HEADER;
}

/* What the whole program tells about the keys in it. */
static bool prepare(struct search_program *s, struct arena *arena)
{
	s->values = arena_alloc(arena, s->count);
	s->stack = arena_alloc(arena, s->count);
	s->now_s = clock_wall_s();
	bool conjunction = true;
	for (size_t i = 0; i < s->count; i++) {
		const struct search_key *k = &s->keys[i];
		s->has_phase[phase_of(k)] = true;
		if (k->op == SEARCH_TEXT)
			s->has_text = s->has_phase[PHASE_HEADER] = true;
		conjunction &= k->op != SEARCH_OR && k->op != SEARCH_NOT;
	}
	for (size_t i = 0; i < s->count && conjunction && !s->only; i++)
		if (s->keys[i].op == SEARCH_SET)
			s->only = &s->keys[i];
	return s->values && s->stack;
}

static enum search_read read_charset(struct imap_args *a, bool there, struct slice *charset_out)
{
	struct mime_charset c;
	struct slice name;
	if (!there)
		return SEARCH_READ;
	if (!imap_astring(a, &name) || !imap_sp(a))
		return SEARCH_READ_BAD;
	if (!mime_charset_begin(&c, name))
		return SEARCH_READ_CHARSET;
	if (c.converter)
		*charset_out = name;
	mime_charset_end(&c, NULL, NULL);
	return SEARCH_READ;
}

enum search_read search_read(struct imap_session *p, struct search_program *s, bool charset_first)
{
	struct imap_args *a = &p->cmd->args;
	struct reader r = { .p = p, .s = s };
	bool named = !charset_first && imap_word(a, "CHARSET");
	arena_init(&s->scratch, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	buf_init(&s->decoded, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	buf_init(&s->folded, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	if (named && p->enabled & IMAP_UTF8) { /* RFC 6855 section 3: all is UTF-8 then. SORT and THREAD cannot do without theirs */
		a->why = "no CHARSET with UTF8=ACCEPT";
		return SEARCH_READ_BAD;
	}
	if (named && !imap_sp(a))
		return SEARCH_READ_BAD;
	enum search_read e = read_charset(a, named || charset_first, &s->charset);
	if (e != SEARCH_READ)
		return e;
	r.frames = arena_alloc(a->arena, IMAP_SEARCH_DEPTH_MAX * sizeof *r.frames);
	if (!r.frames || !read_keys(&r) || !prepare(s, a->arena))
		return SEARCH_READ_BAD;
	if (s->modseq)
		imap_condstore_on(p);
	return r.uidonly ? SEARCH_READ_UIDONLY : SEARCH_READ;
}

void search_turn_to(struct imap_session *p, struct search_program *s, bool selected)
{
	for (size_t i = 0; i < s->count; i++) {
		struct search_key *k = &s->keys[i];
		k->last_keywords = 0;
		k->last_had = false;
		if (k->op != SEARCH_SET)
			continue;
		bool saved = k->set_text.ptr[0] == '$', uid = k->set.uid;
		imap_set_release(&k->set);
		if ((saved && !selected) || !imap_set_judge(p, k->set_text, uid, &k->set)) {
			k->set = (struct imap_set){ .uid = uid };
			ranges_init(&k->set.ranges, IMAP_SET_RANGES_MAX);
		}
	}
}

void search_release(struct search_program *s)
{
	for (size_t i = 0; i < s->count; i++)
		if (s->keys[i].op == SEARCH_SET)
			imap_set_release(&s->keys[i].set);
	s->count = 0;
	arena_release(&s->scratch);
	buf_release(&s->decoded);
	buf_release(&s->folded);
}

enum step search_refuse(struct imap_session *p, enum search_read why)
{
	if (why == SEARCH_READ_CHARSET)
		return imap_no(p, "BADCHARSET (US-ASCII UTF-8)", "that charset is not known");
	if (why == SEARCH_READ_UIDONLY)
		return imap_end_with(p, IMAP_S_BAD, "UIDREQUIRED", "message numbers were given up by UIDONLY");
	return imap_bad_args(p);
}
