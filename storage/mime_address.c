/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_address.c - lists of addresses, RFC 5322 3.4 with the obsolete forms of 4.4.
 *
 * One pass from left to right.  Words are gathered in two spellings at once, as a phrase (one blank between words) and as a
 * local part (none), until the special behind them says which of the two they were.  Both are never longer than the field,
 * so two pieces of the arena serve the whole list.
 */
#include "storage/mime_scan.h"

#include "core/base/limits.h"

struct scan {
	struct slice s;
	struct arena *arena;
	char *phrases, *locals; /* where the next of each goes */
	struct slice comment;   /* the last one passed, raw */
	struct mime_address *list;
	size_t count, cap;
	bool in_group;
};

static enum err add(struct scan *sc, struct mime_address a)
{
	if (sc->count == MIME_ADDRESSES_MAX)
		return OK;
	if (sc->count == sc->cap) {
		size_t cap = sc->cap ? sc->cap * 4 : 4;
		struct mime_address *more = arena_alloc(sc->arena, cap * sizeof(*more));

		if (!more)
			return ERR_LIMIT;
		if (sc->count)
			memcpy(more, sc->list, sc->count * sizeof(*more));
		sc->list = more;
		sc->cap = cap;
	}
	sc->list[sc->count++] = a;
	return OK;
}

/* Passes over blanks and comments; keeps the last comment; true if there was anything. */
static bool pass(struct scan *sc)
{
	const char *before = sc->s.ptr, *open;
	struct slice passed;

	mime_skip(&sc->s);
	passed = slice_of(before, (size_t)(sc->s.ptr - before));
	open = passed.len ? memchr(passed.ptr, '(', passed.len) : NULL;
	if (open) {
		struct slice c = slice_of(open + 1, passed.len - (size_t)(open + 1 - before));

		while (c.len && (mime_blank(c.ptr[c.len - 1])))
			c.len--;
		if (c.len && c.ptr[c.len - 1] == ')')
			c.len--;
		sc->comment = c;
	}
	return passed.len != 0;
}

static bool special(char c) { return c == '<' || c == '>' || c == '@' || c == ',' || c == ';' || c == ':'; }

/* Words up to the next special. */
static enum err words(struct scan *sc, struct slice *phrase, struct slice *local)
{
	*phrase = slice_of(sc->phrases, 0);
	*local = slice_of(sc->locals, 0);
	for (;;) {
		bool gap = pass(sc) && phrase->len;
		struct slice w;
		size_t i = 0;

		if (!sc->s.len || special(sc->s.ptr[0]))
			break;
		if (sc->s.ptr[0] == '"') {
			enum err e = mime_quoted(sc->arena, &sc->s, &w);

			if (e != OK)
				return e;
		} else {
			while (i < sc->s.len && !mime_blank(sc->s.ptr[i]) && !special(sc->s.ptr[i]) &&
			       sc->s.ptr[i] != '"' && sc->s.ptr[i] != '(')
				i++;
			w = slice_upto(sc->s, i);
			sc->s = slice_from(sc->s, i);
		}
		if (gap) {
			*sc->phrases++ = ' ';
			phrase->len++;
		}
		memcpy(sc->phrases, w.ptr, w.len);
		memcpy(sc->locals, w.ptr, w.len);
		sc->phrases += w.len;
		sc->locals += w.len;
		phrase->len += w.len;
		local->len += w.len;
	}
	return OK;
}

static bool is_one_of(char c, const char *chars)
{
	while (*chars && *chars != c)
		chars++;
	return *chars != 0;
}

/* What follows '@': without blanks and comments, a literal in brackets as it is. */
static struct slice domain(struct scan *sc, const char *stops)
{
	struct slice d = slice_of(sc->locals, 0);
	bool literal = false;

	for (;;) {
		char c;

		if (!literal)
			pass(sc);
		if (!sc->s.len)
			break;
		c = sc->s.ptr[0];
		if (!literal && is_one_of(c, stops))
			break;
		literal = literal ? c != ']' : c == '[';
		sc->s = slice_from(sc->s, 1);
		if (mime_blank(c))
			continue;
		*sc->locals++ = c;
		d.len++;
	}
	return d;
}

/* Behind '<': route, local part, domain, '>'. */
static enum err angle(struct scan *sc, struct mime_address *a)
{
	struct slice phrase;
	enum err e;

	pass(sc);
	if (sc->s.len && sc->s.ptr[0] == '@') {
		a->route = domain(sc, ":>");
		if (sc->s.len && sc->s.ptr[0] == ':')
			sc->s = slice_from(sc->s, 1);
	}
	e = words(sc, &phrase, &a->mailbox);
	if (e != OK)
		return e;
	a->host = slice_of("", 0);
	if (sc->s.len && sc->s.ptr[0] == '@') {
		sc->s = slice_from(sc->s, 1);
		a->host = domain(sc, ">,;");
	}
	while (sc->s.len && sc->s.ptr[0] != '>' && sc->s.ptr[0] != ',')
		sc->s = slice_from(sc->s, 1);
	if (sc->s.len && sc->s.ptr[0] == '>')
		sc->s = slice_from(sc->s, 1);
	return add(sc, *a);
}

static enum err group_end(struct scan *sc)
{
	if (!sc->in_group)
		return OK;
	sc->in_group = false;
	return add(sc, (struct mime_address){ .kind = MIME_GROUP_END });
}

/* One member: words and what the special behind them makes of them. */
static enum err member(struct scan *sc)
{
	struct mime_address a = { .kind = MIME_MAILBOX };
	struct slice phrase, local;
	char c;
	enum err e;

	sc->comment = slice_of(NULL, 0);
	e = words(sc, &phrase, &local);
	if (e != OK)
		return e;
	c = sc->s.len ? sc->s.ptr[0] : ',';
	switch (c) {
	case '<':
		sc->s = slice_from(sc->s, 1);
		if (phrase.len)
			a.name = phrase;
		return angle(sc, &a);
	case ':':
		sc->s = slice_from(sc->s, 1);
		if (sc->in_group) /* they do not nest */
			return OK;
		sc->in_group = true;
		return add(sc, (struct mime_address){ .kind = MIME_GROUP_START, .mailbox = phrase });
	case '@':
		sc->s = slice_from(sc->s, 1);
		a.host = domain(sc, ",;<>");
		break;
	case '>':
		sc->s = slice_from(sc->s, 1);
		return OK;
	default:
		if (!local.len)
			return OK;
		a.host = slice_of("", 0);
	}
	a.mailbox = local;
	if (sc->comment.len) {
		a.name = mime_unfold(sc->arena, sc->comment);
		if (!a.name.ptr)
			return ERR_LIMIT;
	}
	return add(sc, a);
}

enum err mime_addresses(struct arena *arena, struct slice value, const struct mime_address **list_out, size_t *count_out)
{
	struct scan sc = { .s = value, .arena = arena };
	enum err e = OK;

	*list_out = NULL;
	*count_out = 0;
	if (!value.len)
		return OK;
	sc.phrases = arena_alloc(arena, value.len);
	sc.locals = arena_alloc(arena, value.len);
	if (!sc.phrases || !sc.locals)
		return ERR_LIMIT;
	while (e == OK && sc.s.len) {
		char c = sc.s.ptr[0];

		if (c == ',' || c == ';') {
			sc.s = slice_from(sc.s, 1);
			if (c == ';')
				e = group_end(&sc);
		} else {
			e = member(&sc);
		}
	}
	if (e == OK)
		e = group_end(&sc);
	*list_out = sc.list;
	*count_out = sc.count;
	return e;
}
