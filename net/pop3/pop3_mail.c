/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_mail.c - what a message to be sent says of itself: who sends it, to whom (RFC 5322 sections 3.4 and 3.6), and what of its header
 * does not leave the house.
 *
 * There is no other envelope: recipients are those of To, Cc and Bcc.  What is not understood is refused rather than guessed, since a wrong
 * guess sends mail to strangers.  Addresses are ASCII; comments, folding, groups, routes and quoted local parts are read.
 *
 * Pure: the message lies in memory, nothing here waits, and what is read is bounded by POP3_XMIT_HEADER_BYTES_MAX.
 */
#include "net/pop3/pop3_private.h"

/* ---- an address being put together ---- */

struct text {
	char bytes[POP3_XMIT_ADDRESS_BYTES_MAX];
	size_t len;
	bool gap;    /* blanks or a comment came before what is next */
	bool broken; /* too long, or two words without anything between: no address, but it may be a name before one */
};

static void text_clear(struct text *t)
{
	t->len = 0;
	t->gap = t->broken = false;
}

static bool joins(char c) { return c == '.' || c == '@'; }

static void text_put(struct text *t, const char *ptr, size_t len)
{
	if (t->gap && t->len && !joins(t->bytes[t->len - 1]) && !joins(*ptr))
		t->broken = true;
	t->gap = false;
	if (len > sizeof t->bytes - t->len) {
		t->broken = true;
		return;
	}
	memcpy(t->bytes + t->len, ptr, len);
	t->len += len;
}

/* ---- is it one? ---- */

static bool is_alnum(unsigned char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }

static bool is_quoted(struct slice s)
{
	if (s.len < 3 || s.ptr[0] != '"' || s.ptr[s.len - 1] != '"')
		return false;
	for (size_t i = 1; i < s.len - 1; i++) {
		if (s.ptr[i] == '"' || (s.ptr[i] == '\\' && ++i == s.len - 1))
			return false;
		if ((unsigned char)s.ptr[i] < 32 || (unsigned char)s.ptr[i] > 126)
			return false;
	}
	return true;
}

static bool is_local(struct slice s)
{
	if (is_quoted(s))
		return true;
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		if (!is_alnum(c) && (!c || !strchr("!#$%&'*+-/=?^_`{|}~.", c)))
			return false;
	}
	return s.len > 0;
}

static bool is_domain(struct slice s)
{
	bool literal = s.len > 2 && s.ptr[0] == '[' && s.ptr[s.len - 1] == ']';
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.ptr[i];
		bool end = i == 0 || i == s.len - 1;
		if (literal ? c < 33 || c > 126 || (!end && strchr("[]\\<>", c)) : !is_alnum(c) && c != '-' && c != '_' && (c != '.' || end || s.ptr[i + 1] == '.'))
			return false;
	}
	return s.len > 0 && s.len <= 255;
}

static bool is_address(struct slice s)
{
	size_t at = slice_rfind(s, '@');
	return at != SIZE_MAX && is_local(slice_upto(s, at)) && is_domain(slice_from(s, at + 1));
}

/* ---- lists of them ---- */

enum role { ROLE_NONE, ROLE_FROM, ROLE_SENDER, ROLE_RCPT };

struct reading {
	struct arena *arena;
	struct pop3_mail *mail;
	size_t rcpts_max;
	enum role role;
	enum pop3_word word; /* POP3_W_NOOP: fine so far */
	struct text text;
};

static void add_rcpt(struct reading *r, struct slice address)
{
	struct pop3_mail *m = r->mail;
	for (size_t i = 0; i < m->rcpts_count; i++)
		if (slice_eq(m->rcpts[i], address))
			return;
	if (m->rcpts_count == r->rcpts_max)
		r->word = POP3_W_XMIT_TOO_MANY;
	else
		m->rcpts[m->rcpts_count++] = address;
}

static void add_sender(struct reading *r, struct slice address)
{
	struct pop3_mail *m = r->mail;
	if (m->from_count == POP3_XMIT_SENDERS_MAX) {
		r->word = POP3_W_XMIT_ADDRESS;
		return;
	}
	m->from[m->from_count++] = address;
	if (!m->sender.len || r->role == ROLE_SENDER)
		m->sender = address;
}

/* What was put together is an address, or an end to the reading. */
static void add(struct reading *r)
{
	struct slice s = slice_of(r->text.bytes, r->text.len);
	if (r->word != POP3_W_NOOP)
		return;
	struct slice kept = !r->text.broken && is_address(s) ? arena_slice(r->arena, s) : slice_of(NULL, 0);
	if (!kept.ptr)
		r->word = POP3_W_XMIT_ADDRESS;
	else if (r->role == ROLE_RCPT)
		add_rcpt(r, kept);
	else
		add_sender(r, kept);
	text_clear(&r->text);
}

/* The end of what begins at `at` and ends with `close`; nested where `open` is given. NULL: it has none. */
static const char *skip(const char *at, const char *end, char open, char close)
{
	unsigned depth = 0;
	for (; at < end; at++) {
		if (*at == '\\')
			at++;
		else if (depth && *at == close && --depth == 0)
			return at + 1;
		else if (depth == 0 || (open && *at == open))
			depth++;
	}
	return NULL;
}

/* One piece of a list, none of the marks that structure it. NULL: the reading is over. */
static const char *take_word(struct reading *r, const char *at, const char *end)
{
	const char *next = at + 1;
	switch (*at) {
	case ' ':
	case '\t':
	case '\r':
	case '\n':
		r->text.gap = true;
		return next;
	case '(':
		r->text.gap = true;
		return skip(at, end, '(', ')');
	case '"':
		next = skip(at, end, 0, '"');
		break;
	case '[':
		next = skip(at, end, 0, ']');
		break;
	default:
		break;
	}
	if (next)
		text_put(&r->text, at, (size_t)(next - at));
	return next;
}

