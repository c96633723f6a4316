/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client_ca.h - who vouches for clients: authorities whose certificates a listener takes, for SASL EXTERNAL.
 *
 * For tls.c, and for listen.c, which opens one for each listener that asks its clients.  The file is PEM: certificates of
 * authorities, and revocation lists (CRL) of those that issue to clients; where there is a list, a leaf that is on it, and one whose
 * issuer has none, is refused.  The file is looked at with the server's own certificates (tls_look): a changed one
 * is used from the next handshake on, a bad one is reported and the old one stays.
 *
 * Thread-safe.  Handles live until client_ca_close_all.
 */
#ifndef PENFOLD_NET_CLIENT_CA_H
#define PENFOLD_NET_CLIENT_CA_H

#include "core/base/bytes.h"
#include "core/base/err.h"

struct client_ca;
struct stack_st_CRYPTO_BUFFER;

enum client_name {
	CLIENT_NAME_EMAIL, /* the one rfc822Name of subjectAltName (RFC 5280 section 4.2.1.6); of several none is meant */
	CLIENT_NAME_CN     /* the one common name of the subject */
};

/* Main thread, blocking. ERR_CONFIG, logged with `where`. */
enum err client_ca_open(const char *path, const char *where, struct client_ca **out);
void client_ca_close_all(void);
/* Blocking; see tls_look. */
void client_ca_look(void);
/* Checks a chain, leaf first, as a TLS client's, now. Calculates: on an offload thread. *name_out is xmalloc'd; NULL where the certificate is good
 * and has no such name. False: *why_out says why, static text. */
bool client_ca_verify(struct client_ca *ca, const struct stack_st_CRYPTO_BUFFER *chain, enum client_name kind, char **name_out, const char **why_out);

#endif
