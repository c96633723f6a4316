/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner.h - where an account lives, and holding it there: what protocols call instead of account_open and maildrop_lock.
 *
 * Many nodes may serve one fleet; each account has one owner at a time, and all its sessions run there (invariants 4 and 5).  Who wants an
 * account asks here, on the shard that has it (store_shard_of), and hears one of three things:
 *
 *   WHERE_HERE   it is ours: the account is open, the maildrop locked.  Or it is ours and the answer is no all the same (`err`: IN-USE,
 *                LOGIN-DELAY, the store's errors)
 *   WHERE_AT     another node owns it and is alive: `at` names the node, the incarnation that was seen, and where it can be reached.  Who
 *                can pass the session on does so, and names that incarnation; the owner decides everything else, IN-USE too, and never
 *                passes it on again.  Who cannot tells the client `err`: ERR_IN_USE if a POP3 session there excludes this one, else ERR_TEMP
 *   WHERE_WAIT   cannot be decided now (Redis is down, a master is new, our lease has lapsed): ERR_TEMP, and never IN-USE
 *
 * Without Redis, and with placement `home` on the home itself, the answer is always HERE and nothing is asked of anybody.
 *
 * A hold keeps the account with us while it lasts.  Accounts without holds are let go after a while, or soon when another node asks for
 * them: their log is sealed, then the name of the owner goes from Redis.  A hold may be ended from here: the maildrop's at the lease's
 * deadline (DESIGN section 5: POP3 sessions end without update), all when the account is lost to another node.  `end` is then called
 * on the hold's shard, once, and must not wait; the session leaves as usual.
 *
 * The rules, and why they suffice, stand at the head of owner.c; the node's lease is lease.c's.  The keys in Redis (one hash tag an account):
 *
 *   pf:n:{NODE}     string "INCARNATION ADDRESS", expires with the lease.  ADDRESS is `peer.address`, or "-"
 *   pf:a:{ACCOUNT}  hash.  own: "NODE/INCARNATION/TAKE"; gen: number of the newest log that the owner has told;
 *                   pop: "TOKEN SINCE PEER" of the session that holds the maildrop (SINCE: seconds since 1970; PEER: its address), with
 *                   an SDPS host's user pop:LOCALPART
 *   pf:nodes        hash of the nodes, for operators (nodes.h)
 *   pf:w:{NODE}     list of accounts that others want this node to let go
 *   pf:m            hash.  run: the master's run id; at: when the fleet first saw it (Redis's TIME, ms).  In a Redis Cluster pf:m:{N} for
 *                   each master, N being any number whose slot it has
 */
#ifndef PENFOLD_NET_FLEET_OWNER_H
#define PENFOLD_NET_FLEET_OWNER_H

#include "core/base/addr.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "core/base/list.h"
#include "storage/store.h"
#include "tenancy/maildrop_lock.h"

enum where { WHERE_HERE, WHERE_AT, WHERE_WAIT };

struct owner_place {
	char node[FLEET_NODE_BYTES_MAX + 1];
	char incarnation[FLEET_INCARNATION_BYTES + 1];
	char address[ADDR_TEXT_BYTES]; /* as addr_parse takes it; empty: it cannot be reached */
};

struct owner_answer {
	enum where where;
	enum err err; /* for the client, unless its session is passed on; OK: HERE, and it is held */
	bool too_soon; /* ERR_BUSY is LOGIN-DELAY */
	struct owner_place at;
};

enum owner_end {
	OWNER_END_LAPSED, /* the node's lease: no update, nothing is acknowledged any more */
	OWNER_END_LOST,   /* another node has the account */
	OWNER_END_BROKEN  /* the operator broke the lock */
};

struct owner;
/* In whoever holds; zeroed at birth, does not move. */
struct owner_hold {
	struct link link;
	struct owner *owner; /* NULL: holds nothing, or nothing need be held */
	void (*end)(struct owner_hold *hold, enum owner_end why);
	bool maildrop; /* owner.c's own: it stands beside a lock */
};

/* Takes the account if need be, and opens it. answer_out->err is what account_open and the fleet say; OK: *account_out is open. Later. */
enum err owner_open(uint64_t account_id, struct owner_hold *hold, struct account **account_out, struct owner_answer *answer_out);
/* Now. */
void owner_close(struct owner_hold *hold, struct account *account);

/* As owner_open with maildrop_lock before it, in one step: see there for lock, peer and delay. `end` may be NULL where there is nothing to
 * be told. A lock that could not be had leaves nothing held. Later. */
enum err owner_open_maildrop(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s,
			     void (*end)(struct maildrop_lock *lock, enum owner_end why), struct account **account_out,
			     struct owner_answer *answer_out);
/* Closes (account may be NULL), unlocks, lets go of the hold. Harmless on a lock that is not held. Now. */
void owner_close_maildrop(struct maildrop_lock *lock, struct account *account);

/* May this session still acknowledge? Reads the clock. To be asked before an UPDATE, and again after its sync (invariant 5). Now. */
bool owner_in_time(const struct maildrop_lock *lock);

/* Past the lease's deadline a session that is not of the maildrop goes on under the fence alone: it must account_confirm before each answer that
 * shows anything (a commit looks by itself). Reads the clock. Now. */
bool owner_must_confirm(const struct owner_hold *hold);

/* The store found another owner (ERR_FENCED, also of a commit): Redis is asked before anybody here tries again. Now. */
void owner_fenced(uint64_t account_id);

/* Another node, or the operator, wants it: let go as soon as nobody holds it. On its shard. Now. */
void owner_wanted(uint64_t account_id);

/* The owner that was seen takes no session from us: it is asked to let the account go when nobody is there. On the account's shard. Later. */
void owner_ask_for(const struct owner_place *at, uint64_t account_id);

/* account_destroy, for an account that is nobody else's; ERR_TEMP: it is, or that cannot be told now. Later. */
enum err owner_destroy(uint64_t account_id);

/* ---- for the operator's tools; on a shard, for its accounts ---- */

struct owner_info {
	uint64_t account_id;
	uint32_t holds;
	uint64_t take;
	bool current; /* of the present incarnation; false: under the fence alone */
};
/* Walks, oldest first, from *cursor_io = 0; false at the end. Now. */
bool owner_next(uint64_t *cursor_io, struct owner_info *info_out);

#endif
