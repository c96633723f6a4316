/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3: the POP3 scenarios (RFC 1939).
 *
 * A scenario is a script of commands; `pipeline` of them may be unanswered at a
 * time (1: lock step). Everything the server says is held against what it must
 * say: status words, the count in STAT against the lines of UIDL and their
 * numbering, the size announced by RETR against the octets that came, the sizes
 * of all messages against STAT, and each body against the digest it carries.
 *
 * A maildrop is locked by its session, so each connection has users of its own:
 * connection i of N uses users i, i + N, i + 2N ...
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "bench/load/driver.h"
#include "bench/load/engine.h"
#include "bench/load/secure.h"

enum command { GREETING, STLS, USER, PASS, STAT, UIDL, RETR, DELE, QUIT, FETCH_ALL, READY, SCRIPT_END };

static const char *const command_name[] = {"greeting", "STLS", "USER", "PASS", "STAT", "UIDL", "RETR", "DELE", "QUIT"};

/* STLS stands first and is left out where nobody wants it. */
static const enum command script_login[] = {STLS, USER, PASS, STAT, QUIT, SCRIPT_END};
static const enum command script_check[] = {STLS, USER, PASS, STAT, UIDL, QUIT, SCRIPT_END};
static const enum command script_fetch[] = {STLS, USER, PASS, STAT, FETCH_ALL, QUIT, SCRIPT_END};
static const enum command script_open[] = {STLS, USER, PASS, STAT, READY, SCRIPT_END};

struct asked {
	enum command command;
	uint64_t intended_ns; /* RETR as an operation */
};

struct pop3 {
	struct body_check check;   /* first: its alignment is the state's */
	const enum command *script;
	struct asked asked[PIPELINE_MAX]; /* unanswered, oldest at head */
	unsigned head;
	unsigned unanswered;
	uint64_t intended_ns;      /* the session as an operation */
	bool stat_known;
	bool in_uidl;
	bool delete_next;          /* FETCH_ALL: RETR n is sent, DELE n is due */
	bool said_goodbye;
	bool announced_known;
	uint64_t messages;
	uint64_t octets;
	uint64_t next_message;     /* to ask for */
	uint64_t listed;
	uint64_t announced;
	uint64_t fetched;
	uint64_t fetched_octets;
};

/* ---- sending --------------------------------------------------------------- */

static uint64_t user_of(const struct conn *c)
{
	const struct options *o = engine_options(c);
	uint64_t users = o->user_last - o->user_first + 1;
	uint64_t own = (users - c->index + o->connections - 1) / o->connections;

	return o->user_first + c->index + o->connections * ((c->connects - 1) % own);
}

static void send_pattern(struct conn *c, const char *verb, const char *pattern)
{
	char text[256];
	size_t n = options_format(text, sizeof(text), pattern, user_of(c));

	conn_send(c, verb, strlen(verb));
	conn_send(c, text, n);
	conn_send(c, "\r\n", 2);
}

static void ask(struct conn *c, enum command command, uint64_t argument, uint64_t intended_ns)
{
	struct pop3 *s = c->state;

	s->asked[(s->head + s->unanswered++) % PIPELINE_MAX] = (struct asked){command, intended_ns};
	switch (command) {
	case USER: send_pattern(c, "USER ", engine_options(c)->user); break;
	case PASS: send_pattern(c, "PASS ", engine_options(c)->password); break;
	case RETR:
	case DELE: conn_sendf(c, "%s %" PRIu64 "\r\n", command_name[command], argument); break;
	case STLS:
	case STAT:
	case UIDL:
	case QUIT: conn_sendf(c, "%s\r\n", command_name[command]); break;
	default: break; /* the greeting comes unasked */
	}
}

/* RETR n, DELE n for every message: one command of it. */
static void ask_fetch(struct conn *c)
{
	struct pop3 *s = c->state;

	if (s->delete_next) {
		s->delete_next = false;
		ask(c, DELE, s->next_message++, 0);
	} else {
		ask(c, RETR, s->next_message, 0);
		s->delete_next = !engine_options(c)->keep;
		s->next_message += engine_options(c)->keep;
	}
}

