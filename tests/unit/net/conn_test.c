/* SPDX-License-Identifier: Apache-2.0 */
/* conn_test.c - the life of a connection: slow readers, resets, half-closed clients, time-outs, stops, refusals, memory. */
#include "tests/unit/net/toy.h"

#include "core/base/limits.h"
#include "core/run/socket.h"
#include "net/net_private.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

TOY_DEFINE;

/* ---- memory ---- */

/* A parked session is its struct: this room's part is half of the 1 KiB that an idle POP3 session may cost. */
static void a_session_is_small(void **state)
{
	(void)state;
	print_message("struct session %zu, connection %zu, together %zu bytes\n", sizeof(struct session), sizeof(struct net_private),
	              sizeof(struct session) + sizeof(struct net_private));
	assert_true(sizeof(struct session) + sizeof(struct net_private) <= 512);
}

/* ---- ends by the client ---- */

/* Ends its sending behind a pipelined session: all replies come, then the end. */
static void half_closed_client_gets_everything(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	SEND(fd, "say a\r\nsleep 20\r\nbig 5000\r\nsay b\r\nhalf a line");
	shutdown(fd, SHUT_WR);
	struct buf got;
	buf_init(&got, MIB(4));
	assert_true(client_read_all(fd, &got));
	assert_int_equal(got.len, strlen("hello\r\na\r\nslept\r\n") + 5000 * 64 + strlen("end\r\nb\r\n"));
	buf_release(&got);
	close(fd);
	EVENTUALLY(TOY_GET(how[END_CLIENT]) == 1);
	toy_stop(t);
}

static void resets(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	static const char *const doing[] = { "", "say a\r\n", "big 1000000\r\n", "half", "data 1000000\r\nxxxx", "slowdata 1000\r\nxxxx",
		                             "sleep 30\r\nsay x\r\nbig 100000\r\n", "move 0\r\nbig 10000\r\n" };
	uint64_t sessions = 0;
	for (int round = 0; round < 10; round++) {
		for (size_t i = 0; i < ARRAY_LEN(doing); i++) {
			int fd = client_open_small(t, 4096);
			client_send(fd, slice_str(doing[i]));
			usleep((useconds_t)round * 500);
			client_reset(fd);
			sessions++;
		}
	}
	EVENTUALLY(TOY_GET(closed) == sessions);
	EVENTUALLY(toy_stats(t).open == 0);
	assert_int_equal(TOY_GET(how[END_CLIENT]), sessions);
	toy_stop(t);
}

/* A handler that waits long learns within about a second that its client was reset. */
static void reset_is_noticed_in_a_handler(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "look 10000\r\n");
	usleep(30000);
	uint64_t began = now_ms();
	client_reset(fd);
	EVENTUALLY(TOY_GET(closed) == 1);
	assert_true(now_ms() - began < 8000); /* its own end would come after 10 s */
	assert_int_equal(TOY_GET(dying), 1);
	toy_stop(t);
}

/* ---- replies that must arrive ---- */

/* A client that goes on sending behind its last command still gets the last reply and a clean end. */
static void last_reply_survives_unread_input(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	struct buf all;
	buf_init(&all, MIB(1));
	buf_printf(&all, "say a\r\nquit\r\n");
	for (int i = 0; i < 5000; i++)
		buf_printf(&all, "say never %d\r\n", i);
	for (int i = 0; i < 50; i++) {
		int fd = client_open(t);
		client_send(fd, buf_slice(&all));
		shutdown(fd, SHUT_WR);
		usleep(500);
		EXPECT(fd, "hello\r\na\r\nbye\r\n");
		client_expect_end(fd);
		close(fd);
	}
	buf_release(&all);
	EVENTUALLY(toy_stats(t).open == 0);
	toy_stop(t);
}

