/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verified.h - logins whose password was right a short while ago.
 *
 * Private to this room.  What is kept is a MAC and an expiry, never a password or a hash: HMAC-SHA-256, cut to 128 bits, under a
 * random key of this process, over the account's id, its credential version, its stored passwords, what it is to be good for
 * (an application password may be for one protocol only, and never makes a master) and the password given.
 * So a changed password finds nothing, two accounts with equal passwords share nothing, and memory that leaks cannot be
 * tried against a dictionary without the key.
 *
 * A fixed block of sets of four with striped locks: bytes are bounded by construction, a full set forgets what expires
 * first.  Any thread.  All calls complete now.
 */
#ifndef PENFOLD_TENANCY_VERIFIED_H
#define PENFOLD_TENANCY_VERIFIED_H

#include "tenancy/record.h"

struct verified;
struct verified_mac {
	uint64_t words[2];
};

struct verified *verified_open(uint64_t bytes_max, uint32_t ttl_s);
void verified_close(struct verified *v);

struct verified_mac verified_mac(const struct verified *v, const struct record *record, struct slice password, unsigned purpose);
bool verified_has(struct verified *v, struct verified_mac mac, uint64_t now_ms);
void verified_put(struct verified *v, struct verified_mac mac, uint64_t now_ms);

#endif
