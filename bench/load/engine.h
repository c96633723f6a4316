/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine: places, arrivals and the clock of a run.
 *
 * One thread, one epoll, one or several streams (options.h, --mix), each of N
 * connections that speak one scenario. An operation (a session, a RETR, a
 * delivery) takes a free place of its stream; a connection has one place, or
 * --pipeline of them when the driver can keep several operations in flight.
 *
 * Closed loop: a place that becomes free starts the next operation at once.
 * Open loop: operations arrive by a Poisson process at --rate (or at the times
 * of a file), whether or not the server keeps up. One that finds no free place
 * waits, and its latency counts from the moment it was meant to start, so a
 * stalled server is charged for everybody who would have come meanwhile (no
 * coordinated omission).
 *
 * A run: open the kept connections, warm up, measure, let what is in flight
 * end, leave. Rates and CPU are taken over the measured window alone: what
 * ended inside it. Latencies in the open loop are those of operations meant to
 * start inside it, whenever they end; one that never does is an error.
 *
 * The engine keeps the evidence against itself:
 *   lag      how long after its time an arrival was noticed: the generator's
 *            own lateness, not the server's. With a free place it begins then.
 *   offered  arrivals meant to start in the window, against the rate asked for.
 *   present  the integral of the number of operations present (waiting or in
 *            flight) over the window, counted by counters and not by
 *            latencies; divided by the window it is Little's N, to be held
 *            against throughput times mean latency.
 *
 * An operation that fails costs its connection, which is reset, and is counted
 * and (the first few) shown; the run goes on until --max-errors.
 */
#ifndef BENCH_LOAD_ENGINE_H
#define BENCH_LOAD_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load/conn.h"
#include "bench/load/histogram.h"
#include "bench/load/options.h"
#include "bench/load/usage.h"

#define ERRORS_SHOWN 8
#define ERROR_BYTES_MAX 200

/* What all streams share. */
struct window {
	double seconds;
	uint64_t self_cpu_ns;        /* this process, in the window */
	struct usage server_before;  /* before anything was opened */
	struct usage server_start;   /* of the window */
	struct usage server_end;
};

/* One stream's. */
struct result {
	uint64_t operations;         /* ended inside the window */
	uint64_t units;              /* messages or deliveries, as the driver counts */
	uint64_t payload_bytes;      /* verified or sent */
	uint64_t handshakes_full;    /* TLS, ended inside the window */
	uint64_t handshakes_resumed;
	uint64_t bytes_in;           /* from the server in the window, as they were on the wire */
	uint64_t bytes_out;
	uint64_t errors;
	uint64_t unstarted;          /* open loop: arrivals that never found a place; also in errors */
	uint64_t unfinished;         /* still in flight when patience ended; also in errors */
	uint64_t offered;            /* open loop: arrivals meant to start inside the window */
	double present_s;            /* operations present, integrated over the window */
	uint64_t present_start;      /* present at the window's ends */
	uint64_t present_end;
	struct histogram latency;
	struct histogram lag;
	double open_s;               /* opening the kept connections */
	unsigned opened;
	char error[ERRORS_SHOWN][ERROR_BYTES_MAX];
};

/* Runs `count` streams and returns when it is over; what they share is taken
 * from `o`. `r` has one place a stream. Only starting up may fail, and ends the
 * program. */
void engine_run(const struct options *o, const struct options *streams, unsigned count, struct window *w, struct result *r);

/* ---- for drivers and connections --------------------------------------- */

const struct options *engine_options(const struct conn *c);
const struct driver *engine_driver(const struct conn *c);
int engine_epoll(const struct conn *c);

/* A kept connection is ready for operations. */
void engine_ready(struct conn *c);

/* The operation meant to start at `intended_ns` has ended well and meant
 * `units` messages of `bytes` octets together. Its place is still taken. */
void engine_done(struct conn *c, uint64_t intended_ns, uint64_t units, uint64_t bytes);

/* A TLS handshake has ended well. */
void engine_handshake(struct conn *c, bool resumed);

/* One place of the connection is free again. */
void engine_free(struct conn *c);

/* An operation that the server began (mail has come): a kept, idle connection
 * is busy until engine_free(). */
void engine_taken(struct conn *c);

/* Something is wrong: reset the connection, count, keep the words. What was in
 * flight on it has failed. */
__attribute__((format(printf, 2, 3))) void engine_fail(struct conn *c, const char *format, ...);

#endif
