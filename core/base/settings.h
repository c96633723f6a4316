/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings.h - a YAML file read into the caller's struct, or one line that says what is wrong with it.
 *
 *     struct settings s;
 *     settings_init(&s);
 *     if (settings_load(&s, "penfold.yaml", &schema, &value) != OK)
 *             puts(s.message);   // penfold.yaml:7: listeners[2].protocol: expected one of pop3, lmtp; got "imap"
 *
 * The schema is libcyaml's (cyaml/cyaml.h), of integers, booleans, enumerations, strings, floats, mappings and sequences; the caller owns it.
 * libcyaml fills the struct, but is generous ("3x" is 3, "maybe" is true, 010 is 8, a second document is ignored) and often names the wrong
 * line, so the text is first walked against the same schema, strictly: unknown, missing and doubled keys, types, ranges,
 * empty values, aliases, several documents.  Keys are case-sensitive.  An empty file is an empty mapping.
 *
 * ${NAME} stands for the environment's NAME (settings_env.c), before anything else is looked at.
 *
 * After a load, the lines of all keys are known, so that the caller's own checks (addresses, sizes, folders) can be worded in
 * the same way: settings_refuse(&s, "listeners[2].address", "expected HOST:PORT, ...").  Entries count from 1.
 *
 * Blocking file input; for the start and for a reload on an offload thread.  Owns the message and the places until
 * settings_release; the value belongs to the caller until settings_free_value.  Bounds: SETTINGS_* in limits.h.
 */
#ifndef PENFOLD_CORE_BASE_SETTINGS_H
#define PENFOLD_CORE_BASE_SETTINGS_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"

#ifdef __cplusplus
extern "C" {
#endif

struct cyaml_schema_value;
struct settings_place;

struct settings {
	char *name; /* of the file, as in messages */
	struct settings_place *places;
	size_t place_count, place_cap;
	char message[SETTINGS_MESSAGE_BYTES]; /* after ERR_CONFIG: one line, NUL-terminated, no LF, printable ASCII */
};

void settings_init(struct settings *s);
void settings_release(struct settings *s);

/* OK, or ERR_CONFIG with the message set and *value_out NULL.  The schema's top is a mapping with CYAML_FLAG_POINTER. */
enum err settings_load(struct settings *s, const char *path, const struct cyaml_schema_value *schema, void **value_out)
	MUST_USE;
/* The same for text in memory; `name` stands for the file. */
enum err settings_parse(struct settings *s, const char *name, struct slice text,
			const struct cyaml_schema_value *schema, void **value_out) MUST_USE;
void settings_free_value(const struct cyaml_schema_value *schema, void *value);

/* Whether the file had this key ("io.pin", "listeners[2].address"), and on which line (0 = it had not). */
unsigned settings_line(const struct settings *s, const char *key);
/* Words the caller's own objection to a key's value like all others; returns ERR_CONFIG. */
enum err settings_refuse(struct settings *s, const char *key, const char *fmt, ...) PRINTF_LIKE(3, 4);

#ifdef __cplusplus
}
#endif
#endif
