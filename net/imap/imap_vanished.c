/* SPDX-License-Identifier: Apache-2.0 */
/*
 * imap_vanished.c - VANISHED (EARLIER) of QRESYNC (RFC 7162 sections 3.2.5 and 3.2.6): which UIDs a client may forget.
 *
 * The store remembers what was expunged, in bounds.  Below them every UID of the client's that is not there is told: it may hear of
 * what it knows, never miss one.
 */
#include "net/imap/imap_private.h"

#include "core/run/fiber.h"

static void add(struct imap_vanished *v, const struct ranges *known, uint32_t first, uint32_t last)
{
	if (!known) {
		v->overflow |= ranges_add(&v->ranges, first, last) != OK;
		return;
	}
	size_t low = 0, high = known->count;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (known->at[mid].last < first)
			low = mid + 1;
		else
			high = mid;
	}
	for (; low < known->count && known->at[low].first <= last; low++) {
		const struct range *r = &known->at[low];
		v->overflow |= ranges_add(&v->ranges, r->first > first ? r->first : first, r->last < last ? r->last : last) != OK;
	}
}

struct collect {
	struct imap_vanished *v;
	const struct ranges *known;
};

static void each(void *arg, uint32_t first, uint32_t last)
{
	struct collect *c = arg;
	add(c->v, c->known, first, last);
}

/* All that is not in the view, below UIDNEXT. */
static void collect_missing(struct imap_session *p, const struct ranges *known, uint32_t uidnext, struct imap_vanished *v)
{
	uint32_t next = 1;
	for (uint32_t i = 0; i < view_count(p->view); i++) {
		struct message m;
		view_message(p->view, i, &m);
		if (m.uid > next)
			add(v, known, next, m.uid - 1);
		next = m.uid + 1;
		if (i % 4096 == 4095)
			fiber_breathe();
	}
	if (next < uidnext)
		add(v, known, next, uidnext - 1);
}

/* An expunge of this moment may be told before the view has lost the message: what the view has is not told here. */
static void keep_those_in_view(struct imap_session *p, struct imap_vanished *v)
{
	if (view_newest(p->view))
		return;
	for (uint32_t i = 0; i < view_count(p->view); i++) {
		struct message m;
		view_message(p->view, i, &m);
		if (ranges_contains(&v->ranges, m.uid))
			v->overflow |= ranges_remove(&v->ranges, m.uid, m.uid) != OK;
		if (i % 4096 == 4095)
			fiber_breathe();
	}
}

void imap_vanished_collect(struct imap_session *p, uint64_t modseq, const struct ranges *known, struct imap_vanished *v)
{
	struct collect c = { v, known };
	struct folder_info info;
	*v = (struct imap_vanished){ .at = 0 };
	ranges_init(&v->ranges, IMAP_VANISHED_RANGES_MAX);
	if (folder_info(p->account, p->folder, &info) != OK)
		return;
	if (!folder_vanished(p->account, p->folder, modseq, each, &c) || v->overflow) {
		ranges_clear(&v->ranges);
		collect_missing(p, known, info.uidnext, v);
	}
	keep_those_in_view(p, v);
}

bool imap_vanished_tell(struct imap_session *p, struct imap_vanished *v)
{
	while (v->at < v->ranges.count) {
		if (reply_full(&p->s.reply))
			return false;
		REPLY_LIT(&p->s.reply, "* VANISHED (EARLIER) ");
		for (unsigned n = 0; n < 256 && v->at < v->ranges.count; n++, v->at++) {
			const struct range *r = &v->ranges.at[v->at];
			reply_printf(&p->s.reply, r->first == r->last ? "%s%u" : "%s%u:%u", n ? "," : "", r->first, r->last);
		}
		REPLY_LIT(&p->s.reply, "\r\n");
	}
	return true;
}

void imap_vanished_release(struct imap_vanished *v) { ranges_release(&v->ranges); }
