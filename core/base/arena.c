/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arena.c - bump allocation.
 *
 * Chunks double from ARENA_FIRST_CHUNK_BYTES up to ARENA_CHUNK_BYTES_MAX, so that a small session stays small and a busy
 * command makes few calls.  A request above half a chunk gets a chunk of its own *behind* the current one, whose rest
 * stays in use: waste is below half of what was asked for.
 */
#include "core/base/arena.h"
#include "core/base/limits.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#endif
#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define poison(ptr, bytes) ASAN_POISON_MEMORY_REGION(ptr, bytes)
#define unpoison(ptr, bytes) ASAN_UNPOISON_MEMORY_REGION(ptr, bytes)
#else
#define poison(ptr, bytes) ((void)(ptr), (void)(bytes))
#define unpoison(ptr, bytes) ((void)(ptr), (void)(bytes))
#endif

#define ARENA_ALIGN 16

struct arena_chunk {
	struct arena_chunk *older;
	size_t bytes; /* of the payload */
	_Alignas(ARENA_ALIGN) char payload[];
};
static_assert_c(sizeof(struct arena_chunk) % ARENA_ALIGN == 0, "payload is aligned as malloc's memory is");

static struct arena_chunk *chunk_open(size_t bytes, struct arena_chunk *older)
{
	struct arena_chunk *c = xmalloc(sizeof(*c) + bytes);
	c->older = older;
	c->bytes = bytes;
	poison(c->payload, bytes);
	return c;
}

static void chunk_close(struct arena_chunk *c)
{
	unpoison(c->payload, c->bytes);
	free(c);
}

void arena_init(struct arena *a, size_t max_bytes)
{
	ASSERT(max_bytes <= UINT32_MAX);
	*a = (struct arena){ .max_bytes = (uint32_t)max_bytes, .chunk_bytes = ARENA_FIRST_CHUNK_BYTES };
}

void arena_release(struct arena *a)
{
	for (struct arena_chunk *c = a->chunk, *older; c; c = older) {
		older = c->older;
		chunk_close(c);
	}
	arena_init(a, a->max_bytes);
}

void arena_reset(struct arena *a)
{
	struct arena_chunk *keep = a->chunk;
	if (!keep)
		return;
	for (struct arena_chunk *c = keep->older, *older; c; c = older) {
		older = c->older;
		chunk_close(c);
	}
	keep->older = NULL;
	if (keep->bytes > ARENA_CHUNK_BYTES_MAX) { /* one huge request came first */
		arena_release(a);
		return;
	}
	poison(keep->payload, keep->bytes);
	a->at = keep->payload;
	a->end = keep->payload + keep->bytes;
	a->used_bytes = 0;
}

/* Makes room for `bytes` (rounded already); the current chunk has too little. */
static char *alloc_slow(struct arena *a, size_t bytes)
{
	if (a->chunk && bytes > a->chunk_bytes / 2) {
		a->chunk->older = chunk_open(bytes, a->chunk->older);
		return a->chunk->older->payload;
	}
	size_t chunk_bytes = max_size(a->chunk_bytes, bytes);
	a->chunk = chunk_open(chunk_bytes, a->chunk);
	a->at = a->chunk->payload + bytes;
	a->end = a->chunk->payload + chunk_bytes;
	a->chunk_bytes = (uint32_t)min_size((size_t)a->chunk_bytes * 2, ARENA_CHUNK_BYTES_MAX);
	return a->chunk->payload;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
	size_t left = a->max_bytes - a->used_bytes;
	if (bytes > left)
		return NULL;
	size_t rounded = (max_size(bytes, 1) + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	if (rounded > left)
		return NULL;
	char *p = a->at;
	if (rounded <= (size_t)(a->end - a->at))
		a->at += rounded;
	else
		p = alloc_slow(a, rounded);
	a->used_bytes += (uint32_t)rounded;
	unpoison(p, bytes);
	return p;
}

void *arena_zalloc(struct arena *a, size_t bytes)
{
	void *p = arena_alloc(a, bytes);
	if (p)
		memset(p, 0, bytes);
	return p;
}

char *arena_copy(struct arena *a, struct slice s)
{
	char *copy = s.len < SIZE_MAX ? arena_alloc(a, s.len + 1) : NULL;
	if (!copy)
		return NULL;
	if (s.len)
		memcpy(copy, s.ptr, s.len);
	copy[s.len] = '\0';
	return copy;
}

struct slice arena_slice(struct arena *a, struct slice s)
{
	char *copy = arena_alloc(a, s.len);
	if (copy && s.len)
		memcpy(copy, s.ptr, s.len);
	return slice_of(copy, copy ? s.len : 0);
}

struct slice arena_printf(struct arena *a, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	ASSERT(len >= 0);
	char *out = arena_alloc(a, (size_t)len + 1);
	if (!out)
		return slice_of(NULL, 0);
	va_start(args, fmt);
	vsnprintf(out, (size_t)len + 1, fmt, args);
	va_end(args);
	return slice_of(out, (size_t)len);
}
