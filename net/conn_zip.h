/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_zip.h - DEFLATE (RFC 1951, raw) between a connection and its TLS or its socket, for the files of this room.
 *
 *     recv_done, or what TLS has decrypted --- squeezed ---> conn_zip_add ... conn_zip_more --- plain ---> input
 *     TLS or socket <--- squeezed, a buffer at a time <--- conn_zip_squeeze <--- the pieces of one flight
 *
 * Out: each buffer of a flight is squeezed by itself, by one state that the shard has, and ends byte-aligned (an empty stored block, zlib's
 * sync flush).  So a session keeps nothing for what it sends, and never refers to what it has sent before; within a
 * buffer of COMPRESS_PLAIN_BYTES_MAX text still shrinks to a quarter.
 *
 * In: a client may refer to its last 32 KiB.  Those are kept, and no more than there were: between two receives, when the client's stream
 * stands at the end of a block (all clients flush), zlib's state is given back and only its history stays; amid a block the state stays
 * (40 KiB).  Connections with DEFLATE are bounded (COMPRESS_SESSIONS_MAX in the process), and so is that memory.
 *
 * Bytes are expanded only when the session has used up what was there, a few KiB at a time, so that a bomb (1 : 1,032) is met by the bounds of lines and
 * literals and never lies in memory.  While squeezed bytes wait, nothing is received.
 */
#ifndef PENFOLD_NET_CONN_ZIP_H
#define PENFOLD_NET_CONN_ZIP_H

#include "core/base/bytes.h"

struct net_private;
struct net_shard;
struct conn_zip;

/* A place among those with DEFLATE: false, there is none. Given back by conn_zip_free, or conn_zip_unreserve if it never began. */
bool conn_zip_reserve(void);
void conn_zip_unreserve(void);
/* From now on all bytes are DEFLATE, those that have come and were not used included; nothing is in flight or queued. */
void conn_zip_begin(struct net_private *c);
void conn_zip_free(struct conn_zip *z);

/* ---- in ---- */

void conn_zip_add(struct net_private *c, struct slice squeezed);
/* Expands a little of what waits into the input. False: nothing came of it. On the session's fiber. */
bool conn_zip_more(struct net_private *c);
/* What the client sent is no DEFLATE. */
bool conn_zip_broken(const struct net_private *c);
/* What has come does not end with a block: the rest of a flush is on its way. */
bool conn_zip_amid(const struct net_private *c);
/* Nobody works on the input: gives back what a parked session need not keep. */
void conn_zip_park(struct net_private *c);

/* ---- out ---- */

/* Bytes that `plain` bytes take at most. */
size_t conn_zip_bound(size_t plain);
/* At most COMPRESS_PLAIN_BYTES_MAX. The result is the shard's, until the next call. Now. */
struct slice conn_zip_squeeze(struct net_shard *sh, struct slice plain);
void conn_zip_shard_close(struct net_shard *sh);

#endif
