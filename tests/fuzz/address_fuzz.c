/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address_fuzz.c - any bytes as a list of addresses: groups begin before they end, nothing is longer than what it came from, and a
 * simple mailbox that is written out again reads as itself.
 */
#include "core/base/limits.h"
#include "storage/mime.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_atom(struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		char c = s.ptr[i];
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '-')
			return false;
	}
	return s.len > 0;
}

static void reads_as_itself(const struct mime_address *a)
{
	struct buf text;
	struct arena arena;
	const struct mime_address *list;
	size_t count;

	arena_init(&arena, MIB(16));
	buf_init(&text, MIB(1));
	ASSERT(buf_printf(&text, "<%.*s@%.*s>", SLICE_ARG(a->mailbox), SLICE_ARG(a->host)));
	ASSERT(mime_addresses(&arena, buf_slice(&text), &list, &count) == OK && count == 1);
	ASSERT(slice_eq(list[0].mailbox, a->mailbox) && slice_eq(list[0].host, a->host) && !list[0].name.ptr);
	buf_release(&text);
	arena_release(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct mime_address *list;
	struct arena arena;
	size_t count;
	bool in_group = false;

	arena_init(&arena, MIB(64));
	if (mime_addresses(&arena, slice_of(data, size), &list, &count) == OK) {
		ASSERT(count <= MIME_ADDRESSES_MAX);
		for (size_t i = 0; i < count; i++) {
			const struct mime_address *a = &list[i];

			ASSERT(a->kind != MIME_GROUP_START || !in_group);
			ASSERT(a->kind != MIME_GROUP_END || in_group);
			in_group = a->kind == MIME_GROUP_START || (in_group && a->kind != MIME_GROUP_END);
			ASSERT(a->name.len <= size && a->route.len <= size && a->mailbox.len <= size && a->host.len <= size);
			if (a->kind == MIME_MAILBOX && is_atom(a->mailbox) && is_atom(a->host))
				reads_as_itself(a);
		}
		ASSERT(!in_group);
	}
	arena_release(&arena);
	return 0;
}
