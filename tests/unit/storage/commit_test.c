/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commits that fail: a full disk, writes and syncs that err, deadlines.  On the simulated disk, whose faults are chosen by the test.
 *
 * After each fault: what was acknowledged is there, what was refused is not, the account goes on if it can, and a restart
 * from what is durable finds the same.
 */
#include "tests/unit/storage/store_help.h"

#include "core/base/log.h"
#include "core/run/shard_private.h"
#include "core/run/sim.h"
#include "storage/commit.h"

#include <errno.h>
#include <unistd.h>

#define TEXT "Subject: one\r\n\r\nhello\r\n"

/* ---- faults ---- */

enum fault { NONE, FULL_AT_ONCE, FULL_HALFWAY, WRITE_EIO, SYNC_EIO, ALL_SYNCS_EIO };
static enum fault fault;
static unsigned faults;

static int64_t fail_some(void *arg, const struct io_request *r)
{
	(void)arg;
	bool sync = r->kind == IO_SYNC || (r->kind == IO_WRITE && r->flags & IO_SYNC_DATA);

	if ((fault == FULL_AT_ONCE || fault == FULL_HALFWAY) && r->kind == IO_WRITE) {
		if (fault == FULL_HALFWAY && faults++ == 0)
			return 100; /* a short write, then no more room */
		fault = NONE;
		return -ENOSPC;
	}
	if (fault == WRITE_EIO && r->kind == IO_WRITE) {
		fault = NONE;
		return -EIO;
	}
	if (fault == SYNC_EIO && sync) {
		fault = NONE;
		return -EIO;
	}
	return fault == ALL_SYNCS_EIO && sync ? -EIO : 0;
}

static void fault_set(enum fault f)
{
	fault = f;
	faults = 0;
}

/* ---- running ---- */

static struct sim_config sim;

static void body_run(void *arg)
{
	void (*work)(void) = *(void (**)(void))arg;

	(void)file_mkdir(AT_FDCWD, "/data", 0700);
	int root = file_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
	assert_int_equal(file_sync_dir(root), 0);
	file_close(root);
	help_begin("/data");
	work();
	help_end();
}

static void run(void (*work)(void))
{
	struct shard_options options = { .backend = &io_backend_sim };

	(sim.fail) = fail_some;
	sim_use(&sim);
	assert_int_equal(shard_run_alone_with(&options, body_run, &work), OK);
}

/* Runs the first half, loses power (nothing that was pending survives), runs the second half. */
static void run_crash_run(void (*first)(void), void (*second)(void))
{
	log_set_level(LOG_LEVEL_COUNT);
	sim = (struct sim_config){ .disk = sim_disk_new(), .seed = 1 };
	fault_set(NONE);
	run(first);
	struct sim_disk *after = sim_crash(sim.disk, 0, sim_crash_count(sim.disk, 4));
	sim_disk_free(sim.disk);
	sim.disk = after;
	fault_set(NONE);
	run(second);
	sim_disk_free(sim.disk);
}

static enum err deliver(struct account *a, uint32_t *uid_out)
{
	struct body *b = help_body(TEXT);
	struct append item = { .folder = FOLDER_INBOX, .body = b, .prefix = SLICE_LIT("X: y\r\n") };
	struct appended out = { 0 };
	enum err e = account_append(a, &item, 1, &out);

	body_unref(b);
	*uid_out = out.uid;
	return e;
}

/* Closes as a killed process would. */
static void leave(struct account *a)
{
	account_close(a);
	a->state = ACCOUNT_LOST;
}

/* ---- a full disk ---- */

static void full_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid;

	assert_int_equal(deliver(a, &uid), OK);
	fault_set(FULL_HALFWAY);
	assert_int_equal(deliver(a, &uid), ERR_FULL);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1");
	/* bytes were written there, and bytes once written never change (invariant 3) */
	uint64_t at = a->live->log_at;
	assert_true(at >= a->live->previous_end + 100);
	fault_set(FULL_AT_ONCE);
	assert_int_equal(deliver(a, &uid), ERR_FULL);
	assert_int_equal(a->live->log_at, at); /* nothing was */
	assert_int_equal(deliver(a, &uid), OK);
	assert_int_equal(uid, 2);
	fault_set(FULL_HALFWAY);
	assert_int_equal(deliver(a, &uid), ERR_FULL);
	assert_int_equal(deliver(a, &uid), OK);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	assert_int_equal(a->log_count, 1); /* a gap, not a new log */
	leave(a);
}

