/* SPDX-License-Identifier: Apache-2.0 */
/* cidr_test.c - networks, and who lies in them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/cidr.h"

static void good_and_bad(void **state)
{
	(void)state;
	static const char *const good[] = { "127.0.0.0/8", "0.0.0.0/0", "10.1.2.3", "10.1.2.3/32", "::1", "2001:db8::/32", "::/0", "2001:db8:1:2::/63" };
	static const char *const bad[] = { "", "/", "127.0.0.0/33", "127.0.0.1/8", "127.0.0/8", "::1/129", "2001:db8::1/32", "10.0.0.0/-1", "10.0.0.0/",
					   "10.0.0.0/8/8", "localhost", "10.0.0.0 /8", "unix:/x", "1.2.3.4:5" };
	struct cidr c;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(cidr_parse(slice_str(good[i]), &c), OK);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(cidr_parse(slice_str(bad[i]), &c), ERR_SYNTAX);
	assert_int_equal(cidr_parse(SLICE_LIT("1.2.3.4\0/32"), &c), ERR_SYNTAX);
}

static void inside_and_outside(void **state)
{
	(void)state;
	static const struct {
		const char *net, *address;
		bool in;
	} cases[] = {
		{ "127.0.0.0/8", "127.255.0.9:1", true },   { "127.0.0.0/8", "128.0.0.1:1", false },
		{ "10.0.0.0/9", "10.127.255.255:1", true }, { "10.0.0.0/9", "10.128.0.0:1", false },
		{ "0.0.0.0/0", "9.9.9.9:1", true },         { "0.0.0.0/0", "[2001:db8::1]:1", false },
		{ "::/0", "[2001:db8::1]:1", true },        { "10.0.0.0/8", "[::ffff:10.1.2.3]:1", true },
		{ "2001:db8::/32", "[2001:db8:ffff::1]:1", true }, { "2001:db8::/32", "[2001:db9::]:1", false },
		{ "192.0.2.7", "192.0.2.7:1", true },       { "192.0.2.7", "192.0.2.6:1", false },
		{ "0.0.0.0/0", "unix:/x", false },
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cidr c;
		struct addr a;
		assert_int_equal(cidr_parse(slice_str(cases[i].net), &c), OK);
		assert_int_equal(addr_parse(slice_str(cases[i].address), &a), OK);
		assert_int_equal(cidrs_have(&c, 1, &a), cases[i].in);
		assert_false(cidrs_have(&c, 0, &a));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(good_and_bad), cmocka_unit_test(inside_and_outside) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
