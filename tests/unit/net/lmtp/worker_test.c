/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks between real shards: all are done, also when every stack of both shards waits for the other's. */
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/lmtp/lmtp_private.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#define ASKERS (FIBERS_PER_SHARD_MAX * 3) /* per shard: more than there are stacks */

struct ask {
	struct lmtp_task task;
	struct fiber *fiber;
	unsigned from, to;
	bool done;
};

struct tally {
	uint32_t left; /* askers that have not ended */
	uint32_t ran, here, elsewhere;
};
static struct tally tallies[2]; /* each changed by its shard only */
static uint32_t shards_done;    /* atomic */

static void run(struct lmtp_task *t)
{
	struct ask *a = CONTAINER_OF(t, struct ask, task);
	ASSERT(fiber_self() && shard_index() == a->to);
	tallies[a->to].ran++;
	fiber_yield(); /* as a commit would: others get their turn */
}

static void done(struct lmtp_task *t)
{
	struct ask *a = CONTAINER_OF(t, struct ask, task);
	ASSERT(shard_index() == a->from && t->err == OK);
	a->done = true;
	fiber_wake(a->fiber);
}

static void asker(void *arg)
{
	unsigned to = arg ? 1 : 0;
	struct ask a = { .task = { .run = run, .done = done }, .fiber = fiber_self(), .from = shard_index(), .to = to };
	struct tally *t = &tallies[a.from];
	lmtp_task_begin(&a.task, to);
	while (!a.done)
		fiber_park();
	*(to == a.from ? &t->here : &t->elsewhere) += 1;
	if (--t->left)
		return;
	lmtp_workers_release();
	if (__atomic_add_fetch(&shards_done, 1, __ATOMIC_SEQ_CST) == 2)
		shards_stop();
}

static enum err start(void *arg, unsigned index)
{
	(void)arg;
	tallies[index] = (struct tally){ .left = ASKERS };
	lmtp_workers_hold();
	/* most ask the other shard, so that all stacks here are held for work there, and the other way round */
	for (unsigned i = 0; i < ASKERS; i++) {
		unsigned to = i % 8 ? 1 - index : index;
		if (fiber_start("asker", asker, to ? &tallies : NULL) != OK)
			return ERR_BUSY;
	}
	return OK;
}

static void stop(void *arg, unsigned index)
{
	(void)arg, (void)index;
}

static void no_shard_waits_for_ever(void **state)
{
	(void)state;
	const struct shards_config config = { .count = 2, .offload_threads = 1, .offload_queue_max = 4, .backend = getenv("PENFOLD_IO_BACKEND"), .start = start, .stop = stop };
	assert_int_equal(shards_run(&config), OK);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(tallies[i].left, 0);
		assert_int_equal(tallies[i].ran, ASKERS);
		assert_int_equal(tallies[i].here, ASKERS / 8);
		assert_int_equal(tallies[i].elsewhere, ASKERS - ASKERS / 8);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(no_shard_waits_for_ever) };
	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
