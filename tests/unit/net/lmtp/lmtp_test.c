/* SPDX-License-Identifier: Apache-2.0 */
/* LMTP's handlers in the cardboard house: dialogues, addresses, the end of data, faults, hostile lines. */
#include "tests/unit/support/fake_house.h"
#include "tests/unit/support/fake_workers.h"

#include "core/base/log.h"
#include "net/lmtp/lmtp.h"
#include "net/lmtp/lmtp_private.h"
#include "storage/folder.h"

#include <setjmp.h>

#include <cmocka.h>

#define LHLO "LHLO client.example.org\r\n"
#define MAIL "MAIL FROM:<ann@example.org>\r\n"
#define RCPT "RCPT TO:<ann@demo.example>\r\n"
#define OPEN LHLO MAIL RCPT
#define LHLO_REPLY                                                                                              \
	"250-localhost\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 SIZE 150000000\r\n"
#define OPEN_REPLY LHLO_REPLY "250 2.1.0 sender taken\r\n250 2.1.5 recipient taken\r\n"
#define GO "354 send the message, end it with CRLF.CRLF\r\n"
#define STORED(n) "250 2.0.0 stored as 67862e98.2a." #n

static void dialogue(struct slice in, size_t piece)
{
	struct fake_session f;
	buf_clear(&fake.out);
	fake_open(&f, &lmtp_proto);
	fake_feed_cut(&f, in, piece);
	fake_close(&f);
}

static const char *answer_to(struct slice in)
{
	dialogue(in, in.len);
	assert_true(buf_put(&fake.out, "", 1));
	static const char greeting[] = "220 localhost Penfold LMTP ready\r\n";
	assert_memory_equal(fake.out.ptr, greeting, sizeof greeting - 1);
	return fake.out.ptr + sizeof greeting - 1;
}
static const char *answer(const char *in) { return answer_to(slice_str(in)); }

static int setup(void **state)
{
	(void)state;
	fake_begin();
	lmtp_config_default(&lmtp_settings);
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	fake_end();
	assert_int_equal(fake_sessions, 0);
	return 0;
}

static struct slice stored(unsigned account, unsigned place)
{
	const struct body *b = fake.account[account].messages[place].body;
	return slice_of(b->bytes, b->len);
}
static void assert_stored(unsigned account, unsigned place, const char *text)
{
	struct slice s = stored(account, place);
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.ptr, text, s.len);
}

/* ---- dialogues ---- */

static void one_message(void **state)
{
	(void)state;
	assert_string_equal(answer(OPEN "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\nQUIT\r\n"),
			    OPEN_REPLY GO STORED(1) " <ann@demo.example>\r\n221 2.0.0 bye\r\n");
	assert_stored(1, 0, "Subject: x\r\n\r\n.dot\r\n");
	const struct fake_message *m = &fake.account[1].messages[0];
	assert_string_equal(m->prefix, "Return-Path: <ann@example.org>\r\nDelivered-To: ann@demo.example\r\n"
				       "Received: from client.example.org ([192.0.2.7])\r\n\tby localhost with LMTP id 67862e98.2a.1\r\n"
				       "\tfor <ann@demo.example>; Tue, 14 Jan 2025 09:30:00 +0000\r\n");
	assert_string_equal(m->from, "ann@example.org");
	assert_string_equal(m->rcpt, "ann@demo.example");
}

static void one_reply_per_recipient(void **state)
{
	(void)state;
	fake_put(3, "", SLICE_LIT("0123456789"));
	fake_put(4, "", SLICE_LIT("0123456789"));
	assert_string_equal(answer(OPEN "RCPT TO:<nobody@demo.example>\r\nRCPT TO:<ann+tag@demo.example>\r\nRCPT TO:<ann@other.example>\r\nRCPT TO:<full@demo.example>\r\n"
				   "RCPT TO:<fuller@demo.example>\r\nRCPT TO:<gone@demo.example>\r\nRCPT TO:<mute@demo.example>\r\nRCPT TO:<bob@demo.example>\r\n"
				   "RCPT TO:<ann@demo.example>\r\nDATA\r\nx\r\n.\r\n"),
			    OPEN_REPLY "550 5.1.1 no such mailbox\r\n250 2.1.5 recipient taken\r\n550 5.1.2 this domain is not served here\r\n452 4.2.2 mailbox is full\r\n"
				       "552 5.2.2 mailbox is full\r\n550 5.2.1 mailbox is suspended\r\n550 5.2.1 mailbox takes no mail\r\n250 2.1.5 recipient taken\r\n"
				       "250 2.1.5 recipient taken\r\n" GO STORED(1) " <ann@demo.example>\r\n" STORED(1) " <ann+tag@demo.example>\r\n" STORED(1)
					       " <bob@demo.example>\r\n" STORED(1) " <ann@demo.example>\r\n");
	assert_int_equal(fake.account[1].count, 3); /* a copy per RCPT */
	assert_int_equal(fake.account[2].count, 1);
	assert_non_null(strstr(fake.account[1].messages[1].prefix, "for <ann+tag@demo.example>;"));
}

