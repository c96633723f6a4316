/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admin_verbs.h - what the admin socket can be asked: one JSON object with a "verb" in, one JSON document out.
 *
 *     {"verb": "who", "login": "ann@demo.example"}     {"verb": "kick", "session": 7, "reason": "asked by its owner"}
 *
 * who, kick, lock list, lock break and node list are put to the whole fleet (admin_fleet.h); "here": true asks this node alone, "node": "n2" that
 * one.  The answer then has "unanswered": [{"node": "n3", "why": "words"}], of whom nothing is known: empty when all were heard.  A session's
 * number is its node's: "session" asks this node, or "node".
 *
 * Every request is answered by an object: its results, or {"error": "words", "code": "denied"}.  Reading verbs are for whoever may
 * connect (mode and group of the socket); changing ones only for root and the server's own user.  Each change is in the log with
 * the user who asked and the reason given.
 */
#ifndef PENFOLD_NET_SERVER_ADMIN_VERBS_H
#define PENFOLD_NET_SERVER_ADMIN_VERBS_H

#include "core/base/bytes.h"
#include "core/base/err.h"

#include <jansson.h>

struct admin_asker {
	uint32_t uid;
	bool may_change;
	bool of_node; /* another node, for the user in the request: has been judged there */
};

/* This node's name in answers; must live as long as the server. Before the shards start. */
void admin_configure(const char *node);
/* The answer, a new reference. Later. */
json_t *admin_answer(const struct admin_asker *who, struct slice request);
/* Metrics, shards, memory (admin.c). Now. */
json_t *admin_stats(void);

#endif
