/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard_private.h - the inside of a shard, for the files of this room and its tests.
 *
 * One struct holds all that a shard's thread owns.  `shard_current` is the shard that the calling thread is running; it is
 * the only thread-local variable of the house.  A thread that is no shard (main, offload) has NULL there.
 *
 *     request.c   slots: which raw request belongs to whom, so that a late completion hits nobody
 *     io.c send.c file.c   the faces, in terms of raw requests
 *     clock.c     the wheel
 *     fiber.c     stacks and the ready queue
 *     post.c offload.c     messages between threads
 *     shard.c     the loop; shards.c threads, start and stop
 *     backends.c  which back end runs; uring.c epoll.c syscalls.c   the kernel
 */
#ifndef PENFOLD_CORE_RUN_SHARD_PRIVATE_H
#define PENFOLD_CORE_RUN_SHARD_PRIVATE_H

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/run/backend.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/io.h"
#include "core/run/shard.h"

#include <errno.h>

/* ---- requests ---- */

#define SLOT_NONE 0u /* slot 0 is never given out, so that zeroed memory means "none" */

typedef void (*request_done)(void *owner, const struct io_completion *c);

struct request_slot {
	void *owner;
	request_done done;
	uint32_t generation;
	uint32_t next_free; /* while free */
};

struct requests {
	struct request_slot *slot;
	uint32_t count, free_head, open;
	uint64_t stale; /* completions of slots that had moved on: late or duplicate */
};

/* Begins a request: gives it a token and a slot, which it writes to *slot_out. `done` runs from the loop. */
void request_begin(struct shard *s, struct io_request *request, void *owner, request_done done, uint32_t *slot_out);
/* Only the token and the slot, for a completion that the back end's offload will report. */
uint64_t request_token(struct shard *s, void *owner, request_done done, uint32_t *slot_out);
/* Asks the back end for an early end. Harmless for SLOT_NONE. */
void request_cancel(struct shard *s, uint32_t slot);
/* On a fiber: begins and waits; -EINTR and -EAGAIN are tried again. */
int64_t request_await(struct io_request *request);
void requests_complete(void *shard, const struct io_completion *c);

/* ---- work for a later moment of this turn ---- */

struct deferred {
	struct link link;
	void (*run)(struct deferred *d);
};

/* ---- the wheel ---- */

#define WHEEL_LEVELS 7 /* 64^7 ms: 139 years */
#define WHEEL_SLOTS 64
struct wheel {
	uint64_t tick; /* all timers up to here have fired */
	uint64_t busy[WHEEL_LEVELS];
	struct list slot[WHEEL_LEVELS][WHEEL_SLOTS];
};
void wheel_init(struct wheel *w, uint64_t now_ms);
void wheel_set(struct wheel *w, struct timer *t);
void wheel_advance(struct wheel *w, uint64_t now_ms); /* fires what is due */
uint64_t wheel_next(struct wheel *w);                 /* when to look again; UINT64_MAX = never; never late */

/* ---- fibers ---- */

struct fiber_start_entry {
	struct link link;
	fair_class_t whose;
	const char *what;
	void (*fn)(void *arg);
	void *arg;
};
struct fibers {
	struct fiber *current;
	struct fiber *free; /* newest first: its stack is warm */
	struct fiber *all;
	struct fair ready;
	uint32_t made, running, high_water;
	struct fair starts;                     /* wait for a stack */
	struct list beyond[FAIR_CLASSES];       /* and for their class to have fewer */
	uint32_t admitted[FAIR_CLASSES];        /* running, and in `starts` */
	uint32_t queue_count;                   /* in both */
	struct list entries_free;               /* struct fiber_start_entry, not in use */
	/* the loop's own context while a fiber runs */
	void *loop_sp;
	void *loop_asan_fake, *loop_tsan;
	const void *loop_stack;
	size_t loop_stack_bytes;
};
void fibers_init(struct fibers *f);
void fibers_release(struct fibers *f);
void fibers_run(struct shard *s, unsigned max);
bool fibers_waiting(const struct fibers *f); /* something could run now */

/* ---- sends ---- */

