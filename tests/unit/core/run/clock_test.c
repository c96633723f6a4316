/* SPDX-License-Identifier: Apache-2.0 */
/* The wheel against a plain list of deadlines, and timers on a live shard. */
#include "tests/unit/support/fiber_main.h"

#include "core/run/fiber.h"
#include "core/run/shard_private.h"

#include <stdlib.h>
#include <time.h>

struct timed {
	struct timer timer;
	uint64_t fired_at, again_ms;
	unsigned fired;
};

static struct wheel wheel;

static void fire(struct timer *t)
{
	struct timed *x = CONTAINER_OF(t, struct timed, timer);
	x->fired++;
	x->fired_at = wheel.tick;
	if (x->again_ms) {
		t->at_ms = wheel.tick + x->again_ms;
		wheel_set(&wheel, t);
	}
}

static uint64_t seed = 42;
static uint64_t draw(uint64_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (seed >> 33) % below;
}

static void every_timer_fires_in_its_own_millisecond(void **state)
{
	enum { COUNT = 4000 };
	struct timed *x = calloc(COUNT, sizeof(*x));
	uint64_t now = 123456789;
	(void)state;
	wheel_init(&wheel, now);
	for (int i = 0; i < COUNT; i++) {
		uint64_t range = 1ull << (1 + draw(34));
		timer_init(&x[i].timer, fire);
		x[i].timer.at_ms = now + 1 + draw(range);
		wheel_set(&wheel, &x[i].timer);
	}
	for (int i = 0; i < COUNT; i += 3)
		timer_clear(&x[i].timer);
	/* go from event to event, sometimes past several */
	for (;;) {
		uint64_t next = wheel_next(&wheel), first = UINT64_MAX;
		for (int i = 0; i < COUNT; i++)
			if (timer_is_set(&x[i].timer))
				first = min_u64(first, x[i].timer.at_ms);
		assert_true(next <= first); /* never late */
		if (next == UINT64_MAX)
			break;
		assert_true(next > now);
		now = next + (draw(4) ? 0 : draw(100000));
		wheel_advance(&wheel, now);
	}
	for (int i = 0; i < COUNT; i++) {
		assert_int_equal(x[i].fired, i % 3 != 0);
		if (x[i].fired)
			assert_int_equal(x[i].fired_at, x[i].timer.at_ms);
	}
	free(x);
}

static void a_timer_may_set_itself_again(void **state)
{
	struct timed x = { .again_ms = 7 };
	(void)state;
	wheel_init(&wheel, 1000);
	timer_init(&x.timer, fire);
	x.timer.at_ms = 1007;
	wheel_set(&wheel, &x.timer);
	wheel_advance(&wheel, 1000 + 70);
	assert_int_equal(x.fired, 10);
	assert_int_equal(wheel_next(&wheel), 1077);
}

static struct timed *victim;
static void clear_other(struct timer *t)
{
	(void)t;
	timer_clear(&victim->timer);
}

static void a_timer_may_clear_one_that_is_due_with_it(void **state)
{
	struct timed a = { 0 }, b = { 0 };
	(void)state;
	wheel_init(&wheel, 0);
	victim = &b;
	timer_init(&a.timer, clear_other);
	timer_init(&b.timer, fire);
	a.timer.at_ms = b.timer.at_ms = 50;
	wheel_set(&wheel, &a.timer);
	wheel_set(&wheel, &b.timer);
	wheel_advance(&wheel, 60);
	assert_int_equal(b.fired, 0);
	assert_int_equal(wheel_next(&wheel), UINT64_MAX);
}

static void a_cleared_timer_costs_no_wake_up(void **state)
{
	struct timed a = { 0 };
	(void)state;
	wheel_init(&wheel, 77);
	timer_init(&a.timer, fire);
	timer_clear(&a.timer);
	a.timer.at_ms = 600077;
	wheel_set(&wheel, &a.timer);
	timer_clear(&a.timer);
	assert_int_equal(wheel_next(&wheel), UINT64_MAX);
}

static uint64_t live_fired_ns;
static void live(struct timer *t)
{
	(void)t;
	live_fired_ns = clock_fresh_ns();
}

FIBER_TEST(live_timers_are_on_time)
{
	struct timer t, unused;
	timer_init(&t, live);
	timer_init(&unused, live);
	timer_set(&unused, 1000000);
	for (uint64_t ms = 1; ms <= 64; ms *= 4) {
		uint64_t began_ms = clock_now_ms();
		live_fired_ns = 0;
		timer_set(&t, 5);
		timer_set(&t, ms); /* replaces */
		while (!live_fired_ns)
			fiber_sleep(1);
		assert_true(live_fired_ns / 1000000 >= began_ms + ms);       /* never early */
		assert_true(live_fired_ns / 1000000 <= began_ms + ms + 200); /* a busy machine may be late */
	}
	assert_true(timer_is_set(&unused));
	timer_clear(&unused);
	assert_true(llabs(clock_wall_s() - (int64_t)time(NULL)) <= 1);
}

FIBER_TEST(random_bytes_differ)
{
	unsigned char a[32] = { 0 }, b[32] = { 0 };
	random_bytes(a, sizeof(a));
	random_bytes(b, sizeof(b));
	assert_memory_not_equal(a, b, sizeof(a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_timer_fires_in_its_own_millisecond),
		cmocka_unit_test(a_timer_may_set_itself_again),
		cmocka_unit_test(a_timer_may_clear_one_that_is_due_with_it),
		cmocka_unit_test(a_cleared_timer_costs_no_wake_up),
		cmocka_unit_test(live_timers_are_on_time),
		cmocka_unit_test(random_bytes_differ),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
