/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp_words.c - outcomes as reply codes, with the enhanced codes of RFC 2034 and 3463.
 *
 * What may get better by itself is 4xx, so that the relay keeps the message; 5xx makes it bounce.  In doubt: 4xx.
 */
#include "net/lmtp/lmtp_private.h"

#include <stdio.h>

static const char *const words[] = {
	[OK] = "250 2.0.0 OK",
	[ERR_AGAIN] = "451 4.3.0 temporary fault",
	[ERR_CLOSED] = "451 4.3.2 server stops",
	[ERR_TIMEOUT] = "451 4.3.0 not stored in time",
	[ERR_LIMIT] = "552 5.3.4 message is larger than this server takes",
	[ERR_SYNTAX] = "554 5.6.0 message has a bare CR, a bare LF or a NUL",
	[ERR_AUTH] = "550 5.7.1 refused",
	[ERR_DENIED] = "550 5.2.1 mailbox takes no mail",
	[ERR_NOT_FOUND] = "550 5.1.1 no such mailbox",
	[ERR_EXISTS] = "451 4.3.0 temporary fault",
	[ERR_QUOTA] = "452 4.2.2 mailbox is full",
	[ERR_FULL] = "452 4.3.1 no space on this server",
	[ERR_IN_USE] = "451 4.2.0 mailbox is in use",
	[ERR_BUSY] = "451 4.3.2 server is busy",
	[ERR_IO] = "451 4.3.0 storage failed",
	[ERR_CORRUPT] = "451 4.3.0 mailbox is damaged",
	[ERR_FENCED] = "451 4.3.0 mailbox is moving",
	[ERR_READONLY] = "451 4.2.0 mailbox can only be read",
	[ERR_TEMP] = "451 4.3.0 temporary fault",
	[ERR_CONFIG] = "451 4.3.5 server is misconfigured",
};
static_assert_c(ARRAY_LEN(words) == ERR_COUNT, "every outcome has words");

const char *lmtp_words(enum err e, enum over_quota over)
{
	if (e == ERR_QUOTA && over == OVER_QUOTA_PERMANENT)
		return "552 5.2.2 mailbox is full";
	return words[e];
}

/* RFC 5321 3.1 would have 554, after which a relay bounces; 421 makes it come again. */
size_t lmtp_refused(enum limit limit, char *out)
{
	int len = snprintf(out, NET_REFUSAL_BYTES_MAX, "421 4.7.0 too many connections (limit %s), try again later\r\n", limit_word(limit));
	ASSERT(len > 0 && (size_t)len < NET_REFUSAL_BYTES_MAX);
	return (size_t)len;
}

enum step lmtp_bad(struct lmtp_session *l, const char *reply)
{
	if (++l->bad_in_row >= lmtp_settings.bad_commands_max) {
		LMTP_SAY(l, "421 4.7.0 too many bad commands, closing");
		return STEP_CLOSE;
	}
	reply_static(&l->s.reply, slice_str(reply));
	REPLY_LIT(&l->s.reply, "\r\n");
	return STEP_NEXT;
}
