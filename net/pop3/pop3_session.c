/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_session.c - a session's way through RFC 1939's states: greeting, entering the maildrop, QUIT, and every other end.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "net/fleet/owner.h"
#include "net/peer/carry.h"
#include "storage/folder.h"
#include "tenancy/usage.h"
#include "tenancy/tenant_figure.h"

#include <stdlib.h>

METRIC_COUNTER(logins, "pop3_logins_total", "POP3 sessions that entered TRANSACTION");
METRIC_COUNTER(in_use, "pop3_in_use_total", "POP3 logins refused because another session holds the maildrop");
METRIC_COUNTER(messages_deleted, "pop3_messages_deleted_total", "messages deleted by QUIT");
METRIC_COUNTER(messages_expired, "pop3_messages_expired_total", "messages deleted at a login because their days were over");
METRIC_COUNTER(updates_failed, "pop3_updates_failed_total", "QUITs whose deletions could not be made durable");

#define XMIT_DEFAULT { { .host_name = "localhost", .connect_ms_max = RELAY_CONNECT_MS_MAX, .answer_ms_max = RELAY_ANSWER_MS_MAX, \
			 .data_ms_max = RELAY_DATA_MS_MAX }, POP3_XMIT_BYTES_MAX, POP3_XMIT_RCPTS_MAX, POP3_XMIT_RCPTS_PER_HOUR_MAX }
static const struct pop3_config presets = { "localhost", "Penfold", "en", POP3_LOGIN_IDLE_MS_MAX, POP3_IDLE_MS_MAX, POP3_AUTH_TRIES_MAX,
					    POP3_BAD_COMMANDS_MAX, EXPIRE_DAY_S, XMIT_DEFAULT };
struct pop3_config pop3_settings = { "localhost", "Penfold", "en", POP3_LOGIN_IDLE_MS_MAX, POP3_IDLE_MS_MAX, POP3_AUTH_TRIES_MAX,
				     POP3_BAD_COMMANDS_MAX, EXPIRE_DAY_S, XMIT_DEFAULT };

void pop3_config_default(struct pop3_config *config_out) { *config_out = presets; }

void pop3_configure(const struct pop3_config *config) { pop3_settings = *config; }

/* ---- AUTHORIZATION ---- */

