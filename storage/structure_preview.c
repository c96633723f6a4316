/* SPDX-License-Identifier: Apache-2.0 */
/*
 * structure_preview.c - the few words that a list of messages shows beside the subject (RFC 8970).
 *
 * They come from the first text/plain part that is no attachment, or else from the first text/html one, of which tags, styles and scripts
 * count for nothing.  Messages inside the message are not looked into.  White space is single.  Of plain text, quoted lines ("> ...")
 * count only if there is nothing else, and a signature ("-- ") ends it.
 */
#include "storage/structure_private.h"

#include "core/base/limits.h"

#include <utf8proc.h>

/* ---- which part ---- */

static bool is_attachment(struct arena *arena, const struct mime_part *part)
{
	struct mime_value v;

	return mime_disposition(arena, part->fields, &v) == OK && slice_eq_nocase(v.type, SLICE_LIT("attachment"));
}

static bool in_a_message(const struct mime_tree *tree, const struct mime_part *part)
{
	for (uint16_t up = part->parent; up != MIME_NO_PART; up = tree->parts[up].parent)
		if (tree->parts[up].kind == MIME_MESSAGE)
			return true;
	return false;
}

const struct mime_part *structure_preview_part(const struct mime_tree *tree, uint64_t *bytes_out)
{
	const struct mime_part *found = NULL;
	struct arena arena;

	arena_init(&arena, STRUCTURE_ARENA_BYTES_MAX);
	for (uint32_t i = 0; i < tree->part_count; i++) {
		const struct mime_part *part = &tree->parts[i];
		struct mime_value type;

		arena_reset(&arena);
		if (part->kind != MIME_LEAF || part->encoding == MIME_ENCODING_UNKNOWN || mime_part_type(&arena, part, &type) != OK ||
		    !slice_eq_nocase(type.type, SLICE_LIT("text")))
			continue;
		bool plain = slice_eq_nocase(type.subtype, SLICE_LIT("plain"));
		if ((!plain && (found || !slice_eq_nocase(type.subtype, SLICE_LIT("html")))) || is_attachment(&arena, part) || in_a_message(tree, part))
			continue;
		found = part;
		if (plain)
			break;
	}
	arena_release(&arena);
	*bytes_out = found ? min_u64(found->body_bytes, STRUCTURE_PREVIEW_TEXT_BYTES) : 0;
	return found;
}

/* ---- HTML to text ---- */

/* Characters that have a name everywhere; others stay as they are written. */
static bool put_entity(struct buf *out, struct slice name)
{
	static const struct {
		const char *name, *text;
	} known[] = { { "amp", "&" }, { "lt", "<" }, { "gt", ">" }, { "quot", "\"" }, { "apos", "'" }, { "nbsp", " " }, { "zwnj", "" },
		      { "shy", "" }, { "ndash", "\xE2\x80\x93" }, { "mdash", "\xE2\x80\x94" }, { "hellip", "\xE2\x80\xA6" }, { "euro", "\xE2\x82\xAC" },
		      { "lsquo", "\xE2\x80\x98" }, { "rsquo", "\xE2\x80\x99" }, { "ldquo", "\xE2\x80\x9C" }, { "rdquo", "\xE2\x80\x9D" },
		      { "copy", "\xC2\xA9" }, { "reg", "\xC2\xAE" }, { "auml", "\xC3\xA4" }, { "ouml", "\xC3\xB6" }, { "uuml", "\xC3\xBC" },
		      { "Auml", "\xC3\x84" }, { "Ouml", "\xC3\x96" }, { "Uuml", "\xC3\x9C" }, { "szlig", "\xC3\x9F" }, { "eacute", "\xC3\xA9" },
		      { "egrave", "\xC3\xA8" }, { "agrave", "\xC3\xA0" }, { "ccedil", "\xC3\xA7" } };

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (slice_eq(name, slice_str(known[i].name)))
			return buf_put(out, known[i].text, strlen(known[i].text));
	return false;
}

