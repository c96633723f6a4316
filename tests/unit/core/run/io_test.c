/* SPDX-License-Identifier: Apache-2.0 */
/* The socket door: accept, receive, send, connect, cancel, close as a join, deadlines. Sends of files are in send_test.c. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

/* An op whose results are collected. */
struct watch {
	struct io_op op;
	unsigned runs;
	int64_t result;
	char data[256];
	size_t len;
	struct fiber *fiber;
};

static void watch_done(struct io_op *op)
{
	struct watch *w = CONTAINER_OF(op, struct watch, op);
	w->runs++;
	w->result = op->result;
	if (op->kind && op->result > 0 && op->data.ptr && op->data.len <= sizeof(w->data)) {
		memcpy(w->data, op->data.ptr, op->data.len);
		w->len = op->data.len;
	}
	fiber_wake(w->fiber);
}

static void watch_init(struct watch *w)
{
	*w = (struct watch){ .fiber = fiber_self() };
	io_op_init(&w->op, watch_done);
}

static void watch_wait(struct watch *w, unsigned runs)
{
	while (w->runs < runs)
		fiber_park();
}

FIBER_TEST_BOTH(receives_lend_bytes)
{
	int fd[2];
	struct watch w;
	test_tcp_pair(fd);
	watch_init(&w);
	io_recv(&w.op, fd[0]);
	assert_true(w.op.pending);
	assert_int_equal(w.runs, 0);
	assert_int_equal(write(fd[1], "hello", 5), 5);
	watch_wait(&w, 1);
	assert_false(w.op.pending);
	assert_int_equal(w.result, 5);
	assert_memory_equal(w.data, "hello", 5);
	io_recv(&w.op, fd[0]);
	close(fd[1]);
	watch_wait(&w, 2);
	assert_int_equal(w.result, 0); /* the end */
	io_close(fd[0]);
}

FIBER_TEST_BOTH(more_readable_sockets_than_buffers)
{
	enum { COUNT = 3 * IO_RECV_BUFFERS };
	struct watch *w = calloc(COUNT, sizeof(*w));
	int(*fd)[2] = calloc(COUNT, sizeof(*fd));
	for (int i = 0; i < COUNT; i++) {
		test_tcp_pair(fd[i]);
		watch_init(&w[i]);
		io_recv(&w[i].op, fd[i][0]);
	}
	fiber_sleep(1);
	for (int i = 0; i < COUNT; i++)
		assert_int_equal(write(fd[i][1], &i, sizeof(i)), sizeof(i));
	for (int i = 0; i < COUNT; i++) {
		watch_wait(&w[i], 1);
		assert_int_equal(w[i].result, sizeof(i));
		assert_memory_equal(w[i].data, &i, sizeof(i));
		io_close(fd[i][0]);
		close(fd[i][1]);
	}
	free(w);
	free(fd);
}

FIBER_TEST_BOTH(accepts_until_cancelled)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client[3];
	struct watch w;
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	watch_init(&w);
	io_accept(&w.op, listener);
	for (unsigned i = 0; i < 3; i++) {
		struct io_op op;
		client[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		io_await_prepare(&op);
		io_connect(&op, client[i], (struct sockaddr *)&a, len);
		assert_int_equal(io_await(&op, clock_now_ms() + 2000), 0);
		watch_wait(&w, i + 1);
		assert_true(w.result >= 0);
		assert_true(w.op.more && w.op.pending);
		assert_int_equal(fcntl((int)w.result, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
		assert_int_equal(fcntl((int)w.result, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		io_close((int)w.result);
	}
	io_cancel(&w.op);
	watch_wait(&w, 4);
	assert_int_equal(w.result, -ECANCELED);
	assert_false(w.op.more || w.op.pending);
	for (unsigned i = 0; i < 3; i++)
		io_close(client[i]);
	io_close(listener);
}

FIBER_TEST_BOTH(accepting_outlives_a_lack_of_descriptors)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	struct rlimit before, tight;
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct watch w;
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	watch_init(&w);
	io_accept(&w.op, listener);
	int next = dup(0);
	close(next);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	assert_int_equal(connect(client, (struct sockaddr *)&a, len), 0);
	watch_wait(&w, 1);
	assert_int_equal(w.result, -EMFILE);
	assert_true(w.op.more && w.op.pending);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	watch_wait(&w, 2);
	assert_true(w.result >= 0);
	io_close((int)w.result);
	io_cancel(&w.op);
	watch_wait(&w, 3);
	close(client);
	io_close(listener);
}

FIBER_TEST_BOTH(cancel_and_close_are_a_join)
{
	for (int i = 0; i < 50; i++) {
		int fd[2];
		struct watch *r = malloc(sizeof(*r)), *s = malloc(sizeof(*s));
		struct io_piece big = { .ptr = malloc(MIB(32)), .len = MIB(32), .fd = -1 };
		memset((void *)(uintptr_t)big.ptr, 'x', big.len);
		test_tcp_pair(fd);
		watch_init(r);
		watch_init(s);
		io_recv(&r->op, fd[0]);
		io_send(&s->op, fd[0], &big, 1);
		for (int turn = 0; turn < i % 5; turn++)
			fiber_yield();
		io_shutdown(fd[0]);
		io_cancel(&r->op);
		io_cancel(&s->op);
		io_cancel(&s->op); /* harmless */
		watch_wait(r, 1);
		watch_wait(s, 1);
		assert_false(r->op.pending || s->op.pending);
		assert_true(s->result < 0);
		io_close(fd[0]);
		close(fd[1]);
		free((void *)(uintptr_t)big.ptr);
		free(r);
		free(s);
	}
}

FIBER_TEST_BOTH(receives_into_the_callers_memory)
{
	int fd[2];
	struct io_op op;
	char buf[8];
	test_tcp_pair(fd);
	assert_int_equal(write(fd[1], "0123456789", 10), 10);
	io_await_prepare(&op);
	io_recv_into(&op, fd[0], buf, sizeof(buf));
	assert_int_equal(io_await(&op, 0), 8);
	assert_memory_equal(buf, "01234567", 8);
	io_await_prepare(&op);
	io_recv_into(&op, fd[0], buf, sizeof(buf));
	assert_int_equal(io_await(&op, 0), 2);
	io_await_prepare(&op);
	io_recv_into(&op, fd[0], buf, sizeof(buf));
	assert_int_equal(io_await(&op, clock_now_ms() + 10), -ETIME);
	io_close(fd[0]);
	close(fd[1]);
}

FIBER_TEST_BOTH(sends_pieces_in_order)
{
	int fd[2];
	char got[32] = { 0 };
	struct io_op op;
	const struct io_piece pieces[] = { { "", 0, -1, 0 }, { "one ", 4, -1, 0 }, { "two", 3, -1, 0 }, { "", 0, -1, 0 } };
	test_tcp_pair(fd);
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 4);
	assert_int_equal(io_await(&op, 0), 7);
	assert_int_equal(op.progress_bytes, 7);
	assert_int_equal(read(fd[1], got, sizeof(got)), 7);
	assert_string_equal(got, "one two");
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 1); /* nothing at all */
	assert_int_equal(io_await(&op, 0), 0);
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 0);
	assert_int_equal(io_await(&op, 0), 0);
	close(fd[1]);
	io_close(fd[0]);
}

