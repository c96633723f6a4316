/* SPDX-License-Identifier: Apache-2.0 */
/* A password that changes while somebody reads it. */
#include "core/run/redis.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void the_old_text_stays(void **state)
{
	(void)state;
	struct redis_secret *s = redis_secret_open("one");
	const char *one = redis_secret_now(s);
	assert_string_equal(one, "one");
	assert_false(redis_secret_set(s, "one"));
	assert_ptr_equal(redis_secret_now(s), one);
	assert_true(redis_secret_set(s, "two"));
	assert_string_equal(redis_secret_now(s), "two");
	assert_string_equal(one, "one");
	assert_true(redis_secret_set(s, "one"));
	assert_string_equal(redis_secret_now(s), "one");
	redis_secret_close(s);
	redis_secret_close(NULL);
}

static void *change(void *arg)
{
	for (int i = 0; i < 2000; i++)
		redis_secret_set(arg, i & 1 ? "odd odd odd" : "even");
	return NULL;
}

static void read_while_it_changes(void **state)
{
	(void)state;
	struct redis_secret *s = redis_secret_open("even");
	pthread_t writers[2];
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&writers[i], NULL, change, s), 0);
	for (int i = 0; i < 20000; i++) {
		const char *now = redis_secret_now(s);
		assert_true(!strcmp(now, "even") || !strcmp(now, "odd odd odd"));
	}
	for (int i = 0; i < 2; i++)
		pthread_join(writers[i], NULL);
	redis_secret_close(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(the_old_text_stays), cmocka_unit_test(read_while_it_changes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