static void full_second(void)
{
	struct account *a = help_open(1);

	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	assert_int_equal(account_folder(a, FOLDER_INBOX)->uidnext, 4); /* named gaps raise nothing */
	for (uint32_t i = 0; i < a->log_count; i++)
		assert_false(a->logs[i].damaged);
	struct view *v;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	for (uint32_t i = 0; i < 3; i++)
		assert_string_equal(help_read(v, i), "X: y\r\n" TEXT);
	view_close(v);
	account_close(a);
}

static void a_full_disk_leaves_a_gap(void **state)
{
	(void)state;
	run_crash_run(full_first, full_second);
}

/* The descriptors are given up with a gap at the end, and the log is opened again behind it. */
static void full_reopen_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid;

	assert_int_equal(deliver(a, &uid), OK);
	fault_set(FULL_HALFWAY);
	assert_int_equal(deliver(a, &uid), ERR_FULL);
	store_self()->lives.bytes_max = 0;
	lru_trim(&store_self()->lives);
	assert_null(a->live);
	store_self()->lives.bytes_max = 64;
	assert_int_equal(deliver(a, &uid), OK);
	assert_int_equal(deliver(a, &uid), OK);
	assert_int_equal(a->log_count, 1);
	leave(a);
}

static void a_gap_is_remembered_without_descriptors(void **state)
{
	(void)state;
	run_crash_run(full_reopen_first, full_second);
}

/* ---- the disk errs ---- */

static void eio(enum fault f)
{
	struct account *a = help_open(1);
	uint32_t uid;

	assert_int_equal(deliver(a, &uid), OK);
	fault_set(f);
	assert_int_equal(deliver(a, &uid), ERR_IO);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1");
	assert_int_equal(a->log_count, 2); /* the file is not trusted any more */
	assert_int_equal(a->state, ACCOUNT_OWNED);
	assert_int_equal(deliver(a, &uid), OK);
	assert_int_equal(deliver(a, &uid), OK);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	leave(a);
}

static void write_eio_first(void) { eio(WRITE_EIO); }
static void sync_eio_first(void) { eio(SYNC_EIO); }

static void a_failed_write_or_sync_makes_a_new_log(void **state)
{
	(void)state;
	run_crash_run(write_eio_first, full_second);
	run_crash_run(sync_eio_first, full_second);
}

static void all_syncs_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid;
	size_t removed;
	struct account_usage usage;

	for (int i = 0; i < 3; i++)
		assert_int_equal(deliver(a, &uid), OK);
	fault_set(ALL_SYNCS_EIO);
	assert_int_equal(deliver(a, &uid), ERR_IO);
	assert_int_equal(deliver(a, &uid), ERR_READONLY);
	uid = 1;
	assert_int_equal(account_expunge(a, FOLDER_INBOX, &uid, 1, &removed), ERR_READONLY);
	account_usage(a, &usage);
	assert_true(usage.read_only);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3"); /* reading goes on */
	account_close(a);
	/* and stays so: the page cache may show bytes that are not on the disk */
	store_self()->warm.bytes_max = 0;
	lru_trim(&store_self()->warm);
	fiber_sleep(10);
	assert_ptr_equal(account_known(1), a);
	assert_true(a->read_only);
	a->keep = false;
	a->state = ACCOUNT_LOST;
}

static void without_a_new_log_it_is_read_only(void **state)
{
	(void)state;
	run_crash_run(all_syncs_first, full_second);
}

/* ---- flags ---- */

static uint64_t flags_shown;

static void flags_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid, uids[1] = { 1 };
	uint64_t modseq;

	assert_int_equal(deliver(a, &uid), OK);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_int_equal(rows_find(&account_folder(a, FOLDER_INBOX)->rows, 1)->flags, FLAG_SEEN); /* at once */
	assert_int_equal(a->live->unsynced, 1);
	fiber_sleep(help_config.flags_sync_ms + 200);
	assert_int_equal(a->live->unsynced, 0);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_FLAGGED, NULL, 0, &modseq), OK);
	for (int i = 0; i < 8; i++)
		assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, i % 2 ? FLAGS_ADD : FLAGS_REMOVE, FLAG_FLAGGED, NULL, 0, &modseq), OK);
	flags_shown = modseq;
	leave(a); /* only the first is synced */
}

