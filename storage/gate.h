/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gate.h - two processes of one node on one data folder, while the newer takes over from the older.
 *
 * For net/server, which replaces a running binary, and for account.c.  The fence alone would keep mail right (invariant 4), but each login here
 * would throw the other process's sessions out, and two POP3 sessions could have one maildrop (invariant 5).  So while there are two, each
 * claims an account before it reads it into memory and gives it back when it has sealed and forgotten it: an account is in one of the two
 * memories, or in none.  Who wants one that the other has waits for GATE_WAIT_MS_MAX, then hears ERR_TEMP: "please wait and try again".
 * A claim goes with its process, however that ends.
 *
 *   older    gate_open; gate_claim_here on each shard; the newer is started; gate_leave_here on each shard: from then on no account stays in
 *            memory without sessions.  Or gate_close: it did not come up, all is as before
 *   newer    gate_open before its shards start, gate_close when the older is gone
 *
 * With one process, as nearly always, all this costs a load where an account is read from disk.
 */
#ifndef PENFOLD_STORAGE_GATE_H
#define PENFOLD_STORAGE_GATE_H

#include "core/base/err.h"

/* On a fiber. ERR_IN_USE: it is open already. Later. */
enum err gate_open(const char *data_path);
/* On each shard behind gate_open: what is in memory. ERR_TEMP: somebody else has one of them. Now. */
enum err gate_claim_here(void);
void gate_leave_here(void);
void gate_close(void); /* any thread, now; harmless when closed */
/* Accounts in this shard's memory. Now. */
size_t gate_accounts_here(void);

/* ---- for the store ---- */

bool gate_is_open(void); /* any thread, now */
/* OK at once when closed. Later. */
enum err gate_take(uint64_t account_id);
void gate_give(uint64_t account_id); /* now */

#endif
