/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verify.c - reads logs and bodies through.
 */
#include "storage/verify.h"

#include "core/base/limits.h"
#include "core/run/fiber.h"
#include "core/run/file.h"
#include "storage/body.h"
#include "storage/fence.h"
#include "storage/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static void found(struct verify *v, struct finding f)
{
	f.account_id = v->account_id;
	v->totals->findings[f.kind]++;
	if (v->each)
		v->each(v->arg, &f);
}

/* ---- bodies ---- */

static void body_note(struct verify *v, uint32_t offset, bool good)
{
	if (!v->collect)
		return;
	if (v->body_count == v->body_cap) {
		v->body_cap = v->body_cap ? 2 * v->body_cap : 256;
		v->bodies = xrealloc(v->bodies, v->body_cap * sizeof(*v->bodies));
	}
	v->bodies[v->body_count++] = (struct verify_body){ v->log, offset, good };
}

/* Hashes a range of a file. -1: it does not read. */
static int range_good(struct verify *v, int fd, uint64_t offset, uint64_t bytes, uint64_t hash)
{
	struct hash_stream h;
	char *piece = xmalloc(VERIFY_READ_BYTES);
	int good = 1;
	hash_init(&h, 0);
	while (bytes > 0 && good > 0 && !v->stopped) {
		size_t want = (size_t)min_u64(bytes, VERIFY_READ_BYTES);
		int64_t n = file_read(fd, piece, want, offset);
		if (n <= 0) {
			good = n < 0 ? -1 : 0;
			break;
		}
		hash_add(&h, slice_of(piece, (size_t)n));
		offset += (uint64_t)n;
		bytes -= (uint64_t)n;
		v->totals->bytes_read += (uint64_t)n;
		v->stopped = v->pace && !v->pace(v->arg, (uint64_t)n);
		fiber_breathe();
	}
	free(piece);
	return good > 0 && !v->stopped ? hash_sum64(&h) == hash : good;
}

