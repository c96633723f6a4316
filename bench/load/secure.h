/* SPDX-License-Identifier: Apache-2.0 */
/*
 * secure: TLS 1.3 on a connection, as a client (RFC 8446; RFC 2595 for STLS, RFC 3207 for STARTTLS).
 *
 * The library is the server's own, BoringSSL, so that what differs between two
 * runs is not the client. A connection in the clear has a NULL pointer and
 * nothing else. With --tls implicit the handshake begins with the connection,
 * with --tls starttls when a driver has its permission and calls
 * secure_begin(); what is queued after that waits for the handshake's end.
 *
 * Believes nothing: the handshake must be TLS 1.3; octets in the clear behind
 * the permission are an error; with --resume every connection but each place's
 * first must have been resumed from the last ticket the server gave on that
 * place, and a connection that left no ticket for the next is an error. (Who
 * the server is, is not asked: its certificate is made for the run. That it
 * holds the key of it, is checked by the handshake.)
 *
 * A ticket outlives its connection; it is replaced by the next. Completes now:
 * bytes in are lent, bytes out go to the socket as far as it takes them.
 */
#ifndef BENCH_LOAD_SECURE_H
#define BENCH_LOAD_SECURE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define SECURE_RECORD_BYTES_MAX 16384 /* RFC 8446 5.1 */

struct conn;
struct secure;

enum secure_mode { SECURE_NONE, SECURE_IMPLICIT, SECURE_STARTTLS };

/* From now on all octets of the connection are TLS. Starts the handshake. */
void secure_begin(struct conn *c);

/* The connection is closed: forgets all but the ticket. */
void secure_end(struct conn *c);

/* Goes on with a handshake that waits for room in the socket. True: it is over, plain octets may be sent. */
bool secure_shaken(struct conn *c);

/* Lends what has come; then plain octets into `to` until 0 comes. -1: failed, engine_fail() has been called. */
void secure_feed(struct conn *c, const char *sealed, size_t bytes);
ssize_t secure_read(struct conn *c, char *to, size_t room);

/* Seals and sends. How many octets were taken; 0: the socket is full; -1: failed. The same octets must be offered again. */
ssize_t secure_write(struct conn *c, const char *plain, size_t bytes);

#endif
