/* SPDX-License-Identifier: Apache-2.0 */
/* name.c - names folded to the form that the directory keeps. */
#include "tenancy/name.h"

#include <idn2.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

static bool is_8bit(char c)
{
	return (unsigned char)c >= 0x80;
}

/* The length of the well-formed UTF-8 sequence at s, 0 if there is none (RFC 3629: no overlong forms, no surrogates). */
static size_t utf8_sequence(struct slice s)
{
	const unsigned char *p = (const unsigned char *)s.ptr;
	if (p[0] < 0x80)
		return 1;
	size_t len = p[0] >= 0xC2 && p[0] < 0xE0 ? 2 : p[0] >= 0xE0 && p[0] < 0xF0 ? 3 : p[0] >= 0xF0 && p[0] < 0xF5 ? 4 : 0;
	if (len == 0 || s.len < len)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xC0) != 0x80)
			return 0;
	if ((p[0] == 0xE0 && p[1] < 0xA0) || (p[0] == 0xED && p[1] > 0x9F) || (p[0] == 0xF0 && p[1] < 0x90) || (p[0] == 0xF4 && p[1] > 0x8F))
		return 0;
	return len;
}

bool utf8_valid(struct slice s)
{
	while (s.len) {
		size_t len = utf8_sequence(s);
		if (len == 0)
			return false;
		s = slice_from(s, len);
	}
	return true;
}

/* Labels of letters, digits, hyphen and underscore, 1 to 63 bytes each. */
static bool labels_valid(struct slice domain)
{
	size_t label = 0;
	for (size_t i = 0; i < domain.len; i++) {
		char c = domain.ptr[i];
		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
		} else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_') {
			if (++label > 63)
				return false;
		} else {
			return false;
		}
	}
	return label > 0;
}

static enum err domain_by_idna(struct slice in, char out[DOMAIN_BYTES_MAX], struct slice *name_out)
{
	char utf8[4 * DOMAIN_BYTES_MAX];
	if (in.len >= sizeof(utf8) || !utf8_valid(in) || memchr(in.ptr, 0, in.len))
		return ERR_SYNTAX;
	memcpy(utf8, in.ptr, in.len);
	utf8[in.len] = 0;
	char *ascii = NULL;
	if (idn2_to_ascii_8z(utf8, &ascii, IDN2_NONTRANSITIONAL | IDN2_NFC_INPUT) != IDN2_OK)
		return ERR_SYNTAX;
	struct slice a = slice_str(ascii);
	enum err e = ERR_SYNTAX;
	/* The mapping turns some characters into ASCII ones (full-width letters, the ideographic dot), never back into 8 bit: this
	 * call does not recurse further. */
	bool ascii_only = true;
	for (size_t i = 0; i < a.len; i++)
		ascii_only = ascii_only && !is_8bit(a.ptr[i]);
	if (ascii_only)
		e = name_domain(a, out, name_out);
	idn2_free(ascii);
	return e;
}

enum err name_domain(struct slice in, char out[DOMAIN_BYTES_MAX], struct slice *name_out)
{
	for (size_t i = 0; i < in.len; i++)
		if (is_8bit(in.ptr[i]))
			return domain_by_idna(in, out, name_out);
	if (in.len && in.ptr[in.len - 1] == '.')
		in.len--;
	if (in.len == 0 || in.len > DOMAIN_BYTES_MAX)
		return ERR_SYNTAX;
	for (size_t i = 0; i < in.len; i++)
		out[i] = lower(in.ptr[i]);
	*name_out = slice_of(out, in.len);
	return labels_valid(*name_out) ? OK : ERR_SYNTAX;
}

enum err name_local(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *name_out)
{
	if (in.len == 0 || in.len > LOGIN_BYTES_MAX)
		return ERR_SYNTAX;
	bool eight = false;
	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];
		if (c < 0x20 || c == 0x7F)
			return ERR_SYNTAX;
		eight = eight || c >= 0x80;
		out[i] = lower(in.ptr[i]);
	}
	*name_out = slice_of(out, in.len);
	return !eight || utf8_valid(*name_out) ? OK : ERR_SYNTAX;
}

enum err name_account_local(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *name_out)
{
	enum err e = name_local(in, out, name_out);
	if (e)
		return e;
	if (name_out->len > LOCAL_PART_BYTES_MAX)
		return ERR_SYNTAX;
	for (size_t i = 0; i < name_out->len; i++)
		if (strchr(" @\"<>(),:;[]\\", name_out->ptr[i]))
			return ERR_SYNTAX;
	return OK;
}

enum err name_tenant(struct slice in, char out[TENANT_BYTES_MAX], struct slice *name_out)
{
	if (in.len == 0 || in.len > TENANT_BYTES_MAX)
		return ERR_SYNTAX;
	for (size_t i = 0; i < in.len; i++) {
		char c = lower(in.ptr[i]);
		bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (!word && (i == 0 || (c != '.' && c != '_' && c != '-')))
			return ERR_SYNTAX;
		out[i] = c;
	}
	*name_out = slice_of(out, in.len);
	return OK;
}

enum err name_unquote(struct slice in, char out[LOGIN_BYTES_MAX], struct slice *local_out)
{
	if (in.len > LOGIN_BYTES_MAX)
		return ERR_SYNTAX;
	if (in.len == 0 || in.ptr[0] != '"') {
		if (in.len)
			memmove(out, in.ptr, in.len);
		*local_out = slice_of(out, in.len);
		return OK;
	}
	if (in.len < 2 || in.ptr[in.len - 1] != '"')
		return ERR_SYNTAX;
	size_t len = 0;
	for (size_t i = 1; i < in.len - 1; i++) {
		if (in.ptr[i] == '"')
			return ERR_SYNTAX;
		if (in.ptr[i] == '\\' && ++i == in.len - 1) /* the last quote was itself quoted */
			return ERR_SYNTAX;
		out[len++] = in.ptr[i];
	}
	*local_out = slice_of(out, len);
	return OK;
}
