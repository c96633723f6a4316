/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cross_wait.h - a fiber of one shard waits for what a fiber of another will finish.
 *
 * Private to this room: who shares a look-up in flight, who waits for a hash slot.  The struct lives on the waiter's stack
 * and is linked in a list that the waker guards by a mutex.  Who takes it out of the list under that mutex owes it
 * exactly one cross_wake; who finds itself out of the list waits for that wake, whatever its deadline says.
 */
#ifndef PENFOLD_TENANCY_CROSS_WAIT_H
#define PENFOLD_TENANCY_CROSS_WAIT_H

#include "core/base/err.h"
#include "core/base/fair.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"

#include <pthread.h>

struct cross_wait {
	struct link link;
	struct post post;
	struct waitq queue;
	unsigned shard;
	bool done;
};

/* On the waiter's shard, before it is linked. */
void cross_wait_init(struct cross_wait *w);
/* Later. OK: it was woken. ERR_TIMEOUT: the deadline (clock_now_ms() based) passed, and it is out of the list. `lock` guards the list. */
enum err cross_wait(struct cross_wait *w, pthread_mutex_t *lock, uint64_t deadline_ms);
/* As cross_wait, for one that stands in the line of a class. */
enum err cross_wait_fair(struct cross_wait *w, struct fair *queue, fair_class_t whose, pthread_mutex_t *lock, uint64_t deadline_ms);
/* From any shard, once, after taking it out of the list. *w may be gone when this returns. */
void cross_wake(struct cross_wait *w);

#endif
