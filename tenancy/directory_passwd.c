/* SPDX-License-Identifier: Apache-2.0 */
/*
 * directory_passwd.c - a directory that is a Dovecot passwd-file.
 *
 * The file is read whole, on an offload thread, checked line by line, and put in the place of the one before in one step: a look-up sees the old file
 * or the new one.  A file that is broken anywhere (a line that is none, a name that cannot be, larger than the bound, changed while it was
 * read, empty where there were accounts) is refused as a whole and reported once; the old one serves on.  Best written beside it and renamed
 * over it.  Of two lines with one name the first counts, as at Dovecot.
 *
 * The format: https://doc.dovecot.org/2.3/configuration_manual/authentication/passwd_file/ ; what of it counts: passwd_file.h.
 */
#include "tenancy/backend.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "tenancy/name.h"
#include "tenancy/passwd_file.h"
#include "tenancy/password.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

METRIC_COUNTER(files_refused, "directory_files_refused_total", "Directory files that were broken; the one before serves on");

/* One whole file, immutable. */
struct table {
	struct rc rc;
	struct buf text;   /* the file: stored passwords lie in it */
	struct buf names;  /* folded */
	struct directory_guest *guests; /* by domain, then name; each once */
	size_t count, cap;
	uint64_t mute; /* lines whose password cannot be checked, or only for some networks */
};

