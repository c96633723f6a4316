/* SPDX-License-Identifier: Apache-2.0 */
/* conn: see conn.h. */
#include "bench/load/conn.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load/clock.h"
#include "bench/load/driver.h"
#include "bench/load/engine.h"

void conn_connect(struct conn *c)
{
	const struct options *o = engine_options(c);
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = c};
	int on = 1;

	c->fd = socket(o->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		engine_fail(c, "socket: %s", strerror(errno));
		return;
	}
	if (o->address.ss_family == AF_INET)
		setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, (const struct sockaddr *)&o->address, o->address_bytes) < 0 && errno != EINPROGRESS) {
		engine_fail(c, "connect: %s", strerror(errno));
		return;
	}
	c->connects++;
	c->line_bytes = 0;
	c->body = NULL;
	c->pieces = 0;
	c->out_bytes = 0;
	c->want_out = false;
	c->full = false;
	memset(c->state, 0, o->scenario->state_bytes);
	if (epoll_ctl(engine_epoll(c), EPOLL_CTL_ADD, c->fd, &event) < 0)
		engine_fail(c, "epoll_ctl: %s", strerror(errno));
	else if (o->secure == SECURE_IMPLICIT)
		secure_begin(c);
}

void conn_close(struct conn *c, bool reset)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (c->fd < 0)
		return;
	if (reset)
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(c->fd);
	c->fd = -1;
	c->body = NULL;
	secure_end(c);
}

void conn_send_ref(struct conn *c, const char *data, size_t bytes)
{
	if (c->fd < 0)
		return;
	if (c->pieces == OUT_PIECES_MAX) {
		engine_fail(c, "more than %d pieces to send", OUT_PIECES_MAX);
		return;
	}
	c->piece[c->pieces++] = (struct iovec){.iov_base = (void *)(uintptr_t)data, .iov_len = bytes};
}

void conn_send(struct conn *c, const char *text, size_t bytes)
{
	char *to = c->out + c->out_bytes;

	if (c->fd < 0)
		return;
	if (bytes > sizeof(c->out) - c->out_bytes) {
		engine_fail(c, "more than %d octets of commands to send", OUT_BYTES_MAX);
		return;
	}
	memcpy(to, text, bytes);
	c->out_bytes += bytes;
	if (c->pieces && (char *)c->piece[c->pieces - 1].iov_base + c->piece[c->pieces - 1].iov_len == to)
		c->piece[c->pieces - 1].iov_len += bytes;
	else
		conn_send_ref(c, to, bytes);
}

void conn_sendf(struct conn *c, const char *format, ...)
{
	char text[LINE_BYTES_MAX];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	conn_send(c, text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* Drops `sent` octets from the front of what waits. */
static void consume(struct conn *c, size_t sent)
{
	unsigned gone = 0;

	while (gone < c->pieces && sent >= c->piece[gone].iov_len)
		sent -= c->piece[gone++].iov_len;
	memmove(c->piece, c->piece + gone, (c->pieces - gone) * sizeof(c->piece[0]));
	c->pieces -= gone;
	if (c->pieces) {
		c->piece[0].iov_base = (char *)c->piece[0].iov_base + sent;
		c->piece[0].iov_len -= sent;
	} else {
		c->out_bytes = 0;
	}
}

static void want_out(struct conn *c, bool on)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET | (on ? (uint32_t)EPOLLOUT : 0u), .data.ptr = c};

	if (c->want_out == on)
		return;
	c->want_out = on;
	epoll_ctl(engine_epoll(c), EPOLL_CTL_MOD, c->fd, &event);
}

/* As much as a record holds from the pieces that wait. */
static size_t gather(const struct conn *c, char *to)
{
	size_t bytes = 0;

	for (unsigned i = 0; i < c->pieces && bytes < SECURE_RECORD_BYTES_MAX; i++) {
		size_t room = SECURE_RECORD_BYTES_MAX - bytes;
		size_t n = c->piece[i].iov_len < room ? c->piece[i].iov_len : room;

		memcpy(to + bytes, c->piece[i].iov_base, n);
		bytes += n;
	}
	return bytes;
}

static void flush_secure(struct conn *c)
{
	static char record[SECURE_RECORD_BYTES_MAX];
	ssize_t n = 1;

	c->full = false;
	if (!secure_shaken(c)) {
		if (c->fd >= 0)
			want_out(c, c->full);
		return;
	}
	while (c->fd >= 0 && c->pieces && n > 0) {
		n = secure_write(c, record, gather(c, record));
		if (n > 0)
			consume(c, (size_t)n);
	}
	if (c->fd >= 0)
		want_out(c, c->pieces > 0);
}

