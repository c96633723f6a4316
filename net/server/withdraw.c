/* SPDX-License-Identifier: Apache-2.0 */
/* withdraw.c - see withdraw.h. */
#include "net/server/withdraw.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "core/run/clock.h"
#include "core/run/fiber.h"
#include "core/run/shard.h"
#include "net/roster.h"
#include "tenancy/directory.h"

#include <stdlib.h>

METRIC_COUNTER(withdrawn, "sessions_withdrawn_total", "sessions ended because their account may not be used any more");

/* Shard 0's. */
static struct {
	struct timer timer;
	uint64_t seen_changes;
	uint64_t again_ms, last_ms; /* the second round; the one that cuts off; 0 = none is due */
	bool cut, busy, stopping;
	struct waitq idle;
} withdraw;

enum reason { R_NONE, R_REMOVED, R_SUSPENDED, R_PROTOCOL, R_PASSWORD, R_COUNT };
static const char *const reason_words[R_COUNT] = { "", "account removed", "suspended", "protocol off", "password changed" };

static enum reason reason_of(const struct roster_login *l, const struct standing *s)
{
	if (!s->found)
		return R_REMOVED;
	if (s->suspended)
		return R_SUSPENDED;
	if ((!s->pop3 && !strcmp(l->protocol, "pop3")) || (!s->imap && !strcmp(l->protocol, "imap")))
		return R_PROTOCOL;
	return s->end_on_password_change && s->credential_version != l->credential_version ? R_PASSWORD : R_NONE;
}

/* Ends what is among these; false: the shard or the directory could not be asked. */
static bool judge(unsigned shard, const struct roster_login *logins, size_t count)
{
	struct standing *standings = xcalloc(count, sizeof(*standings));
	uint64_t sessions[ROSTER_WITHDRAW_MAX];
	static_assert_c(ROSTER_WITHDRAW_MAX <= DIRECTORY_STANDINGS_MAX, "one job is enough for one part");
	for (size_t i = 0; i < count; i++)
		standings[i].account_id = logins[i].account_id;
	enum err e = directory_standings(standings, count);
	for (int reason = R_REMOVED; reason < R_COUNT && !e; reason++) {
		size_t n = 0;
		uint64_t ended = 0;
		for (size_t i = 0; i < count; i++)
			if (reason_of(&logins[i], &standings[i]) == (enum reason)reason)
				sessions[n++] = logins[i].session;
		if (n)
			e = roster_withdraw(shard, sessions, n, reason_words[reason], withdraw.cut, &ended);
		metric_add(&withdrawn, (int64_t)ended);
	}
	free(standings);
	return e == OK;
}

static bool look_at_shard(unsigned shard)
{
	struct roster_login *logins;
	size_t count;
	bool good = roster_logins(shard, &logins, &count) == OK;
	for (size_t at = 0; at < count && good && !withdraw.stopping; at += ROSTER_WITHDRAW_MAX)
		good = judge(shard, logins + at, min_size(count - at, ROSTER_WITHDRAW_MAX));
	free(logins);
	return good;
}

static void look(void *arg)
{
	(void)arg;
	bool good = true;
	for (unsigned i = 0; i < shard_count() && !withdraw.stopping; i++)
		good = look_at_shard(i) && good;
	if (!good) { /* again, as often as it takes */
		withdraw.again_ms = clock_now_ms() + WITHDRAW_AGAIN_MS;
		if (withdraw.cut)
			withdraw.last_ms = withdraw.again_ms;
	}
	withdraw.busy = false;
	if (withdraw.stopping)
		waitq_wake_all(&withdraw.idle);
	else
		timer_set(&withdraw.timer, WITHDRAW_LOOK_MS);
}

/* Is there anything to do now? Sets what follows from it. */
static bool is_due(void)
{
	struct directory_stats s;
	uint64_t now_ms = clock_now_ms();
	directory_stats(&s);
	bool changed = s.changes != withdraw.seen_changes;
	bool again = withdraw.again_ms && now_ms >= withdraw.again_ms;
	withdraw.cut = withdraw.last_ms && now_ms >= withdraw.last_ms;
	withdraw.seen_changes = s.changes;
	if (again)
		withdraw.again_ms = 0;
	if (withdraw.cut)
		withdraw.last_ms = 0;
	if (changed) {
		withdraw.again_ms = now_ms + WITHDRAW_AGAIN_MS;
		if (!withdraw.last_ms)
			withdraw.last_ms = now_ms + WITHDRAW_GRACE_MS;
	}
	return changed || again || withdraw.cut;
}

static void due(struct timer *t)
{
	if (!is_due()) {
		timer_set(t, WITHDRAW_LOOK_MS);
		return;
	}
	withdraw.busy = true;
	if (fiber_start("withdraw", look, NULL) == OK)
		return;
	withdraw.busy = false;
	withdraw.again_ms = clock_now_ms();
	timer_set(t, WITHDRAW_LOOK_MS);
}

void withdraw_start(void)
{
	struct directory_stats s;
	if (shard_index() != 0)
		return;
	directory_stats(&s);
	withdraw.seen_changes = s.changes;
	withdraw.again_ms = withdraw.last_ms = 0;
	withdraw.busy = withdraw.stopping = false;
	waitq_init(&withdraw.idle);
	timer_init(&withdraw.timer, due);
	timer_set(&withdraw.timer, WITHDRAW_LOOK_MS);
}

void withdraw_stop(void)
{
	if (shard_index() != 0)
		return;
	withdraw.stopping = true;
	timer_clear(&withdraw.timer);
	while (withdraw.busy)
		waitq_wait(&withdraw.idle, 0);
}
