/* SPDX-License-Identifier: Apache-2.0 */
/*
 * view.c - pinned versions: what a session sees of a folder, and how one version differs from another.
 */
#include "storage/view_private.h"

#include <stdlib.h>

static struct version *version_ref(struct version *v)
{
	if (v)
		v->refs++;
	return v;
}

struct view *rows_pin(struct rows *r, uint32_t uidvalidity)
{
	struct view *v = xcalloc(1, sizeof(*v));
	v->rows = r;
	v->version = version_ref(r->newest);
	v->number = ++r->number;
	v->count = rows_count(r);
	v->bytes = rows_bytes(r);
	v->uidvalidity = uidvalidity;
	put_hex8(v->uidvalidity_hex, uidvalidity);
	list_push_back(&r->views, &v->link);
	return v;
}

void rows_unpin(struct view *v, void (*released)(void *arg, const struct row *row), void *arg)
{
	struct rows *r = v->rows;
	link_remove(&v->link);
	version_unref(v->version);
	free(v->filter);
	free(v);
	const struct view *oldest = LIST_FIRST(&r->views, struct view, link);
	struct held *h;
	while ((h = LIST_FIRST(&r->held, struct held, link)) != NULL && (!oldest || h->number < oldest->number)) {
		struct row row = h->page->rows[h->slot];
		link_remove(&h->link);
		page_unref(h->page);
		free(h);
		if (row.flags & ROW_UIDL)
			rows_uidl_forget(r, row.uid);
		if (released)
			released(arg, &row);
	}
}

/* Puts the leaf that holds an index of the version under the view's cursor. */
static void cursor_move(struct view *v, uint32_t index)
{
	const struct version *version = v->version;
	uint32_t i = slot_by_index(version->slots, version->n, index);
	uint32_t before = i > 0 ? version->slots[i - 1].end : 0;
	const struct branch *b = version->slots[i].child;
	uint32_t j = slot_by_index(b->slots, b->n, index - before);
	before += j > 0 ? b->slots[j - 1].end : 0;
	v->leaf = b->slots[j].child;
	v->leaf_first = before;
	v->leaf_count = v->leaf->count;
	v->next_index = before;
	v->next_slot = leaf_next(v->leaf, 0);
	ASSERT(index >= before && index - before < v->leaf_count);
}

struct row *view_row(const struct view *view, uint32_t index)
{
	struct view *v = (struct view *)(uintptr_t)view; /* the cursor is nobody's business but ours */
	ASSERT(index < v->count);
	if (v->filter)
		index = v->filter[index];
	if (index - v->leaf_first >= v->leaf_count) /* unsigned: below the first is far above, too */
		cursor_move(v, index);
	struct row *rows = v->leaf->page->rows;
	if (v->leaf->count == v->leaf->page->used)
		return &rows[index - v->leaf_first];
	if (index != v->next_index)
		v->next_slot = leaf_select(v->leaf, index - v->leaf_first);
	struct row *row = &rows[v->next_slot];
	v->next_index = index + 1;
	v->next_slot = leaf_next(v->leaf, v->next_slot + 1);
	return row;
}

void view_filter(struct view *v, bool (*keep)(void *arg, const struct row *row), void *arg)
{
	ASSERT(v->filter == NULL);
	uint32_t all = v->count, kept = 0, cap = 0;
	uint32_t *filter = NULL;
	uint64_t bytes = 0;
	for (uint32_t i = 0; i < all; i++) {
		if (!keep(arg, view_row(v, i)))
			continue;
		if (kept == cap) {
			cap = cap ? 2 * cap : 16;
			filter = xrealloc(filter, cap * sizeof(*filter));
		}
		filter[kept++] = i;
		bytes += view_row(v, i)->size;
	}
	v->filter = filter ? xrealloc(filter, kept * sizeof(*filter)) : xmalloc(sizeof(*filter));
	v->count = kept;
	v->bytes = bytes;
}

uint32_t view_count(const struct view *view) { return view->count; }
uint64_t view_bytes(const struct view *view) { return view->bytes; }
uint32_t view_uidvalidity(const struct view *view) { return view->uidvalidity; }

