/* SPDX-License-Identifier: Apache-2.0 */
/* io_send with file ranges: all paths, slow and gone readers, files that turn out shorter, cancels at any moment. */
#include "tests/unit/support/fiber_main.h"

#include "core/run/fiber.h"
#include "core/run/file.h"
#include "core/run/shard_private.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned char byte_at(uint64_t i) { return (unsigned char)(i * 31 + (i >> 8) * 7 + (i >> 20)); }

static int make_file(uint64_t bytes)
{
	char path[256], *block = malloc(MIB(1));
	snprintf(path, sizeof(path), "%s/f", test_folder());
	int fd = file_open(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
	assert_true(fd >= 0);
	for (uint64_t at = 0; at < bytes; at += MIB(1)) {
		size_t n = min_size(MIB(1), bytes - at);
		for (size_t i = 0; i < n; i++)
			block[i] = (char)byte_at(at + i);
		struct iovec v = { block, n };
		assert_int_equal(file_write(fd, &v, 1, at), 0);
	}
	free(block);
	return fd;
}

/* A reader on its own thread: checks that what comes is `head`, then the file's bytes from `offset`, then `tail`. */
struct reader {
	pthread_t thread;
	int fd;
	const char *head, *tail;
	uint64_t offset, bytes, got, wrong;
	unsigned nap_us;
	size_t chunk;
};

static void check(struct reader *r, const char *p, size_t n)
{
	size_t head = strlen(r->head), tail = strlen(r->tail);
	for (size_t i = 0; i < n; i++, r->got++) {
		char want = 0;
		if (r->got < head)
			want = r->head[r->got];
		else if (r->got < head + r->bytes)
			want = (char)byte_at(r->offset + r->got - head);
		else if (r->got < head + r->bytes + tail)
			want = r->tail[r->got - head - r->bytes];
		else
			r->wrong++;
		r->wrong += p[i] != want;
	}
}

static void *read_all(void *arg)
{
	struct reader *r = arg;
	char *buf = malloc(r->chunk);
	for (;;) {
		ssize_t n = read(r->fd, buf, r->chunk);
		if (n <= 0)
			break;
		check(r, buf, (size_t)n);
		if (r->nap_us)
			usleep(r->nap_us);
	}
	free(buf);
	return NULL;
}

static void reader_start(struct reader *r, int fd)
{
	r->fd = fd;
	r->chunk = r->chunk ? r->chunk : KIB(256);
	assert_int_equal(pthread_create(&r->thread, NULL, read_all, r), 0);
}

static void reader_end(struct reader *r)
{
	pthread_join(r->thread, NULL);
	close(r->fd);
}

/* Sends head, a range, tail, and has a thread check it. */
static void round_trip(int file, uint64_t offset, uint64_t bytes, unsigned nap_us, size_t chunk)
{
	int fd[2];
	struct io_op op;
	struct reader r = { .head = "+OK here it comes\r\n", .tail = ".\r\n", .offset = offset, .bytes = bytes, .nap_us = nap_us, .chunk = chunk };
	struct io_piece pieces[3] = { { r.head, strlen(r.head), -1, 0 }, { NULL, bytes, file, offset }, { r.tail, strlen(r.tail), -1, 0 } };
	uint64_t all = pieces[0].len + bytes + pieces[2].len;
	test_tcp_pair(fd);
	reader_start(&r, fd[1]);
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 3);
	assert_int_equal(io_await(&op, 0), all);
	assert_int_equal(op.progress_bytes, all);
	io_close(fd[0]);
	reader_end(&r);
	assert_int_equal(r.got, all);
	assert_int_equal(r.wrong, 0);
}

FIBER_TEST_BOTH(every_size_arrives)
{
	int file = make_file(MIB(5));
	struct shard_stats st;
	const uint64_t sizes[] = { 0, 1, 100, 4096, 20000, SEND_BUFFER_BYTES - 1, SEND_BUFFER_BYTES, SEND_BUFFER_BYTES + 1, SEND_SPLICE_MIN_BYTES - 1,
		                   SEND_SPLICE_MIN_BYTES, SEND_SPLICE_MIN_BYTES + 1, MIB(1) + 3, MIB(4) };
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		round_trip(file, 4097 * (i % 3), sizes[i], 0, 0);
	shard_stats(0, &st);
	assert_true(st.sent_read_bytes > 0 && st.sent_splice_bytes > MIB(4));
	file_close(file);
}

