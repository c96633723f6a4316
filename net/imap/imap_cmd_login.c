/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_login.c - LOGIN and AUTHENTICATE (RFC 9051 sections 6.2.2 and 6.2.3): PLAIN and LOGIN, with an initial response (RFC 4959).
 *
 * All end in finish(): a right proof takes the session to the account's shard (imap_enter), a wrong one is counted and answered in the
 * same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 */
#include "net/imap/imap_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"

METRIC_COUNTER(logins_refused, "imap_logins_refused_total", "IMAP logins refused for a wrong name or password");

/* ---- proof decided ---- */

static enum step refuse(struct imap_session *p, struct slice name, const char *how, enum err e)
{
	log_event(LOG_INFO, "imap.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_ERR(e));
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_DENIED)
		return imap_no(p, "AUTHORIZATIONFAILED", "this account may not log in here");
	if (e == ERR_AUTH && ++p->auth_failures >= imap_settings.auth_tries_max) {
		REPLY_LIT(&p->s.reply, "* BYE too many wrong passwords\r\n");
		imap_fail(p, e);
		return STEP_CLOSE;
	}
	return imap_fail(p, e);
}

static enum step finish(struct imap_session *p, struct slice name, const char *how, enum err e, struct subject *subject)
{
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND || e == ERR_LIMIT)
		e = ERR_AUTH; /* a name that cannot be one, a password that is too long: wrong, in the same words */
	if (e != OK)
		return refuse(p, name, how, e);
	p->subject = subject;
	unsigned shard = store_shard_of(subject->account_id);
	if (shard == shard_index())
		return imap_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

static enum step check_password(struct imap_session *p, struct slice name, struct slice password, const char *how)
{
	struct auth_request request = { AUTH_IMAP, name, session_peer_address(&p->s) };
	struct subject *subject = NULL;
	p->cmd->continued = NULL;
	enum err e = auth_password(&request, password, &subject);
	return finish(p, name, how, e, subject);
}

static enum step not_in_the_clear(struct imap_session *p)
{
	return imap_no(p, "PRIVACYREQUIRED", session_tls_offered(&p->s) ? "STARTTLS first" : "not without TLS");
}

enum step imap_cmd_login(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice name, password;
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	if (!imap_sp(a) || !imap_astring(a, &name) || !imap_sp(a) || !imap_astring(a, &password) || !imap_end(a))
		return imap_bad_args(p);
	return check_password(p, name, password, "login");
}

/* ---- AUTHENTICATE ---- */

static int base64_value(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Strict: no other bytes, '=' at the end only. */
static bool base64_decode(struct arena *arena, struct slice text, struct slice *out)
{
	size_t pad = 0, len = 0;
	while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
		pad++;
	unsigned char *bytes = text.len % 4 ? NULL : arena_alloc(arena, text.len / 4 * 3 + 1);
	if (!bytes)
		return false;
	uint32_t group = 0;
	for (size_t i = 0; i < text.len; i++) {
		int v = i < text.len - pad ? base64_value(text.ptr[i]) : 0;
		if (v < 0)
			return false;
		group = group << 6 | (uint32_t)v;
		if (i % 4 == 3) {
			bytes[len++] = (unsigned char)(group >> 16);
			bytes[len++] = (unsigned char)(group >> 8);
			bytes[len++] = (unsigned char)group;
		}
	}
	*out = slice_of(bytes, len - (len ? pad : 0));
	return true;
}

static enum step garbled(struct imap_session *p)
{
	p->cmd->continued = NULL;
	return imap_bad(p, "that is no answer of this mechanism");
}

/* A line of the exchange: "*" gives it up (RFC 9051 section 6.2.2). */
static bool response(struct imap_session *p, struct slice line, struct slice *out, enum step *step_out)
{
	if (slice_eq(line, SLICE_LIT("*"))) {
		p->cmd->continued = NULL;
		*step_out = imap_bad(p, "given up");
		return false;
	}
	if (base64_decode(&p->cmd->arena, line, out))
		return true;
	*step_out = garbled(p);
	return false;
}

/* RFC 4616: authzid NUL authcid NUL password. Acting for somebody else is not offered: authzid is empty or authcid. */
static enum step plain_line(struct imap_session *p, struct slice line)
{
	struct slice message, rest;
	enum step step;
	if (!response(p, line, &message, &step))
		return step;
	size_t first = slice_find(message, '\0');
	rest = slice_from(message, first == SIZE_MAX ? message.len : first + 1);
	size_t second = slice_find(rest, '\0');
	if (first == SIZE_MAX || second == SIZE_MAX || !second || slice_find(slice_from(rest, second + 1), '\0') != SIZE_MAX)
		return garbled(p);
	struct slice who = slice_upto(message, first), name = slice_upto(rest, second);
	if (who.len && !slice_eq(who, name)) {
		p->cmd->continued = NULL;
		return finish(p, name, "plain", ERR_AUTH, NULL);
	}
	return check_password(p, name, slice_from(rest, second + 1), "plain");
}

static enum step login_password_line(struct imap_session *p, struct slice line)
{
	struct slice password;
	enum step step;
	if (!response(p, line, &password, &step))
		return step;
	return check_password(p, *(struct slice *)p->cmd->state, password, "login");
}

static enum step login_name_line(struct imap_session *p, struct slice line)
{
	struct slice name, *kept = arena_alloc(&p->cmd->arena, sizeof *kept);
	enum step step;
	if (!response(p, line, &name, &step))
		return step;
	if (!kept || !name.len || slice_find(name, '\0') != SIZE_MAX)
		return garbled(p);
	*kept = name;
	p->cmd->state = kept;
	p->cmd->continued = login_password_line;
	REPLY_LIT(&p->s.reply, "+ UGFzc3dvcmQ6\r\n"); /* "Password:" */
	return STEP_NEXT;
}

enum step imap_cmd_authenticate(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice mechanism, initial;
	if (!imap_sp(a) || !imap_atom(a, &mechanism))
		return imap_bad_args(p);
	bool plain = slice_eq_nocase(mechanism, SLICE_LIT("PLAIN"));
	if (!plain && !slice_eq_nocase(mechanism, SLICE_LIT("LOGIN")))
		return imap_no(p, "CANNOT", "no such mechanism");
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	p->cmd->continued = plain ? plain_line : login_name_line;
	if (!imap_at_end(a)) {
		if (!imap_sp(a))
			return garbled(p);
		initial = slice_of(a->at, (size_t)(a->end - a->at));
		return p->cmd->continued(p, slice_eq(initial, SLICE_LIT("=")) ? slice_of("", 0) : initial);
	}
	if (plain)
		REPLY_LIT(&p->s.reply, "+ \r\n");
	else
		REPLY_LIT(&p->s.reply, "+ VXNlcm5hbWU6\r\n"); /* "Username:" */
	return STEP_NEXT;
}
