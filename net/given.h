/* SPDX-License-Identifier: Apache-2.0 */
/*
 * given.h - listening sockets that the service manager opened for us and kept the name of (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS,
 * LISTEN_FDNAMES).
 *
 * For listen.c, which takes them for listeners whose address is "systemd:NAME".  The manager holds its own descriptor of each: a
 * connection that comes while the server is restarted waits in the queue instead of being refused, ports below 1024 need no privilege,
 * and a server that ends must not shut the socket down.  Main thread, before the shards start; no call waits.
 */
#ifndef PENFOLD_NET_GIVEN_H
#define PENFOLD_NET_GIVEN_H

#include "core/base/bytes.h"

#define GIVEN_ADDRESS "systemd:" /* what such an address begins with */

/* Reads what was given and takes it out of the environment, so that nobody after us believes it.  What was meant for another process
 * (LISTEN_PID) counts as nothing.  Descriptors are made close-on-exec.  Once. */
void given_open(void);
/* The next socket of that name that nobody has asked for yet, now the caller's; -1: there is none (left). */
int given_take(struct slice name);
/* Whatever nobody asked for is told in the log and closed. */
void given_close(void);

#endif
