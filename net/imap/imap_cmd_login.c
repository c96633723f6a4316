/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_login.c - LOGIN and AUTHENTICATE (RFC 9051 sections 6.2.2 and 6.2.3), with an initial response (RFC 4959).
 *
 * The exchanges are net/sasl.h's; one under way belongs to its command.  All end in tell(), once guard.h lets them: a right proof takes the session to the account's shard (imap_enter), a wrong one is counted and answered in the
 * same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 */
#include "net/imap/imap_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/sasl.h"
#include "tenancy/tenant_class.h"

METRIC_COUNTER(logins_refused, "imap_logins_refused_total", "IMAP logins refused for a wrong name or password");

static bool in_clear(const struct imap_session *p) { return !session_client_tls(&p->s); }

static enum step not_in_the_clear(struct imap_session *p)
{
	return imap_no(p, "PRIVACYREQUIRED", session_tls_offered(&p->s) ? "STARTTLS first" : "not without TLS");
}

/* ---- proof decided ---- */

static enum step refuse(struct imap_session *p, struct slice name, const char *how, enum err e, bool repeated, uint32_t failures)
{
	const char *reason = e == ERR_AUTH ? repeated ? "wrong-password-repeated" : "wrong-password" : err_name(e);
	log_event(LOG_INFO, "imap.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_ERR(e), LOG_Z("reason", reason), LOG_U64("failures", failures));
	imap_note(p, DECISION_REFUSED, reason, name, 0, failures);
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_DENIED && in_clear(p) && auth_in_clear(name) == ERR_DENIED)
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

/* The outcome is decided, counted, and may be told. */
static enum step tell(struct imap_session *p, struct slice name, const char *how, enum err e, struct subject *subject, bool repeated, uint32_t failures)
{
	if (e != OK)
		return refuse(p, name, how, e, repeated, failures);
	p->subject = subject;
	session_set_class(&p->s, tenant_class(subject->tenant_id));
	unsigned shard = store_shard_of(subject->account_id);
	if (shard == shard_index())
		return imap_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

/* ---- waiting, as guard.h asks for ---- */

/* A login that waits; in the command's arena, which outlives the wait. */
struct proof {
	struct guard_pass pass;
	struct slice name, password;
	const char *how;
	bool decided; /* the outcome is known and counted, and waits to be told: right or wrong, it waits as long */
	enum err outcome;
	uint32_t failures;
	struct subject *subject;
};

static void drop_proof(struct imap_session *p)
{
	struct proof *proof = p->cmd->state;
	if (proof && proof->subject)
		subject_unref(proof->subject);
	p->cmd->state = NULL;
}

static enum step too_many_wait(struct imap_session *p, const struct guard_pass *pass, const char *how, struct slice name)
{
	log_event(LOG_INFO, "imap.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_Z("limit", limit_word(LIMIT_GUESSING)), LOG_Z("reason", pass->reason));
	imap_note(p, DECISION_REFUSED, limit_word(LIMIT_GUESSING), name, 0, 0);
	source_count_refusal(LIMIT_GUESSING);
	return imap_no(p, "LIMIT", "too many failed logins from your address (limit guessing), please wait and try again");
}

static enum step prove(struct imap_session *p, struct proof *proof)
{
	struct subject *subject = proof->subject;
	proof->subject = NULL;
	if (proof->decided)
		return tell(p, proof->name, proof->how, proof->outcome, subject, false, proof->failures);
	struct auth_request request = { .protocol = AUTH_IMAP, .login = proof->name, .peer = session_peer_address(&p->s), .in_clear = in_clear(p) };
	enum err e = auth_password(&request, proof->password, &subject);
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND || e == ERR_LIMIT)
		e = ERR_AUTH; /* a name that cannot be one, a password that is too long: wrong, in the same words */
	return tell(p, proof->name, proof->how, e, subject, proof->pass.repeated, guard_tell(&proof->pass, e));
}

static enum step prove_on(struct imap_session *p)
{
	struct proof *proof = p->cmd->state;
	p->cmd->resume = NULL;
	p->cmd->state = NULL;
	p->cmd->drop = NULL;
	return prove(p, proof);
}

static enum step park(struct imap_session *p, struct proof *proof)
{
	p->cmd->state = proof;
	p->cmd->drop = drop_proof;
	p->cmd->resume = prove_on;
	imap_note(p, DECISION_DELAYED, proof->pass.reason, proof->name, proof->pass.delay_ms, 0);
	session_pause(&p->s, proof->pass.delay_ms);
	return STEP_PAUSE;
}

/* A password is not even hashed before its wait is over. */
static enum step check_password(struct imap_session *p, struct slice name, struct slice password, const char *how)
{
	struct proof *proof = arena_zalloc(&p->cmd->arena, sizeof(*proof));
	p->cmd->continued = NULL;
	if (!proof)
		return imap_fail(p, ERR_LIMIT);
	*proof = (struct proof){ .name = name, .password = password, .how = how };
	enum err e = guard_ask(p->s.source, name, password, &proof->pass);
	if (e == ERR_BUSY)
		return too_many_wait(p, &proof->pass, how, name);
	return e == OK ? prove(p, proof) : park(p, proof);
}

/* A mechanism whose proof was looked at before its name was known here: guarded now, whatever the outcome. */
static enum step hold(struct imap_session *p, struct slice name, const char *how, enum err e, struct subject *subject)
{
	struct proof *proof = arena_zalloc(&p->cmd->arena, sizeof(*proof));
	struct guard_pass pass;
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND || e == ERR_LIMIT)
		e = ERR_AUTH;
	enum err asked = guard_ask(p->s.source, name, slice_of(NULL, 0), &pass);
	if (asked == ERR_BUSY || !proof) {
		if (subject)
			subject_unref(subject);
		return asked == ERR_BUSY ? too_many_wait(p, &pass, how, name) : imap_fail(p, ERR_LIMIT);
	}
	uint32_t failures = guard_tell(&pass, e);
	if (asked == OK)
		return tell(p, name, how, e, subject, false, failures);
	*proof = (struct proof){ .pass = pass, .name = name, .how = how, .decided = true, .outcome = e, .failures = failures, .subject = subject };
	return park(p, proof);
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
	return hold(p, name, "authenticate", why, subject);
}

static enum step challenge(struct imap_session *p, struct slice text)
{
	REPLY_LIT(&p->s.reply, "+ ");
	reply_put(&p->s.reply, text);
	REPLY_LIT(&p->s.reply, "\r\n");
	return STEP_NEXT;
}

static enum step exchange(struct imap_session *p, struct slice line, bool initial)
{
	struct sasl_peer peer = peer_of(p);
	struct slice text;
	struct subject *subject = NULL;
	enum err why = OK;
	if (sasl_step(p->cmd->state, &peer, &p->cmd->arena, line, initial, &text, &subject, &why) == SASL_CONTINUE)
		return challenge(p, text);
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
