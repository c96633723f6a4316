/* SPDX-License-Identifier: Apache-2.0 */
/* fsck and the scrubber: silent about what is whole, and right about what is not. */
#include "tests/unit/storage/store_help.h"

#include "core/base/log.h"
#include "storage/commit.h"
#include "storage/compact.h"
#include "storage/folder.h"
#include "storage/fsck.h"
#include "storage/state.h"
#include "storage/verify.h"

#include <unistd.h>

static char heard[1 << 14];

static void hear(void *arg, const struct finding *f)
{
	char text[FINDING_TEXT_BYTES], json[FINDING_TEXT_BYTES];
	(void)arg;
	assert_true(finding_text(f, text, sizeof(text)) > 20);
	size_t len = finding_json(f, json, sizeof(json));
	assert_true(json[0] == '{' && json[len - 1] == '}');
	size_t at = strlen(heard);
	snprintf(heard + at, sizeof(heard) - at, "%s ", finding_name(f->kind));
}

static struct fsck_totals check(uint64_t id, bool rebuild)
{
	struct fsck_options options = { .rebuild = rebuild };
	struct fsck_totals totals = { 0 };
	heard[0] = 0;
	(void)fsck_account(store_self()->data_fd, id, &options, hear, NULL, &totals);
	return totals;
}

static const char *account_file(const char *folder, uint64_t id, const char *name)
{
	static char path[256];
	char account[ACCOUNT_PATH_BYTES];
	account_path(id, account);
	snprintf(path, sizeof(path), "%s/%s/%s", folder, account, name);
	return path;
}

static void flip(const char *path, long offset)
{
	FILE *f = fopen(path, "r+b");
	assert_non_null(f);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	int c = fgetc(f);
	assert_int_equal(fseek(f, offset, SEEK_SET), 0);
	fputc(c ^ 0x10, f);
	fclose(f);
}

/* Where a text lies in a file. */
static long find_text(const char *path, const char *text)
{
	static char all[1 << 20];
	FILE *f = fopen(path, "rb");
	assert_non_null(f);
	size_t n = fread(all, 1, sizeof(all), f);
	fclose(f);
	const char *p = memmem(all, n, text, strlen(text));
	assert_non_null(p);
	return (long)(p - all);
}

static void fill(const char *folder, uint64_t id)
{
	help_begin(folder);
	struct account *a = help_open(id);
	for (int i = 0; i < 5; i++)
		help_deliver(a, FOLDER_INBOX, "Subject: x\r\n\r\nfive times this\r\n");
	help_deliver(a, FOLDER_INBOX, "Subject: x\r\n\r\nthe only one of its kind\r\n");
	help_expunge(a, FOLDER_INBOX, 2);
	account_close(a);
	help_end();
	help_begin(folder);
	a = help_open(id);
	help_deliver(a, FOLDER_INBOX, "Subject: y\r\n\r\nbehind the seal\r\n");
	account_close(a);
	help_end();
	help_begin(folder);
}

FIBER_TEST(nothing_wrong)
{
	fill(test_folder(), 21);
	struct fsck_totals t = check(21, false);
	assert_string_equal(heard, "");
	assert_int_equal(t.messages, 6);
	assert_int_equal(t.bodies, 7);
	assert_true(t.logs == 2 && t.commits > 9 && t.accounts == 1);
	struct fsck_options options = { .skip_bodies = true };
	struct fsck_totals all = { 0 };
	assert_int_equal(fsck_all(store_self()->data_fd, &options, hear, NULL, &all), OK);
	assert_int_equal(all.messages, 6);
	assert_int_equal(all.accounts, 1);
	assert_string_equal(heard, "");
	assert_int_equal(fsck_account(store_self()->data_fd, 99, &options, hear, NULL, &all), ERR_NOT_FOUND);
	help_end();
}

FIBER_TEST(a_damaged_body)
{
	const char *folder = test_folder();
	fill(folder, 22);
	flip(account_file(folder, 22, "L.1"), find_text(account_file(folder, 22, "L.1"), "the only one of its kind\r\n"));
	struct fsck_totals t = check(22, false);
	assert_int_equal(t.findings[FINDING_BODY_DAMAGED], 2); /* the bytes, and the message that has them */
	assert_string_equal(heard, "body_damaged body_damaged ");
	struct account *a = help_open(22);
	struct view *v;
	struct message_source s;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(message_open(v, 4, &s), ERR_CORRUPT);
	assert_int_equal(message_open(v, 3, &s), OK); /* its neighbours are served */
	message_close(&s);
	view_close(v);
	account_close(a);
	help_end();
}

FIBER_TEST(a_damaged_record)
{
	const char *folder = test_folder();
	fill(folder, 23);
	flip(account_file(folder, 23, "L.1"), find_text(account_file(folder, 23, "L.1"), "bob@example.net"));
	struct fsck_totals t = check(23, false);
	assert_int_equal(t.findings[FINDING_DAMAGE], 1);
	help_end();
}

