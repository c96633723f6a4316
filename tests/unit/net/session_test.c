/* SPDX-License-Identifier: Apache-2.0 */
/* session_test.c - the step loop on a real server: lines, bursts, cursors, raw data, moves. */
#include "tests/unit/net/toy.h"
#include "core/base/limits.h"

TOY_DEFINE;

static void one_line_at_a_time(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	for (int i = 0; i < 100; i++) {
		SEND(fd, "say some text\r\n");
		EXPECT(fd, "some text\r\n");
	}
	SEND(fd, "say a\nb\r\nnonsense\r\n");
	EXPECT(fd, "a\nb\r\nwhat?\r\n");
	SEND(fd, "quit\r\n");
	EXPECT(fd, "bye\r\n");
	client_expect_end(fd);
	close(fd);
	EVENTUALLY(TOY_GET(closed) == 1);
	assert_int_equal(TOY_GET(how[END_PROTOCOL]), 1);
	assert_int_equal(toy_stats(t).lines, 103);
	toy_stop(t);
}

#define LONG50 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
/* Everything a session can meet, in one piece. */
static const char script[] =
	"say one\r\nsay two\r\n\r\nsleep 3\r\nsay three\r\n" LONG50 LONG50 LONG50 LONG50 LONG50 "\r\nbig 3\r\n"
	"data 10\r\n0123456789say after data\r\nslowdata 7\r\na\r\n\r\nbcsay after slow data\r\nsleep 1\r\n"
	"move 0\r\nsay\r\nsay \0\377\r\nquit\r\n";
static uint64_t sum_of(struct slice s)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < s.len; i++)
		sum = sum * 31 + (uint8_t)s.ptr[i];
	return sum;
}

static void wanted_answers(struct buf *out)
{
	buf_init(out, MIB(1));
	buf_printf(out, "hello\r\none\r\ntwo\r\nwhat?\r\nslept\r\nthree\r\ntoo long\r\n");
	for (int i = 0; i < 3; i++)
		buf_printf(out, "%d.............................................................\r\n", i);
	buf_printf(out, "end\r\nsum %llu of 10\r\nafter data\r\n", (unsigned long long)sum_of(SLICE_LIT("0123456789")));
	buf_printf(out, "sum %llu of 7\r\nafter slow data\r\nslept\r\nmoved 0 from 0\r\n\r\n",
	           (unsigned long long)sum_of(SLICE_LIT("a\r\n\r\nbc")));
	buf_put(out, "\0\377\r\nbye\r\n", 9);
}

/* The same bytes come back whether the script comes whole, byte by byte, or cut at any place. */
static void cut_anywhere(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	struct slice all = slice_of(script, sizeof(script) - 1);
	struct buf wanted;
	wanted_answers(&wanted);
	for (size_t cut = 0; cut <= all.len + 1; cut += cut < 4 ? 1 : 7) {
		int fd = client_open(t);
		if (cut > all.len) {
			for (size_t i = 0; i < all.len; i++) {
				client_send(fd, slice_of(all.ptr + i, 1));
				usleep(300);
			}
		} else {
			client_send(fd, slice_upto(all, cut));
			usleep(cut % 3 ? 2000 : 0);
			client_send(fd, slice_from(all, cut));
		}
		struct buf got;
		buf_init(&got, MIB(1));
		bool whole = client_read_all(fd, &got);
		if (!whole || !slice_eq(buf_slice(&got), buf_slice(&wanted)))
			fail_msg("cut at %zu: \"%.*s\"", cut, SLICE_ARG(buf_slice(&got)));
		buf_release(&got);
		close(fd);
	}
	buf_release(&wanted);
	toy_stop(t);
}

/* The answers of a burst leave in one segment: the client that waits for the first finds them all. */
static void a_burst_is_answered_at_once(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	for (int round = 0; round < 20; round++) {
		SEND(fd, "say 1\r\nsay 2\r\nsay 3\r\nsay 4\r\nsay 5\r\n");
		char got[64];
		ssize_t n = recv(fd, got, sizeof(got), 0);
		assert_int_equal(n, 15);
	}
	close(fd);
	toy_stop(t);
}

static void expect_big(int fd, uint64_t lines)
{
	char line[64];
	for (uint64_t i = 0; i < lines; i++) {
		memset(line, '.', 62);
		memcpy(line + 62, "\r\n", 2);
		put_u64(line, i);
		client_expect(fd, slice_of(line, 64));
	}
	EXPECT(fd, "end\r\n");
}

