/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap: the IMAP scenarios (RFC 9051, in what it shares with RFC 3501).
 *
 * One command is unanswered at a time. What the server says is held against what
 * it must say: the tag and OK of each answer, one FETCH line for each message of
 * EXISTS and in order, literals as long as announced, and each body against the
 * digest it carries.
 *
 *   imap-login   LOGIN, SELECT INBOX, LOGOUT
 *   imap-check   LOGIN, SELECT INBOX, UID FETCH 1:* (FLAGS), LOGOUT
 *   imap-fetch   LOGIN, SELECT INBOX, FETCH of the newest (--newest) messages, LOGOUT
 *   imap-idle    LOGIN, SELECT INBOX, IDLE, held. When EXISTS tells of mail: DONE,
 *                FETCH of what is new, IDLE again; from EXISTS to the answer of
 *                FETCH is one operation, begun by the server.
 *
 * Connection i of N uses users i, i + N, i + 2N ... as in pop3.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/load/clock.h"
#include "bench/load/driver.h"
#include "bench/load/engine.h"

enum step { GREETING, LOGIN, SELECT, FLAGS, NEWEST, LOGOUT, IDLE, FETCH_NEW, DONE, SCRIPT_END };

static const char *const step_name[] = {"greeting", "LOGIN", "SELECT", "UID FETCH", "FETCH", "LOGOUT", "IDLE", "FETCH", "DONE"};

static const enum step script_login[] = {LOGIN, SELECT, LOGOUT, SCRIPT_END};
static const enum step script_check[] = {LOGIN, SELECT, FLAGS, LOGOUT, SCRIPT_END};
static const enum step script_fetch[] = {LOGIN, SELECT, NEWEST, LOGOUT, SCRIPT_END};
static const enum step script_idle[] = {LOGIN, SELECT, IDLE, SCRIPT_END};

struct imap {
	struct body_check check;   /* first: its alignment is the state's */
	const enum step *script;
	enum step step;            /* unanswered */
	unsigned tag;
	bool idling;               /* the continuation has come */
	bool in_fetch;             /* behind a literal: the rest of a FETCH response is due */
	bool said_goodbye;
	bool leaving;
	uint64_t intended_ns;
	uint64_t messages;         /* EXISTS */
	uint64_t seen;             /* of them, those that are fetched: imap-idle */
	uint64_t next_message;     /* whose FETCH line is due */
	uint64_t last_message;
	uint64_t fetched;
	uint64_t fetched_octets;
};

static uint64_t user_of(const struct conn *c)
{
	const struct options *o = engine_options(c);
	uint64_t users = o->user_last - o->user_first + 1;
	uint64_t own = (users - c->index % users + o->connections - 1) / o->connections;

	return o->user_first + (c->index + o->connections * ((c->connects - 1) % (own ? own : 1))) % users;
}

/* ---- asking ----------------------------------------------------------------- */

static void ask_range(struct conn *c, uint64_t first, uint64_t last, const char *uid, const char *what)
{
	struct imap *s = c->state;

	s->next_message = first;
	s->last_message = last;
	if (*uid) /* all of them: 1:* */
		conn_sendf(c, "a%u UID FETCH 1:* (%s)\r\n", s->tag, what);
	else
		conn_sendf(c, "a%u FETCH %" PRIu64 ":%" PRIu64 " (%s)\r\n", s->tag, first, last, what);
}

static void ask(struct conn *c, enum step step)
{
	struct imap *s = c->state;
	const struct options *o = engine_options(c);
	uint64_t newest = o->newest ? o->newest : 1;
	char user[256], password[256];

	s->step = step;
	s->tag++;
	switch (step) {
	case LOGIN:
		options_format(user, sizeof(user), o->user, user_of(c));
		options_format(password, sizeof(password), o->password, user_of(c));
		conn_sendf(c, "a%u LOGIN \"%s\" \"%s\"\r\n", s->tag, user, password);
		break;
	case SELECT: conn_sendf(c, "a%u SELECT INBOX\r\n", s->tag); break;
	case FLAGS: ask_range(c, 1, s->messages, "uid", "FLAGS"); break;
	case NEWEST: ask_range(c, s->messages > newest ? s->messages - newest + 1 : 1, s->messages, "", "UID FLAGS BODY.PEEK[]"); break;
	case FETCH_NEW: ask_range(c, s->seen + 1, s->messages, "", "UID FLAGS BODY.PEEK[]"); break;
	case IDLE: conn_sendf(c, "a%u IDLE\r\n", s->tag); break;
	case LOGOUT: conn_sendf(c, "a%u LOGOUT\r\n", s->tag); break;
	default: break;
	}
}