static bool put_number_entity(struct buf *out, struct slice digits)
{
	utf8proc_int32_t c = 0;
	utf8proc_uint8_t bytes[4];
	bool hex = digits.len > 1 && (digits.ptr[0] | 0x20) == 'x';

	digits = slice_from(digits, hex);
	for (size_t i = 0; i < digits.len; i++) {
		char d = digits.ptr[i];
		int v = d >= '0' && d <= '9' ? d - '0' : hex && (d | 0x20) >= 'a' && (d | 0x20) <= 'f' ? (d | 0x20) - 'a' + 10 : -1;
		if (v < 0 || c > 0x10FFFF)
			return false;
		c = c * (hex ? 16 : 10) + v;
	}
	if (!digits.len || !utf8proc_codepoint_valid(c))
		return false;
	return buf_put(out, bytes, (size_t)utf8proc_encode_char(c < ' ' ? ' ' : c, bytes));
}

/* "&...;" at the beginning; how long it is, or 0: a '&' and no more. */
static size_t entity(struct buf *out, struct slice s)
{
	size_t end = slice_find(slice_upto(s, 12), ';');

	if (end == SIZE_MAX || end < 2)
		return 0;
	struct slice name = slice_of(s.ptr + 1, end - 1);
	bool put = name.ptr[0] == '#' ? put_number_entity(out, slice_from(name, 1)) : put_entity(out, name);
	return put ? end + 1 : 0;
}

/* How long what begins with "<name" is, up to and with its end tag; text is over when there is none. */
static size_t element(struct slice s, struct slice end_tag)
{
	for (size_t i = 1; i + end_tag.len <= s.len; i++)
		if (s.ptr[i] == '<' && slice_eq_nocase(slice_upto(slice_from(s, i), end_tag.len), end_tag)) {
			size_t close = slice_find(slice_from(s, i), '>');
			return close == SIZE_MAX ? s.len : i + close + 1;
		}
	return s.len;
}

/* A tag, comment, or element that shows nothing, at the beginning. */
static size_t tag(struct slice s)
{
	static const struct {
		const char *begin, *end;
	} hidden[] = { { "<style", "</style" }, { "<script", "</script" }, { "<title", "</title" }, { "<!--", "" } };

	for (size_t i = 0; i + 1 < ARRAY_LEN(hidden); i++)
		if (slice_starts_nocase(s, slice_str(hidden[i].begin)))
			return element(s, slice_str(hidden[i].end));
	if (slice_starts_nocase(s, slice_str("<!--"))) {
		for (size_t i = 4; i + 3 <= s.len; i++)
			if (memcmp(s.ptr + i, "-->", 3) == 0)
				return i + 3;
		return s.len;
	}
	size_t close = slice_find(s, '>');
	return close == SIZE_MAX ? s.len : close + 1;
}

/* Tags of these do not part words: "<b>W</b>ord". */
static bool is_inline(struct slice s)
{
	static const char *const names[] = { "b", "i", "u", "em", "strong", "span", "font", "a", "wbr" };

	s = slice_from(s, s.len > 1 && s.ptr[1] == '/' ? 2 : 1);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		size_t n = strlen(names[i]);
		if (slice_starts_nocase(s, slice_str(names[i])) && (s.len == n || s.ptr[n] == '>' || s.ptr[n] == ' ' || s.ptr[n] == '\r'))
			return true;
	}
	return false;
}

static void html_to_text(struct buf *out, struct slice s)
{
	while (s.len) {
		size_t n = 0;

		if (s.ptr[0] == '<' && s.len > 1 && ((s.ptr[1] | 0x20) >= 'a' || s.ptr[1] == '/' || s.ptr[1] == '!')) {
			if (!is_inline(s))
				(void)buf_put(out, " ", 1);
			s = slice_from(s, tag(s));
			continue;
		}
		if (s.ptr[0] == '&')
			n = entity(out, s);
		if (!n) {
			for (n = 1; n < s.len && s.ptr[n] != '<' && s.ptr[n] != '&'; n++)
				;
			(void)buf_put(out, s.ptr, n);
		}
		s = slice_from(s, n);
	}
}

/* ---- words, one blank apart ---- */

struct words {
	struct buf *out;
	size_t start; /* in out */
	unsigned chars;
	bool blank, full;
};

