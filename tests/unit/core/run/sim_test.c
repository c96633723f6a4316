/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated disk: what is durable, what is pending, and every state that a crash may leave. */
#include "core/run/sim.h"

#include "core/run/shard_private.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct sim_config config;

static void run(void (*fn)(void *), void *arg)
{
	struct shard_options options = { .backend = &io_backend_sim };
	config.seed = 7;
	sim_use(&config);
	assert_int_equal(shard_run_alone_with(&options, fn, arg), OK);
}

static void put(int fd, const char *text, uint64_t offset)
{
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	assert_int_equal(file_write(fd, &iov, 1, offset), 0);
}

static void one_file(void *arg)
{
	(void)arg;
	int fd = file_create_excl(AT_FDCWD, "a", 0600);
	assert_true(fd >= 0);
	put(fd, "0123456789abcdef", 0);
	assert_int_equal(file_create_excl(AT_FDCWD, "a", 0600), -EEXIST);
	file_close(fd);
}

static unsigned count_states(const struct sim_disk *disk, bool *empty_out, bool *whole_out, bool *zeros_out)
{
	uint64_t n = sim_crash_count(disk, 1000);
	*empty_out = *whole_out = *zeros_out = false;
	for (uint64_t i = 0; i < n; i++) {
		struct sim_disk *after = sim_crash(disk, i, n);
		struct buf b;
		buf_init(&b, 1000);
		assert_int_equal(sim_pending(after), 0);
		if (!sim_disk_read(after, "a", &b))
			*empty_out = true;
		else if (slice_eq(buf_slice(&b), SLICE_LIT("0123456789abcdef")))
			*whole_out = true;
		else if (b.len == 16 && !b.ptr[0] && !b.ptr[15])
			*zeros_out = true;
		buf_release(&b);
		sim_disk_free(after);
	}
	return (unsigned)n;
}

static void test_pending(void **state)
{
	(void)state;
	bool empty, whole, zeros;
	config = (struct sim_config){ .disk = sim_disk_new() };
	run(one_file, NULL);
	assert_int_equal(sim_pending(config.disk), 2); /* a name and a write */
	assert_int_equal(count_states(config.disk, &empty, &whole, &zeros), 10);
	assert_true(empty && whole && zeros);
	sim_disk_free(config.disk);
}

static void synced_file(void *arg)
{
	(void)arg;
	one_file(NULL);
	int fd = file_open(AT_FDCWD, "a", O_RDWR, 0), dir = file_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
	assert_int_equal(file_sync(fd), 0);
	assert_int_equal(file_sync_dir(dir), 0);
	file_close(fd);
	file_close(dir);
}

static void test_synced(void **state)
{
	(void)state;
	bool empty, whole, zeros;
	config = (struct sim_config){ .disk = sim_disk_new() };
	run(synced_file, NULL);
	assert_int_equal(count_states(config.disk, &empty, &whole, &zeros), 1);
	assert_true(whole && !empty && !zeros);
	sim_disk_free(config.disk);
}

static void test_lying_sync(void **state)
{
	(void)state;
	bool empty, whole, zeros;
	config = (struct sim_config){ .disk = sim_disk_new(), .sync_lies = true };
	run(synced_file, NULL);
	count_states(config.disk, &empty, &whole, &zeros);
	assert_true(empty && whole && zeros);
	sim_disk_free(config.disk);
}

static void renamed(void *arg)
{
	(void)arg;
	synced_file(NULL);
	int fd = file_create_excl(AT_FDCWD, "b", 0600);
	put(fd, "new", 0);
	assert_int_equal(file_sync(fd), 0);
	file_close(fd);
	assert_int_equal(file_rename(AT_FDCWD, "b", AT_FDCWD, "a"), 0);
	assert_int_equal(file_exists(AT_FDCWD, "b"), 0);
	assert_int_equal(file_exists(AT_FDCWD, "a"), 1);
}

static void test_rename_is_atomic(void **state)
{
	(void)state;
	config = (struct sim_config){ .disk = sim_disk_new() };
	run(renamed, NULL);
	uint64_t n = sim_crash_count(config.disk, 1000);
	assert_int_equal(n, 4); /* the create and the rename, each there or not */
	for (uint64_t i = 0; i < n; i++) {
		struct sim_disk *after = sim_crash(config.disk, i, n);
		struct buf b;
		buf_init(&b, 1000);
		assert_true(sim_disk_read(after, "a", &b));
		assert_true(slice_eq(buf_slice(&b), SLICE_LIT("new")) || slice_eq(buf_slice(&b), SLICE_LIT("0123456789abcdef")));
		buf_release(&b);
		sim_disk_free(after);
	}
	sim_disk_free(config.disk);
}

static void durable_write(void *arg)
{
	(void)arg;
	synced_file(NULL);
	int fd = file_open(AT_FDCWD, "a", O_RDWR, 0);
	struct iovec iov = { (void *)(uintptr_t) "more", 4 };
	assert_int_equal(file_commit(fd, &iov, 1, 16), 0);
	file_close(fd);
}

static void test_commit_is_durable(void **state)
{
	(void)state;
	struct buf b;
	config = (struct sim_config){ .disk = sim_disk_new() };
	run(durable_write, NULL);
	assert_int_equal(sim_pending(config.disk), 0);
	buf_init(&b, 1000);
	assert_true(sim_disk_read(config.disk, "a", &b));
	assert_int_equal(b.len, 20);
	buf_release(&b);
	sim_disk_free(config.disk);
}

static void sleeper(void *arg)
{
	uint64_t *ms = arg, began = clock_now_ms();
	fiber_sleep(3600000);
	*ms = clock_now_ms() - began;
}

static void test_time_jumps(void **state)
{
	(void)state;
	uint64_t ms = 0;
	config = (struct sim_config){ .disk = sim_disk_new() };
	run(sleeper, &ms);
	assert_in_range(ms, 3600000, 3660000);
	sim_disk_free(config.disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pending),         cmocka_unit_test(test_synced),
					    cmocka_unit_test(test_lying_sync),      cmocka_unit_test(test_rename_is_atomic),
					    cmocka_unit_test(test_commit_is_durable), cmocka_unit_test(test_time_jumps) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
