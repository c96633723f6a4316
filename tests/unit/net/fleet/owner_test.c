/* SPDX-License-Identifier: Apache-2.0 */
/* Owners and their lease against a real Redis; the other nodes are played by hand. Also: the scripts one by one, homes. */
#include "tests/unit/support/fiber_main.h"
#include "tests/unit/support/redis_server.h"

#include "net/fleet/fleet_private.h"

#include "core/base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ID 7u
#define KEY "pf:a:{7}"
#define OTHER_INC "0123456789abcdef0123456789abcdef"
#define S SLICE_LIT
#define SAY(...) say((const struct slice[]){ __VA_ARGS__ }, sizeof((const struct slice[]){ __VA_ARGS__ }) / sizeof(struct slice))

static struct test_redis server;
static struct redis *hand; /* a link of the test's own */
static char said[4096];    /* the last answer, flattened with spaces */
static const char *address;
static struct redis_settings hand_settings;
static struct store_config store;
static struct fleet_config config;

static void flatten(const struct redis_value *v)
{
	size_t len = strlen(said);
	if (v->kind == REDIS_ARRAY) {
		for (size_t i = 0; i < v->count; i++)
			flatten(&v->items[i]);
		return;
	}
	if (v->kind == REDIS_INTEGER)
		snprintf(said + len, sizeof(said) - len, "%s%lld", len ? " " : "", (long long)v->integer);
	else
		snprintf(said + len, sizeof(said) - len, "%s%.*s", len ? " " : "", SLICE_ARG(v->text));
}

static const char *say(const struct slice *args, size_t count)
{
	const struct redis_command c = { .args = args, .count = count, .ms_max = 20000 };
	struct redis_answer a;
	enum err e = redis_ask(hand, &c, &a);
	said[0] = 0;
	if (e == OK)
		flatten(&a.value);
	else
		snprintf(said, sizeof(said), "(%s) %.*s", err_name(e), SLICE_ARG(a.value.text));
	redis_answer_release(&a);
	return said;
}

/* ---- a node ---- */

static void node_start(bool known_master, uint32_t ttl_ms)
{
	fleet_config_default(&config);
	config.node = "n1";
	config.placement = PLACEMENT_ANY;
	config.peer_address = "127.0.0.1:7001";
	config.run_path = test_folder();
	config.redis_on = true;
	config.redis.addresses = &address;
	config.redis.address_count = 1;
	config.redis.answer_ms_max = 20000;
	config.ttl_ms = ttl_ms;
	config.renew_ms = 50;
	config.margin_ms = ttl_ms / 8;
	config.take_wait_ms = 300;
	address = server.address;
	hand_settings = (struct redis_settings){ .addresses = &address, .address_count = 1 };
	assert_int_equal(redis_open(&hand_settings, &hand), OK);
	SAY(S("PING"));
	if (known_master) {
		char run_id[REDIS_RUN_ID_BYTES + 1];
		assert_true(redis_run_id(hand, slice_of(NULL, 0), run_id));
		SAY(S("HSET"), S("pf:m"), S("run"), slice_str(run_id), S("at"), S("1"));
	}
	store_config_default(&store);
	store.data_path = config.run_path;
	store.reserve_bytes = 0;
	store.scrub_days = 0;
	store.shared = true;
	assert_int_equal(store_lock(&store), OK);
	assert_int_equal(store_start(&store), OK);
	assert_int_equal(maildrop_lock_start(), OK);
	assert_int_equal(fleet_open(&config), OK);
	assert_int_equal(fleet_start(), OK);
}

static void node_stop(void)
{
	fleet_stop();
	fleet_close();
	maildrop_lock_stop();
	store_stop();
	store_unlock();
	redis_close(hand);
	test_redis_stop(&server);
}

static void wait_for_lease(void)
{
	for (int i = 0; i < 6000 && !fleet_epoch(); i++)
		fiber_sleep(5);
	assert_true(fleet_epoch() != 0);
}

/* A session of the maildrop, as POP3 has it. */
struct session {
	struct maildrop_lock lock;
	struct account *account;
	struct owner_answer answer;
	int ended; /* 1 + why */
};

