/* SPDX-License-Identifier: Apache-2.0 */
/* base.c - failed assertions, and allocation that cannot fail. */
#include "core/base/base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One write, without stdio's buffers: the process may be in any state. */
__attribute__((noreturn, cold)) static void die(const char *line, int len, size_t room)
{
	size_t bytes = len < 0 ? 0 : min_size((size_t)len, room - 1);
	ssize_t ignored = write(STDERR_FILENO, line, bytes);
	(void)ignored;
	abort();
}

void assert_failed(const char *file, int line, const char *text)
{
	char out[512];
	die(out, snprintf(out, sizeof(out), "%s:%d: assertion failed: %s\n", file, line, text), sizeof(out));
}

__attribute__((noreturn, cold)) static void out_of_memory(size_t bytes)
{
	char out[96];
	die(out, snprintf(out, sizeof(out), "out of memory: %zu bytes were asked for\n", bytes), sizeof(out));
}

void *xmalloc(size_t bytes)
{
	void *p = malloc(bytes ? bytes : 1);
	if (!p)
		out_of_memory(bytes);
	return p;
}

void *xcalloc(size_t count, size_t bytes)
{
	void *p = calloc(count ? count : 1, bytes ? bytes : 1);
	if (!p)
		out_of_memory(count * bytes);
	return p;
}

void *xrealloc(void *p, size_t bytes)
{
	p = realloc(p, bytes ? bytes : 1);
	if (!p)
		out_of_memory(bytes);
	return p;
}

char *xstrdup(const char *s)
{
	size_t bytes = strlen(s) + 1;
	return memcpy(xmalloc(bytes), s, bytes);
}
