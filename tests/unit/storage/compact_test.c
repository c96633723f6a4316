/* SPDX-License-Identifier: Apache-2.0 */
/* Compaction: space comes back, and nothing else changes; memory is what a replay makes of the logs, before and after. */
#include "tests/unit/storage/store_help.h"

#include "storage/commit.h"
#include "storage/compact.h"
#include "storage/fence.h"
#include "storage/folder.h"
#include "storage/recover.h"
#include "storage/structure_private.h"
#include "storage/verify.h"

#define BYTES 150000u

static struct body *big_body(uint32_t number, size_t bytes)
{
	struct body_writer *w;
	struct body *b = NULL;
	char line[100];
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	for (size_t at = 0; at < bytes;) {
		int n = snprintf(line, sizeof(line), at == 0 ? "Subject: %u %zu\r\n\r\n" : "number %u, at %zu, and some more text to fill the line\r\n",
		                 number, at);
		assert_int_equal(body_write(w, slice_of(line, (size_t)n)), OK);
		at += (size_t)n;
	}
	assert_int_equal(body_end(w, &b), OK);
	return b;
}

static uint32_t deliver(struct account *a, uint32_t folder, uint32_t number, size_t bytes)
{
	struct body *b = big_body(number, bytes);
	struct append item = { .folder = folder, .body = b, .prefix = SLICE_LIT("Return-Path: <a@example.org>\r\n"),
		               .envelope_from = SLICE_LIT("a@example.org"), .envelope_rcpt = SLICE_LIT("bob@example.net") };
	struct appended out = { 0 };
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
	return out.uid;
}

/* The wire bytes' hash of every message of a folder, in order. */
static uint64_t folder_hash(struct account *a, uint32_t folder)
{
	struct view *v;
	uint64_t h = 0;
	assert_int_equal(view_open(a, folder, &v), OK);
	for (uint32_t i = 0; i < view_count(v); i++) {
		struct message_source s;
		struct message m;
		view_message(v, i, &m);
		assert_int_equal(message_open(v, i, &s), OK);
		char *bytes = xmalloc(s.bytes + 1);
		assert_int_equal(file_read(s.fd, bytes, s.bytes, s.offset), (int64_t)s.bytes);
		if (s.body)
			assert_memory_equal(bytes, s.body, s.bytes);
		h = hash64(slice_of(bytes, s.bytes), h + m.uid + m.flags + m.modseq + m.size);
		h = hash64(s.prefix, h + s.header_bytes + s.dot_count);
		free(bytes);
		message_close(&s);
	}
	view_close(v);
	return h;
}

static int account_dir(uint64_t id)
{
	char path[ACCOUNT_PATH_BYTES];
	account_path(id, path);
	int fd = file_open(store_self()->data_fd, path, O_RDONLY | O_DIRECTORY, 0);
	assert_true(fd >= 0);
	return fd;
}

/* What is in memory is what a replay without caches makes of the logs. */
static void check_replay(struct account *a)
{
	int fd = account_dir(a->id);
	struct fence_names names;
	uint32_t folder, uid;
	struct account *r = xcalloc(1, sizeof(*r));
	r->id = a->id;
	r->ignore_state = true;
	assert_int_equal(fence_list(fd, &names), OK);
	assert_int_equal(recover_run(r, fd, &names, UINT32_MAX, false), OK);
	if (!verify_same(a, r, &folder, &uid))
		fail_msg("replay differs in folder %u, UID %u", folder, uid);
	for (uint32_t i = 0; i < a->folder_count; i++) {
		assert_int_equal(a->folders[i]->uidnext, r->folders[i]->uidnext);
		assert_true(r->folders[i]->vanished.floor >= a->folders[i]->vanished.floor);
	}
	assert_int_equal(a->last_uidvalidity, r->last_uidvalidity);
	assert_int_equal(a->next_folder, r->next_folder);
	assert_int_equal(a->subscriptions_bytes, r->subscriptions_bytes);
	assert_int_equal(r->repair_count, 0);
	account_forget(r);
	free(r->logs);
	free(r);
	fence_names_release(&names);
	file_close(fd);
}

/* Lets a job that has begun come to its end; starts one if there is a reason. */
static void settle(struct account *a)
{
	a->compact_again_ms = 0;
	compact_consider(a);
	for (int i = 0; i < 30000 && a->compacting; i++) /* a minute: for a busy machine */
		fiber_sleep(2);
	assert_false(a->compacting);
}

