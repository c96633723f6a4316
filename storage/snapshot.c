/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot.c - store.h's opening and closing of views of an account's folders.
 *
 * A view counts on its session's account_open.  A folder that was deleted meanwhile lives until its last view is closed.
 */
#include "core/base/limits.h"
#include "storage/folder.h"
#include "storage/source.h"

#include <stdlib.h>

enum err view_open(struct account *account, uint32_t folder, struct view **view_out)
{
	*view_out = NULL;
	ASSERT(account->refs > 0);
	if (account->state == ACCOUNT_LOST)
		return ERR_FENCED;
	struct folder *f = account_folder(account, folder);
	if (!f)
		return ERR_NOT_FOUND;
	struct view *v = rows_pin(&f->rows, f->uidvalidity);
	v->account = account;
	v->folder = folder;
	*view_out = v;
	return OK;
}

void view_close(struct view *view)
{
	struct account *a = view->account;
	struct folder *f = CONTAINER_OF(view->rows, struct folder, rows);
	rows_unpin(view, NULL, NULL);
	if (f->gone && list_empty(&f->rows.views)) {
		ASSERT(a->gone_folders > 0);
		a->gone_folders--;
		folder_free(f);
	} else if (a->state == ACCOUNT_OWNED && list_empty(&f->rows.held))
		compact_consider(a); /* what the view held may have kept a log from it */
}

/* ---- SDPS: one recipient's messages of a maildrop that is shared by a host's users ---- */

struct recipient {
	struct account *account;
	uint32_t folder, hash;
	struct slice local_part;
	uint32_t seen;
	enum err err;
};

static bool addressed_to(struct slice rcpt, struct slice local_part)
{
	size_t at = slice_rfind(rcpt, '@');
	return slice_eq_nocase(at == SIZE_MAX ? rcpt : slice_upto(rcpt, at), local_part);
}

/* As source_message, for a row that a compaction may move meanwhile. */
static enum err read_message(const struct recipient *r, const struct row *row, struct window *w, struct message_record *m)
{
	struct row at = *row;
	enum err e = source_message(r->account, r->folder, &at, w, m);
	for (unsigned tries = 1; e == ERR_AGAIN && tries < SOURCE_TRIES_MAX; tries++) {
		const struct folder *f = account_folder(r->account, r->folder);
		const struct row *now = f ? rows_find(&f->rows, at.uid) : NULL;
		if (!now)
			return ERR_CORRUPT; /* expunged meanwhile: nobody's */
		at = *now;
		window_release(w);
		e = source_message(r->account, r->folder, &at, w, m);
	}
	return e;
}

/* The hash rules nearly all others out; the record confirms. May wait. */
static bool keep_addressed(void *arg, const struct row *row)
{
	struct recipient *r = arg;
	struct window w = { 0 };
	struct message_record m;
	if (r->err)
		return false;
	if (row->rcpt_hash != 0 && row->rcpt_hash != r->hash) {
		if (++r->seen % 1024 == 0)
			fiber_breathe();
		return false;
	}
	enum err e = read_message(r, row, &w, &m);
	bool keep = e == OK && addressed_to(m.rcpt, r->local_part);
	if (e != OK && e != ERR_CORRUPT) /* a damaged record belongs to nobody any more; trouble with the disk must not hide mail */
		r->err = e;
	window_release(&w);
	fiber_breathe();
	return keep;
}

enum err view_open_for(struct account *account, uint32_t folder, struct slice rcpt_local_part, struct view **view_out)
{
	enum err e = view_open(account, folder, view_out);
	if (e)
		return e;
	struct recipient r = { account, folder, row_rcpt_hash(rcpt_local_part), rcpt_local_part, 0, OK };
	view_filter(*view_out, keep_addressed, &r);
	if (!r.err)
		return OK;
	view_close(*view_out);
	*view_out = NULL;
	return r.err;
}
