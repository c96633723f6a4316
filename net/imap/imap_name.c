/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_name.c - names of mailboxes: modified UTF-7 (RFC 3501 section 5.1.3) both ways, and what a name may be.
 *
 * The store knows names as UTF-8 with '/' between levels.  Only one way of writing is taken for each name: bytes that decode but are
 * not what an encoder makes (printable ASCII in BASE64, needless shifts) are refused, so that two spellings never lead to two folders.
 */
#include "net/imap/imap_parse.h"

#include "core/base/limits.h"

/* ---- UTF-8 ---- */

/* The code point at *at_io, which moves behind it; UINT32_MAX: not UTF-8. */
static uint32_t utf8_next(struct slice s, size_t *at_io)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	unsigned char c = (unsigned char)s.ptr[*at_io];
	size_t len = c < 0x80 ? 1 : c >= 0xf0 && c < 0xf8 ? 4 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xc0 && c < 0xe0 ? 2 : 0;
	if (!len || len > s.len - *at_io)
		return UINT32_MAX;
	uint32_t v = len == 1 ? c : c & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		unsigned char next = (unsigned char)s.ptr[*at_io + i];
		if ((next & 0xc0) != 0x80)
			return UINT32_MAX;
		v = v << 6 | (next & 0x3f);
	}
	*at_io += len;
	return v < least[len] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000) ? UINT32_MAX : v;
}

static size_t utf8_put(char *out, uint32_t v)
{
	if (v < 0x80) {
		out[0] = (char)v;
		return 1;
	}
	size_t len = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
	for (size_t i = len - 1; i > 0; i--, v >>= 6)
		out[i] = (char)(0x80 | (v & 0x3f));
	out[0] = (char)((0xf00u >> len) | v);
	return len;
}

bool imap_utf8_good(struct slice s)
{
	for (size_t at = 0; at < s.len;)
		if (utf8_next(s, &at) == UINT32_MAX)
			return false;
	return true;
}

/* ---- modified UTF-7 ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

static int value_of(char c)
{
	const char *p = c ? strchr(alphabet, c) : NULL;
	return p ? (int)(p - alphabet) : -1;
}

static bool printable(uint32_t v) { return v >= 0x20 && v < 0x7f; }

/* Text between '&' and '-': BASE64 of UTF-16, whole and in the one way. Returns bytes written, SIZE_MAX: not in form. */
static size_t shifted(struct slice in, char *out)
{
	uint32_t bits = 0, high = 0;
	unsigned count = 0;
	size_t len = 0;
	for (size_t i = 0; i < in.len; i++) {
		int v = value_of(in.ptr[i]);
		if (v < 0)
			return SIZE_MAX;
		bits = bits << 6 | (uint32_t)v;
		count += 6;
		if (count < 16)
			continue;
		count -= 16;
		uint32_t unit = bits >> count & 0xffff;
		bits &= (1u << count) - 1;
		if (high ? unit < 0xdc00 || unit > 0xdfff : (unit >= 0xdc00 && unit < 0xe000) || printable(unit))
			return SIZE_MAX;
		if (!high && unit >= 0xd800 && unit < 0xdc00) {
			high = unit;
			continue;
		}
		len += utf8_put(out + len, high ? 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00) : unit);
		high = 0;
	}
	return high || bits || count >= 6 ? SIZE_MAX : len; /* half a pair, bits left over, a digit too many */
}

bool imap_mutf7_decode(struct arena *arena, struct slice in, struct slice *out)
{
	char *to = arena_alloc(arena, 2 * in.len + 1); /* 3 octets for 16 bits, which take 2.67 characters */
	size_t len = 0;
	bool was_shifted = false;
	if (!to)
		return false;
	for (size_t i = 0; i < in.len; i++) {
		unsigned char c = (unsigned char)in.ptr[i];
		if (c < 0x20 || c >= 0x7f)
			return false;
		if (c != '&') {
			to[len++] = (char)c;
			was_shifted = false;
			continue;
		}
		size_t dash = slice_find(slice_from(in, i + 1), '-');
		if (dash == SIZE_MAX || (dash && was_shifted))
			return false;
		size_t bytes = dash ? shifted(slice_of(in.ptr + i + 1, dash), to + len) : 1;
		if (bytes == SIZE_MAX)
			return false;
		if (!dash)
			to[len] = '&';
		len += bytes;
		i += dash + 1;
		was_shifted = dash != 0;
	}
	*out = slice_of(to, len);
	return true;
}

