/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_fuzz.c - the arguments of IMAP: every reader on the same bytes, from every place that the one before has reached.  What a reader
 * gives must lie in the input or the arena, and it must never go back.
 */
#include "net/imap/imap_private.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool read_one(struct imap_args *a, unsigned which)
{
	struct slice s = { NULL, 0 };
	uint64_t n;
	int64_t t;
	int16_t zone;
	bool first = true, good = false;
	switch (which) {
	case 0: good = imap_astring(a, &s); break;
	case 1: good = imap_nstring(a, &s); break;
	case 2: good = imap_mailbox(a, &s); break;
	case 3: good = imap_list_mailbox(a, &s); break;
	case 4: good = imap_number(a, UINT32_MAX, &n); break;
	case 5: good = imap_set_text(a, &s); break;
	case 6: good = imap_date_time(a, &t, &zone); break;
	case 7: good = imap_open(a) && imap_more(a, &first); break;
	case 8: good = imap_more(a, &first); break;
	case 9: good = imap_tag(a, &s); break;
	case 10: good = imap_atom(a, &s); break;
	default: good = imap_sp(a); break;
	}
	unsigned sum = 0;
	for (size_t i = 0; good && i < s.len; i++)
		sum += (unsigned char)s.ptr[i]; /* a sanitizer sees what lies outside */
	return good && sum != 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena arena;
	struct imap_args a;
	struct imap_literal literal;
	if (size < 2)
		return 0;
	arena_init(&arena, MIB(1));
	struct slice text = slice_of(data + 1, size - 1);
	imap_args_init(&a, text, &arena, data[0] & 128);
	imap_literal_at_end(text, &literal);
	for (unsigned i = data[0]; a.at < a.end; i++) {
		const char *before = a.at;
		bool any = false;
		for (unsigned k = 0; k < 12 && !any; k++) {
			any = read_one(&a, (i + k) % 12);
			if (!any)
				a.at = before;
		}
		ASSERT(a.at >= before && a.at <= a.end);
		if (a.at == before)
			a.at++;
	}
	arena_release(&arena);
	return 0;
}
