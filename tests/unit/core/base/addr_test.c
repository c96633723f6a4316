/* SPDX-License-Identifier: Apache-2.0 */
/* addr_test.c - addresses from text and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/addr.h"

#include <arpa/inet.h>

#define PATH_107 "/2345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"

static void there_and_back(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out, *host;
	} cases[] = {
		{ "127.0.0.1:1110", "127.0.0.1:1110", "127.0.0.1" },
		{ "0.0.0.0:0", "0.0.0.0:0", "0.0.0.0" },
		{ "1.2.3.4:065", "1.2.3.4:65", "1.2.3.4" },
		{ "[::1]:110", "[::1]:110", "::1" },
		{ "[2001:DB8:0:0::1]:65535", "[2001:db8::1]:65535", "2001:db8::1" },
		{ "[::ffff:10.0.0.1]:25", "10.0.0.1:25", "10.0.0.1" },
		{ "unix:/run/x.sock", "unix:/run/x.sock", "unix:/run/x.sock" },
		{ "unix:/a b\xc3\xa4", "unix:/a b??", "unix:/a b??" },
		{ "unix:" PATH_107, "unix:" PATH_107, "unix:" PATH_107 },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a, b;
		char text[ADDR_TEXT_BYTES];
		assert_int_equal(addr_parse(slice_str(cases[i].in), &a), OK);
		assert_int_equal(addr_format(&a, text), strlen(cases[i].out));
		assert_string_equal(text, cases[i].out);
		assert_int_equal(addr_format_host(&a, text), strlen(cases[i].host));
		assert_string_equal(text, cases[i].host);
		b = addr_from(&a.u.sa, a.len);
		assert_true(addr_eq(&a, &b));
	}
	assert_int_equal(strlen(PATH_107), 107);
}

static void refused(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"", ":", "127.0.0.1", "127.0.0.1:", ":110", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:0000001", "127.0.0.1:1x",
		"127.1:110", "256.0.0.1:1", "localhost:110", "::1:110", "[::1]", "[::1]:", "[127.0.0.1]:1", "[::1:110", "[]:1",
		"[fe80::1%lo]:1", "*:110", "unix:", "unix:run/x", "unix:@x", "UNIX:/x", "unix:" PATH_107 "7",
		"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1", " 127.0.0.1:1",
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct addr a;
		assert_int_equal(addr_parse(slice_str(cases[i]), &a), ERR_SYNTAX);
	}
	struct addr a;
	assert_int_equal(addr_parse(SLICE_LIT("unix:/a\0b"), &a), ERR_SYNTAX);
	assert_int_equal(addr_parse(SLICE_LIT("127.0.0.1\0:1"), &a), ERR_SYNTAX);
	assert_int_equal(addr_parse(slice_of(NULL, 0), &a), ERR_SYNTAX);
}

static void from_the_kernel(void **state)
{
	(void)state;
	char text[ADDR_TEXT_BYTES];
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct addr a = addr_from((struct sockaddr *)&un, sizeof(sa_family_t)); /* an unnamed peer */
	assert_int_equal(addr_format(&a, text), 5);
	assert_string_equal(text, "unix:");
	memcpy(un.sun_path, "\0name", 5);
	a = addr_from((struct sockaddr *)&un, offsetof(struct sockaddr_un, sun_path) + 5);
	addr_format(&a, text);
	assert_string_equal(text, "unix:@name");
	memset(un.sun_path, 'x', sizeof(un.sun_path)); /* full, without NUL */
	a = addr_from((struct sockaddr *)&un, sizeof(un));
	assert_int_equal(addr_format(&a, text), 5 + 108);
	a = addr_from(NULL, 0);
	assert_int_equal(addr_format(&a, text), 1);
	assert_string_equal(text, "-");
	assert_int_equal(addr_port(&a), 0);
	assert_false(addr_eq(&a, &a));
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(7) };
	a = addr_from((struct sockaddr *)&in, sizeof(in) - 1); /* cut short */
	assert_int_equal(a.len, 0);
	in.sin_family = AF_APPLETALK;
	a = addr_from((struct sockaddr *)&in, sizeof(in));
	assert_int_equal(a.len, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(there_and_back), cmocka_unit_test(refused), cmocka_unit_test(from_the_kernel) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
