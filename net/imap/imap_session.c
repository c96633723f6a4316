/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_session.c - a session's way through RFC 9051's four states: greeting, entering the account, every end; and what net calls.
 */
#include "net/imap/imap_search.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "net/peer/carry.h"
#include "tenancy/usage.h"
#include "tenancy/tenant_figure.h"

#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(logins, "imap_logins_total", "IMAP sessions that logged in");

#define DEFAULTS { "localhost", "Penfold", "0", IMAP_LOGIN_IDLE_MS_MAX, IMAP_IDLE_MS_MAX, IMAP_AUTH_TRIES_MAX, IMAP_BAD_COMMANDS_MAX, MIB(100), \
		   IMAP_PROGRESS_MS }
static const struct imap_config presets = DEFAULTS;
struct imap_config imap_settings = DEFAULTS;

void imap_config_default(struct imap_config *config_out) { *config_out = presets; }

void imap_configure(const struct imap_config *config) { imap_settings = *config; }

static enum step greet(struct session *s)
{
	struct imap_session *p = imap_of(s);
	struct arena words;
	p->state = IMAP_NOT_AUTHENTICATED;
	session_set_idle(s, imap_settings.login_idle_ms_max);
	arena_init(&words, IMAP_COMMAND_ARENA_BYTES_MAX);
	reply_printf(&s->reply, "* OK [%.*s] %s Penfold IMAP ready\r\n", SLICE_ARG(imap_capabilities(p, &words)), imap_settings.host_name);
	arena_release(&words);
	return STEP_NEXT;
}

/* ---- in and out ---- */

void imap_note(const struct imap_session *p, enum decision_kind kind, const char *reason, struct slice login, uint32_t delay_ms, uint32_t failures)
{
	struct decision d = { .kind = kind, .protocol = "imap", .reason = reason, .session = p->s.id, .delay_ms = delay_ms, .failures = failures };
	decision_note(&d, session_peer_address(&p->s), login, p->subject ? p->subject->name : slice_of(NULL, 0));
}

/* Another node has the account: what is remembered here is nobody's truth any more. A lapsed lease alone ends nothing (DESIGN section 5). */
static void lost_account(struct owner_hold *hold, enum owner_end why)
{
	struct imap_session *p = CONTAINER_OF(hold, struct imap_session, hold);
	if (why != OWNER_END_LOST)
		return;
	log_event(LOG_WARN, "imap.lost", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer));
	p->lost = true;
	session_kill(&p->s, END_STOP);
}

static enum err take(struct imap_session *p, struct owner_answer *answer)
{
	*answer = (struct owner_answer){ .where = WHERE_HERE };
	if (p->subject->sdps_user.len)
		return ERR_DENIED; /* one of several users of a maildrop: POP3 only */
	p->hold.end = lost_account;
	return owner_open(p->subject->account_id, &p->hold, &p->account, answer);
}

bool imap_may_show(struct imap_session *p)
{
	if (!p->account || !owner_must_confirm(&p->hold) || account_confirm(p->subject->account_id) == OK)
		return true;
	REPLY_LIT(&p->s.reply, "* BYE [UNAVAILABLE] the account has moved, please connect again\r\n");
	return false;
}

/* Who passes a session on to us keeps the client where he was before the login. */
static enum step turned_away(const struct imap_session *p, enum step step) { return p->handed ? STEP_CLOSE : step; }

static enum step turn_away(struct imap_session *p, const char *why)
{
	imap_note(p, DECISION_REFUSED, why, p->subject->name, 0, 0);
	log_event(LOG_INFO, "imap.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("why", why));
	usage_add(p->subject->tenant_id, USAGE_REFUSALS, 1);
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_TURNED_AWAY);
	imap_leave(p);
	session_class_of_peer(&p->s);
	return STEP_NEXT;
}

static enum step no_seat(struct imap_session *p, enum limit limit)
{
	turn_away(p, limit_word(limit));
	return turned_away(p, imap_no(p, "LIMIT", limit == LIMIT_ACCOUNT ? "this account has too many sessions (limit account), please wait and try again"
								     : "too many sessions (limit tenant), please wait and try again"));
}

/* The account is here, or the session has gone on elsewhere (OK, with a step for both). */
static enum err take_or_proxy(struct imap_session *p, bool *gone_out, enum step *step_out)
{
	struct owner_answer answer;
	enum err e = take(p, &answer);
	for (unsigned tries = 0; e != OK && tries < 2 && !p->handed && carry_worth(&answer); tries++) {
		enum err passed = imap_proxy(p, &answer.at, step_out);
		if (passed == OK)
			return *gone_out = true, OK;
		e = passed == ERR_AGAIN && !session_dying(&p->s) ? take(p, &answer) : ERR_TEMP; /* Redis is asked once more */
		if (passed != ERR_AGAIN)
			break;
	}
	return e;
}

