/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upgrade.h - a new process of this program takes over, and nobody is refused: `penfold upgrade`, SIGUSR2.
 *
 * The older starts the program anew (the file that it was started from, as it is now; same arguments) and lets it inherit the listening sockets, the data folder's
 * lock and one end of a socket pair, whose number is in PENFOLD_UPGRADE_FD:
 *
 *   older                                            newer
 *   claims the accounts in its memory (gate.h)
 *   starts it, and tells which descriptor is what    reads that, and the configuration as it is now; binds what is new in it
 *   serves on, and waits for UPGRADE_START_MS_MAX    starts its shards, accepts, says "ready"
 *   accepts no more; sessions at rest end, accounts  waits shortly for accounts that the older has
 *   without sessions are sealed and let go; after
 *   the time given all sessions are told to end
 *   ends with status 0                               sees the socket end: is alone
 *
 * If the newer ends or does not get ready, it is killed, and the older serves on as if nothing had been.  A configuration that is bad is found before anything is
 * begun.  With Redis it is refused: the node's lease is one process's, and other nodes serve while this one is drained and restarted.
 *
 * upgrade_inherit first, on the main thread; upgrade_configure before the shards; the rest on fibers.
 */
#ifndef PENFOLD_NET_SERVER_UPGRADE_H
#define PENFOLD_NET_SERVER_UPGRADE_H

#include "net/server/config.h"
#include "net/server/http.h"

#include <jansson.h>

/* Takes what the older left for us, if there is one: sockets go to net/listen.h. ERR_CONFIG after a line in the log. Blocking. */
enum err upgrade_inherit(void);
bool upgrade_takes_over(void);
int upgrade_lock_fd(void), upgrade_http_fd(void); /* -1: none */
/* `http` may be NULL; both outlive the shards. */
void upgrade_configure(const struct config *config, struct http *http);
/* On each shard: behind everything else of its start, before everything else of its stop. */
void upgrade_start(void);
void upgrade_stop(void);

/* On any shard: {"pid", "state", ...} or {"error", "code"}. Answers when the newer has been started, not when it is ready: see status. Later. */
json_t *upgrade_begin(uint32_t over_ms);
/* {"pid": ours, "state": "serving" | "starting" | "leaving", "last": how the last attempt here ended, or null}. Now. */
json_t *upgrade_status(void);

#endif
