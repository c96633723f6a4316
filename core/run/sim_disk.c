/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sim_disk.c - a file system in memory that knows what a power failure would leave of it.
 *
 * An inode has the bytes that are seen and the bytes that are durable; the difference is explained by its pending writes.  A
 * directory has the same for its entries: `seen` and `durable` maps, and pending steps.  A rename within one directory is
 * one step (atomic); between two directories it is an add in one and a removal in the other, independent of each other.
 */
#include "core/run/sim_private.h"

#include "core/base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

struct bytes {
	char *ptr;
	uint64_t len;
};
struct pending_write {
	uint64_t id, offset;
	struct bytes data; /* ptr NULL: a truncation to `offset` */
	struct pending_write *next;
};
struct entry {
	char *name;
	int inode;
};
struct entries {
	struct entry *e;
	unsigned count;
};
struct step { /* name -> inode (-1: removed), and for a rename also from -> gone */
	char *name, *from;
	int inode;
	struct step *next;
};
struct inode {
	bool dir, used;
	unsigned holds;
	struct bytes seen, durable;
	struct pending_write *writes; /* oldest first */
	struct entries names, durable_names;
	struct step *steps;
};
struct sim_disk {
	struct inode *inode;
	int count;
	uint64_t changes, next_write;
};

/* ---- small parts ---- */

static void bytes_put(struct bytes *b, const void *from, uint64_t len, uint64_t offset)
{
	if (offset + len > b->len) {
		b->ptr = xrealloc(b->ptr, offset + len);
		memset(b->ptr + b->len, 0, offset + len - b->len);
		b->len = offset + len;
	}
	if (from && len)
		memcpy(b->ptr + offset, from, len);
}

static struct bytes bytes_copy(const struct bytes *from)
{
	struct bytes b = { NULL, from->len };
	if (from->ptr) {
		b.ptr = xmalloc(from->len + 1);
		memcpy(b.ptr, from->ptr, from->len);
	}
	return b;
}

static void bytes_cut(struct bytes *b, uint64_t len)
{
	if (len > b->len)
		bytes_put(b, NULL, 0, len);
	b->len = len;
}

static int entries_find(const struct entries *n, const char *name)
{
	for (unsigned i = 0; i < n->count; i++)
		if (!strcmp(n->e[i].name, name))
			return (int)i;
	return -1;
}

static void entries_set(struct entries *n, const char *name, int inode)
{
	int at = entries_find(n, name);
	if (inode < 0 && at >= 0) {
		free(n->e[at].name);
		n->e[at] = n->e[--n->count];
	} else if (inode >= 0 && at >= 0) {
		n->e[at].inode = inode;
	} else if (inode >= 0) {
		n->e = xrealloc(n->e, (n->count + 1) * sizeof *n->e);
		n->e[n->count].name = xstrdup(name);
		n->e[n->count++].inode = inode;
	}
}

static struct entries entries_copy(const struct entries *from)
{
	struct entries n = { NULL, 0 };
	for (unsigned i = 0; i < from->count; i++)
		entries_set(&n, from->e[i].name, from->e[i].inode);
	return n;
}

static void entries_free(struct entries *n)
{
	for (unsigned i = 0; i < n->count; i++)
		free(n->e[i].name);
	free(n->e);
	n->e = NULL;
	n->count = 0;
}

static void step_apply(struct entries *n, const struct step *s)
{
	if (s->from)
		entries_set(n, s->from, -1);
	entries_set(n, s->name, s->inode);
}

static void write_apply(struct bytes *b, const struct pending_write *w)
{
	if (w->data.ptr)
		bytes_put(b, w->data.ptr, w->data.len, w->offset);
	else
		bytes_cut(b, w->offset);
}

static void step_free(struct step *s)
{
	free(s->name);
	free(s->from);
	free(s);
}

static void write_free(struct pending_write *w)
{
	free(w->data.ptr);
	free(w);
}

static struct inode *at(const struct sim_disk *d, int inode)
{
	ASSERT(inode >= 0 && inode < d->count && d->inode[inode].used);
	return &d->inode[inode];
}

