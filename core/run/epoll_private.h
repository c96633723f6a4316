/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll_private.h - shared by the files of the epoll back end.
 *
 *     epoll.c          requests in flight, what is ready, the wait
 *     epoll_socket.c   one attempt at a request on a socket or another descriptor that can be polled
 *     epoll_watch.c    which descriptors are registered, and what is known of them
 *     epoll_pool.c     threads for calls on files, in two lanes
 */
#ifndef PENFOLD_CORE_RUN_EPOLL_PRIVATE_H
#define PENFOLD_CORE_RUN_EPOLL_PRIVATE_H

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/run/backend.h"

#include <pthread.h>

/* ---- calls on files ---- */

struct file_job {
	struct io_request request; /* kind IO_NONE: read ahead, and nobody waits for the end */
	int64_t result;
	struct file_job *next; /* free, or done */
	struct link queued;    /* in its lane, until a thread takes it; under the lane's lock */
};

/* A queue and its threads, made when there is work and nobody free. */
struct lane {
	struct file_pool *pool;
	pthread_mutex_t lock;
	pthread_cond_t work;
	struct list queue;
	unsigned queued, idle, count;
	bool closing;
	pthread_t thread[IO_WORKERS_MAX];
};

struct file_pool {
	struct lane quick, sync; /* a slow sync holds no read and no look-up */
	struct file_job *done;   /* newest first; atomic */
	struct file_job *free;   /* the shard's */
	void *owner;
	void (*wake)(void *owner); /* called by a thread after the first job that ended since the last take */
};

void file_pool_init(struct file_pool *p, void *owner, void (*wake)(void *owner));
/* Waits for what runs; what is queued is not begun. */
void file_pool_release(struct file_pool *p);
struct file_job *file_pool_begin(struct file_pool *p, const struct io_request *request);
/* True if no thread had taken it: it will not be done. The job is free again. */
bool file_pool_withdraw(struct file_pool *p, struct file_job *job);
/* All that have ended, oldest first; each is given back by file_pool_free. */
struct file_job *file_pool_take(struct file_pool *p);
void file_pool_free(struct file_pool *p, struct file_job *job);

/* ---- requests ---- */

enum flight_state {
	FLIGHT_NONE,
	FLIGHT_READY,   /* to be tried, in the ready queue */
	FLIGHT_ENDED,   /* its result is known, in the ready queue */
	FLIGHT_WAITING, /* on its descriptor, for an event */
	FLIGHT_FILE,    /* with the pool */
	FLIGHT_PACED,   /* to be tried again in a moment */
};

struct flight {
	uint32_t generation;
	uint32_t prev, next; /* slots; in the ready queue, or of one descriptor and direction; 0 = none */
	int fd;
	union {
		void *ptr;
		struct file_job *job;
	};
	union {
		uint64_t len;
		int64_t result;
	};
	uint32_t arg;
	uint8_t kind, flags, state;
	bool prepared; /* IO_CONNECT: under way; IO_ACCEPT: the listener does not block */
};

struct flights {
	uint32_t head, tail;
};

/* ---- descriptors ---- */

struct watch {
	struct flights in, out; /* who waits */
	uint32_t generation;    /* of the descriptor when it was registered; 0 = it is not */
	uint16_t flights;       /* requests on it, waiting or not */
	bool may_read;          /* an event came since the last read that found nothing, or less than it asked for */
	bool ended;             /* the other side has ended: a read never finds less than there is */
};

struct epoll {
	struct io_backend_config config;
	int fd, wake_fd;
	uint32_t asleep; /* atomic: the wait may block, an end must be followed by a wake */
	bool no_pwait2, passed; /* passed: the last wait asked for no events, because something was ready */
	struct flight *flight; /* by slot */
	uint32_t flight_count;
	struct watch *watch; /* by place; those that are free linked by in.head */
	uint32_t watch_free, watch_used, watch_cap;
	uint32_t *place; /* by descriptor; 0 = none */
	uint32_t place_count;
	struct flights ready, paced;
	uint64_t paced_ns; /* when the first of them is due */
	struct file_pool pool;
	uint64_t enters;
	char buffer[IO_RECV_BYTES_MAX]; /* what is lent: one is enough, for it is lent only while complete() runs */
};

static inline void count_enter(struct epoll *e) { __atomic_store_n(&e->enters, e->enters + 1, __ATOMIC_RELAXED); }

/* epoll_watch.c */
/* An array of zeros, longer than before; never fails. */
void *table_grow(void *table, size_t before, size_t after);
void table_free(void *table, size_t bytes);
void watch_closed(int fd); /* any thread, before the close: who gets the number next starts anew */
struct watch *watch_of(struct epoll *e, int fd);
/* Makes sure that an event of this descriptor will be heard. False: EPERM, it is a file; or there is no memory, or the user's watches are
 * used up. Whoever waits is tried again, by and by. */
bool watch_register(struct epoll *e, int fd, bool listener);
/* Forgets what is known of it, after a close. */
void watch_drop(struct epoll *e, int fd);
/* Hears of it no more. */
void watch_end(struct epoll *e, int fd);
/* Takes one event: wakes those who wait for it. */
void watch_event(struct epoll *e, uint64_t data, uint32_t events);

/* epoll_socket.c: one attempt; false = it must wait. Fills *c_out; for IO_RECV the bytes lie in e->buffer. */
bool attempt(struct epoll *e, struct flight *f, struct io_completion *c_out);
bool waits_to_read(uint8_t kind, uint32_t arg);

/* epoll.c */
void flights_push(struct epoll *e, struct flights *list, uint32_t slot);
void flights_remove(struct epoll *e, struct flights *list, uint32_t slot);
void make_ready(struct epoll *e, uint32_t slot);

#endif
