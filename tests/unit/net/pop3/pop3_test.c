/* SPDX-License-Identifier: Apache-2.0 */
/* POP3's handlers in the cardboard house: dialogues, hostile lines, faults, and RETR against a naive writer of dots. */
#include "tests/unit/support/fake_house.h"

#include "core/base/addr.h"
#include "net/pop3/pop3.h"
#include "core/base/log.h"
#include "net/pop3/pop3_private.h"

#include <setjmp.h>

#include <cmocka.h>

#define LOGIN "USER ann@demo.example\r\nPASS secret\r\n"

/* Runs one session over a dialogue fed in pieces; what it answered is in fake.out. */
static void dialogue(struct slice in, size_t piece)
{
	struct fake_session f;
	buf_clear(&fake.out);
	fake_open(&f, &pop3_proto);
	fake_feed_cut(&f, in, piece);
	fake_close(&f);
}

static const char *answer(const char *in)
{
	dialogue(slice_str(in), strlen(in) ? strlen(in) : 1);
	assert_true(buf_put(&fake.out, "", 1));
	char *greeting_end = strstr(fake.out.ptr, "\r\n");
	assert_non_null(greeting_end);
	return greeting_end + 2;
}

static int setup(void **state)
{
	(void)state;
	fake_begin();
	pop3_config_default(&pop3_settings);
	return 0;
}
static int teardown(void **state)
{
	(void)state;
	fake_end();
	return 0;
}

/* These and no others. */
static void three_messages(void)
{
	struct account *a = &fake.account[1];
	while (a->count)
		fake_forget(&a->messages[--a->count]);
	fake_put(1, "Return-Path: <a@b>\r\n", SLICE_LIT("Subject: one\r\n\r\n.dot\r\nb\r\n..\r\n"));
	fake_put(1, "", SLICE_LIT(""));
	fake_put(1, "", SLICE_LIT(".first line\r\n\r\nbody\r\n"));
}

/* ---- dialogues ---- */

static void whole_session(void **state)
{
	(void)state;
	three_messages();
	assert_string_equal(answer(LOGIN "STAT\r\nLIST\r\nUIDL\r\nLIST 2\r\nUIDL 3\r\nRETR 1\r\nRETR 2\r\nRETR 3\r\nDELE 2\r\nSTAT\r\nLIST\r\nRSET\r\nSTAT\r\n"
				  "NOOP\r\nDELE 1\r\nQUIT\r\nNOOP\r\n"),
			    "+OK now the password\r\n+OK 3 messages (70 octets)\r\n+OK 3 70\r\n"
			    "+OK 3 messages (70 octets)\r\n1 49\r\n2 0\r\n3 21\r\n.\r\n"
			    "+OK unique ids follow\r\n1 u1.1\r\n2 u2.1\r\n3 u3.1\r\n.\r\n+OK 2 0\r\n+OK 3 u3.1\r\n"
			    "+OK 49 octets\r\nReturn-Path: <a@b>\r\nSubject: one\r\n\r\n..dot\r\nb\r\n...\r\n.\r\n"
			    "+OK 0 octets\r\n.\r\n+OK 21 octets\r\n..first line\r\n\r\nbody\r\n.\r\n"
			    "+OK message 2 marked as deleted\r\n+OK 2 70\r\n+OK 2 messages (70 octets)\r\n1 49\r\n3 21\r\n.\r\n"
			    "+OK 3 messages (70 octets)\r\n+OK 3 70\r\n+OK still here\r\n+OK message 1 marked as deleted\r\n"
			    "+OK bye, messages deleted: 1\r\n");
	assert_int_equal(fake.account[1].count, 2);
	assert_int_equal(fake.account[1].messages[0].uid, 2);
	assert_int_equal(fake.moved_to, 1);
}

static void no_quit_deletes_nothing(void **state)
{
	(void)state;
	three_messages();
	answer(LOGIN "DELE 1\r\nDELE 2\r\nQUI");
	assert_int_equal(fake.account[1].count, 3);
}

static void top(void **state)
{
	(void)state;
	fake_put(1, "", SLICE_LIT("A: 1\r\n\r\none\r\n.two\r\nthree\r\n"));
	assert_string_equal(answer(LOGIN "TOP 1 0\r\nTOP 1 1\r\nTOP 1 2\r\nTOP 1 999999999\r\nTOP 1 18446744073709551615\r\n"),
			    "+OK now the password\r\n+OK 1 messages (26 octets)\r\n"
			    "+OK top of message follows\r\nA: 1\r\n\r\n.\r\n"
			    "+OK top of message follows\r\nA: 1\r\n\r\none\r\n.\r\n"
			    "+OK top of message follows\r\nA: 1\r\n\r\none\r\n..two\r\n.\r\n"
			    "+OK top of message follows\r\nA: 1\r\n\r\none\r\n..two\r\nthree\r\n.\r\n"
			    "+OK top of message follows\r\nA: 1\r\n\r\none\r\n..two\r\nthree\r\n.\r\n");
}

static void spaces_in_passwords(void **state)
{
	(void)state;
	assert_non_null(strstr(answer("USER bob@demo.example\r\nPASS  two words \r\n"), "+OK 0 messages"));
	assert_non_null(strstr(answer("USER bob@demo.example\r\nPASS two words \r\n"), "-ERR [AUTH] wrong"));
	assert_non_null(strstr(answer("USER bob@demo.example\r\nPASS  two words\r\n"), "-ERR [AUTH] wrong"));
}

static void wrong_password_limit(void **state)
{
	(void)state;
	assert_string_equal(answer("PASS x\r\nUSER nobody\r\nPASS x\r\nPASS x\r\n"
				   "USER ann@demo.example\r\nPASS x\r\nUSER a\r\nPASS x\r\nUSER a\r\nPASS x\r\nUSER a\r\nPASS x\r\nUSER a\r\n"),
			    "-ERR USER comes first\r\n+OK now the password\r\n-ERR [AUTH] wrong name or password\r\n-ERR USER comes first\r\n"
			    "+OK now the password\r\n-ERR [AUTH] wrong name or password\r\n+OK now the password\r\n-ERR [AUTH] wrong name or password\r\n"
			    "+OK now the password\r\n-ERR [AUTH] wrong name or password\r\n"
			    "+OK now the password\r\n-ERR [AUTH] wrong name or password, too many tries\r\n");
}

static void sasl(void **state)
{
	(void)state;
	/* NUL ann@demo.example NUL secret */
	static const char plain[] = "AGFubkBkZW1vLmV4YW1wbGUAc2VjcmV0";
	char in[512];
	assert_string_equal(answer("AUTH\r\nAUTH X\r\nAUTH PLAIN\r\n*\r\nAUTH PLAIN\r\n!\r\nAUTH PLAIN =\r\nAUTH PLAIN A=AA\r\n"),
			    "+OK mechanisms follow\r\nPLAIN\r\nLOGIN\r\n.\r\n-ERR no such mechanism\r\n+ \r\n-ERR cancelled\r\n+ \r\n"
			    "-ERR that was not base64 of what the mechanism wants\r\n-ERR that was not base64 of what the mechanism wants\r\n"
			    "-ERR that was not base64 of what the mechanism wants\r\n");
	snprintf(in, sizeof in, "auth plain %s\r\n", plain);
	assert_string_equal(answer(in), "+OK 0 messages (0 octets)\r\n");
	snprintf(in, sizeof in, "AUTH PLAIN\r\n%s\r\nSTAT\r\nAUTH PLAIN\r\n", plain);
	assert_string_equal(answer(in), "+ \r\n+OK 0 messages (0 octets)\r\n+OK 0 0\r\n-ERR already logged in\r\n");
	assert_string_equal(answer("AUTH LOGIN\r\nYW5uQGRlbW8uZXhhbXBsZQ==\r\nc2VjcmV0\r\n"),
			    "+ VXNlcm5hbWU6\r\n+ UGFzc3dvcmQ6\r\n+OK 0 messages (0 octets)\r\n");
	/* acting for somebody else */
	assert_string_equal(answer("AUTH PLAIN Ym9iAGFubkBkZW1vLmV4YW1wbGUAc2VjcmV0\r\n"), "-ERR [AUTH] wrong name or password\r\n");
}

/* "n,,^Aauth=Bearer good^A^A", and the same with "bad!" */
#define BEARER_GOOD "biwsAWF1dGg9QmVhcmVyIGdvb2QBAQ=="
#define BEARER_BAD "biwsAWF1dGg9QmVhcmVyIGJhZCEBAQ=="
#define INVALID_TOKEN "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n"

static void sasl_with_tokens(void **state)
{
	(void)state;
	assert_non_null(strstr(answer("AUTH OAUTHBEARER\r\n"), "-ERR no such mechanism\r\n"));
	fake.bearer = true;
	assert_non_null(strstr(answer("CAPA\r\n"), "SASL PLAIN LOGIN OAUTHBEARER XOAUTH2\r\n"));
	/* told in JSON; then it fails whatever the client says to that */
	static const char *const says[] = { "AQ==", "", "*", "!" };
	for (size_t i = 0; i < ARRAY_LEN(says); i++) {
		char in[200];
		snprintf(in, sizeof in, "AUTH OAUTHBEARER " BEARER_BAD "\r\n%s\r\n", says[i]);
		assert_string_equal(answer(in), INVALID_TOKEN "-ERR [AUTH] wrong name or password\r\n");
	}
	assert_non_null(strstr(answer("AUTH OAUTHBEARER\r\n" BEARER_GOOD "\r\n"), "+ \r\n+OK "));
	fake.bearer = false;
}

