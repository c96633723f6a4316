/* SPDX-License-Identifier: Apache-2.0 */
/* The client for a relay against one that follows a script: what it says, what it makes of replies, and that it waits for nobody too long. */
#include "net/relay.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tests/unit/support/fiber_main.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Each step: the line that is expected to begin so ("" the greeting, "." the data and its end, "-" nothing more but QUIT), and what is
 * said to it; NULL: nothing, and the connection is held; "!": it is closed. */
struct script_step {
	const char *expect, *reply;
};

static struct {
	int listener;
	pthread_t thread;
	const struct script_step *steps;
	char heard[KIB(256)];
	size_t heard_len;
	const char *wrong;
	struct addr address;
} server;

/* A line into heard; false at the end. */
static bool hear_line(int fd, size_t *start_out)
{
	*start_out = server.heard_len;
	while (server.heard_len + 1 < sizeof server.heard && read(fd, server.heard + server.heard_len, 1) == 1)
		if (server.heard[server.heard_len++] == '\n')
			return true;
	return false;
}

static bool hear(int fd, const char *expect)
{
	size_t start;
	if (!*expect)
		return true;
	do {
		if (!hear_line(fd, &start))
			return false;
	} while (*expect == '.' && (server.heard_len - start != 3 || memcmp(server.heard + start, ".\r\n", 3)));
	if (strncmp(server.heard + start, expect, strlen(expect)))
		server.wrong = expect;
	return true;
}

static void wait_for_end(int fd)
{
	size_t start;
	while (hear_line(fd, &start))
		;
}

static void *serve(void *arg)
{
	(void)arg;
	int fd = accept(server.listener, NULL, NULL);
	for (const struct script_step *s = server.steps; s->expect; s++) {
		if (!hear(fd, s->expect)) {
			server.wrong = s->expect;
			break;
		}
		if (!s->reply || *s->reply == '!')
			break;
		if (write(fd, s->reply, strlen(s->reply)) < 0)
			break;
	}
	const struct script_step *last = server.steps;
	while (last->expect && last->reply && *last->reply != '!')
		last++;
	if (!last->expect || !last->reply)
		wait_for_end(fd);
	close(fd);
	return NULL;
}

