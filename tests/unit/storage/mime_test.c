/* SPDX-License-Identifier: Apache-2.0 */
/* MIME: structures written down by hand from RFC 2046, tables of RFC 5322 addresses and dates, RFC 2231, decoders; and that
 * nothing depends on how the bytes are cut. */
#include "core/base/limits.h"
#include "storage/mime.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

/* Text with LF becomes CRLF. */
static struct buf wire(const char *text)
{
	struct buf b;

	buf_init(&b, MIB(4));
	for (; *text; text++)
		assert_true(buf_put(&b, *text == '\n' ? "\r\n" : text, *text == '\n' ? 2 : 1));
	return b;
}

static struct mime_tree *parse(struct slice bytes, size_t step)
{
	struct mime_parser *m = mime_open();

	for (size_t i = 0; i < bytes.len; i += step)
		mime_feed(m, slice_upto(slice_from(bytes, i), step));
	return mime_close(m);
}

/* The tree as text: kind, [parent], body, octets, lines, decoded size. */
static void draw(const struct mime_tree *t, struct slice bytes, struct buf *out)
{
	buf_clear(out);
	for (uint32_t i = 0; i < t->part_count; i++) {
		const struct mime_part *p = &t->parts[i];
		int parent = p->parent == MIME_NO_PART ? -1 : p->parent;

		assert_true(p->body_offset + p->body_bytes <= bytes.len);
		assert_true(buf_printf(out, "%c%d:%d/%d", "LMR"[p->kind], parent, (int)p->body_bytes, (int)p->lines));
		if (p->decoded_bytes != MIME_DECODED_UNKNOWN && p->decoded_bytes != p->body_bytes)
			assert_true(buf_printf(out, "=%d", (int)p->decoded_bytes));
		if (p->kind == MIME_LEAF && p->body_bytes < 20)
			assert_true(buf_printf(out, "'%.*s'", (int)p->body_bytes, bytes.ptr + p->body_offset));
		assert_true(buf_put(out, " ", 1));
	}
	assert_true(buf_put(out, "", 1));
}

static void structure_is(const char *text, const char *want)
{
	static const size_t steps[] = { 1, 2, 3, 7, 64, 1 << 20 };
	struct buf b = wire(text), out;

	buf_init(&out, MIB(1));
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		struct mime_tree *t = parse(buf_slice(&b), steps[i]);

		draw(t, buf_slice(&b), &out);
		assert_string_equal(out.ptr, want);
		mime_tree_free(t);
	}
	buf_release(&out);
	buf_release(&b);
}

static void structures(void **state)
{
	(void)state;
	structure_is("", "L-1:0/0'' ");
	structure_is("Subject: x\n\nab\n", "L-1:4/1'ab\r\n' ");
	structure_is("Subject: no body\n", "L-1:0/0'' ");
	structure_is("Content-Type: multipart/mixed; boundary=ab\n\n--ab\nContent-Type: multipart/alternative; boundary=abc\n\n"
		     "--abc\n\none\n--abc\nContent-Type: text/html\n\ntwo\n--abc--\n\n--ab\nContent-Type: text/csv\n\nthree\n--ab--\nepilogue --ab\n",
		     "M-1:185/18 M0:62/8 L1:3/0'one' L1:3/0'two' L0:5/0'three' ");
	structure_is("Content-Type: multipart/mixed; boundary=\"b 1\"\n\npre\n--b 1  \n\nfirst\n--b 1\t\n\nsecond\n--b 1-- \n",
		     "M-1:51/8 L0:5/0'first' L0:6/0'second' ");
	structure_is("Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: multipart/alternative; boundary=i\n\n--i\n\ntiny\n--i--\n--o--\n",
		     "M-1:83/8 M0:18/3 L1:4/0'tiny' ");
	structure_is("Content-Type: multipart/mixed; boundary=o\n\n--o\n\nx\n --o\n-- o\n--oo\n--o--\n", "M-1:35/7 L0:19/3'x\r\n --o\r\n-- o\r\n--oo' ");
	structure_is("Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Transfer-Encoding: base64\n\nQUJDRA==\n",
		     "M-1:52/4 L0:10/1=4'QUJDRA==\r\n' ");
	structure_is("Content-Type: multipart/mixed; boundary=o\n\nnothing\n", "M-1:9/1 L0:0/0'' ");
	structure_is("Content-Type: multipart/mixed\n\n--o\n\nx\n", "L-1:10/3'--o\r\n\r\nx\r\n' ");
	structure_is("Content-Type: multipart/digest; boundary=o\n\n--o\n\nSubject: in\n\nhi\n--o--\n", "M-1:33/6 R0:17/2 L1:2/0'hi' ");
	/* a message inside with an empty body does not reach beyond the part that holds it */
	structure_is("Content-Type: multipart/digest; boundary=o\n\n--o\n\nA: b\n\n--o--\n", "M-1:22/5 R0:8/2 L1:0/0'' ");
	/* the table of parts grows in the middle of a digest */
	structure_is("Content-Type: multipart/digest; boundary=o\n\n--o\n\n\na\n--o\n\n\nb\n--o\n\n\nc\n--o--\n",
		     "M-1:43/13 R0:3/1 L1:1/0'a' R0:3/1 L3:1/0'b' R0:3/1 L5:1/0'c' ");
	structure_is("Content-Type: message/rfc822\n\nSubject: in\n\nhi\n", "R-1:19/3 L0:4/1'hi\r\n' ");
	structure_is("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nQUJD\n", "L-1:6/1=3'QUJD\r\n' ");
	structure_is("Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: text/html\n--o--\n", "M-1:37/3 L0:0/0'' ");
}

