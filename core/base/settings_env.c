/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings_env.c - ${NAME} in a configuration is the environment's NAME: what a place knows that a file cannot (a pod's address).
 *
 * Names are of capitals, digits and "_"; anything else behind "$" stays as it is, and so do comments.  A variable that is not set stops the
 * load, as a wrong value does.  What comes in cannot leave its place: no quotes, backslashes or control characters, so lines keep their numbers.
 */
#include "core/base/settings_private.h"

#include <stdlib.h>

static bool of_name(char c) { return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/* The length of "${NAME}" at the start of the text; 0: it is none. */
static size_t reference(struct slice text)
{
	size_t len = 2;
	if (text.len < 4 || text.ptr[0] != '$' || text.ptr[1] != '{')
		return 0;
	while (len < text.len && of_name(text.ptr[len]))
		len++;
	return len > 2 && len < text.len && text.ptr[len] == '}' ? len + 1 : 0;
}

/* A "#" at the line's start or behind a blank begins a comment; one in quotes does, too: values of ours have none behind a blank. */
static bool in_comment(const char *line, const char *at)
{
	for (const char *p = line; p < at; p++)
		if (*p == '#' && (p == line || p[-1] == ' ' || p[-1] == '\t'))
			return true;
	return false;
}

static bool harmless(const char *value)
{
	for (; *value; value++)
		if (*value < ' ' || *value > '~' || strchr("\"'\\", *value))
			return false;
	return true;
}

static enum err put_value(struct settings *s, struct slice name, unsigned line, struct buf *out)
{
	char z[SETTINGS_KEY_BYTES];
	if (name.len >= sizeof z)
		return settings_fail(s, line, NULL, "the name in ${...} is too long");
	memcpy(z, name.ptr, name.len);
	z[name.len] = '\0';
	const char *value = getenv(z);
	if (!value)
		return settings_fail(s, line, NULL, "${%s} is not in the environment", z);
	if (!harmless(value))
		return settings_fail(s, line, NULL,
				     "${%s} has quotes, backslashes or bytes beyond printable ASCII in the environment",
				     z);
	return buf_put(out, value, strlen(value))
		       ? OK
		       : settings_fail(s, line, NULL, "too long with what ${%s} stands for", z);
}

enum err settings_expand(struct settings *s, struct slice text, struct buf *out)
{
	const char *line = text.ptr;
	unsigned number = 1;
	for (size_t i = 0; i < text.len; i++) {
		size_t len = reference(slice_from(text, i));
		if (text.ptr[i] == '\n') {
			line = text.ptr + i + 1;
			number++;
		}
		if (!len || in_comment(line, text.ptr + i)) {
			if (!buf_put(out, text.ptr + i, 1))
				return settings_fail(s, number, NULL, "too long with what ${...} stands for");
			continue;
		}
		enum err e = put_value(s, slice_of(text.ptr + i + 2, len - 3), number, out);
		if (e != OK)
			return e;
		i += len - 1;
	}
	return OK;
}