/* The next step of the script; a FETCH of nothing is not asked. */
static void advance(struct conn *c)
{
	struct imap *s = c->state;

	while ((*s->script == FLAGS || *s->script == NEWEST) && !s->messages)
		s->script++;
	if (*s->script != SCRIPT_END)
		ask(c, *s->script++);
	else
		s->step = SCRIPT_END;
}

/* ---- mail that comes while idling ------------------------------------------------ */

static void mail_has_come(struct conn *c)
{
	struct imap *s = c->state;

	s->idling = false;
	s->step = DONE;
	s->intended_ns = clock_ns();
	s->fetched = s->fetched_octets = 0;
	engine_taken(c);
	conn_send(c, "DONE\r\n", 6);
}

static void idle_answered(struct conn *c)
{
	struct imap *s = c->state;

	if (s->leaving) {
		ask(c, LOGOUT);
		return;
	}
	if (s->step == FETCH_NEW) {
		s->seen = s->last_message;
		engine_done(c, s->intended_ns, s->fetched, s->fetched_octets);
		engine_free(c);
		ask(c, IDLE);
	} else if (s->messages > s->seen) {
		ask(c, FETCH_NEW);
	} else { /* cannot be: DONE is only said when mail has come, or to leave */
		engine_fail(c, "IDLE ended by itself");
	}
}

/* ---- answers -------------------------------------------------------------------- */

/* "* N WORD": the number, or false. */
static bool numbered(const char *line, size_t bytes, const char *word, uint64_t *out)
{
	char text[64];
	char verb[16];
	size_t n = bytes < sizeof(text) - 1 ? bytes : sizeof(text) - 1;

	memcpy(text, line, n);
	text[n] = '\0';
	return sscanf(text, "* %" SCNu64 " %15s", out, verb) == 2 && strcmp(verb, word) == 0;
}

/* The octets of a literal that the line announces at its end; 0: none. */
static uint64_t literal(const char *line, size_t bytes)
{
	size_t at = bytes;
	uint64_t octets = 0, unit = 1;

	if (!bytes || line[--at] != '}')
		return 0;
	while (at > 0 && line[at - 1] >= '0' && line[at - 1] <= '9' && unit < 1000000000000) {
		octets += unit * (uint64_t)(line[--at] - '0');
		unit *= 10;
	}
	return at > 0 && line[at - 1] == '{' ? octets : 0;
}

static void fetch_line(struct conn *c, uint64_t n, const char *line, size_t bytes)
{
	struct imap *s = c->state;
	bool bodies = s->step == NEWEST || s->step == FETCH_NEW;
	uint64_t octets = literal(line, bytes);

	if (s->step != FLAGS && !bodies)
		return; /* what others did to flags, told when it pleases the server */
	if (n != s->next_message || n > s->last_message) {
		engine_fail(c, "FETCH of message %" PRIu64 " where %" PRIu64 " was due", n, s->next_message);
	} else if (bodies && !octets) {
		engine_fail(c, "FETCH without a body: %.*s", (int)bytes, line);
	} else if (bodies) {
		s->in_fetch = true;
		conn_expect_literal(c, &s->check, octets);
	} else {
		s->next_message++;
	}
}

static void untagged(struct conn *c, const char *line, size_t bytes)
{
	struct imap *s = c->state;
	uint64_t n;

	if (numbered(line, bytes, "EXISTS", &n)) {
		s->messages = n;
		if (s->idling && n > s->seen && !s->leaving)
			mail_has_come(c);
	} else if (numbered(line, bytes, "FETCH", &n)) {
		fetch_line(c, n, line, bytes);
	} else if (bytes >= 5 && memcmp(line, "* BYE", 5) == 0 && s->step != LOGOUT) {
		engine_fail(c, "%s answered: %.*s", step_name[s->step], (int)bytes, line);
	}
}

