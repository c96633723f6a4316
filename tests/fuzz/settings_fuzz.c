/* SPDX-License-Identifier: Apache-2.0 */
/*
 * settings_fuzz.c - any text as a configuration: it is read, or refused in one printable line; nothing leaks.
 *
 * The schema has every kind of value that settings.h knows.  What the strict walk lets through libcyaml must take as well:
 * otherwise its complaints, which name no line, would reach the operator.
 */
#include "core/base/settings.h"

#include <cyaml/cyaml.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct entry {
	int kind;
	char *text;
};
struct values {
	char *text, *maybe;
	unsigned number;
	int8_t small;
	bool truth;
	double real;
	struct entry *list;
	unsigned list_count;
	struct inner {
		uint64_t deep;
	} inner;
};

static const cyaml_strval_t kinds[] = { { "pop3", 0 }, { "lmtp", 1 } };
static const cyaml_schema_field_t entry_fields[] = {
	CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct entry, kind, kinds, 2),
	CYAML_FIELD_STRING_PTR("text", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct entry, text, 1, 100),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t entry_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct entry,
								       entry_fields) };
static const cyaml_schema_field_t inner_fields[] = {
	CYAML_FIELD_UINT("deep", CYAML_FLAG_OPTIONAL, struct inner, deep),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t fields[] = {
	CYAML_FIELD_STRING_PTR("text", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct values, text, 0, 100),
	CYAML_FIELD_STRING_PTR("maybe", CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL, struct values, maybe, 0, 10),
	CYAML_FIELD_UINT("number", CYAML_FLAG_OPTIONAL, struct values, number),
	CYAML_FIELD_INT("small", CYAML_FLAG_OPTIONAL, struct values, small),
	CYAML_FIELD_BOOL("truth", CYAML_FLAG_OPTIONAL, struct values, truth),
	CYAML_FIELD_FLOAT("real", CYAML_FLAG_OPTIONAL, struct values, real),
	CYAML_FIELD_SEQUENCE("list", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct values, list, &entry_schema, 0, 5),
	CYAML_FIELD_MAPPING("inner", CYAML_FLAG_OPTIONAL, struct values, inner, inner_fields),
	CYAML_FIELD_IGNORE("ignored", CYAML_FLAG_OPTIONAL),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct values, fields) };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct settings s;
	void *value = NULL;
	settings_init(&s);
	if (settings_parse(&s, "f", slice_of(data, size), &schema, &value) == OK) {
		ASSERT(value != NULL);
		settings_free_value(&schema, value);
	} else {
		ASSERT(value == NULL);
		ASSERT(strncmp(s.message, "f:", 2) == 0 && strlen(s.message) > 5);
		for (const char *c = s.message; *c; c++)
			ASSERT(*c >= 0x20 && *c < 0x7f);
		/* a refusal names a line, so it is the walk's: libcyaml would have had no line */
		ASSERT(s.message[2] >= '0' && s.message[2] <= '9');
	}
	settings_release(&s);
	return 0;
}
