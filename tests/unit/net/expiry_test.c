/* SPDX-License-Identifier: Apache-2.0 */
/* expiry.c: who is told, when, how often, and no more than the bound. */
#include "net/expiry.h"

#include "core/base/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define DAY 86400
#define NOW ((int64_t)20000 * DAY + 1000)

static struct expiry x;

static enum expiry_is ask(const char *path, int64_t expires_s, int64_t now_s)
{
	int64_t asked = 0;
	return expiry_look(&x, &asked, path, expires_s, now_s);
}

static void once_a_day(void **state)
{
	(void)state;
	int64_t asked = 0, expires = NOW + 14 * DAY;
	expiry_init(&x, 14);
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW - 1), EXPIRY_FAR);
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW), EXPIRY_TOLD);
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW + 1), EXPIRY_NEAR);
	assert_int_equal(ask("a.pem", expires, NOW + 2), EXPIRY_NEAR); /* left memory and came back */
	assert_int_equal(ask("b.pem", expires, NOW + 2), EXPIRY_TOLD);
	assert_int_equal(ask("a.pem", expires - 1, NOW + 2), EXPIRY_TOLD); /* renewed, to no use */
	assert_int_equal(ask("a.pem", expires + 90 * DAY, NOW + 2), EXPIRY_FAR);
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW + DAY), EXPIRY_TOLD);
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW + 20 * DAY), EXPIRY_TOLD); /* has expired */
	assert_int_equal(expiry_look(&x, &asked, "a.pem", expires, NOW + 20 * DAY + 1), EXPIRY_NEAR);
}

static void never(void **state)
{
	(void)state;
	expiry_init(&x, 0);
	assert_int_equal(ask("a.pem", NOW - DAY, NOW), EXPIRY_FAR);
}

static void no_flood(void **state)
{
	(void)state;
	char path[32];
	unsigned told = 0;
	expiry_init(&x, 1);
	for (int day = 0; day < 2; day++)
		for (unsigned i = 0; i < 3 * TLS_EXPIRY_TOLD_MAX; i++) {
			snprintf(path, sizeof path, "%u.pem", i);
			enum expiry_is is = ask(path, NOW, NOW + day * DAY);
			assert_int_not_equal(is, EXPIRY_FAR);
			told += is == EXPIRY_TOLD;
		}
	assert_int_equal(told, 2 * TLS_EXPIRY_TOLD_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(once_a_day), cmocka_unit_test(never), cmocka_unit_test(no_flood) };
	log_set_level(LOG_ALARM);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
