/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folders.c - store.h's calls on folders: look, create, delete, rename, subscribe.
 *
 * Folders are ids; names are paths.  Each change is a commit of its own (`alone`), judged against memory as it is then.
 */
#include "storage/folder.h"

#include "core/base/limits.h"
#include "storage/account_private.h"
#include "storage/commit.h"

/* ---- looking ---- */

static void info_fill(const struct folder *f, struct folder_info *info_out)
{
	*info_out = (struct folder_info){
		.id = f->id,
		.uidvalidity = f->uidvalidity,
		.uidnext = f->uidnext,
		.messages = rows_count(&f->rows),
		.unseen = f->unseen,
		.modseq = f->modseq,
		.bytes = rows_bytes(&f->rows),
		.name = slice_of(f->name, f->name_bytes),
		.subscribed = f->subscribed,
		.noselect = f->noselect,
		.special_use = f->special_use,
	};
}

enum err folder_find(struct account *account, struct slice name, struct folder_info *info_out)
{
	const struct folder *f = folder_by_name(account, name);

	if (!f)
		return ERR_NOT_FOUND;
	info_fill(f, info_out);
	return OK;
}

enum err folder_info(struct account *account, uint32_t folder, struct folder_info *info_out)
{
	const struct folder *f = account_folder(account, folder);

	if (!f)
		return ERR_NOT_FOUND;
	info_fill(f, info_out);
	return OK;
}

/* The cursor is the last one's id. */
bool folder_next(struct account *account, uint32_t *cursor_io, struct folder_info *info_out)
{
	const struct folder *f = *cursor_io ? account_folder(account, *cursor_io) : NULL;

	if (*cursor_io && !f)
		return false; /* deleted while the caller waited; he begins again */
	f = folder_after(account, f);
	if (!f)
		return false;
	*cursor_io = f->id;
	info_fill(f, info_out);
	return true;
}

/* ---- changing ---- */

struct folder_change {
	struct change c;
	enum folder_op op;
	uint32_t folder, special_use;
	struct slice name, name2;
};

/* UTF-8 in form is the protocol's business; here only what would break a path. */
static bool name_good(struct slice name)
{
	if (name.len == 0 || name.len > FOLDER_NAME_BYTES_MAX || name.ptr[0] == '/' || name.ptr[name.len - 1] == '/')
		return false;
	for (size_t i = 0; i < name.len; i++)
		if ((unsigned char)name.ptr[i] < ' ' || name.ptr[i] == 0x7f ||
		    (name.ptr[i] == '/' && name.ptr[i - 1] == '/'))
			return false;
	return true;
}

enum err folder_create_judge(const struct account *a, struct slice name, uint32_t special_use, struct folder_fixed *d)
{
	if (!name_good(name))
		return ERR_SYNTAX;
	if (folder_by_name(a, name))
		return ERR_EXISTS;
	if (a->folder_count >= FOLDERS_MAX || a->next_folder == UINT32_MAX || a->last_uidvalidity == UINT32_MAX)
		return ERR_LIMIT;
	d->op = FOLDER_CREATE;
	d->folder = a->next_folder;
	/* above every UIDVALIDITY that the account has given (invariant 6) */
	d->uidvalidity = (uint32_t)max_u64((uint64_t)a->last_uidvalidity + 1, (uint64_t)clock_wall_s());
	d->uidnext = 1;
	d->uidl_formula = UIDL_FORMULA_HEX;
	d->special_use = special_use;
	d->flags = subscription_has(a, name) ? FOLDER_FLAG_SUBSCRIBED : 0;
	return OK;
}

static enum err rename_judge(struct folder_change *fc, const struct account *a)
{
	bool any = false;
	if (fc->folder) {
		const struct folder *f = account_folder(a, fc->folder);
		if (!f)
			return ERR_NOT_FOUND;
		fc->name = slice_of(f->name, f->name_bytes);
	}
	if (fc->folder == FOLDER_INBOX)
		return ERR_DENIED; /* IMAP's rename of INBOX is a new folder and a move of its messages */
	if (folder_is_below(fc->name2, fc->name))
		return slice_eq(fc->name2, fc->name) ? ERR_EXISTS : ERR_SYNTAX;
	for (uint32_t i = 0; i < a->folder_count; i++) {
		struct slice name = slice_of(a->folders[i]->name, a->folders[i]->name_bytes);
		bool below = a->folders[i]->id != FOLDER_INBOX && folder_is_below(name, fc->name);
		any |= below;
		if (below && name.len - fc->name.len + fc->name2.len > FOLDER_NAME_BYTES_MAX)
			return ERR_LIMIT;
		/* two trees do not become one, unless the new name is that of a parent which is moved down */
		if (!below && folder_is_below(name, fc->name2))
			return ERR_EXISTS;
		if (below && slice_eq(name, fc->name2))
			return ERR_EXISTS;
	}
	return any ? OK : ERR_NOT_FOUND;
}

