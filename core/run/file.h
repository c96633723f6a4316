/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - the door to the disk: files and names, as calls that a fiber waits in.
 *
 * For storage and the tools.  Every call that says "completes later" must run on a fiber and parks it; no shard thread
 * is ever blocked (invariant 8).  Those that say "completes now" are single fast system calls on names or descriptors
 * that were measured to cost about a microsecond on local disks; on shared stores (file_shared()) they go through the
 * offload pool and park too, so always call them from a fiber.
 *
 * All names are single components or short relative paths below a directory descriptor; nothing follows a link out.
 * Results are >= 0 or a negative errno.  Deadlines belong to callers: a call that was submitted runs to its end.
 *
 * The simulator's disk (tests) stands behind the same calls; a descriptor here may not be one of the kernel's.
 */
#ifndef PENFOLD_CORE_RUN_FILE_H
#define PENFOLD_CORE_RUN_FILE_H

#include "core/base/base.h"

#include <sys/types.h>
#include <sys/uio.h>

/* Opens below dir_fd (O_CLOEXEC and O_NOFOLLOW are added). Later. Returns a descriptor. dir_fd may be AT_FDCWD for paths of the configuration. */
int file_open(int dir_fd, const char *name, int flags, mode_t mode);
/* O_CREAT|O_EXCL|O_RDWR; -EEXIST if the name is there. Later. */
int file_create_excl(int dir_fd, const char *name, mode_t mode);
/* Now. */
void file_close(int fd);

/* Reads until `bytes` or the end of the file; returns the bytes read. Later. */
int64_t file_read(int fd, void *buf, size_t bytes, uint64_t offset);
/* Writes everything at the offset (short writes are finished); returns 0 or -errno. Later. */
int file_write(int fd, const struct iovec *iov, int count, uint64_t offset);
/* fdatasync. Later. */
int file_sync(int fd);
/* Write then fdatasync, as one chain or one RWF_DSYNC write, whichever the back end found cheaper. Later. */
int file_commit(int fd, const struct iovec *iov, int count, uint64_t offset);
/* Asks for read-ahead of a range; never fails. Now. */
void file_prefetch(int fd, uint64_t offset, uint64_t bytes);

int file_rename(int dir_fd, const char *from, int to_dir_fd, const char *to); /* later */
int file_link(int dir_fd, const char *from, int to_dir_fd, const char *to);   /* later; -EEXIST */
int file_unlink(int dir_fd, const char *name);                                /* later */
int file_rmdir(int dir_fd, const char *name);                                 /* later */
int file_mkdir(int dir_fd, const char *name, mode_t mode);                    /* later; -EEXIST */
int file_sync_dir(int dir_fd);                                                /* fsync of a directory. Later. */
int file_syncfs(int fd);                                                      /* later, by the offload pool */
int file_truncate(int fd, uint64_t bytes);                                    /* spool files only, never a log. Later. */
/* Copies a range between files, in the kernel where it can; returns 0 or -errno. Later. */
int file_copy_range(int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t bytes);

/* Calls `each` for every entry but . and .. ; `is_dir` as far as the file system says. Later. Stops when each returns false. */
int file_list(int dir_fd, bool (*each)(void *arg, const char *name, bool is_dir), void *arg);

/* 1 if the name exists below dir_fd (a fresh look-up), 0 if not, or -errno. Now (see above). */
int file_exists(int dir_fd, const char *name);
struct file_info {
	uint64_t bytes;
	uint64_t inode;
	uint64_t links;      /* 0 = the file has no name any more */
	int64_t mtime_s;
	uint64_t disk_bytes; /* blocks really used */
	bool is_dir;
};
/* Facts of an open file, asked afresh of the server on shared stores. Now (see above). */
int file_stat(int fd, struct file_info *info_out);
int file_stat_name(int dir_fd, const char *name, struct file_info *info_out);

struct file_space {
	uint64_t free_bytes, total_bytes, free_files;
};
int file_space(int fd, struct file_space *space_out); /* now */

/* An exclusive lock of the whole file for the life of the descriptor; -EWOULDBLOCK if another process has it. Now. */
int file_lock(int fd);
/* The same, but others may have it shared too. Now. */
int file_lock_shared(int fd);

/* Tells the door whether the data folder is on a shared store. */
void file_set_shared(bool shared);
bool file_shared(void);

#endif
