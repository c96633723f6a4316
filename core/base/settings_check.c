/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings_check.c - the strict walk over a YAML text, event by event, against the schema.
 *
 * It recurses as deep as the schema, never as deep as the text: whatever the schema does not expect ends the walk.
 */
#include "core/base/limits.h"
#include "core/base/settings_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <cyaml/cyaml.h>
#include <yaml.h>

struct walk {
	struct settings *s;
	struct slice text;
	yaml_parser_t parser;
	yaml_event_t event;           /* the current one */
	char key[SETTINGS_KEY_BYTES]; /* where we are: "listeners[2].address" */
	size_t key_len;
	size_t places;
};

static enum err check_value(struct walk *w, const struct cyaml_schema_value *schema);

static unsigned line_of(const struct walk *w) { return (unsigned)w->event.start_mark.line + 1; }
static struct slice scalar_of(const struct walk *w)
{
	return slice_of(w->event.data.scalar.value, w->event.data.scalar.length);
}

/* A text of the file for a message: escaped, at most 40 bytes of it. */
static const char *shown(struct slice s, char out[64])
{
	size_t at = 0;
	for (size_t i = 0; i < s.len; i++) {
		if (at + 8 > 48) {
			memcpy(out + at, "...", 4);
			return out;
		}
		unsigned char c = (unsigned char)s.ptr[i];
		if (c >= 0x20 && c < 0x7f)
			out[at++] = (char)c;
		else
			at += (size_t)snprintf(out + at, 8, "\\x%02x", c);
	}
	out[at] = '\0';
	return out;
}

/* ---- the position ---- */

/* Longer than any schema makes them: the rest of a name that is in no schema is not wanted in a message. */
static void key_push(struct walk *w, const char *z, size_t len)
{
	len = min_size(len, sizeof(w->key) - 1 - w->key_len);
	memcpy(w->key + w->key_len, z, len);
	w->key_len += len;
	w->key[w->key_len] = '\0';
}

static void key_push_name(struct walk *w, const char *name)
{
	if (w->key_len)
		key_push(w, ".", 1);
	key_push(w, name, strlen(name));
}

static void key_push_index(struct walk *w, size_t index)
{
	char text[32];
	key_push(w, text, (size_t)snprintf(text, sizeof(text), "[%zu]", index));
}

static void key_pop(struct walk *w, size_t len)
{
	w->key_len = len;
	w->key[len] = '\0';
}

static enum err note_place(struct walk *w, unsigned line)
{
	struct settings *s = w->s;
	if (s->place_count == SETTINGS_KEYS_MAX)
		return settings_fail(s, line, w->key, "more than %zu keys in one file", SETTINGS_KEYS_MAX);
	if (s->place_count == s->place_cap) {
		s->place_cap = max_size(32, s->place_cap * 2);
		s->places = xrealloc(s->places, s->place_cap * sizeof(*s->places));
	}
	s->places[s->place_count++] = (struct settings_place){ xstrdup(w->key), line };
	return OK;
}

/* ---- events ---- */

/* The parser's own complaint; for bytes that are no text it knows only how far it came. */
static enum err parser_failed(struct walk *w)
{
	const yaml_parser_t *p = &w->parser;
	size_t line = p->problem_mark.line + 1;
	if (p->error == YAML_READER_ERROR) {
		line = 1;
		for (size_t i = 0; i < min_size(p->problem_offset, w->text.len); i++)
			line += w->text.ptr[i] == '\n';
	}
	return settings_fail(w->s, (unsigned)line, NULL, "not valid YAML: %s%s%s",
			     p->problem ? p->problem : "unreadable", p->context ? " " : "",
			     p->context ? p->context : "");
}

static enum err next(struct walk *w)
{
	yaml_event_delete(&w->event);
	if (!yaml_parser_parse(&w->parser, &w->event)) {
		memset(&w->event, 0, sizeof(w->event));
		return parser_failed(w);
	}
	if (w->event.type == YAML_ALIAS_EVENT)
		return settings_fail(w->s, line_of(w), w->key,
				     "aliases (*name) are not supported here: write the value out");
	return OK;
}

/* Skips the rest of a value whose first event is the current one. */
static enum err skip(struct walk *w)
{
	for (size_t depth = 0;;) {
		if (w->event.type == YAML_MAPPING_START_EVENT || w->event.type == YAML_SEQUENCE_START_EVENT)
			depth++;
		else if (w->event.type == YAML_MAPPING_END_EVENT || w->event.type == YAML_SEQUENCE_END_EVENT)
			depth--;
		if (!depth)
			return OK;
		enum err e = next(w);
		if (e != OK)
			return e;
	}
}

