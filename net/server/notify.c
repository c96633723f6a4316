/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - see notify.h. */
#include "net/server/notify.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "core/run/socket.h"
#include "net/server/probe.h"

#include <stdlib.h>
#include <unistd.h>

/* Set by the main thread, then shard 0's. */
static struct {
	char path[NOTIFY_PATH_BYTES]; /* empty: nobody asked */
	uint64_t alive_ms;            /* how often the manager wants to hear that we live; 0: never */
	uint64_t said_ms;
	bool ready;
	struct timer timer;
} notify;

static bool number(const char *name, uint64_t *out)
{
	const char *text = getenv(name);
	return text && slice_u64(slice_str(text), UINT64_MAX, out);
}

void notify_open(void)
{
	const char *path = getenv("NOTIFY_SOCKET");
	uint64_t pid = (uint64_t)getpid(), us = 0;
	notify.path[0] = 0;
	notify.ready = false;
	notify.alive_ms = 0;
	if (path && strlen(path) < sizeof notify.path && (path[0] == '/' || path[0] == '@'))
		strcpy(notify.path, path);
	if (number("WATCHDOG_USEC", &us) && (!getenv("WATCHDOG_PID") || (number("WATCHDOG_PID", &pid) && pid == (uint64_t)getpid())))
		notify.alive_ms = us / 2000; /* sd_watchdog_enabled(3): half of the time given */
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

static void say(const char *text) { socket_tell(notify.path, slice_str(text)); }

static void look(struct timer *t)
{
	if (!notify.ready && probe_started()) {
		notify.ready = true;
		say("READY=1\nSTATUS=serving");
	}
	if (notify.alive_ms && clock_now_ms() >= notify.said_ms + notify.alive_ms && probe_alive(NULL)) {
		notify.said_ms = clock_now_ms();
		say("WATCHDOG=1");
	}
	timer_set(t, notify.alive_ms ? (uint32_t)min_u64(notify.alive_ms, NOTIFY_LOOK_MS) : NOTIFY_LOOK_MS);
}

void notify_start(void)
{
	if (shard_index() != 0 || !notify.path[0])
		return;
	timer_init(&notify.timer, look);
	look(&notify.timer);
}

void notify_stop(void)
{
	if (shard_index() != 0 || !notify.path[0])
		return;
	timer_clear(&notify.timer);
	say("STOPPING=1\nSTATUS=ending sessions, storing what is left");
}
