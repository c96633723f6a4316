/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fiber_main.h - runs a cmocka test's body on a fiber of a shard of its own.
 *
 *     FIBER_TEST(reads_back)
 *     {
 *             int fd = file_open(...);
 *             assert_true(fd >= 0);
 *     }
 *     int main(void)
 *     {
 *             const struct CMUnitTest tests[] = { cmocka_unit_test(reads_back) };
 *             return cmocka_run_group_tests(tests, NULL, NULL);
 *     }
 *
 * Such a test runs on the back end that $PENFOLD_IO_BACKEND names (auto, io_uring, epoll; default auto).
 *
 * The shard is torn down when the body returns; operations that it left open are waited for, then complained about.
 * A failed assertion leaves the shard as it is and the test fails; the tests after it get fresh shards.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_FIBER_MAIN_H
#define PENFOLD_TESTS_UNIT_SUPPORT_FIBER_MAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/run/backend.h"

void fiber_main(void (*body)(void **state), void **state);

/* The same on a back end of its own choice; skipped where this host refuses it. */
void fiber_main_on(const struct io_backend *backend, void (*body)(void **state), void **state);
bool test_backend_works(const struct io_backend *backend);

#define FIBER_TEST(name)                                                                                      \
	static void name##_body(void **state);                                                                \
	static void name(void **state) { fiber_main(name##_body, state); }                                    \
	static void name##_body(__attribute__((unused)) void **state)

/* One body, two tests: on io_uring and on epoll. In the list of tests: BOTH(reads_back), */
#define FIBER_TEST_BOTH(name)                                                                                 \
	static void name##_body(void **state);                                                                \
	static void name(void **state) { fiber_main_on(&io_backend_uring, name##_body, state); }              \
	static void name##_on_epoll(void **state) { fiber_main_on(&io_backend_epoll, name##_body, state); }   \
	static void name##_body(__attribute__((unused)) void **state)
#define BOTH(name) cmocka_unit_test(name), cmocka_unit_test(name##_on_epoll)

/* A fresh folder below $TMPDIR or /tmp, removed at exit; the path is static until the next call. */
const char *test_folder(void);

/* A connected pair of TCP sockets on loopback: fds_out[0] is non-blocking, fds_out[1] blocks. */
void test_tcp_pair(int fds_out[2]);

#endif
