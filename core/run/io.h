/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.h - the only door to the kernel for sockets: operations that are begun now and complete later.
 *
 * For whoever waits on a socket (net/conn.c mostly).  A `struct io_op` is embedded in its owner.  The owner sets `done`,
 * calls one io_xxx(), and from then on the operation, its buffers and its pieces belong to the kernel until `done` runs
 * for the last time (invariant 9).  `done` runs from the shard's loop only, never inside the call that began it, so there
 * is no recursion.  An operation whose `pending` is set must not be begun again or freed: close is a join
 * (io_shutdown, io_cancel, wait for every `done`, then io_close and free).
 *
 * Results are byte counts or descriptors (>= 0) or a negative errno.  -ECANCELED follows io_cancel, but a cancelled
 * operation may also complete as if nothing had happened.
 *
 * Everything must be called on the shard that owns the descriptor's ring; files are in file.h, time in clock.h.
 * Which back end runs (io_uring, epoll, the simulator) cannot be seen from here. A descriptor that an operation ran on is closed by
 * io_close, and by nothing else as long as its shard runs.
 */
#ifndef PENFOLD_CORE_RUN_IO_H
#define PENFOLD_CORE_RUN_IO_H

#include "core/base/bytes.h"
#include "core/base/list.h"

#include <sys/socket.h>

struct io_op {
	void (*done)(struct io_op *op);
	int64_t result;
	union {
		struct slice data; /* io_recv: the bytes, lent until `done` returns */
		struct link paused; /* the door's own: io_accept without descriptors */
	};
	union {
		uint64_t progress_bytes; /* io_send: handed to the kernel so far; for the write-stall timer */
		uint64_t offset;         /* the door's own: io_read_at */
	};
	/* the door's own; zero at birth */
	void *owner;
	int fd;
	uint32_t slot;
	uint8_t kind;
	bool cancelled, hot;
	bool pending; /* begun and not yet done for the last time */
	bool more;    /* io_accept: it stays armed and `done` will run again */
};

/* Prepares an operation for its first use. */
void io_op_init(struct io_op *op, void (*done)(struct io_op *op));

/* A piece of a reply: memory (fd < 0) or a range of a file.  Must stay valid until the send is done. */
struct io_piece {
	const char *ptr;
	uint64_t len;
	int fd;
	uint64_t offset;
};

/* Accepts connections until cancelled: done runs once for each, result = a non-blocking close-on-exec descriptor. When there
 * are no descriptors or no memory, done hears of it (-EMFILE, -ENFILE, -ENOMEM...) and accepting goes on after
 * IO_ACCEPT_PAUSE_MS. After any other error (or a cancel) `more` is false. */
void io_accept(struct io_op *op, int listen_fd);

/* Waits for bytes, then lends them: op->data is valid until `done` returns. At most IO_RECV_BYTES_MAX at once. result 0 = the peer has
 * closed its sending side. An armed receive pins no buffer. One-shot. */
void io_recv(struct io_op *op, int fd);

/* Receives into the caller's memory (bulk data). One-shot, may be short. */
void io_recv_into(struct io_op *op, int fd, void *buf, size_t bytes);

/* Sends all pieces, in order, or fails: result = total bytes, or -errno with progress_bytes telling how far it came.
 * Chooses the path by size (DESIGN section 9): small file ranges are read into pooled buffers and leave with the text in
 * one gathered send; large ones are spliced without being copied by us. A file that turns out shorter than a piece says
 * ends with -EIO: the reply is broken and the connection must be closed. */
void io_send(struct io_op *op, int fd, const struct io_piece *pieces, size_t count);

void io_connect(struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len);

/* Reads from a pollable descriptor (eventfd, signalfd, pipe). */
void io_read_fd(struct io_op *op, int fd, void *buf, size_t bytes);

/* Reads from a file, for who has no fiber to wait on; may be short, 0 at its end. */
void io_read_at(struct io_op *op, int fd, void *buf, size_t bytes, uint64_t offset);

/* Asks for an early end; `done` still runs. Harmless when not pending. */
void io_cancel(struct io_op *op);

/* Completes now; the descriptor stays open. */
void io_shutdown(int fd);
/* A descriptor with nothing pending on it goes to another shard. Completes now. */
void io_leave(int fd);
/* Closes a descriptor with nothing pending on it. Completes now for the caller. */
void io_close(int fd);

/* Waits for an operation on the calling fiber (op->done is set by this call; begin the operation after io_await_prepare).
 *     io_await_prepare(&op);  io_connect(&op, ...);  r = io_await(&op, deadline_ms);
 * After the deadline (clock_now_ms() based, 0 = none) the operation is cancelled and joined; the result is then -ETIME. */
void io_await_prepare(struct io_op *op);
int64_t io_await(struct io_op *op, uint64_t deadline_ms);

#endif
