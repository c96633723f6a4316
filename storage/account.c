/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account.c - accounts in a shard's memory: opened, shared by sessions, closed; and their descriptors.
 *
 * While somebody loads or lets go of an account, account->busy points to a queue on his stack: whoever meets it waits there and
 * then looks the account up again, for it may be gone.
 */
#include "storage/account_private.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/commit.h"
#include "storage/fence.h"
#include "storage/folder.h"
#include "storage/gate.h"
#include "storage/keyword.h"
#include "storage/own.h"
#include "storage/sweep.h"
#include "storage/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

METRIC_COUNTER(metric_loads, "store_accounts_loaded_total", "Accounts read from disk");
METRIC_COUNTER(metric_hits, "store_accounts_warm_total", "Accounts opened that were in memory");
METRIC_GAUGE(metric_known, "store_accounts", "Accounts in memory");
METRIC_GAUGE(metric_lives, "store_accounts_live", "Accounts with descriptors");

/* ---- memory ---- */

static void logs_forget(struct account *a)
{
	for (uint32_t i = 0; i < a->log_count; i++) {
		a->logs[i].live_bytes = 0;
		a->logs[i].set_aside_end = 0;
	}
}

void account_forget(struct account *a)
{
	for (uint32_t i = 0; i < a->folder_count; i++)
		folder_free(a->folders[i]);
	folder_names_changed(a);
	free(a->folders);
	a->folders = NULL;
	a->folder_count = 0;
	keywords_release(&a->keywords);
	free(a->subscriptions);
	a->subscriptions = NULL;
	a->subscriptions_bytes = 0;
	a->sequence = a->bytes = a->messages = 0;
	a->next_folder = a->last_uidvalidity = 0;
	a->last = (struct log_position){ 0 };
	logs_forget(a);
}

size_t account_memory_bytes(const struct account *a)
{
	size_t n = sizeof(*a) + a->log_count * sizeof(*a->logs) + a->subscriptions_bytes +
		   keywords_memory_bytes(a->keywords);

	for (uint32_t i = 0; i < a->folder_count; i++) {
		const struct folder *f = a->folders[i];
		n += sizeof(void *) + sizeof(*f) + f->name_bytes + f->vanished.cap * sizeof(*f->vanished.at) +
		     rows_memory_bytes(&f->rows);
	}
	return n;
}

static struct slice account_key(const struct table_node *n)
{
	const struct account *a = CONTAINER_OF(n, struct account, node);

	return slice_of(&a->id, sizeof(a->id));
}

struct slice (*const account_key_of)(const struct table_node *n) = account_key;

struct account *account_known(uint64_t id)
{
	struct table_node *n = table_find_u64(&store_self()->accounts, id);

	return n ? CONTAINER_OF(n, struct account, node) : NULL;
}

/* ---- descriptors ---- */

static void live_close(struct account_live *live)
{
	ASSERT(!live->leading && live->unsynced == 0 && list_empty(&live->queue));
	if (live->log_fd >= 0)
		file_close(live->log_fd);
	if (live->dir_fd >= 0)
		file_close(live->dir_fd);
	live->account->live = NULL;
	free(live);
	metric_dec(&metric_lives);
}

void account_live_evict(struct lru_node *n) { live_close(CONTAINER_OF(n, struct account_live, lru)); }

