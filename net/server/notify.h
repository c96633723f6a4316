/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.h - the service manager is told how we are (sd_notify(3): NOTIFY_SOCKET, WATCHDOG_USEC): ready when every shard serves, alive while
 * every shard turns (probe.h), stopping when we stop.  Without a manager that asked for it nothing is said.
 *
 * notify_open: main thread, before the shards start; the rest for every shard, on a fiber; only shard 0 acts.  No call waits.
 */
#ifndef PENFOLD_NET_SERVER_NOTIFY_H
#define PENFOLD_NET_SERVER_NOTIFY_H

void notify_open(void);
void notify_start(void); /* behind probe_start */
void notify_stop(void);

#endif
