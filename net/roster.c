/* SPDX-License-Identifier: Apache-2.0 */
/* roster.c - see roster.h. */
#include "net/roster.h"

#include "core/base/log.h"
#include "net/net_private.h"

#include <stdlib.h>

static bool listed(const struct net_private *c, const struct session *s)
{
	return s->proto->describe && c->phase != CONN_JOINING && !c->told && !c->becomes;
}

static struct session_facts facts_of(const struct session *s)
{
	struct session_facts facts = { .state = "" };
	s->proto->describe(s, &facts);
	return facts;
}

static bool matches(const struct session *s, const struct session_facts *facts, const struct roster_filter *f)
{
	return (!f->by_session || s->id == f->session) && (!f->account_id || facts->account_id == f->account_id) &&
	       (!f->tenant_id || facts->tenant_id == f->tenant_id) && (!f->login.len || slice_eq_nocase(facts->login, f->login)) &&
	       (!f->tenant.len || slice_eq(facts->tenant, f->tenant)) && (!f->protocol.len || slice_eq(slice_str(s->proto->name), f->protocol)) &&
	       (!f->address.len || slice_eq(session_peer_address(s), f->address));
}

static void copy_name(char out[ROSTER_NAME_BYTES_MAX], struct slice name)
{
	size_t len = min_size(name.len, ROSTER_NAME_BYTES_MAX - 1);
	if (len)
		memcpy(out, name.ptr, len);
	out[len] = '\0';
}

static void describe(struct net_private *c, const struct session_facts *facts, struct roster_entry *e)
{
	const struct session *s = conn_session(c);
	uint64_t now_ms = clock_now_ms();
	*e = (struct roster_entry){
		.session = s->id,
		.shard = c->shard->index,
		.protocol = s->proto->name,
		.tls = session_tls_version(s),
		.state = c->want_stop ? "ending" : facts->state,
		.working = c->running || c->sending || c->waits_for_output,
		.account_id = facts->account_id,
		.tenant_id = facts->tenant_id,
		.age_ms = now_ms - min_u64(now_ms, (uint64_t)c->since_s * 1000),
		.quiet_ms = now_ms - min_u64(now_ms, c->active_ms),
		.bytes_in = s->received_bytes,
		.bytes_out = s->reply.sent_bytes,
	};
	copy_name(e->login, facts->login);
	copy_name(e->tenant, facts->tenant);
	memcpy(e->peer, s->peer, sizeof e->peer);
}

/* ---- one shard's part, on its own fiber ---- */

struct part {
	const struct roster_filter *filter;
	struct roster *roster; /* NULL: to end */
	size_t count_max;
	const char *reason;
	bool now;
	uint64_t ended;
};

static void list_part(void *arg)
{
	struct part *p = arg;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		struct session *s = conn_session(c);
		if (!listed(c, s))
			continue;
		struct session_facts facts = facts_of(s);
		if (!matches(s, &facts, p->filter))
			continue;
		p->roster->matched++;
		if (p->roster->count < p->count_max)
			describe(c, &facts, &p->roster->entries[p->roster->count++]);
	}
}

/* What is still told has its words in the log: who asks "why was I put out" is answered there. */
static void end_one(struct net_private *c, const struct session_facts *facts, const char *reason, bool now)
{
	const struct session *s = conn_session(c);
	log_event(LOG_INFO, "net.session_ended", LOG_U64("session", s->id), LOG_Z("protocol", s->proto->name), LOG_Z("peer", s->peer),
		  LOG_STR("tenant", facts->tenant), LOG_STR("user", facts->login), LOG_Z("reason", reason));
	if (now)
		conn_fail(c, END_STOP);
	else
		session_stop(c);
}

/* From a fiber no other fiber runs before we wait (and from here we do not), so the list stays as it is. */
static void end_part(void *arg)
{
	struct part *p = arg;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		struct session *s = conn_session(c);
		if (!listed(c, s) || c->aborted || (c->want_stop && !p->now))
			continue;
		struct session_facts facts = facts_of(s);
		if (!matches(s, &facts, p->filter))
			continue;
		end_one(c, &facts, p->reason, p->now);
		p->ended++;
	}
}

static void part_here(void *arg)
{
	struct part *p = arg;
	if (!shard_local(SHARD_SLOT_NET)) /* it has stopped serving */
		return;
	if (p->roster)
		list_part(p);
	else
		end_part(p);
}

static enum err each_shard(struct part *p)
{
	enum err first = OK;
	for (unsigned i = 0; i < shard_count(); i++) {
		enum err e = shard_call(i, "roster", part_here, p);
		if (first == OK)
			first = e;
	}
	return first;
}

/* ---- the face ---- */

static int by_id(const void *a, const void *b)
{
	const struct roster_entry *x = a, *y = b;
	return x->session < y->session ? -1 : x->session > y->session;
}

