/* SPDX-License-Identifier: Apache-2.0 */
/* State files: what they say is what a replay says; and whatever is wrong with one, the account opens as without it. */
#include "tests/unit/storage/store_help.h"

#include "storage/commit.h"
#include "storage/fence.h"
#include "storage/folder.h"
#include "storage/keyword.h"
#include "storage/recover.h"
#include "storage/state.h"
#include "storage/verify.h"

static int account_dir(uint64_t id)
{
	char path[ACCOUNT_PATH_BYTES];
	account_path(id, path);
	int fd = file_open(store_self()->data_fd, path, O_RDONLY | O_DIRECTORY, 0);
	assert_true(fd >= 0);
	return fd;
}

static struct account *load(int dir_fd, uint64_t id, bool ignore_state)
{
	struct fence_names names;
	struct account *a = xcalloc(1, sizeof(*a));
	a->id = id;
	a->ignore_state = ignore_state;
	assert_int_equal(fence_list(dir_fd, &names), OK);
	assert_int_equal(recover_run(a, dir_fd, &names, UINT32_MAX, false), OK);
	fence_names_release(&names);
	a->state = ACCOUNT_SEALED;
	return a;
}

static void unload(struct account *a)
{
	account_forget(a);
	free(a->logs);
	free(a->repairs);
	free(a);
}

static void check_same(const struct account *x, const struct account *y)
{
	uint32_t folder, uid;
	if (!verify_same(x, y, &folder, &uid))
		fail_msg("differs in folder %u, UID %u", folder, uid);
	assert_int_equal(x->sequence, y->sequence);
	assert_int_equal(x->next_folder, y->next_folder);
	assert_int_equal(x->last_uidvalidity, y->last_uidvalidity);
	assert_int_equal(x->subscriptions_bytes, y->subscriptions_bytes);
	for (uint32_t i = 0; i < x->folder_count; i++) {
		const struct vanished *v = &x->folders[i]->vanished, *w = &y->folders[i]->vanished;
		assert_int_equal(x->folders[i]->uidnext, y->folders[i]->uidnext);
		assert_int_equal(v->count, w->count);
		assert_int_equal(v->floor, w->floor);
		if (v->count)
			assert_memory_equal(v->at, w->at, v->count * sizeof(*v->at));
	}
	for (uint32_t i = 0; i < x->log_count; i++)
		assert_int_equal(x->logs[i].live_bytes, y->logs[i].live_bytes);
}

/* Folders, flags, keywords, copies, literal UIDLs, expunged ranges. */
static void fill(struct account *a)
{
	struct slice keywords[2] = { SLICE_LIT("$Junk"), SLICE_LIT("work") };
	uint32_t other, uids[] = { 2, 5, 9 };
	uint64_t modseq;
	assert_int_equal(folder_create(a, SLICE_LIT("Sent"), FOLDER_USE_SENT, &other), OK);
	assert_int_equal(folder_subscribe(a, SLICE_LIT("else/where"), true), OK);
	for (int i = 0; i < 10; i++) {
		help_deliver(a, FOLDER_INBOX, "Subject: x\r\n\r\ntext\r\n");
		help_deliver(a, other, "Subject: y\r\n\r\n.text\r\n");
	}
	struct body *b = help_body("Subject: imported\r\n\r\n");
	struct append item = { .folder = FOLDER_INBOX, .body = b, .uid = 100, .uidl = SLICE_LIT("UID100-7"), .flags = FLAG_SEEN };
	struct appended out;
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	body_unref(b);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 3, FLAGS_ADD, FLAG_SEEN, keywords, 2, &modseq), OK);
	assert_int_equal(account_flags(a, FOLDER_INBOX, uids, 1, FLAGS_REMOVE, 0, keywords, 1, &modseq), OK);
	struct copy copy = { .from = FOLDER_INBOX, .to = other, .uids = uids, .count = 2 };
	struct appended copied[2];
	assert_int_equal(account_copy(a, &copy, copied), OK);
	help_expunge(a, FOLDER_INBOX, 3);
	help_expunge(a, other, 7);
}

/* An account with a state file and a few commits behind it. Returns its directory. */
static int make(const char *folder, uint64_t id)
{
	help_begin(folder);
	struct account *a = help_open(id);
	fill(a);
	account_close(a);
	help_end(); /* seals, and saves */
	help_begin(folder);
	a = help_open(id);
	help_deliver(a, FOLDER_INBOX, "Subject: later\r\n\r\n");
	help_expunge(a, FOLDER_INBOX, 4);
	account_close(a);
	return account_dir(id);
}