FIBER_TEST_BOTH(sending_to_a_gone_peer_fails_without_a_signal)
{
	int fd[2];
	struct io_op op;
	struct io_piece p = { "x", 1, -1, 0 };
	int64_t r = 0;
	test_tcp_pair(fd);
	close(fd[1]);
	for (int i = 0; i < 10 && r >= 0; i++) {
		io_await_prepare(&op);
		io_send(&op, fd[0], &p, 1);
		r = io_await(&op, 0);
		fiber_sleep(1);
	}
	assert_true(r == -EPIPE || r == -ECONNRESET);
	io_close(fd[0]);
}

FIBER_TEST_BOTH(progress_shows_while_a_send_waits)
{
	int fd[2];
	struct watch w;
	size_t bytes = MIB(64);
	char *text = calloc(1, bytes), *sink = malloc(MIB(1));
	struct io_piece p = { text, bytes, -1, 0 };
	test_tcp_pair(fd);
	watch_init(&w);
	io_send(&w.op, fd[0], &p, 1);
	fiber_sleep(20);
	uint64_t first = w.op.progress_bytes;
	assert_true(w.op.pending && first > 0 && first < bytes);
	assert_int_equal(fcntl(fd[1], F_SETFL, O_NONBLOCK), 0);
	for (int i = 0; i < 100 && w.op.progress_bytes == first; i++) {
		while (read(fd[1], sink, MIB(1)) > 0)
			;
		fiber_sleep(1);
	}
	assert_true(w.op.progress_bytes > first);
	io_cancel(&w.op);
	watch_wait(&w, 1);
	assert_int_equal(w.result, -ECANCELED);
	assert_true(w.op.progress_bytes < bytes);
	io_close(fd[0]);
	close(fd[1]);
	free(text);
	free(sink);
}

FIBER_TEST_BOTH(reads_a_pollable_descriptor)
{
	int e = eventfd(0, EFD_CLOEXEC);
	uint64_t value = 0, three = 3;
	struct io_op op;
	io_await_prepare(&op);
	io_read_fd(&op, e, &value, sizeof(value));
	assert_int_equal(write(e, &three, sizeof(three)), sizeof(three));
	assert_int_equal(io_await(&op, 0), sizeof(value));
	assert_int_equal(value, 3);
	io_close(e);
}

FIBER_TEST_BOTH(a_refused_connect_says_so)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(1) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct io_op op;
	io_await_prepare(&op);
	io_connect(&op, fd, (struct sockaddr *)&a, sizeof(a));
	assert_int_equal(io_await(&op, clock_now_ms() + 2000), -ECONNREFUSED);
	io_close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(receives_lend_bytes),
		BOTH(more_readable_sockets_than_buffers),
		BOTH(accepts_until_cancelled),
		BOTH(accepting_outlives_a_lack_of_descriptors),
		BOTH(cancel_and_close_are_a_join),
		BOTH(receives_into_the_callers_memory),
		BOTH(sends_pieces_in_order),
		BOTH(sending_to_a_gone_peer_fails_without_a_signal),
		BOTH(progress_shows_while_a_send_waits),
		BOTH(reads_a_pollable_descriptor),
		BOTH(a_refused_connect_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
