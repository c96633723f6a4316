/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A header and what is looked for in it.  Up to the first NUL: a needle.  Behind it: a message, whose header is gone through as SEARCH does: it must
 * decide every key that a header can decide, and nothing before it was read.
 */
#include "net/imap/imap_search.h"

#include <stdlib.h>

static struct imap_source *source_of(struct slice message)
{
	struct imap_source *s = xcalloc(1, sizeof *s);
	s->references = 1;
	s->m.fd = -1;
	s->m.body = message.ptr;
	s->m.bytes = message.len;
	size_t end = 0;
	while (end < message.len && !(end >= 4 && !memcmp(message.ptr + end - 4, "\r\n\r\n", 4)))
		end++;
	s->m.header_bytes = end;
	return s;
}

static void release(struct imap_source *s)
{
	free(s->header);
	mime_tree_free(s->tree);
	free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice all = slice_of(data, size);
	size_t nul = slice_find(all, 0);
	if (nul == SIZE_MAX)
		return 0;
	struct buf needle;
	buf_init(&needle, MIB(1));
	if (!imap_fold(&needle, slice_upto(all, nul)))
		abort();
	struct search_key keys[] = { { .op = SEARCH_TEXT, .needle = buf_slice(&needle) }, { .op = SEARCH_HEADER, .name = SLICE_LIT("Subject"), .needle = buf_slice(&needle) },
				     { .op = SEARCH_SENT_SINCE, .day = 0 }, { .op = SEARCH_OR, .operands = 2 }, { .op = SEARCH_NOT, .operands = 1 }, { .op = SEARCH_AND, .operands = 2 } };
	uint8_t values[6], stack[6];
	memset(values, SEARCH_UNKNOWN, sizeof values);
	struct search_program s = { .keys = keys, .count = ARRAY_LEN(keys), .values = values, .stack = stack, .has_text = true };
	arena_init(&s.scratch, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	buf_init(&s.decoded, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	buf_init(&s.folded, IMAP_SEARCH_SCRATCH_BYTES_MAX);
	struct imap_source *source = source_of(slice_from(all, nul + 1));
	if (search_judge(&s) != SEARCH_UNKNOWN || search_header(&s, source) != OK)
		abort();
	if (values[1] == SEARCH_UNKNOWN || values[2] == SEARCH_UNKNOWN)
		abort(); /* a header decides */
	arena_release(&s.scratch);
	buf_release(&s.decoded);
	buf_release(&s.folded);
	buf_release(&needle);
	release(source);
	return 0;
}
