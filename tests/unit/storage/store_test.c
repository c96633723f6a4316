/* SPDX-License-Identifier: Apache-2.0 */
/* The store as protocols see it: deliver, read, delete, folders, flags; across closing, restart and kill. */
#include "tests/unit/storage/store_help.h"

#include "core/run/shard.h"
#include "storage/commit.h"
#include "storage/fence.h"
#include "storage/folder.h"
#include "storage/keyword.h"

#include <errno.h>

#define TEXT "Subject: one\r\n\r\nhello\r\n"

FIBER_TEST(delivers_and_reads_back)
{
	help_begin(test_folder());
	struct account *a = help_open(1);
	assert_int_equal(help_deliver(a, FOLDER_INBOX, TEXT), 1);
	assert_int_equal(help_deliver(a, FOLDER_INBOX, "Subject: two\r\n\r\n.dot\r\n"), 2);
	struct view *v;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(view_count(v), 2);
	assert_string_equal(help_read(v, 0), "Return-Path: <a@example.org>\r\n" TEXT);
	assert_string_equal(help_read(v, 1), "Return-Path: <a@example.org>\r\nSubject: two\r\n\r\n.dot\r\n");
	struct message_source s;
	assert_int_equal(message_open(v, 1, &s), OK);
	assert_int_equal(s.dot_count, 1);
	assert_int_equal(s.dots[0], 16);
	assert_int_equal(s.header_bytes, 16);
	assert_true(slice_eq(s.envelope_rcpt, SLICE_LIT("bob@example.net")));
	message_close(&s);
	/* a view does not change */
	help_deliver(a, FOLDER_INBOX, TEXT);
	help_expunge(a, FOLDER_INBOX, 1);
	assert_int_equal(view_count(v), 2);
	assert_string_equal(help_read(v, 0), "Return-Path: <a@example.org>\r\n" TEXT);
	view_close(v);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "2 3");
	account_close(a);
	help_end();
}

static void reopen(const char *folder, struct account **a, bool crash)
{
	account_close(*a);
	if (crash)
		help_crash();
	else
		help_end();
	help_begin(folder);
	*a = help_open(7);
}

