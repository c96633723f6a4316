/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_thread.c - see imap_thread.h.  The steps are those of RFC 5256 section 3.
 *
 * A forest is an array of nodes that know their parents.  Lists of children are made last, by going through all messages in order of
 * their sent dates and appending each to its parent's list: so every list is sorted at once, and the list of roots too, in which a
 * node without a message stands where its first child does.
 */
#include "net/imap/imap_thread.h"

#include "core/base/base.h"
#include "core/base/hash.h"
#include "core/base/limits.h"

#include <stdio.h>
#include <stdlib.h>

void threads_init(struct threads *t, enum thread_how how, uint64_t seed, void (*breathe)(void))
{
	*t = (struct threads){ .how = how, .seed = seed, .last_link = THREAD_NONE, .breathe = breathe };
	t->first_root = t->last_root = THREAD_NONE;
	buf_init(&t->pool, UINT32_MAX);
}

void threads_release(struct threads *t)
{
	free(t->nodes);
	free(t->ids);
	free(t->id_of);
	buf_release(&t->pool);
	*t = (struct threads){ .count = 0 };
}

size_t threads_memory_bytes(const struct threads *t)
{
	return t->cap * (sizeof *t->nodes + sizeof *t->id_of) + t->pool.cap + (t->id_bits ? sizeof *t->ids << t->id_bits : 0);
}

static void breathe(const struct threads *t, uint32_t i)
{
	if (t->breathe && i % 256 == 0)
		t->breathe();
}

/* ---- the pool ---- */

static enum err pool_put(struct threads *t, struct slice s, uint32_t *at_out)
{
	uint32_t len = (uint32_t)s.len;
	if (s.len > UINT32_MAX || t->pool.len + s.len + sizeof len > UINT32_MAX)
		return ERR_LIMIT;
	*at_out = (uint32_t)t->pool.len;
	return buf_put(&t->pool, &len, sizeof len) && (!len || buf_put(&t->pool, s.ptr, s.len)) ? OK : ERR_LIMIT;
}

static struct slice pool_get(const struct threads *t, uint32_t at) { return slice_of(t->pool.ptr + at + 4, get_le32(t->pool.ptr + at)); }

/* ---- nodes and identifiers ---- */

static uint32_t node_new(struct threads *t)
{
	if (t->count == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->nodes = xrealloc(t->nodes, t->cap * sizeof *t->nodes);
		t->id_of = xrealloc(t->id_of, t->cap * sizeof *t->id_of);
	}
	t->nodes[t->count] = (struct thread_node){ .parent = THREAD_NONE, .first = THREAD_NONE, .last = THREAD_NONE, .next = THREAD_NONE };
	t->id_of[t->count] = THREAD_NONE;
	return t->count++;
}

static uint32_t *id_slot(const struct threads *t, struct slice id)
{
	uint32_t mask = (1u << t->id_bits) - 1;
	for (uint32_t i = (uint32_t)hash64(id, t->seed) & mask;; i = (i + 1) & mask)
		if (!t->ids[i] || slice_eq(pool_get(t, t->id_of[t->ids[i] - 1]), id))
			return &t->ids[i];
}

static void ids_grow(struct threads *t)
{
	if (t->id_bits && t->id_count < (1u << t->id_bits) / 2)
		return;
	t->id_bits = t->id_bits ? t->id_bits + 1 : 6;
	free(t->ids);
	t->ids = xcalloc((size_t)1 << t->id_bits, sizeof *t->ids);
	for (uint32_t n = 0; n < t->count; n++)
		if (t->id_of[n] != THREAD_NONE)
			*id_slot(t, pool_get(t, t->id_of[n])) = n + 1;
}

/* The node of an identifier, made if there is none. */
static enum err node_of(struct threads *t, struct slice id, uint32_t *node_out)
{
	ids_grow(t);
	uint32_t *slot = id_slot(t, id), at;
	if (*slot) {
		*node_out = *slot - 1;
		return OK;
	}
	enum err e = pool_put(t, id, &at);
	if (e != OK)
		return e;
	*node_out = node_new(t);
	t->id_of[*node_out] = at;
	*slot = *node_out + 1;
	t->id_count++;
	return OK;
}

/* ---- step 1: links ---- */

static bool is_above(const struct threads *t, uint32_t above, uint32_t node)
{
	for (uint32_t i = 1; node != THREAD_NONE; node = t->nodes[node].parent, i++) {
		if (node == above)
			return true;
		breathe(t, i);
	}
	return false;
}

enum err threads_reference(struct threads *t, struct slice id)
{
	uint32_t node;
	enum err e = node_of(t, id, &node);
	if (e != OK)
		return e;
	/* (A): links that are there already stay, and no circle */
	if (t->last_link != THREAD_NONE && t->nodes[node].parent == THREAD_NONE && !is_above(t, node, t->last_link))
		t->nodes[node].parent = t->last_link;
	t->last_link = node;
	return OK;
}