/* Sends as much of the script as may be unanswered. */
static void advance(struct conn *c)
{
	struct pop3 *s = c->state;
	unsigned window = engine_options(c)->pipeline;

	while (s->unanswered < window && *s->script != SCRIPT_END && *s->script != READY) {
		if (*s->script == STLS) { /* nothing may leave with it, or before its handshake */
			if (s->unanswered)
				return;
			ask(c, *s->script++, 0, 0);
			return;
		}
		if (*s->script != FETCH_ALL) {
			ask(c, *s->script++, 0, 0);
		} else if (!s->stat_known) {
			return; /* how many there are is not known yet */
		} else if (s->next_message > s->messages) {
			s->script++;
		} else {
			ask_fetch(c);
		}
	}
	if (*s->script == READY && !s->unanswered) {
		s->script++;
		engine_ready(c);
	}
}

/* ---- answers ---------------------------------------------------------------- */

static bool digits(const char **at, const char *end, uint64_t *out)
{
	const char *from = *at;

	*out = 0;
	while (*at < end && **at >= '0' && **at <= '9' && *at - from < 19)
		*out = *out * 10 + (uint64_t)(*(*at)++ - '0');
	return *at > from;
}

static void stat_answer(struct conn *c, const char *line, size_t bytes)
{
	struct pop3 *s = c->state;
	const struct options *o = engine_options(c);
	const char *at = line + 4;
	const char *end = line + bytes;

	if (bytes < 5 || !digits(&at, end, &s->messages) || at == end || *at++ != ' ' || !digits(&at, end, &s->octets) ||
	    (at < end && *at != ' ')) {
		engine_fail(c, "STAT answered: %.*s", (int)bytes, line);
		return;
	}
	s->stat_known = true;
	s->next_message = o->newest && s->messages > o->newest ? s->messages - o->newest + 1 : 1;
	if (o->expect_messages >= 0 && s->messages != (uint64_t)o->expect_messages)
		engine_fail(c, "STAT says %" PRIu64 " messages where %" PRId64 " were expected (user %" PRIu64 ")", s->messages,
		            o->expect_messages, user_of(c));
	else if (o->scenario == &driver_pop3_retr && s->messages == 0)
		engine_fail(c, "nothing to RETR: the maildrop of user %" PRIu64 " is empty", user_of(c));
}

/* One line of UIDL: number, space, 1 to 70 characters of 0x21 to 0x7E. */
static void uidl_line(struct conn *c, const char *line, size_t bytes)
{
	struct pop3 *s = c->state;
	const char *at = line;
	const char *end = line + bytes;
	uint64_t n;

	if (bytes == 1 && line[0] == '.') {
		s->in_uidl = false;
		if (s->listed != s->messages)
			engine_fail(c, "UIDL has %" PRIu64 " lines, STAT said %" PRIu64, s->listed, s->messages);
		return;
	}
	if (!digits(&at, end, &n) || n != s->listed + 1 || at == end || *at++ != ' ' || at == end || end - at > 70) {
		engine_fail(c, "UIDL line %" PRIu64 ": %.*s", s->listed + 1, (int)bytes, line);
		return;
	}
	for (; at < end; at++) {
		if (*at < 0x21 || *at > 0x7e) {
			engine_fail(c, "UIDL line %" PRIu64 " has octet 0x%02x", s->listed + 1, (unsigned)(unsigned char)*at);
			return;
		}
	}
	s->listed = n;
}

static void retr_answer(struct conn *c, const char *line, size_t bytes)
{
	struct pop3 *s = c->state;
	const char *at = line + 4;

	s->announced_known = bytes > 4 && digits(&at, line + bytes, &s->announced);
	conn_expect_body(c, &s->check);
}

static void pop3_line(struct conn *c, const char *line, size_t bytes)
{
	struct pop3 *s = c->state;
	enum command command;

	if (s->in_uidl) {
		uidl_line(c, line, bytes);
		if (c->fd < 0 || s->in_uidl)
			return;
	} else {
		command = s->unanswered ? s->asked[s->head].command : SCRIPT_END;
		if (command == SCRIPT_END) {
			engine_fail(c, "an answer to no question: %.*s", (int)bytes, line);
			return;
		}
		if (bytes < 3 || memcmp(line, "+OK", 3) != 0 || (bytes > 3 && line[3] != ' ')) {
			engine_fail(c, "%s answered: %.*s (user %" PRIu64 ")", command_name[command], (int)bytes, line, user_of(c));
			return;
		}
		s->in_uidl = command == UIDL;
		if (command == RETR) {
			retr_answer(c, line, bytes);
			return; /* answered when the body is */
		}
		if (command == STLS)
			secure_begin(c);
		if (command == STAT)
			stat_answer(c, line, bytes);
		s->said_goodbye = command == QUIT;
		if (c->fd < 0 || s->in_uidl)
			return;
	}
	s->head = (s->head + 1) % PIPELINE_MAX;
	s->unanswered--;
	advance(c);
}

