/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c - reading the file, the message, and libcyaml's part. */
#include "core/base/settings.h"
#include "core/base/limits.h"
#include "core/base/settings_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cyaml/cyaml.h>

void settings_init(struct settings *s) { *s = (struct settings){ 0 }; }

void settings_release(struct settings *s)
{
	for (size_t i = 0; i < s->place_count; i++)
		free(s->places[i].key);
	free(s->places);
	free(s->name);
	settings_init(s);
}

/* ---- the message ---- */

__attribute__((format(printf, 3, 0))) static size_t append(char *message, size_t at, const char *fmt, va_list args)
{
	int len = vsnprintf(message + at, SETTINGS_MESSAGE_BYTES - at, fmt, args);
	return len < 0 ? at : min_size(at + (size_t)len, SETTINGS_MESSAGE_BYTES - 1);
}

PRINTF_LIKE(3, 4) static size_t append_printf(char *message, size_t at, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	at = append(message, at, fmt, args);
	va_end(args);
	return at;
}

/* The file's bytes have been escaped by whoever quotes them; this is for names of files and for messages of libraries. */
static void make_printable(char *z)
{
	for (; *z; z++)
		if (*z < 0x20 || *z > 0x7e)
			*z = '?';
}

__attribute__((format(printf, 4, 0))) static enum err vfail(struct settings *s, unsigned line, const char *key,
							    const char *fmt, va_list args)
{
	size_t at = append_printf(s->message, 0, "%s:", s->name);
	if (line)
		at = append_printf(s->message, at, "%u:", line);
	if (key && *key)
		at = append_printf(s->message, at, " %s:", key);
	at = append_printf(s->message, at, " ");
	append(s->message, at, fmt, args);
	make_printable(s->message);
	return ERR_CONFIG;
}

enum err settings_fail(struct settings *s, unsigned line, const char *key, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	enum err e = vfail(s, line, key, fmt, args);
	va_end(args);
	return e;
}

enum err settings_refuse(struct settings *s, const char *key, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	enum err e = vfail(s, settings_line(s, key), key, fmt, args);
	va_end(args);
	return e;
}

unsigned settings_line(const struct settings *s, const char *key)
{
	for (size_t i = 0; i < s->place_count; i++)
		if (strcmp(s->places[i].key, key) == 0)
			return s->places[i].line;
	return 0;
}

/* ---- libcyaml ---- */

/* Its first complaint is the cause; backtraces follow. */
static void on_cyaml_log(cyaml_log_t level, void *arg, const char *fmt, va_list args)
{
	char *first = arg;
	if (level < CYAML_LOG_ERROR || first[0])
		return;
	append(first, 0, fmt, args);
	first[strcspn(first, "\n")] = '\0';
}

static void *on_cyaml_mem(void *arg, void *ptr, size_t bytes)
{
	(void)arg;
	if (bytes)
		return xrealloc(ptr, bytes);
	free(ptr);
	return NULL;
}

static cyaml_config_t cyaml_config(char *first_complaint)
{
	return (cyaml_config_t){
		.log_fn = first_complaint ? on_cyaml_log : NULL,
		.log_ctx = first_complaint,
		.mem_fn = on_cyaml_mem,
		.log_level = CYAML_LOG_ERROR,
		.flags = CYAML_CFG_NO_ALIAS,
	};
}

void settings_free_value(const struct cyaml_schema_value *schema, void *value)
{
	cyaml_config_t config = cyaml_config(NULL);
	cyaml_free(&config, schema, value, 0);
}

static enum err parse_expanded(struct settings *s, struct slice text, const struct cyaml_schema_value *schema,
			       void **value_out)
{
	bool empty = false;
	enum err e = settings_check(s, text, schema, &empty);
	if (e != OK)
		return e;
	if (empty)
		text = SLICE_LIT("{}");
	char complaint[SETTINGS_MESSAGE_BYTES] = "";
	cyaml_config_t config = cyaml_config(complaint);
	cyaml_err_t ce = cyaml_load_data((const uint8_t *)text.ptr, text.len, &config, schema, value_out, NULL);
	if (ce == CYAML_OK)
		return OK;
	*value_out = NULL;
	return settings_fail(s, 0, NULL, "%s", complaint[0] ? complaint : cyaml_strerror(ce));
}

enum err settings_parse(struct settings *s, const char *name, struct slice text,
			const struct cyaml_schema_value *schema, void **value_out)
{
	struct buf expanded;
	*value_out = NULL;
	settings_release(s);
	s->name = xstrdup(name);
	if (slice_find(text, '$') == SIZE_MAX)
		return parse_expanded(s, text, schema, value_out);
	buf_init(&expanded, SETTINGS_FILE_BYTES_MAX + KIB(64));
	enum err e = settings_expand(s, text, &expanded);
	if (e == OK)
		e = parse_expanded(s, buf_slice(&expanded), schema, value_out);
	buf_release(&expanded);
	return e;
}

/* ---- the file ---- */

/* All bytes, or false with errno (EFBIG: above the bound). */
static bool read_all(int fd, struct buf *text)
{
	for (;;) {
		if (text->len == text->max) {
			errno = EFBIG;
			return false;
		}
		size_t room = min_size(KIB(16), text->max - text->len);
		ssize_t n = read(fd, buf_room(text, room), room);
		if (n == 0)
			return true;
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0)
			text->len += (size_t)n;
	}
}

enum err settings_load(struct settings *s, const char *path, const struct cyaml_schema_value *schema, void **value_out)
{
	*value_out = NULL;
	struct buf text;
	buf_init(&text, SETTINGS_FILE_BYTES_MAX + 1); /* one more, to see that there is more */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	enum err e = OK;
	if (fd < 0 || !read_all(fd, &text)) {
		int why = errno;
		settings_release(s);
		s->name = xstrdup(path);
		e = why == EFBIG ? settings_fail(s, 0, NULL, "larger than %zu bytes, the most a configuration may have",
						 SETTINGS_FILE_BYTES_MAX)
				 : settings_fail(s, 0, NULL, "cannot be read: %s", strerror(why));
	}
	if (fd >= 0)
		close(fd);
	if (e == OK)
		e = settings_parse(s, path, buf_slice(&text), schema, value_out);
	buf_release(&text);
	return e;
}
