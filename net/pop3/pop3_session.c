/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_session.c - a session's way through RFC 1939's states: greeting, entering the maildrop, QUIT, and every other end.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "tenancy/usage.h"

#include <stdlib.h>

METRIC_COUNTER(logins, "pop3_logins_total", "POP3 sessions that entered TRANSACTION");
METRIC_COUNTER(in_use, "pop3_in_use_total", "POP3 logins refused because another session holds the maildrop");
METRIC_COUNTER(messages_deleted, "pop3_messages_deleted_total", "messages deleted by QUIT");
METRIC_COUNTER(updates_failed, "pop3_updates_failed_total", "QUITs whose deletions could not be made durable");

#define XMIT_DEFAULT { { .host_name = "localhost", .connect_ms_max = RELAY_CONNECT_MS_MAX, .answer_ms_max = RELAY_ANSWER_MS_MAX, \
			 .data_ms_max = RELAY_DATA_MS_MAX }, POP3_XMIT_BYTES_MAX, POP3_XMIT_RCPTS_MAX, POP3_XMIT_RCPTS_PER_HOUR_MAX }
static const struct pop3_config presets = { "localhost", "Penfold", "en", POP3_LOGIN_IDLE_MS_MAX, POP3_IDLE_MS_MAX, POP3_AUTH_TRIES_MAX,
					    POP3_BAD_COMMANDS_MAX, XMIT_DEFAULT };
struct pop3_config pop3_settings = { "localhost", "Penfold", "en", POP3_LOGIN_IDLE_MS_MAX, POP3_IDLE_MS_MAX, POP3_AUTH_TRIES_MAX,
				     POP3_BAD_COMMANDS_MAX, XMIT_DEFAULT };

void pop3_config_default(struct pop3_config *config_out) { *config_out = presets; }

void pop3_configure(const struct pop3_config *config) { pop3_settings = *config; }

/* ---- AUTHORIZATION ---- */

static enum step greet(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	session_set_idle(s, pop3_settings.login_idle_ms_max);
	reply_printf(&s->reply, "+OK %s Penfold POP3 ready", pop3_settings.host_name);
	if (auth_apop_offered()) {
		random_bytes(p->stamp, sizeof p->stamp);
		p->stamp[0] |= 1; /* 0,0 means: not offered */
		char stamp[POP3_STAMP_BYTES_MAX];
		size_t len = pop3_stamp(p, stamp);
		REPLY_LIT(&s->reply, " ");
		reply_put(&s->reply, slice_of(stamp, len));
	}
	REPLY_LIT(&s->reply, "\r\n");
	return STEP_NEXT;
}

/* ---- TRANSACTION ---- */

/* Asked when another session from the same address wants the maildrop (invariant 5). A commit under way is never usurped. */
static bool still_there(struct maildrop_lock *lock)
{
	struct pop3_session *p = CONTAINER_OF(lock, struct pop3_session, lock);
	if (p->state == POP3_UPDATE || session_peer_alive(&p->s))
		return true;
	p->usurped = true;
	session_kill(&p->s, END_CLIENT);
	return false;
}

static enum err take(struct pop3_session *p)
{
	p->lock.probe = still_there;
	p->lock.user = p->subject->sdps_user;
	enum err e = maildrop_lock(&p->lock, p->subject->account_id, session_peer_address(&p->s), p->subject->login_delay_s);
	if (e == OK)
		e = account_open(p->subject->account_id, &p->account);
	if (e == OK && p->subject->sdps_user.len)
		e = view_open_for(p->account, FOLDER_INBOX, p->subject->sdps_user, &p->view);
	else if (e == OK)
		e = view_open(p->account, FOLDER_INBOX, &p->view);
	return e;
}

