/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log: the cheapest durable append there is, for floor's LMTP.
 *
 * A log is one file with at most one commit in flight: one gathered write of
 * all messages that wait, linked to one fdatasync. Messages that come meanwhile
 * wait for the next commit. So one log shared by everybody is group commit at
 * its best; as many logs as there are mailboxes is what a store with a file per
 * account can reach. A log starts afresh at LOG_BYTES_MAX, as a real one seals.
 *
 * Everything completes later: log_append() queues, log_synced() is called by
 * the loop when the sync's completion has come and hands the waiters back.
 */
#ifndef BENCH_FLOOR_LOG_H
#define BENCH_FLOOR_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define LOG_BYTES_MAX (64u << 20)
#define LOG_BATCH_MAX 256 /* messages in one commit; io_uring copies the vector, UIO_MAXIOV is 1024 */

struct io_uring;

/* A delivery that waits: embedded in the connection. */
struct log_wait {
	struct log_wait *next;
	const char *data;
	size_t bytes;
};

struct log {
	int fd;
	unsigned in_batch;
	uint64_t offset;
	uint64_t write_data;      /* user_data of the two operations, given by the loop */
	uint64_t sync_data;
	struct log_wait *waiting; /* oldest first */
	struct log_wait **waiting_end;
	struct log_wait *batch;   /* in flight */
	struct iovec piece[LOG_BATCH_MAX];
};

void log_open(struct log *l, const char *path, uint64_t write_data, uint64_t sync_data);
void log_append(struct log *l, struct io_uring *ring, struct log_wait *w);

/* The commit in flight is durable: returns its messages; the next one starts. */
struct log_wait *log_synced(struct log *l, struct io_uring *ring);

#endif
