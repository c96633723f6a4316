/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner.c - a shard's accounts in a fleet: who owns them, who holds them.  The rules of DESIGN section 5, and why they suffice.
 *
 * Two things are kept apart.  That mail is right (invariant 4) is the store's affair alone: its fence lets one process at a time have writes
 * acknowledged, whatever is believed here (storage/fence.h).  What is upheld here is that people are kept apart (invariant 5: two POP3
 * sessions of one maildrop are never both within their deadlines, as long as Redis keeps its writes), and that an account's sessions meet
 * where it is owned.
 *
 *   1  A node lives by its lease (lease.c): an incarnation, drawn at random and never again, and a deadline.  Past the deadline nothing is
 *      taken and POP3 sessions end without update; an acknowledgement asks the clock itself, after its sync.  Other sessions on owned
 *      accounts go on under the fence alone.
 *   2  While an account is owned, the owner's memory decides who has its maildrop: all sessions of it run here.  The fields in Redis follow,
 *      pipelined and not waited for, each compared with `own`; they are for people and tools to read.
 *   3  An account is taken by one script, ownership and POP3 lock together, at the master where this node last claimed, when that master's wait
 *      is over.  Free, or our own of this incarnation (a reply or release of ours was lost): taken.  `pop` never decides at a take.
 *   4  The reply counts only if the incarnation, its time and that master are still what they were when the take was sent (model: M_NOREPLYCHECK);
 *      else the account is given back.
 *   5  Somebody else's: is his incarnation gone?  Asked by a command of its own; an incarnation that is gone never returns, so the answer keeps.
 *      Gone: the script runs again and replaces exactly that `own`.  Alive: the account is there.
 *   6  A release compares all three parts of `own` (model: M_RELNOTOKEN), and comes after the account was sealed.
 *   7  At a new master what is held is claimed again, before the lease is renewed there; what is somebody else's by then is lost here.
 *   8  After an incarnation has ended, nothing taken under it counts: Redis is asked again before the account is used, and since
 *      somebody may have had it in between, the store's memory of it is compared with the disk.
 *   9  After the store has found another owner, Redis is asked before anybody here tries again: else two nodes would fence each other for ever.
 *
 * Placement `home`: the home owns what is its, for good; rules 1 and 3 to 9 do not apply, the memory's locks are the truth, and Redis being away
 * is nobody's concern.  The fields are written all the same.
 *
 * An owner between two states is waited for (`changed`), then looked up again: it may be gone.
 */
#include "net/fleet/fleet_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

#include <stdlib.h>
#include <string.h>

METRIC_GAUGE(metric_owned, "fleet_accounts", "Accounts in the registry of owners");
METRIC_COUNTER(metric_let_go, "fleet_let_go_total", "Accounts let go: idle, or wanted elsewhere");
METRIC_COUNTER(metric_lapsed, "fleet_sessions_lapsed_total", "POP3 sessions ended at the lease's deadline");
METRIC_COUNTER(metric_lost, "fleet_sessions_lost_total", "Sessions ended because another node has the account");
METRIC_COUNTER(metric_wished, "fleet_wishes_total", "Times that another node was asked to let an account go");

/* ---- the registry ---- */

static struct slice key_of(const struct table_node *n)
{
	const struct owner *o = CONTAINER_OF(n, struct owner, node);
	return slice_of(&o->account_id, sizeof(o->account_id));
}

static struct owner *owner_find(struct owners *w, uint64_t account_id)
{
	struct table_node *n = table_find_u64(&w->accounts, account_id);
	return n ? CONTAINER_OF(n, struct owner, node) : NULL;
}

/* In state OWNER_TAKING; NULL: there are too many. */
static struct owner *owner_add(struct owners *w, uint64_t account_id)
{
	struct owner *o = xcalloc(1, sizeof(*o));
	o->account_id = account_id;
	o->state = OWNER_TAKING;
	list_init(&o->holds);
	link_init(&o->idle);
	waitq_init(&o->changed);
	if (table_add(&w->accounts, &o->node) != OK) {
		free(o);
		return NULL;
	}
	metric_inc(&metric_owned);
	return o;
}

