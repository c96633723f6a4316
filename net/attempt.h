/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attempt.h - one attempt to log in: the defence against guessing (tenancy/guard.h) around a proof (tenancy/auth.h).
 *
 * For the protocols, whatever the command: USER and PASS, LOGIN, APOP, AUTH.  A password is not even hashed before the wait that the guard asks for
 * is over; a proof that another mechanism has decided already is counted at once and waits as long to be told, right or wrong.
 *
 *     attempt_password / attempt_decided          on the stack: the slices are the caller's
 *     attempt_begin ---> ATTEMPT_TOLD             outcome, subject, failures are there
 *                   ---> ATTEMPT_SHED             too many wait: refuse for now, in words that say "wait"
 *                   ---> ATTEMPT_WAITS            attempt_keep: a copy of one's own; the session is paused: return STEP_PAUSE, and then
 *     attempt_go_on                               outcome, subject, failures are there
 *     attempt_free                                of the copy, at any time
 *
 * What cannot be a name, or a password that is too long, is wrong in the same words as any other (invariant 11).
 */
#ifndef PENFOLD_NET_ATTEMPT_H
#define PENFOLD_NET_ATTEMPT_H

#include "net/session.h"
#include "tenancy/auth.h"
#include "tenancy/guard.h"

struct attempt {
	struct slice name, authzid, password;
	const char *how; /* of a static text: "pass", "login", a mechanism's name */
	enum auth_protocol protocol;
	bool decided;
	/* told: */
	enum err outcome;
	struct subject *subject; /* OK only; taken by the caller, who sets it to NULL */
	uint32_t failures;       /* of the address, for the log */
	struct guard_pass pass;  /* its reason and delay, for words and log */
};

enum attempt_next { ATTEMPT_TOLD, ATTEMPT_WAITS, ATTEMPT_SHED };

struct attempt attempt_password(enum auth_protocol protocol, struct slice name, struct slice authzid, struct slice password, const char *how);
struct attempt attempt_decided(enum auth_protocol protocol, struct slice name, const char *how, enum err outcome, struct subject *subject);

/* Later. */
enum attempt_next attempt_begin(struct attempt *a, struct session *s);
/* When the pause is over. Later. */
void attempt_go_on(struct attempt *a, struct session *s);
/* A copy on the heap, its slices too; for as long as a session waits. Its subject is the copy's. */
struct attempt *attempt_keep(const struct attempt *a);
void attempt_free(struct attempt *a); /* NULL is harmless; a subject that nobody took goes back, the password is wiped */

#endif