enum step imap_enter(struct imap_session *p)
{
	enum limit limit = seats_take(p->subject, true);
	if (limit != LIMIT_NONE)
		return no_seat(p, limit);
	p->seated = true;
	bool gone = false;
	enum step step;
	enum err e = take_or_proxy(p, &gone, &step);
	if (gone)
		return step;
	if (e != OK) {
		turn_away(p, err_name(e));
		return turned_away(p, imap_fail(p, e));
	}
	p->state = IMAP_AUTHENTICATED;
	session_entered(&p->s);
	usage_add(p->subject->tenant_id, USAGE_SESSIONS, 1);
	imap_note(p, DECISION_ACCEPTED, "login", p->subject->name, 0, 0);
	session_set_idle(&p->s, imap_settings.idle_ms_max);
	metric_inc(&logins);
	tenant_figure_add(p->subject->tenant_id, p->subject->tenant, TENANT_LOGINS);
	log_event(LOG_INFO, "imap.login", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("tls", session_tls_version(&p->s) ? session_tls_version(&p->s) : "no"));
	char *code = arena_copy(&p->cmd->arena, imap_capabilities(p, &p->cmd->arena));
	return imap_ok_code(p, code, "logged in");
}

void imap_leave_folder(struct imap_session *p)
{
	folder_unwatch(&p->watch);
	imap_saved_forget(p);
	if (p->view)
		view_close(p->view);
	p->view = NULL;
	p->folder = 0;
	p->exists_told = 0;
	p->modseq_told = 0;
	p->read_only = false;
	if (p->state == IMAP_SELECTED)
		p->state = IMAP_AUTHENTICATED;
}

/* What is still in the output is as good as sent, but for a client that breaks off. */
static void charge_bytes(const struct imap_session *p)
{
	if (!p->subject || p->state == IMAP_NOT_AUTHENTICATED)
		return;
	usage_add(p->subject->tenant_id, USAGE_BYTES_IN, p->s.received_bytes);
	usage_add(p->subject->tenant_id, USAGE_BYTES_OUT, p->s.reply.sent_bytes + p->s.reply.queued_bytes);
}

void imap_leave(struct imap_session *p)
{
	charge_bytes(p);
	imap_idle_leave(p);
	imap_leave_folder(p);
	if (p->account)
		owner_close(&p->hold, p->account);
	p->account = NULL;
	if (p->seated)
		seats_give(p->subject, true);
	p->seated = false;
	if (p->subject)
		subject_unref(p->subject);
	p->subject = NULL;
	p->state = IMAP_NOT_AUTHENTICATED;
	p->enabled = 0;
}

/* ---- what net calls ---- */

/* A browser that was sent here gets nothing that it could take for an answer. */
static bool is_http(struct slice line)
{
	size_t space = slice_rfind(line, ' ');
	return space != SIZE_MAX && slice_starts_nocase(slice_from(line, space + 1), SLICE_LIT("HTTP/"));
}

static enum step take_line(struct session *s, struct slice line)
{
	struct imap_session *p = imap_of(s);
	if (!p->spoke && is_http(line))
		return STEP_ABORT;
	p->spoke = true;
	p->long_line = false;
	return imap_line(p, line);
}

/* A longer line is never taken, but its tag is kept: a client waits for an answer that bears it. */
static size_t see_long_line(struct session *s, struct slice begun)
{
	struct imap_session *p = imap_of(s);
	struct imap_args a;
	struct slice tag;
	imap_args_init(&a, begun, &s->command, false);
	if (!p->long_tag && !p->cmd && !p->idle_tag && imap_tag(&a, &tag) && imap_skip(&a, ' '))
		p->long_tag = slice_dup(tag);
	return s->proto->line_bytes_max;
}

static enum step take_long_line(struct session *s)
{
	struct imap_session *p = imap_of(s);
	p->spoke = true;
	if (p->cmd && !p->long_tag && imap_read_verb(p->cmd))
		p->long_tag = slice_dup(p->cmd->tag);
	imap_command_free(p);
	reply_printf(&s->reply, "%s BAD [TOOBIG] the line is too long\r\n", p->long_tag ? p->long_tag : "*");
	free(p->long_tag);
	p->long_tag = NULL;
	p->long_line = ++p->bad_in_row < imap_settings.bad_commands_max;
	if (p->long_line)
		return STEP_NEXT;
	REPLY_LIT(&s->reply, "* BYE too many bad commands\r\n");
	return STEP_CLOSE;
}

