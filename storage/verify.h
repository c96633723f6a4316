/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.h - reads a directory's logs and bodies through and compares every checksum.  For fsck and the scrubber.
 *
 * Knows no account in memory: where logs end is taken from the newest whole cut, and what lies behind the last whole commit
 * of the newest log is a tear at most, since its owner may have died there.  Reads only.  Everything completes later.
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
	/* an owner is writing: of his newest log only what is below this end is read, of logs above it nothing; 0 = nobody is */
	uint32_t newest_log;
	uint64_t newest_end;
	/* the last seal that was read, and in which log; 0 = none */
	struct seal_fixed seal;
	uint32_t seal_log;
	/* own */
	uint64_t salt;
	uint32_t log;
	int fd;
	bool stopped;
};

enum err verify_logs(struct verify *v);
void verify_release(struct verify *v);
const struct verify_body *verify_body_at(const struct verify *v, uint32_t log, uint32_t offset); /* NULL: there is none */
/* Do two accounts in memory hold the same mail? UIDNEXT may be higher in `y`. What differs first, in *folder_out and *uid_out. Now. */
struct account;
bool verify_same(const struct account *x, const struct account *y, uint32_t *folder_out, uint32_t *uid_out);
/* Walks DATA/a: calls `each` for every account whose two-level folder begins with `bucket` (0 .. 65535), or all with VERIFY_ALL. */
#define VERIFY_ALL UINT32_MAX
enum err verify_walk(int data_dir_fd, uint32_t bucket, bool (*each)(void *arg, uint64_t account_id), void *arg);

#endif
