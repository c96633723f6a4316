/* SPDX-License-Identifier: Apache-2.0 */
/*
 * maildrop_lock.c - the lock table of one shard, in memory, and the last logins for LOGIN-DELAY.
 *
 * An account's calls all come on the shard that owns it, so the tables are the shard's and have no locks.  The locks lie
 * in the sessions that hold them: the table only links them, by account in chains that grow with their number, and all
 * of them in one list, oldest first, for whoever lists them.  Those of one account, of which only an SDPS host's maildrop has
 * several, are in one chain.
 *
 * Last logins are kept in a fixed block of sets: a full set forgets the oldest, which lets somebody in too early and
 * never keeps anybody out.
 */
#include "tenancy/maildrop_lock.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/shard.h"

#include <stdlib.h>

#define CHAINS_MIN 64
#define DELAY_WAYS 4
#define DELAY_SETS (LOCK_DELAY_ENTRIES / DELAY_WAYS)
static_assert_c((DELAY_SETS & (DELAY_SETS - 1)) == 0, "a power of two");

struct last_login {
	uint64_t account_id; /* 0 = free */
	uint64_t user;       /* hash of it: who knows how to make two meet delays a user of his own host */
	uint64_t at_ms;
};

struct locks {
	struct list held; /* oldest first */
	struct maildrop_lock **chains;
	size_t mask, count;
	uint64_t last_token;
	struct last_login *logins; /* DELAY_SETS * DELAY_WAYS, made at first need */
};

static struct locks *locks_here(void)
{
	struct locks *l = shard_local(SHARD_SLOT_TENANCY);
	ASSERT(l);
	return l;
}

/* Ids are given out by us, in order: a multiplication spreads them. */
static size_t spread(uint64_t account_id, size_t mask)
{
	return (size_t)((account_id * 0x9E3779B97F4A7C15u) >> 32) & mask;
}

/* ---- the table ---- */

static void chain(struct maildrop_lock **chains, size_t mask, struct maildrop_lock *lock)
{
	struct maildrop_lock **head = &chains[spread(lock->account_id, mask)];
	lock->chain_next = *head;
	*head = lock;
}

static void grow(struct locks *l)
{
	size_t mask = l->mask * 2 + 1;
	struct maildrop_lock **chains = xcalloc(mask + 1, sizeof(struct maildrop_lock *));
	LIST_FOREACH(&l->held, it)
		chain(chains, mask, CONTAINER_OF(it, struct maildrop_lock, link));
	free(l->chains);
	l->chains = chains;
	l->mask = mask;
}

/* Would both see the same message? */
static bool excludes(const struct maildrop_lock *held, uint64_t account_id, struct slice user)
{
	return held->account_id == account_id && (!held->user.len || !user.len || slice_eq(held->user, user));
}

/* One who excludes the taker, or NULL; counts the account's locks on the way. */
static struct maildrop_lock *holder_of(struct locks *l, const struct maildrop_lock *taker, uint32_t *others_out)
{
	struct maildrop_lock *lock = l->chains[spread(taker->account_id, l->mask)];
	for (*others_out = 0; lock && !excludes(lock, taker->account_id, taker->user); lock = lock->chain_next)
		*others_out += lock->account_id == taker->account_id;
	return lock;
}

static void enter(struct locks *l, struct maildrop_lock *lock)
{
	if (l->count > l->mask)
		grow(l);
	chain(l->chains, l->mask, lock);
	list_push_back(&l->held, &lock->link);
	l->count++;
}

static void leave(struct locks *l, struct maildrop_lock *lock)
{
	struct maildrop_lock **at = &l->chains[spread(lock->account_id, l->mask)];
	while (*at != lock) {
		ASSERT(*at);
		at = &(*at)->chain_next;
	}
	*at = lock->chain_next;
	lock->chain_next = NULL;
	link_remove(&lock->link);
	lock->held = false;
	lock->token = 0;
	l->count--;
}

/* ---- LOGIN-DELAY ---- */

static struct last_login *logins_of(struct locks *l, uint64_t account_id, uint64_t user)
{
	return &l->logins[spread(account_id ^ user, DELAY_SETS - 1) * DELAY_WAYS];
}

