/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin_fleet.h - an operator's question put to the other nodes of the fleet.
 *
 * For admin_verbs.c.  The node that is asked by a tool asks the others, over the link on which sessions are passed on (net/peer), as a hand-over of
 * the protocol "admin": nodes prove themselves there as ever, and the node asked believes what the asking one says of who asks.  All are asked
 * at once, within ADMIN_FLEET_MS_MAX; who has not answered by then is named, never left out in silence.
 *
 *     asking:    one line, the request with "here": true, "uid" and "by" (the asking node)
 *     answering: the answer's length in decimal, then its text cut into lines of at most ADMIN_PIECE_BYTES
 */
#ifndef PENFOLD_NET_SERVER_ADMIN_FLEET_H
#define PENFOLD_NET_SERVER_ADMIN_FLEET_H

#include "net/fleet/nodes.h"

#include <jansson.h>

struct admin_reply {
	struct fleet_peer node;
	json_t *answer;  /* a reference, or NULL */
	const char *why; /* static words: why there is none */
};

/* Asks all other nodes, or `only` that one ("" for all); *replies_out, one for each by name, for admin_replies_free. OK also where none answered;
 * else the others are not known now (Redis is away). Later. */
enum err admin_ask_others(json_t *request, const char *only, struct admin_reply **replies_out, size_t *count_out);
void admin_replies_free(struct admin_reply *replies, size_t count);

#endif
