/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hash.h - XXH3, the house's checksum and table hash (64 and 128 bits), from libxxhash.
 *
 * The values are XXH3's published ones (stable since xxHash 0.8.0, little- and big-endian alike), so they may be written
 * to disk.  XXH3 is no cipher: a seed that a stranger cannot know keeps him from aiming at collisions in a table, it does
 * not authenticate anything.  All calls complete now, none fails, nothing is allocated.
 */
#ifndef PENFOLD_CORE_BASE_HASH_H
#define PENFOLD_CORE_BASE_HASH_H

#include "core/base/bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

struct hash128 {
	uint64_t lo, hi; /* XXH128_hash_t's low64 and high64 */
};

uint64_t hash64(struct slice s, uint64_t seed);
struct hash128 hash128(struct slice s, uint64_t seed);
static inline bool hash128_eq(struct hash128 a, struct hash128 b) { return a.lo == b.lo && a.hi == b.hi; }

/* The same values for bytes that come in pieces.  About 640 bytes; may live anywhere, but must not be copied or moved while
 * in use (XXH3's state inside is aligned by address).  hash_init begins, and may begin again at any time; the sums may be
 * asked in between and do not end the stream. */
struct hash_stream {
	unsigned char mem[576 + 64];
};
void hash_init(struct hash_stream *h, uint64_t seed);
void hash_add(struct hash_stream *h, struct slice s);
uint64_t hash_sum64(const struct hash_stream *h);
struct hash128 hash_sum128(const struct hash_stream *h);

#ifdef __cplusplus
}
#endif
#endif
