/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handover_fuzz.c - hand-overs between nodes: strangers' bytes are never taken, a node's own are read as they were written, and what a node says of a
 * subject is read whole or not at all.
 */
#include "core/base/limits.h"
#include "net/peer/handover.h"
#include "tenancy/handed.h"

#define KEY SLICE_LIT("a key that no input knows, of 32 or more")

static void subject_again(struct slice bytes)
{
	static char back[PROXY_HEADER_BYTES_MAX];
	struct subject *s;
	if (subject_unpack(bytes, &s) != OK)
		return;
	size_t len = subject_pack(s, back, sizeof back);
	ASSERT(slice_eq(slice_of(back, len), bytes));
	subject_unref(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char bytes[PROXY_HEADER_BYTES_MAX];
	struct slice in = slice_of(data, size);
	struct handover back;
	size_t used;
	if (size > 2 * PROXY_HEADER_BYTES_MAX)
		return 0;
	ASSERT(handover_read(in, KEY, &back, &used) != HANDOVER_DONE);
	(void)handover_read(in, slice_of(NULL, 0), &back, &used); /* without a key: anybody's bytes, behind TLS */
	if (size <= PROXY_HEADER_BYTES_MAX)
		subject_again(in);
	struct handover h = { .protocol = SLICE_LIT("pop3"), .incarnation = slice_upto(in, FLEET_INCARNATION_BYTES), .subject = in, .at_s = size };
	size_t len = handover_write(&h, KEY, bytes);
	if (!len)
		return 0;
	ASSERT(handover_read(slice_of(bytes, len), KEY, &back, &used) == HANDOVER_DONE && used == len);
	ASSERT(slice_eq(back.subject, h.subject) && slice_eq(back.incarnation, h.incarnation) && back.at_s == size);
	if (size) { /* one octet of it changed */
		bytes[data[0] % len] = (char)(bytes[data[0] % len] ^ (data[size - 1] | 1));
		ASSERT(handover_read(slice_of(bytes, len), KEY, &back, &used) != HANDOVER_DONE);
	}
	return 0;
}