FIBER_TEST(a_missing_file)
{
	const char *folder = test_folder();
	fill(folder, 24);
	struct account *a = help_open(24);
	help_deliver(a, FOLDER_INBOX, "Subject: z\r\n\r\n");
	account_close(a);
	help_end();
	help_begin(folder);
	assert_int_equal(unlink(account_file(folder, 24, "L.2")), 0);
	struct fsck_totals t = check(24, false);
	assert_int_equal(t.findings[FINDING_LOG_MISSING], 1);
	help_end();
}

FIBER_TEST(caches_and_strays)
{
	const char *folder = test_folder();
	fill(folder, 25);
	flip(account_file(folder, 25, "S"), 120);
	FILE *f = fopen(account_file(folder, 25, "core\"dump"), "w");
	fclose(f);
	f = fopen(account_file(folder, 25, "B.00112233445566778899aabbccddeeff"), "w");
	fclose(f);
	struct fsck_totals t = check(25, true);
	assert_int_equal(t.findings[FINDING_STATE_STALE], 1);
	assert_int_equal(t.findings[FINDING_STRAY], 1);
	assert_int_equal(t.findings[FINDING_ORPHAN], 1);
	t = check(25, false); /* made anew */
	assert_int_equal(t.findings[FINDING_STATE_STALE], 0);
	assert_int_equal(t.findings[FINDING_STATE_WRONG], 0);
	assert_int_equal(access(account_file(folder, 25, STATE_NAME), F_OK), 0);
	help_end();
}

/* A state file that counts but lies must be found out. */
FIBER_TEST(a_lying_cache)
{
	const char *folder = test_folder();
	fill(folder, 26);
	struct account *a = help_open(26);
	struct folder *inbox = account_folder(a, FOLDER_INBOX);
	assert_true(rows_flags(&inbox->rows, 3, FLAG_DELETED, 0, 3));
	struct account_live *live;
	assert_int_equal(account_live_get(a, &live), OK);
	a->state_end = 0; /* else it is not worth a new one */
	state_save(a, live->dir_fd);
	struct fsck_totals t = check(26, false);
	assert_int_equal(t.findings[FINDING_STATE_WRONG], 1);
	account_live_put(live);
	account_close(a);
	help_end();
}

FIBER_TEST(large_bodies)
{
	const char *folder = test_folder();
	uint8_t guid[GUID_BYTES];
	char name[BODY_FILE_NAME_BYTES];
	help_begin(folder);
	struct account *a = help_open(27);
	struct body_writer *w;
	struct body *b;
	char line[1000];
	memset(line, 'x', sizeof(line));
	memcpy(line + 998, "\r\n", 2);
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	for (int i = 0; i < 1200; i++)
		assert_int_equal(body_write(w, slice_of(line, sizeof(line))), OK);
	assert_int_equal(body_end(w, &b), OK);
	struct append item = { .folder = FOLDER_INBOX, .body = b };
	struct appended out;
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	memcpy(guid, b->guid, sizeof(guid));
	body_unref(b);
	account_close(a);
	help_end();
	help_begin(folder);
	check(27, false);
	assert_string_equal(heard, "");
	body_file_name(guid, name);
	flip(account_file(folder, 27, name), 600000);
	struct fsck_totals t = check(27, false);
	assert_int_equal(t.findings[FINDING_BODY_DAMAGED], 2);
	assert_int_equal(unlink(account_file(folder, 27, name)), 0);
	t = check(27, false);
	assert_int_equal(t.findings[FINDING_BODY_MISSING], 1);
	help_end();
}

/* The scrubber finds the same while the account is in use, and what it found is not sent. */
static uint64_t alarms;
static bool count_alarms(void *arg, enum log_level level, struct slice line)
{
	(void)arg;
	(void)line;
	alarms += level == LOG_ALARM;
	return true;
}

FIBER_TEST(scrubbed)
{
	const char *folder = test_folder();
	help_begin(folder);
	struct account *a = help_open(28);
	struct body_writer *w;
	struct body *b;
	char line[1000];
	memset(line, 'x', sizeof(line));
	memcpy(line + 998, "\r\n", 2);
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	for (int i = 0; i < 200; i++)
		assert_int_equal(body_write(w, slice_of(line, sizeof(line))), OK);
	assert_int_equal(body_end(w, &b), OK);
	struct append item = { .folder = FOLDER_INBOX, .body = b };
	struct appended out;
	struct view *v;
	struct message_source s;
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
	flip(account_file(folder, 28, "L.1"), 100000);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(message_open(v, 0, &s), OK); /* too long to be verified on its way */
	message_close(&s);
	alarms = 0;
	log_set_sink(count_alarms, NULL);
	scrub_one(28);
	log_set_sink(NULL, NULL);
	assert_int_equal(alarms, 1);
	assert_int_equal(message_open(v, 0, &s), ERR_CORRUPT);
	assert_true(a->logs[0].damaged); /* no compaction takes it away */
	view_close(v);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_wrong),  cmocka_unit_test(a_damaged_body), cmocka_unit_test(a_damaged_record), cmocka_unit_test(a_missing_file),
		cmocka_unit_test(caches_and_strays), cmocka_unit_test(a_lying_cache), cmocka_unit_test(large_bodies), cmocka_unit_test(scrubbed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
