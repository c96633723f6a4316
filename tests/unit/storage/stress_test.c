/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many fibers on one account, a disk that errs and fills up now and then, and power that fails at a random moment.
 *
 * Deliveries, expunges, moves, flags and view openings run at once, so that commits hold several changes and queues form.  Then the disk is
 * left in a random crash state and the account is opened on it.  What was acknowledged is there once; what was refused (but for
 * ERR_IO, which may mean either) is not; what was expunged stays away; a view that was read is what it was.
 *
 * STRESS_ROUNDS (150) and STRESS_FIRST (1) say how many rounds and from which seed; STRESS_LOG shows the store's log.
 */
#include "tests/unit/storage/store_help.h"

#include "core/base/log.h"
#include "core/run/shard_private.h"
#include "core/run/sim.h"

#include <errno.h>
#include <unistd.h>

#define FIBERS 12
#define MESSAGES_MAX 1000

enum fate { UNKNOWN, ASKED, TOLD, REFUSED };
static enum fate delivered[MESSAGES_MAX], removed[MESSAGES_MAX];
static uint32_t uid_of[MESSAGES_MAX]; /* in INBOX, when told */
static uint32_t uid_highest;
static unsigned messages, running, steps;
static bool faults, hard;
static uint64_t seed;
static struct sim_disk *left; /* what the crash left */
static struct sim_config sim;
static uint32_t other;

static unsigned draw(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 20) % below);
}

static int64_t fail_some(void *arg, const struct io_request *r)
{
	(void)arg;
	bool sync = r->kind == IO_SYNC || (r->kind == IO_WRITE && r->flags & IO_SYNC_DATA);

	if (!faults)
		return 0;
	if (r->kind == IO_WRITE && draw(60) == 0)
		return draw(2) ? -ENOSPC : 64;
	if ((r->kind == IO_WRITE || r->kind == IO_READ) && r->len > 1 && draw(40) == 0 && r->kind == IO_READ)
		return 1; /* a short read */
	if (sync && draw(150) == 0)
		return -EIO;
	if (!hard)
		return 0;
	if (r->kind == IO_OPEN && draw(200) == 0)
		return -EMFILE;
	if ((r->kind == IO_RENAME || r->kind == IO_LINK || r->kind == IO_UNLINK) && draw(30) == 0)
		return -EIO;
	if (r->kind == IO_READ && draw(300) == 0)
		return -EIO;
	return 0;
}

static bool allowed(enum err e)
{
	return e == OK || e == ERR_IO || e == ERR_FULL || e == ERR_READONLY || e == ERR_FENCED || (hard && (e == ERR_BUSY || e == ERR_TEMP || e == ERR_LIMIT));
}

/* As help_body, on a disk that errs. */
static struct body *try_body(const char *text)
{
	struct body_writer *w;
	struct body *b;

	if (body_begin(BODY_REFUSE, &w) != OK)
		return NULL;
	if (body_write(w, slice_str(text)) != OK) {
		body_abort(w);
		return NULL;
	}
	return body_end(w, &b) == OK ? b : NULL;
}

static enum fate fate_of(enum err e) { return e == OK ? TOLD : e == ERR_IO || e == ERR_FENCED ? ASKED : REFUSED; }

static void do_deliver(struct account *a)
{
	unsigned n = messages++;
	char text[300];
	struct append item = { .folder = FOLDER_INBOX };
	struct appended out = { 0 };

	delivered[n] = ASKED;
	memset(text, 'x', sizeof(text));
	int len = snprintf(text, sizeof(text), "A: b\r\n\r\n%u\r\n", n);
	text[len] = 'y';
	snprintf(text + len + draw(200), 3, "\r\n");
	item.body = try_body(text);
	if (!item.body) {
		delivered[n] = REFUSED;
		return;
	}
	enum err e = account_append(a, &item, 1, &out);
	body_unref(item.body);
	assert_true(allowed(e));
	delivered[n] = fate_of(e);
	if (e == OK) {
		assert_true(out.uid > uid_highest || out.uid > 0);
		for (unsigned k = 0; k < n; k++)
			assert_true(uid_of[k] != out.uid);
		uid_of[n] = out.uid;
		if (out.uid > uid_highest)
			uid_highest = out.uid;
	}
}

