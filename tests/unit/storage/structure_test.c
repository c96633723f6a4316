/* SPDX-License-Identifier: Apache-2.0 */
/* Structures: previews and keys by tables; stored, computed and carried ones are the same; what is malformed counts as not stored. */
#include "tests/unit/storage/store_help.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "storage/structure_private.h"

static const struct structure *of(const char *text)
{
	struct buf b;
	const struct structure *s;

	buf_init(&b, MIB(4));
	for (; *text; text++)
		assert_true(buf_put(&b, *text == '\n' ? "\r\n" : text, *text == '\n' ? 2 : 1));
	s = structure_of_bytes(buf_slice(&b));
	buf_release(&b);
	return s;
}

static void is(struct slice got, const char *want)
{
	char text[2048];

	snprintf(text, sizeof(text), "%.*s", SLICE_ARG(got));
	assert_string_equal(text, want);
}

FIBER_TEST(previews)
{
	static const char *const table[][2] = {
		{ "Subject: x\n\nHello,\n\n  you there.\n-- \nAnn\n", "Hello, you there." },
		{ "Subject: x\n\n> said\n> before\nMy answer\n", "My answer" },
		{ "Subject: x\n\n> said\n", "> said" },
		{ "Subject: x\n\n", "" },
		{ "Content-Type: text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe=\n!\n", "Gr\xC3\xBC\xC3\x9F" "e!" },
		{ "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\nSGVs\nbG8=\n", "Hello" },
		{ "Content-Type: text/html\n\n<html><head><title>t</title><style>p{x:y}</style></head><body><p>Dear&nbsp;all,</p><b>W</b>ord &amp; &#8364;5"
		  "<!-- <p>no --> end<script>x<y</script></body>", "Dear all, Word & \xE2\x82\xAC" "5 end" },
		{ "Content-Type: multipart/alternative; boundary=b\n\n--b\nContent-Type: text/html\n\n<p>rich\n--b\n\nplain\n--b--\n", "plain" },
		{ "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: attachment\n\nfile\n--b\nContent-Type: text/html\n\n<p>rich\n--b--\n", "rich" },
		{ "Content-Type: message/rfc822\n\nSubject: in\n\ntext\n", "" },
		{ "Content-Type: image/png\n\nabc\n", "" },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const struct structure *s = of(table[i][0]);
		is(s->preview, table[i][1]);
		structure_close(s);
	}
}

/* 200 characters, whatever they are made of, and never half of one. */
FIBER_TEST(previews_are_cut_between_characters)
{
	char text[4096] = "Content-Type: text/plain; charset=utf-8\n\n";
	for (int i = 0; i < 500; i++)
		strcat(text, "\xE2\x82\xAC");
	const struct structure *s = of(text);
	assert_int_equal(s->preview.len, 3 * STRUCTURE_PREVIEW_CHARS_MAX);
	structure_close(s);
}

FIBER_TEST(keys)
{
	const struct structure *s = of("From: =?utf-8?Q?J=C3=B6rg?= <joerg@example.org>\nTo: list: a@x, b@y;\nCc: C <cc@example.net>, d@z\n"
				       "Subject: Re: [x] =?utf-8?Q?Stra=C3=9Fe?= (fwd)\nDate: Tue, 14 Jan 2025 10:30:00 +0100\n"
				       "Message-ID: <\"a\"@example.org>\nReferences: <1@x> junk <2@x>\n <3@x>\nIn-Reply-To: <9@x>\n\n");
	const struct structure_keys *k = &s->keys;
	is(k->subject, "STRA\xC3\x9F" "E");
	is(k->from, "JOERG");
	is(k->from_name, "JO\xCC\x88RG"); /* decomposed */
	is(k->to, "LIST");
	is(k->to_name, "LIST");
	is(k->cc, "CC");
	is(k->message_id, "a@example.org");
	assert_true(slice_eq(k->references, slice_of("1@x\0" "2@x\0" "3@x\0", 12)));
	assert_true(k->dated && k->reply && k->date.utc_s == 1736847000 && k->date.zone_min == 60);
	structure_close(s);

	s = of("From: ann@example.org\nIn-Reply-To: Your message of <9@x> <8@x>\nDate: soon\n\n");
	is(s->keys.from_name, "ANN@EXAMPLE.ORG");
	assert_true(slice_eq(s->keys.references, slice_of("9@x\0", 4)));
	assert_false(s->keys.dated || s->keys.reply);
	assert_true(!s->keys.subject.len && !s->keys.to.len && !s->keys.message_id.len);
	structure_close(s);
}

