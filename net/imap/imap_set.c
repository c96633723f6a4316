/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_set.c - sequence sets (RFC 9051 section 9): which messages of the view a command means.
 *
 * A set is kept as ranges, never as messages: "1:*" of a million costs eight bytes.  UIDs that are not there are skipped; message numbers
 * beyond the last are an error of the client (RFC 9051 section 4.1.1 forbids them), but for '*' in an empty mailbox, which means none.
 */
#include "net/imap/imap_search.h"

#include "core/run/fiber.h"

#include <stdlib.h>

static uint32_t uid_at(const struct imap_session *p, uint32_t index)
{
	struct message m;
	view_message(p->view, index, &m);
	return m.uid;
}

/* "$": what the last SEARCH with SAVE has kept, as UIDs, whatever the command calls messages by. Expunged ones are not there any more. */
static bool saved(const struct imap_session *p, struct imap_set *set)
{
	set->uid = true;
	for (size_t i = 0; p->saved && i < p->saved->uids.count; i++)
		if (ranges_add(&set->ranges, p->saved->uids.at[i].first, p->saved->uids.at[i].last) != OK)
			return false;
	return true;
}

bool imap_set_read(struct imap_session *p, struct imap_set *set) { return imap_set_read_as(p, p->cmd->uid, set); }

bool imap_set_read_as(struct imap_session *p, bool uid, struct imap_set *set)
{
	struct slice text;
	*set = (struct imap_set){ .uid = uid };
	return imap_set_text(&p->cmd->args, &text) && imap_set_judge(p, text, uid, set);
}

bool imap_set_judge(struct imap_session *p, struct slice text, bool uid, struct imap_set *set)
{
	struct imap_args *a = &p->cmd->args;
	uint32_t count = p->view ? view_count(p->view) : 0;
	*set = (struct imap_set){ .uid = uid };
	ranges_init(&set->ranges, IMAP_SET_RANGES_MAX);
	if (text.ptr[0] == '$')
		return saved(p, set);
	uint32_t star = !count ? 1 : set->uid ? uid_at(p, count - 1) : count;
	enum err e = ranges_parse(&set->ranges, text, star);
	if (e != OK)
		a->why = e == ERR_LIMIT ? "too many ranges in a set of messages" : "a set of messages out of form";
	else if (p->cmd->any_number)
		return true;
	else if (!set->uid && set->ranges.count && set->ranges.at[set->ranges.count - 1].last > max_u64(count, 1)) {
		a->why = "no message has this number";
		e = ERR_SYNTAX;
	} else if (!set->uid && !count && slice_find(text, '*') == SIZE_MAX) {
		a->why = "the mailbox is empty";
		e = ERR_SYNTAX;
	}
	if (e == OK)
		return true;
	ranges_release(&set->ranges);
	return false;
}

void imap_set_release(struct imap_set *set) { ranges_release(&set->ranges); }

bool imap_set_next(const struct imap_session *p, struct imap_set *set, uint32_t *index_out)
{
	uint32_t count = view_count(p->view);
	for (; set->at < set->ranges.count; set->at++) {
		const struct range *r = &set->ranges.at[set->at];
		if (!set->uid) {
			if (set->next < r->first - 1)
				set->next = r->first - 1;
			if (set->next < count && set->next <= r->last - 1) {
				*index_out = set->next++;
				return true;
			}
			continue;
		}
		if (set->next < count && uid_at(p, set->next) < r->first)
			set->next = view_index(p->view, r->first);
		if (set->next >= count)
			return false;
		if (uid_at(p, set->next) <= r->last) {
			*index_out = set->next++;
			return true;
		}
	}
	return false;
}

uint32_t *imap_set_uids(const struct imap_session *p, struct imap_set *set, size_t *count_out)
{
	uint32_t *uids = NULL, index;
	size_t count = 0, cap = 0;
	while (imap_set_next(p, set, &index)) {
		if (count == cap) {
			cap = cap ? 2 * cap : 64;
			uids = xrealloc(uids, cap * sizeof *uids);
		}
		uids[count++] = uid_at(p, index);
		if (count % 4096 == 0)
			fiber_breathe();
	}
	*count_out = count;
	return uids;
}

/* The index of the n-th message of the set (from 1), or of the last if it has fewer; the set's own cursor stays. 0 messages: false. */
static bool nth(const struct imap_session *p, const struct imap_set *set, uint32_t n, uint32_t *index_out, uint32_t *count_out)
{
	struct imap_set walk = *set; /* shares the ranges */
	uint32_t count = 0;
	while (count < n && imap_set_next(p, &walk, index_out)) {
		count++;
		if (count % 4096 == 0)
			fiber_breathe();
	}
	*count_out = count;
	return count > 0;
}

void imap_set_keep(const struct imap_session *p, struct imap_set *set, uint32_t first, uint32_t last, bool from_end)
{
	uint32_t index, total;
	ASSERT(set->uid && first && first <= last);
	if (from_end) {
		nth(p, set, UINT32_MAX, &index, &total);
		uint32_t from = last < total ? total - last + 1 : 1;
		last = first <= total ? total - first + 1 : 0;
		first = from;
	}
	uint32_t count = 0;
	bool some = last && nth(p, set, first, &index, &count) && count == first;
	if (!some) {
		ranges_clear(&set->ranges);
		return;
	}
	uint32_t low = uid_at(p, index);
	nth(p, set, last, &index, &count);
	uint32_t high = uid_at(p, index);
	enum err e = low > 1 ? ranges_remove(&set->ranges, 1, low - 1) : OK;
	if (e == OK && high < UINT32_MAX)
		e = ranges_remove(&set->ranges, high + 1, UINT32_MAX);
	ASSERT(e == OK); /* at the ends nothing is split */
}