/* ...but one that never stops is not listened to for ever. */
static void lingering_is_bounded(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	uint64_t began = now_ms();
	SEND(fd, "quit\r\nmore\r\n");
	EXPECT(fd, "hello\r\nbye\r\n");
	client_expect_end(fd); /* our side is ended at once */
	EVENTUALLY(toy_stats(t).open == 0);
	assert_in_range(now_ms() - began, NET_LINGER_MS_MAX - 100, NET_LINGER_MS_MAX + 6000);
	close(fd);

	fd = client_open(t);
	SEND(fd, "quit\r\nmore\r\n");
	static char junk[65536];
	uint64_t sent = 0;
	while (sent < MIB(64)) {
		ssize_t n = send(fd, junk, sizeof(junk), MSG_NOSIGNAL);
		if (n < 0)
			break;
		sent += (uint64_t)n;
	}
	assert_true(sent < MIB(64));
	close(fd);
	EVENTUALLY(toy_stats(t).open == 0);
	toy_stop(t);
}

/* ---- files ---- */

static void file_ranges(void **state)
{
	(void)state;
	const size_t bytes = 3000000;
	char path[] = "/tmp/penfold-test-XXXXXX";
	toy_file = mkstemp(path);
	assert_true(toy_file >= 0);
	unlink(path);
	char *content = malloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		content[i] = (char)(i * 11 + i / 1000);
	assert_int_equal(pwrite(toy_file, content, bytes, 0), bytes);
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	/* several messages of all sizes pipelined */
	SEND(fd, "file 0 10\r\nfile 5 20000\r\nfile 1 2999999\r\nfile 100 300000\r\nfile 7 0\r\nsay end\r\n");
	static const size_t ranges[][2] = { { 0, 10 }, { 5, 20000 }, { 1, 2999999 }, { 100, 300000 }, { 7, 0 } };
	for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
		char head[40];
		int n = snprintf(head, sizeof(head), "file %zu\r\n", ranges[i][1]);
		client_expect(fd, slice_of(head, (size_t)n));
		client_expect(fd, slice_of(content + ranges[i][0], ranges[i][1]));
		EXPECT(fd, "\r\n");
	}
	EXPECT(fd, "end\r\n");
	EVENTUALLY(TOY_GET(released) == 5);
	/* a file that is too short: the reply is broken, the session ends, the range is released */
	SEND(fd, "file 2999990 100\r\nsay never\r\n");
	struct buf got;
	buf_init(&got, MIB(1));
	client_read_all(fd, &got);
	assert_true(got.len <= strlen("file 100\r\n") + 10);
	buf_release(&got);
	EVENTUALLY(TOY_GET(how[END_IO]) == 1);
	EVENTUALLY(TOY_GET(released) == 6);
	close(fd);
	/* a reader that goes away in the middle */
	fd = client_open_small(t, 4096);
	SEND(fd, "file 0 3000000\r\nfile 0 3000000\r\n");
	EXPECT(fd, "hello\r\nfile 3000000\r\n");
	client_reset(fd);
	EVENTUALLY(TOY_GET(released) == 8);
	toy_stop(t);
	close(toy_file);
	free(content);
}

/* ---- time ---- */

static void idle_session_is_told_and_ended(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	SEND(fd, "idle 300\r\n");
	EXPECT(fd, "ok\r\n");
	for (int i = 0; i < 5; i++) { /* activity keeps it alive */
		usleep(150000);
		SEND(fd, "say x\r\n");
		EXPECT(fd, "x\r\n");
	}
	uint64_t began = now_ms();
	EXPECT(fd, "timeout\r\n");
	assert_in_range(now_ms() - began, 290, 5000);
	client_expect_end(fd);
	close(fd);
	EVENTUALLY(TOY_GET(how[END_IDLE]) == 1);
	toy_stop(t);
}

