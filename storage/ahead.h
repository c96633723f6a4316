/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ahead.h - records of a log read in pieces, for walks over many messages (SEARCH, SORT, FETCH of envelopes).
 *
 * For the room only.  A read costs the kernel more than copying some kilobytes does, and a folder's messages mostly lie in a log in
 * their order.  So the second look into a log shortly behind the first reads a piece of it, and those that follow find their records
 * there.  What is read lies below the log's last applied commit: it never changes (invariant 3), so a piece is never stale.  It is found by the
 * descriptor's serial number, which is never used again.
 *
 * AHEAD_WALKS_MAX pieces a shard, the last used stay.  For fibers of the account's shard.
 */
#ifndef PENFOLD_STORAGE_AHEAD_H
#define PENFOLD_STORAGE_AHEAD_H

#include "storage/source.h"

void ahead_start(void);
void ahead_stop(void);

/* A body's record and its message's behind it: copies both into the window, which must be empty. False: they are to be read alone. Later. */
bool ahead_take(const struct account *a, const struct source_file *file, uint32_t log, uint64_t body_offset, uint64_t record_offset,
                struct window *window);

#endif
