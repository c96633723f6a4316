/* SPDX-License-Identifier: Apache-2.0 */
/* Several shards: messages and their order, calls, start and stop, signals. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SHARDS 3
#define MESSAGES 20000

static unsigned starts, stops, reloads; /* atomic */

/* Every test runs on both back ends. */
static const char *backend = "auto";

static int on_epoll(void **state)
{
	(void)state;
	backend = "epoll";
	return 0;
}

static int on_ring(void **state)
{
	(void)state;
	backend = "auto";
	return 0;
}
#define ON_BOTH(test) { #test, test, on_ring, NULL, NULL }, { #test "_on_epoll", test, on_epoll, NULL, NULL }

static enum err count_start(void *arg, unsigned index)
{
	(void)arg;
	assert_int_equal(index, shard_index());
	assert_int_equal(shard_count(), SHARDS);
	__atomic_add_fetch(&starts, 1, __ATOMIC_SEQ_CST);
	return OK;
}

static void count_stop(void *arg, unsigned index)
{
	(void)arg;
	(void)index;
	assert_true(shard_stopping());
	__atomic_add_fetch(&stops, 1, __ATOMIC_SEQ_CST);
}

static struct shards_config config_of(enum err (*start)(void *, unsigned), void *arg)
{
	starts = stops = reloads = 0;
	return (struct shards_config){ .count = SHARDS, .start = start, .stop = count_stop, .arg = arg, .offload_threads = 1, .backend = backend };
}

/* ---- messages keep their order between two shards ---- */

struct numbered {
	struct post post;
	unsigned from, number;
};
static unsigned next_of[SHARDS][SHARDS]; /* [to][from], touched by `to` only */
static unsigned wrong, finished;         /* atomic */

static void number_came(struct post *p)
{
	struct numbered *n = CONTAINER_OF(p, struct numbered, post);
	if (next_of[shard_index()][n->from]++ != n->number)
		__atomic_add_fetch(&wrong, 1, __ATOMIC_SEQ_CST);
	bool last = n->number == MESSAGES - 1;
	free(n);
	if (last && __atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST) == SHARDS * SHARDS)
		shards_stop();
}

static void send_numbers(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < MESSAGES; i++) {
		for (unsigned to = 0; to < SHARDS; to++) {
			struct numbered *n = malloc(sizeof(*n));
			*n = (struct numbered){ .post.run = number_came, .from = shard_index(), .number = i };
			shard_post(to, &n->post);
		}
		fiber_breathe();
		if (i % 1000 == 0)
			fiber_sleep(1); /* lets targets fall asleep */
	}
}

static enum err start_numbers(void *arg, unsigned index)
{
	assert_int_equal(count_start(arg, index), OK);
	return fiber_start("numbers", send_numbers, NULL);
}

static void messages_keep_their_order(void **state)
{
	(void)state;
	memset(next_of, 0, sizeof(next_of));
	wrong = finished = 0;
	struct shards_config c = config_of(start_numbers, NULL);
	assert_int_equal(shards_run(&c), OK);
	assert_int_equal(wrong, 0);
	assert_int_equal(starts, SHARDS);
	assert_int_equal(stops, SHARDS);
}

/* ---- calls ---- */

struct sum {
	unsigned on, ms;
};

static void where(void *arg)
{
	struct sum *s = arg;
	fiber_sleep(s->ms);
	s->on = shard_index();
	/* and a call within the call */
	if (s->ms) {
		struct sum inner = { 0 };
		assert_int_equal(shard_call(0, "inner", where, &inner), OK);
		assert_int_equal(inner.on, 0);
	}
}

/* Over before the call that began it has returned there: what it was called with is gone by then (ThreadSanitizer sees it if it is touched). */
static void at_once(void *arg) { *(unsigned *)arg = shard_index(); }

