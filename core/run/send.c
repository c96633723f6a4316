/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send.c - io_send: a reply of several pieces leaves in as few and as cheap steps as its sizes allow (DESIGN section 9).
 *
 * A send goes on in steps, each begun by next():
 *
 *   gather   text and small file ranges, in order, become one sendmsg.  The file bytes are read through the ring into one
 *            pooled buffer of SEND_BUFFER_BYTES first.
 *   splice   a file range of at least splice_min_bytes goes file, pipe, socket without being copied by us, at most one
 *            pipe full a turn.  It is taken only while its pages are in memory (splicing waits for nothing then); a
 *            part that is not is read through the ring as in a gather, and what follows it is asked for ahead.
 *   wait     for room in the socket, when a step that holds something of ours found none.
 *
 * Measured (Linux 6.18, loopback, 8 connections, medians of 7 interleaved runs on a busy machine, server CPU per message in us; runs
 * differ by 10 to 20 %):
 *
 *              4 KiB    8 KiB   12 KiB   16 KiB   20 KiB   32 KiB   64 KiB   200 KB   2 MiB
 *     memory    5.9      6.8      7.7      7.8      8.4     10.8      18       42      288
 *     read      7.6      8.6      9.4     10.9     11.7     16.4      23       60      775
 *     splice   11.5     11.8     13.2     11.9     11.8     12.3      19       27      293
 *
 * The paths meet at 20 KiB, the default of splice_min_bytes; below it, besides, several small replies leave as one send.  A pipe of
 * 1 MiB beat one of 256 KiB at 2 MiB (256 against 458 us in one run).  Copying the text around a range into the pipe too, so that all
 * leaves by one splice, cost 2 us more at 20 KiB than two sends through the ring, which are begun for many connections at once.
 *
 * The buffers are not registered with the ring: READ_FIXED saved 0.04 us at 4 KiB and 0.1 us at 20 KiB, which is not worth locked memory
 * (8 MiB for all processes of a user).
 *
 * What belongs to all (buffers, the pipe) is never held while a client is waited for: a gather with file bytes is sent without
 * waiting, what the socket did not take is forgotten and read again once there is room; the same with a pipe.  So any
 * number of slow readers holds neither a buffer nor a pipe nor a kernel thread.  Text alone is the owner's memory and waits in the
 * kernel as it is.
 *
 * No step uses MSG_WAITALL: a short count is how progress becomes visible to the write-stall timer (progress_bytes).
 */
#include "core/run/shard_private.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define PIPE_CHUNK_BYTES_MIN KIB(64)

/* A file range on its way into the buffer. */
struct file_part {
	struct send *send;
	int fd;
	uint32_t slot;
	char *to;
	uint64_t len, offset;
};

struct send {
	struct io_op *op;
	const struct io_piece *pieces;
	size_t count;
	size_t at;       /* the first piece that is not wholly sent */
	uint64_t at_off; /* and how much of it is */
	char *buffer;
	uint32_t slot; /* of the sendmsg or poll in flight */
	unsigned iov_count, part_count, parts_open;
	int64_t error;
	uint64_t chunk; /* spliced at once */
	uint64_t ahead; /* of the piece at `at`: read ahead up to here, because it was found cold */
	bool more;     /* pieces remain after this gather */
	bool cold;     /* the next file part is not in memory: read it */
	struct deferred deferred;
	struct link waiting; /* for a buffer */
	uint64_t file_bytes; /* of this gather */
	struct msghdr msg;
	struct iovec iov[SEND_IOV_MAX];
	struct file_part part[SEND_READS_MAX];
	struct send *next_free;
};

static void close_pipe(struct shard *s);
static void next(struct send *d);
static void transmit(struct send *d);

/* ---- what is pooled ---- */

void sends_init(struct sends *p)
{
	*p = (struct sends){ .pipe = { -1, -1 } };
	list_init(&p->waiting);
}

void sends_release(struct shard *s)
{
	struct sends *p = &s->sends;
	while (p->free) {
		struct send *d = p->free;
		p->free = d->next_free;
		free(d);
	}
	while (p->buffer_free) {
		char *b = p->buffer_free;
		memcpy(&p->buffer_free, b, sizeof(char *));
		free(b);
	}
	close_pipe(s);
}

static struct send *take_send(struct sends *p)
{
	struct send *d = p->free;
	if (d)
		p->free = d->next_free;
	else
		d = xmalloc(sizeof(*d));
	p->open++;
	return d;
}

