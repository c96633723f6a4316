/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h - where connections come from: sockets bound once, accepted on every shard.
 *
 * For net/server.  Each TCP listener has one SO_REUSEPORT socket per shard, so that the kernel spreads connections; a unix
 * socket is one, accepted by all shards.  All sockets are bound before any is served: a port that is taken stops the start with one line
 * and nothing half started.  Stopping cancels the accepts first, then the sessions are told (proto->stop), then joined.
 */
#ifndef PENFOLD_NET_LISTEN_H
#define PENFOLD_NET_LISTEN_H

#include "core/base/err.h"
#include "net/session.h"

struct listener_config {
	const struct proto *proto;
	const char *address;  /* "127.0.0.1:1110", "[::1]:110", "unix:/path" */
	const char *where;    /* "penfold.yaml:12: listeners[0].address", for messages */
	bool plaintext;       /* logins without TLS accepted from anywhere (later) */
};

/* Main thread, before the shards start; blocking; logs why it failed. */
enum err listeners_bind(const struct listener_config *configs, unsigned count, unsigned shards);
void listeners_unbind(void);
/* On each shard, on a fiber. */
enum err listeners_start(void);
void listeners_stop(uint32_t grace_ms);

struct net_stats {
	uint64_t accepted, open, moved, closed_by_client, closed_idle, closed_stalled, lines, bytes_in, bytes_out;
};
void net_stats(unsigned shard, struct net_stats *out);

#endif