static void owner_drop(struct owners *w, struct owner *o)
{
	ASSERT(list_empty(&o->holds));
	link_remove(&o->idle);
	table_remove(&w->accounts, &o->node);
	waitq_wake_all(&o->changed);
	free(o);
	metric_dec(&metric_owned);
}

static void owner_becomes(struct owner *o, enum owner_state state)
{
	o->state = (uint8_t)state;
	waitq_wake_all(&o->changed);
}

static void owner_idles(struct owners *w, struct owner *o)
{
	o->idle_since_ms = clock_now_ms();
	link_remove(&o->idle);
	list_push_back(&w->idle, &o->idle);
}

/* ---- holds ---- */

static void hold_put(struct owner *o, struct owner_hold *h)
{
	ASSERT(!h->owner);
	h->owner = o;
	list_push_back(&o->holds, &h->link);
	o->hold_count++;
	link_remove(&o->idle);
}

static void let_go_soon(struct owners *w, struct owner *o);

/* Nobody holds it now. */
static void owner_rests(struct owners *w, struct owner *o)
{
	if (fleet.config.placement == PLACEMENT_HOME) {
		owner_drop(w, o); /* the store goes on as if there were no fleet */
		return;
	}
	owner_idles(w, o);
	if (o->wanted || !o->epoch)
		let_go_soon(w, o);
}

static void hold_leave(struct owners *w, struct owner_hold *h)
{
	struct owner *o = h->owner;
	if (!o)
		return;
	link_remove(&h->link);
	h->owner = NULL;
	if (--o->hold_count == 0 && o->state == OWNER_OURS)
		owner_rests(w, o);
}

static void hold_end(struct owner_hold *h, enum owner_end why)
{
	void (*end)(struct owner_hold *hold, enum owner_end why) = h->end;
	h->end = NULL; /* once */
	if (!end)
		return;
	metric_inc(why == OWNER_END_LAPSED ? &metric_lapsed : &metric_lost);
	end(h, why);
}

void owner_end_all(struct owner *o, enum owner_end why)
{
	LIST_FOREACH(&o->holds, it)
		hold_end(CONTAINER_OF(it, struct owner_hold, link), why);
}

static void maildrop_ends(struct owner_hold *hold, enum owner_end why)
{
	struct maildrop_hold *m = CONTAINER_OF(hold, struct maildrop_hold, hold);
	if (m->end)
		m->end(m->lock, why);
}

/* Its end may have been called already, so `end` cannot tell: a maildrop's hold is known by its lock. */
struct maildrop_hold *owner_maildrop_of(struct owner_hold *hold)
{
	return hold->maildrop ? CONTAINER_OF(hold, struct maildrop_hold, hold) : NULL;
}

/* ---- letting go ---- */

/* Seals, then releases (rule 6). Nobody holds it. False: it must stay. */
static bool let_go(struct owners *w, struct owner *o)
{
	o->state = OWNER_LETTING_GO;
	link_remove(&o->idle);
	enum err e = account_let_go(o->account_id);
	if (e != OK && !w->stopping) { /* jobs of the store are at it: later */
		owner_becomes(o, OWNER_OURS);
		owner_idles(w, o);
		return false;
	}
	owner_tell_release(w, o);
	metric_inc(&metric_let_go);
	owner_drop(w, o);
	return true;
}

struct letting_go {
	struct owners *w;
	uint64_t account_id;
};

static void let_go_body(void *arg)
{
	struct letting_go *g = arg;
	struct owners *w = g->w;
	struct owner *o = owner_find(w, g->account_id);
	if (o && o->state == OWNER_OURS && !o->hold_count)
		(void)let_go(w, o);
	free(g);
	if (--w->letting_go == 0)
		waitq_wake_all(&w->done);
}

