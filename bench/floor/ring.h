/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ring: what the loop and the log share of one thread's io_uring.
 *
 * ring_sqe() never fails: a full queue is submitted first. A chain of linked
 * entries must not be cut by that submit, so a chain asks for ring_room() first.
 */
#ifndef BENCH_FLOOR_RING_H
#define BENCH_FLOOR_RING_H

struct io_uring;
struct io_uring_sqe;

struct io_uring_sqe *ring_sqe(struct io_uring *ring);
void ring_room(struct io_uring *ring, unsigned entries);

#endif
