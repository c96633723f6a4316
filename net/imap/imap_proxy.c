/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_proxy.c - a login whose account another node has: at the node that it came to, and at the owner.
 *
 * The login was proved where the client came in.  The owner answers a command whose tag is "+", which no client may use: its first line, with the
 * client's own tag put in that place, is the answer to the client's LOGIN or AUTHENTICATE.  After OK bytes are passed along, whatever they say; NO
 * leaves the client where he was.
 */
#include "net/imap/imap_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "net/peer/carry.h"

METRIC_COUNTER(proxied, "imap_proxied_total", "IMAP logins that went on at another node");

static enum step go_on_there(struct imap_session *p, struct carry *carry)
{
	struct subject *subject = subject_ref(p->subject);
	imap_note(p, DECISION_ACCEPTED, "proxied", subject->name, 0, 0);
	session_entered(&p->s);
	metric_inc(&proxied);
	imap_command_free(p);
	imap_leave(p);
	enum step step = carry_pass_on(&p->s, carry, subject, imap_settings.idle_ms_max + PEER_ANSWER_MS_MAX); /* the owner's clock rules */
	subject_unref(subject);
	return step;
}

static enum step stay(struct imap_session *p, const struct owner_place *at)
{
	imap_note(p, DECISION_REFUSED, "owner", p->subject->name, 0, 0);
	log_event(LOG_INFO, "imap.turned_away", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("by", at->node));
	imap_command_free(p);
	imap_leave(p);
	session_class_of_peer(&p->s);
	return STEP_NEXT;
}

enum err imap_proxy(struct imap_session *p, const struct owner_place *at, enum step *step_out)
{
	struct carry *carry;
	struct slice line;
	enum err e = carry_open(&p->s, "imap", p->subject, at, true, &carry);
	if (e != OK)
		return e;
	if (carry_line(carry, PEER_ANSWER_MS_MAX, &line) != OK || !slice_starts_nocase(line, SLICE_LIT("+ ")) || session_dying(&p->s)) {
		carry_close(carry, false);
		return ERR_TEMP;
	}
	log_event(LOG_INFO, "imap.proxied", LOG_U64("session", p->s.id), LOG_Z("peer", p->s.peer), LOG_STR("tenant", p->subject->tenant),
		  LOG_STR("user", p->subject->name), LOG_Z("node", at->node));
	reply_put(&p->s.reply, p->cmd->tag);
	reply_put(&p->s.reply, slice_from(line, 1));
	REPLY_LIT(&p->s.reply, "\r\n");
	if (slice_starts_nocase(line, SLICE_LIT("+ OK "))) {
		*step_out = go_on_there(p, carry);
		return OK;
	}
	carry_close(carry, false);
	*step_out = stay(p, at);
	return OK;
}

bool imap_handed(struct session *s, struct subject *subject)
{
	struct imap_session *p = imap_of(s);
	ASSERT(subject);
	p->subject = subject;
	p->handed = p->spoke = true;
	imap_command_begin(p)->tag = SLICE_LIT("+");
	return true;
}
