/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.c - unread bytes: inside the session, in malloc's memory, or in a pooled bulk buffer.
 *
 * cap tells which: INPUT_INLINE_BYTES, INPUT_BULK_BYTES, or any other number for malloc.
 */
#include "net/input.h"

#include <stdlib.h>

static bool is_inside(const struct input *in) { return in->cap == INPUT_INLINE_BYTES; }

void input_init(struct input *in)
{
	in->ptr = in->inside;
	in->at = in->end = 0;
	in->cap = INPUT_INLINE_BYTES;
}

static void drop_memory(char *ptr, size_t cap, struct pool *bulk)
{
	if (cap == INPUT_INLINE_BYTES)
		return;
	if (cap == INPUT_BULK_BYTES)
		pool_put(bulk, ptr);
	else
		free(ptr);
}

void input_release(struct input *in, struct pool *bulk)
{
	drop_memory(in->ptr, in->cap, bulk);
	input_init(in);
}

/* The capacity of the place for so many bytes. */
static size_t fitting(size_t bytes)
{
	if (bytes <= INPUT_INLINE_BYTES)
		return INPUT_INLINE_BYTES;
	if (bytes > INPUT_BULK_BYTES)
		return bytes;
	if (bytes > INPUT_HEAP_BYTES_MAX)
		return INPUT_BULK_BYTES;
	size_t cap = 2 * INPUT_INLINE_BYTES;
	while (cap < bytes)
		cap *= 2;
	return cap;
}

static void move_to(struct input *in, size_t cap, struct pool *bulk)
{
	ASSERT(cap <= UINT32_MAX && cap >= input_len(in));
	char *was = in->ptr;
	size_t was_cap = in->cap, len = input_len(in);
	in->ptr = cap == INPUT_INLINE_BYTES ? in->inside : cap == INPUT_BULK_BYTES ? pool_get(bulk) : xmalloc(cap);
	memmove(in->ptr, was + in->at, len);
	drop_memory(was, was_cap, bulk);
	in->cap = (uint32_t)cap;
	in->at = 0;
	in->end = (uint32_t)len;
}

static void to_front(struct input *in)
{
	memmove(in->ptr, in->ptr + in->at, input_len(in));
	in->end -= in->at;
	in->at = 0;
}

void input_add(struct input *in, struct slice bytes, struct pool *bulk)
{
	if (bytes.len > in->cap - in->end) {
		size_t need = input_len(in) + bytes.len;
		if (need <= in->cap)
			to_front(in);
		else
			move_to(in, fitting(need), bulk);
	}
	memcpy(in->ptr + in->end, bytes.ptr, bytes.len);
	in->end += (uint32_t)bytes.len;
}

void input_use(struct input *in, size_t bytes)
{
	ASSERT(bytes <= input_len(in));
	in->at += (uint32_t)bytes;
}

char *input_room(struct input *in, struct pool *bulk, size_t *bytes_out)
{
	if (in->cap != INPUT_BULK_BYTES)
		move_to(in, INPUT_BULK_BYTES, bulk);
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

void input_trim(struct input *in, struct pool *bulk)
{
	size_t cap = input_len(in) ? fitting(input_len(in)) : INPUT_INLINE_BYTES;
	if (cap < in->cap)
		move_to(in, cap, bulk);
	else if (is_inside(in) && in->at)
		to_front(in);
}
