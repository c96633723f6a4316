/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_forward.c - a message for accounts that another node has: one transaction of RFC 2033 with that node, as its client.
 *
 * The client's transaction stays here, and so does the message until the owner has answered for each recipient: a 250 of his is a 250 of ours
 * (invariant 1), everything else the client hears in the owner's words.  A connection that breaks after the data leaves it open who has it; the
 * client hears 451 and may send it twice, never lose it.  The owner writes the trace lines: the client's address and name are passed on to him.
 *
 * The body is canonical and both sides are ours, so it goes by BDAT (RFC 3030), as one chunk: no dots, and from a spool file without passing
 * through our hands.
 */
#include "net/lmtp/lmtp_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/body.h"

#include <stdio.h>

METRIC_COUNTER(copies_forwarded, "lmtp_copies_forwarded_total", "copies of messages that the nodes owning their accounts took");

/* ---- what is said ---- */

static enum err say_envelope(struct lmtp_session *l, struct carry *c, const struct body *body, const struct lmtp_forward *list)
{
	struct buf out;
	buf_init(&out, LMTP_LINE_BYTES_MAX * 4);
	bool fits = buf_printf(&out, "LHLO %s\r\nMAIL FROM:<%.*s> SIZE=%llu BODY=8BITMIME%s\r\n", l->lhlo, SLICE_ARG(l->from),
			       (unsigned long long)body_bytes(body), l->utf8 ? " SMTPUTF8" : "");
	enum err e = fits ? carry_put(c, buf_slice(&out), PEER_ANSWER_MS_MAX) : ERR_LIMIT;
	for (const struct lmtp_forward *f = list; f && e == OK; f = f->next) {
		buf_clear(&out);
		fits = buf_printf(&out, "RCPT TO:<%.*s>\r\n", SLICE_ARG(f->rcpt->wire));
		e = fits ? carry_put(c, buf_slice(&out), PEER_ANSWER_MS_MAX) : ERR_LIMIT;
	}
	buf_release(&out);
	return e;
}

static void release_body(void *arg) { body_unref(arg); }

static enum err say_body(struct carry *c, const struct body *body)
{
	char head[64];
	int n = snprintf(head, sizeof head, "BDAT %llu LAST\r\n", (unsigned long long)body_bytes(body));
	enum err e = carry_put(c, slice_of(head, (size_t)n), PEER_ANSWER_MS_MAX);
	if (e == OK && body->spool_fd >= 0)
		return carry_file(c, body->spool_fd, body->bytes, release_body, body_ref((struct body *)(uintptr_t)body));
	for (uint32_t i = 0; i < body->chunk_count && e == OK; i++)
		e = carry_put(c, slice_of(body->chunks[i].ptr, body->chunks[i].len), PEER_DATA_MS_MAX);
	return e;
}

/* ---- what is answered ---- */

/* A whole reply; its last line, good until the next. */
static enum err hear(struct carry *c, uint32_t ms_max, uint64_t *code_out, struct slice *line_out)
{
	for (;;) {
		enum err e = carry_line(c, ms_max, line_out);
		if (e != OK)
			return e;
		if (line_out->len < 4 || !slice_u64(slice_upto(*line_out, 3), 599, code_out) || *code_out < 200)
			return ERR_SYNTAX;
		if (line_out->ptr[3] != '-')
			return OK;
	}
}

/* His words, without the address that we say ourselves. */
static void refuse(struct lmtp_session *l, struct lmtp_forward *f, struct slice line)
{
	size_t address = slice_rfind(line, '<');
	struct slice words = slice_trim(slice_upto(line, address));
	words = slice_upto(words, 200);
	struct slice kept = arena_printf(&l->s.arena, "%.*s", SLICE_ARG(words));
	f->err = OK;
	f->refusal = kept.ptr ? kept.ptr : lmtp_words(ERR_BUSY, OVER_QUOTA_TEMPORARY);
}

static enum err hear_envelope(struct lmtp_session *l, struct carry *c, struct lmtp_forward *list, uint32_t *accepted_out)
{
	uint64_t code;
	struct slice line;
	for (unsigned i = 0; i < 3; i++) { /* greeting, LHLO, MAIL */
		enum err e = hear(c, PEER_ANSWER_MS_MAX, &code, &line);
		if (e != OK || code >= 300)
			return e != OK ? e : ERR_TEMP;
	}
	for (struct lmtp_forward *f = list; f; f = f->next) {
		enum err e = hear(c, PEER_ANSWER_MS_MAX, &code, &line);
		if (e != OK)
			return e;
		f->accepted = code < 300;
		*accepted_out += f->accepted;
		if (!f->accepted)
			refuse(l, f, line);
	}
	return OK;
}

static enum err hear_verdicts(struct lmtp_session *l, struct carry *c, struct lmtp_forward *list)
{
	uint64_t code;
	struct slice line;
	for (struct lmtp_forward *f = list; f; f = f->next) {
		if (!f->accepted)
			continue;
		enum err e = hear(c, PEER_DATA_MS_MAX, &code, &line);
		if (e != OK)
			return e;
		if (code >= 300) {
			refuse(l, f, line);
			continue;
		}
		f->err = OK;
		metric_inc(&copies_forwarded);
	}
	return OK;
}

static enum err transact(struct lmtp_session *l, struct carry *c, const struct body *body, struct lmtp_forward *list)
{
	uint32_t accepted = 0;
	enum err e = say_envelope(l, c, body, list);
	if (e == OK)
		e = hear_envelope(l, c, list, &accepted);
	if (e != OK || !accepted)
		return e;
	e = say_body(c, body);
	return e == OK ? hear_verdicts(l, c, list) : e;
}

enum err lmtp_forward(struct lmtp_session *l, const struct body *body, const struct owner_place *at, struct lmtp_forward *list)
{
	struct carry *c;
	enum err e = carry_open(&l->s, "lmtp", NULL, at, false, &c);
	if (e != OK)
		return e == ERR_AGAIN ? ERR_AGAIN : OK;
	e = transact(l, c, body, list);
	log_event(e == OK ? LOG_INFO : LOG_WARN, "lmtp.forwarded", LOG_U64("session", l->s.id), LOG_STR("id", l->id), LOG_Z("node", at->node), LOG_ERR(e));
	if (e == OK)
		(void)carry_put(c, SLICE_LIT("QUIT\r\n"), PEER_ANSWER_MS_MAX);
	carry_close(c, e == OK);
	return OK;
}
