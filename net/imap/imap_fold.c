/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fold.c - i;unicode-casemap (RFC 5051), by which SEARCH, SORT and THREAD compare: each character's titlecase, decomposed.
 *
 * ASCII, which is nearly all, never reaches the tables.
 */
#include "net/imap/imap_search.h"

#include <utf8proc.h>

#define REPLACEMENT "\xEF\xBF\xBD"

static bool put_code(struct buf *out, utf8proc_int32_t code)
{
	utf8proc_uint8_t text[4];
	utf8proc_ssize_t n = utf8proc_encode_char(code, text);
	return n <= 0 || buf_put(out, text, (size_t)n);
}

static bool fold_one(struct buf *out, utf8proc_int32_t code)
{
	utf8proc_int32_t parts[32]; /* the longest decomposition of Unicode has 18 */
	int boundclass = 0;
	code = utf8proc_totitle(code);
	utf8proc_ssize_t n = utf8proc_decompose_char(code, parts, (utf8proc_ssize_t)ARRAY_LEN(parts), UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, &boundclass);
	if (n <= 0 || n > (utf8proc_ssize_t)ARRAY_LEN(parts))
		return put_code(out, code);
	for (utf8proc_ssize_t i = 0; i < n; i++)
		if (!put_code(out, parts[i]))
			return false;
	return true;
}

/* A run of ASCII at the start; how long it was, SIZE_MAX: the buf is full. */
static size_t fold_ascii(struct buf *out, struct slice s)
{
	size_t n = 0;
	while (n < s.len && !(s.ptr[n] & 0x80))
		n++;
	char *to = n ? buf_room(out, n) : NULL;
	if (n && !to)
		return SIZE_MAX;
	for (size_t i = 0; i < n; i++)
		to[i] = s.ptr[i] >= 'a' && s.ptr[i] <= 'z' ? (char)(s.ptr[i] - 32) : s.ptr[i];
	out->len += n;
	return n;
}

bool imap_fold(struct buf *out, struct slice s)
{
	while (s.len) {
		utf8proc_int32_t code;
		size_t ascii = fold_ascii(out, s);
		if (ascii == SIZE_MAX)
			return false;
		s = slice_from(s, ascii);
		if (!s.len)
			break;
		utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr, (utf8proc_ssize_t)min_size(s.len, 4), &code);
		bool good = n > 0 ? fold_one(out, code) : buf_put(out, REPLACEMENT, sizeof REPLACEMENT - 1);
		if (!good)
			return false;
		s = slice_from(s, n > 0 ? (size_t)n : 1);
	}
	return true;
}
