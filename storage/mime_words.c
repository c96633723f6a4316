/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_words.c - encoded words (RFC 2047) to UTF-8.
 *
 * Blanks between two encoded words go away.  What is malformed stays as it was sent, words of an unknown charset become
 * U+FFFD, one for each; raw 8-bit bytes that are not UTF-8 become U+FFFD.  No byte is looked at more than a constant number
 * of times.
 */
#include "storage/mime_scan.h"

#define CHARSET_BYTES_MAX 64

/* ---- encoded words ---- */

struct word {
	struct slice charset, text;
	bool base64;
	size_t bytes; /* of all of it */
};

static bool word_at(struct slice s, struct word *w)
{
	size_t a, end;
	char c;

	if (s.len < 9 || s.ptr[0] != '=' || s.ptr[1] != '?')
		return false;
	for (a = 2; a < s.len && a < CHARSET_BYTES_MAX && s.ptr[a] != '?' && !mime_blank(s.ptr[a]); a++)
		;
	if (a + 3 > s.len || s.ptr[a] != '?' || s.ptr[a + 2] != '?')
		return false;
	c = s.ptr[a + 1] | 0x20;
	if (c != 'b' && c != 'q')
		return false;
	for (end = a + 3; end < s.len && s.ptr[end] != '?' && !mime_blank(s.ptr[end]); end++)
		;
	if (end + 1 >= s.len || s.ptr[end] != '?' || s.ptr[end + 1] != '=')
		return false;
	w->charset = slice_of(s.ptr + 2, a - 2);
	if (slice_find(w->charset, '*') != SIZE_MAX) /* RFC 2231, 5: a language */
		w->charset.len = slice_find(w->charset, '*');
	w->text = slice_of(s.ptr + a + 3, end - a - 3);
	w->base64 = c == 'b';
	w->bytes = end + 2;
	return true;
}

static bool word_put(struct buf *out, const struct word *w)
{
	struct buf octets;
	struct mime_decoder d;
	char *to;
	bool good;

	buf_init(&octets, 2 * w->text.len + 2 * sizeof(d.hold));
	mime_decode_init(&d, w->base64 ? MIME_BASE64 : MIME_QP);
	to = buf_room(&octets, w->text.len + 2 * sizeof(d.hold));
	for (size_t i = 0; i < w->text.len; i++) { /* one at a time, since '_' stands for a blank and "=5F" does not */
		bool blank = !w->base64 && w->text.ptr[i] == '_';

		octets.len += mime_decode(&d, blank ? SLICE_LIT("=20") : slice_of(w->text.ptr + i, 1), to + octets.len);
	}
	octets.len += mime_decode_end(&d, to + octets.len);
	good = mime_to_utf8(out, w->charset, buf_slice(&octets));
	buf_release(&octets);
	return good;
}

bool mime_words_decode(struct buf *out, struct slice s)
{
	bool after_word = false, good = true;

	while (good && s.len) {
		struct word w;
		size_t n = 0;

		if (word_at(s, &w)) {
			good = word_put(out, &w);
			s = slice_from(s, w.bytes);
			after_word = true;
			continue;
		}
		while (n < s.len && mime_blank(s.ptr[n]))
			n++;
		if (n && after_word && word_at(slice_from(s, n), &w)) {
			s = slice_from(s, n);
			continue;
		}
		if (!n)
			n = 1;
		while (n < s.len && !mime_blank(s.ptr[n]) && !(s.ptr[n] == '=' && n + 1 < s.len && s.ptr[n + 1] == '?'))
			n++;
		good = mime_to_utf8(out, SLICE_LIT("UTF-8"), slice_upto(s, n));
		s = slice_from(s, n);
		after_word = false;
	}
	return good;
}