static void sasl_external(void **state)
{
	(void)state;
	assert_non_null(strstr(answer("AUTH EXTERNAL =\r\n"), "-ERR no such mechanism\r\n"));
	fake.certificate = "ann@demo.example";
	assert_non_null(strstr(answer("CAPA\r\n"), "SASL PLAIN LOGIN EXTERNAL\r\n"));
	assert_non_null(strstr(answer("AUTH EXTERNAL =\r\n"), "+OK "));
	assert_non_null(strstr(answer("AUTH EXTERNAL\r\n\r\n"), "+ \r\n+OK "));
	assert_non_null(strstr(answer("AUTH EXTERNAL YW5uQGRlbW8uZXhhbXBsZQ==\r\n"), "+OK "));
	assert_string_equal(answer("AUTH EXTERNAL Ym9iQGRlbW8uZXhhbXBsZQ==\r\n"), "-ERR [AUTH] wrong name or password\r\n");
	assert_non_null(strstr(answer("AUTH EXTERNAL AAAA\r\n"), "-ERR that was not base64"));
	fake.clear_refused = true;
	assert_null(strstr(answer("CAPA\r\n"), "EXTERNAL"));
	fake.clear_refused = false;
	fake.certificate = NULL;
}

/* RFC 5034 section 4: 12,288 octets, in an exchange and behind AUTH; no other line may have them. */
static void long_lines_of_an_exchange(void **state)
{
	(void)state;
	static char in[16000], line[SASL_LINE_BYTES_MAX + 8];
	static const size_t lens[] = { POP3_LINE_BYTES_MAX, POP3_LINE_BYTES_MAX + 4, SASL_LINE_BYTES_MAX, SASL_LINE_BYTES_MAX + 4 };
	fake.bearer = true;
	for (size_t i = 0; i < ARRAY_LEN(lens); i++) {
		memset(line, 'A', lens[i]);
		line[lens[i]] = 0;
		snprintf(in, sizeof in, "AUTH OAUTHBEARER\r\n%s\r\nNOOP\r\n", line);
		bool fits = lens[i] <= SASL_LINE_BYTES_MAX; /* NULs are no message: not base64's fault, but no token either */
		assert_non_null(strstr(answer(in), fits ? "+ \r\n-ERR that was not base64" : "+ \r\n-ERR line too long"));
		line[lens[i] - 17] = 0;
		snprintf(in, sizeof in, "AUTH OAUTHBEARER %s\r\nNOOP\r\n", line);
		assert_non_null(strstr(answer(in), fits ? "-ERR that was not base64" : "-ERR line too long"));
		snprintf(in, sizeof in, "USER %s\r\nNOOP\r\n", line);
		assert_true((strstr(answer(in), "-ERR line too long") != NULL) == (i > 1));
		snprintf(in, sizeof in, LOGIN "AUTH %s\r\nNOOP\r\n", line);
		assert_true((strstr(answer(in), "-ERR line too long") != NULL) == (i > 1));
	}
	fake.bearer = false;
}

static void sasl_with_challenges(void **state)
{
	(void)state;
	fake.apop = true; /* a tenant keeps reversible secrets */
	assert_non_null(strstr(answer("CAPA\r\n"), "\r\nSASL PLAIN LOGIN CRAM-MD5 SCRAM-SHA-1 SCRAM-SHA-256\r\n"));
	fake.exporter = true;
	assert_non_null(strstr(answer("CAPA\r\n"), " SCRAM-SHA-256 SCRAM-SHA-1-PLUS SCRAM-SHA-256-PLUS\r\n"));
	fake.exporter = false;
	/* "a 0...0": wrong; a cancelled one; SCRAM up to the salt, then cancelled; -PLUS without a binding */
	assert_non_null(strstr(answer("AUTH CRAM-MD5\r\nYSAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMA==\r\nAUTH CRAM-MD5\r\n*\r\n"),
			       "-ERR [AUTH] wrong name or password\r\n+ PDVh"));
	assert_non_null(strstr(answer("AUTH SCRAM-SHA-256 biwsbj1hbm4scj14\r\n*\r\nSTAT\r\n"), "+ cj14"));
	assert_non_null(strstr(answer("AUTH SCRAM-SHA-256-PLUS biwsbj1hbm4scj14\r\n"), "-ERR no such mechanism\r\n"));
	fake.apop = false;
	assert_non_null(strstr(answer("AUTH CRAM-MD5\r\n"), "-ERR no such mechanism\r\n"));
}

static void apop(void **state)
{
	(void)state;
	assert_non_null(strstr(answer("APOP ann@demo.example 0123456789abcdef0123456789abcdef\r\n"), "-ERR APOP is not offered"));
	fake.apop = true;
	assert_string_equal(answer("APOP ann@demo.example 0123456789abcdef0123456789abcdef\r\nSTAT\r\n"), "+OK 0 messages (0 octets)\r\n+OK 0 0\r\n");
	assert_non_null(strstr(fake.out.ptr, "ready <5a5a5a5b5a5a5a5a5a5a5a5a5a5a5a5a@localhost>\r\n"));
	assert_string_equal(answer("APOP ann@demo.example 1\r\nAPOP x\r\n"), "-ERR wrong arguments\r\n-ERR wrong arguments\r\n");
}

static void capabilities(void **state)
{
	(void)state;
	const char *before = answer("CAPA\r\n");
	assert_non_null(strstr(before, "LOGIN-DELAY 0\r\nEXPIRE NEVER\r\nIMPLEMENTATION Penfold\r\n.\r\n"));
	fake.extremes = (struct directory_extremes){ 900, 5 };
	fake.login_delay_s = 60;
	const char *both = answer("CAPA\r\n" LOGIN "CAPA\r\n");
	assert_non_null(strstr(both, "LOGIN-DELAY 900 USER\r\nEXPIRE 5 USER\r\n"));
	assert_non_null(strstr(both, "LOGIN-DELAY 60\r\nEXPIRE NEVER\r\n"));
}

/* ---- TLS ---- */

/* ---- waiting and limits ---- */

static void a_login_waits(void **state)
{
	(void)state;
	fake.guard = ERR_AGAIN;
	const char *got = answer("USER ann@demo.example\r\nPASS wrong\r\nUSER ann@demo.example\r\nPASS secret\r\nQUIT\r\n");
	assert_non_null(strstr(got, "-ERR [AUTH]"));
	assert_non_null(strstr(got, "+OK bye"));
	assert_int_equal(fake.guard_told, 1);
	assert_int_equal(fake.notes[DECISION_DELAYED], 2);
	assert_int_equal(fake.notes[DECISION_REFUSED], 1);
	assert_int_equal(fake.notes[DECISION_ACCEPTED], 1);
	assert_int_equal(fake.seats, 0); /* given back */
}

static void a_login_waits_after_its_proof(void **state)
{
	(void)state;
	fake.guard = ERR_AGAIN;
	fake.apop = true;
	const char *got = answer("APOP ann@demo.example 00000000000000000000000000000000\r\nAPOP ann@demo.example 0123456789abcdef0123456789abcdef\r\nQUIT\r\n");
	assert_non_null(strstr(got, "-ERR [AUTH]"));
	assert_non_null(strstr(got, "+OK bye"));
	assert_int_equal(fake.notes[DECISION_DELAYED], 2);
	fake.guard = ERR_BUSY; /* a right proof is let go of */
	got = answer("APOP ann@demo.example 0123456789abcdef0123456789abcdef\r\nSTAT\r\n");
	assert_non_null(strstr(got, "(limit guessing), please wait"));
	assert_non_null(strstr(got, "-ERR log in first"));
}

/* The client goes away, or the server stops, while a login waits: what was held is given back (teardown looks). */
static void gone_while_a_login_waits(void **state)
{
	(void)state;
	fake.guard = ERR_AGAIN;
	fake.apop = true;
	fake.stay_parked = true;
	assert_string_equal(answer("USER ann@demo.example\r\nPASS secret\r\n"), "+OK now the password\r\n");
	assert_string_equal(answer("APOP ann@demo.example 0123456789abcdef0123456789abcdef\r\n"), "");
	assert_string_equal(answer("AUTH PLAIN AGFubkBkZW1vLmV4YW1wbGUAc2VjcmV0\r\n"), "");
}

static void limits_say_wait(void **state)
{
	(void)state;
	char line[NET_REFUSAL_BYTES_MAX];
	fake.guard = ERR_BUSY;
	assert_string_equal(answer("USER ann@demo.example\r\nPASS secret\r\n"),
			    "+OK now the password\r\n-ERR [SYS/TEMP] too many failed logins from your address (limit guessing), please wait and try again\r\n");
	assert_int_equal(fake.refusals, 1);
	fake.guard = OK;
	for (int i = 0; i < 2; i++) {
		fake.limit = i ? LIMIT_TENANT : LIMIT_ACCOUNT;
		const char *got = answer("USER ann@demo.example\r\nPASS secret\r\nSTAT\r\n");
		assert_non_null(strstr(got, i ? "-ERR [SYS/TEMP] too many sessions of this customer (limit tenant), please wait" : "-ERR [SYS/TEMP] too many sessions of this account (limit account), please wait"));
		assert_non_null(strstr(got, "-ERR log in first"));
		assert_int_equal(fake.seats, 0);
	}
	for (int limit = LIMIT_ALL; limit < LIMIT_COUNT; limit++) {
		size_t len = pop3_refused((enum limit)limit, line);
		struct slice s = slice_of(line, len);
		assert_true(slice_starts_nocase(s, SLICE_LIT("-ERR [SYS/TEMP] ")) && memmem(line, len, "wait", 4) && memmem(line, len, limit_word((enum limit)limit), strlen(limit_word((enum limit)limit))));
		assert_memory_equal(line + len - 2, "\r\n", 2);
	}
}

