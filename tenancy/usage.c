/* SPDX-License-Identifier: Apache-2.0 */
/*
 * usage.c - tables of counters, two a shard: the one that it counts into, and the one that is being written.
 *
 * The shard owns `live`; whoever writes owns `pending`.  They change places on the shard itself (a shard_call), and only when pending is empty,
 * so a write that failed keeps its figures and the shard counts on in the other.
 */
#include "tenancy/usage.h"

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "tenancy/usage_file.h"

#include <stdlib.h>
#include <string.h>

/* Twice the room, so that looking for a tenant ends soon at an empty place. */
#define PLACES (2 * USAGE_TENANTS_MAX)

struct usage_table {
	uint16_t place[PLACES]; /* row + 1; 0 = empty */
	size_t count;           /* rows[0] is tenant 0 */
	struct usage_row rows[1 + USAGE_TENANTS_MAX];
};
static_assert_c(USAGE_TENANTS_MAX < UINT16_MAX, "a row's number fits a place");

static struct {
	char *data_path;
	unsigned shards;
	struct usage_table *live[SHARDS_MAX], *pending[SHARDS_MAX];
	/* whoever writes */
	struct usage_file *file;
	/* shard 0 */
	struct timer timer;
	bool busy, stopping;
	struct waitq idle;
} usage;

static struct usage_row *row_of(struct usage_table *t, uint64_t tenant_id)
{
	if (!tenant_id)
		return &t->rows[0];
	/* ids are given by us, one after another: no stranger chooses where they fall */
	size_t at = (size_t)(tenant_id * 0x9E3779B97F4A7C15u >> 32) % PLACES;
	for (; t->place[at]; at = (at + 1) % PLACES)
		if (t->rows[t->place[at] - 1].tenant_id == tenant_id)
			return &t->rows[t->place[at] - 1];
	if (t->count > USAGE_TENANTS_MAX)
		return &t->rows[0]; /* invariant 7 */
	struct usage_row *row = &t->rows[t->count++];
	t->place[at] = (uint16_t)t->count;
	row->tenant_id = tenant_id;
	return row;
}

static void empty(struct usage_table *t)
{
	memset(t->place, 0, sizeof(t->place));
	memset(t->rows, 0, t->count * sizeof(*t->rows));
	t->count = 1;
}

static bool is_empty(const struct usage_table *t)
{
	static const struct usage_row none;
	return t->count == 1 && !memcmp(&t->rows[0], &none, sizeof(none));
}

void usage_add(uint64_t tenant_id, enum usage_counter counter, uint64_t n)
{
	if (usage.data_path && fiber_self())
		row_of(usage.live[shard_index()], tenant_id)->counters[counter] += n;
}

/* ---- to the file ---- */

/* Blocking. The file is opened when first needed, and again after a failure. */
static enum err write_out(struct usage_table *t)
{
	if (is_empty(t))
		return OK;
	enum err e = usage.file ? OK : usage_file_open(usage.data_path, &usage.file);
	bool others = !t->rows[0].tenant_id && memcmp(&t->rows[0], &(struct usage_row){ 0 }, sizeof(t->rows[0]));
	if (!e)
		e = usage_file_add(usage.file, t->rows + !others, t->count - !others);
	if (!e) {
		empty(t);
		return OK;
	}
	usage_file_close(usage.file);
	usage.file = NULL;
	return e;
}

static void swap_here(void *arg)
{
	(void)arg;
	unsigned i = shard_index();
	struct usage_table *t = usage.live[i];
	usage.live[i] = usage.pending[i];
	usage.pending[i] = t;
}

struct round {
	unsigned shard;
	enum err result;
};

static void write_job(void *arg)
{
	struct round *r = arg;
	r->result = write_out(usage.pending[r->shard]);
}

static enum err write_pending(unsigned shard)
{
	struct round r = { shard, OK };
	if (is_empty(usage.pending[shard]))
		return OK;
	enum err e = offload_call(write_job, &r, USAGE_WRITE_MS);
	return e ? e : r.result;
}

static enum err write_shard(unsigned shard)
{
	enum err e = write_pending(shard); /* what an earlier round left */
	if (!e)
		e = shard_call(shard, "usage", swap_here, NULL);
	return e ? e : write_pending(shard);
}

/* One at a time; shard 0. */
static enum err write_all(void)
{
	enum err first = OK;
	while (usage.busy)
		waitq_wait(&usage.idle, 0);
	usage.busy = true;
	for (unsigned i = 0; i < usage.shards; i++) {
		enum err e = write_shard(i);
		first = first ? first : e;
	}
	usage.busy = false;
	waitq_wake_all(&usage.idle);
	return first;
}

static void flush_here(void *arg) { *(enum err *)arg = usage.stopping ? ERR_BUSY : write_all(); }

enum err usage_flush(void)
{
	enum err result = OK;
	enum err e = shard_call(0, "usage", flush_here, &result);
	return e ? e : result;
}

/* ---- the round ---- */

static void round_fiber(void *arg)
{
	(void)arg;
	(void)write_all(); /* told by the file; the figures wait */
	if (!usage.stopping)
		timer_set(&usage.timer, USAGE_WRITE_MS);
}

static void round_due(struct timer *t)
{
	if (fiber_start("usage", round_fiber, NULL))
		timer_set(t, USAGE_WRITE_MS);
}

void usage_start(void)
{
	if (shard_index() != 0)
		return;
	usage.busy = usage.stopping = false;
	waitq_init(&usage.idle);
	timer_init(&usage.timer, round_due);
	timer_set(&usage.timer, USAGE_WRITE_MS);
}

void usage_stop(void)
{
	if (shard_index() != 0)
		return;
	usage.stopping = true;
	timer_clear(&usage.timer);
	while (usage.busy)
		waitq_wait(&usage.idle, 0);
}

/* ---- life ---- */

enum err usage_open(const char *data_path, unsigned shards)
{
	ASSERT(!usage.data_path && shards <= SHARDS_MAX);
	enum err e = usage_file_open(data_path, &usage.file);
	if (e)
		return e;
	usage.shards = shards;
	for (unsigned i = 0; i < shards; i++) {
		usage.live[i] = xcalloc(1, sizeof(struct usage_table));
		usage.pending[i] = xcalloc(1, sizeof(struct usage_table));
		usage.live[i]->count = usage.pending[i]->count = 1;
	}
	usage.data_path = xstrdup(data_path);
	return OK;
}

void usage_close(void)
{
	for (unsigned i = 0; i < usage.shards; i++) {
		(void)write_out(usage.pending[i]);
		(void)write_out(usage.live[i]);
		free(usage.pending[i]);
		free(usage.live[i]);
	}
	usage_file_close(usage.file);
	free(usage.data_path);
	usage.data_path = NULL;
	usage.file = NULL;
	usage.shards = 0;
}
