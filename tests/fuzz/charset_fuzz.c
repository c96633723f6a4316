/* SPDX-License-Identifier: Apache-2.0 */
/*
 * charset_fuzz.c - bytes of any charset, encoded words and folding: what comes out is UTF-8, whatever went in.
 *
 * The first byte chooses the charset.
 */
#include "core/base/limits.h"
#include "storage/mime.h"

#include <utf8proc.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void is_utf8(struct slice s)
{
	while (s.len) {
		utf8proc_int32_t c;
		utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)s.ptr, (utf8proc_ssize_t)s.len, &c);

		ASSERT(n > 0);
		s = slice_from(s, (size_t)n);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const charsets[] = { "utf-8",	"us-ascii",    "iso-8859-1", "windows-1252", "koi8-r", "iso-2022-jp", "shift_jis",
						"euc-kr", "gb18030", "utf-7", "utf-16", "big5", "none", "a/b", "" };
	struct slice in = slice_of(data, size);
	struct buf text, words, folded;

	if (!size)
		return 0;
	buf_init(&text, MIB(16));
	buf_init(&words, MIB(16));
	buf_init(&folded, MIB(64));
	if (mime_to_utf8(&text, slice_str(charsets[data[0] % ARRAY_LEN(charsets)]), slice_from(in, 1)))
		is_utf8(buf_slice(&text));
	if (mime_words_decode(&words, slice_from(in, 1)))
		is_utf8(buf_slice(&words));
	if (mime_casemap(&folded, slice_from(in, 1)))
		is_utf8(buf_slice(&folded));
	buf_release(&text);
	buf_release(&words);
	buf_release(&folded);
	return 0;
}
