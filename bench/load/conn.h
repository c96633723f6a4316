/* SPDX-License-Identifier: Apache-2.0 */
/*
 * conn: one connection's socket, what waits to leave and what has come.
 *
 * Output is queued by a driver and leaves in one gathered send when the
 * driver's call is over (conn_flush); what the socket does not take waits for
 * EPOLLOUT. Input is read into one buffer shared by all connections and cut
 * into lines, or handed to a body_check while one is expected; only a line cut
 * in two is kept. The whole thing is single-threaded and never blocks.
 *
 * Memory: the engine allocates the array of connections; text queued with
 * conn_send_ref() belongs to the caller and must outlive the send.
 */
#ifndef BENCH_LOAD_CONN_H
#define BENCH_LOAD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "bench/load/message.h"
#include "bench/load/secure.h"

#define LINE_BYTES_MAX 1024   /* a status line: RFCs say 512; room to see what is wrong */
#define OUT_BYTES_MAX 16384   /* commands waiting to leave: 100 recipients of 128 octets */
#define OUT_PIECES_MAX 8
#define IN_BYTES (256 * 1024) /* one read: a big UIDL or RETR in few calls */

struct stream;
struct ssl_session_st;

struct conn {
	struct stream *stream;    /* of the run that it belongs to */
	void *state;              /* the driver's, zeroed at each connect */
	void *shared;             /* the driver's, one for all connections */
	int fd;                   /* -1: not connected */
	unsigned index;
	uint64_t connects;        /* how often it has connected */
	uint64_t bytes_in;        /* since the start, over all its connections: on the wire, under TLS sealed */
	uint64_t bytes_out;
	unsigned places_busy;     /* operations in flight */
	uint64_t deadline_ns;     /* something must come before; 0: nothing is awaited */
	bool want_out;            /* EPOLLOUT is armed */
	bool full;                /* the socket has taken less than TLS wanted to send */
	struct secure *secure;    /* TLS, once begun; NULL: in the clear */
	struct ssl_session_st *ticket; /* of this place's last connection */
	bool offered;             /* a ticket was, in this handshake */
	bool secured;             /* a handshake of this place has succeeded before */
	bool ready;               /* kept: open and told so */
	bool reopen;              /* kept: was reset, to be opened again */

	struct body_check *body;  /* non-NULL while input is a body */
	unsigned line_bytes;
	char line[LINE_BYTES_MAX];

	struct iovec piece[OUT_PIECES_MAX];
	unsigned pieces;
	size_t out_bytes;
	char out[OUT_BYTES_MAX];
};

/* Starts to connect; a failure is reported through engine_fail(). */
void conn_connect(struct conn *c);

/* Queue output: copied, by reference, formatted. */
void conn_send(struct conn *c, const char *text, size_t bytes);
void conn_send_ref(struct conn *c, const char *data, size_t bytes);
__attribute__((format(printf, 2, 3))) void conn_sendf(struct conn *c, const char *format, ...);

/* Sends what is queued as far as the socket takes it. */
void conn_flush(struct conn *c);

/* What follows the current line is a dot-terminated body for `check`. */
void conn_expect_body(struct conn *c, struct body_check *check);

/* What follows the current line is a literal of `octets` for `check` (RFC 9051 4.3). */
void conn_expect_literal(struct conn *c, struct body_check *check, uint64_t octets);

/* The socket has become readable or writable. `buffer` has IN_BYTES octets. */
void conn_event(struct conn *c, uint32_t events, char *buffer);

/* Close: in good order, or with a reset so that nothing lingers. */
void conn_close(struct conn *c, bool reset);

#endif
