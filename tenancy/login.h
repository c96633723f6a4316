/* SPDX-License-Identifier: Apache-2.0 */
/*
 * login.h - the one table that says which account a login or a recipient names (DESIGN section 6).
 *
 * Private to this room.  Pure but for the three questions that it asks through `struct login_ask`, so that the whole
 * table is tested without a directory.  Readings are tried in this order; the first account found wins:
 *
 *   with '@' (split at the last one)
 *     1  the account of exactly that name (alias domains stand for their target)
 *     2  the host maildrop of that domain, local part = which user's mail            (SDPS, mode maildrop)
 *     3  the name without its subaddress: cut at the tenant's separator, longest name first
 *     4  a short host name behind the '@': its domain stands for it                  (SDPS, sessions only)
 *   without '@'
 *     1  the account of exactly that name in the default domain
 *     2  '%' standing for '@' (split at the last one), read as above                 (sessions only)
 *     3  user+host, split at the last '+'                                            (SDPS, sessions only)
 *     4  a host's own name: all of its maildrop                                      (SDPS, sessions only)
 *     5  the default domain, without its subaddress
 *
 * A question that cannot be answered ends the reading with its error: to go on could name another account.
 */
#ifndef PENFOLD_TENANCY_LOGIN_H
#define PENFOLD_TENANCY_LOGIN_H

#include "tenancy/name.h"
#include "tenancy/record.h"

/* What the table asks. Names are folded. OK gives a counted answer; ERR_NOT_FOUND; anything else: cannot be answered. */
struct login_ask {
	enum err (*domain)(void *arg, struct slice domain, struct domain_facts **facts_out);
	enum err (*account)(void *arg, struct slice local, struct slice domain, struct record **record_out);
	enum err (*host)(void *arg, struct slice host, struct host_facts **facts_out);
	void *arg;
	struct slice default_domain; /* folded; empty = none */
};

enum login_purpose { LOGIN_SESSION, LOGIN_RCPT };
enum login_reading { LOGIN_EXACT, LOGIN_SUBADDRESS, LOGIN_SDPS_USER, LOGIN_SDPS_HOST };

struct login_found {
	struct record *record;       /* NULL unless OK */
	struct domain_facts *domain; /* the last served domain that was tried, also when nobody was found; NULL if none */
	enum login_reading reading;
	uint64_t changes; /* directory_changes() when the question was asked */
	/* LOGIN_SDPS_USER in a host maildrop: only mail for this local part. */
	char user_bytes[LOGIN_BYTES_MAX];
	struct slice user;
};

/* OK, ERR_NOT_FOUND, ERR_SYNTAX (RCPT only: not an address), or what a question answered. *found_out must be released in each case. */
enum err login_resolve(const struct login_ask *ask, enum login_purpose purpose, struct slice login, struct login_found *found_out);
void login_found_release(struct login_found *found);

#endif
