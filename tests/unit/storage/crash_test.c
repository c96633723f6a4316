/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Crash states: what the store must find after power fails at any moment of its work.
 *
 * A workload runs on the simulated disk.  After every change of that disk, and after every answer of the store, a snapshot is
 * taken together with what had been asked and what had been answered by then.  For every snapshot every state that a
 * crash could leave (sim.h) is made, and the store is opened on it.  Then:
 *   - a message that was answered is there exactly once, with its UID, its bytes and UIDVALIDITY, unless its expunge was asked for
 *   - an expunge that was answered is not undone; one command is there whole or not at all
 *   - nothing is there that nobody asked for, nothing is there twice
 *   - the account can be written, and a UID that anybody was told is not given again
 *   - nothing is called damaged: power failures lose only what nobody was told
 * The states of the opening itself are tried in the same way for a sample of them (a crash during recovery).
 *
 * CRASH_STATES bounds the states for each snapshot (default 64), so that a short run samples and a long one enumerates.
 */
#include "core/base/metrics.h"
#include "core/run/shard_private.h"
#include "core/run/sim.h"
#include "storage/commit.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ACCOUNT 77u
#define MESSAGES_MAX 64
#define OWN_NUMBER (MESSAGES_MAX - 1) /* what the check itself delivers */

/* ---- what was asked and answered ---- */

struct told {
	unsigned messages; /* asked for */
	uint32_t uid[MESSAGES_MAX]; /* 0 = not answered yet */
	bool expunge_asked[MESSAGES_MAX], expunge_told[MESSAGES_MAX];
	unsigned expunge_group[MESSAGES_MAX]; /* those of one command: all or none */
	unsigned groups;
	uint32_t uidvalidity;
};

struct snapshot {
	struct sim_disk *disk;
	struct told told;
	struct snapshot *next;
};

static struct told told;
static struct snapshot *snapshots;
static unsigned snapshot_count;
static size_t message_bytes = 300;
static bool recording;

static void snap(void *arg, struct sim_disk *disk)
{
	(void)arg;
	if (!recording)
		return;
	struct snapshot *s = xcalloc(1, sizeof *s);
	s->disk = sim_disk_copy(disk);
	s->told = told;
	s->next = snapshots;
	snapshots = s;
	snapshot_count++;
}

/* ---- running on a disk ---- */

static struct sim_config sim;
static struct store_config store;

static void add_damage(void *arg, const struct metric_value *v)
{
	if (strcmp(v->metric->name, "store_damage_total") == 0)
		*(int64_t *)arg = v->value;
}

static int64_t damage_told(void)
{
	int64_t n = -1;
	metrics_walk(add_damage, &n);
	assert_true(n >= 0);
	return n;
}

static void with_store(void *arg)
{
	void (*work)(void) = *(void (**)(void))arg;
	int r = file_mkdir(AT_FDCWD, "/data", 0700);
	assert_true(r == 0 || r == -EEXIST);
	if (r == 0) {
		int root = file_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
		assert_int_equal(file_sync_dir(root), 0);
		file_close(root);
	}
	assert_int_equal(store_lock(&store), OK);
	int64_t damage = damage_told();
	assert_int_equal(store_start(&store), OK);
	work();
	store_stop();
	store_unlock();
	assert_int_equal(damage_told(), damage);
}

static void run_on(struct sim_disk *disk, uint64_t seed, void (*work)(void))
{
	struct shard_options options = { .backend = &io_backend_sim };
	sim.disk = disk;
	sim.seed = seed;
	sim.on_change = snap;
	sim_use(&sim);
	assert_int_equal(shard_run_alone_with(&options, with_store, &work), OK);
}

/* ---- steps of a workload ---- */

static struct account *account;

static void open_account(void) { assert_int_equal(account_open(ACCOUNT, &account), OK); }
static void close_account(void) { account_close(account); }

