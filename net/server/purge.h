/* SPDX-License-Identifier: Apache-2.0 */
/*
 * purge.h - the running server deletes the mail of removed accounts that were marked for it.
 *
 * `account remove --purge` and `account purge` only mark while a server holds the data folder.  Shard 0 looks whenever the
 * directory has changed, and once a minute for what could not be deleted before (an account with sessions), and has
 * each account destroyed on the shard that owns it.  Both calls are for every shard, on a fiber, between directory_start
 * and directory_stop; only shard 0 acts.
 */
#ifndef PENFOLD_NET_SERVER_PURGE_H
#define PENFOLD_NET_SERVER_PURGE_H

void purge_start(void);
void purge_stop(void); /* waits for a deletion in progress. Later. */

#endif