/* Endless nesting and a header without end: bounded, and the same however cut. */
static void hostile(void **state)
{
	struct buf b;
	struct mime_tree *t;

	(void)state;
	buf_init(&b, MIB(8));
	for (int i = 0; i < 20000; i++)
		assert_true(buf_printf(&b, "Content-Type: message/rfc822\r\n\r\n"));
	t = parse(buf_slice(&b), 1000);
	assert_true(t->part_count <= MIME_DEPTH_MAX);
	mime_tree_free(t);
	buf_clear(&b);
	for (int i = 0; i < 5000; i++)
		assert_true(buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i));
	t = parse(buf_slice(&b), 1000);
	assert_true(t->part_count <= MIME_DEPTH_MAX);
	mime_tree_free(t);
	buf_clear(&b);
	assert_true(buf_printf(&b, "Subject: "));
	while (b.len < MIB(4))
		assert_true(buf_printf(&b, "0123456789\r\n "));
	t = parse(buf_slice(&b), 4096);
	assert_true(t->truncated);
	assert_int_equal(t->parts[0].fields.len, MIME_FIELD_BYTES_MAX);
	mime_tree_free(t);
	buf_clear(&b);
	assert_true(buf_printf(&b, "Content-Type: multipart/mixed; boundary=b\r\n\r\n"));
	for (int i = 0; i < 5000; i++)
		assert_true(buf_printf(&b, "--b\r\n\r\n"));
	t = parse(buf_slice(&b), 4096);
	assert_true(t->truncated);
	assert_int_equal(t->part_count, MIME_PARTS_MAX);
	mime_tree_free(t);
	buf_release(&b);
}

static void put_slice(struct buf *b, struct slice s)
{
	assert_true(s.ptr ? buf_printf(b, "%.*s|", SLICE_ARG(s)) : buf_printf(b, "NIL|"));
}

static void addresses(void **state)
{
	static const char *const table[][2] = {
		{ "Ann <ann@example.org>, \"Bob, Jr.\" <bob@example.net>",
		  "Ann|NIL|ann|example.org| Bob, Jr.|NIL|bob|example.net| " },
		{ "ann@example.org", "NIL|NIL|ann|example.org| " },
		{ "ann@example.org (Ann Lee)", "Ann Lee|NIL|ann|example.org| " },
		{ "<@relay.example,@second.example:far@away.example>", "NIL|@relay.example,@second.example|far|away.example| " },
		{ "\"Q \\\"uo\\\" te\" (note) <\"odd local\"@example.org>", "Q \"uo\" te|NIL|odd local|example.org| " },
		{ "=?utf-8?Q?J=C3=B6rg?= <j@example.org>", "=?utf-8?Q?J=C3=B6rg?=|NIL|j|example.org| " },
		{ "A Group:Ed Jones <joe@where.test>,one@y.test;", "(A Group Ed Jones|NIL|joe|where.test| NIL|NIL|one|y.test| ) " },
		{ "Undisclosed recipients:;", "(Undisclosed recipients ) " },
		{ "Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", "Pete|NIL|pete|silly.test| " },
		{ "jdoe . x @ example . org", "NIL|NIL|jdoe.x|example.org| " },
		{ "a@[1.2.3.4]", "NIL|NIL|a|[1.2.3.4]| " },
		{ "root", "NIL|NIL|root|| " },
		{ ",,, ;<>>", "NIL|NIL||| " },
		{ "(((((", "" },
		{ "\"unfinished <a@b>", "NIL|NIL|unfinished <a@b>|| " },
	};
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct arena arena;
		const struct mime_address *list;
		size_t count;

		arena_init(&arena, MIB(1));
		buf_clear(&b);
		assert_int_equal(mime_addresses(&arena, slice_str(table[i][0]), &list, &count), OK);
		for (size_t k = 0; k < count; k++) {
			if (list[k].kind == MIME_GROUP_START)
				assert_true(buf_printf(&b, "(%.*s ", SLICE_ARG(list[k].mailbox)));
			else if (list[k].kind == MIME_GROUP_END)
				assert_true(buf_printf(&b, ") "));
			else {
				put_slice(&b, list[k].name);
				put_slice(&b, list[k].route);
				put_slice(&b, list[k].mailbox);
				put_slice(&b, list[k].host);
				assert_true(buf_put(&b, " ", 1));
			}
		}
		assert_true(buf_put(&b, "", 1));
		assert_string_equal(b.ptr, table[i][1]);
		arena_release(&arena);
	}
	buf_release(&b);
}