enum err threads_add(struct threads *t, const struct thread_message *m)
{
	uint32_t node = THREAD_NONE, link = t->last_link;
	enum err e = OK;
	t->last_link = THREAD_NONE;
	if (m->id.len && t->how != THREAD_ORDEREDSUBJECT)
		e = node_of(t, m->id, &node);
	if (e != OK)
		return e;
	if (node == THREAD_NONE || t->nodes[node].number) /* none, or the same as another's: it is known by none */
		node = node_new(t);
	struct thread_node *n = &t->nodes[node];
	n->number = m->number;
	n->sent_s = m->sent_s;
	n->arrived_s = m->arrived_s;
	n->reply = m->reply;
	/* (B): its own References say it best, whatever others' said */
	n->parent = THREAD_NONE;
	if (link != THREAD_NONE && !is_above(t, node, link))
		n->parent = link;
	return pool_put(t, m->subject, &n->subject);
}

/* ---- sorting ---- */

static void merge(const uint32_t *from, uint32_t *to, uint32_t a, uint32_t middle, uint32_t end,
		  int (*compare)(const void *arg, uint32_t a, uint32_t b), const void *arg)
{
	uint32_t b = middle;
	for (uint32_t k = a; k < end; k++)
		to[k] = a < middle && (b == end || compare(arg, from[a], from[b]) <= 0) ? from[a++] : from[b++];
}

void sort_stable(uint32_t *order, uint32_t *spare, uint32_t count, int (*compare)(const void *arg, uint32_t a, uint32_t b), const void *arg,
		 void (*pause)(void))
{
	uint32_t *from = order, *to = spare, steps = 0;
	for (uint64_t width = 1; width < count; width *= 2) {
		for (uint64_t a = 0; a < count; a += 2 * width) {
			uint32_t end = (uint32_t)min_u64(a + 2 * width, count);
			merge(from, to, (uint32_t)a, (uint32_t)min_u64(a + width, count), end, compare, arg);
			steps += end - (uint32_t)a;
			if (pause && steps >= 1024) {
				pause();
				steps = 0;
			}
		}
		uint32_t *swap = from;
		from = to;
		to = swap;
	}
	if (from != order)
		memcpy(order, from, count * sizeof *order);
}

/* Messages in order of their sent dates, then of their numbers. */
static int by_date(const void *arg, uint32_t a, uint32_t b)
{
	const struct thread_node *nodes = arg, *x = &nodes[a], *y = &nodes[b];
	if (x->sent_s != y->sent_s)
		return x->sent_s < y->sent_s ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

static int by_subject(const void *arg, uint32_t a, uint32_t b)
{
	const struct threads *t = arg;
	int c = slice_cmp(pool_get(t, t->nodes[a].subject), pool_get(t, t->nodes[b].subject));
	return c ? c : by_date(t->nodes, a, b);
}

static uint32_t *messages_of(const struct threads *t, uint32_t *count_out)
{
	uint32_t *all = xmalloc((t->count + 1) * sizeof *all);
	*count_out = 0;
	for (uint32_t n = 0; n < t->count; n++)
		if (t->nodes[n].number)
			all[(*count_out)++] = n;
	return all;
}

/* ---- steps 2 and 3: nodes without messages ---- */

/* For each node without a message, what stands in its place above its children: the nearest message above, or the topmost such node.
 * Found by climbing once and noted on the way, so that long rows of them cost no more than their length. */
static uint32_t stand_in(const struct threads *t, uint32_t *noted, uint32_t node)
{
	uint32_t at = node, result;
	while (!t->nodes[at].number && noted[at] == THREAD_NONE && t->nodes[at].parent != THREAD_NONE)
		at = t->nodes[at].parent;
	result = !t->nodes[at].number && noted[at] != THREAD_NONE ? noted[at] : at;
	while (node != at) {
		noted[node] = result;
		node = t->nodes[node].parent;
	}
	return result;
}

static void prune(struct threads *t)
{
	uint32_t *noted = xmalloc((t->count + 1) * sizeof *noted), *children = xcalloc(t->count + 1, sizeof *children);
	memset(noted, 0xff, (t->count + 1) * sizeof *noted);
	for (uint32_t n = 0; n < t->count; n++) {
		breathe(t, n);
		if (!t->nodes[n].number || t->nodes[n].parent == THREAD_NONE)
			continue;
		noted[n] = stand_in(t, noted, t->nodes[n].parent); /* a message's own place: its new parent */
	}
	for (uint32_t n = 0; n < t->count; n++)
		if (t->nodes[n].number && noted[n] != THREAD_NONE) {
			t->nodes[n].parent = noted[n];
			children[noted[n]]++;
		}
	for (uint32_t n = 0; n < t->count; n++) {
		struct thread_node *node = &t->nodes[n];
		if (node->number && node->parent != THREAD_NONE && !t->nodes[node->parent].number && children[node->parent] == 1)
			node->parent = THREAD_NONE; /* the only child takes its place */
	}
	for (uint32_t n = 0; n < t->count; n++)
		if (!t->nodes[n].number) {
			t->nodes[n].parent = THREAD_NONE;
			t->nodes[n].gone = children[n] < 2;
		}
	free(noted);
	free(children);
}

/* ---- steps 4 and 6: lists ---- */

static void append(struct thread_node *nodes, uint32_t *first, uint32_t *last, uint32_t n)
{
	nodes[n].next = THREAD_NONE;
	if (*last == THREAD_NONE)
		*first = n;
	else
		nodes[*last].next = n;
	*last = n;
}

static void list_all(struct threads *t, const uint32_t *sorted, uint32_t count)
{
	struct thread_node *nodes = t->nodes;
	for (uint32_t n = 0; n < t->count; n++)
		nodes[n].first = nodes[n].last = nodes[n].next = THREAD_NONE;
	t->first_root = t->last_root = THREAD_NONE;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t n = sorted[i], parent = nodes[n].parent;
		breathe(t, i);
		if (parent == THREAD_NONE) {
			append(nodes, &t->first_root, &t->last_root, n);
			continue;
		}
		if (!nodes[parent].number && nodes[parent].first == THREAD_NONE)
			append(nodes, &t->first_root, &t->last_root, parent);
		append(nodes, &nodes[parent].first, &nodes[parent].last, n);
	}
}

