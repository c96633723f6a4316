/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backends.c - which back end the shards of this process run on.
 *
 * "auto" wants io_uring until it has been refused once: then epoll, for the life of the process.  Nothing is guessed from versions
 * or settings: a ring is opened and tried (uring.c), by every shard, for locked memory may end at the last of them.
 *
 * Process-wide; changed while no shard runs, by the thread that starts them.  Readers may be any thread.
 */
#include "core/run/shard_private.h"

#include "core/base/log.h"

#include <string.h>

static const struct io_backend *forced; /* NULL = auto */
static bool ring_refused;
static const char *running = "none"; /* atomic */

enum err shard_set_backend(const char *name)
{
	if (strcmp(name, "auto") == 0)
		forced = NULL;
	else if (strcmp(name, io_backend_uring.name) == 0)
		forced = &io_backend_uring;
	else if (strcmp(name, io_backend_epoll.name) == 0)
		forced = &io_backend_epoll;
	else
		return ERR_CONFIG;
	return OK;
}

const struct io_backend *backend_wanted(void) { return forced ? forced : ring_refused ? &io_backend_epoll : &io_backend_uring; }

bool backend_refused(const struct io_backend *backend, const char *why)
{
	if (forced || backend != &io_backend_uring)
		return false;
	if (!ring_refused)
		log_event(LOG_WARN, "run.backend", LOG_Z("backend", io_backend_epoll.name), LOG_Z("why", why),
		          LOG_Z("hint", "it runs with epoll, at more CPU an operation; io.backend: epoll says that this is meant"));
	ring_refused = true;
	return true;
}

void backend_runs(const struct io_backend *backend) { __atomic_store_n(&running, backend->name, __ATOMIC_RELEASE); }

const char *shard_backend(void) { return __atomic_load_n(&running, __ATOMIC_ACQUIRE); }
