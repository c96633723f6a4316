/* SPDX-License-Identifier: Apache-2.0 */
/*
 * io.c - the socket half of the door (io.h) in terms of raw requests.
 *
 * An io_op holds at most one raw request (a send of several pieces has its own state, send.c).  What the raw result means
 * is decided here, by kind: begin it again, tell the owner, or pause.  An op's `data` keeps the caller's buffer or address
 * while it is pending, so that beginning again needs nothing else.
 */
#include "core/run/shard_private.h"

static void op_done(void *owner, const struct io_completion *c);

void io_op_init(struct io_op *op, void (*done)(struct io_op *op)) { *op = (struct io_op){ .done = done }; }

static void begin(struct io_op *op)
{
	struct io_request r = { .kind = op->kind, .fd = op->fd };
	if (op->kind != IO_ACCEPT) {
		r.ptr = (void *)(uintptr_t)op->data.ptr;
		r.len = op->data.len;
	}
	if (op->kind == IO_RECV)
		r.flags = op->hot ? 0 : IO_COLD;
	else if (op->kind == IO_READ)
		r.offset = op->offset;
	request_begin(shard_current, &r, op, op_done, &op->slot);
}

static void begin_at(struct io_op *op, enum io_kind kind, int fd, struct slice data, uint64_t offset)
{
	ASSERT(!op->pending && op->done);
	op->kind = (uint8_t)kind;
	op->fd = fd;
	if (kind == IO_ACCEPT)
		link_init(&op->paused);
	else
		op->data = data;
	op->offset = offset;
	op->pending = true;
	op->cancelled = false;
	op->more = false;
	begin(op);
}

static void begin_first(struct io_op *op, enum io_kind kind, int fd, struct slice data) { begin_at(op, kind, fd, data, 0); }

static void finish(struct io_op *op, int64_t result)
{
	op->slot = SLOT_NONE;
	op->pending = false;
	op->result = result;
	op->done(op);
}

/* ---- accept: stays armed whatever happens, until cancelled or the listener is no listener ---- */

static void resume_accepts(struct timer *t)
{
	struct shard *s = CONTAINER_OF(t, struct shard, accept_timer);
	struct link *l;
	while ((l = list_pop_front(&s->accepts_paused)))
		begin(CONTAINER_OF(l, struct io_op, paused));
}

static bool accept_should_pause(int64_t result)
{
	return result == -EMFILE || result == -ENFILE || result == -ENOMEM || result == -ENOBUFS;
}

static bool accept_should_retry(int64_t result)
{
	/* accept(2): errors of the new connection, not of the listener */
	return io_retryable(result) || result == -ECONNABORTED || result == -ENETDOWN || result == -EPROTO || result == -EHOSTDOWN ||
	       result == -EHOSTUNREACH || result == -ENETUNREACH || result == -ENOPROTOOPT || result == -EPERM;
}

static void accept_done(struct io_op *op, const struct io_completion *c)
{
	struct shard *s = shard_current;
	op->result = c->result;
	op->more = true;
	if (op->cancelled && !c->more && c->result < 0) {
		op->more = false;
		finish(op, -ECANCELED);
		return;
	}
	if (!c->more && op->cancelled) {
		/* a last connection came with the cancel: it is told, and then the end */
		op->more = false;
		finish(op, c->result);
		return;
	}
	if (!c->more && accept_should_pause(c->result)) {
		op->slot = SLOT_NONE;
		list_push_back(&s->accepts_paused, &op->paused);
		if (!timer_is_set(&s->accept_timer)) {
			s->accept_timer.fire = resume_accepts;
			timer_set(&s->accept_timer, IO_ACCEPT_PAUSE_MS);
		}
		STAT_ADD(s->accept_pauses, 1);
	} else if (!c->more && (c->result >= 0 || accept_should_retry(c->result))) {
		begin(op);
		if (c->result < 0)
			return;
	} else if (!c->more) {
		op->more = false;
		finish(op, c->result);
		return;
	}
	op->done(op);
}

/* ---- one-shot operations ---- */

static bool should_begin_again(struct io_op *op, int64_t result)
{
	if (op->cancelled)
		return false;
	if (op->kind == IO_RECV && result == -ENOBUFS) {
		STAT_ADD(shard_current->recv_starved, 1);
		return true; /* lent buffers come back before the next turn begins */
	}
	return io_retryable(result);
}

static void op_done(void *owner, const struct io_completion *c)
{
	struct io_op *op = owner;
	if (op->kind == IO_ACCEPT) {
		accept_done(op, c);
		return;
	}
	if (should_begin_again(op, c->result)) {
		begin(op);
		return;
	}
	int64_t result = op->cancelled && (io_retryable(c->result) || c->result == -ENOBUFS) ? -ECANCELED : c->result;
	if (op->kind == IO_RECV) {
		op->data = c->data;
		op->hot = c->hot;
	} else if (op->kind == IO_RECV_INTO || op->kind == IO_READ) {
		op->data.len = result > 0 ? (size_t)result : 0;
	}
	finish(op, result);
}