static enum step turn_away(struct pop3_session *p, enum err e, bool too_soon)
{
	uint32_t delay_s = p->subject->login_delay_s;
	log_event(LOG_INFO, "pop3.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("why", too_soon ? "login-delay" : err_name(e)));
	if (e == ERR_IN_USE)
		metric_inc(&in_use);
	usage_add(p->subject->tenant_id, USAGE_REFUSALS, 1);
	pop3_leave(p);
	session_class_of_peer(&p->s);
	if (too_soon)
		pop3_say(p, POP3_W_LOGIN_DELAY, delay_s, 0);
	else
		pop3_fail(p, e);
	return STEP_NEXT;
}

enum step pop3_enter(struct pop3_session *p)
{
	enum err e = take(p);
	if (e != OK)
		return turn_away(p, e, e == ERR_BUSY && !p->lock.held);
	p->state = POP3_TRANSACTION;
	usage_add(p->subject->tenant_id, USAGE_SESSIONS, 1);
	session_set_idle(&p->s, pop3_settings.idle_ms_max);
	p->name = slice_of(NULL, 0);
	arena_release(&p->s.arena); /* a parked session is its struct */
	metric_inc(&logins);
	log_event(LOG_INFO, "pop3.login", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("tls", session_tls_version(&p->s) ? session_tls_version(&p->s) : "no"), LOG_U64("messages", view_count(p->view)), LOG_U64("bytes", view_bytes(p->view)));
	pop3_say(p, POP3_W_ENTERED, view_count(p->view), view_bytes(p->view));
	return STEP_NEXT;
}

/* What is still in the output is as good as sent, but for a client that breaks off. */
static void charge_bytes(const struct pop3_session *p)
{
	if (!p->subject || p->state == POP3_AUTHORIZATION)
		return;
	usage_add(p->subject->tenant_id, USAGE_BYTES_IN, p->s.received_bytes);
	usage_add(p->subject->tenant_id, USAGE_BYTES_OUT, p->s.reply.sent_bytes + p->s.reply.queued_bytes);
}

void pop3_leave(struct pop3_session *p)
{
	charge_bytes(p);
	pop3_send_drop(p);
	pop3_xmit_drop(p);
	if (p->view)
		view_close(p->view);
	p->view = NULL;
	if (p->account)
		account_close(p->account);
	p->account = NULL;
	maildrop_unlock(&p->lock);
	p->lock.user = slice_of(NULL, 0); /* the subject's */
	if (p->subject)
		subject_unref(p->subject);
	p->subject = NULL;
	bits_release(&p->deleted);
}

/* ---- UPDATE ---- */

/* One command, one commit (invariant 13). */
static enum err expunge(struct pop3_session *p, size_t *removed_out)
{
	uint32_t *uids = xmalloc(p->deleted_count * sizeof *uids);
	size_t count = 0;
	for (size_t i = bits_next(&p->deleted, 0); i != SIZE_MAX; i = bits_next(&p->deleted, i + 1)) {
		struct message m;
		view_message(p->view, (uint32_t)i, &m);
		uids[count++] = m.uid;
	}
	ASSERT(count == p->deleted_count);
	enum err e = account_expunge(p->account, FOLDER_INBOX, uids, count, removed_out);
	free(uids);
	return e;
}

static void log_end(const struct pop3_session *p, const char *how, size_t deleted)
{
	log_event(LOG_INFO, "pop3.end", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer),
		  LOG_STR("tenant", p->subject ? p->subject->tenant : slice_of(NULL, 0)),
		  LOG_STR("user", p->subject ? p->subject->name : slice_of(NULL, 0)), LOG_Z("how", how), LOG_U64("retrieved", p->retrieved),
		  LOG_U64("retrieved_bytes", p->retrieved_bytes), LOG_U64("deleted", deleted));
}

static enum step update(struct pop3_session *p)
{
	size_t removed = 0;
	enum err e = OK;
	p->state = POP3_UPDATE;
	if (p->usurped)
		e = ERR_IN_USE;
	else if (p->deleted_count)
		e = expunge(p, &removed);
	log_end(p, e == OK ? "quit" : err_name(e), removed);
	if (e != OK)
		metric_inc(&updates_failed);
	metric_add(&messages_deleted, (int64_t)removed);
	/* The lock is given back before the answer leaves: who has the answer may log in again. */
	pop3_leave(p);
	if (e == OK && p->deleted_count)
		pop3_say(p, POP3_W_BYE_DELETED, p->deleted_count, 0); /* invariant 1: durable by now */
	else if (e == OK)
		pop3_word(p, POP3_W_BYE);
	else
		pop3_word(p, e == ERR_IN_USE ? POP3_W_LOST : e == ERR_READONLY ? POP3_W_READONLY : POP3_W_NOT_DELETED);
	return STEP_CLOSE;
}

