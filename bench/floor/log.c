/* SPDX-License-Identifier: Apache-2.0 */
/* log: see log.h. */
#include "bench/floor/log.h"

#include <err.h>
#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include "bench/floor/ring.h"

void log_open(struct log *l, const char *path, uint64_t write_data, uint64_t sync_data)
{
	*l = (struct log){.write_data = write_data, .sync_data = sync_data};
	l->waiting_end = &l->waiting;
	l->fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
	if (l->fd < 0)
		err(2, "%s", path);
	unlink(path); /* nobody reads it; gone with the process */
}

static void commit(struct log *l, struct io_uring *ring)
{
	struct io_uring_sqe *sqe;
	uint64_t bytes = 0;

	l->batch = l->waiting;
	l->in_batch = 0;
	while (l->waiting && l->in_batch < LOG_BATCH_MAX) {
		struct log_wait *w = l->waiting;

		l->piece[l->in_batch++] = (struct iovec){.iov_base = (void *)(uintptr_t)w->data, .iov_len = w->bytes};
		bytes += w->bytes;
		l->waiting = w->next;
		if (!l->waiting || l->in_batch == LOG_BATCH_MAX)
			w->next = NULL;
	}
	if (!l->waiting)
		l->waiting_end = &l->waiting;
	if (l->offset > LOG_BYTES_MAX) {
		if (ftruncate(l->fd, 0) < 0)
			err(2, "log");
		l->offset = 0;
	}
	sqe = ring_sqe(ring);
	io_uring_prep_writev(sqe, l->fd, l->piece, l->in_batch, l->offset);
	sqe->flags |= IOSQE_IO_LINK;
	sqe->user_data = l->write_data;
	sqe = ring_sqe(ring);
	io_uring_prep_fsync(sqe, l->fd, IORING_FSYNC_DATASYNC);
	sqe->user_data = l->sync_data;
	l->offset += bytes;
}

void log_append(struct log *l, struct io_uring *ring, struct log_wait *w)
{
	w->next = NULL;
	*l->waiting_end = w;
	l->waiting_end = &w->next;
	if (!l->batch)
		commit(l, ring);
}

struct log_wait *log_synced(struct log *l, struct io_uring *ring)
{
	struct log_wait *done = l->batch;

	l->batch = NULL;
	if (l->waiting)
		commit(l, ring);
	return done;
}