static void tagged(struct conn *c, const char *line, size_t bytes)
{
	struct imap *s = c->state;
	char tag[16];
	int n = snprintf(tag, sizeof(tag), "a%u OK", s->tag);

	if (bytes < (size_t)n || memcmp(line, tag, (size_t)n) != 0) {
		engine_fail(c, "%s answered: %.*s (user %" PRIu64 ")", step_name[s->step], (int)bytes, line, user_of(c));
	} else if ((s->step == FLAGS || s->step == NEWEST || s->step == FETCH_NEW) && s->next_message <= s->last_message) {
		engine_fail(c, "FETCH ended at message %" PRIu64 " of %" PRIu64, s->next_message - 1, s->last_message);
	} else if (s->step == LOGOUT) {
		s->said_goodbye = true;
		s->step = SCRIPT_END;
	} else if (s->step == SELECT) {
		s->seen = s->messages;
		advance(c);
	} else if (engine_driver(c)->idle && s->step != LOGIN) {
		idle_answered(c);
	} else {
		advance(c);
	}
}

static void imap_line(struct conn *c, const char *line, size_t bytes)
{
	struct imap *s = c->state;

	if (s->in_fetch) { /* the rest of a response, behind its literal */
		if (!bytes || line[bytes - 1] != ')' || (bytes > 1 && line[0] != ' ')) {
			engine_fail(c, "a FETCH response ends in: %.*s", (int)bytes, line);
			return;
		}
		s->in_fetch = false;
		s->next_message++;
	} else if (s->step == GREETING) {
		if (bytes < 4 || memcmp(line, "* OK", 4) != 0)
			engine_fail(c, "greeting: %.*s", (int)bytes, line);
		else
			advance(c);
	} else if (bytes >= 1 && line[0] == '*') {
		untagged(c, line, bytes);
	} else if (bytes >= 1 && line[0] == '+' && s->step == IDLE) {
		s->idling = true;
		if (s->leaving) {
			engine_driver(c)->leave(c);
			return;
		}
		if (!c->ready)
			engine_ready(c);
		if (s->messages > s->seen) /* has come meanwhile */
			mail_has_come(c);
	} else {
		tagged(c, line, bytes);
	}
}

static void imap_body_end(struct conn *c)
{
	struct imap *s = c->state;

	if (engine_options(c)->need_digest && !body_check_verify(&s->check)) {
		engine_fail(c, s->check.digest_seen ? "FETCH: the body does not match its digest" : "FETCH: no X-Digest header");
		return;
	}
	s->fetched++;
	s->fetched_octets += s->check.octets;
}

static bool imap_closed(struct conn *c)
{
	struct imap *s = c->state;

	if (!s->said_goodbye)
		return false;
	if (!engine_driver(c)->kept) {
		engine_done(c, s->intended_ns, s->fetched, s->fetched_octets);
		engine_free(c);
	}
	return true;
}

/* ---- beginnings ------------------------------------------------------------------ */

static void session(struct conn *c, const enum step *script, uint64_t intended_ns)
{
	struct imap *s = c->state;

	conn_connect(c);
	s->script = script;
	s->step = GREETING;
	s->intended_ns = intended_ns;
}

static void begin_login(struct conn *c, uint64_t intended_ns) { session(c, script_login, intended_ns); }
static void begin_check(struct conn *c, uint64_t intended_ns) { session(c, script_check, intended_ns); }
static void begin_fetch(struct conn *c, uint64_t intended_ns) { session(c, script_fetch, intended_ns); }
static void open_idle(struct conn *c) { session(c, script_idle, 0); }

static void begin_nothing(struct conn *c, uint64_t intended_ns)
{
	(void)c, (void)intended_ns; /* operations begin at the server */
}

static void imap_leave(struct conn *c)
{
	struct imap *s = c->state;

	s->leaving = true;
	if (s->idling)
		conn_send(c, "DONE\r\n", 6);
	s->idling = false;
}

const struct driver driver_imap_login = {
	.name = "imap-login", .unit = "session", .state_bytes = sizeof(struct imap), .begin = begin_login, .line = imap_line,
	.body_end = imap_body_end, .closed = imap_closed,
};

const struct driver driver_imap_check = {
	.name = "imap-check", .unit = "session", .state_bytes = sizeof(struct imap), .begin = begin_check, .line = imap_line,
	.body_end = imap_body_end, .closed = imap_closed,
};

const struct driver driver_imap_fetch = {
	.name = "imap-fetch", .unit = "session", .state_bytes = sizeof(struct imap), .begin = begin_fetch, .line = imap_line,
	.body_end = imap_body_end, .closed = imap_closed,
};

const struct driver driver_imap_idle = {
	.name = "imap-idle", .unit = "push", .state_bytes = sizeof(struct imap), .kept = true, .idle = true, .open = open_idle,
	.begin = begin_nothing, .line = imap_line, .body_end = imap_body_end, .closed = imap_closed, .leave = imap_leave,
};
