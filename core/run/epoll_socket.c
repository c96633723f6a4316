/* SPDX-License-Identifier: Apache-2.0 */
/*
 * epoll_socket.c - one attempt at a request on a descriptor that can be polled; it never waits.
 *
 * Sockets may be blocking ones: every call says itself that it does not wait, and where none can (accept, connect) the descriptor is made
 * non-blocking; of others (a signalfd) it is asked first whether there is something to read.
 */
#include "core/run/epoll_private.h"

#include "core/base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

bool waits_to_read(uint8_t kind, uint32_t arg)
{
	return kind == IO_ACCEPT || kind == IO_RECV || kind == IO_RECV_INTO || kind == IO_READ || (kind == IO_POLL && !(arg & POLLOUT));
}

static bool would_wait(int64_t result) { return result == -EAGAIN; }

static int ready_events(int fd, unsigned events)
{
	struct pollfd p = { .fd = fd, .events = (short)events };
	int r = poll(&p, 1, 0);
	return r < 0 ? -errno : r == 0 ? 0 : p.revents;
}

static void make_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && !(flags & O_NONBLOCK))
		(void)fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* What a read tells of what is left: less than asked for is all there was, unless the end stands behind it. */
static void note_read(struct watch *w, int64_t n, uint64_t asked)
{
	if (n < 0 && !would_wait(n))
		return;
	w->may_read = (n >= 0 && (uint64_t)n == asked) || (n >= 0 && w->ended);
}

static int64_t receive(struct epoll *e, struct flight *f, void *to, uint64_t bytes)
{
	struct watch *w = watch_of(e, f->fd);
	ssize_t n = recv(f->fd, to, bytes, MSG_DONTWAIT);
	int64_t r = n < 0 ? -errno : n;
	note_read(w, r, bytes);
	return r;
}

static int64_t read_fd(struct flight *f)
{
	int events = ready_events(f->fd, POLLIN);
	if (events <= 0)
		return events < 0 ? events : -EAGAIN;
	ssize_t n = read(f->fd, f->ptr, f->len);
	return n < 0 ? -errno : n;
}

static int64_t accept_one(struct epoll *e, struct flight *f)
{
	if (!f->prepared) {
		make_nonblocking(f->fd);
		f->prepared = true;
	}
	int fd = accept4(f->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		watch_of(e, f->fd)->may_read = false;
		return -errno;
	}
	if ((unsigned)fd < IO_FDS_MAX)
		return fd;
	close(fd);
	return -EMFILE;
}

static int64_t connect_or_ask(struct flight *f)
{
	int error = 0;
	socklen_t bytes = sizeof(error);
	if (!f->prepared) {
		make_nonblocking(f->fd);
		if (connect(f->fd, f->ptr, (socklen_t)f->len) == 0)
			return 0;
		if (errno != EINPROGRESS)
			return -errno; /* EAGAIN: a unix socket's backlog is full; epoll tells nothing of that */
		f->prepared = true;
		return -EINPROGRESS;
	}
	int events = ready_events(f->fd, POLLOUT);
	if (events <= 0)
		return events < 0 ? events : -EINPROGRESS;
	return getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) < 0 ? -errno : -error;
}

static int msg_flags(const struct flight *f) { return MSG_NOSIGNAL | MSG_DONTWAIT | (f->flags & IO_MORE ? MSG_MORE : 0); }

static int64_t perform(struct epoll *e, struct flight *f)
{
	ssize_t n;
	switch (f->kind) {
	case IO_ACCEPT:
		return accept_one(e, f);
	case IO_CONNECT:
		return connect_or_ask(f);
	case IO_RECV:
		return receive(e, f, e->buffer, sizeof(e->buffer));
	case IO_RECV_INTO:
		return receive(e, f, f->ptr, f->len);
	case IO_SEND:
		n = send(f->fd, f->ptr, f->len, msg_flags(f));
		return n < 0 ? -errno : n;
	case IO_SENDMSG:
		n = sendmsg(f->fd, f->ptr, msg_flags(f));
		return n < 0 ? -errno : n;
	case IO_POLL:
		n = ready_events(f->fd, f->arg);
		return n ? n : -EAGAIN;
	case IO_READ:
		return read_fd(f);
	default:
		UNREACHABLE();
	}
}

bool attempt(struct epoll *e, struct flight *f, struct io_completion *c_out)
{
	count_enter(e);
	int64_t r = perform(e, f);
	*c_out = (struct io_completion){ .result = r };
	if (r == -EINPROGRESS || (would_wait(r) && !(f->flags & IO_NOWAIT)))
		return false;
	if (f->kind == IO_RECV && r >= 0) {
		c_out->data = slice_of(e->buffer, (size_t)r);
		c_out->hot = r > 0 && watch_of(e, f->fd)->may_read;
	}
	c_out->more = f->kind == IO_ACCEPT && r >= 0;
	return true;
}