/* With no fiber to be had, or too many at it, the tick comes back to it. */
static void let_go_soon(struct owners *w, struct owner *o)
{
	if (w->letting_go >= FLEET_LETTING_GO_MAX || w->stopping)
		return;
	struct letting_go *g = xcalloc(1, sizeof(*g));
	g->w = w;
	g->account_id = o->account_id;
	if (fiber_start("fleet.let_go", let_go_body, g) == OK)
		w->letting_go++;
	else
		free(g);
}

static bool due_to_go(const struct owner *o)
{
	return o->wanted || !o->epoch || clock_now_ms() - o->idle_since_ms >= fleet.config.idle_ms;
}

/* Those that were wanted stand anywhere in the list, so a bounded part of it is looked at. */
static void let_idle_go(struct owners *w)
{
	unsigned looked = 0;
	LIST_FOREACH(&w->idle, it) {
		struct owner *o = CONTAINER_OF(it, struct owner, idle);
		if (++looked > 4 * FLEET_LETTING_GO_MAX || w->letting_go >= FLEET_LETTING_GO_MAX)
			break;
		if (due_to_go(o))
			let_go_soon(w, o);
	}
}

static void wanted_body(void *arg);

void owner_wanted(uint64_t account_id)
{
	struct owners *w = owners_here();
	struct owner *o = owner_find(w, account_id);
	if (fleet.config.placement == PLACEMENT_HOME || w->stopping)
		return;
	if (o) {
		o->wanted = true;
		if (o->state == OWNER_OURS && !o->hold_count)
			let_go_soon(w, o);
		return;
	}
	/* Redis says ours and we do not remember: a release of ours was lost. Taken again it can be released as it must be. */
	struct letting_go *g = xcalloc(1, sizeof(*g));
	g->w = w;
	g->account_id = account_id;
	if (w->letting_go < FLEET_LETTING_GO_MAX && fiber_start("fleet.wanted", wanted_body, g) == OK)
		w->letting_go++;
	else
		free(g);
}

/* ---- taking ---- */

/* Rule 2, and of rule 1 what concerns a POP3 session. */
static bool usable(const struct owner *o, bool pop)
{
	if (o->state != OWNER_OURS)
		return false;
	if (fleet.config.placement == PLACEMENT_HOME)
		return true;
	return o->epoch && o->epoch == fleet_epoch() && (!pop || fleet_in_time());
}

/* Rule 1: sessions that may not acknowledge any more are told to go. */
static void end_lapsed_of(struct owner *o)
{
	LIST_FOREACH(&o->holds, it) {
		struct owner_hold *h = CONTAINER_OF(it, struct owner_hold, link);
		if (h->maildrop)
			hold_end(h, OWNER_END_LAPSED);
	}
}

static enum where not_now(struct owner_answer *answer, enum err e)
{
	*answer = (struct owner_answer){ .where = WHERE_WAIT, .err = e };
	return WHERE_WAIT;
}

/* The account is not ours, or not any more: o is NULL or not usable, and nobody else is at it. Afterwards o is ours, or as it was, or gone. */
static enum where take(struct owners *w, struct owner *o, uint64_t account_id, const struct pop_field *pop, struct owner_answer *answer)
{
	bool fresh = !o;
	if (fresh)
		o = owner_add(w, account_id);
	if (!o) {
		let_idle_go(w);
		return not_now(answer, ERR_BUSY);
	}
	o->state = OWNER_TAKING;
	link_remove(&o->idle);
	end_lapsed_of(o); /* what was locked under a lapsed lease must not revive with this one */
	enum where where = owner_take_in_redis(w, o, pop, answer);
	if (where == WHERE_HERE) {
		o->wanted = false;
		if (account_confirm(account_id) == ERR_FENCED) /* rule 8 */
			owner_end_all(o, OWNER_END_LOST);
	} else if (where == WHERE_AT) {
		o->epoch = 0;
		owner_end_all(o, OWNER_END_LOST);
	}
	if (where != WHERE_HERE && !o->hold_count) {
		owner_drop(w, o); /* the store may keep it: the fence guards that, and the next take has it confirmed */
		return where;
	}
	owner_becomes(o, OWNER_OURS);
	if (!o->hold_count)
		owner_idles(w, o);
	return where;
}