static enum err delete_judge(const struct folder_change *fc, const struct account *a)
{
	if (fc->folder == FOLDER_INBOX)
		return ERR_DENIED;
	return account_folder(a, fc->folder) ? OK : ERR_NOT_FOUND;
}

static enum err subscribe_judge(const struct folder_change *fc, const struct account *a)
{
	if (fc->op == FOLDER_SUBSCRIBE && !folder_by_name(a, fc->name) && !subscription_has(a, fc->name) &&
	    a->subscriptions_bytes + fc->name.len + 1 > SUBSCRIPTIONS_BYTES_MAX)
		return ERR_LIMIT;
	return OK;
}

static enum err folder_build(struct change *c, struct account *a, struct commit *commit)
{
	struct folder_change *fc = CONTAINER_OF(c, struct folder_change, c);
	struct folder_record r = { .fixed = { .op = (uint8_t)fc->op } };
	enum err e = OK;

	if (fc->op == FOLDER_CREATE)
		e = folder_create_judge(a, fc->name, fc->special_use, &r.fixed);
	else if (fc->op == FOLDER_RENAME)
		e = rename_judge(fc, a);
	else if (fc->op == FOLDER_DELETE)
		e = delete_judge(fc, a);
	else
		e = subscribe_judge(fc, a);
	if (e != OK)
		return e;
	if (fc->op == FOLDER_CREATE)
		fc->folder = r.fixed.folder;
	r.fixed.folder = fc->folder;
	r.name = fc->name;
	r.name2 = fc->name2;
	return folder_put(commit_heads(commit), 0, &r) ? OK : ERR_LIMIT;
}

static enum err folder_run(struct account *account, struct folder_change *fc)
{
	ASSERT(account->refs > 0);
	if (account->read_only)
		return ERR_READONLY;
	fc->c.build = folder_build;
	fc->c.alone = true;
	fc->c.frees = fc->op != FOLDER_CREATE;
	return commit_run(account, &fc->c);
}

enum err folder_create(struct account *account, struct slice name, uint32_t special_use, uint32_t *folder_out)
{
	struct folder_change fc = { .op = FOLDER_CREATE, .name = name, .special_use = special_use };

	if (!name_good(name))
		return ERR_SYNTAX;
	if (store_disk_low())
		return ERR_FULL;
	enum err e = folder_run(account, &fc);
	if (e == OK)
		*folder_out = fc.folder;
	return e;
}

enum err folder_delete(struct account *account, uint32_t folder)
{
	struct folder_change fc = { .op = FOLDER_DELETE, .folder = folder };
	enum err e = folder_run(account, &fc);

	if (e == OK)
		account->orphans = true;
	return e;
}

enum err folder_rename(struct account *account, uint32_t folder, struct slice new_name)
{
	struct folder_change fc = { .op = FOLDER_RENAME, .folder = folder, .name2 = new_name };

	return name_good(new_name) ? folder_run(account, &fc) : ERR_SYNTAX;
}

enum err folder_rename_below(struct account *account, struct slice name, struct slice new_name)
{
	struct folder_change fc = { .op = FOLDER_RENAME, .name = name, .name2 = new_name };

	if (slice_eq_nocase(name, SLICE_LIT("INBOX")))
		return ERR_DENIED;
	return name_good(name) && name_good(new_name) ? folder_run(account, &fc) : ERR_SYNTAX;
}

enum err folder_subscribe(struct account *account, struct slice name, bool on)
{
	struct folder_change fc = { .op = on ? FOLDER_SUBSCRIBE : FOLDER_UNSUBSCRIBE, .name = name };

	return name_good(name) ? folder_run(account, &fc) : ERR_SYNTAX;
}

/* Its first commit creates INBOX; that INBOX is subscribed is so already. */
enum err account_begun(struct account *account)
{
	const struct folder *inbox = account_folder(account, FOLDER_INBOX);

	return inbox && inbox->uidvalidity ? OK : folder_subscribe(account, SLICE_LIT("INBOX"), true);
}
