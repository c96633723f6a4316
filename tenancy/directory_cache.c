/* SPDX-License-Identifier: Apache-2.0 */
/* directory_cache.c - striped, bounded, one query per key in flight. */
#include "tenancy/directory_cache.h"

#include "core/base/hash.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/lru.h"
#include "core/base/table.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "tenancy/cross_wait.h"
#include "tenancy/tenant_class.h"

#include <pthread.h>
#include <stdlib.h>

/* The key holds its kind in the first byte. */
#define KEY_BYTES_MAX (1 + LOGIN_BYTES_MAX + 1 + DOMAIN_BYTES_MAX)
#define ENTRIES_PER_STRIPE_MAX ((size_t)1 << 22)

struct entry {
	struct table_node node;
	struct lru_node lru;
	struct stripe *stripe;
	struct fact *fact;   /* NULL: no such name */
	uint64_t generation; /* of the cache when the question was asked */
	uint64_t until_ms;   /* fetched: good until then; 0 = until something changes */
	uint64_t retry_ms;   /* stale, and not to be asked for before this time; 0 = now */
	uint32_t touched;    /* the stripe's `kept` when it last moved to the front */
	uint32_t key_len;
	char key[];
};

/* A question on its way, on the stack of the fiber that asks it. */
struct flight {
	struct link link;
	struct slice key;
	struct list waiters; /* struct joined */
	/* of the job */
	struct directory_cache *cache;
	void *fetched;
	struct fact *fact;
	enum err result;
};

/* Who waits for somebody else's flight. */
struct joined {
	struct cross_wait wait;
	struct fact *fact;
	enum err result;
};

struct stripe {
	pthread_mutex_t lock;
	struct table table;
	struct lru known, unknown;
	struct list flights;
	uint32_t kept; /* answers kept so far */
	struct directory_cache_stats stats;
} __attribute__((aligned(64)));

struct directory_cache {
	struct stripe stripes[DIRECTORY_STRIPES];
	struct lru_line *lines;
	uint64_t generation; /* atomic */
	uint64_t seed;
	uint32_t ask_ms_max;
	directory_load load;
	directory_fetch fetch;
	void *load_arg;
};

static struct slice key_of(const struct table_node *n)
{
	const struct entry *e = (const void *)((const char *)n - offsetof(struct entry, node));
	return slice_of(e->key, e->key_len);
}

static void entry_free(struct entry *e)
{
	fact_unref(e->fact);
	free(e);
}

/* It has left its LRU list. */
static void evicted(struct lru_node *n)
{
	struct entry *e = CONTAINER_OF(n, struct entry, lru);
	table_remove(&e->stripe->table, &e->node);
	entry_free(e);
}

static struct lru *lru_of(struct stripe *s, const struct entry *e)
{
	return e->fact ? &s->known : &s->unknown;
}

static void drop_entry(struct stripe *s, struct entry *e)
{
	lru_remove(lru_of(s, e), &e->lru);
	evicted(&e->lru);
}

struct directory_cache *directory_cache_open(uint64_t bytes_max, uint32_t ask_ms_max, directory_load load, directory_fetch fetch, void *arg)
{
	struct directory_cache *cache = aligned_alloc(64, sizeof(*cache));
	ASSERT(cache);
	memset(cache, 0, sizeof(*cache));
	cache->lines = xcalloc(2 * DIRECTORY_STRIPES * FAIR_CLASSES, sizeof(*cache->lines)); /* of zero pages: taken as tenants come */
	random_bytes(&cache->seed, sizeof(cache->seed));
	cache->generation = 1;
	cache->ask_ms_max = ask_ms_max;
	cache->load = load;
	cache->fetch = fetch;
	cache->load_arg = arg;
	uint64_t share = bytes_max / DIRECTORY_STRIPES;
	for (size_t i = 0; i < DIRECTORY_STRIPES; i++) {
		struct stripe *s = &cache->stripes[i];
		pthread_mutex_init(&s->lock, NULL);
		table_init(&s->table, ENTRIES_PER_STRIPE_MAX, cache->seed, key_of);
		lru_init(&s->known, share - share / 4, evicted);
		lru_init(&s->unknown, share / 4, evicted);
		lru_share(&s->known, cache->lines + 2 * i * FAIR_CLASSES);
		lru_share(&s->unknown, cache->lines + (2 * i + 1) * FAIR_CLASSES);
		list_init(&s->flights);
	}
	return cache;
}

