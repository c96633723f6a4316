/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ticket.h - the keys of session tickets, the same in every shard and, through a file, in every process and node.
 *
 * For tls.c.  A key is derived from a secret and the number of the time span it serves (TICKET_SPAN_S), so that all who have the secret
 * rotate together without talking, and restart without forgetting.  Tickets are issued with the current span's key and
 * taken with those of the spans before and after it (clocks differ); their lifetime is one span, so that a ticket a client may
 * use is always one that we can read.
 *
 * The file: one secret a line, 64 hexadecimal digits (32 random bytes), at most TICKET_SECRETS_MAX; the first issues, all are
 * taken, so that a new secret is put in front and the old one removed a day later.  Without a file the secret is random and
 * dies with the process.  Who has a secret reads what was resumed with it in TLS 1.2; TLS 1.3 sessions are resumed with
 * a fresh key exchange.
 *
 *     ticket: 16 bytes key name | 16 bytes IV | AES-256-CBC of the session | HMAC-SHA256 of all before it      (RFC 5077 section 4)
 */
#ifndef PENFOLD_NET_TICKET_H
#define PENFOLD_NET_TICKET_H

#include "core/base/err.h"

struct ssl_ctx_st; /* BoringSSL's SSL_CTX */

/* Blocking. ERR_CONFIG, logged with `where`, its place in the configuration. path NULL: a random secret. */
enum err ticket_open(const char *path, const char *where);
void ticket_close(void);
/* Reads the file again if it is another one. Blocking. A bad file keeps the old secrets and is reported. */
void ticket_look(bool loud);
/* Gives the keys to all sessions of a context, and tickets their lifetime. */
void ticket_serve(struct ssl_ctx_st *ctx);

#endif
