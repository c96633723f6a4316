/* SPDX-License-Identifier: Apache-2.0 */
/* What only the epoll back end can get wrong: edges that are told once, numbers that come back, shards that share, lanes of threads. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/epoll_private.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard_private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define WAIT_MS 20000 /* for what must come */

#define EPOLL_TEST(name)                                                                                 \
	static void name##_body(void **state);                                                           \
	static void name(void **state) { fiber_main_on(&io_backend_epoll, name##_body, state); }         \
	static void name##_body(__attribute__((unused)) void **state)

static int64_t receive(int fd, void *to, size_t bytes)
{
	struct io_op op;
	io_await_prepare(&op);
	io_recv_into(&op, fd, to, bytes);
	return io_await(&op, clock_now_ms() + WAIT_MS);
}

struct lent {
	struct io_op op;
	struct fiber *fiber;
	int64_t result;
	size_t bytes;
	bool done;
};

static void lent_done(struct io_op *op)
{
	struct lent *l = CONTAINER_OF(op, struct lent, op);
	l->result = op->result;
	l->bytes = op->data.len;
	l->done = true;
	fiber_wake(l->fiber);
}

static void lent_init(struct lent *l)
{
	*l = (struct lent){ .fiber = fiber_self() };
	io_op_init(&l->op, lent_done);
}

static int64_t lent_wait(struct lent *l)
{
	while (!l->done)
		fiber_park();
	l->done = false;
	return l->result;
}

/* The edge came while a receive was waiting that is then cancelled: the bytes are there for the next. */
EPOLL_TEST(an_edge_is_not_lost_with_a_cancelled_receive)
{
	for (int i = 0; i < 50; i++) {
		int fd[2];
		struct lent l;
		test_tcp_pair(fd);
		lent_init(&l);
		io_recv(&l.op, fd[0]);
		fiber_sleep(1);
		assert_int_equal(write(fd[1], "x", 1), 1);
		for (int turn = 0; turn < i % 4; turn++)
			fiber_yield();
		io_cancel(&l.op);
		if (lent_wait(&l) < 0) {
			io_recv(&l.op, fd[0]);
			assert_int_equal(lent_wait(&l), 1);
		}
		close(fd[1]);
		io_close(fd[0]);
	}
}

/* More than a buffer, then the end, both there before the first receive: each is told without another edge. */
EPOLL_TEST(what_came_before_the_end_and_the_end_are_told)
{
	int fd[2];
	struct lent l;
	char *text = calloc(1, 3 * IO_RECV_BYTES_MAX);
	size_t have = 0;
	test_tcp_pair(fd);
	lent_init(&l);
	io_recv(&l.op, fd[0]); /* registered before anything comes */
	fiber_sleep(1);
	assert_int_equal(write(fd[1], text, 3 * IO_RECV_BYTES_MAX), 3 * IO_RECV_BYTES_MAX);
	close(fd[1]);
	while (lent_wait(&l) > 0) {
		have += l.bytes;
		io_recv(&l.op, fd[0]);
	}
	assert_int_equal(l.result, 0);
	assert_int_equal(have, 3 * IO_RECV_BYTES_MAX);
	io_close(fd[0]);
	free(text);
}

/* A closed descriptor's number is the next one's at once: that one is heard. */
EPOLL_TEST(a_number_that_comes_back_starts_anew)
{
	int first = -1;
	for (int i = 0; i < 20; i++) {
		int fd[2];
		struct lent l;
		test_tcp_pair(fd);
		first = first < 0 ? fd[0] : first;
		assert_int_equal(fd[0], first);
		lent_init(&l);
		io_recv(&l.op, fd[0]);
		fiber_sleep(1);
		assert_int_equal(write(fd[1], "ab", 2), 2);
		assert_int_equal(lent_wait(&l), 2);
		io_close(fd[0]);
		close(fd[1]);
	}
}

/* A full backlog of a unix socket, of which epoll tells nothing: the connect is tried until there is room. */
EPOLL_TEST(a_connect_waits_for_room_in_a_unix_backlog)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	snprintf(a.sun_path, sizeof(a.sun_path), "%s/s", test_folder());
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), client[3], taken;
	struct io_op op[3];
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 0), 0);
	for (int i = 0; i < 3; i++) {
		client[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		io_await_prepare(&op[i]);
		io_connect(&op[i], client[i], (struct sockaddr *)&a, sizeof(a));
	}
	fiber_sleep(20);
	assert_true(op[2].pending);
	for (int i = 0; i < 3; i++) {
		struct pollfd p = { .fd = listener, .events = POLLIN };
		while (poll(&p, 1, 0) == 0)
			fiber_sleep(1);
		taken = accept(listener, NULL, NULL);
		assert_true(taken >= 0);
		close(taken);
	}
	for (int i = 0; i < 3; i++) {
		assert_int_equal(io_await(&op[i], clock_now_ms() + WAIT_MS), 0);
		io_close(client[i]);
	}
	close(listener);
}