/* A file of its own may have gone with its message; if it is there it must be right. */
static bool external_good(struct verify *v, const struct body_fixed *f)
{
	char name[BODY_FILE_NAME_BYTES];
	struct file_info info;
	body_file_name(f->guid, name);
	int fd = file_open(v->dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return true;
	bool good = file_stat(fd, &info) == 0 && info.bytes == f->bytes && (v->skip_bodies || range_good(v, fd, 0, f->bytes, f->hash) == 1);
	file_close(fd);
	if (!good && !v->stopped)
		found(v, (struct finding){ .kind = FINDING_BODY_DAMAGED, .name = slice_str(name) });
	return good;
}

static void check_body(struct verify *v, uint64_t record_at, uint64_t commit_end, const struct record *r)
{
	struct body_record b;
	bool good = body_get(r, &b);
	uint64_t at = good ? record_at + b.fixed.data_distance : 0;
	v->totals->bodies++;
	if (good && !structure_good(&b))
		found(v, (struct finding){ .kind = FINDING_STRUCTURE, .log = v->log, .start = record_at, .end = record_at + r->bytes });
	if (good && b.fixed.flags & BODY_EXTERNAL) {
		good = external_good(v, &b.fixed);
	} else if (good) {
		v->totals->bytes_stored += b.fixed.bytes;
		good = b.fixed.data_distance <= commit_end - record_at && b.fixed.bytes <= commit_end - at;
		int read = good && !v->skip_bodies ? range_good(v, v->fd, at, b.fixed.bytes, b.fixed.hash) : good;
		good = read == 1;
		if (!good && !v->stopped)
			found(v, (struct finding){ .kind = read < 0 ? FINDING_IO : FINDING_BODY_DAMAGED, .log = v->log, .start = at,
			                           .end = at + b.fixed.bytes });
	}
	if (!v->stopped)
		body_note(v, (uint32_t)record_at, good);
}

/* ---- logs ---- */

static void check_commit(void *arg, uint64_t offset, const struct commit_header *header, struct slice heads)
{
	struct verify *v = arg;
	struct record r;
	size_t at = 0;
	uint64_t heads_at = offset + COMMIT_HEADER_BYTES;
	bool known = commit_header_known(header);
	int next;
	if (v->stopped)
		return;
	v->totals->commits++;
	v->totals->bytes_read += COMMIT_HEADER_BYTES + heads.len;
	while ((next = record_next(heads, &at, &r)) == RECORD_NEXT_OK && !v->stopped) {
		known = known && (record_known(&r) || r.flags & RECORD_IGNORABLE);
		if (r.type == RECORD_BODY && r.version == 1)
			check_body(v, heads_at + r.offset, offset + header->bytes, &r);
		if (r.type == RECORD_SEAL && v->log >= v->seal_log && seal_get(&r, &v->seal))
			v->seal_log = v->log;
	}
	if (next == RECORD_NEXT_BAD)
		found(v, (struct finding){ .kind = FINDING_DAMAGE, .log = v->log, .start = heads_at + at, .end = heads_at + heads.len });
	else if (!known)
		found(v, (struct finding){ .kind = FINDING_UNKNOWN, .log = v->log, .start = offset, .end = offset + header->bytes });
}

static void check_bad(void *arg, uint64_t start, uint64_t end, uint64_t uids, bool damage)
{
	struct verify *v = arg;
	(void)uids;
	if (!v->stopped)
		found(v, (struct finding){ .kind = damage ? FINDING_DAMAGE : FINDING_TEAR, .log = v->log, .start = start, .end = end });
}

static enum err scan_one(struct verify *v, uint64_t limit)
{
	struct log_scan scan = { .fd = v->fd, .number = v->log, .salt = v->salt, .limit = limit, .commit = check_commit, .bad = check_bad, .arg = v };
	struct log_scan_result result;
	v->totals->logs++;
	return log_scan(&scan, &result);
}

/* `cut`: the newest whole one above this log, or NULL: it is the newest. Takes over `first` when it becomes the cut. */
static enum err check_log(struct verify *v, struct log_first *first, struct log_first *cut, bool *have_cut_io)
{
	uint64_t limit = UINT64_MAX;
	if (*have_cut_io) {
		struct cut_record c = { .fixed = { .count = cut->cut_count }, .ends = cut->cut };
		limit = cut_end_of(&c, v->log);
	}
	if (v->newest_log > 0 && v->log >= v->newest_log)
		limit = v->log == v->newest_log ? v->newest_end : 0;
	if (first->salt != 0 && v->salt == 0)
		v->salt = first->salt;
	if (first->kind == LOG_FILE_STUB || limit == 0)
		return OK;
	if (first->kind == LOG_FILE_LOG && first->account_id != v->account_id) {
		found(v, (struct finding){ .kind = FINDING_LOG_FOREIGN, .log = v->log });
		return OK;
	}
	if (first->kind == LOG_FILE_FENCE && (limit == UINT64_MAX || first->bytes == 0)) {
		found(v, limit == UINT64_MAX ? (struct finding){ .kind = FINDING_LOG_UNREADABLE, .log = v->log }
		                             : (struct finding){ .kind = FINDING_DAMAGE, .log = v->log, .end = limit });
		return OK;
	}
	if (first->unknown)
		found(v, (struct finding){ .kind = FINDING_UNKNOWN, .log = v->log });
	enum err e = scan_one(v, limit);
	if (!*have_cut_io && first->kind == LOG_FILE_LOG) {
		*have_cut_io = true;
		*cut = *first;
		first->cut = NULL;
	}
	return e;
}

static enum err check_number(struct verify *v, struct log_first *cut, bool *have_cut_io)
{
	char name[LOG_NAME_BYTES];
	struct log_first first;
	log_name(v->log, name);
	v->fd = file_open(v->dir_fd, name, O_RDONLY, 0);
	if (v->fd == -ENOENT)
		return OK; /* unlinked while we came */
	if (v->fd < 0)
		return ERR_IO;
	enum err e = log_first_read(v->fd, v->log, &first);
	if (e == OK)
		e = check_log(v, &first, cut, have_cut_io);
	log_first_release(&first);
	file_close(v->fd);
	if (e != OK)
		found(v, (struct finding){ .kind = FINDING_IO, .log = v->log });
	return e;
}

static bool listed(const struct fence_names *names, uint64_t log)
{
	for (uint32_t i = 0; i < names->count; i++)
		if (names->logs[i] == log)
			return true;
	return false;
}

/* Stubs are unlinked lowest first, so a log that a cut gives an end is missing if a lower such log is there. */
static void check_missing(struct verify *v, const struct fence_names *names, const struct log_first *cut)
{
	uint64_t lowest = UINT64_MAX;
	for (uint32_t i = 0; i < cut->cut_count; i++)
		if (cut->cut[i].end > 0 && listed(names, cut->cut[i].log))
			lowest = min_u64(lowest, cut->cut[i].log);
	for (uint32_t i = 0; i < cut->cut_count; i++)
		if (cut->cut[i].end > 0 && cut->cut[i].log > lowest && !listed(names, cut->cut[i].log))
			found(v, (struct finding){ .kind = FINDING_LOG_MISSING, .log = (uint32_t)cut->cut[i].log, .end = cut->cut[i].end });
}

static int body_order(const void *a, const void *b)
{
	const struct verify_body *x = a, *y = b;
	if (x->log != y->log)
		return x->log < y->log ? -1 : 1;
	return (x->offset > y->offset) - (x->offset < y->offset);
}

enum err verify_logs(struct verify *v)
{
	struct fence_names names;
	struct log_first cut = { 0 };
	bool have_cut = false;
	enum err e = fence_list(v->dir_fd, &names), first_error = e;
	for (uint32_t i = names.count; i > 0 && !e && !v->stopped; i--) {
		v->log = names.logs[i - 1];
		e = check_number(v, &cut, &have_cut);
		if (e) { /* one file that does not read must not hide the others */
			first_error = e;
			e = OK;
		}
	}
	if (have_cut && !v->stopped)
		check_missing(v, &names, &cut);
	log_first_release(&cut);
	fence_names_release(&names);
	if (v->body_count > 0)
		qsort(v->bodies, v->body_count, sizeof(*v->bodies), body_order);
	return first_error;
}

void verify_release(struct verify *v)
{
	free(v->bodies);
	v->bodies = NULL;
}

const struct verify_body *verify_body_at(const struct verify *v, uint32_t log, uint32_t offset)
{
	const struct verify_body key = { .log = log, .offset = offset };
	return v->body_count ? bsearch(&key, v->bodies, v->body_count, sizeof(*v->bodies), body_order) : NULL;
}

/* ---- the walk ---- */

struct names_list {
	char (*at)[24];
	size_t count, cap;
};

static bool name_note(void *arg, const char *name, bool is_dir)
{
	struct names_list *l = arg;
	(void)is_dir;
	if (strlen(name) >= sizeof(*l->at))
		return true;
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 32;
		l->at = xrealloc(l->at, l->cap * sizeof(*l->at));
	}
	strcpy(l->at[l->count++], name);
	return true;
}

