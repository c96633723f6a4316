/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - slots: who waits for which raw request.
 *
 * A token is {generation, slot}.  The generation changes whenever a slot is given back, so a completion that comes late or
 * twice finds another generation and is dropped (invariant 9).  The table grows by doubling and is indexed, never pointed
 * into; it costs 24 bytes for each request in flight.
 */
#include "core/run/shard_private.h"

#include <stdlib.h>

static void grow(struct requests *r)
{
	uint32_t count = r->count ? r->count * 2 : 256;
	ASSERT(count <= IO_REQUESTS_MAX); /* connections are capped far below */
	r->slot = xrealloc(r->slot, count * sizeof(*r->slot));
	for (uint32_t i = r->count; i < count; i++)
		r->slot[i] = (struct request_slot){ .generation = 1, .next_free = i + 1 < count ? i + 1 : SLOT_NONE };
	r->free_head = r->count ? r->count : 1; /* slot 0 stays unused */
	r->count = count;
}

uint64_t request_token(struct shard *s, void *owner, request_done done, uint32_t *slot_out)
{
	struct requests *r = &s->requests;
	if (r->free_head == SLOT_NONE)
		grow(r);
	uint32_t i = r->free_head;
	struct request_slot *slot = &r->slot[i];
	r->free_head = slot->next_free;
	slot->owner = owner;
	slot->done = done;
	r->open++;
	*slot_out = i;
	return (uint64_t)slot->generation << 32 | i;
}

void request_begin(struct shard *s, struct io_request *request, void *owner, request_done done, uint32_t *slot_out)
{
	request->token = request_token(s, owner, done, slot_out);
	s->backend->begin(s->be, request);
}

void request_cancel(struct shard *s, uint32_t slot)
{
	if (slot == SLOT_NONE)
		return;
	s->backend->cancel(s->be, (uint64_t)s->requests.slot[slot].generation << 32 | slot);
}

void requests_complete(void *shard, const struct io_completion *c)
{
	struct shard *s = shard;
	struct requests *r = &s->requests;
	uint32_t i = (uint32_t)c->token;
	if (i == SLOT_NONE || i >= r->count || r->slot[i].generation != (uint32_t)(c->token >> 32) || !r->slot[i].done) {
		STAT_ADD(r->stale, 1);
		return;
	}
	struct request_slot *slot = &r->slot[i];
	void *owner = slot->owner;
	request_done done = slot->done;
	if (!c->more) {
		slot->generation++;
		slot->done = NULL;
		slot->next_free = r->free_head;
		r->free_head = i;
		r->open--;
	}
	done(owner, c);
}

struct waiter {
	struct fiber *fiber;
	int64_t result;
	bool done;
};

static void waiter_done(void *owner, const struct io_completion *c)
{
	struct waiter *w = owner;
	w->result = c->result;
	w->done = true;
	fiber_wake(w->fiber);
}

int64_t request_await(struct io_request *request)
{
	struct waiter w = { .fiber = fiber_self() };
	ASSERT(w.fiber);
	do {
		uint32_t slot;
		w.done = false;
		request_begin(shard_current, request, &w, waiter_done, &slot);
		while (!w.done)
			fiber_park();
	} while (io_retryable(w.result));
	return w.result;
}
