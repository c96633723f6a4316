/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lease.c - the node's lease, and which master of Redis is believed.  The one place that decides what a restart or a failover of
 * Redis means.  On shard 0.
 *
 * A beat, every renew_ms, at once after a (re)connection, and soon after anything that failed:
 *
 *   1. Which masters is our link connected to, by run id?  One that we claimed at and that is none of them any more counts no longer.
 *   2. Each is asked since when the fleet knows it (pf:m, the first to come writes it).  For one TTL after that nobody takes
 *      anything there: whoever owned something at the master before has time to say so, or has by then stopped acknowledging.
 *      A master that lost its data (FLUSHALL, a restart without a file) has lost pf:m too and is new, whatever its run id.
 *   3. Where we have not claimed yet, every shard claims what it holds: `own` is empty or our own, else the shard lets go.
 *   4. Only then the lease is taken or renewed there.  (Renewed first, it would keep alive what others may meanwhile own: model, M_NOCLAIM.)
 *
 * The deadline runs from *before* the renewal was sent, on CLOCK_BOOTTIME, which goes on while the machine sleeps (model:
 * M_MONOTONIC), and ends margin_ms before Redis's own.  A renewal that finds the lease gone ends the incarnation: it may have been gone for
 * long, and others may own what we do.  What was taken under it is nobody's proof any more; the next incarnation is drawn anew
 * (model: M_SAMEINC).  A renewal without an answer changes nothing: the deadline passes, and may be moved again by a later one.
 *
 * A new process of the same name waits until the old lease has expired, unless the node's file proves the old process dead (fleet.c).
 *
 * Not covered: a Redis host whose clock jumps forward shortens the wait, by the jump.
 */
#include "net/fleet/fleet_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_COUNTER(metric_renewals, "fleet_renewals_total", "Renewals of the node's lease that succeeded");
METRIC_COUNTER(metric_incarnations, "fleet_incarnations_total", "Incarnations begun");
METRIC_COUNTER(metric_ended, "fleet_incarnations_ended_total", "Incarnations whose lease was found gone");
METRIC_COUNTER(metric_masters, "fleet_masters_total", "Masters of Redis that were new to the whole fleet");

/* Shard 0's. */
static struct {
	struct redis *link;
	struct waitq kick, done;
	unsigned fibers;
	bool stopping, look;
	char next[FLEET_INCARNATION_BYTES + 1]; /* drawn, not taken yet */
	char holder[FLEET_INCARNATION_BYTES + 1]; /* who has our name, told once */
	struct post post;
	bool posted; /* atomic */
} lease;

/* ---- masters ---- */

struct servers {
	struct {
		char run_id[REDIS_RUN_ID_BYTES + 1], key[32];
		bool seen, claimed;
	} at[FLEET_MASTERS_MAX];
	unsigned count;
};

static void note_server(void *arg, const char *run_id, struct slice tag)
{
	struct servers *s = arg;
	if (s->count == FLEET_MASTERS_MAX)
		return;
	memcpy(s->at[s->count].run_id, run_id, REDIS_RUN_ID_BYTES + 1);
	if (tag.len)
		snprintf(s->at[s->count].key, sizeof(s->at[0].key), "pf:m:{%.*s}", SLICE_ARG(tag));
	else
		snprintf(s->at[s->count].key, sizeof(s->at[0].key), "pf:m");
	s->count++;
}

static struct fleet_master *master_of(const char *run_id)
{
	for (unsigned i = 0; i < fleet.master_count; i++)
		if (strcmp(fleet.masters[i].run_id, run_id) == 0)
			return &fleet.masters[i];
	return NULL;
}

/* The oldest makes room. */
static struct fleet_master *master_add(const char *run_id)
{
	struct fleet_master *m;
	if (fleet.master_count < FLEET_MASTERS_MAX)
		m = &fleet.masters[fleet.master_count++];
	else
		m = &fleet.masters[fleet.master_next++ % FLEET_MASTERS_MAX];
	*m = (struct fleet_master){ .claimed = false };
	memcpy(m->run_id, run_id, REDIS_RUN_ID_BYTES + 1);
	return m;
}

