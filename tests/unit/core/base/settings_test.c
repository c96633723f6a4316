/* SPDX-License-Identifier: Apache-2.0 */
/* settings_test.c - what an operator can get wrong, and the one line that he reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cyaml/cyaml.h>

struct listener {
	int protocol;
	char *address;
};
struct values {
	char *data;
	unsigned shards;
	int32_t offset;
	uint8_t small;
	bool pin;
	double ratio;
	char *domain, *maybe;
	struct listener *listeners;
	unsigned listeners_count;
	struct log_values {
		int level;
	} log;
};

static const cyaml_strval_t protocols[] = { { "pop3", 1 }, { "lmtp", 2 } };
static const cyaml_schema_field_t listener_fields[] = {
	CYAML_FIELD_ENUM("protocol", CYAML_FLAG_STRICT, struct listener, protocol, protocols, 2),
	CYAML_FIELD_STRING_PTR("address", CYAML_FLAG_POINTER, struct listener, address, 1, 100),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t listener_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct listener, listener_fields) };
static const cyaml_schema_field_t log_fields[] = {
	CYAML_FIELD_INT("level", CYAML_FLAG_OPTIONAL, struct log_values, level),
	CYAML_FIELD_END,
};
static const cyaml_schema_field_t fields[] = {
	CYAML_FIELD_STRING_PTR("data", CYAML_FLAG_POINTER, struct values, data, 1, 100),
	CYAML_FIELD_UINT("shards", CYAML_FLAG_OPTIONAL, struct values, shards),
	CYAML_FIELD_INT("offset", CYAML_FLAG_OPTIONAL, struct values, offset),
	CYAML_FIELD_UINT("small", CYAML_FLAG_OPTIONAL, struct values, small),
	CYAML_FIELD_BOOL("pin", CYAML_FLAG_OPTIONAL, struct values, pin),
	CYAML_FIELD_FLOAT("ratio", CYAML_FLAG_OPTIONAL, struct values, ratio),
	CYAML_FIELD_STRING_PTR("default_domain", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct values, domain, 0, 10),
	CYAML_FIELD_STRING_PTR("maybe", CYAML_FLAG_POINTER_NULL_STR | CYAML_FLAG_OPTIONAL, struct values, maybe, 0, 10),
	CYAML_FIELD_SEQUENCE("listeners", CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL, struct values, listeners, &listener_schema, 1, 3),
	CYAML_FIELD_MAPPING("log", CYAML_FLAG_OPTIONAL, struct values, log, log_fields),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct values, fields) };

static const cyaml_schema_field_t optional_fields[] = {
	CYAML_FIELD_UINT("shards", CYAML_FLAG_OPTIONAL, struct values, shards),
	CYAML_FIELD_END,
};
static const cyaml_schema_value_t optional_schema = { CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct values, optional_fields) };

static void a_right_file(void **state)
{
	(void)state;
	struct settings s;
	void *v = NULL;
	settings_init(&s);
	static const char text[] = "# comment\ndata: /var/lib/penfold\nshards: 2\noffset: -7\nsmall: 255\npin: off\nratio: 0.5\n"
				   "default_domain: \"\"\nmaybe:\nlisteners:\n  - { protocol: pop3, address: \"127.0.0.1:1110\" }\n"
				   "  - protocol: lmtp\n    address: unix:/run/x.sock\nlog: {level: 3}\n";
	if (settings_parse(&s, "x.yaml", slice_str(text), &schema, &v) != OK)
		fail_msg("%s", s.message);
	const struct values *got = v;
	assert_string_equal(got->data, "/var/lib/penfold");
	assert_int_equal(got->shards, 2);
	assert_int_equal(got->offset, -7);
	assert_int_equal(got->small, 255);
	assert_false(got->pin);
	assert_true(got->ratio > 0.49 && got->ratio < 0.51);
	assert_string_equal(got->domain, "");
	assert_null(got->maybe);
	assert_int_equal(got->listeners_count, 2);
	assert_int_equal(got->listeners[1].protocol, 2);
	assert_string_equal(got->listeners[1].address, "unix:/run/x.sock");
	assert_int_equal(got->log.level, 3);
	assert_int_equal(settings_line(&s, "data"), 2);
	assert_int_equal(settings_line(&s, "listeners[2]"), 12);
	assert_int_equal(settings_line(&s, "listeners[2].address"), 13);
	assert_int_equal(settings_line(&s, "log.level"), 14);
	assert_int_equal(settings_line(&s, "log.colour"), 0);
	assert_int_equal(settings_refuse(&s, "listeners[2].address", "expected %s", "HOST:PORT"), ERR_CONFIG);
	assert_string_equal(s.message, "x.yaml:13: listeners[2].address: expected HOST:PORT");
	assert_int_equal(settings_refuse(&s, "user", "unknown\x1b"), ERR_CONFIG);
	assert_string_equal(s.message, "x.yaml: user: unknown?");
	settings_free_value(&schema, v);
	settings_release(&s);
}

/* libcyaml must read a boolean as the check understands it. */
static void booleans_mean_what_they_say(void **state)
{
	(void)state;
	static const struct {
		const char *word;
		bool value;
	} cases[] = {
		{ "true", true }, { "yes", true }, { "on", true }, { "True", true }, { "ON", true },
		{ "false", false }, { "no", false }, { "off", false }, { "False", false }, { "NO", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct settings s;
		void *v = NULL;
		char text[64];
		settings_init(&s);
		snprintf(text, sizeof(text), "data: x\npin: %s\n", cases[i].word);
		assert_int_equal(settings_parse(&s, "x", slice_str(text), &schema, &v), OK);
		assert_int_equal(((const struct values *)v)->pin, cases[i].value);
		settings_free_value(&schema, v);
		settings_release(&s);
	}
}

static void wrong_files(void **state)
{
	(void)state;
	static const struct {
		const char *text, *message;
	} cases[] = {
		/* unknown keys */
		{ "data: /x\nshrds: 2\n", "f:2: shrds: unknown key; did you mean \"shards\"?" },
		{ "data: /x\nlog: {colour: 1}\n", "f:2: log.colour: unknown key; expected one of level" },
		{ "data: /x\nDATA: 2\n", "f:2: DATA: unknown key; expected one of data, shards, offset, small, pin, ratio, default_domain, "
					 "maybe, listeners, log" },
		{ "data: /x\n\"a\\nb\\e\": 1\n", "f:2: a\\x0ab\\x1b: unknown key; expected one of data, shards, offset, small, pin, ratio, "
					      "default_domain, maybe, listeners, log" },
		/* missing, twice */
		{ "shards: 1\n", "f:1: data: missing; expected a text of 1 to 100 bytes" },
		{ "data: /x\nlisteners:\n- {protocol: pop3}\n", "f:3: listeners[1].address: missing; expected a text of 1 to 100 bytes" },
		{ "data: /x\nshards: 1\nshards: 1\n", "f:3: shards: the key stands twice, first on line 2" },
		/* wrong types */
		{ "data: /x\nshards: two\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"two\"" },
		{ "data: /x\nshards: 3x\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"3x\"" },
		{ "data: /x\nshards: 010\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"010\"" },
		{ "data: /x\nshards: 0x10\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"0x10\"" },
		{ "data: /x\nshards: -1\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"-1\"" },
		{ "data: /x\nshards: 1.5\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"1.5\"" },
		{ "data: /x\nshards: 4294967296\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"4294967296\"" },
		{ "data: /x\nsmall: 256\n", "f:2: small: expected a whole number from 0 to 255; got \"256\"" },
		{ "data: /x\noffset: 2147483648\n", "f:2: offset: expected a whole number from -2147483648 to 2147483647; got \"2147483648\"" },
		{ "data: /x\noffset: -2147483649\n", "f:2: offset: expected a whole number from -2147483648 to 2147483647; got \"-2147483649\"" },
		{ "data: /x\nshards:\n", "f:2: shards: expected a whole number from 0 to 4294967295; the value is empty" },
		{ "data: /x\nshards: [1]\n", "f:2: shards: expected a whole number from 0 to 4294967295; got a list" },
		{ "data: /x\npin: maybe\n", "f:2: pin: expected true or false; got \"maybe\"" },
		{ "data: /x\nratio: nan\n", "f:2: ratio: expected a number; got \"nan\"" },
		{ "data: /x\nratio: 1.5.5\n", "f:2: ratio: expected a number; got \"1.5.5\"" },
		{ "data:\nshards: 1\n", "f:1: data: expected a text of 1 to 100 bytes; the value is empty" },
		{ "data: {a: b}\n", "f:1: data: expected a text of 1 to 100 bytes; got keys with values" },
		{ "data: /x\ndefault_domain: 12345678901\n", "f:2: default_domain: expected a text of at most 10 bytes; got \"12345678901\"" },
		{ "data: \"a\\0b\"\n", "f:1: data: expected a text of 1 to 100 bytes; got \"a\\x00b\"" },
		{ "data: /x\nlog: 7\n", "f:2: log: expected keys with values; got \"7\"" },
		{ "data: /x\nlisteners: pop3\n", "f:2: listeners: expected a list; got \"pop3\"" },
		{ "data: /x\nlisteners: []\n", "f:2: listeners: expected at least 1 entry; got 0" },
		{ "data: /x\nlisteners:\n- {protocol: imap, address: a}\n", "f:3: listeners[1].protocol: expected one of pop3, lmtp; got \"imap\"" },
		{ "data: /x\nlisteners:\n- {protocol: 1, address: a}\n", "f:3: listeners[1].protocol: expected one of pop3, lmtp; got \"1\"" },
		{ "data: /x\nlisteners:\n- &a {protocol: pop3, address: a}\n- *a\n", "f:4: listeners: aliases (*name) are not supported here: "
										  "write the value out" },
		{ "data: /x\nlisteners:\n- {protocol: pop3, address: a}\n- {protocol: pop3, address: a}\n- {protocol: pop3, address: a}\n"
		  "- {protocol: pop3, address: a}\n", "f:6: listeners[4]: expected at most 3 entries" },
		/* not the right file at all */
		{ "- a\n", "f:1: expected keys with values; got a list" },
		{ "hello", "f:1: expected keys with values; got \"hello\"" },
		{ "", "f:1: data: missing; expected a text of 1 to 100 bytes" },
		{ "# nothing\n\n", "f:1: data: missing; expected a text of 1 to 100 bytes" },
		{ "---\n", "f:1: data: missing; expected a text of 1 to 100 bytes" },
		{ "data: /x\n---\ndata: /y\n", "f:2: expected one document; a second one begins here" },
		{ "? [a, b]\n: c\n", "f:1: expected a key; got something else before \":\"" },
		/* bad YAML */
		{ "data: /x\n\tshards: 2\n", "f:2: not valid YAML: found a tab character that violates indentation while scanning a plain scalar" },
		{ "data: [a\n", "f:1: data: expected a text of 1 to 100 bytes; got a list" },
		{ "data: \"open\n", "f:2: not valid YAML: found unexpected end of stream while scanning a quoted scalar" },
		{ "data: /x\n  shards: 2\n", "f:2: not valid YAML: mapping values are not allowed in this context" },
		{ "data: /x\n\n\x01\n", "f:3: not valid YAML: control characters are not allowed" },
		{ "data: /x\n\n\xff\n", "f:3: not valid YAML: invalid leading UTF-8 octet" },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct settings s;
		void *v = &s;
		settings_init(&s);
		enum err e = settings_parse(&s, "f", slice_str(cases[i].text), &schema, &v);
		assert_string_equal(s.message, cases[i].message);
		assert_int_equal(e, ERR_CONFIG);
		assert_null(v);
		settings_release(&s);
	}
}

static void an_empty_file_with_nothing_required(void **state)
{
	(void)state;
	static const char *const cases[] = { "", "# x\n", "---\n", "{}" };
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct settings s;
		void *v = NULL;
		settings_init(&s);
		if (settings_parse(&s, "f", slice_str(cases[i]), &optional_schema, &v) != OK)
			fail_msg("%zu: %s", i, s.message);
		assert_non_null(v);
		assert_int_equal(((const struct values *)v)->shards, 0);
		settings_free_value(&optional_schema, v);
		settings_release(&s);
	}
}

