/* SPDX-License-Identifier: Apache-2.0 */
/* expire.c - see expire.h. */
#include "net/server/expire.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/fleet/owner.h"
#include "storage/store.h"
#include "tenancy/directory.h"

METRIC_COUNTER(swept, "expire_messages_total", "messages that the sweep deleted because their days were over");
METRIC_COUNTER(failures, "expire_failures_total", "accounts whose old mail could not be deleted this time");

static uint32_t day_s = EXPIRE_DAY_S, sweep_s = EXPIRE_SWEEP_S;

/* Shard 0's. */
static struct {
	struct timer timer;
	bool busy, stopping;
	struct waitq idle;
} sweep;

void expire_configure(uint32_t day_seconds, uint32_t sweep_seconds)
{
	day_s = day_seconds;
	sweep_s = sweep_seconds;
}

struct expiring {
	struct directory_expiry of;
	size_t removed;
	enum err result;
};

/* On the account's shard. */
static void expire_account(void *arg)
{
	struct expiring *x = arg;
	struct owner_hold hold = { .owner = NULL };
	struct owner_answer answer;
	struct account *account;
	x->result = ERR_BUSY; /* a shard that ends may have put its store away already */
	if (shard_stopping())
		return;
	x->result = owner_open(x->of.account_id, &hold, &account, &answer);
	if (x->result != OK) {
		if (answer.where == WHERE_AT) /* its owner looks after it */
			x->result = OK;
		return;
	}
	int64_t before_s = clock_wall_s() - (int64_t)x->of.days * day_s;
	/* In turns, so that an account with a million of them keeps neither its shard's stop nor the next account waiting. */
	x->result = account_expire(account, FOLDER_INBOX, before_s, EXPIRE_LOGIN_MAX, &x->removed);
	if (x->result == ERR_FENCED)
		owner_fenced(x->of.account_id);
	owner_close(&hold, account);
}

static void expire_one(const struct directory_expiry *of)
{
	struct expiring x = { .of = *of };
	do {
		x.removed = 0;
		if (shard_call(store_shard_of(of->account_id), "expire", expire_account, &x))
			x.result = ERR_BUSY;
		metric_add(&swept, (int64_t)x.removed);
		if (x.removed)
			log_event(LOG_INFO, "account.expired", LOG_U64("account", of->account_id), LOG_U64("messages", x.removed));
		fiber_sleep(EXPIRE_PACE_MS);
	} while (x.result == OK && x.removed >= EXPIRE_LOGIN_MAX && !sweep.stopping);
	if (x.result != OK) {
		metric_inc(&failures);
		log_event(LOG_WARN, "account.expire_failed", LOG_U64("account", of->account_id), LOG_ERR(x.result));
	}
}

static void walk(void *arg)
{
	struct directory_expiry found[EXPIRE_LOOK_MAX];
	uint64_t after = 0;
	size_t count = 0;
	(void)arg;
	while (!sweep.stopping && directory_expire_next(after, found, &count) == OK)
		for (size_t i = 0; i < count && !sweep.stopping; i++) {
			after = found[i].account_id;
			if (found[i].days >= 1)
				expire_one(&found[i]);
		}
	sweep.busy = false;
	if (sweep.stopping)
		waitq_wake_all(&sweep.idle);
	else
		timer_set(&sweep.timer, (uint64_t)sweep_s * 1000);
}

static void due(struct timer *t)
{
	/* no tenant has a retention: nothing to walk for */
	if (directory_extremes().expire_days_min >= 0 && fiber_start("expire", walk, NULL) == OK)
		sweep.busy = true;
	else
		timer_set(t, min_u64((uint64_t)sweep_s * 1000, 60000));
}

void expire_start(void)
{
	if (shard_index() != 0)
		return;
	sweep.busy = sweep.stopping = false;
	waitq_init(&sweep.idle);
	timer_init(&sweep.timer, due);
	timer_set(&sweep.timer, min_u64((uint64_t)sweep_s * 1000, 60000));
}

void expire_stop(void)
{
	if (shard_index() != 0)
		return;
	sweep.stopping = true;
	timer_clear(&sweep.timer);
	while (sweep.busy)
		waitq_wait(&sweep.idle, 0);
}
