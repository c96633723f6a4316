/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim.c - the back end on a simulated machine; see sim.h.
 *
 * A request takes effect when it begins and completes in the next turn.  That loses no crash state: what is pending is
 * pending from the moment it began, and the moment before a sync has been shown to on_change by the write before it.
 * Time stands still while anything can run and jumps to the next timer when nothing can.
 */
#include "core/run/sim_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define SIM_FDS 65536
#define SIM_FD_FIRST 3
#define SIM_TURN_NS 10000 /* a turn takes a little time, so that deadlines pass even in a busy run */

struct sim_pending_completion {
	struct io_completion c;
	struct sim_pending_completion *next;
};
struct sim {
	struct sim_config config;
	struct io_backend_config shard;
	struct sim_pending_completion *first; /* oldest first */
	unsigned ready;
	uint64_t now_ns, random, enters;
	int inode[SIM_FDS]; /* of a descriptor, + 1; 0 = closed */
	int lowest;
};

static struct sim_config next_config;

void sim_use(const struct sim_config *config) { next_config = *config; }

static uint64_t sim_next_random(struct sim *s)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return s->random;
}

static enum err sim_open(const struct io_backend_config *config, void **be_out, char *why, size_t why_bytes)
{
	(void)why;
	(void)why_bytes;
	ASSERT(next_config.disk);
	struct sim *s = xcalloc(1, sizeof *s);
	s->config = next_config;
	s->shard = *config;
	s->now_ns = 1000000000;
	s->random = next_config.seed * 0x9E3779B97F4A7C15u + 88172645463325252u;
	s->lowest = SIM_FD_FIRST;
	*be_out = s;
	return OK;
}

static void sim_close(void *be)
{
	struct sim *s = be;
	while (s->first) {
		struct sim_pending_completion *p = s->first;
		s->first = p->next;
		free(p);
	}
	free(s);
}

/* ---- descriptors ---- */

static int fd_new(struct sim *s, int inode)
{
	int fd = s->lowest;
	while (fd < SIM_FDS && s->inode[fd])
		fd++;
	if (fd == SIM_FDS)
		return -EMFILE;
	s->inode[fd] = inode + 1;
	s->lowest = fd + 1;
	disk_hold(s->config.disk, inode);
	return fd;
}

static int fd_inode(const struct sim *s, int fd)
{
	if (fd == AT_FDCWD)
		return 0;
	return fd >= SIM_FD_FIRST && fd < SIM_FDS && s->inode[fd] ? s->inode[fd] - 1 : -EBADF;
}

static void sim_fd_close(void *be, int fd)
{
	struct sim *s = be;
	int inode = fd_inode(s, fd);
	ASSERT(inode >= 0); /* closing twice is our mistake */
	disk_release(s->config.disk, inode);
	s->inode[fd] = 0;
	if (fd < s->lowest)
		s->lowest = fd;
}

/* ---- requests ---- */

static void changed(struct sim *s)
{
	if (s->config.on_change)
		s->config.on_change(s->config.arg, s->config.disk);
}

static int64_t do_write(struct sim *s, const struct io_request *r, int inode, uint64_t most)
{
	const struct iovec *iov = r->ptr;
	uint64_t bytes = 0, write;
	for (uint64_t i = 0; i < r->len; i++)
		bytes += iov[i].iov_len;
	bytes = min_u64(bytes, most);
	char *all = xmalloc(bytes + 1);
	uint64_t filled = 0;
	for (uint64_t i = 0; i < r->len && filled < bytes; i++) {
		uint64_t n = min_u64(iov[i].iov_len, bytes - filled);
		if (n)
			memcpy(all + filled, iov[i].iov_base, n);
		filled += n;
	}
	disk_write(s->config.disk, inode, all, bytes, r->offset, &write);
	free(all);
	changed(s);
	if ((r->flags & IO_SYNC_DATA) && !s->config.sync_lies)
		disk_write_durable(s->config.disk, inode, write);
	return (int64_t)bytes;
}