/* A client that sends a byte now and then but never a line is as idle as one that says nothing. */
static void line_without_end_is_idle(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(1);
	for (int too_long = 0; too_long < 2; too_long++) {
		int fd = client_open(t);
		EXPECT(fd, "hello\r\n");
		SEND(fd, "idle 400\r\n");
		EXPECT(fd, "ok\r\n");
		char flood[8192];
		memset(flood, 'x', sizeof(flood));
		if (too_long)
			assert_int_equal(send(fd, flood, sizeof(flood), 0), sizeof(flood));
		uint64_t began = now_ms();
		struct pollfd p = { .fd = fd, .events = POLLIN };
		while (poll(&p, 1, 50) == 0 && now_ms() - began < 10000)
			SEND(fd, "x");
		EXPECT(fd, "timeout\r\n");
		assert_in_range(now_ms() - began, 390, 5000);
		close(fd);
	}
	EVENTUALLY(TOY_GET(how[END_IDLE]) == 2);
	toy_stop(t);
}

/* Who takes nothing is dropped; who takes a little now and then is not; both hold a bounded piece of memory. */
static void stalled_reader_is_dropped(void **state)
{
	(void)state;
	struct net_settings settings = { .connections_max = 1000, .stall_ms_max = 500 };
	struct toy_server *t = toy_start_at(1, "127.0.0.1:0", &settings, &toy_proto);
	int still = client_open_small(t, 4096), slow = client_open_small(t, 4096);
	SEND(still, "big 1000000\r\n");
	SEND(slow, "big 1000000\r\n");
	uint64_t began = now_ms();
	char some[65536];
	while (TOY_GET(how[END_STALLED]) == 0 && now_ms() - began < 10000) {
		assert_true(recv(slow, some, sizeof(some), 0) > 0);
		usleep(20000);
	}
	assert_in_range(now_ms() - began, 400, 8000);
	for (int i = 0; i < 50; i++) {
		assert_true(recv(slow, some, sizeof(some), 0) > 0);
		usleep(10000);
	}
	assert_int_equal(TOY_GET(how[END_STALLED]), 1);
	close(still);
	close(slow);
	toy_stop(t);
}

static uint64_t resident_bytes(void)
{
	unsigned long total, resident;
	FILE *f = fopen("/proc/self/statm", "r");
	assert_non_null(f);
	assert_int_equal(fscanf(f, "%lu %lu", &total, &resident), 2);
	fclose(f);
	return resident * 4096ull;
}

/* 1,000 clients that read nothing of a long answer: bounded memory, and others are served at once. */
static void thousand_slow_readers(void **state)
{
	(void)state;
	enum { SLOW = 1000 };
	struct rlimit files = { 4096, 4096 };
	setrlimit(RLIMIT_NOFILE, &files);
	struct toy_server *t = toy_start(1);
	int *fd = calloc(SLOW, sizeof(int));
	uint64_t before = resident_bytes();
	for (int i = 0; i < SLOW; i++) {
		fd[i] = client_open_small(t, 4096);
		SEND(fd[i], "big 1000000\r\n");
	}
	int quick = client_open(t);
	EXPECT(quick, "hello\r\n");
	uint64_t worst = 0;
	for (int round = 0; round < 200; round++) {
		char c;
		for (int i = 0; i < SLOW; i += 50)
			assert_int_equal(recv(fd[(i + round) % SLOW], &c, 1, 0), 1);
		uint64_t began = now_ms();
		SEND(quick, "say quick\r\n");
		EXPECT(quick, "quick\r\n");
		uint64_t took = now_ms() - began;
		worst = took > worst ? took : worst;
	}
	uint64_t held = resident_bytes() - before;
	print_message("1,000 slow readers: %llu KiB each; a quick one waited at most %llu ms\n", (unsigned long long)(held / SLOW / 1024),
	              (unsigned long long)worst);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	assert_true(held < (uint64_t)SLOW * (REPLY_BYTES_MAX + REPLY_SLACK_BYTES));
	assert_true(worst < 2000); /* most of it while the kernel's buffers of all the others fill */
#endif
	for (int i = 0; i < SLOW; i++)
		close(fd[i]);
	close(quick);
	free(fd);
	toy_stop(t);
}

/* ---- the server ends it ---- */

