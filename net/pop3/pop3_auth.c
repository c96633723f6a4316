/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_auth.c - the ways in: USER and PASS, APOP, AUTH (RFC 5034).
 *
 * All of them are an attempt (net/attempt.h) and end in tell(): a right proof takes the session to the account's shard (pop3_enter), a wrong one
 * is counted and answered in the same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 *
 * The exchanges of AUTH are net/sasl.h's; one under way lies in the session's arena.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/attempt.h"
#include "tenancy/tenant_class.h"

METRIC_COUNTER(logins_refused, "pop3_logins_refused_total", "POP3 logins refused for a wrong name or password");

static bool in_clear(const struct pop3_session *p) { return !session_client_tls(&p->s); }

/* Said before a password is asked for: what a client sends in the clear is known to others. */
static enum step not_in_the_clear(struct pop3_session *p)
{
	return pop3_bad(p, session_tls_offered(&p->s) ? POP3_W_TLS_FIRST : POP3_W_NO_CLEAR);
}

/* ---- the outcome ---- */

static enum step refuse(struct pop3_session *p, const struct attempt *a)
{
	enum err e = a->outcome;
	const char *reason = e == ERR_AUTH ? a->pass.repeated ? "wrong-password-repeated" : "wrong-password" : err_name(e);
	log_event(LOG_INFO, "pop3.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", a->name), LOG_Z("how", a->how),
		  LOG_ERR(e), LOG_Z("reason", reason), LOG_U64("failures", a->failures));
	pop3_note(p, DECISION_REFUSED, reason, a->name, slice_of(NULL, 0), 0, a->failures);
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_AUTH && ++p->auth_failures >= pop3_settings.auth_tries_max) {
		pop3_word(p, POP3_W_TOO_MANY_TRIES);
		return STEP_CLOSE;
	}
	if (e == ERR_DENIED && in_clear(p) && auth_in_clear(a->name) == ERR_DENIED)
		return not_in_the_clear(p);
	pop3_fail(p, e);
	return STEP_NEXT;
}

/* The outcome may be told. */
static enum step tell(struct pop3_session *p, struct attempt *a)
{
	if (a->outcome != OK) {
		enum step next = refuse(p, a);
		p->name = slice_of(NULL, 0); /* RFC 1939: PASS only right after USER */
		return next;
	}
	p->subject = a->subject;
	a->subject = NULL;
	session_set_class(&p->s, tenant_class(p->subject->tenant_id));
	unsigned shard = store_shard_of(p->subject->account_id);
	if (shard == shard_index())
		return pop3_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

static enum step too_many_wait(struct pop3_session *p, const struct attempt *a)
{
	log_event(LOG_INFO, "pop3.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", a->name), LOG_Z("how", a->how),
		  LOG_Z("limit", limit_word(LIMIT_GUESSING)), LOG_Z("reason", a->pass.reason));
	pop3_note(p, DECISION_REFUSED, limit_word(LIMIT_GUESSING), a->name, slice_of(NULL, 0), 0, 0);
	p->name = slice_of(NULL, 0);
	pop3_word(p, POP3_W_GUESSING);
	return STEP_NEXT;
}

static enum step begin(struct pop3_session *p, struct attempt a)
{
	switch (attempt_begin(&a, &p->s)) {
	case ATTEMPT_TOLD:
		return tell(p, &a);
	case ATTEMPT_SHED:
		return too_many_wait(p, &a);
	case ATTEMPT_WAITS:
		break;
	}
	pop3_note(p, DECISION_DELAYED, a.pass.reason, a.name, slice_of(NULL, 0), a.pass.delay_ms, 0);
	p->attempt = attempt_keep(&a);
	p->cursor = POP3_PROVING;
	return STEP_PAUSE;
}

enum step pop3_prove_on(struct pop3_session *p)
{
	struct attempt *a = p->attempt;
	pop3_verb_held();
	p->attempt = NULL;
	p->cursor = POP3_NOTHING;
	attempt_go_on(a, &p->s);
	enum step next = tell(p, a);
	attempt_free(a);
	return next;
}

void pop3_proof_drop(struct pop3_session *p)
{
	if (p->cursor != POP3_PROVING)
		return;
	attempt_free(p->attempt);
	p->attempt = NULL;
	p->cursor = POP3_NOTHING;
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
	if (in_clear(p) && auth_in_clear(l->words) != OK) /* the tenant's word, before the password is sent */
		return not_in_the_clear(p);
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
	return begin(p, attempt_password(AUTH_POP3, p->name, slice_of(NULL, 0), l->rest, "pass")); /* the rest of the line, blanks and all: DESIGN section 6 */
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
	struct auth_request request = { .protocol = AUTH_POP3, .login = name, .peer = session_peer_address(&p->s), .in_clear = in_clear(p) };
	struct subject *subject = NULL;
	enum err e = auth_apop(&request, slice_of(stamp, pop3_stamp(p, stamp)), digest, &subject);
	return begin(p, attempt_decided(AUTH_POP3, name, "apop", e, subject));
}