static uint64_t user_hash(const struct maildrop_lock *lock)
{
	return lock->user.len ? hash64(lock->user, lock->account_id) : 0;
}

static bool too_soon(struct locks *l, const struct maildrop_lock *lock, uint32_t delay_s)
{
	if (!delay_s || !l->logins)
		return false;
	uint64_t user = user_hash(lock);
	struct last_login *set = logins_of(l, lock->account_id, user);
	for (size_t i = 0; i < DELAY_WAYS; i++)
		if (set[i].account_id == lock->account_id && set[i].user == user)
			return clock_now_ms() < set[i].at_ms + (uint64_t)delay_s * 1000;
	return false;
}

static void remember_login(struct locks *l, const struct maildrop_lock *lock)
{
	if (!l->logins)
		l->logins = xcalloc(LOCK_DELAY_ENTRIES, sizeof(struct last_login));
	uint64_t user = user_hash(lock);
	struct last_login *set = logins_of(l, lock->account_id, user), *into = &set[0];
	for (size_t i = 0; i < DELAY_WAYS; i++) {
		if (set[i].account_id == lock->account_id && set[i].user == user) {
			into = &set[i];
			break;
		}
		if (set[i].at_ms < into->at_ms)
			into = &set[i];
	}
	*into = (struct last_login){ lock->account_id, user, clock_now_ms() };
}

/* ---- the face ---- */

/* A session whose client is gone, found by a taker from the same address (DESIGN: a half-open session must not lock its user out). */
static bool passes_over(struct maildrop_lock *holder, struct slice peer)
{
	return holder->probe && peer.len && slice_eq(peer, slice_str(holder->peer)) && !holder->probe(holder);
}

enum err maildrop_lock(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s)
{
	struct locks *l = locks_here();
	ASSERT(!lock->held && account_id);
	peer = slice_upto(peer, sizeof(lock->peer) - 1);
	lock->account_id = account_id;
	struct maildrop_lock *holder;
	uint32_t others = 0;
	bool passed = false;
	for (; (holder = holder_of(l, lock, &others)) != NULL; passed = true) {
		/* invariant 5: at once, never queued */
		if (!passes_over(holder, peer))
			return ERR_IN_USE;
		leave(l, holder);
	}
	if (others >= LOCK_USERS_MAX)
		return ERR_TEMP;
	/* A client that lost its connection and comes back is not polling too often. */
	if (!passed && too_soon(l, lock, login_delay_s))
		return ERR_BUSY;
	lock->token = ++l->last_token;
	lock->since_wall_s = clock_wall_s();
	memset(lock->peer, 0, sizeof(lock->peer));
	if (peer.len)
		memcpy(lock->peer, peer.ptr, peer.len);
	lock->held = true;
	link_init(&lock->link);
	enter(l, lock);
	if (login_delay_s)
		remember_login(l, lock);
	return OK;
}

void maildrop_unlock(struct maildrop_lock *lock)
{
	if (lock->held)
		leave(locks_here(), lock);
}

enum err maildrop_lock_start(void)
{
	struct locks *l = xcalloc(1, sizeof(*l));
	list_init(&l->held);
	l->mask = CHAINS_MIN - 1;
	l->chains = xcalloc(CHAINS_MIN, sizeof(struct maildrop_lock *));
	/* Tokens of another life of this process are not ours. */
	random_bytes(&l->last_token, sizeof(l->last_token) / 2);
	shard_set_local(SHARD_SLOT_TENANCY, l);
	return OK;
}

void maildrop_lock_stop(void)
{
	struct locks *l = shard_local(SHARD_SLOT_TENANCY);
	if (!l)
		return;
	LIST_FOREACH(&l->held, it)
		leave(l, CONTAINER_OF(it, struct maildrop_lock, link));
	free(l->chains);
	free(l->logins);
	free(l);
	shard_set_local(SHARD_SLOT_TENANCY, NULL);
}

bool maildrop_lock_next(struct maildrop_lock **cursor_io)
{
	struct locks *l = locks_here();
	struct link *next = *cursor_io ? (*cursor_io)->link.next : l->held.head.next;
	*cursor_io = next == &l->held.head ? NULL : CONTAINER_OF(next, struct maildrop_lock, link);
	return *cursor_io != NULL;
}