/* One UTF-16 unit into the run of BASE64. */
static size_t shift_unit(char *out, uint32_t unit, uint32_t *bits_io, unsigned *count_io)
{
	size_t len = 0;
	*bits_io = *bits_io << 16 | unit;
	for (*count_io += 16; *count_io >= 6; *count_io -= 6)
		out[len++] = alphabet[*bits_io >> (*count_io - 6) & 63];
	*bits_io &= (1u << *count_io) - 1;
	return len;
}

static size_t shift_end(char *out, uint32_t bits, unsigned count)
{
	size_t len = 0;
	if (count)
		out[len++] = alphabet[bits << (6 - count) & 63];
	out[len++] = '-';
	return len;
}

bool imap_mutf7_encode(struct arena *arena, struct slice in, struct slice *out)
{
	char *to = arena_alloc(arena, 5 * in.len + 4); /* one octet between others: "&AAA-" */
	uint32_t bits = 0;
	unsigned count = 0;
	size_t len = 0;
	bool in_shift = false;
	if (!to)
		return false;
	for (size_t at = 0; at < in.len;) {
		uint32_t v = utf8_next(in, &at);
		if (v == UINT32_MAX)
			return false;
		if (printable(v)) {
			if (in_shift)
				len += shift_end(to + len, bits, count);
			in_shift = false;
			to[len++] = (char)v;
			if (v == '&')
				to[len++] = '-';
			continue;
		}
		if (!in_shift) {
			to[len++] = '&';
			bits = count = 0;
			in_shift = true;
		}
		if (v >= 0x10000) {
			len += shift_unit(to + len, 0xd800 + ((v - 0x10000) >> 10), &bits, &count);
			v = 0xdc00 + ((v - 0x10000) & 0x3ff);
		}
		len += shift_unit(to + len, v, &bits, &count);
	}
	if (in_shift)
		len += shift_end(to + len, bits, count);
	*out = slice_of(to, len);
	return true;
}

/* ---- what a name may be ---- */

bool imap_name_good(struct slice name)
{
	if (!name.len || name.len > FOLDER_NAME_BYTES_MAX || !imap_utf8_good(name))
		return false;
	struct slice rest = name, level;
	if (name.ptr[0] == '/' || name.ptr[name.len - 1] == '/')
		return false;
	while (slice_next(&rest, '/', &level))
		if (!level.len || slice_eq(level, SLICE_LIT(".")) || slice_eq(level, SLICE_LIT("..")))
			return false;
	for (size_t at = 0; at < name.len;) {
		uint32_t v = utf8_next(name, &at);
		if (v < 0x20 || (v >= 0x7f && v < 0xa0) || v == 0x2028 || v == 0x2029 || v == '%' || v == '*') /* RFC 9051 5.1 */
			return false;
	}
	return true;
}

const char *imap_name_read(struct arena *arena, struct slice in, bool utf8, struct slice *out)
{
	if (in.len > IMAP_NAME_BYTES_MAX)
		return "the name is too long";
	if (utf8)
		*out = in;
	else if (!imap_mutf7_decode(arena, in, out))
		return "the name is not in modified UTF-7";
	if (out->len > 1 && out->ptr[out->len - 1] == '/')
		out->len--;
	/* INBOX in any case, and as the first level of a tree (RFC 9051 section 5.1) */
	if (out->len >= 5 && slice_eq_nocase(slice_upto(*out, 5), SLICE_LIT("INBOX")) && (out->len == 5 || out->ptr[5] == '/')) {
		struct slice whole = arena_printf(arena, "INBOX%.*s", (int)out->len - 5, out->ptr + 5);
		if (!whole.ptr)
			return "the name is too long";
		*out = whole;
	}
	return imap_name_good(*out) ? NULL : "no mailbox can have this name";
}