/* 1. */
static void forget_others(struct servers *s)
{
	pthread_mutex_lock(&fleet.lock);
	for (unsigned i = 0; i < fleet.master_count; i++) {
		bool there = false;
		for (unsigned k = 0; k < s->count; k++)
			there |= strcmp(fleet.masters[i].run_id, s->at[k].run_id) == 0;
		fleet.masters[i].claimed &= there;
	}
	pthread_mutex_unlock(&fleet.lock);
}

/* 2. */
static bool see(struct servers *s, unsigned i)
{
	struct slice key = slice_str(s->at[i].key), arg = slice_str(s->at[i].run_id);
	struct redis_run run = { .script = &script_see, .keys = &key, .key_count = 1, .args = &arg, .arg_count = 1 };
	struct redis_answer a;
	enum err e = redis_run(lease.link, &run, &a);
	bool fine = e == OK && a.value.kind == REDIS_INTEGER && strcmp(a.run_id, s->at[i].run_id) == 0;
	int64_t age_ms = a.value.integer, ttl_ms = fleet.config.ttl_ms;
	redis_answer_release(&a);
	if (!fine)
		return false;
	pthread_mutex_lock(&fleet.lock);
	struct fleet_master *m = master_of(s->at[i].run_id);
	if (!m)
		m = master_add(s->at[i].run_id);
	if (age_ms < ttl_ms)
		m->wait_until_ns = clock_fresh_ns() + (uint64_t)(ttl_ms - age_ms) * 1000000;
	s->at[i].claimed = m->claimed;
	pthread_mutex_unlock(&fleet.lock);
	if (age_ms == 0) {
		metric_inc(&metric_masters);
		log_event(LOG_WARN, "fleet.master_new", LOG_Z("run_id", s->at[i].run_id), LOG_I64("wait_ms", ttl_ms));
	}
	return s->at[i].seen = true;
}

struct claiming {
	const char *run_id;
	bool done;
};

static void claim_body(void *arg)
{
	struct claiming *c = arg;
	struct owners *w = owners_here();
	c->done = w && owners_claim(w, c->run_id);
}

/* 3. */
static bool claim(struct servers *s, unsigned i)
{
	for (unsigned shard = 0; shard < shard_count(); shard++) {
		struct claiming c = { .run_id = s->at[i].run_id };
		if (shard_call(shard, "fleet.claim", claim_body, &c) != OK || !c.done)
			return false;
	}
	pthread_mutex_lock(&fleet.lock);
	struct fleet_master *m = master_of(s->at[i].run_id);
	if (m)
		m->claimed = true;
	pthread_mutex_unlock(&fleet.lock);
	log_event(LOG_INFO, "fleet.claimed", LOG_Z("run_id", s->at[i].run_id));
	return m != NULL;
}

static bool claimed_at(const char *run_id)
{
	pthread_mutex_lock(&fleet.lock);
	struct fleet_master *m = master_of(run_id);
	bool claimed = m && m->claimed;
	pthread_mutex_unlock(&fleet.lock);
	return claimed;
}

/* ---- the lease ---- */

static void begin_incarnation(uint64_t deadline_ns)
{
	pthread_mutex_lock(&fleet.lock);
	memcpy(fleet.incarnation, lease.next, sizeof(fleet.incarnation));
	__atomic_store_n(&fleet.deadline_ns, deadline_ns, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fleet.epoch, ++fleet.epochs, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&fleet.lock);
	lease.next[0] = lease.holder[0] = 0;
	metric_inc(&metric_incarnations);
	log_event(LOG_INFO, "fleet.incarnation", LOG_Z("node", fleet.config.node), LOG_Z("incarnation", fleet.incarnation));
}

static void end_incarnation(void)
{
	log_event(LOG_ERROR, "fleet.lease_lost", LOG_Z("node", fleet.config.node), LOG_Z("incarnation", fleet.incarnation),
		  LOG_Z("effect", "POP3 sessions end without update, accounts are taken again"));
	metric_inc(&metric_ended);
	pthread_mutex_lock(&fleet.lock);
	__atomic_store_n(&fleet.epoch, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fleet.deadline_ns, 0, __ATOMIC_SEQ_CST);
	fleet.incarnation[0] = 0;
	pthread_mutex_unlock(&fleet.lock);
}