/* 6.4 MB through 64 KiB: nothing is lost or repeated, later commands wait their turn. */
static void long_output_by_cursor(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open_small(t, 4096);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "big 100000\r\nsay after\r\nbig 2000\r\nquit\r\n");
	usleep(20000);
	expect_big(fd, 100000);
	EXPECT(fd, "after\r\n");
	expect_big(fd, 2000);
	EXPECT(fd, "bye\r\n");
	client_expect_end(fd);
	close(fd);
	toy_stop(t);
}

/* 100,000 pipelined lines from a client that does not read: it is held back, not buffered, and gets every answer in the end. */
static void many_lines_without_reading(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open_small(t, 4096);
	struct buf all;
	buf_init(&all, MIB(64));
	const char text[] = "say " LONG50 LONG50 "\r\n";
	for (int i = 0; i < 100000; i++)
		buf_put(&all, text, sizeof(text) - 1);
	struct slice left = buf_slice(&all);
	for (int quiet = 0; quiet < 50 && left.len;) {
		ssize_t n = send(fd, left.ptr, left.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			left = slice_from(left, (size_t)n);
		quiet = n > 0 ? 0 : quiet + 1;
		usleep(2000);
	}
	/* (sockets on loopback hold some megabytes) */
	assert_true(left.len > 0);
	uint64_t before = toy_stats(t).lines;
	usleep(50000);
	assert_int_equal(toy_stats(t).lines, before);
	EXPECT(fd, "hello\r\n");
	for (int i = 0; i < 100000; i++) {
		if (left.len) {
			ssize_t n = send(fd, left.ptr, left.len, MSG_DONTWAIT | MSG_NOSIGNAL);
			if (n > 0)
				left = slice_from(left, (size_t)n);
		}
		client_expect(fd, slice_of(text + 4, sizeof(text) - 5));
	}
	close(fd);
	buf_release(&all);
	toy_stop(t);
}

/* Raw data of many sizes, with lines right behind it, the handler waiting meanwhile or not. */
static void raw_data(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	static const size_t sizes[] = { 1, 60, 64, 65, 1000, 4096, 16384, 16385, 65536, 70000, 1000000, 20000000 };
	struct buf b;
	buf_init(&b, MIB(32));
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (int slow = 0; slow < (sizes[i] > 1000000 ? 1 : 2); slow++) {
			buf_clear(&b);
			buf_printf(&b, "%sdata %zu\r\n", slow ? "slow" : "", sizes[i]);
			size_t head = b.len;
			char *p = buf_room(&b, sizes[i]);
			for (size_t k = 0; k < sizes[i]; k++)
				p[k] = (char)(k * 7 + k / 256);
			b.len += sizes[i];
			struct slice body = slice_of(b.ptr + head, sizes[i]);
			char answer[100];
			int n = snprintf(answer, sizeof(answer), "sum %llu of %zu\r\nbehind\r\n", (unsigned long long)sum_of(body), sizes[i]);
			buf_printf(&b, "say behind\r\n");
			client_send(fd, buf_slice(&b));
			client_expect(fd, slice_of(answer, (size_t)n));
		}
	}
	buf_release(&b);
	close(fd);
	toy_stop(t);
}

/* Moves to and fro while everything is pipelined behind: unread input and unsent output travel along. */
static void moves(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(2);
	for (int i = 0; i < 50; i++) {
		int fd = client_open(t);
		EXPECT(fd, "hello\r\n");
		SEND(fd, "move 0\r\n");
		char got[64];
		ssize_t n = recv(fd, got, sizeof(got), 0);
		assert_int_equal(n, 16);
		assert_memory_equal(got, "moved 0 from ", 13);
		SEND(fd, "say before\r\nmove 1\r\nsay between\r\nmove 1\r\nmove 0\r\nmove 1\r\nbig 3000\r\nmove 0\r\nquit\r\n");
		EXPECT(fd, "before\r\nmoved 1 from 0\r\nbetween\r\nmoved 1 from 1\r\nmoved 0 from 1\r\nmoved 1 from 0\r\n");
		expect_big(fd, 3000);
		EXPECT(fd, "moved 0 from 1\r\nbye\r\n");
		client_expect_end(fd);
		close(fd);
	}
	struct net_stats s = toy_stats(t);
	assert_true(s.moved >= 50 * 4 && s.moved <= 50 * 5);
	EVENTUALLY(toy_stats(t).open == 0);
	toy_stop(t);
}

