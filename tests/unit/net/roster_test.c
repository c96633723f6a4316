/* SPDX-License-Identifier: Apache-2.0 */
/* roster_test.c - sessions of two shards, listed and ended from one of them; listeners paused. */
#include "net/roster.h"
#include "tests/unit/net/toy.h"

#include <netinet/in.h>

TOY_DEFINE;

static void describe(const struct session *s, struct session_facts *out)
{
	(void)s;
	out->account_id = 7;
	out->tenant_id = 3;
	out->login = SLICE_LIT("ann@demo.example");
	out->tenant = SLICE_LIT("demo");
	out->state = "playing";
}

/* Does something on a fiber of shard 0 and waits for it. */
struct task {
	struct post post;
	void (*fn)(void);
	bool done;
};
static void task_fiber(void *arg)
{
	struct task *t = arg;
	t->fn();
	__atomic_store_n(&t->done, true, __ATOMIC_SEQ_CST);
}
static void task_post(struct post *p) { assert_int_equal(fiber_start("task", task_fiber, CONTAINER_OF(p, struct task, post)), OK); }
static void on_shard(void (*fn)(void))
{
	struct task t = { .post = { .run = task_post }, .fn = fn };
	shard_post(0, &t.post);
	EVENTUALLY(__atomic_load_n(&t.done, __ATOMIC_SEQ_CST));
}

static struct roster_filter filter;
static size_t count_max;
static struct roster got;
static uint64_t ended;
static bool now;
static enum err result;
static void list(void) { result = roster_list(&filter, count_max, &got); }
static void end(void) { result = roster_end(&filter, "test", now, &ended); }
static void pause_all(void) { listeners_pause(); }
static void resume_all(void) { listeners_resume(); }

static size_t listed(const struct roster_filter *f)
{
	filter = *f;
	count_max = 100;
	on_shard(list);
	assert_int_equal(result, OK);
	size_t count = got.count;
	roster_free(&got);
	return count;
}

static struct toy_server *start(unsigned shards)
{
	static struct proto proto;
	proto = toy_proto;
	proto.describe = describe;
	return toy_start_at(shards, "127.0.0.1:0", NULL, &proto);
}

static void listed_on_all_shards(void **state)
{
	(void)state;
	struct toy_server *t = start(2);
	int fd[4];
	for (unsigned i = 0; i < 4; i++) {
		fd[i] = client_open(t);
		EXPECT(fd[i], "hello\r\n");
	}
	SEND(fd[0], "move 0\r\n");
	EVENTUALLY(toy_stats(t).lines == 1);
	SEND(fd[1], "move 1\r\n");
	EVENTUALLY(toy_stats(t).lines == 2);
	EVENTUALLY(listed(&(struct roster_filter){ 0 }) == 4);
	assert_int_equal(listed(&(struct roster_filter){ .account_id = 7, .tenant_id = 3 }), 4);
	assert_int_equal(listed(&(struct roster_filter){ .account_id = 8 }), 0);
	assert_int_equal(listed(&(struct roster_filter){ .tenant_id = 7 }), 0);
	assert_int_equal(listed(&(struct roster_filter){ .login = SLICE_LIT("Ann@Demo.example"), .protocol = SLICE_LIT("toy") }), 4);
	assert_int_equal(listed(&(struct roster_filter){ .protocol = SLICE_LIT("pop3") }), 0);
	assert_int_equal(listed(&(struct roster_filter){ .tenant = SLICE_LIT("dem") }), 0);
	assert_int_equal(listed(&(struct roster_filter){ .address = SLICE_LIT("127.0.0.1") }), 4);
	count_max = 3;
	filter = (struct roster_filter){ 0 };
	on_shard(list);
	assert_true(got.count == 3 && got.matched == 4);
	assert_true(got.entries[0].session < got.entries[1].session && got.entries[1].session < got.entries[2].session);
	assert_string_equal(got.entries[0].login, "ann@demo.example");
	assert_string_equal(got.entries[0].state, "playing");
	assert_true(got.entries[0].bytes_out >= 7 && got.entries[0].age_ms < 100000);
	uint64_t second = got.entries[1].session;
	roster_free(&got);
	assert_int_equal(listed(&(struct roster_filter){ .by_session = true, .session = second }), 1);
	for (unsigned i = 0; i < 4; i++)
		close(fd[i]);
	toy_stop(t);
}

static void ended_with_and_without_words(void **state)
{
	(void)state;
	struct toy_server *t = start(2);
	int a = client_open(t), b = client_open(t);
	EXPECT(a, "hello\r\n");
	EXPECT(b, "hello\r\n");
	SEND(b, "look 60000\r\n"); /* in a handler: told at its next line, or cut off */
	EVENTUALLY(toy_stats(t).lines == 1);
	filter = (struct roster_filter){ .account_id = 8 };
	now = false;
	on_shard(end);
	assert_int_equal(ended, 0);
	filter = (struct roster_filter){ .account_id = 7 };
	on_shard(end);
	assert_int_equal(ended, 2);
	EXPECT(a, "stopping\r\n");
	client_expect_end(a);
	on_shard(end);
	assert_int_equal(ended, 0); /* told already */
	EVENTUALLY(TOY_GET(how[END_STOP]) == 1);
	close(a);
	client_reset(b);
	toy_stop(t);
}

static void now_cuts_off(void **state)
{
	(void)state;
	struct toy_server *t = start(1);
	int a = client_open(t);
	EXPECT(a, "hello\r\n");
	filter = (struct roster_filter){ 0 };
	now = true;
	on_shard(end);
	assert_int_equal(ended, 1);
	char c;
	assert_true(recv(a, &c, 1, 0) <= 0);
	EVENTUALLY(TOY_GET(how[END_STOP]) == 1);
	close(a);
	toy_stop(t);
}

static bool connects(const struct toy_server *t)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = connect(fd, &t->address.u.sa, t->address.len) == 0;
	close(fd);
	return yes;
}

static void listeners_pause_and_go_on(void **state)
{
	(void)state;
	/* A port that was asked for: one that the kernel chose is given back by a pause. */
	char address[32];
	struct sockaddr_in free_one = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t bytes = sizeof free_one;
	int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(probe, (struct sockaddr *)&free_one, sizeof free_one), 0);
	getsockname(probe, (struct sockaddr *)&free_one, &bytes);
	close(probe);
	snprintf(address, sizeof address, "127.0.0.1:%u", ntohs(free_one.sin_port));
	static struct proto proto;
	proto = toy_proto;
	proto.describe = describe;
	struct toy_server *t = toy_start_at(1, address, NULL, &proto);
	int old = client_open(t);
	EXPECT(old, "hello\r\n");
	for (int i = 0; i < 3; i++) {
		on_shard(pause_all);
		on_shard(pause_all);
		assert_false(connects(t));
		SEND(old, "say here\r\n");
		EXPECT(old, "here\r\n");
		on_shard(resume_all);
		int fd = client_open(t);
		EXPECT(fd, "hello\r\n");
		close(fd);
	}
	on_shard(pause_all);
	on_shard(resume_all); /* before the accept's end has come */
	int fd = client_open(t);
	EXPECT(fd, "hello\r\n");
	close(fd);
	close(old);
	on_shard(pause_all); /* and stops while paused */
	toy_stop(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(listed_on_all_shards), cmocka_unit_test(ended_with_and_without_words),
					    cmocka_unit_test(now_cuts_off), cmocka_unit_test(listeners_pause_and_go_on) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
