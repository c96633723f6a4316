/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - emptying the chain.
 */
#include "net/send.h"
#include "net/reply_private.h"

void reply_init(struct reply *r, struct pool *chunks)
{
	*r = (struct reply){ .chunks = chunks };
}

static void drop_first_chunk(struct reply *r)
{
	struct reply_chunk *c = r->first;
	r->first = c->next;
	if (!r->first) {
		r->last = NULL;
		r->open = false;
	}
	r->memory_bytes -= (uint32_t)REPLY_CHUNK_BYTES;
	pool_put(r->chunks, c);
}

/* Forgets the first piece; returns its length. Its chunk goes with its last piece: an empty chain holds no memory. */
static uint64_t drop_first_piece(struct reply *r)
{
	struct reply_chunk *c = r->first;
	uint64_t len = c->piece[c->first].len;
	struct piece_release release = c->release[c->first];
	c->first++;
	r->pieces--;
	r->queued_bytes -= len;
	if (c->first == c->count)
		drop_first_chunk(r);
	if (release.fn)
		release.fn(release.arg);
	return len;
}

void reply_shrink(struct reply *r)
{
	if (r->first && !r->pieces)
		drop_first_chunk(r); /* only the last chunk can be without pieces, so there is just this one */
}

void reply_release(struct reply *r)
{
	ASSERT(!r->flying);
	while (r->pieces)
		drop_first_piece(r);
	reply_shrink(r);
}

/* Copies pieces of several chunks into one array. */
static size_t fill_batch(const struct reply *r, struct io_piece *batch)
{
	size_t count = 0, text = 0;
	for (const struct reply_chunk *c = r->first; c; c = c->next) {
		for (uint16_t i = c->first; i < c->count; i++) {
			if (count == SEND_BATCH_PIECES || text >= REPLY_BYTES_MAX / 2)
				return count;
			text += c->piece[i].fd < 0 ? c->piece[i].len : 0;
			batch[count++] = c->piece[i];
		}
	}
	return count;
}

struct reply_flight reply_gather(struct reply *r, struct pool *batches)
{
	ASSERT(r->pieces && !r->flying);
	struct reply_flight f;
	const struct reply_chunk *c = r->first;
	if (c->count - c->first == (int)r->pieces) {
		f = (struct reply_flight){ .pieces = c->piece + c->first, .count = r->pieces };
	} else {
		f.batch = pool_get(batches);
		f.pieces = f.batch;
		f.count = fill_batch(r, f.batch);
	}
	r->flying = (uint16_t)f.count;
	if (f.count == r->pieces)
		r->open = false; /* the kernel has the last piece: it grows no more */
	return f;
}

void reply_sent(struct reply *r)
{
	ASSERT(r->flying);
	while (r->flying) {
		r->flying--;
		r->sent_bytes += drop_first_piece(r);
	}
	reply_shrink(r);
}

void reply_failed(struct reply *r) { r->flying = 0; }

bool reply_half_drained(const struct reply *r)
{
	return r->memory_bytes <= REPLY_BYTES_MAX / 2 && r->pieces <= REPLY_PIECES_MAX / 2;
}
