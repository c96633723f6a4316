/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mime_charset.c - text of a charset to UTF-8, as it streams by.
 *
 * Which charsets there are is a closed list: those that mail is known to come in, with the names that mailers and the Encoding Standard
 * (encoding.spec.whatwg.org) give them, letters and digits alone compared.  The conversion is glibc's iconv.  It loads a converter from
 * disk the first time that it is asked for, which must not happen on a shard's thread (invariant 8): so the process asks for all of
 * them once, before its shards run, and holds one of each for good.  A name that is not in the list never reaches iconv.
 *
 * Bytes that are none of their charset become U+FFFD, one for each.
 */
#include "core/base/base.h"
#include "storage/mime.h"

#include <errno.h>
#include <iconv.h>
#include <utf8proc.h>

#define REPLACEMENT SLICE_LIT("\xEF\xBF\xBD")
#define LABEL_BYTES_MAX 32
#define PIECE_BYTES 1024

/* iconv's name, and what it is called: lower case, without "-", "_" and the like, and without "x" or "cs" before it. NULL: UTF-8. */
static const struct charset {
	const char *name, *labels;
} charsets[] = {
	{ NULL, "utf8 usascii ascii unicode11utf8 unicode20utf8 utf8mb4 ansix341968 iso646us us 7bit 8bit cp65001 646 ansix341986 iso646irv1991 isoir6" },
	{ "ISO-8859-1", "iso88591 latin1 l1 iso885911987 isoir100 cp819 ibm819 isolatin1" },
	{ "ISO-8859-2", "iso88592 latin2 l2 iso885921987 isoir101 isolatin2" },
	{ "ISO-8859-3", "iso88593 latin3 l3 iso885931988 isoir109 isolatin3" },
	{ "ISO-8859-4", "iso88594 latin4 l4 iso885941988 isoir110 isolatin4" },
	{ "ISO-8859-5", "iso88595 cyrillic iso885951988 isoir144 isolatincyrillic" },
	{ "ISO-8859-6", "iso88596 arabic asmo708 ecma114 iso885961987 isoir127 iso88596e iso88596i isolatinarabic" },
	{ "ISO-8859-7", "iso88597 greek greek8 ecma118 elot928 iso885971987 isoir126 suneugreek isolatingreek" },
	{ "ISO-8859-8", "iso88598 hebrew iso885981988 isoir138 iso88598e iso88598i visual logical isolatinhebrew" },
	{ "ISO-8859-9", "iso88599 latin5 l5 iso885991989 isoir148 isolatin5" },
	{ "ISO-8859-10", "iso885910 latin6 l6 iso8859101992 isoir157 isolatin6" },
	{ "ISO-8859-11", "iso885911" },
	{ "ISO-8859-13", "iso885913 latin7" },
	{ "ISO-8859-14", "iso885914 latin8" },
	{ "ISO-8859-15", "iso885915 latin9 l9 isolatin9" },
	{ "ISO-8859-16", "iso885916 latin10" },
	{ "WINDOWS-1250", "windows1250 cp1250 win1250" },
	{ "WINDOWS-1251", "windows1251 cp1251 win1251" },
	{ "WINDOWS-1252", "windows1252 cp1252 win1252 ansi" },
	{ "WINDOWS-1253", "windows1253 cp1253 win1253" },
	{ "WINDOWS-1254", "windows1254 cp1254 win1254" },
	{ "WINDOWS-1255", "windows1255 cp1255 win1255" },
	{ "WINDOWS-1256", "windows1256 cp1256 win1256" },
	{ "WINDOWS-1257", "windows1257 cp1257 win1257" },
	{ "WINDOWS-1258", "windows1258 cp1258 win1258" },
	{ "CP874", "windows874 cp874 dos874" },
	{ "TIS-620", "tis620 tis6200 tis6202533" },
	{ "KOI8-R", "koi8r koi8 koi" },
	{ "KOI8-U", "koi8u koi8ru" },
	{ "MACINTOSH", "macintosh mac macroman" },
	{ "MAC-CYRILLIC", "maccyrillic macukrainian" },
	{ "IBM437", "ibm437 cp437 437" },
	{ "IBM850", "ibm850 cp850 850" },
	{ "IBM852", "ibm852 cp852 852" },
	{ "IBM855", "ibm855 cp855 855" },
	{ "IBM857", "ibm857 cp857 857" },
	{ "IBM858", "ibm858 cp858 858 ibm00858" },
	{ "IBM862", "ibm862 cp862 862 dos862" },
	{ "IBM866", "ibm866 cp866 866" },
	{ "GBK", "gbk gb2312 chinese gb231280 isoir58 iso58gb231280 euccn cp936 ms936 windows936" },
	{ "GB18030", "gb18030" },
	{ "BIG5", "big5 cnbig5 big5eten cp950 windows950" },
	{ "BIG5-HKSCS", "big5hkscs" },
	{ "EUC-TW", "euctw" },
	{ "EUC-JP", "eucjp eucpkdfmtjapanese" },
	{ "ISO-2022-JP", "iso2022jp iso2022jpms cp50220 cp50221 cp50222" },
	{ "ISO-2022-JP-2", "iso2022jp2 iso2022jp1" },
	{ "ISO-2022-JP-3", "iso2022jp3" },
	{ "CP932", "shiftjis sjis mskanji ms932 windows31j cp932 cp943" },
	{ "CP949", "euckr ksc5601 ksc56011987 ksc56011989 korean isoir149 windows949 cp949 uhc" },
	{ "ISO-2022-KR", "iso2022kr" },
	{ "JOHAB", "johab cp1361" },
	{ "ISO-2022-CN", "iso2022cn" },
	{ "ISO-2022-CN-EXT", "iso2022cnext" },
	{ "UTF-7", "utf7 unicode11utf7" },
	{ "UTF-16", "utf16 ucs2 unicode iso10646ucs2" },
	{ "UTF-16BE", "utf16be unicodefffe" },
	{ "UTF-16LE", "utf16le unicodefeff" },
	{ "UTF-32", "utf32 ucs4 iso10646ucs4" },
	{ "UTF-32BE", "utf32be" },
	{ "UTF-32LE", "utf32le" },
	{ "VISCII", "viscii viscii111" },
	{ "TCVN", "tcvn tcvn5712 tcvn57121" },
	{ "ARMSCII-8", "armscii8" },
	{ "GEORGIAN-PS", "georgianps" },
};