static void call_all(void *arg)
{
	(void)arg;
	for (unsigned round = 0; round < 200; round++) {
		for (unsigned to = 0; to < SHARDS; to++) {
			struct sum s = { .on = 99, .ms = round == 3 };
			assert_int_equal(shard_call(to, "where", where, &s), OK);
			assert_int_equal(s.on, to);
			unsigned on = 99;
			assert_int_equal(shard_call(to, "at once", at_once, &on), OK);
			assert_int_equal(on, to);
		}
	}
	if (__atomic_add_fetch(&finished, 1, __ATOMIC_SEQ_CST) == SHARDS)
		shards_stop();
}

static enum err start_calls(void *arg, unsigned index)
{
	(void)arg;
	(void)index;
	return fiber_start("calls", call_all, NULL);
}

static void calls_run_there_and_come_back(void **state)
{
	(void)state;
	finished = 0;
	struct shards_config c = config_of(start_calls, NULL);
	assert_int_equal(shards_run(&c), OK);
}

/* A stop in the middle: the others still answer. */
static void call_while_stopping(void *arg, unsigned index)
{
	struct sum s = { .on = 99, .ms = 2 };
	count_stop(arg, index);
	assert_int_equal(shard_call((index + 1) % SHARDS, "late", where, &s), OK);
	assert_int_equal(s.on, (index + 1) % SHARDS);
}

static enum err stop_at_once(void *arg, unsigned index)
{
	shards_stop();
	return count_start(arg, index);
}

static void shards_answer_until_all_rest(void **state)
{
	(void)state;
	struct shards_config c = config_of(stop_at_once, NULL);
	c.stop = call_while_stopping;
	assert_int_equal(shards_run(&c), OK);
	assert_int_equal(stops, SHARDS);
}

/* ---- start that fails ---- */

static enum err second_fails(void *arg, unsigned index)
{
	assert_int_equal(count_start(arg, index), OK);
	return index == 1 ? ERR_CONFIG : OK;
}

static void a_start_that_fails_stops_all(void **state)
{
	(void)state;
	struct shards_config c = config_of(second_fails, NULL);
	assert_int_equal(shards_run(&c), ERR_CONFIG);
	assert_int_equal(stops, SHARDS - 1);
	c.backend = "carrier-pigeon";
	assert_int_equal(shards_run(&c), ERR_CONFIG);
}

/* ---- signals ---- */

static void count_reload(void *arg)
{
	(void)arg;
	__atomic_add_fetch(&reloads, 1, __ATOMIC_SEQ_CST);
	kill(getpid(), SIGTERM);
}

static enum err hang_up(void *arg, unsigned index)
{
	if (index == SHARDS - 1)
		kill(getpid(), SIGHUP);
	return count_start(arg, index);
}

static void signals_reload_and_stop(void **state)
{
	(void)state;
	struct shards_config c = config_of(hang_up, NULL);
	c.reload = count_reload;
	assert_int_equal(shards_run(&c), OK);
	assert_int_equal(reloads, 1);
	assert_int_equal(stops, SHARDS);
}

/* ---- from a thread that is no shard, to a sleeping one ---- */

static void told(struct post *p)
{
	(void)p;
	shards_stop();
}

static void *tell(void *arg)
{
	usleep(20000);
	shard_post(1, arg);
	return NULL;
}

static pthread_t teller;

static enum err start_teller(void *arg, unsigned index)
{
	if (index == 0)
		assert_int_equal(pthread_create(&teller, NULL, tell, arg), 0);
	return count_start(arg, index);
}

static void join_teller(void *arg, unsigned index)
{
	if (index == 0)
		pthread_join(teller, NULL);
	count_stop(arg, index);
}

static void any_thread_wakes_a_sleeping_shard(void **state)
{
	static struct post p = { .run = told };
	(void)state;
	struct shards_config c = config_of(start_teller, &p);
	c.stop = join_teller; /* who posts from a thread of its own ends that thread before the shards are gone */
	assert_int_equal(shards_run(&c), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ON_BOTH(messages_keep_their_order),
		ON_BOTH(calls_run_there_and_come_back),
		ON_BOTH(shards_answer_until_all_rest),
		ON_BOTH(a_start_that_fails_stops_all),
		ON_BOTH(signals_reload_and_stop),
		ON_BOTH(any_thread_wakes_a_sleeping_shard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
