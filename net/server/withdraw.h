/* SPDX-License-Identifier: Apache-2.0 */
/*
 * withdraw.h - sessions whose account may not be here any more are ended.
 *
 * Whatever changes the directory, the command line or somebody's hand in the database, its poll notices; then the accounts of all
 * open sessions are looked up afresh, and these end: of accounts and tenants that were suspended or removed, of protocols
 * that were taken away, and, where the tenant asks for it (end_on_password_change), of an older password.  Each protocol has its words
 * (session_withdrawn); POP3 ends without update.
 *
 * One fiber of shard 0 does it, and the look-ups are jobs of DIRECTORY_STANDINGS_MAX accounts each: no session waits for any of it.
 * A session that moved between shards while they were gone through is found by the second round a second later; one that is busy ends at its
 * next line, and is cut off after WITHDRAW_GRACE_MS.  A login that was being proved is looked at again by auth itself.
 *
 * While the directory cannot be asked nobody is ended; the round is taken up again.
 */
#ifndef PENFOLD_NET_SERVER_WITHDRAW_H
#define PENFOLD_NET_SERVER_WITHDRAW_H

/* On each shard, on a fiber; after the listeners started, and before they stop. */
void withdraw_start(void);
void withdraw_stop(void);

#endif
