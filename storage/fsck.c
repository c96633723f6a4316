/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.c - logs read through (verify.c), then replayed without caches, then compared: with the bodies that were found, with
 * the files beside, with what the state file says.
 */
#include "storage/fsck.h"

#include "core/base/limits.h"
#include "core/run/file.h"
#include "storage/folder.h"
#include "storage/keyword.h"
#include "storage/recover.h"
#include "storage/source.h"
#include "storage/state.h"
#include "storage/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct check {
	const struct fsck_options *options;
	finding_fn each;
	void *arg;
	struct fsck_totals *totals;
	int dir_fd;
	uint64_t id;
	struct verify verify;
	struct account *account; /* replayed without caches */
	struct buf named;        /* GUIDs of body files that messages name */
};

static void found(struct check *c, struct finding f)
{
	f.account_id = c->id;
	c->totals->findings[f.kind]++;
	if (c->each)
		c->each(c->arg, &f);
}

static uint64_t damage_count(const struct fsck_totals *t)
{
	return t->findings[FINDING_DAMAGE] + t->findings[FINDING_LOG_MISSING] + t->findings[FINDING_IO] + t->findings[FINDING_UNKNOWN];
}

/* ---- replay ---- */

static enum err replay(struct check *c, bool with_state, struct account **out)
{
	struct account *a = xcalloc(1, sizeof(*a));
	struct fence_names names;
	a->id = c->id;
	a->state = ACCOUNT_LOADING;
	a->ignore_state = !with_state;
	enum err e = fence_list(c->dir_fd, &names);
	if (!e)
		e = recover_run(a, c->dir_fd, &names, UINT32_MAX, false);
	fence_names_release(&names);
	a->state = ACCOUNT_SEALED;
	*out = a;
	return e;
}

static void account_release(struct account *a)
{
	if (!a)
		return;
	account_forget(a);
	free(a->logs);
	free(a->repairs);
	free(a);
}

/* ---- messages ---- */

/* The GUID that a message's record names. */
static enum err guid_of(struct check *c, const struct row *row, uint8_t guid[GUID_BYTES])
{
	char name[LOG_NAME_BYTES];
	struct window w = { 0 };
	struct record r;
	struct message_record m;
	log_name(row->record_log, name);
	int fd = file_open(c->dir_fd, name, O_RDONLY, 0);
	if (fd < 0)
		return ERR_IO;
	enum err e = window_need(&w, fd, row->record_offset, SOURCE_GUESS_BYTES);
	if (!e && (!window_record(&w, row->record_offset, &r) || !message_get(&r, &m) || m.fixed.uid != row->uid))
		e = ERR_CORRUPT;
	if (!e)
		memcpy(guid, m.fixed.guid, GUID_BYTES);
	window_release(&w);
	file_close(fd);
	return e;
}

static void check_external(struct check *c, const struct folder *f, const struct row *row)
{
	uint8_t guid[GUID_BYTES];
	char name[BODY_FILE_NAME_BYTES];
	struct file_info info;
	if (guid_of(c, row, guid) != OK) {
		found(c, (struct finding){ .kind = FINDING_MESSAGE_DAMAGED, .log = row->record_log, .folder = f->id, .uid = row->uid });
		return;
	}
	(void)buf_put(&c->named, guid, GUID_BYTES);
	body_file_name(guid, name);
	if (file_stat_name(c->dir_fd, name, &info) < 0 || info.bytes > row->size)
		found(c, (struct finding){ .kind = FINDING_BODY_MISSING, .folder = f->id, .uid = row->uid, .name = slice_str(name) });
	else
		c->totals->bytes_stored += info.bytes;
}

static void check_row(struct check *c, const struct folder *f, const struct row *row)
{
	const struct verify_body *body = verify_body_at(&c->verify, row->body_log, row->body_offset);
	c->totals->messages++;
	if (!body)
		found(c, (struct finding){ .kind = FINDING_BODY_LOST, .log = row->record_log, .folder = f->id, .uid = row->uid });
	else if (!body->good)
		found(c, (struct finding){ .kind = FINDING_BODY_DAMAGED, .log = row->body_log, .folder = f->id, .uid = row->uid });
	if (row->flags & ROW_EXTERNAL)
		check_external(c, f, row);
	if (row->flags & ROW_UIDL && rows_uidl_check(&f->rows, f->uidvalidity, row->uid, rows_uidl(&f->rows, row->uid)) != OK)
		found(c, (struct finding){ .kind = FINDING_UIDL_TWICE, .folder = f->id, .uid = row->uid });
}

