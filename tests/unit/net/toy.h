/* SPDX-License-Identifier: Apache-2.0 */
/*
 * toy.h - a toy protocol on a real server, for the tests of this room.
 *
 * toy_start() runs shards with one TCP listener on a thread; the test talks to it with plain blocking sockets, like any
 * client, and toy_stop() stops it.  Commands, one a line:
 *
 *     say TEXT        TEXT
 *     big N           N lines of 64 bytes, by a cursor (STEP_RESUME)
 *     flood N         the same, without asking for room
 *     file OFF LEN    a range of the toy's file
 *     sleep MS        waits, then "slept"
 *     look MS         waits until session_dying or MS have passed; counts dying ones
 *     data N          reads N raw bytes, then "sum S of N"; "slowdata N" waits 1 ms for each piece
 *     move K          moves to shard K, then "moved TO from FROM"
 *     drop            forgets unread input: "dropped B"
 *     spin MS         holds the shard, as no command should: "spun"
 *     where 0         the shard it is on
 *     idle MS         session_set_idle
 *     peer            the client's address
 *     tls             "go", STEP_TLS
 *     pause MS        "pausing", STEP_PAUSE for so long, then "paused"
 *     quit            "bye", STEP_CLOSE;  abort: STEP_ABORT
 */
#ifndef PENFOLD_TESTS_UNIT_NET_TOY_H
#define PENFOLD_TESTS_UNIT_NET_TOY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/base/bytes.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/listen.h"
#include "net/session.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TOY_LINE_BYTES_MAX 200

struct toy_session {
	struct session s;
	uint64_t big_at, big_end, data_left, data_all, sum;
	unsigned from;
	bool slow_data, told, pausing;
};

/* What the server saw; atomic. */
struct toy_counts {
	uint64_t opened, closed, how[END_IO + 1], dying, released, alive, moved_wrong;
};
extern struct toy_counts toy_counts;
extern int toy_file;
extern enum listen_tls toy_tls; /* of the next server */
#define TOY_COUNT(field) __atomic_fetch_add(&toy_counts.field, 1, __ATOMIC_SEQ_CST)
#define TOY_GET(field) __atomic_load_n(&toy_counts.field, __ATOMIC_SEQ_CST)

/* ---- the protocol ---- */

static inline struct toy_session *toy(struct session *s) { return CONTAINER_OF(s, struct toy_session, s); }

static inline enum step toy_open(struct session *s)
{
	TOY_COUNT(opened);
	REPLY_LIT(&s->reply, "hello\r\n");
	return STEP_NEXT;
}

static inline void toy_line64(struct session *s, uint64_t i)
{
	char *room = reply_room(&s->reply, 64);
	memset(room, '.', 62);
	memcpy(room + 62, "\r\n", 2);
	put_u64(room, i);
	reply_commit(&s->reply, 64);
}

static inline enum step toy_resume(struct session *s)
{
	struct toy_session *t = toy(s);
	if (t->pausing) {
		t->pausing = false;
		REPLY_LIT(&s->reply, "paused\r\n");
		return STEP_NEXT;
	}
	for (; t->big_at < t->big_end; t->big_at++) {
		if (reply_full(&s->reply))
			return STEP_RESUME;
		toy_line64(s, t->big_at);
	}
	REPLY_LIT(&s->reply, "end\r\n");
	return STEP_NEXT;
}

static inline enum step toy_data(struct session *s, struct slice bytes, size_t *used_out)
{
	struct toy_session *t = toy(s);
	size_t n = min_size(bytes.len, t->data_left);
	if (t->slow_data)
		fiber_sleep(1); /* the bytes must stay where they are meanwhile */
	for (size_t i = 0; i < n; i++)
		t->sum = t->sum * 31 + (uint8_t)bytes.ptr[i];
	*used_out = n;
	t->data_left -= n;
	if (t->data_left)
		return STEP_DATA;
	reply_printf(&s->reply, "sum %llu of %llu\r\n", (unsigned long long)t->sum, (unsigned long long)t->data_all);
	return STEP_NEXT;
}

