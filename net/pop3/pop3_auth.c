/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_auth.c - the ways in: USER and PASS, APOP, AUTH with PLAIN and LOGIN (RFC 5034).
 *
 * All of them end in finish(): a right proof takes the session to the account's shard (pop3_enter), a wrong one is counted
 * and answered in the same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 *
 * The two mechanisms are simple enough to stand here; an exchange is one step each, kept in the session between lines.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "tenancy/tenant_class.h"

METRIC_COUNTER(logins_refused, "pop3_logins_refused_total", "POP3 logins refused for a wrong name or password");

/* ---- proof decided ---- */

static enum step refuse(struct pop3_session *p, struct slice name, const char *how, enum err e)
{
	log_event(LOG_INFO, "pop3.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_ERR(e));
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_AUTH && ++p->auth_failures >= pop3_settings.auth_tries_max) {
		pop3_word(p, POP3_W_TOO_MANY_TRIES);
		return STEP_CLOSE;
	}
	pop3_fail(p, e);
	return STEP_NEXT;
}

static enum step finish(struct pop3_session *p, struct slice name, const char *how, enum err e, struct subject *subject)
{
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND || e == ERR_LIMIT)
		e = ERR_AUTH; /* a name that cannot be one, a password that is too long: wrong, in the same words */
	if (e != OK) {
		enum step next = refuse(p, name, how, e);
		p->name = slice_of(NULL, 0); /* RFC 1939: PASS only right after USER */
		return next;
	}
	p->subject = subject;
	session_set_class(&p->s, tenant_class(subject->tenant_id));
	unsigned shard = store_shard_of(subject->account_id);
	if (shard == shard_index())
		return pop3_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

static enum step check_password(struct pop3_session *p, struct slice name, struct slice password, const char *how)
{
	struct auth_request request = { AUTH_POP3, name, session_peer_address(&p->s) };
	struct subject *subject = NULL;
	enum err e = auth_password(&request, password, &subject);
	return finish(p, name, how, e, subject);
}

/* Said before a password is asked for: what a client sends in the clear is known to others. */
static enum step not_in_the_clear(struct pop3_session *p)
{
	return pop3_bad(p, session_tls_offered(&p->s) ? POP3_W_TLS_FIRST : POP3_W_NO_CLEAR);
}

/* The name waits in the arena for its password. */
static bool keep_name(struct pop3_session *p, struct slice name)
{
	arena_reset(&p->s.arena);
	p->name = arena_slice(&p->s.arena, name);
	return p->name.ptr != NULL;
}

/* ---- USER, PASS ---- */

enum step pop3_user(struct pop3_session *p, const struct pop3_line *l)
{
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	if (!l->words.len)
		return pop3_bad(p, POP3_W_SYNTAX);
	if (!keep_name(p, l->words))
		return pop3_bad(p, POP3_W_TOO_BIG);
	pop3_word(p, POP3_W_NAME_TAKEN);
	return STEP_NEXT;
}

enum step pop3_pass(struct pop3_session *p, const struct pop3_line *l)
{
	if (!p->name.len)
		return pop3_bad(p, POP3_W_USER_FIRST);
	if (!l->has_argument)
		return pop3_bad(p, POP3_W_SYNTAX);
	return check_password(p, p->name, l->rest, "pass"); /* the rest of the line, blanks and all: DESIGN section 6 */
}

/* ---- APOP ---- */

size_t pop3_stamp(const struct pop3_session *p, char out[POP3_STAMP_BYTES_MAX])
{
	size_t len = 0;
	out[len++] = '<';
	for (int i = 0; i < 4; i++, len += 8)
		put_hex32(out + len, (uint32_t)(p->stamp[i / 2] >> (32 * (i % 2))));
	out[len++] = '@';
	size_t host = min_size(strlen(pop3_settings.host_name), POP3_STAMP_BYTES_MAX - len - 1);
	memcpy(out + len, pop3_settings.host_name, host);
	len += host;
	out[len++] = '>';
	return len;
}

enum step pop3_apop(struct pop3_session *p, const struct pop3_line *l)
{
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	if (!p->stamp[0] && !p->stamp[1])
		return pop3_bad(p, POP3_W_APOP_OFF);
	size_t space = slice_rfind(l->words, ' ');
	if (space == SIZE_MAX)
		return pop3_bad(p, POP3_W_SYNTAX);
	struct slice name = slice_trim(slice_upto(l->words, space)), digest = slice_from(l->words, space + 1);
	if (!name.len || digest.len != 32)
		return pop3_bad(p, POP3_W_SYNTAX);
	char stamp[POP3_STAMP_BYTES_MAX];
	struct auth_request request = { AUTH_POP3, name, session_peer_address(&p->s) };
	struct subject *subject = NULL;
	enum err e = auth_apop(&request, slice_of(stamp, pop3_stamp(p, stamp)), digest, &subject);
	return finish(p, name, "apop", e, subject);
}

