/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - see source.h. */
#include "tenancy/source.h"

#include "core/run/clock.h"
#include "tenancy/guard.h"
#include "tenancy/tally.h"

static struct {
	uint32_t waiting;              /* atomic */
	uint64_t refused[LIMIT_COUNT]; /* atomic */
} sources;

void source_open_process(uint64_t cache_bytes_max)
{
	memset(&sources, 0, sizeof(sources));
	tally_open(cache_bytes_max);
}

void source_close_process(void) { tally_close(); }

/* ---- counting ---- */

static uint32_t up_one(uint32_t *counter) { return __atomic_add_fetch(counter, 1, __ATOMIC_RELAXED); }
static void down_one(uint32_t *counter) { __atomic_sub_fetch(counter, 1, __ATOMIC_RELAXED); }
static bool over(uint32_t count, uint32_t limit) { return limit && count > limit; }

static struct tally_key prefix(const uint8_t bytes[16], unsigned bits)
{
	struct tally_key key = { { 0 } };
	memcpy(key.bytes, bytes, bits / 8);
	return key;
}

/* The entry of an address, with those of its networks above it. */
static uint32_t hold_address(const uint8_t bytes[16])
{
	bool v4 = addr_is_v4_bytes16(bytes);
	uint32_t h = tally_get(TALLY_NET, prefix(bytes, v4 ? 96 + 24 : 48), 0);
	if (h && !v4)
		h = tally_get(TALLY_NET64, prefix(bytes, 64), h);
	return h ? tally_get(TALLY_ADDRESS, prefix(bytes, 128), h) : 0;
}

static enum limit bound_of(const struct tally *t, uint32_t *most_out)
{
	const struct limits_config *l = limits();
	switch ((enum tally_kind)t->kind) {
	case TALLY_ADDRESS:
		*most_out = l->per_address;
		return LIMIT_ADDRESS;
	case TALLY_NET64:
		*most_out = l->per_net64;
		return LIMIT_NET64;
	default:
		*most_out = addr_is_v4_bytes16(t->key.bytes) ? l->per_net24 : l->per_net48;
		return addr_is_v4_bytes16(t->key.bytes) ? LIMIT_NET24 : LIMIT_NET48;
	}
}

/* Counted at each level, also where it is one too many: the caller takes that back. */
static enum limit count_levels(uint32_t source, uint32_t *count_out)
{
	enum limit reached = LIMIT_NONE;
	for (uint32_t h = source; h; h = tally_at(h)->up) {
		uint32_t most;
		enum limit limit = bound_of(tally_at(h), &most);
		if (over(up_one(&tally_at(h)->live), most) && reached == LIMIT_NONE) {
			reached = limit;
			*count_out = up_one(&tally_at(h)->refused);
		}
	}
	return reached;
}

static void uncount_levels(uint32_t source)
{
	for (uint32_t h = source; h; h = tally_at(h)->up)
		down_one(&tally_at(h)->live);
}

/* What stands for an address where guesses and those who wait are counted: nobody has a single IPv6 address. */
static struct tally *guarded(uint32_t source) { return tally_at(guard_source(source)); }

static enum limit count_waiting(uint32_t source, uint32_t *count_out)
{
	const struct limits_config *l = limits();
	struct tally *g = guarded(source);
	uint32_t here = up_one(&g->waiting), all = up_one(&sources.waiting);
	uint32_t most = l->waiting && !guard_at_home(source) ? l->waiting - l->waiting / 4 : l->waiting;
	if (over(here, l->waiting_per_address)) {
		*count_out = up_one(&g->refused);
		return LIMIT_WAITING_ADDRESS;
	}
	if (!over(all, most))
		return LIMIT_NONE;
	*count_out = (uint32_t)__atomic_load_n(&sources.refused[LIMIT_WAITING], __ATOMIC_RELAXED) + 1;
	return LIMIT_WAITING;
}

static void uncount_waiting(uint32_t source)
{
	down_one(&guarded(source)->waiting);
	down_one(&sources.waiting);
}

static enum limit refused(enum limit limit)
{
	__atomic_add_fetch(&sources.refused[limit], 1, __ATOMIC_RELAXED);
	return limit;
}

uint64_t source_count_refusal(enum limit limit) { return __atomic_add_fetch(&sources.refused[limit], 1, __ATOMIC_RELAXED); }

enum limit source_open(const struct addr *peer, bool waits, uint32_t *source_out, uint32_t *count_out)
{
	uint8_t bytes[16];
	*source_out = *count_out = 0;
	if (!tally_is_open() || !addr_bytes16(peer, bytes) || cidrs_have(limits()->exempt, limits()->exempt_count, peer))
		return LIMIT_NONE;
	uint32_t source = hold_address(bytes);
	if (!source)
		return LIMIT_NONE;
	enum limit limit = count_levels(source, count_out);
	if (limit == LIMIT_NONE && waits) {
		limit = count_waiting(source, count_out);
		if (limit != LIMIT_NONE)
			uncount_waiting(source);
	}
	if (limit == LIMIT_NONE) {
		*source_out = source;
		return LIMIT_NONE;
	}
	uncount_levels(source);
	tally_put(source);
	return refused(limit);
}

void source_entered(uint32_t source)
{
	if (source)
		uncount_waiting(source);
}

void source_close(uint32_t source, bool waits)
{
	if (!source)
		return;
	if (waits)
		uncount_waiting(source);
	uncount_levels(source);
	tally_put(source);
}

/* ---- seats ---- */

static struct tally_key id_key(uint64_t id)
{
	struct tally_key key = { { 0 } };
	memcpy(key.bytes, &id, sizeof(id));
	return key;
}

static bool seat(enum tally_kind kind, uint64_t id, uint32_t most)
{
	uint32_t h = tally_get(kind, id_key(id), 0);
	if (!h)
		return true;
	if (!over(up_one(&tally_at(h)->live), most))
		return true; /* held as long as the session is */
	down_one(&tally_at(h)->live);
	tally_put(h);
	return false;
}

static void unseat(enum tally_kind kind, uint64_t id)
{
	uint32_t h = tally_find(kind, id_key(id));
	if (!h)
		return;
	down_one(&tally_at(h)->live);
	tally_put(h);
	tally_put(h);
}

/* A tenant's own bound goes before the configuration's. */
static uint32_t bound(uint32_t own, uint32_t general) { return own ? own : general; }

enum limit seats_take(const struct subject *subject, bool shared)
{
	if (shared && !seat(TALLY_ACCOUNT, subject->account_id, bound(subject->sessions_max, limits()->per_account)))
		return refused(LIMIT_ACCOUNT);
	if (seat(TALLY_TENANT, subject->tenant_id, bound(subject->tenant_sessions_max, limits()->per_tenant)))
		return LIMIT_NONE;
	if (shared)
		unseat(TALLY_ACCOUNT, subject->account_id);
	return refused(LIMIT_TENANT);
}

void seats_give(const struct subject *subject, bool shared)
{
	if (shared)
		unseat(TALLY_ACCOUNT, subject->account_id);
	unseat(TALLY_TENANT, subject->tenant_id);
}

void source_stats(struct source_stats *stats_out)
{
	struct tally_stats t;
	tally_stats(&t);
	*stats_out = (struct source_stats){ .waiting = __atomic_load_n(&sources.waiting, __ATOMIC_RELAXED), .held = t.held, .idle = t.idle,
					    .idle_max = t.idle_max, .forgotten = t.forgotten };
	for (unsigned i = 0; i < LIMIT_COUNT; i++)
		stats_out->refused[i] = __atomic_load_n(&sources.refused[i], __ATOMIC_RELAXED);
}