static void ended(struct maildrop_lock *lock, enum owner_end why)
{
	struct session *s = CONTAINER_OF(lock, struct session, lock);
	assert_int_equal(s->ended, 0);
	s->ended = 1 + (int)why;
}

static enum err enter(struct session *s, const char *user)
{
	*s = (struct session){ .lock = { .user = slice_str(user) } };
	return owner_open_maildrop(&s->lock, ID, S("192.0.2.1"), 0, ended, &s->account, &s->answer);
}

static void leave(struct session *s) { owner_close_maildrop(&s->lock, s->account); }

/* One message, so that there is a log. */
static enum err deliver(struct account *account)
{
	struct body_writer *w;
	struct body *body;
	struct appended appended;
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	assert_int_equal(body_write(w, S("Subject: x\r\n\r\nhi\r\n")), OK);
	assert_int_equal(body_end(w, &body), OK);
	struct append a = { .folder = FOLDER_INBOX, .body = body };
	enum err e = account_append(account, &a, 1, &appended);
	body_unref(body);
	return e;
}

#define NODE_TEST(name)                                 \
	static void name##_node(void);                  \
	FIBER_TEST(name)                                \
	{                                               \
		if (!test_redis_start(&server, NULL))   \
			skip();                         \
		name##_node();                          \
		node_stop();                            \
	}                                               \
	static void name##_node(void)

NODE_TEST(a_maildrop_is_held_and_shown)
{
	struct session a, b;
	node_start(true, 8000);
	wait_for_lease();
	SAY(S("GET"), S("pf:n:{n1}"));
	assert_string_equal(strchr(said, ' '), " 127.0.0.1:7001");
	assert_int_equal(enter(&a, ""), OK);
	SAY(S("HMGET"), S(KEY), S("own"), S("pop"));
	assert_memory_equal(said, "n1/", 3);
	assert_non_null(strstr(said, " 192.0.2.1"));
	assert_int_equal(enter(&b, ""), ERR_IN_USE);
	assert_int_equal(b.answer.where, WHERE_HERE);
	assert_int_equal(enter(&b, "john"), ERR_IN_USE);
	assert_true(owner_in_time(&a.lock));
	assert_int_equal(deliver(a.account), OK);
	leave(&a);
	/* users of a host exclude each other by name; each has a field */
	assert_int_equal(enter(&a, "john"), OK);
	assert_int_equal(enter(&b, "mary"), OK);
	SAY(S("HKEYS"), S(KEY));
	assert_non_null(strstr(said, "pop:john"));
	assert_non_null(strstr(said, "pop:mary"));
	leave(&a);
	leave(&b);
	SAY(S("HGET"), S(KEY), S("gen"));
	assert_string_equal(said, "1");
	SAY(S("HKEYS"), S(KEY));
	assert_null(strstr(said, "pop"));
}

NODE_TEST(a_new_master_is_waited_for)
{
	struct session a;
	uint64_t began_ms = clock_now_ms();
	node_start(false, 1600);
	wait_for_lease();
	for (;;) {
		enum err e = enter(&a, "");
		if (e == OK)
			break;
		assert_int_equal(e, ERR_TEMP);
		assert_int_equal(a.answer.where, WHERE_WAIT);
		fiber_sleep(5);
	}
	assert_true(clock_now_ms() - began_ms >= 1600);
	leave(&a);
}

static void other_owns(const char *pop)
{
	SAY(S("SET"), S("pf:n:{n2}"), S(OTHER_INC " 127.0.0.1:7002"));
	SAY(S("DEL"), S(KEY));
	SAY(S("HSET"), S(KEY), S("own"), S("n2/" OTHER_INC "/3"), S("gen"), S("0"));
	if (pop)
		SAY(S("HSET"), S(KEY), slice_str(pop), S("t 1 x"));
}