FIBER_TEST_BOTH(pipelined_small_pieces_leave_together)
{
	enum { COUNT = 60 };
	int file = make_file(KIB(600)), fd[2];
	struct io_piece pieces[2 * COUNT];
	struct io_op op;
	char *got = malloc(KIB(700));
	size_t all = 0, have = 0, at = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		pieces[2 * i] = (struct io_piece){ "+OK\r\n", 5, -1, 0 };
		pieces[2 * i + 1] = (struct io_piece){ NULL, 4000 + i, file, i * 4999u };
		all += 5 + 4000 + i;
	}
	test_tcp_pair(fd);
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 2 * COUNT);
	assert_int_equal(io_await(&op, 0), all);
	io_close(fd[0]);
	for (ssize_t n; (n = read(fd[1], got + have, KIB(700) - have)) > 0;)
		have += (size_t)n;
	assert_int_equal(have, all);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_memory_equal(got + at, "+OK\r\n", 5);
		at += 5;
		for (unsigned j = 0; j < 4000 + i; j++)
			assert_int_equal((unsigned char)got[at + j], byte_at(i * 4999u + j));
		at += 4000 + i;
	}
	close(fd[1]);
	free(got);
	file_close(file);
}

static uint64_t status_value(const char *key)
{
	char line[128];
	unsigned long long value = 0;
	FILE *f = fopen("/proc/self/status", "re");
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			sscanf(line + strlen(key), "%llu", &value);
	fclose(f);
	return value;
}

FIBER_TEST_BOTH(a_hundred_megabytes_to_a_slow_reader_in_bounded_memory)
{
	int file = make_file(MIB(100));
	uint64_t before_kib = status_value("VmRSS:");
	round_trip(file, 0, MIB(100), 300, KIB(64));
	uint64_t after_kib = status_value("VmRSS:");
	assert_true(after_kib < before_kib + 16 * 1024);
	assert_true(shard_current->sends.buffers <= 2);
	file_close(file);
}

/* Pages pushed out of memory come back through the ring while the shard goes on. */
FIBER_TEST_BOTH(cold_files_are_read_by_the_ring)
{
	int file = make_file(MIB(8));
	struct shard_stats st;
	assert_int_equal(fsync(file), 0);
	assert_int_equal(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED), 0);
	round_trip(file, 0, MIB(8), 0, 0);
	shard_stats(0, &st);
	assert_true(st.sent_read_bytes >= KIB(64));
	file_close(file);
}

static void shorter(int file, uint64_t really, uint64_t said)
{
	int fd[2];
	struct io_op op;
	struct io_piece pieces[2] = { { "+OK\r\n", 5, -1, 0 }, { NULL, said, file, 0 } };
	struct reader r = { .head = "+OK\r\n", .tail = "", .bytes = really };
	test_tcp_pair(fd);
	reader_start(&r, fd[1]);
	io_await_prepare(&op);
	io_send(&op, fd[0], pieces, 2);
	assert_int_equal(io_await(&op, 0), -EIO);
	io_close(fd[0]);
	reader_end(&r);
	assert_int_equal(r.wrong, 0);
	assert_true(r.got <= 5 + really);
}

FIBER_TEST_BOTH(a_file_shorter_than_said_is_an_error)
{
	int small = make_file(1000), large = make_file(MIB(2));
	shorter(small, 1000, 1001);
	shorter(large, MIB(2), MIB(2) + 1);
	shorter(large, MIB(2), MIB(20));
	assert_int_equal(shard_current->sends.open, 0);
	file_close(small);
	file_close(large);
}

static void send_done(struct io_op *op) { fiber_wake(op->owner); }

