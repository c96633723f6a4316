/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.h - what a directory of any kind must answer: SQLite now; passwd-file, Redis, chains of them later.
 *
 * Private to this room.  Every call is blocking, runs on offload threads (several at once) or before the shards start, and
 * must bring its own time bound.  Names come folded (name.h).  OK gives a counted answer that the caller owns; ERR_NOT_FOUND
 * is an answer too (it is cached); everything else means "cannot be answered now" and is not.
 */
#ifndef PENFOLD_TENANCY_BACKEND_H
#define PENFOLD_TENANCY_BACKEND_H

#include "tenancy/record.h"

/* What must be known without asking. */
struct directory_overview {
	bool apop_offered;          /* a tenant keeps reversible secrets */
	uint32_t login_delay_max_s; /* see directory_extremes */
	int32_t expire_days_min;
	bool sdps_maildrops;        /* there are hosts that are one maildrop, with two passwords each */
};

struct directory_backend {
	const char *name;
	enum err (*domain)(void *self, struct slice domain, struct domain_facts **facts_out);
	/* local is empty for an SDPS host's maildrop; domain is canonical (no alias) */
	enum err (*account)(void *self, struct slice local, struct slice domain, struct record **record_out);
	enum err (*host)(void *self, struct slice host, struct host_facts **facts_out);
	/* Fills in how each account stands, found by its id; NULL where ids cannot be asked for. */
	enum err (*standings)(void *self, struct standing *standings, size_t count);
	/* A number that differs after every change by anybody; never called from two threads at once. The overview is fresh whenever it differs
	 * from the one before. */
	enum err (*changes)(void *self, uint64_t *version_out, struct directory_overview *overview_out);
	/* Removed accounts whose mail is to go; NULL where there is no such list. */
	enum err (*purge_next)(void *self, uint64_t after, uint64_t *account_id_out);
	enum err (*purge_done)(void *self, uint64_t account_id);
	void (*close)(void *self);
};

/* directory_sqlite.c: DATA/directory.db, made or brought up to date if needed. One line in the log when it fails. */
enum err directory_sqlite_open(const char *data_path, const struct directory_backend **backend_out, void **self_out);

#endif