NODE_TEST(an_account_of_another_node_is_there)
{
	struct session a;
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer answer;
	struct account *account;
	char before[4096];
	node_start(true, 8000);
	wait_for_lease();
	other_owns("pop");
	snprintf(before, sizeof(before), "%s", SAY(S("HGETALL"), S(KEY)));
	assert_int_equal(enter(&a, ""), ERR_IN_USE);
	assert_int_equal(a.answer.where, WHERE_AT);
	assert_string_equal(a.answer.at.node, "n2");
	assert_string_equal(a.answer.at.incarnation, OTHER_INC);
	assert_string_equal(a.answer.at.address, "127.0.0.1:7002");
	assert_int_equal(owner_open(ID, &hold, &account, &answer), ERR_TEMP);
	assert_int_equal(answer.where, WHERE_AT);
	assert_string_equal(SAY(S("HGETALL"), S(KEY)), before); /* a failed attempt writes nothing */
	/* idle there: it is asked to let go, and is taken when it has */
	other_owns(NULL);
	assert_int_equal(enter(&a, ""), ERR_TEMP);
	assert_string_equal(SAY(S("LRANGE"), S("pf:w:{n2}"), S("0"), S("-1")), "7 7 7"); /* one for each time that somebody came */
	/* its incarnation is gone: replaced at once, whoever had the maildrop */
	other_owns("pop");
	SAY(S("SET"), S("pf:n:{n2}"), S("ffffffffffffffffffffffffffffffff 127.0.0.1:7002"));
	assert_int_equal(enter(&a, ""), OK);
	leave(&a);
}

NODE_TEST(another_node_is_given_what_it_wants)
{
	struct session a;
	node_start(true, 8000);
	wait_for_lease();
	assert_int_equal(enter(&a, ""), OK);
	assert_int_equal(deliver(a.account), OK);
	SAY(S("RPUSH"), S("pf:w:{n1}"), S("7"));
	for (int i = 0; i < 1000 && strcmp(SAY(S("EXISTS"), S("pf:w:{n1}")), "0") != 0; i++)
		fiber_sleep(5);
	SAY(S("HEXISTS"), S(KEY), S("own")); /* not while somebody is there */
	assert_string_equal(said, "1");
	leave(&a);
	for (int i = 0; i < 6000 && strcmp(SAY(S("HEXISTS"), S(KEY), S("own")), "0") != 0; i++)
		fiber_sleep(5);
	assert_string_equal(said, "0");
	assert_string_equal(SAY(S("HGET"), S(KEY), S("gen")), "1");
	/* one that Redis thinks ours, and that we do not remember */
	char own[FLEET_OWN_BYTES + 32];
	snprintf(own, sizeof(own), "n1/%s/99999", fleet.incarnation);
	SAY(S("HSET"), S(KEY), S("own"), slice_str(own));
	SAY(S("RPUSH"), S("pf:w:{n1}"), S("7"));
	for (int i = 0; i < 6000 && strcmp(SAY(S("HEXISTS"), S(KEY), S("own")), "0") != 0; i++)
		fiber_sleep(5);
	assert_string_equal(said, "0");
}

NODE_TEST(a_lease_found_gone_ends_the_sessions)
{
	struct session a, b;
	node_start(true, 8000);
	wait_for_lease();
	assert_int_equal(enter(&a, ""), OK);
	uint64_t before = fleet_epoch();
	SAY(S("DEL"), S("pf:n:{n1}"));
	for (int i = 0; i < 6000 && fleet_epoch() == before; i++)
		fiber_sleep(5);
	assert_false(owner_in_time(&a.lock)); /* at once, whatever the tick has seen */
	for (int i = 0; i < 6000 && !a.ended; i++)
		fiber_sleep(5);
	assert_int_equal(a.ended, 1 + OWNER_END_LAPSED);
	wait_for_lease();
	assert_false(owner_in_time(&a.lock)); /* it does not revive with the next incarnation ... */
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer answer;
	struct account *account;
	assert_int_equal(owner_open(ID, &hold, &account, &answer), OK);
	assert_false(owner_in_time(&a.lock)); /* ... nor when the account is taken again under it */
	owner_close(&hold, account);
	leave(&a);
	assert_int_equal(enter(&b, ""), OK); /* taken anew, from what is left of the old one */
	assert_true(owner_in_time(&b.lock));
	leave(&b);
}

