/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_commands.c - the table of commands, and all but the data: LHLO MAIL RCPT RSET NOOP VRFY HELP QUIT.
 *
 * RCPT answers for what is known then: whether the mailbox is there, takes mail, and has room for the size that MAIL
 * declared.  Room is asked of the account's shard, and only where a quota is set, so that recipients without one cost a
 * look into the directory's cache.  The store judges room again under the commit.
 */
#include "net/lmtp/lmtp_private.h"

#include "core/base/log.h"
#include "core/run/fiber.h"
#include "net/fleet/owner.h"
#include "tenancy/tenant_class.h"
#include "tenancy/usage.h"
#include "net/verb.h"

#include <stdlib.h>

void lmtp_reset(struct lmtp_session *l)
{
	if (l->writer)
		body_abort(l->writer);
	for (struct lmtp_rcpt *r = l->first_rcpt; r; r = r->next)
		subject_unref(r->subject);
	l->writer = NULL;
	l->first_rcpt = l->last_rcpt = NULL;
	l->rcpts = 0;
	l->mail = l->utf8 = l->chunking = false;
	l->data_err = OK;
	l->from = l->id = slice_of(NULL, 0);
	l->answer = NULL;
	l->size_declared = l->data_bytes = 0;
	arena_reset(&l->s.arena);
	session_class_of_peer(&l->s);
}

/* ---- LHLO ---- */

/* A name or an address literal, without what would break the trace line it ends up in. */
static bool is_host(struct slice name)
{
	if (!name.len || name.len > LMTP_DOMAIN_BYTES_MAX)
		return false;
	for (size_t i = 0; i < name.len; i++) {
		unsigned char c = (unsigned char)name.ptr[i];
		if (c < 33 || c > 126 || strchr("()<>\"\\,;", c))
			return false;
	}
	return true;
}

static enum step lhlo_command(struct lmtp_session *l, struct slice args)
{
	if (!is_host(args))
		return lmtp_bad(l, "501 5.5.4 LHLO wants the name of the client");
	lmtp_reset(l); /* RFC 5321 4.1.4: as if by RSET */
	free(l->lhlo);
	l->lhlo = slice_dup(args);
	reply_printf(&l->s.reply,
		     "250-%s\r\n250-PIPELINING\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n%s250 SIZE %llu\r\n",
		     lmtp_settings.host_name, session_tls_offered(&l->s) ? "250-STARTTLS\r\n" : "", (unsigned long long)lmtp_settings.message_bytes_max);
	return STEP_NEXT;
}

static enum step ehlo_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	return lmtp_bad(l, "500 5.5.1 this is LMTP: say LHLO"); /* RFC 2033 4.1 */
}

/* ---- STARTTLS ---- */

/* RFC 3207: what was said before is forgotten, LHLO too. */
static enum step starttls_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	if (session_tls_version(&l->s))
		return lmtp_bad(l, "503 5.5.1 TLS is on already");
	if (!session_tls_offered(&l->s))
		return lmtp_bad(l, "502 5.5.1 TLS is not offered here");
	lmtp_reset(l);
	free(l->lhlo);
	l->lhlo = NULL;
	LMTP_SAY(l, "220 2.0.0 begin TLS now");
	return STEP_TLS;
}

/* ---- MAIL ---- */

/* "FROM:" or "TO:", then a path; a blank after the colon is let through. Parameters remain in *rest_out. */
static enum err path_argument(struct lmtp_session *l, struct slice args, struct slice keyword, struct lmtp_path *path, struct slice *rest_out)
{
	if (!slice_starts_nocase(args, keyword))
		return ERR_SYNTAX;
	enum err e = lmtp_path_parse(&l->s.command, slice_trim(slice_from(args, keyword.len)), path, rest_out);
	if (e == OK && rest_out->len && rest_out->ptr[0] != ' ')
		return ERR_SYNTAX;
	return e;
}

/* Each returns the refusal, or NULL. */
static const char *size_parameter(struct lmtp_session *l, struct slice value)
{
	if (value.len > 20 || !slice_u64(value, UINT64_MAX, &l->size_declared))
		return "501 5.5.4 SIZE wants a number";
	return l->size_declared > lmtp_settings.message_bytes_max ? lmtp_words(ERR_LIMIT, OVER_QUOTA_PERMANENT) : NULL;
}

static const char *body_parameter(struct slice value)
{
	if (slice_eq_nocase(value, SLICE_LIT("7BIT")) || slice_eq_nocase(value, SLICE_LIT("8BITMIME")))
		return NULL;
	if (slice_eq_nocase(value, SLICE_LIT("BINARYMIME")))
		return "504 5.6.1 BINARYMIME is not supported, encode the message"; /* RFC 3030: it is not announced */
	return "501 5.5.4 BODY is 7BIT or 8BITMIME";
}

