/* SPDX-License-Identifier: Apache-2.0 */
/* The link to Redis: against a real server, and against one that lies, breaks off and keeps silent. */
#include "tests/unit/support/fiber_main.h"
#include "tests/unit/support/redis_server.h"

#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/redis.h"
#include "core/run/shard.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ASK(r, answer, ...)                                                                                      \
	redis_ask(r, &(struct redis_command){ .args = (const struct slice[]){ __VA_ARGS__ },                     \
					      .count = sizeof((const struct slice[]){ __VA_ARGS__ }) / sizeof(struct slice), .ms_max = 20000 }, answer)
#define TELL(r, ...)                                                                                             \
	redis_tell(r, &(struct redis_command){ .args = (const struct slice[]){ __VA_ARGS__ },                    \
					       .count = sizeof((const struct slice[]){ __VA_ARGS__ }) / sizeof(struct slice) })
#define S SLICE_LIT

static struct redis *open_at(struct redis_settings *s, const char *const *address)
{
	struct redis *r;
	s->addresses = address;
	s->address_count = 1;
	assert_int_equal(redis_open(s, &r), OK);
	return r;
}

static void expect_text(struct redis_answer *a, const char *text)
{
	assert_int_equal(a->value.text.len, strlen(text));
	assert_memory_equal(a->value.text.ptr, text, strlen(text));
	redis_answer_release(a);
}

/* ---- a real server ---- */

static void basics(const char *address)
{
	struct redis_settings s = { .client_name = "test" };
	struct redis *r = open_at(&s, &address);
	struct redis_answer a;
	char run_id[REDIS_RUN_ID_BYTES + 1];
	assert_int_equal(ASK(r, &a, S("SET"), S("k"), S("v\r\n\0w")), OK);
	assert_int_equal(a.value.kind, REDIS_STATUS);
	assert_int_equal(strlen(a.run_id), REDIS_RUN_ID_BYTES);
	redis_answer_release(&a);
	assert_true(redis_run_id(r, slice_of(NULL, 0), run_id));
	assert_int_equal(ASK(r, &a, S("GET"), S("k")), OK);
	assert_int_equal(a.value.text.len, 5);
	assert_memory_equal(a.value.text.ptr, "v\r\n\0w", 5);
	redis_answer_release(&a);
	assert_int_equal(ASK(r, &a, S("GET"), S("absent")), OK);
	assert_int_equal(a.value.kind, REDIS_NIL);
	redis_answer_release(&a);
	assert_int_equal(ASK(r, &a, S("LLEN"), S("k")), ERR_SYNTAX);
	assert_int_equal(a.value.kind, REDIS_ERROR);
	redis_answer_release(&a);
	assert_int_equal(ASK(r, &a, S("EVAL"), S("return {1, {'a', 'b', {}}, false, 'c'}"), S("0")), OK);
	assert_int_equal(a.value.count, 4);
	assert_int_equal(a.value.items[0].integer, 1);
	assert_int_equal(a.value.items[1].count, 3);
	assert_memory_equal(redis_item_text(&a.value.items[1], 1).ptr, "b", 1);
	assert_int_equal(a.value.items[1].items[2].count, 0);
	assert_int_equal(a.value.items[2].kind, REDIS_NIL);
	assert_memory_equal(redis_item_text(&a.value, 3).ptr, "c", 1);
	redis_answer_release(&a);
	assert_int_equal(ASK(r, &a, S("CLIENT"), S("GETNAME")), OK);
	expect_text(&a, "test");
	redis_close(r);
}

static struct test_redis server;

FIBER_TEST(speaks_over_tcp_and_a_unix_socket)
{
	if (!test_redis_start(&server, NULL))
		skip();
	basics(server.address);
	basics(server.socket);
	char named[64];
	snprintf(named, sizeof(named), "localhost:%u", server.port);
	basics(named);
	test_redis_stop(&server);
}

struct many {
	struct redis *r;
	unsigned done;
	struct fiber *waiter;
};

static void one_of_many(void *arg)
{
	struct many *m = arg;
	struct redis_answer a;
	assert_int_equal(ASK(m->r, &a, S("INCR"), S("n")), OK);
	redis_answer_release(&a);
	m->done++;
	fiber_wake(m->waiter);
}

