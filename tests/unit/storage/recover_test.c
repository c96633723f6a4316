/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recovery: an account's log cut off at every byte, and with every byte damaged in turn.
 *
 * The log holds an account's first commit, three messages, an expunge and flags, as a killed process left it.  Whatever is done
 * to it, opening it must give exactly the commits that are whole, must go on in a new log, and must not give a UID twice.
 */
#include "tests/unit/storage/store_help.h"

#include "core/base/hash.h"
#include "core/base/log.h"
#include "storage/commit.h"
#include "storage/log.h"

#include <sys/stat.h>
#include <unistd.h>

#define TEXT "Subject: one\r\n\r\nhello\r\n"
#define ID 5u

static char image[1 << 16];
static size_t image_bytes;
static char image_folder[256];

struct seen {
	uint64_t offset[16], bytes[16], heads[16];
	unsigned count;
};
static struct seen commits;

static void see(void *arg, uint64_t offset, const struct commit_header *header, struct slice heads)
{
	(void)arg;
	(void)heads;
	commits.offset[commits.count] = offset;
	commits.heads[commits.count] = header->heads_bytes;
	commits.bytes[commits.count++] = header->bytes;
}

static void path_of(const char *folder, char *out, const char *name)
{
	char account[ACCOUNT_PATH_BYTES];

	account_path(ID, account);
	sprintf(out, "%s/%s/%s", folder, account, name);
}

static void make_dirs(const char *folder)
{
	char path[512], account[ACCOUNT_PATH_BYTES];

	account_path(ID, account);
	for (size_t i = 0; i <= strlen(account); i++)
		if (account[i] == '/' || account[i] == 0) {
			sprintf(path, "%s/%.*s", folder, (int)i, account);
			(void)mkdir(path, 0700);
		}
}

static void put_log(const char *folder, const char *bytes, size_t len)
{
	char path[512];

	for (int n = 1; n < 6; n++) {
		char name[16];
		sprintf(name, "L.%d", n);
		path_of(folder, path, name);
		(void)unlink(path);
	}
	path_of(folder, path, "S");
	(void)unlink(path);
	path_of(folder, path, "L.1");
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bytes, 1, len, f), len);
	fclose(f);
}

/* Makes the image and learns where its commits are. */
static void image_make(void)
{
	char path[512];
	uint64_t modseq;
	const uint32_t uids[3] = { 1, 2, 3 };

	strcpy(image_folder, test_folder());
	help_begin(image_folder);
	struct account *a = help_open(ID);
	for (int i = 0; i < 3; i++)
		help_deliver(a, FOLDER_INBOX, TEXT);
	help_expunge(a, FOLDER_INBOX, 2);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 3, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_int_equal(commit_flush(a), OK);
	account_close(a);
	help_crash();
	path_of(image_folder, path, "L.1");
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	image_bytes = fread(image, 1, sizeof(image), f);
	int fd = file_open(AT_FDCWD, path, O_RDONLY, 0);
	struct log_scan scan = { .fd = fd, .number = 1, .limit = UINT64_MAX, .commit = see };
	struct log_scan_result result;
	commits.count = 0;
	assert_int_equal(log_scan(&scan, &result), OK);
	file_close(fd);
	fclose(f);
	assert_int_equal(commits.count, 6);
	assert_int_equal(result.end, image_bytes);
	assert_int_equal(result.torn_bytes + result.damaged_bytes, 0);
}

static const char *expected(unsigned whole)
{
	static const char *const uids[] = { "", "", "1", "1 2", "1 2 3", "1 3", "1 3" };

	return uids[whole];
}

static void start(const char *folder)
{
	store_config_default(&help_config);
	help_config.data_path = folder;
	help_config.reserve_bytes = 0;
	help_config.scrub_days = 0;
	assert_int_equal(store_start(&help_config), OK);
}

/* Every byte takes half a minute of syncs (RECOVER_ALL=1); else every 7th, and all near a commit's borders. */
static size_t step(size_t at)
{
	size_t to = 7;

	if (getenv("RECOVER_ALL"))
		return 1;
	for (unsigned i = 0; i < commits.count; i++) {
		size_t border = commits.offset[i];
		if (at + 2 >= border && at <= border + 2)
			return 1;
		if (at < border && border - 2 - at < to)
			to = border - 2 - at;
	}
	return to;
}

