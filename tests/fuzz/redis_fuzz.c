/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_fuzz.c - what a Redis server, or whoever stands at its address, may answer.
 *
 * The first byte says how the rest is cut; the pieces go through the codec.  Every value that comes out must lie in its memory and be
 * bounded; the same bytes in one piece must give the same number of replies.
 */
#include "core/run/redis_private.h"

#include <stdlib.h>

static size_t weigh(const struct redis_value *v, unsigned depth)
{
	size_t sum = 1;
	ASSERT(depth < 16 && v->text.len <= REDIS_REPLY_BYTES_MAX && v->count <= REDIS_REPLY_BYTES_MAX);
	for (size_t i = 0; i < v->text.len; i++)
		sum += (unsigned char)v->text.ptr[i];
	for (size_t i = 0; i < v->count; i++)
		sum += weigh(&v->items[i], depth + 1);
	return sum;
}

/* Replies and what was in them, up to the first thing that is none. */
static size_t read_all(struct slice bytes, size_t step)
{
	struct redis_codec *c = redis_codec_open();
	struct redis_value v;
	struct arena memory;
	size_t sum = 0;
	bool broken = false;
	for (size_t at = 0; at < bytes.len && !broken; at += step) {
		broken = !redis_codec_feed(c, slice_upto(slice_from(bytes, at), step));
		while (!broken && redis_codec_next(c, &v, &memory, &broken)) {
			sum = sum * 31 + weigh(&v, 0);
			(void)redis_error_means(v.text);
			arena_release(&memory);
		}
	}
	redis_codec_close(c);
	return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct slice bytes = slice_of(data + 1, size - 1);
	size_t whole = read_all(bytes, bytes.len ? bytes.len : 1), cut = read_all(bytes, 1 + data[0] % 16u);
	ASSERT(whole == cut);
	(void)redis_slot(bytes);
	(void)redis_address_ok(slice_upto(bytes, REDIS_HOST_BYTES_MAX));
	return 0;
}