static void message_text(unsigned number, struct buf *out)
{
	buf_printf(out, "Subject: message %u\r\nMessage-Id: <%u@crash.example>\r\n\r\n", number, number);
	while (out->len < message_bytes)
		buf_printf(out, "line %zu of message %u, so that any byte that is lost is missed\r\n", out->len, number);
}

static struct body *make_body(unsigned number)
{
	struct body_writer *w;
	struct body *body;
	struct buf text;
	buf_init(&text, message_bytes + 4096);
	message_text(number, &text);
	assert_int_equal(body_begin(BODY_REFUSE, &w), OK);
	assert_int_equal(body_write(w, buf_slice(&text)), OK);
	assert_int_equal(body_end(w, &body), OK);
	buf_release(&text);
	return body;
}

static enum err deliver_as(unsigned number, uint32_t *uid_out)
{
	char prefix[64];
	struct body *body = make_body(number);
	struct append a = { .folder = FOLDER_INBOX, .body = body, .envelope_rcpt = SLICE_LIT("ann@demo.example") };
	struct appended done;
	snprintf(prefix, sizeof prefix, "X-Number: %u\r\n", number);
	a.prefix = slice_str(prefix);
	enum err e = account_append(account, &a, 1, &done);
	body_unref(body);
	*uid_out = e == OK ? done.uid : 0;
	if (e == OK)
		told.uidvalidity = done.uidvalidity;
	return e;
}

static void deliver(void)
{
	uint32_t uid;
	unsigned n = told.messages++;
	assert_true(n < OWN_NUMBER);
	assert_int_equal(deliver_as(n, &uid), OK);
	told.uid[n] = uid;
	snap(NULL, sim.disk);
}

/* Expunges messages first..last (by number) in one command. */
static void expunge(unsigned first, unsigned last)
{
	uint32_t uids[MESSAGES_MAX] = { 0 };
	size_t count = 0, removed;
	told.groups++;
	for (unsigned n = first; n <= last; n++) {
		uids[count++] = told.uid[n];
		told.expunge_asked[n] = true;
		told.expunge_group[n] = told.groups;
	}
	assert_int_equal(account_expunge(account, FOLDER_INBOX, uids, count, &removed), OK);
	assert_int_equal(removed, count);
	for (unsigned n = first; n <= last; n++)
		told.expunge_told[n] = true;
	snap(NULL, sim.disk);
}

/* ---- the check ---- */

static unsigned number_of(const struct message_source *src)
{
	unsigned n;
	assert_int_equal(sscanf(src->prefix.ptr, "X-Number: %u", &n), 1);
	return n;
}

static void check_bytes(const struct message_source *src, unsigned number)
{
	struct buf want;
	buf_init(&want, message_bytes + 4096);
	message_text(number, &want);
	assert_int_equal(src->bytes, want.len);
	char *got = xmalloc(want.len);
	assert_int_equal(file_read(src->fd, got, want.len, src->offset), (int64_t)want.len);
	assert_memory_equal(got, want.ptr, want.len);
	free(got);
	buf_release(&want);
}

static struct told expected;
static uint32_t found_uid[MESSAGES_MAX];

static void look_at_message(struct view *view, uint32_t index)
{
	struct message m;
	struct message_source src;
	view_message(view, index, &m);
	assert_int_equal(message_open(view, index, &src), OK);
	unsigned n = number_of(&src);
	assert_true(n < expected.messages || n == OWN_NUMBER); /* somebody asked for it */
	assert_int_equal(found_uid[n], 0);                     /* once */
	assert_true(!expected.uid[n] || expected.uid[n] == m.uid);
	assert_false(expected.expunge_told[n]);
	found_uid[n] = m.uid;
	check_bytes(&src, n);
	message_close(&src);
}

static void check_groups(void)
{
	for (unsigned a = 0; a < expected.messages; a++)
		for (unsigned b = a + 1; b < expected.messages; b++)
			if (expected.expunge_group[a] && expected.expunge_group[a] == expected.expunge_group[b])
				assert_int_equal(found_uid[a] != 0, found_uid[b] != 0);
}

