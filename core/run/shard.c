/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shard.c - one shard: what it is made of and the turn of its loop.
 *
 * A turn: timers that are due, messages, what was deferred, fibers that are ready; then the back end starts what was begun, waits if
 * there is nothing left to do, and reports completions.  Each part is bounded, so none starves another.  The time from one
 * wait to the next is the shard's lag: as long as it lasts nobody else on this shard is heard.
 */
#include "core/run/sanitize.h"
#include "core/run/shard_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

#include <stdlib.h>

METRIC_HISTOGRAM(turn_ns, "run_lag_ns", "from one wait of a shard to the next: as long nobody else there is heard");

_Thread_local struct shard *shard_current;

void shard_clock(struct shard *s)
{
	s->now_ns = s->backend->boot_ns(s->be);
	s->now_ms = s->now_ns / 1000000;
	s->wall_ms = (int64_t)(s->backend->wall_ns(s->be) / 1000000);
}

enum err shard_open(const struct shard_options *options, unsigned index, struct offload *offload, struct shard **shard_out, char *why,
                    size_t why_bytes)
{
	struct shard *s = xcalloc(1, sizeof(*s));
	struct io_backend_config config = { .index = index, .sq_entries = options->sq_entries, .cq_entries = options->cq_entries, .sink = s,
		                            .complete = requests_complete };
	s->backend = options->backend ? options->backend : backend_wanted();
	s->index = index;
	s->offload = offload;
	s->splice_min_bytes = options->splice_min_bytes ? options->splice_min_bytes : SEND_SPLICE_MIN_BYTES;
	list_init(&s->deferred);
	list_init(&s->deferred_late);
	list_init(&s->accepts_paused);
	timer_init(&s->accept_timer, NULL);
	fibers_init(&s->fibers);
	sends_init(&s->sends);
	enum err e = s->backend->open(&config, &s->be, why, why_bytes);
	if (e != OK) {
		free(s);
		return e;
	}
	shard_clock(s);
	wheel_init(&s->wheel, s->now_ms);
	shard_current = s;
	*shard_out = s;
	return OK;
}

void shard_close(struct shard *s)
{
	SEEN_FROM_KERNEL(s);
	sends_release(s);
	s->backend->close(s->be);
	fibers_release(&s->fibers);
	free(s->requests.slot);
	free(s->dirty);
	free(s);
	shard_current = NULL;
}

void shard_defer(struct shard *s, struct deferred *d)
{
	if (!link_linked(&d->link))
		list_push_back(&s->deferred, &d->link);
}

void shard_defer_late(struct shard *s, struct deferred *d)
{
	if (!link_linked(&d->link))
		list_push_back(&s->deferred_late, &d->link);
}

/* Those that were there at the beginning: what they defer again is for the next turn. */
static void deferred_run(struct list *list)
{
	struct link *last = list_last(list), *l;
	bool end = !last;
	while (!end && (l = list_pop_front(list))) {
		end = l == last;
		struct deferred *d = CONTAINER_OF(l, struct deferred, link);
		d->run(d);
	}
}

static bool has_work(const struct shard *s)
{
	const struct fibers *fs = &s->fibers;
	return fibers_waiting(fs) || !list_empty(&s->deferred) || !list_empty(&s->deferred_late);
}

static uint64_t sleep_ns(struct shard *s)
{
	uint64_t next_ms = wheel_next(&s->wheel);
	if (next_ms == UINT64_MAX)
		return UINT64_MAX;
	uint64_t at_ns = next_ms * 1000000;
	return at_ns > s->now_ns ? at_ns - s->now_ns : 0;
}

