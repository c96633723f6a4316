/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h - pieces of memory of one size, kept for the next taker of the same shard.
 *
 * For sessions, reply chunks, send batches and bulk input buffers: things that come and go with every connection or
 * reply.  Memory is malloc's, so that a piece may be taken on one shard and put back on another (a session that moved).
 * At most free_max pieces are kept; the rest goes back to malloc.  Under AddressSanitizer pieces in the pool are
 * poisoned.  Not shared between threads.
 */
#ifndef PENFOLD_NET_POOL_H
#define PENFOLD_NET_POOL_H

#include "core/base/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct pool {
	struct pool_item *free;
	size_t bytes; /* of a piece */
	uint32_t count, free_max;
};

void pool_init(struct pool *p, size_t bytes, uint32_t free_max);
void pool_release(struct pool *p); /* frees what is kept; pieces outside live on */
/* Uninitialised. Never fails. */
void *pool_get(struct pool *p) __attribute__((malloc, returns_nonnull));
void pool_put(struct pool *p, void *item);

#ifdef __cplusplus
}
#endif
#endif
