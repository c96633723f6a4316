/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.h - the sending half of a reply chain: what goes to the kernel next, and what to do when it has gone.
 *
 * For conn.c; protocols see reply.h only.  Between reply_gather and reply_sent (or reply_failed) the gathered pieces and
 * their bytes stay where they are (invariant 9), while new output may be appended behind them.
 */
#ifndef PENFOLD_NET_SEND_H
#define PENFOLD_NET_SEND_H

#include "core/run/io.h"
#include "net/pool.h"
#include "net/reply.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `chunks` gives pieces of REPLY_CHUNK_BYTES. */
void reply_init(struct reply *r, struct pool *chunks);
/* Drops all that is queued, calling releases; nothing may be flying. */
void reply_release(struct reply *r);

struct reply_flight {
	const struct io_piece *pieces;
	struct io_piece *batch; /* from the pool given, to be put back when the send is done; NULL if none was needed */
	size_t count;
};
/* Takes what leaves in the next send: everything, up to SEND_BATCH_PIECES and half of REPLY_BYTES_MAX of text, so that the next half can be
 * made while this one leaves. The chain is not empty and nothing is flying. `batches` gives SEND_BATCH_PIECES pieces each. */
struct reply_flight reply_gather(struct reply *r, struct pool *batches);
void reply_sent(struct reply *r);
/* The send failed: its pieces are ours again, but the chain is only good for reply_release. */
void reply_failed(struct reply *r);

/* An empty chain holds no memory: gives back a chunk in which nothing was written. */
void reply_shrink(struct reply *r);

/* Room again for a command that stopped at "full". */
bool reply_half_drained(const struct reply *r);

#ifdef __cplusplus
}
#endif
#endif