/* ---- AUTH ---- */

static struct sasl_peer peer_of(const struct pop3_session *p) { return sasl_peer_of(&p->s, AUTH_POP3); }
static unsigned mechanisms(struct pop3_session *p)
{
	struct sasl_peer peer = peer_of(p);
	return session_login_allowed(&p->s) ? sasl_mask(&peer) : 0;
}

void pop3_exchange_drop(struct pop3_session *p)
{
	if (p->exchange == POP3_NO_EXCHANGE)
		return;
	sasl_end(p->sasl);
	p->sasl = NULL;
	p->exchange = POP3_NO_EXCHANGE;
}

static void challenge(struct pop3_session *p, struct slice text)
{
	REPLY_LIT(&p->s.reply, "+ ");
	reply_put(&p->s.reply, text);
	REPLY_LIT(&p->s.reply, "\r\n");
}

/* The exchange is over: with a subject, or with the reason why not. */
static enum step conclude(struct pop3_session *p, enum err why, struct subject *subject)
{
	enum sasl_mechanism m = (enum sasl_mechanism)(p->exchange - 1);
	struct slice name = sasl_login(p->sasl); /* stays in the arena */
	pop3_exchange_drop(p);
	if (why == ERR_CLOSED) {
		pop3_word(p, POP3_W_CANCELLED);
		return STEP_NEXT;
	}
	if (why == ERR_SYNTAX && !subject)
		return pop3_bad(p, POP3_W_BASE64);
	return begin(p, attempt_decided(AUTH_POP3, name, sasl_name(m), why, subject));
}

static enum step by_password(struct pop3_session *p, struct slice password)
{
	struct slice name = sasl_login(p->sasl), authzid = sasl_authzid(p->sasl);
	const char *how = sasl_name((enum sasl_mechanism)(p->exchange - 1));
	pop3_exchange_drop(p);
	return begin(p, attempt_password(AUTH_POP3, name, authzid, password, how));
}

static enum step exchange(struct pop3_session *p, struct slice line, bool initial)
{
	struct sasl_peer peer = peer_of(p);
	struct slice text;
	struct subject *subject;
	enum err why;
	switch (sasl_step(p->sasl, &peer, &p->s.command, line, initial, &text, &subject, &why)) {
	case SASL_CONTINUE:
		challenge(p, text);
		return STEP_NEXT;
	case SASL_PASSWORD:
		return by_password(p, text);
	case SASL_DONE:
	case SASL_FAILED:
		break;
	}
	return conclude(p, why, subject);
}

enum step pop3_exchange_line(struct pop3_session *p, struct slice line)
{
	return exchange(p, line, false);
}

static enum step list_mechanisms(struct pop3_session *p)
{
	unsigned mask = mechanisms(p);
	pop3_word(p, POP3_W_MECHANISMS);
	for (unsigned m = 0; m < SASL_MECHANISM_COUNT; m++)
		if (mask & 1U << m)
			reply_printf(&p->s.reply, "%s\r\n", sasl_name((enum sasl_mechanism)m));
	REPLY_LIT(&p->s.reply, ".\r\n");
	return STEP_NEXT;
}

void pop3_capa_sasl(struct pop3_session *p)
{
	unsigned mask = mechanisms(p);
	REPLY_LIT(&p->s.reply, "SASL");
	for (unsigned m = 0; m < SASL_MECHANISM_COUNT; m++)
		if (mask & 1U << m)
			reply_printf(&p->s.reply, " %s", sasl_name((enum sasl_mechanism)m));
	REPLY_LIT(&p->s.reply, "\r\n");
}

enum step pop3_auth(struct pop3_session *p, const struct pop3_line *l)
{
	if (!l->words.len)
		return list_mechanisms(p);
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	size_t space = slice_find(l->words, ' ');
	enum sasl_mechanism m = sasl_find(mechanisms(p), slice_upto(l->words, space));
	if (m == SASL_MECHANISM_COUNT)
		return pop3_bad(p, POP3_W_MECHANISM);
	p->name = slice_of(NULL, 0); /* a USER before it: forgotten */
	arena_reset(&p->s.arena);
	p->sasl = sasl_begin(&p->s.arena, m);
	if (!p->sasl)
		return pop3_bad(p, POP3_W_TOO_BIG);
	p->exchange = (uint8_t)(m + 1);
	if (space != SIZE_MAX)
		return exchange(p, slice_trim(slice_from(l->words, space + 1)), true);
	struct slice text;
	enum err e = sasl_first(p->sasl, &p->s.command, &text);
	if (e)
		return conclude(p, e, NULL);
	challenge(p, text);
	return STEP_NEXT;
}