static void order_of_commands(void **state)
{
	(void)state;
	assert_string_equal(answer("EHLO x\r\nHELO x\r\n" MAIL LHLO RCPT "DATA\r\n" MAIL MAIL "DATA\r\nRCPT TO:<nobody@demo.example>\r\nDATA\r\nRSET\r\n" RCPT),
			    "500 5.5.1 this is LMTP: say LHLO\r\n500 5.5.1 this is LMTP: say LHLO\r\n503 5.5.1 LHLO first\r\n" LHLO_REPLY
			    "503 5.5.1 MAIL first\r\n503 5.5.1 MAIL first\r\n250 2.1.0 sender taken\r\n503 5.5.1 a transaction is open: RSET ends it\r\n"
			    "503 5.5.1 no valid recipients\r\n550 5.1.1 no such mailbox\r\n503 5.5.1 no valid recipients\r\n250 2.0.0 OK\r\n503 5.5.1 MAIL first\r\n");
	assert_string_equal(answer("LHLO\r\nLHLO a b\r\nLHLO (x)\r\nNOOP anything\r\nRSET x\r\nDATA x\r\nVRFY\r\nVRFY ann\r\nEXPN x\r\nHELP\r\nXYZ\r\n\r\nSTARTTLS\r\nQUIT x\r\nQUIT\r\n"),
			    "501 5.5.4 LHLO wants the name of the client\r\n501 5.5.4 LHLO wants the name of the client\r\n501 5.5.4 LHLO wants the name of the client\r\n"
			    "250 2.0.0 OK\r\n501 5.5.4 this command takes no argument\r\n501 5.5.4 this command takes no argument\r\n501 5.5.4 VRFY wants a name\r\n"
			    "252 2.0.0 send mail and see\r\n502 5.5.1 not implemented\r\n214-2.0.0 LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
			    "214 2.0.0 as RFC 2033 and RFC 5321 have them\r\n500 5.5.1 unknown command\r\n500 5.5.1 unknown command\r\n502 5.5.1 TLS is not offered here\r\n"
			    "501 5.5.4 this command takes no argument\r\n221 2.0.0 bye\r\n");
	/* LHLO ends a transaction */
	assert_string_equal(answer(OPEN LHLO "DATA\r\n"), OPEN_REPLY LHLO_REPLY "503 5.5.1 MAIL first\r\n");
}

/* RFC 3207: what was said before STARTTLS is forgotten behind it, what came along with it is never executed (invariant 10). */
static void starttls(void **state)
{
	(void)state;
	assert_string_equal(answer("STARTTLS\r\n"), "502 5.5.1 TLS is not offered here\r\n");
	fake.tls_offered = true;
	static const char in[] = OPEN "STARTTLS\r\nRCPT TO:<bob@demo.example>\r\nDATA\r\nx\r\n.\r\n";
	size_t behind = (size_t)(strstr(in, "RCPT TO:<bob") - in);
	for (size_t cut = behind; cut < sizeof in - 1; cut++) {
		struct fake_session f;
		fake_open(&f, &lmtp_proto);
		buf_clear(&fake.out);
		fake_feed(&f, slice_of(in, cut));
		assert_true(fake.tls);
		fake_feed(&f, SLICE_LIT("MAIL FROM:<a@b.example>\r\nSTARTTLS\r\nLHLO again\r\n"));
		assert_true(buf_put(&fake.out, "", 1));
		assert_non_null(strstr(fake.out.ptr, "250-STARTTLS\r\n"));
		const char *after = strstr(fake.out.ptr, "220 2.0.0 begin TLS now\r\n");
		assert_non_null(after);
		after += strlen("220 2.0.0 begin TLS now\r\n");
		assert_memory_equal(after, "503 5.5.1 ", 10); /* MAIL: LHLO first */
		assert_non_null(strstr(after, "\r\n503 5.5.1 TLS is on already\r\n250-"));
		assert_null(strstr(after, "STARTTLS"));
		fake_close(&f);
	}
}

static void parameters(void **state)
{
	(void)state;
	static const struct { const char *line, *reply; } table[] = {
		{ "MAIL FROM:<a@b> SIZE=150000000", "250" }, { "MAIL FROM:<a@b> SIZE=150000001", "552 5.3.4" }, { "MAIL FROM:<a@b> SIZE=18446744073709551616", "501 5.5.4" },
		{ "MAIL FROM:<a@b> SIZE=-1", "501 5.5.4" }, { "MAIL FROM:<a@b> SIZE", "501 5.5.4" }, { "MAIL FROM:<a@b> SIZE=", "501 5.5.4" },
		{ "MAIL FROM:<a@b> BODY=8BITMIME SIZE=10", "250" }, { "MAIL FROM:<a@b> body=7bit", "250" }, { "MAIL FROM:<a@b> BODY=BINARYMIME", "504 5.6.1" },
		{ "MAIL FROM:<a@b> BODY=X", "501 5.5.4" }, { "MAIL FROM:<a@b> BODY", "501 5.5.4" }, { "MAIL FROM:<a@b> SMTPUTF8", "250" },
		{ "MAIL FROM:<a@b> SMTPUTF8=1", "555 5.5.4" }, { "MAIL FROM:<a@b> RET=FULL", "555 5.5.4" }, { "MAIL FROM:<a@b> ENVID=x", "555 5.5.4" },
		{ "MAIL FROM:<a@b> AUTH=<>", "555 5.5.4" }, { "MAIL FROM:<a@b> XYZ", "555 5.5.4" }, { "MAIL FROM:<a@b>SIZE=1", "501 5.1.7" },
		{ "MAIL FROM:<>", "250" }, { "MAIL FROM: <a@b>", "250" }, { "mail from:<a@b>", "250" }, { "MAIL FROM:a@b", "501 5.1.7" },
		{ "MAIL FROM:", "501 5.1.7" }, { "MAIL", "501 5.1.7" }, { "MAIL TO:<a@b>", "501 5.1.7" }, { "MAIL FROM:<a@b", "501 5.1.7" },
		{ "MAIL FROM:<root>", "250" }, { "MAIL FROM:<b\xc3\xb6@x.example>", "553 5.6.7" }, { "MAIL FROM:<b\xc3\xb6@x.example> SMTPUTF8", "250" },
		{ "MAIL FROM:<b\xf6@x.example> SMTPUTF8", "501 5.1.7" },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char in[256];
		snprintf(in, sizeof in, LHLO "%s\r\n", table[i].line);
		const char *out = answer(in) + strlen(LHLO_REPLY);
		if (strncmp(out, table[i].reply, strlen(table[i].reply)) != 0)
			fail_msg("%s: %s", table[i].line, out);
	}
	static const struct { const char *line, *reply; } rcpts[] = {
		{ "RCPT TO:<ann@demo.example> NOTIFY=NEVER", "555 5.5.4" }, { "RCPT TO:<ann@demo.example> ORCPT=rfc822;x", "555 5.5.4" }, { "RCPT TO:<>", "501 5.1.3" },
		{ "RCPT TO:<ann>", "501 5.1.3" }, { "RCPT TO:ann@demo.example", "501 5.1.3" }, { "RCPT TO:<@a.example,@b.example:ann@demo.example>", "250" },
		{ "RCPT TO:<\"ann\"@demo.example>", "250" }, { "RCPT TO:<\"\"@demo.example>", "550 5.1.1" }, { "RCPT TO:<ANN@DEMO.EXAMPLE>", "250" },
		{ "RCPT TO:<b\xc3\xb6" "b@demo.example>", "553 5.6.7" }, { "RCPT TO:<@demo.example>", "501 5.1.3" }, { "RCPT TO: <ann@demo.example>", "250" },
		{ "RCPT TO:<ann@demo.example> ", "250" }, { "RCPT TO:<ann@demo.example> x", "555 5.5.4" }, { "RCPT FROM:<ann@demo.example>", "501 5.1.3" },
	};
	for (size_t i = 0; i < ARRAY_LEN(rcpts); i++) {
		char in[256];
		snprintf(in, sizeof in, LHLO MAIL "%s\r\n", rcpts[i].line);
		const char *out = answer(in) + strlen(LHLO_REPLY "250 2.1.0 sender taken\r\n");
		if (strncmp(out, rcpts[i].reply, strlen(rcpts[i].reply)) != 0)
			fail_msg("%s: %s", rcpts[i].line, out);
	}
	const char *utf8 = answer(LHLO "MAIL FROM:<> SMTPUTF8\r\nRCPT TO:<b\xc3\xb6" "b@demo.example>\r\nDATA\r\nx\r\n.\r\n");
	assert_non_null(strstr(utf8, STORED(1) " <b\xc3\xb6" "b@demo.example>\r\n"));
	assert_non_null(strstr(fake.account[7].messages[0].prefix, "Return-Path: <>\r\n"));
	assert_non_null(strstr(fake.account[7].messages[0].prefix, " with UTF8LMTP id "));
	assert_string_equal(fake.account[7].messages[0].from, "");
}