static void check_store(void)
{
	struct view *view;
	uint32_t uid, before = 0, greatest = 0;
	memset(found_uid, 0, sizeof found_uid);
	open_account();
	assert_int_equal(view_open(account, FOLDER_INBOX, &view), OK);
	for (uint32_t i = 0; i < view_count(view); i++) {
		struct message m;
		view_message(view, i, &m);
		assert_true(m.uid > before);
		before = m.uid;
		look_at_message(view, i);
	}
	if (expected.uidvalidity)
		assert_int_equal(view_uidvalidity(view), expected.uidvalidity);
	view_close(view);
	for (unsigned n = 0; n < expected.messages; n++) {
		told.uid[n] = found_uid[n] ? found_uid[n] : told.uid[n]; /* it has been shown: no later owner may miss it */
		if (expected.uid[n] && !expected.expunge_asked[n])
			assert_int_equal(found_uid[n], expected.uid[n]);
		greatest = expected.uid[n] > greatest ? expected.uid[n] : greatest;
		greatest = found_uid[n] > greatest ? found_uid[n] : greatest;
	}
	check_groups();
	assert_int_equal(deliver_as(OWN_NUMBER, &uid), OK);
	assert_true(uid > greatest);
	close_account();
}

/* ---- all states ---- */

static uint64_t states_max(void)
{
	const char *env = getenv("CRASH_STATES");
	return env ? strtoull(env, NULL, 10) : 64;
}

struct seen {
	uint64_t *digest;
	size_t count, cap;
};

static bool seen_before(struct seen *seen, uint64_t digest)
{
	for (size_t i = 0; i < seen->count; i++)
		if (seen->digest[i] == digest)
			return true;
	if (seen->count == seen->cap) {
		seen->cap = seen->cap ? seen->cap * 2 : 256;
		seen->digest = xrealloc(seen->digest, seen->cap * sizeof *seen->digest);
	}
	seen->digest[seen->count++] = digest;
	return false;
}

static uint64_t told_digest(const struct told *t)
{
	uint64_t h = t->messages * 31u + t->groups;
	for (unsigned n = 0; n < t->messages; n++)
		h = h * 1099511628211u + t->uid[n] * 4u + t->expunge_asked[n] * 2u + t->expunge_told[n];
	return h;
}

static unsigned checked;

/* Opens the store on every crash state of the snapshots taken so far; of every `deeper`-th opening also the crashes within it. */
static void check_all(unsigned deeper)
{
	struct snapshot *list = snapshots;
	struct seen seen = { NULL, 0, 0 };
	snapshots = NULL;
	while (list) {
		struct snapshot *s = list;
		uint64_t count = sim_crash_count(s->disk, states_max());
		for (uint64_t i = 0; i < count; i++) {
			struct sim_disk *after = sim_crash(s->disk, i, count);
			if (!seen_before(&seen, sim_disk_digest(after) ^ told_digest(&s->told))) {
				expected = s->told;
				recording = deeper && checked % deeper == 0;
				told = s->told;
				run_on(after, 1000 + checked, check_store);
				checked++;
			}
			sim_disk_free(after);
		}
		list = s->next;
		sim_disk_free(s->disk);
		free(s);
	}
	free(seen.digest);
	recording = false;
}

static void begin(size_t bytes)
{
	memset(&told, 0, sizeof told);
	snapshot_count = checked = 0;
	message_bytes = bytes;
	store_config_default(&store);
	store.data_path = "/data";
	store.warm_bytes_max = 1 << 20;
	store.scrub_days = 0;
	sim = (struct sim_config){ .reorder = true };
	recording = true;
}

static void end(const char *name, struct sim_disk *disk)
{
	recording = false;
	check_all(0);
	print_message("%s: %u snapshots, %u different states opened\n", name, snapshot_count, checked);
	assert_true(checked > 10);
	sim_disk_free(disk);
}

/* ---- workloads ---- */

static void work_deliver(void)
{
	open_account();
	for (int i = 0; i < 4; i++)
		deliver();
	close_account();
}