static void stls(void **state)
{
	(void)state;
	fake.tls_offered = true;
	const char *capa = answer("CAPA\r\n");
	assert_non_null(strstr(capa, "USER\r\n"));
	assert_non_null(strstr(capa, "STLS\r\n"));
	/* what is said before is forgotten behind it: RFC 2595 section 4, invariant 10 */
	struct fake_session f;
	buf_clear(&fake.out);
	fake_open(&f, &pop3_proto);
	buf_clear(&fake.out);
	fake_feed(&f, SLICE_LIT("USER ann@demo.example\r\nSTLS\r\nNOOP\r\nPASS secret\r\n"));
	fake_feed(&f, SLICE_LIT("PASS secret\r\nSTLS\r\nCAPA\r\n"));
	assert_true(buf_put(&fake.out, "", 1));
	static const char begin[] = "+OK now the password\r\n+OK begin TLS now\r\n-ERR USER comes first\r\n-ERR TLS is on already\r\n+OK capabilities follow\r\n";
	assert_memory_equal(fake.out.ptr, begin, sizeof begin - 1);
	assert_null(strstr(fake.out.ptr, "STLS\r\n"));
	assert_non_null(strstr(fake.out.ptr, "USER\r\n"));
	fake_close(&f);
	assert_string_equal(answer("STLS x\r\nUTF8\r\nSTLS\r\n"), "-ERR this command takes no argument\r\n+OK UTF8 enabled\r\n-ERR STLS comes before UTF8\r\n");
	fake.tls_offered = false;
	assert_string_equal(answer("STLS\r\n"), "-ERR TLS is not offered here\r\n");
	assert_null(strstr(answer("CAPA\r\n"), "STLS"));
}

/* The line with STLS in every two pieces, and what stands behind it in the clear: never executed. */
static void stls_injection(void **state)
{
	(void)state;
	static const char in[] = "CAPA\r\nSTLS\r\nUSER ann@demo.example\r\nPASS secret\r\nDELE 1\r\n";
	fake.tls_offered = true;
	for (size_t cut = strlen("CAPA\r\nSTLS\r\n"); cut < sizeof in - 1; cut++) {
		struct fake_session f;
		fake_open(&f, &pop3_proto);
		buf_clear(&fake.out);
		fake_feed_cut(&f, slice_upto(slice_of(in, cut), 5), 1);
		fake_feed(&f, slice_from(slice_of(in, cut), 5));
		assert_true(fake.tls);
		assert_int_equal(fake.out.ptr[fake.out.len - 1], '\n');
		assert_memory_equal(fake.out.ptr + fake.out.len - 19, "+OK begin TLS now\r\n", 19);
		fake_close(&f);
	}
}

static void logins_in_the_clear(void **state)
{
	(void)state;
	static const char attempts[] = "USER ann@demo.example\r\nPASS secret\r\nAUTH PLAIN\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\nAPOP ann 0123456789abcdef0123456789abcdef\r\nAUTH\r\n";
	fake.clear_refused = true;
	const char *capa = answer("CAPA\r\n");
	assert_null(strstr(capa, "USER"));
	assert_null(strstr(capa, "SASL"));
	fake.tls_offered = true;
	assert_string_equal(answer(attempts), "-ERR logins want TLS here: say STLS first\r\n-ERR USER comes first\r\n"
					      "-ERR logins want TLS here: say STLS first\r\n-ERR logins want TLS here: say STLS first\r\n"
					      "-ERR logins want TLS here: say STLS first\r\n+OK mechanisms follow\r\n.\r\n");
	fake.tls_offered = false;
	assert_string_equal(answer("USER ann@demo.example\r\n"), "-ERR logins in the clear are not taken here\r\n");
}

static void languages(void **state)
{
	(void)state;
	assert_string_equal(answer("LANG\r\nLANG xx\r\nLANG de-AT\r\nUSER ann@demo.example\r\nXXXX\r\nPASS secret\r\nLANG EN\r\nLANG *\r\nNOOP\r\n"),
			    "+OK languages follow\r\nen English\r\nde Deutsch\r\n.\r\n-ERR no such language\r\n+OK de ab jetzt auf Deutsch\r\n+OK nun das Passwort\r\n"
			    "-ERR unbekannter Befehl\r\n+OK 0 Nachrichten (0 Byte)\r\n+OK en English spoken from now on\r\n+OK en English spoken from now on\r\n"
			    "+OK still here\r\n");
}

static void utf8_mode(void **state)
{
	(void)state;
	fake_put(1, "Received: by h with UTF8LMTP id 1\r\n", SLICE_LIT("Subject: \xc3\xb6\r\n\r\nx\r\n"));
	fake_put(1, "Received: by h with UTF8LMTP id 1\r\n", SLICE_LIT("Subject: o\r\n\r\n\xc3\xb6\r\n"));
	fake_put(1, "Received: by h with LMTP id 1\r\n", SLICE_LIT("Subject: \xf6\r\n\r\nx\r\n"));
	const char *plain = answer(LOGIN "RETR 1\r\nTOP 1 0\r\nRETR 2\r\nRETR 3\r\nUTF8\r\n");
	assert_non_null(strstr(plain, "-ERR [UTF8] this message needs UTF8 mode\r\n-ERR [UTF8] this message needs UTF8 mode\r\n+OK 53 octets\r\n"));
	assert_non_null(strstr(plain, "Subject: \xf6\r\n\r\nx\r\n.\r\n-ERR already logged in\r\n"));
	assert_non_null(strstr(answer("UTF8\r\n" LOGIN "RETR 1\r\n"), "Subject: \xc3\xb6\r\n"));
	fake.in_memory = true;
	assert_non_null(strstr(answer(LOGIN "RETR 1\r\nRETR 2\r\n"), "-ERR [UTF8] this message needs UTF8 mode\r\n+OK 53 octets\r\n"));
}

static void order_and_arguments(void **state)
{
	(void)state;
	three_messages();
	assert_string_equal(answer("STAT\r\nUSER\r\n" LOGIN "USER x\r\nSTAT 1\r\nRETR\r\nRETR 0\r\nRETR 4\r\nRETR -1\r\nRETR 99999999999999999999\r\nRETR 1 2\r\n"
				  "TOP 1\r\nTOP 1 -1\r\nTOP 1 x\r\nDELE 1\r\nDELE 1\r\nRETR 1\r\nTOP 1 0\r\nLIST 1\r\nUIDL 1\r\nLAST\r\nSTLS\r\nRETR 3 \r\n"),
			    "-ERR log in first\r\n-ERR wrong arguments\r\n+OK now the password\r\n+OK 3 messages (70 octets)\r\n-ERR already logged in\r\n"
			    "-ERR this command takes no argument\r\n-ERR a message number is wanted\r\n-ERR no such message, only 3 here\r\n"
			    "-ERR no such message, only 3 here\r\n-ERR a message number is wanted\r\n-ERR a message number is wanted\r\n-ERR a message number is wanted\r\n"
			    "-ERR wrong arguments\r\n-ERR wrong arguments\r\n-ERR wrong arguments\r\n+OK message 1 marked as deleted\r\n"
			    "-ERR message 1 is deleted\r\n-ERR message 1 is deleted\r\n-ERR message 1 is deleted\r\n-ERR message 1 is deleted\r\n-ERR message 1 is deleted\r\n"
			    "-ERR unknown command\r\n-ERR already logged in\r\n+OK 21 octets\r\n..first line\r\n\r\nbody\r\n.\r\n");
}

static void strangers(void **state)
{
	(void)state;
	assert_string_equal(answer("GET / HTTP/1.1\r\nUSER x\r\n"), "");
	assert_string_equal(answer("NOOP\r\nGET / HTTP/1.1\r\n"), "-ERR log in first\r\n-ERR unknown command\r\n");
	char in[32 * 40] = "";
	for (int i = 0; i < 40; i++)
		strcat(in, "HELLO there\r\n");
	const char *out = answer(in);
	unsigned lines = 0;
	for (const char *p = out; (p = strstr(p, "\r\n")); p += 2)
		lines++;
	assert_int_equal(lines, POP3_BAD_COMMANDS_MAX);
	assert_non_null(strstr(out, "-ERR too many bad commands, closing\r\n"));
}

/* ---- SDPS ---- */

#define HOST "USER vision25\r\nPASS secret\r\n"
#define FRED "USER fred+vision25\r\nPASS secret\r\n"

static void host_messages(void)
{
	fake_put_for(8, "ann@example.org", "fred@vision25.example.net", SLICE_LIT("A: 1\r\n\r\none\r\n"));
	fake_put_for(8, "", "jane@vision25.example.net", SLICE_LIT("A: 2\r\n\r\ntwo\r\n"));
	fake_put_for(8, ".dot@example.org", "Fred@vision25.example.net", SLICE_LIT("A: 3\r\n\r\nthree\r\n"));
}

static void envelopes(void **state)
{
	(void)state;
	host_messages();
	assert_string_equal(answer(HOST "*ENV 1\r\n*env 2\r\n*ENV 3\r\nDELE 2\r\n*ENV 2\r\n*ENV 4\r\n*ENV\r\n*ENV x\r\nENV 1\r\n"),
			    "+OK now the password\r\n+OK 3 messages (41 octets)\r\n"
			    "+OK envelope follows\r\nu1.1\r\n2025-01-14T09:30:00Z\r\nann@example.org\r\nfred@vision25.example.net\r\n.\r\n"
			    "+OK envelope follows\r\nu2.1\r\n2025-01-14T09:30:00Z\r\n\r\njane@vision25.example.net\r\n.\r\n"
			    "+OK envelope follows\r\nu3.1\r\n2025-01-14T09:30:00Z\r\n..dot@example.org\r\nFred@vision25.example.net\r\n.\r\n"
			    "+OK message 2 marked as deleted\r\n-ERR message 2 is deleted\r\n-ERR no such message, only 3 here\r\n"
			    "-ERR a message number is wanted\r\n-ERR a message number is wanted\r\n-ERR unknown command\r\n");
	/* off where the login is to no host, and before any */
	fake_put(1, "", SLICE_LIT("x\r\n"));
	assert_string_equal(answer("*ENV 1\r\n" LOGIN "*ENV 1\r\n"), "-ERR log in first\r\n+OK now the password\r\n+OK 1 messages (3 octets)\r\n-ERR unknown command\r\n");
}