/* ---- a connection that moves, and back again ---- */

static int moving[2];

static void receive_there(void *arg)
{
	char c[4];
	assert_int_equal(receive(moving[0], c, sizeof(c)), 1);
	*(char *)arg = c[0];
	if (c[0] % 2) /* a move that forgets to is slower, not deaf */
		io_leave(moving[0]);
}

static void move_about(void *arg)
{
	(void)arg;
	test_tcp_pair(moving);
	for (int round = 0; round < 30; round++) {
		char sent = (char)('a' + round % 26), got = 0;
		if (round % 3) /* before or after somebody waits for it */
			assert_int_equal(write(moving[1], &sent, 1), 1);
		if (round % 3 == 0) {
			struct lent l;
			lent_init(&l);
			io_recv(&l.op, moving[0]); /* waits here, and is called off */
			fiber_sleep(1);
			io_cancel(&l.op);
			(void)lent_wait(&l);
			assert_int_equal(write(moving[1], &sent, 1), 1);
		}
		assert_int_equal(shard_call((unsigned)round % 2, "there", receive_there, &got), OK);
		assert_int_equal(got, sent);
	}
	io_close(moving[0]);
	close(moving[1]);
	shards_stop();
}

static enum err start_moves(void *arg, unsigned index)
{
	(void)arg;
	return index == 0 ? fiber_start("move", move_about, NULL) : OK;
}

static void a_connection_is_heard_wherever_it_goes(void **state)
{
	struct shards_config c = { .count = 2, .offload_threads = 1, .backend = "epoll", .start = start_moves };
	(void)state;
	assert_int_equal(shards_run(&c), OK);
	assert_int_equal(shard_set_backend("auto"), OK);
}

/* ---- two shards on one listener: when one stops accepting, the other hears of every connection ---- */

static int shared_listener;
static struct sockaddr_in shared_address;
static unsigned accepted[2]; /* atomic */
static struct lent accepts[2];

static void accept_came(struct io_op *op)
{
	struct lent *l = CONTAINER_OF(op, struct lent, op);
	if (op->result >= 0) {
		io_close((int)op->result);
		__atomic_add_fetch(&accepted[l - accepts], 1, __ATOMIC_SEQ_CST);
	} else {
		l->done = true;
	}
}

static void stop_accepting(void *arg)
{
	(void)arg;
	io_cancel(&accepts[shard_index()].op);
	while (!accepts[shard_index()].done)
		fiber_sleep(1);
}

static void connect_many(unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct io_op op;
		unsigned before = __atomic_load_n(&accepted[0], __ATOMIC_SEQ_CST) + __atomic_load_n(&accepted[1], __ATOMIC_SEQ_CST);
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		io_await_prepare(&op);
		io_connect(&op, fd, (struct sockaddr *)&shared_address, sizeof(shared_address));
		assert_int_equal(io_await(&op, clock_now_ms() + WAIT_MS), 0);
		uint64_t until_ms = clock_now_ms() + WAIT_MS;
		while (__atomic_load_n(&accepted[0], __ATOMIC_SEQ_CST) + __atomic_load_n(&accepted[1], __ATOMIC_SEQ_CST) == before) {
			assert_true(clock_now_ms() < until_ms);
			fiber_sleep(1);
		}
		io_close(fd);
	}
}

