/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_mutual.h - TLS among the nodes of a fleet: both sides show a certificate of one authority, and it names the node.
 *
 * For net/server, which opens it, tls.c, which makes connections of it, and net/peer, which asks whether the other end is who it says.
 * TLS 1.3 only.  The authority signs nodes and nothing else; a certificate speaks for the nodes that its subjectAltName names, as a DNS name equal to
 * the node's name (`node:`; no wildcards), or by the IP address where the node is.  The subject's common name does not count.
 *
 * tls_look (tls.h) finds files that have changed and swaps what is good as a whole; connections keep what they were made with.
 *
 * A tls_mutual may be used from any thread between open and close.
 */
#ifndef PENFOLD_NET_TLS_MUTUAL_H
#define PENFOLD_NET_TLS_MUTUAL_H

#include "core/base/addr.h"
#include "core/base/bytes.h"
#include "core/base/err.h"

struct tls_mutual;
struct tls_mutual_config {
	const char *certificate, *key, *ca; /* PEM; kept by pointer */
	const char *where;                  /* for messages; or NULL */
};
/* Main thread. Blocking. Logs why it failed (ERR_CONFIG). */
enum err tls_mutual_open(const struct tls_mutual_config *config, struct tls_mutual **out);
void tls_mutual_close(struct tls_mutual *m); /* NULL is harmless */

/* ---- for tls.c ---- */

struct ssl_st;
struct ssl_st *tls_mutual_connection(const struct tls_mutual *m); /* NULL: no memory. Now. */
void tls_mutual_look_all(bool loud);                              /* blocking */
bool tls_mutual_any(void);
/* The other end's certificate names this node, or this address (len 0: none). Behind the handshake; now. */
bool tls_mutual_names(const struct ssl_st *ssl, struct slice node, const struct addr *address);

#endif
