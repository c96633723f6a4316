/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reload.h - the configuration read again while sessions go on: by SIGHUP and by `penfold reload`.
 *
 * The file is read and checked whole first, by an offload job; a bad one changes nothing and is refused with its line.  Then what can change in
 * place does: log (level, form, slow_ms), limits (but cache_bytes_max), certificates and tickets' secrets.  What differs from what runs and cannot is named, each
 * time, until a restart: it is compared with the file that the server was started with.  No session is touched.
 */
#ifndef PENFOLD_NET_SERVER_RELOAD_H
#define PENFOLD_NET_SERVER_RELOAD_H

#include "net/server/config.h"

#include <jansson.h>

/* Before the shards start. `running` must outlive them; `apply` is called on shard 0 with a good configuration. */
void reload_configure(const struct config *running, void (*apply)(void *arg, const struct config *fresh), void *arg);
/* Later, on a fiber of any shard: {"reloaded": [...], "restart": [names]} or {"error", "code"}. The caller's. */
json_t *reload_now(void);

#endif