/* A told message that nobody has begun to remove, or -1. */
static int pick(void)
{
	for (int tries = 0; tries < 10 && messages > 0; tries++) {
		unsigned n = draw(messages);
		if (delivered[n] == TOLD && removed[n] == UNKNOWN)
			return (int)n;
	}
	return -1;
}

static void do_expunge(struct account *a)
{
	int n = pick();
	size_t count;

	if (n < 0)
		return;
	removed[n] = ASKED;
	enum err e = account_expunge(a, FOLDER_INBOX, &uid_of[n], 1, &count);
	assert_true(allowed(e));
	assert_true(e != OK || count == 1);
	removed[n] = fate_of(e) == REFUSED ? UNKNOWN : fate_of(e);
}

static void do_move(struct account *a)
{
	int n = pick();
	struct appended out;

	if (n < 0)
		return;
	removed[n] = ASKED; /* from INBOX; the check looks into both */
	struct copy copy = { .from = FOLDER_INBOX, .to = other, .uids = &uid_of[n], .count = 1, .move = draw(2) };
	enum err e = account_copy(a, &copy, &out);
	assert_true(allowed(e));
	removed[n] = UNKNOWN;
	if (e == OK && copy.move)
		delivered[n] = UNKNOWN; /* elsewhere now: counted no more */
	else if (e != OK && fate_of(e) != REFUSED)
		delivered[n] = ASKED;
}

static void do_flags(struct account *a)
{
	int n = pick();
	uint64_t modseq;
	const struct slice words[1] = { SLICE_LIT("word") };

	if (n >= 0)
		assert_true(allowed(account_flags(a, FOLDER_INBOX, &uid_of[n], 1, draw(3), draw(64), words, draw(2), &modseq)));
}

static void do_view(struct account *a)
{
	struct view *v;
	char text[400];

	if (view_open(a, FOLDER_INBOX, &v) != OK)
		return;
	uint32_t count = view_count(v);
	for (int i = 0; i < 3 && count > 0; i++) {
		uint32_t index = draw(count);
		struct message_source s;
		struct message m;
		view_message(v, index, &m);
		enum err e = message_open(v, index, &s);
		assert_true(allowed(e));
		if (e != OK)
			continue;
		if (file_read(s.fd, text, s.bytes, s.offset) == (int64_t)s.bytes) {
			unsigned n = (unsigned)atoi(text + 8);
			assert_true(n < messages);
			assert_true(delivered[n] != TOLD || uid_of[n] == m.uid);
		}
		assert_int_equal(view_count(v), count);
		message_close(&s);
	}
	view_close(v);
}

static void worker(void *arg)
{
	struct account *a = NULL;

	(void)arg;
	for (unsigned i = 0; i < steps; i++) {
		if (!a && account_open(1, &a) != OK) {
			a = NULL;
			fiber_sleep(1);
			continue;
		}
		unsigned what = draw(20);
		if (what < 8)
			do_deliver(a);
		else if (what < 11)
			do_expunge(a);
		else if (what < 13)
			do_move(a);
		else if (what < 16)
			do_flags(a);
		else if (what < 18)
			do_view(a);
		else {
			account_close(a);
			a = NULL;
		}
		if (draw(6) == 0)
			fiber_yield();
	}
	if (a)
		account_close(a);
	running--;
}

static void check(struct account *a)
{
	static unsigned seen[MESSAGES_MAX];
	struct view *v;
	const uint32_t folders[2] = { FOLDER_INBOX, other };

	memset(seen, 0, sizeof(seen));
	for (unsigned k = 0; k < 2; k++) {
		assert_int_equal(view_open(a, folders[k], &v), OK);
		for (uint32_t i = 0; i < view_count(v); i++) {
			struct message m;
			unsigned n = (unsigned)atoi(help_read(v, i) + 8);
			view_message(v, i, &m);
			assert_true(n < messages);
			assert_true(delivered[n] != REFUSED);
			if (k == 0) {
				seen[n]++;
				assert_true(removed[n] != TOLD);
				assert_true(delivered[n] != TOLD || uid_of[n] == m.uid);
			}
		}
		view_close(v);
	}
	for (unsigned n = 0; n < messages; n++) {
		assert_true(seen[n] <= 1);
		if (delivered[n] == TOLD && removed[n] == UNKNOWN)
			assert_int_equal(seen[n], 1);
	}
	for (uint32_t i = 0; i < a->log_count; i++) {
		if (a->logs[i].damaged)
			printf("log %u, end %llu, set aside below %llu\n", a->logs[i].number, (unsigned long long)a->logs[i].end,
			       (unsigned long long)a->logs[i].set_aside_end);
		assert_false(a->logs[i].damaged);
	}
}

