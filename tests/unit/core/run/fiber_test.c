/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: order, parking, waking, queues, deadlines, the bound of the pool, deep stacks. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char trace[256];

static void note(const char *s) { strncat(trace, s, sizeof(trace) - strlen(trace) - 1); }

static void say(void *arg)
{
	note(arg);
	fiber_yield();
	note(arg);
}

FIBER_TEST(yields_in_turn)
{
	char a[] = "a", b[] = "b";
	trace[0] = 0;
	assert_int_equal(fiber_start("a", say, a), OK);
	assert_int_equal(fiber_start("b", say, b), OK);
	assert_string_equal(trace, ""); /* soon, not inside the call */
	for (int i = 0; i < 4; i++)
		fiber_yield();
	assert_string_equal(trace, "abab");
}

/* Time parked counts under what the fiber said it waits for then; time in which others run while it is ready does not. */
FIBER_TEST(waits_are_counted_by_kind)
{
	struct fiber_waited before = fiber_waited();
	enum fiber_wait was = fiber_wait_for(FIBER_WAIT_HASH);
	assert_int_equal(was, FIBER_WAIT_STORE);
	fiber_sleep(20);
	assert_int_equal(fiber_wait_for(FIBER_WAIT_REDIS), FIBER_WAIT_HASH);
	fiber_sleep(5);
	(void)fiber_wait_for(was);
	fiber_yield();
	struct fiber_waited after = fiber_waited();
	assert_true(after.ns[FIBER_WAIT_HASH] - before.ns[FIBER_WAIT_HASH] >= 10000000);
	assert_true(after.ns[FIBER_WAIT_REDIS] - before.ns[FIBER_WAIT_REDIS] >= 1000000);
	assert_int_equal(after.ns[FIBER_WAIT_STORE], before.ns[FIBER_WAIT_STORE]);
	assert_int_equal(after.ns[FIBER_WAIT_DIRECTORY], before.ns[FIBER_WAIT_DIRECTORY]);
	assert_null(fiber_local());
	fiber_set_local(&before);
	fiber_sleep(1);
	assert_ptr_equal(fiber_local(), &before);
	fiber_set_local(NULL);
}

static struct waitq queue;
static int woken;

static void wait_for_wake(void *arg)
{
	enum err *result = arg;
	*result = waitq_wait(&queue, clock_now_ms() + 10000);
	woken++;
}

FIBER_TEST(wakes_first_come_first_served)
{
	enum err result[3] = { ERR_IO, ERR_IO, ERR_IO };
	waitq_init(&queue);
	woken = 0;
	assert_false(waitq_wake_one(&queue));
	for (int i = 0; i < 3; i++)
		assert_int_equal(fiber_start("w", wait_for_wake, &result[i]), OK);
	fiber_yield();
	assert_true(waitq_wake_one(&queue));
	fiber_yield();
	assert_int_equal(woken, 1);
	assert_int_equal(result[0], OK);
	assert_int_equal(result[1], ERR_IO);
	waitq_wake_all(&queue);
	fiber_yield();
	assert_int_equal(woken, 3);
}

FIBER_TEST(waits_end_at_their_deadline)
{
	uint64_t before = clock_fresh_ns();
	waitq_init(&queue);
	assert_int_equal(waitq_wait(&queue, clock_now_ms() + 20), ERR_TIMEOUT);
	uint64_t took_ms = (clock_fresh_ns() - before) / 1000000;
	assert_in_range(took_ms, 18, 2000);
	assert_int_equal(waitq_wait(&queue, 1), ERR_TIMEOUT); /* long past */
	assert_true(list_empty(&queue.waiters));
}

static void wake_it(void *arg) { fiber_wake(arg); }

FIBER_TEST(a_wake_that_came_before_is_not_lost)
{
	fiber_wake(fiber_self());
	fiber_park();
	assert_int_equal(fiber_start("wake", wake_it, fiber_self()), OK);
	fiber_park();
}

static int ended;
static void park_until(void *arg)
{
	while (waitq_wait(arg, 0) != OK)
		;
	ended++;
}