enum step pop3_quit(struct pop3_session *p)
{
	if (p->state == POP3_TRANSACTION)
		return update(p);
	pop3_word(p, POP3_W_BYE);
	return STEP_CLOSE;
}

/* ---- what net calls ---- */

static enum step take_line(struct session *s, struct slice line)
{
	struct pop3_session *p = pop3_of(s);
	if (!p->spoke && pop3_is_http(line))
		return STEP_ABORT; /* a browser that was sent here gets nothing that it could take for an answer */
	p->spoke = true;
	return p->exchange != POP3_NO_EXCHANGE ? pop3_exchange_line(p, line) : pop3_command(p, line);
}

static enum step take_long_line(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	p->spoke = true;
	p->exchange = POP3_NO_EXCHANGE;
	return pop3_bad(p, POP3_W_TOO_LONG);
}

static enum step go_on(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	switch ((enum pop3_cursor)p->cursor) {
	case POP3_LISTING:
	case POP3_UIDLS:
		return pop3_list_on(p);
	case POP3_SENDING:
		return pop3_send_on(p);
	case POP3_XLISTING:
		return pop3_xlst_on(p);
	case POP3_NOTHING:
		break;
	}
	UNREACHABLE();
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out) { return pop3_xmit_data(pop3_of(s), bytes, used_out); }

static enum step arrived(struct session *s) { return pop3_enter(pop3_of(s)); }

/* RFC 1939 section 3: no response, no update. */
static enum step timed_out(struct session *s)
{
	(void)s;
	return STEP_ABORT;
}

static enum step stop(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	if (p->cursor == POP3_NOTHING) /* in the midst of a listing the words would be taken for a line of it */
		pop3_word(p, session_withdrawn(s) ? POP3_W_WITHDRAWN : POP3_W_STOPPING);
	return STEP_CLOSE;
}

static void closed(struct session *s, enum session_end how)
{
	static const char *const names[] = { [END_CLIENT] = "client", [END_IDLE] = "idle", [END_STALLED] = "stalled",
					     [END_STOP] = "stop", [END_PROTOCOL] = "closed", [END_IO] = "io" };
	struct pop3_session *p = pop3_of(s);
	if (p->state != POP3_UPDATE && p->spoke) /* UPDATE has told its end; who only knocks is not worth a line */
		log_end(p, names[how], 0);
	pop3_leave(p);
}

static void describe(const struct session *s, struct session_facts *out)
{
	static const char *const states[] = { [POP3_AUTHORIZATION] = "authorization", [POP3_TRANSACTION] = "transaction", [POP3_UPDATE] = "update" };
	const struct pop3_session *p = CONTAINER_OF(s, const struct pop3_session, s);
	out->state = p->send ? "sending" : states[p->state];
	if (!p->subject)
		return;
	out->account_id = p->subject->account_id;
	out->tenant_id = p->subject->tenant_id;
	out->credential_version = p->subject->credential_version;
	out->login = p->subject->name;
	out->tenant = p->subject->tenant;
}

const struct proto pop3_proto = {
	.name = "pop3",
	.session_bytes = sizeof(struct pop3_session),
	.line_bytes_max = POP3_LINE_BYTES_MAX,
	.lf_ends_line = true, /* nothing follows a command that could be taken for another */
	.idle_ms_max = POP3_LOGIN_IDLE_MS_MAX,
	.alpn = "pop3", /* IANA: RFC 2595 */
	.open = greet,
	.line = take_line,
	.too_long = take_long_line,
	.resume = go_on,
	.data = take_data,
	.moved = arrived,
	.timeout = timed_out,
	.stop = stop,
	.closed = closed,
	.describe = describe,
};
