/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c - descriptors for reading, kept per shard, and records read alone.
 */
#include "storage/source.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "core/run/file.h"
#include "storage/ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

METRIC_COUNTER(opens, "store_files_opened_total", "logs and body files opened for reading");

struct file_key {
	uint64_t account_id;
	uint64_t log; /* 0: a body file */
	uint8_t guid[GUID_BYTES];
};

struct source_file {
	struct table_node node;
	struct lru_node lru;
	struct file_key key;
	int fd;
	uint64_t serial;
	uint32_t pins; /* of senders; the LRU counts its own */
	bool forgotten; /* in no table: closed by the last unpin */
};

struct condemned {
	uint64_t account_id, offset;
	uint32_t log;
};

struct source_shard {
	struct table files;
	struct lru lru; /* bytes are descriptors */
	uint64_t serials;
	struct condemned *condemned;
	uint32_t condemned_count;
};

static struct source_shard *shard_state(void)
{
	struct source_shard *s = shard_local(SHARD_SLOT_SOURCE);
	ASSERT(s != NULL);
	return s;
}

static struct slice key_of(const struct table_node *n)
{
	return slice_of(&CONTAINER_OF(n, struct source_file, node)->key, sizeof(struct file_key));
}

static void file_free(struct source_file *f)
{
	ASSERT(f->pins == 0);
	file_close(f->fd);
	free(f);
}

/* From the LRU: nobody uses it. */
static void evict(struct lru_node *n)
{
	struct source_file *f = CONTAINER_OF(n, struct source_file, lru);
	table_remove(&shard_state()->files, &f->node);
	file_free(f);
}

static struct source_file *pin(struct source_file *f)
{
	f->pins++;
	lru_pin(&shard_state()->lru, &f->lru);
	return f;
}

void source_unpin(struct source_file *file)
{
	struct source_shard *s = shard_state();
	ASSERT(file->pins > 0);
	file->pins--;
	if (file->forgotten) {
		if (file->pins == 0)
			file_free(file);
		return;
	}
	lru_unpin(&s->lru, &file->lru);
	(void)lru_trim(&s->lru);
}

int source_fd(const struct source_file *file) { return file->fd; }

uint64_t source_serial(const struct source_file *file) { return file->serial; }

static struct source_file *lookup(const struct file_key *key)
{
	struct table_node *n = table_find(&shard_state()->files, slice_of(key, sizeof(*key)));
	return n ? pin(CONTAINER_OF(n, struct source_file, node)) : NULL;
}

/* Takes over the descriptor, unless somebody else opened the same file meanwhile. */
static enum err keep(const struct file_key *key, int fd, struct source_file **file_out)
{
	struct source_shard *s = shard_state();
	*file_out = lookup(key);
	if (*file_out) {
		file_close(fd);
		return OK;
	}
	struct source_file *f = xcalloc(1, sizeof(*f));
	f->key = *key;
	f->fd = fd;
	f->serial = ++s->serials;
	if (table_add(&s->files, &f->node) != OK) {
		file_free(f);
		return ERR_BUSY;
	}
	lru_add(&s->lru, &f->lru, 0, 1);
	*file_out = pin(f);
	(void)lru_trim(&s->lru);
	metric_inc(&opens);
	return OK;
}

static enum err open_below(struct account *a, const char *name, int *fd_out)
{
	struct account_live *live;
	enum err e = account_live_get(a, &live);
	if (e)
		return e;
	int fd = file_open(live->dir_fd, name, O_RDONLY, 0);
	account_live_put(live);
	if (fd == -ENOENT)
		return ERR_NOT_FOUND;
	if (fd == -EMFILE || fd == -ENFILE)
		return ERR_BUSY;
	*fd_out = fd;
	return fd < 0 ? ERR_IO : OK;
}

