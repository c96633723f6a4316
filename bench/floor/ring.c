/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: one thread's loop; see floor.h.
 *
 * Per connection at most one chain is in flight: receive, or send linked to the
 * next receive, or send linked to the close. A send that succeeds posts no
 * completion of its own; one that fails cancels what is linked to it, and the
 * connection is closed then.
 */
#include "bench/floor/ring.h"

#include <arpa/inet.h>
#include <err.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "bench/floor/floor.h"
#include "bench/floor/log.h"

#define ENTRIES 4096
#define POP3_IN_BYTES 4096

enum tag { TAG_ACCEPT_POP3, TAG_ACCEPT_LMTP, TAG_RECV, TAG_SEND, TAG_CLOSE, TAG_WRITE, TAG_SYNC };

struct conn {
	int slot;             /* direct descriptor */
	bool lmtp;
	bool in_data;
	unsigned recipients;
	size_t in_bytes;
	size_t in_cap;
	char *in;
	struct log_wait wait;
	struct conn *next_free;
	struct msghdr message;
	struct iovec piece[LINE_REPLIES_MAX];
};

struct ring {
	struct io_uring io;
	const struct floor_options *o;
	const struct canned *canned;
	struct conn *free_pop3;
	struct conn *free_lmtp;
	struct log *logs;
	unsigned next_log;
	unsigned next_retr;
	int listen_pop3;
	int listen_lmtp;
};

static uint64_t tagged(const void *p, enum tag tag)
{
	return (uint64_t)(uintptr_t)p | ((uint64_t)tag << 56);
}

void ring_room(struct io_uring *ring, unsigned entries)
{
	if (io_uring_sq_space_left(ring) < entries)
		io_uring_submit(ring);
}

struct io_uring_sqe *ring_sqe(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	if (!sqe) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	if (!sqe)
		errx(1, "submission queue");
	return sqe;
}

/* ---- connections ----------------------------------------------------------- */

static struct conn *conn_new(struct ring *r, bool lmtp)
{
	struct conn **list = lmtp ? &r->free_lmtp : &r->free_pop3;
	struct conn *c = *list;

	if (c) {
		*list = c->next_free;
	} else {
		c = calloc(1, sizeof(*c));
		if (!c)
			err(1, "connection");
		c->in_cap = lmtp ? r->o->lmtp_bytes_max : POP3_IN_BYTES;
		c->in = malloc(c->in_cap);
		if (!c->in)
			err(1, "connection");
		c->lmtp = lmtp;
	}
	c->in_bytes = 0;
	c->in_data = false;
	c->recipients = 0;
	return c;
}

static void conn_free(struct ring *r, struct conn *c)
{
	struct conn **list = c->lmtp ? &r->free_lmtp : &r->free_pop3;

	c->next_free = *list;
	*list = c;
}

