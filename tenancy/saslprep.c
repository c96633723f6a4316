/* SPDX-License-Identifier: Apache-2.0 */
/* saslprep.c - see saslprep.h. */
#include "tenancy/saslprep.h"

#include <stringprep.h>

static bool is_plain(struct slice text)
{
	for (size_t i = 0; i < text.len; i++)
		if (text.ptr[i] < ' ' || text.ptr[i] > '~')
			return false;
	return true;
}

struct slice saslprep(struct slice text, struct saslprep *room)
{
	if (text.len > SASLPREP_BYTES_MAX || is_plain(text) || slice_find(text, '\0') != SIZE_MAX)
		return text;
	memcpy(room->bytes, text.ptr, text.len);
	room->bytes[text.len] = 0;
	/* code points that Unicode 3.2 did not know pass: as queries, RFC 3454 section 7 */
	if (stringprep(room->bytes, sizeof(room->bytes), 0, stringprep_saslprep) != STRINGPREP_OK)
		return text;
	struct slice form = slice_str(room->bytes);
	return form.len && !slice_eq(form, text) ? form : text;
}
