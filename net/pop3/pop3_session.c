/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_session.c - a session's way through RFC 1939's states: greeting, entering the maildrop, QUIT, and every other end.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "net/fleet/owner.h"
#include "tenancy/tenant_figure.h"

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

/* The maildrop is not ours to change any more, for the node's lease ran out (DESIGN section 5), or another has it. */
static void lost_maildrop(struct maildrop_lock *lock, enum owner_end why)
{
	struct pop3_session *p = CONTAINER_OF(lock, struct pop3_session, lock);
	log_event(LOG_WARN, "pop3.lost", LOG_U64("session", p->s.id), LOG_Z("why", why == OWNER_END_LAPSED ? "lease" : why == OWNER_END_LOST ? "owner" : "broken"));
	p->lapsed = true;
	session_kill(&p->s, END_STOP);
}

static enum err take(struct pop3_session *p, bool *too_soon_out)
{
	struct owner_answer answer;
	p->lock.probe = still_there;
	p->lock.user = p->subject->sdps_user;
	enum err e = owner_open_maildrop(&p->lock, p->subject->account_id, session_peer_address(&p->s), p->subject->login_delay_s, lost_maildrop,
					 &p->account, &answer);
	*too_soon_out = answer.too_soon;
	if (e == OK && p->subject->sdps_user.len)
		e = view_open_for(p->account, FOLDER_INBOX, p->subject->sdps_user, &p->view);
	else if (e == OK)
		e = view_open(p->account, FOLDER_INBOX, &p->view);
	return e;
}

void pop3_note(const struct pop3_session *p, enum decision_kind kind, const char *reason, struct slice login, struct slice account, uint32_t delay_ms, uint32_t failures)
{
	struct decision d = { .kind = kind, .protocol = "pop3", .reason = reason, .session = p->s.id, .delay_ms = delay_ms, .failures = failures };
	decision_note(&d, session_peer_address(&p->s), login, account);
}

static enum step turn_away(struct pop3_session *p, enum err e, bool too_soon)
{
	pop3_note(p, DECISION_REFUSED, too_soon ? "login-delay" : err_name(e), p->name, p->subject->name, 0, 0);
	uint32_t delay_s = p->subject->login_delay_s;
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_TURNED_AWAY);
	log_event(LOG_INFO, "pop3.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("why", too_soon ? "login-delay" : err_name(e)));
	if (e == ERR_IN_USE)
		metric_inc(&in_use);
	pop3_leave(p);
	if (too_soon)
		pop3_say(p, POP3_W_LOGIN_DELAY, delay_s, 0);
	else
		pop3_fail(p, e);
	return STEP_NEXT;
}

/* The lock lets one session into a maildrop, but for the users of a host's (invariant 5). */
static bool is_shared(const struct pop3_session *p) { return p->subject->maildrop; }

static enum step no_seat(struct pop3_session *p, enum limit limit)
{
	log_event(LOG_INFO, "pop3.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("limit", limit_word(limit)));
	pop3_note(p, DECISION_REFUSED, limit_word(limit), p->name, p->subject->name, 0, 0);
	pop3_leave(p);
	pop3_word(p, limit == LIMIT_ACCOUNT ? POP3_W_SESSIONS_ACCOUNT : POP3_W_SESSIONS_TENANT);
	return STEP_NEXT;
}

enum step pop3_enter(struct pop3_session *p)
{
	bool too_soon;
	enum limit limit = seats_take(p->subject, is_shared(p));
	if (limit != LIMIT_NONE)
		return no_seat(p, limit);
	p->seated = true;
	enum err e = take(p, &too_soon);
	if (e != OK)
		return turn_away(p, e, too_soon);
	p->state = POP3_TRANSACTION;
	session_entered(&p->s);
	pop3_note(p, DECISION_ACCEPTED, "login", p->name, p->subject->name, 0, 0);
	session_set_idle(&p->s, pop3_settings.idle_ms_max);
	p->name = slice_of(NULL, 0);
	arena_release(&p->s.arena); /* a parked session is its struct */
	metric_inc(&logins);
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_LOGINS);
	log_event(LOG_INFO, "pop3.login", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("tls", session_tls_version(&p->s) ? session_tls_version(&p->s) : "no"), LOG_U64("messages", view_count(p->view)), LOG_U64("bytes", view_bytes(p->view)));
	pop3_say(p, POP3_W_ENTERED, view_count(p->view), view_bytes(p->view));
	return STEP_NEXT;
}

