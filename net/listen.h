/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.h - where connections come from: sockets bound once, accepted on every shard.
 *
 * For net/server.  Each TCP listener has one SO_REUSEPORT socket per shard, so that the kernel spreads connections; a unix
 * socket, and one given by the service manager (net/given.h), is one, accepted by all shards.  All sockets are bound before any is served: a port that is taken stops the start with one line
 * and nothing half started.  Stopping cancels the accepts first, then the sessions are told (proto->stop), then joined.
 */
#ifndef PENFOLD_NET_LISTEN_H
#define PENFOLD_NET_LISTEN_H

#include "core/base/addr.h"
#include "core/base/cidr.h"
#include "core/base/err.h"
#include "net/session.h"
#include "net/tls.h"

enum listen_tls { LISTEN_TLS_NONE, LISTEN_TLS_STARTTLS /* by a command */, LISTEN_TLS_IMPLICIT /* from the first byte */ };

/* The PROXY protocol: from trusted networks a header is expected; others speak for themselves, or are turned away where it is required. */
enum listen_proxy { LISTEN_PROXY_NONE, LISTEN_PROXY_TRUSTED, LISTEN_PROXY_REQUIRED };

struct listener_config {
	const struct proto *proto;
	const char *address;  /* "127.0.0.1:1110", "[::1]:110", "unix:/path", "systemd:NAME" (all sockets that came by that name) */
	const char *where;    /* "penfold.yaml:12: listeners[0].address", for messages */
	bool plaintext;       /* logins without TLS are accepted from anywhere */
	enum listen_tls tls;  /* not NONE: after tls_open_process */
	bool tls13_only;
	unsigned unix_mode;   /* of a unix socket's file; 0 = 0666: access is ruled by the folder, an MTA runs as a user of its own */
	enum listen_proxy proxy;
	const struct cidr *trusted; /* proxies; of a unix socket all are */
	size_t trusted_count;
	enum tls_client_wish client; /* certificates of clients; with them: */
	enum client_name client_name;
	const char *client_ca;
	const struct tls_mutual *mutual; /* with LISTEN_TLS_IMPLICIT: among nodes (tls.h); NULL: with clients */
};

struct tls_mutual;

struct net_settings {
	uint32_t connections_max; /* of all shards together; more are closed at once */
	uint32_t stall_ms_max;    /* a client that takes nothing of its output for so long is dropped */
};
void net_settings_default(struct net_settings *settings_out);
/* Before listeners_bind; without it the defaults hold. */
void net_configure(const struct net_settings *settings);

/* Main thread, before the shards start; blocking; logs why it failed (ERR_CONFIG: the address; ERR_IN_USE: taken; ERR_DENIED; ERR_IO).
 * What `configs` points at must live until listeners_unbind. Sockets given to the process are taken or, unclaimed, closed. A port of 0 is chosen by the kernel (tests): see listeners_address. */
enum err listeners_bind(const struct listener_config *configs, unsigned count, unsigned shards);
void listeners_unbind(void);
/* Sockets that listen already, from the process that this one replaces; before listeners_bind, which takes those whose address it is to bind and
 * closes the others. Theirs are the connections that wait in them: none is lost. `given` is copied. */
struct listen_given {
	int fd;
	struct addr address;
};
void listeners_inherit(const struct listen_given *given, size_t count);
/* The sockets of all listeners, for such a process. Any thread, now. */
void listeners_each(void (*visit)(void *arg, int fd, const struct addr *address), void *arg);
/* How connections to other nodes (session_dial) are to be: with TLS, or NULL: in the clear. Before the shards start; outlives them. */
void listeners_dial(const struct tls_mutual *mutual);
/* The address that listener `index` is bound to. */
struct addr listeners_address(unsigned index);
/* Later. On each shard, on a fiber, as the last of what a shard's start does: it waits until all shards have called it, so that
 * a session may move anywhere. listeners_bind comes before (with no listeners too). ERR_TEMP: another shard did not start. */
enum err listeners_start(void);
/* Later: ends accepting, tells the sessions, gives them grace_ms to finish, then joins them all. */
void listeners_stop(uint32_t grace_ms);

/* This shard's share of all listeners whose sessions are in the roster: refuses connections, and takes them again; a unix or given
 * socket's are closed at once. The door for other nodes stays open, for operators, and refuses their sessions itself (net/peer). Harmless
 * twice. Now, on a fiber. */
void listeners_pause(void);
void listeners_resume(void);
/* This shard takes no connections any more, of any listener, and leaves the sockets as they are to another process, with the files of unix
 * ones; whoever has been accepted is served. For good. Now, on a fiber. */
void listeners_hand_over(void);
/* Begins this shard's accepts anew: each first takes what waits. While two processes have a socket the kernel wakes one of them for a connection, and
 * if just that one takes its accept back the connection waits unseen, until the next comes. Now, on a fiber. */
void listeners_look_again(void);
/* Connections and sessions that are between two shards, and in nobody's roster. Any thread, now. */
uint32_t listeners_moving(void);
bool listeners_paused(void); /* now */

struct net_stats {
	uint64_t accepted, refused, accept_errors, open, moved; /* moved: away from this shard */
	uint64_t closed_by_client, closed_idle, closed_stalled, closed_by_protocol, closed_stopping, closed_broken;
	uint64_t lines, bytes_in, bytes_out;
};
/* Any thread, at any time. Counts since the start of the process; zeroes for a shard that never served. */
void net_stats(unsigned shard, struct net_stats *out);

#endif