/* A login that moves costs one send: the answers before and after the move come together. */
static void a_move_adds_no_send(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(2);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "move 1\r\n");
	char got[64];
	assert_int_equal(recv(fd, got, 16, MSG_WAITALL), 16);
	SEND(fd, "say x\r\nmove 0\r\nsay y\r\n");
	assert_int_equal(recv(fd, got, sizeof(got), 0), 3 + 16 + 3);
	close(fd);
	toy_stop(t);
}

static void dropped_input_is_not_executed(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	SEND(fd, "say a\r\ndrop\r\nsay never\r\nhalf");
	EXPECT(fd, "hello\r\na\r\ndropped 15\r\n");
	SEND(fd, "say whole\r\n");
	EXPECT(fd, "whole\r\n");
	close(fd);
	toy_stop(t);
}

/* More sessions in handlers than there are stacks: all are served in the end. */
static void more_sessions_than_stacks(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	enum { SESSIONS = FIBERS_PER_SHARD_MAX + 100 };
	int *fd = calloc(SESSIONS, sizeof(int));
	for (int i = 0; i < SESSIONS; i++)
		fd[i] = client_open(t);
	for (int i = 0; i < SESSIONS; i++)
		SEND(fd[i], "sleep 200\r\nsay done\r\n");
	for (int i = 0; i < SESSIONS; i++)
		EXPECT(fd[i], "hello\r\nslept\r\ndone\r\n");
	for (int i = 0; i < SESSIONS; i++)
		close(fd[i]);
	free(fd);
	toy_stop(t);
}

/* A session that waits reads nothing, holds no stack, and sends what it has said. */
static void a_pause_holds_no_stack(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	enum { MANY = FIBERS_PER_SHARD_MAX + 100 };
	static int fds[MANY];
	for (int i = 0; i < MANY; i++) {
		fds[i] = client_open(t);
		EXPECT(fds[i], "hello\r\n");
		SEND(fds[i], "pause 1500\r\nsay after\r\n");
		EXPECT(fds[i], "pausing\r\n");
	}
	int fd = client_open(t); /* served meanwhile */
	EXPECT(fd, "hello\r\n");
	SEND(fd, "say here\r\n");
	EXPECT(fd, "here\r\n");
	close(fd);
	for (int i = 0; i < MANY; i++) {
		EXPECT(fds[i], "paused\r\nafter\r\n");
		close(fds[i]);
	}
	/* a stop does not wait for the end of a pause; a client that goes away is no trouble */
	fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "pause 600000\r\n");
	EXPECT(fd, "pausing\r\n");
	int gone = client_open(t);
	EXPECT(gone, "hello\r\n");
	SEND(gone, "pause 50\r\n");
	client_reset(gone);
	EVENTUALLY(TOY_GET(closed) >= MANY + 2);
	toy_ask_stop();
	t->asked_to_stop = true;
	EXPECT(fd, "stopping\r\n");
	client_expect_end(fd);
	close(fd);
	toy_stop(t);
}

static void endless_line_ends_the_session(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	static char mib[1 << 20];
	memset(mib, 'x', sizeof(mib));
	client_send(fd, slice_of(mib, sizeof(mib) - 10));
	SEND(fd, "\r\nsay fine\r\n");
	EXPECT(fd, "too long\r\nfine\r\n");
	client_send(fd, slice_of(mib, sizeof(mib)));
	SEND(fd, "x");
	EXPECT(fd, "too long\r\n");
	client_expect_end(fd);
	close(fd);
	toy_stop(t);
}

/* A handler of ours that never asks for room loses its session, not the server. */
static void overrun_ends_the_session(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t), other = client_open(t);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "flood 100000\r\n");
	EVENTUALLY(TOY_GET(how[END_IO]) == 1);
	EXPECT(other, "hello\r\n");
	SEND(other, "say here\r\n");
	EXPECT(other, "here\r\n");
	close(fd);
	close(other);
	toy_stop(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_line_at_a_time),        cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(a_burst_is_answered_at_once), cmocka_unit_test(long_output_by_cursor),
		cmocka_unit_test(many_lines_without_reading), cmocka_unit_test(raw_data),
		cmocka_unit_test(moves),                     cmocka_unit_test(a_move_adds_no_send),
		cmocka_unit_test(dropped_input_is_not_executed), cmocka_unit_test(more_sessions_than_stacks),
		cmocka_unit_test(a_pause_holds_no_stack),
		cmocka_unit_test(endless_line_ends_the_session), cmocka_unit_test(overrun_ends_the_session),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