void conn_flush(struct conn *c)
{
	if (c->fd >= 0 && c->secure) {
		flush_secure(c);
		return;
	}
	while (c->fd >= 0 && c->pieces) {
		struct msghdr message = {.msg_iov = c->piece, .msg_iovlen = c->pieces};
		ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n >= 0) {
			c->bytes_out += (uint64_t)n;
			consume(c, (size_t)n);
		} else if (errno == EAGAIN || errno == ENOTCONN) {
			want_out(c, true);
			return;
		} else if (errno != EINTR) {
			engine_fail(c, "send: %s", strerror(errno));
		}
	}
	if (c->fd >= 0)
		want_out(c, false);
}

void conn_expect_body(struct conn *c, struct body_check *check)
{
	body_check_begin(check);
	c->body = check;
}

void conn_expect_literal(struct conn *c, struct body_check *check, uint64_t octets)
{
	body_check_begin_literal(check, octets);
	c->body = check;
}

static size_t take_body(struct conn *c, const char *data, size_t bytes)
{
	size_t used = body_check_feed(c->body, data, bytes);

	if (c->body->state == BODY_MALFORMED) {
		engine_fail(c, "multi-line answer: a line begins with a dot that is neither stuffed nor final");
	} else if (c->body->state == BODY_END) {
		c->body = NULL;
		engine_driver(c)->body_end(c);
	}
	return used;
}

/* One line, or the part of it that has come. */
static size_t take_line(struct conn *c, const char *data, size_t bytes)
{
	const char *end = memchr(data, '\n', bytes);
	size_t n = end ? (size_t)(end - data) + 1 : bytes;

	if (end && c->line_bytes == 0) { /* whole in the buffer: no copy */
		if (n < 2 || end[-1] != '\r')
			engine_fail(c, "line without CRLF: %.*s", (int)(n - 1), data);
		else
			engine_driver(c)->line(c, data, n - 2);
		return n;
	}
	if (n > sizeof(c->line) - c->line_bytes) {
		engine_fail(c, "line of more than %d octets", LINE_BYTES_MAX);
		return n;
	}
	memcpy(c->line + c->line_bytes, data, n);
	c->line_bytes += (unsigned)n;
	if (end) {
		size_t whole = c->line_bytes;

		c->line_bytes = 0;
		if (whole < 2 || c->line[whole - 2] != '\r')
			engine_fail(c, "line without CRLF");
		else
			engine_driver(c)->line(c, c->line, whole - 2);
	}
	return n;
}

static void take_input(struct conn *c, const char *data, size_t bytes)
{
	bool clear = !c->secure;

	while (bytes && c->fd >= 0) {
		size_t used = c->body ? take_body(c, data, bytes) : take_line(c, data, bytes);

		data += used;
		bytes -= used;
		if (clear && c->secure && bytes)
			engine_fail(c, "%zu octets in the clear behind the permission to begin TLS", bytes);
	}
}

/* What has come, opened. The connection may be closed on the way, and opened again. */
static void take_sealed(struct conn *c, const char *sealed, size_t bytes)
{
	static char plain[SECURE_RECORD_BYTES_MAX];
	uint64_t connects = c->connects;
	ssize_t n;

	secure_feed(c, sealed, bytes);
	while (c->fd >= 0 && c->connects == connects && (n = secure_read(c, plain, sizeof(plain))) > 0)
		take_input(c, plain, (size_t)n);
}

static void end_of_input(struct conn *c)
{
	bool half_line = c->line_bytes || c->body;

	conn_close(c, false);
	if (half_line || !engine_driver(c)->closed(c))
		engine_fail(c, half_line ? "closed in the middle of an answer" : "closed by the server before its time");
}

void conn_event(struct conn *c, uint32_t events, char *buffer)
{
	if (c->fd >= 0 && (events & EPOLLOUT))
		conn_flush(c);
	while (c->fd >= 0) {
		ssize_t n = recv(c->fd, buffer, IN_BYTES, MSG_DONTWAIT);

		if (n > 0) {
			c->bytes_in += (uint64_t)n;
			if (c->secure)
				take_sealed(c, buffer, (size_t)n);
			else
				take_input(c, buffer, (size_t)n);
			conn_flush(c);
			/* A short read has emptied the socket; an end that came after it makes a new event. */
			if ((size_t)n < IN_BYTES && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
				return;
		} else if (n == 0) {
			end_of_input(c);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR) {
			engine_fail(c, "recv: %s", strerror(errno));
		}
	}
}
