/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_filter.h - TLS as the client of a server of ours: what core/run's link to Redis lets stand between its bytes and the wire.
 *
 * For net/server, which opens one and lends it to the link (struct redis_filter).  BoringSSL, TLS 1.2 and 1.3; the server's chain must lead to
 * one of the authorities, and its certificate must be for the name or address that is connected to (or for `name`).  There is
 * no way to go without that check.  A certificate of our own is shown if the server asks for one.
 *
 * The process's part is shared by all shards and outlives their links.  Authorities and the own pair are read once, at the start.
 * A handshake's arithmetic (about half a millisecond) is done on the shard: it comes once a connection.
 */
#ifndef PENFOLD_NET_TLS_FILTER_H
#define PENFOLD_NET_TLS_FILTER_H

#include "core/run/redis.h"

struct tls_filter_config {
	const char *ca;                /* PEM file of authorities; NULL: the system's */
	const char *name;              /* that the server's certificate must be for; NULL: the host of the address */
	const char *certificate, *key; /* PEM, or NULL */
	const char *where_ca, *where_certificate; /* where the configuration names them, for messages of the start; or NULL */
};

/* Main thread. `config` must outlive it. Blocking. Logs why it failed (ERR_CONFIG). */
enum err tls_filter_open(const struct tls_filter_config *config, struct redis_filter *filter_out);
void tls_filter_close(struct redis_filter *filter); /* harmless when it never was open */

#endif