static void begin(const struct script_step *steps)
{
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof in;
	server.steps = steps;
	server.heard_len = 0;
	server.wrong = NULL;
	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(server.listener, (struct sockaddr *)&in, len), 0);
	assert_int_equal(listen(server.listener, 8), 0);
	assert_int_equal(getsockname(server.listener, (struct sockaddr *)&in, &len), 0);
	server.address = addr_from((struct sockaddr *)&in, len);
	assert_int_equal(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

static const char *end(void)
{
	pthread_join(server.thread, NULL);
	close(server.listener);
	if (server.wrong)
		fail_msg("expected \"%s\", heard %.*s", server.wrong, (int)server.heard_len, server.heard);
	server.heard[server.heard_len] = '\0';
	return server.heard;
}

static struct relay relay_of(enum relay_protocol protocol)
{
	return (struct relay){ server.address, protocol, "us.example", 2000, 300, 300 };
}

static const struct slice two[] = { { "x@y.example", 11 }, { "z@y.example", 11 } };
static const struct slice text[] = { { "A: b\r\n", 6 }, { "\r\n.dot\r\nx.\r\n", 12 }, { "..\r", 3 }, { "\n.", 2 }, { "\r\n", 2 } };

static enum err hand_over(enum relay_protocol protocol, bool eight_bit, struct relay_outcome *outcome)
{
	struct relay relay = relay_of(protocol);
	struct relay_mail mail = { SLICE_LIT("me@us.example"), two, 2, text, ARRAY_LEN(text), eight_bit };
	return relay_send(&relay, &mail, outcome);
}

FIBER_TEST(says_what_smtp_wants)
{
	static const struct script_step steps[] = { { "", "220-hello\r\n220 there\r\n" }, { "EHLO us.example\r\n", "250-r\r\n250-SIZE 1000\r\n250-8bitmime\r\n250 X\r\n" },
						    { "MAIL", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "RCPT", "251 ok\r\n" }, { "DATA", "354 go\r\n" },
						    { ".", "250 2.0.0 taken\r\n" }, { NULL, NULL } };
	struct relay_outcome o;
	begin(steps);
	assert_int_equal(hand_over(RELAY_SMTP, true, &o), OK);
	assert_int_equal(o.taken, 2);
	assert_false(o.unsure);
	assert_string_equal(end(), "EHLO us.example\r\nMAIL FROM:<me@us.example> SIZE=25 BODY=8BITMIME\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\n"
				   "A: b\r\n\r\n..dot\r\nx.\r\n...\r\n..\r\n.\r\nQUIT\r\n");
}

FIBER_TEST(lmtp_has_a_verdict_for_each)
{
	static const struct {
		const char *first, *second;
		enum err err;
		size_t taken;
		bool unsure;
	} table[] = {
		{ "250 a\r\n", "250 b\r\n", OK, 2, false },
		{ "250-a\r\n250 a\r\n", "550 b\r\n", ERR_DENIED, 1, false },
		{ "450 a\r\n", "250 b\r\n", ERR_TEMP, 1, false },
		{ "450 a\r\n", "550 b\r\n", ERR_TEMP, 0, false },
		{ "550 a\r\n", "450 b\r\n", ERR_TEMP, 0, false },
		{ "550 a\r\n", "550 b\r\n", ERR_DENIED, 0, false },
		{ "250 a\r\n", "!", ERR_TEMP, 1, true },
		{ "250 a\r\n", "", ERR_TEMP, 1, true }, /* says nothing more */
		{ "354 a\r\n", "", ERR_TEMP, 0, true },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char both[64];
		snprintf(both, sizeof both, "%s%s", table[i].first, table[i].second[0] == '!' ? "" : table[i].second);
		const struct script_step steps[] = { { "", "220 hello\r\n" }, { "LHLO us.example\r\n", "250 r\r\n" }, { "MAIL FROM:<me@us.example>\r\n", "250 ok\r\n" },
						     { "RCPT", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "DATA", "354 go\r\n" }, { ".", both },
						     { table[i].second[0] == '!' ? "" : NULL, "!" } };
		struct relay_outcome o;
		begin(steps);
		enum err e = hand_over(RELAY_LMTP, false, &o);
		end();
		if (e != table[i].err || o.taken != table[i].taken || o.unsure != table[i].unsure)
			fail_msg("%zu: %s, %zu taken, %d", i, err_name(e), o.taken, o.unsure);
	}
}

FIBER_TEST(nothing_is_sent_unless_all_are_taken)
{
	static const struct {
		struct script_step steps[8];
		enum err err;
		bool eight_bit;
		const char *words, *last;
	} table[] = {
		{ { { "", "554 go away\r\n" } }, ERR_TEMP, false, "554 go away", "" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "500 what\r\n" } }, ERR_TEMP, false, "500 what", "LHLO us.example\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" }, { "MAIL", "550 not you\r\n" }, { "QUIT", "221 bye\r\n" } }, ERR_DENIED, false, "550 not you", "QUIT\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" }, { "MAIL", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "RCPT", "550 no \x01\xff such\r\n" }, { "QUIT", "221 bye\r\n" } },
		  ERR_DENIED, false, "550 no ?? such", "QUIT\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" }, { "MAIL", "250 ok\r\n" }, { "RCPT", "451 later\r\n" } }, ERR_TEMP, false, "451 later", "RCPT TO:<x@y.example>\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" }, { "MAIL", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "DATA", "250 what\r\n" } },
		  ERR_TEMP, false, "the relay says what is no answer", "DATA\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" } }, ERR_SYNTAX, true, "the relay does not offer 8BITMIME", "LHLO us.example\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250-r\r\n250 SIZE 24\r\n" } }, ERR_LIMIT, false, "the message is larger than the relay takes", "LHLO us.example\r\n" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "!" } }, ERR_TEMP, false, "the relay closed the connection", "LHLO us.example\r\n" },
		{ { { "", "hello\r\n" } }, ERR_TEMP, false, "the relay says what is no reply", "" },
		{ { { "", "99 hello\r\n" } }, ERR_TEMP, false, "the relay says what is no reply", "" },
		{ { { "", "220 hi\r\n" }, { "LHLO", "250 r\r\n" }, { "MAIL", NULL } }, ERR_TEMP, false, "the relay does not answer", "MAIL FROM:<me@us.example>\r\n" },
	};
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct relay_outcome o;
		begin(table[i].steps);
		enum err e = hand_over(RELAY_LMTP, table[i].eight_bit, &o);
		const char *heard = end();
		if (e != table[i].err || strcmp(o.words, table[i].words) || o.taken || o.unsure)
			fail_msg("%zu: %s, \"%s\"", i, err_name(e), o.words);
		size_t len = strlen(table[i].last), all = strlen(heard);
		if (all < len || strcmp(heard + all - len, table[i].last) || strstr(heard, "A: b"))
			fail_msg("%zu: heard %s", i, heard);
	}
}

