/* SPDX-License-Identifier: Apache-2.0 */
/* The disk door: bytes, names, facts, listings, locks. Faults are in fault_test.c. */
#include "tests/unit/support/fiber_main.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/run/file.h"
#include "core/run/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_folder(void)
{
	int fd = file_open(AT_FDCWD, test_folder(), O_RDONLY | O_DIRECTORY, 0);
	assert_true(fd >= 0);
	return fd;
}

static struct iovec piece(const char *s) { return (struct iovec){ (void *)(uintptr_t)s, strlen(s) }; }

FIBER_TEST_BOTH(writes_and_reads_back)
{
	int dir = open_folder();
	int fd = file_create_excl(dir, "a", 0600);
	char buf[64] = { 0 };
	assert_true(fd >= 0);
	assert_int_equal(file_create_excl(dir, "a", 0600), -EEXIST);
	struct iovec v[3] = { piece("one "), piece(""), piece("two ") };
	assert_int_equal(file_write(fd, v, 3, 0), 0);
	v[0] = piece("three");
	assert_int_equal(file_commit(fd, v, 1, 8), 0);
	assert_int_equal(file_commit(fd, v, 1, 13), 0);
	assert_int_equal(file_read(fd, buf, sizeof(buf), 0), 18);
	assert_string_equal(buf, "one two threethree");
	assert_int_equal(file_read(fd, buf, 3, 4), 3);
	assert_memory_equal(buf, "two", 3);
	assert_int_equal(file_read(fd, buf, 3, 100), 0);
	assert_int_equal(file_sync(fd), 0);
	assert_int_equal(file_sync_dir(dir), 0);
	assert_int_equal(file_syncfs(dir), 0);
	file_prefetch(fd, 0, 18);
	assert_int_equal(file_truncate(fd, 3), 0);
	assert_int_equal(file_read(fd, buf, sizeof(buf), 0), 3);
	file_close(fd);
	assert_int_equal(file_open(dir, "missing", O_RDONLY, 0), -ENOENT);
	file_close(dir);
}

FIBER_TEST_BOTH(more_pieces_than_one_call_takes)
{
	enum { COUNT = 3000 };
	int dir = open_folder(), fd = file_create_excl(dir, "many", 0600);
	struct iovec *v = calloc(COUNT, sizeof(*v));
	char text[COUNT * 3 + 1], back[COUNT * 3 + 1];
	for (int i = 0; i < COUNT; i++) {
		snprintf(text + 3 * i, 4, "%02d;", i % 100);
		v[i] = (struct iovec){ text + 3 * i, 3 };
	}
	assert_int_equal(file_commit(fd, v, COUNT, 5), 0);
	assert_int_equal(file_read(fd, back, sizeof(back), 5), COUNT * 3);
	assert_memory_equal(text, back, COUNT * 3);
	free(v);
	file_close(fd);
	file_close(dir);
}

FIBER_TEST_BOTH(names_and_facts)
{
	int dir = open_folder();
	struct file_info info;
	int fd = file_create_excl(dir, "a", 0600);
	struct iovec v = piece("12345");
	assert_int_equal(file_write(fd, &v, 1, 0), 0);
	assert_int_equal(file_stat(fd, &info), 0);
	assert_int_equal(info.bytes, 5);
	assert_int_equal(info.links, 1);
	assert_false(info.is_dir);
	uint64_t inode = info.inode;
	assert_int_equal(file_exists(dir, "a"), 1);
	assert_int_equal(file_exists(dir, "b"), 0);
	assert_int_equal(file_link(dir, "a", dir, "b"), 0);
	assert_int_equal(file_link(dir, "a", dir, "b"), -EEXIST);
	assert_int_equal(file_rename(dir, "a", dir, "c"), 0);
	assert_int_equal(file_exists(dir, "a"), 0);
	assert_int_equal(file_stat_name(dir, "c", &info), 0);
	assert_int_equal(info.inode, inode);
	assert_int_equal(info.links, 2);
	assert_int_equal(file_unlink(dir, "b"), 0);
	assert_int_equal(file_unlink(dir, "c"), 0);
	assert_int_equal(file_unlink(dir, "c"), -ENOENT);
	assert_int_equal(file_stat(fd, &info), 0);
	assert_int_equal(info.links, 0); /* the look of the fence */
	assert_int_equal(file_mkdir(dir, "d", 0700), 0);
	assert_int_equal(file_mkdir(dir, "d", 0700), -EEXIST);
	assert_int_equal(file_stat_name(dir, "d", &info), 0);
	assert_true(info.is_dir);
	assert_int_equal(file_rmdir(dir, "d"), 0);
	assert_int_equal(file_stat_name(dir, "d", &info), -ENOENT);
	file_close(fd);
	file_close(dir);
}

