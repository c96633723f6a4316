/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.h - what the process counts and remembers of addresses, networks, accounts, tenants and names.
 *
 * Private to this room, for source.c, seats.c and guard.c.  One table for the process, in stripes with a lock each, so that shards
 * hardly ever meet; counts of what is live are atomics and need no lock.  A holder has a handle of 32 bits, so that a session
 * does not grow by a pointer.
 *
 * Bounded (invariant 7): an entry that is held is never forgotten, and holders are bounded by the connections there are.  An entry
 * that nobody holds goes at once if there is nothing to remember, else into one of two lists from which the least recently used go:
 * what is good (a login was right lately) and what is not have a list each, so that strangers who make a thousand failures cannot
 * make us forget those who are at home.
 *
 * Keys are bytes or seeded hashes of names; a stranger cannot aim at a stripe.  All calls complete now.
 */
#ifndef PENFOLD_TENANCY_TALLY_H
#define PENFOLD_TENANCY_TALLY_H

#include "core/base/bytes.h"
#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/list.h"

enum tally_kind {
	TALLY_ADDRESS, /* 16 bytes of the address */
	TALLY_NET64,   /* of an IPv6 address: its /64 */
	TALLY_NET,     /* /24 or /48 */
	TALLY_ACCOUNT, TALLY_TENANT, /* ids */
	TALLY_NAME,    /* hash of a login */
	TALLY_PAIR     /* hash of a login and a network */
};

struct tally_key {
	uint8_t bytes[16];
};

struct tally {
	uint32_t next; /* in its bucket, or in the list of the free */
	uint32_t up;   /* the wider network: held; 0: none */
	struct link idle;
	struct tally_key key;
	uint32_t refs;
	uint8_t kind;
	bool in_good; /* on which list it is */
	/* ---- atomics ---- */
	uint32_t live, waiting, refused;
	/* ---- under tally_lock ---- */
	uint32_t failures; /* halved with time */
	uint32_t wrong_count;
	uint64_t failed_ms, turn_ms, good_ms;
	uint64_t wrong[GUARD_WRONG_KEPT]; /* of the last wrong passwords: keyed, cut hashes */
};

void tally_open(uint64_t bytes_max); /* once; after it the process counts. Before, every handle is 0 */
void tally_close(void);
bool tally_is_open(void);

/* The entry with this key, made if need be, held once more. `up` is held by the caller and passes to the entry (or is given back). 0: there are
 * too many (TALLY_ENTRIES_MAX): it is not counted. */
uint32_t tally_get(enum tally_kind kind, struct tally_key key, uint32_t up);
/* 0: there is none. */
uint32_t tally_find(enum tally_kind kind, struct tally_key key);
void tally_put(uint32_t handle); /* 0 is harmless */
struct tally *tally_at(uint32_t handle);

void tally_lock(struct tally *t);
void tally_unlock(struct tally *t);

/* A hash under this process's secret. */
struct tally_key tally_hash(struct slice bytes);
/* The same, not to be turned round: for passwords. */
uint64_t tally_mac(struct slice a, struct slice b);

struct tally_stats {
	uint64_t held, idle, idle_max, forgotten;
};
void tally_stats(struct tally_stats *stats_out);

#endif