FIBER_TEST(what_many_ask_in_a_turn_leaves_in_order)
{
	if (!test_redis_start(&server, NULL))
		skip();
	const char *address = server.socket;
	struct redis_settings s = { 0 };
	struct redis_answer a;
	struct many m = { .r = open_at(&s, &address), .waiter = fiber_self() };
	assert_int_equal(ASK(m.r, &a, S("SET"), S("n"), S("0")), OK);
	redis_answer_release(&a);
	for (int i = 0; i < 300; i++)
		assert_int_equal(fiber_start("one", one_of_many, &m), OK);
	while (m.done < 300)
		fiber_park();
	for (int i = 0; i < 100; i++)
		assert_int_equal(TELL(m.r, S("INCR"), S("n")), OK);
	assert_int_equal(ASK(m.r, &a, S("GET"), S("n")), OK);
	expect_text(&a, "400");
	/* several at once, in order */
	const struct slice set[] = { S("SET"), S("x"), S("1") }, get[] = { S("GET"), S("x") };
	const struct redis_command both[] = { { .args = set, .count = 3, .ms_max = 20000 }, { .args = get, .count = 2, .ms_max = 20000 } };
	struct redis_answer answers[2];
	enum err errs[2];
	assert_int_equal(redis_ask_all(m.r, both, 2, answers, errs), OK);
	redis_answer_release(&answers[0]);
	expect_text(&answers[1], "1");
	redis_close(m.r);
	test_redis_stop(&server);
}

FIBER_TEST(a_script_unknown_to_the_server_is_sent_whole)
{
	if (!test_redis_start(&server, NULL))
		skip();
	struct redis_script script = { .text = "return {KEYS[1], ARGV[1]}" };
	redis_script_init(&script);
	const struct redis_script *scripts[] = { &script };
	const char *address = server.address;
	struct redis_settings s = { .scripts = scripts, .script_count = 1 };
	struct redis *r = open_at(&s, &address);
	struct slice key = S("key"), arg = S("arg");
	struct redis_run run = { .script = &script, .keys = &key, .key_count = 1, .args = &arg, .arg_count = 1, .ms_max = 20000 };
	struct redis_answer a;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(redis_run(r, &run, &a), OK);
		assert_memory_equal(redis_item_text(&a.value, 1).ptr, "arg", 3);
		redis_answer_release(&a);
		assert_int_equal(ASK(r, &a, S("SCRIPT"), S("FLUSH")), OK);
		redis_answer_release(&a);
	}
	redis_close(r);
	test_redis_stop(&server);
}

FIBER_TEST(logs_in_as_a_user)
{
	const char *more[] = { "--user", "pf", "on", ">secret", "~*", "+@all", NULL };
	if (!test_redis_start(&server, more))
		skip();
	const char *address = server.address;
	struct redis_answer a;
	struct redis_settings s = { .user = "pf", .password = "secret", .database = 3 };
	struct redis *r = open_at(&s, &address);
	assert_int_equal(ASK(r, &a, S("ACL"), S("WHOAMI")), OK);
	expect_text(&a, "pf");
	assert_int_equal(ASK(r, &a, S("CLIENT"), S("INFO")), OK);
	redis_answer_release(&a);
	redis_close(r);
	s.password = "wrong";
	r = open_at(&s, &address);
	assert_int_equal(ASK(r, &a, S("PING")), ERR_TEMP);
	redis_close(r);
	test_redis_stop(&server);
}

static bool comes_back(struct redis *r, char *run_id)
{
	for (int i = 0; i < 3000; i++) {
		if (redis_run_id(r, slice_of(NULL, 0), run_id))
			return true;
		fiber_sleep(10);
	}
	return false;
}