void directory_cache_close(struct directory_cache *cache)
{
	for (size_t i = 0; cache && i < DIRECTORY_STRIPES; i++) {
		struct stripe *s = &cache->stripes[i];
		ASSERT(list_empty(&s->flights));
		LIST_FOREACH(&s->table.order, it)
			drop_entry(s, CONTAINER_OF(CONTAINER_OF(it, struct table_node, order), struct entry, node));
		table_release(&s->table);
		pthread_mutex_destroy(&s->lock);
	}
	if (cache)
		free(cache->lines);
	free(cache);
}

void directory_cache_drop(struct directory_cache *cache)
{
	__atomic_add_fetch(&cache->generation, 1, __ATOMIC_RELEASE);
}

static struct stripe *stripe_of(struct directory_cache *cache, struct slice key)
{
	/* another seed than the tables', or a stripe's table would use a 64th of its slots */
	return &cache->stripes[hash64(key, ~cache->seed) % DIRECTORY_STRIPES];
}

static struct entry *find(struct stripe *s, struct slice key)
{
	struct table_node *n = table_find(&s->table, key);
	return n ? CONTAINER_OF(n, struct entry, node) : NULL;
}

static enum err answer(const struct entry *e, struct fact **fact_out)
{
	*fact_out = e->fact ? fact_ref(e->fact) : NULL;
	return e->fact ? OK : ERR_NOT_FOUND;
}

/* In whose share of the room an answer lies: its tenant's; that nobody has the name, in that of who asks. */
static fair_class_t whose(const struct fact *fact)
{
	if (!fact)
		return fiber_class();
	switch ((enum fact_kind)fact->kind) {
	case FACT_DOMAIN:
		return tenant_class(CONTAINER_OF(fact, const struct domain_facts, fact)->tenant_id);
	case FACT_ACCOUNT:
		return tenant_class(CONTAINER_OF(fact, const struct record, fact)->subject.tenant_id);
	case FACT_HOST:
		return 0;
	}
	UNREACHABLE();
}

/* Keeps an answer, in place of an older one. Takes its own count of the fact. */
static void keep(struct stripe *s, struct slice key, struct fact *fact, uint64_t generation, uint64_t until_ms)
{
	struct entry *old = find(s, key);
	if (old)
		drop_entry(s, old);
	struct entry *e = xcalloc(1, sizeof(*e) + key.len);
	memcpy(e->key, key.ptr, key.len);
	e->key_len = (uint32_t)key.len;
	e->stripe = s;
	e->generation = generation;
	e->until_ms = until_ms;
	e->fact = fact ? fact_ref(fact) : NULL;
	if (table_add(&s->table, &e->node)) { /* full: served, not kept */
		entry_free(e);
		return;
	}
	e->touched = ++s->kept;
	/* 12 bytes a slot of the table, up to three slots an entry, and what the allocator rounds up */
	lru_add(lru_of(s, e), &e->lru, whose(fact), sizeof(*e) + key.len + 64 + (fact ? fact->bytes : 0));
	lru_trim(lru_of(s, e));
}

/* To the front, but not at every use: moving costs four lines of cold memory, and until an eighth of the entries have been
 * replaced since the last time its place can hardly matter. */
static void touch(struct stripe *s, struct entry *e)
{
	struct lru *lru = lru_of(s, e);
	if (s->kept - e->touched > lru->count / 8) {
		e->touched = s->kept;
		lru_touch(lru, &e->lru);
	}
}

static struct flight *flight_of(struct stripe *s, struct slice key)
{
	LIST_FOREACH(&s->flights, it) {
		struct flight *f = CONTAINER_OF(it, struct flight, link);
		if (slice_eq(f->key, key))
			return f;
	}
	return NULL;
}

static void fly(void *arg)
{
	struct flight *f = arg;
	f->result = f->cache->load(f->cache->load_arg, (enum fact_kind)f->key.ptr[0], slice_from(f->key, 1), f->fetched, &f->fact);
}

/* The directory could not answer: what was known serves on, for a while without asking. */
static enum err stale_answer(struct stripe *s, struct slice key, struct fact **fact_out)
{
	struct entry *e = find(s, key);
	if (!e) {
		*fact_out = NULL;
		return ERR_TEMP;
	}
	e->retry_ms = clock_now_ms() + DIRECTORY_RETRY_MS;
	s->stats.stale_served++;
	return answer(e, fact_out);
}

/* On an offload thread, and where that asks for it a second time, with what this fiber has fetched. All within one deadline. */
static enum err load(struct directory_cache *cache, struct flight *f)
{
	uint64_t deadline_ms = clock_now_ms() + cache->ask_ms_max;
	enum err e = offload_call(fly, f, cache->ask_ms_max);
	if (e || f->result != ERR_AGAIN || !cache->fetch)
		return e ? e : f->result;
	f->fetched = cache->fetch(cache->load_arg, (enum fact_kind)f->key.ptr[0], slice_from(f->key, 1), deadline_ms);
	uint64_t now_ms = clock_now_ms();
	e = offload_call(fly, f, deadline_ms > now_ms ? deadline_ms - now_ms : 1);
	return e ? e : f->result;
}

