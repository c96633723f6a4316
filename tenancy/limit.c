/* SPDX-License-Identifier: Apache-2.0 */
/* limit.c - see limit.h. */
#include "tenancy/limit.h"

#include "core/base/limits.h"

#include <pthread.h>
#include <stdlib.h>

const char *limit_word(enum limit limit)
{
	static const char *const words[] = { "none", "all", "address", "net24", "net64", "net48", "unauthenticated", "unauthenticated-address",
					     "account", "tenant", "guessing" };
	static_assert_c(ARRAY_LEN(words) == LIMIT_COUNT, "every limit has a name");
	ASSERT(limit < LIMIT_COUNT);
	return words[limit];
}

#define PRESETS                                                                                                             \
	{ .per_address = LIMIT_PER_ADDRESS, .per_net24 = LIMIT_PER_NET24, .per_net64 = LIMIT_PER_NET64, .per_net48 = LIMIT_PER_NET48, \
	  .waiting_per_address = LIMIT_WAITING_PER_ADDRESS, .per_account = LIMIT_PER_ACCOUNT, .failures_free = GUARD_FAILURES_FREE,   \
	  .name_failures_free = GUARD_NAME_FAILURES_FREE, .delay_first_ms = GUARD_DELAY_FIRST_MS, .delay_ms_max = GUARD_DELAY_MS_MAX, \
	  .forget_s = GUARD_FORGET_S, .cache_bytes_max = TALLY_CACHE_BYTES_MAX }

/* Readers take the pointer and never wait; so what was in force is kept until the process ends: some hundred bytes for each
 * configuration that differed, which people write. */
static const struct limits_config presets = PRESETS;
static const struct limits_config *in_force = &presets;

struct kept {
	struct kept *before;
	struct limits_config config;
	struct cidr exempt[];
};
static struct kept *kept;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void limits_config_default(struct limits_config *config_out) { *config_out = presets; }

const struct limits_config *limits(void) { return __atomic_load_n(&in_force, __ATOMIC_ACQUIRE); }

static bool same(const struct limits_config *a, const struct limits_config *b)
{
	struct limits_config x = *a, y = *b;
	x.exempt = y.exempt = NULL;
	return memcmp(&x, &y, sizeof(x)) == 0 && (!a->exempt_count || memcmp(a->exempt, b->exempt, a->exempt_count * sizeof(*a->exempt)) == 0);
}

void limits_configure(const struct limits_config *config)
{
	size_t bytes = config->exempt_count * sizeof(struct cidr);
	if (same(config, limits()))
		return;
	struct kept *k = xmalloc(sizeof(*k) + bytes);
	k->config = *config;
	k->config.exempt = k->exempt;
	if (bytes)
		memcpy(k->exempt, config->exempt, bytes);
	pthread_mutex_lock(&lock);
	k->before = kept;
	kept = k; /* reachable, so that a leak check stays quiet */
	__atomic_store_n(&in_force, &k->config, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&lock);
}
