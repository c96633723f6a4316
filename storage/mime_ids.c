/* SPDX-License-Identifier: Apache-2.0 */
/* mime_ids.c - message identifiers of Message-ID, References and In-Reply-To, in the one form that RFC 5256 compares. */
#include "storage/mime_scan.h"

bool mime_id_next(struct arena *arena, struct slice *rest_io, struct slice *id_out)
{
	for (;;) {
		size_t open = slice_find(*rest_io, '<'), n = 0, i;
		bool quoted = false, at = false;
		char *out;

		if (open == SIZE_MAX)
			return false;
		*rest_io = slice_from(*rest_io, open + 1);
		for (i = 0; i < rest_io->len; i++) { /* to the '>' that no quotes hold */
			char c = rest_io->ptr[i];

			if (c == '\\' && quoted)
				i++;
			else if (c == '"')
				quoted = !quoted;
			else if (!quoted && (c == '>' || c == '<'))
				break;
		}
		if (i >= rest_io->len) {
			*rest_io = slice_of(NULL, 0);
			return false;
		}
		if (rest_io->ptr[i] == '<') { /* the one before was not closed */
			*rest_io = slice_from(*rest_io, i);
			continue;
		}
		out = arena_alloc(arena, i + 1);
		if (!out)
			return false;
		for (size_t k = 0; k < i; k++) {
			char c = rest_io->ptr[k];

			if (c == '"' || mime_blank(c))
				continue;
			if (c == '\\' && k + 1 < i)
				c = rest_io->ptr[++k];
			at = at || c == '@';
			out[n++] = c;
		}
		*rest_io = slice_from(*rest_io, i + 1);
		*id_out = slice_of(out, n);
		if (n && at)
			return true;
	}
}
