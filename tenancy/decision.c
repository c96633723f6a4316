/* SPDX-License-Identifier: Apache-2.0 */
/* decision.c - see decision.h. */
#include "tenancy/decision.h"

#include "core/base/limits.h"
#include "core/run/clock.h"

#include <pthread.h>
#include <stdlib.h>

#define LOCKS 64u

static struct {
	struct decision kept[DECISION_KIND_COUNT][DECISIONS_KEPT]; /* zero pages until used */
	uint64_t next[DECISION_KIND_COUNT];                        /* atomic */
	uint64_t number;                                           /* atomic */
	struct {
		_Alignas(64) pthread_mutex_t lock;
	} locks[LOCKS];
} ring = { .locks = { [0 ... LOCKS - 1] = { PTHREAD_MUTEX_INITIALIZER } } };

const char *decision_word(enum decision_kind kind)
{
	static const char *const words[] = { "accepted", "delayed", "refused" };
	return words[kind];
}

static uint16_t keep(char out[DECISION_LOGIN_BYTES], struct slice text)
{
	text = slice_upto(text, DECISION_LOGIN_BYTES);
	if (text.len)
		memcpy(out, text.ptr, text.len);
	return (uint16_t)text.len;
}

void decision_note(struct decision *d, struct slice peer, struct slice login, struct slice account)
{
	size_t n = min_size(peer.len, sizeof(d->peer) - 1);
	memcpy(d->peer, peer.ptr, n);
	d->peer[n] = '\0';
	d->login_bytes = keep(d->login, login);
	d->account_bytes = keep(d->account, account);
	d->wall_ms = clock_wall_ms();
	d->number = __atomic_add_fetch(&ring.number, 1, __ATOMIC_RELAXED);
	uint64_t place = __atomic_fetch_add(&ring.next[d->kind], 1, __ATOMIC_RELAXED) % DECISIONS_KEPT;
	pthread_mutex_t *lock = &ring.locks[place % LOCKS].lock;
	pthread_mutex_lock(lock);
	ring.kept[d->kind][place] = *d;
	pthread_mutex_unlock(lock);
}

static bool about(const struct decision *d, struct slice who)
{
	if (!d->number)
		return false;
	struct slice login = slice_of(d->login, d->login_bytes), account = slice_of(d->account, d->account_bytes), cut = slice_upto(who, DECISION_LOGIN_BYTES);
	return slice_eq(slice_str(d->peer), who) || slice_eq_nocase(login, cut) || (account.len && slice_eq_nocase(account, cut));
}

static int newest_first(const void *a, const void *b)
{
	uint64_t x = ((const struct decision *)a)->number, y = ((const struct decision *)b)->number;
	return x < y ? 1 : x > y ? -1 : 0;
}

/* The newest of one kind, newest first. */
static size_t of_kind(enum decision_kind kind, struct slice who, struct decision *out, size_t max)
{
	uint64_t next = __atomic_load_n(&ring.next[kind], __ATOMIC_RELAXED);
	size_t count = 0;
	for (uint64_t i = 0; i < min_u64(next, DECISIONS_KEPT) && count < max; i++) {
		uint64_t place = (next - 1 - i) % DECISIONS_KEPT;
		pthread_mutex_t *lock = &ring.locks[place % LOCKS].lock;
		pthread_mutex_lock(lock);
		bool wanted = about(&ring.kept[kind][place], who);
		if (wanted)
			out[count++] = ring.kept[kind][place];
		pthread_mutex_unlock(lock);
	}
	return count;
}

size_t decisions_about(struct slice who, struct decision *out, size_t max)
{
	struct decision *all = xcalloc(DECISION_KIND_COUNT * max + 1, sizeof(*all));
	size_t count = 0;
	for (int kind = 0; kind < DECISION_KIND_COUNT; kind++)
		count += of_kind((enum decision_kind)kind, who, all + count, max);
	qsort(all, count, sizeof(*all), newest_first);
	count = min_size(count, max);
	memcpy(out, all, count * sizeof(*all));
	free(all);
	return count;
}
