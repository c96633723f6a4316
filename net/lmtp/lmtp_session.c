/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_session.c - a session from greeting to end, and what net calls.
 */
#include "net/lmtp/lmtp_private.h"

#include "core/base/log.h"

#include <stdlib.h>

struct lmtp_config lmtp_settings = { "localhost", 150000000, LMTP_IDLE_MS_MAX, LMTP_RCPTS_MAX, LMTP_BAD_COMMANDS_MAX, NULL, NULL, false };

void lmtp_config_default(struct lmtp_config *config_out)
{
	*config_out = (struct lmtp_config){ "localhost", 150000000, LMTP_IDLE_MS_MAX, LMTP_RCPTS_MAX, LMTP_BAD_COMMANDS_MAX, NULL, NULL, false };
}

void lmtp_configure(const struct lmtp_config *config) { lmtp_settings = *config; }

static enum step say_greeting(struct session *s)
{
	session_set_idle(s, lmtp_settings.idle_ms_max);
	reply_printf(&s->reply, "220 %s Penfold LMTP ready\r\n", lmtp_settings.host_name);
	return STEP_NEXT;
}

static enum step greet(struct session *s)
{
	lmtp_workers_hold();
	return say_greeting(s);
}

static enum step take_line(struct session *s, struct slice line)
{
	struct lmtp_session *l = lmtp_of(s);
	if (!l->spoke && lmtp_is_http(line))
		return STEP_ABORT; /* a browser that was sent here gets nothing that it could take for an answer */
	l->spoke = true;
	return lmtp_command(l, line);
}

static enum step take_long_line(struct session *s)
{
	struct lmtp_session *l = lmtp_of(s);
	l->spoke = true;
	return lmtp_bad(l, "500 5.5.2 line too long");
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out)
{
	return lmtp_data_bytes(lmtp_of(s), bytes, used_out);
}

static enum step go_on(struct session *s) { return lmtp_answer_on(lmtp_of(s)); }

static enum step arrived(struct session *s)
{
	return say_greeting(s); /* from another node: no handler here returns STEP_MOVE, the body is made here, its copies go to their shards */
}

bool lmtp_handed(struct session *s, struct subject *subject)
{
	lmtp_of(s)->handed = true;
	lmtp_workers_hold();
	return !subject;
}

static enum step timed_out(struct session *s)
{
	LMTP_SAY(lmtp_of(s), "421 4.4.2 time-out, closing"); /* RFC 5321 3.8 */
	return STEP_CLOSE;
}

static enum step stop(struct session *s)
{
	LMTP_SAY(lmtp_of(s), "421 4.3.2 server stops");
	return STEP_CLOSE;
}

static void closed(struct session *s, enum session_end how)
{
	static const char *const names[] = { [END_CLIENT] = "client", [END_IDLE] = "idle", [END_STALLED] = "stalled",
					     [END_STOP] = "stop", [END_PROTOCOL] = "quit", [END_IO] = "io" };
	struct lmtp_session *l = lmtp_of(s);
	lmtp_reset(l);
	if (l->spoke)
		log_event(LOG_INFO, "lmtp.end", LOG_U64("session", s->id), LOG_Z("peer", s->peer), LOG_Z("client", l->lhlo), LOG_Z("how", names[how]),
			  LOG_U64("transactions", l->transactions), LOG_U64("delivered", l->delivered), LOG_U64("refused", l->refused));
	free(l->lhlo);
	lmtp_workers_release();
}

/* A delivery is nobody's login: it may be for many accounts. */
static void describe(const struct session *s, struct session_facts *out)
{
	const struct lmtp_session *l = CONTAINER_OF(s, const struct lmtp_session, s);
	out->state = l->transfer != LMTP_COMMANDS ? "data" : l->answer ? "answering" : l->mail ? "envelope" : l->lhlo ? "ready" : "connected";
	out->unfinished = l->mail || l->answer || l->transfer != LMTP_COMMANDS;
}

const struct proto lmtp_proto = {
	.name = "lmtp",
	.session_bytes = sizeof(struct lmtp_session),
	.line_bytes_max = LMTP_LINE_BYTES_MAX,
	.idle_ms_max = LMTP_IDLE_MS_MAX,
	.refused = lmtp_refused,
	.open = greet,
	.line = take_line,
	.too_long = take_long_line,
	.resume = go_on,
	.data = take_data,
	.moved = arrived,
	.handed = lmtp_handed,
	.timeout = timed_out,
	.stop = stop,
	.closed = closed,
	.describe = describe,
};
