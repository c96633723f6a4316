/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.c - the rows of a folder and the newest version of who is in it.
 *
 * Before the newest version is changed, what other versions share of the path is copied (own_...): the version's slots, one
 * branch, one leaf.  So references count versions, and a page with one reference is shown by the newest version alone: it
 * may then be renumbered, which is how pages become dense again and how a row is put between others.
 */
#include "storage/view_private.h"

#include "core/base/hash.h"
#include "core/base/limits.h"

#include <stdlib.h>

#define CAP_FIRST 4u
#define REPACK_ROWS_MIN 32u /* a smaller page is not worth the work */

struct place {
	struct branch *branch;
	struct leaf *leaf;
	uint32_t branch_at, leaf_at, row_at; /* slot of the version, of the branch, of the page */
};

/* ---- pages, leaves, branches, versions: birth and death ---- */

static uint32_t grown(uint32_t cap, uint32_t max)
{
	return cap == 0 ? CAP_FIRST : (uint32_t)min_size(cap + max_size(cap / 4, CAP_FIRST), max);
}

static struct page *page_new(uint32_t cap)
{
	struct page *p = xmalloc(sizeof(*p));
	*p = (struct page){ .refs = 1, .cap = (uint16_t)cap, .rows = xmalloc(cap * sizeof(struct row)) };
	return p;
}

void page_unref(struct page *p)
{
	ASSERT(p->refs > 0);
	if (--p->refs > 0)
		return;
	free(p->rows);
	free(p);
}

static void page_resize(struct page *p, uint32_t cap)
{
	ASSERT(cap >= p->used && cap <= VIEW_PAGE_ROWS);
	p->rows = xrealloc(p->rows, max_size(cap, 1) * sizeof(struct row));
	p->cap = (uint16_t)cap;
}

static size_t leaf_bytes(uint32_t words)
{
	return sizeof(struct leaf) + words * sizeof(uint64_t);
}

/* A leaf that has all rows of its page; takes over the caller's reference to it. */
static struct leaf *leaf_new(struct page *page)
{
	uint32_t words = (uint32_t)max_size((page->used + 63u) / 64, 1);
	struct leaf *l = xcalloc(1, leaf_bytes(words));
	l->refs = 1;
	l->count = page->used;
	l->words = (uint16_t)words;
	l->page = page;
	for (uint32_t i = 0; i < page->used; i++)
		l->bits[i / 64] |= 1ull << (i % 64);
	return l;
}

static void leaf_unref(struct leaf *l)
{
	ASSERT(l->refs > 0);
	if (--l->refs > 0)
		return;
	page_unref(l->page);
	free(l);
}

static size_t branch_size(uint32_t cap)
{
	return sizeof(struct branch) + cap * sizeof(struct slot);
}

static void branch_unref(struct branch *b)
{
	ASSERT(b->refs > 0);
	if (--b->refs > 0)
		return;
	for (uint32_t i = 0; i < b->n; i++)
		leaf_unref(b->slots[i].child);
	free(b);
}

static size_t version_size(uint32_t cap)
{
	return sizeof(struct version) + cap * sizeof(struct slot);
}

void version_unref(struct version *v)
{
	if (!v)
		return;
	ASSERT(v->refs > 0);
	if (--v->refs > 0)
		return;
	for (uint32_t i = 0; i < v->n; i++)
		branch_unref(v->slots[i].child);
	free(v);
}

/* ---- what is shared is copied before it is changed ---- */

static struct version *own_version(struct rows *r)
{
	struct version *v = r->newest;
	if (v->refs == 1)
		return v;
	struct version *copy = xmalloc(version_size(v->cap));
	memcpy(copy, v, version_size(v->n));
	copy->refs = 1;
	for (uint32_t i = 0; i < copy->n; i++)
		((struct branch *)copy->slots[i].child)->refs++;
	v->refs--;
	r->newest = copy;
	return copy;
}

static struct branch *own_branch(struct slot *slot)
{
	struct branch *b = slot->child;
	if (b->refs == 1)
		return b;
	struct branch *copy = xmalloc(branch_size(b->cap));
	memcpy(copy, b, branch_size(b->n));
	copy->refs = 1;
	for (uint32_t i = 0; i < copy->n; i++)
		((struct leaf *)copy->slots[i].child)->refs++;
	b->refs--;
	slot->child = copy;
	return copy;
}

