/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_login.c - LOGIN and AUTHENTICATE (RFC 9051 sections 6.2.2 and 6.2.3), with an initial response (RFC 4959).
 *
 * The exchanges are net/sasl.h's; one under way belongs to its command.  All are an attempt (net/attempt.h) and end in tell(): a right proof takes the session to the account's shard (imap_enter), a wrong one is counted and answered in the
 * same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 */
#include "net/imap/imap_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/attempt.h"
#include "net/sasl.h"
#include "tenancy/tenant_class.h"

METRIC_COUNTER(logins_refused, "imap_logins_refused_total", "IMAP logins refused for a wrong name or password");

static bool in_clear(const struct imap_session *p) { return !session_client_tls(&p->s); }

static enum step not_in_the_clear(struct imap_session *p)
{
	return imap_no(p, "PRIVACYREQUIRED", session_tls_offered(&p->s) ? "STARTTLS first" : "not without TLS");
}

/* ---- the outcome ---- */

static enum step refuse(struct imap_session *p, const struct attempt *a)
{
	enum err e = a->outcome;
	const char *reason = e == ERR_AUTH ? a->pass.repeated ? "wrong-password-repeated" : "wrong-password" : err_name(e);
	log_event(LOG_INFO, "imap.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", a->name), LOG_Z("how", a->how),
		  LOG_ERR(e), LOG_Z("reason", reason), LOG_U64("failures", a->failures));
	imap_note(p, DECISION_REFUSED, reason, a->name, 0, a->failures);
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_DENIED && in_clear(p) && auth_in_clear(a->name) == ERR_DENIED)
		return not_in_the_clear(p);
	if (e == ERR_DENIED)
		return imap_no(p, "AUTHORIZATIONFAILED", "this account may not log in here");
	if (e == ERR_AUTH && ++p->auth_failures >= imap_settings.auth_tries_max) {
		REPLY_LIT(&p->s.reply, "* BYE too many wrong passwords\r\n");
		imap_fail(p, e);
		return STEP_CLOSE;
	}
	return imap_fail(p, e);
}

/* The outcome may be told. */
static enum step tell(struct imap_session *p, struct attempt *a)
{
	if (a->outcome != OK)
		return refuse(p, a);
	p->subject = a->subject;
	a->subject = NULL;
	session_set_class(&p->s, tenant_class(p->subject->tenant_id));
	unsigned shard = store_shard_of(p->subject->account_id);
	if (shard == shard_index())
		return imap_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

static enum step too_many_wait(struct imap_session *p, const struct attempt *a)
{
	log_event(LOG_INFO, "imap.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", a->name), LOG_Z("how", a->how),
		  LOG_Z("limit", limit_word(LIMIT_GUESSING)), LOG_Z("reason", a->pass.reason));
	imap_note(p, DECISION_REFUSED, limit_word(LIMIT_GUESSING), a->name, 0, 0);
	return imap_no(p, "LIMIT", "too many failed logins from your address (limit guessing), please wait and try again");
}

/* ---- an attempt that waits is its command's state ---- */

static void drop_attempt(struct imap_session *p)
{
	attempt_free(p->cmd->state);
	p->cmd->state = NULL;
}

static enum step prove_on(struct imap_session *p)
{
	struct attempt *a = p->cmd->state;
	imap_verb_held();
	p->cmd->resume = NULL;
	p->cmd->state = NULL;
	p->cmd->drop = NULL;
	attempt_go_on(a, &p->s);
	enum step next = tell(p, a);
	attempt_free(a);
	return next;
}

static enum step begin(struct imap_session *p, struct attempt a)
{
	p->cmd->continued = NULL;
	switch (attempt_begin(&a, &p->s)) {
	case ATTEMPT_TOLD:
		return tell(p, &a);
	case ATTEMPT_SHED:
		return too_many_wait(p, &a);
	case ATTEMPT_WAITS:
		break;
	}
	imap_note(p, DECISION_DELAYED, a.pass.reason, a.name, a.pass.delay_ms, 0);
	p->cmd->state = attempt_keep(&a);
	p->cmd->drop = drop_attempt;
	p->cmd->resume = prove_on;
	return STEP_PAUSE;
}

