/* SPDX-License-Identifier: Apache-2.0 */
/* The offload pool: off the shard's thread, bounded, late jobs never begin, the shard goes on meanwhile. */
#include "tests/unit/support/fiber_main.h"

#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard_private.h"

#include <pthread.h>
#include <unistd.h>

static pthread_t loop_thread;

static void other_thread(void *arg)
{
	*(int *)arg = !pthread_equal(pthread_self(), loop_thread);
}

FIBER_TEST_BOTH(runs_on_another_thread)
{
	int elsewhere = 0;
	loop_thread = pthread_self();
	assert_int_equal(offload_call(other_thread, &elsewhere, 1000), OK);
	assert_int_equal(elsewhere, 1);
}

static void nap(void *arg)
{
	usleep(*(unsigned *)arg * 1000);
}

static int ticks; /* atomic */
static void tick(void *arg)
{
	(void)arg;
	while (__atomic_load_n(&ticks, __ATOMIC_SEQ_CST) >= 0) {
		__atomic_add_fetch(&ticks, 1, __ATOMIC_SEQ_CST);
		fiber_sleep(1);
	}
}

static void until_ticks(void *arg)
{
	(void)arg;
	for (int i = 0; i < 10000 && __atomic_load_n(&ticks, __ATOMIC_SEQ_CST) <= 5; i++)
		usleep(1000);
}

FIBER_TEST_BOTH(the_shard_goes_on_meanwhile)
{
	__atomic_store_n(&ticks, 0, __ATOMIC_SEQ_CST);
	assert_int_equal(fiber_start("tick", tick, NULL), OK);
	assert_int_equal(offload_call(until_ticks, NULL, 10000), OK);
	assert_true(__atomic_load_n(&ticks, __ATOMIC_SEQ_CST) > 5);
	__atomic_store_n(&ticks, -1000000, __ATOMIC_SEQ_CST);
}

static enum err results[8];
static unsigned ended;
static void nap_50(void *arg)
{
	unsigned ms = 50;
	*(enum err *)arg = offload_call(nap, &ms, 20);
	ended++;
}

static void small_pool(void *arg)
{
	(void)arg;
	ended = 0;
	/* one thread, a queue of two: the first begins, two wait (too long), the others are refused at once */
	for (unsigned i = 0; i < 5; i++) {
		results[i] = ERR_COUNT;
		assert_int_equal(fiber_start("nap", nap_50, &results[i]), OK);
		fiber_sleep(i == 0 ? 10 : 0);
	}
	fiber_sleep(1);
	assert_int_equal(ended, 2);
	assert_int_equal(offload_queued(), 2);
	while (ended < 5)
		fiber_sleep(1);
	assert_int_equal(offload_queued(), 0);
	assert_int_equal(results[0], OK);
	assert_int_equal(results[1], ERR_TIMEOUT);
	assert_int_equal(results[2], ERR_TIMEOUT);
	assert_int_equal(results[3], ERR_BUSY);
	assert_int_equal(results[4], ERR_BUSY);
}

static void bounded_and_never_begun_late(void **state)
{
	struct shard_options o = { .offload_threads = 1, .offload_queue_max = 2 };
	(void)state;
	assert_int_equal(shard_run_alone_with(&o, small_pool, NULL), OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(runs_on_another_thread),
		BOTH(the_shard_goes_on_meanwhile),
		cmocka_unit_test(bounded_and_never_begun_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
