/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_workers.h - beside fake_house.h, for LMTP: tasks for other shards are done at once, here.  Sessions are counted.
 */
#ifndef PENFOLD_TESTS_UNIT_SUPPORT_FAKE_WORKERS_H
#define PENFOLD_TESTS_UNIT_SUPPORT_FAKE_WORKERS_H

#include "net/lmtp/lmtp_private.h"
#include "tests/unit/support/fake_house.h"

static int fake_sessions;
void lmtp_task_begin(struct lmtp_task *t, unsigned shard)
{
	ASSERT(fake_sessions > 0 && shard < shard_count());
	t->run(t);
	t->done(t);
}
void lmtp_workers_hold(void) { fake_sessions++; }
void lmtp_workers_release(void)
{
	fake_sessions--;
	ASSERT(fake_sessions >= 0);
}

#endif
