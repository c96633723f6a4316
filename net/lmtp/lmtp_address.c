/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_address.c - paths of RFC 5321 section 4.1.2, with the UTF-8 of RFC 6531 section 3.3.
 *
 *     path = "<" [ "@a,@b:" ] local-part [ "@" ( domain / "[" literal "]" ) ] ">"  |  "<>"
 *
 * Source routes are read and forgotten (appendix C).  A local part is dot-separated atoms or a quoted string; dots where
 * RFC 5321 wants none ("a..b", "a.") are let through, since mail from such addresses exists and refusing it would only
 * bounce it.  A path without domain is let through here; RCPT decides whether a default domain makes it one.
 *
 * Two forms come out: the wire form for trace lines (without quotes that are not needed, so that "john" and john are one recipient for
 * whoever reads the envelope later), and one without quoting for the directory, in which "john" and john
 * are the same mailbox, as RFC 5321 section 4.1.2 asks.
 */
#include "net/lmtp/lmtp_private.h"

static bool is_alnum(unsigned char c) { return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z'); }

static bool is_atext(unsigned char c)
{
	return is_alnum(c) || c > 127 || (c && strchr("!#$%&'*+-/=?^_`{|}~.", c)); /* the dot is the caller's leniency */
}

/* What is still unread; a parser's only state. */
struct cursor {
	const char *at, *end;
};

static bool next_is(const struct cursor *c, char what) { return c->at < c->end && *c->at == what; }
static bool take(struct cursor *c, char what)
{
	if (!next_is(c, what))
		return false;
	c->at++;
	return true;
}

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool lmtp_utf8_valid(struct slice s)
{
	for (size_t i = 0; i < s.len;) {
		const unsigned char *p = (const unsigned char *)s.ptr + i;
		size_t left = s.len - i, n = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
		if (n == 0 || n > left)
			return false;
		for (size_t k = 1; k < n; k++)
			if ((p[k] & 0xc0) != 0x80)
				return false;
		if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
			return false;
		i += n;
	}
	return true;
}

static bool domain_name(struct cursor *c)
{
	const char *start = c->at;
	while (c->at < c->end) {
		unsigned char ch = (unsigned char)*c->at;
		/* The underscore is no host's, but occurs in senders. */
		if (!is_alnum(ch) && ch != '-' && ch != '.' && ch != '_' && ch < 128)
			break;
		c->at++;
	}
	size_t len = (size_t)(c->at - start);
	return len && len <= LMTP_DOMAIN_BYTES_MAX && *start != '.' && start[len - 1] != '.' && !memmem(start, len, "..", 2);
}

static bool address_literal(struct cursor *c)
{
	const char *start = c->at;
	if (!take(c, '['))
		return false;
	while (c->at < c->end && *c->at != ']') {
		unsigned char ch = (unsigned char)*c->at;
		if (ch < 33 || ch > 126 || ch == '[' || ch == '\\')
			return false;
		c->at++;
	}
	return take(c, ']') && c->at - start > 2 && c->at - start <= (ptrdiff_t)LMTP_DOMAIN_BYTES_MAX;
}

static bool domain(struct cursor *c) { return next_is(c, '[') ? address_literal(c) : domain_name(c); }

/* "@a,@b:" */
static bool source_route(struct cursor *c)
{
	if (!next_is(c, '@'))
		return true;
	do {
		if (!take(c, '@') || !domain(c))
			return false;
	} while (take(c, ','));
	return take(c, ':');
}

/* The content of a quoted string without its quoting, appended to out. */
static bool quoted_string(struct cursor *c, char *out, size_t *len_io)
{
	if (!take(c, '"'))
		return false;
	while (c->at < c->end && *c->at != '"') {
		if (*c->at == '\\' && ++c->at == c->end)
			return false;
		unsigned char ch = (unsigned char)*c->at;
		if (ch < 32 || ch == 127)
			return false;
		out[(*len_io)++] = *c->at++;
	}
	return take(c, '"');
}

static bool dot_string(struct cursor *c, char *out, size_t *len_io)
{
	size_t before = *len_io;
	while (c->at < c->end && is_atext((unsigned char)*c->at))
		out[(*len_io)++] = *c->at++;
	return *len_io > before;
}

static bool local_part(struct cursor *c, char *out, size_t *len_io)
{
	return next_is(c, '"') ? quoted_string(c, out, len_io) : dot_string(c, out, len_io);
}

/* Could this content stand without quotes? */
static bool is_dot_string(struct slice s)
{
	for (size_t i = 0; i < s.len; i++)
		if (!is_atext((unsigned char)s.ptr[i]))
			return false;
	return s.len > 0;
}

/* A path's inside, up to and with the '>'. */
static enum err mailbox(struct arena *arena, struct cursor *c, struct lmtp_path *path)
{
	char *plain = arena_alloc(arena, (size_t)(c->end - c->at) + 1);
	if (!plain)
		return ERR_LIMIT;
	size_t len = 0;
	const char *start = c->at;
	if (!local_part(c, plain, &len))
		return ERR_SYNTAX;
	if (len > LMTP_LOCAL_PART_BYTES_MAX)
		return ERR_LIMIT;
	bool needless = *start == '"' && is_dot_string(slice_of(plain, len));
	path->has_domain = take(c, '@');
	if (path->has_domain) {
		const char *name = c->at;
		if (!domain(c))
			return ERR_SYNTAX;
		plain[len++] = '@';
		memcpy(plain + len, name, (size_t)(c->at - name));
		len += (size_t)(c->at - name);
	}
	path->lookup = slice_of(plain, len);
	path->wire = needless ? path->lookup : slice_of(start, (size_t)(c->at - start));
	return take(c, '>') ? OK : ERR_SYNTAX;
}

enum err lmtp_path_parse(struct arena *arena, struct slice text, struct lmtp_path *path_out, struct slice *rest_out)
{
	struct cursor c = { text.ptr, text.ptr + text.len };
	*path_out = (struct lmtp_path){ .null = false };
	if (!take(&c, '<'))
		return ERR_SYNTAX;
	if (take(&c, '>')) {
		path_out->null = true;
	} else {
		const char *start = c.at;
		if (!source_route(&c))
			return ERR_SYNTAX;
		enum err e = mailbox(arena, &c, path_out);
		if (e != OK)
			return e;
		if ((size_t)(c.at - start) > LMTP_PATH_BYTES_MAX)
			return ERR_LIMIT;
	}
	for (size_t i = 0; i < path_out->wire.len; i++)
		if ((unsigned char)path_out->wire.ptr[i] > 127)
			path_out->eight_bit = true;
	if (path_out->eight_bit && !lmtp_utf8_valid(path_out->wire))
		return ERR_SYNTAX;
	*rest_out = slice_of(c.at, (size_t)(c.end - c.at));
	return OK;
}
