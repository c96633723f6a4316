/* SPDX-License-Identifier: Apache-2.0 */
/* changes_test.c - what a session that stays is told: views that advance, vanished UIDs, conditional flags, keywords, watches. */
#include "tests/unit/storage/store_help.h"

#include "storage/folder.h"

#define TEXT "Subject: x\r\n\r\ny\r\n"

struct heard {
	struct folder_watch watch;
	int times;
};

static void hear(struct folder_watch *watch) { CONTAINER_OF(watch, struct heard, watch)->times++; }

static char text[256];

static void note(void *arg, uint32_t x, uint32_t y)
{
	size_t at = strlen(text);
	(void)arg;
	snprintf(text + at, sizeof text - at, "%u-%u ", x, y);
}

FIBER_TEST(views_advance)
{
	uint32_t index, uids[2] = { 2, 4 };
	uint64_t modseq;
	size_t removed;
	struct view *v;

	help_begin(test_folder());
	struct account *a = help_open(7);
	for (int i = 0; i < 5; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_true(view_newest(v));
	assert_int_equal(account_expunge(a, FOLDER_INBOX, uids, 2, &removed), OK);
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_false(view_newest(v));
	assert_int_equal(view_count(v), 5);
	text[0] = 0;
	assert_true(view_advance(&v, note, NULL));
	assert_string_equal(text, "2-1 4-3 ");
	assert_int_equal(view_count(v), 4); /* 1 3 5 6 */
	assert_int_equal(view_index(v, 1), 0);
	assert_int_equal(view_index(v, 2), 1);
	assert_int_equal(view_index(v, 6), 3);
	assert_int_equal(view_index(v, 7), 4);
	struct folder_info before;
	assert_int_equal(folder_info(a, FOLDER_INBOX, &before), OK);
	uids[0] = 5;
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_true(view_next_changed(v, 0, before.modseq, &index));
	assert_int_equal(index, 2);
	assert_false(view_next_changed(v, 3, before.modseq, &index));
	view_close(v);
	account_close(a);
	help_end();
}

FIBER_TEST(remembers_what_vanished)
{
	struct folder_info info;

	help_begin(test_folder());
	struct account *a = help_open(7);
	for (int i = 0; i < 3; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	help_expunge(a, FOLDER_INBOX, 1);
	assert_int_equal(folder_info(a, FOLDER_INBOX, &info), OK);
	help_expunge(a, FOLDER_INBOX, 3);
	text[0] = 0;
	assert_true(folder_vanished(a, FOLDER_INBOX, info.modseq, note, NULL));
	assert_string_equal(text, "3-3 ");
	text[0] = 0;
	assert_true(folder_vanished(a, FOLDER_INBOX, info.modseq - 1, note, NULL));
	assert_string_equal(text, "1-1 3-3 ");
	vanished_raise_floor(&account_folder(a, FOLDER_INBOX)->vanished, info.modseq);
	assert_false(folder_vanished(a, FOLDER_INBOX, info.modseq - 1, note, NULL));
	account_close(a);
	help_end();
}

FIBER_TEST(flags_under_a_condition)
{
	struct folder_info info;
	uint32_t uids[3] = { 1, 2, 3 };
	bool failed[3], news[3];
	uint64_t modseq, later;
	struct view *v;
	struct message m;

	help_begin(test_folder());
	struct account *a = help_open(7);
	for (int i = 0; i < 3; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(folder_info(a, FOLDER_INBOX, &info), OK);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids + 1, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	const struct flags_terms terms = { .unchanged_since = info.modseq, .known = info.modseq - 1, .failed = failed, .news = news };
	assert_int_equal(account_flags_since(a, FOLDER_INBOX, uids, 3, FLAGS_ADD, FLAG_FLAGGED, NULL, 0, &terms, &later), OK);
	assert_true(!failed[0] && failed[1] && !failed[2]);
	assert_true(!news[0] && news[1] && news[2]); /* the third came with the last delivery */
	assert_true(later > modseq);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	for (uint32_t i = 0; i < 3; i++) {
		view_message(v, i, &m);
		assert_int_equal(m.flags, i == 1 ? FLAG_SEEN : FLAG_FLAGGED);
	}
	view_close(v);
	account_close(a);
	help_end();
}

static uint64_t modseq_of(struct account *a)
{
	struct folder_info info;
	assert_int_equal(folder_info(a, FOLDER_INBOX, &info), OK);
	return info.modseq;
}

FIBER_TEST(appended_with_keywords)
{
	const struct slice words[] = { SLICE_LIT("work"), SLICE_LIT("$Junk"), SLICE_LIT("WORK") };
	struct slice name;
	uint32_t cursor = 0;
	struct view *v;
	struct message m;

	help_begin(test_folder());
	struct account *a = help_open(7);
	struct body *b = help_body(TEXT);
	const struct append items[2] = { { .folder = FOLDER_INBOX, .body = b, .keywords = words, .keyword_count = 3 },
					 { .folder = FOLDER_INBOX, .body = b, .keywords = words + 1, .keyword_count = 1 } };
	struct appended out[2];
	help_deliver(a, FOLDER_INBOX, TEXT);
	uint64_t modseq = modseq_of(a);
	assert_int_equal(account_append(a, items, 2, out), OK);
	assert_int_equal(out[0].modseq, modseq + 1); /* names and messages are one commit */
	body_unref(b);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	view_message(v, 2, &m);
	assert_true(account_keyword_next(a, m.keywords, &cursor, &name) && slice_eq(name, words[1]));
	assert_false(account_keyword_next(a, m.keywords, &cursor, &name));
	cursor = 0;
	view_message(v, 1, &m);
	assert_true(account_keyword_next(a, m.keywords, &cursor, &name) && slice_eq(name, words[0]));
	assert_true(account_keyword_next(a, m.keywords, &cursor, &name) && slice_eq(name, words[1]));
	assert_false(account_keyword_next(a, m.keywords, &cursor, &name));
	view_close(v);
	account_close(a);
	help_end();
}

/* RENAME of INBOX: the folder and its messages come together, or neither does. */
FIBER_TEST(moved_to_a_new_folder)
{
	const uint32_t uids[2] = { 1, 2 };
	uint32_t folder = 0;
	struct folder_info inbox, made;
	const char *data = test_folder();

	help_begin(data);
	struct account *a = help_open(7);
	help_deliver(a, FOLDER_INBOX, TEXT);
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(account_move_to_new(a, FOLDER_INBOX, uids, 2, SLICE_LIT("INBOX"), &folder), ERR_EXISTS);
	assert_int_equal(account_move_to_new(a, FOLDER_INBOX, uids, 2, SLICE_LIT("a//b"), &folder), ERR_SYNTAX);
	assert_int_equal(folder_info(a, FOLDER_INBOX, &inbox), OK);
	assert_int_equal(inbox.messages, 2);
	assert_int_equal(account_move_to_new(a, FOLDER_INBOX, uids, 2, SLICE_LIT("Old/May"), &folder), OK);
	for (int turn = 0; turn < 2; turn++) { /* now, and after a replay */
		assert_int_equal(folder_find(a, SLICE_LIT("Old/May"), &made), OK);
		assert_int_equal(made.id, folder);
		assert_int_equal(made.messages, 2);
		assert_int_equal(made.uidnext, 3);
		assert_int_equal(folder_info(a, FOLDER_INBOX, &inbox), OK);
		assert_int_equal(inbox.messages, 0);
		assert_int_equal(made.modseq, inbox.modseq); /* one commit */
		assert_int_equal(inbox.uidnext, 3);
		account_close(a);
		help_crash();
		help_begin(data);
		a = help_open(7);
	}
	account_close(a);
	help_end();
}

/* REPLACE: one comes and one goes in one commit, and quota counts the difference. */
FIBER_TEST(replaced)
{
	struct folder_info before, after;
	struct appended out;
	const char *data = test_folder();

	help_begin(data);
	struct account *a = help_open(7);
	help_deliver(a, FOLDER_INBOX, TEXT);
	struct body *b = help_body(TEXT);
	assert_int_equal(folder_info(a, FOLDER_INBOX, &before), OK);
	struct append item = { .folder = FOLDER_INBOX, .body = b, .replaces_folder = FOLDER_INBOX, .replaces_uid = 1, .quota_messages = 1,
			       .quota_bytes = before.bytes };
	item.folder = 99;
	assert_int_equal(account_append(a, &item, 1, &out), ERR_NOT_FOUND);
	item.folder = FOLDER_INBOX;
	item.replaces_uid = 9;
	assert_int_equal(account_append(a, &item, 1, &out), ERR_DENIED);
	item.replaces_uid = 1;
	item.quota_bytes = 1;
	assert_int_equal(account_append(a, &item, 1, &out), OK); /* smaller than what it replaces: the difference is no growth */
	assert_int_equal(out.uid, 2);
	assert_int_equal(account_append(a, &item, 1, &out), ERR_DENIED);
	body_unref(b);
	account_close(a);
	help_crash();
	help_begin(data);
	a = help_open(7);
	assert_int_equal(folder_info(a, FOLDER_INBOX, &after), OK);
	assert_int_equal(after.messages, 1);
	assert_int_equal(after.uidnext, 3);
	assert_true(after.bytes < before.bytes);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "2");
	account_close(a);
	help_end();
}

FIBER_TEST(watches_hear_of_each_commit)
{
	struct heard here = { .watch = { .changed = hear } }, there = { .watch = { .changed = hear } };
	uint32_t other, uid = 1;
	uint64_t modseq;
	struct view *v;

	help_begin(test_folder());
	struct account *a = help_open(7);
	assert_int_equal(folder_create(a, SLICE_LIT("other"), 0, &other), OK);
	assert_int_equal(folder_watch(a, FOLDER_INBOX, &here.watch), OK);
	assert_int_equal(folder_watch(a, other, &there.watch), OK);
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(here.times, 1);
	assert_int_equal(account_flags(a, FOLDER_INBOX, &uid, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_int_equal(here.times, 2);
	help_expunge(a, FOLDER_INBOX, 1);
	assert_int_equal(here.times, 3);
	assert_int_equal(there.times, 0);
	assert_int_equal(view_open(a, other, &v), OK);
	assert_int_equal(folder_delete(a, other), OK);
	assert_true(there.times > 0);
	assert_false(view_advance(&v, note, NULL));
	folder_unwatch(&there.watch);
	folder_unwatch(&there.watch);
	view_close(v);
	folder_unwatch(&here.watch);
	help_deliver(a, FOLDER_INBOX, TEXT);
	assert_int_equal(here.times, 3);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(views_advance),	  cmocka_unit_test(remembers_what_vanished),	 cmocka_unit_test(flags_under_a_condition),
		cmocka_unit_test(appended_with_keywords), cmocka_unit_test(moved_to_a_new_folder), cmocka_unit_test(replaced), cmocka_unit_test(watches_hear_of_each_commit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