static enum step go_on(struct session *s)
{
	struct imap_session *p = imap_of(s);
	ASSERT(p->cmd && p->cmd->resume);
	return p->cmd->resume(p);
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out) { return imap_data(imap_of(s), bytes, used_out); }

static enum step arrived(struct session *s)
{
	imap_verb_enter();
	return imap_enter(imap_of(s));
}

static enum step poked(struct session *s)
{
	struct imap_session *p = imap_of(s);
	if (!p->idle_tag || p->cmd)
		return STEP_NEXT;
	return imap_may_show(p) ? imap_idle_poked(p) : STEP_CLOSE;
}

static enum step timed_out(struct session *s)
{
	REPLY_LIT(&s->reply, "* BYE logged out for inactivity\r\n");
	return STEP_CLOSE;
}

static enum step garbled(struct session *s)
{
	REPLY_LIT(&s->reply, "* BYE what you send is not DEFLATE\r\n");
	return STEP_CLOSE;
}

static struct slice stop_words(const struct imap_session *p)
{
	if (session_withdrawn(&p->s)) /* RFC 5530: suspended, removed, another password */
		return SLICE_LIT("* BYE [AUTHORIZATIONFAILED] this account may not be used here any more\r\n");
	if (p->lost)
		return SLICE_LIT("* BYE [UNAVAILABLE] the account has moved, please connect again\r\n");
	return SLICE_LIT("* BYE the server is stopping, please connect again\r\n");
}

static enum step stop(struct session *s)
{
	const struct imap_session *p = imap_of(s);
	if (!p->cmd || !p->cmd->resume) /* in the midst of an answer the words would be taken for a part of it */
		reply_put(&s->reply, stop_words(p));
	return STEP_CLOSE;
}

static void closed(struct session *s, enum session_end how)
{
	static const char *const names[] = { [END_CLIENT] = "client", [END_IDLE] = "idle", [END_STALLED] = "stalled",
					     [END_STOP] = "stop", [END_PROTOCOL] = "closed", [END_IO] = "io" };
	struct imap_session *p = imap_of(s);
	if (how == END_PROTOCOL && p->long_line)
		REPLY_LIT(&s->reply, "* BYE the line has no end\r\n");
	if (p->spoke)
		log_event(LOG_INFO, "imap.end", LOG_U64("session", s->id), LOG_Z("peer", s->peer),
			  LOG_STR("tenant", p->subject ? p->subject->tenant : slice_of(NULL, 0)),
			  LOG_STR("user", p->subject ? p->subject->name : slice_of(NULL, 0)), LOG_Z("how", names[how]),
			  LOG_U64("sent_bytes", s->reply.sent_bytes + s->reply.queued_bytes));
	free(p->long_tag);
	imap_command_free(p);
	imap_leave(p);
}

static size_t refused(enum limit limit, char *out)
{
	int len = snprintf(out, NET_REFUSAL_BYTES_MAX, "* BYE [LIMIT] too many connections (limit %s), please wait and try again\r\n", limit_word(limit));
	ASSERT(len > 0 && (size_t)len < NET_REFUSAL_BYTES_MAX);
	return (size_t)len;
}

static void describe(const struct session *s, struct session_facts *out)
{
	const struct imap_session *p = CONTAINER_OF(s, const struct imap_session, s);
	out->state = p->idle_tag ? "idle" : p->state == IMAP_NOT_AUTHENTICATED ? "not authenticated" : p->state == IMAP_SELECTED ? "selected" : "authenticated";
	out->unfinished = p->cmd && !p->idle_tag;
	if (!p->subject)
		return;
	out->account_id = p->subject->account_id;
	out->tenant_id = p->subject->tenant_id;
	out->login = p->subject->name;
	out->tenant = p->subject->tenant;
	out->credential_version = p->subject->credential_version;
}

const struct proto imap_proto = {
	.name = "imap",
	.session_bytes = sizeof(struct imap_session),
	.line_bytes_max = IMAP_LINE_BYTES_MAX,
	.lf_ends_line = false, /* a bare LF could hide a command in a literal's text */
	.idle_ms_max = IMAP_LOGIN_IDLE_MS_MAX,
	.alpn = "imap", /* IANA: RFC 2595 */
	.logs_in = true,
	.refused = refused,
	.open = greet,
	.line = take_line,
	.too_long = take_long_line,
	.long_line_bytes_max = see_long_line,
	.resume = go_on,
	.data = take_data,
	.moved = arrived,
	.poked = poked,
	.timeout = timed_out,
	.stop = stop,
	.garbled = garbled,
	.closed = closed,
	.describe = describe,
	.handed = imap_handed,
};