NODE_TEST(the_lease_runs_out_without_redis)
{
	struct session a;
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer answer;
	struct account *account;
	node_start(true, 1600);
	wait_for_lease();
	assert_int_equal(enter(&a, ""), OK);
	test_redis_stop(&server);
	for (int i = 0; i < 6000 && !a.ended; i++)
		fiber_sleep(5);
	assert_int_equal(a.ended, 1 + OWNER_END_LAPSED);
	assert_false(owner_in_time(&a.lock));
	/* mail goes on under the fence alone */
	assert_int_equal(owner_open(ID, &hold, &account, &answer), OK);
	assert_true(owner_must_confirm(&hold));
	assert_int_equal(account_confirm(ID), OK);
	assert_int_equal(deliver(account), OK);
	owner_close(&hold, account);
	leave(&a);
	assert_int_equal(enter(&a, ""), ERR_TEMP);
	assert_int_equal(a.answer.where, WHERE_WAIT);
}

/* A failover that lost writes: another server stands at the address, which knows the lease but of accounts only what it is told here. */
static void fail_over(const char *own)
{
	struct test_redis next = { .pid = 0 };
	char run_id[REDIS_RUN_ID_BYTES + 1], lease[128], path[2][160];
	struct redis_settings settings = { .address_count = 1 };
	snprintf(lease, sizeof(lease), "%s", SAY(S("GET"), S("pf:n:{n1}")));
	assert_true(test_redis_start(&next, NULL));
	const char *at = next.address;
	settings.addresses = &at;
	struct redis *old = hand;
	assert_int_equal(redis_open(&settings, &hand), OK);
	SAY(S("SET"), S("pf:n:{n1}"), slice_str(lease), S("PX"), S("60000"));
	assert_true(redis_run_id(hand, slice_of(NULL, 0), run_id));
	SAY(S("HSET"), S("pf:m"), S("run"), slice_str(run_id), S("at"), S("1"));
	if (own)
		SAY(S("HSET"), S(KEY), S("own"), slice_str(own));
	redis_close(hand);
	hand = old;
	snprintf(path[0], sizeof(path[0]), "%s", next.socket + 5);
	snprintf(path[1], sizeof(path[1]), "%s", server.socket + 5);
	assert_int_equal(rename(path[0], path[1]), 0);
	test_redis_stop(&server);
	next.socket[0] = 0;
	snprintf(next.socket, sizeof(next.socket), "%s", server.socket);
	server = next;
}

static void node_start_at_socket(uint32_t ttl_ms)
{
	node_start(true, ttl_ms);
	/* both links again, by the socket that another server can be put behind */
	fleet_stop();
	fleet_close();
	redis_close(hand);
	address = server.socket;
	assert_int_equal(redis_open(&hand_settings, &hand), OK);
	assert_int_equal(fleet_open(&config), OK);
	assert_int_equal(fleet_start(), OK);
	wait_for_lease();
}

NODE_TEST(a_new_master_is_told_what_is_held)
{
	struct session a;
	char own[4096];
	node_start_at_socket(20000);
	assert_int_equal(enter(&a, ""), OK);
	snprintf(own, sizeof(own), "%s", SAY(S("HGET"), S(KEY), S("own")));
	fail_over(NULL);
	for (int i = 0; i < 6000 && strcmp(SAY(S("HGET"), S(KEY), S("own")), own) != 0; i++)
		fiber_sleep(5);
	assert_string_equal(said, own);
	SAY(S("HEXISTS"), S(KEY), S("pop"));
	assert_string_equal(said, "1");
	assert_true(owner_in_time(&a.lock)); /* the lease was there: the session goes on */
	assert_int_equal(a.ended, 0);
	leave(&a);
}

