/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_parse.c - a line becomes a verb and what follows it.
 *
 * A verb is three or four letters or digits in any case (RFC 1939 section 3, UTF8 from RFC 6856; SDPS begins one with an asterisk), one
 * space, the rest.
 * The rest is kept exactly, since a password is all of it, and also without blanks at its ends, for everything else.
 */
#include "net/pop3/pop3_private.h"

static uint32_t verb_of(struct slice word)
{
	if (word.len < 3 || word.len > 4)
		return 0;
	uint32_t verb = 0;
	for (size_t i = 0; i < word.len; i++) {
		unsigned char c = (unsigned char)word.ptr[i];
		if (c >= 'a' && c <= 'z')
			c = (unsigned char)(c - 'a' + 'A');
		if ((c < 'A' || c > 'Z') && (c < '0' || c > '9') && (c != '*' || i))
			return 0;
		verb |= (uint32_t)c << (8 * i);
	}
	return verb;
}

enum err pop3_parse(struct slice line, struct pop3_line *out)
{
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return ERR_SYNTAX;
	}
	size_t space = slice_find(line, ' ');
	out->has_argument = space != SIZE_MAX;
	out->verb = verb_of(slice_upto(line, space));
	out->rest = out->has_argument ? slice_from(line, space + 1) : slice_of(line.ptr + line.len, 0);
	out->words = slice_trim(out->rest);
	return OK;
}

bool pop3_two_numbers(struct slice words, uint64_t *first_out, uint64_t *second_out)
{
	size_t space = slice_find(words, ' ');
	if (space == SIZE_MAX)
		return false;
	return slice_u64(slice_upto(words, space), UINT64_MAX, first_out) &&
	       slice_u64(slice_trim(slice_from(words, space + 1)), UINT64_MAX, second_out);
}

bool pop3_is_http(struct slice line)
{
	static const char *const methods[] = { "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "PATCH ", "CONNECT ", "TRACE " };
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (slice_starts_nocase(line, slice_str(methods[i])))
			return true;
	return false;
}
