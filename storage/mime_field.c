/* SPDX-License-Identifier: Apache-2.0 */
/* mime_field.c - fields of a header, unfolding, and lists of parameters (RFC 5322 2.2, RFC 2045 5.1, RFC 2183). */
#include "storage/mime_scan.h"

#include "core/base/limits.h"

/* ---- fields ---- */

/* The end of the field at the beginning: behind the CRLF of its last line. */
static size_t field_end(struct slice s)
{
	size_t at = 0;

	while (at < s.len) {
		const char *nl = memchr(s.ptr + at, '\n', s.len - at);

		if (!nl)
			return s.len;
		at = (size_t)(nl - s.ptr) + 1;
		if (at < s.len && s.ptr[at] != ' ' && s.ptr[at] != '\t')
			return at;
	}
	return at;
}

static struct slice trim_all(struct slice s)
{
	while (s.len && mime_blank(s.ptr[0]))
		s = slice_from(s, 1);
	while (s.len && mime_blank(s.ptr[s.len - 1]))
		s.len--;
	return s;
}

bool mime_field_next(struct slice *rest_io, struct slice *name_out, struct slice *value_out)
{
	while (rest_io->len) {
		size_t end = field_end(*rest_io);
		struct slice field = slice_upto(*rest_io, end);
		size_t colon = slice_find(field, ':');

		*rest_io = slice_from(*rest_io, end);
		if (colon == SIZE_MAX || colon == 0 || mime_blank(field.ptr[0]))
			continue;
		*name_out = slice_trim(slice_upto(field, colon));
		*value_out = trim_all(slice_from(field, colon + 1));
		return true;
	}
	return false;
}

bool mime_field_find(struct slice fields, struct slice name, struct slice *value_out)
{
	struct slice found;

	while (mime_field_next(&fields, &found, value_out)) {
		if (slice_eq_nocase(found, name))
			return true;
	}
	return false;
}

struct slice mime_unfold(struct arena *arena, struct slice value)
{
	char *out;
	size_t n = 0;

	if (slice_find(value, '\n') == SIZE_MAX && slice_find(value, '\r') == SIZE_MAX)
		return value;
	out = arena_alloc(arena, value.len);
	if (!out)
		return slice_of(NULL, 0);
	for (size_t i = 0; i < value.len; i++) {
		if (value.ptr[i] != '\r' && value.ptr[i] != '\n')
			out[n++] = value.ptr[i];
	}
	return slice_of(out, n);
}

/* ---- words ---- */

/* Passes over blanks and comments. Comments nest; depth is a number, so no stack is needed. */
void mime_skip(struct slice *s)
{
	size_t i = 0;
	unsigned depth = 0;

	for (; i < s->len; i++) {
		char c = s->ptr[i];

		if (c == '(')
			depth++;
		else if (depth && c == ')')
			depth--;
		else if (depth && c == '\\')
			i++;
		else if (!depth && !mime_blank(c))
			break;
	}
	*s = slice_from(*s, i);
}

enum err mime_quoted(struct arena *arena, struct slice *s, struct slice *out)
{
	size_t i, n = 0, end;
	char *to;

	for (end = 1; end < s->len && s->ptr[end] != '"'; end++) {
		if (s->ptr[end] == '\\')
			end++;
	}
	if (end > s->len)
		end = s->len;
	to = arena_alloc(arena, end + 1);
	if (!to)
		return ERR_LIMIT;
	for (i = 1; i < end; i++) {
		char c = s->ptr[i];

		if (c == '\\' && i + 1 < end)
			c = s->ptr[++i];
		if (c != '\r' && c != '\n')
			to[n++] = c;
	}
	*out = slice_of(to, n);
	*s = slice_from(*s, end + 1);
	return OK;
}

static struct slice token(struct slice *s, const char *stops)
{
	size_t i = 0;
	struct slice t;

	while (i < s->len && !mime_blank(s->ptr[i]) && !strchr(stops, s->ptr[i] ? s->ptr[i] : ' '))
		i++;
	t = slice_upto(*s, i);
	*s = slice_from(*s, i);
	return t;
}

/* ---- parameters ---- */

/* A value: quoted, or everything up to ';' (8-bit and specials that should have been quoted included), without comments at its end. */
static enum err param_value(struct arena *arena, struct slice *s, struct slice *out)
{
	size_t i = 0;

	mime_skip(s);
	if (s->len && s->ptr[0] == '"') {
		enum err e = mime_quoted(arena, s, out);

		while (e == OK && s->len && s->ptr[0] != ';')
			*s = slice_from(*s, 1);
		return e;
	}
	while (i < s->len && s->ptr[i] != ';' && !(s->ptr[i] == '(' && i && mime_blank(s->ptr[i - 1])))
		i++;
	*out = trim_all(slice_upto(*s, i));
	while (i < s->len && s->ptr[i] != ';')
		i++;
	*s = slice_from(*s, i);
	*out = mime_unfold(arena, *out);
	return out->ptr || out->len == 0 ? OK : ERR_LIMIT;
}