NODE_TEST(what_is_anothers_at_a_new_master_is_lost)
{
	struct session a;
	node_start_at_socket(20000);
	assert_int_equal(enter(&a, ""), OK);
	fail_over("n2/" OTHER_INC "/3");
	for (int i = 0; i < 6000 && !a.ended; i++)
		fiber_sleep(5);
	assert_int_equal(a.ended, 1 + OWNER_END_LOST);
	assert_false(owner_in_time(&a.lock));
	leave(&a);
}

NODE_TEST(a_store_older_than_known_is_only_read)
{
	struct session a;
	node_start(true, 8000);
	wait_for_lease();
	SAY(S("HSET"), S(KEY), S("gen"), S("5"));
	assert_int_equal(enter(&a, ""), OK);
	assert_int_equal(deliver(a.account), ERR_READONLY);
	leave(&a);
}

/* ---- scripts, one by one ---- */

static const char *run(const struct redis_script *script, const struct slice *args, size_t count)
{
	struct slice key = S(KEY);
	struct redis_run r = { .script = script, .keys = &key, .key_count = 1, .args = args, .arg_count = count, .ms_max = 20000 };
	struct redis_answer a;
	said[0] = 0;
	assert_int_equal(redis_run(hand, &r, &a), OK);
	flatten(&a.value);
	redis_answer_release(&a);
	return said;
}
#define RUN(script, ...) run(&script, (const struct slice[]){ __VA_ARGS__ }, sizeof((const struct slice[]){ __VA_ARGS__ }) / sizeof(struct slice))

FIBER_TEST(scripts)
{
	if (!test_redis_start(&server, NULL))
		skip();
	address = server.address;
	hand_settings = (struct redis_settings){ .addresses = &address, .address_count = 1 };
	for (unsigned i = 0; i < fleet_script_count; i++)
		redis_script_init((struct redis_script *)(uintptr_t)fleet_scripts[i]);
	assert_int_equal(redis_open(&hand_settings, &hand), OK);
	/* a free account; our own; somebody else's; a dead one's, but only exactly that */
	assert_string_equal(RUN(script_take, S("n1/a/1"), S("n1/a/"), S(""), S("pop"), S("t")), "0");
	assert_string_equal(RUN(script_take, S("n1/a/2"), S("n1/a/"), S(""), S(""), S("")), "0");
	assert_string_equal(SAY(S("HGETALL"), S(KEY)), "own n1/a/2"); /* a token that nobody remembers is gone */
	assert_string_equal(RUN(script_take, S("n2/b/1"), S("n2/b/"), S(""), S("pop"), S("t")), "n1/a/2 0 0 0");
	assert_string_equal(RUN(script_take, S("n2/b/1"), S("n2/b/"), S("n1/a/1"), S("pop"), S("t")), "n1/a/2 0 0 0");
	assert_string_equal(RUN(script_take, S("n2/b/1"), S("n2/b/"), S("n1/a/2"), S("pop:john"), S("t")), "0");
	/* who excludes whom */
	assert_string_equal(RUN(script_take, S("n1/c/1"), S("n1/c/"), S(""), S("pop"), S("t")), "n2/b/1 0 1 1");
	assert_string_equal(RUN(script_take, S("n1/c/1"), S("n1/c/"), S(""), S("pop:john"), S("t")), "n2/b/1 0 1 1");
	assert_string_equal(RUN(script_take, S("n1/c/1"), S("n1/c/"), S(""), S("pop:mary"), S("t")), "n2/b/1 0 0 1");
	assert_string_equal(RUN(script_take, S("n1/c/1"), S("n1/c/"), S(""), S(""), S("")), "n2/b/1 0 0 1");
	/* a prefix is no name: incarnation "b" is not "bb" */
	assert_string_equal(RUN(script_take, S("n2/bb/1"), S("n2/bb/"), S(""), S(""), S("")), "n2/b/1 0 0 1");
	/* fields follow their owner only; a release compares all three parts */
	assert_string_equal(RUN(script_field, S("n2/b/2"), S("pop"), S("x"), S(""), S("")), "0");
	assert_string_equal(RUN(script_field, S("n2/b/1"), S("pop"), S("x"), S("9"), S("")), "1");
	assert_string_equal(SAY(S("HMGET"), S(KEY), S("pop"), S("gen")), "x 9");
	assert_string_equal(RUN(script_release, S("n2/b/2"), S("")), "0");
	assert_string_equal(RUN(script_release, S("n2/b/1"), S("10")), "1");
	assert_string_equal(SAY(S("HGETALL"), S(KEY)), "gen 10");
	/* claims */
	assert_string_equal(RUN(script_claim, S("n1/a/5"), S("n1/a/"), S("11"), S("pop:x"), S("v")), "1");
	assert_string_equal(RUN(script_claim, S("n2/b/5"), S("n2/b/"), S("12")), "0");
	assert_string_equal(SAY(S("HMGET"), S(KEY), S("own"), S("gen"), S("pop:x")), "n1/a/5 11 v");
	assert_string_equal(RUN(script_forget, S("n1/a/4")), "0");
	assert_string_equal(RUN(script_forget, S("n1/a/5")), "1");
	/* leases: another's is left alone, the own one found there is renewed, a dead predecessor's is replaced */
	assert_string_equal(RUN(script_acquire, S("aa"), S("addr"), S("60000"), S("")), "1");
	assert_string_equal(RUN(script_acquire, S("bb"), S("addr"), S("60000"), S("")), "aa addr");
	SAY(S("PEXPIRE"), S(KEY), S("1000"));
	assert_string_equal(RUN(script_acquire, S("aa"), S("addr"), S("60000"), S("")), "1");
	assert_true(atoi(SAY(S("PTTL"), S(KEY))) > 1000);
	assert_string_equal(RUN(script_renew, S("bb"), S("60000")), "0");
	assert_string_equal(RUN(script_acquire, S("bb"), S("addr"), S("60000"), S("aa")), "1");
	assert_string_equal(RUN(script_renew, S("bb"), S("60000")), "1");
	assert_string_equal(RUN(script_drop, S("aa")), "0");
	assert_string_equal(RUN(script_drop, S("bb")), "1");
	/* a master is new once, for each run id; a clock that was set back is no reason to wait for ever */
	assert_string_equal(RUN(script_see, S("r1")), "0");
	fiber_sleep(3);
	assert_true(atoi(RUN(script_see, S("r1"))) > 0);
	assert_string_equal(RUN(script_see, S("r2")), "0");
	SAY(S("HSET"), S(KEY), S("at"), S("99999999999999"));
	assert_string_equal(RUN(script_see, S("r2")), "0");
	redis_close(hand);
	test_redis_stop(&server);
}

