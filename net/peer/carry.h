/* SPDX-License-Identifier: Apache-2.0 */
/*
 * carry.h - a session for an account that another node owns: handed over to it, then passed along.
 *
 * For protocols, where owner.h has said WHERE_AT.  carry_open connects, proves us, and names whose session it is (handover.h); the owner then
 * speaks the protocol.  Two ways to go on:
 *
 *   carry_pass_on   the client's session ends here as one of its protocol and becomes two that pass bytes between client and owner
 *                   (struct pipe and struct far in carry.c); no fiber and no buffer is kept while both are silent
 *   carry_line, carry_put, carry_file   the caller speaks the protocol himself, on his fiber, within deadlines (LMTP's deliveries)
 *
 * Passed along: what one side sends is received only while the other takes it; an end of sending is passed on; a client that is gone
 * resets the owner's connection (POP3: no update there), an owner that is gone ends the client's when what he said has left.  Whom the
 * operator kicks or drains here ends likewise.
 *
 * A carry belongs to its fiber's shard and lives until carry_close or carry_pass_on.  Everything the owner says is bounded as a client's words
 * are.
 */
#ifndef PENFOLD_NET_PEER_CARRY_H
#define PENFOLD_NET_PEER_CARRY_H

#include "net/fleet/owner.h"
#include "net/session.h"

/* Sessions may be passed on from here: an address is no use to a node that cannot prove itself. Set at the start. */
bool carry_on(void);

/* This answer is for carry_open. */
static inline bool carry_worth(const struct owner_answer *answer) { return answer->where == WHERE_AT && answer->at.address[0] && carry_on(); }

struct carry;
/* `subject` NULL: nobody is logged in (LMTP). `login`: the owner's first line with +OK (IMAP: + OK) ends the lines, raw bytes follow (carry_pass_on).
 * OK: it is taken. ERR_AGAIN: the owner is not that incarnation, ask owner.h again. ERR_TEMP: not reached, or refused. Later. */
enum err carry_open(const struct session *client, const char *protocol, const struct subject *subject, const struct owner_place *at, bool login,
		    struct carry **carry_out);
/* As this node itself, for an operator: nobody is logged in, no session is behind it. Answers as carry_open. Later. */
enum err carry_ask(const char *protocol, const struct owner_place *at, uint32_t ms_max, struct carry **carry_out);
/* The next line, without its end; valid until the next call. ERR_TIMEOUT, ERR_CLOSED. Later. */
enum err carry_line(struct carry *c, uint32_t ms_max, struct slice *line_out);
/* Puts bytes into the output; waits while that is full. ERR_TIMEOUT, ERR_CLOSED. Later. */
enum err carry_put(struct carry *c, struct slice bytes, uint32_t ms_max);
/* A range of a file, as reply_file. ERR_CLOSED: release has been called. Now. */
enum err carry_file(struct carry *c, int fd, uint64_t bytes, void (*release)(void *arg), void *arg);
/* Ends it, unless it was passed on; at once, or (`in_order`) after what is in the output. NULL is harmless. Now. */
void carry_close(struct carry *c, bool in_order);

/* After the owner's +OK: `s`, which has given back all it had, becomes the client's end; returns what its handler must return. The carry is consumed, and
 * a reference to `subject` is taken, for the roster. Now. */
enum step carry_pass_on(struct session *s, struct carry *c, struct subject *subject, uint32_t idle_ms_max);

#endif