static void wanted_body(void *arg)
{
	struct letting_go *g = arg;
	struct owners *w = g->w;
	struct owner_answer answer;
	if (!owner_find(w, g->account_id) && take(w, NULL, g->account_id, NULL, &answer) == WHERE_HERE) {
		struct owner *o = owner_find(w, g->account_id);
		if (o && o->state == OWNER_OURS && !o->hold_count)
			(void)let_go(w, o);
	}
	free(g);
	if (--w->letting_go == 0)
		waitq_wake_all(&w->done);
}

/* ---- homes ---- */

static bool elsewhere_at_home(uint64_t account_id, struct owner_answer *answer)
{
	const struct fleet_config *c = &fleet.config;
	if (c->placement != PLACEMENT_HOME || !c->node_count)
		return false;
	const struct fleet_node *n = &c->nodes[fleet_home(account_id, c->nodes, c->node_count)];
	if (strcmp(n->name, c->node) == 0)
		return false;
	*answer = (struct owner_answer){ .where = WHERE_AT, .err = ERR_TEMP };
	memcpy(answer->at.node, n->name, min_size(strlen(n->name), FLEET_NODE_BYTES_MAX));
	if (n->address)
		memcpy(answer->at.address, n->address, min_size(strlen(n->address), sizeof(answer->at.address) - 1));
	return true;
}

static struct owner *home_owner(struct owners *w, uint64_t account_id)
{
	struct owner *o = owner_find(w, account_id);
	if (o || !(o = owner_add(w, account_id)))
		return o;
	o->take = __atomic_add_fetch(&fleet.takes, 1, __ATOMIC_RELAXED);
	o->state = OWNER_OURS;
	return o;
}

/* ---- entering ---- */

struct entry {
	struct owners *w;
	uint64_t account_id, deadline_ms;
	const struct pop_field *pop;
	struct owner_answer *answer;
	bool wished, took;
};

/* Another node has it and nobody is there, as far as is known: it may let go if asked. True: try again. */
static bool worth_waiting(struct entry *n)
{
	struct owner_answer *a = n->answer;
	if (a->where != WHERE_AT || (fleet.config.proxies && a->at.address[0]))
		return false;
	if (!n->wished) {
		owner_wish(n->w, &a->at, n->account_id); /* where somebody is there: for when he has gone */
		metric_inc(&metric_wished);
	}
	n->wished = true;
	if (a->err != ERR_TEMP || clock_now_ms() >= n->deadline_ms || n->w->stopping)
		return false;
	fiber_sleep(FLEET_AGAIN_MS);
	return true;
}

/* HERE with the owner to hold at once (nothing has waited since), or why not. */
static struct owner *enter(struct entry *n)
{
	struct owners *w = n->w;
	if (elsewhere_at_home(n->account_id, n->answer))
		return NULL;
	*n->answer = (struct owner_answer){ .where = WHERE_HERE };
	if (fleet.config.placement == PLACEMENT_HOME)
		return home_owner(w, n->account_id);
	for (;;) {
		struct owner *o = owner_find(w, n->account_id);
		if (o && o->state != OWNER_OURS) {
			enum fiber_wait before = fiber_wait_for(FIBER_WAIT_REDIS); /* somebody else's take, or letting go */
			enum err late = waitq_wait(&o->changed, n->deadline_ms);
			(void)fiber_wait_for(before);
			if (late == OK)
				continue;
			(void)not_now(n->answer, ERR_TEMP);
			return NULL;
		}
		if (o && usable(o, n->pop != NULL)) {
			*n->answer = (struct owner_answer){ .where = WHERE_HERE };
			return o;
		}
		n->took = true;
		if (w->stopping) {
			(void)not_now(n->answer, ERR_TEMP);
			return NULL;
		}
		enum where where = take(w, o, n->account_id, n->pop, n->answer);
		if (where == WHERE_HERE)
			continue;
		if (worth_waiting(n))
			continue;
		if (n->answer->err == ERR_BUSY && n->answer->where == WHERE_AT)
			n->answer->err = ERR_TEMP;
		return NULL;
	}
}