static void draw_incarnation(void)
{
	uint32_t random[FLEET_INCARNATION_BYTES / 8];
	random_bytes(random, sizeof(random));
	for (size_t i = 0; i < ARRAY_LEN(random); i++)
		put_hex32(lease.next + 8 * i, random[i]);
	lease.next[FLEET_INCARNATION_BYTES] = 0;
	fleet_note_incarnation(lease.next); /* before it can be in Redis: whoever comes after us must know it */
}

static void told_holder(struct slice value)
{
	struct slice inc = slice_upto(value, min_size(slice_find(value, ' '), min_size(value.len, FLEET_INCARNATION_BYTES)));
	if (slice_eq(inc, slice_str(lease.holder)))
		return;
	memcpy(lease.holder, inc.ptr, inc.len);
	lease.holder[inc.len] = 0;
	log_event(LOG_WARN, "fleet.name_held", LOG_Z("node", fleet.config.node), LOG_STR("by", value),
		  LOG_Z("hint", "waiting for its lease to expire; if it does not, another process has this name"));
}

/* The reply counts only from a master where we have claimed. */
static bool counts(enum err e, const struct redis_answer *a) { return e == OK && claimed_at(a->run_id); }

static bool acquire(void)
{
	char ttl[24];
	if (!lease.next[0])
		draw_incarnation();
	ttl[put_u64(ttl, fleet.config.ttl_ms)] = 0;
	const char *address = fleet.config.peer_address ? fleet.config.peer_address : "-";
	const struct slice args[] = { slice_str(lease.next), slice_str(address), slice_str(ttl), slice_str(fleet.dead) };
	struct redis_run run = { .script = &script_acquire, .keys = &fleet.lease_key, .key_count = 1, .args = args, .arg_count = 4 };
	struct redis_answer a;
	uint64_t deadline_ns = clock_fresh_ns() + (uint64_t)(fleet.config.ttl_ms - fleet.config.margin_ms) * 1000000;
	enum err e = redis_run(lease.link, &run, &a);
	bool got = counts(e, &a) && a.value.kind == REDIS_INTEGER && a.value.integer == 1 && clock_fresh_ns() < deadline_ns;
	if (got)
		begin_incarnation(deadline_ns);
	else if (e == OK && a.value.kind == REDIS_STRING)
		told_holder(a.value.text);
	redis_answer_release(&a);
	return got;
}

static bool renew(void)
{
	char ttl[24];
	ttl[put_u64(ttl, fleet.config.ttl_ms)] = 0;
	const struct slice args[] = { slice_str(fleet.incarnation), slice_str(ttl) }; /* only this fiber changes it */
	struct redis_run run = { .script = &script_renew, .keys = &fleet.lease_key, .key_count = 1, .args = args, .arg_count = 2 };
	struct redis_answer a;
	uint64_t deadline_ns = clock_fresh_ns() + (uint64_t)(fleet.config.ttl_ms - fleet.config.margin_ms) * 1000000;
	enum err e = redis_run(lease.link, &run, &a);
	bool fine = counts(e, &a) && a.value.kind == REDIS_INTEGER;
	if (fine && a.value.integer == 1) {
		__atomic_store_n(&fleet.deadline_ns, deadline_ns, __ATOMIC_SEQ_CST);
		metric_inc(&metric_renewals);
	} else if (fine) {
		end_incarnation();
		lease.look = true; /* the next one at once */
		fine = false;
	}
	redis_answer_release(&a);
	return fine;
}

/* ---- beats ---- */

static bool beat(void)
{
	struct servers *s = xcalloc(1, sizeof(*s));
	bool fine = true;
	char run_id[REDIS_RUN_ID_BYTES + 1];
	redis_each_server(lease.link, note_server, s);
	if (s->count)
		forget_others(s);
	for (unsigned i = 0; i < s->count && !lease.stopping; i++)
		fine &= see(s, i);
	for (unsigned i = 0; i < s->count && !lease.stopping; i++)
		if (s->at[i].seen && !s->at[i].claimed)
			fine &= claim(s, i);
	fine &= s->count > 0;
	free(s);
	/* 4. */
	if (lease.stopping || !redis_run_id(lease.link, fleet.lease_key, run_id) || !claimed_at(run_id))
		return false;
	bool ours = fleet_epoch() ? renew() : acquire();
	if (ours)
		nodes_tell(lease.link);
	return ours && fine;
}

