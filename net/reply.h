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
 * a few lines need not ask: there is always REPLY_SLACK_BYTES beyond "full".  An empty chain holds no memory.
 */
#ifndef PENFOLD_NET_REPLY_H
#define PENFOLD_NET_REPLY_H

#include "core/base/bytes.h"
#include "core/base/list.h"

struct reply_chunk;
struct reply {
	struct reply_chunk *first, *last;
	uint32_t memory_bytes;
	uint32_t pieces;
	uint64_t queued_bytes; /* all that is not yet sent, file ranges included */
	uint64_t sent_bytes;   /* over the session's life */
};

void reply_put(struct reply *r, struct slice text);     /* copied */
void reply_static(struct reply *r, struct slice text);  /* lives for ever */
#define REPLY_LIT(r, lit) reply_static((r), SLICE_LIT(lit))
void reply_printf(struct reply *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void reply_u64(struct reply *r, uint64_t value);
/* Room for `bytes` (<= REPLY_ROOM_BYTES) to be written in place, then reply_commit of what was used: for hot lists. */
char *reply_room(struct reply *r, size_t bytes);
void reply_commit(struct reply *r, size_t bytes);
/* A range of a file. `release(arg)` is called on this shard once nobody will touch the range any more; may be NULL. */
void reply_file(struct reply *r, int fd, uint64_t offset, uint64_t bytes, void (*release)(void *arg), void *arg);
bool reply_full(const struct reply *r);
bool reply_empty(const struct reply *r);

#endif
