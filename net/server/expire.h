/* SPDX-License-Identifier: Apache-2.0 */
/*
 * expire.h - the running server deletes mail whose days are over: tenants' setting expire_days, announced as POP3's EXPIRE (RFC 2449 section 6.7).
 *
 * Shard 0 walks all accounts once in `sweep_s`, with a pause between any two, and has those with a retention looked at on the shard that owns
 * them: what came into INBOX expire_days ago is expunged, in commits of bounded size; other folders are left alone.  A POP3 login does the
 * same for its own account first (pop3_session.c), so that nobody is shown what has had its days; EXPIRE 0 is QUIT's affair alone.
 * Nothing is read of an account whose oldest message is known to be young.  An account that another node of the fleet owns is left to that node.
 * Both calls are for every shard, on a fiber, between directory_start and directory_stop; only shard 0 acts.
 */
#ifndef PENFOLD_NET_SERVER_EXPIRE_H
#define PENFOLD_NET_SERVER_EXPIRE_H

#include "core/base/base.h"

void expire_configure(uint32_t day_s, uint32_t sweep_s); /* before the shards start */
void expire_start(void);
void expire_stop(void); /* waits for a look in progress. Later. */

#endif