static void pop3_body_end(struct conn *c)
{
	struct pop3 *s = c->state;
	const struct options *o = engine_options(c);
	struct asked asked = s->asked[s->head];

	if (s->announced_known && s->announced != s->check.octets) {
		engine_fail(c, "RETR announced %" PRIu64 " octets and sent %" PRIu64, s->announced, s->check.octets);
		return;
	}
	if (o->need_digest && !body_check_verify(&s->check)) {
		engine_fail(c, s->check.digest_seen ? "RETR: the body does not match its digest" : "RETR: no X-Digest header");
		return;
	}
	s->fetched++;
	s->fetched_octets += s->check.octets;
	s->head = (s->head + 1) % PIPELINE_MAX;
	s->unanswered--;
	if (o->scenario == &driver_pop3_retr) {
		engine_done(c, asked.intended_ns, 1, s->check.octets);
		engine_free(c);
	} else {
		advance(c);
	}
}

static bool pop3_closed(struct conn *c)
{
	struct pop3 *s = c->state;

	if (!s->said_goodbye || s->unanswered)
		return false;
	if (engine_driver(c)->kept)
		return true;
	if (s->fetched && !engine_options(c)->newest && s->fetched_octets != s->octets) {
		engine_fail(c, "STAT said %" PRIu64 " octets, the messages have %" PRIu64, s->octets, s->fetched_octets);
		return true;
	}
	engine_done(c, s->intended_ns, s->fetched, s->fetched_octets);
	engine_free(c);
	return true;
}

/* ---- beginnings --------------------------------------------------------------- */

static void session(struct conn *c, const enum command *script, uint64_t intended_ns)
{
	struct pop3 *s = c->state;

	conn_connect(c);
	s->script = script + (engine_options(c)->secure != SECURE_STARTTLS);
	s->intended_ns = intended_ns;
	ask(c, GREETING, 0, 0);
}

static void begin_login(struct conn *c, uint64_t intended_ns) { session(c, script_login, intended_ns); }
static void begin_check(struct conn *c, uint64_t intended_ns) { session(c, script_check, intended_ns); }
static void begin_fetch(struct conn *c, uint64_t intended_ns) { session(c, script_fetch, intended_ns); }
static void open_kept(struct conn *c) { session(c, script_open, 0); }

static void begin_retr(struct conn *c, uint64_t intended_ns)
{
	struct pop3 *s = c->state;
	uint64_t message = engine_options(c)->retr_all ? s->next_message : 1;

	s->next_message = s->next_message < s->messages ? s->next_message + 1 : 1;
	ask(c, RETR, message, intended_ns);
}

static void pop3_leave(struct conn *c)
{
	ask(c, QUIT, 0, 0);
}

const struct driver driver_pop3_login = {
	.name = "pop3-login", .unit = "session", .state_bytes = sizeof(struct pop3), .exclusive = true,
	.begin = begin_login, .line = pop3_line, .body_end = pop3_body_end, .closed = pop3_closed,
};

const struct driver driver_pop3_check = {
	.name = "pop3-check", .unit = "session", .state_bytes = sizeof(struct pop3), .exclusive = true,
	.begin = begin_check, .line = pop3_line, .body_end = pop3_body_end, .closed = pop3_closed,
};

const struct driver driver_pop3_fetch = {
	.name = "pop3-fetch", .unit = "session", .state_bytes = sizeof(struct pop3), .exclusive = true,
	.begin = begin_fetch, .line = pop3_line, .body_end = pop3_body_end, .closed = pop3_closed,
};

const struct driver driver_pop3_retr = {
	.name = "pop3-retr", .unit = "message", .state_bytes = sizeof(struct pop3), .exclusive = true, .kept = true,
	.windowed = true, .open = open_kept, .begin = begin_retr, .line = pop3_line, .body_end = pop3_body_end,
	.closed = pop3_closed, .leave = pop3_leave,
};

const struct driver driver_pop3_idle = {
	.name = "pop3-idle", .unit = "session", .state_bytes = sizeof(struct pop3), .exclusive = true, .kept = true,
	.idle = true, .open = open_kept, .line = pop3_line, .body_end = pop3_body_end, .closed = pop3_closed,
	.leave = pop3_leave,
};