static void parameters(void **state)
{
	static const char fields[] = "Content-Type: Application/PDF; name*0=\"first; \";\r\n name*1*=b%41%zz; name*2=.pdf;\r\n"
				     " t*=us-ascii'en'Plain%20title; x=\"a;b=\\\"c\\\"\" (c); y=1 (two); ; =3; z\r\n"
				     "Content-Disposition: attachment; filename*0*=utf-8''na%C3%AF; filename*1=\"ve%20\"\r\n";
	static const char *const want[][3] = { { "name", "first; bA%zz.pdf", "" }, { "T", "Plain title", "us-ascii" },
					       { "x", "a;b=\"c\"", "" }, { "y", "1", "" } };
	struct arena arena;
	struct mime_value v;
	struct slice value, charset;

	(void)state;
	arena_init(&arena, MIB(1));
	assert_int_equal(mime_content_type(&arena, slice_str(fields), &v), OK);
	assert_true(slice_eq(v.type, SLICE_LIT("Application")) && slice_eq(v.subtype, SLICE_LIT("PDF")));
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
		assert_int_equal(mime_param(&arena, &v, slice_str(want[i][0]), &value, &charset), OK);
		assert_true(slice_eq(value, slice_str(want[i][1])));
		assert_true(slice_eq(charset, slice_str(want[i][2])));
	}
	assert_int_equal(mime_param(&arena, &v, SLICE_LIT("z"), &value, &charset), ERR_NOT_FOUND);
	assert_int_equal(mime_disposition(&arena, slice_str(fields), &v), OK);
	assert_int_equal(mime_param(&arena, &v, SLICE_LIT("filename"), &value, &charset), OK);
	assert_true(slice_eq(value, SLICE_LIT("na\xC3\xAFve%20")) && slice_eq(charset, SLICE_LIT("utf-8")));
	assert_int_equal(mime_content_type(&arena, SLICE_LIT("Content-Type: text\r\n"), &v), ERR_NOT_FOUND);
	arena_release(&arena);
}

static void dates(void **state)
{
	static const struct {
		const char *text;
		int64_t utc_s;
	} good[] = {
		{ "Thu, 1 Jan 1970 00:00:00 +0000", 0 },
		{ "Fri, 21 Nov 1997 09:55:06 -0600", 880127706 },
		{ "21 Nov 97 09:55:06 GMT", 880106106 },
		{ "Thu,\r\n 13\r\n Feb (c)\r\n 1969 23:32 -0330 (Newfoundland)", -27723480 },
		{ "29 Feb 2000 00:00:00 EST", 951800400 },
		{ "1 Jan 2024", 1704067200 },
	};
	static const char *const bad[] = { "", "Thu", "32 Jan 2020", "30 Feb 2020", "29 Feb 1900", "1 Foo 2020", "1 Jan 2020 25:00", "1 Jan 5" };
	struct mime_date d;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_true(mime_date(slice_str(good[i].text), &d));
		assert_int_equal(d.utc_s, good[i].utc_s);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_false(mime_date(slice_str(bad[i]), &d));
	assert_true(mime_date(SLICE_LIT("2 Jan 1970 23:30:00 -0800"), &d));
	assert_int_equal(d.local_day, 1);
	assert_int_equal(d.zone_min, -480);
}