FIBER_TEST(starts_queue_when_no_stack_is_left)
{
	struct fiber_stats st;
	unsigned started = 0;
	waitq_init(&queue);
	ended = 0;
	while (fiber_start("many", park_until, &queue) == OK)
		started++;
	fiber_stats(&st);
	assert_int_equal(st.running, FIBERS_PER_SHARD_MAX);
	assert_int_equal(st.queued, FIBER_QUEUE_MAX);
	assert_int_equal(started, FIBERS_PER_SHARD_MAX - 1 + FIBER_QUEUE_MAX); /* one is this test */
	while (ended < (int)started) {
		waitq_wake_all(&queue);
		fiber_sleep(1);
	}
	fiber_stats(&st);
	assert_int_equal(st.running, 1);
	assert_int_equal(st.queued, 0);
	assert_int_equal(st.high_water, FIBERS_PER_SHARD_MAX);
}

/* ---- classes ---- */

static bool over;
static unsigned turns[3];
static void take_turns(void *arg)
{
	unsigned *mine = arg;
	while (!over) {
		++*mine;
		fiber_yield();
	}
	ended++;
}

/* A hundred against one: the hundred get half of the turns, not a hundred times as many. */
FIBER_TEST(classes_take_turns)
{
	enum { MANY = 100, TURNS = 500 };
	over = false;
	ended = 0;
	memset(turns, 0, sizeof(turns));
	for (int i = 0; i < MANY; i++)
		assert_int_equal(fiber_run_for(5, "many", take_turns, &turns[0]), OK);
	assert_int_equal(fiber_run_for(6, "one", take_turns, &turns[1]), OK);
	while (turns[1] < TURNS)
		fiber_sleep(1);
	over = true;
	assert_true(turns[0] <= turns[1] + MANY && turns[0] + MANY >= turns[1]);
	while (ended < MANY + 1)
		fiber_sleep(1);
}

FIBER_TEST(a_class_has_a_share_of_the_stacks)
{
	enum { MANY = 3 * FIBERS_PER_CLASS_MAX };
	struct fiber_stats st;
	waitq_init(&queue);
	ended = 0;
	for (int i = 0; i < MANY; i++)
		assert_int_equal(fiber_run_for(5, "many", park_until, &queue), OK);
	fiber_yield();
	fiber_stats(&st);
	assert_int_equal(st.running, 1 + FIBERS_PER_CLASS_MAX);
	assert_int_equal(st.queued, MANY - FIBERS_PER_CLASS_MAX);
	turns[2] = 0;
	over = true; /* it ends at once */
	assert_int_equal(fiber_run_for(6, "other", take_turns, &turns[2]), OK);
	fiber_yield();
	assert_int_equal(ended, 1);
	fiber_set_class(5); /* one more of it, although it has all it may */
	assert_int_equal(fiber_class(), 5);
	fiber_set_class(0);
	while (ended < MANY + 1) {
		waitq_wake_all(&queue);
		fiber_sleep(1);
		fiber_stats(&st);
		assert_true(st.running <= 1 + FIBERS_PER_CLASS_MAX);
	}
	fiber_stats(&st);
	assert_true(st.running == 1 && st.queued == 0);
}

static char order[FIBERS_PER_SHARD_MAX + 64];
static void note_order(void *arg) { order[ended++] = *(const char *)arg; }

/* No stack is left; a class with many starts waiting and one with a single one, which came last. */
FIBER_TEST(starts_take_turns)
{
	static char many[] = "m", one[] = "1";
	unsigned parked = 0;
	struct fiber_stats st;
	waitq_init(&queue);
	ended = 0;
	for (fiber_stats(&st); st.running < FIBERS_PER_SHARD_MAX; fiber_stats(&st), parked++)
		assert_int_equal(fiber_start("park", park_until, &queue), OK);
	fiber_yield();
	for (int i = 0; i < 20; i++)
		assert_int_equal(fiber_run_for(5, "many", note_order, many), OK);
	assert_int_equal(fiber_run_for(6, "one", note_order, one), OK);
	waitq_wake_one(&queue);
	while (ended < 22)
		fiber_sleep(1);
	assert_true(memchr(order, '1', 4) != NULL); /* one of them is the end of who was parked */
	while (ended < (int)parked + 21) {
		waitq_wake_all(&queue);
		fiber_sleep(1);
	}
}

static unsigned deep(volatile char *above, unsigned levels)
{
	volatile char here[1024];
	memset((char *)(uintptr_t)here, (int)levels, sizeof(here));
	if (levels == 0)
		return (unsigned)above[0];
	fiber_yield();
	return deep(here, levels - 1) + (unsigned)here[5];
}