static enum err params_get(struct arena *arena, struct slice s, struct mime_value *out)
{
	struct mime_param *list = NULL;
	size_t n = 0, cap = 0;

	for (;;) {
		struct slice name, value;
		enum err e;

		while (s.len && s.ptr[0] != ';')
			s = slice_from(s, 1);
		s = slice_from(s, 1);
		mime_skip(&s);
		if (!s.len || n == MIME_PARAMS_MAX)
			break;
		name = token(&s, "=;(");
		mime_skip(&s);
		if (!name.len || !s.len || s.ptr[0] != '=')
			continue;
		s = slice_from(s, 1);
		e = param_value(arena, &s, &value);
		if (e != OK)
			return e;
		if (n == cap) {
			struct mime_param *more = arena_alloc(arena, (cap ? cap * 4 : 4) * sizeof(*more));

			if (!more)
				return ERR_LIMIT;
			if (n)
				memcpy(more, list, n * sizeof(*list));
			list = more;
			cap = cap ? cap * 4 : 4;
		}
		list[n++] = (struct mime_param){ name, value };
	}
	out->params = list;
	out->param_count = n;
	return OK;
}

enum err mime_content_type(struct arena *arena, struct slice fields, struct mime_value *out)
{
	struct slice v;

	memset(out, 0, sizeof(*out));
	if (!mime_field_find(fields, SLICE_LIT("Content-Type"), &v))
		return ERR_NOT_FOUND;
	mime_skip(&v);
	out->type = token(&v, "/;(");
	mime_skip(&v);
	if (!out->type.len || !v.len || v.ptr[0] != '/')
		return ERR_NOT_FOUND; /* RFC 2045, 5.2: what is no type counts as none */
	v = slice_from(v, 1);
	mime_skip(&v);
	out->subtype = token(&v, ";(");
	if (!out->subtype.len)
		return ERR_NOT_FOUND;
	return params_get(arena, v, out);
}

enum err mime_disposition(struct arena *arena, struct slice fields, struct mime_value *out)
{
	struct slice v;

	memset(out, 0, sizeof(*out));
	if (!mime_field_find(fields, SLICE_LIT("Content-Disposition"), &v))
		return ERR_NOT_FOUND;
	mime_skip(&v);
	out->type = token(&v, ";(");
	if (!out->type.len)
		return ERR_NOT_FOUND;
	return params_get(arena, v, out);
}

static const struct mime_param ascii = { { "charset", 7 }, { "us-ascii", 8 } };

static enum err default_charset(struct arena *arena, struct mime_value *v)
{
	struct slice value, charset;
	struct mime_param *list;
	enum err e = mime_param(arena, v, ascii.name, &value, &charset);

	if (e != ERR_NOT_FOUND)
		return e;
	list = arena_alloc(arena, (v->param_count + 1) * sizeof(*list));
	if (!list)
		return ERR_LIMIT;
	if (v->param_count)
		memcpy(list, v->params, v->param_count * sizeof(*list));
	list[v->param_count++] = ascii;
	v->params = list;
	return OK;
}

enum err mime_part_type(struct arena *arena, const struct mime_part *part, struct mime_value *out)
{
	enum err e = mime_content_type(arena, part->fields, out);
	bool message = e == OK && slice_eq_nocase(out->type, SLICE_LIT("message"));

	if (e != OK && e != ERR_NOT_FOUND)
		return e;
	if (e == ERR_NOT_FOUND && part->kind == MIME_MESSAGE) {
		*out = (struct mime_value){ SLICE_LIT("message"), SLICE_LIT("rfc822"), NULL, 0 };
		return OK;
	}
	if (part->kind == MIME_LEAF && message && slice_eq_nocase(out->subtype, SLICE_LIT("rfc822"))) {
		*out = (struct mime_value){ SLICE_LIT("application"), SLICE_LIT("octet-stream"), NULL, 0 };
		return OK;
	}
	if (e == ERR_NOT_FOUND ||
	    (part->kind == MIME_LEAF && slice_eq_nocase(out->type, SLICE_LIT("multipart"))))
		*out = (struct mime_value){ SLICE_LIT("text"), SLICE_LIT("plain"), &ascii, 1 };
	else if (slice_eq_nocase(out->type, SLICE_LIT("text")) && slice_eq_nocase(out->subtype, SLICE_LIT("plain")))
		return default_charset(arena, out);
	return OK;
}