static void decoded(void **state)
{
	static const struct {
		enum mime_encoding encoding;
		const char *in, *out;
	} table[] = {
		{ MIME_BASE64, "QUJD REVG\r\n", "ABCDEF" },
		{ MIME_BASE64, "QUJD!REVG", "ABCDEF" },
		{ MIME_BASE64, "QUJDREU=\r\n-- \r\nfooter", "ABCDE" },
		{ MIME_BASE64, "QUJDREU", "ABCDE" },
		{ MIME_BASE64, "QUJDR", "ABC" },
		{ MIME_BASE64, "=", "" },
		{ MIME_QP, "a=3Db=\r\nc  \r\nd =41=4a\r\n", "a=bc\r\nd AJ\r\n" },
		{ MIME_QP, "x=ZZ =4 = \t\r\ny=", "x=ZZ =4 y" },
		{ MIME_QP, "==41=", "=A" },
		{ MIME_7BIT, "=41", "=41" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		struct slice in = slice_str(table[i].in);

		for (size_t step = 1; step <= in.len + 1; step++) {
			struct mime_decoder d;
			char out[512];
			size_t n = 0;

			mime_decode_init(&d, table[i].encoding);
			for (size_t at = 0; at < in.len; at += step)
				n += mime_decode(&d, slice_upto(slice_from(in, at), step), out + n);
			n += mime_decode_end(&d, out + n);
			out[n] = 0;
			assert_string_equal(out, table[i].out);
		}
	}
}

/* RFC 5256, 2.1 and section 3 of its definitions; {subject, base, is a reply} */
static void base_subjects(void **state)
{
	static const struct {
		const char *subject, *base;
		bool reply;
	} table[] = {
		{ "fw [wood]: larch", "larch", true },
		{ "[Fwd: ash]", "ash", true },
		{ "Re [7]: birch", "birch", true },
		{ "[blob] [two] Re: maple (fwd)", "maple", true },
		{ "RE: Re: re:  yew \t hedge", "yew hedge", true },
		{ "[only blob]", "[only blob]", false },
		{ "[list] word", "word", false },
		{ "[fwd: [fwd: Re: deep (fwd)] ]", "deep", true },
		{ "Reply", "Reply", false },
		{ "Re:", "", true },
		{ "re", "re", false },
		{ "[a[b] c", "[a[b] c", false },
		{ " (fwd) ", "", true },
		{ "", "", false },
	};
	struct arena arena;
	struct slice base;
	bool reply;

	(void)state;
	arena_init(&arena, MIB(1));
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		assert_int_equal(mime_base_subject(&arena, slice_str(table[i].subject), &base, &reply), OK);
		if (!slice_eq(base, slice_str(table[i].base)) || reply != table[i].reply)
			fail_msg("%s: %.*s %d", table[i].subject, SLICE_ARG(base), reply);
	}
	arena_release(&arena);
}

static void ids(void **state)
{
	struct slice rest = SLICE_LIT("junk <a@b>\r\n <\"c\\\"d>\"@e> <none> <open <f @ g> <h@i");
	static const char *const want[] = { "a@b", "c\"d>@e", "f@g" };
	struct arena arena;
	struct slice id;

	(void)state;
	arena_init(&arena, MIB(1));
	for (size_t i = 0; i < sizeof(want) / sizeof(*want); i++) {
		assert_true(mime_id_next(&arena, &rest, &id));
		assert_true(slice_eq(id, slice_str(want[i])));
	}
	assert_false(mime_id_next(&arena, &rest, &id));
	arena_release(&arena);
}

static void encoded_words(void **state)
{
	static const char *const table[][2] = {
		{ "=?utf-8?Q?Re:_oak?=", "Re: oak" },
		{ "=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab" },
		{ "(=?ISO-8859-1?Q?a_b?= c)", "(a b c)" },
		{ "=?koi8-r?B?8MnT2M3P?=", "\xD0\x9F\xD0\xB8\xD1\x81\xD1\x8C\xD0\xBC\xD0\xBE" },
		{ "=?US-ASCII*EN?Q?Keith=5FM?= x", "Keith_M x" },
		{ "=?nosuch?Q?a?=", "\xEF\xBF\xBD" },
		{ "a =?utf-8?X?a?= =?b", "a =?utf-8?X?a?= =?b" },
		{ "raw \xC3\xAF \xFF.", "raw \xC3\xAF \xEF\xBF\xBD." },
	};
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
		buf_clear(&b);
		assert_true(mime_words_decode(&b, slice_str(table[i][0])));
		assert_true(buf_put(&b, "", 1));
		assert_string_equal(b.ptr, table[i][1]);
	}
	buf_release(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(structures), cmocka_unit_test(hostile), cmocka_unit_test(addresses),
		cmocka_unit_test(parameters), cmocka_unit_test(dates),	 cmocka_unit_test(decoded),
		cmocka_unit_test(base_subjects), cmocka_unit_test(ids),
		cmocka_unit_test(encoded_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
