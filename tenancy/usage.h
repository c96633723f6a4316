/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.h - what each tenant used: sessions, logins, bytes, deliveries, refusals.
 *
 * For the protocols, which count, and for the tools, which show (manage_usage).  To count is an addition in a table of the calling shard: no lock,
 * no allocation, nothing shared.  A table has room for USAGE_TENANTS_MAX tenants between two writes; what comes for more of them
 * is counted under tenant 0, "others", so that nothing is lost from the sum and nothing grows (invariant 7).
 *
 * Every USAGE_WRITE_MS, when asked (usage_flush) and at the end, the tables are added to DATA/usage.db by an offload job.  It is a file of
 * its own, so that counting is no change of the directory.  What could not be written is tried again with the next round; a killed process
 * loses what it had not written.  Several processes may add to one file.
 *
 * Bytes are those that a session's connection carried (ciphertext where there is TLS is not counted, but what is in it), told when the session
 * ends; for deliveries, the message's bytes, once for each copy.
 */
#ifndef PENFOLD_TENANCY_USAGE_H
#define PENFOLD_TENANCY_USAGE_H

#include "core/base/base.h"
#include "core/base/err.h"

enum usage_counter {
	USAGE_SESSIONS,      /* that entered a mailbox */
	USAGE_LOGINS,        /* right proofs */
	USAGE_LOGINS_FAILED, /* wrong, or right but not allowed in; of names in a domain of the tenant */
	USAGE_BYTES_IN,
	USAGE_BYTES_OUT,
	USAGE_DELIVERIES,    /* copies stored */
	USAGE_REFUSALS,      /* recipients refused and logins turned away (in use, too soon, faults) */
	USAGE_COUNTERS
};
/* The columns of usage.db and the keys of JSON, in the order of the enum. */
extern const char *const usage_names[USAGE_COUNTERS];

/* Counts on this shard. Now. Before usage_open and without a shard it does nothing. */
void usage_add(uint64_t tenant_id, enum usage_counter counter, uint64_t n);

/* Once per process, before the shards start (blocking); usage_close after they ended writes the rest. */
enum err usage_open(const char *data_path, unsigned shards);
void usage_close(void);
/* On each shard, on a fiber. */
void usage_start(void);
void usage_stop(void);

/* Writes what has been counted up to now. Later. ERR_IO, ERR_BUSY, ERR_TIMEOUT: not all of it could be. */
enum err usage_flush(void);

#endif
