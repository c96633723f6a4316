/* SPDX-License-Identifier: Apache-2.0 */
/* directory_private.h - what auth.c asks of directory.c. */
#ifndef PENFOLD_TENANCY_DIRECTORY_PRIVATE_H
#define PENFOLD_TENANCY_DIRECTORY_PRIVATE_H

#include "tenancy/login.h"

/* Who is meant by a login or a recipient: login_resolve over the cache. Later. *found_out must be released in each case. */
enum err directory_find(enum login_purpose purpose, struct slice login, struct login_found *found_out);

/* What is known of a served domain as a client wrote it, or of the default domain (empty). Later. OK gives counted facts; ERR_NOT_FOUND, ERR_SYNTAX, ERR_TEMP. */
enum err directory_domain_facts(struct slice domain, struct domain_facts **facts_out);

/* Some tenant keeps reversible secrets. Now. */
/* By any tenant; with a host's name in some tenant's domain (TLS SNI): by that one. Later. */
bool directory_apop_offered(struct slice host);
/* Does the tenant whose domain this login names, as far as its text tells, want TLS? Asks nothing about the account. Later. */
bool directory_wants_tls(struct slice login);
/* Some SDPS host is one maildrop. Now. */
/* Changes seen so far. Who reads it before a question and again after its answer knows whether the answer may be older than a change that is
 * already acted upon. */
uint64_t directory_changes(void);
bool directory_has_maildrops(void);

#endif
