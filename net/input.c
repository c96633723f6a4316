/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.c - unread bytes in the smallest place that holds them.
 *
 * cap tells where that is: 0 nowhere, INPUT_SMALL_BYTES and INPUT_BULK_BYTES a pool, any other number malloc.
 */
#include "net/input.h"

#include <stdlib.h>

void input_pools_init(struct input_pools *p)
{
	pool_init(&p->small, INPUT_SMALL_BYTES, NET_POOL_SMALL_MAX);
	pool_init(&p->bulk, INPUT_BULK_BYTES, NET_POOL_BULK_MAX);
}

void input_pools_release(struct input_pools *p)
{
	pool_release(&p->small);
	pool_release(&p->bulk);
}

static char *take_memory(size_t cap, struct input_pools *pools)
{
	if (cap == 0)
		return NULL;
	if (cap == INPUT_SMALL_BYTES)
		return pool_get(&pools->small);
	return cap == INPUT_BULK_BYTES ? pool_get(&pools->bulk) : xmalloc(cap);
}

static void drop_memory(char *ptr, size_t cap, struct input_pools *pools)
{
	if (cap == 0)
		return;
	if (cap == INPUT_SMALL_BYTES)
		pool_put(&pools->small, ptr);
	else if (cap == INPUT_BULK_BYTES)
		pool_put(&pools->bulk, ptr);
	else
		free(ptr);
}

void input_release(struct input *in, struct input_pools *pools)
{
	drop_memory(in->ptr, in->cap, pools);
	input_init(in);
}

/* The capacity of the place for so many bytes, from the heap up to heap_max. */
static size_t fitting(size_t bytes, size_t heap_max)
{
	if (bytes == 0)
		return 0;
	if (bytes > INPUT_BULK_BYTES)
		return bytes;
	if (bytes > heap_max)
		return INPUT_BULK_BYTES;
	size_t cap = INPUT_SMALL_BYTES;
	while (cap < bytes)
		cap *= 2;
	return cap;
}

static void move_to(struct input *in, size_t cap, struct input_pools *pools)
{
	ASSERT(cap <= UINT32_MAX && cap >= input_len(in));
	char *was = in->ptr;
	size_t was_cap = in->cap, len = input_len(in);
	in->ptr = take_memory(cap, pools);
	if (len)
		memcpy(in->ptr, was + in->at, len);
	drop_memory(was, was_cap, pools);
	in->cap = (uint32_t)cap;
	in->at = 0;
	in->end = (uint32_t)len;
}

static void to_front(struct input *in)
{
	if (in->at)
		memmove(in->ptr, in->ptr + in->at, input_len(in));
	in->end -= in->at;
	in->at = 0;
}

void input_add(struct input *in, struct slice bytes, struct input_pools *pools)
{
	if (bytes.len == 0)
		return;
	if (bytes.len > in->cap - in->end) {
		size_t need = input_len(in) + bytes.len;
		if (need <= in->cap)
			to_front(in);
		else
			move_to(in, fitting(need, INPUT_HEAP_BYTES_MAX), pools);
	}
	memcpy(in->ptr + in->end, bytes.ptr, bytes.len);
	in->end += (uint32_t)bytes.len;
}

void input_use(struct input *in, size_t bytes)
{
	ASSERT(bytes <= input_len(in));
	in->at += (uint32_t)bytes;
}

char *input_room(struct input *in, struct input_pools *pools, size_t *bytes_out)
{
	if (in->cap != INPUT_BULK_BYTES)
		move_to(in, INPUT_BULK_BYTES, pools);
	else
		to_front(in);
	*bytes_out = in->cap - in->end;
	return in->ptr + in->end;
}

void input_added(struct input *in, size_t bytes)
{
	ASSERT(bytes <= in->cap - in->end);
	in->end += (uint32_t)bytes;
}

void input_trim(struct input *in, struct input_pools *pools)
{
	size_t cap = fitting(input_len(in), INPUT_KEPT_BYTES_MAX);
	if (cap < in->cap)
		move_to(in, cap, pools);
}