FIBER_TEST_BOTH(cancels_at_any_moment_give_everything_back)
{
	int file = make_file(MIB(3));
	for (unsigned i = 0; i < 400; i++) {
		int fd[2];
		struct io_op op;
		struct io_piece pieces[3] = { { "+OK\r\n", 5, -1, 0 }, { NULL, i % 2 ? MIB(3) : KIB(60), file, 0 }, { NULL, KIB(60), file, 0 } };
		test_tcp_pair(fd);
		io_op_init(&op, send_done);
		op.owner = fiber_self();
		io_send(&op, fd[0], pieces, 3);
		for (unsigned turn = 0; turn < i / 2 % 12 && op.pending; turn++)
			fiber_yield();
		if (i % 5 == 0)
			close(fd[1]);
		io_cancel(&op);
		while (op.pending)
			fiber_park();
		assert_true(op.result == -ECANCELED || op.result == -EPIPE || op.result == -ECONNRESET || op.result > (int64_t)KIB(120));
		io_close(fd[0]);
		if (i % 5 != 0)
			close(fd[1]);
	}
	assert_int_equal(shard_current->sends.open, 0);
	assert_true(list_empty(&shard_current->sends.waiting));
	unsigned spare = 0;
	for (char *b = shard_current->sends.buffer_free; b; spare++)
		memcpy(&b, b, sizeof(char *));
	assert_int_equal(spare, shard_current->sends.buffers);
	file_close(file);
}

/* ---- a thousand who do not read ---- */


static unsigned crowd_done;
static void one_done(struct io_op *op)
{
	(void)op;
	crowd_done++;
}

static void thousand_slow_readers(void *arg)
{
	enum { COUNT = 1000 };
	int file = make_file(MIB(8));
	struct io_op *op = calloc(COUNT, sizeof(*op));
	int(*fd)[2] = calloc(COUNT, sizeof(*fd));
	struct io_piece pieces[3] = { { "+OK\r\n", 5, -1, 0 }, { NULL, MIB(8), file, 0 }, { ".\r\n", 3, -1, 0 } };
	uint64_t before_kib = status_value("VmRSS:"), threads = status_value("Threads:");
	(void)arg;
	crowd_done = 0;
	for (unsigned i = 0; i < COUNT; i++) {
		test_tcp_pair(fd[i]);
		int small = 65536;
		setsockopt(fd[i][1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
		setsockopt(fd[i][0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
		io_op_init(&op[i], one_done);
		io_send(&op[i], fd[i][0], pieces, 3);
	}
	fiber_sleep(300);
	assert_int_equal(crowd_done, 0);
	assert_true(status_value("Threads:") <= threads + IO_WORKERS_MAX);
	/* another client is served at once, and nothing of ours is held by those who wait */
	uint64_t began_ns = clock_fresh_ns();
	round_trip(file, 0, KIB(20), 0, 0);
	round_trip(file, 0, MIB(1), 0, 0);
	assert_true(clock_fresh_ns() - began_ns < 1000000000u);
	assert_true(status_value("VmRSS:") < before_kib + 16 * 1024);
	for (unsigned i = 0; i < COUNT; i++) {
		io_shutdown(fd[i][0]);
		io_cancel(&op[i]);
	}
	while (crowd_done < COUNT)
		fiber_sleep(1);
	for (unsigned i = 0; i < COUNT; i++) {
		assert_true(op[i].result < 0);
		io_close(fd[i][0]);
		close(fd[i][1]);
	}
	free(op);
	free(fd);
	file_close(file);
}

static void a_thousand_slow_readers_hold_nothing(void **state)
{
	/* by either path */
	struct shard_options splice = { .splice_min_bytes = 1 }, read = { .splice_min_bytes = UINT64_MAX };
	(void)state;
	assert_int_equal(shard_run_alone_with(&splice, thousand_slow_readers, NULL), OK);
	assert_int_equal(shard_run_alone_with(&read, thousand_slow_readers, NULL), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(every_size_arrives),
		BOTH(pipelined_small_pieces_leave_together),
		BOTH(a_hundred_megabytes_to_a_slow_reader_in_bounded_memory),
		BOTH(cold_files_are_read_by_the_ring),
		BOTH(a_file_shorter_than_said_is_an_error),
		BOTH(cancels_at_any_moment_give_everything_back),
		cmocka_unit_test(a_thousand_slow_readers_hold_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
