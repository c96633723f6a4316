/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pop3_sdps.c - *ENV of the "Standard Dialup POP3 Service": a message's envelope, for clients that serve several users from one maildrop.
 *
 *     C: *ENV 3
 *     S: +OK envelope follows
 *     S: 0000000365a5c1f0            1  unique id         (clients skip these two; they must not be empty)
 *     S: 2025-01-14T09:30:00Z        2  time of arrival
 *     S: ann@example.org             3  envelope sender, without brackets; empty for the null sender
 *     S: fred@vision25.example.net   4  envelope recipient: one, since each has a copy of its own
 *     S: .
 *
 * The living readers (fetchmail with --protocol sdps, getmail's MultidropSDPSRetriever) take lines 3 and 4 and go on to the dot.
 * fetchmail reads until the dot even after -ERR, for ever: a message that can be asked for is therefore always answered in this form, also when it is
 * damaged (RETR says so), and where nothing can be said, the connection ends, so that nobody guesses a recipient.
 */
#include "net/pop3/pop3_private.h"

#include "core/base/log.h"

#include <time.h>

/* An address that does not fit is left out: half of one is somebody else's. */
static void put_line(struct pop3_session *p, struct slice text)
{
	bool fits = text.len < POP3_ENV_LINE_BYTES_MAX;
	for (size_t i = 0; i < text.len && fits; i++)
		fits = (unsigned char)text.ptr[i] >= 0x20 && text.ptr[i] != 0x7f;
	if (fits && text.len && text.ptr[0] == '.')
		REPLY_LIT(&p->s.reply, ".");
	if (fits)
		reply_put(&p->s.reply, text);
	REPLY_LIT(&p->s.reply, "\r\n");
}

static void put_time(struct pop3_session *p, int64_t wall_s)
{
	char text[64];
	struct tm tm;
	time_t t = (time_t)wall_s;
	size_t len = gmtime_r(&t, &tm) ? strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm) : 0;
	put_line(p, len ? slice_of(text, len) : SLICE_LIT("-"));
}

static void put_envelope(struct pop3_session *p, uint32_t index, const struct message_source *m)
{
	char uidl[UIDL_BYTES_MAX];
	pop3_word(p, POP3_W_ENVELOPE);
	put_line(p, slice_of(uidl, view_uidl(p->view, index, uidl)));
	put_time(p, m->internal_date_s);
	put_line(p, m->envelope_from);
	put_line(p, m->envelope_rcpt);
	REPLY_LIT(&p->s.reply, ".\r\n");
}

enum step pop3_env(struct pop3_session *p, const struct pop3_line *l)
{
	uint32_t index;
	struct message_source source;
	if (p->subject->sdps == SDPS_NONE)
		return pop3_bad(p, POP3_W_UNKNOWN);
	if (!pop3_message_or_reply(p, l->words, &index))
		return STEP_NEXT;
	enum err e = message_open(p->view, index, &source);
	if (e != OK)
		log_event(LOG_WARN, "pop3.message_refused", LOG_U64("session", p->s.id), LOG_STR("user", p->subject->name),
			  LOG_U64("message", (uint64_t)index + 1), LOG_ERR(e));
	if (e == ERR_CORRUPT) {
		put_envelope(p, index, &(struct message_source){ .fd = -1 });
		return STEP_NEXT;
	}
	if (e != OK)
		return STEP_ABORT;
	put_envelope(p, index, &source);
	message_close(&source);
	return STEP_NEXT;
}
