/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.c - the data folder of this process, and the store of each shard.
 */
#include "storage/store.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/file.h"
#include "storage/account_private.h"
#include "storage/commit.h"
#include "storage/structure.h"
#include "storage/warm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define FORMAT_FILE "format"
#define ACCOUNTS_DIR "a"

void store_config_default(struct store_config *config_out)
{
	*config_out = (struct store_config){
		.data_path = "/var/lib/penfold",
		.warm_bytes_max = MIB(256),
		.seal_bytes = MIB(64),
		.memory_body_bytes = KIB(256),
		.file_body_bytes = MIB(1),
		.message_bytes_max = MIB(150),
		.reserve_bytes = MIB(64),
		.flags_sync_ms = 1000,
		.commit_ms_max = 10000,
		.scrub_days = 14,
		.log_fds_max = 1024,
		.lock_fd = -1,
	};
}

/* ---- the folder: once per process ---- */

/* written by store_lock and store_unlock only, before and after the shards */
static int folder_fd = -1, format_fd = -1;

/* What a crash during the very first start may have left: part of the text, or zeros. It was synced before anything
 * else was made. */
static bool format_torn(const char *text, size_t bytes)
{
	static const char whole[] = FORMAT_FILE_TEXT;

	if (bytes > sizeof(whole) - 1 || file_exists(folder_fd, ACCOUNTS_DIR) != 0)
		return false;
	for (size_t i = 0; i < bytes; i++)
		if (text[i] != 0 && text[i] != whole[i])
			return false;
	return true;
}

/* Writes what the folder is, or checks it. */
static enum err format_check(void)
{
	char text[sizeof(FORMAT_FILE_TEXT) + 1];
	struct iovec iov = { (void *)(uintptr_t)FORMAT_FILE_TEXT, sizeof(FORMAT_FILE_TEXT) - 1 };
	int64_t n = file_read(format_fd, text, sizeof(text), 0);

	if (n < 0)
		return ERR_IO;
	if (slice_eq(slice_of(text, (size_t)n), SLICE_LIT(FORMAT_FILE_TEXT)))
		return OK;
	if (n == 0 || format_torn(text, (size_t)n))
		return file_commit(format_fd, &iov, 1, 0) < 0 ? ERR_IO : OK;
	log_event(LOG_ERROR, "store.format", LOG_STR("found", slice_of(text, (size_t)n)),
		  LOG_Z("expected", FORMAT_FILE_TEXT));
	return ERR_CONFIG;
}

static enum err folder_make(const char *name)
{
	int r = file_mkdir(folder_fd, name, 0700);

	return r < 0 && r != -EEXIST ? err_from_errno(-r) : OK;
}

/* A lock that was handed down is this folder's, and not that of one which the configuration named before. */
static bool is_format_file(int fd)
{
	struct file_info open, named;

	return file_stat(fd, &open) >= 0 && file_stat_name(folder_fd, FORMAT_FILE, &named) >= 0 && open.inode == named.inode;
}

static enum err folder_open(const struct store_config *config)
{
	enum err e;
	int r;

	folder_fd = file_open(AT_FDCWD, config->data_path, O_RDONLY | O_DIRECTORY, 0);
	if (folder_fd < 0)
		return err_from_errno(-folder_fd);
	format_fd = config->lock_fd >= 0 ? config->lock_fd : file_open(folder_fd, FORMAT_FILE, O_RDWR | O_CREAT, 0600);
	if (format_fd < 0)
		return err_from_errno(-format_fd);
	if (config->lock_fd >= 0 && !is_format_file(config->lock_fd)) {
		format_fd = -1; /* whose it is closes it */
		return ERR_CONFIG;
	}
	file_set_shared(config->shared);
	r = config->shared ? file_lock_shared(format_fd) : file_lock(format_fd);
	if (r < 0)
		return r == -EWOULDBLOCK ? ERR_IN_USE : err_from_errno(-r);
	e = format_check();
	if (e == OK)
		e = folder_make(ACCOUNTS_DIR);
	if (e == OK && file_sync_dir(folder_fd) < 0)
		e = ERR_IO;
	/* what a dead process left in the page cache becomes durable before it is believed */
	if (e == OK && file_syncfs(folder_fd) < 0)
		e = ERR_IO;
	return e;
}

static void folder_close(void)
{
	if (format_fd >= 0)
		file_close(format_fd);
	if (folder_fd >= 0)
		file_close(folder_fd);
	format_fd = folder_fd = -1;
}

struct locking {
	const struct store_config *config; /* NULL: unlock */
	enum err result;
};

