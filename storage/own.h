/* SPDX-License-Identifier: Apache-2.0 */
/*
 * own.h - coming to own an account, going on to its next log, and letting it go.
 *
 * For account loads and the commit path, which call these one at a time for an account.  Each follows fence.h step by step.
 * ERR_FENCED: somebody else has it; the account is ACCOUNT_LOST and memory must be dropped.  All complete later.
 */
#ifndef PENFOLD_STORAGE_OWN_H
#define PENFOLD_STORAGE_OWN_H

#include "storage/account_private.h"

/*
 * Fills a fresh account from disk.  Sealed: it is read, no log is made (F11).  Else it is taken over: a new log, a cut, and the
 * sequence skips SEQUENCE_SKIP.  One that does not exist has an empty INBOX in memory and nothing on disk until its first commit, which makes INBOX.  If no log can be made (the disk
 * is full or fails) and the data folder is ours alone, it is served read-only.
 */
enum err own_load(struct account *a);

/* The first change of a sealed account: takes it, if nobody has since it was read. */
enum err own_take(struct account *a, struct account_live *live);

/* Goes on in the next log. The owned one ends, for good, at `end`. `flags`: CUT_... ERR_IO, ERR_FULL: the account
 * has become read-only. */
enum err own_roll(struct account *a, struct account_live *live, uint64_t end, uint32_t flags);

/* Seals the owned log: the last commit. It is then sealed (ACCOUNT_SEALED) unless another log is made at once by
 * own_roll. */
enum err own_seal(struct account *a, struct account_live *live, enum seal_reason reason);

/* Opens the owned log again after descriptors were given up (F10: only if it is the file that we made). */
enum err own_reopen(struct account *a, struct account_live *live);

/* The account is somebody else's, or memory cannot be trusted. Now. */
void own_lost(struct account *a, const char *why);

#endif
