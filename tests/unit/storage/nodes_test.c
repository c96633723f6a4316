/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two nodes, one account, a shared store, and nobody who keeps them apart.
 *
 * Each node is a store of its own (its shard's slots are swapped in), on one folder.  They deliver, delete, close, let go and come back at
 * random, each believing that the account is its own.  Whatever was acknowledged must be in every later view, nothing may come
 * back or be there twice, and no UID may ever be given to two messages.
 */
#include "tests/unit/storage/store_help.h"

#include "core/base/log.h"
#include "core/run/shard_private.h"
#include "core/run/sim.h"
#include "storage/commit.h"
#include "storage/compact.h"
#include "storage/fence.h"
#include "storage/own.h"

#include <unistd.h>

#define NODES 2
#define MESSAGES_MAX 2000

static const enum shard_slot slots[] = { SHARD_SLOT_STORE,  SHARD_SLOT_BODY,      SHARD_SLOT_SOURCE,
					SHARD_SLOT_UPKEEP, SHARD_SLOT_STRUCTURE, SHARD_SLOT_AHEAD };

struct node {
	void *locals[ARRAY_LEN(slots)];
	struct account *account;
};

static struct node nodes[NODES];
static unsigned present;
static bool acknowledged[MESSAGES_MAX], expunge_asked[MESSAGES_MAX], expunged[MESSAGES_MAX];
static uint32_t uid_of[MESSAGES_MAX];
static unsigned messages;
static uint64_t seed;

static unsigned draw(unsigned below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)((seed >> 16) % below);
}

static void node_switch(unsigned n)
{
	while (shard_local(SHARD_SLOT_UPKEEP) && upkeep_self()->jobs > 0)
		fiber_sleep(1); /* its jobs run under its slots */
	for (size_t i = 0; i < ARRAY_LEN(slots); i++) {
		nodes[present].locals[i] = shard_local(slots[i]);
		shard_set_local(slots[i], nodes[n].locals[i]);
	}
	present = n;
}

/* The number of the message is its text. */
static void check_view(struct account *a)
{
	static bool seen[MESSAGES_MAX];
	static bool uid_seen[2 * MESSAGES_MAX];
	struct view *v;

	memset(seen, 0, sizeof(seen));
	memset(uid_seen, 0, sizeof(uid_seen));
	if (view_open(a, FOLDER_INBOX, &v) != OK)
		return;
	for (uint32_t i = 0; i < view_count(v); i++) {
		struct message_source s;
		struct message m;
		char text[64] = "";
		view_message(v, i, &m);
		enum err e = message_open(v, i, &s);
		if (e == ERR_FENCED)
			break; /* overtaken while we look */
		assert_int_equal(e, OK);
		assert_int_equal(file_read(s.fd, text, s.bytes, s.offset), (int64_t)s.bytes);
		unsigned n = (unsigned)atoi(text + 8);
		assert_true(n < messages && !seen[n]);
		seen[n] = true;
		assert_true(uid_of[n] == 0 || uid_of[n] == m.uid);
		uid_of[n] = m.uid; /* shown: it keeps it */
		assert_false(expunged[n]);
		message_close(&s);
	}
	view_close(v);
	for (unsigned n = 0; n < messages; n++)
		if (acknowledged[n] && !expunge_asked[n])
			assert_true(seen[n] || a->state == ACCOUNT_LOST);
	for (unsigned n = 0; n < messages; n++)
		for (unsigned k = 0; k < n && uid_of[n]; k++)
			assert_int_not_equal(uid_of[n], uid_of[k]);
}

static void node_deliver(struct node *node)
{
	char text[64];
	unsigned n = messages++;
	struct append item = { .folder = FOLDER_INBOX };
	struct appended out = { 0 };

	snprintf(text, sizeof(text), "A: b\r\n\r\n%u\r\n", n);
	item.body = help_body(text);
	enum err e = account_append(node->account, &item, 1, &out);
	body_unref(item.body);
	assert_true(e == OK || e == ERR_FENCED);
	acknowledged[n] = e == OK;
	if (e == OK)
		uid_of[n] = out.uid;
}

static void node_expunge(struct node *node)
{
	struct view *v;
	struct message m;
	size_t removed;

	if (view_open(node->account, FOLDER_INBOX, &v) != OK)
		return;
	if (view_count(v) > 0) {
		view_message(v, draw(view_count(v)), &m);
		for (unsigned n = 0; n < messages; n++)
			if (uid_of[n] == m.uid) {
				expunge_asked[n] = true;
				if (account_expunge(node->account, FOLDER_INBOX, &m.uid, 1, &removed) == OK && removed == 1)
					expunged[n] = true;
				break;
			}
	}
	view_close(v);
}

static void node_leave(struct node *node, bool let_go)
{
	account_close(node->account);
	node->account = NULL;
	if (!let_go)
		return;
	uint64_t max = store_self()->warm.bytes_max;
	store_self()->warm.bytes_max = 0;
	lru_trim(&store_self()->warm);
	while (!list_empty(&store_self()->evicted) || store_self()->keepers > 0)
		fiber_sleep(1);
	store_self()->warm.bytes_max = max;
}

/* Who was overtaken learns of it at his next commit; until then his memory is old (with Redis, he knows). */
static bool still_owned(struct account *a)
{
	struct account_live *live;

	if (a->state != ACCOUNT_OWNED)
		return a->state == ACCOUNT_SEALED;
	assert_int_equal(account_live_get(a, &live), OK);
	bool owned = (live->log_fd >= 0 || own_reopen(a, live) == OK) &&
	             fence_look(live->dir_fd, live->log_fd, live->own_name, live->next_name) == OK;
	account_live_put(live);
	return owned;
}

