/* SPDX-License-Identifier: Apache-2.0 */
/* redis_secret.c - a password that may change: readers take a pointer, so texts of the past stay until the end. */
#include "core/run/redis.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct text {
	struct text *older;
	char bytes[];
};

struct redis_secret {
	pthread_mutex_t one_writer;
	struct text *newest; /* atomic */
};

static void put(struct redis_secret *s, const char *bytes)
{
	size_t len = strlen(bytes) + 1;
	struct text *t = xmalloc(sizeof *t + len);
	memcpy(t->bytes, bytes, len);
	t->older = s->newest;
	__atomic_store_n(&s->newest, t, __ATOMIC_RELEASE);
}

struct redis_secret *redis_secret_open(const char *text)
{
	struct redis_secret *s = xcalloc(1, sizeof *s);
	pthread_mutex_init(&s->one_writer, NULL);
	put(s, text);
	return s;
}

const char *redis_secret_now(const struct redis_secret *s) { return __atomic_load_n(&s->newest, __ATOMIC_ACQUIRE)->bytes; }

bool redis_secret_set(struct redis_secret *s, const char *text)
{
	pthread_mutex_lock(&s->one_writer);
	bool other = strcmp(redis_secret_now(s), text) != 0;
	if (other)
		put(s, text);
	pthread_mutex_unlock(&s->one_writer);
	return other;
}

void redis_secret_close(struct redis_secret *s)
{
	if (!s)
		return;
	while (s->newest) {
		struct text *t = s->newest;
		s->newest = t->older;
		explicit_bzero(t->bytes, strlen(t->bytes));
		free(t);
	}
	pthread_mutex_destroy(&s->one_writer);
	free(s);
}
