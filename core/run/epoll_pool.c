/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll_pool.c - threads for calls on files, which the kernel has no other way of not waiting for.
 *
 * One pool a shard, as the ring has its workers, and in the same bounds (IO_WORKERS_MAX a lane): a shard whose disk is slow holds no other.
 * Two lanes: syncs and durable writes, which take as long as the disk does, and everything else.  So any number of slow syncs
 * leaves reads, opens and look-ups their threads.  Threads are made when work comes and nobody is free, and stay.
 *
 * What has ended goes back on a stack that threads push onto and the shard takes whole.
 */
#include "core/run/epoll_private.h"

#include "core/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t done(int64_t r) { return r < 0 ? -errno : r; }

static int64_t run_write(const struct io_request *r)
{
	int flags = r->flags & IO_SYNC_DATA ? RWF_DSYNC : 0;
	return done(pwritev2(r->fd, r->ptr, (int)r->len, (off_t)r->offset, flags));
}

static int64_t run_read(const struct io_request *r)
{
	if (r->offset == IO_NO_OFFSET)
		return done(read(r->fd, r->ptr, r->len));
	return done(pread(r->fd, r->ptr, r->len, (off_t)r->offset));
}

static int64_t run(const struct io_request *r)
{
	switch (r->kind) {
	case IO_NONE:
		return posix_fadvise(r->fd, (off_t)r->offset, (off_t)r->len, POSIX_FADV_WILLNEED);
	case IO_READ:
		return run_read(r);
	case IO_WRITE:
		return run_write(r);
	case IO_SYNC:
		return done(r->flags & IO_SYNC_ALL ? fsync(r->fd) : fdatasync(r->fd));
	case IO_OPEN:
		return done(openat(r->fd, r->name, (int)r->arg, (mode_t)r->mode));
	case IO_RENAME:
		return done(renameat(r->fd, r->name, r->fd2, r->name2));
	case IO_LINK:
		return done(linkat(r->fd, r->name, r->fd2, r->name2, 0));
	case IO_UNLINK:
		return done(unlinkat(r->fd, r->name, (int)r->arg));
	case IO_MKDIR:
		return done(mkdirat(r->fd, r->name, (mode_t)r->mode));
	default:
		UNREACHABLE();
	}
}

static void hand_back(struct file_pool *p, struct file_job *job)
{
	struct file_job *head = __atomic_load_n(&p->done, __ATOMIC_RELAXED);
	do
		job->next = head;
	while (!__atomic_compare_exchange_n(&p->done, &head, job, true, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
	if (!head) /* the others' ends are found with the first */
		p->wake(p->owner);
}

static void *worker(void *arg)
{
	struct lane *lane = arg;
	pthread_mutex_lock(&lane->lock);
	while (!lane->closing) {
		struct link *l = list_pop_front(&lane->queue);
		if (!l) {
			lane->idle++;
			pthread_cond_wait(&lane->work, &lane->lock);
			lane->idle--;
			continue;
		}
		lane->queued--;
		pthread_mutex_unlock(&lane->lock);
		struct file_job *job = CONTAINER_OF(l, struct file_job, queued);
		job->result = run(&job->request);
		hand_back(lane->pool, job);
		pthread_mutex_lock(&lane->lock);
	}
	pthread_mutex_unlock(&lane->lock);
	return NULL;
}

/* ---- the shard's side ---- */

static void lane_init(struct lane *lane, struct file_pool *p)
{
	lane->pool = p;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->work, NULL);
	list_init(&lane->queue);
}

static void lane_release(struct lane *lane)
{
	struct link *l;
	pthread_mutex_lock(&lane->lock);
	lane->closing = true;
	pthread_cond_broadcast(&lane->work);
	pthread_mutex_unlock(&lane->lock);
	for (unsigned i = 0; i < lane->count; i++)
		pthread_join(lane->thread[i], NULL);
	while ((l = list_pop_front(&lane->queue)))
		free(CONTAINER_OF(l, struct file_job, queued));
	pthread_cond_destroy(&lane->work);
	pthread_mutex_destroy(&lane->lock);
}

/* Under the lane's lock. True if there is a thread that will take what was queued. */
static bool grow(struct lane *lane)
{
	sigset_t all, before;
	if (lane->count == IO_WORKERS_MAX)
		return true;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (pthread_create(&lane->thread[lane->count], NULL, worker, lane) == 0)
		lane->count++;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return lane->count > 0;
}

static struct lane *lane_of(struct file_pool *p, const struct io_request *r)
{
	return r->kind == IO_SYNC || (r->kind == IO_WRITE && (r->flags & IO_SYNC_DATA)) ? &p->sync : &p->quick;
}

void file_pool_init(struct file_pool *p, void *owner, void (*wake)(void *owner))
{
	*p = (struct file_pool){ .owner = owner, .wake = wake };
	lane_init(&p->quick, p);
	lane_init(&p->sync, p);
}

void file_pool_release(struct file_pool *p)
{
	lane_release(&p->quick);
	lane_release(&p->sync);
	for (struct file_job *j = file_pool_take(p), *next; j; j = next) {
		next = j->next;
		free(j);
	}
	while (p->free) {
		struct file_job *j = p->free;
		p->free = j->next;
		free(j);
	}
}

struct file_job *file_pool_begin(struct file_pool *p, const struct io_request *request)
{
	struct file_job *job = p->free;
	struct lane *lane = lane_of(p, request);
	if (job)
		p->free = job->next;
	else
		job = xmalloc(sizeof(*job));
	job->request = *request;
	job->next = NULL;
	link_init(&job->queued);
	pthread_mutex_lock(&lane->lock);
	bool served = lane->queued < lane->idle || grow(lane);
	if (served) {
		list_push_back(&lane->queue, &job->queued);
		lane->queued++;
		pthread_cond_signal(&lane->work);
	}
	pthread_mutex_unlock(&lane->lock);
	if (!served) { /* the process may have no threads at all: no worse than to be told so */
		job->result = -ENOMEM;
		hand_back(p, job);
	}
	return job;
}

bool file_pool_withdraw(struct file_pool *p, struct file_job *job)
{
	struct lane *lane = lane_of(p, &job->request);
	pthread_mutex_lock(&lane->lock);
	bool mine = link_linked(&job->queued);
	if (mine) {
		link_remove(&job->queued);
		lane->queued--;
	}
	pthread_mutex_unlock(&lane->lock);
	if (mine)
		file_pool_free(p, job);
	return mine;
}

struct file_job *file_pool_take(struct file_pool *p)
{
	if (!__atomic_load_n(&p->done, __ATOMIC_RELAXED))
		return NULL;
	struct file_job *j = __atomic_exchange_n(&p->done, NULL, __ATOMIC_ACQUIRE), *first = NULL;
	while (j) {
		struct file_job *older = j->next;
		j->next = first;
		first = j;
		j = older;
	}
	return first;
}

void file_pool_free(struct file_pool *p, struct file_job *job)
{
	job->next = p->free;
	p->free = job;
}
