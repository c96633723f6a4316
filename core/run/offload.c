/* SPDX-License-Identifier: Apache-2.0 */
/*
 * offload.c - threads for what must block or burn: hashes, SQL, syncfs, listings.
 *
 * One pool per process with a bounded queue.  A job lives on its caller's fiber stack; that fiber waits until the job has ended
 * or has been taken out of the queue unbegun, so nothing is allocated and nothing can outlive its stack.  The end comes back
 * as a message to the caller's shard.  A back end may run jobs in its own way (the simulator: inline, at a virtual cost).
 */
#include "core/run/shard_private.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct job {
	struct link link;
	struct post post;
	struct timer timer;
	void (*fn)(void *arg);
	void *arg;
	unsigned shard;
	fair_class_t class;
	struct fiber *fiber;
	bool begun; /* under the lock */
	bool done, late;
};

struct offload {
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct fair queue; /* a line a class, as the fibers have that ask */
	unsigned queued, queue_max;
	bool closing;
	unsigned threads;
	pthread_t thread[OFFLOAD_THREADS_MAX];
};

static void job_returned(struct post *p)
{
	struct job *j = CONTAINER_OF(p, struct job, post);
	j->done = true;
	fiber_wake(j->fiber);
}

static void *worker(void *arg)
{
	struct offload *o = arg;
	pthread_mutex_lock(&o->lock);
	for (;;) {
		struct link *l = fair_pop(&o->queue);
		if (!l && o->closing)
			break;
		if (!l) {
			pthread_cond_wait(&o->work, &o->lock);
			continue;
		}
		struct job *j = CONTAINER_OF(l, struct job, link);
		j->begun = true;
		__atomic_store_n(&o->queued, o->queued - 1, __ATOMIC_RELAXED);
		pthread_mutex_unlock(&o->lock);
		j->fn(j->arg);
		shard_post(j->shard, &j->post); /* j may be gone from here on */
		pthread_mutex_lock(&o->lock);
	}
	pthread_mutex_unlock(&o->lock);
	return NULL;
}

struct offload *offload_open(unsigned threads, unsigned queue_max)
{
	struct offload *o = xcalloc(1, sizeof(*o));
	sigset_t all, before;
	pthread_mutex_init(&o->lock, NULL);
	pthread_cond_init(&o->work, NULL);
	fair_init(&o->queue);
	o->queue_max = queue_max ? queue_max : OFFLOAD_QUEUE_DEFAULT;
	threads = threads ? threads : OFFLOAD_THREADS_DEFAULT;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (unsigned i = 0; i < threads && i < OFFLOAD_THREADS_MAX; i++) {
		if (pthread_create(&o->thread[o->threads], NULL, worker, o) != 0)
			break;
		o->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (o->threads == 0) {
		offload_close(o);
		return NULL;
	}
	return o;
}

void offload_close(struct offload *o)
{
	pthread_mutex_lock(&o->lock);
	o->closing = true;
	pthread_cond_broadcast(&o->work);
	pthread_mutex_unlock(&o->lock);
	for (unsigned i = 0; i < o->threads; i++)
		pthread_join(o->thread[i], NULL);
	pthread_mutex_destroy(&o->lock);
	pthread_cond_destroy(&o->work);
	free(o);
}

static bool enqueue(struct offload *o, struct job *j)
{
	bool room;
	pthread_mutex_lock(&o->lock);
	/* half of the places for one class: the other half is for all others */
	room = o->queued < o->queue_max && (!j->class || o->queue.line[j->class].count < max_u64(1, o->queue_max / 2));
	if (room) {
		fair_push(&o->queue, j->class, &j->link);
		__atomic_store_n(&o->queued, o->queued + 1, __ATOMIC_RELAXED);
		pthread_cond_signal(&o->work);
	}
	pthread_mutex_unlock(&o->lock);
	return room;
}

/* The time to begin has passed: out of the queue, unless it has begun. */
static void job_late(struct timer *t)
{
	struct job *j = CONTAINER_OF(t, struct job, timer);
	struct offload *o = shard_current->offload;
	pthread_mutex_lock(&o->lock);
	j->late = !j->begun;
	if (j->late) {
		fair_remove(&o->queue, j->class, &j->link);
		__atomic_store_n(&o->queued, o->queued - 1, __ATOMIC_RELAXED);
	}
	pthread_mutex_unlock(&o->lock);
	if (j->late)
		fiber_wake(j->fiber);
}

static void job_completed(void *owner, const struct io_completion *c)
{
	struct job *j = owner;
	(void)c;
	j->done = true;
	fiber_wake(j->fiber);
}

static void run_by_backend(struct shard *s, struct job *j)
{
	uint32_t slot;
	uint64_t token = request_token(s, j, job_completed, &slot);
	s->backend->offload(s->be, token, j->fn, j->arg);
	while (!j->done)
		fiber_park();
}

enum err offload_call(void (*fn)(void *arg), void *arg, uint64_t wait_ms_max)
{
	struct shard *s = shard_current;
	struct job j = { .post.run = job_returned, .fn = fn, .arg = arg, .shard = s->index, .class = fiber_class(), .fiber = fiber_self() };
	ASSERT(j.fiber);
	link_init(&j.link);
	if (s->backend->offload) {
		run_by_backend(s, &j);
		return OK;
	}
	if (!enqueue(s->offload, &j))
		return ERR_BUSY;
	timer_init(&j.timer, job_late);
	timer_set(&j.timer, wait_ms_max);
	while (!j.done && !j.late)
		fiber_park();
	timer_clear(&j.timer);
	return j.late ? ERR_TIMEOUT : OK;
}

unsigned offload_queued(void)
{
	const struct shard *s = shard_current;
	return s && s->offload ? __atomic_load_n(&s->offload->queued, __ATOMIC_RELAXED) : 0;
}
