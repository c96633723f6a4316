/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn_tls.h - the filter between a connection and its socket, for the files of this room.
 *
 *     recv_done --- sealed ---> conn_tls_received --- plain ---> input
 *     socket <--- io_send <--- sealed buffer <--- tls_seal <--- the pieces of one flight, copied or read, <--- reply chain
 *
 * With DEFLATE (conn_zip.h) a flight leaves the same way, in smaller buffers that are squeezed before they are sealed, or instead.
 *
 * A connection without either has a NULL pointer and nothing else.  With it, plain bytes are decrypted as they come, so that a
 * handler finds them in the input as ever; replies are gathered as ever, but a flight leaves in buffers of at most four
 * records: text is copied and file ranges are read (through the ring, no fiber waits) to the end of a buffer, then sealed
 * towards its beginning and sent.  So a connection that sends holds one buffer, a slow reader keeps it and nothing else,
 * and what is sealed is never sealed again.
 *
 * A handshake runs on the loop; where it must wait (tls.h: TLS_WORK) it goes on on the session's fiber.
 */
#ifndef PENFOLD_NET_CONN_TLS_H
#define PENFOLD_NET_CONN_TLS_H

#include "net/tls.h"

struct net_private;
struct tls_flight;

struct conn_zip;
struct conn_filter {
	struct tls *tls;           /* or NULL */
	struct conn_zip *zip;      /* or NULL: conn_zip.h */
	struct tls_flight *flight; /* what is being sent */
};

size_t conn_tls_flight_bytes(void); /* for their pool */

/* From now on all bytes of the connection are TLS: nothing is in flight or queued. Starts the handshake. `sealed`: bytes of it that have
 * come already, behind a PROXY header. */
void conn_tls_begin(struct net_private *c, struct slice sealed);
/* With what else filters. */
void conn_filter_free(struct net_private *c);

/* The receive has completed. May free the connection. */
void conn_tls_received(struct net_private *c);
/* On the session's fiber, before its steps: does what a handshake waits for. False while there is nothing to step through. */
bool conn_tls_ready(struct net_private *c);
/* The handshake is not over. */
bool conn_tls_shaking(const struct net_private *c);
bool conn_tls_wants_input(const struct net_private *c);

/* Sends what there is, if there is something. Not while sending. */
void conn_tls_send(struct net_private *c);
/* A buffer has left, or not (c->send.result). True: the next one is on its way; false: the flight is over, with the result in c->send. */
bool conn_tls_sent_part(struct net_private *c);
/* A send that reads is to end early. */
void conn_tls_cancel(struct net_private *c);
/* The last output has left: says close_notify, once. True if it did. */
bool conn_tls_shut(struct net_private *c);

#endif