FIBER_TEST(a_relay_that_babbles_is_left)
{
	char *line = malloc(RELAY_LINE_BYTES_MAX + 64), *lines = malloc(RELAY_LINES_MAX * 8 + 64);
	memset(line, 'x', RELAY_LINE_BYTES_MAX + 60);
	memcpy(line, "220 ", 4);
	strcpy(line + RELAY_LINE_BYTES_MAX + 30, "\r\n");
	lines[0] = '\0';
	for (unsigned i = 0; i < RELAY_LINES_MAX + 2; i++)
		strcpy(lines + 7 * i, "220-x\r\n");
	const struct script_step endless[] = { { "", line }, { NULL, NULL } }, many[] = { { "", lines }, { NULL, NULL } };
	struct relay_outcome o;
	begin(endless);
	struct relay relay = relay_of(RELAY_SMTP);
	assert_int_equal(relay_check(&relay, &o), ERR_TEMP);
	assert_string_equal(o.words, "the relay says lines without end");
	end();
	begin(many);
	relay = relay_of(RELAY_SMTP);
	assert_int_equal(relay_check(&relay, &o), ERR_TEMP);
	assert_string_equal(o.words, "the relay says what is no reply");
	end();
	free(line);
	free(lines);
}

FIBER_TEST(a_check_says_hello_and_goes)
{
	static const struct script_step steps[] = { { "", "220 hello\r\n" }, { "LHLO", "250 r\r\n" }, { NULL, NULL } };
	struct relay_outcome o;
	begin(steps);
	struct relay relay = relay_of(RELAY_LMTP);
	assert_int_equal(relay_check(&relay, &o), OK);
	assert_string_equal(end(), "LHLO us.example\r\nQUIT\r\n");
	assert_int_equal(relay_check(&relay, &o), ERR_TEMP); /* nobody listens any more */
	assert_string_equal(o.words, "the relay cannot be reached");
}

/* Lines that begin with dots, straddle every buffer, or are longer than one. */
FIBER_TEST(large_messages_arrive_whole)
{
	static const struct script_step steps[] = { { "", "220 hello\r\n" }, { "EHLO", "250 r\r\n" }, { "MAIL", "250 ok\r\n" }, { "RCPT", "250 ok\r\n" }, { "DATA", "354 go\r\n" },
						    { ".", "250 ok\r\n" }, { NULL, NULL } };
	struct buf message;
	buf_init(&message, MIB(1));
	while (message.len < KIB(200)) {
		size_t n = message.len * 7 % 900;
		assert_true(buf_printf(&message, "%.*s%0*d\r\n", n % 3 == 0, ".", (int)n + 1, 7));
	}
	memset(message.ptr, 'L', KIB(100)); /* one line longer than a buffer */
	struct slice piece = slice_from(buf_slice(&message), KIB(10));
	size_t lf = slice_find(piece, '\n');
	struct slice pieces[] = { slice_upto(piece, lf + 1), slice_from(piece, lf + 1) };
	struct relay_outcome o;
	begin(steps);
	struct relay relay = relay_of(RELAY_SMTP);
	relay.answer_ms_max = relay.data_ms_max = 5000;
	struct relay_mail mail = { slice_of(NULL, 0), two, 1, pieces, 2, false };
	assert_int_equal(relay_send(&relay, &mail, &o), OK);
	const char *heard = end(), *data = strstr(heard, "DATA\r\n") + 6;
	const char *at = data, *stop = strstr(heard, "\r\n.\r\nQUIT");
	assert_non_null(stop);
	/* unstuffed, it is what was given */
	size_t i = 0;
	for (bool start = true; at < stop + 2; at++) {
		if (start && *at == '.')
			at++;
		assert_true(i < piece.len && *at == piece.ptr[i]);
		start = piece.ptr[i++] == '\n';
	}
	assert_int_equal(i, piece.len);
	buf_release(&message);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_smtp_wants), cmocka_unit_test(lmtp_has_a_verdict_for_each), cmocka_unit_test(nothing_is_sent_unless_all_are_taken),
		cmocka_unit_test(a_relay_that_babbles_is_left), cmocka_unit_test(a_check_says_hello_and_goes), cmocka_unit_test(large_messages_arrive_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
