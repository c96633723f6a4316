/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tally.c - see tally.h.
 *
 * Entries lie in chunks that never move; a handle is chunk and place.  A stripe has its buckets of handles and its two lists of
 * idle entries.  No two locks are ever held at once: an entry's wider network is let go of after the stripe's lock.
 */
#include "tenancy/tally.h"

#include "core/run/clock.h"

#include <nettle/hmac.h>
#include <pthread.h>
#include <stdlib.h>

#define STRIPES 64u
#define CHUNK_ENTRIES 1024u
#define CHUNKS_MAX (TALLY_ENTRIES_MAX / CHUNK_ENTRIES)
#define BUCKETS_FIRST 64u

struct stripe {
	_Alignas(64) pthread_mutex_t lock;
	uint32_t *buckets;
	uint32_t buckets_count; /* a power of two */
	uint32_t count, held;
	struct list idle[2]; /* [1]: good; least recently used first */
	uint32_t idle_count[2];
	uint64_t forgotten;
};

static struct {
	bool open;
	uint64_t seed;
	struct hmac_sha256_ctx keyed;
	uint32_t idle_max; /* of one list */
	struct stripe stripes[STRIPES];
	pthread_mutex_t lock; /* of what follows */
	struct tally *chunks[CHUNKS_MAX];
	uint32_t made, free;
} tallies;

struct tally *tally_at(uint32_t handle)
{
	return &__atomic_load_n(&tallies.chunks[handle / CHUNK_ENTRIES], __ATOMIC_ACQUIRE)[handle % CHUNK_ENTRIES];
}

/* ---- memory ---- */