void io_accept(struct io_op *op, int listen_fd)
{
	begin_first(op, IO_ACCEPT, listen_fd, slice_of(NULL, 0));
}

void io_recv(struct io_op *op, int fd) { begin_first(op, IO_RECV, fd, slice_of(NULL, 0)); }

void io_recv_into(struct io_op *op, int fd, void *buf, size_t bytes) { begin_first(op, IO_RECV_INTO, fd, slice_of(buf, bytes)); }

void io_connect(struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len)
{
	begin_first(op, IO_CONNECT, fd, slice_of(addr, addr_len));
}

void io_read_fd(struct io_op *op, int fd, void *buf, size_t bytes) { begin_at(op, IO_READ, fd, slice_of(buf, bytes), IO_NO_OFFSET); }

void io_read_at(struct io_op *op, int fd, void *buf, size_t bytes, uint64_t offset)
{
	begin_at(op, IO_READ, fd, slice_of(buf, bytes), offset);
}

/* ---- sends ---- */

/* One piece of memory needs no state besides the op. */
static void plain_send_done(void *owner, const struct io_completion *c)
{
	struct io_op *op = owner;
	struct shard *s = shard_current;
	if (c->result >= 0) {
		op->progress_bytes += (uint64_t)c->result;
		op->data = slice_from(op->data, (size_t)c->result);
		STAT_ADD(s->sent_memory_bytes, (uint64_t)c->result);
		if (op->data.len == 0) {
			finish(op, (int64_t)op->progress_bytes);
			return;
		}
		if (c->result == 0) {
			finish(op, -EIO); /* no socket says this */
			return;
		}
	} else if (!io_retryable(c->result)) {
		finish(op, c->result);
		return;
	}
	if (op->cancelled) {
		finish(op, -ECANCELED);
		return;
	}
	struct io_request r = { .kind = IO_SEND, .fd = op->fd, .ptr = (void *)(uintptr_t)op->data.ptr, .len = op->data.len };
	request_begin(s, &r, op, plain_send_done, &op->slot);
}

void io_send(struct io_op *op, int fd, const struct io_piece *pieces, size_t count)
{
	struct shard *s = shard_current;
	ASSERT(!op->pending && op->done);
	op->kind = IO_SENDMSG;
	op->fd = fd;
	op->progress_bytes = 0;
	op->pending = true;
	op->cancelled = false;
	op->more = false;
	if (count == 1 && pieces[0].fd < 0) {
		op->kind = IO_SEND;
		op->data = slice_of(pieces[0].ptr, pieces[0].len);
		struct io_request r = { .kind = IO_SEND, .fd = fd, .ptr = (void *)(uintptr_t)pieces[0].ptr, .len = pieces[0].len };
		request_begin(s, &r, op, plain_send_done, &op->slot);
		return;
	}
	send_begin(s, op, pieces, count);
}

/* ---- the end of an operation ---- */

static void paused_accept_cancelled(struct io_op *op)
{
	/* nothing is in flight: a request that the kernel answers at once stands in, so that done runs from the loop */
	link_remove(&op->paused);
	begin(op);
	request_cancel(shard_current, op->slot);
}

void io_cancel(struct io_op *op)
{
	struct shard *s = shard_current;
	if (!op->pending || op->cancelled)
		return;
	op->cancelled = true;
	if (op->kind == IO_SENDMSG)
		send_cancel(s, op);
	else if (op->kind == IO_ACCEPT && link_linked(&op->paused))
		paused_accept_cancelled(op);
	else
		request_cancel(s, op->slot);
}

void io_shutdown(int fd)
{
	struct shard *s = shard_current;
	s->backend->fd_shutdown(s->be, fd);
}

void io_leave(int fd)
{
	struct shard *s = shard_current;
	if (s->backend->fd_leave)
		s->backend->fd_leave(s->be, fd);
}

void io_close(int fd)
{
	struct shard *s = shard_current;
	s->backend->fd_close(s->be, fd);
}

/* ---- waiting on a fiber ---- */

struct awaiting {
	struct timer timer;
	struct io_op *op;
	bool late;
};

static void await_done(struct io_op *op)
{
	if (!op->pending)
		fiber_wake(op->owner);
}

static void await_late(struct timer *t)
{
	struct awaiting *a = CONTAINER_OF(t, struct awaiting, timer);
	a->late = true;
	io_cancel(a->op);
}

void io_await_prepare(struct io_op *op)
{
	ASSERT(fiber_self()); /* the op may be fresh from the stack: nothing of it is looked at */
	io_op_init(op, await_done);
	op->owner = fiber_self();
}

int64_t io_await(struct io_op *op, uint64_t deadline_ms)
{
	struct awaiting a = { .op = op };
	timer_init(&a.timer, await_late);
	if (deadline_ms) {
		uint64_t now = clock_now_ms();
		timer_set(&a.timer, deadline_ms > now ? deadline_ms - now : 0);
	}
	while (op->pending)
		fiber_park();
	timer_clear(&a.timer);
	/* what came in spite of the cancel is not thrown away: a descriptor, or bytes that cannot be asked for again */
	return a.late && op->result < 0 ? -ETIME : op->result;
}