static void size_counts_at_rcpt(void **state)
{
	(void)state;
	assert_non_null(strstr(answer(LHLO "MAIL FROM:<> SIZE=11\r\nRCPT TO:<full@demo.example>\r\n"), "\r\n452 4.2.2 mailbox is full\r\n"));
	assert_non_null(strstr(answer(LHLO "MAIL FROM:<> SIZE=10\r\nRCPT TO:<full@demo.example>\r\n"), "250 2.1.5"));
}

static void recipients_limit(void **state)
{
	(void)state;
	lmtp_settings.rcpts_max = 2;
	assert_string_equal(answer(OPEN RCPT RCPT "DATA\r\n.\r\n"),
			    OPEN_REPLY "250 2.1.5 recipient taken\r\n452 4.5.3 too many recipients\r\n" GO STORED(1) " <ann@demo.example>\r\n" STORED(1) " <ann@demo.example>\r\n");
}

static void many_replies_by_cursor(void **state)
{
	(void)state;
	char in[64 * 60] = LHLO MAIL;
	for (int i = 0; i < 60; i++)
		strcat(in, i % 2 ? "RCPT TO:<ann@demo.example>\r\n" : "RCPT TO:<bob@demo.example>\r\n");
	strcat(in, "DATA\r\nx\r\n.\r\nNOOP\r\n");
	const char *out = answer(in);
	char *whole = xstrdup(out);
	for (size_t full = 1; full < 400; full += 37) {
		for (int a = 1; a < 3; a++)
			while (fake.account[a].count)
				fake_forget(&fake.account[a].messages[--fake.account[a].count]);
		fake.full_bytes = full;
		assert_string_equal(answer(in), whole);
	}
	free(whole);
}

/* ---- BDAT ---- */

static void chunks(void **state)
{
	(void)state;
	assert_string_equal(answer(OPEN RCPT "BDAT 5\r\na\r\n.\rBDAT 8\r\n\n..b\r\n.\rBDAT 1\r\n\nBDAT 0 LAST\r\nNOOP\r\n"),
			    OPEN_REPLY "250 2.1.5 recipient taken\r\n250 2.0.0 chunk taken\r\n250 2.0.0 chunk taken\r\n250 2.0.0 chunk taken\r\n" STORED(
				    1) " <ann@demo.example>\r\n" STORED(1) " <ann@demo.example>\r\n250 2.0.0 OK\r\n");
	assert_stored(1, 0, "a\r\n.\r\n..b\r\n.\r\n");
	assert_string_equal(answer(OPEN "BDAT 3\r\na\r\nDATA\r\nRCPT TO:<ann@demo.example>\r\nRSET\r\nBDAT 3 LAST\r\nx\r\nNOOP\r\n"),
			    OPEN_REPLY "250 2.0.0 chunk taken\r\n503 5.5.1 DATA and BDAT do not mix\r\n503 5.5.1 the message has begun\r\n250 2.0.0 OK\r\n"
				       "503 5.5.1 MAIL first\r\n250 2.0.0 OK\r\n");
	/* RFC 2033 4.3: no recipients, no replies to the last chunk; one to any other */
	assert_string_equal(answer(LHLO MAIL "BDAT 3\r\na\r\nBDAT 3 LAST\r\nb\r\nNOOP\r\nDATA\r\n"),
			    LHLO_REPLY "250 2.1.0 sender taken\r\n503 5.5.1 no valid recipients\r\n250 2.0.0 OK\r\n503 5.5.1 MAIL first\r\n");
	/* a bare LF in a chunk: every further chunk is swallowed and refused, the last once per recipient */
	assert_string_equal(answer(OPEN "BDAT 3\r\na\nbBDAT 3\r\na\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"),
			    OPEN_REPLY "554 5.6.0 message has a bare CR, a bare LF or a NUL\r\n554 5.6.0 message has a bare CR, a bare LF or a NUL\r\n"
				       "554 5.6.0 message has a bare CR, a bare LF or a NUL <ann@demo.example>\r\n250 2.0.0 OK\r\n");
	assert_int_equal(fake.account[1].count, 2);
}