static void lines_of_envelopes_are_bounded(void **state)
{
	(void)state;
	char longest[POP3_ENV_LINE_BYTES_MAX + 1];
	memset(longest, 'a', sizeof longest);
	longest[POP3_ENV_LINE_BYTES_MAX - 1] = '\0';
	fake_put_for(8, longest, "fred@vision25.example.net", SLICE_LIT("x\r\n"));
	longest[POP3_ENV_LINE_BYTES_MAX - 1] = 'a';
	longest[POP3_ENV_LINE_BYTES_MAX] = '\0';
	fake_put_for(8, longest, "fred@vision25.example.net", SLICE_LIT("x\r\n"));
	fake_put_for(8, "a\rb@example.org", "fred@vision25.example.net", SLICE_LIT("x\r\n"));
	const char *out = answer(HOST "*ENV 1\r\n*ENV 2\r\n*ENV 3\r\nNOOP\r\n");
	assert_non_null(strstr(out, "Z\r\naaa"));
	assert_non_null(strstr(out, "+OK envelope follows\r\nu2.1\r\n2025-01-14T09:30:00Z\r\n\r\nfred@"));
	assert_non_null(strstr(out, "+OK envelope follows\r\nu3.1\r\n2025-01-14T09:30:00Z\r\n\r\nfred@"));
	for (const char *line = out; *line; line = strstr(line, "\r\n") + 2)
		assert_true((size_t)(strstr(line, "\r\n") - line) <= POP3_ENV_LINE_BYTES_MAX);
}

/* A damaged message has an envelope in form; for want of a disk the connection ends: never -ERR, after which fetchmail waits for ever. */
static void envelopes_and_faults(void **state)
{
	(void)state;
	host_messages();
	fake.err_message = ERR_CORRUPT;
	assert_non_null(strstr(answer(HOST "*ENV 1\r\nNOOP\r\n"), "+OK envelope follows\r\nu1.1\r\n1970-01-01T00:00:00Z\r\n\r\n\r\n.\r\n+OK still"));
	static const enum err faults[] = { ERR_IO, ERR_BUSY, ERR_FENCED, ERR_TIMEOUT };
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		fake.err_message = faults[i];
		assert_string_equal(answer(HOST "*ENV 1\r\nNOOP\r\n"), "+OK now the password\r\n+OK 3 messages (41 octets)\r\n");
	}
}

static void users_of_a_host(void **state)
{
	(void)state;
	host_messages();
	assert_string_equal(answer(FRED "LIST\r\nUIDL\r\n*ENV 2\r\nRETR 2\r\nRETR 3\r\nDELE 2\r\nQUIT\r\n"),
			    "+OK now the password\r\n+OK 2 messages (28 octets)\r\n+OK 2 messages (28 octets)\r\n1 13\r\n2 15\r\n.\r\n"
			    "+OK unique ids follow\r\n1 u1.1\r\n2 u3.1\r\n.\r\n"
			    "+OK envelope follows\r\nu3.1\r\n2025-01-14T09:30:00Z\r\n..dot@example.org\r\nFred@vision25.example.net\r\n.\r\n"
			    "+OK 15 octets\r\nA: 3\r\n\r\nthree\r\n.\r\n-ERR no such message, only 2 here\r\n+OK message 2 marked as deleted\r\n"
			    "+OK bye, messages deleted: 1\r\n");
	assert_int_equal(fake.account[8].count, 2);
	assert_int_equal(fake.account[8].messages[1].uid, 2);
	/* two users at once; the host-wide login against either */
	struct fake_session fred, jane;
	fake_open(&fred, &pop3_proto);
	fake_feed(&fred, SLICE_LIT(FRED));
	fake_open(&jane, &pop3_proto);
	fake_feed(&jane, SLICE_LIT("USER jane+vision25\r\nPASS secret\r\n"));
	assert_non_null(strstr(answer(HOST), "-ERR [IN-USE]"));
	assert_non_null(strstr(answer(FRED), "-ERR [IN-USE]"));
	fake_feed(&jane, SLICE_LIT("DELE 1\r\nQUIT\r\n"));
	fake_close(&jane);
	assert_int_equal(fake.account[8].count, 1);
	assert_int_equal(fake.account[8].messages[0].uid, 1); /* fred's */
	fake_feed(&fred, SLICE_LIT("DELE 1\r\nQUIT\r\n"));
	fake_close(&fred);
	assert_int_equal(fake.account[8].count, 0);
	assert_non_null(strstr(answer(HOST), "+OK 0 messages"));
}

/* ---- XTND ---- */

static void xtnd_is_off(void **state)
{
	(void)state;
	three_messages();
	assert_non_null(strstr(answer(LOGIN "XTND\r\nXTND XLST Subject\r\nXTND XMIT\r\n"), "-ERR unknown command\r\n-ERR unknown command\r\n-ERR unknown command\r\n"));
	fake.xtnd = XTND_XLST;
	assert_non_null(strstr(answer(LOGIN "XTND XMIT\r\nXTND\r\nXTND FOO\r\nCAPA\r\n"),
			       "-ERR no such XTND command here\r\n-ERR no such XTND command here\r\n-ERR no such XTND command here\r\n+OK capa"));
	assert_non_null(strstr(fake.out.ptr, "XTND XLST\r\n"));
	fake.xtnd = XTND_XMIT;
	assert_non_null(strstr(answer(LOGIN "XTND XLST Subject\r\n"), "-ERR no such XTND command here\r\n"));
	assert_non_null(strstr(answer("XTND XMIT\r\n"), "-ERR log in first\r\n"));
}

static void xlst(void **state)
{
	(void)state;
	fake.xtnd = XTND_XLST;
	fake_put(1, "Return-Path: <a@b>\r\nDelivered-To: ann@demo.example\r\n", SLICE_LIT("Message-ID: <1@x>\r\nSubject: one\r\n two\r\n\tthree\r\n\r\nMessage-ID: not me\r\n"));
	fake_put(1, "", SLICE_LIT("Sub: no\r\nX-Subject: no\r\nSubject : two\r\nSubject: second\r\nmessage-id:<2@x>\r\n\r\nx\r\n"));
	fake_put(1, "", SLICE_LIT("A: b\r\n\r\nSubject: body\r\n"));
	fake_put(1, "", SLICE_LIT("subject:\r\nMessage-Id: .dot\r\n"));
	fake_put(1, "", SLICE_LIT(""));
	for (int memory = 0; memory < 2; memory++) {
		fake.in_memory = memory;
		assert_string_equal(answer(LOGIN "XTND XLST Message-Id\r\nxtnd xlst SUBJECT:\r\nXTND XLST Sub\r\nXTND XLST Return-Path 1\r\nXTND XLST Message-ID 3\r\n"
					  "DELE 2\r\nXTND XLST Message-Id\r\nXTND XLST X 2\r\n"),
				    "+OK now the password\r\n+OK 5 messages (251 octets)\r\n"
				    "+OK xlst command accepted; headers coming.\r\n1 Message-ID: <1@x>\r\n2 message-id:<2@x>\r\n4 Message-Id: .dot\r\n.\r\n"
				    "+OK xlst command accepted; headers coming.\r\n1 Subject: one\r\n two\r\n\tthree\r\n2 Subject : two\r\n4 subject:\r\n.\r\n"
				    "+OK xlst command accepted; headers coming.\r\n2 Sub: no\r\n.\r\n"
				    "+OK xlst command accepted; headers coming.\r\n1 Return-Path: <a@b>\r\n.\r\n"
				    "+OK xlst command accepted; headers coming.\r\n.\r\n"
				    "+OK message 2 marked as deleted\r\n"
				    "+OK xlst command accepted; headers coming.\r\n1 Message-ID: <1@x>\r\n4 Message-Id: .dot\r\n.\r\n"
				    "-ERR message 2 is deleted\r\n");
	}
	assert_string_equal(answer(LOGIN "XTND XLST\r\nXTND XLST a b c\r\nXTND XLST a 9\r\nXTND XLST a x\r\nXTND XLST :\r\nXTND XLST a:b\r\nXTND XLST \xc3\xb6\r\n"),
			    "+OK now the password\r\n+OK 5 messages (251 octets)\r\n-ERR Too few arguments for the xtnd xlst command.\r\n"
			    "-ERR Too many arguments for the xtnd xlst command.\r\n-ERR no such message, only 5 here\r\n-ERR a message number is wanted\r\n"
			    "-ERR wrong arguments\r\n-ERR wrong arguments\r\n-ERR wrong arguments\r\n");
	fake.err_message = ERR_CORRUPT;
	assert_non_null(strstr(answer(LOGIN "XTND XLST A\r\n"), "coming.\r\n.\r\n"));
	fake.err_message = ERR_IO;
	assert_null(strstr(answer(LOGIN "XTND XLST A\r\nNOOP\r\n"), ".\r\n.\r\n"));
}

static void xlst_in_any_room(void **state)
{
	(void)state;
	fake.xtnd = XTND_XLST;
	for (int i = 0; i < 50; i++)
		fake_put(1, "", SLICE_LIT("Subject: one\r\n two\r\n\r\n"));
	dialogue(slice_str(LOGIN "XTND XLST subject\r\nNOOP\r\n"), 1000);
	char *whole = slice_dup(buf_slice(&fake.out));
	assert_non_null(strstr(whole, "\r\n50 Subject: one\r\n two\r\n.\r\n+OK still"));
	for (size_t full = 1; full < 300; full += 7) {
		fake.full_bytes = full;
		dialogue(slice_str(LOGIN "XTND XLST subject\r\nNOOP\r\n"), 1000);
		assert_true(slice_eq(buf_slice(&fake.out), slice_str(whole)));
	}
	free(whole);
	/* long fields are cut, at a line's end where there is one */
	char *text = xmalloc(KIB(20));
	size_t len = (size_t)sprintf(text, "Subject:");
	for (int i = 0; i < 300; i++)
		len += (size_t)sprintf(text + len, " %03d %045d\r\n", i, 0);
	memcpy(text + len, "\r\n", 3);
	fake_put(2, "", slice_of(text, len + 2));
	memset(text + 8, 'x', KIB(10));
	fake_put(2, "", slice_of(text, KIB(10)));
	fake.full_bytes = 0;
	const char *out = answer("USER bob@demo.example\r\nPASS  two words \r\nXTND XLST subject\r\n");
	const char *one = strstr(out, "1 Subject: 000"), *two = strstr(out, "\r\n2 Subject:xx");
	assert_true(one && two && two > one && (size_t)(two - one) <= POP3_XLST_FIELD_BYTES_MAX && two[-1] == '0');
	assert_true(strlen(two) <= POP3_XLST_FIELD_BYTES_MAX + 16 && !strcmp(strchr(two + 2, '\r'), "\r\n.\r\n"));
	free(text);
}