static enum err load_bytes(struct settings *s, const void *bytes, size_t len)
{
	char path[] = "/tmp/penfold-settings-XXXXXX";
	int fd = mkstemp(path);
	void *v = NULL;
	assert_true(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	close(fd);
	enum err e = settings_load(s, path, &schema, &v);
	if (e == OK)
		settings_free_value(&schema, v);
	unlink(path);
	return e;
}

static void files(void **state)
{
	(void)state;
	struct settings s;
	void *v = NULL;
	settings_init(&s);
	assert_int_equal(settings_load(&s, "/nonexistent/x.yaml", &schema, &v), ERR_CONFIG);
	assert_string_equal(s.message, "/nonexistent/x.yaml: cannot be read: No such file or directory");
	assert_int_equal(settings_load(&s, "/tmp", &schema, &v), ERR_CONFIG);
	assert_string_equal(s.message, "/tmp: cannot be read: Is a directory");
	assert_int_equal(load_bytes(&s, "data: /x\n", 9), OK);

	size_t big = SETTINGS_FILE_BYTES_MAX + 1;
	char *bytes = malloc(big);
	assert_non_null(bytes);
	memset(bytes, '#', big);
	memcpy(bytes, "data: /x\n", 9);
	assert_int_equal(load_bytes(&s, bytes, big - 1), OK);
	assert_int_equal(load_bytes(&s, bytes, big), ERR_CONFIG);
	assert_non_null(strstr(s.message, "larger than 1048576 bytes"));
	assert_int_equal(settings_load(&s, "/dev/zero", &schema, &v), ERR_CONFIG); /* endless */
	assert_non_null(strstr(s.message, "larger than"));
	for (size_t i = 0; i < 4096; i++) /* a binary */
		bytes[i] = (char)(i * 37);
	memcpy(bytes, "\x7f" "ELF\x02\x01\x01\0", 8);
	assert_int_equal(load_bytes(&s, bytes, 4096), ERR_CONFIG);
	assert_non_null(strstr(s.message, ":1: not valid YAML: "));
	free(bytes);
	settings_release(&s);
}

static void deep_and_wide(void **state)
{
	(void)state;
	struct settings s;
	struct buf b;
	void *v = NULL;
	settings_init(&s);
	buf_init(&b, MIB(1));
	assert_true(buf_printf(&b, "data: /x\nlisteners:\n- protocol: "));
	for (int i = 0; i < 5000; i++)
		assert_true(buf_put(&b, "[", 1));
	assert_int_equal(settings_parse(&s, "f", buf_slice(&b), &schema, &v), ERR_CONFIG);
	assert_string_equal(s.message, "f:3: listeners[1].protocol: expected one of pop3, lmtp; got a list");
	buf_clear(&b);
	for (int i = 0; i < 20000; i++)
		assert_true(buf_printf(&b, "key%d: 1\n", i));
	assert_int_equal(settings_parse(&s, "f", buf_slice(&b), &schema, &v), ERR_CONFIG);
	buf_clear(&b);
	assert_true(buf_printf(&b, "\""));
	for (int i = 0; i < 10000; i++)
		assert_true(buf_printf(&b, "\\e"));
	assert_true(buf_printf(&b, "\": 1\n"));
	assert_int_equal(settings_parse(&s, "f", buf_slice(&b), &schema, &v), ERR_CONFIG);
	assert_true(strlen(s.message) < 300);
	buf_release(&b);
	settings_release(&s);
}

static void wrong(const char *text, const char *message)
{
	struct settings s;
	void *v = NULL;
	settings_init(&s);
	assert_int_equal(settings_parse(&s, "f", slice_str(text), &schema, &v), ERR_CONFIG);
	assert_string_equal(s.message, message);
	settings_release(&s);
}

static void from_the_environment(void **state)
{
	(void)state;
	struct settings s;
	void *v = NULL;
	settings_init(&s);
	assert_int_equal(setenv("PF_IP_4", "192.0.2.7", 1) | setenv("PF_SHARDS", "3", 1) | setenv("PF_BAD", "a\"b", 1) | setenv("PF_NONE", "", 1) |
				 setenv("PF_LINE", "a\nb", 1),
			 0);
	static const char text[] = "# ${PF_NOT_SET} in a comment\ndata: \"${PF_IP_4}:1${PF_NONE}\" # ${PF_NOT_SET}\nshards: ${PF_SHARDS}\n"
				   "default_domain: $x${y}${}\nmaybe: \"${\"";
	assert_int_equal(settings_parse(&s, "f", slice_str(text), &schema, &v), OK);
	const struct values *values = v;
	assert_string_equal(values->data, "192.0.2.7:1");
	assert_int_equal(values->shards, 3);
	assert_string_equal(values->domain, "$x${y}${}");
	assert_string_equal(values->maybe, "${");
	assert_int_equal(settings_line(&s, "shards"), 3);
	settings_free_value(&schema, v);
	settings_release(&s);
	wrong("data: /x\nshards: ${PF_NOT_SET}\n", "f:2: ${PF_NOT_SET} is not in the environment");
	wrong("data: \"${PF_BAD}\"\n", "f:1: ${PF_BAD} has quotes, backslashes or bytes beyond printable ASCII in the environment");
	wrong("data: ${PF_LINE}\n", "f:1: ${PF_LINE} has quotes, backslashes or bytes beyond printable ASCII in the environment");
	wrong("data: /x\nshards: ${PF_IP_4}\n", "f:2: shards: expected a whole number from 0 to 4294967295; got \"192.0.2.7\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_right_file),
		cmocka_unit_test(booleans_mean_what_they_say),
		cmocka_unit_test(wrong_files),
		cmocka_unit_test(an_empty_file_with_nothing_required),
		cmocka_unit_test(files),
		cmocka_unit_test(from_the_environment),
		cmocka_unit_test(deep_and_wide),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
