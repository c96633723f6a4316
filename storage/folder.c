/* SPDX-License-Identifier: Apache-2.0 */
/*
 * folder.c - folders in memory: found by id or name, made, dropped, and what vanished from them.
 */
#include "storage/folder.h"

#include "core/base/limits.h"
#include "storage/account_private.h"

#include <stdlib.h>

/* Index of the first folder with an id at or above this one. */
static uint32_t folder_slot(const struct account *a, uint32_t id)
{
	uint32_t low = 0, high = a->folder_count;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		if (a->folders[mid]->id < id)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

struct folder *account_folder(const struct account *a, uint32_t id)
{
	uint32_t i = folder_slot(a, id);

	return i < a->folder_count && a->folders[i]->id == id ? a->folders[i] : NULL;
}

struct folder *folder_add(struct account *a, uint32_t id, struct slice name)
{
	uint32_t at = folder_slot(a, id);
	struct folder *f;

	ASSERT(id > 0 && !account_folder(a, id));
	if (a->folder_count >= FOLDERS_MAX)
		return NULL;
	f = xcalloc(1, sizeof(*f));
	f->id = id;
	f->uidnext = 1;
	f->uidl_formula = UIDL_FORMULA_HEX;
	rows_init(&f->rows);
	list_init(&f->watches);
	folder_set_name(f, name);
	a->folders = xrealloc(a->folders, (a->folder_count + 1) * sizeof(struct folder *));
	memmove(a->folders + at + 1, a->folders + at, (a->folder_count - at) * sizeof(struct folder *));
	a->folders[at] = f;
	a->folder_count++;
	folder_names_changed(a);
	return f;
}

void folder_free(struct folder *f)
{
	rows_release(&f->rows);
	vanished_release(&f->vanished);
	free(f->name);
	free(f);
}

void folder_drop(struct account *a, struct folder *f)
{
	uint32_t at = folder_slot(a, f->id);

	ASSERT(at < a->folder_count && a->folders[at] == f);
	folder_names_changed(a);
	a->folder_count--;
	memmove(a->folders + at, a->folders + at + 1, (a->folder_count - at) * sizeof(struct folder *));
	f->gone = true;
	folder_tell(f);
	if (list_empty(&f->rows.views))
		folder_free(f);
	else
		a->gone_folders++; /* until view_close */
}

void folder_set_name(struct folder *f, struct slice name)
{
	char *copy = xmalloc(max_size(name.len, 1));

	ASSERT(name.len <= UINT16_MAX);
	if (name.len > 0)
		memcpy(copy, name.ptr, name.len);
	free(f->name);
	f->name = copy;
	f->name_bytes = (uint16_t)name.len;
}

static struct slice folder_name(const struct folder *f) { return slice_of(f->name, f->name_bytes); }

struct folder *folder_by_name(const struct account *a, struct slice name)
{
	if (slice_eq_nocase(name, SLICE_LIT("INBOX")))
		return account_folder(a, FOLDER_INBOX);
	for (uint32_t i = 0; i < a->folder_count; i++)
		if (slice_eq(folder_name(a->folders[i]), name))
			return a->folders[i];
	return NULL;
}

void folder_names_changed(struct account *a)
{
	free(a->by_name);
	a->by_name = NULL;
}

static int name_order(const void *x, const void *y)
{
	const struct folder *a = *(struct folder *const *)x, *b = *(struct folder *const *)y;

	return slice_cmp(folder_name(a), folder_name(b));
}

const struct folder *folder_after(struct account *a, const struct folder *last)
{
	uint32_t low = 0, high = a->folder_count;

	if (a->folder_count == 0)
		return NULL;
	if (!a->by_name) {
		a->by_name = xmalloc(a->folder_count * sizeof(void *));
		memcpy(a->by_name, a->folders, a->folder_count * sizeof(void *));
		qsort(a->by_name, a->folder_count, sizeof(void *), name_order);
	}
	while (last && low < high) { /* the first one above the last one's name */
		uint32_t mid = low + (high - low) / 2;
		if (slice_cmp(folder_name(a->by_name[mid]), folder_name(last)) <= 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low < a->folder_count ? a->by_name[low] : NULL;
}

bool folder_is_below(struct slice name, struct slice top)
{
	return name.len >= top.len && memcmp(name.ptr, top.ptr, top.len) == 0 &&
	       (name.len == top.len || name.ptr[top.len] == '/');
}

/* ---- vanished ---- */

void vanished_release(struct vanished *v)
{
	free(v->at);
	*v = (struct vanished){ .at = NULL };
}

static void vanished_delete(struct vanished *v, uint32_t i, uint32_t count)
{
	v->count -= count;
	memmove(v->at + i, v->at + i + count, (v->count - i) * sizeof(*v->at));
}

/*
 * Old ranges that touch become one, under the newer MODSEQ: a client that asks what vanished since one in between is told
 * UIDs again that it knows to be gone (RFC 7162 allows it), and a maildrop that is emptied every day stays one range.
 */
static void vanished_join_old(struct vanished *v)
{
	if (v->count <= VANISHED_EXACT)
		return;
	uint32_t i = v->count - VANISHED_EXACT;
	struct vanished_range *a = &v->at[i - 1], *b = &v->at[i];
	if (a->last + 1 == b->first) {
		b->first = a->first;
		vanished_delete(v, i - 1, 1);
	} else if (b->last + 1 == a->first) {
		b->last = a->last;
		vanished_delete(v, i - 1, 1);
	}
}

void vanished_add(struct vanished *v, uint32_t first, uint32_t last, uint64_t modseq)
{
	uint32_t at = v->count;

	if (modseq <= v->floor)
		return;
	while (at > 0 && v->at[at - 1].modseq > modseq)
		at--;
	for (uint32_t i = at; i > 0 && v->at[i - 1].modseq == modseq; i--)
		if (v->at[i - 1].first <= first && last <= v->at[i - 1].last)
			return;
	if (at > 0 && v->at[at - 1].modseq == modseq && v->at[at - 1].last + 1 == first) {
		v->at[at - 1].last = last;
		return;
	}
	if (v->count == VANISHED_RANGES_MAX) {
		vanished_raise_floor(v, v->at[0].modseq);
		vanished_add(v, first, last, modseq); /* there is room now, so this goes no deeper */
		return;
	}
	if (v->count == v->cap) {
		v->cap = v->cap ? v->cap + v->cap / 2 + 1 : 2;
		v->at = xrealloc(v->at, v->cap * sizeof(*v->at));
	}
	memmove(v->at + at + 1, v->at + at, (v->count - at) * sizeof(*v->at));
	v->at[at] = (struct vanished_range){ modseq, first, last };
	v->count++;
	vanished_join_old(v);
}

void vanished_raise_floor(struct vanished *v, uint64_t floor)
{
	uint32_t n = 0;

	if (floor <= v->floor)
		return;
	v->floor = floor;
	while (n < v->count && v->at[n].modseq <= floor)
		n++;
	if (n > 0)
		vanished_delete(v, 0, n);
}

/* ---- subscriptions ---- */

static char *subscription_find(const struct account *a, struct slice name)
{
	char *p = a->subscriptions, *end = p ? p + a->subscriptions_bytes : NULL;

	while (p && p < end) {
		size_t len = strlen(p);
		if (slice_eq(slice_of(p, len), name))
			return p;
		p += len + 1;
	}
	return NULL;
}

bool subscription_has(const struct account *a, struct slice name) { return subscription_find(a, name) != NULL; }

void subscription_set(struct account *a, struct slice name, bool on)
{
	char *p = subscription_find(a, name);

	if (on && !p && name.len > 0 && !memchr(name.ptr, 0, name.len) &&
	    a->subscriptions_bytes + name.len < SUBSCRIPTIONS_BYTES_MAX) {
		a->subscriptions = xrealloc(a->subscriptions, a->subscriptions_bytes + name.len + 1);
		memcpy(a->subscriptions + a->subscriptions_bytes, name.ptr, name.len);
		a->subscriptions[a->subscriptions_bytes + name.len] = 0;
		a->subscriptions_bytes += (uint32_t)name.len + 1;
	} else if (!on && p) {
		size_t left = (size_t)(a->subscriptions + a->subscriptions_bytes - (p + name.len + 1));
		memmove(p, p + name.len + 1, left);
		a->subscriptions_bytes -= (uint32_t)name.len + 1;
	}
}
