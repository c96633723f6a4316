/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock.c - the timer wheel and the cached clocks.
 *
 * Seven levels of 64 slots.  A timer lies on the level of the highest group of six bits in which its time differs from the
 * wheel's tick, so a level's timers are always later than all timers of lower levels, and the next event is found by
 * one bit scan.  When the tick enters a slot of an upper level, that slot's timers move down (at most six times in a
 * timer's life; most are cleared before).  So every timer fires in its own millisecond.
 */
#include "core/run/shard_private.h"

#include <sys/random.h>
#include <time.h>

#define GROUP_BITS 6
#define GROUP_MASK 63u
#define DELAY_MS_MAX (1ull << 40) /* 34 years */

void wheel_init(struct wheel *w, uint64_t now_ms)
{
	w->tick = now_ms;
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		w->busy[level] = 0;
		for (unsigned i = 0; i < WHEEL_SLOTS; i++)
			list_init(&w->slot[level][i]);
	}
}

static unsigned index_at(uint64_t ms, unsigned level) { return (unsigned)(ms >> (level * GROUP_BITS)) & GROUP_MASK; }

static void place(struct wheel *w, struct timer *t)
{
	uint64_t differs = (t->at_ms ^ w->tick) | 1;
	unsigned level = (63u - (unsigned)__builtin_clzll(differs)) / GROUP_BITS;
	ASSERT(level < WHEEL_LEVELS);
	unsigned i = index_at(t->at_ms, level);
	list_push_back(&w->slot[level][i], &t->link);
	w->busy[level] |= 1ull << i;
}

/* The time must be after the tick: what is due already goes to the next tick. */
void wheel_set(struct wheel *w, struct timer *t)
{
	if (t->at_ms <= w->tick)
		t->at_ms = w->tick + 1;
	place(w, t);
}

/* Slots whose timers were all cleared are noticed here. */
uint64_t wheel_next(struct wheel *w)
{
	for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
		while (w->busy[level]) {
			unsigned i = (unsigned)__builtin_ctzll(w->busy[level]);
			if (list_empty(&w->slot[level][i])) {
				w->busy[level] &= w->busy[level] - 1;
				continue;
			}
			unsigned shift = level * GROUP_BITS;
			uint64_t above = shift + GROUP_BITS < 64 ? ~0ull << (shift + GROUP_BITS) : 0;
			return (w->tick & above) | (uint64_t)i << shift;
		}
	}
	return UINT64_MAX;
}

/* Empties a slot into a list of the caller's, from which timers may still be cleared. */
static void take(struct wheel *w, unsigned level, unsigned i, struct list *out)
{
	struct list *slot = &w->slot[level][i];
	list_init(out);
	w->busy[level] &= ~(1ull << i);
	if (list_empty(slot))
		return;
	out->head.next = slot->head.next;
	out->head.prev = slot->head.prev;
	out->head.next->prev = &out->head;
	out->head.prev->next = &out->head;
	list_init(slot);
}

static void enter_tick(struct wheel *w, uint64_t tick)
{
	struct list due;
	struct link *l;
	w->tick = tick;
	for (unsigned level = WHEEL_LEVELS - 1; level > 0; level--) {
		if (tick & ((1ull << (level * GROUP_BITS)) - 1))
			continue;
		take(w, level, index_at(tick, level), &due);
		while ((l = list_pop_front(&due)))
			place(w, CONTAINER_OF(l, struct timer, link));
	}
	take(w, 0, index_at(tick, 0), &due);
	while ((l = list_pop_front(&due))) {
		struct timer *t = CONTAINER_OF(l, struct timer, link);
		t->fire(t);
	}
}

void wheel_advance(struct wheel *w, uint64_t now_ms)
{
	for (;;) {
		uint64_t next = wheel_next(w);
		if (next > now_ms)
			break;
		enter_tick(w, next);
	}
	if (now_ms > w->tick)
		w->tick = now_ms;
}

void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
	link_init(&t->link);
	t->at_ms = 0;
	t->fire = fire;
}

void timer_set(struct timer *t, uint64_t delay_ms)
{
	struct shard *s = shard_current;
	link_remove(&t->link);
	t->at_ms = s->now_ms + min_u64(delay_ms, DELAY_MS_MAX);
	wheel_set(&s->wheel, t);
}

void timer_clear(struct timer *t) { link_remove(&t->link); }

/* ---- clocks: the shard's, or the kernel's on other threads ---- */

uint64_t clock_now_ms(void)
{
	return shard_current ? shard_current->now_ms : sys_boot_ns(NULL) / 1000000;
}

uint64_t clock_fresh_ns(void)
{
	struct shard *s = shard_current;
	return s ? s->backend->boot_ns(s->be) : sys_boot_ns(NULL);
}

int64_t clock_wall_ms(void)
{
	return shard_current ? shard_current->wall_ms : (int64_t)(sys_wall_ns(NULL) / 1000000);
}

int64_t clock_wall_s(void) { return clock_wall_ms() / 1000; }

void random_bytes(void *out, size_t bytes)
{
	struct shard *s = shard_current;
	if (s)
		s->backend->random(s->be, out, bytes);
	else
		sys_random(NULL, out, bytes);
}