enum err roster_list(const struct roster_filter *filter, size_t count_max, struct roster *out)
{
	*out = (struct roster){ 0 };
	count_max = min_size(count_max, ROSTER_ENTRIES_MAX);
	out->entries = xcalloc(count_max + 1, sizeof(*out->entries));
	struct part p = { .filter = filter, .roster = out, .count_max = count_max };
	enum err e = each_shard(&p);
	if (e == OK)
		qsort(out->entries, out->count, sizeof(*out->entries), by_id);
	else
		roster_free(out);
	return e;
}

void roster_free(struct roster *r)
{
	free(r->entries);
	*r = (struct roster){ 0 };
}

enum err roster_end(const struct roster_filter *filter, const char *reason, bool now, uint64_t *ended_out)
{
	struct part p = { .filter = filter, .reason = reason, .now = now };
	enum err e = each_shard(&p);
	*ended_out = p.ended;
	return e;
}

/* ---- withdrawn accounts ---- */

struct withdrawal {
	struct roster_login *logins; /* listing */
	size_t count, room;
	const uint64_t *sessions; /* ending; in order */
	const char *reason;
	bool now;
	uint64_t ended;
};

static void logins_here(void *arg)
{
	struct withdrawal *w = arg;
	if (!shard_local(SHARD_SLOT_NET))
		return;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		struct session *s = conn_session(c);
		if (!listed(c, s))
			continue;
		struct session_facts facts = facts_of(s);
		if (!facts.account_id)
			continue;
		if (w->count == w->room) {
			w->room = w->room ? 2 * w->room : 64;
			w->logins = xrealloc(w->logins, w->room * sizeof(*w->logins));
		}
		w->logins[w->count++] = (struct roster_login){ s->id, facts.account_id, facts.credential_version, s->proto->name };
	}
}

enum err roster_logins(unsigned shard, struct roster_login **logins_out, size_t *count_out)
{
	struct withdrawal w = { 0 };
	enum err e = shard_call(shard, "roster", logins_here, &w);
	*logins_out = w.logins;
	*count_out = w.count;
	return e;
}

static int by_number(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

static void withdraw_here(void *arg)
{
	struct withdrawal *w = arg;
	if (!shard_local(SHARD_SLOT_NET))
		return;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		struct session *s = conn_session(c);
		if (!listed(c, s) || c->aborted || (c->want_stop && !w->now) || !bsearch(&s->id, w->sessions, w->count, sizeof(s->id), by_number))
			continue;
		struct session_facts facts = facts_of(s);
		c->withdrawn = true;
		end_one(c, &facts, w->reason, w->now);
		w->ended++;
	}
}

enum err roster_withdraw(unsigned shard, const uint64_t *sessions, size_t count, const char *reason, bool now, uint64_t *ended_out)
{
	uint64_t sorted[ROSTER_WITHDRAW_MAX];
	ASSERT(count <= ROSTER_WITHDRAW_MAX);
	memcpy(sorted, sessions, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_number);
	struct withdrawal w = { .sessions = sorted, .count = count, .reason = reason, .now = now };
	enum err e = shard_call(shard, "roster", withdraw_here, &w);
	*ended_out = w.ended;
	return e;
}

size_t roster_end_oldest(size_t count_max, const char *reason)
{
	ASSERT(fiber_self()); /* else a session could end, and leave the list, under our hands */
	size_t ended = 0;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		if (ended == count_max)
			break;
		if (!listed(c, conn_session(c)) || c->want_stop || c->ended)
			continue;
		struct session_facts facts = facts_of(conn_session(c));
		end_one(c, &facts, reason, false);
		ended++;
	}
	return ended;
}

size_t roster_end_at_rest(size_t count_max, uint64_t quiet_ms, const char *reason)
{
	ASSERT(fiber_self());
	size_t ended = 0;
	uint64_t now_ms = clock_now_ms();
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		const struct session *s = conn_session(c);
		if (ended == count_max)
			break;
		if (!listed(c, s) || c->want_stop || c->ended || c->running || c->sending || c->waits_for_output || c->active_ms + quiet_ms > now_ms)
			continue;
		struct session_facts facts = facts_of(s);
		if (facts.unfinished)
			continue;
		end_one(c, &facts, reason, false);
		ended++;
	}
	return ended;
}

void roster_count_here(uint64_t *sessions_out, uint64_t *ending_out)
{
	*sessions_out = *ending_out = 0;
	LIST_FOREACH(&net_shard_here()->sessions, l) {
		struct net_private *c = CONTAINER_OF(l, struct net_private, link);
		if (!conn_session(c)->proto->describe)
			continue;
		++*sessions_out;
		*ending_out += c->want_stop || c->ended;
	}
}