static void expunge_range(struct account *a, uint32_t folder, uint32_t first, uint32_t last)
{
	uint32_t uids[256];
	size_t n = 0, removed;
	for (uint32_t uid = first; uid <= last; uid++)
		uids[n++] = uid;
	assert_int_equal(account_expunge(a, folder, uids, n, &removed), OK);
}

static uint64_t disk_bytes(struct account *a)
{
	uint64_t sum = 0;
	for (uint32_t i = 0; i < a->log_count; i++)
		sum += a->logs[i].end;
	return sum;
}

static void restart(const char *folder, struct account **a, bool crash)
{
	uint64_t id = (*a)->id;
	account_close(*a);
	if (crash)
		help_crash();
	else
		help_end();
	help_begin(folder);
	*a = help_open(id);
}

FIBER_TEST(an_emptied_maildrop_costs_nothing)
{
	const char *folder = test_folder();
	help_begin(folder);
	struct account *a = help_open(3);
	for (uint32_t i = 1; i <= 12; i++)
		assert_int_equal(deliver(a, FOLDER_INBOX, i, BYTES), i);
	expunge_range(a, FOLDER_INBOX, 1, 12);
	settle(a);
	assert_true(disk_bytes(a) < 4096);
	assert_int_equal(a->log_count, 1);
	check_replay(a);
	restart(folder, &a, true);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "");
	assert_int_equal(deliver(a, FOLDER_INBOX, 13, 100), 13); /* invariant 6: UIDs are never reused */
	check_replay(a);
	account_close(a);
	help_end();
}

FIBER_TEST(what_is_left_stays_as_it_was)
{
	const char *folder = test_folder();
	struct slice keywords[2] = { SLICE_LIT("$Junk"), SLICE_LIT("work") };
	uint32_t other, third, uids[] = { 5, 15, 16, 25 };
	uint64_t modseq, hash[2];
	help_begin(folder);
	struct account *a = help_open(4);
	assert_int_equal(folder_create(a, SLICE_LIT("Lists/Other"), 0, &other), OK);
	assert_int_equal(folder_create(a, SLICE_LIT("Gone"), 0, &third), OK);
	assert_int_equal(folder_subscribe(a, SLICE_LIT("not/there"), true), OK);
	for (uint32_t i = 1; i <= 30; i++)
		deliver(a, i % 10 == 7 ? other : FOLDER_INBOX, i, BYTES);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 4, FLAGS_ADD, FLAG_SEEN | FLAG_ANSWERED, keywords, 2, &modseq), OK);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids + 1, 2, FLAGS_REMOVE, FLAG_ANSWERED, keywords, 1, &modseq), OK);
	assert_int_equal(folder_delete(a, third), OK);
	assert_int_equal(folder_rename(a, other, SLICE_LIT("Lists/New")), OK);
	struct copy copy = { .from = FOLDER_INBOX, .to = other, .uids = uids, .count = 3 };
	struct appended copied[3];
	assert_int_equal(account_copy(a, &copy, copied), OK);
	check_replay(a);
	expunge_range(a, FOLDER_INBOX, 1, 4);
	expunge_range(a, FOLDER_INBOX, 6, 14);
	expunge_range(a, FOLDER_INBOX, 17, 24);
	hash[0] = folder_hash(a, FOLDER_INBOX);
	hash[1] = folder_hash(a, other);
	uint64_t before = disk_bytes(a);
	settle(a);
	assert_true(disk_bytes(a) < before / 2);
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash[0]);
	assert_int_equal(folder_hash(a, other), hash[1]);
	check_replay(a);
	for (int crash = 0; crash < 2; crash++) {
		restart(folder, &a, crash);
		assert_int_equal(folder_hash(a, FOLDER_INBOX), hash[0]);
		assert_int_equal(folder_hash(a, other), hash[1]);
		struct folder_info info;
		assert_int_equal(folder_find(a, SLICE_LIT("Gone"), &info), ERR_NOT_FOUND);
		assert_int_equal(folder_find(a, SLICE_LIT("Lists/New"), &info), OK);
		check_replay(a);
	}
	account_close(a);
	help_end();
}