static void lock_run(void *arg)
{
	struct locking *l = arg;

	l->result = l->config ? folder_open(l->config) : OK;
	if (!l->config || l->result != OK)
		folder_close();
}

/* The door to the disk is for fibers; the main thread has none. */
static enum err lock_call(struct locking *l)
{
	enum err e = OK;

	if (fiber_self())
		lock_run(l);
	else
		e = shard_run_alone(lock_run, l);
	return e != OK ? e : l->result;
}

enum err store_lock(const struct store_config *config)
{
	struct locking l = { config, OK };

	ASSERT(folder_fd < 0);
	return lock_call(&l);
}

int store_lock_fd(void) { return format_fd; }

void store_unlock(void)
{
	struct locking l = { NULL, OK };

	if (folder_fd >= 0)
		(void)lock_call(&l);
}

unsigned store_shard_of(uint64_t account_id)
{
	/* not the hash that spreads directories, so that a shard's accounts do not share one */
	return (unsigned)(hash64(slice_of(&account_id, sizeof(account_id)), 1) % shard_count());
}

/* ---- a shard's store ---- */

struct store_shard *store_self(void)
{
	struct store_shard *s = shard_local(SHARD_SLOT_STORE);

	ASSERT(s != NULL);
	return s;
}

static void shard_init(struct store_shard *s, const struct store_config *config)
{
	uint64_t seed;

	s->config = *config;
	if (s->config.seal_bytes == 0 || s->config.seal_bytes > SEAL_BYTES_MAX)
		s->config.seal_bytes = SEAL_BYTES_MAX;
	random_bytes(&seed, sizeof(seed));
	random_bytes(s->incarnation, sizeof(s->incarnation));
	table_init(&s->accounts, TABLE_ENTRIES_MAX, seed, account_key_of);
	lru_init(&s->warm, config->warm_bytes_max / shard_count(), warm_evict);
	lru_share(&s->warm, s->warm_lines);
	lru_init(&s->lives, max_u64(config->log_fds_max / shard_count(), LIVES_FDS_MIN), account_live_evict);
	lru_share(&s->lives, s->lives_lines);
	list_init(&s->evicted);
	waitq_init(&s->keepers_done);
}

static void shard_free(struct store_shard *s)
{
	shard_set_local(SHARD_SLOT_STORE, NULL);
	if (s->data_fd >= 0)
		file_close(s->data_fd);
	table_release(&s->accounts);
	free(s);
}

enum err store_start(const struct store_config *config)
{
	struct store_shard *s = xcalloc(1, sizeof(*s));
	enum err e;

	shard_init(s, config);
	shard_set_local(SHARD_SLOT_STORE, s);
	s->data_fd = file_open(AT_FDCWD, config->data_path, O_RDONLY | O_DIRECTORY, 0);
	e = s->data_fd < 0 ? err_from_errno(-s->data_fd) : body_start(config, s->data_fd);
	if (e != OK) {
		shard_free(s);
		return e;
	}
	structure_start();
	e = source_start();
	if (e == OK)
		e = scrub_start();
	if (e != OK)
		store_stop();
	return e;
}

void store_stop(void)
{
	struct store_shard *s = store_self();

	s->stopping = true;
	scrub_stop();
	warm_stop();
	if (s->accounts.count > 0)
		return; /* sessions that did not end: their memory must stay as it is, the process is going */
	s->lives.bytes_max = 0;
	(void)lru_trim(&s->lives);
	commit_release_scratch();
	source_stop();
	structure_stop();
	body_stop();
	shard_free(s);
}

static bool disk_free(uint64_t *bytes_out)
{
	struct store_shard *s = store_self();
	struct file_space space;
	uint64_t now = clock_now_ms();

	if (s->free_bytes_at_ms == 0 || now - s->free_bytes_at_ms >= DISK_LOOK_MS) {
		if (file_space(s->data_fd, &space) < 0)
			return false;
		s->free_bytes = space.free_bytes;
		s->free_bytes_at_ms = max_u64(now, 1);
	}
	*bytes_out = s->free_bytes;
	return true;
}

bool store_disk_low(void)
{
	uint64_t bytes;

	return disk_free(&bytes) && bytes < store_self()->config.reserve_bytes; /* not known: a write will tell */
}

bool store_disk_has_room(void)
{
	uint64_t bytes;

	return disk_free(&bytes) && bytes >= DISK_ROOM_BYTES;
}

/* A fast disk takes more than the reserve between two looks; what other shards write is guessed to be as much. */
void store_wrote(uint64_t bytes)
{
	struct store_shard *s = store_self();

	s->free_bytes -= min_u64(s->free_bytes, bytes * shard_count());
}