void view_message(const struct view *view, uint32_t index, struct message *message_out)
{
	const struct row *row = view_row(view, index);
	*message_out = (struct message){ .uid = row->uid, .size = row->size, .flags = row->flags & ROW_FLAGS, .keywords = row->keywords, .modseq = row->modseq };
}

size_t view_uidl(const struct view *view, uint32_t index, char out[UIDL_BYTES_MAX])
{
	const struct row *row = view_row(view, index);
	if (UNLIKELY(row->flags & ROW_UIDL)) {
		struct slice literal = rows_uidl(view->rows, row->uid);
		ASSERT(literal.len > 0 && literal.len <= UIDL_BYTES_MAX);
		memcpy(out, literal.ptr, literal.len);
		return literal.len;
	}
	put_hex8(out, row->uid);
	memcpy(out + 8, view->uidvalidity_hex, 8);
	return UIDL_FORMULA_BYTES;
}

/* ---- differences ---- */

/* A walk over a version; at a leaf's or a branch's first message it may step over the whole. */
struct walk {
	const struct version *version;
	const struct branch *branch; /* NULL: at the end */
	const struct leaf *leaf;
	uint32_t branch_at, leaf_at, slot, index;
	bool leaf_begins;
};

static void walk_enter_leaf(struct walk *w)
{
	bool more = w->version && w->branch_at < w->version->n;
	w->branch = more ? w->version->slots[w->branch_at].child : NULL;
	w->leaf = w->branch ? w->branch->slots[w->leaf_at].child : NULL;
	w->leaf_begins = true;
	w->slot = w->leaf ? leaf_next(w->leaf, 0) : UINT32_MAX;
}

static void walk_leave_leaf(struct walk *w)
{
	ASSERT(w->branch != NULL);
	if (++w->leaf_at == w->branch->n) {
		w->branch_at++;
		w->leaf_at = 0;
	}
	walk_enter_leaf(w);
}

static void walk_skip_leaf(struct walk *w)
{
	w->index += w->leaf->count;
	walk_leave_leaf(w);
}

static void walk_skip_branch(struct walk *w)
{
	w->index += w->branch->slots[w->branch->n - 1].end;
	w->branch_at++;
	w->leaf_at = 0;
	walk_enter_leaf(w);
}

static uint32_t walk_uid(const struct walk *w)
{
	return w->leaf ? w->leaf->page->rows[w->slot].uid : UINT32_MAX; /* the end is above all */
}

static void walk_next(struct walk *w)
{
	w->index++;
	w->leaf_begins = false;
	ASSERT(w->leaf != NULL);
	w->slot = leaf_next(w->leaf, w->slot + 1);
	if (w->slot == UINT32_MAX)
		walk_leave_leaf(w);
}

/* Steps over what both have in common at this point; false if they must be compared by UID. */
static bool walk_skip_same(struct walk *a, struct walk *b)
{
	if (!a->leaf_begins || !b->leaf_begins || !a->leaf || a->leaf != b->leaf)
		return false;
	if (a->leaf_at == 0 && b->leaf_at == 0 && a->branch == b->branch) {
		walk_skip_branch(a);
		walk_skip_branch(b);
	} else {
		walk_skip_leaf(a);
		walk_skip_leaf(b);
	}
	return true;
}

void version_diff(const struct version *old, const struct version *new_, bool (*each)(void *arg, const struct view_change *change),
                  void *arg)
{
	struct walk a = { .version = old }, b = { .version = new_ };
	walk_enter_leaf(&a);
	walk_enter_leaf(&b);
	for (;;) {
		if (walk_skip_same(&a, &b))
			continue;
		uint32_t gone = walk_uid(&a), come = walk_uid(&b);
		if (gone == come) {
			if (gone == UINT32_MAX)
				return;
			walk_next(&a);
			walk_next(&b);
			continue;
		}
		struct view_change change = { .uid = gone < come ? gone : come, .index = gone < come ? a.index : b.index, .come = come < gone };
		if (!each(arg, &change))
			return;
		walk_next(gone < come ? &a : &b);
	}
}