static int inode_new(struct sim_disk *d, bool dir)
{
	d->inode = xrealloc(d->inode, ((size_t)d->count + 1) * sizeof *d->inode);
	d->inode[d->count] = (struct inode){ .dir = dir, .used = true };
	return d->count++;
}

static void forget_pending(struct inode *i)
{
	while (i->writes) {
		struct pending_write *w = i->writes;
		i->writes = w->next;
		write_free(w);
	}
	while (i->steps) {
		struct step *s = i->steps;
		i->steps = s->next;
		step_free(s);
	}
}

static void step_add(struct sim_disk *d, int dir, const char *name, int inode, const char *from)
{
	struct step *s = xcalloc(1, sizeof *s), **end = &d->inode[dir].steps;
	s->name = xstrdup(name);
	s->from = from ? xstrdup(from) : NULL;
	s->inode = inode;
	while (*end)
		end = &(*end)->next;
	*end = s;
	step_apply(&d->inode[dir].names, s);
	d->changes++;
}

/* ---- life ---- */

struct sim_disk *sim_disk_new(void)
{
	struct sim_disk *d = xcalloc(1, sizeof *d);
	inode_new(d, true); /* the root is inode 0 */
	return d;
}

struct sim_disk *sim_disk_copy(const struct sim_disk *disk)
{
	struct sim_disk *d = xcalloc(1, sizeof *d);
	d->changes = disk->changes;
	d->next_write = disk->next_write;
	for (int n = 0; n < disk->count; n++) {
		const struct inode *from = &disk->inode[n];
		inode_new(d, from->dir);
		struct inode *to = &d->inode[n];
		to->used = from->used;
		to->seen = bytes_copy(&from->seen);
		to->durable = bytes_copy(&from->durable);
		to->names = entries_copy(&from->names);
		to->durable_names = entries_copy(&from->durable_names);
		struct pending_write **wend = &to->writes;
		for (const struct pending_write *w = from->writes; w; w = w->next, wend = &(*wend)->next) {
			*wend = xcalloc(1, sizeof **wend);
			(*wend)->id = w->id;
			(*wend)->offset = w->offset;
			(*wend)->data = bytes_copy(&w->data);
		}
		struct step **send = &to->steps;
		for (const struct step *s = from->steps; s; s = s->next, send = &(*send)->next) {
			*send = xcalloc(1, sizeof **send);
			(*send)->name = xstrdup(s->name);
			(*send)->from = s->from ? xstrdup(s->from) : NULL;
			(*send)->inode = s->inode;
		}
	}
	return d;
}

void sim_disk_free(struct sim_disk *disk)
{
	for (int n = 0; n < disk->count; n++) {
		struct inode *i = &disk->inode[n];
		forget_pending(i);
		free(i->seen.ptr);
		free(i->durable.ptr);
		entries_free(&i->names);
		entries_free(&i->durable_names);
	}
	free(disk->inode);
	free(disk);
}

uint64_t sim_disk_changes(const struct sim_disk *disk) { return disk->changes; }

/* ---- names ---- */

/* The directory that holds the last component, which *leaf_out points at. */
static int walk(const struct sim_disk *d, int dir, const char *path, char leaf_out[256])
{
	if (*path == '/')
		dir = 0;
	while (*path == '/')
		path++;
	for (;;) {
		size_t len = strcspn(path, "/");
		ASSERT(len < 256);
		memcpy(leaf_out, path, len);
		leaf_out[len] = 0;
		path += len;
		while (*path == '/')
			path++;
		if (!*path)
			return dir;
		int e = entries_find(&at(d, dir)->names, leaf_out);
		if (e < 0)
			return -ENOENT;
		dir = d->inode[dir].names.e[e].inode;
		if (!at(d, dir)->dir)
			return -ENOTDIR;
	}
}

int disk_find(const struct sim_disk *d, int dir, const char *path)
{
	char leaf[256];
	dir = walk(d, dir, path, leaf);
	if (dir < 0)
		return dir;
	if (!leaf[0] || !strcmp(leaf, "."))
		return dir;
	int e = entries_find(&at(d, dir)->names, leaf);
	return e < 0 ? -ENOENT : d->inode[dir].names.e[e].inode;
}

