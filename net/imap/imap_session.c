/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_session.c - a session's way through RFC 9051's four states: greeting, entering the account, every end; and what net calls.
 */
#include "net/imap/imap_search.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

METRIC_COUNTER(logins, "imap_logins_total", "IMAP sessions that logged in");

#define DEFAULTS { "localhost", "Penfold", "0", IMAP_LOGIN_IDLE_MS_MAX, IMAP_IDLE_MS_MAX, IMAP_AUTH_TRIES_MAX, IMAP_BAD_COMMANDS_MAX, MIB(100) }
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

enum step imap_enter(struct imap_session *p)
{
	enum err e = p->subject->sdps_user.len ? ERR_DENIED /* one of several users of a maildrop: POP3 only */
					       : account_open(p->subject->account_id, &p->account);
	if (e != OK) {
		log_event(LOG_INFO, "imap.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", p->subject->name),
			  LOG_ERR(e));
		imap_leave(p);
		return imap_fail(p, e);
	}
	p->state = IMAP_AUTHENTICATED;
	session_set_idle(&p->s, imap_settings.idle_ms_max);
	metric_inc(&logins);
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

void imap_leave(struct imap_session *p)
{
	imap_idle_leave(p);
	imap_leave_folder(p);
	if (p->account)
		account_close(p->account);
	p->account = NULL;
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
	return imap_line(p, line);
}

static enum step take_long_line(struct session *s)
{
	struct imap_session *p = imap_of(s);
	p->spoke = true;
	imap_command_free(p);
	/* its tag went with it: a client that waits for that would wait for ever, so this is the end (RFC 9051 section 7.1.5) */
	REPLY_LIT(&s->reply, "* BYE [TOOBIG] the line is too long\r\n");
	return STEP_CLOSE;
}

static enum step go_on(struct session *s)
{
	struct imap_session *p = imap_of(s);
	ASSERT(p->cmd && p->cmd->resume);
	return p->cmd->resume(p);
}

static enum step take_data(struct session *s, struct slice bytes, size_t *used_out) { return imap_data(imap_of(s), bytes, used_out); }

static enum step arrived(struct session *s) { return imap_enter(imap_of(s)); }

static enum step poked(struct session *s)
{
	struct imap_session *p = imap_of(s);
	return p->idle_tag && !p->cmd ? imap_idle_poked(p) : STEP_NEXT;
}

static enum step timed_out(struct session *s)
{
	REPLY_LIT(&s->reply, "* BYE logged out for inactivity\r\n");
	return STEP_CLOSE;
}

static enum step stop(struct session *s)
{
	const struct imap_session *p = imap_of(s);
	if (!p->cmd || !p->cmd->resume) /* in the midst of an answer the words would be taken for a part of it */
		REPLY_LIT(&s->reply, "* BYE the server is stopping, please connect again\r\n");
	return STEP_CLOSE;
}

static void closed(struct session *s, enum session_end how)
{
	static const char *const names[] = { [END_CLIENT] = "client", [END_IDLE] = "idle", [END_STALLED] = "stalled",
					     [END_STOP] = "stop", [END_PROTOCOL] = "closed", [END_IO] = "io" };
	struct imap_session *p = imap_of(s);
	if (p->spoke)
		log_event(LOG_INFO, "imap.end", LOG_U64("session", s->id), LOG_Z("peer", s->peer),
			  LOG_STR("tenant", p->subject ? p->subject->tenant : slice_of(NULL, 0)),
			  LOG_STR("user", p->subject ? p->subject->name : slice_of(NULL, 0)), LOG_Z("how", names[how]),
			  LOG_U64("sent_bytes", s->reply.sent_bytes + s->reply.queued_bytes));
	imap_command_free(p);
	imap_leave(p);
}

const struct proto imap_proto = {
	.name = "imap",
	.session_bytes = sizeof(struct imap_session),
	.line_bytes_max = IMAP_LINE_BYTES_MAX,
	.lf_ends_line = false, /* a bare LF could hide a command in a literal's text */
	.idle_ms_max = IMAP_LOGIN_IDLE_MS_MAX,
	.alpn = "imap", /* IANA: RFC 2595 */
	.open = greet,
	.line = take_line,
	.too_long = take_long_line,
	.resume = go_on,
	.data = take_data,
	.moved = arrived,
	.poked = poked,
	.timeout = timed_out,
	.stop = stop,
	.closed = closed,
};