static char *take_buffer(struct sends *p)
{
	char *b = p->buffer_free;
	if (b) {
		memcpy(&p->buffer_free, b, sizeof(char *));
		return b;
	}
	if (p->buffers == SEND_BUFFERS_MAX)
		return NULL;
	p->buffers++;
	return xmalloc(SEND_BUFFER_BYTES);
}

static void give_buffer(struct shard *s, struct send *d)
{
	struct sends *p = &s->sends;
	if (!d->buffer)
		return;
	memcpy(d->buffer, &p->buffer_free, sizeof(char *));
	p->buffer_free = d->buffer;
	d->buffer = NULL;
	struct link *l = list_pop_front(&p->waiting);
	if (l)
		shard_defer(s, &CONTAINER_OF(l, struct send, waiting)->deferred);
}

/* The shard's pipe, empty; false when there are no descriptors for one. */
static bool open_pipe(struct shard *s)
{
	struct sends *p = &s->sends;
	return p->pipe[0] >= 0 || s->backend->pipe_open(s->be, p->pipe, SEND_PIPE_BYTES) == 0;
}

/* With whatever is in it. */
static void close_pipe(struct shard *s)
{
	struct sends *p = &s->sends;
	if (p->pipe[0] < 0)
		return;
	s->backend->fd_close(s->be, p->pipe[0]);
	s->backend->fd_close(s->be, p->pipe[1]);
	p->pipe[0] = p->pipe[1] = -1;
}

/* ---- the end ---- */

static void finish(struct send *d, int64_t result)
{
	struct shard *s = shard_current;
	struct io_op *op = d->op;
	give_buffer(s, d);
	d->next_free = s->sends.free;
	s->sends.free = d;
	s->sends.open--;
	op->data = slice_of(NULL, 0);
	op->pending = false;
	op->result = result;
	op->done(op);
}

static void take_note(struct send *d, uint64_t bytes)
{
	d->op->progress_bytes += bytes;
	while (bytes > 0) {
		uint64_t left = d->pieces[d->at].len - d->at_off;
		if (bytes < left) {
			d->at_off += bytes;
			return;
		}
		bytes -= left;
		d->at++;
		d->at_off = 0;
		d->ahead = 0;
	}
}

/* ---- wait ---- */

static void room_done(void *owner, const struct io_completion *c)
{
	struct send *d = owner;
	d->slot = SLOT_NONE;
	if (d->op->cancelled)
		finish(d, -ECANCELED);
	else if (c->result < 0 && !io_retryable(c->result))
		finish(d, c->result);
	else
		next(d); /* an error of the socket shows itself in the next step */
}

static void wait_for_room(struct send *d)
{
	struct io_request r = { .kind = IO_POLL, .fd = d->op->fd, .arg = POLLOUT };
	request_begin(shard_current, &r, d, room_done, &d->slot);
}

/* ---- gather ---- */

static void count_bytes(struct send *d, uint64_t bytes)
{
	struct shard *s = shard_current;
	uint64_t read = min_u64(bytes, d->file_bytes);
	STAT_ADD(s->sent_read_bytes, read);
	STAT_ADD(s->sent_memory_bytes, bytes - read);
}

static void transmit_done(void *owner, const struct io_completion *c)
{
	struct send *d = owner;
	bool held = d->buffer != NULL;
	d->slot = SLOT_NONE;
	if (c->result < 0 && !io_retryable(c->result)) {
		finish(d, c->result);
		return;
	}
	if (d->op->cancelled) {
		d->op->progress_bytes += c->result > 0 ? (uint64_t)c->result : 0;
		finish(d, -ECANCELED);
		return;
	}
	if (c->result == -EINTR || (c->result == -EAGAIN && !held)) {
		transmit(d);
		return;
	}
	uint64_t took = c->result > 0 ? (uint64_t)c->result : 0, all = 0;
	for (unsigned i = 0; i < d->iov_count; i++)
		all += d->iov[i].iov_len;
	count_bytes(d, took);
	take_note(d, took);
	give_buffer(shard_current, d);
	if (took < all && held)
		wait_for_room(d);
	else if (took == 0)
		finish(d, -EIO); /* no socket says this */
	else
		next(d);
}

static void transmit(struct send *d)
{
	d->msg = (struct msghdr){ .msg_iov = d->iov, .msg_iovlen = d->iov_count };
	struct io_request r = { .kind = IO_SENDMSG, .fd = d->op->fd, .ptr = &d->msg };
	r.flags = (uint8_t)((d->more ? IO_MORE : 0) | (d->buffer ? IO_NOWAIT : 0));
	request_begin(shard_current, &r, d, transmit_done, &d->slot);
}