int disk_open(struct sim_disk *d, int dir, const char *path, int flags)
{
	char leaf[256];
	int found = disk_find(d, dir, path);
	if (found >= 0) {
		if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
			return -EEXIST;
		if ((flags & O_DIRECTORY) && !at(d, found)->dir)
			return -ENOTDIR;
		if (at(d, found)->dir && (flags & O_ACCMODE) != O_RDONLY)
			return -EISDIR;
		if (flags & O_TRUNC)
			disk_truncate(d, found, 0);
		return found;
	}
	if (!(flags & O_CREAT))
		return found;
	dir = walk(d, dir, path, leaf);
	if (dir < 0)
		return dir;
	int inode = inode_new(d, false);
	step_add(d, dir, leaf, inode, NULL);
	return inode;
}

int disk_mkdir(struct sim_disk *d, int dir, const char *path)
{
	char leaf[256];
	if (disk_find(d, dir, path) >= 0)
		return -EEXIST;
	dir = walk(d, dir, path, leaf);
	if (dir < 0)
		return dir;
	int inode = inode_new(d, true);
	step_add(d, dir, leaf, inode, NULL);
	return 0;
}

int disk_link(struct sim_disk *d, int from_dir, const char *from, int to_dir, const char *to)
{
	char leaf[256];
	int inode = disk_find(d, from_dir, from);
	if (inode < 0)
		return inode;
	if (disk_find(d, to_dir, to) >= 0)
		return -EEXIST;
	to_dir = walk(d, to_dir, to, leaf);
	if (to_dir < 0)
		return to_dir;
	step_add(d, to_dir, leaf, inode, NULL);
	return 0;
}

int disk_rename(struct sim_disk *d, int from_dir, const char *from, int to_dir, const char *to)
{
	char from_leaf[256], to_leaf[256];
	int inode = disk_find(d, from_dir, from);
	if (inode < 0)
		return inode;
	from_dir = walk(d, from_dir, from, from_leaf);
	to_dir = walk(d, to_dir, to, to_leaf);
	if (from_dir < 0 || to_dir < 0)
		return -ENOENT;
	if (from_dir == to_dir) {
		step_add(d, to_dir, to_leaf, inode, from_leaf);
	} else {
		step_add(d, to_dir, to_leaf, inode, NULL);
		step_add(d, from_dir, from_leaf, -1, NULL);
	}
	return 0;
}

int disk_unlink(struct sim_disk *d, int dir, const char *path, bool is_dir)
{
	char leaf[256];
	int inode = disk_find(d, dir, path);
	if (inode < 0)
		return inode;
	if (at(d, inode)->dir != is_dir)
		return is_dir ? -ENOTDIR : -EISDIR;
	if (is_dir && at(d, inode)->names.count)
		return -ENOTEMPTY;
	dir = walk(d, dir, path, leaf);
	step_add(d, dir, leaf, -1, NULL);
	return 0;
}

int disk_list(const struct sim_disk *d, int inode, bool (*each)(void *arg, const char *name, bool is_dir), void *arg)
{
	const struct entries *n = &at(d, inode)->names;
	for (unsigned i = 0; i < n->count; i++)
		if (!each(arg, n->e[i].name, at(d, n->e[i].inode)->dir))
			break;
	return 0;
}

/* ---- bytes ---- */

int64_t disk_read(const struct sim_disk *d, int inode, void *out, size_t bytes, uint64_t offset)
{
	const struct bytes *b = &at(d, inode)->seen;
	if (offset >= b->len)
		return 0;
	uint64_t n = min_u64(bytes, b->len - offset);
	memcpy(out, b->ptr + offset, n);
	return (int64_t)n;
}