static void chunks_without_a_size(void **state)
{
	(void)state;
	static const char *const lines[] = { "BDAT", "BDAT x", "BDAT -1", "BDAT 18446744073709551616", "BDAT 1 LASTLY", "BDAT 1 LAST x", "BDAT LAST" };
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		char in[256];
		snprintf(in, sizeof in, OPEN "%s\r\nNOOP\r\n", lines[i]);
		assert_string_equal(answer(in), OPEN_REPLY "501 5.5.4 BDAT wants a size in octets, closing\r\n");
	}
	assert_string_equal(answer(OPEN "BDAT 18446744073709551615\r\nNOOP\r\n"), OPEN_REPLY "421 4.3.4 far more than this server takes, closing\r\n");
}

/* ---- the end of data ---- */

/* What a reader of RFC 5321 section 4.5.2 would write: find the first CRLF.CRLF of CRLF + data, then unstuff. */
static bool naive_end(struct slice in, char *out, size_t *len_out, size_t *used_out)
{
	for (size_t i = 0; i + 3 <= in.len; i++) {
		if (memcmp(in.ptr + i, ".\r\n", 3) != 0 || (i != 0 && (i < 2 || memcmp(in.ptr + i - 2, "\r\n", 2) != 0)))
			continue;
		*used_out = i + 3;
		*len_out = 0;
		for (size_t k = 0; k < i; k++) {
			bool start = k == 0 || (k >= 2 && memcmp(in.ptr + k - 2, "\r\n", 2) == 0);
			if (!start || in.ptr[k] != '.')
				out[(*len_out)++] = in.ptr[k];
		}
		return true;
	}
	return false;
}

static void check_end(struct slice in, size_t cut_1, size_t cut_2)
{
	char want[64], got[64];
	size_t want_len = 0, want_used = 0, got_len = 0, used = 0;
	bool ends = naive_end(in, want, &want_len, &want_used);
	struct lmtp_dots d = { LMTP_LINE_START };
	const size_t cuts[] = { 0, cut_1, cut_2, in.len };
	for (int i = 0; i < 3; i++) {
		struct slice part = slice_of(in.ptr + cuts[i], cuts[i + 1] - cuts[i]), run;
		while (lmtp_dots_next(&d, &part, &run)) {
			assert_true(got_len + run.len <= sizeof got && run.len > 0);
			memcpy(got + got_len, run.ptr, run.len);
			got_len += run.len;
		}
		used = cuts[i + 1] - part.len;
		if (d.at == LMTP_END)
			break;
		assert_int_equal(part.len, 0);
	}
	assert_int_equal(d.at == LMTP_END, ends);
	if (!ends)
		return;
	assert_int_equal(used, want_used);
	assert_int_equal(got_len, want_len);
	assert_memory_equal(got, want, want_len);
}

/* Every string of up to 9 of CR, LF, '.', 'x', cut at every place; longer ones with two cuts, drawn. */
static void ends_as_naive(void **state)
{
	(void)state;
	static const char alphabet[] = "\r\n.x";
	char in[12];
	for (size_t len = 0; len <= 9; len++) {
		for (uint32_t n = 0; n < 1u << (2 * len); n++) {
			for (size_t i = 0; i < len; i++)
				in[i] = alphabet[n >> (2 * i) & 3];
			for (size_t cut = 0; cut <= len; cut++)
				check_end(slice_of(in, len), cut, cut);
		}
	}
	uint32_t seed = 7;
	for (int n = 0; n < 300000; n++) {
		char text[40];
		size_t len = 10 + (seed >> 16) % 30;
		for (size_t i = 0; i < len; i++) {
			seed = seed * 1664525u + 1013904223u;
			text[i] = alphabet[seed >> 24 & 3];
		}
		size_t a = (seed >> 8) % (len + 1), b = a + (seed >> 20) % (len - a + 1);
		check_end(slice_of(text, len), a, b);
	}
}

/* Every form that some server or relay has taken for an end: one message refused, nothing executed, the connection in step. */
static void smuggling(void **state)
{
	(void)state;
	static const char *const forms[] = { "\n.\n", "\n.\r\n", "\r.\r", "\r.\r\n", "\r\n.\n", "\r\n.\r", "\n.\r", "\r.\n", "\n\n.\r\n", "\r\n.\r\r\n", "\r\r\n.\r\n" };
	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		char in[512];
		bool is_end = strstr(forms[i], "\r\n.\r\n") != NULL; /* the last one ends the data rightly, behind a bare CR */
		snprintf(in, sizeof in, OPEN "DATA\r\nSubject: a\r\n\r\nx%s" MAIL RCPT "DATA\r\nSubject: smuggled\r\n\r\ny\r\n.\r\nNOOP\r\n", forms[i]);
		const char *out = answer(in);
		const char *refused = OPEN_REPLY GO "554 5.6.0 message has a bare CR, a bare LF or a NUL <ann@demo.example>\r\n";
		if (strncmp(out, refused, strlen(refused)) != 0)
			fail_msg("form %zu: %s", i, out);
		assert_int_equal(fake.account[1].count, is_end ? 1 : 0);
		if (!is_end)
			assert_string_equal(out + strlen(refused), "250 2.0.0 OK\r\n");
		for (size_t piece = 1; piece < 7; piece++) {
			char *whole = slice_dup(slice_of(fake.out.ptr, fake.out.len - 1));
			while (fake.account[1].count)
				fake_forget(&fake.account[1].messages[--fake.account[1].count]);
			dialogue(slice_str(in), piece);
			assert_true(slice_eq(slice_str(whole), buf_slice(&fake.out)));
			assert_true(buf_put(&fake.out, "", 1));
			free(whole);
		}
		while (fake.account[1].count)
			fake_forget(&fake.account[1].messages[--fake.account[1].count]);
	}
	assert_non_null(strstr(answer_to(SLICE_LIT(OPEN "DATA\r\na\0b\r\n.\r\n" MAIL)), "554 5.6.0"));
	assert_non_null(strstr(answer_to(SLICE_LIT(OPEN "DATA\r\nab\r\r\n.\r\n" MAIL)), "554 5.6.0"));
}

