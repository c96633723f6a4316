/* SPDX-License-Identifier: Apache-2.0 */
/* cross_wait.c - waiting across shards. */
#include "tenancy/cross_wait.h"

static void arrived(struct post *p)
{
	struct cross_wait *w = CONTAINER_OF(p, struct cross_wait, post);
	w->done = true;
	waitq_wake_all(&w->queue);
}

void cross_wait_init(struct cross_wait *w)
{
	link_init(&w->link);
	waitq_init(&w->queue);
	w->post = (struct post){ .run = arrived };
	w->shard = shard_index();
	w->done = false;
}

enum err cross_wait_fair(struct cross_wait *w, struct fair *queue, fair_class_t class, pthread_mutex_t *lock, uint64_t deadline_ms)
{
	while (!w->done) {
		if (waitq_wait(&w->queue, deadline_ms) != ERR_TIMEOUT || w->done)
			continue;
		pthread_mutex_lock(lock);
		bool gave_up = link_linked(&w->link);
		if (gave_up && queue)
			fair_remove(queue, class, &w->link);
		else
			link_remove(&w->link);
		pthread_mutex_unlock(lock);
		if (gave_up)
			return ERR_TIMEOUT;
		deadline_ms = 0; /* the wake is on its way and writes into *w: it must be met */
	}
	return OK;
}

enum err cross_wait(struct cross_wait *w, pthread_mutex_t *lock, uint64_t deadline_ms)
{
	return cross_wait_fair(w, NULL, 0, lock, deadline_ms);
}

void cross_wake(struct cross_wait *w)
{
	shard_post(w->shard, &w->post);
}