/* ---- LOGIN ---- */

enum step imap_cmd_login(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice name, password;
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	if (!imap_sp(a) || !imap_astring(a, &name) || !imap_sp(a) || !imap_astring(a, &password) || !imap_end(a))
		return imap_bad_args(p);
	return begin(p, attempt_password(AUTH_IMAP, name, slice_of(NULL, 0), password, "login"));
}

/* ---- AUTHENTICATE ---- */

static struct sasl_peer peer_of(const struct imap_session *p) { return sasl_peer_of(&p->s, AUTH_IMAP); }

unsigned imap_mechanisms(const struct imap_session *p)
{
	struct sasl_peer peer = peer_of(p);
	return session_login_allowed(&p->s) ? sasl_mask(&peer) : 0;
}

static void drop(struct imap_session *p)
{
	sasl_end(p->cmd->state);
	p->cmd->state = NULL;
}

static enum step conclude(struct imap_session *p, enum err why, struct subject *subject)
{
	struct slice name = sasl_login(p->cmd->state); /* in the command's arena, like the exchange */
	p->cmd->continued = NULL;
	drop(p);
	if (why == ERR_CLOSED)
		return imap_bad(p, "given up"); /* RFC 9051 section 6.2.2 */
	if (why == ERR_SYNTAX)
		return imap_bad(p, "that is no answer of this mechanism");
	return begin(p, attempt_decided(AUTH_IMAP, name, "authenticate", why, subject));
}

static enum step challenge(struct imap_session *p, struct slice text)
{
	REPLY_LIT(&p->s.reply, "+ ");
	reply_put(&p->s.reply, text);
	REPLY_LIT(&p->s.reply, "\r\n");
	return STEP_NEXT;
}

static enum step by_password(struct imap_session *p, struct slice password)
{
	struct slice name = sasl_login(p->cmd->state), authzid = sasl_authzid(p->cmd->state); /* in the command's arena, like the password */
	drop(p);
	return begin(p, attempt_password(AUTH_IMAP, name, authzid, password, "authenticate"));
}

static enum step exchange(struct imap_session *p, struct slice line, bool initial)
{
	struct sasl_peer peer = peer_of(p);
	struct slice text;
	struct subject *subject = NULL;
	enum err why = OK;
	switch (sasl_step(p->cmd->state, &peer, &p->cmd->arena, line, initial, &text, &subject, &why)) {
	case SASL_CONTINUE:
		return challenge(p, text);
	case SASL_PASSWORD:
		return by_password(p, text);
	case SASL_DONE:
	case SASL_FAILED:
		break;
	}
	return conclude(p, why, subject);
}

static enum step response(struct imap_session *p, struct slice line) { return exchange(p, line, false); }

enum step imap_cmd_authenticate(struct imap_session *p)
{
	struct imap_args *a = &p->cmd->args;
	struct slice word, text;
	if (!imap_sp(a) || !imap_atom(a, &word))
		return imap_bad_args(p);
	if (!session_login_allowed(&p->s))
		return not_in_the_clear(p);
	enum sasl_mechanism m = sasl_find(imap_mechanisms(p), word);
	if (m == SASL_MECHANISM_COUNT)
		return imap_no(p, "CANNOT", "no such mechanism");
	struct sasl *x = sasl_begin(a->arena, m);
	if (!x)
		return imap_fail(p, ERR_LIMIT);
	p->cmd->state = x;
	p->cmd->drop = drop;
	p->cmd->continued = response;
	if (imap_skip(a, ' '))
		return exchange(p, slice_of(a->at, (size_t)(a->end - a->at)), true);
	enum err e = sasl_first(x, a->arena, &text);
	return e == OK ? challenge(p, text) : conclude(p, e, NULL);
}
