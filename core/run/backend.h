/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - what stands behind the door: everything that touches the kernel, as one table of functions.
 *
 * Private to core/run and to tests.  A back end is chosen per shard.  io_uring (uring.c), epoll (epoll.c) and a
 * simulator (virtual clock, false disk and network) stand behind the same table, and tests wrap a table to record what
 * passes or to make it fail (short counts, EINTR, EAGAIN, ENOSPC, EIO, ENOMEM, late and duplicate completions).
 *
 * The cut is low on purpose: a back end starts raw requests and reports raw results.  Finishing short counts, trying again,
 * choosing the path of a send, deadlines, joining a close: all of that is common code above (io.c, send.c, file.c) and
 * is therefore tested by every back end and by every fault that a wrapper can invent.
 *
 * What a back end must give
 *   1. begin() takes a request and returns; it never calls complete() from inside.  The request struct may live on the
 *      caller's stack; what it points at (buffers, iovec, msghdr, names, addresses) stays valid and unchanged until the
 *      completion.  Requests may be held back until the next wait(); they begin in the order given, and cancel() of a
 *      request comes after its begin.
 *   2. Every request gets exactly one final completion (more == false), cancelled or not; an IO_ACCEPT gets any number with
 *      more == true before it.  The bytes of a request are the kernel's until then (invariant 9).
 *   3. Results are those of the system call of the same name: a count (possibly short), a descriptor, 0, or -errno.
 *      Above, -EINTR and -EAGAIN mean "begin it again" (-EAGAIN on IO_SENDMSG with IO_NOWAIT means the socket is full), -ENOBUFS on IO_RECV means
 *      "again when buffers are back", -ECANCELED means cancelled (or, uninvited, -EIO); everything else is final.
 *   4. A token is opaque: {generation, slot}.  A completion with an old token is dropped above and counted, so a back end
 *      may be late, and a wrapper may duplicate, without hitting a reused slot.
 *   5. wait() starts what was begun, then blocks until a completion is ready, wake() was called, or the time has passed.
 *      It may return early for no reason.  drain() then reports at most `max` completions through config.complete and
 *      returns how many; complete() may begin and cancel.  A completion of IO_RECV lends data; the bytes stay readable until complete()
 *      returns and belong to the back end again after it.
 *   6. wake() may be called from any thread and makes a blocked or the next wait() return.  `from` is the calling
 *      shard's back end of the same kind, or NULL when the caller is no shard.
 *   7. All else is called on the shard's thread, except the members marked "any thread": these are blocking calls that
 *      run on offload threads (the simulator runs them inline).
 *   8. Order and durability of files are those of a POSIX file system: a write without IO_SYNC_DATA is durable only after IO_SYNC
 *      of that descriptor; a new name only after IO_SYNC of its directory; a failed sync leaves the bytes unknown for good.
 *   9. Nothing may depend on an address, on a hash order or on real time other than boot_ns/wall_ns; with these taken
 *      from a seed and a script, a whole run replays.
 *  10. Descriptors are small non-negative integers, not necessarily the kernel's.  One that requests ran on is closed by fd_close and by
 *      nothing else, as long as its shard runs: a back end may remember what it knew of it.
 */
#ifndef PENFOLD_CORE_RUN_BACKEND_H
#define PENFOLD_CORE_RUN_BACKEND_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/run/file.h"

#include <sys/socket.h>
#include <sys/uio.h>

