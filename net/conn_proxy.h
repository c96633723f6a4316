/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_proxy.h - a connection's first bytes where a proxy is in front, and whether a connection may stay at all.
 *
 * For the files of this room.  On a listener marked for it a connection from a trusted network begins with a PROXY header (proxy.h), before
 * TLS and before the greeting.  The address in it is the client's from then on: for the log, for limits, for what is local.  Bytes
 * behind the header are the client's first.  A connection that ends without a byte is a health check and worth no word, and a
 * header that says LOCAL is the proxy itself, who is served and not limited.
 */
#ifndef PENFOLD_NET_CONN_PROXY_H
#define PENFOLD_NET_CONN_PROXY_H

#include "core/base/addr.h"
#include "tenancy/limit.h"

struct net_private;

/* Waits for the header. */
void conn_proxy_begin(struct net_private *c);
/* The receive has completed. May free the connection. */
void conn_proxy_received(struct net_private *c);

/* Whose connection it is is known: names and counts it. Which limit says that it may not stay. */
enum limit conn_admit(struct net_private *c, const struct addr *peer, bool counted);
/* Goes on to TLS or to the greeting; `unread`: bytes that came behind the header, which stay in the input if there is no TLS. */
void conn_admitted(struct net_private *c, struct slice unread);

#endif