/* ---- step 5: threads of one subject ---- */

static uint32_t subject_of(const struct threads *t, uint32_t root)
{
	return t->nodes[t->nodes[root].number ? root : t->nodes[root].first].subject;
}

static uint32_t *subject_slot(const struct threads *t, uint32_t *table, unsigned bits, uint32_t root)
{
	struct slice subject = pool_get(t, subject_of(t, root));
	uint32_t mask = (1u << bits) - 1;
	for (uint32_t i = (uint32_t)hash64(subject, t->seed) & mask;; i = (i + 1) & mask)
		if (!table[i] || slice_eq(pool_get(t, subject_of(t, table[i] - 1)), subject))
			return &table[i];
}

/* 5.B: which thread stands for its subject. */
static void choose(const struct threads *t, uint32_t *slot, uint32_t root)
{
	const struct thread_node *n = &t->nodes[root], *there = *slot ? &t->nodes[*slot - 1] : NULL;
	if (!there || (!n->number && there->number) || (there->number && n->number && there->reply && !n->reply))
		*slot = root + 1;
}

static void adopt_children(struct threads *t, uint32_t from, uint32_t to)
{
	for (uint32_t c = t->nodes[from].first; c != THREAD_NONE; c = t->nodes[c].next)
		t->nodes[c].parent = to;
	t->nodes[from].gone = true;
}

/* 5.C: a thread and the one that stands for its subject. */
static void join(struct threads *t, uint32_t *slot, uint32_t root)
{
	uint32_t other = *slot - 1;
	struct thread_node *n = &t->nodes[root], *o = &t->nodes[other];
	if (!n->number && !o->number) {
		adopt_children(t, root, other);
	} else if (!o->number || (n->reply && !o->reply)) {
		n->parent = other;
	} else {
		uint32_t both = node_new(t); /* nodes may have moved */
		t->nodes[root].parent = t->nodes[other].parent = both;
		t->nodes[both].first = other; /* whose subject is its own */
		*slot = both + 1;
	}
}

