/* SPDX-License-Identifier: Apache-2.0 */
/* Where stored bytes are: descriptors are bounded and outlive what they were opened for; SDPS views; what an opening costs. */
#include "tests/unit/storage/store_help.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "storage/commit.h"
#include "storage/source.h"
#include "storage/structure.h"

#include <unistd.h>

static size_t open_descriptors(void)
{
	size_t n = 0;
	char path[64];
	for (int fd = 0; fd < 1024; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		n += access(path, F_OK) == 0;
	}
	return n;
}

static void add_opens(void *arg, const struct metric_value *v)
{
	if (strcmp(v->metric->name, "store_files_opened_total") == 0)
		*(int64_t *)arg = v->value;
}

static int64_t opens(void)
{
	int64_t n = -1;
	metrics_walk(add_opens, &n);
	return n;
}

FIBER_TEST(descriptors_are_bounded)
{
	struct account *a[24];
	struct view *v[24];
	struct message_source s[24];
	help_begin(test_folder());
	help_end();
	help_config.log_fds_max = 8;
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
	for (uint64_t i = 0; i < 24; i++) {
		a[i] = help_open(100 + i);
		help_deliver(a[i], FOLDER_INBOX, "Subject: x\r\n\r\ntext\r\n");
		assert_int_equal(view_open(a[i], FOLDER_INBOX, &v[i]), OK);
	}
	size_t before = open_descriptors();
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 24; i++) {
			assert_int_equal(message_open(v[i], 0, &s[0]), OK);
			message_close(&s[0]);
		}
	assert_true(open_descriptors() <= before + 8);
	/* the same one again costs no open */
	int64_t n = opens();
	for (int i = 0; i < 50; i++) {
		assert_int_equal(message_open(v[23], 0, &s[0]), OK);
		message_close(&s[0]);
	}
	assert_int_equal(opens(), n);
	/* those in use are never taken away */
	for (int i = 0; i < 24; i++)
		assert_int_equal(message_open(v[i], 0, &s[i]), OK);
	for (int i = 0; i < 24; i++) {
		char text[8];
		assert_int_equal(file_read(s[i].fd, text, 8, s[i].offset), 8);
		assert_memory_equal(text, "Subject:", 8);
	}
	for (int i = 0; i < 24; i++) {
		source_forget(a[i]);
		message_close(&s[i]);
		view_close(v[i]);
		account_close(a[i]);
	}
	assert_true(open_descriptors() <= before + 8);
	help_end();
}

/* A name that leads to another file than the one that was read is nobody's. */
FIBER_TEST(only_the_file_that_was_read)
{
	const char *folder = test_folder();
	char account[ACCOUNT_PATH_BYTES], log[256], other[256], command[1200];
	struct view *v;
	struct message_source s;
	help_begin(folder);
	struct account *a = help_open(5);
	help_deliver(a, FOLDER_INBOX, "Subject: x\r\n\r\ntext\r\n");
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	account_path(5, account);
	snprintf(log, sizeof(log), "%s/%s/L.1", folder, account);
	snprintf(other, sizeof(other), "%s/%s/copy", folder, account);
	snprintf(command, sizeof(command), "cp %s %s && mv %s %s", log, other, other, log);
	assert_int_equal(system(command), 0);
	assert_int_equal(message_open(v, 0, &s), ERR_FENCED);
	assert_int_equal(unlink(log), 0);
	assert_int_equal(message_open(v, 0, &s), ERR_FENCED);
	view_close(v);
	account_close(a);
	help_crash();
}

static void deliver_to(struct account *a, const char *rcpt)
{
	struct body *b = help_body("Subject: x\r\n\r\ntext\r\n");
	struct append item = { .folder = FOLDER_INBOX, .body = b, .envelope_rcpt = slice_str(rcpt) };
	struct appended out;
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
}

FIBER_TEST(one_recipient_of_many)
{
	struct view *v;
	struct message m;
	struct message_source s;
	help_begin(test_folder());
	struct account *a = help_open(6);
	for (int i = 0; i < 10; i++) {
		deliver_to(a, i % 2 ? "ann@host.example.net" : "bob@host.example.net");
		deliver_to(a, i == 3 ? "" : "Ann.Other@host.example.net");
	}
	assert_int_equal(view_open_for(a, FOLDER_INBOX, SLICE_LIT("ANN"), &v), OK);
	assert_int_equal(view_count(v), 5);
	for (uint32_t i = 0; i < 5; i++) {
		view_message(v, i, &m);
		assert_int_equal(m.uid, 4 * i + 3);
		assert_int_equal(message_open(v, i, &s), OK);
		assert_true(slice_eq(s.envelope_rcpt, SLICE_LIT("ann@host.example.net")));
		message_close(&s);
	}
	view_close(v);
	assert_int_equal(view_open_for(a, FOLDER_INBOX, SLICE_LIT("nobody"), &v), OK);
	assert_int_equal(view_count(v), 0);
	assert_int_equal(view_bytes(v), 0);
	view_close(v);
	assert_int_equal(view_open(a, 99, &v), ERR_NOT_FOUND);
	account_close(a);
	help_end();
}