static struct leaf *own_leaf(struct slot *slot)
{
	struct leaf *l = slot->child;
	if (l->refs == 1)
		return l;
	struct leaf *copy = xmalloc(leaf_bytes(l->words));
	memcpy(copy, l, leaf_bytes(l->words));
	copy->refs = 1;
	copy->page->refs++;
	l->refs--;
	slot->child = copy;
	return copy;
}

/* Makes the path to a place the newest version's own; the place's pointers follow. */
static void own_path(struct rows *r, struct place *at)
{
	struct version *v = own_version(r);
	at->branch = own_branch(&v->slots[at->branch_at]);
	at->leaf = own_leaf(&at->branch->slots[at->leaf_at]);
}

/* Adds to the counts of an own path, from the leaf upwards. */
static void count_path(struct rows *r, const struct place *at, int32_t messages, int64_t bytes)
{
	struct version *v = r->newest;
	for (uint32_t i = at->leaf_at; i < at->branch->n; i++)
		at->branch->slots[i].end += (uint32_t)messages;
	for (uint32_t i = at->branch_at; i < v->n; i++)
		v->slots[i].end += (uint32_t)messages;
	v->count += (uint32_t)messages;
	v->bytes += (uint64_t)bytes;
}

/* ---- slots ---- */

/* Room for a child at `at` of the newest version. */
static void version_insert(struct rows *r, uint32_t at, struct branch *child)
{
	struct version *v = r->newest;
	if (v->n == v->cap) {
		v->cap = v->cap < 4 ? v->cap + 1 : 2 * v->cap;
		v = r->newest = xrealloc(v, version_size(v->cap));
	}
	memmove(&v->slots[at + 1], &v->slots[at], (v->n - at) * sizeof(struct slot));
	uint32_t before = at > 0 ? v->slots[at - 1].end : 0;
	v->slots[at] = (struct slot){ child, before, 0 };
	v->n++;
}

static struct branch *branch_insert(struct slot *slot, uint32_t at, struct leaf *child)
{
	struct branch *b = slot->child;
	ASSERT(b->refs == 1 && b->n < VIEW_BRANCH_LEAVES);
	if (b->n == b->cap) {
		b->cap = (uint16_t)min_size(b->cap < 4 ? b->cap + 1u : 2u * b->cap, VIEW_BRANCH_LEAVES);
		b = slot->child = xrealloc(b, branch_size(b->cap));
	}
	memmove(&b->slots[at + 1], &b->slots[at], (uint32_t)(b->n - at) * sizeof(struct slot));
	uint32_t before = at > 0 ? b->slots[at - 1].end : 0;
	b->slots[at] = (struct slot){ child, before, child->page->rows[0].uid };
	b->n++;
	if (at == 0)
		slot->uid_first = b->slots[0].uid_first;
	return b;
}

static struct branch *branch_new(void)
{
	struct branch *b = xmalloc(branch_size(1));
	*b = (struct branch){ .refs = 1, .cap = 1 };
	return b;
}

/* ---- looking up ---- */

