/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_worker.c - fibers of a shard that do for sessions of any shard what must be done where an account lives.
 *
 * A session waits on its stack for copies that are stored on other stacks.  If those came from the same pool, as many
 * sessions as there are stacks could wait for each other's for ever.  So work goes through a queue of tasks, and each shard
 * that has LMTP sessions keeps one worker that has a stack already and never waits for another: however full the shards are,
 * each queue moves.  While there are stacks enough, up to LMTP_WORKERS_MAX work at once.
 *
 * A shard without LMTP sessions starts its first worker when work arrives; the stacks it may have to wait for are held by
 * sessions that do not wait for it.
 *
 * The struct of a shard exists while there are sessions, workers or tasks.
 */
#include "net/lmtp/lmtp_private.h"

#include "core/run/fiber.h"

#include <stdlib.h>

struct workers {
	struct fair tasks;   /* a line for each tenant that has mail under way */
	struct fiber *idle; /* the worker that waits for tasks */
	uint32_t sessions, started, running;
};

static struct workers *here(void)
{
	struct workers *w = shard_local(SHARD_SLOT_LMTP);
	if (!w) {
		w = xcalloc(1, sizeof *w);
		fair_init(&w->tasks);
		shard_set_local(SHARD_SLOT_LMTP, w);
	}
	return w;
}

static void drop_if_unused(struct workers *w)
{
	if (w->sessions || w->started || !fair_empty(&w->tasks))
		return;
	shard_set_local(SHARD_SLOT_LMTP, NULL);
	free(w);
}

/* ---- a task's way back ---- */

static void arrive_home(struct post *post)
{
	struct lmtp_task *t = CONTAINER_OF(post, struct lmtp_task, post);
	t->done(t);
}

static void go_home(struct lmtp_task *t)
{
	if (t->shard == t->home) {
		t->done(t);
		return;
	}
	t->post.run = arrive_home;
	shard_post(t->home, &t->post);
}

/* ---- workers ---- */

static void wait_for_tasks(struct workers *w)
{
	struct fiber *self = w->idle = fiber_self();
	while (w->idle == self)
		fiber_park();
}

static void wake_idle(struct workers *w)
{
	struct fiber *f = w->idle;
	w->idle = NULL;
	fiber_wake(f);
}

static void work(void *arg)
{
	struct workers *w = arg;
	w->running++;
	for (;;) {
		struct link *l = fair_pop(&w->tasks);
		if (l) {
			struct lmtp_task *t = CONTAINER_OF(l, struct lmtp_task, link);
			fiber_set_class(t->class);
			t->run(t);
			fiber_set_class(0);
			go_home(t); /* t may be gone */
			fiber_breathe();
		} else if (w->running > 1 || !w->sessions) {
			break;
		} else {
			wait_for_tasks(w);
		}
	}
	w->running--;
	w->started--;
	drop_if_unused(w);
}

static bool start_worker(struct workers *w)
{
	w->started++;
	if (fiber_start("lmtp worker", work, w) == OK)
		return true;
	w->started--;
	return false;
}

static bool stacks_to_spare(void)
{
	struct fiber_stats stats;
	fiber_stats(&stats);
	return !stats.queued && stats.running < FIBERS_PER_SHARD_MAX * 3 / 4;
}

static void add(struct lmtp_task *t)
{
	struct workers *w = here();
	fair_push(&w->tasks, t->class, &t->link);
	if (w->idle) {
		wake_idle(w);
	} else if (!w->started) {
		if (start_worker(w))
			return;
		fair_remove(&w->tasks, t->class, &t->link);
		t->err = ERR_BUSY;
		drop_if_unused(w);
		go_home(t);
	} else if (w->started < LMTP_WORKERS_MAX && stacks_to_spare()) {
		(void)start_worker(w);
	}
}

static void arrive(struct post *post) { add(CONTAINER_OF(post, struct lmtp_task, post)); }

void lmtp_task_begin(struct lmtp_task *t, unsigned shard)
{
	t->err = OK;
	t->home = shard_index();
	t->class = fiber_class();
	t->shard = shard;
	if (shard == t->home) {
		add(t);
		return;
	}
	t->post.run = arrive;
	shard_post(shard, &t->post);
}

/* ---- sessions ---- */

void lmtp_workers_hold(void)
{
	struct workers *w = here();
	w->sessions++;
	if (!w->started)
		(void)start_worker(w); /* if not now, then with the first task */
}

void lmtp_workers_release(void)
{
	struct workers *w = here();
	ASSERT(w->sessions > 0);
	w->sessions--;
	if (!w->sessions && w->idle)
		wake_idle(w); /* it ends, and with it the struct */
	drop_if_unused(w);
}