void shard_turn(struct shard *s, bool may_block)
{
	wheel_advance(&s->wheel, s->now_ms);
	posts_run(s);
	deferred_run(&s->deferred);
	fibers_run(s, SHARD_TURN_COMPLETIONS_MAX);
	deferred_run(&s->deferred_late);

	uint64_t end_ns = s->backend->boot_ns(s->be), lag_ns = end_ns - s->now_ns;
	if (lag_ns > s->lag_max_ns)
		__atomic_store_n(&s->lag_max_ns, lag_ns, __ATOMIC_RELAXED);
	metric_record(&turn_ns, lag_ns);
	__atomic_store_n(&s->lag_ns, max_u64(lag_ns, s->lag_ns - s->lag_ns / 64), __ATOMIC_RELAXED);
	s->now_ns = end_ns;
	uint64_t timeout_ns = !may_block || s->ended || has_work(s) ? 0 : sleep_ns(s);
	if (timeout_ns > 0) {
		__atomic_store_n(&s->asleep, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&s->posts, __ATOMIC_SEQ_CST) || __atomic_load_n(&s->poked, __ATOMIC_SEQ_CST))
			timeout_ns = 0;
	}
	s->backend->wait(s->be, timeout_ns);
	__atomic_store_n(&s->asleep, 0, __ATOMIC_RELAXED);
	if (__atomic_load_n(&s->poked, __ATOMIC_RELAXED))
		__atomic_store_n(&s->poked, 0, __ATOMIC_SEQ_CST); /* whoever poked has told its reason before */
	shard_clock(s);
	unsigned n = s->backend->drain(s->be, SHARD_TURN_COMPLETIONS_MAX);
	STAT_ADD(s->completions, n);
	STAT_ADD(s->loops, 1);
}

bool shard_idle(const struct shard *s)
{
	return s->fibers.running == 0 && s->fibers.queue_count == 0 && s->requests.open == 0 && s->sends.open == 0 &&
	       list_empty(&s->deferred) && list_empty(&s->deferred_late) && list_empty(&s->accepts_paused) && !__atomic_load_n(&s->posts, __ATOMIC_RELAXED);
}

unsigned shard_index(void)
{
	ASSERT(shard_current);
	return shard_current->index;
}

void shard_set_local(enum shard_slot slot, void *p) { shard_current->local[slot] = p; }
void *shard_local(enum shard_slot slot) { return shard_current->local[slot]; }

uint64_t shard_lag_ns(unsigned shard) { return STAT_GET(shard_at(shard)->lag_ns); }

void shard_stats(unsigned shard, struct shard_stats *out)
{
	struct shard *s = shard_at(shard);
	struct io_backend_stats be = { 0 };
	s->backend->stats(s->be, &be);
	*out = (struct shard_stats){
		.loops = STAT_GET(s->loops),
		.completions = STAT_GET(s->completions),
		.cq_overflows = be.cq_overflows,
		.lag_max_ns = STAT_GET(s->lag_max_ns),
		.sent_memory_bytes = STAT_GET(s->sent_memory_bytes),
		.sent_read_bytes = STAT_GET(s->sent_read_bytes),
		.sent_splice_bytes = STAT_GET(s->sent_splice_bytes),
		.syncs = STAT_GET(s->syncs),
		.sync_ns = STAT_GET(s->sync_ns),
		.lag_ns = STAT_GET(s->lag_ns),
		.enters = be.enters,
		.accept_pauses = STAT_GET(s->accept_pauses),
		.recv_starved = STAT_GET(s->recv_starved),
		.stale_completions = STAT_GET(s->requests.stale),
	};
}

/* ---- one shard on the calling thread ---- */

struct alone {
	void (*fn)(void *arg);
	void *arg;
};

static void alone_body(void *arg)
{
	struct alone *a = arg;
	a->fn(a->arg);
	shard_current->ended = true;
}

enum err shard_run_alone_with(const struct shard_options *options, void (*fn)(void *arg), void *arg)
{
	struct alone a = { .fn = fn, .arg = arg };
	struct shard *s = NULL;
	char why[512];
	struct offload *o = offload_open(options->offload_threads, options->offload_queue_max);
	if (!o)
		return ERR_IO;
	enum err e = shard_open(options, 0, o, &s, why, sizeof(why));
	if (e == ERR_CONFIG && !options->backend && backend_refused(backend_wanted(), why))
		e = shard_open(options, 0, o, &s, why, sizeof(why));
	if (e != OK) {
		log_event(LOG_ALARM, "run.refused", LOG_Z("why", why));
		offload_close(o);
		return e;
	}
	backend_runs(s->backend);
	shards_publish(&s, 1);
	e = fiber_start("alone", alone_body, &a);
	while (e == OK && !s->ended)
		shard_turn(s, true);
	uint64_t until_ms = s->now_ms + SHARD_STOP_WAIT_MS_MAX;
	while (!shard_idle(s) && s->now_ms < until_ms)
		shard_turn(s, false);
	offload_close(o);
	shards_publish(NULL, 0);
	shard_close(s);
	return e;
}

enum err shard_run_alone(void (*fn)(void *arg), void *arg)
{
	struct shard_options options = { 0 };
	return shard_run_alone_with(&options, fn, arg);
}
