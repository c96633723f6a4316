/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log.h - reading a log: which of its commits count, and what is wrong with the rest.
 *
 * For recovery, fsck and the scrubber.  A scan goes through a log from one commit's boundary on and hands out, in order, every
 * commit that counts.  A commit counts if its header and heads are whole and
 *   - a later commit says that the log was synced behind it (or the log is cut behind it): its message bytes are then not
 *     read, damage among them is found by who reads the message or by the scrubber; or
 *   - it is in the unsynced tail, and its message bytes are whole too;
 * and no later commit disowns it by naming an earlier "previous end" (a write that did not come to its end).
 *
 * Ranges between that should hold commits and do not are *bad*: damage if a later commit says they had been synced, or if they reach
 * up to where the log was cut (its last commit was whole then), else a tear.
 * A range that the next commit's back link names is deliberate and not reported.
 *
 * Nothing is written, nothing kept.  All calls complete later.  ERR_IO is the only failure: the disk did not read.
 */
#ifndef PENFOLD_STORAGE_LOG_H
#define PENFOLD_STORAGE_LOG_H

#include "core/base/err.h"
#include "storage/format.h"

struct log_scan {
	int fd;
	uint32_t number;
	uint64_t salt;  /* 0: not known yet, the first commit tells */
	uint64_t from;  /* 0, or the end of a commit that counts */
	uint64_t limit; /* the log is cut here; UINT64_MAX: it is not */
	/* Heads are valid during the call and aligned to 8. May wait. May be NULL. */
	void (*commit)(void *arg, uint64_t offset, const struct commit_header *header, struct slice heads);
	/* Called after all commits. `uids`: so many may have been given in the range, at most. May be NULL. */
	void (*bad)(void *arg, uint64_t start, uint64_t end, uint64_t uids, bool damage);
	void *arg;
};

struct log_scan_result {
	uint64_t salt;
	uint64_t end;         /* of the last commit that counts; `from` if there is none behind it */
	uint64_t last_offset; /* of that commit, its header's hash and sequence; 0 if there is none */
	uint64_t last_hash, last_sequence;
	uint64_t commits;
	uint64_t torn_bytes, damaged_bytes;
	uint64_t bytes; /* of the file, as far as it was seen (below the limit) */
	bool sealed;    /* that commit holds a seal */
};
enum err log_scan(const struct log_scan *scan, struct log_scan_result *result_out);

/* What kind of file has a log's name: told by its first commit alone. */
enum log_file_kind {
	LOG_FILE_FENCE, /* no whole first commit with a cut: a fence and nothing else, or damaged */
	LOG_FILE_STUB,
	LOG_FILE_LOG
};
struct log_first {
	enum log_file_kind kind;
	uint64_t bytes; /* of the file; 0 = empty */
	uint64_t salt, sequence, account_id, take;
	uint8_t incarnation[16];
	bool unknown; /* needs features or records that this program does not know */
	uint64_t commit_bytes;
	uint32_t cut_count;
	struct cut_end *cut; /* xmalloc: the caller frees */
};
enum err log_first_read(int fd, uint32_t number, struct log_first *first_out);
void log_first_release(struct log_first *first);

#endif
