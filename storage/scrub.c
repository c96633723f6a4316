/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scrub.c - reads every log once in scrub_days and compares every checksum; and the upkeep of a shard.
 *
 * What leaves as a file range is not verified on its way, so rot is looked for here.  The accounts' folders are 65,536
 * buckets; the wall clock says which one is due, so that a restart neither begins anew nor needs a note of how far it came.
 * Each shard reads its own accounts.  A log being written is read as far as it was whole when we came.
 *
 * Damage is told as an alarm.  If the account is in memory its log is marked, so that no compaction takes away what may be
 * wanted; a damaged body is put in quarantine: message_open answers ERR_CORRUPT for it instead of sending what is not its text.
 */
#include "storage/compact.h"
#include "storage/verify.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/fence.h"
#include "storage/gate.h"

#include <fcntl.h>
#include <stdlib.h>

METRIC_COUNTER(scrubbed, "store_scrubbed_bytes_total", "bytes that the scrubber has read");
METRIC_COUNTER(scrub_damage, "store_scrub_findings_total", "damaged ranges and bodies that the scrubber has found");

#define BUCKETS 65536u

static void scrub_found(void *arg, const struct finding *f)
{
	char text[FINDING_TEXT_BYTES];
	(void)arg;
	if (finding_severity(f->kind) != FINDING_ERROR)
		return;
	metric_inc(&scrub_damage);
	size_t len = finding_text(f, text, sizeof(text));
	log_event(LOG_ALARM, "store.scrub", LOG_Z("finding", finding_name(f->kind)), LOG_U64("account", f->account_id), LOG_U64("log", f->log),
	          LOG_U64("start", f->start), LOG_U64("end", f->end), LOG_STR("file", f->name), LOG_STR("text", slice_of(text, len)));
	struct account *a = account_known(f->account_id);
	struct log *log = a && f->log && a->state != ACCOUNT_LOADING ? account_log(a, f->log) : NULL;
	if (log)
		log->damaged = true;
	if (f->kind == FINDING_BODY_DAMAGED && f->log)
		source_condemn(f->account_id, f->log, f->start);
}

static bool scrub_pace(void *arg, uint64_t bytes)
{
	(void)arg;
	metric_add(&scrubbed, (int64_t)bytes);
	fiber_sleep(bytes / SCRUB_BYTES_PER_MS);
	return !upkeep_stopping();
}

/* False: there is none. */
static bool newest_is_others(int dir_fd, uint32_t *newest_out)
{
	struct fence_names names;
	enum err e = fence_list(dir_fd, &names);
	*newest_out = names.newest;
	fence_names_release(&names);
	return e == OK && *newest_out > 0;
}

static bool scrub_account(void *arg, uint64_t account_id)
{
	char path[ACCOUNT_PATH_BYTES];
	struct fsck_totals totals = { 0 };
	(void)arg;
	if (store_shard_of(account_id) != shard_index())
		return !upkeep_stopping();
	account_path(account_id, path);
	int fd = file_open(store_self()->data_fd, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return !upkeep_stopping();
	struct verify v = { .dir_fd = fd, .account_id = account_id, .each = scrub_found, .totals = &totals, .pace = scrub_pace };
	/* what is being written while we read must not look like damage; an account loaded later writes to a new log */
	const struct account *a = account_known(account_id);
	bool busy = a && (a->state == ACCOUNT_LOADING || a->state == ACCOUNT_LOST || a->log_count == 0);
	if (a && !busy) {
		v.newest_log = a->logs[a->log_count - 1].number;
		v.newest_end = a->logs[a->log_count - 1].end;
	}
	else if (!a && (file_shared() || gate_is_open())) /* another process may be writing to it: the newest log's turn comes when it is not the newest any more */
		busy = !newest_is_others(fd, &v.newest_log);
	if (!busy)
		(void)verify_logs(&v); /* what does not read is a finding */
	verify_release(&v);
	file_close(fd);
	return !upkeep_stopping();
}

void scrub_one(uint64_t account_id) { (void)scrub_account(NULL, account_id); }

/* The bucket that is due now, and how long until the next one. */
static uint32_t bucket_due(uint64_t *next_ms_out)
{
	uint64_t each_ms = max_u64((uint64_t)store_self()->config.scrub_days * 86400000 / BUCKETS, 1), now = (uint64_t)clock_wall_ms();
	*next_ms_out = each_ms - now % each_ms;
	return (uint32_t)(now / each_ms % BUCKETS);
}

static void job_done(struct upkeep *u)
{
	if (--u->jobs == 0)
		waitq_wake_all(&u->done);
}

static void scrub_bucket(void *arg)
{
	struct upkeep *u = upkeep_self();
	uint64_t next_ms;
	uint32_t bucket = bucket_due(&next_ms);
	(void)arg;
	if (!upkeep_stopping())
		(void)verify_walk(store_self()->data_fd, bucket, scrub_account, NULL);
	(void)bucket_due(&next_ms); /* it may have taken longer than one bucket's time: the next ones wait for the next round */
	if (!upkeep_stopping())
		timer_set(&u->timer, next_ms);
	job_done(u);
}

static void scrub_due(struct timer *t)
{
	struct upkeep *u = CONTAINER_OF(t, struct upkeep, timer);
	if (fiber_start("store.scrub", scrub_bucket, NULL) == OK)
		u->jobs++;
	else
		timer_set(t, SCRUB_AGAIN_MS);
}

enum err scrub_start(void)
{
	struct upkeep *u = xcalloc(1, sizeof(*u));
	uint64_t next_ms;
	waitq_init(&u->done);
	timer_init(&u->timer, scrub_due);
	shard_set_local(SHARD_SLOT_UPKEEP, u);
	if (store_self()->config.scrub_days > 0) {
		(void)bucket_due(&next_ms);
		timer_set(&u->timer, next_ms);
	}
	return OK;
}

void scrub_stop(void)
{
	struct upkeep *u = upkeep_self();
	if (!u)
		return;
	u->stopping = true;
	timer_clear(&u->timer);
	while (u->jobs > 0)
		(void)waitq_wait(&u->done, 0);
	timer_clear(&u->timer);
	shard_set_local(SHARD_SLOT_UPKEEP, NULL);
	free(u);
}
