/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_codec.c - the protocol of Redis (RESP2), by hiredis: its reader and its formatter, nothing else of it.
 *
 * The reader tells of each piece of a reply as it comes; the pieces are put into an arena of ours that is handed over with the whole.  What a server
 * may make us keep is bounded by that arena and by the bytes lent since the last whole reply.
 */
#include "core/run/redis_private.h"

#include <hiredis/hiredis.h>
#include <stdlib.h>

struct redis_codec {
	redisReader *reader;
	struct arena memory; /* of the reply that is being read */
	size_t fed_bytes;    /* since the last whole one */
};

#if HIREDIS_MAJOR >= 1
typedef size_t array_count;
#else
typedef int array_count;
#endif

/* The place for a piece: in its array, or the reply itself. */
static struct redis_value *place(const redisReadTask *task)
{
	struct redis_codec *c = task->privdata;
	if (!task->parent)
		return arena_zalloc(&c->memory, sizeof(struct redis_value));
	const struct redis_value *array = task->parent->obj;
	/* ours: the items are const for those who read them only */
	return (struct redis_value *)(uintptr_t)&array->items[task->idx];
}

static enum redis_kind kind_of(const redisReadTask *task)
{
	return task->type == REDIS_REPLY_ERROR ? REDIS_ERROR : task->type == REDIS_REPLY_STATUS ? REDIS_STATUS : REDIS_STRING;
}

static void *make_string(const redisReadTask *task, char *bytes, size_t len)
{
	struct redis_codec *c = task->privdata;
	struct redis_value *v = place(task);
	if (!v)
		return NULL;
	v->kind = kind_of(task);
	if (len) {
		v->text = arena_slice(&c->memory, slice_of(bytes, len));
		if (!v->text.ptr)
			return NULL;
	}
	return v;
}

static void *make_array(const redisReadTask *task, array_count count)
{
	struct redis_codec *c = task->privdata;
	struct redis_value *v = place(task);
	/* a count is nothing yet: the memory is taken before the items have come */
	if (!v || (size_t)count > REDIS_REPLY_BYTES_MAX / sizeof(struct redis_value))
		return NULL;
	v->kind = REDIS_ARRAY;
	v->count = (size_t)count;
	if (count > 0) {
		v->items = arena_zalloc(&c->memory, (size_t)count * sizeof(struct redis_value));
		if (!v->items)
			return NULL;
	}
	return v;
}

static void *make_integer(const redisReadTask *task, long long integer)
{
	struct redis_value *v = place(task);
	if (v)
		*v = (struct redis_value){ .kind = REDIS_INTEGER, .integer = integer };
	return v;
}

static void *make_nil(const redisReadTask *task)
{
	struct redis_value *v = place(task);
	if (v)
		*v = (struct redis_value){ .kind = REDIS_NIL };
	return v;
}

static void free_nothing(void *object) { (void)object; }

static redisReplyObjectFunctions functions = {
	.createString = make_string,
	.createArray = make_array,
	.createInteger = make_integer,
	.createNil = make_nil,
	.freeObject = free_nothing,
};

struct redis_codec *redis_codec_open(void)
{
	struct redis_codec *c = xcalloc(1, sizeof(*c));
	c->reader = redisReaderCreateWithFunctions(&functions);
	ASSERT(c->reader);
	c->reader->privdata = c;
	arena_init(&c->memory, REDIS_REPLY_BYTES_MAX);
	return c;
}

void redis_codec_close(struct redis_codec *c)
{
	if (!c)
		return;
	redisReaderFree(c->reader);
	arena_release(&c->memory);
	free(c);
}

bool redis_codec_feed(struct redis_codec *c, struct slice bytes)
{
	c->fed_bytes += bytes.len;
	return c->fed_bytes <= REDIS_REPLY_BYTES_MAX + IO_RECV_BYTES_MAX && redisReaderFeed(c->reader, bytes.ptr, bytes.len) == REDIS_OK;
}

bool redis_codec_next(struct redis_codec *c, struct redis_value *value_out, struct arena *memory_out, bool *broken_out)
{
	void *reply = NULL;
	*broken_out = redisReaderGetReply(c->reader, &reply) != REDIS_OK;
	if (*broken_out || !reply)
		return false;
	*value_out = *(struct redis_value *)reply;
	*memory_out = c->memory;
	arena_init(&c->memory, REDIS_REPLY_BYTES_MAX);
	c->fed_bytes = c->reader->len - c->reader->pos;
	return true;
}

bool redis_codec_put(struct buf *out, const struct slice *args, size_t count)
{
	const char *argv[REDIS_ARGS_MAX];
	size_t lens[REDIS_ARGS_MAX];
	char *command = NULL;
	ASSERT(count > 0 && count <= REDIS_ARGS_MAX);
	for (size_t i = 0; i < count; i++) {
		argv[i] = args[i].len ? args[i].ptr : "";
		lens[i] = args[i].len;
	}
	long long len = redisFormatCommandArgv(&command, (int)count, argv, lens);
	ASSERT(len > 0);
	bool fits = buf_put(out, command, (size_t)len);
	redisFreeCommand(command);
	return fits;
}