void owner_ask_for(const struct owner_place *at, uint64_t account_id)
{
	if (fleet.config.placement != PLACEMENT_ANY)
		return;
	owner_wish(owners_here(), at, account_id);
	metric_inc(&metric_wished);
}

static struct entry entry_begin(uint64_t account_id, struct owner_answer *answer)
{
	ASSERT(store_shard_of(account_id) == shard_index());
	return (struct entry){ .w = owners_here(), .account_id = account_id, .answer = answer,
			       .deadline_ms = clock_now_ms() + fleet.config.take_wait_ms };
}

/* ---- with the store ---- */

/* A store whose newest log is older than what its owners have told has lost something: a restore, or the wrong disk. */
static void check_newest(struct owner *o, struct account *account)
{
	uint32_t newest = account_newest_log(account);
	if (newest < o->newest_seen)
		account_distrust(account, o->newest_seen);
	else
		o->newest_seen = newest;
}

static enum err open_held(struct owner *o, struct account **account_out)
{
	enum err e = account_open(o->account_id, account_out);
	if (e == OK)
		check_newest(o, *account_out);
	else if (e == ERR_FENCED)
		o->epoch = 0; /* rule 9 */
	return e;
}

enum err owner_open(uint64_t account_id, struct owner_hold *hold, struct account **account_out, struct owner_answer *answer_out)
{
	*account_out = NULL;
	*answer_out = (struct owner_answer){ .where = WHERE_HERE };
	if (!owners_here())
		return answer_out->err = account_open(account_id, account_out);
	struct entry n = entry_begin(account_id, answer_out);
	/* twice: what was ours in memory may be found fenced, and is then asked for */
	for (unsigned tries = 0; tries < 2; tries++) {
		struct owner *o = enter(&n);
		if (!o)
			return answer_out->err = answer_out->err ? answer_out->err : ERR_BUSY;
		hold_put(o, hold);
		answer_out->err = open_held(o, account_out);
		if (answer_out->err == OK)
			return OK;
		hold_leave(n.w, hold);
		if (answer_out->err != ERR_FENCED)
			break;
	}
	return answer_out->err;
}

void owner_close(struct owner_hold *hold, struct account *account)
{
	struct owners *w = owners_here();
	struct owner *o = hold->owner;
	if (o && account)
		o->newest_seen = (uint32_t)max_u64(o->newest_seen, account_newest_log(account));
	if (account)
		account_close(account);
	if (o && o->newest_seen > o->newest_told)
		owner_tell(w, o, NULL, false);
	if (o)
		hold_leave(w, hold);
}

/* ---- maildrops ---- */

static enum err lock_held(struct entry *n, struct owner *o, struct maildrop_hold *m, struct slice peer, uint32_t delay_s, struct account **account_out)
{
	struct maildrop_lock *lock = m->lock;
	struct pop_field field;
	hold_put(o, &m->hold);
	m->epoch = o->epoch;
	enum err e = maildrop_lock(lock, n->account_id, peer, delay_s);
	n->answer->too_soon = e == ERR_BUSY;
	/* a take has put the field there already: it goes if the lock was not to be had, else it gets its token */
	pop_field_fill(&field, lock, peer);
	if (e == OK)
		e = open_held(o, account_out);
	if (e == OK || n->took)
		owner_tell(n->w, o, &field, e == OK);
	return e;
}