static void beat_body(void *arg)
{
	(void)arg;
	while (!lease.stopping) {
		lease.look = false;
		bool fine = beat();
		uint64_t pause_ms = fine ? fleet.config.renew_ms : max_u64(fleet.config.renew_ms / 20, 10);
		if (!lease.look && !lease.stopping)
			(void)waitq_wait(&lease.kick, clock_now_ms() + pause_ms);
	}
	lease.fibers--;
	waitq_wake_all(&lease.done);
}

/* ---- what others want of us ---- */

struct wish {
	struct post post;
	uint64_t account_id;
};

static void wish_arrived(struct post *p)
{
	struct wish *w = CONTAINER_OF(p, struct wish, post);
	if (owners_here())
		owner_wanted(w->account_id);
	free(w);
}

static void take_wishes(void)
{
	struct slice key = slice_str(fleet.wish_key_text);
	char most[24];
	most[put_u64(most, FLEET_WISHES_MAX)] = 0;
	struct slice arg = slice_str(most);
	struct redis_run run = { .script = &script_wishes, .keys = &key, .key_count = 1, .args = &arg, .arg_count = 1 };
	struct redis_answer a;
	enum err e = redis_run(lease.link, &run, &a);
	for (size_t i = 0; e == OK && a.value.kind == REDIS_ARRAY && i < a.value.count; i++) {
		uint64_t id;
		if (!slice_u64(redis_item_text(&a.value, i), UINT64_MAX, &id) || !id)
			continue;
		struct wish *w = xcalloc(1, sizeof(*w));
		w->post.run = wish_arrived;
		w->account_id = id;
		shard_post(store_shard_of(id), &w->post);
	}
	redis_answer_release(&a);
}

static void wishes_body(void *arg)
{
	(void)arg;
	while (!lease.stopping) {
		if (fleet_epoch())
			take_wishes();
		if (!lease.stopping)
			(void)waitq_wait(&lease.kick, clock_now_ms() + FLEET_WISH_LOOK_MS);
	}
	lease.fibers--;
	waitq_wake_all(&lease.done);
}

/* ---- start and stop ---- */

static void looked(struct post *p)
{
	(void)p;
	__atomic_store_n(&lease.posted, false, __ATOMIC_SEQ_CST);
	lease.look = true;
	if (lease.link)
		waitq_wake_all(&lease.kick);
}

void lease_look(void)
{
	if (__atomic_exchange_n(&lease.posted, true, __ATOMIC_SEQ_CST))
		return;
	lease.post.run = looked;
	shard_post(0, &lease.post);
}

void lease_start(struct redis *link)
{
	lease.link = link;
	lease.stopping = lease.look = false;
	lease.next[0] = lease.holder[0] = 0;
	waitq_init(&lease.kick);
	waitq_init(&lease.done);
	lease.fibers = fiber_start("fleet.lease", beat_body, NULL) == OK;
	if (fleet.config.placement == PLACEMENT_ANY)
		lease.fibers += fiber_start("fleet.wishes", wishes_body, NULL) == OK;
}

void lease_stop(void)
{
	lease.stopping = true;
	waitq_wake_all(&lease.kick);
	while (lease.fibers)
		(void)waitq_wait(&lease.done, 0);
	lease.link = NULL;
}

void lease_give_up(struct redis *link)
{
	struct slice arg = slice_str(fleet.incarnation);
	struct redis_run run = { .script = &script_drop, .keys = &fleet.lease_key, .key_count = 1, .args = &arg, .arg_count = 1 };
	struct redis_answer a;
	if (!fleet_epoch())
		return;
	nodes_untell(link, fleet.config.node);
	(void)redis_run(link, &run, &a);
	redis_answer_release(&a);
	__atomic_store_n(&fleet.epoch, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&fleet.deadline_ns, 0, __ATOMIC_SEQ_CST);
}