/* ---- scalars ---- */

static uint64_t unsigned_max(const struct cyaml_schema_value *schema)
{
	return UINT64_MAX >> (64 - 8 * min_size(schema->data_size, 8));
}

static void describe_words(const struct cyaml_schema_value *schema, char *out, size_t bytes)
{
	size_t at = (size_t)snprintf(out, bytes, "one of ");
	for (uint32_t i = 0; i < schema->enumeration.count && at < bytes; i++)
		at += (size_t)snprintf(out + at, bytes - at, "%s%s", i ? ", " : "", schema->enumeration.strings[i].str);
}

/* What the schema expects, in an operator's words. */
static const char *describe(const struct cyaml_schema_value *schema, char *out, size_t bytes)
{
	unsigned long long most = unsigned_max(schema);
	switch (schema->type) {
	case CYAML_INT:
		snprintf(out, bytes, "a whole number from -%llu to %llu", most / 2 + 1, most / 2);
		break;
	case CYAML_UINT:
		snprintf(out, bytes, "a whole number from 0 to %llu", most);
		break;
	case CYAML_BOOL:
		snprintf(out, bytes, "true or false");
		break;
	case CYAML_ENUM:
		describe_words(schema, out, bytes);
		break;
	case CYAML_FLOAT:
		snprintf(out, bytes, "a number");
		break;
	case CYAML_STRING:
		if (schema->string.min)
			snprintf(out, bytes, "a text of %u to %u bytes", (unsigned)schema->string.min,
				 (unsigned)schema->string.max);
		else
			snprintf(out, bytes, "a text of at most %u bytes", (unsigned)schema->string.max);
		break;
	case CYAML_MAPPING:
		snprintf(out, bytes, "keys with values");
		break;
	default:
		snprintf(out, bytes, "a list");
		break;
	}
	return out;
}

static enum err wrong(struct walk *w, const struct cyaml_schema_value *schema)
{
	char expected[512], got[64];
	describe(schema, expected, sizeof(expected));
	switch (w->event.type) {
	case YAML_SCALAR_EVENT:
		if (scalar_of(w).len == 0)
			return settings_fail(w->s, line_of(w), w->key, "expected %s; the value is empty", expected);
		return settings_fail(w->s, line_of(w), w->key, "expected %s; got \"%s\"", expected,
				     shown(scalar_of(w), got));
	case YAML_MAPPING_START_EVENT:
		return settings_fail(w->s, line_of(w), w->key, "expected %s; got keys with values", expected);
	default:
		return settings_fail(w->s, line_of(w), w->key, "expected %s; got a list", expected);
	}
}

/* Decimal only: libcyaml would take 010 for 8 and "3x" for 3. */
static bool fits_number(struct slice s, uint64_t most)
{
	uint64_t value = 0;
	return slice_u64(s, most, &value) && (s.len == 1 || s.ptr[0] != '0');
}

static bool fits_int(struct slice s, const struct cyaml_schema_value *schema)
{
	uint64_t most = unsigned_max(schema) / 2;
	if (s.len && s.ptr[0] == '-')
		return fits_number(slice_from(s, 1), most + 1);
	return fits_number(s, most);
}

static bool fits_float(struct slice s)
{
	char z[64], *end = NULL;
	if (s.len == 0 || s.len >= sizeof(z) || slice_find(s, '\0') != SIZE_MAX)
		return false;
	memcpy(z, s.ptr, s.len);
	z[s.len] = '\0';
	if (strspn(z, "0123456789+-.eE") != s.len || !strpbrk(z, "0123456789"))
		return false;
	(void)strtod(z, &end);
	return *end == '\0';
}

static bool fits_bool(struct slice s)
{
	static const char *const words[] = { "true", "false", "yes", "no", "on", "off" };
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (slice_eq_nocase(s, slice_str(words[i])))
			return true;
	return false;
}

static bool fits_enum(struct slice s, const struct cyaml_schema_value *schema)
{
	for (uint32_t i = 0; i < schema->enumeration.count; i++)
		if (slice_eq(s, slice_str(schema->enumeration.strings[i].str)))
			return true;
	return false;
}