static void write_add(struct sim_disk *d, int inode, const void *from, size_t bytes, uint64_t offset)
{
	struct pending_write *w = xcalloc(1, sizeof *w), **end = &at(d, inode)->writes;
	w->id = ++d->next_write;
	w->offset = offset;
	if (from) {
		w->data.ptr = xmalloc(bytes + 1);
		memcpy(w->data.ptr, from, bytes);
		w->data.len = bytes;
	}
	while (*end)
		end = &(*end)->next;
	*end = w;
	write_apply(&at(d, inode)->seen, w);
	d->changes++;
}

void disk_write(struct sim_disk *d, int inode, const void *from, size_t bytes, uint64_t offset, uint64_t *write_out)
{
	write_add(d, inode, from, bytes, offset);
	*write_out = d->next_write;
}

void disk_truncate(struct sim_disk *d, int inode, uint64_t bytes) { write_add(d, inode, NULL, 0, bytes); }

void disk_write_durable(struct sim_disk *d, int inode, uint64_t write)
{
	struct inode *i = at(d, inode);
	for (struct pending_write **w = &i->writes; *w; w = &(*w)->next) {
		if ((*w)->id != write)
			continue;
		struct pending_write *done = *w;
		write_apply(&i->durable, done);
		*w = done->next;
		write_free(done);
		d->changes++;
		return;
	}
}

void disk_sync(struct sim_disk *d, int inode)
{
	struct inode *i = at(d, inode);
	for (struct pending_write *w = i->writes; w; w = w->next)
		write_apply(&i->durable, w);
	for (struct step *s = i->steps; s; s = s->next)
		step_apply(&i->durable_names, s);
	if (i->writes || i->steps)
		d->changes++;
	forget_pending(i);
}

void disk_sync_all(struct sim_disk *d)
{
	for (int n = 0; n < d->count; n++)
		disk_sync(d, n);
}

bool disk_is_dir(const struct sim_disk *d, int inode) { return at(d, inode)->dir; }

void disk_info(const struct sim_disk *d, int inode, struct file_info *info_out)
{
	const struct inode *i = at(d, inode);
	*info_out = (struct file_info){ .bytes = i->seen.len, .inode = (uint64_t)inode + 1, .disk_bytes = i->seen.len, .is_dir = i->dir };
	for (int n = 0; n < d->count; n++)
		for (unsigned e = 0; e < d->inode[n].names.count; e++)
			info_out->links += d->inode[n].names.e[e].inode == inode;
}

void disk_hold(struct sim_disk *d, int inode) { at(d, inode)->holds++; }
void disk_release(struct sim_disk *d, int inode) { at(d, inode)->holds--; }

/* ---- crashes ---- */

/* What may become of one pending write: 0 not there, 1 whole, 2 its first half, 3 its second half, 4 zeros of its length. */
#define WRITE_FATES 5u
#define STEP_FATES 2u

unsigned sim_pending(const struct sim_disk *disk)
{
	unsigned n = 0;
	for (int i = 0; i < disk->count; i++) {
		for (struct pending_write *w = disk->inode[i].writes; w; w = w->next)
			n++;
		for (struct step *s = disk->inode[i].steps; s; s = s->next)
			n++;
	}
	return n;
}

uint64_t sim_crash_count(const struct sim_disk *disk, uint64_t cap)
{
	uint64_t n = 1;
	for (int i = 0; i < disk->count && n <= cap; i++) {
		for (struct pending_write *w = disk->inode[i].writes; w && n <= cap; w = w->next)
			n *= WRITE_FATES;
		for (struct step *s = disk->inode[i].steps; s && n <= cap; s = s->next)
			n *= STEP_FATES;
	}
	return min_u64(n, cap);
}

static void write_fate(struct bytes *b, const struct pending_write *w, unsigned fate)
{
	uint64_t half = w->data.len / 2 & ~(uint64_t)7;
	if (fate == 0)
		return;
	if (fate == 1 || !w->data.ptr)
		write_apply(b, w);
	else if (fate == 2)
		bytes_put(b, w->data.ptr, half, w->offset);
	else if (fate == 3)
		bytes_put(b, w->data.ptr + half, w->data.len - half, w->offset + half);
	else
		bytes_put(b, NULL, w->data.len, w->offset);
}