static void stop_tells_and_joins(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(2);
	int parked = client_open(t), busy = client_open(t), half = client_open(t), data = client_open(t), slow = client_open_small(t, 4096);
	SEND(busy, "sleep 200\r\nsay never\r\n");
	SEND(half, "half");
	SEND(data, "data 100\r\nxxx");
	SEND(slow, "big 1000000\r\n");
	EXPECT(parked, "hello\r\n");
	EXPECT(half, "hello\r\n");
	EXPECT(data, "hello\r\n");
	EXPECT(busy, "hello\r\n");
	usleep(50000);
	__atomic_store_n(&t->grace_ms, 600, __ATOMIC_SEQ_CST);
	uint64_t began = now_ms();
	t->asked_to_stop = true;
	toy_ask_stop();
	EXPECT(parked, "stopping\r\n");
	client_expect_end(parked);
	EXPECT(half, "stopping\r\n");
	EXPECT(data, "stopping\r\n");
	EXPECT(busy, "slept\r\nstopping\r\n"); /* its command ends first */
	client_expect_end(busy);
	toy_stop(t); /* the slow reader is cut off after the grace */
	assert_in_range(now_ms() - began, 500, 10000);
	assert_int_equal(toy_counts.closed, 5);
	assert_int_equal(toy_counts.how[END_STOP], 5);
	close(parked);
	close(busy);
	close(half);
	close(data);
	close(slow);
}

/* A second of work ahead, however long the clients take. */
static void keep_spinning(int busy, uint64_t began_ms, uint64_t *spun_ms)
{
	for (; *spun_ms < now_ms() - began_ms + 1000; *spun_ms += 25)
		SEND(busy, "spin 25\r\n");
}

/* Invariant 8: what a lagging shard accepts is served by the other. By the kernel's choice alone about half would stay. */
static void a_lagging_shard_gives_away_what_is_new(void **state)
{
	(void)state;
	enum { CLIENTS = 40 };
	struct toy_server *t = toy_start(2);
	int busy = client_open(t), fd[CLIENTS], elsewhere = 0;
	EXPECT(busy, "hello\r\n");
	SEND(busy, "move 0\r\n");
	uint64_t began = now_ms(), spun_ms = 0;
	keep_spinning(busy, began, &spun_ms);
	usleep(100000);
	for (int i = 0; i < CLIENTS; i++) {
		char answer[4] = { 0 };
		keep_spinning(busy, began, &spun_ms);
		fd[i] = client_open(t);
		EXPECT(fd[i], "hello\r\n");
		SEND(fd[i], "where 0\r\n");
		assert_int_equal(recv(fd[i], answer, 3, MSG_WAITALL), 3);
		elsewhere += answer[0] == '1';
	}
	assert_in_range(elsewhere, CLIENTS * 9 / 10, CLIENTS);
	for (int i = 0; i < CLIENTS; i++)
		close(fd[i]);
	close(busy);
	toy_stop(t);
}

/* Stopping while sessions move to and fro loses none. */
static void stop_while_moving(void **state)
{
	(void)state;
	enum { CLIENTS = 40 };
	for (int round = 0; round < 5; round++) {
		struct toy_server *t = toy_start(2);
		int fd[CLIENTS];
		static char moves[16000];
		size_t len = 0;
		while (len + 20 < sizeof(moves))
			len += (size_t)snprintf(moves + len, sizeof(moves) - len, "move 0\r\nmove 1\r\n");
		for (int i = 0; i < CLIENTS; i++) {
			fd[i] = client_open(t);
			client_send(fd[i], slice_of(moves, len));
		}
		usleep((useconds_t)round * 1000);
		toy_stop(t); /* checks that each was told its end once */
		for (int i = 0; i < CLIENTS; i++)
			close(fd[i]);
	}
}

static struct session *killed;
static enum step note_and_look(struct session *s, struct slice line)
{
	killed = s;
	if (slice_eq(line, SLICE_LIT("kill")))
		session_kill(s, END_CLIENT); /* within its own handler */
	else
		return toy_line(s, line);
	REPLY_LIT(&s->reply, "not sent\r\n");
	return session_dying(s) ? STEP_NEXT : STEP_ABORT;
}
static enum step kill_other(struct session *s, struct slice line)
{
	if (!slice_eq(line, SLICE_LIT("kill other")))
		return note_and_look(s, line);
	session_kill(killed, END_STALLED);
	REPLY_LIT(&s->reply, "killed\r\n");
	return STEP_NEXT;
}