/* ---- AUTH ---- */

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

/* Strict, as RFC 5034 section 4 wants it: no other bytes, '=' at the end only. Into the command arena. */
static bool base64_decode(struct arena *arena, struct slice text, struct slice *out)
{
	size_t pad = 0;
	while (pad < 2 && pad < text.len && text.ptr[text.len - 1 - pad] == '=')
		pad++;
	if (text.len % 4)
		return false;
	unsigned char *bytes = arena_alloc(arena, text.len / 4 * 3 + 1);
	if (!bytes)
		return false;
	size_t len = 0;
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

/* RFC 4616: authzid NUL authcid NUL password. Acting for somebody else is not offered: authzid is empty or authcid. */
static enum step plain_response(struct pop3_session *p, struct slice message)
{
	struct slice who, name, rest = message;
	size_t first = slice_find(rest, '\0');
	if (first == SIZE_MAX)
		return pop3_bad(p, POP3_W_BASE64);
	who = slice_upto(rest, first);
	rest = slice_from(rest, first + 1);
	size_t second = slice_find(rest, '\0');
	if (second == SIZE_MAX)
		return pop3_bad(p, POP3_W_BASE64);
	name = slice_upto(rest, second);
	struct slice password = slice_from(rest, second + 1);
	if (!name.len || slice_find(password, '\0') != SIZE_MAX)
		return pop3_bad(p, POP3_W_BASE64);
	if (who.len && !slice_eq(who, name))
		return finish(p, name, "plain", ERR_AUTH, NULL);
	return check_password(p, name, password, "plain");
}

static enum step login_name_response(struct pop3_session *p, struct slice name)
{
	if (!name.len || slice_find(name, '\0') != SIZE_MAX || !keep_name(p, name))
		return pop3_bad(p, POP3_W_BASE64);
	p->exchange = POP3_LOGIN_PASSWORD;
	REPLY_LIT(&p->s.reply, "+ UGFzc3dvcmQ6\r\n"); /* "Password:" */
	return STEP_NEXT;
}

static enum step response(struct pop3_session *p, struct slice message)
{
	enum pop3_exchange at = (enum pop3_exchange)p->exchange;
	p->exchange = POP3_NO_EXCHANGE;
	switch (at) {
	case POP3_PLAIN:
		return plain_response(p, message);
	case POP3_LOGIN_NAME:
		return login_name_response(p, message);
	case POP3_LOGIN_PASSWORD:
		return check_password(p, p->name, message, "login");
	case POP3_NO_EXCHANGE:
		break;
	}
	UNREACHABLE();
}

enum step pop3_exchange_line(struct pop3_session *p, struct slice line)
{
	if (slice_eq(line, SLICE_LIT("*"))) {
		p->exchange = POP3_NO_EXCHANGE;
		pop3_word(p, POP3_W_CANCELLED);
		return STEP_NEXT;
	}
	struct slice message;
	if (!base64_decode(&p->s.command, line, &message)) {
		p->exchange = POP3_NO_EXCHANGE;
		return pop3_bad(p, POP3_W_BASE64);
	}
	return response(p, message);
}

static enum step list_mechanisms(struct pop3_session *p)
{
	pop3_word(p, POP3_W_MECHANISMS);
	if (session_login_allowed(&p->s))
		REPLY_LIT(&p->s.reply, "PLAIN\r\nLOGIN\r\n");
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

enum step pop3_auth(struct pop3_session *p, const struct pop3_line *l)
{
	if (!l->words.len)
		return list_mechanisms(p);
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	size_t space = slice_find(l->words, ' ');
	struct slice mechanism = slice_upto(l->words, space);
	if (slice_eq_nocase(mechanism, SLICE_LIT("PLAIN")))
		p->exchange = POP3_PLAIN;
	else if (slice_eq_nocase(mechanism, SLICE_LIT("LOGIN")))
		p->exchange = POP3_LOGIN_NAME;
	else
		return pop3_bad(p, POP3_W_MECHANISM);
	if (space != SIZE_MAX) {
		struct slice initial = slice_trim(slice_from(l->words, space + 1));
		return pop3_exchange_line(p, slice_eq(initial, SLICE_LIT("=")) ? slice_of("", 0) : initial);
	}
	if (p->exchange == POP3_PLAIN)
		REPLY_LIT(&p->s.reply, "+ \r\n");
	else
		REPLY_LIT(&p->s.reply, "+ VXNlcm5hbWU6\r\n"); /* "Username:" */
	return STEP_NEXT;
}
