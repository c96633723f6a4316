/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults_test.c - sessions over a door that misbehaves: short counts, interrupted calls, late and duplicate completions change
 * nothing that a client can see; an operation that fails ends one session and no other.
 */
#include "tests/unit/net/toy.h"

#include "core/base/limits.h"
#include "core/run/shard_private.h"
#include "tests/unit/support/faults.h"

TOY_DEFINE;

static struct toy_server *server;
static bool enough;

static void serve(void *arg)
{
	(void)arg;
	assert_int_equal(listeners_start(), OK);
	__atomic_store_n(&server->up, true, __ATOMIC_SEQ_CST);
	while (!__atomic_load_n(&enough, __ATOMIC_SEQ_CST))
		fiber_sleep(2);
	listeners_stop(1000);
}

static void *faulty_thread(void *arg)
{
	(void)arg;
	struct shard_options o = { .backend = &faults_backend };
	server->result = shard_run_alone_with(&o, serve, NULL);
	return NULL;
}

/* One shard over the faulty door; `faults` is set before, and read and written by that shard alone until faulty_stop. */
static void faulty_start(void)
{
	server = calloc(1, sizeof(*server));
	memset(&toy_counts, 0, sizeof(toy_counts));
	enough = false;
	server->shards = 1;
	struct listener_config lc = { .proto = &toy_proto, .address = "127.0.0.1:0", .where = "test" };
	assert_int_equal(listeners_bind(&lc, 1, 1), OK);
	server->address = listeners_address(0);
	assert_int_equal(pthread_create(&server->thread, NULL, faulty_thread, NULL), 0);
	EVENTUALLY(__atomic_load_n(&server->up, __ATOMIC_SEQ_CST));
}

static void faulty_stop(void)
{
	__atomic_store_n(&enough, true, __ATOMIC_SEQ_CST);
	pthread_join(server->thread, NULL);
	assert_int_equal(server->result, OK);
	listeners_unbind();
	assert_int_equal(toy_counts.opened, toy_counts.closed);
	free(server);
}

static char content[300000];

static void make_file(void)
{
	char path[] = "/tmp/penfold-test-XXXXXX";
	toy_file = mkstemp(path);
	assert_true(toy_file >= 0);
	unlink(path);
	for (size_t i = 0; i < sizeof(content); i++)
		content[i] = (char)(i * 13 + i / 700);
	assert_int_equal(pwrite(toy_file, content, sizeof(content), 0), sizeof(content));
}

/* Lines, long output, files and raw data, all pipelined. */
static void whole_session(void)
{
	int fd = client_open(server);
	struct buf b;
	buf_init(&b, MIB(1));
	buf_printf(&b, "say a\r\nbig 3000\r\nfile 10 20000\r\nsay b\r\nfile 0 300000\r\nslowdata 5000\r\n");
	uint64_t sum = 0;
	for (int i = 0; i < 5000; i++) {
		char c = (char)('a' + i % 26);
		buf_put(&b, &c, 1);
		sum = sum * 31 + (uint8_t)c;
	}
	buf_printf(&b, "quit\r\n");
	client_send(fd, buf_slice(&b));
	buf_release(&b);
	EXPECT(fd, "hello\r\na\r\n");
	for (int i = 0; i < 3000; i++) {
		char line[64];
		memset(line, '.', 62);
		memcpy(line + 62, "\r\n", 2);
		put_u64(line, (uint64_t)i);
		client_expect(fd, slice_of(line, 64));
	}
	EXPECT(fd, "end\r\nfile 20000\r\n");
	client_expect(fd, slice_of(content + 10, 20000));
	EXPECT(fd, "\r\nb\r\nfile 300000\r\n");
	client_expect(fd, slice_of(content, 300000));
	char answer[80];
	int n = snprintf(answer, sizeof(answer), "\r\nsum %llu of 5000\r\nbye\r\n", (unsigned long long)sum);
	client_expect(fd, slice_of(answer, (size_t)n));
	client_expect_end(fd);
	close(fd);
}

static void nuisances_change_nothing(void **state)
{
	(void)state;
	make_file();
	for (unsigned seed = 1; seed <= 6; seed++) {
		faults = (struct faults){ .seed = seed, .short_percent = 40, .retry_percent = 20, .late_percent = seed > 2 ? 30 : 0,
			                  .duplicate_percent = seed > 4 ? 20 : 0, .fail_error = 0 };
		faulty_start();
		for (int i = 0; i < 3; i++)
			whole_session();
		faulty_stop();
		assert_true(faults.shortened && faults.retried);
		assert_int_equal(toy_counts.how[END_PROTOCOL], 3);
		assert_int_equal(toy_counts.released, 6);
	}
	close(toy_file);
}

/* The server may have ended it already. */
static void try_send(int fd, struct slice s) { (void)!send(fd, s.ptr, s.len, MSG_NOSIGNAL); }

/* The n-th receive or send fails, whatever the session is doing then: it ends, the next one is served. */
static void a_failure_ends_one_session(void **state)
{
	(void)state;
	make_file();
	static const struct {
		enum io_kind kind;
		int error;
	} plans[] = { { IO_RECV, -ECONNRESET }, { IO_SEND, -EPIPE }, { IO_SENDMSG, -ENOMEM }, { IO_READ, -EIO } };
	for (size_t p = 0; p < ARRAY_LEN(plans); p++) {
		for (unsigned nth = 0; nth < 3; nth++) {
			faults = (struct faults){ .seed = 1, .fail_kind = plans[p].kind, .fail_after = nth, .fail_error = plans[p].error };
			faulty_start();
			int fd = client_open_small(server, 4096);
			try_send(fd, SLICE_LIT("say a\r\nbig 3000\r\nfile 0 300000\r\nbig 3000\r\n"));
			struct buf got;
			buf_init(&got, MIB(2));
			shutdown(fd, SHUT_WR);
			client_read_all(fd, &got);
			buf_release(&got);
			close(fd);
			fd = client_open(server);
			try_send(fd, SLICE_LIT("say still here\r\nquit\r\n"));
			struct buf second;
			buf_init(&second, MIB(1));
			client_read_all(fd, &second);
			bool served = slice_eq(buf_slice(&second), SLICE_LIT("hello\r\nstill here\r\nbye\r\n"));
			buf_release(&second);
			close(fd);
			faulty_stop();
			/* whichever of the two it hit, it hit one */
			if (faults.fail_error == 0 && !served)
				assert_int_equal(toy_counts.how[END_PROTOCOL], 0);
			else
				assert_true(served);
			assert_int_equal(toy_counts.closed, 2);
		}
	}
	close(toy_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nuisances_change_nothing),
		cmocka_unit_test(a_failure_ends_one_session),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
