/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guard.h - the defence against guessing: how long a login waits before its proof is looked at, and what failures are remembered.
 *
 * For the protocols, around each proof whatever its mechanism: guard_ask before it, guard_tell after it.
 *
 *                     guard_ask                                proof            guard_tell
 *     login ---> OK ---------------------------------------> right / wrong ---> remembered
 *            ---> ERR_AGAIN: park for delay_ms, then ------->
 *            ---> ERR_BUSY: refused for now ("wait"), nothing was decided
 *
 * Failures are counted at once: at the address (in IPv6 the /64), its network (/24, /48), and the login.  Each count is halved every forget_s.
 * Above a free number each further failure doubles the delay, up to a bound.  From one address about GUARD_TURNS logins wait at a time,
 * one behind the other; who would have to wait longer is refused.  A login under attack from elsewhere is never refused, only delayed.
 *
 * Honest people:
 *   - who has logged in from a network lately is at home there: neither what others do behind the same address nor an attack on
 *     his login from elsewhere delays him, until GUARD_PAIR_FAILURES_FREE failures of this login from there;
 *   - the same wrong password again, from a device that was not told of the new one, is not counted;
 *   - a right password does not wipe out an address's failures: else a guesser with one account would do that in between.
 *
 * Invariant 11: all of this depends on what was sent and whence, and on the domain, never on whether the name exists: subaddresses, alias
 * domains and case are taken off in the same way for all names of a domain.  Passwords are kept as keyed hashes of 64 bits only.
 */
#ifndef PENFOLD_TENANCY_GUARD_H
#define PENFOLD_TENANCY_GUARD_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "tenancy/limit.h"
#include "tenancy/tally.h"

/* Of one attempt: filled by guard_ask, kept by the caller until guard_tell. Plain bytes; may be forgotten at any time. */
struct guard_pass {
	uint32_t source;         /* 0: exempt, nothing is counted */
	uint32_t delay_ms;       /* ERR_AGAIN: park for so long, then look at the proof */
	const char *reason;      /* of a delay or refusal: "address", "network", "login", "repeated" */
	uint64_t mac;            /* of the password; 0: the mechanism shows none */
	bool repeated;           /* this wrong password is known */
	struct tally_key name, pair;
};

/* `password` may be empty where the mechanism shows none. OK, ERR_AGAIN, ERR_BUSY (LIMIT_GUESSING). Later: the directory may be asked about the
 * domain; if it cannot be, the login is taken as it was typed. */
enum err guard_ask(uint32_t source, struct slice login, struct slice password, struct guard_pass *pass_out);
/* What became of the proof: OK and ERR_DENIED (right, but not allowed), ERR_AUTH; others tell nothing. Returns how many failures the address has
 * now, for the log. Now. */
uint32_t guard_tell(const struct guard_pass *pass, enum err outcome);

/* The entry at which failures of a connection's source are counted. */
uint32_t guard_source(uint32_t source);
/* Somebody has logged in from this address lately. Now. */
bool guard_at_home(uint32_t source);

#endif