enum err owner_open_maildrop(struct maildrop_lock *lock, uint64_t account_id, struct slice peer, uint32_t login_delay_s,
			     void (*end)(struct maildrop_lock *lock, enum owner_end why), struct account **account_out,
			     struct owner_answer *answer_out)
{
	*account_out = NULL;
	*answer_out = (struct owner_answer){ .where = WHERE_HERE };
	if (!owners_here()) {
		answer_out->err = maildrop_lock(lock, account_id, peer, login_delay_s);
		answer_out->too_soon = answer_out->err == ERR_BUSY;
		if (answer_out->err == OK && (answer_out->err = account_open(account_id, account_out)) != OK)
			maildrop_unlock(lock);
		return answer_out->err;
	}
	struct entry n = entry_begin(account_id, answer_out);
	struct pop_field field;
	struct maildrop_hold *m = xcalloc(1, sizeof(*m));
	m->hold.end = maildrop_ends;
	m->hold.maildrop = true;
	m->lock = lock;
	m->end = end;
	pop_field_fill(&field, lock, peer);
	n.pop = &field;
	for (unsigned tries = 0; tries < 2; tries++) {
		struct owner *o = enter(&n);
		if (!o)
			break;
		lock->hold = m;
		answer_out->err = lock_held(&n, o, m, peer, login_delay_s, account_out);
		if (answer_out->err == OK)
			return OK;
		maildrop_unlock(lock);
		hold_leave(n.w, &m->hold);
		if (answer_out->err != ERR_FENCED)
			break;
	}
	lock->hold = NULL;
	free(m);
	return answer_out->err = answer_out->err ? answer_out->err : ERR_BUSY;
}

void owner_close_maildrop(struct maildrop_lock *lock, struct account *account)
{
	struct maildrop_hold *m = lock->hold;
	struct owners *w = owners_here();
	if (!m || !m->hold.owner || !w) {
		if (account)
			account_close(account);
		maildrop_unlock(lock);
		free(m);
		lock->hold = NULL;
		return;
	}
	struct owner *o = m->hold.owner;
	bool held = lock->held; /* else it has passed to another session, and so has the field */
	struct pop_field field;
	if (account) {
		o->newest_seen = (uint32_t)max_u64(o->newest_seen, account_newest_log(account));
		account_close(account);
	}
	pop_field_fill(&field, lock, slice_of("", 0));
	maildrop_unlock(lock);
	if (held)
		owner_tell(w, o, &field, false);
	hold_leave(w, &m->hold);
	free(m);
	lock->hold = NULL;
}

bool owner_in_time(const struct maildrop_lock *lock)
{
	const struct maildrop_hold *m = lock->hold;
	if (!m || fleet.config.placement == PLACEMENT_HOME)
		return true;
	const struct owner *o = m->hold.owner;
	/* told to go, or locked under an incarnation that is over: it does not revive */
	return o && m->hold.end && m->epoch == o->epoch && usable(o, true);
}

bool owner_must_confirm(const struct owner_hold *hold)
{
	return hold->owner && fleet.config.placement == PLACEMENT_ANY && !usable(hold->owner, true);
}

void owner_fenced(uint64_t account_id)
{
	struct owners *w = owners_here();
	struct owner *o = w ? owner_find(w, account_id) : NULL;
	if (o)
		o->epoch = 0;
}

enum err owner_destroy(uint64_t account_id)
{
	struct owner_answer answer;
	struct owners *w = owners_here();
	if (!w)
		return account_destroy(account_id);
	struct entry n = entry_begin(account_id, &answer);
	struct owner *o = enter(&n);
	if (!o)
		return answer.err == ERR_IN_USE ? ERR_IN_USE : ERR_TEMP;
	if (o->hold_count)
		return ERR_IN_USE;
	o->state = OWNER_LETTING_GO;
	enum err e = account_destroy(account_id);
	if (e == OK || e == ERR_NOT_FOUND) {
		owner_forget_in_redis(w, o);
		owner_drop(w, o);
	} else {
		owner_becomes(o, OWNER_OURS);
		owner_rests(w, o);
	}
	return e;
}

