/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply_private.h - the chunk, for reply.c (which fills it) and send.c (which empties it).
 *
 *     +--------+-------------------------+---------------+-----------------------------+
 *     | header | pieces, as the door     | their         | text, copied here in order; |
 *     |        | wants them              | releases      | pieces of text point at it  |
 *     +--------+-------------------------+---------------+-----------------------------+
 *
 * Pieces lie as an array that can be handed to io_send as it is, so the usual reply (one chunk) is sent without
 * touching it again.
 */
#ifndef PENFOLD_NET_REPLY_PRIVATE_H
#define PENFOLD_NET_REPLY_PRIVATE_H

#include "core/run/io.h"
#include "net/reply.h"

struct piece_release {
	void (*fn)(void *arg);
	void *arg;
};

struct reply_chunk {
	struct reply_chunk *next;
	uint32_t used;               /* bytes of text */
	uint16_t first, count;       /* pieces: the first not yet sent; all */
	struct io_piece piece[REPLY_CHUNK_PIECES];
	struct piece_release release[REPLY_CHUNK_PIECES];
	char text[];
};
#define REPLY_TEXT_BYTES (REPLY_CHUNK_BYTES - sizeof(struct reply_chunk))
static_assert_c(REPLY_TEXT_BYTES >= REPLY_ROOM_BYTES + REPLY_COPY_BYTES_MAX, "a fresh chunk has the room that is promised");

#endif