/* Within angle brackets: a route is forgotten (RFC 5322 section 4.4). */
static const char *take_angle(struct reading *r, const char *at, const char *end)
{
	text_clear(&r->text);
	while (at && at < end && *at != '>') {
		if (*at == ':') {
			text_clear(&r->text);
			at++;
		} else if (*at == ',') {
			at++;
		} else {
			at = take_word(r, at, end);
		}
	}
	if (!at || at == end)
		return NULL;
	add(r);
	/* nothing but comments until the next one */
	for (at++; at && at < end && *at != ',' && *at != ';';)
		at = take_word(r, at, end);
	if (r->text.len || r->text.broken)
		return NULL;
	text_clear(&r->text);
	return at;
}

static void read_list(struct reading *r, struct slice value)
{
	const char *at = value.ptr, *end = value.ptr + value.len;
	text_clear(&r->text);
	while (at && at < end && r->word == POP3_W_NOOP) {
		if (*at == '<') {
			at = take_angle(r, at + 1, end);
		} else if (*at == ':') { /* what was read is a group's name */
			text_clear(&r->text);
			at++;
		} else if (*at == ',' || *at == ';') {
			if (r->text.len || r->text.broken)
				add(r);
			text_clear(&r->text);
			at++;
		} else {
			at = take_word(r, at, end);
		}
	}
	if (!at && r->word == POP3_W_NOOP)
		r->word = POP3_W_XMIT_ADDRESS;
	if (r->word == POP3_W_NOOP && (r->text.len || r->text.broken))
		add(r);
}

/* ---- the header ---- */

struct field {
	struct slice whole, name, value;
};

/* False: that is no field. */
static bool next_field(struct slice header, struct field *f)
{
	size_t len = 0;
	do {
		const char *lf = memchr(header.ptr + len, '\n', header.len - len);
		len = lf ? (size_t)(lf - header.ptr) + 1 : header.len;
	} while (len < header.len && (header.ptr[len] == ' ' || header.ptr[len] == '\t'));
	f->whole = slice_upto(header, len);
	size_t colon = slice_find(f->whole, ':');
	if (colon == SIZE_MAX)
		return false;
	f->name = slice_trim(slice_upto(f->whole, colon));
	f->value = slice_from(f->whole, colon + 1);
	for (size_t i = 0; i < f->name.len; i++)
		if ((unsigned char)f->name.ptr[i] < 33 || (unsigned char)f->name.ptr[i] > 126)
			return false;
	return f->name.len > 0 && f->name.ptr == f->whole.ptr;
}

static bool is(const struct field *f, const char *name) { return slice_eq_nocase(f->name, slice_str(name)); }

static enum role role_of(const struct field *f)
{
	if (is(f, "To") || is(f, "Cc") || is(f, "Bcc"))
		return ROLE_RCPT;
	return is(f, "From") ? ROLE_FROM : is(f, "Sender") ? ROLE_SENDER : ROLE_NONE;
}

/* The message from `start` on goes on without this field. */
static bool cut_out(struct pop3_mail *m, struct slice message, size_t *start_io, struct slice field)
{
	size_t at = (size_t)(field.ptr - message.ptr);
	if (m->pieces_count + 2 > POP3_XMIT_PIECES_MAX)
		return false;
	if (at > *start_io)
		m->pieces[m->pieces_count++] = slice_upto(slice_from(message, *start_io), at - *start_io);
	*start_io = at + field.len;
	return true;
}

static void read_field(struct reading *r, const struct field *f)
{
	if (is(f, "Resent-To") || is(f, "Resent-Cc") || is(f, "Resent-Bcc"))
		r->word = POP3_W_XMIT_RESENT; /* its recipients would not be those of To */
	r->role = role_of(f);
	if (r->role != ROLE_NONE && r->word == POP3_W_NOOP)
		read_list(r, f->value);
}

static bool at_header_end(struct slice s) { return !s.len || s.ptr[0] == '\r' || s.ptr[0] == '\n'; }

enum pop3_word pop3_mail_read(struct arena *arena, struct slice message, size_t rcpts_max, struct pop3_mail *mail_out)
{
	struct reading r = { .arena = arena, .mail = mail_out, .rcpts_max = rcpts_max, .word = POP3_W_NOOP };
	struct slice rest = message;
	struct field f;
	size_t start = 0;
	memset(mail_out, 0, sizeof *mail_out);
	mail_out->rcpts = arena_zalloc(arena, rcpts_max * sizeof *mail_out->rcpts);
	if (!mail_out->rcpts)
		return POP3_W_BUSY;
	while (!at_header_end(rest) && r.word == POP3_W_NOOP) {
		if (!next_field(rest, &f) || message.len - rest.len > POP3_XMIT_HEADER_BYTES_MAX)
			return POP3_W_XMIT_HEADER;
		read_field(&r, &f);
		if ((is(&f, "Bcc") || is(&f, "Return-Path")) && !cut_out(mail_out, message, &start, f.whole))
			return POP3_W_XMIT_HEADER;
		rest = slice_from(rest, f.whole.len);
	}
	if (start < message.len)
		mail_out->pieces[mail_out->pieces_count++] = slice_from(message, start);
	if (r.word != POP3_W_NOOP)
		return r.word;
	if (!mail_out->from_count)
		return POP3_W_XMIT_SENDER;
	return mail_out->rcpts_count ? POP3_W_NOOP : POP3_W_XMIT_NOBODY;
}
