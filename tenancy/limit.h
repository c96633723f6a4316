/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.h - the bounds on who may be here, and their names.
 *
 * For listeners (addresses), protocols (accounts, tenants, guessing) and whoever explains.  A refusal says which bound was reached
 * by limit_word, which is stable: operators' tools look for it.  The settings may be changed while sessions go on (SIGHUP): what
 * is there stays, what comes is judged by the new ones.
 */
#ifndef PENFOLD_TENANCY_LIMIT_H
#define PENFOLD_TENANCY_LIMIT_H

#include "core/base/cidr.h"

enum limit {
	LIMIT_NONE,
	LIMIT_ALL,             /* connections in all */
	LIMIT_ADDRESS,         /* of one address */
	LIMIT_NET24, LIMIT_NET64, LIMIT_NET48,
	LIMIT_WAITING,         /* connections in all that have not logged in */
	LIMIT_WAITING_ADDRESS, /* of one address (an IPv6 /64) */
	LIMIT_ACCOUNT,         /* sessions of an account */
	LIMIT_TENANT,          /* sessions of a tenant */
	LIMIT_GUESSING,        /* logins wait behind too many failed ones */
	LIMIT_COUNT
};
/* "address", "net24", ... */
const char *limit_word(enum limit limit);

struct limits_config {
	/* 0: none */
	uint32_t per_address, per_net24, per_net64, per_net48, waiting, waiting_per_address, per_account, per_tenant;
	/* guessing: see guard.h */
	uint32_t failures_free, name_failures_free, delay_first_ms, delay_ms_max, forget_s;
	uint64_t cache_bytes_max; /* of what is remembered of nobody who is here; of the first configuration only */
	const struct cidr *exempt;
	size_t exempt_count;
};
void limits_config_default(struct limits_config *config_out);
/* Copies all of it. Any thread, at any time. */
void limits_configure(const struct limits_config *config);
/* The settings in force; never changed, valid as long as the process. Now. */
const struct limits_config *limits(void);

#endif