#define MAIL "From: Ann <ann@demo.example>\r\nTo: x@y.example\r\n\r\ntext\r\n.\r\n"

static int setup_xmit(void **state)
{
	setup(state);
	fake.xtnd = XTND_XMIT;
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1:25"), &pop3_settings.xmit.relay.address), OK);
	static uint64_t hours;
	fake.now_ms = ++hours * 3600001; /* what was sent in other tests is long ago */
	return 0;
}

/* The answer's last line, what the relay was given behind our own line in fake.relayed. */
static const char *send_mail(const char *mail)
{
	static char in[KIB(64)];
	snprintf(in, sizeof in, LOGIN "XTND XMIT\r\n%s", mail);
	fake.relays = 0;
	const char *out = answer(in);
	const char *go = strstr(out, "+OK Start sending message.\r\n");
	return go ? go + 28 : out;
}

static const char *relayed_message(void)
{
	const char *at = strstr(fake.relayed.ptr, "\n\nReceived: from [192.0.2.7]\r\n\tby localhost with POP3 (XTND XMIT) id ");
	assert_non_null(at);
	at = strstr(at, ";\r\n\tTue, 14 Jan 2025 09:30:00 +0000\r\n");
	assert_non_null(at);
	return at + 37;
}

static void xmit(void **state)
{
	(void)state;
	assert_string_equal(send_mail("From: Ann <ann@demo.example>\r\nBcc: secret@y.example,\r\n more@y.example\r\nTo: x@y.example, \"X, Y\" <x2@y.example>\r\n"
				      "bcc:\r\nReturn-Path: <forged@z.example>\r\nCc: (nobody)\r\nSubject: s\r\n\r\nBcc: body\r\n..dot\r\n.not doubled\r\n...\r\n.\r\nNOOP\r\n"),
			    "+OK Message sent successfully\r\n+OK still here\r\n");
	assert_true(slice_starts_nocase(buf_slice(&fake.relayed), slice_str("ann@demo.example\nsecret@y.example\nmore@y.example\nx@y.example\nx2@y.example\n\n")));
	assert_string_equal(relayed_message(), "From: Ann <ann@demo.example>\r\nTo: x@y.example, \"X, Y\" <x2@y.example>\r\nCc: (nobody)\r\nSubject: s\r\n\r\nBcc: body\r\n.dot\r\n.not doubled\r\n..\r\n");
	/* Sender is the envelope's; 8 bits are told; no body at all */
	assert_string_equal(send_mail("From: ann@demo.example, Ann+x@Demo.example\r\nSender: ann+y@demo.example\r\nTo: G: x@y.example;\r\nSubject: \xc3\xb6\r\n.\r\n"), "+OK Message sent successfully\r\n");
	assert_true(slice_starts_nocase(buf_slice(&fake.relayed), slice_str("ann+y@demo.example 8\nx@y.example\n\n")));
	/* cut anywhere */
	for (size_t piece = 1; piece < 30; piece++) {
		fake.relays = 0;
		pop3_settings.xmit.rcpts_per_hour_max = 100;
		dialogue(slice_str(LOGIN "XTND XMIT\r\n" MAIL "NOOP\r\nXTND XMIT x\r\n"), piece);
		assert_true(buf_put(&fake.out, "", 1));
		assert_non_null(strstr(fake.out.ptr, "sending message.\r\n+OK Message sent successfully\r\n+OK still here\r\n-ERR Too many arguments for the xtnd xmit command.\r\n"));
		assert_string_equal(relayed_message(), "From: Ann <ann@demo.example>\r\nTo: x@y.example\r\n\r\ntext\r\n");
		assert_int_equal(fake.relays, 1);
	}
}

static void xmit_refuses_at_the_first_step(void **state)
{
	(void)state;
	fake.err_relay_check = ERR_TEMP;
	assert_non_null(strstr(answer(LOGIN "XTND XMIT\r\nNOOP\r\n"), "-ERR [SYS/TEMP] mail cannot be sent now, please wait and try again\r\n+OK still"));
	fake.err_relay_check = OK;
	pop3_settings.xmit.relay.address.len = 0;
	assert_non_null(strstr(answer(LOGIN "XTND XMIT\r\nNOOP\r\n"), "-ERR [SYS/PERM] this server has nowhere to send mail to\r\n+OK still"));
}