FIBER_TEST(survives_restart_and_kill)
{
	const char *folder = test_folder();
	char uidl[2][UIDL_BYTES_MAX];
	struct view *v;

	help_begin(folder);
	struct account *a = help_open(7);
	for (int i = 0; i < 5; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	help_expunge(a, FOLDER_INBOX, 2);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	view_uidl(v, 1, uidl[0]);
	view_close(v);
	for (int round = 0; round < 6; round++) {
		reopen(folder, &a, round % 2);
		assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
		view_uidl(v, 1, uidl[1]);
		assert_memory_equal(uidl[0], uidl[1], 16);
		assert_string_equal(help_read(v, 0), "Return-Path: <a@example.org>\r\n" TEXT);
		view_close(v);
		assert_int_equal(help_deliver(a, FOLDER_INBOX, TEXT), (uint32_t)(6 + round));
	}
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 3 4 5 6 7 8 9 10 11");
	struct account_usage usage;
	account_usage(a, &usage);
	assert_int_equal(usage.messages, 10);
	assert_int_equal(usage.bytes, 10 * (sizeof("Return-Path: <a@example.org>\r\n" TEXT) - 1));
	assert_false(usage.read_only);
	account_close(a);
	help_end();
}

FIBER_TEST(keeps_folders_flags_and_keywords)
{
	const char *folder = test_folder();
	struct folder_info info;
	uint32_t sent, deep, uids[3] = { 1, 2, 3 };
	uint64_t modseq;
	const struct slice words[2] = { SLICE_LIT("$Junk"), SLICE_LIT("work") };

	help_begin(folder);
	struct account *a = help_open(7);
	assert_int_equal(folder_create(a, SLICE_LIT("Sent"), FOLDER_USE_SENT, &sent), OK);
	assert_int_equal(folder_create(a, SLICE_LIT("Sent"), 0, &deep), ERR_EXISTS);
	assert_int_equal(folder_create(a, SLICE_LIT("inbox"), 0, &deep), ERR_EXISTS);
	assert_int_equal(folder_create(a, SLICE_LIT("Sent/2024"), 0, &deep), OK);
	assert_int_equal(folder_subscribe(a, SLICE_LIT("Sent"), true), OK);
	assert_int_equal(folder_subscribe(a, SLICE_LIT("elsewhere"), true), OK);
	for (int i = 0; i < 3; i++)
		help_deliver(a, sent, TEXT);
	assert_int_equal(account_flags(a, sent, uids, 2, FLAGS_ADD, FLAG_SEEN | FLAG_FLAGGED, words, 2, &modseq), OK);
	assert_int_equal(account_flags(a, sent, uids + 1, 1, FLAGS_REMOVE, FLAG_FLAGGED, words, 1, &modseq), OK);
	assert_int_equal(folder_rename(a, sent, SLICE_LIT("Gesendet")), OK);
	assert_int_equal(commit_flush(a), OK);
	for (int round = 0; round < 3; round++) {
		reopen(folder, &a, round % 2);
		assert_int_equal(folder_find(a, SLICE_LIT("Gesendet/2024"), &info), OK);
		assert_int_equal(info.id, deep);
		assert_int_equal(folder_find(a, SLICE_LIT("Sent"), &info), ERR_NOT_FOUND);
		assert_int_equal(folder_find(a, SLICE_LIT("Gesendet"), &info), OK);
		assert_int_equal(info.messages, 3);
		assert_int_equal(info.unseen, 1);
		assert_true(info.subscribed);
		assert_int_equal(info.special_use, FOLDER_USE_SENT);
		assert_true(subscription_has(a, SLICE_LIT("elsewhere")));
		assert_int_equal(info.modseq, modseq);
		const struct row *row = rows_find(&account_folder(a, sent)->rows, 1);
		assert_int_equal(row->flags & ROW_FLAGS, FLAG_SEEN | FLAG_FLAGGED);
		assert_int_equal(keywords_get(a->keywords, row->keywords)->words[0], 3);
		row = rows_find(&account_folder(a, sent)->rows, 2);
		assert_int_equal(row->flags & ROW_FLAGS, FLAG_SEEN);
		assert_int_equal(keywords_get(a->keywords, row->keywords)->words[0], 2);
	}
	assert_int_equal(folder_delete(a, sent), OK);
	assert_int_equal(folder_find(a, SLICE_LIT("Gesendet"), &info), ERR_NOT_FOUND);
	assert_int_equal(folder_delete(a, FOLDER_INBOX), ERR_DENIED);
	reopen(folder, &a, true);
	assert_int_equal(folder_find(a, SLICE_LIT("Gesendet"), &info), ERR_NOT_FOUND);
	assert_int_equal(folder_find(a, SLICE_LIT("Gesendet/2024"), &info), OK);
	account_close(a);
	help_end();
}

FIBER_TEST(copies_and_moves_without_bytes)
{
	const char *folder = test_folder();
	uint32_t other, uids[2] = { 1, 2 };
	struct appended out[2];
	struct view *v;

	help_begin(folder);
	struct account *a = help_open(7);
	help_deliver(a, FOLDER_INBOX, TEXT);
	help_deliver(a, FOLDER_INBOX, "Subject: two\r\n\r\nbody\r\n");
	assert_int_equal(folder_create(a, SLICE_LIT("other"), 0, &other), OK);
	struct copy copy = { .from = FOLDER_INBOX, .to = other, .uids = uids, .count = 2 };
	assert_int_equal(account_copy(a, &copy, out), OK);
	assert_int_equal(out[1].uid, 2);
	copy.move = true;
	copy.count = 1;
	assert_int_equal(account_copy(a, &copy, out), OK);
	assert_int_equal(out[0].uid, 3);
	help_expunge(a, FOLDER_INBOX, 2);
	for (int round = 0; round < 3; round++) {
		reopen(folder, &a, round % 2);
		assert_string_equal(help_uids(a, FOLDER_INBOX), "");
		assert_string_equal(help_uids(a, other), "1 2 3");
		assert_int_equal(view_open(a, other, &v), OK);
		assert_string_equal(help_read(v, 1), "Return-Path: <a@example.org>\r\nSubject: two\r\n\r\nbody\r\n");
		assert_string_equal(help_read(v, 2), "Return-Path: <a@example.org>\r\n" TEXT);
		view_close(v);
	}
	account_close(a);
	help_end();
}

FIBER_TEST(judges_quota_under_the_commit)
{
	help_begin(test_folder());
	struct account *a = help_open(7);
	struct body *b = help_body(TEXT);
	struct append items[2] = { { .folder = FOLDER_INBOX, .body = b, .quota_messages = 3 }, { .folder = FOLDER_INBOX, .body = b, .quota_messages = 3 } };
	struct appended out[2];

	assert_int_equal(account_append(a, items, 2, out), OK);
	assert_int_equal(account_append(a, items, 2, out), ERR_QUOTA);
	assert_int_equal(account_append(a, items, 1, out), OK);
	assert_int_equal(account_append(a, items, 1, out), ERR_QUOTA);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3");
	items[0].quota_messages = 0;
	items[0].quota_bytes = 4 * body_bytes(b) - 1;
	assert_int_equal(account_append(a, items, 1, out), ERR_QUOTA);
	items[0].folder = 99;
	assert_int_equal(account_append(a, items, 1, out), ERR_NOT_FOUND);
	body_unref(b);
	account_close(a);
	help_end();
}

/* ---- many at once: deliveries join commits ---- */

static struct account *group_account;
static unsigned group_done;
static bool group_seen[200];

static void group_fiber(void *arg)
{
	(void)arg;
	uint32_t uid = help_deliver(group_account, FOLDER_INBOX, TEXT);
	group_seen[uid] = true;
	group_done++;
}

FIBER_TEST(groups_commits)
{
	const char *folder = test_folder();

	help_begin(folder);
	struct account *a = group_account = help_open(7);
	struct account_live *live;
	assert_int_equal(account_live_get(a, &live), OK);
	uint64_t before = a->last.sequence;
	group_done = 0;
	for (int i = 0; i < 100; i++)
		assert_int_equal(fiber_start("deliver", group_fiber, NULL), OK);
	while (group_done < 100)
		fiber_sleep(1);
	for (int i = 1; i <= 100; i++)
		assert_true(group_seen[i]);
	assert_true(a->last.sequence - before < 60); /* 100 alone would be 100 commits */
	account_live_put(live);
	reopen(folder, &a, true);
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 100);
	account_close(a);
	help_end();
}

