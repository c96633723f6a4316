/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - the listener for other nodes: takes over sessions that they have authenticated (handover.h).
 *
 * For net/server, which names peer_proto in a listener of its own.  Who connects there proves to be a node, by mutual TLS or by the fleet's
 * key, and names whose session it brings, with which protocol, and which incarnation of this node it expects.  Then the session is one of
 * that protocol (proto->handed), on the shard that has the account; it is listed, ended and counted as such, with the client's address.
 *
 * Nothing that a client sends reaches this listener before the header of its node has been checked.
 */
#ifndef PENFOLD_NET_PEER_PEER_H
#define PENFOLD_NET_PEER_PEER_H

#include "net/session.h"

#define PEER_PROTOS_MAX 4
struct peer_config {
	struct slice key;          /* the fleet's; empty: mutual TLS alone proves who is a node */
	const struct proto *protos[PEER_PROTOS_MAX]; /* that sessions may be handed over with; NULL behind the last */
};
/* Copies; the key is kept by pointer. Before the shards start. */
void peer_configure(const struct peer_config *config);
struct slice peer_key(void);

extern const struct proto peer_proto;

#endif