FIBER_TEST(many_references_keep_the_first_and_the_newest)
{
	struct buf b;
	buf_init(&b, MIB(1));
	assert_true(buf_printf(&b, "References:"));
	for (int i = 0; i < 2000; i++)
		assert_true(buf_printf(&b, " <%d@example.org>\r\n", i));
	assert_true(buf_printf(&b, "\r\n"));
	const struct structure *s = structure_of_bytes(buf_slice(&b));
	struct slice ids = s->keys.references;
	assert_true(ids.len <= STRUCTURE_REFERENCES_BYTES_MAX && ids.len > STRUCTURE_REFERENCES_BYTES_MAX - 32);
	assert_true(slice_starts_nocase(ids, slice_of("0@example.org", 14)));
	assert_true(slice_eq(slice_from(ids, ids.len - 17), slice_of("1999@example.org", 17)));
	structure_close(s);
	buf_release(&b);
}

FIBER_TEST(folding)
{
	static const char *const table[][2] = {
		{ "abC z~", "ABC Z~" }, { "\xC3\xA4", "A\xCC\x88" }, { "\xC7\x86", "Dz\xCC\x8C" /* a digraph in title case */ }, { "a\xFFz", "A\xEF\xBF\xBDZ" },
	};
	struct buf b;
	buf_init(&b, 256);
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		buf_clear(&b);
		assert_true(mime_casemap(&b, slice_str(table[i][0])));
		is(buf_slice(&b), table[i][1]);
	}
	buf_release(&b);
}

/* ---- in the store ---- */

static void add_computed(void *arg, const struct metric_value *v)
{
	if (strcmp(v->metric->name, "store_structures_computed_total") == 0)
		*(int64_t *)arg = v->value;
}
static int64_t computed(void)
{
	int64_t n = -1;
	metrics_walk(add_computed, &n);
	return n;
}

static void same(const struct structure *x, const struct structure *y)
{
	assert_int_equal(x->tree->part_count, y->tree->part_count);
	assert_int_equal(x->tree->truncated, y->tree->truncated);
	for (uint32_t i = 0; i < x->tree->part_count; i++) {
		struct mime_part p = x->tree->parts[i], q = y->tree->parts[i];
		assert_true(slice_eq(p.fields, q.fields));
		p.fields = q.fields = slice_of(NULL, 0);
		assert_true(p.header_offset == q.header_offset && p.body_offset == q.body_offset && p.body_bytes == q.body_bytes &&
			    p.decoded_bytes == q.decoded_bytes && p.lines == q.lines);
		assert_true(p.parent == q.parent && p.child == q.child && p.next == q.next && p.kind == q.kind && p.encoding == q.encoding &&
			    p.digest == q.digest);
	}
	assert_true(slice_eq(x->preview, y->preview) && slice_eq(x->keys.subject, y->keys.subject) && slice_eq(x->keys.from, y->keys.from));
	assert_true(slice_eq(x->keys.references, y->keys.references) && x->keys.date.utc_s == y->keys.date.utc_s);
}

/* As those do who walk over many messages. */
static const struct structure *look(struct view *v, uint32_t index)
{
	struct message_source m;
	const struct structure *s;
	assert_int_equal(message_look(v, index, &m), OK);
	s = structure_known(&m);
	if (!s) {
		assert_int_equal(message_fill(v, index, &m), OK);
		assert_int_equal(structure_open(&m, &s), OK);
	}
	message_close(&m);
	return s;
}

/* A digest of so many messages, and a filler of so many octets behind it. */
static char *digest(unsigned count, size_t filler)
{
	struct buf b;
	buf_init(&b, MIB(8));
	assert_true(buf_printf(&b, "From: ann@example.org\r\nSubject: digest\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n"));
	for (unsigned i = 0; i < count; i++)
		assert_true(buf_printf(&b, "--b\r\n\r\nFrom: %u@example.org\r\nSubject: number %u\r\n\r\ntext %u\r\n", i, i, i));
	assert_true(buf_printf(&b, "--b\r\nContent-Type: text/plain\r\n\r\nwords\r\n"));
	for (size_t i = 0; i < filler; i += 64)
		assert_true(buf_printf(&b, "%062zu\r\n", i));
	assert_true(buf_printf(&b, "--b--\r\n"));
	assert_true(buf_put(&b, "", 1));
	return b.ptr;
}

