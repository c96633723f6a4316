/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_casemap.c - i;unicode-casemap (RFC 5051): each character in title case, then decomposed as far as it goes.
 *
 * Of ASCII that is upper case.  Characters are mapped alone: the collation does not reorder what it decomposes.
 */
#include "storage/mime.h"

#include <utf8proc.h>

#define DECOMPOSED_MAX 32 /* the longest decomposition, of U+FDFA, has 18 */

static bool put_character(struct buf *out, utf8proc_int32_t c)
{
	utf8proc_uint8_t bytes[4];

	return buf_put(out, bytes, (size_t)utf8proc_encode_char(c, bytes));
}

static bool put_folded(struct buf *out, utf8proc_int32_t c)
{
	utf8proc_int32_t into[DECOMPOSED_MAX];
	int last = 0;
	/* the simple mappings of UnicodeData count: sharp s has none, whatever the library says */
	utf8proc_int32_t title = c == 0xDF ? c : utf8proc_totitle(c);
	utf8proc_ssize_t n = utf8proc_decompose_char(title, into, DECOMPOSED_MAX,
						     (utf8proc_option_t)(UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT), &last);
	bool room = true;

	if (n < 0 || n > DECOMPOSED_MAX)
		return put_character(out, c);
	for (utf8proc_ssize_t i = 0; room && i < n; i++)
		room = put_character(out, into[i]);
	return room;
}

/* ASCII at the beginning, into `out`; how long it was. */
static size_t ascii_folded(struct slice s, char *out)
{
	size_t n = 0;

	for (; n < s.len && (unsigned char)s.ptr[n] < 0x80; n++)
		out[n] = s.ptr[n] >= 'a' && s.ptr[n] <= 'z' ? (char)(s.ptr[n] - 0x20) : s.ptr[n];
	return n;
}

bool mime_casemap(struct buf *out, struct slice s)
{
	bool room = true;

	while (room && s.len) {
		char *to = buf_room(out, s.len);
		if (!to)
			return false;
		size_t n = ascii_folded(s, to);
		out->len += n;
		s = slice_from(s, n);
		while (room && s.len && (unsigned char)s.ptr[0] >= 0x80) {
			utf8proc_int32_t c = 0xFFFD;
			utf8proc_ssize_t bytes = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr, (utf8proc_ssize_t)s.len, &c);

			room = bytes > 0 ? put_folded(out, c) : put_character(out, 0xFFFD);
			s = slice_from(s, bytes > 0 ? (size_t)bytes : 1);
		}
	}
	return room;
}