enum err source_pin_log(struct account *a, uint32_t log, struct source_file **file_out)
{
	struct file_key key = { .account_id = a->id, .log = log };
	char name[LOG_NAME_BYTES];
	int fd = -1;
	*file_out = lookup(&key);
	if (*file_out)
		return OK;
	if (log == 0)
		return ERR_CORRUPT; /* a row whose body no record named */
	log_name(log, name);
	enum err e = open_below(a, name, &fd);
	struct file_info info;
	int r = e ? 0 : file_stat(fd, &info);
	const struct log *known = account_log(a, log);
	if (!e && r == 0 && known && !known->stub && info.inode == known->inode)
		return keep(&key, fd, file_out);
	if (!e)
		file_close(fd);
	if (e && e != ERR_NOT_FOUND)
		return e;
	return !known || known->stub ? ERR_AGAIN : r == 0 ? ERR_FENCED : ERR_IO;
}

enum err source_pin_body(struct account *a, const uint8_t guid[GUID_BYTES], struct source_file **file_out)
{
	struct file_key key = { .account_id = a->id };
	char name[BODY_FILE_NAME_BYTES];
	int fd = -1;
	memcpy(key.guid, guid, GUID_BYTES);
	*file_out = lookup(&key);
	if (*file_out)
		return OK;
	body_file_name(guid, name);
	enum err e = open_below(a, name, &fd);
	if (e)
		return e == ERR_NOT_FOUND ? ERR_CORRUPT : e;
	return keep(&key, fd, file_out);
}

static void forget(struct source_file *f)
{
	struct source_shard *s = shard_state();
	table_remove(&s->files, &f->node);
	lru_remove(&s->lru, &f->lru);
	f->forgotten = true;
	if (f->pins == 0)
		file_free(f);
}

bool source_forget_log(const struct account *a, uint32_t log)
{
	struct file_key key = { .account_id = a->id, .log = log };
	struct table_node *n = table_find(&shard_state()->files, slice_of(&key, sizeof(key)));
	if (!n)
		return true;
	struct source_file *f = CONTAINER_OF(n, struct source_file, node);
	bool idle = f->pins == 0;
	if (idle || !file_shared()) /* on a shared store the name must not be taken while we hold the file, so we must go on knowing */
		forget(f);
	return idle;
}

void source_forget(const struct account *a)
{
	struct source_shard *s = shard_local(SHARD_SLOT_SOURCE);
	if (!s)
		return;
	LIST_FOREACH(&s->files.order, it) {
		struct source_file *f = CONTAINER_OF(CONTAINER_OF(it, struct table_node, order), struct source_file, node);
		if (f->key.account_id == a->id)
			forget(f);
	}
}

/* ---- quarantine ---- */

bool source_condemned(const struct account *a, uint32_t log, uint64_t offset)
{
	const struct source_shard *s = shard_state();
	for (uint32_t i = 0; i < s->condemned_count; i++)
		if (s->condemned[i].account_id == a->id && s->condemned[i].log == log && s->condemned[i].offset == offset)
			return true;
	return false;
}

void source_condemn(uint64_t account_id, uint32_t log, uint64_t offset)
{
	struct source_shard *s = shard_state();
	for (uint32_t i = 0; i < s->condemned_count; i++)
		if (s->condemned[i].account_id == account_id && s->condemned[i].log == log && s->condemned[i].offset == offset)
			return;
	if (s->condemned_count == SOURCE_CONDEMNED_MAX)
		return; /* told all the same */
	s->condemned = xrealloc(s->condemned, (s->condemned_count + 1) * sizeof(*s->condemned));
	s->condemned[s->condemned_count++] = (struct condemned){ account_id, offset, log };
}

/* ---- windows ---- */

/* Makes [offset, offset + bytes) lie in the window, as far as the file goes. */
static enum err window_cover(struct window *w, int fd, uint64_t offset, uint64_t bytes)
{
	ASSERT(offset >= w->offset);
	uint64_t end = offset + bytes, have = w->offset + w->len;
	if (end <= have)
		return OK;
	w->ptr = xrealloc(w->ptr, (size_t)(end - w->offset));
	int64_t r = file_read(fd, w->ptr + w->len, (size_t)(end - have), have);
	if (r < 0)
		return ERR_IO;
	w->len += (size_t)r;
	return OK;
}

