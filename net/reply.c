/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reply.c - filling the chain.
 */
#include "net/reply_private.h"
#include "net/pool.h"
#include "net/send.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static struct reply_chunk *append_chunk(struct reply *r)
{
	struct reply_chunk *c = pool_get(r->chunks);
	c->next = NULL;
	c->used = 0;
	c->first = c->count = 0;
	if (r->last)
		r->last->next = c;
	else
		r->first = c;
	r->last = c;
	r->open = false;
	r->memory_bytes += (uint32_t)REPLY_CHUNK_BYTES;
	return c;
}

/* A fresh chunk, or NULL when even the slack is used up. */
static struct reply_chunk *grow(struct reply *r)
{
	if (r->memory_bytes >= REPLY_BYTES_MAX + REPLY_SLACK_BYTES)
		r->overrun = true;
	return r->overrun ? NULL : append_chunk(r);
}

static size_t room_in(const struct reply_chunk *c) { return REPLY_TEXT_BYTES - c->used; }

/* The chunk in which `room` bytes of text may be written now. */
static struct reply_chunk *text_chunk(struct reply *r, size_t room)
{
	struct reply_chunk *c = r->last;
	if (!r->overrun && c && room_in(c) >= room && (r->open || c->count < REPLY_CHUNK_PIECES))
		return c;
	return grow(r);
}

static struct io_piece *new_piece(struct reply *r, struct reply_chunk *c, void (*release)(void *arg), void *arg)
{
	c->release[c->count] = (struct piece_release){ release, arg };
	r->pieces++;
	return &c->piece[c->count++];
}

/* The bytes at the end of the chunk's text have been written: they belong to the output. */
static void extend(struct reply *r, struct reply_chunk *c, size_t bytes)
{
	if (bytes == 0)
		return;
	if (r->open)
		c->piece[c->count - 1].len += bytes;
	else
		*new_piece(r, c, NULL, NULL) = (struct io_piece){ .ptr = c->text + c->used, .len = bytes, .fd = -1 };
	r->open = true;
	c->used += (uint32_t)bytes;
	r->queued_bytes += bytes;
}

void reply_put(struct reply *r, struct slice text)
{
	while (text.len) {
		struct reply_chunk *c = text_chunk(r, 1);
		if (!c)
			return;
		size_t n = min_size(text.len, room_in(c));
		memcpy(c->text + c->used, text.ptr, n);
		extend(r, c, n);
		text = slice_from(text, n);
	}
}

/* The chunk in which a piece that is no text may be added. */
static struct reply_chunk *piece_chunk(struct reply *r)
{
	struct reply_chunk *c = r->last;
	return !r->overrun && c && c->count < REPLY_CHUNK_PIECES ? c : grow(r);
}

void reply_static(struct reply *r, struct slice text)
{
	if (text.len <= REPLY_COPY_BYTES_MAX) {
		reply_put(r, text);
		return;
	}
	struct reply_chunk *c = piece_chunk(r);
	if (!c)
		return;
	*new_piece(r, c, NULL, NULL) = (struct io_piece){ .ptr = text.ptr, .len = text.len, .fd = -1 };
	r->open = false;
	r->queued_bytes += text.len;
}

void reply_file(struct reply *r, int fd, uint64_t offset, uint64_t bytes, void (*release)(void *arg), void *arg)
{
	struct reply_chunk *c = bytes ? piece_chunk(r) : NULL;
	if (!c) {
		if (release)
			release(arg);
		return;
	}
	*new_piece(r, c, release, arg) = (struct io_piece){ .len = bytes, .fd = fd, .offset = offset };
	r->open = false;
	r->queued_bytes += bytes;
}

/* Text that is longer than any chunk: rare enough for malloc. */
__attribute__((format(printf, 3, 0)))
static void printf_long(struct reply *r, size_t bytes, const char *fmt, va_list ap)
{
	char *text = xmalloc(bytes + 1);
	int n = vsnprintf(text, bytes + 1, fmt, ap);
	reply_put(r, slice_of(text, n > 0 ? (size_t)n : 0));
	free(text);
}

void reply_printf(struct reply *r, const char *fmt, ...)
{
	struct reply_chunk *c = text_chunk(r, REPLY_COPY_BYTES_MAX);
	if (!c)
		return;
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(c->text + c->used, room_in(c), fmt, ap);
	if (n > 0 && (size_t)n < room_in(c))
		extend(r, c, (size_t)n);
	else if (n > 0)
		printf_long(r, (size_t)n, fmt, again);
	va_end(again);
	va_end(ap);
	reply_shrink(r); /* it may have been nothing */
}

void reply_u64(struct reply *r, uint64_t value)
{
	struct reply_chunk *c = text_chunk(r, 20);
	if (c)
		extend(r, c, put_u64(c->text + c->used, value));
}

/* After an overrun a caller still gets a place to write to: a chunk without pieces, which is never sent. */
static struct reply_chunk *waste(struct reply *r) { return r->last && r->last->count == 0 ? r->last : append_chunk(r); }

char *reply_room(struct reply *r, size_t bytes)
{
	ASSERT(bytes <= REPLY_ROOM_BYTES);
	struct reply_chunk *c = text_chunk(r, bytes);
	if (!c)
		c = waste(r);
	return c->text + c->used;
}

void reply_commit(struct reply *r, size_t bytes)
{
	ASSERT(r->overrun || bytes == 0 || (r->last && bytes <= room_in(r->last)));
	if (bytes && !r->overrun)
		extend(r, r->last, bytes);
	reply_shrink(r);
}

bool reply_full(const struct reply *r)
{
	return r->memory_bytes >= REPLY_BYTES_MAX || r->pieces >= REPLY_PIECES_MAX;
}