struct send;
struct sends {
	struct send *free;
	char *buffer_free; /* linked through their first bytes */
	unsigned buffers;
	uint32_t open;
	struct list waiting; /* for a buffer */
	uint64_t turn, turn_bytes; /* the loop's turn, and what was spliced in it */
	int pipe[2]; /* empty between two steps, so one is enough; -1 = not open */
};
void send_begin(struct shard *s, struct io_op *op, const struct io_piece *pieces, size_t count);
void send_cancel(struct shard *s, struct io_op *op);
void sends_init(struct sends *p);
void sends_release(struct shard *s);

/* ---- offload ---- */

struct offload;
struct offload *offload_open(unsigned threads, unsigned queue_max);
void offload_close(struct offload *o);

/* ---- which back end ---- */

/* The one to be tried now; never NULL. */
const struct io_backend *backend_wanted(void);
/* The wanted one could not be opened, and why. True: another is wanted from now on (told once in the log), try again. */
bool backend_refused(const struct io_backend *backend, const char *why);
void backend_runs(const struct io_backend *backend);

/* ---- the shard ---- */

struct shard_options {
	const struct io_backend *backend; /* NULL = as shard_set_backend says */
	unsigned sq_entries, cq_entries;  /* 0 = the limits' */
	uint64_t splice_min_bytes;        /* 0 = the default */
	unsigned offload_threads, offload_queue_max;
};

struct shard {
	/* what other threads touch */
	struct post *posts; /* newest first; atomic */
	uint32_t asleep;    /* atomic: 1 while a post must be followed by a wake */
	uint32_t poked;     /* atomic: look again before you sleep */

	const struct io_backend *backend;
	void *be;
	unsigned index;
	bool ended; /* shard_run_alone: its function has returned */
	uint64_t now_ns, now_ms;
	int64_t wall_ms;
	struct wheel wheel;
	struct fibers fibers;
	struct requests requests;
	struct list deferred, deferred_late;
	struct sends sends;
	struct offload *offload;
	uint64_t splice_min_bytes;
	/* descriptors written to without a sync since: one bit each; file.c */
	uint64_t *dirty;
	size_t dirty_words;
	void *local[SHARD_SLOT_COUNT];
	uint64_t loops, completions, lag_max_ns, lag_ns;
	uint64_t sent_memory_bytes, sent_read_bytes, sent_splice_bytes, syncs, sync_ns;
	uint64_t accept_pauses, recv_starved;
	struct list accepts_paused;
	struct timer accept_timer;
};

extern _Thread_local struct shard *shard_current;

/* A counter that its own shard changes and anybody may read. */
#define STAT_ADD(field, n) __atomic_store_n(&(field), (field) + (n), __ATOMIC_RELAXED)
#define STAT_GET(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* Opens a shard on the calling thread and makes it current; ERR_CONFIG with one line in why. */
enum err shard_open(const struct shard_options *options, unsigned index, struct offload *offload, struct shard **shard_out, char *why,
                    size_t why_bytes);
void shard_close(struct shard *s);
/* One turn: timers, posts, fibers, then the back end. Blocks only if may_block and nothing is left to do. */
void shard_turn(struct shard *s, bool may_block);
void shard_defer(struct shard *s, struct deferred *d);
/* Runs in this turn, behind its fibers and before the wait: what gathers bytes of all who ran. */
void shard_defer_late(struct shard *s, struct deferred *d);
/* True when nothing runs and nothing is open. */
bool shard_idle(const struct shard *s);
void shard_clock(struct shard *s);
/* Makes the shards known to shard_count, shard_post...; NULL, 0 to forget. The simulator uses it too. */
void shards_publish(struct shard **shards, unsigned count);

/* As shard_run_alone, with options (tests). */
enum err shard_run_alone_with(const struct shard_options *options, void (*fn)(void *arg), void *arg);

struct shard *shard_at(unsigned index);
/* Makes a shard's next or present wait return, for something other than a message. Any thread. */
void shard_poke(struct shard *s);
/* post.c: runs all messages that have come. */
void posts_run(struct shard *s);

/* Retry at once? */
static inline bool io_retryable(int64_t result) { return result == -EINTR || result == -EAGAIN; }

#endif
