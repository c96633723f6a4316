/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.h - bump allocation with one lifetime: everything in an arena is freed together.
 *
 * A session has one, a running command has one (reset at its end).  An arena begins without memory and takes chunks by
 * xmalloc as needed, up to a maximum given at birth: reaching it returns NULL, which the caller turns into ERR_LIMIT.
 * Under AddressSanitizer freed and unused bytes are poisoned.  Not shared between threads.
 */
#ifndef PENFOLD_CORE_BASE_ARENA_H
#define PENFOLD_CORE_BASE_ARENA_H

#include "core/base/base.h"
#include "core/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

struct arena_chunk;
struct arena {
	struct arena_chunk *chunk; /* newest first */
	char *at, *end;
	uint32_t used_bytes, max_bytes, chunk_bytes; /* a session holds two: small numbers keep it small */
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_release(struct arena *a);                       /* frees all; the arena may be used again */
void arena_reset(struct arena *a);                         /* keeps one chunk for reuse */
void *arena_alloc(struct arena *a, size_t bytes) MUST_USE; /* 16-byte aligned, uninitialised; NULL above the maximum */
void *arena_zalloc(struct arena *a, size_t bytes) MUST_USE;
char *arena_copy(struct arena *a, struct slice s) MUST_USE;         /* NUL-terminated copy */
struct slice arena_slice(struct arena *a, struct slice s) MUST_USE; /* ptr NULL above the maximum */
struct slice arena_printf(struct arena *a, const char *fmt, ...) PRINTF_LIKE(2, 3);

#ifdef __cplusplus
}
#endif
#endif