static bool is_null(const struct walk *w, const struct cyaml_schema_value *schema)
{
	if ((schema->flags & CYAML_FLAG_POINTER_NULL) != CYAML_FLAG_POINTER_NULL)
		return false;
	struct slice s = scalar_of(w);
	if (s.len == 0)
		return true;
	static const char *const words[] = { "null", "Null", "NULL", "~" };
	for (size_t i = 0;
	     (schema->flags & CYAML_FLAG_POINTER_NULL_STR) == CYAML_FLAG_POINTER_NULL_STR && i < ARRAY_LEN(words); i++)
		if (slice_eq(s, slice_str(words[i])))
			return true;
	return false;
}

static bool fits(struct slice s, const struct cyaml_schema_value *schema)
{
	switch (schema->type) {
	case CYAML_INT:
		return fits_int(s, schema);
	case CYAML_UINT:
		return fits_number(s, unsigned_max(schema));
	case CYAML_BOOL:
		return fits_bool(s);
	case CYAML_ENUM:
		return fits_enum(s, schema);
	case CYAML_FLOAT:
		return fits_float(s);
	case CYAML_STRING:
		return s.len >= schema->string.min && s.len <= schema->string.max && slice_find(s, '\0') == SIZE_MAX;
	default:
		return false;
	}
}

/* ---- mappings and lists ---- */

/* How many single-byte changes lead from a to b, as far as `most`; for short names only. */
static unsigned distance(struct slice a, struct slice b)
{
	unsigned row[32];
	if (a.len >= ARRAY_LEN(row) || b.len >= ARRAY_LEN(row))
		return 99;
	for (unsigned j = 0; j <= b.len; j++)
		row[j] = j;
	for (unsigned i = 1; i <= a.len; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= b.len; j++) {
			unsigned change = diagonal + (a.ptr[i - 1] != b.ptr[j - 1]);
			diagonal = row[j];
			unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			row[j] = change < least ? change : least;
		}
	}
	return row[b.len];
}

static enum err unknown_key(struct walk *w, const struct cyaml_schema_field *fields, struct slice name)
{
	char got[64], known[512];
	const char *nearest = NULL;
	unsigned best = 3;
	size_t at = 0;
	known[0] = '\0';
	for (const struct cyaml_schema_field *f = fields; f->key; f++) {
		unsigned d = distance(name, slice_str(f->key));
		if (d < best) {
			best = d;
			nearest = f->key;
		}
		if (at < sizeof(known))
			at += (size_t)snprintf(known + at, sizeof(known) - at, "%s%s", at ? ", " : "", f->key);
	}
	key_push_name(w, shown(name, got));
	if (nearest)
		return settings_fail(w->s, line_of(w), w->key, "unknown key; did you mean \"%s\"?", nearest);
	return settings_fail(w->s, line_of(w), w->key, "unknown key; expected one of %s", known);
}

static enum err check_missing(struct walk *w, unsigned line, const struct cyaml_schema_field *fields, const bool *seen)
{
	for (size_t i = 0; fields[i].key; i++) {
		if (seen[i] || (fields[i].value.flags & CYAML_FLAG_OPTIONAL))
			continue;
		char expected[512];
		describe(&fields[i].value, expected, sizeof(expected));
		key_push_name(w, fields[i].key);
		return settings_fail(w->s, line, w->key, "missing; expected %s", expected);
	}
	return OK;
}

/* One key and its value; the current event is the key. */
static enum err check_field(struct walk *w, const struct cyaml_schema_field *fields, bool *seen)
{
	size_t i = 0;
	if (w->event.type != YAML_SCALAR_EVENT)
		return settings_fail(w->s, line_of(w), w->key, "expected a key; got something else before \":\"");
	struct slice name = scalar_of(w);
	while (fields[i].key && !slice_eq(slice_str(fields[i].key), name))
		i++;
	if (!fields[i].key)
		return unknown_key(w, fields, name);
	key_push_name(w, fields[i].key);
	if (seen[i])
		return settings_fail(w->s, line_of(w), w->key, "the key stands twice, first on line %u",
				     settings_line(w->s, w->key));
	seen[i] = true;
	enum err e = note_place(w, line_of(w));
	if (e == OK)
		e = next(w);
	return e == OK ? check_value(w, &fields[i].value) : e;
}

