/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: two owners of one directory, their steps interleaved, and what the later one must see.
 *
 * Each owner is a small script of fence.c's calls, in the order of the rules.  Every interleaving of the two is tried.  Whatever one
 * of them was told to be true (its look passed) must lie below the end that the later one reads, and never do both go on.
 */
#include "tests/unit/storage/store_help.h"

#include "storage/fence.h"
#include "storage/log.h"

#include <errno.h>

#define STEPS 5

struct owner {
	int dir_fd, fd;
	uint32_t number;
	uint64_t end_read;        /* of the log below: its last whole commit */
	bool acknowledged;        /* a commit after the cut passed the look */
	bool owns, gone;
	struct buf heads;
	struct commit_header cut;
	int step;
};

static const uint8_t incarnation[16];

/* A commit with one fact, behind the cut. */
static enum err append_fact(struct owner *o)
{
	char bytes[COMMIT_HEADER_BYTES], own[LOG_NAME_BYTES], next[LOG_NAME_BYTES];
	struct fact_record fact = { .fixed = { .kind = FACT_SEQUENCE, .value = 1 } };
	struct commit_header h = { .sequence = 2, .records = 1, .previous_end = o->cut.bytes, .synced_end = o->cut.bytes };

	buf_clear(&o->heads);
	assert_true(fact_put(&o->heads, 0, &fact));
	h.bytes = COMMIT_HEADER_BYTES + o->heads.len;
	commit_header_put(&h, buf_slice(&o->heads), 42, o->number, o->cut.bytes, bytes);
	struct iovec iov[2] = { { bytes, sizeof(bytes) }, { o->heads.ptr, o->heads.len } };
	assert_int_equal(file_commit(o->fd, iov, 2, o->cut.bytes), 0);
	log_name(o->number, own);
	log_name(o->number + 1, next);
	return fence_look(o->dir_fd, o->fd, own, next);
}

static void read_below(struct owner *o)
{
	char name[LOG_NAME_BYTES];
	struct log_scan_result r = { .end = 0 };

	if (o->number > 1) {
		log_name(o->number - 1, name);
		int fd = file_open(o->dir_fd, name, O_RDONLY, 0);
		assert_true(fd >= 0);
		struct log_scan scan = { .fd = fd, .number = o->number - 1, .limit = UINT64_MAX };
		assert_int_equal(log_scan(&scan, &r), OK);
		assert_int_equal(file_sync(fd), 0);
		file_close(fd);
	}
	o->end_read = r.commits ? r.end : 0;
}

static void step(struct owner *o)
{
	struct fence_names names;
	struct cut_end end;
	struct fence_cut cut = { .account_id = 1, .salt = 42, .sequence = 1, .incarnation = incarnation, .count = 1, .ends = &end };
	enum err e = OK;

	if (o->gone)
		return;
	switch (o->step++) {
	case 0: /* F1 */
		assert_int_equal(fence_list(o->dir_fd, &names), OK);
		o->number = names.newest + 1;
		fence_names_release(&names);
		break;
	case 1: /* F2 to F4 */
		e = fence_make(o->dir_fd, o->number, &o->fd);
		break;
	case 2: /* F5 */
		read_below(o);
		break;
	case 3: /* F6, F8 */
		end = (struct cut_end){ o->number - 1, o->end_read };
		e = fence_cut(o->dir_fd, o->fd, o->number, &cut, &o->heads, &o->cut);
		o->owns = e == OK;
		break;
	case 4: /* a commit, acknowledged if the look passes */
		e = append_fact(o);
		o->acknowledged = e == OK;
		break;
	}
	if (e != OK) {
		assert_int_equal(e, ERR_FENCED);
		o->gone = true;
	}
}

static void check(const struct owner *a, const struct owner *b)
{
	const struct owner *late = a->number > b->number ? a : b, *early = late == a ? b : a;

	assert_true(a->number != b->number || a->fd < 0 || b->fd < 0);
	/* what the earlier one acknowledged lies below what the later one read */
	if (late->owns && early->acknowledged && !late->gone)
		assert_true(late->end_read >= early->cut.bytes + COMMIT_HEADER_BYTES);
	/* one who was overtaken before his commit was not told OK */
	if (early->acknowledged && late->owns)
		assert_true(late->end_read > early->cut.bytes);
	assert_true(a->acknowledged || b->acknowledged || a->gone || b->gone);
}