static void check_messages(struct check *c)
{
	for (uint32_t i = 0; i < c->account->folder_count; i++) {
		const struct folder *f = c->account->folders[i];
		const struct row *row;
		for (uint64_t uid = 1; uid <= UINT32_MAX && (row = rows_from(&f->rows, (uint32_t)uid)) != NULL; uid = (uint64_t)row->uid + 1) {
			check_row(c, f, row);
			fiber_breathe();
		}
	}
}

/* ---- names ---- */

static bool guid_named(const struct check *c, const uint8_t guid[GUID_BYTES])
{
	for (size_t i = 0; i < c->named.len; i += GUID_BYTES)
		if (memcmp(c->named.ptr + i, guid, GUID_BYTES) == 0)
			return true;
	return false;
}

static bool check_name(void *arg, const char *name, bool is_dir)
{
	struct check *c = arg;
	uint8_t guid[GUID_BYTES];
	uint32_t log;
	(void)is_dir;
	if (body_file_guid(name, guid)) {
		if (!guid_named(c, guid))
			found(c, (struct finding){ .kind = FINDING_ORPHAN, .name = slice_str(name) });
	} else if (!log_name_number(name, &log) && strcmp(name, STATE_NAME) != 0 && strcmp(name, STATE_NEW_NAME) != 0 &&
	           strcmp(name, "stub.new") != 0)
		found(c, (struct finding){ .kind = FINDING_STRAY, .name = slice_str(name) });
	return true;
}

/* ---- caches and counters ---- */

static bool same_keywords(const struct account *x, uint32_t set_x, const struct account *y, uint32_t set_y)
{
	const struct keyword_set *a = keywords_get(x->keywords, set_x), *b = keywords_get(y->keywords, set_y);
	return memcmp(a->words, b->words, sizeof(a->words)) == 0;
}

static bool same_row(const struct account *x, const struct folder *fx, const struct row *a, const struct account *y, const struct folder *fy,
                     const struct row *b)
{
	return a->uid == b->uid && a->size == b->size && a->flags == b->flags && a->modseq == b->modseq && a->rcpt_hash == b->rcpt_hash &&
	       a->record_log == b->record_log && a->record_offset == b->record_offset && a->body_log == b->body_log &&
	       a->body_offset == b->body_offset && same_keywords(x, a->keywords, y, b->keywords) &&
	       slice_eq(rows_uidl(&fx->rows, a->uid), rows_uidl(&fy->rows, b->uid));
}

static bool same_folder(const struct account *x, const struct folder *fx, const struct account *y, const struct folder *fy, uint32_t *uid_out)
{
	uint64_t uid = 1;
	*uid_out = 0;
	if (fx->id != fy->id || fx->uidvalidity != fy->uidvalidity || fx->uidnext > fy->uidnext || fx->special_use != fy->special_use ||
	    fx->subscribed != fy->subscribed || fx->modseq != fy->modseq || fx->unseen != fy->unseen ||
	    rows_count(&fx->rows) != rows_count(&fy->rows) || rows_bytes(&fx->rows) != rows_bytes(&fy->rows) ||
	    !slice_eq(slice_of(fx->name, fx->name_bytes), slice_of(fy->name, fy->name_bytes)))
		return false;
	while (uid <= UINT32_MAX) {
		const struct row *a = rows_from(&fx->rows, (uint32_t)uid), *b = rows_from(&fy->rows, (uint32_t)uid);
		if (!a && !b)
			return true;
		if (!a || !b || !same_row(x, fx, a, y, fy, b)) {
			*uid_out = a ? a->uid : b->uid;
			return false;
		}
		uid = (uint64_t)a->uid + 1;
	}
	return true;
}

bool verify_same(const struct account *x, const struct account *y, uint32_t *folder_out, uint32_t *uid_out)
{
	*folder_out = *uid_out = 0;
	if (x->folder_count != y->folder_count || x->messages != y->messages || x->bytes != y->bytes || x->salt != y->salt)
		return false;
	for (uint32_t i = 0; i < x->folder_count; i++) {
		*folder_out = x->folders[i]->id;
		if (!same_folder(x, x->folders[i], y, y->folders[i], uid_out))
			return false;
	}
	return true;
}

