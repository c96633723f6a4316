/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_param.c - parameters whose values come in pieces, or percent-encoded (RFC 2231): decoded for us, joined for clients.
 */
#include "storage/mime_scan.h"

#include "core/base/limits.h"

/* ---- a value ---- */

/* Is this parameter piece `number` of the name? *coded_out: its value is percent-encoded. */
static bool piece_is(struct slice param, struct slice name, unsigned number, bool *coded_out)
{
	uint64_t found;
	struct slice digits;

	if (param.len < name.len + 2 || !slice_starts_nocase(param, name) || param.ptr[name.len] != '*')
		return false;
	digits = slice_from(param, name.len + 1);
	*coded_out = digits.ptr[digits.len - 1] == '*';
	if (*coded_out)
		digits.len--;
	return slice_u64(digits, MIME_PARAMS_MAX, &found) && found == number;
}

static unsigned hex(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
}

static size_t percent_put(char *out, struct slice v)
{
	size_t n = 0;

	for (size_t i = 0; i < v.len; i++) {
		if (v.ptr[i] == '%' && i + 2 < v.len && hex(v.ptr[i + 1]) < 16 && hex(v.ptr[i + 2]) < 16) {
			out[n++] = (char)(hex(v.ptr[i + 1]) << 4 | hex(v.ptr[i + 2]));
			i += 2;
		} else {
			out[n++] = v.ptr[i];
		}
	}
	return n;
}

/* Takes "charset'language'" off the first piece. */
static struct slice charset_take(struct slice *v)
{
	size_t a = slice_find(*v, '\'');
	size_t b = a == SIZE_MAX ? a : slice_find(slice_from(*v, a + 1), '\'');
	struct slice charset = slice_of(NULL, 0);

	if (b != SIZE_MAX) {
		charset = slice_upto(*v, a);
		*v = slice_from(*v, a + 1 + b + 1);
	}
	return charset;
}

enum err mime_param(struct arena *arena, const struct mime_value *v, struct slice name, struct slice *value_out,
		    struct slice *charset_out)
{
	size_t total = 0, n = 0;
	bool coded = false, any = false;
	char *out;

	*charset_out = slice_of(NULL, 0);
	for (size_t i = 0; i < v->param_count; i++) {
		if (slice_eq_nocase(v->params[i].name, name)) {
			*value_out = v->params[i].value;
			return OK;
		}
		total += v->params[i].value.len;
	}
	out = arena_alloc(arena, total + 1);
	if (!out)
		return ERR_LIMIT;
	for (size_t i = 0; i < v->param_count; i++) {
		struct slice p = v->params[i].name, value = v->params[i].value;

		if (p.len == name.len + 1 && p.ptr[name.len] == '*' && slice_starts_nocase(p, name)) {
			*charset_out = charset_take(&value);
			*value_out = slice_of(out, percent_put(out, value));
			return OK;
		}
	}
	for (unsigned number = 0; number < v->param_count; number++) {
		size_t i = 0;

		while (i < v->param_count && !piece_is(v->params[i].name, name, number, &coded))
			i++;
		if (i == v->param_count)
			break;
		struct slice value = v->params[i].value;

		if (number == 0 && coded)
			*charset_out = charset_take(&value);
		any = true;
		if (coded)
			n += percent_put(out + n, value);
		else if (value.len) {
			memcpy(out + n, value.ptr, value.len);
			n += value.len;
		}
	}
	*value_out = slice_of(out, n);
	return any ? OK : ERR_NOT_FOUND;
}

/* ---- pieces made one: each name once, so that the time is no more than the square of MIME_PARAMS_MAX ---- */

/* Is it some piece: "name*12" or "name*12*"? What it is a piece of. */
static bool is_piece(struct slice param, struct slice *name_out)
{
	size_t star = slice_find(param, '*');
	uint64_t number;
	struct slice digits;

	if (star == SIZE_MAX || star == 0)
		return false;
	digits = slice_from(param, star + 1);
	if (digits.len && digits.ptr[digits.len - 1] == '*')
		digits.len--;
	*name_out = slice_upto(param, star);
	return slice_u64(digits, MIME_PARAMS_MAX, &number);
}