/* ---- names ---- */

static struct slice label_of(struct slice name, char out[LABEL_BYTES_MAX])
{
	size_t n = 0;

	for (size_t i = 0; i < name.len && n < LABEL_BYTES_MAX; i++) {
		char c = name.ptr[i];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))
			out[n++] = c;
		else if ((unsigned char)c <= ' ' || (unsigned char)c >= 0x7F || c == '/')
			return slice_of("", 0);
	}
	return slice_of(out, n < LABEL_BYTES_MAX ? n : 0);
}

static const struct charset *find_label(struct slice label)
{
	struct slice labels, word;

	for (size_t i = 0; label.len && i < ARRAY_LEN(charsets); i++) {
		labels = slice_str(charsets[i].labels);
		while (slice_next(&labels, ' ', &word))
			if (slice_eq(word, label))
				return &charsets[i];
	}
	return NULL;
}

static const struct charset *find(struct slice name)
{
	char memory[LABEL_BYTES_MAX];
	struct slice label;
	const struct charset *c;

	if (slice_eq_nocase(name, SLICE_LIT("utf-8"))) /* nearly all */
		return &charsets[0];
	label = label_of(name, memory);
	c = find_label(label);
	if (!c && label.len > 1 && label.ptr[0] == 'x')
		c = find_label(slice_from(label, 1));
	if (!c && label.len > 2 && label.ptr[0] == 'c' && label.ptr[1] == 's')
		c = find_label(slice_from(label, 2));
	return c;
}

unsigned mime_charsets_load(void)
{
	static iconv_t held[ARRAY_LEN(charsets)]; /* so that they stay: glibc unloads what nobody uses; written before there are other threads */
	unsigned loaded = 0;

	for (size_t i = 1; i < ARRAY_LEN(charsets); i++) {
		if (!held[i])
			held[i] = iconv_open("UTF-8", charsets[i].name);
		loaded += held[i] != (iconv_t)-1;
	}
	return loaded;
}

bool mime_charset_begin(struct mime_charset *c, struct slice name)
{
	const struct charset *found = find(name);

	memset(c, 0, sizeof(*c));
	if (found && found->name) {
		iconv_t converter = iconv_open("UTF-8", found->name);

		if (converter == (iconv_t)-1)
			return false; /* this system's C library lacks it */
		c->converter = converter;
	}
	return found != NULL;
}

/* ---- UTF-8 ---- */

/* How many bytes at the end are the beginning of a character that may yet become whole. */
static size_t cut_character(struct slice s)
{
	for (size_t n = 1; n <= 3 && n <= s.len; n++) {
		unsigned char c = (unsigned char)s.ptr[s.len - n];

		if (c < 0x80)
			return 0;
		if (c >= 0xC0)
			return (c >= 0xF0 ? 4u : c >= 0xE0 ? 3u : 2u) > n ? n : 0;
	}
	return 0;
}