static enum step greet(struct session *s)
{
	struct pop3_session *p = pop3_of(s);
	session_set_idle(s, pop3_settings.login_idle_ms_max);
	reply_printf(&s->reply, "+OK %s Penfold POP3 ready", pop3_settings.host_name);
	if (auth_apop_offered(session_tls_server_name(s))) {
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

/* Retention, so that what has had its days is not shown again. What fails here, the sweep will do (or this session's own words will tell). */
static void expire(struct pop3_session *p)
{
	size_t removed = 0;
	int64_t kept_s = (int64_t)p->subject->expire_days * pop3_settings.expire_day_s;
	if (p->subject->expire_days < 1)
		return;
	enum err e = account_expire(p->account, FOLDER_INBOX, clock_wall_s() - kept_s, EXPIRE_LOGIN_MAX, &removed);
	metric_add(&messages_expired, (int64_t)removed);
	if (removed || e != OK)
		log_event(e == OK ? LOG_INFO : LOG_WARN, "pop3.expired", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name),
			  LOG_U64("messages", removed), LOG_ERR(e));
}

static enum err take(struct pop3_session *p, struct owner_answer *answer)
{
	p->lock.probe = still_there;
	p->lock.user = p->subject->sdps_user;
	enum err e = owner_open_maildrop(&p->lock, p->subject->account_id, session_peer_address(&p->s), p->subject->login_delay_s, lost_maildrop,
					 &p->account, answer);
	if (e == OK)
		expire(p);
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

/* Who passes a session on to us keeps the client where he was before the login. */
static enum step refused(const struct pop3_session *p) { return p->handed ? STEP_CLOSE : STEP_NEXT; }

static enum step turn_away(struct pop3_session *p, enum err e, bool too_soon)
{
	pop3_note(p, DECISION_REFUSED, too_soon ? "login-delay" : err_name(e), p->name, p->subject->name, 0, 0);
	uint32_t delay_s = p->subject->login_delay_s;
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_TURNED_AWAY);
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
	return refused(p);
}

/* The lock lets one session into a maildrop, but for the users of a host's (invariant 5). */
static bool is_shared(const struct pop3_session *p) { return p->subject->maildrop; }

static enum step no_seat(struct pop3_session *p, enum limit limit)
{
	log_event(LOG_INFO, "pop3.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("limit", limit_word(limit)));
	pop3_note(p, DECISION_REFUSED, limit_word(limit), p->name, p->subject->name, 0, 0);
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_TURNED_AWAY);
	usage_add(p->subject->tenant_id, USAGE_REFUSALS, 1);
	pop3_leave(p);
	session_class_of_peer(&p->s);
	pop3_word(p, limit == LIMIT_ACCOUNT ? POP3_W_SESSIONS_ACCOUNT : POP3_W_SESSIONS_TENANT);
	return refused(p);
}

enum step pop3_enter(struct pop3_session *p)
{
	struct owner_answer answer;
	enum limit limit = seats_take(p->subject, is_shared(p));
	if (limit != LIMIT_NONE)
		return no_seat(p, limit);
	p->seated = true;
	enum err e = take(p, &answer);
	for (unsigned tries = 0; e != OK && tries < 2 && !p->handed && carry_worth(&answer); tries++) {
		enum step step;
		enum err passed = pop3_proxy(p, &answer.at, &step);
		if (passed == OK)
			return step;
		e = passed == ERR_AGAIN && !session_dying(&p->s) ? take(p, &answer) : ERR_TEMP; /* Redis is asked once more */
		if (passed != ERR_AGAIN)
			break;
	}
	if (e != OK)
		return turn_away(p, e, answer.too_soon);
	p->state = POP3_TRANSACTION;
	session_entered(&p->s);
	pop3_note(p, DECISION_ACCEPTED, "login", p->name, p->subject->name, 0, 0);
	usage_add(p->subject->tenant_id, USAGE_SESSIONS, 1);
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
	pop3_exchange_drop(p);
	charge_bytes(p);
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

void pop3_need_bits(struct pop3_session *p)
{
	size_t count = view_count(p->view);
	if (!p->deleted.words)
		bits_init(&p->deleted, p->subject->expire_days == 0 ? 2 * count : count);
}

void pop3_retrieved(struct pop3_session *p, uint32_t index)
{
	if (p->subject->expire_days != 0)
		return;
	pop3_need_bits(p);
	bits_set(&p->deleted, view_count(p->view) + (size_t)index);
}

/* RFC 2449 section 6.7, EXPIRE 0: "an implicit DELE for each message which was downloaded with RETR". */
static void delete_retrieved(struct pop3_session *p)
{
	size_t count = view_count(p->view);
	if (p->subject->expire_days != 0 || !p->deleted.words)
		return;
	for (size_t i = bits_next(&p->deleted, count); i != SIZE_MAX; i = bits_next(&p->deleted, i + 1))
		if (!bits_get(&p->deleted, i - count)) {
			bits_set(&p->deleted, i - count);
			p->deleted_count++;
		}
}

/* The folder for what is deleted: the one that is marked so, else one of that name, else a new one. */
static enum err find_trash(struct account *account, uint32_t *folder_out)
{
	uint32_t cursor = 0;
	struct folder_info info;
	while (folder_next(account, &cursor, &info))
		if (info.special_use == FOLDER_USE_TRASH) {
			*folder_out = info.id;
			return OK;
		}
	if (folder_find(account, SLICE_LIT("Trash"), &info) == OK) {
		*folder_out = info.id;
		return OK;
	}
	return folder_create(account, SLICE_LIT("Trash"), FOLDER_USE_TRASH, folder_out);
}

static enum err move_to_trash(struct account *account, const uint32_t *uids, size_t count, size_t *removed_out)
{
	struct copy copy = { .from = FOLDER_INBOX, .uids = uids, .count = count, .move = true };
	enum err e = find_trash(account, &copy.to);
	if (e != OK)
		return e;
	struct appended *moved = xcalloc(count, sizeof *moved);
	e = account_copy(account, &copy, moved);
	for (size_t i = 0; i < count && e == OK; i++)
		*removed_out += moved[i].uid != 0;
	free(moved);
	return e;
}

/* One command, one commit (invariant 13). */
static enum err expunge(struct pop3_session *p, size_t *removed_out)
{
	uint32_t *uids = xmalloc(p->deleted_count * sizeof *uids);
	size_t count = 0;
	for (size_t i = bits_next(&p->deleted, 0); i < view_count(p->view); i = bits_next(&p->deleted, i + 1)) {
		struct message m;
		view_message(p->view, (uint32_t)i, &m);
		uids[count++] = m.uid;
	}
	ASSERT(count == p->deleted_count);
	enum err e = p->subject->delete_to_trash ? move_to_trash(p->account, uids, count, removed_out)
						 : account_expunge(p->account, FOLDER_INBOX, uids, count, removed_out);
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
	delete_retrieved(p);
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
		pop3_word(p, session_withdrawn(s) ? POP3_W_WITHDRAWN : POP3_W_STOPPING);
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
	out->unfinished = p->state != POP3_AUTHORIZATION;
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
	.handed = pop3_handed,
	.timeout = timed_out,
	.stop = stop,
	.closed = closed,
	.describe = describe,
};
