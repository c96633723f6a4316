/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_cache.h - answers of the directory, kept for all shards of the process.
 *
 * Private to this room.  Striped: a key's stripe has its own lock, table and two LRU lists of bounded bytes, one for facts and
 * a smaller one for "no such name", so that guessed names cannot push out real ones.  A warm look-up is a hash, a short
 * lock and a count: well under a microsecond, no system call.
 *
 * directory_cache_drop makes everything stale at once by raising a generation.  A stale entry is asked for again at its
 * next use, by one query however many ask (they wait for it), and serves on as it is when the directory cannot answer.
 */
#ifndef PENFOLD_TENANCY_DIRECTORY_CACHE_H
#define PENFOLD_TENANCY_DIRECTORY_CACHE_H

#include "tenancy/record.h"

struct directory_cache;

/* Blocking, on an offload thread: asks the back end. `key` is what the caller of directory_cache_get gave. ERR_AGAIN, while `fetched` is NULL: what only
 * a fiber can ask for is needed; it is called again with it. */
typedef enum err (*directory_load)(void *arg, enum fact_kind kind, struct slice key, const void *fetched, struct fact **fact_out);
/* On the asking fiber, may park until deadline_ms: allocated with malloc, never NULL; a failure is told in it. What came of it is asked for again after
 * DIRECTORY_FETCHED_MS, since no back end tells when it changes. */
typedef void *(*directory_fetch)(void *arg, enum fact_kind kind, struct slice key, uint64_t deadline_ms);

/* fetch may be NULL. */
struct directory_cache *directory_cache_open(uint64_t bytes_max, uint32_t ask_ms_max, directory_load load, directory_fetch fetch, void *arg);
void directory_cache_close(struct directory_cache *cache); /* nobody asks any more */

/* Later when not warm. OK: a counted fact. ERR_NOT_FOUND. ERR_TEMP: cannot be asked and nothing is known. */
enum err directory_cache_get(struct directory_cache *cache, enum fact_kind kind, struct slice key, struct fact **fact_out);

/* Something changed. Any thread. */
void directory_cache_drop(struct directory_cache *cache);

struct directory_cache_stats {
	uint64_t hits, misses, joined, stale_served, failed, bytes, entries;
};
void directory_cache_stats(struct directory_cache *cache, struct directory_cache_stats *out);

#endif
