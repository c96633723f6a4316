/* SPDX-License-Identifier: Apache-2.0 */
/*
 * roster.h - who is connected: the sessions of this process, listed and ended from any shard.
 *
 * For net/server (who, kick, drain, metrics) and for whoever must end the sessions of an account or a tenant (suspension).
 * A session is not made larger for it: what net knows lies in the connection, what the protocol knows (account, login, state) is asked of
 * it by proto->describe at the moment of the question.  Sessions of a protocol without `describe` (the admin socket) are
 * not in the roster: they are neither listed, ended nor drained.
 *
 * Each shard's part is looked at in one go on its own thread, so it is consistent in itself; between shards a session that
 * moves may be missed or seen twice (its id is the same).  To end is therefore asked twice by those who must not miss one.
 *
 * Ending is what the protocol does when the server stops: POP3 ends without update, LMTP says 421.  A session that is working ends
 * at its next line; with `now` nothing more is sent.  proto->closed has not yet run when the call returns.
 *
 * Memory: entries are copies, owned by the caller (roster_free).
 */
#ifndef PENFOLD_NET_ROSTER_H
#define PENFOLD_NET_ROSTER_H

#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/limits.h"
#include "net/session.h"

/* Which sessions; what is 0 or empty does not matter, and all that is set must hold. */
struct roster_filter {
	bool by_session;       /* `session` counts: 0 is a good id */
	uint64_t session;
	uint64_t account_id, tenant_id;
	struct slice login;    /* the canonical name, user@domain; ASCII case does not matter */
	struct slice tenant;   /* its name */
	struct slice protocol;
	struct slice address;  /* the client's, without port */
};

struct roster_entry {
	uint64_t session;
	unsigned shard;
	const char *protocol;
	const char *tls;        /* "TLSv1.3", or NULL */
	const char *state;      /* the protocol's word for where it is: "authorization" */
	bool working;           /* a command is being carried out or answered right now; else the client's turn */
	uint64_t account_id, tenant_id; /* 0: not logged in */
	char login[ROSTER_NAME_BYTES_MAX], tenant[ROSTER_NAME_BYTES_MAX]; /* cut if longer; empty: not logged in */
	char peer[48];          /* with port */
	uint64_t age_ms, quiet_ms; /* since it came; since its last line or progress */
	uint64_t bytes_in;      /* counts to 4 GiB - 1 and stays there */
	uint64_t bytes_out;
};

struct roster {
	struct roster_entry *entries;
	size_t count;
	uint64_t matched; /* also those that had no room: more than `count` then */
};

/* Sessions of all shards that match, in the order of their ids, at most `count_max`. Later. ERR_BUSY: a shard has no fiber for it. */
enum err roster_list(const struct roster_filter *filter, size_t count_max, struct roster *out);
void roster_free(struct roster *r);

/* Ends all that match, on all shards; `reason` goes to the log with each. Later. ERR_BUSY: some shard could not be asked (others may
 * have been): ask again. */
enum err roster_end(const struct roster_filter *filter, const char *reason, bool now, uint64_t *ended_out);

/* ---- ending those whose account may not be here any more (net/server/withdraw.h) ---- */

struct roster_login {
	uint64_t session, account_id, credential_version;
	const char *protocol;
};
/* All logged-in sessions of one shard, in no order of meaning; *logins_out is the caller's to free. Later. */
enum err roster_logins(unsigned shard, struct roster_login **logins_out, size_t *count_out);
/* Ends these sessions of one shard, if they are still there: proto->stop finds session_withdrawn(). `count` is at most
 * ROSTER_WITHDRAW_MAX, so that the shard is not held for long. Later. */
enum err roster_withdraw(unsigned shard, const uint64_t *sessions, size_t count, const char *reason, bool now, uint64_t *ended_out);

/* Of this shard only: ends the `count_max` oldest that have not been told yet; returns how many. For who spreads it over time. Now. */
size_t roster_end_oldest(size_t count_max, const char *reason);
/* Of this shard only: those at rest, that is without a sign of the client for quiet_ms and with nothing unfinished
 * (session_facts). Now. */
size_t roster_end_at_rest(size_t count_max, uint64_t quiet_ms, const char *reason);
/* How many are here, and how many of them have been told to end. Now. */
void roster_count_here(uint64_t *sessions_out, uint64_t *ending_out);

#endif
