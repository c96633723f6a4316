/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nodes.h - the other nodes of the fleet, and whether a lock that is held here stands in Redis as it should: for operators' questions.
 *
 * For net/server.  Nothing is decided by what this says: owners are found by owner.h.  Where the nodes come from:
 *
 *   `nodes:` of the configuration (placement home), or
 *   pf:nodes   a hash in Redis: NODE -> "SECONDS", the wall time of the node's last renewal by its own clock.  Written beside each renewal, taken
 *              out by a node that stops in order.  One key, so a Redis Cluster keeps it in one place; address and incarnation are read from
 *              the node's lease, which cannot be older than the node's life.
 *
 * A node that died stays in the list for FLEET_NODE_FORGET_S, so that who asks the fleet hears that an answer is missing.
 */
#ifndef PENFOLD_NET_FLEET_NODES_H
#define PENFOLD_NET_FLEET_NODES_H

#include "net/fleet/owner.h"

struct fleet_peer {
	struct owner_place at; /* incarnation empty: placement home */
	const char *why;       /* it cannot be asked: static words; NULL: it can */
	int64_t seen_s;        /* its last renewal; 0: not known */
};

/* All but this one, by name, at most FLEET_NODES_MAX; *peers_out is the caller's to free. ERR_TEMP and such: Redis did not say. Later. */
enum err fleet_peers(struct fleet_peer **peers_out, size_t *count_out);

enum lock_in_redis { LOCK_REDIS_UNKNOWN, LOCK_REDIS_AGREES, LOCK_REDIS_DIFFERS };
struct lock_check {
	uint64_t account_id, token;
	struct slice user; /* of an SDPS host, or empty */
	enum lock_in_redis found;
};
/* Fills `found`: does Redis name this very session as the holder? What has just been taken or left is looked at twice, for fields follow
 * without being waited for. Later. */
void fleet_check_locks(struct lock_check *checks, size_t count);

#endif
