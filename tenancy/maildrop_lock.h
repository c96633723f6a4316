/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildrop_lock.h - one POP3 session holds a maildrop (invariant 5).
 *
 * Called on the shard that owns the account.  With one node the table lives in this process's memory; with Redis the same
 * calls take ownership and lock together, so they are "later" and may fail.  A second taker is refused at once, never
 * queued.  The holder's token is compared at release, so a late release cannot free somebody else's lock.
 *
 * A half-open session of the same client must not lock its user out: a taker that comes from the same address as the
 * holder makes the holder prove that it is alive (`probe`, given by the holder); if its connection is gone the lock passes.
 * The last login time per account, for LOGIN-DELAY, is kept here too, bounded; it forgets rather than keeps anybody out.
 *
 * The maildrop of an SDPS host is seen whole by the host-wide login and in part by each of its users (subject.sdps_user): a
 * lock without a user excludes every other of its account, one with a user excludes those without and those of the same user, so
 * that exactly those exclude each other who would see the same message.
 *
 * A lock is zeroed at birth, lies in its session, and must not move while it is held.
 */
#ifndef PENFOLD_TENANCY_MAILDROP_LOCK_H
#define PENFOLD_TENANCY_MAILDROP_LOCK_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/list.h"

struct maildrop_lock {
	uint64_t account_id;
	struct slice user;           /* of an SDPS host's maildrop, folded; empty = all of it. Set before maildrop_lock, valid while held */
	uint64_t token;
	int64_t since_wall_s;
	void *hold;                  /* of who owns accounts in a fleet (net/fleet); NULL without one */
	char peer[48];               /* address of the client without port, cut if longer (a unix path) */
	/* Asked of the holder, on its shard: is your client still there? Now. May be NULL (always). False = dead: the lock passes and
	 * the holder's maildrop_unlock becomes a no-op; the callee must end its session without update. */
	bool (*probe)(struct maildrop_lock *lock);
	struct link link;
	struct maildrop_lock *chain_next;
	bool held;
};

/* Takes the lock for this session, embedded in it. OK, ERR_IN_USE (held by another), ERR_BUSY (LOGIN-DELAY: too soon; nothing taken),
 * ERR_TEMP (cannot be decided now, or LOCK_USERS_MAX users of the host are there). Each user has its own LOGIN-DELAY. Later. */
enum err maildrop_lock(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s);
/* Harmless when not held. Now. */
void maildrop_unlock(struct maildrop_lock *lock);

enum err maildrop_lock_start(void); /* per shard */
void maildrop_lock_stop(void);
/* Walks the locks of this shard, oldest first, from *cursor_io = NULL; false at the end. For who/lock list. Now. */
bool maildrop_lock_next(struct maildrop_lock **cursor_io);

#endif
