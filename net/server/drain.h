/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drain.h - emptying a running server without dropping anybody's work.
 *
 * For the admin socket and the probes.  A drain goes: readiness off at once; for grace_ms everything is served as before, so that a
 * load balancer can notice; then the listeners refuse connections, and the sessions end one after another over spread_ms, oldest
 * first, each between two commands in its protocol's way.  When none is left the server is drained: it goes on running, does its
 * upkeep, and can be stopped or undrained.  A drain is forgotten by a restart.
 *
 * State is process-wide and atomic; each shard has a timer that acts on its own part.
 */
#ifndef PENFOLD_NET_SERVER_DRAIN_H
#define PENFOLD_NET_SERVER_DRAIN_H

#include "core/base/base.h"

enum drain_state { DRAIN_NONE, DRAIN_GRACE, DRAIN_ENDING, DRAIN_DONE };

/* Per shard, behind listeners_start and before listeners_stop. On a fiber. */
void drain_start(void);
void drain_stop(void);

/* Any shard. False: a drain is under way (drain) or none is (undrain). Shards act within DRAIN_TICK_MS. */
bool drain_begin(uint32_t grace_ms, uint32_t spread_ms);
bool drain_end(void);
/* Any thread. */
bool drain_wanted(void);
/* Any shard. */
enum drain_state drain_now(void);

#endif
