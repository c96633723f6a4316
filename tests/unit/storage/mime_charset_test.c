/* SPDX-License-Identifier: Apache-2.0 */
/* Charsets: names, converters that are there from the start, and texts that are cut anywhere. */
#include "storage/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void is(const char *charset, struct slice bytes, const char *want)
{
	struct buf b;

	buf_init(&b, 4096);
	assert_true(mime_to_utf8(&b, slice_str(charset), bytes));
	assert_true(buf_put(&b, "", 1));
	assert_string_equal(b.ptr, want);
	buf_release(&b);
}

#define TEXT(lit) { lit, sizeof(lit) - 1 } /* as an initializer */
#define GRUN "Gr\xC3\xBCn"

static void names(void **state)
{
	static const char *const latin[] = { "ISO-8859-1", "iso8859-1", "iso_8859_1", "latin1", "Latin-1", "csISOLatin1", "windows-1252", "cp1252", "X-CP1252", "iso-8859-15" };
	static const char *const utf8[] = { "utf-8", "UTF8", "us-ascii", "ASCII", "ANSI_X3.4-1968", "csASCII", "x-utf8" };
	static const char *const none[] = { "", "x", "cs", "no-such", "a/b", "utf-8//IGNORE", "latin1 ", "latin1\x01", "IBM1047", "latin\xC3\xA9", "-",
					    "iso-8859-1-and-so-on-and-so-on-and-so-on-and-so-on-and-so-on-and-so-on" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(latin); i++)
		is(latin[i], SLICE_LIT("Gr\xFCn"), GRUN);
	for (size_t i = 0; i < ARRAY_LEN(utf8); i++)
		is(utf8[i], SLICE_LIT(GRUN), GRUN);
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		is(none[i], SLICE_LIT("Gr\xFCn"), "\xEF\xBF\xBD");
}

static const struct {
	const char *charset;
	struct slice bytes;
	const char *want;
} texts[] = {
	{ "utf-8", TEXT("a\xE2\x82\xAC\xF0\x9F\x98\x80z"), "a\xE2\x82\xAC\xF0\x9F\x98\x80z" },
	{ "utf-8", TEXT("a\xFF\xC3(\xE2\x82"), "a\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD" },
	{ "iso-2022-jp", TEXT("\x1B$B$3$s\x1B(B!"), "\xE3\x81\x93\xE3\x82\x93!" },
	{ "shift_jis", TEXT("\x93\xFA\x96{"), "\xE6\x97\xA5\xE6\x9C\xAC" },
	{ "gb2312", TEXT("\xD6\xD0\xCE\xC4"), "\xE4\xB8\xAD\xE6\x96\x87" },
	{ "big5", TEXT("\xA4\xA4\xA4\xE5"), "\xE4\xB8\xAD\xE6\x96\x87" },
	{ "ks_c_5601-1987", TEXT("\xC7\xD1"), "\xED\x95\x9C" },
	{ "koi8-r", TEXT("\xED\xC9\xD2"), "\xD0\x9C\xD0\xB8\xD1\x80" },
	{ "utf-16be", TEXT("\0a\xD8=\xDE\0"), "a\xF0\x9F\x98\x80" },
	{ "utf-7", TEXT("1 +- +2D3eAA-"), "1 + \xF0\x9F\x98\x80" },
	{ "windows-1255", TEXT("\xF9"), "\xD7\xA9" }, /* a letter that could still get a dot: it comes at the end */
	{ "us-ascii", TEXT("0123456789abcdef\x80"), "0123456789abcdef\xEF\xBF\xBD" },
};

static void put(void *arg, struct slice utf8) { assert_true(buf_put(arg, utf8.ptr, utf8.len)); }

static void cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		is(texts[i].charset, texts[i].bytes, texts[i].want);
		for (size_t step = 1; step <= texts[i].bytes.len; step++) {
			struct mime_charset c;
			struct buf b;
			buf_init(&b, 4096);
			assert_true(mime_charset_begin(&c, slice_str(texts[i].charset)));
			for (size_t at = 0; at < texts[i].bytes.len; at += step)
				mime_charset_feed(&c, slice_upto(slice_from(texts[i].bytes, at), step), put, &b);
			mime_charset_end(&c, put, &b);
			assert_true(buf_put(&b, "", 1));
			assert_string_equal(b.ptr, texts[i].want);
			buf_release(&b);
		}
	}
}

/* Converters that are mapped into this process. */
static unsigned mapped(void)
{
	char line[512];
	unsigned n = 0;
	FILE *f = fopen("/proc/self/maps", "r");

	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, "/gconv/") && strstr(line, " r-xp ");
	fclose(f);
	return n;
}

/* Invariant 8: no text that arrives loads anything, whatever charset it says it is in. */
static void nothing_is_loaded_later(void **state)
{
	(void)state;
	unsigned loaded = mime_charsets_load(), before = mapped();
	struct buf b;

	assert_true(loaded > 50 && before > 30);
	assert_int_equal(mime_charsets_load(), loaded);
	buf_init(&b, 4096);
	for (int round = 0; round < 4; round++) { /* glibc unloads what was closed some times */
		for (size_t i = 0; i < ARRAY_LEN(texts); i++)
			is(texts[i].charset, texts[i].bytes, texts[i].want);
		is("IBM1047", SLICE_LIT("a"), "\xEF\xBF\xBD"); /* glibc has it, mail has not */
		assert_true(mime_words_decode(&b, SLICE_LIT("=?EBCDIC-AT-DE?Q?a?= =?iso-2022-kr?Q?a?=")));
	}
	assert_int_equal(mapped(), before);
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_loaded_later), /* first: the others load some */
		cmocka_unit_test(names),
		cmocka_unit_test(cut_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