static bool is_blank(utf8proc_int32_t c)
{
	return c <= ' ' || c == 0x7F || c == 0xA0 || c == 0x2028 || c == 0x2029 || c == 0x3000 || (c >= 0x2000 && c <= 0x200A);
}

/* Invisible fillers of newsletters, marks of byte order and direction: they would only hide the text. */
static bool is_filler(utf8proc_int32_t c)
{
	return (c >= 0x200B && c <= 0x200F) || (c >= 0x202A && c <= 0x202E) || c == 0x034F || c == 0xFEFF || c == 0xAD || (c >= 0x80 && c < 0xA0);
}

static void put_words(struct words *w, struct slice s)
{
	while (s.len && !w->full) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr, (utf8proc_ssize_t)s.len, &c);

		if (n <= 0) { /* text was made UTF-8 before; its end may be cut */
			s = slice_from(s, 1);
			continue;
		}
		if (is_blank(c)) {
			w->blank = true;
		} else if (!is_filler(c)) {
			bool gap = w->blank && w->out->len > w->start;
			w->full = w->chars + gap + 1 > STRUCTURE_PREVIEW_CHARS_MAX || (gap && !buf_put(w->out, " ", 1)) ||
				  !buf_put(w->out, s.ptr, (size_t)n);
			w->chars += gap + 1u;
			w->blank = false;
		}
		s = slice_from(s, (size_t)n);
	}
}

static void put_lines(struct words *w, struct slice text, bool quoted_too)
{
	struct slice line;

	while (!w->full && slice_next(&text, '\n', &line)) {
		if (line.len && line.ptr[line.len - 1] == '\r')
			line.len--;
		if (slice_eq(line, SLICE_LIT("-- ")))
			return;
		if (line.len && line.ptr[0] == '>' && !quoted_too)
			continue;
		put_words(w, line);
		w->blank = true;
	}
}

/* ---- a part ---- */

static void decode_part(struct buf *out, const struct mime_part *part, struct slice bytes)
{
	struct mime_decoder d;
	char *to = buf_room(out, bytes.len + 2 * sizeof(d.hold));

	if (!to)
		return;
	mime_decode_init(&d, (enum mime_encoding)part->encoding);
	out->len += mime_decode(&d, bytes, to);
	out->len += mime_decode_end(&d, to + out->len);
}

/* What was cut in the middle of a character ends with its replacement. */
static void cut_end(struct buf *text)
{
	while (text->len >= 3 && memcmp(text->ptr + text->len - 3, "\xEF\xBF\xBD", 3) == 0)
		text->len -= 3;
}

void structure_preview(struct buf *out, const struct mime_part *part, struct slice bytes, bool whole)
{
	struct words w = { .out = out, .start = out->len };
	struct arena arena;
	struct mime_value type;
	struct slice charset = SLICE_LIT("utf-8"), said, none;
	struct buf plain, text;

	arena_init(&arena, STRUCTURE_ARENA_BYTES_MAX);
	buf_init(&plain, 2 * STRUCTURE_PREVIEW_TEXT_BYTES);
	buf_init(&text, 8 * STRUCTURE_PREVIEW_TEXT_BYTES);
	decode_part(&plain, part, bytes);
	bool typed = mime_part_type(&arena, part, &type) == OK;
	if (typed && mime_param(&arena, &type, SLICE_LIT("charset"), &said, &none) == OK && said.len)
		charset = said;
	(void)mime_to_utf8(&text, charset, buf_slice(&plain));
	if (!whole)
		cut_end(&text);
	if (typed && slice_eq_nocase(type.subtype, SLICE_LIT("html"))) {
		struct buf shown;
		buf_init(&shown, 8 * STRUCTURE_PREVIEW_TEXT_BYTES);
		html_to_text(&shown, buf_slice(&text));
		put_words(&w, buf_slice(&shown));
		buf_release(&shown);
	} else {
		put_lines(&w, buf_slice(&text), false);
		if (out->len == w.start)
			put_lines(&w, buf_slice(&text), true);
	}
	buf_release(&text);
	buf_release(&plain);
	arena_release(&arena);
}