static void part_done(void *owner, const struct io_completion *c);

static void begin_part(struct file_part *part)
{
	struct io_request r = { .kind = IO_READ, .fd = part->fd, .ptr = part->to, .len = part->len, .offset = part->offset };
	request_begin(shard_current, &r, part, part_done, &part->slot);
}

static void part_done(void *owner, const struct io_completion *c)
{
	struct file_part *part = owner;
	struct send *d = part->send;
	part->slot = SLOT_NONE;
	if (c->result > 0) {
		part->to += c->result;
		part->len -= (uint64_t)c->result;
		part->offset += (uint64_t)c->result;
	} else if (c->result == 0) {
		d->error = -EIO; /* the file is shorter than the piece says: this reply cannot be made whole */
	} else if (!io_retryable(c->result)) {
		d->error = c->result;
	}
	if (part->len > 0 && d->error == 0 && !d->op->cancelled) {
		begin_part(part);
		return;
	}
	if (--d->parts_open > 0)
		return;
	if (d->op->cancelled)
		finish(d, -ECANCELED);
	else if (d->error)
		finish(d, d->error);
	else
		transmit(d);
}

static void add_iov(struct send *d, const char *ptr, uint64_t len)
{
	d->iov[d->iov_count++] = (struct iovec){ .iov_base = (void *)(uintptr_t)ptr, .iov_len = len };
}

static bool wants_splice(const struct send *d, const struct io_piece *piece, uint64_t off)
{
	struct shard *s = shard_current;
	return s->backend->can_splice && piece->len - off >= s->splice_min_bytes && !(d->cold && piece == &d->pieces[d->at]);
}

/* Puts as much of a file range into the gather as the buffer holds; false when the gather is to end before or with it. */
static bool add_file(struct send *d, const struct io_piece *piece, uint64_t off, uint64_t *used_io)
{
	if (wants_splice(d, piece, off) || d->part_count == SEND_READS_MAX || *used_io == SEND_BUFFER_BYTES)
		return false;
	if (!d->buffer && !(d->buffer = take_buffer(&shard_current->sends)))
		return false;
	uint64_t len = min_u64(piece->len - off, SEND_BUFFER_BYTES - *used_io);
	char *to = d->buffer + *used_io;
	d->part[d->part_count++] = (struct file_part){ .send = d, .fd = piece->fd, .to = to, .len = len, .offset = piece->offset + off };
	add_iov(d, to, len);
	*used_io += len;
	d->file_bytes += len;
	return len == piece->len - off;
}

static void gather(struct send *d)
{
	uint64_t used = 0, off = d->at_off;
	size_t i = d->at;
	d->iov_count = d->part_count = 0;
	d->file_bytes = 0;
	d->error = 0;
	for (; i < d->count && d->iov_count < SEND_IOV_MAX; i++, off = 0) {
		const struct io_piece *piece = &d->pieces[i];
		if (piece->len == off)
			continue;
		if (piece->fd < 0)
			add_iov(d, piece->ptr + off, piece->len - off);
		else if (!add_file(d, piece, off, &used))
			break;
	}
	d->more = i < d->count;
	if (d->iov_count == 0) {
		list_push_back(&shard_current->sends.waiting, &d->waiting); /* no buffer is free */
		return;
	}
	d->parts_open = d->part_count;
	d->cold = false;
	for (unsigned part = 0; part < d->part_count; part++)
		begin_part(&d->part[part]);
	if (d->part_count == 0)
		transmit(d);
}

/* ---- splice ---- */

/* Moves bytes from the pipe to the socket until it is empty or the socket is full. 0 or -errno. */
static int64_t pipe_to_socket(struct shard *s, struct send *d, uint64_t bytes, bool more)
{
	uint64_t left = bytes;
	int64_t n = 1;
	while (left > 0 && (n > 0 || n == -EINTR)) {
		n = s->backend->splice_now(s->be, s->sends.pipe[0], IO_NO_OFFSET, d->op->fd, left, more ? SPLICE_F_MORE : 0);
		left -= n > 0 ? (uint64_t)n : 0;
	}
	STAT_ADD(s->sent_splice_bytes, bytes - left);
	s->sends.turn_bytes += bytes - left;
	take_note(d, bytes - left);
	if (left == 0)
		return 0;
	/* what the socket did not take is not kept for it: it is spliced from the file again, in portions of its own size */
	close_pipe(s);
	d->chunk = max_u64(PIPE_CHUNK_BYTES_MIN, 2 * (bytes - left));
	return n == 0 ? -EIO : n;
}

