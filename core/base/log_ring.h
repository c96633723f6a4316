/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_ring.h - log lines wait in memory for a thread that may block, so that no shard does (invariant 8).
 *
 * A bounded queue of lines between the threads that log and one that writes.  Floor 0 has no threads: whoever starts the
 * process gives one, which does this until told to stop:
 *
 *     log_set_sink(log_ring_sink, ring);
 *     for (;;) {
 *             sem_wait(&sem);                       // wake() posts it: lines have come
 *             nanosleep(5 ms);                      // more of the burst
 *             log_ring_drain(ring, fd);
 *             if (stop) break;
 *     }
 *     log_set_sink(NULL, NULL);  log_ring_drain(ring, fd);  log_ring_close(ring);   // when nobody else logs any more
 *
 * Logging into the ring is wait-free but for retries among threads that log in the same moment; a line that finds the ring
 * full is dropped and counted (log_dropped), and the next drain says how many.  Lines of one thread stay in order.  Lines
 * are at most LOG_LINE_BYTES_MAX; memory is that much a line, all of it owned by the ring.
 *
 * Completes now, but for log_ring_drain, which blocks as its descriptor does.
 */
#ifndef PENFOLD_CORE_BASE_LOG_RING_H
#define PENFOLD_CORE_BASE_LOG_RING_H

#include "core/base/log.h"

#ifdef __cplusplus
extern "C" {
#endif

struct log_ring;

/* `lines` is rounded up to a power of two.  wake(arg) is called by a thread that logs, once for all lines that come before
 * the next drain; it must not block or log. */
struct log_ring *log_ring_open(size_t lines, void (*wake)(void *arg), void *arg);
void log_ring_close(struct log_ring *r); /* what is still in it is lost */

/* For log_set_sink; `ring` is the struct log_ring.  False: full. */
bool log_ring_sink(void *ring, enum log_level level, struct slice line);

/* Writes out what is there, many lines a system call, and a line of its own when lines were dropped since the last time.
 * Returns how many lines it took out.  May be called by any thread, by several too: a dying process empties it so. */
size_t log_ring_drain(struct log_ring *r, int fd);

#ifdef __cplusplus
}
#endif
#endif
