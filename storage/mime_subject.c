/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_subject.c - the base subject (RFC 5256, 2.1), of a subject whose encoded words are decoded already.
 *
 * Nothing is copied but to make white space single; all other steps only move the two ends inwards, so the time is linear:
 * trailers are taken off the right end and leaders off the left one, each byte once, but for the look whether a blob is the
 * last thing left, which is one comparison.
 */
#include "storage/mime_scan.h"

static struct slice single_spaced(char *out, struct slice s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.len; i++) {
		if (!mime_blank(s.ptr[i]))
			out[n++] = s.ptr[i];
		else if (n && out[n - 1] != ' ')
			out[n++] = ' ';
	}
	return slice_of(out, n);
}

/* subj-trailer = "(fwd)" / WSP */
static void trailers_off(struct slice *s, bool *mark_io)
{
	for (;;) {
		if (s->len && s->ptr[s->len - 1] == ' ') {
			s->len--;
		} else if (s->len >= 5 && slice_eq_nocase(slice_from(*s, s->len - 5), SLICE_LIT("(fwd)"))) {
			s->len -= 5;
			*mark_io = true;
		} else {
			return;
		}
	}
}

/* subj-blob = "[" *BLOBCHAR "]" *WSP; how long it is, or 0 */
static size_t blob(struct slice s)
{
	size_t i = 1;

	if (!s.len || s.ptr[0] != '[')
		return 0;
	while (i < s.len && s.ptr[i] != '[' && s.ptr[i] != ']')
		i++;
	if (i == s.len || s.ptr[i] != ']')
		return 0;
	i++;
	while (i < s.len && s.ptr[i] == ' ')
		i++;
	return i;
}

/* subj-refwd = ("re" / ("fw" ["d"])) *WSP [subj-blob] ":"; how long it is, or 0 */
static size_t refwd(struct slice s)
{
	size_t i;

	if (slice_starts_nocase(s, SLICE_LIT("re")))
		i = 2;
	else if (slice_starts_nocase(s, SLICE_LIT("fwd")))
		i = 3;
	else if (slice_starts_nocase(s, SLICE_LIT("fw")))
		i = 2;
	else
		return 0;
	while (i < s.len && s.ptr[i] == ' ')
		i++;
	i += blob(slice_from(s, i));
	return i < s.len && s.ptr[i] == ':' ? i + 1 : 0;
}

/* subj-leader = (*subj-blob subj-refwd) / WSP, and blobs that leave something behind them */
static void leaders_off(struct slice *s, bool *mark_io)
{
	for (;;) {
		size_t n = refwd(*s);

		if (n) {
			*mark_io = true;
		} else if (s->len && s->ptr[0] == ' ') {
			n = 1;
		} else {
			n = blob(*s);
			if (!n || n == s->len)
				return;
		}
		*s = slice_from(*s, n);
	}
}

enum err mime_base_subject(struct arena *arena, struct slice subject, struct slice *base_out, bool *reply_out)
{
	char *copy = arena_alloc(arena, subject.len + 1);
	struct slice s;

	*reply_out = false;
	if (!copy)
		return ERR_LIMIT;
	s = single_spaced(copy, subject);
	for (;;) {
		trailers_off(&s, reply_out);
		leaders_off(&s, reply_out);
		if (s.len < 6 || !slice_starts_nocase(s, SLICE_LIT("[fwd:")) || s.ptr[s.len - 1] != ']')
			break;
		s = slice_of(s.ptr + 5, s.len - 6);
		*reply_out = true;
	}
	*base_out = s;
	return OK;
}