static void any_cut(void **state)
{
	(void)state;
	static const char in[] = OPEN RCPT "DATA\r\nSubject: x\r\n\r\n..\r\n.a\r\n.\r\n" MAIL RCPT "BDAT 6\r\na\r\n.\r\nBDAT 3 LAST\r\nb\r\n" MAIL RCPT "DATA\r\n.\r\nXYZ\r\nQUIT\r\n";
	dialogue(slice_str(in), sizeof in);
	char *whole = slice_dup(buf_slice(&fake.out));
	for (size_t piece = 1; piece < 40; piece++) {
		while (fake.account[1].count)
			fake_forget(&fake.account[1].messages[--fake.account[1].count]);
		dialogue(slice_str(in), piece);
		assert_true(slice_eq(slice_str(whole), buf_slice(&fake.out)));
		assert_stored(1, 0, "Subject: x\r\n\r\n.\r\na\r\n");
		assert_stored(1, 2, "a\r\n.\r\nb\r\n");
		assert_stored(1, 3, "");
	}
	free(whole);
}

/* ---- faults ---- */

static void faults(void **state)
{
	(void)state;
	static const struct { enum err err; const char *words; } table[] = {
		{ ERR_FULL, "452 4.3.1" }, { ERR_IO, "451 4.3.0" }, { ERR_QUOTA, "452 4.2.2" }, { ERR_BUSY, "451 4.3.2" },   { ERR_TEMP, "451 4.3.0" },
		{ ERR_FENCED, "451 4.3.0" }, { ERR_READONLY, "451 4.2.0" }, { ERR_TIMEOUT, "451 4.3.0" }, { ERR_LIMIT, "552 5.3.4" }, { ERR_CORRUPT, "451 4.3.0" },
	};
	enum err *const places[] = { &fake.err_append, &fake.err_open, &fake.err_write, &fake.err_begin };
	for (size_t k = 0; k < ARRAY_LEN(places); k++) {
		for (size_t i = 0; i < ARRAY_LEN(table); i++) {
			*places[k] = table[i].err;
			const char *out = answer(places[k] == &fake.err_begin ? OPEN "DATA\r\nNOOP\r\n" : OPEN "DATA\r\nx\r\n.\r\nNOOP\r\n");
			const char *reply = out + strlen(OPEN_REPLY) + (places[k] == &fake.err_begin ? 0 : strlen(GO));
			if (strncmp(reply, table[i].words, strlen(table[i].words)) != 0)
				fail_msg("place %zu, err %d: %s", k, table[i].err, reply);
			assert_non_null(strstr(reply, "\r\n250 2.0.0 OK\r\n"));
			fake_check_clean();
			assert_int_equal(fake.account[1].count, 0);
		}
		*places[k] = OK;
	}
	fake.err_rcpt = ERR_TEMP;
	assert_string_equal(answer(OPEN), LHLO_REPLY "250 2.1.0 sender taken\r\n451 4.3.0 temporary fault\r\n");
	fake.err_rcpt = OK;
	fake.where = WHERE_WAIT; /* many nodes: it lives elsewhere, or that cannot be told */
	assert_non_null(strstr(answer(OPEN "DATA\r\nx\r\n.\r\n"), "451 4.3.0 "));
	assert_int_equal(fake.account[1].count, 0);
	fake.where = WHERE_HERE;
	lmtp_settings.suspended_temporary = true;
	assert_non_null(strstr(answer(LHLO MAIL "RCPT TO:<gone@demo.example>\r\n"), "450 4.2.1 mailbox is suspended\r\n"));
}

static void too_large(void **state)
{
	(void)state;
	static char in[MIB(1)];
	size_t len = (size_t)snprintf(in, sizeof in, OPEN "DATA\r\n");
	memset(in + len, 'x', KIB(300)); /* the cardboard writer takes 256 KiB */
	strcpy(in + len + KIB(300), "\r\n.\r\nNOOP\r\n");
	assert_string_equal(answer(in), OPEN_REPLY GO "552 5.3.4 message is larger than this server takes <ann@demo.example>\r\n250 2.0.0 OK\r\n");
}

