/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_cmd_list.c - LIST (RFC 9051 section 6.3.9) with LIST-EXTENDED, LIST-STATUS, CHILDREN and SPECIAL-USE, and LSUB (RFC 3501).
 *
 * All names of the account (folders, subscribed names that are none, and names that only stand before others) are taken at once and sorted so
 * that a tree follows its root; one pass over that says who has children.  Then they are matched and told as there is room.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"
#include "net/imap/imap_list.h"
#include "net/imap/imap_status.h"

#include <stdlib.h>

/* Bytewise, but '/' before all others: a tree follows its root. */
static int tree_order(const void *x, const void *y)
{
	const struct imap_entry *a = x, *b = y;
	size_t n = min_size(a->name.len, b->name.len);
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)a->name.ptr[i], d = (unsigned char)b->name.ptr[i];
		if (c != d)
			return c == '/' ? -1 : d == '/' ? 1 : c < d ? -1 : 1;
	}
	return a->name.len < b->name.len ? -1 : a->name.len > b->name.len;
}

static bool add(struct imap_list *l, struct arena *arena, struct slice name, const struct folder_info *info, bool subscribed)
{
	if (l->count == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 64;
		l->entries = xrealloc(l->entries, l->cap * sizeof *l->entries);
	}
	struct imap_entry *e = &l->entries[l->count++];
	*e = (struct imap_entry){ .name = arena_slice(arena, name), .subscribed = subscribed };
	if (info) {
		e->folder = info->id;
		e->use = (uint8_t)info->special_use;
		e->exists = !info->noselect;
	}
	return e->name.ptr != NULL;
}

static bool below(struct slice name, struct slice top)
{
	return name.len > top.len && name.ptr[top.len] == '/' && memcmp(name.ptr, top.ptr, top.len) == 0;
}

/* Names that only stand before others. The list is sorted; what is added comes behind it and is sorted again. */
static bool add_parents(struct imap_list *l, struct arena *arena)
{
	size_t count = l->count;
	struct slice last = slice_of("", 0);
	for (size_t i = 0; i < count; i++) {
		struct slice name = l->entries[i].name;
		for (size_t k = 0; k < name.len; k++) {
			struct slice parent = slice_upto(name, k);
			/* a level that the entry before shares was seen there */
			if (name.ptr[k] != '/' || slice_eq(parent, last) || below(last, parent))
				continue;
			if (!add(l, arena, parent, NULL, false))
				return false;
		}
		last = name;
	}
	if (l->count > count)
		qsort(l->entries, l->count, sizeof *l->entries, tree_order);
	return true;
}

/* In this order the entry before a name is its parent, or below it, or below an ancestor of both: so each finds its parent by climbing from
 * the one before, and what is climbed once is not climbed again. */
static void find_parents(struct imap_list *l)
{
	for (size_t i = 0; i < l->count; i++) {
		uint32_t up = i ? (uint32_t)i - 1 : IMAP_NO_ENTRY;
		while (up != IMAP_NO_ENTRY && !below(l->entries[i].name, l->entries[up].name))
			up = l->entries[up].parent;
		l->entries[i].parent = up;
	}
}

/* Backwards: what is below has been seen before its root. */
static void mark_children(struct imap_list *l)
{
	for (size_t i = l->count; i > 0; i--) {
		const struct imap_entry *e = &l->entries[i - 1];
		if (e->parent == IMAP_NO_ENTRY)
			continue;
		struct imap_entry *parent = &l->entries[e->parent];
		parent->child_exists |= e->exists || e->child_exists;
		parent->child_subscribed |= e->subscribed || e->child_subscribed;
	}
}

enum err imap_list_collect(struct imap_session *p, struct imap_list *l)
{
	struct arena *arena = &p->cmd->arena;
	struct folder_info info;
	struct slice name;
	uint32_t cursor = 0;
	while (folder_next(p->account, &cursor, &info))
		if (!add(l, arena, info.name, &info, info.subscribed))
			return ERR_LIMIT;
	cursor = 0;
	while (folder_subscription_next(p->account, &cursor, &name))
		if (!add(l, arena, name, NULL, true))
			return ERR_LIMIT;
	if (!l->count)
		return OK;
	qsort(l->entries, l->count, sizeof *l->entries, tree_order);
	if (!add_parents(l, arena))
		return ERR_LIMIT;
	find_parents(l);
	mark_children(l);
	return OK;
}

/* ---- patterns ---- */

static char folded(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }

/*
 * '*' is anything, '%' anything but '/'.  The last '%' and the last '*' are all that need be remembered: at most one step back for each
 * byte of the name and of the pattern.  INBOX, alone or as a root, matches in any case.
 */
bool imap_list_match(struct slice pattern, struct slice name)
{
	size_t p = 0, n = 0, star = SIZE_MAX, star_n = 0, percent = SIZE_MAX, percent_n = 0;
	bool inbox = name.len >= 5 && memcmp(name.ptr, "INBOX", 5) == 0 && (name.len == 5 || name.ptr[5] == '/');
	while (n < name.len || p < pattern.len) {
		char c = p < pattern.len ? pattern.ptr[p] : 0;
		if (p < pattern.len && c == '*') {
			star = ++p;
			star_n = n;
			percent = SIZE_MAX;
		} else if (p < pattern.len && c == '%') {
			percent = ++p;
			percent_n = n;
		} else if (p < pattern.len && n < name.len && (c == name.ptr[n] || (inbox && n < 5 && folded(c) == name.ptr[n]))) {
			p++;
			n++;
		} else if (percent != SIZE_MAX && percent_n < name.len && name.ptr[percent_n] != '/') {
			p = percent;
			n = ++percent_n;
		} else if (star != SIZE_MAX && star_n < name.len) {
			p = star;
			n = ++star_n;
			percent = SIZE_MAX;
		} else {
			return false;
		}
	}
	return true;
}

/* ---- arguments ---- */

static bool read_selection(struct imap_args *a, struct imap_list *l)
{
	bool any = false;
	for (bool first = true; imap_more(a, &first);) {
		if (imap_word(a, "SUBSCRIBED"))
			l->select_subscribed = any = true;
		else if (imap_word(a, "SPECIAL-USE"))
			l->select_use = any = true;
		else if (imap_word(a, "RECURSIVEMATCH"))
			l->recursive = true;
		else if (!imap_word(a, "REMOTE")) {
			a->why = "no such selection option";
			return false;
		}
	}
	a->why = "RECURSIVEMATCH wants another selection option";
	return any || !l->recursive;
}

static bool read_return(struct imap_session *p, struct imap_list *l)
{
	struct imap_args *a = &p->cmd->args;
	if (imap_at_end(a))
		return true;
	a->why = "expected RETURN";
	if (!imap_skip(a, ' ') || !imap_word(a, "RETURN") || !imap_sp(a) || !imap_open(a))
		return false;
	for (bool first = true; imap_more(a, &first);) {
		if (imap_word(a, "SUBSCRIBED")) {
			l->return_subscribed = true;
		} else if (imap_word(a, "STATUS")) {
			if (!imap_sp(a) || !imap_status_items(p, &l->status))
				return false;
		} else if (!imap_word(a, "CHILDREN") && !imap_word(a, "SPECIAL-USE")) { /* both are always told */
			a->why = "no such return option";
			return false;
		}
	}
	return imap_end(a);
}

/* Reference and pattern in one, as UTF-8. What no name can be matches none. */
static bool add_pattern(struct imap_session *p, struct imap_list *l, struct slice reference, struct slice pattern)
{
	struct imap_args *a = &p->cmd->args;
	struct slice whole;
	if (l->pattern_count == IMAP_PATTERNS_MAX || reference.len + pattern.len > IMAP_NAME_BYTES_MAX) {
		a->why = "too many patterns, or too long";
		return false;
	}
	whole = arena_printf(a->arena, "%.*s%.*s", SLICE_ARG(reference), SLICE_ARG(pattern));
	if (!whole.ptr)
		return false;
	if (a->utf8 ? !imap_utf8_good(whole) : !imap_mutf7_decode(a->arena, whole, &whole))
		return true;
	l->patterns[l->pattern_count++] = whole;
	return true;
}

static bool read_patterns(struct imap_session *p, struct imap_list *l)
{
	struct imap_args *a = &p->cmd->args;
	struct slice reference, pattern;
	if (!imap_astring(a, &reference) || !imap_sp(a))
		return false;
	if (!imap_skip(a, '(')) {
		if (!imap_list_mailbox(a, &pattern))
			return false;
		l->root = !pattern.len;
		return add_pattern(p, l, reference, pattern);
	}
	l->extended = true;
	for (bool first = true; imap_more(a, &first);)
		if (!imap_list_mailbox(a, &pattern) || !add_pattern(p, l, reference, pattern))
			return false;
	return true;
}

/* ---- telling ---- */

