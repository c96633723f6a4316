/* SPDX-License-Identifier: Apache-2.0 */
/*
 * redis_cluster.c - which server of a Redis Cluster has which key.
 *
 * The table of 16,384 slots is asked for by CLUSTER SLOTS from any server that is connected: at the beginning, and when an
 * answer says MOVED, at most once a second.  MOVED corrects its slot at once, so that the asker goes on.  Servers that no
 * slot leads to any more keep their connection until the link is closed; their number is bounded.
 *
 * CRC16 and hash tags as in the Redis Cluster specification: polynomial 1021, initial 0; of a key with "{...}" only what
 * stands between the first brace and the next closing one counts, if that is not empty.
 */
#include "core/run/redis_private.h"

#include "core/base/log.h"

#include <stdio.h>

#define SLOT_UNKNOWN 255u
static_assert_c(REDIS_SERVERS_MAX < SLOT_UNKNOWN, "a slot's server is one byte");

unsigned redis_slot(struct slice key)
{
	size_t open = slice_find(key, '{');
	if (open != SIZE_MAX) {
		struct slice tag = slice_from(key, open + 1);
		size_t close = slice_find(tag, '}');
		if (close != SIZE_MAX && close > 0)
			key = slice_upto(tag, close);
	}
	unsigned crc = 0;
	for (size_t i = 0; i < key.len; i++) {
		crc ^= (unsigned)(unsigned char)key.ptr[i] << 8;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = (crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1) & 0xffff;
	}
	return crc % REDIS_SLOTS;
}

static unsigned index_of(const struct redis *r, const struct redis_conn *c)
{
	unsigned i = 0;
	while (r->conns[i] != c)
		i++;
	return i;
}

static struct redis_conn *any_up(struct redis *r)
{
	for (uint32_t i = 0; i < r->conn_count; i++)
		if (r->conns[i]->state == REDIS_UP)
			return r->conns[i];
	return NULL;
}

/* Still on its way for the first time: whoever asks waits for it. */
static struct redis_conn *any(struct redis *r)
{
	struct redis_conn *c = any_up(r);
	for (uint32_t i = 0; !c && i < r->conn_count; i++)
		if (!r->conns[i]->tried)
			c = r->conns[i];
	return c;
}

struct redis_conn *redis_cluster_conn(struct redis *r, struct slice key)
{
	unsigned at = key.len ? r->slots[redis_slot(key)] : SLOT_UNKNOWN;
	if (at != SLOT_UNKNOWN)
		return r->conns[at];
	if (key.len)
		redis_cluster_refresh_soon(r);
	return any(r); /* it answers MOVED */
}

struct redis_conn *redis_cluster_redirect(struct redis *r, struct slice error)
{
	struct slice word, slot, at;
	uint64_t number;
	if (!r->slots || !slice_next(&error, ' ', &word) || !slice_next(&error, ' ', &slot) || !slice_next(&error, ' ', &at) ||
	    !slice_u64(slot, REDIS_SLOTS - 1, &number) || at.len < 3 || slice_find(at, ':') == 0)
		return NULL;
	struct redis_conn *c = redis_conn_to(r, at);
	if (c && slice_eq(word, SLICE_LIT("MOVED"))) {
		r->slots[number] = (uint8_t)index_of(r, c);
		redis_cluster_refresh_soon(r);
	}
	return c;
}

/* ---- the table ---- */

/* One range: first, last, master { host, port, id, ... }, replicas. `asked` is the server that told: an empty host means itself. */
static void take_range(struct redis *r, struct slice asked, const struct redis_value *range)
{
	char at[REDIS_HOST_BYTES_MAX + 16];
	if (range->kind != REDIS_ARRAY || range->count < 3 || range->items[2].kind != REDIS_ARRAY || range->items[2].count < 2)
		return;
	int64_t first = range->items[0].integer, last = range->items[1].integer, port = range->items[2].items[1].integer;
	struct slice host = range->items[2].items[0].text;
	if (!host.len)
		host = slice_upto(asked, slice_rfind(asked, ':'));
	if (first < 0 || last >= REDIS_SLOTS || host.len > REDIS_HOST_BYTES_MAX || port < 1 || port > 65535)
		return;
	/* as MOVED names it: without brackets */
	int len = snprintf(at, sizeof(at), "%.*s:%u", SLICE_ARG(host), (unsigned)port);
	struct redis_conn *c = redis_conn_to(r, slice_of(at, (size_t)len));
	for (int64_t i = first; c && i <= last; i++)
		r->slots[i] = (uint8_t)index_of(r, c);
}

static void refresh_body(void *arg)
{
	struct redis *r = arg;
	const struct slice args[] = { SLICE_LIT("CLUSTER"), SLICE_LIT("SLOTS") };
	struct redis_answer answer = { .value = { .kind = REDIS_NIL } };
	struct redis_conn *c = any(r);
	uint64_t deadline_ms = clock_now_ms() + r->connect_ms_max;
	while (c && !r->closing && c->state != REDIS_UP && !c->tried)
		if (waitq_wait(&c->changed, deadline_ms) != OK)
			break;
	if (c && !r->closing && c->state == REDIS_UP && redis_conn_ask(c, args, 2, deadline_ms, &answer) == OK && answer.value.kind == REDIS_ARRAY)
		for (size_t i = 0; i < answer.value.count; i++)
			take_range(r, slice_str(c->at), &answer.value.items[i]);
	redis_answer_release(&answer);
	r->refreshing = false;
}

void redis_cluster_refresh_soon(struct redis *r)
{
	uint64_t now = clock_now_ms();
	if (r->refreshing || r->closing || (r->refreshed_ms && now - r->refreshed_ms < REDIS_REFRESH_MS))
		return;
	r->refreshing = fiber_start("redis.slots", refresh_body, r) == OK;
	r->refreshed_ms = now;
}

void redis_each_server(struct redis *r, void (*each)(void *arg, const char *run_id, struct slice sample_key_tag), void *arg)
{
	for (uint32_t i = 0; i < r->conn_count; i++) {
		struct redis_conn *c = r->conns[i];
		char tag[24];
		uint64_t n = 0;
		size_t len = 0;
		if (c->state != REDIS_UP || !c->run_id[0])
			continue;
		if (r->slots) {
			if (!memchr(r->slots, (int)i, REDIS_SLOTS))
				continue; /* no master */
			do
				len = put_u64(tag, n++);
			while (r->slots[redis_slot(slice_of(tag, len))] != i && n < 16 * REDIS_SLOTS);
			if (n == 16 * REDIS_SLOTS)
				continue;
		}
		each(arg, c->run_id, slice_of(tag, len));
	}
}