static size_t good_bytes(struct slice s)
{
	size_t n = 0;

	while (n < s.len) {
		utf8proc_int32_t c;
		utf8proc_ssize_t bytes = 1;
		uint64_t eight;

		if (n + 8 <= s.len) {
			memcpy(&eight, s.ptr + n, 8);
			if (!(eight & 0x8080808080808080u)) {
				n += 8;
				continue;
			}
		}
		if ((unsigned char)s.ptr[n] >= 0x80)
			bytes = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr + n, (utf8proc_ssize_t)(s.len - n), &c);
		if (bytes < 0)
			break;
		n += (size_t)bytes;
	}
	return n;
}

static void put_utf8(struct slice s, mime_text_put *put, void *arg)
{
	while (s.len) {
		size_t n = good_bytes(s);

		if (n)
			put(arg, slice_upto(s, n));
		s = slice_from(s, n);
		if (s.len) {
			put(arg, REPLACEMENT);
			s = slice_from(s, 1);
		}
	}
}

/* ---- all others ---- */

/* What is left of them is held. */
static void convert(struct mime_charset *c, struct slice bytes, mime_text_put *put, void *arg)
{
	char piece[PIECE_BYTES], *in = (char *)(uintptr_t)bytes.ptr; /* iconv does not write to it */
	size_t left = bytes.len;

	while (left) {
		char *to = piece;
		size_t room = sizeof(piece), r;

		r = iconv(c->converter, &in, &left, &to, &room);
		int why = errno;
		if (room < sizeof(piece))
			put(arg, slice_of(piece, sizeof(piece) - room));
		if (r != (size_t)-1 || why == E2BIG)
			continue;
		if (why == EINVAL && left < sizeof(c->held)) {
			memmove(c->held, in, left);
			c->held_bytes = left;
			return;
		}
		in++; /* a byte that is none of this charset */
		left--;
		put(arg, REPLACEMENT);
	}
}

static void feed(struct mime_charset *c, struct slice bytes, mime_text_put *put, void *arg)
{
	if (c->converter) {
		convert(c, bytes, put, arg);
		return;
	}
	size_t cut = cut_character(bytes);
	put_utf8(slice_upto(bytes, bytes.len - cut), put, arg);
	memmove(c->held, bytes.ptr + bytes.len - cut, cut);
	c->held_bytes = cut;
}

void mime_charset_feed(struct mime_charset *c, struct slice bytes, mime_text_put *put, void *arg)
{
	char joined[2 * sizeof(c->held)];

	while (c->held_bytes && bytes.len) { /* a character that was cut: it and what comes, a little at a time, until nothing is held */
		struct slice more = slice_upto(bytes, sizeof(c->held));
		size_t held = c->held_bytes;

		memcpy(joined, c->held, held);
		memcpy(joined + held, more.ptr, more.len);
		c->held_bytes = 0;
		feed(c, slice_of(joined, held + more.len), put, arg);
		bytes = slice_from(bytes, more.len);
	}
	if (bytes.len)
		feed(c, bytes, put, arg);
}

void mime_charset_end(struct mime_charset *c, mime_text_put *put, void *arg)
{
	for (size_t i = 0; put && i < c->held_bytes; i++)
		put(arg, REPLACEMENT);
	if (c->converter) {
		char last[64], *to = last; /* some wait for a mark that may follow a letter */
		size_t room = sizeof(last);

		(void)iconv(c->converter, NULL, NULL, &to, &room);
		if (put && room < sizeof(last))
			put(arg, slice_of(last, sizeof(last) - room));
		iconv_close(c->converter);
	}
	memset(c, 0, sizeof(*c));
}

/* ---- a whole text ---- */

struct whole {
	struct buf *out;
	bool room;
};

static void put_whole(void *arg, struct slice utf8)
{
	struct whole *w = arg;

	w->room = w->room && buf_put(w->out, utf8.ptr, utf8.len);
}

bool mime_to_utf8(struct buf *out, struct slice charset, struct slice bytes)
{
	struct mime_charset c;
	struct whole w = { .out = out, .room = true };

	if (!mime_charset_begin(&c, charset))
		return buf_put(out, REPLACEMENT.ptr, REPLACEMENT.len);
	mime_charset_feed(&c, bytes, put_whole, &w);
	mime_charset_end(&c, put_whole, &w);
	return w.room;
}