static const char *const uses[] = { "",       "\\All",  "\\Archive", "\\Drafts", "\\Flagged",
				    "\\Junk", "\\Sent", "\\Trash",   "\\Important" };

static bool matches(const struct imap_list *l, struct slice name)
{
	for (size_t i = 0; i < l->pattern_count; i++)
		if (imap_list_match(l->patterns[i], name))
			return true;
	return false;
}

static bool selected(const struct imap_list *l, const struct imap_entry *e)
{
	if (l->select_subscribed && !e->subscribed)
		return l->recursive && e->child_subscribed;
	if (l->select_use && !e->use)
		return false;
	return l->select_subscribed || e->exists || e->child_exists;
}

static void put_entry(struct imap_session *p, const struct imap_list *l, const struct imap_entry *e)
{
	struct reply *r = &p->s.reply;
	reply_printf(r, "* LIST (%s", e->child_exists ? "\\HasChildren" : "\\HasNoChildren");
	if (!e->exists) /* both: who knows only the older one understands */
		REPLY_LIT(r, " \\NonExistent \\Noselect");
	if (e->subscribed && (l->select_subscribed || l->return_subscribed))
		REPLY_LIT(r, " \\Subscribed");
	if (e->use && e->use < ARRAY_LEN(uses))
		reply_printf(r, " %s", uses[e->use]);
	REPLY_LIT(r, ") \"/\" ");
	imap_put_mailbox(p, e->name);
	if (l->recursive && e->child_subscribed && l->select_subscribed)
		REPLY_LIT(r, " (\"CHILDINFO\" (\"SUBSCRIBED\"))");
	REPLY_LIT(r, "\r\n");
	if (l->status && e->exists)
		imap_status_put(p, e->folder, l->status);
}

/* RFC 3501 section 6.3.9: a name that is not subscribed, but with subscribed ones below that the pattern does not reach, is \Noselect. */
static void put_lsub(struct imap_session *p, const struct imap_entry *e)
{
	reply_printf(&p->s.reply, "* LSUB (%s) \"/\" ", e->subscribed ? "" : "\\Noselect");
	imap_put_mailbox(p, e->name);
	REPLY_LIT(&p->s.reply, "\r\n");
}

static bool lsub_shows(const struct imap_list *l, const struct imap_entry *e)
{
	return e->subscribed || (e->child_subscribed && l->pattern_count && slice_find(l->patterns[0], '%') != SIZE_MAX);
}

static enum step tell(struct imap_session *p)
{
	struct imap_list *l = p->cmd->state;
	p->cmd->resume = tell;
	for (; l->at < l->count; l->at++) {
		const struct imap_entry *e = &l->entries[l->at];
		if (reply_full(&p->s.reply))
			return STEP_RESUME;
		if (l->at % 16 == 15)
			fiber_breathe();
		if (!matches(l, e->name))
			continue;
		if (l->lsub ? lsub_shows(l, e) : selected(l, e)) {
			if (l->lsub)
				put_lsub(p, e);
			else
				put_entry(p, l, e);
		}
	}
	return imap_ok(p, "that is all");
}

static void drop(struct imap_session *p)
{
	struct imap_list *l = p->cmd->state;
	free(l->entries);
}

static enum step list_command(struct imap_session *p, bool lsub)
{
	struct imap_args *a = &p->cmd->args;
	struct imap_list *l = arena_zalloc(a->arena, sizeof *l);
	if (!l)
		return imap_fail(p, ERR_LIMIT);
	l->lsub = lsub;
	p->cmd->state = l;
	p->cmd->drop = drop;
	if (!imap_sp(a))
		return imap_bad_args(p);
	if (!lsub && imap_skip(a, '(')) {
		l->extended = true;
		if (!read_selection(a, l) || !imap_sp(a))
			return imap_bad_args(p);
	}
	if (!read_patterns(p, l) || (lsub ? !imap_end(a) : !read_return(p, l)))
		return imap_bad_args(p);
	if (l->root && !lsub && !l->extended) {
		REPLY_LIT(&p->s.reply, "* LIST (\\Noselect) \"/\" \"\"\r\n");
		return imap_ok(p, "that is the separator");
	}
	enum err e = imap_list_collect(p, l);
	return e == OK ? tell(p) : imap_fail(p, e);
}

enum step imap_cmd_list(struct imap_session *p) { return list_command(p, false); }
enum step imap_cmd_lsub(struct imap_session *p) { return list_command(p, true); }