static inline void toy_released(void *arg)
{
	(void)arg;
	TOY_COUNT(released);
}

static inline enum step toy_look(struct session *s, uint64_t ms)
{
	for (uint64_t i = 0; i < ms / 10 && !session_dying(s); i++)
		fiber_sleep(10);
	if (session_dying(s))
		TOY_COUNT(dying);
	REPLY_LIT(&s->reply, "looked\r\n");
	return STEP_NEXT;
}

static inline enum step toy_numbered(struct session *s, struct slice verb, uint64_t n, uint64_t n2)
{
	struct toy_session *t = toy(s);
	if (slice_eq(verb, SLICE_LIT("big"))) {
		t->big_at = 0;
		t->big_end = n;
		return toy_resume(s);
	}
	if (slice_eq(verb, SLICE_LIT("flood"))) {
		for (uint64_t i = 0; i < n; i++)
			toy_line64(s, i);
	} else if (slice_eq(verb, SLICE_LIT("file"))) {
		reply_printf(&s->reply, "file %llu\r\n", (unsigned long long)n2);
		reply_file(&s->reply, toy_file, n, n2, toy_released, NULL);
		REPLY_LIT(&s->reply, "\r\n");
	} else if (slice_eq(verb, SLICE_LIT("sleep"))) {
		fiber_sleep(n);
		REPLY_LIT(&s->reply, "slept\r\n");
	} else if (slice_eq(verb, SLICE_LIT("look"))) {
		return toy_look(s, n);
	} else if (slice_eq(verb, SLICE_LIT("data")) || slice_eq(verb, SLICE_LIT("slowdata"))) {
		t->data_left = t->data_all = n;
		t->sum = 0;
		t->slow_data = verb.len > 4;
		return STEP_DATA;
	} else if (slice_eq(verb, SLICE_LIT("move"))) {
		t->from = shard_index();
		session_move_to(s, (unsigned)n);
		return STEP_MOVE;
	} else if (slice_eq(verb, SLICE_LIT("spin"))) {
		for (uint64_t until_ns = clock_fresh_ns() + n * 1000000; clock_fresh_ns() < until_ns;)
			;
		REPLY_LIT(&s->reply, "spun\r\n");
	} else if (slice_eq(verb, SLICE_LIT("where"))) {
		reply_printf(&s->reply, "%u\r\n", shard_index());
	} else if (slice_eq(verb, SLICE_LIT("pause"))) {
		REPLY_LIT(&s->reply, "pausing\r\n");
		session_pause(s, (uint32_t)n);
		t->pausing = true;
		return STEP_PAUSE;
	} else if (slice_eq(verb, SLICE_LIT("idle"))) {
		session_set_idle(s, (uint32_t)n);
		REPLY_LIT(&s->reply, "ok\r\n");
	} else {
		REPLY_LIT(&s->reply, "what?\r\n");
	}
	return STEP_NEXT;
}

static inline enum step toy_line(struct session *s, struct slice line)
{
	struct slice verb = slice_upto(line, slice_find(line, ' ')), rest = slice_from(line, verb.len + 1), word;
	if (slice_eq(verb, SLICE_LIT("say"))) {
		reply_put(&s->reply, rest);
		REPLY_LIT(&s->reply, "\r\n");
		return STEP_NEXT;
	}
	if (slice_eq(verb, SLICE_LIT("peer"))) {
		reply_printf(&s->reply, "%s %.*s %d\r\n", s->peer, SLICE_ARG(session_peer_address(s)), s->peer_is_local);
		return STEP_NEXT;
	}
	if (slice_eq(verb, SLICE_LIT("drop"))) {
		reply_printf(&s->reply, "dropped %zu\r\n", session_drop_input(s));
		return STEP_NEXT;
	}
	if (slice_eq(verb, SLICE_LIT("quit"))) {
		REPLY_LIT(&s->reply, "bye\r\n");
		return STEP_CLOSE;
	}
	if (slice_eq(verb, SLICE_LIT("tls"))) {
		REPLY_LIT(&s->reply, "go\r\n");
		return STEP_TLS;
	}
	if (slice_eq(verb, SLICE_LIT("abort")))
		return STEP_ABORT;
	uint64_t n = 0, n2 = 0;
	if (slice_next(&rest, ' ', &word))
		slice_u64(word, UINT64_MAX, &n);
	slice_u64(rest, UINT64_MAX, &n2);
	return toy_numbered(s, verb, n, n2);
}