static void gather_subjects(struct threads *t)
{
	unsigned bits = 6;
	uint32_t roots = 0, count = 0, *list;
	for (uint32_t n = t->first_root; n != THREAD_NONE; n = t->nodes[n].next)
		roots++;
	while ((1u << bits) < 2 * roots)
		bits++;
	uint32_t *table = xcalloc((size_t)1 << bits, sizeof *table);
	list = xmalloc((roots + 1) * sizeof *list);
	for (uint32_t n = t->first_root; n != THREAD_NONE; n = t->nodes[n].next)
		list[count++] = n;
	for (uint32_t i = 0; i < count; i++) {
		breathe(t, i);
		if (get_le32(t->pool.ptr + subject_of(t, list[i])))
			choose(t, subject_slot(t, table, bits, list[i]), list[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		breathe(t, i);
		if (!get_le32(t->pool.ptr + subject_of(t, list[i])))
			continue;
		uint32_t *slot = subject_slot(t, table, bits, list[i]);
		if (*slot != list[i] + 1)
			join(t, slot, list[i]);
	}
	free(list);
	free(table);
}

/* ---- REFS: threads by their newest message ---- */

static int by_arrival(const void *arg, uint32_t a, uint32_t b)
{
	const int64_t *newest = arg;
	return newest[a] < newest[b] ? -1 : newest[a] > newest[b];
}

static uint32_t root_of(const struct threads *t, uint32_t *noted, uint32_t n)
{
	uint32_t at = n;
	while (noted[at] == THREAD_NONE && t->nodes[at].parent != THREAD_NONE)
		at = t->nodes[at].parent;
	uint32_t root = noted[at] == THREAD_NONE ? at : noted[at];
	for (; n != at; n = t->nodes[n].parent)
		noted[n] = root;
	return root;
}

static void order_by_arrival(struct threads *t)
{
	int64_t *newest = xmalloc((t->count + 1) * sizeof *newest);
	uint32_t *noted = xmalloc((t->count + 1) * sizeof *noted), *list = xmalloc(2 * (t->count + 1) * sizeof *list), count = 0;
	memset(noted, 0xff, (t->count + 1) * sizeof *noted);
	for (uint32_t n = 0; n < t->count; n++)
		newest[n] = INT64_MIN;
	for (uint32_t n = 0; n < t->count; n++) {
		breathe(t, n);
		if (!t->nodes[n].number)
			continue;
		uint32_t root = root_of(t, noted, n);
		newest[root] = max_i64(newest[root], t->nodes[n].arrived_s);
	}
	for (uint32_t n = t->first_root; n != THREAD_NONE; n = t->nodes[n].next)
		list[count++] = n;
	sort_stable(list, list + t->count + 1, count, by_arrival, newest, t->breathe);
	t->first_root = t->last_root = THREAD_NONE;
	for (uint32_t i = 0; i < count; i++)
		append(t->nodes, &t->first_root, &t->last_root, list[i]);
	free(newest);
	free(noted);
	free(list);
}

/* ---- all ---- */

/* ORDEREDSUBJECT: of messages with one base subject the first by date is the parent of the others. */
static void link_by_subject(struct threads *t, const uint32_t *all, uint32_t count)
{
	uint32_t first = THREAD_NONE;
	for (uint32_t i = 0; i < count; i++) {
		if (first != THREAD_NONE && slice_eq(pool_get(t, t->nodes[first].subject), pool_get(t, t->nodes[all[i]].subject)))
			t->nodes[all[i]].parent = first;
		else
			first = all[i];
	}
}

void threads_make(struct threads *t)
{
	uint32_t count, *sorted = messages_of(t, &count), *spare = xmalloc((count + 1) * sizeof *spare);
	if (t->how == THREAD_ORDEREDSUBJECT) {
		sort_stable(sorted, spare, count, by_subject, t, t->breathe);
		link_by_subject(t, sorted, count);
	} else {
		prune(t);
	}
	sort_stable(sorted, spare, count, by_date, t->nodes, t->breathe);
	list_all(t, sorted, count);
	if (t->how == THREAD_REFERENCES) {
		gather_subjects(t);
		list_all(t, sorted, count);
	} else if (t->how == THREAD_REFS) {
		order_by_arrival(t);
	}
	free(sorted);
	free(spare);
}

/* ---- the text ---- */

void thread_walk_begin(const struct threads *t, struct thread_walk *w) { *w = (struct thread_walk){ .at = t->first_root }; }

static bool has_siblings(const struct threads *t, uint32_t n)
{
	uint32_t parent = t->nodes[n].parent;
	return parent != THREAD_NONE && t->nodes[parent].first != t->nodes[parent].last;
}

static size_t put_node(const struct threads *t, uint32_t n, char *out, bool open)
{
	const struct thread_node *node = &t->nodes[n];
	size_t len = 0;
	if (open)
		out[len++] = '(';
	if (node->number)
		len += put_u64(out + len, node->number);
	if (node->number && node->first != THREAD_NONE)
		out[len++] = ' ';
	return len;
}

/* Where the walk goes from a node without children, closing what ends there; THREAD_NONE: all is told. */
bool thread_walk_next(const struct threads *t, struct thread_walk *w, char piece[32], size_t *len_out)
{
	*len_out = 0;
	if (w->at == THREAD_NONE)
		return false;
	const struct thread_node *node = &t->nodes[w->at];
	if (!w->begun) { /* going down: the node, then its children */
		bool open = node->parent == THREAD_NONE || has_siblings(t, w->at);
		*len_out = put_node(t, w->at, piece, open);
		if (node->first != THREAD_NONE)
			w->at = node->first;
		else
			w->begun = true;
		return true;
	}
	/* going up: the node is over */
	if (node->parent == THREAD_NONE || has_siblings(t, w->at))
		piece[(*len_out)++] = ')';
	if (node->next != THREAD_NONE) {
		w->at = node->next;
		w->begun = false;
	} else {
		w->at = node->parent;
	}
	return true;
}
