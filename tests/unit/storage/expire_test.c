/* SPDX-License-Identifier: Apache-2.0 */
/* Retention: what came before a moment goes, nothing else, and for good. */
#include "tests/unit/storage/store_help.h"

#include "core/base/limits.h"
#include "core/run/clock.h"
#include "storage/folder.h"

#define TEXT "Subject: one\r\n\r\nhello\r\n"

/* Until a new second has begun; returns it. */
static int64_t next_second(void)
{
	int64_t now_s = clock_wall_s();
	while (clock_wall_s() == now_s)
		fiber_sleep(10);
	return clock_wall_s();
}

static size_t expire(struct account *a, int64_t before_s)
{
	size_t removed;
	assert_int_equal(account_expire(a, FOLDER_INBOX, before_s, SIZE_MAX, &removed), OK);
	return removed;
}

FIBER_TEST(old_mail_goes_young_stays)
{
	const char *folder = test_folder();
	uint32_t other;
	help_begin(folder);
	struct account *a = help_open(1);
	assert_int_equal(expire(a, INT64_MAX), 0); /* nothing there */
	assert_int_equal(folder_create(a, SLICE_LIT("Kept"), FOLDER_USE_NONE, &other), OK);
	help_deliver(a, other, TEXT);
	help_deliver(a, FOLDER_INBOX, TEXT);
	help_deliver(a, FOLDER_INBOX, TEXT);
	int64_t then_s = next_second();
	help_deliver(a, FOLDER_INBOX, TEXT);
	struct view *v;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(expire(a, then_s - 3600), 0);
	assert_int_equal(a->expire_uid, 1); /* from now on an account with young mail costs no record */
	assert_int_equal(expire(a, then_s), 2);
	assert_int_equal(expire(a, then_s), 0);
	assert_int_equal(view_count(v), 3); /* whoever was there sees it on */
	assert_string_equal(help_read(v, 0), "Return-Path: <a@example.org>\r\n" TEXT);
	view_close(v);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "3");
	assert_string_equal(help_uids(a, other), "1");
	/* durable at its return */
	account_close(a);
	help_crash();
	help_begin(folder);
	a = help_open(1);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "3");
	assert_int_equal(expire(a, then_s + 1), 1);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "");
	account_close(a);
	help_end();
}

/* An old message that is brought in by an import or a move has its days from then on: the promise is about this maildrop. */
FIBER_TEST(days_count_from_the_arrival)
{
	uint32_t other, uid = 1;
	struct appended out;
	size_t removed;
	help_begin(test_folder());
	struct account *a = help_open(1);
	struct body *b = help_body(TEXT);
	struct append item = { .folder = FOLDER_INBOX, .body = b, .internal_date_s = 86400 };
	int64_t began_s = clock_wall_s();
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	assert_int_equal(expire(a, began_s), 0);
	assert_int_equal(folder_create(a, SLICE_LIT("Other"), FOLDER_USE_NONE, &other), OK);
	item.folder = other;
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	int64_t then_s = next_second();
	assert_int_equal(account_copy(a, &(struct copy){ .from = other, .to = FOLDER_INBOX, .uids = &uid, .count = 1, .move = true }, &out), OK);
	assert_int_equal(account_expire(a, FOLDER_INBOX, then_s, SIZE_MAX, &removed), OK);
	assert_int_equal(removed, 1);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "2");
	body_unref(b);
	account_close(a);
	help_end();
}

FIBER_TEST(many_go_in_bounded_commits)
{
	enum { MANY = EXPIRE_BATCH_MAX + 100 };
	static struct append items[MANY];
	static struct appended out[MANY];
	size_t removed;
	help_begin(test_folder());
	struct account *a = help_open(1);
	struct body *b = help_body(TEXT);
	for (size_t i = 0; i < MANY; i++)
		items[i] = (struct append){ .folder = FOLDER_INBOX, .body = b };
	assert_int_equal(account_append(a, items, MANY, out), OK);
	uint64_t before = a->sequence;
	assert_int_equal(account_expire(a, FOLDER_INBOX, INT64_MAX, 1, &removed), OK);
	assert_int_equal(removed, EXPIRE_BATCH_MAX);
	assert_int_equal(a->sequence, before + 1);
	assert_int_equal(expire(a, INT64_MAX), 100);
	body_unref(b);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(old_mail_goes_young_stays), cmocka_unit_test(days_count_from_the_arrival),
					    cmocka_unit_test(many_go_in_bounded_commits) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
