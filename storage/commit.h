/* SPDX-License-Identifier: Apache-2.0 */
/*
 * commit.h - group commit: how everything in an account is changed.
 *
 * For the room only.  A fiber describes what it wants in a `struct change` on its stack and calls commit_run.  Changes queue per
 * account; one fiber leads: it takes those that wait, lets each judge itself and add its records (build), writes them as one
 * commit in one gathered write, syncs, looks (fence.h), takes the heads into memory (apply_commit) and wakes the others.  What
 * arrives meanwhile joins the next commit.  One write is in flight per log; no body is copied on its way.
 *
 * A change that is refused by its own build fails alone.  A change that could not be begun by its deadline is refused
 * (ERR_TIMEOUT).  Once written, a change succeeds or fails with all of its commit: ERR_IO, ERR_FENCED (it may be found later,
 * whole), ERR_FULL (it will not).
 */
#ifndef PENFOLD_STORAGE_COMMIT_H
#define PENFOLD_STORAGE_COMMIT_H

#include "storage/account_private.h"

struct commit;

struct change {
	struct link link;
	/*
	 * Judges the change against memory and the plan, and adds records. Must not wait. Anything but OK: the change fails alone
	 * with it, and what it added to heads and data is taken back; it must undo its own marks in the plan itself, before
	 * it returns. ERR_AGAIN: not together with what is already in this commit; it will be the first of the next one.
	 * May run more than once (after a failed sync the same commit may be built again in a new log: not yet).
	 */
	enum err (*build)(struct change *c, struct account *a, struct commit *commit);
	bool alone;      /* shares its commit with no other change (folders, keywords, relocation) */
	bool later_sync; /* written before the answer, synced within flags_sync_ms (flags) */
	bool frees;      /* may use the reserve of a full disk */
	/* commit_run's own */
	struct fiber *fiber;
	uint64_t deadline_ms;
	bool done, lead;
	enum err result;
	uint64_t sequence; /* OK: of its commit */
};

/* Runs a change to its end. `build`, `alone`, `later_sync`, `frees` are the caller's, the rest is zero. Later. */
enum err commit_run(struct account *a, struct change *c);

/* ---- for build functions ---- */

/* The heads, for the ..._put functions; false from one of them = the commit is too large: return ERR_AGAIN or
 * ERR_LIMIT (if commit_empty). */
struct buf *commit_heads(struct commit *commit);
bool commit_empty(const struct commit *commit); /* no change before this one is in it */
uint64_t commit_sequence(const struct commit *commit);
/* Adds the body's record and bytes, once per commit and body. ERR_AGAIN: no more room for pieces. An external body
 * was linked before. */
enum err commit_body(struct commit *commit, const struct body *body);
/* Bytes of another file as the data of the body record that begins at `record_offset` of the heads (compaction). */
enum err commit_range(struct commit *commit, size_t record_offset, int fd, uint64_t offset, uint64_t bytes);
/* What appends before this one in the same commit add to the usage. */
struct commit_plan {
	uint64_t bytes, messages;
	bool expunges; /* one change that expunges is enough for a commit */
	bool literals; /* the same for literal UIDLs */
};
struct commit_plan *commit_plan(struct commit *commit);

/* ---- for the store ---- */

/* Syncs flags that were written but not yet synced. Later. */
enum err commit_flush(struct account *a);
/* Seals the owned log and lets it go: the account becomes ACCOUNT_SEALED. Nobody may be leading or queued. Later. */
enum err commit_seal(struct account *a, enum seal_reason reason);
/* Everything that was written is synced, or is not to be synced any more. Now. */
void commit_synced(struct account *a, struct account_live *live);
void commit_flags_timer(struct timer *t);
void commit_release_scratch(void);

#endif