FIBER_TEST(comes_back_after_a_restart_under_another_run_id)
{
	if (!test_redis_start(&server, NULL))
		skip();
	const char *address = server.address;
	char before[REDIS_RUN_ID_BYTES + 1], after[REDIS_RUN_ID_BYTES + 1];
	struct redis_settings s = { 0 };
	struct redis_answer a;
	struct redis *r = open_at(&s, &address);
	assert_int_equal(ASK(r, &a, S("PING")), OK);
	redis_answer_release(&a);
	assert_true(redis_run_id(r, slice_of(NULL, 0), before));
	test_redis_stop(&server);
	while (redis_run_id(r, slice_of(NULL, 0), after))
		fiber_sleep(1);
	assert_int_equal(ASK(r, &a, S("PING")), ERR_TEMP); /* at once */
	assert_int_equal(TELL(r, S("PING")), ERR_TEMP);
	test_redis_restart(&server, NULL);
	assert_true(comes_back(r, after));
	assert_string_not_equal(before, after);
	assert_int_equal(ASK(r, &a, S("PING")), OK);
	expect_text(&a, "PONG");
	redis_close(r);
	test_redis_stop(&server);
}

FIBER_TEST(a_paused_server_costs_the_deadline_and_no_more)
{
	if (!test_redis_start(&server, NULL))
		skip();
	const char *address = server.address;
	struct redis_settings s = { .answer_ms_max = 60000 };
	struct redis_answer a;
	struct redis *r = open_at(&s, &address);
	assert_int_equal(ASK(r, &a, S("SET"), S("n"), S("0")), OK);
	redis_answer_release(&a);
	kill(server.pid, SIGSTOP);
	const struct slice incr[] = { S("INCR"), S("n") };
	const struct redis_command c = { .args = incr, .count = 2, .ms_max = 50 };
	assert_int_equal(redis_ask(r, &c, &a), ERR_TIMEOUT);
	redis_answer_release(&a);
	kill(server.pid, SIGCONT);
	/* it was executed all the same, and its answer hits nobody */
	assert_int_equal(ASK(r, &a, S("GET"), S("n")), OK);
	expect_text(&a, "1");
	redis_close(r);
	test_redis_stop(&server);
}

/* ---- a server that lies ---- */

struct rule {
	const char *word, *reply;
};
struct fake {
	int listener;
	pthread_t thread;
	const char *const *replies; /* to each thing received, in turn; NULL ends: closes */
	const struct rule *rules;   /* or: to each of these words, wherever it stands; ended by a NULL word */
	char address[64];
	unsigned connections;
};

/* Answers what it has a rule for, in the order of the commands. */
static void fake_rules(const struct rule *rules, int fd)
{
	char in[8192];
	ssize_t n;
	while ((n = read(fd, in, sizeof(in) - 1)) > 0) {
		in[n] = 0;
		for (const char *at = in;;) {
			const struct rule *next = NULL;
			const char *where = NULL;
			for (const struct rule *r = rules; r->word; r++) {
				const char *found = strstr(at, r->word);
				if (found && (!where || found < where)) {
					where = found;
					next = r;
				}
			}
			if (!next || write(fd, next->reply, strlen(next->reply)) < 0)
				break;
			at = where + strlen(next->word);
		}
	}
}

static void *fake_run(void *arg)
{
	struct fake *f = arg;
	for (;;) {
		char in[4096];
		int fd = accept(f->listener, NULL, NULL);
		if (fd < 0)
			return NULL;
		__atomic_add_fetch(&f->connections, 1, __ATOMIC_SEQ_CST);
		const struct rule *rules = __atomic_load_n(&f->rules, __ATOMIC_ACQUIRE);
		if (rules)
			fake_rules(rules, fd);
		for (const char *const *reply = f->replies; reply && *reply && read(fd, in, sizeof(in)) > 0; reply++)
			if (write(fd, *reply, strlen(*reply)) < 0)
				break;
		close(fd);
	}
}

static void fake_begin(struct fake *f, const char *const *replies)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	*f = (struct fake){ .replies = replies };
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(f->listener, 16), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&a, &len), 0);
	snprintf(f->address, sizeof(f->address), "127.0.0.1:%u", ntohs(a.sin_port));
	assert_int_equal(pthread_create(&f->thread, NULL, fake_run, f), 0);
}

static void fake_end(struct fake *f)
{
	shutdown(f->listener, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->listener);
}