/* Asks, with the stripe locked at entry and unlocked at return. */
static enum err ask(struct directory_cache *cache, struct stripe *s, struct slice key, uint64_t generation, struct fact **fact_out)
{
	struct flight f = { .key = key, .cache = cache, .result = ERR_TEMP };
	list_init(&f.waiters);
	list_push_back(&s->flights, &f.link);
	s->stats.misses++;
	pthread_mutex_unlock(&s->lock);

	enum fiber_wait before = fiber_wait_for(FIBER_WAIT_DIRECTORY);
	f.result = load(cache, &f);
	(void)fiber_wait_for(before);
	uint64_t until_ms = f.fetched ? clock_now_ms() + DIRECTORY_FETCHED_MS : 0;
	free(f.fetched);

	pthread_mutex_lock(&s->lock);
	link_remove(&f.link);
	if (f.result == OK || f.result == ERR_NOT_FOUND) {
		keep(s, key, f.fact, generation, until_ms);
		*fact_out = f.fact;
	} else {
		s->stats.failed++;
		f.result = stale_answer(s, key, fact_out);
	}
	LIST_FOREACH(&f.waiters, it) {
		struct joined *j = CONTAINER_OF(it, struct joined, wait.link);
		link_remove(it);
		j->result = f.result;
		j->fact = *fact_out ? fact_ref(*fact_out) : NULL;
		cross_wake(&j->wait);
	}
	pthread_mutex_unlock(&s->lock);
	return f.result;
}

/* Waits for another's question, with the stripe locked at entry and unlocked at return. */
static enum err join(struct directory_cache *cache, struct stripe *s, struct flight *f, struct slice key, struct fact **fact_out)
{
	struct joined j = { .fact = NULL };
	cross_wait_init(&j.wait);
	list_push_back(&f->waiters, &j.wait.link);
	s->stats.joined++;
	pthread_mutex_unlock(&s->lock);
	enum fiber_wait before = fiber_wait_for(FIBER_WAIT_DIRECTORY);
	enum err late = cross_wait(&j.wait, &s->lock, clock_now_ms() + cache->ask_ms_max);
	(void)fiber_wait_for(before);
	if (!late) {
		*fact_out = j.fact;
		return j.result;
	}
	pthread_mutex_lock(&s->lock);
	enum err e = stale_answer(s, key, fact_out);
	pthread_mutex_unlock(&s->lock);
	return e;
}

enum err directory_cache_get(struct directory_cache *cache, enum fact_kind kind, struct slice key, struct fact **fact_out)
{
	char bytes[KEY_BYTES_MAX];
	ASSERT(key.len < sizeof(bytes));
	bytes[0] = (char)kind;
	memcpy(bytes + 1, key.ptr, key.len);
	key = slice_of(bytes, key.len + 1);
	struct stripe *s = stripe_of(cache, key);
	/* Read before the question is asked: a change that happens meanwhile makes the answer stale at once. */
	uint64_t generation = __atomic_load_n(&cache->generation, __ATOMIC_ACQUIRE);

	pthread_mutex_lock(&s->lock);
	struct entry *e = find(s, key);
	bool fresh = e && e->generation == generation && (!e->until_ms || clock_now_ms() < e->until_ms);
	if (LIKELY(e && (fresh || (e->retry_ms && clock_now_ms() < e->retry_ms)))) {
		touch(s, e);
		s->stats.hits++;
		enum err known = answer(e, fact_out);
		pthread_mutex_unlock(&s->lock);
		return known;
	}
	struct flight *f = flight_of(s, key);
	return f ? join(cache, s, f, key, fact_out) : ask(cache, s, key, generation, fact_out);
}

void directory_cache_stats(struct directory_cache *cache, struct directory_cache_stats *out)
{
	*out = (struct directory_cache_stats){ 0 };
	for (size_t i = 0; i < DIRECTORY_STRIPES; i++) {
		struct stripe *s = &cache->stripes[i];
		pthread_mutex_lock(&s->lock);
		out->hits += s->stats.hits;
		out->misses += s->stats.misses;
		out->joined += s->stats.joined;
		out->stale_served += s->stats.stale_served;
		out->failed += s->stats.failed;
		out->bytes += s->known.bytes + s->unknown.bytes;
		out->entries += s->known.count + s->unknown.count;
		pthread_mutex_unlock(&s->lock);
	}
}