bool owner_next(uint64_t *cursor_io, struct owner_info *info_out)
{
	struct owners *w = owners_here();
	struct table_node *n = w ? table_first(&w->accounts) : NULL;
	for (uint64_t i = 0; n && i < *cursor_io; i++)
		n = table_next(&w->accounts, n);
	if (!n)
		return false;
	const struct owner *o = CONTAINER_OF(n, struct owner, node);
	*info_out = (struct owner_info){ .account_id = o->account_id, .holds = o->hold_count, .take = o->take, .current = usable(o, false) };
	(*cursor_io)++;
	return true;
}

/* ---- time ---- */

static void end_lapsed(struct owners *w)
{
	for (struct table_node *n = table_first(&w->accounts); n; n = table_next(&w->accounts, n)) {
		struct owner *o = CONTAINER_OF(n, struct owner, node);
		if (o->hold_count && !usable(o, true))
			end_lapsed_of(o);
	}
}

static void tick(struct timer *t)
{
	struct owners *w = CONTAINER_OF(t, struct owners, tick);
	uint64_t epoch = fleet_epoch();
	if (fleet.config.placement == PLACEMENT_ANY) {
		bool lapsed = !epoch || !fleet_in_time();
		if ((lapsed && !w->lapsed) || epoch != w->epoch_seen)
			end_lapsed(w);
		w->lapsed = lapsed;
	} else if (epoch != w->epoch_seen) {
		owners_tell_pops(w); /* they stand there under another name */
	}
	w->epoch_seen = epoch;
	let_idle_go(w);
	timer_set(&w->tick, FLEET_TICK_MS);
}

/* ---- a shard's part ---- */

enum err owners_start(struct redis *link)
{
	struct owners *w = xcalloc(1, sizeof(*w));
	uint64_t seed;
	random_bytes(&seed, sizeof(seed));
	w->link = link;
	table_init(&w->accounts, FLEET_OWNED_MAX, seed, key_of);
	list_init(&w->idle);
	waitq_init(&w->done);
	timer_init(&w->tick, tick);
	timer_set(&w->tick, FLEET_TICK_MS);
	shard_set_local(SHARD_SLOT_FLEET, w);
	return OK;
}

/* Sessions are over. What still is held belongs to who did not come to his end: it stays as it is, the process is going. */
static void let_all_go(struct owners *w)
{
	struct table_node *next;
	for (struct table_node *n = table_first(&w->accounts); n; n = next) {
		struct owner *o = CONTAINER_OF(n, struct owner, node);
		if (o->state == OWNER_OURS && !o->hold_count)
			(void)let_go(w, o);
		/* others have come and gone while we waited: from the beginning, over those that stay */
		next = table_first(&w->accounts);
		while (next && (CONTAINER_OF(next, struct owner, node)->state != OWNER_OURS || CONTAINER_OF(next, struct owner, node)->hold_count))
			next = table_next(&w->accounts, next);
	}
}

/* Behind the releases, so that they are out before the connection is closed. */
static void wait_for_releases(struct owners *w)
{
	const struct slice ping[] = { SLICE_LIT("PING") };
	struct redis_answer a;
	if (!w->link || !redis_is_up(w->link))
		return;
	(void)redis_ask(w->link, &(struct redis_command){ .args = ping, .count = 1 }, &a);
	redis_answer_release(&a);
}

void owners_stop(void)
{
	struct owners *w = owners_here();
	w->stopping = true;
	timer_clear(&w->tick);
	while (w->letting_go || w->claiming)
		(void)waitq_wait(&w->done, 0);
	let_all_go(w);
	wait_for_releases(w);
	if (w->accounts.count)
		return; /* somebody still refers to them */
	table_release(&w->accounts);
	shard_set_local(SHARD_SLOT_FLEET, NULL);
	free(w);
}
