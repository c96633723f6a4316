/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_catenate.c - CATENATE (RFC 4469): a message of APPEND or REPLACE put together of literals and of parts of messages that are here.
 *
 * URLs are RFC 5092's, of this account only: "/mailbox[;UIDVALIDITY=n]/;UID=n[/;SECTION=s][/;PARTIAL=a[.b]]", the same behind
 * "imap://[user@]host", or ";UID=n..." of the selected mailbox.  What a URL names is copied at once, in pieces, to the body writer, while the
 * client waits: the bytes are the account's own, and invariant 7 bounds them by the size of a message.
 */
#include "net/imap/imap_append.h"
#include "net/imap/imap_fetch.h"

#include "core/run/fiber.h"

#include <stdlib.h>

bool imap_catenate_read(struct imap_session *p, struct appending *ap)
{
	struct imap_args *a = &p->cmd->args;
	struct slice url;
	for (;; ap->parts = true) {
		if (ap->parts && imap_skip(a, ')')) {
			ap->catenates = ap->parts = false;
			imap_append_whole(ap);
			return true;
		}
		if (ap->parts && !imap_sp(a))
			return false;
		bool text = imap_word(a, "TEXT");
		if (!text && !imap_word(a, "URL")) {
			a->why = "expected TEXT or URL";
			return false;
		}
		if (!imap_sp(a))
			return false;
		if (imap_at_end(a)) {
			ap->wants = text ? APPEND_WANTS_TEXT : APPEND_WANTS_URL;
			ap->parts = true;
			return true;
		}
		a->why = "expected a literal";
		if (text || !imap_astring(a, &url))
			return false;
		imap_catenate_url(p, ap, url);
	}
}

/* ---- URLs ---- */

struct url {
	struct slice mailbox; /* as it stands; empty: the selected one */
	struct slice section;
	uint64_t uidvalidity, uid, from, length; /* uidvalidity 0: any */
	bool partial, bounded; /* bounded: PARTIAL has a length */
};