FIBER_TEST(large_bodies_take_their_own_ways)
{
	const char *folder = test_folder();
	struct view *v;

	help_begin(folder);
	help_config.memory_body_bytes = 1000;
	help_config.file_body_bytes = 3000;
	help_end();
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
	struct account *a = help_open(7);
	static char text[3][6000];
	const size_t sizes[3] = { 1500, 5000, 200 };
	for (int i = 0; i < 3; i++) {
		memset(text[i], 'a' + i, sizes[i]);
		memcpy(text[i], "A: b\r\n\r\n", 8);
		memcpy(text[i] + sizes[i] - 2, "\r\n", 3);
		assert_int_equal(help_deliver(a, FOLDER_INBOX, text[i]), (uint32_t)i + 1);
	}
	account_close(a);
	help_crash();
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
	a = help_open(7);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	for (uint32_t i = 0; i < 3; i++)
		assert_string_equal(help_read(v, i) + 30, text[i]);
	view_close(v);
	help_expunge(a, FOLDER_INBOX, 2);
	struct account_live *live;
	assert_int_equal(account_live_get(a, &live), OK);
	struct fence_names names;
	assert_int_equal(fence_list(live->dir_fd, &names), OK);
	assert_true(names.bodies);
	fence_names_release(&names);
	account_live_put(live);
	account_close(a);
	fiber_sleep(20);
	a = help_open(7);
	assert_int_equal(account_live_get(a, &live), OK);
	assert_int_equal(fence_list(live->dir_fd, &names), OK);
	assert_false(names.bodies); /* its file is swept */
	fence_names_release(&names);
	account_live_put(live);
	account_close(a);
	help_end();
}