static const char *mail_parameter(struct lmtp_session *l, struct slice word)
{
	size_t equals = slice_find(word, '=');
	struct slice name = slice_upto(word, equals);
	struct slice value = equals == SIZE_MAX ? slice_of(NULL, 0) : slice_from(word, equals + 1);
	if (slice_eq_nocase(name, SLICE_LIT("SIZE")))
		return size_parameter(l, value);
	if (slice_eq_nocase(name, SLICE_LIT("BODY")))
		return body_parameter(value);
	if (slice_eq_nocase(word, SLICE_LIT("SMTPUTF8"))) {
		l->utf8 = true;
		return NULL;
	}
	/* RET, ENVID, AUTH and the rest belong to extensions that are not announced: RFC 5321 4.1.1.11 */
	return "555 5.5.4 parameter not supported";
}

static const char *mail_parameters(struct lmtp_session *l, struct slice rest)
{
	struct slice word;
	while (slice_next(&rest, ' ', &word)) {
		const char *refusal = word.len ? mail_parameter(l, word) : NULL;
		if (refusal)
			return refusal;
	}
	return NULL;
}

static const char *path_refusal(enum err e, bool sender)
{
	if (e == ERR_LIMIT)
		return sender ? "501 5.1.7 sender's address is too long" : "501 5.1.3 recipient's address is too long";
	return sender ? "501 5.1.7 MAIL FROM:<address> wants an address as RFC 5321 has it" : "501 5.1.3 RCPT TO:<address> wants an address as RFC 5321 has it";
}

static enum step refuse_mail(struct lmtp_session *l, const char *reply)
{
	lmtp_reset(l);
	reply_printf(&l->s.reply, "%s\r\n", reply);
	return STEP_NEXT;
}

static enum step mail_command(struct lmtp_session *l, struct slice args)
{
	if (!l->lhlo)
		return lmtp_bad(l, "503 5.5.1 LHLO first");
	if (l->mail)
		return lmtp_bad(l, "503 5.5.1 a transaction is open: RSET ends it");
	struct lmtp_path path;
	struct slice rest;
	enum err e = path_argument(l, args, SLICE_LIT("FROM:"), &path, &rest);
	if (e != OK)
		return lmtp_bad(l, path_refusal(e, true));
	const char *refusal = mail_parameters(l, rest);
	if (refusal)
		return refuse_mail(l, refusal);
	if (path.eight_bit && !l->utf8)
		return refuse_mail(l, "553 5.6.7 an address in UTF-8 wants SMTPUTF8"); /* RFC 6531 3.5 */
	l->from = arena_slice(&l->s.arena, path.wire);
	if (path.wire.len && !l->from.ptr)
		return refuse_mail(l, lmtp_words(ERR_BUSY, OVER_QUOTA_TEMPORARY));
	l->mail = true;
	LMTP_SAY(l, "250 2.1.0 sender taken");
	return STEP_NEXT;
}

/* ---- RCPT ---- */

/* Asked on the account's shard. */
struct room_question {
	struct lmtp_task task;
	struct fiber *asker;
	uint64_t account_id;
	struct account_usage usage;
	enum err err;
	bool may_pass, answered;
};

static void count_room(struct room_question *q, struct owner_hold *hold, struct account *account)
{
	account_usage(account, &q->usage);
	owner_close(hold, account);
}

static void look_for_room(struct lmtp_task *t)
{
	struct room_question *q = CONTAINER_OF(t, struct room_question, task);
	struct account *account;
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer where;
	q->err = owner_open(q->account_id, &hold, &account, &where);
	if (q->err != OK && q->may_pass && carry_worth(&where))
		q->err = OK; /* its owner will say */
	else if (q->err == OK)
		count_room(q, &hold, account);
}

static void room_answered(struct lmtp_task *t)
{
	struct room_question *q = CONTAINER_OF(t, struct room_question, task);
	if (t->err != OK)
		q->err = t->err;
	q->answered = true;
	fiber_wake(q->asker);
}

static void ask_room(struct room_question *q)
{
	unsigned shard = store_shard_of(q->account_id);
	if (shard == shard_index()) {
		look_for_room(&q->task);
		return;
	}
	lmtp_task_begin(&q->task, shard);
	while (!q->answered)
		fiber_park();
}