static enum err check_mapping(struct walk *w, const struct cyaml_schema_value *schema)
{
	const struct cyaml_schema_field *fields = schema->mapping.fields;
	bool seen[SETTINGS_FIELDS_MAX] = { false };
	size_t count = 0, key_len = w->key_len;
	unsigned line = line_of(w);
	while (fields[count].key)
		count++;
	ASSERT(count <= SETTINGS_FIELDS_MAX);
	for (;;) {
		enum err e = next(w);
		if (e != OK)
			return e;
		if (w->event.type == YAML_MAPPING_END_EVENT)
			return check_missing(w, line, fields, seen);
		e = check_field(w, fields, seen);
		if (e != OK)
			return e;
		key_pop(w, key_len);
	}
}

static enum err check_sequence(struct walk *w, const struct cyaml_schema_value *schema)
{
	size_t key_len = w->key_len, count = 0;
	unsigned line = line_of(w), least = (unsigned)schema->sequence.min, most = (unsigned)schema->sequence.max;
	for (;;) {
		enum err e = next(w);
		if (e != OK)
			return e;
		if (w->event.type == YAML_SEQUENCE_END_EVENT)
			break;
		key_push_index(w, ++count);
		if (count > most)
			return settings_fail(w->s, line_of(w), w->key, "expected at most %u entries", most);
		e = note_place(w, line_of(w));
		if (e == OK)
			e = check_value(w, schema->sequence.entry);
		if (e != OK)
			return e;
		key_pop(w, key_len);
	}
	if (count < least)
		return settings_fail(w->s, line, w->key, "expected at least %u %s; got %zu", least,
				     least == 1 ? "entry" : "entries", count);
	return OK;
}

/* The current event begins the value; afterwards it ends it. */
static enum err check_value(struct walk *w, const struct cyaml_schema_value *schema)
{
	ASSERT(schema->type != CYAML_FLAGS && schema->type != CYAML_BITFIELD); /* not needed so far */
	if (schema->type == CYAML_IGNORE)
		return skip(w);
	if (w->event.type == YAML_SCALAR_EVENT)
		return is_null(w, schema) || fits(scalar_of(w), schema) ? OK : wrong(w, schema);
	if (w->event.type == YAML_MAPPING_START_EVENT && schema->type == CYAML_MAPPING)
		return check_mapping(w, schema);
	if (w->event.type == YAML_SEQUENCE_START_EVENT &&
	    (schema->type == CYAML_SEQUENCE || schema->type == CYAML_SEQUENCE_FIXED))
		return check_sequence(w, schema);
	return wrong(w, schema);
}

/* ---- the stream ---- */

/* A document that is one empty plain scalar (only comments, "---") says nothing. */
static bool says_nothing(const struct walk *w)
{
	return w->event.type == YAML_SCALAR_EVENT && w->event.data.scalar.length == 0 &&
	       w->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

static enum err check_document(struct walk *w, const struct cyaml_schema_value *schema, bool *empty_out)
{
	static const bool none[SETTINGS_FIELDS_MAX];
	enum err e = next(w);
	if (e == OK && says_nothing(w)) {
		*empty_out = true;
		e = check_missing(w, 1, schema->mapping.fields, none);
	} else if (e == OK) {
		e = check_value(w, schema);
	}
	return e == OK ? next(w) : e; /* the document's end */
}

static enum err check_stream(struct walk *w, const struct cyaml_schema_value *schema, bool *empty_out)
{
	static const bool none[SETTINGS_FIELDS_MAX];
	enum err e = next(w); /* the stream's start */
	if (e == OK)
		e = next(w);
	if (e != OK)
		return e;
	if (w->event.type == YAML_STREAM_END_EVENT) {
		*empty_out = true;
		return check_missing(w, 1, schema->mapping.fields, none);
	}
	e = check_document(w, schema, empty_out);
	if (e == OK)
		e = next(w);
	if (e == OK && w->event.type != YAML_STREAM_END_EVENT)
		e = settings_fail(w->s, line_of(w), NULL, "expected one document; a second one begins here");
	return e;
}

enum err settings_check(struct settings *s, struct slice text, const struct cyaml_schema_value *schema, bool *empty_out)
{
	ASSERT(schema->type == CYAML_MAPPING && (schema->flags & CYAML_FLAG_POINTER));
	struct walk w = { .s = s, .text = text };
	if (!yaml_parser_initialize(&w.parser))
		return settings_fail(s, 0, NULL, "%s", strerror(ENOMEM));
	yaml_parser_set_input_string(&w.parser, (const unsigned char *)(text.len ? text.ptr : ""), text.len);
	*empty_out = false;
	enum err e = check_stream(&w, schema, empty_out);
	yaml_event_delete(&w.event);
	yaml_parser_delete(&w.parser);
	return e;
}
