/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h - is it alive, is it ready: what the probes may honestly say.
 *
 *     alive     every shard's loop has turned within loop_s. One that does not will not come back by itself: restart.
 *     started   every shard serves: store, directory and listeners are open.
 *     ready     started, not draining, not stopping, and the directory answered within PROBE_ASK_S_MAX. Others may be sent here.
 *
 * Each shard shows a pulse by a timer of its own; shard 0 asks the directory a question that no cache can answer.  What is read
 * is atomic: any thread, now.
 */
#ifndef PENFOLD_NET_SERVER_PROBE_H
#define PENFOLD_NET_SERVER_PROBE_H

#include "core/base/base.h"

#ifndef PENFOLD_VERSION
#define PENFOLD_VERSION "0.1"
#endif

void probe_open(unsigned shards, uint32_t loop_s); /* before the shards start */
void probe_start(void);                            /* per shard, on a fiber, last of all */
void probe_stop(void);                             /* per shard, first of all */

/* False: *why_out (if not NULL) is a static word or two. */
bool probe_alive(const char **why_out);
bool probe_ready(const char **why_out);
bool probe_started(void);
/* The number of shards, which stay until probe_let; 0 while they start or stop. Any thread but theirs. */
unsigned probe_hold(void);
void probe_let(void);
uint64_t probe_boot_ns(void); /* boot time, of a thread that is no shard */
uint64_t probe_uptime_s(void);

/* For tests: one more shard serves, without its timer; */
void probe_begin(void);
/* the pulse of a shard as of a moment, in ns of CLOCK_BOOTTIME. */
void probe_set_pulse(unsigned shard, uint64_t at_ns);

#endif
