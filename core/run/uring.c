/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.c - the io_uring back end: one ring per shard, made by the shard's thread (DESIGN sections 1 and 2).
 *
 * SINGLE_ISSUER | DEFER_TASKRUN | SUBMIT_ALL: completions are produced only while the shard is inside io_uring_enter, in
 * batches, on its own core.  On older kernels flags are dropped step by step; on little locked memory the completion ring
 * shrinks.  What cannot be had at all is explained by uring_refused.c.
 *
 * Receives pick their buffer when bytes are there, from a ring of buffers that the kernel and we share, so that a waiting
 * connection pins nothing.  A buffer goes back as soon as complete() returns.
 *
 * When the submission queue is full it is flushed; when the kernel takes nothing for the moment (completions overflowed), the
 * entries wait in a backlog of ours and keep their order.
 *
 * Wake-ups: an eventfd with a standing read, written by any thread.  (A MSG_RING from the waking shard's own ring would go out only
 * with that shard's next enter, later than the 0.5 us that the write costs.)
 */
#include "core/run/uring_private.h"

#include "core/base/limits.h"
#include "core/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* Tokens of our own; slot numbers (the low half) are never 0. */
#define TOKEN_NOBODY 0ull
#define TOKEN_WAKE (1ull << 32)
#define BUFFER_GROUP 1
#define DRAIN_BATCH 64

struct uring {
	struct io_uring ring;
	struct io_backend_config config;
	unsigned setup_flags;
	int wake_fd;
	uint64_t wake_count;
	bool wake_armed;
	struct io_uring_buf_ring *buf_ring;
	char *buffers;
	struct io_uring_sqe *backlog;
	unsigned backlog_at, backlog_count, backlog_cap;
	uint64_t overflows, enters;
	bool overflowing;
};

/* ---- open and close ---- */

static int try_queue(struct uring *u, unsigned sq, unsigned cq, unsigned flags)
{
	struct io_uring_params p = { .flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, .cq_entries = cq };
	int r = io_uring_queue_init_params(sq, &u->ring, &p);
	if (r == 0 && (!(p.features & IORING_FEAT_EXT_ARG) || !(p.features & IORING_FEAT_NODROP))) {
		io_uring_queue_exit(&u->ring);
		return -ENOSYS; /* before 5.11: nothing to build on */
	}
	u->setup_flags = flags;
	return r;
}

/* From the best set of flags to the plainest, from the size asked to the smallest that makes sense. */
static int try_ladder(struct uring *u)
{
	static const unsigned ladder[] = {
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL, /* 6.1 */
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,  /* 6.0 */
		IORING_SETUP_COOP_TASKRUN | IORING_SETUP_SUBMIT_ALL,                               /* 5.19 */
		IORING_SETUP_SUBMIT_ALL,
		0,
	};
	unsigned sq = u->config.sq_entries ? u->config.sq_entries : IO_SQ_ENTRIES;
	unsigned cq = u->config.cq_entries ? u->config.cq_entries : IO_CQ_ENTRIES;
	int r = -EINVAL;
	for (unsigned i = 0; i < ARRAY_LEN(ladder) && r == -EINVAL; i++)
		r = try_queue(u, sq, cq, ladder[i]);
	while (r == -ENOMEM && cq > 512) {
		cq /= 4;
		sq = sq > 128 ? 128 : sq;
		r = try_queue(u, sq, cq, u->setup_flags);
	}
	return r;
}

/* Locked memory is given back a while after a process has ended: a restart must not fail for its predecessor. */
static int open_queue(struct uring *u)
{
	int r = try_ladder(u);
	for (unsigned waited_ms = 0; r == -ENOMEM && waited_ms < IO_MEMLOCK_WAIT_MS_MAX; waited_ms += 50) {
		struct timespec pause = { .tv_nsec = 50000000 };
		nanosleep(&pause, NULL); /* at start: nobody is served yet */
		r = try_ladder(u);
	}
	return r;
}

static int open_buffers(struct uring *u)
{
	size_t ring_bytes = IO_RECV_BUFFERS * sizeof(struct io_uring_buf);
	void *ring = mmap(NULL, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (ring == MAP_FAILED)
		return -errno;
	u->buf_ring = ring;
	struct io_uring_buf_reg reg = { .ring_addr = (uintptr_t)ring, .ring_entries = IO_RECV_BUFFERS, .bgid = BUFFER_GROUP };
	int r = io_uring_register_buf_ring(&u->ring, &reg, 0);
	if (r < 0)
		return r;
	u->buffers = mmap(NULL, IO_RECV_BUFFERS * IO_RECV_BYTES_MAX, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
	if (u->buffers == MAP_FAILED) {
		u->buffers = NULL;
		return -errno;
	}
	io_uring_buf_ring_init(u->buf_ring);
	for (unsigned i = 0; i < IO_RECV_BUFFERS; i++)
		io_uring_buf_ring_add(u->buf_ring, u->buffers + i * IO_RECV_BYTES_MAX, IO_RECV_BYTES_MAX, (unsigned short)i,
		                      io_uring_buf_ring_mask(IO_RECV_BUFFERS), (int)i);
	io_uring_buf_ring_advance(u->buf_ring, IO_RECV_BUFFERS);
	return 0;
}

/* What is begun here must be known to this kernel: a ring alone says little. */
static bool knows_operations(struct uring *u)
{
	static const int needed[] = { IORING_OP_ACCEPT, IORING_OP_CONNECT, IORING_OP_RECV, IORING_OP_SEND, IORING_OP_SENDMSG, IORING_OP_POLL_ADD,
		                      IORING_OP_READ, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_OPENAT, IORING_OP_RENAMEAT, IORING_OP_LINKAT,
		                      IORING_OP_UNLINKAT, IORING_OP_MKDIRAT, IORING_OP_FADVISE, IORING_OP_ASYNC_CANCEL };
	struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
	bool all = probe != NULL;
	for (unsigned i = 0; all && i < ARRAY_LEN(needed); i++)
		all = io_uring_opcode_supported(probe, needed[i]);
	free(probe);
	return all;
}

/* One operation through the ring and back: a profile may allow io_uring_setup and refuse io_uring_enter. */
static int try_operation(struct uring *u)
{
	struct __kernel_timespec patience = { .tv_sec = 1 };
	struct io_uring_cqe *cqe;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
	if (!sqe)
		return -ENOMEM;
	io_uring_prep_nop(sqe);
	sqe->user_data = TOKEN_NOBODY;
	int r = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &patience, NULL);
	if (r < 0)
		return r;
	r = cqe->res;
	io_uring_cqe_seen(&u->ring, cqe);
	return r;
}

static void uring_close(void *be)
{
	struct uring *u = be;
	if (u->ring.ring_fd >= 0)
		io_uring_queue_exit(&u->ring);
	if (u->buffers)
		munmap(u->buffers, IO_RECV_BUFFERS * IO_RECV_BYTES_MAX);
	if (u->buf_ring)
		munmap(u->buf_ring, IO_RECV_BUFFERS * sizeof(struct io_uring_buf));
	if (u->wake_fd >= 0)
		close(u->wake_fd);
	free(u->backlog);
	free(u);
}

static enum err uring_open(const struct io_backend_config *config, void **be_out, char *why, size_t why_bytes)
{
	struct uring *u = xcalloc(1, sizeof(*u));
	const char *step = "io_uring_setup";
	u->config = *config;
	u->ring.ring_fd = -1;
	u->wake_fd = -1;
	int r = open_queue(u);
	if (r < 0) {
		u->ring.ring_fd = -1;
		goto refused;
	}
	step = "io_uring_register of receive buffers";
	r = open_buffers(u);
	if (r < 0)
		goto refused;
	step = "io_uring_register of a probe";
	if (!knows_operations(u)) {
		r = -EINVAL;
		goto refused;
	}
	step = "io_uring_enter";
	r = try_operation(u);
	if (r < 0)
		goto refused;
	/* fsync and calls on names run on kernel threads: bounded, for they count against the pod's pids and CPU. Older kernels cannot: no harm. */
	unsigned workers[2] = { IO_WORKERS_MAX, IO_WORKERS_MAX };
	(void)io_uring_register_iowq_max_workers(&u->ring, workers);
	(void)io_uring_register_ring_fd(&u->ring);
	step = "eventfd";
	u->wake_fd = eventfd(0, EFD_CLOEXEC);
	if (u->wake_fd < 0) {
		r = -errno;
		goto refused;
	}
	*be_out = u;
	return OK;
refused:
	uring_explain(step, -r, why, why_bytes);
	uring_close(u);
	*be_out = NULL;
	return ERR_CONFIG;
}

/* ---- submission ---- */

static int submit(struct uring *u)
{
	__atomic_store_n(&u->enters, u->enters + 1, __ATOMIC_RELAXED);
	return io_uring_submit(&u->ring);
}

static void backlog_push(struct uring *u, const struct io_uring_sqe *sqe)
{
	if (u->backlog_at == u->backlog_count)
		u->backlog_at = u->backlog_count = 0;
	if (u->backlog_count == u->backlog_cap) {
		u->backlog_cap = u->backlog_cap ? u->backlog_cap * 2 : 256;
		u->backlog = xrealloc(u->backlog, u->backlog_cap * sizeof(*u->backlog));
	}
	u->backlog[u->backlog_count++] = *sqe;
}

static void put_sqe(struct uring *u, const struct io_uring_sqe *sqe)
{
	struct io_uring_sqe *slot = u->backlog_at < u->backlog_count ? NULL : io_uring_get_sqe(&u->ring);
	if (!slot && u->backlog_at == u->backlog_count) {
		(void)submit(u);
		slot = io_uring_get_sqe(&u->ring);
	}
	if (slot)
		*slot = *sqe;
	else
		backlog_push(u, sqe);
}

/* True when all of it went into the queue. */
static bool backlog_flush(struct uring *u)
{
	while (u->backlog_at < u->backlog_count) {
		struct io_uring_sqe *slot = io_uring_get_sqe(&u->ring);
		if (!slot && submit(u) > 0)
			slot = io_uring_get_sqe(&u->ring);
		if (!slot)
			return false;
		*slot = u->backlog[u->backlog_at++];
	}
	return true;
}

static unsigned msg_flags(const struct io_request *r)
{
	return MSG_NOSIGNAL | (r->flags & IO_MORE ? MSG_MORE : 0u) | (r->flags & IO_NOWAIT ? MSG_DONTWAIT : 0u);
}

static void prep_socket(struct io_uring_sqe *sqe, const struct io_request *r)
{
	switch (r->kind) {
	case IO_ACCEPT:
		io_uring_prep_multishot_accept(sqe, r->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		break;
	case IO_CONNECT:
		io_uring_prep_connect(sqe, r->fd, r->ptr, (socklen_t)r->len);
		break;
	case IO_RECV:
		io_uring_prep_recv(sqe, r->fd, NULL, IO_RECV_BYTES_MAX, 0);
		sqe->flags |= IOSQE_BUFFER_SELECT;
		sqe->buf_group = BUFFER_GROUP;
		/* spares a vain attempt when the client is a network away; on loopback no difference was measured */
		sqe->ioprio |= r->flags & IO_COLD ? IORING_RECVSEND_POLL_FIRST : 0;
		break;
	case IO_RECV_INTO:
		io_uring_prep_recv(sqe, r->fd, r->ptr, r->len, 0);
		break;
	case IO_SEND:
		io_uring_prep_send(sqe, r->fd, r->ptr, r->len, (int)msg_flags(r));
		break;
	case IO_SENDMSG:
		io_uring_prep_sendmsg(sqe, r->fd, r->ptr, msg_flags(r));
		break;
	case IO_POLL:
		io_uring_prep_poll_add(sqe, r->fd, r->arg);
		break;
	default:
		UNREACHABLE();
	}
}

static void prep_file(struct io_uring_sqe *sqe, const struct io_request *r)
{
	switch (r->kind) {
	case IO_READ:
		io_uring_prep_read(sqe, r->fd, r->ptr, (unsigned)r->len, r->offset);
		break;
	case IO_WRITE:
		io_uring_prep_writev2(sqe, r->fd, r->ptr, (unsigned)r->len, r->offset, r->flags & IO_SYNC_DATA ? RWF_DSYNC : 0);
		break;
	case IO_SYNC:
		io_uring_prep_fsync(sqe, r->fd, r->flags & IO_SYNC_ALL ? 0 : IORING_FSYNC_DATASYNC);
		break;
	case IO_OPEN:
		io_uring_prep_openat(sqe, r->fd, r->name, (int)r->arg, r->mode);
		break;
	case IO_RENAME:
		io_uring_prep_renameat(sqe, r->fd, r->name, r->fd2, r->name2, 0);
		break;
	case IO_LINK:
		io_uring_prep_linkat(sqe, r->fd, r->name, r->fd2, r->name2, 0);
		break;
	case IO_UNLINK:
		io_uring_prep_unlinkat(sqe, r->fd, r->name, (int)r->arg);
		break;
	case IO_MKDIR:
		io_uring_prep_mkdirat(sqe, r->fd, r->name, r->mode);
		break;
	default:
		UNREACHABLE();
	}
}

static void uring_begin(void *be, const struct io_request *r)
{
	struct uring *u = be;
	struct io_uring_sqe sqe;
	if (r->kind <= IO_POLL)
		prep_socket(&sqe, r);
	else
		prep_file(&sqe, r);
	sqe.user_data = r->token;
	put_sqe(u, &sqe);
}

static void uring_cancel(void *be, uint64_t token)
{
	struct io_uring_sqe sqe;
	io_uring_prep_cancel64(&sqe, token, 0);
	sqe.user_data = TOKEN_NOBODY; /* whether it found something does not matter: the victim's completion tells */
	put_sqe(be, &sqe);
}

/* On a kernel thread, for even asking may wait for metadata; nobody waits for the answer. A descriptor closed before is no harm. */
static void uring_prefetch(void *be, int fd, uint64_t offset, uint64_t bytes)
{
	struct io_uring_sqe sqe;
	io_uring_prep_fadvise(&sqe, fd, offset, (off_t)min_u64(bytes, 1u << 30), POSIX_FADV_WILLNEED);
	sqe.user_data = TOKEN_NOBODY;
	put_sqe(be, &sqe);
}

/* ---- waiting ---- */

static void arm_wake(struct uring *u)
{
	struct io_uring_sqe sqe;
	io_uring_prep_read(&sqe, u->wake_fd, &u->wake_count, sizeof(u->wake_count), 0);
	sqe.user_data = TOKEN_WAKE;
	u->wake_armed = true;
	put_sqe(u, &sqe);
}

static void note_overflow(struct uring *u)
{
	bool now = __atomic_load_n(u->ring.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_CQ_OVERFLOW;
	if (now && !u->overflowing)
		__atomic_store_n(&u->overflows, u->overflows + 1, __ATOMIC_RELAXED);
	u->overflowing = now;
}

static void uring_wait(void *be, uint64_t timeout_ns)
{
	struct uring *u = be;
	struct io_uring_cqe *cqe;
	if (!u->wake_armed)
		arm_wake(u);
	if (!backlog_flush(u) || io_uring_cq_ready(&u->ring))
		timeout_ns = 0;
	__atomic_store_n(&u->enters, u->enters + 1, __ATOMIC_RELAXED);
	int r;
	if (timeout_ns == 0) {
		r = io_uring_submit_and_get_events(&u->ring);
	} else if (timeout_ns == UINT64_MAX) {
		r = io_uring_submit_and_wait(&u->ring, 1);
	} else {
		struct __kernel_timespec ts = { .tv_sec = (int64_t)(timeout_ns / 1000000000u), .tv_nsec = (long long)(timeout_ns % 1000000000u) };
		r = io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &ts, NULL);
	}
	/* EBUSY, EBADR: completions have overflowed and are taken first. Anything else would be a slip of ours in using the ring. */
	ASSERT(r >= 0 || r == -ETIME || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -EBADR || r == -ENOMEM);
	note_overflow(u);
}

static void give_back(struct uring *u, unsigned id)
{
	io_uring_buf_ring_add(u->buf_ring, u->buffers + id * IO_RECV_BYTES_MAX, IO_RECV_BYTES_MAX, (unsigned short)id,
	                      io_uring_buf_ring_mask(IO_RECV_BUFFERS), 0);
	io_uring_buf_ring_advance(u->buf_ring, 1);
}

static void report(struct uring *u, const struct io_uring_cqe *cqe)
{
	struct io_completion c = { .token = cqe->user_data, .result = cqe->res, .more = cqe->flags & IORING_CQE_F_MORE };
	bool lent = cqe->flags & IORING_CQE_F_BUFFER;
	unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
	if (lent) {
		c.data = slice_of(u->buffers + id * IO_RECV_BYTES_MAX, cqe->res > 0 ? (size_t)cqe->res : 0);
		c.hot = cqe->flags & IORING_CQE_F_SOCK_NONEMPTY;
	}
	u->config.complete(u->config.sink, &c);
	if (lent)
		give_back(u, id);
}

/* Entries are copied out and their places freed before anybody is told: whoever is told may submit, which may bring more. */
static unsigned uring_drain(void *be, unsigned max)
{
	struct uring *u = be;
	unsigned total = 0;
	while (total < max) {
		struct io_uring_cqe batch[DRAIN_BATCH];
		unsigned n = 0, head;
		struct io_uring_cqe *cqe;
		io_uring_for_each_cqe(&u->ring, head, cqe) {
			batch[n].user_data = cqe->user_data;
			batch[n].res = cqe->res;
			batch[n].flags = cqe->flags;
			if (++n == DRAIN_BATCH || total + n == max)
				break;
		}
		if (n == 0)
			break;
		io_uring_cq_advance(&u->ring, n);
		for (unsigned i = 0; i < n; i++) {
			if (batch[i].user_data == TOKEN_WAKE)
				u->wake_armed = false;
			else if (batch[i].user_data != TOKEN_NOBODY)
				report(u, &batch[i]);
		}
		total += n;
	}
	return total;
}

static void uring_wake(void *be, void *from)
{
	struct uring *u = be;
	uint64_t one = 1;
	(void)from;
	ASSERT(write(u->wake_fd, &one, sizeof(one)) == sizeof(one) || errno == EINTR || errno == EAGAIN);
}

static void uring_stats(void *be, struct io_backend_stats *out)
{
	struct uring *u = be;
	out->cq_overflows = __atomic_load_n(&u->overflows, __ATOMIC_RELAXED);
	out->enters = __atomic_load_n(&u->enters, __ATOMIC_RELAXED);
}

const struct io_backend io_backend_uring = {
	.name = "io_uring",
	.can_splice = true,
	.open = uring_open,
	.close = uring_close,
	.begin = uring_begin,
	.cancel = uring_cancel,
	.wait = uring_wait,
	.drain = uring_drain,
	.wake = uring_wake,
	.prefetch = uring_prefetch,
	.stats = uring_stats,
	.read_now = sys_read_now,
	IO_BACKEND_SYSCALLS(sys_close),
};
