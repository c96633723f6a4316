/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber.h - straight-line code on pooled stacks.
 *
 * A fiber runs one command or one background job on one shard and never moves.  Its stack comes from the shard's pool
 * and goes back when its function returns, so a waiting session costs its struct only.  A fiber waits only for what has
 * a deadline of our own (disk, directory, Redis, offload), never for a client (DESIGN section 1).
 *
 * Between two waits nothing else runs on the shard: state checked before a wait must be checked again after it.
 * A fiber has a class (core/base/fair.h): whoever it works for.  Fibers that are ready, and starts that wait for a stack, stand in one line a
 * class, and the lines are served in turn; a class has at most FIBERS_PER_CLASS_MAX stacks.  Class 0, the house's own work, has no such
 * bound.  While nobody waits none of it costs anything.
 *
 * Stacks are FIBER_STACK_BYTES with a guard page below; sanitizers are told of every switch.
 */
#ifndef PENFOLD_CORE_RUN_FIBER_H
#define PENFOLD_CORE_RUN_FIBER_H

#include "core/base/base.h"
#include "core/base/list.h"

#include "core/base/err.h"
#include "core/base/fair.h"

struct fiber;

/* Starts fn(arg) on a stack of this shard's pool, soon (from the loop, not inside this call). With no free stack the start is queued,
 * at most FIBER_QUEUE_MAX of all classes: ERR_BUSY above. Class 0. `what` is a static string for the log and the debugger. */
enum err fiber_start(const char *what, void (*fn)(void *arg), void *arg);
/* As fiber_start but runs fn at once up to its first wait when a stack is free and the caller is not itself a fiber. */
enum err fiber_run(const char *what, void (*fn)(void *arg), void *arg);
/* As fiber_run, for a class. It begins at once only if nothing of its class waits and this turn of the loop is young. */
enum err fiber_run_for(fair_class_t whose, const char *what, void (*fn)(void *arg), void *arg);
/* The calling fiber goes on in another class; it keeps its stack even where that class has its share. */
void fiber_set_class(fair_class_t whose);
fair_class_t fiber_class(void); /* of the calling fiber; 0 on the loop */

/* The calling fiber, or NULL on the loop itself. */
struct fiber *fiber_self(void);

/* Parks the calling fiber until fiber_wake. A wake that came before is not lost (one is remembered), and a remembered one may be meant
 * for something that is over: so park in a loop that asks whether what was waited for is there. */
void fiber_park(void);
/* Makes a fiber of this shard ready; it runs from the loop. */
void fiber_wake(struct fiber *f);

/* Lets others run if this fiber has held the shard longer than the CPU slice (500 us, invariant 8); cheap to call often. */
void fiber_breathe(void);
/* Lets others run now. */
void fiber_yield(void);
void fiber_sleep(uint64_t ms);

/* A queue of fibers waiting for one thing of this shard. */
struct waitq {
	struct list waiters;
};
void waitq_init(struct waitq *q);
/* Waits for a wake; deadline_ms is clock_now_ms() based, 0 = none. OK or ERR_TIMEOUT. */
enum err waitq_wait(struct waitq *q, uint64_t deadline_ms);
bool waitq_wake_one(struct waitq *q); /* first come, first served; false if nobody waits */
void waitq_wake_all(struct waitq *q);

/* ---- what a fiber waited for ---- */

/* Where nobody says otherwise a fiber waits for the store: its own files, or those of another shard. */
enum fiber_wait { FIBER_WAIT_STORE, FIBER_WAIT_DIRECTORY, FIBER_WAIT_REDIS, FIBER_WAIT_HASH, FIBER_WAITS };
/* From now on the calling fiber's waits are for that; returns what they were for, to be given back. Harmless where there is no fiber. */
enum fiber_wait fiber_wait_for(enum fiber_wait what);
/* How long the calling fiber has been parked for each, since it started, in nanoseconds: from parking until it ran again. */
struct fiber_waited {
	uint64_t ns[FIBER_WAITS];
};
struct fiber_waited fiber_waited(void);
/* A pointer that the calling fiber carries for who started it; NULL at its start, and where there is no fiber. */
void fiber_set_local(void *local);
void *fiber_local(void);

struct fiber_stats {
	uint32_t running, free, queued, high_water;
};
void fiber_stats(struct fiber_stats *out);

#endif
