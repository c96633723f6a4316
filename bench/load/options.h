/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options: what one run of the load generator shall do.
 *
 * Filled once from the command line, then read by everybody. Everything that
 * could run for ever has a bound here: a run ends by --seconds or --count, an
 * operation by --timeout, a run gone wrong by --max-errors. A wrong option is
 * one line on standard error and exit 2. Strings point into argv.
 *
 * --mix FILE makes one run of several streams: each line of the file is a
 * stream, its words are options as on the command line, whose own values are
 * every stream's defaults; # begins a comment. Streams share the window (the
 * command line's --seconds, --warmup, --hold), the machine and the clock; each
 * has connections, arrivals, users and a --tag of its own. So a workload is a
 * file that says what arrives how often, and the run is open loop throughout.
 */
#ifndef BENCH_LOAD_OPTIONS_H
#define BENCH_LOAD_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "bench/load/secure.h"
#include "bench/load/usage.h"

#define CONNECTIONS_MAX 50000 /* far above what one core can drive */
#define PIPELINE_MAX 64       /* commands in flight on one connection */
#define RECIPIENTS_MAX 100    /* per message: RFC 5321 4.5.3.1.8 obliges servers to take so many */

#define STREAMS_MAX 16         /* kinds of operation in one mix */
#define WEIGHTS_MAX 32         /* steps of one distribution */

struct driver;

/* A distribution in steps: VALUE:SHARE,VALUE:SHARE,... One value alone is always drawn. */
struct weights {
	unsigned count;
	uint64_t value[WEIGHTS_MAX];
	double share[WEIGHTS_MAX]; /* cumulated; the last is the sum */
};

struct options {
	const struct driver *scenario;
	struct sockaddr_storage address;
	socklen_t address_bytes;
	enum secure_mode secure;
	bool resume;           /* every TLS session but a place's first */

	unsigned connections;
	double rate;           /* arrivals a second; 0: closed loop */
	double seconds;
	uint64_t count;        /* 0: bounded by seconds alone */
	double warmup_s;
	double timeout_s;
	uint64_t errors_max;

	const char *user;      /* pattern with one %d */
	uint64_t user_first;
	uint64_t user_last;
	const char *password;  /* may have one %d, too */

	unsigned pipeline;     /* commands in flight; 1: lock step */
	bool retr_all;         /* RETR goes round the mailbox, else message 1 */
	bool keep;             /* pop3-fetch without DELE */
	uint64_t newest;       /* pop3-fetch, imap-fetch: only so many, the last; 0: all (IMAP: 1) */
	const char *arrivals;  /* file of arrival times in seconds, one a line, instead of --rate; NULL: none */
	bool need_digest;      /* a fetched body without X-Digest is an error */
	int64_t expect_messages; /* STAT must say so; -1: any */

	struct weights message_bytes;
	unsigned dot_lines;
	struct weights recipients;
	unsigned per_connection; /* LMTP messages before QUIT; 0: the whole run */
	double hold_s;

	int cpu;               /* pin to; -1: not */
	uint64_t seed;
	const char *json;      /* file, "-" standard output, NULL none */
	const char *tag;
	const char *mix;       /* file of streams; NULL: this is the one */
	struct usage_targets server;
};

void options_parse(struct options *o, int argc, char **argv);

/* The streams of o->mix, or `o` itself where there is none. Returns how many. */
unsigned options_streams(const struct options *o, struct options out[STREAMS_MAX]);

/* Draws by `random`, uniform in 0..1. */
uint64_t weights_draw(const struct weights *w, double random);
uint64_t weights_max(const struct weights *w);

/* Writes `pattern` with its %d replaced by `number`; a pattern without one is
 * copied. Cut at `cap`; returns the length written. */
size_t options_format(char *out, size_t cap, const char *pattern, uint64_t number);

#endif
