/* SPDX-License-Identifier: Apache-2.0 */
/*
 * warm.c - letting accounts go: flush, seal, state file, and out of memory.
 */
#include "storage/warm.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "storage/commit.h"

METRIC_COUNTER(metric_let_go, "store_accounts_let_go_total", "Accounts sealed and taken out of memory");

static void save(struct account *a)
{
	struct account_live *live;

	if (a->last.log == a->state_log && a->last.end == a->state_end)
		return;
	if (account_unborn(a) || a->repair_count > 0 || account_live_get(a, &live) != OK)
		return;
	state_save(a, live->dir_fd);
	account_live_put(live);
}

/* Nobody refers to it, and `busy` keeps others away until it is gone. */
static void let_go(struct account *a)
{
	struct waitq queue;

	waitq_init(&queue);
	a->busy = &queue;
	(void)commit_flush(a);
	if (a->state != ACCOUNT_LOST)
		/* failing, it is left unsealed, or cut by a next log: the next load sees to it */
		(void)commit_seal(a, SEAL_LET_GO);
	if (a->state == ACCOUNT_SEALED)
		save(a);
	a->busy = NULL;
	if (a->keep && !store_self()->stopping) {
		a->evicted = false;
		lru_add(&store_self()->warm, &a->warm, a->warm.whose, 0);
	} else {
		account_drop(a);
		metric_inc(&metric_let_go);
	}
	waitq_wake_all(&queue);
}

void warm_let_go(struct account *a)
{
	ASSERT(a->refs == 0 && !a->busy);
	if (a->evicted)
		link_remove(&a->warm.link);
	else
		lru_remove(&store_self()->warm, &a->warm);
	a->evicted = true;
	let_go(a);
}

static void keeper(void *arg)
{
	struct store_shard *s = store_self();
	struct link *l;

	(void)arg;
	while ((l = list_pop_front(&s->evicted)) != NULL)
		let_go(CONTAINER_OF(CONTAINER_OF(l, struct lru_node, link), struct account, warm));
	if (--s->keepers == 0)
		waitq_wake_all(&s->keepers_done);
}

void warm_evict(struct lru_node *n)
{
	struct store_shard *s = store_self();
	struct account *a = CONTAINER_OF(n, struct account, warm);

	ASSERT(a->refs == 0 && !a->evicted);
	a->evicted = true;
	list_push_back(&s->evicted, &n->link);
	if (s->keepers < KEEPERS_MAX && fiber_start("store.keeper", keeper, NULL) == OK)
		s->keepers++;
	/* with no fiber to be had, the next eviction tries again: nothing is lost by keeping it a little longer */
}

/* Lets go of whatever nobody uses. */
static void drain(struct store_shard *s)
{
	while (!list_empty(&s->warm.list)) {
		struct lru_node *n = CONTAINER_OF(list_last(&s->warm.list), struct lru_node, link);
		lru_remove(&s->warm, n);
		warm_evict(n);
	}
	while (!list_empty(&s->evicted) || s->keepers > 0) {
		if (s->keepers == 0) {
			s->keepers = 1;
			keeper(NULL);
		} else {
			(void)waitq_wait(&s->keepers_done, 0);
		}
	}
}

void warm_stop(void)
{
	struct store_shard *s = store_self();
	uint64_t until_ms = clock_now_ms() + STORE_STOP_MS_MAX;

	drain(s);
	while (s->accounts.count > 0 && clock_now_ms() < until_ms) { /* jobs of ours, and sessions that are ending */
		fiber_sleep(STORE_STOP_LOOK_MS);
		drain(s);
	}
	LIST_FOREACH (&s->accounts.order, it) {
		struct account *a = CONTAINER_OF(CONTAINER_OF(it, struct table_node, order), struct account, node);
		log_event(LOG_ERROR, "store.still_open", LOG_U64("account", a->id), LOG_U64("sessions", a->refs),
			  LOG_U64("jobs", a->warm.pins - a->refs));
		(void)commit_flush(a);
		(void)commit_seal(a, SEAL_LET_GO);
	}
}