static void queue_recv(struct ring *r, struct conn *c)
{
	struct io_uring_sqe *sqe = ring_sqe(&r->io);

	io_uring_prep_recv(sqe, c->slot, c->in + c->in_bytes, c->in_cap - c->in_bytes, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	sqe->user_data = tagged(c, TAG_RECV);
}

static void queue_close(struct ring *r, struct conn *c)
{
	struct io_uring_sqe *sqe = ring_sqe(&r->io);

	io_uring_prep_close_direct(sqe, (unsigned)c->slot);
	sqe->user_data = tagged(c, TAG_CLOSE);
}

/* One gathered send of the first `pieces`, then the next receive or the close. */
static void queue_replies(struct ring *r, struct conn *c, unsigned pieces, bool close)
{
	struct io_uring_sqe *sqe;

	ring_room(&r->io, 2);
	sqe = ring_sqe(&r->io);
	if (pieces == 1) {
		io_uring_prep_send(sqe, c->slot, c->piece[0].iov_base, c->piece[0].iov_len, MSG_WAITALL | MSG_NOSIGNAL);
	} else {
		c->message = (struct msghdr){.msg_iov = c->piece, .msg_iovlen = pieces};
		io_uring_prep_sendmsg(sqe, c->slot, &c->message, MSG_WAITALL | MSG_NOSIGNAL);
	}
	sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
	sqe->user_data = tagged(c, TAG_SEND);
	if (close)
		queue_close(r, c);
	else
		queue_recv(r, c);
}

static void add_piece(struct conn *c, unsigned n, const struct reply *reply)
{
	c->piece[n] = (struct iovec){.iov_base = (void *)(uintptr_t)reply->text, .iov_len = reply->bytes};
}

/* ---- conversation ----------------------------------------------------------- */

/* The message is whole (and durable): one answer per recipient. */
static void answer_delivery(struct ring *r, struct conn *c)
{
	unsigned n = c->recipients ? c->recipients : 1;

	if (n > LINE_REPLIES_MAX)
		n = LINE_REPLIES_MAX;
	for (unsigned i = 0; i < n; i++)
		add_piece(c, i, &r->canned->lmtp[LMTP_DONE]);
	c->in_data = false;
	c->in_bytes = 0;
	c->recipients = 0;
	queue_replies(r, c, n, false);
}

static void take_data(struct ring *r, struct conn *c)
{
	if (c->in_bytes < 5 || memcmp(c->in + c->in_bytes - 5, "\r\n.\r\n", 5) != 0) {
		if (c->in_bytes == c->in_cap)
			queue_close(r, c); /* larger than --lmtp-max */
		else
			queue_recv(r, c);
		return;
	}
	if (!r->logs) {
		answer_delivery(r, c);
		return;
	}
	c->wait.data = c->in;
	c->wait.bytes = c->in_bytes - 3;
	ring_room(&r->io, 2);
	log_append(&r->logs[r->next_log++ % r->o->logs], &r->io, &c->wait);
}

static void take_lines(struct ring *r, struct conn *c)
{
	char *at = c->in;
	char *end = c->in + c->in_bytes;
	unsigned pieces = 0;
	bool close = false;

	while (!close && !c->in_data && pieces < LINE_REPLIES_MAX) {
		char *eol = memchr(at, '\n', (size_t)(end - at));
		const struct reply *reply;

		if (!eol)
			break;
		reply = c->lmtp ? canned_lmtp(r->canned, at, (size_t)(eol - at)) :
				  canned_pop3(r->canned, at, (size_t)(eol - at), &r->next_retr);
		c->recipients += c->lmtp && at[0] == 'R';
		close = reply->closes;
		c->in_data = reply->takes_data;
		add_piece(c, pieces++, reply);
		at = eol + 1;
	}
	c->in_bytes = (size_t)(end - at);
	if (c->in_bytes)
		memmove(c->in, at, c->in_bytes);
	if (pieces)
		queue_replies(r, c, pieces, close);
	else
		queue_recv(r, c);
}

/* ---- completions ------------------------------------------------------------- */

static void queue_accept(struct ring *r, bool lmtp)
{
	struct io_uring_sqe *sqe = ring_sqe(&r->io);

	io_uring_prep_multishot_accept_direct(sqe, lmtp ? r->listen_lmtp : r->listen_pop3, NULL, NULL, 0);
	sqe->user_data = tagged(NULL, lmtp ? TAG_ACCEPT_LMTP : TAG_ACCEPT_POP3);
}

static void accepted(struct ring *r, const struct io_uring_cqe *cqe, bool lmtp)
{
	if (cqe->res >= 0) {
		struct conn *c = conn_new(r, lmtp);

		c->slot = cqe->res;
		add_piece(c, 0, lmtp ? &r->canned->lmtp[LMTP_GREETING] : &r->canned->pop3[POP3_GREETING]);
		queue_replies(r, c, 1, false);
	}
	if (!(cqe->flags & IORING_CQE_F_MORE))
		queue_accept(r, lmtp);
}

static void received(struct ring *r, struct conn *c, int n)
{
	if (n <= 0) {
		queue_close(r, c);
		return;
	}
	c->in_bytes += (size_t)n;
	if (c->in_data)
		take_data(r, c);
	else
		take_lines(r, c);
}

static void synced(struct ring *r, struct log *l, int result)
{
	struct log_wait *w;

	if (result < 0)
		errx(1, "log: %s", strerror(-result)); /* a floor that did not sync would lie */
	w = log_synced(l, &r->io);
	while (w) {
		struct log_wait *next = w->next;

		answer_delivery(r, (struct conn *)(void *)((char *)w - offsetof(struct conn, wait)));
		w = next;
	}
}

static void complete(struct ring *r, const struct io_uring_cqe *cqe)
{
	void *p = (void *)(uintptr_t)(cqe->user_data & 0xffffffffffffffull);

	switch ((enum tag)(cqe->user_data >> 56)) {
	case TAG_ACCEPT_POP3: accepted(r, cqe, false); break;
	case TAG_ACCEPT_LMTP: accepted(r, cqe, true); break;
	case TAG_RECV: received(r, p, cqe->res); break;
	case TAG_SEND: break; /* failed; what was linked to it is cancelled and closes */
	case TAG_CLOSE:
		if (cqe->res == -ECANCELED)
			queue_close(r, p);
		else
			conn_free(r, p);
		break;
	case TAG_WRITE:
		if (cqe->res < 0)
			errx(1, "log: %s", strerror(-cqe->res));
		break;
	case TAG_SYNC: synced(r, p, cqe->res); break;
	}
}

/* ---- life --------------------------------------------------------------------- */

static int listen_on(uint16_t port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		err(2, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* inherited by what is accepted */
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
		err(2, "port %u", port);
	return fd;
}

static void open_logs(struct ring *r, unsigned thread)
{
	r->logs = aligned_alloc(64, (sizeof(struct log) * r->o->logs + 63) & ~(size_t)63);
	if (!r->logs)
		err(2, "logs");
	for (unsigned i = 0; i < r->o->logs; i++) {
		char path[512];

		snprintf(path, sizeof(path), "%s/floor.%u.%u", r->o->log_folder, thread, i);
		log_open(&r->logs[i], path, tagged(&r->logs[i], TAG_WRITE), tagged(&r->logs[i], TAG_SYNC));
	}
}

static void set_up(struct ring *r, unsigned thread)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE, .cq_entries = 4 * ENTRIES};
	int e = io_uring_queue_init_params(ENTRIES, &r->io, &params);

	if (e < 0)
		errx(2, "io_uring: %s", strerror(-e));
	e = io_uring_register_files_sparse(&r->io, CONNECTIONS_PER_RING);
	if (e < 0)
		errx(2, "direct descriptors: %s", strerror(-e));
	io_uring_register_ring_fd(&r->io); /* saves a look-up per call; older kernels do without */
	if (r->o->log_folder)
		open_logs(r, thread);
	if (r->o->pop3_port) {
		r->listen_pop3 = listen_on(r->o->pop3_port);
		queue_accept(r, false);
	}
	if (r->o->lmtp_port) {
		r->listen_lmtp = listen_on(r->o->lmtp_port);
		queue_accept(r, true);
	}
}

void ring_serve(const struct floor_options *o, const struct canned *canned, unsigned thread)
{
	struct ring r = {.o = o, .canned = canned};

	set_up(&r, thread);
	for (;;) {
		struct io_uring_cqe *cqe;
		unsigned head;
		unsigned n = 0;

		io_uring_submit_and_wait(&r.io, 1);
		io_uring_for_each_cqe(&r.io, head, cqe) {
			complete(&r, cqe);
			n++;
		}
		io_uring_cq_advance(&r.io, n);
	}
}