static void loops_end(void **state)
{
	(void)state;
	char in[8192] = OPEN "DATA\r\n";
	for (int i = 0; i < LMTP_DELIVERED_TO_MAX; i++)
		strcat(in, i % 2 ? "delivered-to:\r\n <ANN@demo.example>\r\n" : "Delivered-To: ann@demo.example\r\n");
	strcat(in, "\r\nx\r\n.\r\n");
	assert_non_null(strstr(answer(in), "554 5.4.6 mail loop <ann@demo.example>\r\n"));
	strcpy(in, LHLO MAIL "RCPT TO:<bob@demo.example>\r\nDATA\r\n");
	for (int i = 0; i < LMTP_DELIVERED_TO_MAX; i++)
		strcat(in, "Delivered-To: ann@demo.example\r\n");
	strcat(in, "\r\nDelivered-To: bob@demo.example\r\nx\r\n.\r\n"); /* others' and the body's do not count */
	assert_non_null(strstr(answer(in), STORED(1)));
	strcpy(in, OPEN "DATA\r\n");
	for (int i = 0; i < LMTP_RECEIVED_MAX; i++)
		strcat(in, "Received: from a\r\n\tby b\r\n");
	strcpy(strchr(in, '\0'), "\r\n.\r\n");
	assert_non_null(strstr(answer(in), STORED(1)));
	strcpy(strstr(in, "\r\n\r\n.\r\n"), "\r\nReceived: x\r\n\r\n.\r\n");
	assert_non_null(strstr(answer(in), "554 5.4.6 mail loop <ann@demo.example>\r\n"));
}

static void strangers(void **state)
{
	(void)state;
	assert_string_equal(answer("POST /x HTTP/1.1\r\nMAIL FROM:<>\r\n"), "");
	char in[32 * 40] = "";
	for (int i = 0; i < 40; i++)
		strcat(in, "WHAT is this\r\n");
	const char *out = answer(in);
	assert_non_null(strstr(out, "421 4.7.0 too many bad commands, closing\r\n"));
	assert_int_equal(strlen(out), (LMTP_BAD_COMMANDS_MAX - 1) * strlen("500 5.5.1 unknown command\r\n") + strlen("421 4.7.0 too many bad commands, closing\r\n"));
}

static void hostile_arguments(void **state)
{
	(void)state;
	static const char *const verbs[] = { "LHLO", "MAIL", "MAIL FROM:", "MAIL FROM:<", "MAIL FROM:<a@b> SIZE=", "RCPT", "RCPT TO:", "RCPT TO:<", "DATA", "BDAT", "RSET",
					     "NOOP", "VRFY", "EXPN", "HELP", "EHLO", "HELO", "AUTH", "STARTTLS", "TURN", "QUIT" };
	static char big255[256], big1500[1501], big4096[4097];
	memset(big255, 'x', 255);
	memset(big1500, '"', 1500);
	memset(big4096, 'y', 4096);
	const struct slice arguments[] = {
		SLICE_LIT(""), slice_str(big255), slice_str(big1500), slice_str(big4096), SLICE_LIT("-1"), SLICE_LIT("0"), SLICE_LIT("2147483648"), SLICE_LIT("4294967296"),
		SLICE_LIT("9223372036854775808"), SLICE_LIT("18446744073709551616"), SLICE_LIT("%n%s%n%s"), SLICE_LIT("\xff\xfe\xc3\x28"), SLICE_LIT("a\0b"),
		SLICE_LIT("a\nb"), SLICE_LIT("a\rb"), SLICE_LIT("\"\\"), SLICE_LIT("[1.2.3.4]"), SLICE_LIT("@a,@b:c@d>"), SLICE_LIT("a@[x]> X=Y"),
	};
	for (size_t v = 0; v < ARRAY_LEN(verbs); v++) {
		for (size_t a = 0; a < ARRAY_LEN(arguments); a++) {
			for (int stage = 0; stage < 3; stage++) {
				struct fake_session f;
				fake_open(&f, &lmtp_proto);
				fake_feed(&f, stage == 0 ? SLICE_LIT("") : stage == 1 ? SLICE_LIT(LHLO) : SLICE_LIT(OPEN));
				buf_clear(&fake.out);
				fake_feed(&f, slice_str(verbs[v]));
				fake_feed(&f, SLICE_LIT(" "));
				fake_feed(&f, arguments[a]);
				fake_feed(&f, SLICE_LIT("\r\n"));
				if (f.next == STEP_DATA)
					fake_feed(&f, SLICE_LIT(".\r\n"));
				if (f.next == STEP_NEXT) {
					assert_true(fake.out.len > 5 && fake.out.ptr[0] >= '2' && fake.out.ptr[0] <= '5' && fake.out.ptr[1] <= '9');
					buf_clear(&fake.out);
					fake_feed(&f, SLICE_LIT("NOOP\r\n"));
					assert_memory_equal(fake.out.ptr, "250 2.0.0", 9);
				}
				fake_close(&f);
				fake_check_clean();
			}
		}
	}
}

/* ---- addresses ---- */

