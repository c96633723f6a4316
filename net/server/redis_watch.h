/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_watch.h - the running server follows redis.password_file.
 *
 * Shard 0 has the file looked at once a second, on an offload thread; each connection to Redis uses the password of its time, connections that
 * are open go on.  A file that cannot be read or is empty is reported once and the old password stays.  All calls are for every shard, on
 * a fiber; only shard 0 acts, and without such a file they do nothing.
 */
#ifndef PENFOLD_NET_SERVER_REDIS_WATCH_H
#define PENFOLD_NET_SERVER_REDIS_WATCH_H

#include "core/run/redis.h"

#include <stddef.h>

/* Before the shards start; the path and the secret must outlive them. path NULL: there is nothing to watch. */
void redis_watch_configure(const char *path, struct redis_secret *secret);
void redis_watch_start(void);
void redis_watch_stop(void); /* waits for a look under way. Later. */

/* The one line of such a file, without its end; false: it cannot be read, is empty, or is longer. Blocks. */
bool redis_password_read(const char *path, char *out, size_t bytes);

#endif