/* A body that two messages name is moved once, however far apart they are. */
FIBER_TEST(copies_keep_sharing)
{
	help_begin(test_folder());
	struct account *a = help_open(4);
	uint32_t other, uids[60];
	struct appended out[60];
	assert_int_equal(folder_create(a, SLICE_LIT("Copies"), 0, &other), OK);
	for (uint32_t i = 0; i < 60; i++)
		uids[i] = deliver(a, FOLDER_INBOX, i, BYTES);
	struct copy copy = { .from = FOLDER_INBOX, .to = other, .uids = uids + 40, .count = 20 };
	assert_int_equal(account_copy(a, &copy, out), OK);
	expunge_range(a, FOLDER_INBOX, 1, 40);
	settle(a);
	settle(a);
	assert_true(disk_bytes(a) < 21 * BYTES);
	check_replay(a);
	assert_int_equal(commit_seal(a, SEAL_LET_GO), OK);
	check_replay(a);
	account_close(a);
	help_end();
}

/* Flags and expunges in a log that goes, of messages whose records lie in a lower log that stays. */
FIBER_TEST(a_log_in_the_middle)
{
	const char *folder = test_folder();
	uint32_t some[] = { 2, 3, 9 };
	uint64_t modseq, hash;
	help_begin(folder);
	struct account *a = help_open(5);
	for (uint32_t i = 1; i <= 10; i++)
		deliver(a, FOLDER_INBOX, i, BYTES);
	assert_int_equal(commit_seal(a, SEAL_LET_GO), OK);
	for (uint32_t i = 11; i <= 22; i++)
		deliver(a, FOLDER_INBOX, i, BYTES);
	assert_int_equal(account_flags(a, FOLDER_INBOX, some, 3, FLAGS_SET, FLAG_FLAGGED, NULL, 0, &modseq), OK);
	expunge_range(a, FOLDER_INBOX, 5, 6);
	expunge_range(a, FOLDER_INBOX, 11, 21);
	assert_int_equal(commit_seal(a, SEAL_LET_GO), OK);
	deliver(a, FOLDER_INBOX, 23, 100);
	hash = folder_hash(a, FOLDER_INBOX);
	settle(a);
	assert_int_equal(a->logs[0].number, 1);
	assert_false(a->logs[0].stub);
	assert_true(a->log_count == 2 || a->logs[1].stub);
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash);
	check_replay(a);
	restart(folder, &a, true);
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "1 2 3 4 7 8 9 10 22 23");
	check_replay(a);
	/* and when the lowest goes, too, the tombstones are not needed any more */
	expunge_range(a, FOLDER_INBOX, 1, 10);
	settle(a);
	settle(a);
	assert_string_equal(help_uids(a, FOLDER_INBOX), "22 23");
	check_replay(a);
	assert_true(disk_bytes(a) < 3 * BYTES);
	account_close(a);
	help_end();
}

FIBER_TEST(small_logs_are_merged)
{
	const char *folder = test_folder();
	help_begin(folder);
	struct account *a = help_open(6);
	uint32_t uid = 3;
	uint64_t modseq;
	for (uint32_t i = 1; i <= 40; i++) {
		deliver(a, FOLDER_INBOX, i, 2000);
		if (i % 3 == 0)
			assert_int_equal(account_flags(a, FOLDER_INBOX, &uid, 1, FLAGS_ADD, 1u << (i % 5), NULL, 0, &modseq), OK);
		restart(folder, &a, i % 2);
		settle(a);
		check_replay(a);
	}
	assert_true(a->log_count <= COMPACT_SMALL_LOGS_MAX + 4);
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 40);
	account_close(a);
	help_end();
}

FIBER_TEST(a_view_keeps_what_it_shows)
{
	help_begin(test_folder());
	struct account *a = help_open(8);
	for (uint32_t i = 1; i <= 12; i++)
		deliver(a, FOLDER_INBOX, i, BYTES);
	struct view *v;
	struct message_source s;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	expunge_range(a, FOLDER_INBOX, 2, 12);
	settle(a);
	for (uint32_t i = 0; i < 12; i++) { /* expunged ones, too */
		assert_int_equal(message_open(v, i, &s), OK);
		message_close(&s);
	}
	assert_true(disk_bytes(a) > 12 * BYTES);
	assert_int_equal(message_open(v, 0, &s), OK);
	view_close(v);
	settle(a);
	assert_true(disk_bytes(a) < 2 * BYTES);
	/* the log is gone, a send in flight still has it */
	char first[32];
	assert_int_equal(file_read(s.fd, first, sizeof(first), s.offset), sizeof(first));
	assert_memory_equal(first, "Subject: 1 0\r\n", 14);
	message_close(&s);
	check_replay(a);
	account_close(a);
	help_end();
}

