/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.h - a simulated machine behind the door: a disk in memory that can lose power, and a virtual clock.
 *
 * For tests of what must hold through crashes.  `io_backend_sim` runs a shard on a `struct sim`: file calls work on its disk,
 * time passes only when everybody waits, random bytes come from a seed, jobs run inline; so a whole run replays.  Sockets are
 * not simulated (-EOPNOTSUPP).
 *
 * The disk keeps two things apart: what a running system sees, and what would be there after power fails.  A write is
 * durable after IO_SYNC of its file (or by IO_SYNC_DATA, for itself), a name after IO_SYNC of its directory.  Everything
 * else is *pending*, and after a crash each pending thing by itself is there or is not, in any order; a pending write may
 * also be there in part, or only as a longer file of zeros.  That is more than any real file system does, and no less.
 *
 * A test takes snapshots of the disk while its workload runs (sim_on_change), then asks for every state that a crash at
 * that moment could leave (sim_crash_count, sim_crash), and opens the store on it.
 *
 * Faults: sim_fail makes chosen requests fail or come short.
 *
 * All memory belongs to the disk; sim_disk_free frees it.  One thread.
 */
#ifndef PENFOLD_CORE_RUN_SIM_H
#define PENFOLD_CORE_RUN_SIM_H

#include "core/base/bytes.h"
#include "core/run/backend.h"

struct sim_disk;

struct sim_disk *sim_disk_new(void);
struct sim_disk *sim_disk_copy(const struct sim_disk *disk);
void sim_disk_free(struct sim_disk *disk);
/* Changes so far; the same number means the same disk. */
uint64_t sim_disk_changes(const struct sim_disk *disk);

/* How many pending things there are, and how many crash states these give (capped at `cap`). */
unsigned sim_pending(const struct sim_disk *disk);
uint64_t sim_crash_count(const struct sim_disk *disk, uint64_t cap);
/* The disk after power failed with choice number `nth` of them (0 = nothing pending survived, 1 = all of it did; above the cap
 * of a full enumeration: a choice drawn from nth as a seed). Everything on it is durable. */
struct sim_disk *sim_crash(const struct sim_disk *disk, uint64_t nth, uint64_t count);
/* Equal content gives an equal number: to skip states already seen. */
uint64_t sim_disk_digest(const struct sim_disk *disk);

/* Files, for tests that damage them: the inode's bytes by path, durable and seen alike; NULL if there is none. */
bool sim_disk_read(const struct sim_disk *disk, const char *path, struct buf *out);
bool sim_disk_poke(struct sim_disk *disk, const char *path, uint64_t offset, const void *bytes, size_t count);
void sim_disk_print(const struct sim_disk *disk); /* to standard error */

struct sim_config {
	struct sim_disk *disk;
	uint64_t seed;
	/* after every request that changed something, before it completes; may be NULL */
	void (*on_change)(void *arg, struct sim_disk *disk);
	/* decides the result of a request before it is done: 0 = let it be done; else the result (-errno) without effect; for IO_READ and
	 * IO_WRITE a positive value is a short count. May be NULL. */
	int64_t (*fail)(void *arg, const struct io_request *request);
	void *arg;
	bool sync_lies;   /* IO_SYNC and IO_SYNC_DATA succeed without making anything durable: the fault that a crash test must catch */
	bool reorder;     /* completions come in an order drawn from the seed */
	uint64_t free_bytes; /* what the disk claims to have; 0 = plenty */
};
/* What the next shard opened with io_backend_sim runs on; kept by pointer until that shard closes. */
void sim_use(const struct sim_config *config);

extern const struct io_backend io_backend_sim;

#endif