static int name_order(const void *a, const void *b) { return strcmp(a, b); }

/* The accounts below one folder of the second level. False: `each` wants no more. */
static enum err walk_bucket(int data_dir_fd, uint32_t bucket, bool (*each)(void *arg, uint64_t account_id), void *arg, bool *more_io)
{
	char path[16];
	struct names_list l = { 0 };
	(void)snprintf(path, sizeof(path), "a/%02x/%02x", bucket >> 8, bucket & 0xff);
	int fd = file_open(data_dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd == -ENOENT ? OK : err_from_errno(-fd);
	int r = file_list(fd, name_note, &l);
	file_close(fd);
	if (l.count > 0)
		qsort(l.at, l.count, sizeof(*l.at), name_order);
	for (size_t i = 0; i < l.count && *more_io; i++) {
		char *end;
		uint64_t id = strtoull(l.at[i], &end, 16);
		if (strlen(l.at[i]) == 16 && *end == 0)
			*more_io = each(arg, id);
	}
	free(l.at);
	return r < 0 ? err_from_errno(-r) : OK;
}

enum err verify_walk(int data_dir_fd, uint32_t bucket, bool (*each)(void *arg, uint64_t account_id), void *arg)
{
	bool more = true;
	enum err e = OK;
	if (bucket != VERIFY_ALL)
		return walk_bucket(data_dir_fd, bucket, each, arg, &more);
	for (uint32_t b = 0; b <= UINT16_MAX && more && !e; b++)
		e = walk_bucket(data_dir_fd, b, each, arg, &more);
	return e;
}