static void check_state(struct check *c)
{
	struct account *with;
	struct file_info info;
	uint32_t folder, uid;
	if (file_stat_name(c->dir_fd, STATE_NAME, &info) < 0)
		return; /* none: nothing to compare */
	enum err e = replay(c, true, &with);
	if (!e && with->state_end == 0)
		found(c, (struct finding){ .kind = FINDING_STATE_STALE, .name = SLICE_LIT(STATE_NAME) });
	/* bad ranges raise UIDNEXT anew at every replay that meets them */
	else if (!e && !verify_same(with, c->account, &folder, &uid))
		found(c, (struct finding){ .kind = FINDING_STATE_WRONG, .folder = folder, .uid = uid, .name = SLICE_LIT(STATE_NAME) });
	account_release(with);
}

static void check_counters(struct check *c)
{
	const struct account *a = c->account;
	const struct seal_fixed *s = &c->verify.seal;
	/* a seal speaks only for an account that nobody has used since */
	if (a->log_count == 0 || a->logs[a->log_count - 1].number != c->verify.seal_log)
		return;
	if (s->messages != a->messages || s->bytes != a->bytes)
		found(c, (struct finding){ .kind = FINDING_COUNTERS, .log = c->verify.seal_log });
}

static void rebuild(struct check *c)
{
	(void)file_unlink(c->dir_fd, STATE_NEW_NAME);
	(void)file_unlink(c->dir_fd, STATE_NAME);
	if (c->account->log_count > 0)
		state_save(c->account, c->dir_fd);
}

/* ---- all ---- */

static enum err check_all(struct check *c)
{
	uint64_t damage = damage_count(c->totals);
	enum err e = verify_logs(&c->verify);
	enum err replayed = replay(c, false, &c->account);
	if (replayed) {
		found(c, (struct finding){ .kind = FINDING_IO });
		return replayed;
	}
	check_messages(c);
	if (file_list(c->dir_fd, check_name, c) < 0)
		e = ERR_IO;
	if (damage_count(c->totals) == damage) { /* else everything differs, and for a reason that was told */
		check_counters(c);
		check_state(c);
	}
	if (c->options->rebuild)
		rebuild(c);
	return e;
}

enum err fsck_account(int data_dir_fd, uint64_t account_id, const struct fsck_options *options, finding_fn each, void *arg,
                      struct fsck_totals *totals_io)
{
	char path[ACCOUNT_PATH_BYTES];
	struct check c = { .options = options, .each = each, .arg = arg, .totals = totals_io, .id = account_id };
	account_path(account_id, path);
	c.dir_fd = file_open(data_dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
	if (c.dir_fd < 0)
		return c.dir_fd == -ENOENT ? ERR_NOT_FOUND : err_from_errno(-c.dir_fd);
	c.verify = (struct verify){ .dir_fd = c.dir_fd, .account_id = account_id, .skip_bodies = options->skip_bodies, .each = each, .arg = arg,
		                    .totals = totals_io, .collect = true };
	buf_init(&c.named, FSCK_NAMED_BYTES_MAX);
	totals_io->accounts++;
	enum err e = check_all(&c);
	account_release(c.account);
	buf_release(&c.named);
	verify_release(&c.verify);
	file_close(c.dir_fd);
	return e;
}

struct check_each {
	int data_dir_fd;
	const struct fsck_options *options;
	finding_fn each;
	void *arg;
	struct fsck_totals *totals;
	enum err worst;
};

static bool check_one(void *arg, uint64_t account_id)
{
	struct check_each *c = arg;
	enum err e = fsck_account(c->data_dir_fd, account_id, c->options, c->each, c->arg, c->totals);
	if (e && e != ERR_NOT_FOUND)
		c->worst = e;
	return true;
}

enum err fsck_all(int data_dir_fd, const struct fsck_options *options, finding_fn each, void *arg, struct fsck_totals *totals_io)
{
	struct check_each c = { data_dir_fd, options, each, arg, totals_io, OK };
	enum err e = verify_walk(data_dir_fd, VERIFY_ALL, check_one, &c);
	return e ? e : c.worst;
}
