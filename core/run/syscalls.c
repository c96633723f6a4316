/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syscalls.c - the direct calls on the real kernel, for every back end that runs on it (backend.h).
 *
 * Nothing here waits for a client.  The calls of the first half are short; those of the second may wait for a disk and are
 * made on offload threads.
 */
#include "core/run/backend.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int done(int r) { return r < 0 ? -errno : r; }

static uint64_t read_clock(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t sys_boot_ns(void *be) { (void)be; return read_clock(CLOCK_BOOTTIME); }
uint64_t sys_wall_ns(void *be) { (void)be; return read_clock(CLOCK_REALTIME); }

void sys_random(void *be, void *out, size_t bytes)
{
	(void)be;
	for (size_t got = 0; got < bytes;) {
		ssize_t n = getrandom((char *)out + got, bytes - got, 0);
		if (n > 0)
			got += (size_t)n;
		else
			ASSERT(errno == EINTR); /* cannot fail otherwise once the pool is seeded */
	}
}

void sys_close(void *be, int fd)
{
	(void)be;
	/* EINTR: Linux has closed it all the same. EBADF would be our own slip. */
	ASSERT(close(fd) == 0 || errno != EBADF);
}

void sys_shutdown(void *be, int fd)
{
	(void)be;
	(void)shutdown(fd, SHUT_RDWR); /* ENOTCONN: already gone */
}

int sys_lock(void *be, int fd, bool shared)
{
	(void)be;
	return done(flock(fd, (shared ? LOCK_SH : LOCK_EX) | LOCK_NB));
}

int sys_space(void *be, int fd, struct file_space *space_out)
{
	struct statvfs v;
	(void)be;
	if (fstatvfs(fd, &v) < 0)
		return -errno;
	space_out->free_bytes = (uint64_t)v.f_bavail * v.f_frsize;
	space_out->total_bytes = (uint64_t)v.f_blocks * v.f_frsize;
	space_out->free_files = v.f_favail;
	return 0;
}

int sys_exists(void *be, int dir_fd, const char *name)
{
	(void)be;
	if (faccessat(dir_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -errno;
}

static int facts(int fd, const char *name, int flags, struct file_info *info_out)
{
	struct statx x;
	if (statx(fd, name, flags | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &x) < 0)
		return -errno;
	*info_out = (struct file_info){ .bytes = x.stx_size, .inode = x.stx_ino, .links = x.stx_nlink, .mtime_s = x.stx_mtime.tv_sec,
		                        .disk_bytes = x.stx_blocks * 512, .is_dir = S_ISDIR(x.stx_mode) };
	return 0;
}

int sys_stat(void *be, int fd, struct file_info *info_out)
{
	(void)be;
	return facts(fd, "", AT_EMPTY_PATH, info_out);
}

int sys_stat_name(void *be, int dir_fd, const char *name, struct file_info *info_out)
{
	(void)be;
	return facts(dir_fd, name, AT_SYMLINK_NOFOLLOW, info_out);
}

int sys_pipe_open(void *be, int fds_out[2], size_t bytes)
{
	(void)be;
	if (pipe2(fds_out, O_NONBLOCK | O_CLOEXEC) < 0)
		return -errno;
	/* Smaller than asked is slower, not wrong: the user's pipe budget may be used up. */
	(void)fcntl(fds_out[1], F_SETPIPE_SZ, (int)bytes);
	return 0;
}

int64_t sys_splice_now(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t bytes, unsigned flags)
{
	off64_t at = (off64_t)from_offset;
	(void)be;
	ssize_t n = splice(from_fd, from_offset == IO_NO_OFFSET ? NULL : &at, to_fd, NULL, bytes, flags | SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
	return n < 0 ? -errno : n;
}

int64_t sys_read_now(void *be, int fd, void *buf, size_t bytes, uint64_t offset)
{
	(void)be;
	struct iovec iov = { buf, bytes };
	ssize_t n = preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT);
	return n < 0 ? -errno : n;
}

/* cachestat(2), Linux 6.5: not in the C library of Debian 12, the same number on all architectures. */
#ifndef __NR_cachestat
#define __NR_cachestat 451
#endif

/* Present, says cachestat; but pages that a read-ahead has just asked for are present too, and whoever splices them waits. */
static bool present(int fd, uint64_t offset, uint64_t bytes)
{
	struct {
		uint64_t off, len;
	} range = { offset, bytes };
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} stat;
	if (syscall(__NR_cachestat, fd, &range, &stat, 0) < 0)
		return false; /* an older kernel: the caller reads through the ring instead */
	uint64_t page = 4096, first = offset / page, last = (offset + bytes - 1) / page;
	return stat.cached >= last - first + 1;
}

static bool was_read(int fd, uint64_t at)
{
	char byte;
	struct iovec v = { &byte, 1 };
	return preadv2(fd, &v, 1, (off_t)at, RWF_NOWAIT) == 1;
}

/* So the last byte of every 64 KiB, about what one request to a disk brings at least, is read without waiting (0.7 us each). */
bool sys_cached(void *be, int fd, uint64_t offset, uint64_t bytes)
{
	(void)be;
	if (bytes == 0 || !present(fd, offset, bytes))
		return false;
	for (uint64_t done_bytes = KIB(64); done_bytes < bytes; done_bytes += KIB(64))
		if (!was_read(fd, offset + done_bytes - 1))
			return false;
	return was_read(fd, offset + bytes - 1);
}

/* ---- those that may wait for a disk ---- */

int sys_list(void *be, int dir_fd, bool (*each)(void *arg, const char *name, bool is_dir), void *arg)
{
	(void)be;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* a read position of its own */
	if (fd < 0)
		return -errno;
	DIR *d = fdopendir(fd);
	if (!d) {
		int e = errno;
		close(fd);
		return -e;
	}
	const struct dirent *entry;
	int r = 0;
	while (errno = 0, (entry = readdir(d))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		bool is_dir = entry->d_type == DT_DIR;
		struct stat st;
		if (entry->d_type == DT_UNKNOWN && fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			is_dir = S_ISDIR(st.st_mode);
		if (!each(arg, entry->d_name, is_dir))
			break;
	}
	if (!entry && errno)
		r = -errno;
	closedir(d);
	return r;
}

int sys_syncfs(void *be, int fd)
{
	(void)be;
	return done(syncfs(fd));
}

int sys_truncate(void *be, int fd, uint64_t bytes)
{
	(void)be;
	return done(ftruncate(fd, (off_t)bytes));
}

/* By hand where the file system has no way of its own. */
static int64_t copy_some(int from_fd, off64_t from, int to_fd, off64_t to, size_t bytes)
{
	char block[16384];
	ssize_t n = pread(from_fd, block, min_size(bytes, sizeof(block)), from);
	for (ssize_t put = 0; put < n;) {
		ssize_t w = pwrite(to_fd, block + put, (size_t)(n - put), to + put);
		if (w < 0)
			return -errno;
		put += w;
	}
	return n < 0 ? -errno : n;
}

int sys_copy_range(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t bytes)
{
	off64_t from = (off64_t)from_offset, to = (off64_t)to_offset;
	bool by_hand = false;
	(void)be;
	while (bytes > 0) {
		int64_t n;
		if (by_hand) {
			n = copy_some(from_fd, from, to_fd, to, bytes);
			from += n > 0 ? n : 0;
			to += n > 0 ? n : 0;
		} else {
			n = copy_file_range(from_fd, &from, to_fd, &to, min_u64(bytes, 1u << 30), 0);
			if (n < 0 && (errno == EXDEV || errno == EINVAL || errno == EOPNOTSUPP || errno == ENOSYS || errno == EPERM)) {
				by_hand = true;
				continue;
			}
			n = n < 0 ? -errno : n;
		}
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? (int)n : -EIO; /* the source is shorter than was said */
		bytes -= (uint64_t)n;
	}
	return 0;
}