static void node_step(unsigned n)
{
	struct node *node = &nodes[n];

	node_switch(n);
	if (!node->account) {
		enum err e = account_open(1, &node->account);
		if (e != OK) {
			assert_int_equal(e, ERR_FENCED);
			node->account = NULL;
			return;
		}
		if (still_owned(node->account))
			check_view(node->account);
		return;
	}
	unsigned what = draw(10);
	if (what < 5)
		node_deliver(node);
	else if (what < 7)
		node_expunge(node);
	else
		node_leave(node, what == 9);
}

static void nodes_start(const char *folder)
{
	store_config_default(&help_config);
	help_config.data_path = folder;
	help_config.reserve_bytes = 0;
	help_config.scrub_days = 0;
	help_config.seal_bytes = 4096;
	help_config.shared = file_shared();
	memset(nodes, 0, sizeof(nodes));
	present = 0;
	assert_int_equal(store_lock(&help_config), OK);
	for (unsigned n = 0; n < NODES; n++) {
		node_switch(n);
		assert_int_equal(store_start(&help_config), OK);
	}
}

static void nodes_stop(void)
{
	for (unsigned n = 0; n < NODES; n++) {
		node_switch(n);
		if (nodes[n].account)
			account_close(nodes[n].account);
		store_stop();
	}
	store_unlock();
}

static void run(void *arg)
{
	seed = *(uint64_t *)arg;
	messages = 0;
	memset(uid_of, 0, sizeof(uid_of));
	memset(acknowledged, 0, sizeof(acknowledged));
	memset(expunged, 0, sizeof(expunged));
	memset(expunge_asked, 0, sizeof(expunge_asked));
	(void)file_mkdir(AT_FDCWD, "/data", 0700);
	file_set_shared(true);
	nodes_start("/data");
	for (unsigned i = 0; i < 300; i++)
		node_step(draw(NODES));
	nodes_stop();
	file_set_shared(false);
}

static void two_nodes_at_random(void **state)
{
	struct shard_options options = { .backend = &io_backend_sim };

	(void)state;
	log_set_level(LOG_LEVEL_COUNT);
	for (uint64_t round = 1; round <= 40; round++) {
		struct sim_config sim = { .disk = sim_disk_new(), .seed = round };
		uint64_t s = round * 0x9e3779b97f4a7c15ull;
		unsigned told = 0;
		sim_use(&sim);
		assert_int_equal(shard_run_alone_with(&options, run, &s), OK);
		for (unsigned n = 0; n < messages; n++)
			told += acknowledged[n];
		assert_true(told > 10);
		sim_disk_free(sim.disk);
	}
}

/* ---- what a new owner shows is durable, whoever wrote it ---- */

static void show_run(void *arg)
{
	const uint32_t uids[1] = { 1 };
	struct sim_disk **crashed = arg; /* [0] the disk, [1] what is left of it */
	uint64_t modseq;

	messages = 0;
	(void)file_mkdir(AT_FDCWD, "/data", 0700);
	int root = file_open(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY, 0);
	assert_int_equal(file_sync_dir(root), 0);
	file_close(root);
	file_set_shared(true);
	nodes_start("/data");
	node_switch(0);
	assert_int_equal(account_open(1, &nodes[0].account), OK);
	node_deliver(&nodes[0]);
	assert_int_equal(account_flags(nodes[0].account, FOLDER_INBOX, uids, 1, FLAGS_ADD, FLAG_SEEN, NULL, 0, &modseq), OK);
	node_switch(1); /* before the first one's flags are synced */
	assert_int_equal(account_open(1, &nodes[1].account), OK);
	assert_int_equal(rows_find(&account_folder(nodes[1].account, FOLDER_INBOX)->rows, 1)->flags, FLAG_SEEN);
	crashed[1] = sim_crash(crashed[0], 0, sim_crash_count(crashed[0], 8));
	nodes_stop();
	file_set_shared(false);
}

static void shown_run(void *arg)
{
	(void)arg;
	nodes_start("/data");
	node_switch(0);
	assert_int_equal(account_open(1, &nodes[0].account), OK);
	struct account *a = nodes[0].account;
	assert_int_equal(rows_find(&account_folder(a, FOLDER_INBOX)->rows, 1)->flags, FLAG_SEEN);
	for (uint32_t i = 0; i < a->log_count; i++)
		assert_false(a->logs[i].damaged);
	nodes_stop();
}

static void what_a_new_owner_shows_is_durable(void **state)
{
	struct shard_options options = { .backend = &io_backend_sim };
	struct sim_disk *disks[2] = { sim_disk_new(), NULL };
	struct sim_config sim = { .disk = disks[0], .seed = 1 };

	(void)state;
	log_set_level(LOG_LEVEL_COUNT);
	sim_use(&sim);
	assert_int_equal(shard_run_alone_with(&options, show_run, disks), OK);
	sim.disk = disks[1];
	sim_use(&sim);
	assert_int_equal(shard_run_alone_with(&options, shown_run, NULL), OK);
	sim_disk_free(disks[0]);
	sim_disk_free(disks[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(two_nodes_at_random), cmocka_unit_test(what_a_new_owner_shows_is_durable) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