FIBER_TEST(cut_off_at_every_byte)
{
	log_set_level(LOG_LEVEL_COUNT);
	image_make();
	const char *folder = test_folder();
	make_dirs(folder);
	start(folder);
	for (size_t len = 0; len <= image_bytes; len += step(len)) {
		unsigned whole = 0;
		while (whole < commits.count && commits.offset[whole] + commits.bytes[whole] <= len)
			whole++;
		put_log(folder, image, len);
		struct account *a = help_open(ID);
		assert_string_equal(help_uids(a, FOLDER_INBOX), expected(whole));
		const struct row *row = rows_find(&account_folder(a, FOLDER_INBOX)->rows, 1);
		assert_true(whole < 6 || row->flags & FLAG_SEEN);
		assert_int_equal(a->state, ACCOUNT_OWNED);
		assert_int_equal(a->logs[a->log_count - 1].number, 2);
		/* a torn message may have been told to nobody, but its UID is not given again */
		uint32_t torn = whole >= 1 && whole < 4 && len > commits.offset[whole] + COMMIT_HEADER_BYTES + commits.heads[whole] ? 1 : 0;
		uint32_t uid = help_deliver(a, FOLDER_INBOX, TEXT);
		assert_true(uid > (whole == 0 ? 0 : whole < 4 ? whole - 1 : 3) + torn);
		account_close(a);
		a->state = ACCOUNT_LOST;
		/* and once more, from what it has become */
		a = help_open(ID);
		assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), (whole < 2 ? 0 : whole == 2 ? 1 : whole == 4 ? 3 : 2) + 1);
		account_close(a);
		a->state = ACCOUNT_LOST;
		a = help_open(ID);
		assert_true(help_deliver(a, FOLDER_INBOX, TEXT) > uid);
		account_close(a);
		a->state = ACCOUNT_LOST;
	}
	store_stop();
}

/* Which commit does a byte belong to, and to its heads or its data? */
static unsigned commit_of(size_t at, bool *data_out)
{
	unsigned i = 0;

	while (at >= commits.offset[i] + commits.bytes[i])
		i++;
	*data_out = at >= commits.offset[i] + COMMIT_HEADER_BYTES + commits.heads[i];
	return i;
}

FIBER_TEST(damaged_at_every_byte)
{
	log_set_level(LOG_LEVEL_COUNT);
	image_make();
	const char *folder = test_folder();
	make_dirs(folder);
	start(folder);
	for (size_t at = 0; at < image_bytes; at += step(at)) {
		bool data;
		unsigned hit = commit_of(at, &data);
		char was = image[at];
		struct account *a;
		struct view *v;
		image[at] = (char)(was ^ 0x40);
		put_log(folder, image, image_bytes);
		image[at] = was;
		if (hit == 0) { /* the salt is lost: nothing may be believed, and nothing may be made anew in its place */
			assert_int_equal(account_open(ID, &a), ERR_CORRUPT);
			continue;
		}
		a = help_open(ID);
		assert_int_equal(a->state, ACCOUNT_OWNED);
		assert_false(a->read_only);
		assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
		const char *uids = help_uids(a, FOLDER_INBOX);
		if (data) /* told by the later commits to have been synced: the message is there, but does not read */
			assert_string_equal(uids, "1 3");
		else if (hit == 1 || hit == 3)
			assert_string_equal(uids, hit == 1 ? "3" : "1");
		else if (hit == 2)
			assert_string_equal(uids, "1 3");
		else
			assert_string_equal(uids, hit == 4 ? "1 2 3" : "1 3");
		for (uint32_t i = 0; i < view_count(v); i++) {
			struct message m;
			struct message_source s;
			view_message(v, i, &m);
			enum err e = message_open(v, i, &s);
			bool padding = at >= commits.offset[hit] + COMMIT_HEADER_BYTES + commits.heads[hit] + sizeof(TEXT) - 1;
			assert_int_equal(e, data && !padding && m.uid == hit ? ERR_CORRUPT : OK);
			if (e == OK)
				message_close(&s);
		}
		view_close(v);
		assert_true(help_deliver(a, FOLDER_INBOX, TEXT) > 3);
		account_close(a);
		a->state = ACCOUNT_LOST;
		/* what was damaged is known now: UIDNEXT does not rise again and again */
		a = help_open(ID);
		uint32_t uidnext = account_folder(a, FOLDER_INBOX)->uidnext;
		account_close(a);
		a->state = ACCOUNT_LOST;
		a = help_open(ID);
		assert_int_equal(account_folder(a, FOLDER_INBOX)->uidnext, uidnext);
		account_close(a);
		a->state = ACCOUNT_LOST;
	}
	store_stop();
}