static void addresses(void **state)
{
	(void)state;
	static const struct { const char *text; enum err err; const char *wire, *lookup; } table[] = {
		{ "<a@b>", OK, "a@b", "a@b" },
		{ "<a.b+c@d.example>", OK, "a.b+c@d.example", "a.b+c@d.example" },
		{ "<\"a\"@b>", OK, "a@b", "a@b" }, /* the same recipient */
		{ "<\"a.\\b\"@b>", OK, "a.b@b", "a.b@b" },
		{ "<\"a b\"@b>", OK, "\"a b\"@b", "a b@b" },
		{ "<\"a\\\"b\\\\\"@b>", OK, "\"a\\\"b\\\\\"@b", "a\"b\\@b" },
		{ "<\"a@b\"@c>", OK, "\"a@b\"@c", "a@b@c" },
		{ "<\"\"@b>", OK, "\"\"@b", "@b" },
		{ "<@x:a@b>", OK, "a@b", "a@b" },
		{ "<@x,@y.z:a@b>", OK, "a@b", "a@b" },
		{ "<a@[127.0.0.1]>", OK, "a@[127.0.0.1]", "a@[127.0.0.1]" },
		{ "<a@[IPv6:::1]>", OK, "a@[IPv6:::1]", "a@[IPv6:::1]" },
		{ "<postmaster>", OK, "postmaster", "postmaster" },
		{ "<a..b@c>", OK, "a..b@c", "a..b@c" },
		{ "<.a.@c>", OK, ".a.@c", ".a.@c" },
		{ "<a_b@c_d.e>", OK, "a_b@c_d.e", "a_b@c_d.e" },
		{ "<!#$%&'*+-/=?^_`{|}~@c>", OK, "!#$%&'*+-/=?^_`{|}~@c", "!#$%&'*+-/=?^_`{|}~@c" },
		{ "<", ERR_SYNTAX, "", "" }, { "", ERR_SYNTAX, "", "" }, { "a@b", ERR_SYNTAX, "", "" }, { "<a@b", ERR_SYNTAX, "", "" }, { "<@>", ERR_SYNTAX, "", "" },
		{ "<@b>", ERR_SYNTAX, "", "" }, { "<a@>", ERR_SYNTAX, "", "" }, { "<a@b@c>", ERR_SYNTAX, "", "" }, { "<a b@c>", ERR_SYNTAX, "", "" },
		{ "<a@b c>", ERR_SYNTAX, "", "" }, { "<a@.b>", ERR_SYNTAX, "", "" }, { "<a@b.>", ERR_SYNTAX, "", "" }, { "<a@b..c>", ERR_SYNTAX, "", "" },
		{ "<\"a@b>", ERR_SYNTAX, "", "" }, { "<\"a\\\"@b>", ERR_SYNTAX, "", "" }, { "<\"a\"b@c>", ERR_SYNTAX, "", "" }, { "<a\"b\"@c>", ERR_SYNTAX, "", "" },
		{ "<@x a@b>", ERR_SYNTAX, "", "" }, { "<@x,a@b>", ERR_SYNTAX, "", "" }, { "<a@[]>", ERR_SYNTAX, "", "" }, { "<a@[x>", ERR_SYNTAX, "", "" },
		{ "<a@b!c>", ERR_SYNTAX, "", "" }, { "<a(c)@b>", ERR_SYNTAX, "", "" }, { "<<a@b>>", ERR_SYNTAX, "", "" }, { "<\"a\tb\"@c>", ERR_SYNTAX, "", "" },
		{ "<\xc3\xb6@b>", OK, "\xc3\xb6@b", "\xc3\xb6@b" }, { "<a@\xc3\xb6.example>", OK, "a@\xc3\xb6.example", "a@\xc3\xb6.example" },
		{ "<\xc3@b>", ERR_SYNTAX, "", "" }, { "<\xc0\x80@b>", ERR_SYNTAX, "", "" }, { "<\xed\xa0\x80@b>", ERR_SYNTAX, "", "" }, { "<\xf5\x80\x80\x80@b>", ERR_SYNTAX, "", "" },
	};
	struct arena arena;
	arena_init(&arena, KIB(64));
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct lmtp_path path;
		struct slice rest;
		enum err e = lmtp_path_parse(&arena, slice_str(table[i].text), &path, &rest);
		if (e != table[i].err)
			fail_msg("%s: %s", table[i].text, err_name(e));
		if (e == OK) {
			assert_true(slice_eq(path.wire, slice_str(table[i].wire)));
			assert_true(slice_eq(path.lookup, slice_str(table[i].lookup)));
			assert_int_equal(rest.len, 0);
		}
	}
	/* bounds */
	char text[1200];
	struct lmtp_path path;
	struct slice rest;
	for (size_t local = 250; local < 262; local++) {
		memset(text, 'l', sizeof text);
		text[0] = '<';
		strcpy(text + 1 + local, "@b> SIZE=1");
		enum err e = lmtp_path_parse(&arena, slice_str(text), &path, &rest);
		assert_int_equal(e, local <= LMTP_LOCAL_PART_BYTES_MAX ? OK : ERR_LIMIT);
		if (e == OK)
			assert_true(slice_eq(rest, SLICE_LIT(" SIZE=1")));
	}
	for (size_t domain = 250; domain < 260; domain++) {
		memset(text, 'd', sizeof text);
		memcpy(text, "<a@", 3);
		strcpy(text + 3 + domain, ">");
		assert_int_equal(lmtp_path_parse(&arena, slice_str(text), &path, &rest), domain <= LMTP_DOMAIN_BYTES_MAX ? OK : ERR_SYNTAX);
	}
	arena_release(&arena);
}

/* ---- dates ---- */

static void dates(void **state)
{
	(void)state;
	static const struct { int64_t s; const char *text; } table[] = {
		{ 0, "Thu, 01 Jan 1970 00:00:00 +0000" }, { 951782400, "Tue, 29 Feb 2000 00:00:00 +0000" }, { 1736847000, "Tue, 14 Jan 2025 09:30:00 +0000" },
		{ 4102444799, "Thu, 31 Dec 2099 23:59:59 +0000" }, { 4107542400, "Mon, 01 Mar 2100 00:00:00 +0000" }, { -1, "Wed, 31 Dec 1969 23:59:59 +0000" },
	};
	char out[LMTP_DATE_BYTES_MAX];
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		assert_true(slice_eq(slice_of(out, lmtp_date(table[i].s, out)), slice_str(table[i].text)));
}

/* ---- marked mail ---- */

static bool marked(const char *header) { return lmtp_marked(slice_str(header)); }

