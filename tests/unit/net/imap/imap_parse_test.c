/* SPDX-License-Identifier: Apache-2.0 */
/* imap_parse_test.c - arguments, names and literals of IMAP, each form and what is not in form. */
#include "net/imap/imap_list.h"
#include "net/imap/imap_private.h"
#include "net/net_private.h"
#include "storage/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static struct arena arena;

static struct imap_args args_of(const char *text)
{
	struct imap_args a;
	arena_reset(&arena);
	imap_args_init(&a, slice_str(text), &arena, false);
	return a;
}

static void assert_slice(struct slice s, const char *text)
{
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.ptr, text, s.len);
}

static void strings(void **state)
{
	(void)state;
	struct slice s;
	static const struct {
		const char *in, *out; /* NULL: refused */
	} cases[] = { { "abc", "abc" },       { "a]b", "a]b" },           { "\"a b\"", "a b" },   { "\"a\\\"b\\\\\"", "a\"b\\" }, { "\"\"", "" },
		      { "{3}\r\nabc", "abc" }, { "{3+}\r\na\r\n", "a\r\n" }, { "{0}\r\n", "" },    { "\"a\\b\"", NULL },          { "\"a", NULL },
		      { "(", NULL },           { "a\x7f", "a" },            { "{4}\r\nabc", NULL }, { "{}\r\n", NULL },           { "{3}abc", NULL },
		      { "\"\x80\"", NULL },    { "\"\xc3\xa9\"", "\xc3\xa9" }, { "{99999999999999999999}\r\n", NULL } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct imap_args a = args_of(cases[i].in);
		bool good = imap_astring(&a, &s);
		assert_int_equal(good, cases[i].out != NULL);
		if (good)
			assert_slice(s, cases[i].out);
	}
}

static void lists(void **state)
{
	(void)state;
	struct imap_args a = args_of("(a b) (c  d) ()");
	struct slice s;
	unsigned n = 0;
	assert_true(imap_open(&a));
	for (bool first = true; imap_more(&a, &first); n++)
		assert_true(imap_atom(&a, &s));
	assert_int_equal(n, 2);
	assert_true(imap_sp(&a) && imap_open(&a));
	bool first = true;
	assert_true(imap_more(&a, &first) && imap_atom(&a, &s) && imap_more(&a, &first));
	assert_false(imap_atom(&a, &s)); /* two spaces */
	a = args_of("()");
	first = true;
	assert_true(imap_open(&a));
	assert_false(imap_more(&a, &first));
	assert_true(imap_end(&a));
	a = args_of("(a");
	first = true;
	assert_true(imap_open(&a) && imap_more(&a, &first) && imap_atom(&a, &s) && imap_more(&a, &first));
	assert_false(imap_atom(&a, &s));
}

static void dates(void **state)
{
	(void)state;
	int64_t t;
	int16_t zone;
	struct imap_args a = args_of("\"14-Jan-2025 09:30:00 +0100\"");
	assert_true(imap_date_time(&a, &t, &zone));
	assert_int_equal(t, 1736843400);
	assert_int_equal(zone, 60);
	a = args_of("\" 1-feb-1970 00:00:00 -0000\"");
	assert_true(imap_date_time(&a, &t, &zone));
	assert_int_equal(t, 31 * 86400);
	static const char *const bad[] = { "\"32-Jan-2025 09:30:00 +0100\"", "\"14-Xan-2025 09:30:00 +0100\"", "\"14-Jan-2025 24:30:00 +0100\"",
					   "\"14-Jan-2025\"", "14-Jan-2025", "\"14-Jan-2025 09:30:00 0100 \"" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		a = args_of(bad[i]);
		assert_false(imap_date_time(&a, &t, &zone));
	}
}