FIBER_TEST_BOTH(does_not_follow_links_out)
{
	char path[256], target[256];
	const char *folder = test_folder();
	snprintf(path, sizeof(path), "%s/link", folder);
	snprintf(target, sizeof(target), "%s/there", folder);
	int dir = file_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0), fd = file_create_excl(dir, "there", 0600);
	assert_int_equal(symlink(target, path), 0);
	assert_int_equal(file_open(dir, "link", O_RDONLY, 0), -ELOOP);
	file_close(fd);
	file_close(dir);
}

struct seen {
	unsigned files, dirs, stop_at;
};

static bool see(void *arg, const char *name, bool is_dir)
{
	struct seen *s = arg;
	assert_true(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
	*(is_dir ? &s->dirs : &s->files) += 1;
	return s->files + s->dirs != s->stop_at;
}

FIBER_TEST_BOTH(lists_every_entry_once)
{
	int dir = open_folder();
	struct seen s = { 0 };
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof(name), "f%d", i);
		int fd = file_create_excl(dir, name, 0600);
		assert_true(fd >= 0);
		file_close(fd);
	}
	assert_int_equal(file_mkdir(dir, "d", 0700), 0);
	assert_int_equal(file_list(dir, see, &s), 0);
	assert_int_equal(s.files, 500);
	assert_int_equal(s.dirs, 1);
	s = (struct seen){ .stop_at = 10 };
	assert_int_equal(file_list(dir, see, &s), 0);
	assert_int_equal(s.files + s.dirs, 10);
	file_close(dir);
}

FIBER_TEST_BOTH(copies_ranges)
{
	int dir = open_folder(), a = file_create_excl(dir, "a", 0600), b = file_create_excl(dir, "b", 0600);
	size_t bytes = MIB(3) + 17;
	char *text = malloc(bytes), *back = malloc(bytes);
	for (size_t i = 0; i < bytes; i++)
		text[i] = (char)(i * 7919 >> 8);
	struct iovec v = { text, bytes };
	assert_int_equal(file_write(a, &v, 1, 0), 0);
	assert_int_equal(file_copy_range(a, 11, b, 5, bytes - 11), 0);
	assert_int_equal(file_read(b, back, bytes, 5), (int64_t)bytes - 11);
	assert_memory_equal(back, text + 11, bytes - 11);
	assert_int_equal(file_copy_range(a, bytes - 10, b, 0, 11), -EIO); /* longer than the file */
	free(text);
	free(back);
	file_close(a);
	file_close(b);
	file_close(dir);
}

FIBER_TEST_BOTH(locks_and_space)
{
	const char *folder = test_folder();
	int a = file_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0), b = file_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	struct file_space space;
	assert_int_equal(file_lock(a), 0);
	assert_int_equal(file_lock(b), -EWOULDBLOCK);
	file_close(a);
	assert_int_equal(file_lock(b), 0);
	assert_int_equal(file_space(b, &space), 0);
	assert_true(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
	file_close(b);
}

FIBER_TEST_BOTH(facts_of_a_shared_store_go_off_the_thread)
{
	struct file_info info;
	int dir = open_folder();
	file_set_shared(true);
	assert_int_equal(file_stat(dir, &info), 0);
	assert_true(info.is_dir);
	assert_int_equal(file_exists(dir, "x"), 0);
	assert_int_equal(file_stat_name(dir, "x", &info), -ENOENT);
	file_set_shared(false);
	file_close(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(writes_and_reads_back),
		BOTH(more_pieces_than_one_call_takes),
		BOTH(names_and_facts),
		BOTH(does_not_follow_links_out),
		BOTH(lists_every_entry_once),
		BOTH(copies_ranges),
		BOTH(locks_and_space),
		BOTH(facts_of_a_shared_store_go_off_the_thread),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
