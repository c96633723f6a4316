/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp: delivery (RFC 2033).
 *
 * One operation is one message to --recipients people, from MAIL to the last
 * recipient's answer after the final dot. In lock step each command waits for
 * its answer; with --pipeline above 1, MAIL, RCPT and DATA leave in one
 * segment, as an MTA sends them to a server that offers PIPELINING.
 *
 * Connections are opened before the clock starts and kept; with
 * --per-connection K each is closed after K messages and opened again, whose
 * cost is then the server's CPU but nobody's latency.
 *
 * Recipients are taken in turn from all users by all connections, so that a
 * run of users * M messages fills every mailbox with exactly M.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/clock.h"
#include "bench/load/driver.h"
#include "bench/load/engine.h"
#include "bench/load/secure.h"

enum waiting { GREETING, LHLO, STARTTLS, NOTHING, MAIL, RCPT, DATA, FINAL, QUIT, GONE };

static const char *const waiting_name[] = {"greeting", "LHLO", "STARTTLS", "nothing", "MAIL", "RCPT", "DATA", "end of data", "QUIT", "nothing"};
static const char waiting_code[] = {'2', '2', '2', '?', '2', '2', '3', '2', '2', '?'};

struct lmtp_shared {
	struct message_pool pool[WEIGHTS_MAX]; /* one for each step of --size */
	uint64_t random;
	uint64_t serial;
	uint64_t next_user;
};

struct lmtp {
	enum waiting waiting;
	unsigned answers;      /* of this kind that have come */
	unsigned sent;         /* messages on this connection */
	bool place_held;       /* reconnecting while an operation's place is taken */
	unsigned recipients;   /* of this message */
	uint64_t first_user;
	const struct message_pool *pool;
	uint64_t intended_ns;
};

static void *lmtp_prepare(const struct options *o)
{
	struct lmtp_shared *shared = calloc(1, sizeof(*shared));

	if (shared) {
		for (unsigned i = 0; i < o->message_bytes.count; i++)
			message_pool_init(&shared->pool[i], o->message_bytes.value[i], o->dot_lines, o->seed + i);
		shared->serial = o->seed << 40;
		shared->random = o->seed;
	}
	return shared;
}

static void lmtp_open(struct conn *c)
{
	conn_connect(c);
}

static void send_rcpt(struct conn *c, unsigned n)
{
	const struct options *o = engine_options(c);
	struct lmtp *s = c->state;
	uint64_t users = o->user_last - o->user_first + 1;
	char name[256];
	size_t bytes = options_format(name, sizeof(name), o->user, o->user_first + (s->first_user + n) % users);

	conn_send(c, "RCPT TO:<", 9);
	conn_send(c, name, bytes);
	conn_send(c, ">\r\n", 3);
}

/* How large the next message is and for how many. */
static void draw(const struct options *o, struct lmtp_shared *shared, struct lmtp *s)
{
	uint64_t bytes = weights_draw(&o->message_bytes, random_share(&shared->random));
	unsigned step = 0;

	while (o->message_bytes.value[step] != bytes)
		step++;
	s->pool = &shared->pool[step];
	s->recipients = (unsigned)weights_draw(&o->recipients, random_share(&shared->random));
	s->first_user = shared->next_user;
	shared->next_user += s->recipients;
}

static void lmtp_begin(struct conn *c, uint64_t intended_ns)
{
	static const char mail[] = "MAIL FROM:<load@bench.example>\r\n";
	const struct options *o = engine_options(c);
	struct lmtp_shared *shared = c->shared;
	struct lmtp *s = c->state;

	s->intended_ns = intended_ns;
	draw(o, shared, s);
	s->waiting = MAIL;
	s->answers = 0;
	conn_send(c, mail, sizeof(mail) - 1);
	if (o->pipeline > 1) {
		for (unsigned i = 0; i < s->recipients; i++)
			send_rcpt(c, i);
		conn_send(c, "DATA\r\n", 6);
	}
}