static size_t find_piece(const struct mime_value *v, struct slice name, unsigned number, bool *coded_out)
{
	size_t i = 0;

	while (i < v->param_count && !piece_is(v->params[i].name, name, number, coded_out))
		i++;
	return i;
}

/* A plain piece beside coded ones: what could be taken for their signs is coded, too (RFC 2231 section 7, attribute-char). */
static size_t percent_code(char *out, struct slice v)
{
	static const char digits[] = "0123456789ABCDEF";
	size_t n = 0;

	for (size_t i = 0; i < v.len; i++) {
		unsigned char c = (unsigned char)v.ptr[i];

		if (c > ' ' && c < 0x7F && !strchr("*'%()<>@,;:\\\"/[]?=", c)) {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = digits[c >> 4];
		out[n++] = digits[c & 15];
	}
	return n;
}

enum piece_state { PIECE_UNSEEN, PIECE_JOINED, PIECE_ALONE };

/* The pieces of a name that begin with number 0 and have no gap are joined, the others are left alone. False: there is none to join. */
static bool mark_pieces(const struct mime_value *v, struct slice name, uint8_t *state, bool *coded_out, size_t *bytes_out)
{
	size_t i, total = 0;
	struct slice other;
	bool coded;

	*coded_out = false;
	for (unsigned k = 0; (i = find_piece(v, name, k, &coded)) < v->param_count; k++) {
		state[i] = PIECE_JOINED;
		total += 3 * v->params[i].value.len;
		*coded_out = *coded_out || coded;
	}
	for (i = 0; i < v->param_count; i++)
		if (state[i] == PIECE_UNSEEN && is_piece(v->params[i].name, &other) && slice_eq_nocase(other, name))
			state[i] = PIECE_ALONE;
	*bytes_out = total + 2;
	return find_piece(v, name, 0, &coded) < v->param_count;
}

static enum err join(struct arena *arena, const struct mime_value *v, struct slice name, bool any_coded, size_t bytes, struct mime_param *to)
{
	char *out = arena_alloc(arena, name.len + 1 + bytes);
	size_t i, n = 0;
	bool coded;

	if (!out)
		return ERR_LIMIT;
	memcpy(out, name.ptr, name.len);
	out[name.len] = '*';
	to->name = slice_of(out, name.len + any_coded);
	out += name.len + 1;
	for (unsigned k = 0; (i = find_piece(v, name, k, &coded)) < v->param_count; k++) {
		struct slice value = v->params[i].value;

		if (any_coded && k == 0 && !coded) { /* charset and language stand before the first piece: here there is none */
			out[n++] = '\'';
			out[n++] = '\'';
		}
		if (any_coded && !coded) {
			n += percent_code(out + n, value);
		} else if (value.len) {
			memcpy(out + n, value.ptr, value.len);
			n += value.len;
		}
	}
	to->value = slice_of(out, n);
	return OK;
}

enum err mime_params_join(struct arena *arena, const struct mime_value *v, struct mime_value *out)
{
	struct mime_param *list = arena_alloc(arena, (v->param_count + 1) * sizeof(*list));
	uint8_t state[MIME_PARAMS_MAX + 1] = { 0 };
	enum err e = OK;
	size_t n = 0, bytes;

	*out = *v;
	if (!list)
		return ERR_LIMIT;
	ASSERT(v->param_count <= ARRAY_LEN(state));
	for (size_t i = 0; i < v->param_count && e == OK; i++) {
		struct slice name;
		bool coded;

		if (state[i] == PIECE_UNSEEN && is_piece(v->params[i].name, &name) && mark_pieces(v, name, state, &coded, &bytes)) {
			e = join(arena, v, name, coded, bytes, &list[n++]); /* where the first of them is, joined or not */
			if (state[i] == PIECE_ALONE)
				list[n++] = v->params[i];
		} else if (state[i] != PIECE_JOINED) {
			list[n++] = v->params[i];
		}
	}
	out->params = list;
	out->param_count = n;
	return e;
}