static void check(const char *text, bool stored)
{
	struct account *a = help_open(7);
	struct view *v;
	struct message_source m, n;
	const struct structure *looked, *opened, *want = structure_of_bytes(slice_str(text));
	int64_t before = computed();

	help_deliver(a, FOLDER_INBOX, text);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	uint32_t last = view_count(v) - 1;
	assert_int_equal(message_look(v, last, &m), OK);
	looked = structure_known(&m);
	assert_int_equal(looked != NULL, stored);
	assert_int_equal(message_fill(v, last, &m), OK);
	assert_int_equal(m.bytes, strlen(text));
	assert_int_equal(structure_open(&m, &opened), OK);
	if (looked)
		same(looked, want);
	same(opened, want);
	assert_int_equal(message_look(v, last, &n), OK); /* what was computed is remembered */
	structure_close(looked);
	looked = structure_known(&n);
	same(looked, want);
	message_close(&n);
	assert_int_equal(m.record->fixed.structure_version, stored ? STRUCTURE_VERSION : STRUCTURE_NONE);
	assert_int_equal(computed() - before > 0, !stored);
	message_close(&m);
	structure_close(looked);
	structure_close(opened);
	structure_close(want);
	view_close(v);
	account_close(a);
}

FIBER_TEST(stored_in_memory_spool_and_file)
{
	static const size_t fillers[] = { 0, KIB(40), KIB(400), MIB(2) };
	help_begin(test_folder());
	for (size_t i = 0; i < ARRAY_LEN(fillers); i++) {
		char *small = digest(3, fillers[i]), *large = digest(490, fillers[i]);
		check(small, true);
		check(large, false); /* does not fit: computed, the same */
		free(small);
		free(large);
	}
	help_end();
}

FIBER_TEST(survives_a_crash)
{
	struct account *a;
	struct view *v;
	const struct structure *s;
	char folder[256];
	snprintf(folder, sizeof(folder), "%s", test_folder());
	help_begin(folder);
	a = help_open(7);
	help_deliver(a, FOLDER_INBOX, "Subject: kept\r\n\r\ntext\r\n");
	account_close(a);
	help_crash();
	help_begin(folder);
	a = help_open(7);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	int64_t before = computed();
	s = look(v, 0);
	is(s->keys.subject, "KEPT");
	is(s->preview, "text");
	assert_int_equal(computed(), before);
	structure_close(s);
	view_close(v);
	account_close(a);
	help_end();
}

/* Every byte of a stored structure changed: it reads as another good one or as none, and never outside. */
FIBER_TEST(malformed_counts_as_none)
{
	char *text = digest(2, 0);
	const struct structure *s = structure_of_bytes(slice_str(text));
	struct structure_stored stored;
	struct body_record record = { .fixed = { .bytes = strlen(text) } };
	unsigned none = 0;

	assert_true(structure_encode(s, STRUCTURE_BYTES_MAX, &stored));
	structure_to_record(&stored, &record);
	assert_true(structure_good(&record));
	size_t bytes = (size_t)(stored.keys.ptr + stored.keys.len - stored.memory);
	for (size_t i = 0; i < bytes; i++)
		for (unsigned bit = 0; bit < 8; bit += 3) {
			stored.memory[i] ^= (char)(1 << bit);
			none += !structure_good(&record);
			stored.memory[i] ^= (char)(1 << bit);
		}
	assert_true(none > 20);
	record.keys.len--;
	assert_false(structure_good(&record));
	record.fixed.structure_version = STRUCTURE_VERSION + 1; /* of another version: not ours to judge */
	assert_true(structure_good(&record) && !structure_decode(&record));
	structure_stored_release(&stored);
	structure_close(s);
	free(text);
}

/* A computed one is remembered, within its bound. */
FIBER_TEST(computed_ones_are_remembered)
{
	struct account *a;
	struct view *v;
	const struct structure *s;
	char *large = digest(490, 0);
	help_begin(test_folder());
	a = help_open(9);
	help_deliver(a, FOLDER_INBOX, large);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	int64_t before = computed();
	for (int i = 0; i < 5; i++) {
		s = look(v, 0);
		structure_close(s);
	}
	assert_int_equal(computed(), before + 1);
	view_close(v);
	account_close(a);
	help_end();
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(previews),
		cmocka_unit_test(previews_are_cut_between_characters),
		cmocka_unit_test(keys),
		cmocka_unit_test(many_references_keep_the_first_and_the_newest),
		cmocka_unit_test(folding),
		cmocka_unit_test(stored_in_memory_spool_and_file),
		cmocka_unit_test(survives_a_crash),
		cmocka_unit_test(malformed_counts_as_none),
		cmocka_unit_test(computed_ones_are_remembered),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