/* Every refusal, in step: the NOOP behind the message is answered. */
static void xmit_refusals(void **state)
{
	(void)state;
	static const struct { const char *mail, *answer; } table[] = {
		{ ".\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "no field\r\n.\r\n", "-ERR [SYS/PERM] not sent: the header is none\r\n" },
		{ " From: ann@demo.example\r\nTo: x@y\r\n.\r\n", "-ERR [SYS/PERM] not sent: the header is none\r\n" },
		{ "Fr om: ann@demo.example\r\nTo: x@y\r\n.\r\n", "-ERR [SYS/PERM] not sent: the header is none\r\n" },
		{ "To: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "From: bob@demo.example\r\nTo: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "From: ann@demo.example\r\nSender: bob@demo.example\r\nTo: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "From: ann@demo.example, who@else.example\r\nTo: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "From: ann@demo.example <bob@demo.example>\r\nTo: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: the sender's address is not yours\r\n" },
		{ "From: <>\r\nTo: x@y\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: an address in the header is none\r\n" },
		{ "From: ann@demo.example\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: no recipient in To, Cc or Bcc\r\n" },
		{ "From: ann@demo.example\r\nTo: undisclosed-recipients:;\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: no recipient in To, Cc or Bcc\r\n" },
		{ "From: ann@demo.example\r\nTo: nobody\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: an address in the header is none\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\nResent-To: c@d.example\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: resent mail (Resent-To) is not taken\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example,c@d.example,e@f.example,g@h.example\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: more than 3 recipients\r\n" },
		{ "From: ann@demo.example\nTo: a@b.example\r\n\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\n\r\nx\n.\nDELE 1\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\n\r\nx\n.\r\nDELE 1\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\n\r\nx\r\n.\nDELE 1\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\n\r\nx\r\n.\rDELE 1\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
		{ "From: ann@demo.example\r\nTo: a@b.example\r\n\r\nx\r.\r\nDELE 1\r\n.\r\n", "-ERR [SYS/PERM] not sent: NUL, or CR and LF apart, in the message\r\n" },
	};
	three_messages();
	pop3_settings.xmit.rcpts_max = 3;
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char mail[1024];
		snprintf(mail, sizeof mail, "%sNOOP\r\n", table[i].mail);
		const char *got = send_mail(mail);
		if (strncmp(got, table[i].answer, strlen(table[i].answer)) || strcmp(got + strlen(table[i].answer), "+OK still here\r\n"))
			fail_msg("%s -> %s", table[i].mail, got);
		assert_int_equal(fake.relays, 0);
	}
	/* size, and a NUL */
	pop3_settings.xmit.message_bytes_max = 55;
	assert_string_equal(send_mail(MAIL), "+OK Message sent successfully\r\n");
	assert_string_equal(send_mail("x" MAIL "NOOP\r\n"), "-ERR [SYS/PERM] not sent: larger than 55 octets\r\n+OK still here\r\n");
	static const char nul[] = LOGIN "XTND XMIT\r\nFrom: ann@demo.example\r\n\r\n\0\r\n.\r\nNOOP\r\n";
	dialogue(slice_of(nul, sizeof nul - 1), 7);
	assert_true(buf_put(&fake.out, "", 1));
	assert_non_null(strstr(fake.out.ptr, "-ERR [SYS/PERM] not sent: NUL"));
	/* gone in the midst: nothing is sent */
	fake.relays = 0;
	answer(LOGIN "XTND XMIT\r\nFrom: ann@demo.example\r\nTo: x@y.example\r\n\r\ntext\r\n.");
	assert_int_equal(fake.relays, 0);
}

static void xmit_and_the_relay(void **state)
{
	(void)state;
	static const struct { enum err err; size_t taken; const char *words; } table[] = {
		{ ERR_DENIED, 0, "-ERR [SYS/PERM] not sent: the message or a recipient was refused\r\n" },
		{ ERR_TEMP, 0, "-ERR [SYS/TEMP] not sent for now, please wait and try again\r\n" },
		{ ERR_BUSY, 0, "-ERR [SYS/TEMP] not sent for now, please wait and try again\r\n" },
		{ ERR_SYNTAX, 0, "-ERR [SYS/PERM] not sent: the relay takes no 8-bit mail\r\n" },
		{ ERR_LIMIT, 0, "-ERR [SYS/PERM] not sent: larger than 10485760 octets\r\n" },
		{ ERR_DENIED, 1, "-ERR [SYS/PERM] sent to 1 of 2 recipients only, the others were refused\r\n" },
		{ ERR_TEMP, 1, "-ERR [SYS/TEMP] sent to 1 of 2 recipients only, please wait and try the others again\r\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		fake.err_relay = table[i].err;
		fake.relay_taken = table[i].taken;
		assert_string_equal(send_mail("From: ann@demo.example\r\nTo: x@y.example, z@y.example\r\n\r\n.\r\n"), table[i].words);
	}
	fake.err_rcpt = ERR_TEMP;
	assert_string_equal(send_mail(MAIL), "-ERR [SYS/TEMP] mail cannot be sent now, please wait and try again\r\n");
}

static void xmit_rate(void **state)
{
	(void)state;
	static const char two[] = "From: ann@demo.example\r\nTo: x@y.example, z@y.example\r\n\r\n.\r\n";
	pop3_settings.xmit.rcpts_per_hour_max = 5;
	fake.err_relay = ERR_TEMP; /* what did not leave does not count */
	for (int i = 0; i < 5; i++)
		assert_non_null(strstr(send_mail(two), "not sent for now"));
	fake.err_relay = OK;
	assert_string_equal(send_mail(two), "+OK Message sent successfully\r\n");
	assert_string_equal(send_mail(two), "+OK Message sent successfully\r\n");
	assert_string_equal(send_mail(two), "-ERR [SYS/TEMP] more than 5 recipients within an hour, please wait and try again\r\n");
	assert_string_equal(send_mail(MAIL), "+OK Message sent successfully\r\n");
	assert_non_null(strstr(send_mail(MAIL), "-ERR [SYS/TEMP] more than 5 recipients within an hour")); /* at the first step */
	assert_null(strstr(fake.out.ptr, "Start sending"));
	fake.now_ms += 3600000;
	assert_string_equal(send_mail(two), "+OK Message sent successfully\r\n");
}

static void lists_of_addresses(void **state)
{
	(void)state;
	static const struct { const char *to, *rcpts; } table[] = {
		{ "a@b.example", "a@b.example" },
		{ "  a@b.example  ", "a@b.example" },
		{ "<a@b.example>", "a@b.example" },
		{ "A B <a@b.example>", "a@b.example" },
		{ "A. B (x) <a@b.example> (y)", "a@b.example" },
		{ "\"A, B\" <a@b.example>, c@d.example", "a@b.example c@d.example" },
		{ "\"A \\\" <x@y>\" <a@b.example>", "a@b.example" },
		{ "a@b.example,,c@d.example,", "a@b.example c@d.example" },
		{ "a@b.example\r\n , c@d.example", "a@b.example c@d.example" },
		{ "a . b @ c . example", "a.b@c.example" },
		{ "a(c(c)c\\))@b(x).example", "a@b.example" },
		{ "G: a@b.example, C <c@d.example>;, e@f.example", "a@b.example c@d.example e@f.example" },
		{ "undisclosed-recipients:;", "" },
		{ "<@r.example,@s.example:a@b.example>", "a@b.example" },
		{ "\"a b\"@c.example", "\"a b\"@c.example" },
		{ "\"a@b\"@c.example", "\"a@b\"@c.example" },
		{ "a@[192.0.2.1]", "a@[192.0.2.1]" },
		{ "a@b.example, a@b.example", "a@b.example" },
		{ "=?utf-8?q?=C3=B6?= <a@b.example>", "a@b.example" },
		{ "\xc3\xb6 <a@b.example>", "a@b.example" },
		{ "", "" }, { "(nobody)", "" },
		/* not understood, so not sent */
		{ "a", "!" }, { "a@", "!" }, { "@b", "!" }, { "a b@c.example", "!" }, { "a@b.example c@d.example", "!" }, { "<a@b.example", "!" },
		{ "<a@b.example> c", "!" }, { "<a@b.example><c@d.example>", "!" }, { "<>", "!" }, { "a@b..c", "!" }, { "a@.b", "!" }, { "a@b.", "!" },
		{ "\"a@b.example", "!" }, { "(a@b.example", "!" }, { "a@[b", "!" }, { "a@b>c", "!" }, { "\"x\">\"y\"@b", "!" }, { "\xc3\xb6@b.example", "!" },
		{ "a@b\xc3\xb6.example", "!" }, { "a\x01@b.example", "!" }, { "\"a\r\n b\"@c.example", "!" }, { "\"\\\"@b.example", "!" }, { "a@b@c d", "!" },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct arena arena;
		struct pop3_mail mail;
		char message[1024], got[1024] = "";
		size_t len = 0;
		arena_init(&arena, KIB(64));
		snprintf(message, sizeof message, "To: %s\r\nFrom: ann@demo.example\r\n\r\n", table[i].to);
		enum pop3_word w = pop3_mail_read(&arena, slice_str(message), 10, &mail);
		for (size_t k = 0; k < mail.rcpts_count && w == POP3_W_NOOP; k++)
			len += (size_t)snprintf(got + len, sizeof got - len, "%s%.*s", k ? " " : "", SLICE_ARG(mail.rcpts[k]));
		if (w == POP3_W_XMIT_ADDRESS)
			strcpy(got, "!");
		else if (w != POP3_W_NOOP)
			assert_int_equal(w, POP3_W_XMIT_NOBODY);
		if (strcmp(got, table[i].rcpts))
			fail_msg("%s -> %s", table[i].to, got);
		arena_release(&arena);
	}
}

/* Cut anywhere, the answers are the same bytes. */
static void any_cut(void **state)
{
	(void)state;
	static const char in[] = "CAPA\r\nAUTH LOGIN\r\n*\r\nXX\r\nUSER ann@demo.example\r\nPASS wrong\r\n" LOGIN
				 "STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 3 1\r\nLANG de\r\nRETR 9\r\nDELE 1\r\nRSET\r\nLIST 1\r\nNOOP\nQUIT\r\n";
	three_messages();
	dialogue(slice_str(in), sizeof in);
	char *whole = slice_dup(buf_slice(&fake.out));
	size_t whole_len = fake.out.len;
	for (size_t piece = 1; piece < 40; piece++) {
		dialogue(slice_str(in), piece);
		assert_int_equal(fake.out.len, whole_len);
		assert_memory_equal(fake.out.ptr, whole, whole_len);
	}
	free(whole);
}

/* With output that is full after every few bytes, the same. */
static void any_room(void **state)
{
	(void)state;
	static const char in[] = LOGIN "LIST\r\nUIDL\r\nRETR 1\r\nTOP 1 3\r\nRETR 3\r\nQUIT\r\n";
	three_messages();
	for (int i = 0; i < 40; i++)
		fake_put(1, "", SLICE_LIT("a: b\r\n\r\n.\r\n.\r\n.\r\nx\r\n.\r\n"));
	for (int how = 0; how < 4; how++) {
		fake.dots_unknown = how & 1;
		fake.in_memory = how & 2;
		fake.full_bytes = 0;
		dialogue(slice_str(in), sizeof in);
		char *whole = slice_dup(buf_slice(&fake.out));
		for (size_t full = 1; full < 300; full += 7) {
			fake.full_bytes = full;
			dialogue(slice_str(in), sizeof in);
			assert_int_equal(fake.out.len, strlen(whole));
			assert_memory_equal(fake.out.ptr, whole, fake.out.len);
		}
		free(whole);
	}
}

/* Numbers are counted up as text, over every carry. */
static void numbers_in_listings(void **state)
{
	(void)state;
	for (int i = 0; i < FAKE_MESSAGES; i++)
		fake_put(2, "", SLICE_LIT("x\r\n"));
	fake.many = 12345;
	answer("USER bob@demo.example\r\nPASS  two words \r\nDELE 9\r\nDELE 1000\r\nLIST\r\nLIST 9999\r\n");
	const char *at = strstr(fake.out.ptr, "12343 messages");
	assert_non_null(at);
	for (int i = 1; i <= 12345; i++) {
		char want[32];
		snprintf(want, sizeof want, "\r\n%d 3\r\n", i);
		if (i == 9 || i == 1000)
			continue;
		at = strstr(at, want);
		if (!at)
			fail_msg("line %d", i);
	}
	assert_true(strncmp(strstr(at, "\r\n12345 3\r\n"), "\r\n12345 3\r\n.\r\n+OK 9999 3\r\n", 28) == 0);
}

/* ---- faults ---- */

/* RFC 2449 section 6.7. */
static void retention(void **state)
{
	(void)state;
	three_messages();
	fake.expire_days = 0;
	assert_non_null(strstr(answer(LOGIN "CAPA\r\nRETR 2\r\nTOP 3 0\r\nRSET\r\nQUIT\r\n"), "EXPIRE 0\r\n"));
	assert_int_equal(fake.account[1].count, 2); /* TOP is no download, RSET no way to leave it */
	/* deleted by both: once */
	assert_non_null(strstr(answer(LOGIN "RETR 1\r\nDELE 1\r\nQUIT\r\n"), "bye"));
	assert_int_equal(fake.account[1].count, 1);
	/* no QUIT, no update */
	(void)answer(LOGIN "RETR 1\r\n");
	assert_int_equal(fake.account[1].count, 1);
	/* a message that could not be sent was not downloaded */
	fake.err_message = ERR_CORRUPT;
	(void)answer(LOGIN "RETR 1\r\nQUIT\r\n");
	fake.err_message = OK;
	assert_int_equal(fake.account[1].count, 1);
	assert_int_equal(fake.expire_before_s, 0); /* not an affair of days */
	/* days: at the login, before anything is shown */
	three_messages();
	fake.expire_days = 30;
	fake.expire_first = true;
	const char *out = answer(LOGIN "STAT\r\nCAPA\r\nRETR 1\r\nQUIT\r\n");
	assert_non_null(strstr(out, "+OK 2 "));
	assert_non_null(strstr(out, "EXPIRE 30\r\n"));
	assert_int_equal(fake.expire_before_s, 1736847000 - 30 * 86400);
	assert_int_equal(fake.account[1].count, 2);
	fake_check_clean();
	fake.expire_first = false;
	fake.expire_days = -1;
}

/* A tenant's deletion mode: one commit moves what QUIT deletes. */
static void deletes_to_trash(void **state)
{
	(void)state;
	three_messages();
	fake.trash = true;
	assert_non_null(strstr(answer(LOGIN "DELE 1\r\nDELE 3\r\nQUIT\r\n"), "bye"));
	assert_int_equal(fake.trashed, 2);
	assert_int_equal(fake.account[1].count, 1);
	(void)answer(LOGIN "DELE 1\r\nQUIT\r\n");
	assert_int_equal(fake.trashed, 3);
	assert_int_equal(fake.made_trash, 1); /* found the second time */
	three_messages();
	fake.err_expunge = ERR_LIMIT;
	assert_non_null(strstr(answer(LOGIN "DELE 1\r\nQUIT\r\n"), "-ERR"));
	fake.err_expunge = OK;
	assert_int_equal(fake.account[1].count, 3);
	fake.trash = false;
	fake_check_clean();
}

/* A tenant that wants TLS: said at USER, before the password; with AUTH the name comes with the password. */
static void tenant_wants_tls(void **state)
{
	(void)state;
	three_messages();
	fake.wants_tls = true;
	const char *out = answer(LOGIN "STAT\r\n");
	assert_null(strstr(strchr(out, '\n'), "+OK"));
	out = answer("AUTH PLAIN AGJvYgBzZWNyZXQ=\r\n");
	assert_null(strstr(strchr(out, '\n'), "+OK"));
	fake.wants_tls = false;
	assert_non_null(strstr(answer(LOGIN "STAT\r\n"), "+OK 3 "));
}

static void faults_at_login(void **state)
{
	(void)state;
	static const enum err temporary[] = { ERR_BUSY, ERR_TEMP, ERR_TIMEOUT, ERR_IO, ERR_FENCED, ERR_FULL, ERR_AGAIN };
	enum err *const places[] = { &fake.err_auth, &fake.err_lock, &fake.err_open, &fake.err_view };
	for (size_t k = 0; k < ARRAY_LEN(places); k++) {
		for (size_t i = 0; i < ARRAY_LEN(temporary); i++) {
			if (places[k] == &fake.err_lock && temporary[i] == ERR_BUSY)
				continue;
			*places[k] = temporary[i];
			const char *out = answer(LOGIN "STAT\r\n");
			/* fetchmail: neither a wrong password nor a dead server, if it says "wait" */
			assert_non_null(strstr(out, "-ERR [SYS/TEMP] "));
			assert_non_null(strstr(out, "wait"));
			assert_non_null(strstr(out, "-ERR log in first\r\n"));
			fake_check_clean();
		}
		*places[k] = OK;
	}
	fake.err_lock = ERR_BUSY;
	fake.login_delay_s = 300;
	assert_non_null(strstr(answer(LOGIN), "-ERR [LOGIN-DELAY] logins too close together, wait 300 seconds between them\r\n"));
	fake.err_lock = OK;
	assert_non_null(strstr(answer("USER gone@demo.example\r\nPASS x\r\n"), "-ERR [AUTH] this account may not use POP3\r\n"));
}

static void in_use(void **state)
{
	(void)state;
	struct fake_session first;
	fake_open(&first, &pop3_proto);
	fake_feed(&first, SLICE_LIT(LOGIN));
	const char *out = answer(LOGIN "NOOP\r\n" LOGIN);
	assert_non_null(strstr(out, "-ERR [IN-USE] maildrop is locked by another session, please wait and try again\r\n-ERR log in first\r\n+OK now the password\r\n-ERR [IN-USE]"));
	/* its client has gone: the lock passes, and the first session changes nothing any more */
	three_messages();
	fake.peer_gone = true;
	assert_non_null(strstr(answer(LOGIN "QUIT\r\n"), "+OK 3 messages (70 octets)\r\n+OK bye\r\n"));
	assert_true(fake.killed);
	buf_clear(&fake.out);
	fake_feed(&first, SLICE_LIT("QUIT\r\n"));
	assert_true(buf_put(&fake.out, "", 1));
	assert_string_equal(fake.out.ptr, "-ERR [IN-USE] the maildrop has passed to another session, nothing was deleted\r\n");
	fake_close(&first);
}

/* Many nodes: the account is elsewhere, cannot be decided, or the lease runs out under the session. */
static void fleets(void **state)
{
	(void)state;
	three_messages();
	fake.where = WHERE_WAIT;
	assert_non_null(strstr(answer(LOGIN), "-ERR [SYS/TEMP] please wait and try again\r\n"));
	fake.where = WHERE_HERE;
	/* late before the update: nothing is deleted */
	fake.late_after = 3; /* questions: DELE, QUIT, and this one */
	const char *out = answer(LOGIN "DELE 1\r\nQUIT\r\n");
	assert_non_null(strstr(out, "-ERR [SYS/TEMP] "));
	assert_null(strstr(out, "bye"));
	assert_int_equal(fake.account[1].count, 3);
	/* late by its end: it may have been deleted, but nobody says so */
	fake.late = false;
	fake.late_after = 4;
	out = answer(LOGIN "DELE 1\r\nQUIT\r\n");
	assert_non_null(strstr(out, "-ERR [SYS/TEMP] "));
	assert_null(strstr(out, "bye"));
	/* late between two commands: the session says so and ends */
	fake.late = false;
	fake.late_after = 2;
	out = answer(LOGIN "STAT\r\nSTAT\r\nSTAT\r\n");
	assert_non_null(strstr(out, "-ERR [SYS/TEMP] please wait and try again\r\n"));
	assert_null(strstr(strstr(out, "-ERR"), "+OK"));
	/* the store found another owner: Redis is asked before the next one tries */
	fake.late = false;
	three_messages();
	fake.err_expunge = ERR_FENCED;
	assert_non_null(strstr(answer(LOGIN "DELE 1\r\nQUIT\r\n"), "-ERR [SYS/TEMP] "));
	assert_int_equal(fake.fenced, 1);
	fake.err_expunge = OK;
	/* told to go: it ends, and changes nothing more */
	struct fake_session first;
	unsigned before = (unsigned)fake.account[1].count;
	fake_open(&first, &pop3_proto);
	fake_feed(&first, SLICE_LIT(LOGIN "DELE 1\r\n"));
	fake.killed = false;
	fake.lock_end(fake.lock, OWNER_END_LOST);
	assert_true(fake.killed);
	buf_clear(&fake.out);
	fake_feed(&first, SLICE_LIT("QUIT\r\n"));
	assert_true(buf_put(&fake.out, "", 1));
	assert_string_equal(fake.out.ptr, "-ERR [SYS/TEMP] please wait and try again\r\n");
	fake_close(&first);
	assert_int_equal(fake.account[1].count, before);
}

static void faults_at_quit(void **state)
{
	(void)state;
	static const struct { enum err err; const char *words; } table[] = {
		{ ERR_IO, "-ERR [SYS/TEMP]" }, { ERR_FULL, "-ERR [SYS/TEMP]" }, { ERR_FENCED, "-ERR [SYS/TEMP]" },
		{ ERR_TIMEOUT, "-ERR [SYS/TEMP]" }, { ERR_READONLY, "-ERR [SYS/PERM]" },
	};
	three_messages();
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		fake.err_expunge = table[i].err;
		const char *out = answer(LOGIN "DELE 1\r\nQUIT\r\n");
		assert_non_null(strstr(out, table[i].words));
		assert_null(strstr(out, "+OK bye"));
		assert_int_equal(fake.account[1].count, 3);
		fake_check_clean();
	}
	/* nothing marked, nothing to fail */
	assert_non_null(strstr(answer(LOGIN "QUIT\r\n"), "+OK bye\r\n"));
}

static void faults_at_retr(void **state)
{
	(void)state;
	three_messages();
	fake.err_message = ERR_CORRUPT;
	assert_non_null(strstr(answer(LOGIN "RETR 1\r\nTOP 1 1\r\nNOOP\r\n"), "-ERR [SYS/PERM] this message is damaged\r\n-ERR [SYS/PERM] this message is damaged\r\n+OK still"));
	fake.err_message = ERR_IO;
	assert_non_null(strstr(answer(LOGIN "RETR 1\r\n"), "-ERR [SYS/TEMP] "));
	fake.err_message = OK;
	/* half a message is out: no closing dot, no further command */
	fake.read_short = true;
	const char *out = answer(LOGIN "TOP 3 1\r\nNOOP\r\n");
	assert_null(strstr(out, "\r\n.\r\n"));
	assert_null(strstr(out, "still here"));
}

/* ---- every verb with what nobody should send ---- */

static void hostile_arguments(void **state)
{
	(void)state;
	static const char *const verbs[] = { "USER", "PASS", "APOP", "AUTH", "AUTH PLAIN", "AUTH LOGIN", "CAPA", "STAT", "LIST", "UIDL", "RETR", "TOP", "TOP 1", "DELE",
					     "NOOP", "RSET", "UTF8", "LANG", "STLS", "LAST", "XTND", "QUIT" };
	char big255[256], big1500[1501];
	static char big16384[16385]; /* longer than a line of AUTH, too */
	memset(big255, 'x', 255);
	memset(big1500, '9', 1500);
	memset(big16384, 'y', 16384);
	big255[255] = big1500[1500] = big16384[16384] = '\0';
	const struct slice arguments[] = {
		SLICE_LIT(""), SLICE_LIT(" "), slice_str(big255), slice_str(big1500), slice_str(big16384), SLICE_LIT("-1"), SLICE_LIT("0"), SLICE_LIT("+1"),
		SLICE_LIT("2147483648"), SLICE_LIT("4294967296"), SLICE_LIT("4294967297"), SLICE_LIT("9223372036854775808"), SLICE_LIT("18446744073709551616"),
		SLICE_LIT("%n%s%n%s"), SLICE_LIT("\xff\xfe\xc3\x28"), SLICE_LIT("a\0b"), SLICE_LIT("\r"), SLICE_LIT("1\x1b[2J"), SLICE_LIT("1 1 1"),
	};
	fake.apop = true;
	three_messages();
	for (size_t v = 0; v < ARRAY_LEN(verbs); v++) {
		for (size_t a = 0; a < ARRAY_LEN(arguments); a++) {
			for (int after = 0; after < 2; after++) {
				struct fake_session f;
				fake_open(&f, &pop3_proto);
				if (after)
					fake_feed(&f, SLICE_LIT(LOGIN));
				buf_clear(&fake.out);
				fake_feed(&f, slice_str(verbs[v]));
				fake_feed(&f, SLICE_LIT(" "));
				fake_feed(&f, arguments[a]);
				fake_feed(&f, SLICE_LIT("\r\n"));
				/* one status line, or a challenge; "+" only where something was done */
				assert_true(fake.out.len >= 4 && (!memcmp(fake.out.ptr, "+OK ", 4) || !memcmp(fake.out.ptr, "-ERR", 4) || !memcmp(fake.out.ptr, "+ ", 2)));
				if (arguments[a].len > 2048)
					assert_memory_equal(fake.out.ptr, "-ERR line too long", 18);
				/* and the session is still in step */
				if (f.next == STEP_NEXT && fake.out.ptr[1] != ' ') {
					buf_clear(&fake.out);
					fake_feed(&f, SLICE_LIT("CAPA\r\n"));
					assert_memory_equal(fake.out.ptr, "+OK capabilities", 16);
				}
				fake_close(&f);
				fake_check_clean();
			}
		}
	}
	assert_int_equal(fake.account[1].count, 3);
}

/* ---- dots against a naive writer ---- */

static size_t naive(const char *body, size_t len, size_t header, uint64_t lines, char *out)
{
	size_t n = 0;
	bool start = true;
	uint64_t below = 0;
	for (size_t i = 0; i < len; i++) {
		if (i >= header && below >= lines)
			break;
		if (start && body[i] == '.')
			out[n++] = '.';
		out[n++] = body[i];
		start = body[i] == '\n';
		if (start && i + 1 > header)
			below++;
	}
	memcpy(out + n, ".\r\n", 3);
	return n + 3;
}

static uint32_t seed;
static uint32_t draw(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % below;
}

static size_t random_message(char *out, size_t max)
{
	static const char *const pieces[] = { ".", "..", "\r\n", "\r\n\r\n", ".\r\n", "x", "From here\r\n", "a longer stretch of words without any dot", "\r\n.\r\n", " ." };
	size_t len = 0, target = draw(3) ? draw(400) : draw((uint32_t)max - 200);
	while (len < target) {
		const char *piece = pieces[draw(ARRAY_LEN(pieces))];
		memcpy(out + len, piece, strlen(piece));
		len += strlen(piece);
		if (draw(40) == 0) {
			size_t run = min_size(draw(20000), max - 200 - len);
			memset(out + len, 'm', run);
			len += run;
		}
	}
	if (len && (len < 2 || memcmp(out + len - 2, "\r\n", 2) != 0)) {
		memcpy(out + len, "\r\n", 2);
		len += 2;
	}
	return len;
}

static void check_against_naive(struct fake_session *f, const char *command, uint64_t lines)
{
	static char want[300000];
	const struct body *b = fake.account[1].messages[0].body;
	size_t want_len = naive(b->bytes, b->len, b->header, lines, want);
	buf_clear(&fake.out);
	fake_feed(f, slice_str(command));
	fake_drain();
	const char *body = memchr(fake.out.ptr, '\n', fake.out.len);
	assert_non_null(body);
	size_t got_len = fake.out.len - (size_t)(body + 1 - fake.out.ptr);
	assert_int_equal(got_len, want_len);
	assert_memory_equal(body + 1, want, want_len);
}

static void dots_as_naive(void **state)
{
	(void)state;
	static char message[120000];
	for (seed = 1; seed < 600000000u; seed += 1000003u) {
		size_t len = random_message(message, sizeof message);
		fake_put(1, "", slice_of(message, len));
		fake.dots_unknown = draw(4) == 0;
		fake.in_memory = draw(2);
		fake.full_bytes = draw(2) ? 0 : 1 + draw(20000);
		struct fake_session f;
		char command[64];
		fake_open(&f, &pop3_proto);
		fake_feed(&f, SLICE_LIT(LOGIN));
		check_against_naive(&f, "RETR 1\r\n", UINT64_MAX);
		uint32_t k = draw(12);
		snprintf(command, sizeof command, "TOP 1 %u\r\n", k);
		check_against_naive(&f, command, k);
		buf_clear(&fake.out);
		fake_feed(&f, SLICE_LIT("DELE 1\r\nQUIT\r\n"));
		fake_close(&f);
		assert_int_equal(fake.account[1].count, 0);
	}
}

/* ---- small parts ---- */

static void parse(void **state)
{
	(void)state;
	struct pop3_line l;
	assert_int_equal(pop3_parse(SLICE_LIT("top 1 2 "), &l), OK);
	assert_int_equal(l.verb, POP3_VERB('T', 'O', 'P', 0));
	assert_true(slice_eq(l.rest, SLICE_LIT("1 2 ")) && slice_eq(l.words, SLICE_LIT("1 2")) && l.has_argument);
	assert_int_equal(pop3_parse(SLICE_LIT("Utf8"), &l), OK);
	assert_int_equal(l.verb, POP3_VERB('U', 'T', 'F', '8'));
	assert_false(l.has_argument);
	assert_int_equal(pop3_parse(SLICE_LIT("NOOPS"), &l), OK);
	assert_int_equal(l.verb, 0);
	assert_int_equal(pop3_parse(SLICE_LIT(""), &l), OK);
	assert_int_equal(l.verb, 0);
	assert_int_equal(pop3_parse(SLICE_LIT("NOOP\0"), &l), ERR_SYNTAX);
	assert_int_equal(pop3_parse(SLICE_LIT("NOOP\rQUIT"), &l), ERR_SYNTAX);
	uint64_t a, b;
	assert_true(pop3_two_numbers(SLICE_LIT("1  2"), &a, &b) && a == 1 && b == 2);
	assert_false(pop3_two_numbers(SLICE_LIT("1"), &a, &b));
	assert_false(pop3_two_numbers(SLICE_LIT("1 2 3"), &a, &b));
	assert_false(pop3_two_numbers(SLICE_LIT("1 18446744073709551616"), &a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(whole_session, setup, teardown),
		cmocka_unit_test_setup_teardown(no_quit_deletes_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(top, setup, teardown),
		cmocka_unit_test_setup_teardown(retention, setup, teardown),
		cmocka_unit_test_setup_teardown(deletes_to_trash, setup, teardown),
		cmocka_unit_test_setup_teardown(tenant_wants_tls, setup, teardown),
		cmocka_unit_test_setup_teardown(spaces_in_passwords, setup, teardown),
		cmocka_unit_test_setup_teardown(wrong_password_limit, setup, teardown),
		cmocka_unit_test_setup_teardown(sasl, setup, teardown),
		cmocka_unit_test_setup_teardown(sasl_with_challenges, setup, teardown),
		cmocka_unit_test_setup_teardown(sasl_with_tokens, setup, teardown),
		cmocka_unit_test_setup_teardown(sasl_external, setup, teardown),
		cmocka_unit_test_setup_teardown(long_lines_of_an_exchange, setup, teardown),
		cmocka_unit_test_setup_teardown(apop, setup, teardown),
		cmocka_unit_test_setup_teardown(capabilities, setup, teardown),
		cmocka_unit_test_setup_teardown(stls, setup, teardown),
		cmocka_unit_test_setup_teardown(stls_injection, setup, teardown),
		cmocka_unit_test_setup_teardown(logins_in_the_clear, setup, teardown),
		cmocka_unit_test_setup_teardown(languages, setup, teardown),
		cmocka_unit_test_setup_teardown(utf8_mode, setup, teardown),
		cmocka_unit_test_setup_teardown(order_and_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(strangers, setup, teardown),
		cmocka_unit_test_setup_teardown(envelopes, setup, teardown),
		cmocka_unit_test_setup_teardown(lines_of_envelopes_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(envelopes_and_faults, setup, teardown), cmocka_unit_test_setup_teardown(users_of_a_host, setup, teardown),
		cmocka_unit_test_setup_teardown(xtnd_is_off, setup, teardown),
		cmocka_unit_test_setup_teardown(xlst, setup, teardown),
		cmocka_unit_test_setup_teardown(xlst_in_any_room, setup, teardown),
		cmocka_unit_test_setup_teardown(xmit, setup_xmit, teardown),
		cmocka_unit_test_setup_teardown(xmit_refuses_at_the_first_step, setup_xmit, teardown),
		cmocka_unit_test_setup_teardown(xmit_refusals, setup_xmit, teardown),
		cmocka_unit_test_setup_teardown(xmit_and_the_relay, setup_xmit, teardown),
		cmocka_unit_test_setup_teardown(xmit_rate, setup_xmit, teardown),
		cmocka_unit_test(lists_of_addresses),
		cmocka_unit_test_setup_teardown(any_cut, setup, teardown),
		cmocka_unit_test_setup_teardown(any_room, setup, teardown),
		cmocka_unit_test_setup_teardown(numbers_in_listings, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_at_login, setup, teardown),
		cmocka_unit_test_setup_teardown(in_use, setup, teardown),
		cmocka_unit_test_setup_teardown(fleets, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_at_quit, setup, teardown),
		cmocka_unit_test_setup_teardown(faults_at_retr, setup, teardown),
		cmocka_unit_test_setup_teardown(hostile_arguments, setup, teardown),
		cmocka_unit_test_setup_teardown(dots_as_naive, setup, teardown),
		cmocka_unit_test_setup_teardown(a_login_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(a_login_waits_after_its_proof, setup, teardown),
		cmocka_unit_test_setup_teardown(gone_while_a_login_waits, setup, teardown),
		cmocka_unit_test_setup_teardown(limits_say_wait, setup, teardown),
		cmocka_unit_test(parse),
	};
	log_set_level(LOG_ALARM);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
