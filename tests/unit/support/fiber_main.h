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

void fiber_main(void (*body)(void **state), void **state);

#define FIBER_TEST(name)                                                                                      \
	static void name##_body(void **state);                                                                \
	static void name(void **state) { fiber_main(name##_body, state); }                                    \
	static void name##_body(__attribute__((unused)) void **state)

/* A fresh folder below $TMPDIR or /tmp, removed at exit; the path is static until the next call. */
const char *test_folder(void);

/* A connected pair of TCP sockets on loopback: fds_out[0] is non-blocking, fds_out[1] blocks. */
void test_tcp_pair(int fds_out[2]);

#endif