static enum err has_room(const struct lmtp_session *l, const struct subject *subject)
{
	if (!subject->quota_bytes && !subject->quota_messages)
		return OK;
	struct room_question q = { .task = { .run = look_for_room, .done = room_answered }, .asker = fiber_self(), .account_id = subject->account_id,
				   .may_pass = !l->handed };
	ask_room(&q);
	if (q.err != OK)
		return q.err;
	if (subject->quota_messages && q.usage.messages >= subject->quota_messages)
		return ERR_QUOTA;
	if (subject->quota_bytes &&
	    (q.usage.bytes >= subject->quota_bytes || l->size_declared > subject->quota_bytes - q.usage.bytes))
		return ERR_QUOTA;
	return OK;
}

/* Why mail for this account is not taken now, or NULL. */
static const char *account_refusal(const struct lmtp_session *l, const struct subject *subject)
{
	if (subject->suspended)
		return lmtp_settings.suspended_temporary ? "450 4.2.1 mailbox is suspended" : "550 5.2.1 mailbox is suspended";
	if (!subject->lmtp)
		return lmtp_words(ERR_DENIED, OVER_QUOTA_TEMPORARY);
	enum err e = has_room(l, subject);
	return e == OK ? NULL : lmtp_words(e, subject->over_quota);
}

static const char *unknown_refusal(const struct lmtp_path *path)
{
	bool served = true;
	size_t at = slice_rfind(path->lookup, '@');
	if (at != SIZE_MAX && directory_domain(slice_from(path->lookup, at + 1), &served) == OK && !served)
		return "550 5.1.2 this domain is not served here";
	return lmtp_words(ERR_NOT_FOUND, OVER_QUOTA_TEMPORARY);
}

/* Finds who takes the mail, or says why nobody does. */
static const char *find_rcpt(struct lmtp_session *l, const struct lmtp_path *path, struct subject **subject_out)
{
	enum err e = directory_rcpt(path->lookup, subject_out);
	if (e == ERR_NOT_FOUND)
		return unknown_refusal(path);
	if (e == ERR_SYNTAX || e == ERR_LIMIT)
		return path->has_domain ? "550 5.1.1 no such mailbox" : "501 5.1.3 recipient's address wants a domain";
	if (e != OK)
		return lmtp_words(e, OVER_QUOTA_TEMPORARY);
	const char *refusal = account_refusal(l, *subject_out);
	if (refusal) {
		usage_add((*subject_out)->tenant_id, USAGE_REFUSALS, 1);
		subject_unref(*subject_out);
	}
	return refusal;
}

static bool add_rcpt(struct lmtp_session *l, const struct lmtp_path *path, struct subject *subject)
{
	struct lmtp_rcpt *r = arena_zalloc(&l->s.arena, sizeof *r);
	if (r)
		r->wire = arena_slice(&l->s.arena, path->wire);
	if (!r || !r->wire.ptr)
		return false;
	r->subject = subject;
	if (l->last_rcpt)
		l->last_rcpt->next = r;
	else
		l->first_rcpt = r;
	l->last_rcpt = r;
	l->rcpts++;
	return true;
}

static enum step refuse_rcpt(struct lmtp_session *l, struct slice address, const char *reply)
{
	log_event(LOG_INFO, "lmtp.rcpt_refused", LOG_U64("session", l->s.id), LOG_STR("rcpt", address), LOG_STR("from", l->from), LOG_Z("reply", reply));
	l->refused++;
	reply_printf(&l->s.reply, "%s\r\n", reply);
	return STEP_NEXT;
}

static enum step rcpt_command(struct lmtp_session *l, struct slice args)
{
	if (!l->mail)
		return lmtp_bad(l, "503 5.5.1 MAIL first");
	if (l->chunking)
		return lmtp_bad(l, "503 5.5.1 the message has begun");
	struct lmtp_path path;
	struct slice rest;
	enum err e = path_argument(l, args, SLICE_LIT("TO:"), &path, &rest);
	if (e != OK || path.null)
		return lmtp_bad(l, path_refusal(e, false));
	if (slice_trim(rest).len) /* NOTIFY and ORCPT belong to DSN, which is not announced */
		return refuse_rcpt(l, path.wire, "555 5.5.4 parameter not supported");
	if (path.eight_bit && !l->utf8)
		return refuse_rcpt(l, path.wire, "553 5.6.7 an address in UTF-8 wants SMTPUTF8");
	if (l->rcpts >= lmtp_settings.rcpts_max)
		return refuse_rcpt(l, path.wire, "452 4.5.3 too many recipients");
	struct subject *subject = NULL;
	const char *refusal = find_rcpt(l, &path, &subject);
	if (refusal)
		return refuse_rcpt(l, path.wire, refusal);
	if (!add_rcpt(l, &path, subject)) {
		subject_unref(subject);
		return refuse_rcpt(l, path.wire, "452 4.5.3 too many recipients");
	}
	session_set_class(&l->s, tenant_class(l->first_rcpt->subject->tenant_id)); /* of several tenants, the first's */
	LMTP_SAY(l, "250 2.1.5 recipient taken");
	return STEP_NEXT;
}