static void flags_second(void)
{
	struct account *a = help_open(1);

	assert_int_equal(rows_find(&account_folder(a, FOLDER_INBOX)->rows, 1)->flags, FLAG_SEEN);
	/* a MODSEQ that was shown and lost is not given to another change */
	const uint32_t uids[1] = { 1 };
	uint64_t modseq;
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_DRAFT, NULL, 0, &modseq), OK);
	assert_true(modseq > flags_shown);
	account_close(a);
}

static void flags_are_synced_within_their_time(void **state)
{
	(void)state;
	run_crash_run(flags_first, flags_second);
}

static void flags_lost_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid, uids[1] = { 1 };
	uint64_t modseq, before;

	assert_int_equal(deliver(a, &uid), OK);
	before = account_folder(a, FOLDER_INBOX)->modseq;
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	fault_set(SYNC_EIO);
	fiber_sleep(help_config.flags_sync_ms + 200);
	assert_int_equal(a->state, ACCOUNT_LOST); /* memory shows what the disk does not have */
	account_close(a);
	a = help_open(1);
	assert_int_equal(rows_find(&account_folder(a, FOLDER_INBOX)->rows, 1)->flags, 0);
	assert_int_equal(account_folder(a, FOLDER_INBOX)->modseq, before);
	/* the number that was shown is not given again */
	uint64_t shown = modseq;
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_true(modseq > shown);
	account_close(a);
}

static void flags_lost_second(void)
{
	struct account *a = help_open(1);

	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 1);
	account_close(a);
}

static void flags_that_could_not_be_synced_are_taken_back(void **state)
{
	(void)state;
	run_crash_run(flags_lost_first, flags_lost_second);
}

/* ---- letting go ---- */

static void seal_fails_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid;

	for (int i = 0; i < 3; i++)
		assert_int_equal(deliver(a, &uid), OK);
	account_close(a);
	fault_set(SYNC_EIO); /* of the seal */
	store_self()->warm.bytes_max = 0;
	lru_trim(&store_self()->warm);
	while (account_known(1))
		fiber_sleep(1);
	assert_int_equal(fault, NONE);
	a = help_open(1);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	leave(a);
}

static void a_seal_that_fails_is_cut_off(void **state)
{
	(void)state;
	run_crash_run(seal_fails_first, full_second);
}

/* ---- the reserve ---- */

static void reserve_first(void)
{
	struct account *a = help_open(1);
	uint32_t uid, folder;
	size_t removed;

	for (int i = 0; i < 4; i++)
		assert_int_equal(deliver(a, &uid), OK);
	store_self()->config.reserve_bytes = UINT64_MAX;
	assert_int_equal(deliver(a, &uid), ERR_FULL);
	assert_int_equal(folder_create(a, SLICE_LIT("x"), 0, &folder), ERR_FULL);
	uid = 4;
	assert_int_equal(account_expunge(a, FOLDER_INBOX, &uid, 1, &removed), OK);
	account_close(a);
}

static void reserve_second(void)
{
	struct account *a = help_open(1);

	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	account_close(a);
}

static void deleting_may_use_the_reserve(void **state)
{
	(void)state;
	run_crash_run(reserve_first, reserve_second);
}

/* ---- deadlines ---- */

static void late_first(void)
{
	struct account *a = help_open(1);
	struct account_live *live;
	uint32_t uid;

	assert_int_equal(deliver(a, &uid), OK);
	store_self()->config.commit_ms_max = 0;
	assert_int_equal(account_live_get(a, &live), OK);
	assert_int_equal(deliver(a, &uid), OK); /* begun at once: in time */
	store_self()->config.commit_ms_max = 10000;
	assert_int_equal(deliver(a, &uid), OK);
	account_live_put(live);
	leave(a);
}

static void an_idle_account_is_never_late(void **state)
{
	(void)state;
	run_crash_run(late_first, full_second);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_disk_leaves_a_gap),
		cmocka_unit_test(a_gap_is_remembered_without_descriptors),
		cmocka_unit_test(a_failed_write_or_sync_makes_a_new_log),
		cmocka_unit_test(without_a_new_log_it_is_read_only),
		cmocka_unit_test(flags_are_synced_within_their_time),
		cmocka_unit_test(flags_that_could_not_be_synced_are_taken_back),
		cmocka_unit_test(a_seal_that_fails_is_cut_off),
		cmocka_unit_test(deleting_may_use_the_reserve),
		cmocka_unit_test(an_idle_account_is_never_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