FIBER_TEST(seals_at_its_size_and_when_let_go)
{
	const char *folder = test_folder();

	help_begin(folder);
	help_config.seal_bytes = 2000;
	help_end();
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
	struct account *a = help_open(7);
	for (int i = 0; i < 20; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	assert_true(a->log_count >= 3);
	assert_int_equal(a->state, ACCOUNT_OWNED);
	account_close(a);
	store_self()->warm.bytes_max = 0;
	lru_trim(&store_self()->warm);
	while (account_known(7))
		fiber_sleep(1);
	a = help_open(7);
	assert_int_equal(a->state, ACCOUNT_SEALED); /* reading makes no log */
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 20);
	uint32_t logs = a->log_count;
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(a->state, ACCOUNT_OWNED);
	assert_int_equal(a->log_count, logs + 1);
	account_close(a);
	help_end();
}

FIBER_TEST(a_second_process_is_refused)
{
	const char *folder = test_folder();
	struct store_config c;

	help_begin(folder);
	int fd = file_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);
	int format = file_open(fd, "format", O_RDWR, 0);
	assert_int_equal(file_lock(format), -EWOULDBLOCK);
	file_close(format);
	file_close(fd);
	help_end();
	store_config_default(&c);
	c.data_path = "/nonexistent/penfold";
	assert_int_equal(store_lock(&c), ERR_NOT_FOUND);
}

FIBER_TEST(destroys)
{
	help_begin(test_folder());
	struct account *a = help_open(7);
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(account_destroy(7), ERR_IN_USE);
	account_close(a);
	assert_int_equal(account_destroy(7), OK);
	assert_int_equal(account_destroy(7), ERR_NOT_FOUND);
	a = help_open(7);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "");
	account_close(a);
	help_end();
}

FIBER_TEST(an_unchanged_poll_reads_nothing)
{
	help_begin(test_folder());
	struct account *a = help_open(7);
	help_deliver(a, FOLDER_INBOX, TEXT);
	account_close(a);
	struct shard_stats before, after;
	shard_stats(0, &before);
	for (int i = 0; i < 1000; i++) {
		a = help_open(7);
		struct view *v;
		assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
		assert_int_equal(view_count(v), 1);
		view_close(v);
		account_close(a);
	}
	shard_stats(0, &after);
	assert_int_equal(before.completions, after.completions);
	help_end();
}

/* Who only looks leaves no trace: no directory, no log, no sync. The first message is the account's birth, also under an open view. */
FIBER_TEST(an_account_is_born_by_its_first_change)
{
	struct shard_stats before, after;
	struct folder_info inbox;
	char path[ACCOUNT_PATH_BYTES];
	struct view *v, *w;

	help_begin(test_folder());
	account_path(9, path);
	shard_stats(0, &before);
	struct account *a = help_open(9);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(view_count(v), 0);
	assert_int_equal(folder_find(a, SLICE_LIT("inbox"), &inbox), OK);
	shard_stats(0, &after);
	assert_int_equal(before.syncs, after.syncs);
	assert_int_equal(file_exists(store_self()->data_fd, path), 0);
	assert_int_equal(help_deliver(a, FOLDER_INBOX, TEXT), 1);
	assert_int_equal(file_exists(store_self()->data_fd, path), 1);
	assert_int_equal(view_count(v), 0);
	assert_int_equal(view_open(a, FOLDER_INBOX, &w), OK);
	assert_int_equal(view_count(w), 1);
	assert_int_not_equal(view_uidvalidity(w), 0);
	view_close(v);
	view_close(w);
	account_close(a);
	a = help_open(10);
	account_close(a);
	help_end(); /* lets go of one that was never born, too */
	help_begin(help_config.data_path);
	a = help_open(9);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1");
	account_close(a);
	account_path(10, path);
	assert_int_equal(file_exists(store_self()->data_fd, path), 0);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(delivers_and_reads_back),
		cmocka_unit_test(an_account_is_born_by_its_first_change),
		cmocka_unit_test(survives_restart_and_kill),
		cmocka_unit_test(keeps_folders_flags_and_keywords),
		cmocka_unit_test(copies_and_moves_without_bytes),
		cmocka_unit_test(judges_quota_under_the_commit),
		cmocka_unit_test(groups_commits),
		cmocka_unit_test(large_bodies_take_their_own_ways),
		cmocka_unit_test(seals_at_its_size_and_when_let_go),
		cmocka_unit_test(a_second_process_is_refused),
		cmocka_unit_test(destroys),
		cmocka_unit_test(an_unchanged_poll_reads_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