struct mark { /* of a file, to see that it is another */
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

struct directory_passwd {
	const struct directory_source *source;
	void *sqlite;
	pthread_mutex_t lock; /* of table */
	struct table *table;  /* NULL: never read yet */
	/* only the one who looks */
	struct mark mark;
	bool marked, absent;
	uint64_t looked_ms, reads;
};

static void table_unref(struct table *t)
{
	if (!t || !rc_put(&t->rc))
		return;
	if (t->text.ptr)
		explicit_bzero(t->text.ptr, t->text.len);
	buf_release(&t->text);
	buf_release(&t->names);
	free(t->guests);
	free(t);
}

static struct table *table_get(struct directory_passwd *p)
{
	pthread_mutex_lock(&p->lock);
	struct table *t = p->table;
	if (t)
		rc_get(&t->rc);
	pthread_mutex_unlock(&p->lock);
	return t;
}

/* ---- one line ---- */

/* A name with or without a domain, folded into t->names, which must not move any more. */
static bool take_name(struct table *t, const struct directory_source *source, struct slice user, struct directory_guest *guest)
{
	char local_bytes[LOGIN_BYTES_MAX], domain_bytes[DOMAIN_BYTES_MAX];
	size_t at = slice_rfind(user, '@');
	struct slice domain = at == SIZE_MAX ? slice_str(source->domain ? source->domain : "") : slice_from(user, at + 1);
	if (name_account_local(slice_upto(user, at), local_bytes, &guest->local) || name_domain(domain, domain_bytes, &guest->domain))
		return false;
	size_t start = t->names.len;
	if (!buf_put(&t->names, guest->local.ptr, guest->local.len) || !buf_put(&t->names, guest->domain.ptr, guest->domain.len))
		return false;
	/* places for now: the buffer moves while it grows */
	guest->local = slice_of((const char *)start, guest->local.len);
	guest->domain = slice_of((const char *)(start + guest->local.len), guest->domain.len);
	return true;
}

static const char *take_line(struct table *t, const struct directory_source *source, struct slice line)
{
	struct passwd_line p;
	const char *why, *scheme;
	struct directory_guest guest = { 0 };
	enum err e = passwd_line_parse(line, &p, &why);
	if (e == ERR_NOT_FOUND)
		return NULL;
	if (e && !p.locked)
		return why;
	if (!take_name(t, source, p.user, &guest))
		return "not the name of an account: user@domain, or user where the directory has a domain";
	bool login = !p.locked && !p.nologin && !p.restricted && !password_check(p.stored, &scheme, &why);
	t->mute += !login && !p.locked && !p.nologin;
	guest.stored = login ? p.stored : slice_of("", 0);
	guest.has_quota_bytes = p.has_quota_bytes;
	guest.has_quota_messages = p.has_quota_messages;
	guest.quota_bytes = p.quota_bytes;
	guest.quota_messages = p.quota_messages;
	if (t->count == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->guests = xrealloc(t->guests, t->cap * sizeof(*t->guests));
	}
	t->guests[t->count++] = guest;
	return NULL;
}

static int by_name(struct slice domain_a, struct slice local_a, struct slice domain_b, struct slice local_b)
{
	int order = slice_cmp(domain_a, domain_b);
	return order ? order : slice_cmp(local_a, local_b);
}

static int compare(const void *a, const void *b)
{
	const struct directory_guest *x = a, *y = b;
	int order = by_name(x->domain, x->local, y->domain, y->local);
	/* names were put down in the order of the lines */
	return order ? order : x->local.ptr < y->local.ptr ? -1 : 1;
}

/* All lines: NULL, or what is wrong with line *line_out. */
static const char *take_lines(struct table *t, const struct directory_source *source, uint64_t *line_out)
{
	struct slice rest = buf_slice(&t->text), line;
	const char *why = NULL;
	*line_out = 0;
	while (!why && rest.len) {
		size_t end = slice_find(rest, '\n');
		line = slice_upto(rest, end);
		rest = end == SIZE_MAX ? slice_of("", 0) : slice_from(rest, end + 1);
		++*line_out;
		why = slice_find(line, '\0') != SIZE_MAX ? "a NUL" : take_line(t, source, line);
	}
	if (why)
		return why;
	for (size_t i = 0; i < t->count; i++) {
		t->guests[i].local.ptr = t->names.ptr + (size_t)t->guests[i].local.ptr;
		t->guests[i].domain.ptr = t->names.ptr + (size_t)t->guests[i].domain.ptr;
	}
	if (t->count)
		qsort(t->guests, t->count, sizeof(*t->guests), compare);
	size_t kept = 0;
	for (size_t i = 0; i < t->count; i++)
		if (!kept || by_name(t->guests[kept - 1].domain, t->guests[kept - 1].local, t->guests[i].domain, t->guests[i].local))
			t->guests[kept++] = t->guests[i];
	t->count = kept;
	return NULL;
}

/* ---- the file ---- */

static struct mark mark_of(const struct stat *st)
{
	return (struct mark){ st->st_dev, st->st_ino, st->st_size, st->st_mtim };
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->changed.tv_sec == b->changed.tv_sec &&
	       a->changed.tv_nsec == b->changed.tv_nsec;
}

static const char *read_file(int fd, off_t size, struct buf *text)
{
	if ((uint64_t)size > PASSWD_FILE_BYTES_MAX)
		return "it is too large";
	for (;;) {
		char *room = buf_room(text, KIB(64));
		ssize_t n = room ? read(fd, room, KIB(64)) : -1;
		if (n < 0)
			return room ? strerror(errno) : "it is too large";
		if (n == 0)
			return NULL;
		text->len += (size_t)n;
	}
}

static const char *read_and_check(struct directory_passwd *p, struct table *t, int fd, uint64_t *line_out)
{
	struct stat before, after;
	*line_out = 0;
	if (fstat(fd, &before))
		return strerror(errno);
	p->mark = mark_of(&before);
	if (!S_ISREG(before.st_mode))
		return "it is not a file";
	const char *why = read_file(fd, before.st_size, &t->text);
	if (why)
		return why;
	struct mark now = fstat(fd, &after) ? p->mark : mark_of(&after);
	if (!same_mark(&p->mark, &now)) {
		p->marked = false; /* again at the next look */
		return "it changes while it is read";
	}
	why = take_lines(t, p->source, line_out);
	if (!why && !t->count && p->table && p->table->count)
		return "it is empty";
	return why;
}

static void refuse(const struct directory_passwd *p, uint64_t line, const char *why)
{
	metric_inc(&files_refused);
	log_event(LOG_ERROR, "directory.file_refused", LOG_Z("path", p->source->path), LOG_U64("line", line), LOG_Z("why", why),
		  LOG_Z("effect", (p->table ? "the one before serves on" : "its accounts are asked to wait")));
}

static void load(struct directory_passwd *p)
{
	char told[256];
	uint64_t line = 0, refused = 0;
	int fd = open(p->source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		if (!p->absent)
			refuse(p, 0, strerror(errno));
		p->absent = true;
		p->marked = false;
		return;
	}
	struct table *t = xcalloc(1, sizeof(*t));
	rc_init(&t->rc);
	buf_init(&t->text, PASSWD_FILE_BYTES_MAX + KIB(64));
	buf_init(&t->names, 2 * PASSWD_FILE_BYTES_MAX);
	p->absent = false;
	p->marked = true;
	const char *why = read_and_check(p, t, fd, &line);
	close(fd);
	if (!why && directory_sqlite_adopt(p->sqlite, p->source, t->guests, t->count, &refused, told)) {
		why = told;
		line = 0;
		p->marked = false; /* a lock, a full disk: again at the next look */
	}
	if (why) {
		refuse(p, line, why);
		table_unref(t);
		return;
	}
	log_event(LOG_INFO, "directory.file_read", LOG_Z("path", p->source->path), LOG_U64("accounts", t->count), LOG_U64("other_tenants", refused),
		  LOG_U64("no_login", t->mute));
	pthread_mutex_lock(&p->lock);
	struct table *old = p->table;
	p->table = t;
	pthread_mutex_unlock(&p->lock);
	table_unref(old);
	p->reads++;
}

uint64_t directory_passwd_look(struct directory_passwd *p)
{
	struct timespec now;
	struct stat st;
	clock_gettime(CLOCK_MONOTONIC, &now);
	uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	if (p->looked_ms && now_ms - p->looked_ms < PASSWD_FILE_LOOK_MS)
		return p->reads;
	p->looked_ms = now_ms;
	bool there = stat(p->source->path, &st) == 0;
	struct mark mark = there ? mark_of(&st) : p->mark;
	if (!there || !p->marked || !same_mark(&mark, &p->mark))
		load(p);
	return p->reads;
}

/* ---- questions ---- */

/* The first that is not before (domain, local). */
static size_t lower_bound(const struct table *t, struct slice local, struct slice domain)
{
	size_t low = 0, high = t->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (by_name(t->guests[mid].domain, t->guests[mid].local, domain, local) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

enum err directory_passwd_account(struct directory_passwd *p, struct slice local, struct slice domain, struct record **record_out)
{
	struct table *t = table_get(p);
	if (!t)
		return ERR_TEMP;
	size_t at = lower_bound(t, local, domain);
	const struct directory_guest *g = at < t->count ? &t->guests[at] : NULL;
	enum err e = ERR_NOT_FOUND;
	if (g && slice_eq(g->local, local) && slice_eq(g->domain, domain))
		e = directory_sqlite_guest(p->sqlite, p->source, g, record_out);
	table_unref(t);
	return e;
}

bool directory_passwd_sample(struct directory_passwd *p, struct slice domain, char out[STORED_PASSWORD_BYTES_MAX])
{
	bool found = false;
	struct table *t = table_get(p);
	for (size_t i = t ? lower_bound(t, slice_of("", 0), domain) : 0; t && i < t->count && slice_eq(t->guests[i].domain, domain) && !found; i++) {
		struct slice stored = t->guests[i].stored;
		if (!stored.len || stored.len >= STORED_PASSWORD_BYTES_MAX)
			continue;
		memcpy(out, stored.ptr, stored.len);
		out[stored.len] = 0;
		found = true;
	}
	table_unref(t);
	return found;
}

/* ---- life ---- */

struct directory_passwd *directory_passwd_open(const struct directory_source *source, void *sqlite)
{
	struct directory_passwd *p = xcalloc(1, sizeof(*p));
	p->source = source;
	p->sqlite = sqlite;
	pthread_mutex_init(&p->lock, NULL);
	(void)directory_passwd_look(p);
	return p;
}

void directory_passwd_close(struct directory_passwd *p)
{
	if (!p)
		return;
	table_unref(p->table);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
