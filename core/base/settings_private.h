/* SPDX-License-Identifier: Apache-2.0 */
/* settings_private.h - between settings.c (the call, libcyaml) and settings_check.c (the strict walk). */
#ifndef PENFOLD_CORE_BASE_SETTINGS_PRIVATE_H
#define PENFOLD_CORE_BASE_SETTINGS_PRIVATE_H

#include "core/base/settings.h"

struct settings_place {
	char *key; /* "listeners[2].address" */
	unsigned line;
};

/* Walks the text against the schema, notes where every key stands, and sets *empty_out when the file says nothing.
 * ERR_CONFIG with the message set. */
enum err settings_check(struct settings *s, struct slice text, const struct cyaml_schema_value *schema,
			bool *empty_out);

/* The text with ${NAME} replaced from the environment. ERR_CONFIG with the message set. */
enum err settings_expand(struct settings *s, struct slice text, struct buf *out);

/* Sets the message: "name:line: key: ..." (without the parts that are 0 or NULL); returns ERR_CONFIG. */
enum err settings_fail(struct settings *s, unsigned line, const char *key, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