/* Changes arrive while a job is at work. */
struct busy {
	struct account *a;
	bool stop, done;
	uint32_t uid_next, expunged;
};

static void busy_fiber(void *arg)
{
	struct busy *b = arg;
	uint64_t modseq;
	while (!b->stop) {
		uint32_t uid = deliver(b->a, FOLDER_INBOX, b->uid_next, 5000);
		size_t removed;
		assert_int_equal(account_flags(b->a, FOLDER_INBOX, &uid, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
		uint32_t old = 100 + b->expunged++;
		assert_int_equal(account_expunge(b->a, FOLDER_INBOX, &old, 1, &removed), OK);
		b->uid_next++;
	}
	b->done = true;
}

FIBER_TEST(under_load)
{
	const char *folder = test_folder();
	help_begin(folder);
	struct account *a = help_open(9);
	struct busy b = { .a = a, .uid_next = 1000 };
	for (uint32_t i = 1; i <= 300; i++)
		deliver(a, FOLDER_INBOX, i, 20000);
	expunge_range(a, FOLDER_INBOX, 1, 60);
	expunge_range(a, FOLDER_INBOX, 160, 300);
	assert_int_equal(fiber_start("busy", busy_fiber, &b), OK);
	settle(a);
	b.stop = true;
	while (!b.done)
		fiber_sleep(1);
	settle(a);
	check_replay(a);
	uint64_t hash = folder_hash(a, FOLDER_INBOX);
	restart(folder, &a, true);
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash);
	check_replay(a);
	account_close(a);
	help_end();
}

/* Somebody else takes the account while a job is about to begin: its commit does not pass the look, so nothing becomes a stub (F12). */
FIBER_TEST(a_fenced_owner_stubs_nothing)
{
	help_begin(test_folder());
	struct account *a = help_open(10);
	struct file_info before, after;
	for (uint32_t i = 1; i <= 12; i++)
		deliver(a, FOLDER_INBOX, i, BYTES);
	struct view *v;
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK); /* keeps the job away for now */
	expunge_range(a, FOLDER_INBOX, 2, 12);
	assert_int_equal(commit_seal(a, SEAL_LET_GO), OK);
	deliver(a, FOLDER_INBOX, 13, 100);
	settle(a);
	int dir = account_dir(10), next = file_create_excl(dir, "L.3", 0600);
	assert_true(next >= 0);
	file_close(next);
	assert_int_equal(file_stat_name(dir, "L.1", &before), 0);
	a->compact_again_ms = 0;
	view_close(v);
	for (int i = 0; i < 30000 && a->compacting; i++) /* a minute: for a busy machine */
		fiber_sleep(2);
	assert_int_equal(a->state, ACCOUNT_LOST);
	assert_int_equal(file_stat_name(dir, "L.1", &after), 0);
	assert_int_equal(after.inode, before.inode);
	assert_int_equal(after.bytes, before.bytes);
	file_close(dir);
	account_close(a);
	help_crash();
}

/* ---- structures ---- */

/* A message that says much in its header; `version`: of the program that stored it, 0 for one before there were structures. */
static uint32_t deliver_noted(struct account *a, uint32_t number, size_t bytes, uint16_t version)
{
	struct body_writer *w;
	struct body *b = NULL;
	char text[2048];
	int n = snprintf(text, sizeof(text), "From: \"Person %u\" <person-%u@example.org>\r\nTo: %0200u@example.net\r\nSubject: number %u\r\nReferences: %0300u@x\r\n\r\nHello.\r\n",
	                 number, number, number, number, number);
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	for (size_t at = 0; at == 0 || at < bytes; at += (size_t)n)
		assert_int_equal(body_write(w, slice_of(text, (size_t)n)), OK);
	assert_int_equal(body_end(w, &b), OK);
	if (version == STRUCTURE_NONE)
		structure_stored_release(&b->structure);
	b->structure.version = version;
	struct append item = { .folder = FOLDER_INBOX, .body = b, .envelope_from = SLICE_LIT(""), .envelope_rcpt = SLICE_LIT("") };
	struct appended out = { 0 };
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
	return out.uid;
}