FIBER_TEST(says_what_a_replay_says)
{
	int fd = make(test_folder(), 11);
	struct account *with = load(fd, 11, false), *without = load(fd, 11, true);
	assert_true(with->state_end > 0);
	assert_int_equal(without->state_end, 0);
	check_same(with, without);
	assert_true(slice_eq(rows_uidl(&account_folder(with, FOLDER_INBOX)->rows, 100), SLICE_LIT("UID100-7")));
	unload(with);
	/* and again, from one that was written now */
	state_save(without, fd);
	with = load(fd, 11, false);
	assert_int_equal(with->state_end, without->last.end);
	check_same(with, without);
	unload(with);
	unload(without);
	file_close(fd);
	help_end();
}

static void write_state(int dir_fd, const char *bytes, size_t len)
{
	int fd = file_open(dir_fd, STATE_NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	struct iovec iov = { (void *)(uintptr_t)bytes, len };
	assert_true(fd >= 0);
	assert_int_equal(file_write(fd, &iov, 1, 0), 0);
	file_close(fd);
}

FIBER_TEST(wrong_at_every_byte)
{
	int fd = make(test_folder(), 12);
	struct account *without = load(fd, 12, true);
	struct file_info info;
	int file = file_open(fd, STATE_NAME, O_RDONLY, 0);
	assert_int_equal(file_stat(file, &info), 0);
	char *good = xmalloc(info.bytes), *bad = xmalloc(info.bytes);
	assert_int_equal(file_read(file, good, info.bytes, 0), (int64_t)info.bytes);
	file_close(file);
	for (size_t i = 0; i < info.bytes; i++) {
		memcpy(bad, good, info.bytes);
		bad[i] = (char)(bad[i] ^ (1 << (i % 8)));
		write_state(fd, bad, info.bytes);
		struct account *a = load(fd, 12, false);
		assert_int_equal(a->state_end, 0);
		check_same(a, without);
		unload(a);
	}
	for (size_t i = 0; i < info.bytes; i++) { /* torn */
		write_state(fd, good, i);
		struct account *a = load(fd, 12, false);
		assert_int_equal(a->state_end, 0);
		unload(a);
	}
	assert_int_equal(file_unlink(fd, STATE_NAME), 0);
	struct account *a = load(fd, 12, false);
	assert_int_equal(a->state_end, 0);
	check_same(a, without);
	unload(a);
	/* the good one counts again: none of the above failed for another reason */
	write_state(fd, good, info.bytes);
	a = load(fd, 12, false);
	assert_true(a->state_end > 0);
	check_same(a, without);
	unload(a);
	unload(without);
	free(good);
	free(bad);
	file_close(fd);
	help_end();
}

/* A body whose hashes are right, but which says nonsense: it must not crash, nor be half believed. */
FIBER_TEST(nonsense_with_right_hashes)
{
	int fd = make(test_folder(), 13);
	struct account *without = load(fd, 13, true);
	struct buf body;
	buf_init(&body, MIB(1));
	assert_true(state_encode(without, &body));
	char *good = xmalloc(body.len);
	memcpy(good, body.ptr, body.len);
	for (size_t i = 0; i < body.len; i++)
		for (int bit = 0; bit < 8; bit++) {
			struct account *a = xcalloc(1, sizeof(*a));
			memcpy(body.ptr, good, body.len);
			body.ptr[i] = (char)(body.ptr[i] ^ (1 << bit));
			(void)state_decode(a, buf_slice(&body));
			account_forget(a);
			free(a);
			a = xcalloc(1, sizeof(*a));
			assert_false(state_decode(a, slice_of(good, i))); /* cut short */
			account_forget(a);
			free(a);
		}
	free(good);
	buf_release(&body);
	unload(without);
	file_close(fd);
	help_end();
}

/* Right in itself, but of another time or account. */
FIBER_TEST(stale_and_foreign)
{
	const char *folder = test_folder();
	int fd = make(folder, 14), other;
	struct account *without = load(fd, 14, true);
	struct file_info info;
	int file = file_open(fd, STATE_NAME, O_RDONLY, 0);
	assert_int_equal(file_stat(file, &info), 0);
	char *good = xmalloc(info.bytes);
	assert_int_equal(file_read(file, good, info.bytes, 0), (int64_t)info.bytes);
	file_close(file);
	struct account *b = help_open(15);
	help_deliver(b, FOLDER_INBOX, "Subject: b\r\n\r\n");
	other = account_dir(15);
	write_state(other, good, info.bytes); /* another account's */
	struct account *a = load(other, 15, false);
	assert_int_equal(a->state_end, 0);
	assert_int_equal(a->messages, 1);
	unload(a);
	account_close(b);
	/* its log has become a stub, or shorter than it says */
	struct state_header h;
	memcpy(&h, good, sizeof(h));
	a = xcalloc(1, sizeof(*a));
	a->id = 14;
	a->logs = xcalloc(1, sizeof(*a->logs));
	a->log_count = 1;
	a->logs[0] = (struct log){ .number = (uint32_t)h.log, .end = h.end };
	assert_int_equal(state_load(a, fd), OK);
	account_forget(a);
	a->logs[0].end = h.end - 8;
	assert_int_equal(state_load(a, fd), ERR_NOT_FOUND);
	a->logs[0].end = h.end;
	a->logs[0].stub = true;
	assert_int_equal(state_load(a, fd), ERR_NOT_FOUND);
	a->logs[0].stub = false;
	a->logs[0].number++;
	assert_int_equal(state_load(a, fd), ERR_NOT_FOUND);
	assert_int_equal(a->folder_count, 0); /* nothing was changed */
	unload(a);
	free(good);
	unload(without);
	file_close(fd);
	file_close(other);
	help_end();
}

static uint64_t state_inode(int dir_fd)
{
	struct file_info info;
	assert_int_equal(file_stat_name(dir_fd, STATE_NAME, &info), 0);
	return info.inode;
}

/* A new one is written when the logs have grown by a part of the last, or when that does not count any more. */
FIBER_TEST(written_when_worth_it)
{
	int fd = make(test_folder(), 16);
	struct account *a = load(fd, 16, false);
	uint64_t was = state_inode(fd);
	a->state_bytes = 1000000; /* as if it were large */
	state_save(a, fd);
	assert_int_equal(state_inode(fd), was);
	a->logs[a->log_count - 1].end += 100000;
	state_save(a, fd);
	assert_int_not_equal(state_inode(fd), was);
	was = state_inode(fd);
	a->state_bytes = 1000000;
	account_log(a, a->state_log)->stub = true;
	state_save(a, fd);
	assert_int_not_equal(state_inode(fd), was);
	unload(a);
	file_close(fd);
	help_end();
}

/* What a large folder costs: printed, and bounded. */
FIBER_TEST(a_large_folder_is_small_on_disk)
{
	help_begin(test_folder());
	struct account *a = xcalloc(1, sizeof(*a)), *b = xcalloc(1, sizeof(*b));
	struct folder *f = folder_add(a, FOLDER_INBOX, SLICE_LIT("INBOX"));
	uint32_t folder, uid, count = 200000;
	struct buf body;
	for (uint32_t i = 1; i <= count; i++) {
		struct row row = { .uid = i, .size = 3000 + i % 50000, .modseq = 1000 + i, .record_log = 1 + i / 3000, .record_offset = (i % 3000) * 20480 + 400,
			           .body_log = 1 + i / 3000, .body_offset = (i % 3000) * 20480 + 64, .rcpt_hash = i & 0xffff };
		rows_append(&f->rows, &row);
		a->bytes += row.size;
		f->unseen++;
	}
	a->messages = count;
	buf_init(&body, STATE_BYTES_MAX);
	uint64_t start = clock_fresh_ns();
	assert_true(state_encode(a, &body));
	uint64_t middle = clock_fresh_ns();
	assert_true(state_decode(b, buf_slice(&body)));
	uint64_t end = clock_fresh_ns();
	assert_true(verify_same(a, b, &folder, &uid));
	print_message("%.1f bytes a message; encode %.0f ns, decode %.0f ns each\n", (double)body.len / count, (double)(middle - start) / count,
	              (double)(end - middle) / count);
	assert_true(body.len < 20u * count);
	buf_release(&body);
	account_forget(a);
	account_forget(b);
	free(a);
	free(b);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(says_what_a_replay_says), cmocka_unit_test(wrong_at_every_byte), cmocka_unit_test(nonsense_with_right_hashes),
		cmocka_unit_test(stale_and_foreign), cmocka_unit_test(written_when_worth_it),
		cmocka_unit_test(a_large_folder_is_small_on_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