static void kill_in_and_outside_of_handlers(void **state)
{
	(void)state;
	struct proto p = toy_proto;
	p.line = kill_other;
	struct toy_server *t = toy_start_at(1, "127.0.0.1:0", NULL, &p);
	/* itself */
	int fd = client_open(t), other = client_open(t);
	SEND(fd, "kill\r\n");
	EXPECT(other, "hello\r\n");
	EVENTUALLY(TOY_GET(how[END_CLIENT]) == 1);
	close(fd);
	/* a parked one, then one in a handler, then one with output on its way */
	static const char *const doing[] = { "say x\r\n", "look 5000\r\n", "big 1000000\r\n" };
	for (size_t i = 0; i < ARRAY_LEN(doing); i++) {
		fd = client_open_small(t, 4096);
		client_send(fd, slice_str(doing[i]));
		EXPECT(fd, "hello\r\n");
		usleep(50000);
		SEND(other, "kill other\r\n");
		EXPECT(other, "killed\r\n");
		EVENTUALLY(TOY_GET(how[END_STALLED]) == i + 1);
		close(fd);
	}
	assert_int_equal(TOY_GET(dying), 1);
	close(other);
	toy_stop(t);
}

/* ---- accepting ---- */

static void too_many_connections_are_refused(void **state)
{
	(void)state;
	struct net_settings settings = { .connections_max = 3, .stall_ms_max = 60000 };
	struct toy_server *t = toy_start_at(1, "127.0.0.1:0", &settings, &toy_proto);
	int fd[4];
	for (int i = 0; i < 3; i++) {
		fd[i] = client_open(t);
		EXPECT(fd[i], "hello\r\n");
	}
	fd[3] = client_open(t);
	char c;
	assert_true(recv(fd[3], &c, 1, 0) <= 0);
	assert_int_equal(toy_stats(t).refused, 1);
	close(fd[3]);
	close(fd[0]);
	EVENTUALLY(toy_stats(t).open == 2);
	fd[0] = client_open(t);
	EXPECT(fd[0], "hello\r\n");
	for (int i = 0; i < 3; i++)
		close(fd[i]);
	toy_stop(t);
}

