/* SPDX-License-Identifier: Apache-2.0 */
/* tls_watch.c - see tls_watch.h. */
#include "net/server/tls_watch.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/tls.h"

/* Shard 0's. */
static struct {
	struct timer timer;
	bool busy, stopping;
	struct waitq idle;
} watch;

static void look_job(void *arg) { tls_look(*(const bool *)arg); }

static void look(bool loud)
{
	watch.busy = true;
	offload_call(look_job, &loud, TLS_WORK_MS_MAX); /* not begun in time: the next second's turn */
	watch.busy = false;
	waitq_wake_all(&watch.idle);
}

static void look_fiber(void *arg)
{
	(void)arg;
	if (!watch.busy && !watch.stopping)
		look(false);
	if (!watch.stopping)
		timer_set(&watch.timer, TLS_LOOK_MS);
}

static void due(struct timer *t)
{
	if (fiber_start("tls watch", look_fiber, NULL) != OK)
		timer_set(t, TLS_LOOK_MS);
}

void tls_watch_start(void)
{
	if (shard_index() != 0 || !tls_watched())
		return;
	watch.busy = watch.stopping = false;
	waitq_init(&watch.idle);
	timer_init(&watch.timer, due);
	timer_set(&watch.timer, TLS_LOOK_MS);
}

void tls_watch_stop(void)
{
	if (shard_index() != 0 || !tls_watched())
		return;
	watch.stopping = true;
	timer_clear(&watch.timer);
	while (watch.busy)
		waitq_wait(&watch.idle, 0);
}

void tls_watch_now(void)
{
	if (shard_index() != 0 || !tls_watched())
		return;
	while (watch.busy)
		waitq_wait(&watch.idle, 0);
	if (!watch.stopping)
		look(true);
}