/* Long prefixes, many dots: records longer than the first guess. */
FIBER_TEST(records_of_any_length)
{
	struct view *v;
	struct message_source s;
	char *prefix = xmalloc(60000), *text = xmalloc(20000);
	help_begin(test_folder());
	struct account *a = help_open(7);
	memset(prefix, 'p', 60000);
	for (size_t at = 998; at < 60000; at += 1000)
		memcpy(prefix + at, "\r\n", 2);
	size_t len = 0;
	for (int i = 0; i < 1000; i++)
		len += (size_t)sprintf(text + len, ".%d\r\n", i);
	for (int i = 0; i < 4; i++) {
		struct body *b = help_body(i % 2 ? text : "x\r\n");
		struct append item = { .folder = FOLDER_INBOX, .body = b, .prefix = slice_of(prefix, i < 2 ? 60000 : 0) };
		struct appended out;
		assert_int_equal(account_append(a, &item, 1, &out), OK);
		body_unref(b);
	}
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	for (uint32_t i = 0; i < 4; i++) {
		assert_int_equal(message_open(v, i, &s), OK);
		assert_true(slice_eq(s.prefix, slice_of(prefix, i < 2 ? 60000 : 0)));
		assert_int_equal(s.dot_count, i % 2 ? 1000 : 0);
		for (uint32_t d = 0; d < s.dot_count; d++) {
			char c;
			assert_int_equal(file_read(s.fd, &c, 1, s.offset + s.dots[d]), 1);
			assert_int_equal(c, '.');
		}
		if (s.body)
			assert_memory_equal(s.body, i % 2 ? text : "x\r\n", s.bytes);
		message_close(&s);
	}
	view_close(v);
	account_close(a);
	free(prefix);
	free(text);
	help_end();
}

FIBER_TEST(what_an_opening_costs)
{
	struct view *v;
	struct message_source s;
	char *text = xmalloc(20001);
	help_begin(test_folder());
	struct account *a = help_open(8);
	memset(text, 'x', 20000);
	text[20000] = 0;
	help_deliver(a, FOLDER_INBOX, "x\r\n");
	help_deliver(a, FOLDER_INBOX, text);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	for (uint32_t i = 0; i < 2; i++) {
		uint64_t start = clock_fresh_ns();
		for (int n = 0; n < 2000; n++) {
			assert_int_equal(message_open(v, i, &s), OK);
			assert_non_null(s.body);
			message_close(&s);
		}
		print_message("%s: %.1f us\n", i ? "20 KB" : "3 bytes", (double)(clock_fresh_ns() - start) / 2e6);
	}
	view_close(v);
	account_close(a);
	free(text);
	help_end();
}

/* ---- walks that read ahead ---- */

static void looks_right(struct view *v, uint32_t index)
{
	struct message_source m;
	struct message row;
	char subject[32];
	view_message(v, index, &row);
	assert_int_equal(message_look(v, index, &m), OK);
	assert_true(m.fd == -1 && !m.body);
	const struct structure *s = structure_known(&m);
	assert_non_null(s);
	snprintf(subject, sizeof(subject), "NUMBER %u", row.uid);
	assert_true(slice_eq(s->keys.subject, slice_str(subject)));
	structure_close(s);
	message_close(&m);
}

static void deliver_numbered(struct account *a, uint32_t uid)
{
	char text[16384];
	int n = snprintf(text, sizeof(text), "Subject: number %u\r\n\r\n", uid);
	memset(text + n, 'x', uid * 97 % 9000); /* some steps are too far to read ahead */
	snprintf(text + n + uid * 97 % 9000, 8, "\r\n");
	assert_int_equal(help_deliver(a, FOLDER_INBOX, text), uid);
}

/* More walks than pieces, forwards, backwards and at random, while messages arrive, and after their logs have been written anew. */
FIBER_TEST(walks_find_what_is_there)
{
	enum { WALKS = 6, MESSAGES = 120 };
	struct account *a[WALKS];
	struct view *v[WALKS];
	uint32_t random = 1;
	help_begin(test_folder());
	for (uint32_t i = 0; i < WALKS; i++) {
		a[i] = help_open(i + 1);
		for (uint32_t uid = 1; uid <= MESSAGES; uid++)
			deliver_numbered(a[i], uid);
		assert_int_equal(view_open(a[i], FOLDER_INBOX, &v[i]), OK);
	}
	for (uint32_t i = 0; i < WALKS; i++)
		for (uint32_t k = 0; k < MESSAGES; k++)
			looks_right(v[i], i % 2 ? MESSAGES - 1 - k : k);
	for (uint32_t k = 0; k < MESSAGES; k++)
		for (uint32_t i = 0; i < WALKS; i++) {
			random = random * 1103515245 + 12345;
			looks_right(v[i], i < 2 ? k : random / 65536 % MESSAGES);
		}
	view_close(v[0]);
	for (uint32_t uid = MESSAGES + 1; uid <= MESSAGES + 40; uid++) { /* what was read to the end of the log has more behind it now */
		deliver_numbered(a[0], uid);
		assert_int_equal(view_open(a[0], FOLDER_INBOX, &v[0]), OK);
		looks_right(v[0], uid - 3);
		looks_right(v[0], uid - 2);
		looks_right(v[0], uid - 1);
		view_close(v[0]);
	}
	assert_int_equal(commit_seal(a[0], SEAL_LET_GO), OK);
	deliver_numbered(a[0], MESSAGES + 41);
	assert_int_equal(view_open(a[0], FOLDER_INBOX, &v[0]), OK);
	for (uint32_t k = 0; k <= MESSAGES + 40; k++)
		looks_right(v[0], k);
	for (uint32_t i = 0; i < WALKS; i++) {
		view_close(v[i]);
		account_close(a[i]);
	}
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(descriptors_are_bounded), cmocka_unit_test(only_the_file_that_was_read), cmocka_unit_test(one_recipient_of_many),
		cmocka_unit_test(records_of_any_length),   cmocka_unit_test(what_an_opening_costs),
		cmocka_unit_test(walks_find_what_is_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