/* Without descriptors accepting pauses, and goes on when there are some again; sessions go on meanwhile. */
static void out_of_descriptors(void **state)
{
	(void)state;
	struct rlimit was, few;
	getrlimit(RLIMIT_NOFILE, &was);
	few = was;
	few.rlim_cur = 100;
	setrlimit(RLIMIT_NOFILE, &few); /* before the server begins to accept: the kernel notes it then */
	struct toy_server *t = toy_start(1);
	int first = client_open(t), waiting[3], hoard[100], hoarded = 0;
	EXPECT(first, "hello\r\n");
	for (int i = 0; i < 3; i++) {
		waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		struct timeval limit = { .tv_sec = 10 };
		setsockopt(waiting[i], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	}
	while (hoarded < 100 && (hoard[hoarded] = dup(first)) >= 0)
		hoarded++;
	for (int i = 0; i < 3; i++)
		assert_int_equal(connect(waiting[i], &t->address.u.sa, t->address.len), 0);
	usleep(250000);
	SEND(first, "say still here\r\n");
	EXPECT(first, "still here\r\n");
	assert_true(toy_stats(t).accept_errors >= 1);
	assert_int_equal(toy_stats(t).accepted, 1);
	while (hoarded > 0)
		close(hoard[--hoarded]);
	for (int i = 0; i < 3; i++) {
		EXPECT(waiting[i], "hello\r\n");
		close(waiting[i]);
	}
	close(first);
	toy_stop(t);
	setrlimit(RLIMIT_NOFILE, &was);
}

static void expect_peer(const char *address, int local)
{
	struct toy_server *t = toy_start_at(1, address, NULL, &toy_proto);
	int fd = client_open(t);
	struct addr self = socket_local(fd);
	char text[ADDR_TEXT_BYTES], host[ADDR_TEXT_BYTES], wanted[300];
	addr_format(&self, text);
	addr_format_host(&self, host);
	int n = snprintf(wanted, sizeof(wanted), "hello\r\n%s %s %d\r\n", text, host, local);
	SEND(fd, "peer\r\n");
	client_expect(fd, slice_of(wanted, (size_t)n));
	close(fd);
	toy_stop(t);
}

static void peers_are_named(void **state)
{
	(void)state;
	expect_peer("127.0.0.1:0", 1);
	int fd6 = socket(AF_INET6, SOCK_STREAM, 0);
	struct sockaddr_in6 a = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	if (fd6 >= 0 && bind(fd6, (struct sockaddr *)&a, sizeof(a)) == 0)
		expect_peer("[::1]:0", 1);
	else
		print_message("no IPv6 here: not tried\n");
	close(fd6);
}

/* One unix socket, accepted by all shards; a file that a dead server left is replaced, a live one is not. */
static void unix_socket(void **state)
{
	(void)state;
	char folder[] = "/tmp/penfold-test-XXXXXX", address[100];
	assert_non_null(mkdtemp(folder));
	snprintf(address, sizeof(address), "unix:%s/sock", folder);
	struct addr a;
	assert_int_equal(addr_parse(slice_str(address), &a), OK);
	int left = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(left, &a.u.sa, a.len), 0);
	close(left);
	struct toy_server *t = toy_start_at(2, address, NULL, &toy_proto);
	assert_int_equal(socket_listen(&a, false, 0600), -EADDRINUSE);
	for (int i = 0; i < 20; i++) {
		int fd = client_open(t);
		SEND(fd, "peer\r\nquit\r\n");
		EXPECT(fd, "hello\r\nunix: unix: 1\r\nbye\r\n");
		client_expect_end(fd);
		close(fd);
	}
	toy_stop(t);
	assert_int_equal(access(address + 5, F_OK), -1);
	rmdir(folder);
}

/* A port that somebody has stops the start, although our own sockets share theirs. */
static void taken_port_is_refused(void **state)
{
	(void)state;
	struct toy_server *t = toy_start(2);
	char text[ADDR_TEXT_BYTES];
	addr_format(&t->address, text);
	assert_int_equal(socket_probe(&t->address), -EADDRINUSE);
	toy_stop(t);
	struct listener_config bad[] = { { .proto = &toy_proto, .address = "127.0.0.1:0", .where = "a" },
		                         { .proto = &toy_proto, .address = "192.0.2.1:1", .where = "test:2: listeners[1].address" } };
	assert_int_equal(listeners_bind(bad, 2, 1), ERR_CONFIG);
	struct listener_config worse = { .proto = &toy_proto, .address = "nonsense", .where = "test:3: listeners[0].address" };
	assert_int_equal(listeners_bind(&worse, 1, 1), ERR_CONFIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_session_is_small),
		cmocka_unit_test(half_closed_client_gets_everything),
		cmocka_unit_test(resets),
		cmocka_unit_test(reset_is_noticed_in_a_handler),
		cmocka_unit_test(last_reply_survives_unread_input),
		cmocka_unit_test(lingering_is_bounded),
		cmocka_unit_test(file_ranges),
		cmocka_unit_test(idle_session_is_told_and_ended),
		cmocka_unit_test(line_without_end_is_idle),
		cmocka_unit_test(stalled_reader_is_dropped),
		cmocka_unit_test(thousand_slow_readers),
		cmocka_unit_test(stop_tells_and_joins),
		cmocka_unit_test(a_lagging_shard_gives_away_what_is_new),
		cmocka_unit_test(stop_while_moving),
		cmocka_unit_test(kill_in_and_outside_of_handlers),
		cmocka_unit_test(too_many_connections_are_refused),
		cmocka_unit_test(out_of_descriptors),
		cmocka_unit_test(peers_are_named),
		cmocka_unit_test(unix_socket),
		cmocka_unit_test(taken_port_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
