/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_auth.c - the ways in: USER and PASS, APOP, AUTH (RFC 5034).
 *
 * All of them end in finish(): a right proof takes the session to the account's shard (pop3_enter), a wrong one is counted
 * and answered in the same words whatever was wrong (invariant 11).  A fault of ours is not counted.
 *
 * The exchanges of AUTH are net/sasl.h's; one under way lies in the session's arena.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"

#include <stdlib.h>

METRIC_COUNTER(logins_refused, "pop3_logins_refused_total", "POP3 logins refused for a wrong name or password");

/* ---- proof decided ---- */

static enum step refuse(struct pop3_session *p, struct slice name, const char *how, enum err e, bool repeated, uint32_t failures)
{
	const char *reason = e == ERR_AUTH ? repeated ? "wrong-password-repeated" : "wrong-password" : err_name(e);
	log_event(LOG_INFO, "pop3.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_ERR(e), LOG_Z("reason", reason), LOG_U64("failures", failures));
	pop3_note(p, DECISION_REFUSED, reason, name, slice_of(NULL, 0), 0, failures);
	if (e == ERR_AUTH || e == ERR_DENIED)
		metric_inc(&logins_refused);
	if (e == ERR_AUTH && ++p->auth_failures >= pop3_settings.auth_tries_max) {
		pop3_word(p, POP3_W_TOO_MANY_TRIES);
		return STEP_CLOSE;
	}
	pop3_fail(p, e);
	return STEP_NEXT;
}

/* The outcome is decided, counted, and may be told. */
static enum step tell(struct pop3_session *p, struct slice name, const char *how, enum err e, struct subject *subject, bool repeated, uint32_t failures)
{
	if (e != OK) {
		enum step next = refuse(p, name, how, e, repeated, failures);
		p->name = slice_of(NULL, 0); /* RFC 1939: PASS only right after USER */
		return next;
	}
	p->subject = subject;
	unsigned shard = store_shard_of(subject->account_id);
	if (shard == shard_index())
		return pop3_enter(p);
	session_move_to(&p->s, shard);
	return STEP_MOVE;
}

/* ---- waiting, as guard.h asks for ---- */

struct pop3_proof {
	struct guard_pass pass;
	const char *how;
	bool decided; /* the outcome is known and counted, and waits to be told: right or wrong, it waits as long */
	enum err outcome;
	uint32_t failures;
	struct subject *subject;
	size_t name_bytes, password_bytes;
	char bytes[];
};

static struct pop3_proof *park(struct pop3_session *p, const struct guard_pass *pass, const char *how, struct slice name, struct slice password)
{
	struct pop3_proof *proof = xcalloc(1, sizeof(*proof) + name.len + password.len);
	proof->pass = *pass;
	proof->how = how;
	proof->name_bytes = name.len;
	proof->password_bytes = password.len;
	if (name.len)
		memcpy(proof->bytes, name.ptr, name.len);
	if (password.len)
		memcpy(proof->bytes + name.len, password.ptr, password.len);
	p->proof = proof;
	p->cursor = POP3_PROVING;
	pop3_note(p, DECISION_DELAYED, pass->reason, name, slice_of(NULL, 0), pass->delay_ms, 0);
	session_pause(&p->s, pass->delay_ms);
	return proof;
}

static void proof_free(struct pop3_proof *proof)
{
	explicit_bzero(proof->bytes, proof->name_bytes + proof->password_bytes);
	free(proof);
}

void pop3_proof_drop(struct pop3_session *p)
{
	if (p->cursor != POP3_PROVING)
		return;
	if (p->proof->subject)
		subject_unref(p->proof->subject);
	proof_free(p->proof);
	p->proof = NULL;
	p->cursor = POP3_NOTHING;
}

static enum step too_many_wait(struct pop3_session *p, const struct guard_pass *pass, const char *how, struct slice name)
{
	log_event(LOG_INFO, "pop3.refused", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("user", name), LOG_Z("how", how),
		  LOG_Z("limit", limit_word(LIMIT_GUESSING)), LOG_Z("reason", pass->reason));
	pop3_note(p, DECISION_REFUSED, limit_word(LIMIT_GUESSING), name, slice_of(NULL, 0), 0, 0);
	source_count_refusal(LIMIT_GUESSING);
	p->name = slice_of(NULL, 0);
	pop3_word(p, POP3_W_GUESSING);
	return STEP_NEXT;
}

/* A mechanism whose proof was looked at before its name was known here: guarded now, whatever the outcome. */
static enum step hold(struct pop3_session *p, struct slice name, const char *how, enum err e, struct subject *subject)
{
	struct guard_pass pass;
	enum err asked = guard_ask(p->s.source, name, slice_of(NULL, 0), &pass);
	if (asked == ERR_BUSY) {
		if (subject)
			subject_unref(subject);
		return too_many_wait(p, &pass, how, name);
	}
	uint32_t failures = guard_tell(&pass, e);
	if (asked == OK)
		return tell(p, name, how, e, subject, false, failures);
	struct pop3_proof *proof = park(p, &pass, how, name, slice_of(NULL, 0));
	proof->decided = true;
	proof->outcome = e;
	proof->subject = subject;
	proof->failures = failures;
	return STEP_PAUSE;
}

/* `pass` NULL: guard_ask has not been asked. */
static enum step finish(struct pop3_session *p, struct slice name, const char *how, enum err e, struct subject *subject, const struct guard_pass *pass)
{
	if (e == ERR_SYNTAX || e == ERR_NOT_FOUND || e == ERR_LIMIT)
		e = ERR_AUTH; /* a name that cannot be one, a password that is too long: wrong, in the same words */
	if (!pass)
		return hold(p, name, how, e, subject);
	return tell(p, name, how, e, subject, pass->repeated, guard_tell(pass, e));
}

static enum step prove(struct pop3_session *p, struct slice name, struct slice password, const char *how, const struct guard_pass *pass)
{
	struct auth_request request = { .protocol = AUTH_POP3, .login = name, .peer = session_peer_address(&p->s) };
	struct subject *subject = NULL;
	enum err e = auth_password(&request, password, &subject);
	return finish(p, name, how, e, subject, pass);
}

/* A password is not even hashed before its wait is over. */
static enum step check_password(struct pop3_session *p, struct slice name, struct slice password, const char *how)
{
	struct guard_pass pass;
	enum err e = guard_ask(p->s.source, name, password, &pass);
	if (e == ERR_BUSY)
		return too_many_wait(p, &pass, how, name);
	if (e == OK)
		return prove(p, name, password, how, &pass);
	park(p, &pass, how, name, password);
	return STEP_PAUSE;
}

enum step pop3_prove_on(struct pop3_session *p)
{
	struct pop3_proof *proof = p->proof;
	pop3_verb_held();
	struct slice name = slice_of(proof->bytes, proof->name_bytes), password = slice_of(proof->bytes + proof->name_bytes, proof->password_bytes);
	p->proof = NULL;
	p->cursor = POP3_NOTHING;
	enum step next = proof->decided ? tell(p, name, proof->how, proof->outcome, proof->subject, false, proof->failures)
					: prove(p, name, password, proof->how, &proof->pass);
	proof_free(proof);
	return next;
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
	struct auth_request request = { .protocol = AUTH_POP3, .login = name, .peer = session_peer_address(&p->s) };
	struct subject *subject = NULL;
	enum err e = auth_apop(&request, slice_of(stamp, pop3_stamp(p, stamp)), digest, &subject);
	return finish(p, name, "apop", e, subject, NULL);
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
	return finish(p, name, sasl_name(m), why, subject, NULL);
}

static enum step exchange(struct pop3_session *p, struct slice line, bool initial)
{
	struct sasl_peer peer = peer_of(p);
	struct slice text;
	struct subject *subject;
	enum err why;
	if (sasl_step(p->sasl, &peer, &p->s.command, line, initial, &text, &subject, &why) != SASL_CONTINUE)
		return conclude(p, why, subject);
	challenge(p, text);
	return STEP_NEXT;
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