/* The next digit of a number in mixed radix, or of a random stream when there are too many states to count through. */
static unsigned digit(uint64_t *state, bool random, unsigned radix)
{
	unsigned r;
	if (!random) {
		r = (unsigned)(*state % radix);
		*state /= radix;
		return r;
	}
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*state >> 33) % radix;
}

struct sim_disk *sim_crash(const struct sim_disk *disk, uint64_t nth, uint64_t count)
{
	struct sim_disk *d = sim_disk_copy(disk);
	bool random = sim_crash_count(disk, UINT64_MAX / 8) > count;
	uint64_t state = random ? nth * 0x9E3779B97F4A7C15u + 1 : nth;
	for (int n = 0; n < d->count; n++) {
		struct inode *i = &d->inode[n];
		for (struct pending_write *w = i->writes; w; w = w->next)
			write_fate(&i->durable, w, random && nth < 2 ? (unsigned)nth : digit(&state, random, WRITE_FATES));
		for (struct step *s = i->steps; s; s = s->next)
			if (random && nth < 2 ? nth == 1 : digit(&state, random, STEP_FATES) == 1)
				step_apply(&i->durable_names, s);
		forget_pending(i);
		free(i->seen.ptr);
		i->seen = bytes_copy(&i->durable);
		entries_free(&i->names);
		i->names = entries_copy(&i->durable_names);
		i->holds = 0;
	}
	return d;
}

static int by_name(const void *a, const void *b) { return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name); }

static void digest_dir(const struct sim_disk *d, int dir, uint64_t *hash)
{
	struct entries sorted = entries_copy(&at(d, dir)->names);
	if (sorted.count)
		qsort(sorted.e, sorted.count, sizeof *sorted.e, by_name);
	for (unsigned e = 0; e < sorted.count; e++) {
		const struct inode *i = at(d, sorted.e[e].inode);
		*hash = hash64(slice_str(sorted.e[e].name), *hash);
		*hash = hash64(slice_of(i->seen.ptr, i->seen.len), *hash + (i->dir ? 1 : 0));
		if (i->dir)
			digest_dir(d, sorted.e[e].inode, hash);
	}
	entries_free(&sorted);
	(*hash)++;
}

uint64_t sim_disk_digest(const struct sim_disk *disk)
{
	uint64_t hash = 1;
	digest_dir(disk, 0, &hash);
	return hash;
}

/* ---- for tests ---- */

bool sim_disk_read(const struct sim_disk *disk, const char *path, struct buf *out)
{
	int inode = disk_find(disk, 0, path);
	return inode >= 0 && !at(disk, inode)->dir && buf_put(out, at(disk, inode)->seen.ptr, at(disk, inode)->seen.len);
}

bool sim_disk_poke(struct sim_disk *disk, const char *path, uint64_t offset, const void *bytes, size_t count)
{
	int inode = disk_find(disk, 0, path);
	if (inode < 0 || at(disk, inode)->dir || offset + count > at(disk, inode)->seen.len)
		return false;
	bytes_put(&at(disk, inode)->seen, bytes, count, offset);
	bytes_put(&at(disk, inode)->durable, bytes, count, offset);
	disk->changes++;
	return true;
}

static void print_dir(const struct sim_disk *d, int dir, int depth)
{
	const struct entries *n = &at(d, dir)->names;
	for (unsigned e = 0; e < n->count; e++) {
		const struct inode *i = at(d, n->e[e].inode);
		unsigned writes = 0;
		for (struct pending_write *w = i->writes; w; w = w->next)
			writes++;
		fprintf(stderr, "%*s%s%s %llu bytes, %llu durable, %u pending\n", depth * 2, "", n->e[e].name, i->dir ? "/" : "",
			(unsigned long long)i->seen.len, (unsigned long long)i->durable.len, writes);
		if (i->dir)
			print_dir(d, n->e[e].inode, depth + 1);
	}
}

void sim_disk_print(const struct sim_disk *disk) { print_dir(disk, 0, 0); }