/* Makes one level of a path durable: the name below its parent. */
static int make_level(int data_fd, const char *path)
{
	char parent[ACCOUNT_PATH_BYTES];
	size_t slash = slice_rfind(slice_str(path), '/');
	int r = file_mkdir(data_fd, path, 0700);

	if (r < 0 && r != -EEXIST)
		return r;
	/* also when it was there: whoever made it may not have synced yet */
	snprintf(parent, sizeof(parent), "%.*s", slash == SIZE_MAX ? 1 : (int)slash, slash == SIZE_MAX ? "." : path);
	int fd = file_open(data_fd, parent, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	r = file_sync_dir(fd);
	file_close(fd);
	return r;
}

static int account_dir_make(int data_fd, const char *path)
{
	char level[ACCOUNT_PATH_BYTES];
	int r = 0;

	for (size_t i = 2; r >= 0 && path[i - 1] != 0; i++) { /* behind "a", which store_lock has made */
		if (path[i] != '/' && path[i] != 0)
			continue;
		snprintf(level, sizeof(level), "%.*s", (int)i, path);
		r = make_level(data_fd, level);
	}
	return r < 0 ? r : file_open(data_fd, path, O_RDONLY | O_DIRECTORY, 0);
}

static enum err live_open(struct account *a, struct account_live *live)
{
	int data_fd = store_self()->data_fd;
	char path[ACCOUNT_PATH_BYTES];

	account_path(a->id, path);
	live->dir_fd = file_open(data_fd, path, O_RDONLY | O_DIRECTORY, 0);
	if (live->dir_fd == -ENOENT && account_unborn(a))
		live->dir_fd = account_dir_make(data_fd, path);
	return live->dir_fd < 0 ? err_from_errno(-live->dir_fd) : OK;
}

static struct account_live *live_new(struct account *a)
{
	struct account_live *live = xcalloc(1, sizeof(*live));

	live->account = a;
	live->dir_fd = live->log_fd = -1;
	live->opening = true;
	list_init(&live->queue);
	waitq_init(&live->idle);
	timer_init(&live->flags_timer, commit_flags_timer);
	a->live = live;
	metric_inc(&metric_lives);
	return live;
}

enum err account_live_get(struct account *a, struct account_live **live_out)
{
	struct lru *lives = &store_self()->lives;
	struct account_live *live;

	while (a->live && a->live->opening)
		(void)waitq_wait(&a->live->idle, 0);
	live = a->live;
	if (!live) {
		live = live_new(a);
		enum err e = live_open(a, live);
		live->opening = false;
		waitq_wake_all(&live->idle);
		if (e != OK) {
			live->dir_fd = -1;
			live_close(live);
			return e;
		}
		lru_add(lives, &live->lru, fiber_class(), LIVE_FDS);
	}
	lru_pin(lives, &live->lru);
	*live_out = live;
	return OK;
}

void account_live_put(struct account_live *live)
{
	struct lru *lives = &store_self()->lives;

	lru_unpin(lives, &live->lru);
	(void)lru_trim(lives);
}

/* ---- pins ---- */

void account_pin(struct account *a)
{
	ASSERT(!a->evicted);
	lru_pin(&store_self()->warm, &a->warm);
}

void account_unpin(struct account *a)
{
	struct store_shard *s = store_self();

	if (a->resized) {
		a->resized = false;
		for (uint32_t i = 0; i < a->folder_count; i++)
			rows_trim(&a->folders[i]->rows);
		lru_resize(&s->warm, &a->warm, account_memory_bytes(a));
	}
	lru_unpin(&s->warm, &a->warm);
	if (a->state == ACCOUNT_LOST && a->warm.pins == 0)
		account_drop(a); /* whoever comes next reads it anew */
	(void)lru_trim(&s->warm);
}

void account_drop(struct account *a)
{
	struct store_shard *s = store_self();

	ASSERT(a->refs == 0);
	if (!a->evicted)
		lru_remove(&s->warm, &a->warm);
	table_remove(&s->accounts, &a->node);
	gate_give(a->id);
	source_forget(a);
	if (a->live) {
		lru_remove(&s->lives, &a->live->lru);
		live_close(a->live);
	}
	account_forget(a); /* views count on their session's account_open: none is open */
	free(a->logs);
	free(a->repairs);
	free(a);
	metric_dec(&metric_known);
}

/* ---- open and close ---- */

static enum err account_load(uint64_t id, struct account **account_out)
{
	struct store_shard *s = store_self();
	struct account *a;
	struct waitq queue;

	if (s->stopping)
		return ERR_BUSY;
	a = xcalloc(1, sizeof(*a));
	a->id = id;
	a->state = ACCOUNT_LOADING;
	a->refs = 1;
	waitq_init(&queue);
	a->busy = &queue;
	if (table_add(&s->accounts, &a->node) != OK) {
		free(a);
		return ERR_LIMIT;
	}
	lru_add(&s->warm, &a->warm, fiber_class(), 0); /* whose session or delivery asks for it: its tenant's */
	lru_pin(&s->warm, &a->warm);
	metric_inc(&metric_known);
	metric_inc(&metric_loads);
	enum err e = gate_take(id);
	if (e == OK)
		e = own_load(a);
	a->busy = NULL;
	if (e != OK) {
		a->refs = 0;
		account_drop(a);
	} else {
		a->resized = true;
		*account_out = a;
	}
	waitq_wake_all(&queue);
	return e;
}

/* On a shared store an account that was not there may be there now. */
static enum err unborn_still(struct account *a)
{
	char path[ACCOUNT_PATH_BYTES];

	account_path(a->id, path);
	int there = file_exists(store_self()->data_fd, path);
	if (there > 0)
		own_lost(a, "somebody else made it");
	return there < 0 ? ERR_IO : OK;
}

/* Is the newest log still the one that is known? */
static enum err newest_still(struct account *a)
{
	struct account_live *live;
	struct fence_names names;
	enum account_state state = (enum account_state)a->state;
	enum err e = account_live_get(a, &live);

	if (e != OK)
		return e;
	e = fence_list(live->dir_fd, &names);
	if (e == OK && a->state == state && names.newest < a->logs[a->log_count - 1].number)
		e = ERR_AGAIN; /* we have made one since the list began */
	else if (e == OK && a->state == state && names.newest != a->logs[a->log_count - 1].number)
		own_lost(a, "somebody else took it");
	fence_names_release(&names);
	account_live_put(live);
	return e;
}

/* On a shared store what was read from a sealed account may be old: has anybody made a log since? */
static enum err sealed_still(struct account *a)
{
	enum err e;

	if (!file_shared() || a->state != ACCOUNT_SEALED)
		return OK;
	if (account_unborn(a))
		return unborn_still(a);
	do
		e = newest_still(a);
	while (e == ERR_AGAIN && a->state == ACCOUNT_SEALED);
	return e == ERR_AGAIN ? OK : e;
}

static void account_ref(struct account *a)
{
	struct store_shard *s = store_self();

	if (a->evicted) { /* the keepers have not come to it yet */
		link_remove(&a->warm.link);
		a->evicted = false;
		lru_add(&s->warm, &a->warm, a->warm.whose, account_memory_bytes(a));
	}
	a->refs++;
	lru_pin(&s->warm, &a->warm);
}

enum err account_open(uint64_t account_id, struct account **account_out)
{
	ASSERT(store_shard_of(account_id) == shard_index()); /* everything about an account happens on its shard */
	for (;;) {
		struct account *a = account_known(account_id);
		if (!a)
			return account_load(account_id, account_out);
		if (a->busy) {
			(void)waitq_wait(a->busy, 0);
			continue;
		}
		if (a->state == ACCOUNT_LOST) {
			if (a->warm.pins > 0)
				return ERR_FENCED; /* until its sessions have gone */
			account_drop(a);
			continue;
		}
		if (a->starved && a->warm.pins == 0 && !a->evicted && store_disk_has_room()) {
			account_drop(a);
			continue;
		}
		account_ref(a);
		enum err e = sealed_still(a);
		if (e == OK && a->state != ACCOUNT_LOST) {
			metric_inc(&metric_hits);
			*account_out = a;
			return OK;
		}
		account_close(a);
		if (e != OK)
			return e;
	}
}

void account_close(struct account *account)
{
	ASSERT(account->refs > 0);
	if (--account->refs == 0 && account->orphans)
		sweep_begin(account);
	account_unpin(account);
}

/* ---- between two owners ---- */

/* Known and nobody's business of this moment, or NULL. */
static struct account *known_at_rest(uint64_t id)
{
	struct account *a;

	while ((a = account_known(id)) != NULL && a->busy)
		(void)waitq_wait(a->busy, 0);
	return a;
}

enum err account_let_go(uint64_t account_id)
{
	struct account *a = known_at_rest(account_id);

	if (!a)
		return OK;
	if (a->warm.pins > 0 && !a->evicted)
		return ERR_IN_USE;
	if (a->keep)
		return ERR_BUSY;
	warm_let_go(a);
	return OK;
}

enum err account_confirm(uint64_t account_id)
{
	struct account *a = known_at_rest(account_id);
	enum err e = OK;

	if (!a || a->state == ACCOUNT_LOST || account_unborn(a))
		return OK; /* account_open looks at these by itself */
	account_ref(a);
	do
		e = newest_still(a);
	while (e == ERR_AGAIN && a->state != ACCOUNT_LOST);
	if (a->state == ACCOUNT_LOST)
		e = a->warm.pins > 1 ? ERR_FENCED : OK;
	account_close(a);
	return e;
}

uint32_t account_newest_log(const struct account *account)
{
	return account->log_count ? account->logs[account->log_count - 1].number : 0;
}

void account_distrust(struct account *account, uint32_t newest_seen)
{
	if (!account->read_only)
		log_event(LOG_ALARM, "store.older_than_known", LOG_U64("account", account->id), LOG_U64("newest_log", account_newest_log(account)),
			  LOG_U64("known", newest_seen), LOG_Z("effect", "read-only"));
	account->read_only = true;
}

/* ---- destroy ---- */

struct doomed {
	struct buf names;
};

static bool doomed_add(void *arg, const char *name, bool is_dir)
{
	struct doomed *d = arg;

	(void)is_dir;
	return buf_put(&d->names, name, strlen(name) + 1);
}

/* Caches and bodies first, logs from the highest down: what a crash leaves behind is an older state, not a wrong
 * one. */
static enum err directory_empty(int dir_fd)
{
	struct doomed d;
	struct fence_names names;
	char name[LOG_NAME_BYTES];
	uint32_t log;
	enum err e = fence_list(dir_fd, &names);
	int r;

	buf_init(&d.names, FILE_LIST_BYTES_MAX);
	r = e == OK ? file_list(dir_fd, doomed_add, &d) : 0;
	for (size_t at = 0; r >= 0 && at < d.names.len; at += strlen(d.names.ptr + at) + 1)
		if (!log_name_number(d.names.ptr + at, &log))
			r = file_unlink(dir_fd, d.names.ptr + at);
	for (uint32_t i = names.count; r >= 0 && i > 0; i--) {
		log_name(names.logs[i - 1], name);
		r = file_unlink(dir_fd, name);
	}
	buf_release(&d.names);
	fence_names_release(&names);
	return e != OK ? e : r < 0 ? err_from_errno(-r) : OK;
}

static enum err directory_remove(uint64_t id)
{
	int data_fd = store_self()->data_fd;
	char path[ACCOUNT_PATH_BYTES];
	int fd, r;

	account_path(id, path);
	fd = file_open(data_fd, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return err_from_errno(-fd);
	enum err e = directory_empty(fd);
	file_close(fd);
	if (e != OK)
		return e;
	r = file_rmdir(data_fd, path);
	return r < 0 ? err_from_errno(-r) : OK;
}

enum err account_destroy(uint64_t account_id)
{
	struct account *a;
	struct waitq queue;
	enum err e;

	while ((a = account_known(account_id)) != NULL && a->busy)
		(void)waitq_wait(a->busy, 0);
	if (a && a->warm.pins > 0 && !a->evicted)
		return ERR_IN_USE;
	if (!a) {
		e = gate_take(account_id);
		if (e == OK)
			e = directory_remove(account_id);
		gate_give(account_id);
		return e;
	}
	/* it stays in the table until its files are gone, so that nobody opens what is being removed */
	account_ref(a);
	waitq_init(&queue);
	a->busy = &queue;
	e = directory_remove(account_id);
	a->busy = NULL;
	a->refs = 0;
	lru_unpin(&store_self()->warm, &a->warm);
	account_drop(a);
	waitq_wake_all(&queue);
	return e;
}

/* ---- small answers ---- */

void account_usage(const struct account *account, struct account_usage *usage_out)
{
	*usage_out = (struct account_usage){ .bytes = account->bytes,
					     .messages = account->messages,
					     .read_only = account->read_only || account->state == ACCOUNT_LOST };
}

uint64_t account_number(const struct account *account) { return account->id; }