static void go_deep(void *arg)
{
	unsigned *out = arg;
	char top = 3;
	*out = deep(&top, 40);
}

FIBER_TEST(stacks_keep_what_is_on_them)
{
	unsigned got[8] = { 0 };
	for (int i = 0; i < 8; i++)
		assert_int_equal(fiber_start("deep", go_deep, &got[i]), OK);
	fiber_sleep(20);
	for (int i = 0; i < 8; i++)
		assert_int_equal(got[i], 40 * 41 / 2 + 1);
}

static int breaths;
static void other(void *arg)
{
	(void)arg;
	breaths++;
}

FIBER_TEST(breathing_lets_others_run_after_the_slice)
{
	breaths = 0;
	assert_int_equal(fiber_start("other", other, NULL), OK);
	fiber_breathe(); /* the slice has just begun */
	uint64_t began = clock_fresh_ns();
	while (clock_fresh_ns() - began < 2 * FIBER_SLICE_NS)
		;
	fiber_breathe();
	assert_int_equal(breaths, 1);
}

static bool rang;
static void ring_once(struct timer *t)
{
	(void)t;
	rang = true;
}

/* Invariant 8: between its slices the loop looks at the clock and at what has come, though no other fiber is ready. */
FIBER_TEST(who_breathes_alone_leaves_the_loop_its_turns)
{
	struct timer t;
	unsigned slices = 0;
	rang = false;
	timer_init(&t, ring_once);
	timer_set(&t, 1);
	for (; !rang && slices < 256; slices++) {
		uint64_t began = clock_fresh_ns();
		while (clock_fresh_ns() - began < FIBER_SLICE_NS)
			;
		fiber_breathe();
	}
	timer_clear(&t);
	assert_true(rang);
	assert_in_range(slices, 1, 16); /* each takes half a millisecond or more: a few of them */
}

static void at_once(void *arg) { *(int *)arg = 1; }

static void on_loop(struct timer *t)
{
	int ran = 0;
	assert_null(fiber_self());
	assert_int_equal(fiber_run("at once", at_once, &ran), OK);
	breaths = ran;
	(void)t;
}

FIBER_TEST(run_from_the_loop_is_at_once)
{
	struct timer t;
	int ran = 0;
	breaths = 0;
	timer_init(&t, on_loop);
	timer_set(&t, 1);
	fiber_sleep(5);
	assert_int_equal(breaths, 1);
	assert_int_equal(fiber_run("from a fiber", at_once, &ran), OK);
	assert_int_equal(ran, 0);
	fiber_yield();
	assert_int_equal(ran, 1);
}

__attribute__((noinline)) static void run_over(void *arg)
{
	volatile char here[4096];
	here[0] = 1;
	if (arg)
		run_over(arg);
	here[1] = here[0]; /* no tail call */
}

static void dig(void *arg)
{
	(void)arg;
	(void)fiber_start("over", run_over, &arg); /* as deep as it goes */
	fiber_sleep(1000);
}

/* The bottom of a stack is a page that nobody may touch: an overflow ends the process instead of another fiber's data. */
static void an_overflow_hits_the_guard(void **state)
{
	int status = 0;
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		struct rlimit none = { 0, 0 };
		setrlimit(RLIMIT_CORE, &none);
		close(2);
		_exit(shard_run_alone(dig, NULL) == OK ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) > 1); /* reported by the sanitizer */
#else
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(yields_in_turn),
		cmocka_unit_test(wakes_first_come_first_served),
		cmocka_unit_test(waits_end_at_their_deadline),
		cmocka_unit_test(a_wake_that_came_before_is_not_lost),
		cmocka_unit_test(starts_queue_when_no_stack_is_left),
		cmocka_unit_test(classes_take_turns),
		cmocka_unit_test(a_class_has_a_share_of_the_stacks),
		cmocka_unit_test(starts_take_turns),
		cmocka_unit_test(waits_are_counted_by_kind),
		cmocka_unit_test(stacks_keep_what_is_on_them),
		cmocka_unit_test(breathing_lets_others_run_after_the_slice),
		cmocka_unit_test(who_breathes_alone_leaves_the_loop_its_turns),
		cmocka_unit_test(run_from_the_loop_is_at_once),
		cmocka_unit_test(an_overflow_hits_the_guard),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