enum io_kind {
	IO_NONE,
	IO_ACCEPT,    /* fd = listener; result: non-blocking close-on-exec descriptor; stays armed while more */
	IO_CONNECT,   /* fd, ptr = sockaddr, len = its length */
	IO_RECV,      /* fd; at most IO_RECV_BYTES_MAX into a buffer of the back end's, lent in completion.data; 0 = end */
	IO_RECV_INTO, /* fd, ptr, len */
	IO_SEND,      /* fd, ptr, len; MSG_NOSIGNAL; IO_MORE; IO_NOWAIT */
	IO_SENDMSG,   /* fd, ptr = struct msghdr; MSG_NOSIGNAL; IO_MORE; IO_NOWAIT */
	IO_POLL,      /* fd, arg = POLLIN/POLLOUT; result: the events that came */
	IO_READ,      /* fd, ptr, len, offset (IO_NO_OFFSET for pipes, eventfds) */
	IO_WRITE,     /* fd, ptr = struct iovec, len = how many, offset; IO_SYNC_DATA: as RWF_DSYNC */
	IO_SYNC,      /* fd; fdatasync, or fsync with IO_SYNC_ALL */
	IO_OPEN,      /* fd = directory, name, arg = flags, mode */
	IO_RENAME,    /* fd, name -> fd2, name2 */
	IO_LINK,      /* fd, name -> fd2, name2 */
	IO_UNLINK,    /* fd, name; arg = 0 or AT_REMOVEDIR */
	IO_MKDIR,     /* fd, name, mode */
	IO_KIND_COUNT
};

enum io_flag {
	IO_MORE = 1,      /* more bytes follow at once (MSG_MORE) */
	IO_NOWAIT = 2,    /* do not wait for room: a short count or -EAGAIN instead */
	IO_SYNC_DATA = 4, /* IO_WRITE: these bytes are durable when it completes */
	IO_SYNC_ALL = 8,  /* IO_SYNC: metadata too */
	IO_COLD = 16,     /* IO_RECV: nothing is expected to be there yet (a hint that saves a vain attempt) */
};

#define IO_NO_OFFSET UINT64_MAX

struct io_request {
	uint64_t token;
	uint8_t kind;
	uint8_t flags;
	uint16_t mode;
	uint32_t arg;
	int fd, fd2;
	void *ptr; /* never written through by requests that send or write */
	uint64_t len;
	uint64_t offset;
	const char *name, *name2;
};

struct io_completion {
	uint64_t token;
	int64_t result;
	struct slice data; /* IO_RECV */
	bool more;         /* further completions of this token follow */
	bool hot;          /* IO_RECV: the socket holds more bytes already */
};

struct io_backend_config {
	unsigned index;                 /* the shard's */
	unsigned sq_entries, cq_entries; /* 0 = the limits' defaults; tests make them tiny */
	void *sink;
	void (*complete)(void *sink, const struct io_completion *c);
};

struct io_backend_stats {
	uint64_t cq_overflows;
	uint64_t enters; /* system calls to wait or submit */
};

struct io_backend {
	const char *name;
	bool can_splice; /* splice_now, cached and pipe_open work */

	/* NULL in *be_out and one line in `why` (what is wrong and what to do about it) on ERR_CONFIG. Called on the shard's thread. */
	enum err (*open)(const struct io_backend_config *config, void **be_out, char *why, size_t why_bytes);
	/* With requests still open, these are abandoned: only after a stop that did not come to rest. */
	void (*close)(void *be);

	void (*begin)(void *be, const struct io_request *request);
	void (*cancel)(void *be, uint64_t token);
	void (*wait)(void *be, uint64_t timeout_ns); /* 0 = do not block, UINT64_MAX = no limit */
	unsigned (*drain)(void *be, unsigned max);
	void (*wake)(void *be, void *from); /* any thread */
	void (*stats)(void *be, struct io_backend_stats *out);

	/* NULL = the process's offload threads. Else takes the job, runs it when and where it likes, and completes the token with 0. */
	void (*offload)(void *be, uint64_t token, void (*fn)(void *arg), void *arg);

	uint64_t (*boot_ns)(void *be);
	uint64_t (*wall_ns)(void *be);
	void (*random)(void *be, void *out, size_t bytes);