static void share(void *arg)
{
	(void)arg;
	connect_many(20);
	assert_int_equal(shard_call(1, "stop", stop_accepting, NULL), OK);
	connect_many(20);
	stop_accepting(NULL);
	shards_stop();
}

static enum err start_sharing(void *arg, unsigned index)
{
	(void)arg;
	accepts[index] = (struct lent){ .done = false };
	io_op_init(&accepts[index].op, accept_came);
	io_accept(&accepts[index].op, shared_listener);
	return index == 0 ? fiber_start("share", share, NULL) : OK;
}

static void shards_share_a_listener(void **state)
{
	socklen_t len = sizeof(shared_address);
	struct shards_config c = { .count = 2, .offload_threads = 1, .backend = "epoll", .start = start_sharing };
	(void)state;
	shared_address = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	shared_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(shared_listener, (struct sockaddr *)&shared_address, len), 0);
	assert_int_equal(listen(shared_listener, 64), 0);
	assert_int_equal(getsockname(shared_listener, (struct sockaddr *)&shared_address, &len), 0);
	assert_int_equal(shards_run(&c), OK);
	assert_int_equal(shard_set_backend("auto"), OK);
	close(shared_listener);
}

/* ---- the pool: what blocks one lane leaves the other its threads ---- */

static void no_wake(void *owner) { (void)owner; }

static void slow_syncs_hold_no_reads(void **state)
{
	char path[256], byte = 0, kept[64];
	struct file_pool pool;
	unsigned stuck = 0;
	(void)state;
	snprintf(path, sizeof(path), "%s/pipe", test_folder());
	assert_int_equal(mkfifo(path, 0600), 0);
	int full = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), blocking = open(path, O_RDWR | O_CLOEXEC);
	memset(kept, 'x', sizeof(kept));
	while (write(full, kept, sizeof(kept)) > 0)
		;
	file_pool_init(&pool, NULL, no_wake);
	/* durable writes that hang as long as nobody reads the pipe: more than there are threads */
	struct iovec v = { kept, sizeof(kept) };
	for (; stuck < 3 * IO_WORKERS_MAX; stuck++) {
		struct io_request w = { .kind = IO_WRITE, .flags = IO_SYNC_DATA, .fd = blocking, .ptr = &v, .len = 1, .offset = IO_NO_OFFSET };
		(void)file_pool_begin(&pool, &w);
	}
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	struct io_request r = { .kind = IO_READ, .fd = fd, .ptr = &byte, .len = 1 };
	(void)file_pool_begin(&pool, &r);
	struct file_job *done = NULL;
	for (int i = 0; i < WAIT_MS && !done; i++, usleep(1000))
		done = file_pool_take(&pool);
	assert_non_null(done);
	assert_int_equal(done->request.kind, IO_READ);
	assert_int_equal(done->result, 1);
	file_pool_free(&pool, done);
	/* let them go */
	char *sink = malloc(MIB(1));
	unsigned ended = 0;
	for (int i = 0; i < WAIT_MS && ended < stuck; i++, usleep(1000)) {
		(void)!read(full, sink, MIB(1));
		for (struct file_job *j = file_pool_take(&pool), *next; j; j = next, ended++) {
			next = j->next;
			assert_int_equal(j->result, sizeof(kept));
			file_pool_free(&pool, j);
		}
	}
	assert_int_equal(ended, stuck);
	file_pool_release(&pool);
	free(sink);
	close(fd);
	close(full);
	close(blocking);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_edge_is_not_lost_with_a_cancelled_receive),
		cmocka_unit_test(what_came_before_the_end_and_the_end_are_told),
		cmocka_unit_test(a_number_that_comes_back_starts_anew),
		cmocka_unit_test(a_connect_waits_for_room_in_a_unix_backlog),
		cmocka_unit_test(a_connection_is_heard_wherever_it_goes),
		cmocka_unit_test(shards_share_a_listener),
		cmocka_unit_test(slow_syncs_hold_no_reads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