/* Splicing is work of this thread: many who could take a pipe full must not hold the shard for all of them together. */
static bool turn_is_used_up(struct shard *s)
{
	if (s->sends.turn != s->loops) {
		s->sends.turn = s->loops;
		s->sends.turn_bytes = 0;
	}
	return s->sends.turn_bytes >= SEND_TURN_BYTES_MAX;
}

/* One pipe full. Nothing here waits: the pages are in memory, the pipe is empty, the socket does not block. */
static void splice_step(struct shard *s, struct send *d)
{
	const struct io_piece *piece = &d->pieces[d->at];
	if (turn_is_used_up(s)) {
		shard_defer(s, &d->deferred);
		return;
	}
	uint64_t rest = piece->len - d->at_off, from = piece->offset + d->at_off, chunk = min_u64(rest, d->chunk);
	if (d->ahead > d->at_off) /* not beyond what was asked for: the rest is not there yet */
		chunk = min_u64(chunk, d->ahead - d->at_off);
	d->cold = !s->backend->cached(s->be, piece->fd, from, chunk) || !open_pipe(s);
	if (d->cold && d->ahead <= d->at_off) {
		d->ahead = d->at_off + min_u64(rest, SEND_AHEAD_BYTES);
		s->backend->prefetch(s->be, piece->fd, from, d->ahead - d->at_off);
	}
	int64_t n = d->cold ? 0 : s->backend->splice_now(s->be, piece->fd, from, s->sends.pipe[1], chunk, 0);
	if (n <= 0) { /* not in memory, a file system that cannot, or the end of the file: the read will tell */
		d->cold = true;
		gather(d);
		return;
	}
	int64_t r = pipe_to_socket(s, d, (uint64_t)n, (uint64_t)n < rest || d->at + 1 < d->count);
	if (r == -EAGAIN) {
		wait_for_room(d);
		return;
	}
	d->error = r;
	shard_defer(s, &d->deferred); /* the others' turn */
}

/* ---- the steps ---- */

static void next(struct send *d)
{
	while (d->at < d->count && d->pieces[d->at].len == d->at_off) {
		d->at++;
		d->at_off = 0;
	}
	if (d->at == d->count)
		finish(d, (int64_t)d->op->progress_bytes);
	else if (d->pieces[d->at].fd >= 0 && wants_splice(d, &d->pieces[d->at], d->at_off))
		splice_step(shard_current, d);
	else
		gather(d);
}

static void deferred_run(struct deferred *deferred)
{
	struct send *d = CONTAINER_OF(deferred, struct send, deferred);
	if (d->op->cancelled)
		finish(d, -ECANCELED);
	else if (d->error)
		finish(d, d->error);
	else
		next(d);
}

void send_begin(struct shard *s, struct io_op *op, const struct io_piece *pieces, size_t count)
{
	struct send *d = take_send(&s->sends);
	d->op = op;
	d->pieces = pieces;
	d->count = count;
	d->at = 0;
	d->at_off = 0;
	d->buffer = NULL;
	d->slot = SLOT_NONE;
	d->iov_count = d->part_count = d->parts_open = 0;
	d->error = 0;
	d->chunk = SEND_PIPE_BYTES;
	d->ahead = 0;
	d->cold = false;
	link_init(&d->deferred.link);
	d->deferred.run = deferred_run;
	link_init(&d->waiting);
	op->data = slice_of((const char *)d, 0);
	while (d->at < count && pieces[d->at].len == 0)
		d->at++;
	if (d->at == count || (pieces[d->at].fd >= 0 && wants_splice(d, &pieces[d->at], 0)))
		shard_defer(s, &d->deferred); /* done must not run inside io_send, nor many bytes move */
	else
		gather(d);
}

void send_cancel(struct shard *s, struct io_op *op)
{
	struct send *d = (struct send *)(uintptr_t)op->data.ptr;
	if (link_linked(&d->deferred.link))
		return;
	if (link_linked(&d->waiting)) {
		link_remove(&d->waiting);
		shard_defer(s, &d->deferred);
		return;
	}
	request_cancel(s, d->slot);
	for (unsigned i = 0; i < d->part_count && d->parts_open > 0; i++)
		request_cancel(s, d->part[i].slot);
}
