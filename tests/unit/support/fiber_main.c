/* SPDX-License-Identifier: Apache-2.0 */
/* fiber_main.c - see fiber_main.h. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/err.h"
#include "core/run/shard_private.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct body {
	void (*run)(void **state);
	void **state;
};

static void run_body(void *arg)
{
	struct body *b = arg;
	b->run(b->state);
}

void fiber_main(void (*body)(void **state), void **state)
{
	struct body b = { body, state };
	assert_int_equal(shard_run_alone(run_body, &b), OK);
}

void fiber_main_on(const struct io_backend *backend, void (*body)(void **state), void **state)
{
	struct body b = { body, state };
	struct shard_options options = { .backend = backend };
	if (!test_backend_works(backend))
		skip();
	assert_int_equal(shard_run_alone_with(&options, run_body, &b), OK);
}

bool test_backend_works(const struct io_backend *backend)
{
	const struct io_backend_config config = { .index = 0 };
	char why[512];
	void *be;
	if (backend->open(&config, &be, why, sizeof(why)) != OK)
		return false;
	backend->close(be);
	return true;
}

/* Whole suites run on a back end of choice. */
__attribute__((constructor)) static void choose_backend(void)
{
	const char *name = getenv("PENFOLD_IO_BACKEND");
	if (name && shard_set_backend(name) != OK)
		abort();
}

static char folders[64][128];
static unsigned folder_count;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_folders(void)
{
	while (folder_count > 0)
		nftw(folders[--folder_count], remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *test_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	assert_true(folder_count < 64);
	char *path = folders[folder_count];
	snprintf(path, sizeof(folders[0]), "%s/penfold-test-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(path));
	if (folder_count++ == 0)
		atexit(remove_folders);
	return path;
}

void test_tcp_pair(int fds_out[2])
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
	fds_out[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fds_out[1], (struct sockaddr *)&a, len), 0);
	fds_out[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fds_out[0] >= 0);
	close(listener);
}
