/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.h - one thread with one ring: its loop, messages between shards, and the offload pool.
 *
 * shards_run() starts the threads (pinned to cores, a jemalloc arena each, signals blocked), runs until shards_stop() and
 * joins them.  What a room keeps per shard hangs on a slot (shard_set_local).  Shards share nothing; they talk by messages
 * that carry ids or owned memory, never borrowed pointers.  In the simulator all shards run in one thread: shard_self()
 * is then whichever is being run, so nothing may be kept in thread-local variables above this floor.
 */
#ifndef PENFOLD_CORE_RUN_SHARD_H
#define PENFOLD_CORE_RUN_SHARD_H

#include "core/base/base.h"
#include "core/base/err.h"

struct shard;

struct shards_config {
	unsigned count;           /* shards; 0 = one per core */
	bool pin;                 /* pin each to a core when there are enough */
	unsigned offload_threads; /* for what must block or burn: hashes, SQL, syncfs */
	unsigned offload_queue_max;
	const char *backend;      /* as for shard_set_backend; NULL = what was set last */
	uint64_t splice_min_bytes; /* file ranges at least this long are spliced; 0 = the default found by measurement */
	/* runs on each shard, on a fiber, before the loop serves; an error stops all and shards_run returns it */
	enum err (*start)(void *arg, unsigned index);
	/* runs on each shard, on a fiber, when stopping: end sessions, commit, seal */
	void (*stop)(void *arg, unsigned index);
	/* SIGHUP arrived (shard 0, on a fiber) */
	void (*reload)(void *arg);
	/* SIGUSR2 arrived (the same) */
	void (*upgrade)(void *arg);
	void *arg;
};

/* Which back end all shards of this process run on from now on: "io_uring", "epoll", or "auto" (the preset): io_uring, tried for real by every
 * shard, and epoll where a kernel, sysctl, seccomp profile or memory limit refuses it, after one warning that says which and what to do.
 * ERR_CONFIG for any other name. Not while shards run. */
enum err shard_set_backend(const char *name);
/* The name of the one that runs, or ran last; "none" before. Any thread. */
const char *shard_backend(void);

/* Blocks the calling thread until stopped by SIGTERM, SIGINT or shards_stop. Where io_uring is wanted and refused, returns ERR_CONFIG
 * after one line that says which of sysctl, seccomp, memlock or kernel it is and what to do. */
enum err shards_run(const struct shards_config *config);
void shards_stop(void); /* from any thread */

unsigned shard_count(void);
unsigned shard_index(void); /* of the calling thread's shard */
bool shard_stopping(void);

enum shard_slot {
	SHARD_SLOT_STORE, SHARD_SLOT_BODY, SHARD_SLOT_SOURCE, SHARD_SLOT_UPKEEP, SHARD_SLOT_TENANCY, SHARD_SLOT_NET, SHARD_SLOT_FLEET, SHARD_SLOT_LMTP, SHARD_SLOT_SERVER,
	SHARD_SLOT_STRUCTURE, SHARD_SLOT_AHEAD,
	SHARD_SLOT_TEST, SHARD_SLOT_COUNT
};
void shard_set_local(enum shard_slot slot, void *p);
void *shard_local(enum shard_slot slot);

/* A message is embedded in what it carries; run() is called on the target's loop, once. Order between two shards is kept. */
struct post {
	void (*run)(struct post *p);
	struct post *next;
};
void shard_post(unsigned shard, struct post *p); /* from any shard or thread; completes now */

/* Runs fn(arg) on a fiber of another shard (or this one) and waits for its end. Later. ERR_BUSY if that shard cannot take more. */
enum err shard_call(unsigned shard, const char *what, void (*fn)(void *arg), void *arg);

/* Runs fn(arg) on an offload thread and waits for its end. Later. ERR_BUSY at once when the queue is full, ERR_TIMEOUT when
 * it did not begin within wait_ms_max; once begun it is waited for. fn must bring its own time bound. */
enum err offload_call(void (*fn)(void *arg), void *arg, uint64_t wait_ms_max);
unsigned offload_queued(void);

/* Runs fn(arg) on one shard with one fiber and the given back end until fn returns, then tears all down: for tools and tests. */
enum err shard_run_alone(void (*fn)(void *arg), void *arg);

struct shard_stats {
	uint64_t loops, completions, cq_overflows, lag_max_ns;
	uint64_t sent_memory_bytes, sent_read_bytes, sent_splice_bytes, syncs, sync_ns;
	uint64_t lag_ns;            /* of late: rises at once, falls by 1/64 a turn (invariant 8: over 5 ms fresh connections go elsewhere) */
	uint64_t enters;            /* system calls to begin and wait */
	uint64_t accept_pauses;     /* times that there were no descriptors for a new connection */
	uint64_t recv_starved;      /* receives that found no free buffer and were begun again */
	uint64_t stale_completions; /* late or duplicate ones, dropped */
};
void shard_stats(unsigned shard, struct shard_stats *out);
/* lag_ns alone: cheap enough for every connection. Any thread, now. */
uint64_t shard_lag_ns(unsigned shard);

#endif