/* ---- the small ones ---- */

static enum step rset_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	lmtp_reset(l);
	LMTP_SAY(l, "250 2.0.0 OK");
	return STEP_NEXT;
}

static enum step noop_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	LMTP_SAY(l, "250 2.0.0 OK");
	return STEP_NEXT;
}

static enum step vrfy_command(struct lmtp_session *l, struct slice args)
{
	if (!args.len)
		return lmtp_bad(l, "501 5.5.4 VRFY wants a name");
	LMTP_SAY(l, "252 2.0.0 send mail and see"); /* invariant 11 */
	return STEP_NEXT;
}

static enum step help_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	LMTP_SAY(l, "214-2.0.0 LHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n214 2.0.0 as RFC 2033 and RFC 5321 have them");
	return STEP_NEXT;
}

static enum step quit_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	LMTP_SAY(l, "221 2.0.0 bye");
	return STEP_CLOSE;
}

static enum step data_command(struct lmtp_session *l, struct slice args)
{
	(void)args;
	return lmtp_data_begin(l);
}

static enum step not_here(struct lmtp_session *l, struct slice args)
{
	(void)args;
	return lmtp_bad(l, "502 5.5.1 not implemented");
}

/* ---- the table ---- */

static const struct command {
	struct slice verb;
	bool bare; /* takes no argument */
	enum step (*run)(struct lmtp_session *l, struct slice args);
} commands[] = { /* the frequent ones first */
	{ { "RCPT", 4 }, false, rcpt_command },
	{ { "MAIL", 4 }, false, mail_command },
	{ { "DATA", 4 }, true, data_command },
	{ { "BDAT", 4 }, false, lmtp_bdat_begin },
	{ { "LHLO", 4 }, false, lhlo_command },
	{ { "QUIT", 4 }, true, quit_command },
	{ { "RSET", 4 }, true, rset_command },
	{ { "NOOP", 4 }, false, noop_command },
	{ { "VRFY", 4 }, false, vrfy_command },
	{ { "HELP", 4 }, false, help_command },
	{ { "EHLO", 4 }, false, ehlo_command },
	{ { "HELO", 4 }, false, ehlo_command },
	{ { "EXPN", 4 }, false, not_here },
	{ { "AUTH", 4 }, false, not_here },
	{ { "STARTTLS", 8 }, true, starttls_command },
};

static bool has_controls(struct slice line)
{
	for (size_t i = 0; i < line.len; i++) {
		unsigned char c = (unsigned char)line.ptr[i];
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return true;
	}
	return false;
}

/* What the times are told by. A message counts as "deliver" from its last byte on, however it came. */
#define VERB_DELIVER ARRAY_LEN(commands)
static const char *verb_name(unsigned index) { return index == VERB_DELIVER ? "deliver" : commands[index].verb.ptr; }
VERBS_DEFINE(lmtp_verbs, "lmtp", ARRAY_LEN(commands) + 1, verb_name);

void lmtp_verb_deliver(void) { verb_is(&lmtp_verbs, VERB_DELIVER); }

enum step lmtp_command(struct lmtp_session *l, struct slice line)
{
	if (has_controls(line))
		return lmtp_bad(l, "500 5.5.2 control characters in a command");
	size_t space = slice_find(line, ' ');
	struct slice verb = slice_upto(line, space);
	struct slice args = space == SIZE_MAX ? slice_of(NULL, 0) : slice_trim(slice_from(line, space));
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
		if (!slice_eq_nocase(verb, commands[i].verb))
			continue;
		if (commands[i].bare && args.len)
			return lmtp_bad(l, "501 5.5.4 this command takes no argument");
		verb_is(&lmtp_verbs, i);
		uint8_t bad_before = l->bad_in_row;
		enum step next = commands[i].run(l, args);
		if (l->bad_in_row == bad_before)
			l->bad_in_row = 0;
		return next;
	}
	return lmtp_bad(l, "500 5.5.1 unknown command");
}

bool lmtp_is_http(struct slice line)
{
	static const char *const methods[] = { "GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "PATCH ", "CONNECT ", "TRACE " };
	for (size_t i = 0; i < ARRAY_LEN(methods); i++)
		if (slice_starts_nocase(line, slice_str(methods[i])))
			return true;
	return false;
}
