/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h - reads an account from its logs: where each ends, what counts, what is wrong.
 *
 * For account loads.  Opens every log by number, highest first, finds out where they end (fence.h F5), fills a->logs, takes the
 * state file or else everything from the first log on into memory by apply_commit, and notes bad ranges in a->repairs, with
 * every folder's UIDNEXT raised by what may have been given in them.  Writes nothing.
 *
 * Names.  Absent at open: a stub that was unlinked.  A log that the newest whole cut gives an end above 0 and that is not
 * there is damage only if a lower such log still is: stubs are unlinked lowest first.  An empty file with an end above 0 is
 * damage.  Empty logs and stubs at the low end are the leaving of somebody who slept: sweep.h unlinks them.
 *
 * Completes later.  ERR_IO: the disk did not read; memory is then to be forgotten.  Damage is no error.
 */
#ifndef PENFOLD_STORAGE_RECOVER_H
#define PENFOLD_STORAGE_RECOVER_H

#include "storage/account_private.h"
#include "storage/fence.h"

/* Of the logs below number `below` in the listing. `sync`: what is read must be durable: we are about to cut it
 * (F5), or the store is shared and its owner may not have synced it yet. */
enum err recover_run(struct account *a, int dir_fd, const struct fence_names *names, uint32_t below, bool sync);

/* Is the newest log whole and sealed, by its last commit? Reads the end of the file only. *fd_out is open (or -1 on
 * an error). */
enum err recover_peek_sealed(int dir_fd, uint32_t number, bool *sealed_out, int *fd_out);

/* The records of a->repairs, for the first commit after the load; false: the buffer is full. */
bool recover_put_repairs(const struct account *a, struct buf *heads);

/* What a cut written now would say, newest first; the caller frees. */
struct cut_end *recover_ends(const struct account *a, uint32_t *count_out);

#endif
