/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.h - a back end that wraps another and makes it misbehave within the rules of backend.h.
 *
 *     faults = (struct faults){ .seed = 1, .short_percent = 30, .retry_percent = 20 };
 *     struct shard_options o = { .backend = &faults_backend };
 *     shard_run_alone_with(&o, body, NULL);
 *
 * One plan per process; the shard's thread reads and writes it.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_FAULTS_H
#define PENFOLD_TESTS_UNIT_SUPPORT_FAULTS_H

#include "core/run/backend.h"

struct faults {
	const struct io_backend *inner; /* NULL = io_uring */
	uint64_t seed;
	unsigned short_percent;     /* reads, writes and sends take a part only */
	unsigned retry_percent;     /* -EINTR or -EAGAIN instead of being begun */
	unsigned late_percent;      /* the completion is kept until a later drain */
	unsigned duplicate_percent; /* the completion is reported again, later */
	/* the next `fail_after`-th request of this kind (0 = the first) completes with fail_error and is not begun */
	enum io_kind fail_kind;
	unsigned fail_after;
	int fail_error; /* negative; 0 = none planned; set to 0 when it has happened */
	unsigned begun[IO_KIND_COUNT]; /* counted */
	unsigned shortened, retried, delayed, duplicated;
};
extern struct faults faults;
extern const struct io_backend faults_backend;

#endif