static void interleave(const char *folder, unsigned order)
{
	struct owner o[2] = { { .fd = -1 }, { .fd = -1 } };
	int dir_fd = file_open(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY, 0);

	assert_true(dir_fd >= 0);
	for (int i = 0; i < 2; i++) {
		o[i].dir_fd = dir_fd;
		buf_init(&o[i].heads, KIB(64));
	}
	for (unsigned i = 0; i < 2 * STEPS; i++)
		step(&o[order >> i & 1]);
	check(&o[0], &o[1]);
	for (int i = 0; i < 2; i++) {
		if (o[i].fd >= 0)
			file_close(o[i].fd);
		buf_release(&o[i].heads);
	}
	for (uint32_t n = 1; n < 4; n++) {
		char name[LOG_NAME_BYTES];
		log_name(n, name);
		(void)file_unlink(dir_fd, name);
	}
	file_close(dir_fd);
}

FIBER_TEST(every_interleaving_of_two_owners)
{
	const char *folder = test_folder();
	unsigned tried = 0;

	for (unsigned order = 0; order < 1u << (2 * STEPS); order++)
		if (__builtin_popcount(order) == STEPS && (order & 1) == 0) { /* the other half is its mirror */
			interleave(folder, order);
			tried++;
		}
	assert_int_equal(tried, 126);
}

static int dir_with_log(int *fd_out)
{
	int dir_fd = file_open(AT_FDCWD, test_folder(), O_RDONLY | O_DIRECTORY, 0);

	assert_int_equal(fence_make(dir_fd, 1, fd_out), OK);
	return dir_fd;
}

FIBER_TEST(the_look_finds_a_newer_name_and_a_lost_one)
{
	int fd, other, dir_fd = dir_with_log(&fd);

	assert_int_equal(fence_look(dir_fd, fd, "L.1", "L.2"), OK);
	assert_int_equal(file_link(dir_fd, "L.1", dir_fd, "L.2"), 0); /* whatever it is: a stub counts */
	assert_int_equal(fence_look(dir_fd, fd, "L.1", "L.2"), ERR_FENCED);
	assert_int_equal(file_unlink(dir_fd, "L.2"), 0);
	assert_int_equal(fence_look(dir_fd, fd, "L.1", "L.2"), OK);
	/* a stub renamed over the own name: the file has no name any more */
	other = file_create_excl(dir_fd, "tmp", 0600);
	assert_true(other >= 0);
	assert_int_equal(file_rename(dir_fd, "tmp", dir_fd, "L.1"), 0);
	assert_int_equal(fence_look(dir_fd, fd, "L.1", "L.2"), ERR_FENCED);
	file_close(other);
	file_close(fd);
	file_close(dir_fd);
}

FIBER_TEST(a_number_is_made_once)
{
	int fd, second, dir_fd = dir_with_log(&fd);

	assert_int_equal(fence_make(dir_fd, 1, &second), ERR_FENCED);
	assert_int_equal(second, -1);
	/* who listed long ago and makes a number below the newest finds that out by listing again (F4) */
	int third;
	assert_int_equal(fence_make(dir_fd, 7, &third), OK);
	assert_int_equal(fence_make(dir_fd, 4, &second), ERR_FENCED);
	file_close(fd);
	file_close(third);
	file_close(dir_fd);
}

/* Through the store: whoever is overtaken acknowledges nothing and shows nothing more. */
FIBER_TEST(an_overtaken_account_is_lost)
{
	struct fence_names names;
	struct account_live *live;
	struct append item = { .folder = FOLDER_INBOX };
	struct appended out;
	struct view *v;
	int fd;

	help_begin(test_folder());
	struct account *a = help_open(1);
	help_deliver(a, FOLDER_INBOX, "A: b\r\n\r\nc\r\n");
	assert_int_equal(account_live_get(a, &live), OK);
	assert_int_equal(fence_list(live->dir_fd, &names), OK);
	assert_int_equal(fence_make(live->dir_fd, names.newest + 1, &fd), OK); /* somebody else */
	fence_names_release(&names);
	account_live_put(live);
	item.body = help_body("A: b\r\n\r\nc\r\n");
	assert_int_equal(account_append(a, &item, 1, &out), ERR_FENCED);
	assert_int_equal(view_open(a, FOLDER_INBOX, &v), ERR_FENCED);
	struct account *again;
	assert_int_equal(account_open(1, &again), ERR_FENCED); /* while sessions hold what was lost */
	account_close(a);
	/* it is read anew, with what was synced though not acknowledged: whole or not at all */
	a = help_open(1);
	assert_int_equal(rows_count(&account_folder(a, FOLDER_INBOX)->rows), 2);
	assert_int_equal(account_append(a, &item, 1, &out), OK);
	assert_int_equal(out.uid, 3);
	body_unref(item.body);
	file_close(fd);
	account_close(a);
	help_end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_interleaving_of_two_owners),
		cmocka_unit_test(the_look_finds_a_newer_name_and_a_lost_one),
		cmocka_unit_test(a_number_is_made_once),
		cmocka_unit_test(an_overtaken_account_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