/* Is the structure stored with the message at this place of INBOX, and is it the right one? */
static bool noted(struct account *a, uint32_t index)
{
	struct view *v;
	struct message_source m;
	struct message row;
	char subject[32];
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), OK);
	assert_int_equal(message_look(v, index, &m), OK);
	bool stored = !structure_stale(m.record);
	const struct structure *s = structure_known(&m);
	assert_true(!stored || s);
	if (!s) {
		assert_int_equal(message_fill(v, index, &m), OK);
		assert_int_equal(structure_open(&m, &s), OK);
	}
	view_message(v, index, &row);
	snprintf(subject, sizeof(subject), "NUMBER %u", row.uid);
	assert_true(slice_eq(s->keys.subject, slice_str(subject)));
	assert_true(slice_starts_nocase(s->preview, SLICE_LIT("Hello.")));
	assert_int_equal(s->tree->parts[0].body_bytes + s->tree->parts[0].body_offset, m.bytes);
	structure_close(s);
	message_close(&m);
	view_close(v);
	return stored;
}

/* They move with their bodies; those of another version, or none, are made anew when their bodies are written again. */
FIBER_TEST(structures_move_along_and_are_renewed)
{
	static const uint16_t versions[] = { STRUCTURE_VERSION, STRUCTURE_NONE, STRUCTURE_VERSION + 1 };
	const char *folder = test_folder();
	help_begin(folder);
	struct account *a = help_open(11);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(deliver_noted(a, i + 1, 0, versions[i]), i + 1);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(deliver_noted(a, i + 4, MIB(2), versions[i]), i + 4); /* files of their own */
	for (uint32_t i = 7; i <= 30; i++)
		deliver_noted(a, i, BYTES, versions[i % 3]);
	for (uint32_t i = 0; i < 6; i++)
		assert_int_equal(noted(a, i), i % 3 == 0);
	expunge_range(a, FOLDER_INBOX, 10, 30);
	uint64_t hash = folder_hash(a, FOLDER_INBOX);
	settle(a);
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash);
	check_replay(a);
	for (uint32_t i = 0; i < 9; i++)
		assert_true(noted(a, i));
	restart(folder, &a, true);
	for (uint32_t i = 0; i < 9; i++)
		assert_true(noted(a, i));
	assert_int_equal(folder_hash(a, FOLDER_INBOX), hash);
	account_close(a);
	help_end();
}

/* Most of a log of small messages are their structures: they are alive with them, and the log is left alone. */
FIBER_TEST(what_lives_with_small_messages_is_counted)
{
	help_begin(test_folder());
	struct account *a = help_open(12);
	for (uint32_t i = 1; i <= 2200; i++)
		deliver_noted(a, i, 0, STRUCTURE_VERSION);
	const struct log *log = &a->logs[0];
	assert_true(log->end > 2 * COMPACT_DEAD_BYTES_MIN);
	assert_true(log->live_bytes > log->end / 4 * 3 && log->live_bytes < log->end / 4 * 5);
	assert_int_equal(commit_seal(a, SEAL_LET_GO), OK);
	deliver_noted(a, 2201, 0, STRUCTURE_VERSION);
	uint64_t before = disk_bytes(a);
	settle(a);
	assert_int_equal(disk_bytes(a), before);
	assert_int_equal(a->logs[0].number, 1);
	check_replay(a);
	for (uint32_t first = 1; first <= 1500; first += 250)
		expunge_range(a, FOLDER_INBOX, first, first + 249);
	settle(a);
	assert_true(disk_bytes(a) < before / 2);
	check_replay(a);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_emptied_maildrop_costs_nothing), cmocka_unit_test(what_is_left_stays_as_it_was),
		cmocka_unit_test(copies_keep_sharing),               cmocka_unit_test(a_log_in_the_middle),
		cmocka_unit_test(small_logs_are_merged),             cmocka_unit_test(a_view_keeps_what_it_shows),
		cmocka_unit_test(under_load),                        cmocka_unit_test(a_fenced_owner_stubs_nothing),
		cmocka_unit_test(structures_move_along_and_are_renewed),
		cmocka_unit_test(what_lives_with_small_messages_is_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