static void work_delete(void)
{
	open_account();
	for (int i = 0; i < 5; i++)
		deliver();
	expunge(1, 3);
	deliver();
	expunge(0, 0);
	close_account();
}

static void work_two_more(void)
{
	open_account();
	deliver();
	deliver();
	close_account();
}

/* Most of what is written dies, with logs of a few KiB: seal, relocation, stubs, merges. */
static void work_compact(void)
{
	open_account();
	for (unsigned round = 0; round < 4; round++) {
		unsigned first = told.messages;
		for (int i = 0; i < 8; i++)
			deliver();
		expunge(first + 1, first + 7);
		fiber_sleep(120000); /* background work gets its turn */
	}
	close_account();
}

/* Two logs go in one job: messages of the lower one were expunged in the upper one, and flagged there. */
static void work_compact_two(void)
{
	uint32_t uid;
	uint64_t modseq;
	open_account();
	for (int i = 0; i < 4; i++)
		deliver();
	assert_int_equal(commit_seal(account, SEAL_LET_GO), OK);
	for (int i = 0; i < 4; i++)
		deliver();
	expunge(0, 2);
	uid = told.uid[3];
	assert_int_equal(account_flags(account, FOLDER_INBOX, &uid, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	assert_int_equal(commit_seal(account, SEAL_LET_GO), OK);
	deliver();
	expunge(4, 6);
	fiber_sleep(120000);
	deliver();
	close_account();
}

static void test_deliver(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(300);
	run_on(disk, 1, work_deliver);
	end("deliver", disk);
}

static void test_delete(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(300);
	run_on(disk, 2, work_delete);
	end("delete", disk);
}

static void test_reopen(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(300);
	run_on(disk, 3, work_deliver);
	run_on(disk, 4, work_two_more);
	end("reopen after an orderly stop", disk);
}

/* The process dies without an orderly stop: the next one finds an unsealed log and takes it over through the fence. */
static void test_takeover(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(300);
	run_on(disk, 5, work_deliver);
	struct sim_disk *after = NULL;
	for (struct snapshot *s = snapshots; s && !after; s = s->next) /* newest first: the last moment before the fourth answer */
		if (!s->told.uid[3]) {
			after = sim_crash(s->disk, 1, 2);
			told = s->told;
		}
	assert_non_null(after);
	told.messages = 4; /* the fourth may be there */
	run_on(after, 6, work_two_more);
	sim_disk_free(disk);
	end("takeover", after);
}

static void test_large(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(20000);
	store.memory_body_bytes = 4096;
	store.file_body_bytes = 8192;
	run_on(disk, 7, work_delete);
	end("messages that are files of their own", disk);
}

static void test_spooled(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(20000);
	store.memory_body_bytes = 4096;
	store.file_body_bytes = 65536;
	run_on(disk, 8, work_delete);
	end("spooled messages", disk);
}

static void test_compact(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(600);
	store.seal_bytes = 4096;
	run_on(disk, 9, work_compact);
	end("compaction", disk);
}

static void test_compact_two(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(600);
	store.seal_bytes = 4096;
	run_on(disk, 11, work_compact_two);
	end("compaction of two logs", disk);
}

/* A crash while the store recovers from a crash. */
static void test_crash_in_recovery(void **state)
{
	(void)state;
	struct sim_disk *disk = sim_disk_new();
	begin(300);
	run_on(disk, 10, work_delete);
	check_all(20); /* leaves the snapshots of some of these openings */
	unsigned first = checked, second = snapshot_count;
	assert_non_null(snapshots);
	check_all(0);
	print_message("crash in recovery: %u states opened, then %u of %u snapshots of these\n", first, checked - first, second);
	assert_true(checked > first + 10);
	sim_disk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deliver),  cmocka_unit_test(test_delete),  cmocka_unit_test(test_reopen),  cmocka_unit_test(test_takeover),
		cmocka_unit_test(test_large),    cmocka_unit_test(test_spooled), cmocka_unit_test(test_compact), cmocka_unit_test(test_compact_two),
		cmocka_unit_test(test_crash_in_recovery),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