	/* Short system calls, made directly. Results 0 (or as said) or -errno. */
	void (*fd_close)(void *be, int fd);
	/* NULL, or: nothing is open on it here, and it goes to another shard: nothing of it is to be heard here any more. */
	void (*fd_leave)(void *be, int fd);
	void (*fd_shutdown)(void *be, int fd);
	void (*prefetch)(void *be, int fd, uint64_t offset, uint64_t bytes); /* begins reading ahead; must not wait for the disk */
	int (*lock)(void *be, int fd, bool shared);
	int (*space)(void *be, int fd, struct file_space *space_out);
	int (*exists)(void *be, int dir_fd, const char *name);                            /* any thread; 1, 0 or -errno */
	int (*stat)(void *be, int fd, struct file_info *info_out);                        /* any thread */
	int (*stat_name)(void *be, int dir_fd, const char *name, struct file_info *info_out); /* any thread */

	/* NULL, or: as much as is in memory, without ever waiting for the disk; a count (0: nothing, or the end) or -errno, which means: ask
	 * by IO_READ. Spares a read of what is cached the way through the queue, and its fiber a turn of the loop. */
	int64_t (*read_now)(void *be, int fd, void *buf, size_t bytes, uint64_t offset);

	/* Calls that block. Any thread. */
	int (*list)(void *be, int dir_fd, bool (*each)(void *arg, const char *name, bool is_dir), void *arg);
	int (*syncfs)(void *be, int fd);
	int (*truncate)(void *be, int fd, uint64_t bytes);
	int (*copy_range)(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t bytes);

	/* For sends without a copy; only where can_splice. */
	int (*pipe_open)(void *be, int fds_out[2], size_t bytes); /* non-blocking, close-on-exec */
	/* A splice that does not wait for room or bytes in pipes and sockets: count or -errno; from_offset IO_NO_OFFSET for a pipe. */
	int64_t (*splice_now)(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t bytes, unsigned flags);
	/* True if the range is in memory and read, so that splice_now from the file will not wait for the disk (best effort: pages may
	 * be thrown out in between). */
	bool (*cached)(void *be, int fd, uint64_t offset, uint64_t bytes);
};

/* The back ends there are on the real kernel; backends.c chooses. */
extern const struct io_backend io_backend_uring, io_backend_epoll;

/* The direct calls on the real kernel, shared by all back ends that run on it (syscalls.c): fills these members. Left to the back end:
 * prefetch, which may wait for metadata when called directly. */
#define IO_BACKEND_SYSCALLS(close_)                                                                               \
	.boot_ns = sys_boot_ns, .wall_ns = sys_wall_ns, .random = sys_random, .fd_close = close_,                     \
	.fd_shutdown = sys_shutdown, .lock = sys_lock, .space = sys_space,                  \
	.exists = sys_exists, .stat = sys_stat, .stat_name = sys_stat_name, .list = sys_list, .syncfs = sys_syncfs,   \
	.truncate = sys_truncate, .copy_range = sys_copy_range, .pipe_open = sys_pipe_open,                           \
	.splice_now = sys_splice_now, .cached = sys_cached

uint64_t sys_boot_ns(void *be);
uint64_t sys_wall_ns(void *be);
void sys_random(void *be, void *out, size_t bytes);
void sys_close(void *be, int fd);
void sys_shutdown(void *be, int fd);
int sys_lock(void *be, int fd, bool shared);
int sys_space(void *be, int fd, struct file_space *space_out);
int sys_exists(void *be, int dir_fd, const char *name);
int sys_stat(void *be, int fd, struct file_info *info_out);
int sys_stat_name(void *be, int dir_fd, const char *name, struct file_info *info_out);
int sys_list(void *be, int dir_fd, bool (*each)(void *arg, const char *name, bool is_dir), void *arg);
int sys_syncfs(void *be, int fd);
int sys_truncate(void *be, int fd, uint64_t bytes);
int sys_copy_range(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t bytes);
int64_t sys_read_now(void *be, int fd, void *buf, size_t bytes, uint64_t offset);
int sys_pipe_open(void *be, int fds_out[2], size_t bytes);
int64_t sys_splice_now(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t bytes, unsigned flags);
bool sys_cached(void *be, int fd, uint64_t offset, uint64_t bytes);

#endif
