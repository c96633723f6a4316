/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c - the thin wrapper around libxxhash. */
#include "core/base/hash.h"

#define XXH_STATIC_LINKING_ONLY /* for the state's size and alignment */
#include <xxhash.h>

static_assert_c(XXH_VERSION_NUMBER >= 800, "XXH3's values are stable from 0.8.0 on");
static_assert_c(sizeof(XXH3_state_t) + _Alignof(XXH3_state_t) <= sizeof(struct hash_stream),
		"room for the aligned state");

static const char nothing[1];

uint64_t hash64(struct slice s, uint64_t seed) { return XXH3_64bits_withSeed(s.len ? s.ptr : nothing, s.len, seed); }

struct hash128 hash128(struct slice s, uint64_t seed)
{
	XXH128_hash_t h = XXH3_128bits_withSeed(s.len ? s.ptr : nothing, s.len, seed);
	return (struct hash128){ h.low64, h.high64 };
}

/* malloc aligns to 16, the state wants 64: it lies at the first such address inside. */
static XXH3_state_t *state_of(const struct hash_stream *h)
{
	uintptr_t align = _Alignof(XXH3_state_t);
	uintptr_t at = ((uintptr_t)h->mem + align - 1) & ~(align - 1);
	return (XXH3_state_t *)at;
}

void hash_init(struct hash_stream *h, uint64_t seed)
{
	XXH3_INITSTATE(state_of(h));
	XXH3_128bits_reset_withSeed(state_of(h), seed); /* the 64-bit form's reset is the same */
}

void hash_add(struct hash_stream *h, struct slice s)
{
	if (s.len)
		XXH3_128bits_update(state_of(h), s.ptr, s.len);
}

uint64_t hash_sum64(const struct hash_stream *h) { return XXH3_64bits_digest(state_of(h)); }

struct hash128 hash_sum128(const struct hash_stream *h)
{
	XXH128_hash_t sum = XXH3_128bits_digest(state_of(h));
	return (struct hash128){ sum.low64, sum.high64 };
}