static inline enum step toy_too_long(struct session *s)
{
	REPLY_LIT(&s->reply, "too long\r\n");
	return STEP_NEXT;
}

static inline enum step toy_moved(struct session *s)
{
	reply_printf(&s->reply, "moved %u from %u\r\n", shard_index(), toy(s)->from);
	return STEP_NEXT;
}

static inline enum step toy_timeout(struct session *s)
{
	REPLY_LIT(&s->reply, "timeout\r\n");
	return STEP_CLOSE;
}

static inline enum step toy_stop_words(struct session *s)
{
	REPLY_LIT(&s->reply, "stopping\r\n");
	return STEP_CLOSE;
}

static inline void toy_closed(struct session *s, enum session_end how)
{
	if (toy(s)->told)
		abort(); /* exactly once */
	toy(s)->told = true;
	fiber_yield(); /* it may wait */
	TOY_COUNT(closed);
	TOY_COUNT(how[how]);
}

static const struct proto toy_proto = {
	.name = "toy",
	.session_bytes = sizeof(struct toy_session),
	.line_bytes_max = TOY_LINE_BYTES_MAX,
	.idle_ms_max = 60000,
	.open = toy_open,
	.line = toy_line,
	.too_long = toy_too_long,
	.resume = toy_resume,
	.data = toy_data,
	.moved = toy_moved,
	.timeout = toy_timeout,
	.stop = toy_stop_words,
	.closed = toy_closed,
};

/* ---- the server ---- */

struct toy_server {
	pthread_t thread;
	unsigned shards;
	uint32_t grace_ms;
	struct net_settings settings;
	struct addr address;
	struct net_stats before;
	bool up, asked_to_stop;
	enum err result;
};

static inline enum err toy_shard_start(void *arg, unsigned index)
{
	struct toy_server *t = arg;
	enum err e = listeners_start();
	if (e == OK && index == 0)
		__atomic_store_n(&t->up, true, __ATOMIC_SEQ_CST);
	return e;
}

static inline void toy_shard_stop(void *arg, unsigned index)
{
	(void)index;
	listeners_stop(__atomic_load_n(&((struct toy_server *)arg)->grace_ms, __ATOMIC_SEQ_CST));
}

static inline void *toy_thread(void *arg)
{
	struct toy_server *t = arg;
	struct shards_config c = { .count = t->shards, .offload_threads = 1, .offload_queue_max = 16, .backend = getenv("PENFOLD_IO_BACKEND"), /* NULL: auto */
		                   .start = toy_shard_start, .stop = toy_shard_stop, .arg = t };
	t->result = shards_run(&c);
	return NULL;
}

/* What the shards counted since the server started. */
static inline struct net_stats toy_stats(const struct toy_server *t)
{
	struct net_stats sum = { 0 };
	for (unsigned i = 0; i < t->shards; i++) {
		struct net_stats one;
		net_stats(i, &one);
		for (size_t k = 0; k < sizeof(sum) / sizeof(uint64_t); k++)
			((uint64_t *)&sum)[k] += ((uint64_t *)&one)[k];
	}
	for (size_t k = 0; k < sizeof(sum) / sizeof(uint64_t); k++)
		((uint64_t *)&sum)[k] -= ((const uint64_t *)&t->before)[k];
	return sum;
}