static int64_t on_file(struct sim *s, const struct io_request *r, int inode, uint64_t most)
{
	struct sim_disk *d = s->config.disk;
	switch (r->kind) {
	case IO_READ:
		return disk_is_dir(d, inode) ? -EISDIR : disk_read(d, inode, r->ptr, (size_t)min_u64(r->len, most), r->offset);
	case IO_WRITE:
		return do_write(s, r, inode, most);
	case IO_SYNC:
		if (!s->config.sync_lies)
			disk_sync(d, inode);
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int64_t on_name(struct sim *s, const struct io_request *r, int dir)
{
	struct sim_disk *d = s->config.disk;
	int to = r->kind == IO_RENAME || r->kind == IO_LINK ? fd_inode(s, r->fd2) : 0;
	if (to < 0)
		return to;
	switch (r->kind) {
	case IO_OPEN: {
		int inode = disk_open(d, dir, r->name, (int)r->arg);
		return inode < 0 ? inode : fd_new(s, inode);
	}
	case IO_RENAME:
		return disk_rename(d, dir, r->name, to, r->name2);
	case IO_LINK:
		return disk_link(d, dir, r->name, to, r->name2);
	case IO_UNLINK:
		return disk_unlink(d, dir, r->name, r->arg == AT_REMOVEDIR);
	case IO_MKDIR:
		return disk_mkdir(d, dir, r->name);
	default:
		return -EOPNOTSUPP;
	}
}

static int64_t perform(struct sim *s, const struct io_request *r)
{
	uint64_t most = UINT64_MAX, before = sim_disk_changes(s->config.disk);
	int inode = fd_inode(s, r->fd);
	if (inode < 0)
		return inode;
	int64_t fail = s->config.fail ? s->config.fail(s->config.arg, r) : 0;
	if (fail < 0)
		return fail;
	if (fail > 0)
		most = (uint64_t)fail;
	if (r->kind == IO_READ || r->kind == IO_WRITE || r->kind == IO_SYNC)
		return on_file(s, r, inode, most);
	int64_t result = on_name(s, r, inode);
	if (sim_disk_changes(s->config.disk) != before)
		changed(s);
	return result;
}

static void finish(struct sim *s, uint64_t token, int64_t result)
{
	struct sim_pending_completion *p = xcalloc(1, sizeof *p), **end = &s->first;
	p->c.token = token;
	p->c.result = result;
	while (*end)
		end = &(*end)->next;
	*end = p;
	s->ready++;
}

static void sim_begin(void *be, const struct io_request *r) { finish(be, r->token, perform(be, r)); }
static void sim_cancel(void *be, uint64_t token)
{
	(void)be;
	(void)token; /* everything has happened already */
}

static void sim_wait(void *be, uint64_t timeout_ns)
{
	struct sim *s = be;
	s->enters++;
	s->now_ns += SIM_TURN_NS;
	if (!s->first && timeout_ns != UINT64_MAX)
		s->now_ns += timeout_ns;
}

static unsigned sim_drain(void *be, unsigned max)
{
	struct sim *s = be;
	unsigned n = 0;
	for (; s->first && n < max; n++) {
		struct sim_pending_completion **at = &s->first;
		unsigned skip = s->config.reorder ? (unsigned)(sim_next_random(s) % s->ready) : 0;
		while (skip--)
			at = &(*at)->next;
		struct sim_pending_completion *p = *at;
		*at = p->next;
		s->ready--;
		struct io_completion c = p->c;
		free(p);
		s->shard.complete(s->shard.sink, &c);
	}
	return n;
}

static void sim_wake(void *be, void *from)
{
	(void)be;
	(void)from; /* wait never blocks */
}

static void sim_stats(void *be, struct io_backend_stats *out)
{
	struct sim *s = be;
	*out = (struct io_backend_stats){ .enters = s->enters };
}

static void sim_offload(void *be, uint64_t token, void (*fn)(void *arg), void *arg)
{
	fn(arg);
	finish(be, token, 0);
}

/* ---- time and chance ---- */

static uint64_t sim_boot_ns(void *be) { return ((struct sim *)be)->now_ns; }
static uint64_t sim_wall_ns(void *be) { return ((struct sim *)be)->now_ns + 1700000000ull * 1000000000; }
static void sim_random(void *be, void *out, size_t bytes)
{
	for (size_t i = 0; i < bytes; i++)
		((unsigned char *)out)[i] = (unsigned char)(sim_next_random(be) >> 32);
}

/* ---- direct calls ---- */

static void sim_shutdown(void *be, int fd)
{
	(void)be;
	(void)fd;
}
static void sim_prefetch(void *be, int fd, uint64_t offset, uint64_t bytes)
{
	(void)be;
	(void)fd;
	(void)offset;
	(void)bytes;
}
static int sim_lock(void *be, int fd, bool shared)
{
	(void)be;
	(void)shared;
	(void)fd;
	return 0;
}
static int sim_space(void *be, int fd, struct file_space *out)
{
	struct sim *s = be;
	(void)fd;
	uint64_t bytes = s->config.free_bytes ? s->config.free_bytes : (uint64_t)1 << 40;
	*out = (struct file_space){ bytes, (uint64_t)1 << 41, 1u << 30 };
	return 0;
}
static int sim_exists(void *be, int dir_fd, const char *name)
{
	struct sim *s = be;
	int dir = fd_inode(s, dir_fd);
	if (dir < 0)
		return dir;
	int found = disk_find(s->config.disk, dir, name);
	return found >= 0 ? 1 : found == -ENOENT ? 0 : found;
}
static int sim_stat(void *be, int fd, struct file_info *out)
{
	struct sim *s = be;
	int inode = fd_inode(s, fd);
	if (inode < 0)
		return inode;
	disk_info(s->config.disk, inode, out);
	return 0;
}
static int sim_stat_name(void *be, int dir_fd, const char *name, struct file_info *out)
{
	struct sim *s = be;
	int dir = fd_inode(s, dir_fd);
	int inode = dir < 0 ? dir : disk_find(s->config.disk, dir, name);
	if (inode < 0)
		return inode;
	disk_info(s->config.disk, inode, out);
	return 0;
}
static int sim_list(void *be, int dir_fd, bool (*each)(void *arg, const char *name, bool is_dir), void *arg)
{
	struct sim *s = be;
	int inode = fd_inode(s, dir_fd);
	return inode < 0 ? inode : disk_list(s->config.disk, inode, each, arg);
}
static int sim_syncfs(void *be, int fd)
{
	struct sim *s = be;
	(void)fd;
	if (!s->config.sync_lies)
		disk_sync_all(s->config.disk);
	return 0;
}
static int sim_truncate(void *be, int fd, uint64_t bytes)
{
	struct sim *s = be;
	int inode = fd_inode(s, fd);
	if (inode < 0)
		return inode;
	disk_truncate(s->config.disk, inode, bytes);
	changed(s);
	return 0;
}
static int sim_copy_range(void *be, int from_fd, uint64_t from_offset, int to_fd, uint64_t to_offset, uint64_t bytes)
{
	struct sim *s = be;
	int from = fd_inode(s, from_fd), to = fd_inode(s, to_fd);
	if (from < 0 || to < 0)
		return -EBADF;
	char *all = xmalloc(bytes + 1);
	uint64_t write;
	int64_t n = disk_read(s->config.disk, from, all, bytes, from_offset);
	if (n == (int64_t)bytes) {
		disk_write(s->config.disk, to, all, bytes, to_offset, &write);
		changed(s);
	}
	free(all);
	return n == (int64_t)bytes ? 0 : -EIO;
}

const struct io_backend io_backend_sim = {
	.name = "sim",
	.open = sim_open,
	.close = sim_close,
	.begin = sim_begin,
	.cancel = sim_cancel,
	.wait = sim_wait,
	.drain = sim_drain,
	.wake = sim_wake,
	.stats = sim_stats,
	.offload = sim_offload,
	.boot_ns = sim_boot_ns,
	.wall_ns = sim_wall_ns,
	.random = sim_random,
	.fd_close = sim_fd_close,
	.fd_shutdown = sim_shutdown,
	.prefetch = sim_prefetch,
	.lock = sim_lock,
	.space = sim_space,
	.exists = sim_exists,
	.stat = sim_stat,
	.stat_name = sim_stat_name,
	.list = sim_list,
	.syncfs = sim_syncfs,
	.truncate = sim_truncate,
	.copy_range = sim_copy_range,
};