static void marks(void **state)
{
	(void)state;
	assert_false(marked("X-Spam: Yes\r\n\r\n")); /* nothing is configured */
	lmtp_settings.junk_name = "X-Spam";
	lmtp_settings.junk_value = "yes";
	static const char *const yes[] = { "X-Spam: Yes\r\n\r\n", "x-sPAM:YES\r\n\r\n",	    "X-Spam:\t Yes, score=7\r\n\r\n",
					   "X-Spam:\r\n Yes\r\n\r\n", "A: b\r\n c\r\nX-Spam: no\r\nX-Spam: yes\r\n\r\n", "X-Spam: yes" };
	static const char *const no[] = { "X-Spam: No\r\n\r\n", "X-Spam: Yesterday\r\n\r\n", "X-Spam: Yes7\r\n\r\n", "X-Spam:\r\n\r\n", "X-Spa: Yes\r\n\r\n",
					  "X-Spam-Flag: Yes\r\n\r\n", "X-Spam : Yes\r\n\r\n", "A: b\r\n X-Spam: Yes\r\n\r\n", "\r\nX-Spam: Yes\r\n", "",
					  "X-Spam", "X-Spam: Ye" };
	for (size_t i = 0; i < ARRAY_LEN(yes); i++)
		if (!marked(yes[i]))
			fail_msg("%s", yes[i]);
	for (size_t i = 0; i < ARRAY_LEN(no); i++)
		if (marked(no[i]))
			fail_msg("%s", no[i]);
	lmtp_settings.junk_value = "";
	assert_true(marked("X-Spam: whatever\r\n\r\n"));
	assert_true(marked("X-Spam:\r\n\r\n"));
}

/* Delivers two marked messages and one that is not, all stored; returns the folder of the second. */
static uint32_t folder_of_marked(void)
{
	lmtp_settings.junk_name = "X-Spam";
	lmtp_settings.junk_value = "Yes";
	unsigned at = fake.account[1].count;
	assert_string_equal(answer(OPEN "DATA\r\nX-Spam: Yes\r\n\r\n.\r\n" MAIL RCPT "DATA\r\nX-Spam: Yes\r\n\r\n.\r\n" MAIL RCPT "DATA\r\nX: y\r\n\r\n.\r\n"),
			    OPEN_REPLY GO STORED(1) " <ann@demo.example>\r\n250 2.1.0 sender taken\r\n250 2.1.5 recipient taken\r\n" GO STORED(
				    2) " <ann@demo.example>\r\n250 2.1.0 sender taken\r\n250 2.1.5 recipient taken\r\n" GO STORED(3) " <ann@demo.example>\r\n");
	assert_int_equal(fake.account[1].count, at + 3);
	assert_int_equal(fake.account[1].messages[at].folder, fake.account[1].messages[at + 1].folder);
	assert_int_equal(fake.account[1].messages[at + 2].folder, FOLDER_INBOX);
	return fake.account[1].messages[at + 1].folder;
}

static void junk_folder_is_made(void **state)
{
	(void)state;
	assert_int_equal(folder_of_marked(), FAKE_FOLDER);
	assert_string_equal(fake.account[1].folder_name, "Junk");
	assert_int_equal(fake.account[1].folder_use, FOLDER_USE_JUNK);
	assert_true(fake.account[1].subscribed);
}

static void junk_folder_by_use_or_name(void **state)
{
	(void)state;
	fake.account[1].folder_name = "Spam, Spam";
	fake.account[1].folder_use = FOLDER_USE_JUNK;
	assert_int_equal(folder_of_marked(), FAKE_FOLDER);
	fake.account[1].folder_name = "Junk";
	fake.account[1].folder_use = 0;
	assert_int_equal(folder_of_marked(), FAKE_FOLDER);
	assert_false(fake.account[1].subscribed);
}

static void junk_made_by_another(void **state)
{
	(void)state;
	fake.err_create = ERR_EXISTS;
	assert_int_equal(folder_of_marked(), FAKE_FOLDER);
}

static void junk_cannot_be_had(void **state)
{
	(void)state;
	fake.err_create = ERR_LIMIT;
	assert_int_equal(folder_of_marked(), FOLDER_INBOX);
}

static void junk_vanishes(void **state)
{
	(void)state;
	fake.folder_vanishes = true;
	assert_int_equal(folder_of_marked(), FOLDER_INBOX);
}

static void junk_not_wanted(void **state)
{
	(void)state;
	fake.no_junk = true;
	assert_int_equal(folder_of_marked(), FOLDER_INBOX);
	fake.no_junk = false;
	fake.no_imap = true;
	assert_int_equal(folder_of_marked(), FOLDER_INBOX);
	fake.no_imap = false;
	fake.maildrop = true;
	assert_int_equal(folder_of_marked(), FOLDER_INBOX);
	assert_null(fake.account[1].folder_name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_message, setup, teardown),
		cmocka_unit_test_setup_teardown(one_reply_per_recipient, setup, teardown),
		cmocka_unit_test_setup_teardown(order_of_commands, setup, teardown),
		cmocka_unit_test_setup_teardown(starttls, setup, teardown),
		cmocka_unit_test_setup_teardown(parameters, setup, teardown),
		cmocka_unit_test_setup_teardown(size_counts_at_rcpt, setup, teardown),
		cmocka_unit_test_setup_teardown(recipients_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(many_replies_by_cursor, setup, teardown),
		cmocka_unit_test_setup_teardown(chunks, setup, teardown),
		cmocka_unit_test_setup_teardown(chunks_without_a_size, setup, teardown),
		cmocka_unit_test(ends_as_naive),
		cmocka_unit_test_setup_teardown(smuggling, setup, teardown),
		cmocka_unit_test_setup_teardown(any_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(faults, setup, teardown),
		cmocka_unit_test_setup_teardown(too_large, setup, teardown),
		cmocka_unit_test_setup_teardown(loops_end, setup, teardown),
		cmocka_unit_test_setup_teardown(strangers, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(marks, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_folder_is_made, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_folder_by_use_or_name, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_made_by_another, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_cannot_be_had, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_vanishes, setup, teardown),
		cmocka_unit_test_setup_teardown(junk_not_wanted, setup, teardown),
		cmocka_unit_test(addresses),
		cmocka_unit_test(dates),
	};
	log_set_level(LOG_ALARM);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