static int hex_of(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* Percent signs undone. False: out of form, or NUL. */
static bool plain(struct arena *arena, struct slice s, struct slice *out)
{
	char *to = arena_alloc(arena, s.len + 1);
	size_t len = 0;
	for (size_t i = 0; to && i < s.len; i++) {
		int c = (unsigned char)s.ptr[i];
		if (c == '%') {
			if (i + 2 >= s.len || hex_of(s.ptr[i + 1]) < 0 || hex_of(s.ptr[i + 2]) < 0)
				return false;
			c = 16 * hex_of(s.ptr[i + 1]) + hex_of(s.ptr[i + 2]);
			i += 2;
		}
		if (!c)
			return false;
		to[len++] = (char)c;
	}
	*out = slice_of(to, len);
	return to != NULL;
}

/* Where `word` stands in any case; SIZE_MAX: nowhere. */
static size_t find_word(struct slice s, struct slice word)
{
	for (size_t i = 0; i + word.len <= s.len; i++)
		if (slice_starts_nocase(slice_from(s, i), word))
			return i;
	return SIZE_MAX;
}

/* "//[user[;AUTH=x]@]host[:port]" must be this account here; leaves the path. */
static bool read_server(const struct imap_session *p, struct arena *arena, struct slice *io)
{
	struct slice s = slice_from(*io, 2), user;
	size_t slash = slice_find(s, '/');
	if (slash == SIZE_MAX)
		return false;
	*io = slice_from(s, slash);
	s = slice_upto(s, slash);
	size_t at = slice_rfind(s, '@');
	if (at != SIZE_MAX) {
		size_t mechanism = slice_find(slice_upto(s, at), ';');
		if (!plain(arena, slice_upto(s, mechanism < at ? mechanism : at), &user) || !slice_eq_nocase(user, p->subject->name))
			return false;
		s = slice_from(s, at + 1);
	}
	size_t colon = slice_rfind(s, ':');
	return slice_eq_nocase(colon == SIZE_MAX ? s : slice_upto(s, colon), slice_str(imap_settings.host_name));
}

/* "name=value" at the front, up to the next '/' or ';'. */
static bool take_field(struct slice *io, struct slice name, struct slice *value_out)
{
	if (!slice_starts_nocase(*io, name))
		return false;
	struct slice rest = slice_from(*io, name.len);
	size_t n = 0;
	while (n < rest.len && rest.ptr[n] != '/' && rest.ptr[n] != ';')
		n++;
	*value_out = slice_upto(rest, n);
	*io = slice_from(rest, n);
	return true;
}

static bool read_partial(struct slice value, struct url *u)
{
	size_t dot = slice_find(value, '.');
	u->partial = true;
	u->bounded = dot != SIZE_MAX;
	return slice_u64(slice_upto(value, u->bounded ? dot : value.len), UINT32_MAX, &u->from) &&
	       (!u->bounded || (slice_u64(slice_from(value, dot + 1), UINT32_MAX, &u->length) && u->length));
}

static bool read_url(const struct imap_session *p, struct arena *arena, struct slice s, struct url *u)
{
	struct slice value;
	*u = (struct url){ .section = slice_of("", 0) };
	if (slice_starts_nocase(s, SLICE_LIT("imap://")))
		s = slice_from(s, 5);
	if (slice_starts_nocase(s, SLICE_LIT("//")) && !read_server(p, arena, &s))
		return false;
	if (s.len && s.ptr[0] == '/') {
		size_t at = find_word(s, SLICE_LIT("/;UID="));
		if (at == SIZE_MAX || at < 2)
			return false;
		struct slice path = slice_of(s.ptr + 1, at - 1);
		size_t semi = find_word(path, SLICE_LIT(";UIDVALIDITY="));
		if (semi != SIZE_MAX && (!slice_u64(slice_from(path, semi + 13), UINT32_MAX, &u->uidvalidity) || !u->uidvalidity))
			return false;
		u->mailbox = semi == SIZE_MAX ? path : slice_upto(path, semi);
		s = slice_from(s, at + 1);
	} else if (p->state != IMAP_SELECTED) {
		return false;
	}
	if (!take_field(&s, SLICE_LIT(";UID="), &value) || !slice_u64(value, UINT32_MAX, &u->uid) || !u->uid)
		return false;
	if (take_field(&s, SLICE_LIT("/;SECTION="), &value) && (!value.len || !plain(arena, value, &u->section)))
		return false;
	if (take_field(&s, SLICE_LIT("/;PARTIAL="), &value) && !read_partial(value, u))
		return false;
	return !s.len; /* no URLAUTH here */
}

/* ---- what they name ---- */

/* As FETCH would be asked for it. */
static bool read_section(struct imap_session *p, const struct url *u, struct imap_fetch *f)
{
	struct imap_args kept = p->cmd->args;
	struct slice text = arena_printf(&p->cmd->arena, "BODY.PEEK[%.*s]", SLICE_ARG(u->section));
	bool good = text.ptr && slice_find(u->section, ']') == SIZE_MAX;
	imap_args_init(&p->cmd->args, text, &p->cmd->arena, false);
	good = good && imap_fetch_read_items(p, f);
	p->cmd->args = kept;
	if (!good)
		return false;
	f->items[0].partial = u->partial;
	f->items[0].from = u->from;
	f->items[0].length = u->bounded ? u->length : UINT64_MAX;
	return true;
}

static enum err copy_bytes(struct appending *ap, const struct imap_fetch *f)
{
	const struct imap_bytes *b = &f->bytes;
	char *piece = xmalloc(IMAP_PARSE_BYTES);
	enum err e = OK;
	if (b->memory.len)
		imap_append_put(ap, b->memory);
	for (uint64_t at = b->at; at < b->end && e == OK && ap->status == IMAP_S_OK;) {
		size_t n = (size_t)min_u64(b->end - at, IMAP_PARSE_BYTES);
		e = imap_source_read(f->source, at, piece, n);
		if (e == OK)
			imap_append_put(ap, slice_of(piece, n));
		at += n;
		fiber_breathe();
	}
	free(piece);
	return e;
}

static enum err add_message(struct appending *ap, struct imap_fetch *f, struct view *view, uint32_t uid)
{
	struct message m = { .uid = 0 };
	uint32_t index = view_index(view, uid);
	if (index < view_count(view))
		view_message(view, index, &m);
	if (m.uid != uid)
		return ERR_NOT_FOUND;
	struct imap_source *s;
	enum err e = imap_source_open(view, index, true, &s);
	if (e != OK)
		return e;
	f->source = s;
	e = imap_fetch_locate(f, &f->items[0]);
	if (e == OK)
		e = copy_bytes(ap, f);
	imap_bytes_release(&f->bytes);
	imap_source_unref(s);
	return e;
}

static enum err add_part(struct imap_session *p, struct appending *ap, struct slice text)
{
	struct arena *arena = &p->cmd->arena;
	struct url u;
	struct slice name;
	struct folder_info info;
	struct view *view;
	struct imap_fetch *f = arena_zalloc(arena, sizeof *f);
	if (!f || !read_url(p, arena, text, &u) || !read_section(p, &u, f))
		return ERR_SYNTAX;
	if (!u.mailbox.ptr) {
		if (folder_info(p->account, p->folder, &info) != OK)
			return ERR_NOT_FOUND;
	} else if (!plain(arena, u.mailbox, &name) || imap_name_read(arena, name, true, &name) || folder_find(p->account, name, &info) != OK) {
		return ERR_NOT_FOUND;
	}
	if (u.uidvalidity && u.uidvalidity != info.uidvalidity)
		return ERR_NOT_FOUND;
	enum err e = view_open(p->account, info.id, &view);
	if (e != OK)
		return e;
	e = add_message(ap, f, view, (uint32_t)u.uid);
	view_close(view);
	return e;
}

/* The URL in a response code: without what could end it or its line. */
static const char *told(struct arena *arena, struct slice url)
{
	struct buf b;
	buf_init(&b, IMAP_CODE_BYTES_MAX);
	bool good = buf_printf(&b, "BADURL ");
	for (size_t i = 0; i < min_size(url.len, IMAP_QUOTED_BYTES_MAX) && good; i++) {
		unsigned char c = (unsigned char)url.ptr[i];
		good = c > ' ' && c < 127 && c != ']' && c != '\\' && c != '"' ? buf_put(&b, &url.ptr[i], 1) : buf_printf(&b, "%%%02X", c);
	}
	const char *code = good ? arena_copy(arena, buf_slice(&b)) : NULL;
	buf_release(&b);
	return code ? code : "BADURL long";
}

void imap_catenate_url(struct imap_session *p, struct appending *ap, struct slice url)
{
	if (ap->status != IMAP_S_OK)
		return;
	enum err e = url.len && url.len <= IMAP_URL_BYTES_MAX ? add_part(p, ap, url) : ERR_SYNTAX;
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND)
		imap_append_refuse(ap, IMAP_S_NO, told(&p->cmd->arena, url), "there is no such part here");
	else if (e != OK)
		imap_append_refuse(ap, IMAP_S_NO, e == ERR_CORRUPT ? "CORRUPTION" : "UNAVAILABLE", "the part could not be read");
}