static inline struct toy_server *toy_start_at(unsigned shards, const char *address, const struct net_settings *settings, const struct proto *proto)
{
	struct toy_server *t = calloc(1, sizeof(*t));
	sigset_t term;
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &term, NULL); /* shard 0 reads it */
	memset(&toy_counts, 0, sizeof(toy_counts));
	t->shards = shards;
	t->grace_ms = 1000;
	net_settings_default(&t->settings);
	if (settings)
		t->settings = *settings;
	net_configure(&t->settings);
	t->before = toy_stats(t);
	struct listener_config lc = { .proto = proto, .address = address, .where = "test", .tls = toy_tls };
	assert_int_equal(listeners_bind(&lc, 1, shards), OK);
	t->address = listeners_address(0);
	assert_int_equal(pthread_create(&t->thread, NULL, toy_thread, t), 0);
	for (int i = 0; i < 5000 && !__atomic_load_n(&t->up, __ATOMIC_SEQ_CST); i++)
		usleep(1000);
	assert_true(t->up);
	return t;
}

static inline struct toy_server *toy_start(unsigned shards) { return toy_start_at(shards, "127.0.0.1:0", NULL, &toy_proto); }

/* As an operator does it. */
static inline void toy_ask_stop(void) { kill(getpid(), SIGTERM); }

/* Every session that was opened has been told its end once, and none is left. */
static inline void toy_stop(struct toy_server *t)
{
	if (!t->asked_to_stop)
		toy_ask_stop();
	pthread_join(t->thread, NULL);
	assert_int_equal(t->result, OK);
	listeners_unbind();
	assert_int_equal(toy_counts.opened, toy_counts.closed);
	free(t);
}

/* Waits until an expression holds; at most 10 s. */
#define EVENTUALLY(cond)                                                                                          \
	do {                                                                                                      \
		for (int tries = 0; tries < 10000 && !(cond); tries++)                                            \
			usleep(1000);                                                                             \
		assert_true(cond);                                                                                \
	} while (0)

/* ---- the client ---- */

static inline int client_open_small(const struct toy_server *t, int receive_bytes)
{
	int fd = socket(t->address.u.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	if (receive_bytes)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
	assert_int_equal(connect(fd, &t->address.u.sa, t->address.len), 0);
	int one = 1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	struct timeval limit = { .tv_sec = 20 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return fd;
}
static inline int client_open(const struct toy_server *t) { return client_open_small(t, 0); }

static inline void client_send(int fd, struct slice s)
{
	while (s.len) {
		ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
		assert_true(n > 0);
		s = slice_from(s, (size_t)n);
	}
}
#define SEND(fd, lit) client_send(fd, SLICE_LIT(lit))

/* The next bytes are exactly these. */
static inline void client_expect(int fd, struct slice wanted)
{
	char *got = malloc(wanted.len + 1);
	size_t len = 0;
	while (len < wanted.len) {
		ssize_t n = recv(fd, got + len, wanted.len - len, 0);
		if (n <= 0)
			fail_msg("wanted \"%.*s\", got \"%.*s\" and then %zd (errno %d)", SLICE_ARG(wanted), (int)len, got, n, n < 0 ? errno : 0);
		len += (size_t)n;
	}
	if (memcmp(got, wanted.ptr, len) != 0)
		fail_msg("wanted \"%.*s\", got \"%.*s\"", SLICE_ARG(wanted), (int)len, got);
	free(got);
}
#define EXPECT(fd, lit) client_expect(fd, SLICE_LIT(lit))

/* The end of the stream comes next, without a reset. */
static inline void client_expect_end(int fd)
{
	char c;
	ssize_t n = recv(fd, &c, 1, 0);
	if (n != 0)
		fail_msg("wanted the end, got %zd '%c' (errno %d)", n, n > 0 ? c : '-', n < 0 ? errno : 0);
}

static inline void client_reset(int fd)
{
	struct linger l = { .l_onoff = 1, .l_linger = 0 };
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	close(fd);
}

/* Reads to the end; false if the connection broke. */
static inline bool client_read_all(int fd, struct buf *out)
{
	char chunk[4096];
	for (;;) {
		ssize_t n = recv(fd, chunk, sizeof(chunk), 0);
		if (n <= 0)
			return n == 0;
		assert_true(buf_put(out, chunk, (size_t)n));
	}
}

static inline uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define TOY_DEFINE struct toy_counts toy_counts; int toy_file = -1; enum listen_tls toy_tls = LISTEN_TLS_NONE

#endif