static void begin(void)
{
	(void)file_mkdir(AT_FDCWD, "/data", 0700);
	int root = file_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
	assert_int_equal(file_sync_dir(root), 0);
	file_close(root);
	store_config_default(&help_config);
	help_config.data_path = "/data";
	help_config.reserve_bytes = 0;
	help_config.scrub_days = 0;
	help_config.seal_bytes = KIB(8);
	help_config.commit_ms_max = 1000000;
	help_config.log_fds_max = 1;
	if (hard) {
		help_config.memory_body_bytes = 100;
		help_config.file_body_bytes = 150;
	}
	assert_int_equal(store_lock(&help_config), OK);
	assert_int_equal(store_start(&help_config), OK);
}

static void work(void *arg)
{
	(void)arg;
	begin();
	struct account *a = help_open(1);
	assert_int_equal(folder_create(a, SLICE_LIT("other"), 0, &other), OK);
	account_close(a);
	faults = true;
	running = FIBERS;
	for (unsigned i = 0; i < FIBERS; i++)
		assert_int_equal(fiber_start("worker", worker, NULL), OK);
	while (running > 0)
		fiber_sleep(1);
	faults = false;
	left = sim_crash(sim.disk, draw(2) ? draw(1000) : 0, sim_crash_count(sim.disk, 1000));
	help_end();
}

static void look(void *arg)
{
	(void)arg;
	begin();
	for (int i = 0; i < 2; i++) {
		struct account *a;
		while (account_open(1, &a) == ERR_FENCED) /* a job of ours still has what we called lost */
			fiber_sleep(1);
		check(a);
		uint32_t uid = help_deliver(a, FOLDER_INBOX, "A: b\r\n\r\n0\r\n");
		assert_true(uid > uid_highest);
		help_expunge(a, FOLDER_INBOX, uid);
		account_close(a);
		a->state = ACCOUNT_LOST;
	}
	help_end();
}

static uint64_t number_of(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 10) : otherwise;
}

static void rounds_run(bool harder)
{
	struct shard_options options = { .backend = &io_backend_sim };
	unsigned told = 0, refused = 0;
	uint64_t first = number_of("STRESS_FIRST", 1), rounds = number_of("STRESS_ROUNDS", 150);

	hard = harder;
	log_set_level(getenv("STRESS_LOG") ? LOG_DEBUG : LOG_LEVEL_COUNT);
	for (uint64_t round = first; round < first + rounds; round++) {
		if (getenv("STRESS_LOG"))
			printf("round %llu\n", (unsigned long long)round);
		seed = round * 0x9e3779b97f4a7c15ull;
		messages = 0;
		uid_highest = 0;
		steps = 5 + draw(40);
		memset(delivered, 0, sizeof(delivered));
		memset(removed, 0, sizeof(removed));
		memset(uid_of, 0, sizeof(uid_of));
		sim = (struct sim_config){ .disk = sim_disk_new(), .seed = round, .reorder = true };
		(sim.fail) = fail_some;
		sim_use(&sim);
		assert_int_equal(shard_run_alone_with(&options, work, NULL), OK);
		for (unsigned n = 0; n < messages; n++) {
			told += delivered[n] == TOLD;
			refused += delivered[n] == REFUSED;
		}
		sim_disk_free(sim.disk);
		sim.disk = left;
		sim_use(&sim);
		assert_int_equal(shard_run_alone_with(&options, look, NULL), OK);
		sim_disk_free(left);
	}
	printf("%u deliveries told, %u refused\n", told, refused);
	assert_true(rounds < 100 || (told > 10 * rounds && refused > rounds / 10));
}

static void many_fibers_faults_and_a_crash(void **state)
{
	(void)state;
	rounds_run(false);
}

/* Names and descriptors fail too, and bodies go through spool files and files of their own. */
static void and_names_that_fail(void **state)
{
	(void)state;
	rounds_run(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(many_fibers_faults_and_a_crash), cmocka_unit_test(and_names_that_fail) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
