/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.h - time as the shard sees it, and timers.
 *
 * clock_now_ms() is boot time (it goes on while the machine sleeps), read once a loop turn: cheap and equal for
 * everything in the turn.  Deadlines everywhere are in this time.  Wall time is for headers, INTERNALDATE and logs only.
 *
 * Timers live in a hierarchical wheel of 1 ms ticks with a coarse upper part: setting and clearing are O(1), a million of
 * them cost their struct only, and they fire never early, at most a tick late below a minute and at most 1/64 late above.
 * A timer fires from the loop; it may be set again from its own function.
 */
#ifndef PENFOLD_CORE_RUN_CLOCK_H
#define PENFOLD_CORE_RUN_CLOCK_H

#include "core/base/base.h"
#include "core/base/list.h"

uint64_t clock_now_ms(void);      /* cached, boot time */
uint64_t clock_fresh_ns(void);    /* read now, boot time */
int64_t clock_wall_s(void);       /* cached, seconds since 1970 */
int64_t clock_wall_ms(void);

struct timer {
	struct link link;
	uint64_t at_ms;
	void (*fire)(struct timer *t);
};
void timer_init(struct timer *t, void (*fire)(struct timer *t));
void timer_set(struct timer *t, uint64_t delay_ms); /* replaces an earlier setting */
void timer_clear(struct timer *t);                  /* harmless when not set */
static inline bool timer_is_set(const struct timer *t) { return link_linked(&t->link); }

/* Random bytes from the kernel (the simulator: from its seed). Completes now. */
void random_bytes(void *out, size_t bytes);

#endif