/* The same log as a later version would write it: whole and well sealed, but its open record names a feature that we do not know. */
static void require_feature(uint64_t feature)
{
	_Alignas(8) char heads[4096];
	struct commit_header header;
	size_t at = 0;
	memcpy(&header, image, sizeof header);
	assert_true(header.heads_bytes <= sizeof heads);
	memcpy(heads, image + COMMIT_HEADER_BYTES, header.heads_bytes);
	struct open_fixed open = { 0 };
	for (; at + sizeof open <= header.heads_bytes; at += 8) {
		memcpy(&open, heads + at, sizeof open);
		if (open.format == FORMAT_VERSION && open.account_id == ID && open.log == 1 && !open.required)
			break;
	}
	assert_true(at + sizeof open <= header.heads_bytes);
	open.required = feature;
	memcpy(heads + at, &open, sizeof open);
	struct record_header *record = (struct record_header *)(void *)(heads + at - RECORD_HEADER_BYTES);
	uint64_t seed;
	memcpy(&seed, record, sizeof seed);
	record->hash = hash64(slice_of(heads + at, record->bytes - RECORD_HEADER_BYTES), seed);
	commit_header_put(&header, slice_of(heads, header.heads_bytes), 0, 1, 0, image);
	memcpy(image + COMMIT_HEADER_BYTES, heads, header.heads_bytes);
}

/* It is refused clearly rather than understood wrongly: what can be read is served, nothing is changed (who takes
 * an unsealed account over makes a log of his own, as a fence), and the log stays as it was. */
FIBER_TEST(a_later_versions_feature_makes_it_read_only)
{
	static char after[sizeof image];
	char path[512];
	struct account *a;
	size_t removed;
	const uint32_t uid = 1;
	log_set_level(LOG_LEVEL_COUNT);
	image_make();
	const char *folder = test_folder();
	make_dirs(folder);
	start(folder);
	require_feature(UINT64_C(1) << 40);
	put_log(folder, image, image_bytes);
	enum err e = account_open(ID, &a);
	assert_int_equal(e, OK);
	assert_true(a->read_only);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 3");
	assert_int_equal(account_expunge(a, FOLDER_INBOX, &uid, 1, &removed), ERR_READONLY);
	account_close(a);
	store_stop();
	path_of(folder, path, "L.1");
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_int_equal(fread(after, 1, sizeof after, f), image_bytes);
	fclose(f);
	assert_memory_equal(after, image, image_bytes);
}

/* A hundred thousand messages: the time is told, not asserted. */
FIBER_TEST(opens_many)
{
	const char *folder = test_folder();
	struct append items[200];
	struct appended out[200];

	help_begin(folder);
	struct account *a = help_open(ID);
	struct body *b = help_body(TEXT);
	for (size_t i = 0; i < 200; i++)
		items[i] = (struct append){ .folder = FOLDER_INBOX, .body = b, .prefix = SLICE_LIT("Return-Path: <a@example.org>\r\n"),
			                    .envelope_rcpt = SLICE_LIT("bob@example.net") };
	uint64_t began = clock_fresh_ns();
	for (int i = 0; i < 500; i++)
		assert_int_equal(account_append(a, items, 200, out), OK);
	printf("100,000 appended in %.0f ms; ", (double)(clock_fresh_ns() - began) / 1e6);
	body_unref(b);
	account_close(a);
	help_crash();
	help_begin(folder);
	began = clock_fresh_ns();
	a = help_open(ID);
	printf("replayed in %.0f ms; ", (double)(clock_fresh_ns() - began) / 1e6);
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 100000);
	account_close(a);
	help_end();
	help_begin(folder);
	began = clock_fresh_ns();
	a = help_open(ID);
	printf("from the state file in %.1f ms; %.0f bytes of memory a message\n", (double)(clock_fresh_ns() - began) / 1e6,
	       (double)account_memory_bytes(a) / 100000);
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 100000);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cut_off_at_every_byte),
		cmocka_unit_test(damaged_at_every_byte),
		cmocka_unit_test(a_later_versions_feature_makes_it_read_only),
		cmocka_unit_test(opens_many),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
