/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_server.h - Debian's redis-server for a test: on a free port and a unix socket, in a folder of its own, gone with the test.
 *
 * Blocking: start and stop belong before a shard's turn, or between two waits of a fiber that can afford it.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_REDIS_SERVER_H
#define PENFOLD_TESTS_UNIT_SUPPORT_REDIS_SERVER_H

#include <stdbool.h>
#include <sys/types.h>

struct test_redis {
	pid_t pid;
	unsigned port;
	char folder[128], address[64], socket[160]; /* "127.0.0.1:25001", "unix:/..." */
};

/* False: there is no redis-server on this machine. `more`: further arguments, ended by NULL, or NULL. */
bool test_redis_start(struct test_redis *r, const char *const *more);
/* Again on the same port and folder. */
void test_redis_restart(struct test_redis *r, const char *const *more);
void test_redis_stop(struct test_redis *r); /* SIGKILL, and waits; harmless twice */
unsigned test_free_port(void);

#endif
