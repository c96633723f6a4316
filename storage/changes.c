/* SPDX-License-Identifier: Apache-2.0 */
/*
 * changes.c - store.h's calls for sessions that stay: what a view has missed, what vanished, names of keywords, watches.
 *
 * There is no queue of changes anywhere: what a session has missed is the difference of two versions and the rows with a
 * newer MODSEQ, asked for when the session may tell it (DESIGN section 4, views).
 */
#include "storage/account_private.h"

#include "storage/folder.h"
#include "storage/keyword.h"
#include "storage/view_private.h"

/* ---- views ---- */

uint32_t view_index(const struct view *view, uint32_t uid)
{
	uint32_t low = 0, high = view->count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (view_row(view, mid)->uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool view_next_changed(const struct view *view, uint32_t from, uint64_t modseq, uint32_t *index_out)
{
	for (uint32_t i = from; i < view->count; i++) {
		if (view_row(view, i)->modseq > modseq) {
			*index_out = i;
			return true;
		}
		/* view_row has put the leaf of i under the cursor */
		if (!view->filter && view->leaf->page->modseq_max <= modseq)
			i = view->leaf_first + view->leaf_count - 1;
	}
	return false;
}

bool view_newest(const struct view *view) { return view->version == view->rows->newest; }

struct gone {
	void (*tell)(void *arg, uint32_t uid, uint32_t index);
	void *arg;
};

static bool tell_gone(void *arg, const struct view_change *change)
{
	const struct gone *g = arg;

	if (!change->come)
		g->tell(g->arg, change->uid, change->index);
	return true;
}

bool view_advance(struct view **view_io, void (*gone)(void *arg, uint32_t uid, uint32_t index), void *arg)
{
	struct view *old = *view_io;
	struct folder *f = CONTAINER_OF(old->rows, struct folder, rows);
	struct gone g = { gone, arg };

	ASSERT(!old->filter);
	if (f->gone)
		return false;
	struct view *fresh = rows_pin(&f->rows, f->uidvalidity);
	fresh->account = old->account;
	fresh->folder = old->folder;
	version_diff(old->version, fresh->version, tell_gone, &g);
	view_close(old);
	*view_io = fresh;
	return true;
}

bool folder_vanished(struct account *account, uint32_t folder, uint64_t modseq, void (*range)(void *arg, uint32_t first, uint32_t last),
		     void *arg)
{
	const struct folder *f = account_folder(account, folder);

	if (!f || modseq < f->vanished.floor)
		return false;
	for (uint32_t i = 0; i < f->vanished.count; i++)
		if (f->vanished.at[i].modseq > modseq)
			range(arg, f->vanished.at[i].first, f->vanished.at[i].last);
	return true;
}

/* ---- names ---- */

bool account_keyword_next(const struct account *account, uint32_t set, uint32_t *cursor_io, struct slice *name_out)
{
	const struct keyword_set *bits = keywords_get(account->keywords, set);

	for (uint32_t i = *cursor_io; account->keywords && i < account->keywords->count; i++) {
		if (bits->words[i / 64] == 0) {
			i |= 63;
			continue;
		}
		if (!(bits->words[i / 64] >> (i % 64) & 1) || !account->keywords->names[i].ptr)
			continue;
		*cursor_io = i + 1;
		*name_out = account->keywords->names[i];
		return true;
	}
	return false;
}

bool account_keyword_known(const struct account *account, uint32_t *cursor_io, struct slice *name_out)
{
	for (uint32_t i = *cursor_io; account->keywords && i < account->keywords->count; i++) {
		if (!account->keywords->names[i].ptr)
			continue;
		*cursor_io = i + 1;
		*name_out = account->keywords->names[i];
		return true;
	}
	return false;
}

bool folder_subscription_next(const struct account *account, uint32_t *cursor_io, struct slice *name_out)
{
	if (*cursor_io >= account->subscriptions_bytes)
		return false;
	*name_out = slice_str(account->subscriptions + *cursor_io);
	*cursor_io += (uint32_t)name_out->len + 1;
	return true;
}

/* ---- watches ---- */

enum err folder_watch(struct account *account, uint32_t folder, struct folder_watch *watch)
{
	struct folder *f = account_folder(account, folder);

	if (!f)
		return ERR_NOT_FOUND;
	list_push_back(&f->watches, &watch->link);
	return OK;
}

void folder_unwatch(struct folder_watch *watch)
{
	if (watch->link.next)
		link_remove(&watch->link);
}

void folder_tell(struct folder *f)
{
	LIST_FOREACH(&f->watches, l) {
		struct folder_watch *watch = CONTAINER_OF(l, struct folder_watch, link);
		watch->changed(watch);
	}
}
