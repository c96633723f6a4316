/* SPDX-License-Identifier: Apache-2.0 */
/* The timer wheel: setting and clearing, as every command of every session does, and firing a million. */
#include "bench/micro/c.h"

#define _Thread_local __thread /* the same thing, in C++ */
extern "C" {
#include "core/run/clock.h"
#include "core/run/shard_private.h"
}

static uint64_t fired;
static void fire(struct timer *) { fired++; }

namespace {
struct Wheel {
	struct wheel w;
	std::vector<struct timer> timers;
	explicit Wheel(size_t n) : timers(n)
	{
		wheel_init(&w, 1000);
		for (auto &t : timers)
			timer_init(&t, fire);
	}
	void set(size_t i, uint64_t at_ms)
	{
		timers[i].at_ms = at_ms;
		wheel_set(&w, &timers[i]);
	}
};
}

static uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 33;
}

/* A session's idle timer is put off at each command: 10 minutes ahead, among many others. */
static void wheel_put_off(benchmark::State &state)
{
	Wheel wheel(static_cast<size_t>(state.range(0)));
	uint64_t x = 1, now = 1000;
	for (size_t i = 0; i < wheel.timers.size(); i++)
		wheel.set(i, now + 1 + next(&x) % 600000);
	for (auto _ : state) {
		size_t i = next(&x) % wheel.timers.size();
		link_remove(&wheel.timers[i].link);
		wheel.set(i, now++ % 1000 + 600000);
	}
	state.SetItemsProcessed(state.iterations());
}
BENCHMARK(wheel_put_off)->Arg(1000)->Arg(1000000);

/* All fire, one loop turn a millisecond: cost per timer, cascades included. */
static void wheel_fire_all(benchmark::State &state)
{
	Wheel wheel(static_cast<size_t>(state.range(0)));
	uint64_t x = 1, now = 1000;
	for (auto _ : state) {
		fired = 0;
		for (size_t i = 0; i < wheel.timers.size(); i++)
			wheel.set(i, now + 1 + next(&x) % 60000);
		for (uint64_t end = now + 61000; now < end; now++)
			wheel_advance(&wheel.w, now);
		BENCH_CHECK(fired == wheel.timers.size());
	}
	state.SetItemsProcessed(state.range(0) * state.iterations());
}
BENCHMARK(wheel_fire_all)->Arg(100000)->Unit(benchmark::kMillisecond);
