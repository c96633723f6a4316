/* SPDX-License-Identifier: Apache-2.0 */
/*
 * driver: one protocol spoken as a client, step by step.
 *
 * A driver knows one protocol and one scenario and nothing of sockets, clocks
 * or arrivals; the engine knows those and no protocol. The engine calls:
 *
 *   open        make the connection ready for operations. Scenarios whose
 *               operation is a whole session are ready at once and need none.
 *   begin       start one operation, meant to start at `intended_ns`.
 *   line        one line of the server's, without its CRLF.
 *   body_end    a multi-line body asked for by engine_expect_body() has come.
 *   closed      the server has closed; true if this was due.
 *   leave       say goodbye on a kept connection at the end of the run.
 *
 * and the driver answers through the engine's calls (engine.h). A driver that
 * sees anything but what the protocol demands calls engine_fail() and touches
 * the connection no more in that call.
 *
 * `state_bytes` of zeroed memory per connection are the driver's: conn->state.
 */
#ifndef BENCH_LOAD_DRIVER_H
#define BENCH_LOAD_DRIVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct conn;
struct options;

struct driver {
	const char *name;
	const char *unit;      /* what one operation is, for the report */
	size_t state_bytes;
	bool kept;             /* opened before the clock starts, closed after it stops */
	bool exclusive;        /* no two connections may use one user at a time */
	bool idle;             /* no operations but its own: opened, held, left */
	bool windowed;         /* takes --pipeline operations at a time on a connection */

	void *(*prepare)(const struct options *o); /* once: conn->shared of all of a stream; may be NULL */
	void (*open)(struct conn *c);              /* NULL unless kept */
	void (*begin)(struct conn *c, uint64_t intended_ns);
	void (*line)(struct conn *c, const char *line, size_t bytes);
	void (*body_end)(struct conn *c);
	bool (*closed)(struct conn *c);
	void (*leave)(struct conn *c);             /* NULL unless kept */
};

extern const struct driver driver_pop3_login;
extern const struct driver driver_pop3_check;
extern const struct driver driver_pop3_fetch;
extern const struct driver driver_pop3_retr;
extern const struct driver driver_pop3_idle;
extern const struct driver driver_lmtp;
extern const struct driver driver_imap_login;
extern const struct driver driver_imap_check;
extern const struct driver driver_imap_fetch;
extern const struct driver driver_imap_idle;

/* By name; NULL if there is none. */
const struct driver *driver_find(const char *name);

#endif
