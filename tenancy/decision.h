/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decision.h - what was decided lately about logins and connections, and why: for `penfold why`.
 *
 * A bounded ring in memory for each kind, so that a crowd of refusals does not push out who was let in, nor the other way
 * round.  A note is a copy of some 250 bytes under a lock of its own place: it costs a login next to nothing.  Texts of clients are
 * kept as they came, cut; whoever shows them escapes them.  Any thread; all calls complete now.
 */
#ifndef PENFOLD_TENANCY_DECISION_H
#define PENFOLD_TENANCY_DECISION_H

#include "core/base/bytes.h"

enum decision_kind { DECISION_ACCEPTED, DECISION_DELAYED, DECISION_REFUSED, DECISION_KIND_COUNT };
const char *decision_word(enum decision_kind kind);

#define DECISION_LOGIN_BYTES 96

struct decision {
	uint64_t number;         /* in the order of their making */
	int64_t wall_ms;
	enum decision_kind kind;
	const char *protocol;    /* literals */
	const char *reason;      /* "password", "limit-address", "guessing-login", ... */
	uint64_t session;        /* 0: none */
	uint32_t delay_ms;
	uint32_t failures;       /* of the address, as they were counted then */
	char peer[48];           /* address, NUL-terminated */
	uint16_t login_bytes, account_bytes;
	char login[DECISION_LOGIN_BYTES], account[DECISION_LOGIN_BYTES];
};

/* What is not known stays 0. number and wall_ms are set here. */
void decision_note(struct decision *d, struct slice peer, struct slice login, struct slice account);

/* The newest first, at most `max`: those whose login or account is `who` (but for ASCII case), or whose address is. Returns how many. */
size_t decisions_about(struct slice who, struct decision *out, size_t max);

#endif
