/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_shard.c - what the room keeps per shard, and the few numbers that all shards share.
 */
#include "net/net_private.h"

#include <stdlib.h>

struct net_process net_process = {
	.settings = { .connections_max = NET_CONNECTIONS_MAX, .stall_ms_max = NET_STALL_MS_MAX },
};

void net_settings_default(struct net_settings *settings_out)
{
	*settings_out = (struct net_settings){ .connections_max = NET_CONNECTIONS_MAX, .stall_ms_max = NET_STALL_MS_MAX };
}

void net_configure(const struct net_settings *settings) { net_process.settings = *settings; }

void net_shard_open(void)
{
	struct net_shard *sh = xcalloc(1, sizeof(*sh));
	sh->index = shard_index();
	ASSERT(sh->index < SHARDS_MAX);
	sh->stats = &net_process.shard[sh->index].stats;
	list_init(&sh->sessions);
	list_init(&sh->runnable);
	timer_init(&sh->retry, session_retry);
	waitq_init(&sh->emptied);
	pool_init(&sh->chunks, REPLY_CHUNK_BYTES, NET_POOL_CHUNKS_MAX);
	pool_init(&sh->batches, SEND_BATCH_PIECES * sizeof(struct io_piece), NET_POOL_BATCHES_MAX);
	pool_init(&sh->tls_flights, conn_tls_flight_bytes(), NET_POOL_BATCHES_MAX);
	pool_init(&sh->tls_small, TLS_SMALL_BYTES, NET_POOL_TLS_SMALL_MAX);
	pool_init(&sh->tls_bulk, TLS_BULK_BYTES, NET_POOL_TLS_BULK_MAX);
	input_pools_init(&sh->input);
	shard_set_local(SHARD_SLOT_NET, sh);
}

void net_shard_close(void)
{
	struct net_shard *sh = net_shard_here();
	ASSERT(list_empty(&sh->sessions) && list_empty(&sh->runnable));
	shard_set_local(SHARD_SLOT_NET, NULL);
	timer_clear(&sh->retry);
	for (unsigned i = 0; i < sh->session_pools; i++)
		pool_release(&sh->session[i]);
	pool_release(&sh->chunks);
	pool_release(&sh->batches);
	pool_release(&sh->tls_flights);
	pool_release(&sh->tls_small);
	pool_release(&sh->tls_bulk);
	conn_zip_shard_close(sh);
	input_pools_release(&sh->input);
	free(sh);
}

struct pool *net_session_pool(struct net_shard *sh, size_t bytes)
{
	for (unsigned i = 0; i < sh->session_pools; i++) {
		if (sh->session[i].bytes == bytes)
			return &sh->session[i];
	}
	ASSERT(sh->session_pools < NET_PROTOCOLS_MAX);
	struct pool *p = &sh->session[sh->session_pools++];
	pool_init(p, bytes, NET_POOL_SESSIONS_MAX);
	return p;
}

void net_stats(unsigned shard, struct net_stats *out)
{
	*out = (struct net_stats){ 0 };
	if (shard >= SHARDS_MAX)
		return;
	const uint64_t *from = (const uint64_t *)&net_process.shard[shard].stats;
	uint64_t *to = (uint64_t *)out;
	static_assert_c(sizeof(struct net_stats) % sizeof(uint64_t) == 0, "counters only");
	for (size_t i = 0; i < sizeof(*out) / sizeof(uint64_t); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
