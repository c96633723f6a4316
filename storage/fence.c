/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fence.c - the steps of the fence (fence.h has the rules).  Here are only names, files and the cut; what an account does
 * with them is own.c, what is read in between is recover.c.
 */
#include "storage/fence.h"

#include "core/base/limits.h"
#include "core/run/file.h"
#include "storage/body.h"

#include <errno.h>
#include <stdlib.h>

/* ---- F1 ---- */

static bool names_add(void *arg, const char *name, bool is_dir)
{
	struct fence_names *names = arg;
	uint8_t guid[GUID_BYTES];
	uint32_t number;

	(void)is_dir; /* nothing may stand under the name of a log, whatever it is */
	names->bodies = names->bodies || body_file_guid(name, guid);
	if (!log_name_number(name, &number))
		return true;
	if (names->count == LOGS_MAX) {
		names->too_many = true;
		return false;
	}
	if (names->count == names->cap) {
		names->cap = names->cap ? 2 * names->cap : 8;
		names->logs = xrealloc(names->logs, names->cap * sizeof(*names->logs));
	}
	names->logs[names->count++] = number;
	return true;
}

static int number_order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

enum err fence_list(int dir_fd, struct fence_names *names_out)
{
	*names_out = (struct fence_names){ .logs = NULL };
	int r = file_list(dir_fd, names_add, names_out);

	if (r < 0)
		return err_from_errno(-r);
	if (names_out->too_many)
		return ERR_CORRUPT;
	if (names_out->count > 0) {
		qsort(names_out->logs, names_out->count, sizeof(*names_out->logs), number_order);
		names_out->newest = names_out->logs[names_out->count - 1];
	}
	return OK;
}

void fence_names_release(struct fence_names *names)
{
	free(names->logs);
	*names = (struct fence_names){ .logs = NULL };
}

/* ---- F2 to F4 ---- */

static enum err still_newest(int dir_fd, uint32_t number)
{
	struct fence_names names;
	enum err e = fence_list(dir_fd, &names);

	if (e == OK && names.newest != number)
		e = ERR_FENCED;
	fence_names_release(&names);
	return e;
}

enum err fence_make(int dir_fd, uint32_t number, int *fd_out)
{
	char name[LOG_NAME_BYTES];
	enum err e = OK;
	int r;

	*fd_out = -1;
	log_name(number, name);
	int fd = file_create_excl(dir_fd, name, 0600); /* F2 */
	if (fd < 0)
		return fd == -EEXIST ? ERR_FENCED : err_from_errno(-fd);
	r = file_sync_dir(dir_fd); /* F3 */
	if (r < 0)
		e = err_from_errno(-r);
	if (e == OK)
		e = still_newest(dir_fd, number); /* F4 */
	if (e != OK) {
		file_close(fd); /* what is left is an empty log: a fence without a cut, which means nothing */
		return e;
	}
	*fd_out = fd;
	return OK;
}

/* ---- F6 ---- */

static bool cut_heads(const struct fence_cut *cut, uint32_t number, struct buf *heads)
{
	struct open_record open = { .fixed = { .format = FORMAT_VERSION,
					       .account_id = cut->account_id,
					       .log = number,
					       .salt = cut->salt,
					       .take = cut->take,
					       .wall_ms = cut->wall_ms } };
	struct cut_record record = { .fixed = { .count = cut->count, .flags = cut->flags }, .ends = cut->ends };

	memcpy(open.fixed.incarnation, cut->incarnation, sizeof(open.fixed.incarnation));
	buf_clear(heads);
	return open_put(heads, &open) && cut_put(heads, &record) && buf_put(heads, cut->more.ptr, cut->more.len);
}

static uint32_t count_records(struct slice heads)
{
	struct record r;
	size_t at = 0;
	uint32_t n = 0;

	while (record_next(heads, &at, &r) == RECORD_NEXT_OK)
		n++;
	return n;
}

enum err fence_cut(int dir_fd, int fd, uint32_t number, const struct fence_cut *cut, struct buf *heads,
		   struct commit_header *header_out)
{
	char bytes[COMMIT_HEADER_BYTES], own[LOG_NAME_BYTES], next[LOG_NAME_BYTES];

	if (number == LOG_NUMBER_MAX || !cut_heads(cut, number, heads))
		return ERR_LIMIT;
	*header_out = (struct commit_header){ .sequence = cut->sequence,
					      .bytes = COMMIT_HEADER_BYTES + heads->len,
					      .records = count_records(buf_slice(heads)) };
	commit_header_put(header_out, buf_slice(heads), cut->salt, number, 0, bytes);
	struct iovec iov[2] = { { bytes, sizeof(bytes) }, { heads->ptr, heads->len } };
	int r = file_commit(fd, iov, 2, 0);
	if (r < 0)
		return err_from_errno(-r);
	log_name(number, own);
	log_name(number + 1, next);
	return fence_look(dir_fd, fd, own, next);
}

/* ---- F8 ---- */

enum err fence_look(int dir_fd, int fd, const char *own_name, const char *next_name)
{
	struct file_info own, named;

	/* the next name first: had the own one been asked first, both could have changed in between (model:
	 * M_LOOKORDER) */
	if (file_exists(dir_fd, next_name) != 0)
		return ERR_FENCED;
	if (file_stat(fd, &own) < 0 || own.links == 0)
		return ERR_FENCED;
	/* a server may keep an open file's name by renaming it away, so ask where the name leads */
	if (file_shared() && (file_stat_name(dir_fd, own_name, &named) < 0 || named.inode != own.inode))
		return ERR_FENCED;
	return OK;
}
