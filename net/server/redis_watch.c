/* SPDX-License-Identifier: Apache-2.0 */
/* redis_watch.c - see redis_watch.h. */
#include "net/server/redis_watch.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Shard 0's, but for what the job does: one at a time. */
static struct {
	const char *path;
	struct redis_secret *secret;
	struct timer timer;
	bool busy, stopping, complained;
	struct waitq idle;
} watch;

bool redis_password_read(const char *path, char *out, size_t bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, bytes);
	if (fd >= 0)
		close(fd);
	if (n < 0 || (size_t)n == bytes)
		return false;
	while (n && (out[n - 1] == '\n' || out[n - 1] == '\r'))
		n--;
	out[n] = 0;
	return n > 0 && !memchr(out, 0, (size_t)n) && !strchr(out, '\n');
}

static void look_job(void *arg)
{
	char text[REDIS_PASSWORD_BYTES_MAX];
	(void)arg;
	if (!redis_password_read(watch.path, text, sizeof text)) {
		if (!watch.complained)
			log_event(LOG_ERROR, "redis.password_refused", LOG_Z("file", watch.path), LOG_Z("expected", "a readable file with one line"),
				  LOG_Z("effect", "the password before serves on"));
		watch.complained = true;
		return;
	}
	watch.complained = false;
	if (redis_secret_set(watch.secret, text))
		log_event(LOG_INFO, "redis.password_changed", LOG_Z("file", watch.path), LOG_Z("effect", "the next connection uses it"));
	explicit_bzero(text, sizeof text);
}

static void look_fiber(void *arg)
{
	(void)arg;
	watch.busy = true;
	if (!watch.stopping)
		(void)offload_call(look_job, NULL, REDIS_LOOK_WAIT_MS_MAX); /* not begun in time: the next second's turn */
	watch.busy = false;
	waitq_wake_all(&watch.idle);
	if (!watch.stopping)
		timer_set(&watch.timer, REDIS_LOOK_MS);
}

static void due(struct timer *t)
{
	if (fiber_start("redis watch", look_fiber, NULL) != OK)
		timer_set(t, REDIS_LOOK_MS);
}

void redis_watch_configure(const char *path, struct redis_secret *secret)
{
	watch.path = path;
	watch.secret = secret;
}

void redis_watch_start(void)
{
	if (shard_index() != 0 || !watch.path)
		return;
	watch.busy = watch.stopping = watch.complained = false;
	waitq_init(&watch.idle);
	timer_init(&watch.timer, due);
	timer_set(&watch.timer, REDIS_LOOK_MS);
}

void redis_watch_stop(void)
{
	if (shard_index() != 0 || !watch.path)
		return;
	watch.stopping = true;
	timer_clear(&watch.timer);
	while (watch.busy)
		waitq_wait(&watch.idle, 0);
}
