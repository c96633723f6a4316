/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rc.h - reference counts, embedded in what they count.
 *
 * For things shared between shards or threads (a configuration, a certificate, a body's descriptor).  Counting is atomic;
 * what hangs on the count is not protected by it.  Who gets `true` from rc_put was the last and frees the thing; it then
 * sees every write that others made before their rc_put.  Starts at 1 for its maker.  Owns nothing, cannot fail; an
 * overflow or a put too many is our own mistake and stops the process.
 */
#ifndef PENFOLD_CORE_BASE_RC_H
#define PENFOLD_CORE_BASE_RC_H

#include "core/base/base.h"

struct rc {
	uint32_t count; /* only by the calls below; a plain integer, so that the header is C++ too */
};

static inline void rc_init(struct rc *r) { __atomic_store_n(&r->count, 1, __ATOMIC_RELAXED); }
static inline void rc_get(struct rc *r)
{
	uint32_t was = __atomic_fetch_add(&r->count, 1, __ATOMIC_RELAXED);
	ASSERT(was > 0 && was < UINT32_MAX / 2);
}
/* True for the last one. */
static inline bool rc_put(struct rc *r)
{
	uint32_t was = __atomic_fetch_sub(&r->count, 1, __ATOMIC_ACQ_REL);
	ASSERT(was > 0 && was < UINT32_MAX / 2);
	return was == 1;
}
/* A snapshot: exact only for who knows that nobody else counts now. */
static inline uint32_t rc_count(const struct rc *r) { return __atomic_load_n(&r->count, __ATOMIC_RELAXED); }

#endif