/* ---- homes ---- */

static void homes(void **state)
{
	const struct fleet_node nodes[] = { { "n1", NULL }, { "n2", NULL }, { "n3", NULL }, { "n4", NULL } };
	unsigned count[4] = { 0 }, moved = 0;
	(void)state;
	for (uint64_t id = 1; id <= 4000; id++) {
		unsigned of4 = fleet_home(id, nodes, 4), of3 = fleet_home(id, nodes, 3);
		count[of4]++;
		if (of4 != 3)
			assert_int_equal(of3, of4); /* only what the leaving node had moves */
		else
			moved++;
	}
	for (unsigned i = 0; i < 4; i++)
		assert_in_range(count[i], 800, 1200);
	assert_int_equal(moved, count[3]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_maildrop_is_held_and_shown),
		cmocka_unit_test(a_new_master_is_waited_for),
		cmocka_unit_test(an_account_of_another_node_is_there),
		cmocka_unit_test(another_node_is_given_what_it_wants),
		cmocka_unit_test(a_lease_found_gone_ends_the_sessions),
		cmocka_unit_test(the_lease_runs_out_without_redis),
		cmocka_unit_test(a_new_master_is_told_what_is_held),
		cmocka_unit_test(what_is_anothers_at_a_new_master_is_lost),
		cmocka_unit_test(a_store_older_than_known_is_only_read),
		cmocka_unit_test(scripts),
		cmocka_unit_test(homes),
	};
	log_set_level(LOG_LEVEL_COUNT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