static void literals(void **state)
{
	(void)state;
	struct imap_literal l;
	assert_true(imap_literal_at_end(SLICE_LIT("a LOGIN {5}"), &l) && l.bytes == 5 && l.sync && !l.binary);
	assert_true(imap_literal_at_end(SLICE_LIT("a APPEND x ~{5+}"), &l) && l.bytes == 5 && !l.sync && l.binary && l.begin == 11);
	assert_true(imap_literal_at_end(SLICE_LIT("{9223372036854775808}"), &l) && l.bytes == 1ull << 63);
	assert_true(imap_literal_at_end(SLICE_LIT("{99999999999999999999999}"), &l) && l.bytes == UINT64_MAX);
	static const char *const none[] = { "", "}", "{}", "{+}", "{a}", "{5} ", "{-5}", "{ 5}", "{5" };
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_false(imap_literal_at_end(slice_str(none[i]), &l));
}

static void mutf7(void **state)
{
	(void)state;
	struct slice s;
	static const struct {
		const char *wire, *utf8;
	} both[] = { { "INBOX", "INBOX" },          { "a&-b", "a&b" },       { "Entw&APw-rfe", "Entw\xc3\xbcrfe" },
		     { "&U,BTFw-", "\xe5\x8f\xb0\xe5\x8c\x97" }, { "&2D3eAA-", "\xf0\x9f\x98\x80" }, { "~peter/mail", "~peter/mail" } };
	for (size_t i = 0; i < ARRAY_LEN(both); i++) {
		assert_true(imap_mutf7_decode(&arena, slice_str(both[i].wire), &s));
		assert_slice(s, both[i].utf8);
		assert_true(imap_mutf7_encode(&arena, slice_str(both[i].utf8), &s));
		assert_slice(s, both[i].wire);
	}
	static const char *const bad[] = { "a&b",          "&AGE-",  "&2D0-", "&3gA-", "&A-", "&APw", "a\x80", "&APw-&APw-",
					   "&APx-" /* bits left over */, "&AAA", "\x01" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(imap_mutf7_decode(&arena, slice_str(bad[i]), &s));
}

static void names(void **state)
{
	(void)state;
	struct slice s;
	assert_null(imap_name_read(&arena, SLICE_LIT("inBox"), false, &s));
	assert_slice(s, "INBOX");
	assert_null(imap_name_read(&arena, SLICE_LIT("inbox/x/"), false, &s));
	assert_slice(s, "INBOX/x");
	assert_null(imap_name_read(&arena, SLICE_LIT("inboxes"), false, &s));
	assert_slice(s, "inboxes");
	static const char *const bad[] = { "", "/", "/a", "a//b", "..", "a/../b", ".", "a/.", "&AAA-", "&AAo-", "a%", "a*", "&IAE-/..", "&ICg-" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_non_null(imap_name_read(&arena, slice_str(bad[i]), false, &s));
	assert_non_null(imap_name_read(&arena, SLICE_LIT("\xc3"), true, &s));
}

static void patterns(void **state)
{
	(void)state;
	static const struct {
		const char *pattern, *name;
		bool match;
	} cases[] = { { "*", "a/b/c", true },    { "%", "a", true },       { "%", "a/b", false },  { "a/%", "a/b", true },   { "a/%", "a/b/c", false },
		      { "*c", "a/b/c", true },   { "%/c", "a/b/c", false }, { "*%/c", "a/b/c", true }, { "inbox", "INBOX", true }, { "inbox/*", "INBOX/x", true },
		      { "work", "Work", false }, { "%/%/c", "a/b/c", true }, { "a*b%c", "axxbyyc", true }, { "a*b%c", "axxb/c", false },
		      { "", "a", false },        { "*a%", "b/a/a", true }, { "%*%*%*%*x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false } };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		assert_int_equal(imap_list_match(slice_str(cases[i].pattern), slice_str(cases[i].name)), cases[i].match);
}

static void parked_session_is_small(void **state)
{
	(void)state;
	assert_true(sizeof(struct net_private) + sizeof(struct imap_session) + sizeof(struct view) < 1024);
}

static int begin(void **state)
{
	(void)state;
	arena_init(&arena, MIB(1));
	return 0;
}

static int end(void **state)
{
	(void)state;
	arena_release(&arena);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(strings),  cmocka_unit_test(lists),    cmocka_unit_test(dates),
					    cmocka_unit_test(literals), cmocka_unit_test(mutf7),    cmocka_unit_test(names),
					    cmocka_unit_test(patterns), cmocka_unit_test(parked_session_is_small) };
	return cmocka_run_group_tests(tests, begin, end);
}