/* All of the record there is in the window already. */
static bool window_has(const struct window *w, uint64_t offset)
{
	struct record_header h;
	uint64_t end = w->offset + w->len;
	if (!w->ptr || offset < w->offset || offset + sizeof(h) > end)
		return false;
	memcpy(&h, w->ptr + (offset - w->offset), sizeof(h));
	return h.bytes >= sizeof(h) && h.bytes <= SOURCE_RECORD_BYTES_MAX && offset + h.bytes <= end;
}

enum err window_need(struct window *w, int fd, uint64_t offset, uint64_t guess)
{
	if (offset % 8 != 0)
		return ERR_CORRUPT;
	if (window_has(w, offset))
		return OK;
	if (!w->ptr)
		w->offset = offset;
	enum err e = window_cover(w, fd, offset, max_u64(guess, RECORD_HEADER_BYTES));
	if (e)
		return e;
	uint64_t have = w->offset + w->len;
	if (have < offset + RECORD_HEADER_BYTES)
		return ERR_CORRUPT;
	struct record_header h;
	memcpy(&h, w->ptr + (offset - w->offset), sizeof(h));
	if (h.bytes < sizeof(h) || h.bytes > SOURCE_RECORD_BYTES_MAX)
		return ERR_CORRUPT;
	e = window_cover(w, fd, offset, h.bytes);
	return e ? e : w->offset + w->len < offset + h.bytes ? ERR_CORRUPT : OK;
}

bool window_record(const struct window *w, uint64_t offset, struct record *record_out)
{
	ASSERT(offset >= w->offset && offset - w->offset <= w->len);
	return record_get(slice_of(w->ptr + (offset - w->offset), w->len - (size_t)(offset - w->offset)), record_out);
}

void window_release(struct window *w)
{
	free(w->ptr);
	*w = (struct window){ 0 };
}

/* ---- message records ---- */

enum err source_message(struct account *a, uint32_t folder, const struct row *row, struct window *window, struct message_record *record_out)
{
	struct source_file *file;
	struct record r;
	const struct row at = *row; /* the caller's may move while we wait */
	enum err e = source_pin_log(a, at.record_log, &file);
	if (e)
		return e;
	e = window_need(window, file->fd, at.record_offset, SOURCE_GUESS_BYTES);
	source_unpin(file);
	if (e)
		return e;
	if (!window_record(window, at.record_offset, &r) || r.type != RECORD_MESSAGE || !message_get(&r, record_out) ||
	    record_out->fixed.uid != at.uid || record_out->fixed.folder != folder)
		return ERR_CORRUPT;
	return OK;
}

enum err source_guid(struct account *a, const struct row *row, uint8_t guid_out[GUID_BYTES])
{
	struct window w = { 0 };
	struct source_file *file;
	struct record r;
	struct message_record m;
	const struct row at = *row;
	enum err e = source_pin_log(a, at.record_log, &file);
	if (e)
		return e;
	e = window_need(&w, file->fd, at.record_offset, SOURCE_GUESS_BYTES);
	source_unpin(file);
	if (!e && (!window_record(&w, at.record_offset, &r) || r.type != RECORD_MESSAGE || !message_get(&r, &m) || m.fixed.uid != at.uid))
		e = ERR_CORRUPT;
	if (!e)
		memcpy(guid_out, m.fixed.guid, GUID_BYTES);
	window_release(&w);
	return e;
}

/* ---- start and stop ---- */

enum err source_start(void)
{
	struct source_shard *s = xcalloc(1, sizeof(*s));
	uint64_t seed, fds = store_self()->config.log_fds_max / shard_count();
	random_bytes(&seed, sizeof(seed));
	fds = max_u64(fds, SOURCE_FDS_MIN);
	table_init(&s->files, SOURCE_FILES_MAX, seed, key_of);
	lru_init(&s->lru, fds, evict);
	shard_set_local(SHARD_SLOT_SOURCE, s);
	ahead_start();
	return OK;
}

void source_stop(void)
{
	struct source_shard *s = shard_state();
	ahead_stop();
	s->lru.bytes_max = 0;
	(void)lru_trim(&s->lru);
	ASSERT(s->files.count == 0); /* every message_open had its message_close */
	table_release(&s->files);
	free(s->condemned);
	shard_set_local(SHARD_SLOT_SOURCE, NULL);
	free(s);
}
