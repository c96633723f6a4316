/* SPDX-License-Identifier: Apache-2.0 */
/* redis_server.c - see redis_server.h. */
#include "tests/unit/support/redis_server.h"
#include "tests/unit/support/fiber_main.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int tcp_to(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

unsigned test_free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static void run(const struct test_redis *r, const char *const *more)
{
	const char *argv[32] = { "redis-server", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", r->folder, "--loglevel", "warning",
				 "--unixsocket", r->socket + 5, "--port" };
	char port[8];
	int argc = 14, null = open("/dev/null", O_RDWR);
	snprintf(port, sizeof(port), "%u", r->port);
	argv[argc++] = port;
	for (; more && *more && argc < 31; more++)
		argv[argc++] = *more;
	dup2(null, 0);
	dup2(null, 1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp("redis-server", (char *const *)(uintptr_t)argv);
	_exit(127);
}

static bool start(struct test_redis *r, const char *const *more)
{
	r->pid = fork();
	if (r->pid == 0)
		run(r, more);
	for (int i = 0; i < 3000; i++) {
		int status, fd = tcp_to(r->port);
		if (fd >= 0) {
			close(fd);
			return true;
		}
		if (waitpid(r->pid, &status, WNOHANG) == r->pid) {
			r->pid = 0;
			return false;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	fail_msg("redis-server does not listen");
	return false;
}

bool test_redis_start(struct test_redis *r, const char *const *more)
{
	if (system("command -v redis-server >/dev/null") != 0) {
		print_message("skipped: no redis-server here\n");
		return false;
	}
	r->port = test_free_port();
	snprintf(r->folder, sizeof(r->folder), "%s", test_folder());
	snprintf(r->address, sizeof(r->address), "127.0.0.1:%u", r->port);
	snprintf(r->socket, sizeof(r->socket), "unix:%s/s", r->folder);
	assert_true(start(r, more));
	return true;
}

void test_redis_restart(struct test_redis *r, const char *const *more)
{
	test_redis_stop(r);
	assert_true(start(r, more));
}

void test_redis_stop(struct test_redis *r)
{
	if (r->pid <= 0)
		return;
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	r->pid = 0;
}
