/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c - free lists, newest first: its cache lines are warm.
 */
#include "net/pool.h"

#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
#define POOL_POISON 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISON 1
#endif
#endif
#ifdef POOL_POISON
#include <sanitizer/asan_interface.h>
#define poison(ptr, size) ASAN_POISON_MEMORY_REGION(ptr, size)
#define unpoison(ptr, size) ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#else
#define poison(ptr, size) ((void)(ptr), (void)(size))
#define unpoison(ptr, size) ((void)(ptr), (void)(size))
#endif

struct pool_item {
	struct pool_item *next;
};

void pool_init(struct pool *p, size_t bytes, uint32_t free_max)
{
	ASSERT(bytes >= sizeof(struct pool_item));
	*p = (struct pool){ .bytes = bytes, .free_max = free_max };
}

void pool_release(struct pool *p)
{
	while (p->free) {
		struct pool_item *item = p->free;
		unpoison(item, p->bytes);
		p->free = item->next;
		free(item);
	}
	p->count = 0;
}

void *pool_get(struct pool *p)
{
	struct pool_item *item = p->free;
	if (!item)
		return xmalloc(p->bytes);
	unpoison(item, p->bytes);
	p->free = item->next;
	p->count--;
	return item;
}

void pool_put(struct pool *p, void *memory)
{
	if (p->count == p->free_max) {
		free(memory);
		return;
	}
	struct pool_item *item = memory;
	item->next = p->free;
	p->free = item;
	p->count++;
	poison(item, p->bytes);
}