static uint32_t entry_new(void)
{
	pthread_mutex_lock(&tallies.lock);
	uint32_t h = tallies.free;
	if (h) {
		tallies.free = tally_at(h)->next;
	} else if (tallies.made < TALLY_ENTRIES_MAX) {
		h = tallies.made++;
		if (!tallies.chunks[h / CHUNK_ENTRIES])
			__atomic_store_n(&tallies.chunks[h / CHUNK_ENTRIES], xcalloc(CHUNK_ENTRIES, sizeof(struct tally)), __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&tallies.lock);
	if (h)
		memset(tally_at(h), 0, sizeof(struct tally));
	return h;
}

static void entry_free(uint32_t h)
{
	pthread_mutex_lock(&tallies.lock);
	tally_at(h)->next = tallies.free;
	tallies.free = h;
	pthread_mutex_unlock(&tallies.lock);
}

/* ---- a stripe; its lock is held ---- */

static uint64_t hash_of(enum tally_kind kind, const struct tally_key *key)
{
	return hash64(slice_of(key->bytes, sizeof(key->bytes)), tallies.seed + kind);
}

static struct stripe *stripe_of(uint64_t hash) { return &tallies.stripes[hash % STRIPES]; }
static uint32_t *bucket_of(struct stripe *s, uint64_t hash) { return &s->buckets[(hash / STRIPES) & (s->buckets_count - 1)]; }

static void grow(struct stripe *s)
{
	struct stripe bigger = { .buckets_count = s->buckets_count * 2, .buckets = xcalloc(s->buckets_count * 2, sizeof(uint32_t)) };
	for (uint32_t i = 0; i < s->buckets_count; i++) {
		for (uint32_t h = s->buckets[i], next; h; h = next) {
			struct tally *t = tally_at(h);
			next = t->next;
			uint32_t *to = bucket_of(&bigger, hash_of(t->kind, &t->key));
			t->next = *to;
			*to = h;
		}
	}
	free(s->buckets);
	s->buckets = bigger.buckets;
	s->buckets_count = bigger.buckets_count;
}

static uint32_t find(struct stripe *s, uint64_t hash, enum tally_kind kind, const struct tally_key *key)
{
	uint32_t h = *bucket_of(s, hash);
	while (h && (tally_at(h)->kind != kind || memcmp(&tally_at(h)->key, key, sizeof(*key)) != 0))
		h = tally_at(h)->next;
	return h;
}

static void hold(struct stripe *s, struct tally *t)
{
	if (t->refs++)
		return;
	s->held++;
	if (link_linked(&t->idle)) {
		link_remove(&t->idle);
		s->idle_count[t->in_good]--;
	}
}

static void add(struct stripe *s, uint64_t hash, uint32_t h)
{
	if (s->count >= s->buckets_count)
		grow(s);
	uint32_t *b = bucket_of(s, hash);
	tally_at(h)->next = *b;
	*b = h;
	s->count++;
}

/* Out of the table; the caller frees it, and lets go of its wider network, without the lock. */
static void take_out(struct stripe *s, uint32_t h)
{
	struct tally *t = tally_at(h);
	uint32_t *b = bucket_of(s, hash_of(t->kind, &t->key));
	while (*b != h)
		b = &tally_at(*b)->next;
	*b = t->next;
	s->count--;
}

/* The handle of an idle entry that is one too many, taken out, or 0. */
static uint32_t surplus(struct stripe *s, bool good)
{
	if (s->idle_count[good] <= tallies.idle_max)
		return 0;
	struct tally *t = CONTAINER_OF(list_pop_front(&s->idle[good]), struct tally, idle);
	uint32_t h = find(s, hash_of(t->kind, &t->key), t->kind, &t->key);
	s->idle_count[good]--;
	s->forgotten++;
	take_out(s, h);
	return h;
}

/* ---- for the room ---- */

uint32_t tally_get(enum tally_kind kind, struct tally_key key, uint32_t up)
{
	if (!tallies.open)
		return 0;
	uint64_t hash = hash_of(kind, &key);
	struct stripe *s = stripe_of(hash);
	pthread_mutex_lock(&s->lock);
	uint32_t h = find(s, hash, kind, &key);
	if (h) {
		hold(s, tally_at(h));
	} else if ((h = entry_new())) {
		struct tally *t = tally_at(h);
		link_init(&t->idle);
		t->kind = (uint8_t)kind;
		t->key = key;
		t->up = up;
		up = 0;
		add(s, hash, h);
		hold(s, t);
	}
	pthread_mutex_unlock(&s->lock);
	tally_put(up);
	return h;
}

uint32_t tally_find(enum tally_kind kind, struct tally_key key)
{
	if (!tallies.open)
		return 0;
	uint64_t hash = hash_of(kind, &key);
	struct stripe *s = stripe_of(hash);
	pthread_mutex_lock(&s->lock);
	uint32_t h = find(s, hash, kind, &key);
	if (h)
		hold(s, tally_at(h));
	pthread_mutex_unlock(&s->lock);
	return h;
}

static bool worth_keeping(const struct tally *t) { return t->failures || t->good_ms || t->wrong_count; }

/* Lets go; returns the handle of what is to be freed, or 0. */
static uint32_t let_go(struct stripe *s, uint32_t h)
{
	struct tally *t = tally_at(h);
	ASSERT(t->refs);
	if (--t->refs)
		return 0;
	s->held--;
	if (!worth_keeping(t)) {
		take_out(s, h);
		return h;
	}
	t->in_good = t->good_ms != 0;
	list_push_back(&s->idle[t->in_good], &t->idle);
	s->idle_count[t->in_good]++;
	return surplus(s, t->in_good);
}

void tally_put(uint32_t handle)
{
	while (handle) { /* and what it held */
		struct tally *t = tally_at(handle);
		struct stripe *s = stripe_of(hash_of(t->kind, &t->key));
		pthread_mutex_lock(&s->lock);
		uint32_t gone = let_go(s, handle);
		pthread_mutex_unlock(&s->lock);
		handle = gone ? tally_at(gone)->up : 0;
		if (gone)
			entry_free(gone);
	}
}

void tally_lock(struct tally *t) { pthread_mutex_lock(&stripe_of(hash_of(t->kind, &t->key))->lock); }
void tally_unlock(struct tally *t) { pthread_mutex_unlock(&stripe_of(hash_of(t->kind, &t->key))->lock); }

struct tally_key tally_hash(struct slice bytes)
{
	struct hash128 h = hash128(bytes, tallies.seed);
	struct tally_key key;
	memcpy(key.bytes, &h, sizeof(key.bytes));
	return key;
}

uint64_t tally_mac(struct slice a, struct slice b)
{
	struct hmac_sha256_ctx ctx = tallies.keyed;
	uint32_t length = (uint32_t)a.len;
	uint64_t mac;
	hmac_sha256_update(&ctx, sizeof(length), (const uint8_t *)&length);
	hmac_sha256_update(&ctx, a.len, (const uint8_t *)a.ptr);
	hmac_sha256_update(&ctx, b.len, (const uint8_t *)b.ptr);
	hmac_sha256_digest(&ctx, sizeof(mac), (uint8_t *)&mac);
	explicit_bzero(&ctx, sizeof(ctx));
	return mac;
}

/* ---- life ---- */

void tally_open(uint64_t bytes_max)
{
	uint8_t key[32];
	ASSERT(!tallies.open);
	random_bytes(&tallies.seed, sizeof(tallies.seed));
	random_bytes(key, sizeof(key));
	hmac_sha256_set_key(&tallies.keyed, sizeof(key), key);
	explicit_bzero(key, sizeof(key));
	uint64_t idle = bytes_max / sizeof(struct tally) / STRIPES / 2;
	tallies.idle_max = idle ? (uint32_t)min_u64(idle, TALLY_ENTRIES_MAX) : 1;
	tallies.made = 1; /* 0 is no handle */
	tallies.free = 0;
	pthread_mutex_init(&tallies.lock, NULL);
	for (unsigned i = 0; i < STRIPES; i++) {
		struct stripe *s = &tallies.stripes[i];
		*s = (struct stripe){ .buckets_count = BUCKETS_FIRST, .buckets = xcalloc(BUCKETS_FIRST, sizeof(uint32_t)) };
		pthread_mutex_init(&s->lock, NULL);
		list_init(&s->idle[0]);
		list_init(&s->idle[1]);
	}
	tallies.open = true;
}

void tally_close(void)
{
	if (!tallies.open)
		return;
	tallies.open = false;
	for (unsigned i = 0; i < STRIPES; i++) {
		pthread_mutex_destroy(&tallies.stripes[i].lock);
		free(tallies.stripes[i].buckets);
	}
	for (unsigned i = 0; i < CHUNKS_MAX && tallies.chunks[i]; i++) {
		explicit_bzero(tallies.chunks[i], CHUNK_ENTRIES * sizeof(struct tally));
		free(tallies.chunks[i]);
		tallies.chunks[i] = NULL;
	}
	explicit_bzero(&tallies.keyed, sizeof(tallies.keyed));
	pthread_mutex_destroy(&tallies.lock);
}

bool tally_is_open(void) { return tallies.open; }

void tally_stats(struct tally_stats *stats_out)
{
	*stats_out = (struct tally_stats){ .idle_max = (uint64_t)tallies.idle_max * 2 * STRIPES };
	for (unsigned i = 0; tallies.open && i < STRIPES; i++) {
		struct stripe *s = &tallies.stripes[i];
		pthread_mutex_lock(&s->lock);
		stats_out->held += s->held;
		stats_out->idle += s->idle_count[0] + s->idle_count[1];
		stats_out->forgotten += s->forgotten;
		pthread_mutex_unlock(&s->lock);
	}
}
