/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.h - reads a directory's logs and bodies through and compares every checksum.  For fsck and the scrubber.
 *
 * Knows no account in memory: where logs end is taken from the newest whole cut, and what lies behind the last whole commit
 * of the newest log is a tear at most, since its owner may be writing there.  Reads only.  Everything completes later.
 */
#ifndef PENFOLD_STORAGE_VERIFY_H
#define PENFOLD_STORAGE_VERIFY_H

#include "storage/format.h"
#include "storage/fsck.h"

struct verify_body { /* a body record that was found */
	uint32_t log, offset;
	bool good;
};

struct verify {
	int dir_fd;
	uint64_t account_id;
	bool skip_bodies;
	finding_fn each;
	void *arg;
	struct fsck_totals *totals;
	/* after every piece of bytes read: sleeps, or asks to stop (false). May be NULL. */
	bool (*pace)(void *arg, uint64_t bytes);
	/* bodies, ascending by log and offset, if `collect` */
	bool collect;
	struct verify_body *bodies;
	size_t body_count, body_cap;
	/* own */
	uint64_t salt;
	uint32_t log;
	int fd;
	bool stopped;
};

enum err verify_logs(struct verify *v);
void verify_release(struct verify *v);
/* Walks DATA/a: calls `each` for every account whose two-level folder begins with `bucket` (0 .. 65535), or all with VERIFY_ALL. */
#define VERIFY_ALL UINT32_MAX
enum err verify_walk(int data_dir_fd, uint32_t bucket, bool (*each)(void *arg, uint64_t account_id), void *arg);

#endif
