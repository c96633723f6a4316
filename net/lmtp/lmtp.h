/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lmtp.h - LMTP, the way mail comes in: RFC 2033 over 5321, with PIPELINING, ENHANCEDSTATUSCODES, 8BITMIME, SMTPUTF8, SIZE and
 * CHUNKING.
 *
 * For net/server, which names lmtp_proto in a listener.  One reply per recipient after the data; a 250 there is sent only
 * when the store has made that recipient's copy durable (invariant 1).  A message is one body, streamed once, and a copy per
 * accepted RCPT (also of one address twice), each with its own Return-Path, Delivered-To and Received in front.
 *
 * The end of data is CRLF.CRLF and nothing else.  A message with a bare CR, a bare LF or a NUL anywhere is refused after that
 * end, so no form of smuggling makes a second message out of one.
 */
#ifndef PENFOLD_NET_LMTP_LMTP_H
#define PENFOLD_NET_LMTP_LMTP_H

#include "net/session.h"

struct lmtp_config {
	const char *host_name;      /* in the greeting and in Received */
	uint64_t message_bytes_max; /* announced by SIZE; the store has the same */
	uint32_t idle_ms_max;
	uint32_t rcpts_max;         /* of one transaction; 452 4.5.3 above */
	uint32_t bad_commands_max;  /* senseless lines in a row, then 421 */
	const char *junk_name, *junk_value; /* mail with this header field, its value beginning so, goes to the folder with the use \Junk; NULL: none */
	bool suspended_temporary;   /* mail for a suspended account: 450 and the relay keeps it, or 550 */
};
void lmtp_config_default(struct lmtp_config *config_out);
/* Copies; strings are kept by pointer.  Before the shards start. */
void lmtp_configure(const struct lmtp_config *config);

extern const struct proto lmtp_proto;

#endif