/* The last slot that begins at or below a UID, or UINT32_MAX. */
static uint32_t slot_by_uid(const struct slot *slots, uint32_t n, uint32_t uid)
{
	uint32_t low = 0, high = n;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (slots[mid].uid_first <= uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low - 1; /* wraps to UINT32_MAX */
}

/* The first row of a page with at least this UID; used if there is none. */
static uint32_t page_lower(const struct page *p, uint32_t uid)
{
	uint32_t low = 0, high = p->used;
	while (low < high) {
		uint32_t mid = (low + high) / 2;
		if (p->rows[mid].uid < uid)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* The leaf where a UID is or would be; false only for an empty folder. */
static bool locate(const struct rows *r, uint32_t uid, struct place *at)
{
	const struct version *v = r->newest;
	if (!v)
		return false;
	at->branch_at = slot_by_uid(v->slots, v->n, uid);
	if (at->branch_at == UINT32_MAX)
		at->branch_at = 0;
	at->branch = v->slots[at->branch_at].child;
	at->leaf_at = slot_by_uid(at->branch->slots, at->branch->n, uid);
	if (at->leaf_at == UINT32_MAX)
		at->leaf_at = 0;
	at->leaf = at->branch->slots[at->leaf_at].child;
	at->row_at = page_lower(at->leaf->page, uid);
	return true;
}

static bool find(const struct rows *r, uint32_t uid, struct place *at)
{
	return locate(r, uid, at) && leaf_has(at->leaf, at->row_at) && at->leaf->page->rows[at->row_at].uid == uid;
}

struct row *rows_find(const struct rows *r, uint32_t uid)
{
	struct place at;
	return find(r, uid, &at) ? &at.leaf->page->rows[at.row_at] : NULL;
}

struct row *rows_from(const struct rows *r, uint32_t uid)
{
	struct place at;
	if (!locate(r, uid, &at))
		return NULL;
	uint32_t row = leaf_next(at.leaf, at.row_at);
	if (row == UINT32_MAX) { /* behind this leaf: the next one's first */
		if (++at.leaf_at == at.branch->n) {
			if (++at.branch_at == r->newest->n)
				return NULL;
			at.branch = r->newest->slots[at.branch_at].child;
			at.leaf_at = 0;
		}
		at.leaf = at.branch->slots[at.leaf_at].child;
		row = leaf_next(at.leaf, 0);
	}
	ASSERT(row != UINT32_MAX); /* no leaf is empty */
	return &at.leaf->page->rows[row];
}

void rows_each_changed(const struct rows *r, uint64_t modseq, bool (*each)(void *arg, struct row *row), void *arg)
{
	const struct version *v = r->newest;
	for (uint32_t i = 0; v && i < v->n; i++) {
		const struct branch *b = v->slots[i].child;
		for (uint32_t j = 0; j < b->n; j++) {
			const struct leaf *l = b->slots[j].child;
			if (l->page->modseq_max <= modseq)
				continue;
			for (uint32_t k = leaf_next(l, 0); k != UINT32_MAX; k = leaf_next(l, k + 1))
				if (l->page->rows[k].modseq > modseq && !each(arg, &l->page->rows[k]))
					return;
		}
	}
}

void rows_each(const struct rows *r, bool (*each)(void *arg, struct row *row), void *arg)
{
	const struct version *v = r->newest;
	for (uint32_t i = 0; v && i < v->n; i++) {
		const struct branch *b = v->slots[i].child;
		for (uint32_t j = 0; j < b->n; j++) {
			const struct leaf *l = b->slots[j].child;
			for (uint32_t k = leaf_next(l, 0); k != UINT32_MAX; k = leaf_next(l, k + 1))
				if (!each(arg, &l->page->rows[k]))
					return;
		}
	}
}

void rows_each_held(const struct rows *r, bool (*each)(void *arg, struct row *row), void *arg)
{
	LIST_FOREACH(&r->held, it) {
		struct held *h = CONTAINER_OF(it, struct held, link);
		if (!each(arg, &h->page->rows[h->slot]))
			return;
	}
}

/* ---- adding ---- */

static void leaf_room(struct slot *slot, struct leaf **leaf_io)
{
	struct leaf *l = *leaf_io;
	uint32_t words = (uint32_t)((l->page->used + 63u) / 64);
	if (words <= l->words)
		return;
	l = xrealloc(l, leaf_bytes(words));
	memset(&l->bits[l->words], 0, (words - l->words) * sizeof(uint64_t));
	l->words = (uint16_t)words;
	slot->child = *leaf_io = l;
}

static void page_put(struct page *p, uint32_t at, const struct row *row)
{
	if (p->used == p->cap)
		page_resize(p, grown(p->cap, VIEW_PAGE_ROWS));
	memmove(&p->rows[at + 1], &p->rows[at], (p->used - at) * sizeof(struct row));
	p->rows[at] = *row;
	p->used++;
	p->modseq_max = max_u64(p->modseq_max, row->modseq);
}

/* A leaf with one row at a place of an own branch; splits a branch that is full. Returns with the place at it, uncounted. */
static void add_leaf(struct rows *r, struct place *at, struct leaf *leaf)
{
	struct version *v = r->newest;
	struct branch *b = at->branch;
	if (b->n == VIEW_BRANCH_LEAVES) {
		uint32_t keep = at->leaf_at == b->n ? b->n : b->n / 2u, moved = b->n - keep;
		struct branch *upper = branch_new();
		if (moved > 0) {
			upper = xrealloc(upper, branch_size(moved));
			upper->cap = upper->n = (uint16_t)moved;
			memcpy(upper->slots, &b->slots[keep], moved * sizeof(struct slot));
			b->n = (uint16_t)keep;
			for (uint32_t i = 0; i < moved; i++)
				upper->slots[i].end -= b->slots[keep - 1].end;
		}
		uint32_t end = v->slots[at->branch_at].end;
		version_insert(r, at->branch_at + 1, upper);
		v = r->newest;
		v->slots[at->branch_at].end = end - (moved ? upper->slots[moved - 1].end : 0);
		v->slots[at->branch_at + 1].end = end;
		if (moved)
			v->slots[at->branch_at + 1].uid_first = upper->slots[0].uid_first;
		if (at->leaf_at > keep || moved == 0) {
			at->leaf_at -= keep;
			at->branch_at++;
		}
	}
	at->branch = branch_insert(&v->slots[at->branch_at], at->leaf_at, leaf);
	at->leaf = leaf;
}

static struct leaf *leaf_of_row(const struct row *row, uint32_t cap)
{
	struct page *p = page_new(cap);
	page_put(p, 0, row);
	return leaf_new(p);
}

static void add_first(struct rows *r, const struct row *row)
{
	struct version *v = xmalloc(version_size(1));
	*v = (struct version){ .refs = 1, .cap = 1 };
	r->newest = v;
	version_insert(r, 0, branch_new());
	struct place at = { .branch = r->newest->slots[0].child };
	add_leaf(r, &at, leaf_of_row(row, CAP_FIRST));
	count_path(r, &at, 1, (int64_t)row->size);
}

/* The last leaf, or a new one behind it. */
static void add_last(struct rows *r, const struct row *row)
{
	struct place at;
	struct version *v = own_version(r);
	at.branch_at = v->n - 1;
	at.branch = own_branch(&v->slots[at.branch_at]);
	at.leaf_at = at.branch->n - 1u;
	at.leaf = at.branch->slots[at.leaf_at].child;
	if (at.leaf->page->used == VIEW_PAGE_ROWS) {
		at.leaf_at++;
		add_leaf(r, &at, leaf_of_row(row, 16 * CAP_FIRST));
	} else {
		struct slot *slot = &at.branch->slots[at.leaf_at];
		at.leaf = own_leaf(slot);
		page_put(at.leaf->page, at.leaf->page->used, row);
		leaf_room(slot, &at.leaf);
		uint32_t k = at.leaf->page->used - 1u;
		at.leaf->bits[k / 64] |= 1ull << (k % 64);
		at.leaf->count++;
	}
	count_path(r, &at, 1, (int64_t)row->size);
}

/* Rewrites an own page so that it holds the leaf's rows only. */
static void repack(struct slot *slot)
{
	struct leaf *l = slot->child;
	struct page *old = l->page;
	ASSERT(l->refs == 1 && old->refs == 1 && l->count > 0);
	struct page *p = page_new(l->count);
	for (uint32_t k = leaf_next(l, 0); k != UINT32_MAX; k = leaf_next(l, k + 1))
		page_put(p, p->used, &old->rows[k]);
	slot->child = leaf_new(p);
	slot->uid_first = p->rows[0].uid;
	leaf_unref(l);
}

/* Between others: only while rebuilding, when nothing is pinned, so every page is the newest version's own. */
static void add_between(struct rows *r, const struct row *row)
{
	struct place at;
	ASSERT(list_empty(&r->views) && list_empty(&r->held));
	(void)locate(r, row->uid, &at);
	own_path(r, &at);
	struct slot *slot = &at.branch->slots[at.leaf_at];
	if (at.leaf->count < at.leaf->page->used)
		repack(slot);
	at.leaf = slot->child;
	at.row_at = page_lower(at.leaf->page, row->uid);
	struct page *p = at.leaf->page;
	if (p->used == VIEW_PAGE_ROWS) { /* the upper half becomes a leaf of its own */
		struct page *upper = page_new(VIEW_PAGE_ROWS / 2);
		for (uint32_t i = VIEW_PAGE_ROWS / 2; i < VIEW_PAGE_ROWS; i++)
			page_put(upper, upper->used, &p->rows[i]);
		p->used = VIEW_PAGE_ROWS / 2;
		slot->child = leaf_new(p);
		free(at.leaf); /* its reference to the page went to the new leaf */
		for (uint32_t i = at.leaf_at; i < at.branch->n; i++)
			at.branch->slots[i].end -= upper->used;
		struct place behind = at;
		behind.leaf_at++;
		/* the rows moved within the branch, or to a new one: counted there as its leaf arrives */
		for (uint32_t i = at.branch_at; i < r->newest->n; i++)
			r->newest->slots[i].end -= upper->used;
		add_leaf(r, &behind, leaf_new(upper));
		for (uint32_t i = behind.leaf_at; i < behind.branch->n; i++)
			behind.branch->slots[i].end += upper->used;
		for (uint32_t i = behind.branch_at; i < r->newest->n; i++)
			r->newest->slots[i].end += upper->used;
		add_between(r, row);
		return;
	}
	page_put(p, at.row_at, row);
	struct leaf *all = leaf_new(p);
	free(at.leaf);
	at.leaf = slot->child = all;
	if (at.row_at == 0) {
		slot->uid_first = row->uid;
		if (at.leaf_at == 0)
			r->newest->slots[at.branch_at].uid_first = row->uid;
	}
	count_path(r, &at, 1, (int64_t)row->size);
}

void rows_append(struct rows *r, const struct row *row)
{
	struct row added = *row;
	ASSERT(row->uid > 0);
	if (r->literals && rows_uidl(r, row->uid).len > 0)
		added.flags |= ROW_UIDL;
	if (!r->newest)
		add_first(r, &added);
	else if (row->uid > r->uid_last)
		add_last(r, &added);
	else {
		ASSERT(rows_find(r, row->uid) == NULL);
		add_between(r, &added);
	}
	if (row->uid > r->uid_last)
		r->uid_last = row->uid;
}

/* ---- taking out ---- */

/* An own leaf without messages leaves; so do a branch and a version without children. */
static void drop_leaf(struct rows *r, struct place *at)
{
	struct version *v = r->newest;
	struct branch *b = at->branch;
	leaf_unref(at->leaf);
	memmove(&b->slots[at->leaf_at], &b->slots[at->leaf_at + 1], (b->n - at->leaf_at - 1) * sizeof(struct slot));
	b->n--;
	if (b->n > 0) {
		if (at->leaf_at == 0)
			v->slots[at->branch_at].uid_first = b->slots[0].uid_first;
		return;
	}
	branch_unref(b);
	memmove(&v->slots[at->branch_at], &v->slots[at->branch_at + 1], (v->n - at->branch_at - 1) * sizeof(struct slot));
	if (--v->n == 0) {
		ASSERT(v->count == 0 && v->bytes == 0);
		version_unref(v);
		r->newest = NULL;
	}
}

/* Joins an own leaf with the one before it when both are the newest version's alone and small. */
static void merge_before(struct rows *r, struct place *at)
{
	if (at->leaf_at == 0)
		return;
	struct slot *to = &at->branch->slots[at->leaf_at - 1];
	struct leaf *a = to->child, *b = at->leaf;
	if (a->refs != 1 || a->page->refs != 1 || a->count + b->count > VIEW_PAGE_ROWS / 2)
		return;
	struct page *p = page_new(a->count + (uint32_t)b->count);
	for (uint32_t k = leaf_next(a, 0); k != UINT32_MAX; k = leaf_next(a, k + 1))
		page_put(p, p->used, &a->page->rows[k]);
	for (uint32_t k = leaf_next(b, 0); k != UINT32_MAX; k = leaf_next(b, k + 1))
		page_put(p, p->used, &b->page->rows[k]);
	to->end = at->branch->slots[at->leaf_at].end;
	to->child = leaf_new(p);
	to->uid_first = p->rows[0].uid;
	if (at->leaf_at == 1)
		r->newest->slots[at->branch_at].uid_first = to->uid_first;
	leaf_unref(a);
	drop_leaf(r, at);
}

static void hold(struct rows *r, struct page *page, uint32_t slot)
{
	struct held *h = xmalloc(sizeof(*h));
	page->refs++;
	*h = (struct held){ .number = r->number, .page = page, .slot = slot };
	list_push_back(&r->held, &h->link);
}

bool rows_remove(struct rows *r, uint32_t uid, struct row *row_out)
{
	struct place at;
	if (!find(r, uid, &at))
		return false;
	struct row row = at.leaf->page->rows[at.row_at];
	if (row_out)
		*row_out = row;
	own_path(r, &at);
	if (!list_empty(&r->views))
		hold(r, at.leaf->page, at.row_at);
	at.leaf->bits[at.row_at / 64] &= ~(1ull << (at.row_at % 64));
	at.leaf->count--;
	count_path(r, &at, -1, -(int64_t)row.size);
	if (at.leaf->count == 0)
		drop_leaf(r, &at);
	else if (at.leaf->page->refs == 1 && at.leaf->page->used >= REPACK_ROWS_MIN && at.leaf->count <= at.leaf->page->used / 4) {
		struct slot *slot = &at.branch->slots[at.leaf_at];
		repack(slot);
		at.leaf = slot->child;
		if (at.leaf_at == 0)
			r->newest->slots[at.branch_at].uid_first = slot->uid_first;
		merge_before(r, &at);
	}
	if (list_empty(&r->views) && (row.flags & ROW_UIDL))
		rows_uidl_forget(r, uid);
	return true;
}

bool rows_flags(struct rows *r, uint32_t uid, uint32_t flags, uint32_t keywords, uint64_t modseq)
{
	struct place at;
	ASSERT((flags & ~ROW_FLAGS) == 0);
	if (!find(r, uid, &at))
		return false;
	struct page *p = at.leaf->page;
	struct row *row = &p->rows[at.row_at];
	row->flags = (row->flags & ~ROW_FLAGS & 0xffu) | (flags & ROW_FLAGS);
	row->keywords = keywords & 0xffffffu;
	row->modseq = modseq;
	p->modseq_max = max_u64(p->modseq_max, modseq);
	return true;
}

/* ---- the whole ---- */

void rows_init(struct rows *r)
{
	*r = (struct rows){ 0 };
	list_init(&r->views);
	list_init(&r->held);
}

void rows_release(struct rows *r)
{
	ASSERT(list_empty(&r->views) && list_empty(&r->held));
	version_unref(r->newest);
	rows_uidl_release(r);
	rows_init(r);
}

uint32_t rows_count(const struct rows *r) { return r->newest ? r->newest->count : 0; }
uint64_t rows_bytes(const struct rows *r) { return r->newest ? r->newest->bytes : 0; }

size_t rows_memory_bytes(const struct rows *r)
{
	const struct version *v = r->newest;
	size_t sum = rows_uidl_memory_bytes(r);
	if (!v)
		return sum;
	sum += version_size(v->cap);
	for (uint32_t i = 0; i < v->n; i++) {
		const struct branch *b = v->slots[i].child;
		sum += branch_size(b->cap);
		for (uint32_t j = 0; j < b->n; j++) {
			const struct leaf *l = b->slots[j].child;
			sum += leaf_bytes(l->words) + sizeof(struct page) + l->page->cap * sizeof(struct row);
		}
	}
	return sum;
}

void rows_trim(struct rows *r)
{
	struct version *v = r->newest;
	if (!v)
		return;
	struct branch *b = v->slots[v->n - 1].child; /* only the last page keeps room in advance */
	struct leaf *l = b->slots[b->n - 1].child;
	if (l->page->cap > l->page->used)
		page_resize(l->page, l->page->used);
}

uint32_t row_rcpt_hash(struct slice local_part)
{
	char lower[64]; /* RFC 5321 4.5.3.1.1: a local part is at most 64 octets */
	size_t len = min_size(local_part.len, sizeof(lower));
	for (size_t i = 0; i < len; i++) {
		char c = local_part.ptr[i];
		lower[i] = (char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
	}
	uint32_t h = (uint32_t)hash64(slice_of(lower, len), 0) & 0xffffffu;
	return h ? h : 1;
}
