/* SPDX-License-Identifier: Apache-2.0 */
/*
 * relay.h - hands one message to another server, by SMTP or LMTP: the small client behind what sends mail.
 *
 * For protocols (POP3's XMIT; later others).  Each call opens a connection of its own, runs on the calling fiber, waits only
 * within the deadlines given, and closes it again.  At most RELAY_CONNECTIONS_MAX are open in this process: above it ERR_BUSY at once,
 * so that a slow relay is felt by those who send, and by nobody else.
 *
 * All or nothing as far as the protocols let us: a recipient that is refused before the data ends the transaction with
 * nothing sent.  OK means a 250 for every recipient after the data.  Where LMTP answers some recipients otherwise than others,
 * `taken` tells how many have it.
 *
 *     OK           every recipient has it
 *     ERR_DENIED   refused for good (5xx)
 *     ERR_TEMP     refused for now (4xx), or not reached, or silent past a deadline.  After the data was sent it may have arrived
 *                  all the same (`unsure`): sent again it may be there twice, never lost
 *     ERR_BUSY     too many at once
 *     ERR_SYNTAX   the message has bytes above 127 and the relay does not offer 8BITMIME
 *     ERR_LIMIT    larger than the relay takes (SIZE)
 *
 * Nothing is authenticated and nothing encrypted: a relay is on this host or on a trusted network.
 */
#ifndef PENFOLD_NET_RELAY_H
#define PENFOLD_NET_RELAY_H

#include "core/base/addr.h"
#include "core/base/bytes.h"
#include "core/base/err.h"

enum relay_protocol { RELAY_LMTP, RELAY_SMTP };

struct relay {
	struct addr address;      /* len 0: none */
	enum relay_protocol protocol;
	const char *host_name;    /* ours, for LHLO and EHLO */
	uint32_t connect_ms_max;  /* until the greeting and our introduction were answered */
	uint32_t answer_ms_max;   /* to each command, and to take each 64 KiB of the data */
	uint32_t data_ms_max;     /* to the end of the data */
};

struct relay_mail {
	struct slice sender;        /* addr-spec in ASCII; empty = null sender */
	const struct slice *rcpts;  /* likewise */
	size_t rcpts_count;
	const struct slice *pieces; /* the message in wire form, without dots stuffed; together they end in CRLF */
	size_t pieces_count;
	bool eight_bit;
};

#define RELAY_WORDS_BYTES 256
struct relay_outcome {
	size_t taken;  /* recipients that have it */
	bool unsure;   /* the end of the data was sent and not answered */
	char words[RELAY_WORDS_BYTES]; /* the first refusal, or what went wrong, for the log; printable ASCII */
};

/* Is it there, and does it talk to us? Later. */
enum err relay_check(const struct relay *relay, struct relay_outcome *outcome_out);
/* Later. */
enum err relay_send(const struct relay *relay, const struct relay_mail *mail, struct relay_outcome *outcome_out);

#endif
