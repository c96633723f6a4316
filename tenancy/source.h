/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - where connections come from: how many there are of each address and network, and may one more stay.
 *
 * For net/conn.c.  A connection is counted at its address (IPv4, or IPv6 whole), its /64 and its /24 or /48, and while it has not
 * logged in also among those that wait.  The last quarter of the places for those is kept for addresses from which somebody has
 * logged in lately, so that a crowd of strangers does not shut the door on those who are at home.
 *
 * seats_... count what has logged in, by account and tenant.  All calls complete now, cost some hundred nanoseconds and may be made on any
 * shard.  Handles are 32 bits; 0: nothing is counted (exempt, a local socket).
 */
#ifndef PENFOLD_TENANCY_SOURCE_H
#define PENFOLD_TENANCY_SOURCE_H

#include "core/base/addr.h"
#include "tenancy/directory.h"
#include "tenancy/limit.h"

/* Once per process, and at its end. Without it nobody is limited. */
void source_open_process(uint64_t cache_bytes_max);
void source_close_process(void);

/* LIMIT_NONE: counted, *source_out is the handle. `waits`: it is to log in. Else which bound was reached; *count_out tells how often that has happened
 * lately, for a log that is not flooded. */
enum limit source_open(const struct addr *peer, bool waits, uint32_t *source_out, uint32_t *count_out);
/* It has logged in. */
void source_entered(uint32_t source);
void source_close(uint32_t source, bool waits);

/* One more session of an account: LIMIT_NONE, LIMIT_ACCOUNT or LIMIT_TENANT. Given back with the same arguments. `shared`: the account may have
 * several sessions at a time, so they are counted (130 bytes an account); where a lock lets one in only, its tenant's are. */
enum limit seats_take(const struct subject *subject, bool shared);
void seats_give(const struct subject *subject, bool shared);

/* For the counters below: somebody outside of this file has refused. Returns how many there were. */
uint64_t source_count_refusal(enum limit limit);

struct source_stats {
	uint64_t waiting;                      /* connections counted that have not logged in */
	uint64_t held, idle, idle_max, forgotten; /* entries of the table behind all this */
	uint64_t refused[LIMIT_COUNT];
};
void source_stats(struct source_stats *stats_out);

#endif