static void send_message(struct conn *c)
{
	struct lmtp_shared *shared = c->shared;
	const struct lmtp *s = c->state;
	const struct message_body *body = &s->pool->body[shared->serial % MESSAGE_VARIANTS];
	char header[MESSAGE_HEADER_BYTES_MAX];
	size_t n = message_header(body, shared->serial++, header);

	conn_send(c, header, n);
	conn_send_ref(c, body->wire, body->wire_bytes);
	conn_send(c, ".\r\n", 3);
}

static void message_done(struct conn *c)
{
	const struct options *o = engine_options(c);
	struct lmtp *s = c->state;

	engine_done(c, s->intended_ns, s->recipients, s->pool->size * s->recipients);
	if (o->per_connection && ++s->sent == o->per_connection) {
		s->waiting = QUIT;
		conn_send(c, "QUIT\r\n", 6);
	} else {
		s->waiting = NOTHING;
		engine_free(c);
	}
}

/* Moves on after a good answer; `s->answers` has counted it. */
static void advance(struct conn *c)
{
	struct lmtp *s = c->state;
	unsigned recipients = s->recipients;
	bool lock_step = engine_options(c)->pipeline == 1;
	unsigned wanted = s->waiting == RCPT || s->waiting == FINAL ? recipients : 1;

	if (s->answers < wanted) {
		if (s->waiting == RCPT && lock_step)
			send_rcpt(c, s->answers);
		return;
	}
	s->answers = 0;
	switch (s->waiting) {
	case GREETING: s->waiting = LHLO; conn_send(c, "LHLO bench.example\r\n", 20); break;
	case LHLO:
		if (engine_options(c)->secure == SECURE_STARTTLS && !c->secure) {
			s->waiting = STARTTLS;
			conn_send(c, "STARTTLS\r\n", 10);
			return;
		}
		s->waiting = NOTHING;
		if (s->place_held)
			engine_free(c);
		else
			engine_ready(c);
		s->place_held = false;
		break;
	case STARTTLS:
		s->waiting = LHLO; /* said again: RFC 3207 4.2 */
		secure_begin(c);
		conn_send(c, "LHLO bench.example\r\n", 20);
		break;
	case MAIL:
		s->waiting = RCPT;
		if (lock_step)
			send_rcpt(c, 0);
		break;
	case RCPT:
		s->waiting = DATA;
		if (lock_step)
			conn_send(c, "DATA\r\n", 6);
		break;
	case DATA: s->waiting = FINAL; send_message(c); break;
	case FINAL: message_done(c); break;
	default: s->waiting = GONE; break;
	}
}

static void lmtp_line(struct conn *c, const char *line, size_t bytes)
{
	struct lmtp *s = c->state;
	bool well_formed = bytes >= 3 && line[1] >= '0' && line[1] <= '9' && line[2] >= '0' && line[2] <= '9' &&
					   (bytes == 3 || line[3] == ' ' || line[3] == '-');

	if (!well_formed || line[0] != waiting_code[s->waiting]) {
		engine_fail(c, "%s answered: %.*s", waiting_name[s->waiting], (int)bytes, line);
		return;
	}
	if (bytes > 3 && line[3] == '-')
		return; /* more of the same answer follows */
	s->answers++;
	advance(c);
}

static void lmtp_body_end(struct conn *c)
{
	(void)c; /* no answer of LMTP is a dot-terminated body */
}

static bool lmtp_closed(struct conn *c)
{
	struct lmtp *s = c->state;

	if (s->waiting != GONE)
		return false;
	if (c->places_busy) { /* --per-connection: the next connection keeps the place */
		conn_connect(c);
		s->place_held = c->fd >= 0;
	}
	return true;
}

static void lmtp_leave(struct conn *c)
{
	struct lmtp *s = c->state;

	s->waiting = QUIT;
	conn_send(c, "QUIT\r\n", 6);
}

const struct driver driver_lmtp = {
	.name = "lmtp", .unit = "message", .state_bytes = sizeof(struct lmtp), .kept = true, .prepare = lmtp_prepare,
	.open = lmtp_open, .begin = lmtp_begin, .line = lmtp_line, .body_end = lmtp_body_end, .closed = lmtp_closed,
	.leave = lmtp_leave,
};
