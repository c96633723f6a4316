/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_proxy.c - a login whose maildrop another node has: at the node that it came to, and at the owner.
 *
 * The login was proved where the client came in.  The owner takes the lock and answers the login; his -ERR leaves the client where he was, in
 * AUTHORIZATION, as a local one would, and from his +OK on bytes are passed along.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "net/peer/carry.h"

METRIC_COUNTER(proxied, "pop3_proxied_total", "POP3 logins that went on at another node");

static void say_line(struct pop3_session *p, struct slice line)
{
	reply_put(&p->s.reply, line);
	REPLY_LIT(&p->s.reply, "\r\n");
}

static enum step go_on_there(struct pop3_session *p, struct carry *carry)
{
	struct subject *subject = subject_ref(p->subject);
	pop3_note(p, DECISION_ACCEPTED, "proxied", p->name, subject->name, 0, 0);
	session_entered(&p->s);
	metric_inc(&proxied);
	pop3_leave(p);
	enum step step = carry_pass_on(&p->s, carry, subject, pop3_settings.idle_ms_max + PEER_ANSWER_MS_MAX); /* the owner's clock rules */
	subject_unref(subject);
	return step;
}

static enum step stay(struct pop3_session *p, const struct owner_place *at)
{
	pop3_note(p, DECISION_REFUSED, "owner", p->name, p->subject->name, 0, 0);
	log_event(LOG_INFO, "pop3.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("by", at->node));
	pop3_leave(p);
	return STEP_NEXT;
}

enum err pop3_proxy(struct pop3_session *p, const struct owner_place *at, enum step *step_out)
{
	struct carry *carry;
	struct slice line;
	enum err e = carry_open(&p->s, "pop3", p->subject, at, true, &carry);
	if (e != OK)
		return e;
	if (carry_line(carry, PEER_ANSWER_MS_MAX, &line) != OK || line.len > POP3_LINE_BYTES_MAX || session_dying(&p->s)) {
		carry_close(carry, false);
		return ERR_TEMP;
	}
	log_event(LOG_INFO, "pop3.proxied", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("node", at->node));
	say_line(p, line);
	if (slice_starts_nocase(line, SLICE_LIT("+OK"))) {
		*step_out = go_on_there(p, carry);
		return OK;
	}
	carry_close(carry, false);
	*step_out = stay(p, at);
	return OK;
}

bool pop3_handed(struct session *s, struct subject *subject)
{
	struct pop3_session *p = pop3_of(s);
	ASSERT(subject);
	p->subject = subject;
	p->handed = p->spoke = true;
	return true;
}
