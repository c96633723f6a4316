/* SPDX-License-Identifier: Apache-2.0 */
/* verified.c - the verified-login cache. */
#include "tenancy/verified.h"

#include "core/run/clock.h"

#include <nettle/hmac.h>
#include <pthread.h>
#include <stdlib.h>

#define WAYS 4
#define LOCKS 64
#define KEY_BYTES 32

/* 24 bytes: the MAC is already uniform, so that it is its own hash. */
struct slot {
	uint64_t words[2];
	uint64_t until_ms; /* 0 = free */
};
struct set {
	struct slot slots[WAYS];
};

struct verified {
	struct hmac_sha256_ctx keyed; /* the key's two blocks, hashed once */
	uint64_t ttl_ms;
	uint64_t mask;                /* sets - 1 */
	struct set *sets;
	struct {
		pthread_mutex_t lock;
		char pad[64 - sizeof(pthread_mutex_t) % 64];
	} locks[LOCKS];
};

struct verified *verified_open(uint64_t bytes_max, uint32_t ttl_s)
{
	uint8_t key[KEY_BYTES];
	struct verified *v = xcalloc(1, sizeof(*v));
	uint64_t sets = 1;
	while (sets * 2 * sizeof(struct set) <= bytes_max)
		sets *= 2;
	v->mask = sets - 1;
	v->ttl_ms = (uint64_t)ttl_s * 1000;
	v->sets = xcalloc(sets, sizeof(struct set)); /* zero pages: memory is used as logins come */
	random_bytes(key, sizeof(key));
	hmac_sha256_set_key(&v->keyed, sizeof(key), key);
	explicit_bzero(key, sizeof(key));
	for (size_t i = 0; i < LOCKS; i++)
		pthread_mutex_init(&v->locks[i].lock, NULL);
	return v;
}

void verified_close(struct verified *v)
{
	if (!v)
		return;
	for (size_t i = 0; i < LOCKS; i++)
		pthread_mutex_destroy(&v->locks[i].lock);
	free(v->sets);
	explicit_bzero(v, sizeof(*v));
	free(v);
}

/* Every part is preceded by its length: no two different lists of parts give the same bytes. */
static void part(struct hmac_sha256_ctx *ctx, const void *ptr, size_t len)
{
	uint32_t length = (uint32_t)len;
	hmac_sha256_update(ctx, sizeof(length), (const uint8_t *)&length);
	hmac_sha256_update(ctx, len, ptr);
}

struct verified_mac verified_mac(const struct verified *v, const struct record *record, struct slice password, unsigned purpose)
{
	struct hmac_sha256_ctx ctx = v->keyed;
	struct verified_mac mac;
	uint64_t ids[3] = { record->subject.account_id, record->subject.credential_version, purpose };
	part(&ctx, ids, sizeof(ids));
	/* The version alone would do; the hashes too, so that a directory without versions is safe as well. Not those of application passwords: they
	 * always have a version, and to go through them would tell by the time how many there are (invariant 11). */
	for (uint32_t i = 0; i < record->passwords_count; i++)
		if (!record->credentials[i].app)
			part(&ctx, record->passwords[i].ptr, record->passwords[i].len);
	part(&ctx, password.ptr, password.len);
	hmac_sha256_digest(&ctx, sizeof(mac), (uint8_t *)mac.words);
	explicit_bzero(&ctx, sizeof(ctx));
	return mac;
}

/* The first word chooses set and lock, both are compared. A MAC that nobody can predict needs no constant time: what a
 * comparison tells about it is worth nothing without the key. */
static struct slot *set_of(struct verified *v, struct verified_mac mac)
{
	return v->sets[mac.words[0] & v->mask].slots;
}

static pthread_mutex_t *lock_of(struct verified *v, struct verified_mac mac)
{
	return &v->locks[mac.words[0] % LOCKS].lock;
}

static bool same(const struct slot *s, struct verified_mac mac)
{
	return s->words[0] == mac.words[0] && s->words[1] == mac.words[1];
}

bool verified_has(struct verified *v, struct verified_mac mac, uint64_t now_ms)
{
	bool has = false;
	struct slot *slots = set_of(v, mac);
	pthread_mutex_lock(lock_of(v, mac));
	for (size_t i = 0; i < WAYS; i++)
		has = has || (slots[i].until_ms > now_ms && same(&slots[i], mac));
	pthread_mutex_unlock(lock_of(v, mac));
	return has;
}

void verified_put(struct verified *v, struct verified_mac mac, uint64_t now_ms)
{
	struct slot *slots = set_of(v, mac), *into = &slots[0];
	pthread_mutex_lock(lock_of(v, mac));
	for (size_t i = 0; i < WAYS; i++) {
		if (same(&slots[i], mac)) {
			into = &slots[i];
			break;
		}
		if (slots[i].until_ms < into->until_ms)
			into = &slots[i];
	}
	*into = (struct slot){ { mac.words[0], mac.words[1] }, now_ms + v->ttl_ms };
	pthread_mutex_unlock(lock_of(v, mac));
}