void pop3_leave(struct pop3_session *p)
{
	pop3_exchange_drop(p);
	pop3_send_drop(p);
	pop3_xmit_drop(p);
	if (p->view)
		view_close(p->view);
	p->view = NULL;
	owner_close_maildrop(&p->lock, p->account);
	p->account = NULL;
	p->lock.user = slice_of(NULL, 0); /* the subject's */
	if (p->seated)
		seats_give(p->subject, is_shared(p));
	p->seated = false;
	if (p->subject)
		subject_unref(p->subject);
	p->subject = NULL;
	bits_release(&p->deleted);
}

/* May this session still acknowledge anything? */
static bool in_time(const struct pop3_session *p) { return !p->lapsed && owner_in_time(&p->lock); }

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
	else if (!in_time(p))
		e = ERR_TEMP;
	else if (p->deleted_count)
		e = expunge(p, &removed);
	if (e == OK && !in_time(p)) /* after the sync, before the answer */
		e = ERR_TEMP;
	if (e == ERR_FENCED)
		owner_fenced(p->subject->account_id);
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
	if (p->state == POP3_TRANSACTION && !in_time(p)) {
		pop3_word(p, POP3_W_WAIT);
		return STEP_CLOSE;
	}
	return p->exchange != POP3_NO_EXCHANGE ? pop3_exchange_line(p, line) : pop3_command(p, line);
}

static enum step take_long_line(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	p->spoke = true;
	pop3_exchange_drop(p);
	return pop3_bad(p, POP3_W_TOO_LONG);
}

/* RFC 5034 section 4 gives the lines of an exchange 12,288 octets. It wants long initial responses to wait for the challenge; clients
 * that do not are let in all the same. */
static size_t long_line(struct session *s, struct slice begun)
{
	const struct pop3_session *p = pop3_of(s);
	bool exchange = p->exchange != POP3_NO_EXCHANGE || (p->state == POP3_AUTHORIZATION && slice_starts_nocase(begun, SLICE_LIT("AUTH ")));
	return exchange ? SASL_LINE_BYTES_MAX : POP3_LINE_BYTES_MAX;
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
	case POP3_PROVING:
		return pop3_prove_on(p);
	case POP3_NOTHING:
		break;
	}
	UNREACHABLE();
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out) { return pop3_xmit_data(pop3_of(s), bytes, used_out); }

static enum step arrived(struct session *s)
{
	pop3_verb_enter();
	return pop3_enter(pop3_of(s));
}

/* RFC 1939 section 3: no response, no update. */
static enum step timed_out(struct session *s)
{
	(void)s;
	return STEP_ABORT;
}

static enum step stop(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	if (p->cursor == POP3_NOTHING || p->cursor == POP3_PROVING) /* in the midst of a listing the words would be taken for a line of it */
		pop3_word(p, POP3_W_STOPPING);
	return STEP_CLOSE;
}

static void closed(struct session *s, enum session_end how)
{
	static const char *const names[] = { [END_CLIENT] = "client", [END_IDLE] = "idle", [END_STALLED] = "stalled",
					     [END_STOP] = "stop", [END_PROTOCOL] = "closed", [END_IO] = "io" };
	struct pop3_session *p = pop3_of(s);
	pop3_proof_drop(p);
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
	out->login = p->subject->name;
	out->tenant = p->subject->tenant;
}

const struct proto pop3_proto = {
	.name = "pop3",
	.session_bytes = sizeof(struct pop3_session),
	.line_bytes_max = POP3_LINE_BYTES_MAX,
	.long_line_bytes_max = long_line,
	.lf_ends_line = true, /* nothing follows a command that could be taken for another */
	.idle_ms_max = POP3_LOGIN_IDLE_MS_MAX,
	.alpn = "pop3", /* IANA: RFC 2595 */
	.logs_in = true,
	.refused = pop3_refused,
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
