/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that the service manager gives: which process they are for, their names, what nobody asks for. */
#include "core/base/log.h"
#include "net/given.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void give(long pid, const char *count, const char *names)
{
	char text[32];
	snprintf(text, sizeof text, "%ld", pid);
	assert_int_equal(setenv("LISTEN_PID", text, 1), 0);
	assert_int_equal(setenv("LISTEN_FDS", count, 1), 0);
	assert_int_equal(names ? setenv("LISTEN_FDNAMES", names, 1) : unsetenv("LISTEN_FDNAMES"), 0);
	given_open();
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
}
static int take(const char *name) { return given_take(slice_str(name)); }

static void by_name(void **state)
{
	(void)state;
	give(getpid(), "4", "pop3:lmtp:pop3:");
	assert_int_equal(take("imap"), -1);
	assert_int_equal(take("pop"), -1);
	assert_int_equal(take("pop3"), 3);
	assert_int_equal(take("pop3"), 5);
	assert_int_equal(take("pop3"), -1);
	assert_int_equal(take("lmtp"), 4);
	assert_int_equal(take("unknown"), 6);
	given_close();
}

static void without_names(void **state)
{
	(void)state;
	give(getpid(), "2", NULL);
	assert_int_equal(take("unknown"), 3);
	assert_int_equal(take("unknown"), 4);
	assert_int_equal(take("unknown"), -1);
	given_close();
}

static void not_for_us(void **state)
{
	static const char *const counts[] = { "", "-1", "1x", "257", "99999999999999999999" };
	(void)state;
	give(getpid() + 1L, "1", "pop3");
	assert_int_equal(take("pop3"), -1);
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		give(getpid(), counts[i], "pop3");
		assert_int_equal(take("pop3"), -1);
	}
	given_close();
}

/* Nothing of this program is open there. */
static void unasked_are_closed(void **state)
{
	(void)state;
	for (int fd = 3; fd < 5; fd++)
		assert_int_equal(dup2(0, fd), fd);
	give(getpid(), "2", "pop3:other");
	assert_int_equal(fcntl(3, F_GETFD), FD_CLOEXEC);
	assert_int_equal(take("pop3"), 3);
	given_close();
	assert_int_equal(fcntl(3, F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(4, F_GETFD), -1);
	close(3);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(by_name), cmocka_unit_test(without_names), cmocka_unit_test(not_for_us),
					    cmocka_unit_test(unasked_are_closed) };
	log_set_level(LOG_ALARM);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