#define MASTER "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n"
#define RUN_ID "$59\r\n# Server\r\nrun_id:0123456789012345678901234567890123456789\r\n"

static enum err ask_fake(const char *const *replies, struct redis_answer *answer)
{
	struct fake f;
	fake_begin(&f, replies);
	const char *address = f.address;
	struct redis_settings s = { .answer_ms_max = 500 };
	struct redis *r = open_at(&s, &address);
	enum err e = ASK(r, answer, S("GET"), S("k"));
	redis_close(r);
	fake_end(&f);
	return e;
}

FIBER_TEST(a_server_that_lies_loses_the_connection)
{
	struct redis_answer a;
	assert_int_equal(ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", "+fine\r\n", NULL }, &a), OK);
	assert_string_equal(a.run_id, "0123456789012345678901234567890123456789");
	expect_text(&a, "fine");
	static const char *const bad[] = {
		"garbage\r\n", ":1\r\n:2\r\n", "*1000000000\r\n", "$4000000000\r\n", "*-7\r\n", "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		enum err e = ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", bad[i], NULL }, &a);
		/* of two answers to one question the first is right, then the connection goes */
		assert_int_equal(e, i == 1 ? OK : ERR_TEMP);
		redis_answer_release(&a);
	}
	/* it breaks off in the middle of its answer */
	assert_int_equal(ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", "$10\r\nhalf", NULL }, &a), ERR_TEMP);
	/* errors, by what they ask of us */
	assert_int_equal(ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", "-LOADING wait\r\n", NULL }, &a), ERR_TEMP);
	redis_answer_release(&a);
	assert_int_equal(ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", "-NOPERM no\r\n", NULL }, &a), ERR_DENIED);
	redis_answer_release(&a);
}

FIBER_TEST(a_replica_is_not_spoken_to)
{
	struct redis_answer a;
	assert_int_equal(ask_fake((const char *[]){ "*2\r\n$5\r\nslave\r\n$1\r\nx\r\n", NULL }, &a), ERR_TEMP);
	/* one that stops being the master */
	assert_int_equal(ask_fake((const char *[]){ MASTER, RUN_ID "\r\n", "-READONLY You can't write\r\n", NULL }, &a), ERR_TEMP);
	redis_answer_release(&a);
}

FIBER_TEST(nothing_there_fails_at_once)
{
	char address[64];
	snprintf(address, sizeof(address), "127.0.0.1:%u", test_free_port());
	const char *at = address;
	struct redis_settings s = { 0 };
	struct redis_answer a;
	struct redis *r = open_at(&s, &at);
	assert_int_equal(ASK(r, &a, S("PING")), ERR_TEMP);
	assert_int_equal(ASK(r, &a, S("PING")), ERR_TEMP);
	redis_close(r);
	at = "no port here";
	s.addresses = &at;
	assert_int_equal(redis_open(&s, &r), ERR_CONFIG);
	/* closed before anything has begun */
	at = address;
	r = open_at(&s, &at);
	redis_close(r);
}

/* ---- a cluster of two that lie ---- */

#define KEYED "\r\n$3\r\nGET\r\n"

enum { ASKS = 8 };
struct pair {
	struct fake a, b;
	struct rule rules_a[ASKS][5], rules_b[ASKS][5]; /* for each ask its own: a fake may still be reading the last ones */
	unsigned asks;
	char moved_b[128], ask_b[128], moved_a[128], slots_b[128];
};

static void pair_begin(struct pair *p)
{
	fake_begin(&p->a, NULL);
	fake_begin(&p->b, NULL);
	unsigned port_b = (unsigned)atoi(strchr(p->b.address, ':') + 1), slot = redis_slot(S("k"));
	snprintf(p->moved_b, sizeof(p->moved_b), "-MOVED %u %s\r\n", slot, p->b.address);
	snprintf(p->moved_a, sizeof(p->moved_a), "-MOVED %u %s\r\n", slot, p->a.address);
	snprintf(p->ask_b, sizeof(p->ask_b), "-ASK %u %s\r\n", slot, p->b.address);
	snprintf(p->slots_b, sizeof(p->slots_b), "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%u\r\n", port_b);
}

static enum err ask_pair(struct pair *p, const char *a_says, const char *slots, const char *b_says, struct redis_answer *answer)
{
	const struct rule rules_a[] = { { "INFO", RUN_ID "\r\n" }, { "CLUSTER", slots }, { KEYED, a_says }, { NULL, NULL } };
	const struct rule rules_b[] = { { "INFO", RUN_ID "\r\n" }, { "CLUSTER", slots }, { "ASKING", "+OK\r\n" }, { KEYED, b_says }, { NULL, NULL } };
	unsigned ask = p->asks++;
	assert_true(ask < ASKS);
	memcpy(p->rules_a[ask], rules_a, sizeof(rules_a));
	memcpy(p->rules_b[ask], rules_b, sizeof(rules_b));
	__atomic_store_n(&p->a.rules, p->rules_a[ask], __ATOMIC_RELEASE);
	__atomic_store_n(&p->b.rules, p->rules_b[ask], __ATOMIC_RELEASE);
	const char *address = p->a.address;
	struct redis_settings s = { .addresses = &address, .address_count = 1, .cluster = true, .answer_ms_max = 20000 };
	struct redis *r;
	assert_int_equal(redis_open(&s, &r), OK);
	const struct slice get[] = { S("GET"), S("k") };
	const struct redis_command c = { .args = get, .count = 2, .key = 1, .ms_max = 20000 };
	enum err e = redis_ask(r, &c, answer);
	redis_close(r);
	return e;
}

FIBER_TEST(a_cluster_is_followed)
{
	struct pair p = { .moved_a = "" };
	struct redis_answer a;
	pair_begin(&p);
	assert_int_equal(ask_pair(&p, p.moved_b, p.slots_b, "+there\r\n", &a), OK);
	expect_text(&a, "there");
	assert_int_equal(ask_pair(&p, p.ask_b, "*0\r\n", "+there\r\n", &a), OK);
	expect_text(&a, "there");
	/* in a circle: not for ever */
	assert_int_equal(ask_pair(&p, p.moved_b, "*0\r\n", p.moved_a, &a), ERR_TEMP);
	redis_answer_release(&a);
	assert_int_equal(ask_pair(&p, "-MOVED nonsense\r\n", "*1\r\n:1\r\n", "+x\r\n", &a), ERR_TEMP);
	redis_answer_release(&a);
	assert_int_equal(ask_pair(&p, "-TRYAGAIN later\r\n", "*0\r\n", "+x\r\n", &a), ERR_TEMP);
	redis_answer_release(&a);
	assert_int_equal(ask_pair(&p, "-MOVED 1 127.0.0.1:1\r\n", "*0\r\n", "+x\r\n", &a), ERR_TEMP); /* nobody there */
	redis_answer_release(&a);
	fake_end(&p.a);
	fake_end(&p.b);
}

static void slots(void **state)
{
	(void)state;
	/* from the cluster specification, and of CLUSTER KEYSLOT */
	assert_int_equal(redis_slot(S("123456789")), 0x31c3);
	assert_int_equal(redis_slot(S("foo")), 12182);
	assert_int_equal(redis_slot(S("pf:a:{42}")), redis_slot(S("42")));
	assert_int_equal(redis_slot(S("{}x")), redis_slot(S("{}x")));
	assert_int_not_equal(redis_slot(S("{}x")), redis_slot(S("")));
	assert_int_equal(redis_slot(S("{a}{b}")), redis_slot(S("a")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(speaks_over_tcp_and_a_unix_socket),
		cmocka_unit_test(what_many_ask_in_a_turn_leaves_in_order),
		cmocka_unit_test(a_script_unknown_to_the_server_is_sent_whole),
		cmocka_unit_test(logs_in_as_a_user),
		cmocka_unit_test(comes_back_after_a_restart_under_another_run_id),
		cmocka_unit_test(a_paused_server_costs_the_deadline_and_no_more),
		cmocka_unit_test(a_server_that_lies_loses_the_connection),
		cmocka_unit_test(a_replica_is_not_spoken_to),
		cmocka_unit_test(nothing_there_fails_at_once),
		cmocka_unit_test(a_cluster_is_followed),
		cmocka_unit_test(slots),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
