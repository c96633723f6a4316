/* SPDX-License-Identifier: Apache-2.0 */
/*
 * proxy_fuzz.c - PROXY headers: the answer does not depend on how the bytes come, and what was read can be written and read again.
 */
#include "core/base/limits.h"
#include "net/proxy.h"

#include <stdlib.h>

/* Byte by byte, each time in memory of its own: the first answer that is not "more". */
static enum proxy_found grow(struct slice bytes, struct proxy_header *h, size_t *used_out)
{
	for (size_t len = 0; len <= bytes.len; len++) {
		char *piece = malloc(len ? len : 1);
		ASSERT(piece);
		if (len)
			memcpy(piece, bytes.ptr, len);
		enum proxy_found found = proxy_parse(slice_of(piece, len), h, used_out);
		ASSERT(found == PROXY_MORE || *used_out <= len);
		free(piece);
		if (found != PROXY_MORE)
			return found;
	}
	return PROXY_MORE;
}

static void again(const struct proxy_header *h)
{
	static char bytes[PROXY_HEADER_BYTES_MAX];
	struct proxy_header back;
	size_t used, len = proxy_write_v2(h, NULL, 0, bytes, sizeof(bytes));
	if (!len) /* it was as long as may be and had no checksum */
		return;
	ASSERT(proxy_parse(slice_of(bytes, len), &back, &used) == PROXY_DONE && used == len);
	ASSERT(back.local == (h->local || !h->source.len));
	if (!back.local) {
		ASSERT(addr_eq(&back.source, &h->source) && addr_eq(&back.destination, &h->destination));
		ASSERT(back.tls == h->tls && back.verified == h->verified && slice_eq(back.authority, h->authority));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice bytes = slice_of(data, size), value;
	struct proxy_header whole, grown;
	size_t whole_used, grown_used;
	if (size > 2 * PROXY_HEADER_BYTES_MAX)
		return 0;
	enum proxy_found found = proxy_parse(bytes, &whole, &whole_used);
	enum proxy_found slow = size <= 600 ? grow(bytes, &grown, &grown_used) : found;
	ASSERT(found == slow);
	if (found == PROXY_MORE)
		ASSERT(size < PROXY_HEADER_BYTES_MAX); /* it never waits for more than may come */
	if (found == PROXY_DONE) {
		ASSERT(whole_used <= size && (size > 600 || whole_used == grown_used));
		(void)proxy_find_tlv(slice_upto(bytes, whole_used), PROXY_UNIQUE_ID, &value);
		again(&whole);
	}
	return 0;
}
