/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fleet_private.h - the inside of net/fleet, for this folder only.
 *
 *     fleet.c     what the process has: settings, name, incarnation, the file that proves a predecessor dead
 *     lease.c     the lease, and which master of Redis is believed: where restarts and failovers are decided
 *     script.c    the scripts, which are the protocol between nodes
 *     nodes.c     the other nodes, for operators' questions
 *     owner.c     a shard's registry of accounts: who holds what; the rules
 *     take.c      the registry's words with Redis: take, claim, fields, release
 *
 * What the whole process shares lies in struct fleet: numbers are atomic, texts are behind its lock.  What belongs to an
 * account lies in struct owner, on the account's shard.
 */
#ifndef PENFOLD_NET_FLEET_FLEET_PRIVATE_H
#define PENFOLD_NET_FLEET_FLEET_PRIVATE_H

#include "core/base/table.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/fleet/owner.h"

#include <pthread.h>

/* ---- the process ---- */

/* "NODE/INCARNATION/TAKE" */
#define FLEET_OWN_BYTES (FLEET_NODE_BYTES_MAX + 1 + FLEET_INCARNATION_BYTES + 1 + 20 + 1)
#define FLEET_KEY_BYTES (8 + FLEET_NODE_BYTES_MAX + 2)

struct fleet_master {
	char run_id[REDIS_RUN_ID_BYTES + 1];
	uint64_t wait_until_ns; /* nothing is taken there before */
	bool claimed;           /* all shards have claimed there what they hold */
};

struct fleet {
	bool on;
	struct fleet_config config;
	struct fleet_master masters[FLEET_MASTERS_MAX];
	unsigned master_count, master_next;
	pthread_mutex_t lock; /* of masters and incarnation */
	char incarnation[FLEET_INCARNATION_BYTES + 1];
	uint64_t epoch;       /* atomic: which incarnation of this process; 0: none now */
	uint64_t epochs;      /* lease.c's: given out */
	uint64_t deadline_ns; /* atomic: CLOCK_BOOTTIME until which we may say that the lease is ours */
	uint64_t takes;       /* atomic: given out */
	unsigned shards_here; /* atomic: started and not stopped */
	int lock_fd;          /* the node's file */
	char dead[FLEET_INCARNATION_BYTES + 1]; /* of a predecessor that is proved dead, or empty */
	struct slice lease_key; /* "pf:n:{NODE}" */
	char lease_key_text[FLEET_KEY_BYTES + 1], wish_key_text[FLEET_KEY_BYTES + 1];
};
extern struct fleet fleet;

/* The present incarnation; false: there is none. Any thread. */
bool fleet_incarnation(char out[FLEET_INCARNATION_BYTES + 1], uint64_t *epoch_out);
static inline uint64_t fleet_epoch(void) { return __atomic_load_n(&fleet.epoch, __ATOMIC_SEQ_CST); }
/* Reads the clock: what was cached may be from before a pause. */
static inline bool fleet_in_time(void) { return clock_fresh_ns() < __atomic_load_n(&fleet.deadline_ns, __ATOMIC_SEQ_CST); }
/* Is this the master where we last claimed, and is its wait over? */
bool fleet_may_take_at(const char *run_id);
/* Writes into the node's file who we are about to be. Later. */
void fleet_note_incarnation(const char *incarnation);

/* ---- scripts ---- */

extern struct redis_script script_see, script_acquire, script_renew, script_drop, script_take, script_claim, script_field, script_release, script_forget,
	script_wishes;
extern const struct redis_script *const fleet_scripts[];
extern const unsigned fleet_script_count;

/* ---- lease.c, on shard 0 ---- */

void lease_start(struct redis *link);
void lease_stop(void);    /* later */
void lease_give_up(struct redis *link); /* the last word of a node that stops. Later. */
void lease_look(void);    /* soon: something is not as it was believed. Any shard. */

/* ---- nodes.c ---- */

void nodes_tell(struct redis *link);                      /* we are here. Now. */
void nodes_untell(struct redis *link, const char *node);  /* that one is not. Later. */

/* ---- a shard's registry ---- */

enum owner_state {
	OWNER_TAKING,     /* somebody asks Redis; wait on changed */
	OWNER_OURS,
	OWNER_LETTING_GO, /* being sealed and released; wait on changed */
};

struct owner {
	struct table_node node; /* key: account_id */
	uint64_t account_id;
	uint64_t epoch, take;   /* under which it is ours; 0: Redis must be asked before it is used */
	struct list holds;
	struct link idle;       /* in owners.idle while nobody holds it */
	struct waitq changed;
	uint64_t idle_since_ms;
	uint32_t hold_count;
	uint32_t newest_seen, newest_told; /* number of the newest log: in Redis when it was taken; told since */
	uint8_t state;
	bool wanted;
};

/* A maildrop's hold, beside its lock. */
struct maildrop_hold {
	struct owner_hold hold;
	struct maildrop_lock *lock;
	uint64_t epoch; /* the incarnation under which it was locked: another one proves nothing for it */
	void (*end)(struct maildrop_lock *lock, enum owner_end why);
};

struct owners {
	struct redis *link;
	struct table accounts;
	struct list idle; /* longest idle first */
	struct timer tick;
	uint64_t epoch_seen;
	uint32_t letting_go; /* fibers at it */
	uint32_t claiming;   /* shard 0's calls that are here */
	bool lapsed;         /* sessions were ended since we were last in time */
	bool stopping;
	struct waitq done;
};
static inline struct owners *owners_here(void) { return shard_local(SHARD_SLOT_FLEET); }

enum err owners_start(struct redis *link);
void owners_stop(void); /* later */

struct maildrop_hold *owner_maildrop_of(struct owner_hold *hold); /* NULL: not one */
/* All sessions on it are told to go. Now. */
void owner_end_all(struct owner *o, enum owner_end why);

/* ---- take.c ---- */

/* "pf:a:{ID}"; returns its length. */
size_t owner_key(uint64_t account_id, char out[FLEET_KEY_BYTES + 1]);

/* What a POP3 session would have in the hash. */
struct pop_field {
	char name[4 + 260];
	char value[96];
};
void pop_field_fill(struct pop_field *f, const struct maildrop_lock *lock, struct slice peer);

/* Asks Redis for an account in state OWNER_TAKING. HERE: epoch, take and newest_seen are set. Later. */
enum where owner_take_in_redis(struct owners *w, struct owner *o, const struct pop_field *pop, struct owner_answer *answer_out);
/* Claims all that is held at a new master; false: not all of it was decided. Later. */
bool owners_claim(struct owners *w, const char *run_id);
/* Field writes: pipelined, not waited for; compared with `own`. pop NULL: none. Now. */
void owner_tell(struct owners *w, struct owner *o, const struct pop_field *pop, bool set);
void owner_tell_pops(struct owners *w, struct owner *o); /* of all who hold its maildrop */
void owners_tell_pops(struct owners *w);                 /* and of all accounts: after a time in which fields may have been lost */
void owner_tell_release(struct owners *w, const struct owner *o);
/* The account is gone for good. Later. */
void owner_forget_in_redis(struct owners *w, const struct owner *o);
/* Another node is asked to let go. Now. */
void owner_wish(struct owners *w, const struct owner_place *at, uint64_t account_id);

#endif
