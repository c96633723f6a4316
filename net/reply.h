/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.h - output as a chain of pieces: static text, copied text, file ranges.
 *
 * A handler appends; the loop sends, gathered, in order.  Text is copied into chunks of the chain (short text: the usual
 * case), static text is pointed to, file ranges are sent by the door without passing through our hands where that pays
 * (DESIGN section 9).  A file range may carry a release function that is called when the kernel is done with it: that is
 * how a message stays pinned while it is sent.
 *
 * Bounds: memory in a chain is at most REPLY_BYTES_MAX; ranges at most REPLY_PIECES_MAX.  reply_full() is asked by
 * commands that can produce more than that (LIST, UIDL, FETCH), which then save a cursor and return STEP_RESUME.  Commands that write
 * a few lines need not ask: there is always REPLY_SLACK_BYTES beyond "full".  Who writes more than that without asking has made a
 * mistake of ours: the rest is dropped, `overrun` is set, and the session ends (END_IO, a line in the log).  An empty
 * chain holds no memory.
 *
 * All calls complete now and none fails.  A chain belongs to one session and shard (invariant 9: what a send has is not
 * touched until it is done).
 */
#ifndef PENFOLD_NET_REPLY_H
#define PENFOLD_NET_REPLY_H

#include "core/base/bytes.h"
#include "core/base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pool;
struct reply_chunk;
struct reply {
	struct reply_chunk *first, *last;
	uint32_t memory_bytes; /* of chunks */
	uint32_t pieces;
	uint64_t queued_bytes; /* all that is not yet sent, file ranges included */
	uint64_t sent_bytes;   /* over the session's life */
	struct pool *chunks;   /* of the shard */
	uint16_t flying;       /* first pieces that a send has now; send.h */
	bool open;             /* the last piece is text that may still grow */
	bool overrun;          /* more than the slack was asked for: output is lost, the session must end */
};

void reply_put(struct reply *r, struct slice text);     /* copied */
void reply_static(struct reply *r, struct slice text);  /* lives for ever */
#define REPLY_LIT(r, lit) reply_static((r), SLICE_LIT(lit))
void reply_printf(struct reply *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void reply_u64(struct reply *r, uint64_t value);
/* Room for `bytes` (<= REPLY_ROOM_BYTES) to be written in place, then reply_commit of what was used, before any wait and any other
 * call on the chain: for hot lists. */
char *reply_room(struct reply *r, size_t bytes);
void reply_commit(struct reply *r, size_t bytes);
/* A range of a file. `release(arg)` is called on the session's shard once nobody will touch the range any more, from the loop or
 * a fiber (so it must not wait); may be NULL. What a chain holds when its session moves is released on the new shard. */
void reply_file(struct reply *r, int fd, uint64_t offset, uint64_t bytes, void (*release)(void *arg), void *arg);
bool reply_full(const struct reply *r);
static inline bool reply_empty(const struct reply *r) { return r->pieces == 0; }

#ifdef __cplusplus
}
#endif
#endif
