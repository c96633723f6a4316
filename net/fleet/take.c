/* SPDX-License-Identifier: Apache-2.0 */
/*
 * take.c - an owner's words with Redis: taking, claiming again, the fields that follow, letting go.
 *
 * The numbered rules are owner.c's.  The texts `own` and its prefix are made here and nowhere else.
 */
#include "net/fleet/fleet_private.h"

#include "core/base/log.h"
#include "core/base/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

METRIC_COUNTER(metric_taken, "fleet_taken_total", "Accounts taken in Redis");
METRIC_COUNTER(metric_stolen, "fleet_replaced_total", "Accounts taken from an owner whose incarnation was gone");
METRIC_COUNTER(metric_elsewhere, "fleet_elsewhere_total", "Accounts found to be another live node's");
METRIC_COUNTER(metric_wait, "fleet_wait_total", "Accounts that could not be decided for the moment");
METRIC_COUNTER(metric_void, "fleet_takes_void_total", "Takes whose reply did not count");

size_t owner_key(uint64_t account_id, char out[FLEET_KEY_BYTES + 1])
{
	int n = snprintf(out, FLEET_KEY_BYTES + 1, "pf:a:{%" PRIu64 "}", account_id);
	ASSERT(n > 0 && n <= FLEET_KEY_BYTES);
	return (size_t)n;
}

void pop_field_fill(struct pop_field *f, const struct maildrop_lock *lock, struct slice peer)
{
	struct slice user = slice_upto(lock->user, sizeof(f->name) - 5);
	snprintf(f->name, sizeof(f->name), user.len ? "pop:%.*s" : "pop", SLICE_ARG(user));
	snprintf(f->value, sizeof(f->value), "%016" PRIx64 " %" PRId64 " %.*s", lock->token, clock_wall_s(), (int)min_size(peer.len, 48),
		 peer.len ? peer.ptr : "");
}

/* ---- own ---- */

/* "NODE/INCARNATION/" of the present incarnation; false: there is none. */
static bool own_prefix(char out[FLEET_OWN_BYTES], char incarnation_out[FLEET_INCARNATION_BYTES + 1], uint64_t *epoch_out)
{
	if (!fleet_incarnation(incarnation_out, epoch_out))
		return false;
	snprintf(out, FLEET_OWN_BYTES, "%s/%s/", fleet.config.node, incarnation_out);
	return true;
}

/* As the owner took it; false: that incarnation is over, and nothing that bears its name is to be written any more. */
static bool own_of(const struct owner *o, char prefix[FLEET_OWN_BYTES], char own[FLEET_OWN_BYTES])
{
	char incarnation[FLEET_INCARNATION_BYTES + 1];
	uint64_t epoch;
	if (!own_prefix(prefix, incarnation, &epoch) || epoch != o->epoch)
		return false;
	snprintf(own, FLEET_OWN_BYTES, "%.*s%" PRIu64, FLEET_OWN_BYTES - 22, prefix, o->take);
	return true;
}

/* Apart again; false: that is no `own` of ours. */
static bool own_split(struct slice own, struct owner_place *at_out)
{
	size_t last = slice_rfind(own, '/');
	struct slice front = slice_upto(own, last == SIZE_MAX ? 0 : last);
	size_t middle = slice_rfind(front, '/');
	if (middle == SIZE_MAX || middle == 0 || middle > FLEET_NODE_BYTES_MAX || front.len - middle - 1 != FLEET_INCARNATION_BYTES)
		return false;
	*at_out = (struct owner_place){ .node = "" };
	memcpy(at_out->node, front.ptr, middle);
	memcpy(at_out->incarnation, front.ptr + middle + 1, FLEET_INCARNATION_BYTES);
	return true;
}

/* ---- taking ---- */

struct attempt {
	struct owners *w;
	struct owner *o;
	const struct pop_field *pop;
	struct owner_answer *answer;
	char own[FLEET_OWN_BYTES], prefix[FLEET_OWN_BYTES], incarnation[FLEET_INCARNATION_BYTES + 1];
	char dead[FLEET_OWN_BYTES + 64]; /* a holder that was found gone ... */
	char dead_at[REDIS_RUN_ID_BYTES + 1]; /* ... at this master */
	char key[FLEET_KEY_BYTES + 1];
	uint64_t epoch, take;
	uint64_t newest;
};

static enum where wait_for_it(struct attempt *t)
{
	metric_inc(&metric_wait);
	*t->answer = (struct owner_answer){ .where = WHERE_WAIT, .err = ERR_TEMP };
	return WHERE_WAIT;
}

/* Rule 4: the incarnation still lives, we are in time, and the answer comes from the master where we last claimed. */
static bool reply_counts(const struct attempt *t, const struct redis_answer *a)
{
	return fleet_epoch() == t->epoch && fleet_in_time() && fleet_may_take_at(a->run_id);
}

static bool lease_is(const struct redis_answer *a, const char *incarnation)
{
	struct slice v = a->value.text;
	return a->value.kind == REDIS_STRING && v.len > FLEET_INCARNATION_BYTES && v.ptr[FLEET_INCARNATION_BYTES] == ' ' &&
	       memcmp(v.ptr, incarnation, FLEET_INCARNATION_BYTES) == 0;
}

/* What we took does not count: it is given back, whenever that arrives. */
static void give_back(const struct attempt *t)
{
	const struct owner taken = { .account_id = t->o->account_id, .epoch = t->epoch, .take = t->take };
	metric_inc(&metric_void);
	owner_tell_release(t->w, &taken);
}

/* Rule 5: is the holder's incarnation gone? *address_out: of the one that lives. */
static enum err holder_gone(struct attempt *t, struct owner_place *at, bool *gone_out)
{
	char key[FLEET_KEY_BYTES + 1];
	snprintf(key, sizeof(key), "pf:n:{%s}", at->node);
	const struct slice get[] = { SLICE_LIT("GET"), slice_str(key) };
	const struct redis_command c = { .args = get, .count = 2, .key = 1 };
	struct redis_answer a;
	enum err e = redis_ask(t->w->link, &c, &a);
	*gone_out = e == OK && !lease_is(&a, at->incarnation);
	if (e == OK && !*gone_out) {
		struct slice address = slice_from(a.value.text, FLEET_INCARNATION_BYTES + 1);
		if (address.len < sizeof(at->address) && !slice_eq(address, SLICE_LIT("-")))
			memcpy(at->address, address.ptr, address.len);
	}
	memcpy(t->dead_at, a.run_id, sizeof(t->dead_at));
	redis_answer_release(&a);
	return e;
}

static enum where taken(struct attempt *t, const struct redis_answer *a)
{
	if (!reply_counts(t, a)) {
		give_back(t);
		return wait_for_it(t);
	}
	(void)slice_u64(redis_item_text(&a->value, 1), UINT32_MAX, &t->newest);
	t->o->epoch = t->epoch;
	t->o->take = t->take;
	t->o->newest_seen = t->o->newest_told = (uint32_t)t->newest;
	metric_inc(&metric_taken);
	if (t->dead[0])
		metric_inc(&metric_stolen);
	*t->answer = (struct owner_answer){ .where = WHERE_HERE };
	return WHERE_HERE;
}

/* Somebody else's. True: try again, the holder is gone. */
static bool held(struct attempt *t, const struct redis_answer *a, enum where *where_out)
{
	struct slice own = redis_item_text(&a->value, 0);
	struct owner_place at;
	bool gone, excluded = a->value.count > 2 && a->value.items[2].integer == 1, any = a->value.count > 3 && a->value.items[3].integer == 1;
	bool ours = own_split(own, &at);
	if (!ours || own.len >= sizeof(t->dead) || holder_gone(t, &at, &gone) != OK) {
		if (!ours)
			log_event(LOG_ERROR, "fleet.strange_owner", LOG_U64("account", t->o->account_id), LOG_STR("own", own));
		*where_out = wait_for_it(t);
		return false;
	}
	if (gone && !t->dead[0]) {
		memcpy(t->dead, own.ptr, own.len);
		t->dead[own.len] = 0;
		return true;
	}
	metric_inc(&metric_elsewhere);
	*t->answer = (struct owner_answer){ .where = WHERE_AT, .err = excluded ? ERR_IN_USE : ERR_TEMP, .at = at };
	if (any && !t->pop)
		t->answer->err = ERR_BUSY; /* for owner.c: somebody is there, so asking for it is in vain */
	*where_out = WHERE_AT;
	return false;
}

/* The lease and the take in one write and in this order: where the first is not found the second proves nothing, for the master has lost
 * what it knew (FLUSHALL) and others have lost as much. A cluster keeps the two apart. */
static enum err run_take(struct attempt *t, struct redis_answer *lease_out, struct redis_answer *take_out)
{
	const struct slice get[] = { SLICE_LIT("GET"), fleet.lease_key };
	const struct slice take[] = { SLICE_LIT("EVALSHA"), slice_of(script_take.sha, 40), SLICE_LIT("1"), slice_str(t->key), slice_str(t->own),
				      slice_str(t->prefix), slice_str(t->dead), slice_str(t->pop ? t->pop->name : ""),
				      slice_str(t->pop ? t->pop->value : "") };
	const struct redis_command both[] = { { .args = get, .count = 2, .key = 1 }, { .args = take, .count = ARRAY_LEN(take), .key = 3 } };
	const struct redis_run alone = { .script = &script_take, .keys = &take[3], .key_count = 1, .args = &take[4], .arg_count = ARRAY_LEN(take) - 4 };
	struct redis_answer answers[2];
	enum err errs[2];
	*lease_out = (struct redis_answer){ .run_id = "" };
	if (redis_is_cluster(t->w->link))
		return redis_run(t->w->link, &alone, take_out);
	(void)redis_ask_all(t->w->link, both, 2, answers, errs);
	*lease_out = answers[0];
	*take_out = answers[1];
	if (errs[0] == OK && errs[1] == OK && !lease_is(lease_out, t->incarnation)) {
		lease_look();
		if (redis_item_text(&take_out->value, 0).len == 0)
			give_back(t);
		return ERR_TEMP;
	}
	return errs[0] ? errs[0] : errs[1];
}

/* One round; true: another one. */
static bool try_take(struct attempt *t, enum where *where_out)
{
	struct redis_answer lease, a;
	bool again = false;
	enum err e = run_take(t, &lease, &a);
	if (e != OK || a.value.kind != REDIS_ARRAY || a.value.count < 2)
		*where_out = wait_for_it(t);
	else if (redis_item_text(&a.value, 0).len == 0)
		*where_out = taken(t, &a);
	else if (t->dead[0] && strcmp(t->dead_at, a.run_id) != 0 && !redis_is_cluster(t->w->link))
		*where_out = wait_for_it(t); /* he was looked at on another master */
	else
		again = held(t, &a, where_out);
	redis_answer_release(&lease);
	redis_answer_release(&a);
	return again;
}

enum where owner_take_in_redis(struct owners *w, struct owner *o, const struct pop_field *pop, struct owner_answer *answer_out)
{
	struct attempt *t = xcalloc(1, sizeof(*t));
	char run_id[REDIS_RUN_ID_BYTES + 1];
	enum where where = WHERE_WAIT;
	t->w = w;
	t->o = o;
	t->pop = pop;
	t->answer = answer_out;
	t->take = __atomic_add_fetch(&fleet.takes, 1, __ATOMIC_RELAXED);
	size_t key_bytes = owner_key(o->account_id, t->key);
	/* rule 3 */
	if (!w->link || !own_prefix(t->prefix, t->incarnation, &t->epoch) || !fleet_in_time() ||
	    !redis_run_id(w->link, slice_of(t->key, key_bytes), run_id) || !fleet_may_take_at(run_id)) {
		(void)wait_for_it(t);
	} else {
		snprintf(t->own, sizeof(t->own), "%.*s%" PRIu64, FLEET_OWN_BYTES - 22, t->prefix, t->take);
		while (try_take(t, &where))
			;
	}
	free(t);
	return where;
}

/* ---- fields, releases ---- */

static void tell(struct owners *w, const struct redis_script *script, uint64_t account_id, const struct slice *args, size_t count)
{
	char key[FLEET_KEY_BYTES + 1];
	struct slice k = slice_of(key, owner_key(account_id, key));
	struct redis_run run = { .script = script, .keys = &k, .key_count = 1, .args = args, .arg_count = count };
	(void)redis_run_tell(w->link, &run); /* what is lost is claimed again, or overwritten */
}

void owner_tell(struct owners *w, struct owner *o, const struct pop_field *pop, bool set)
{
	char own[FLEET_OWN_BYTES], prefix[FLEET_OWN_BYTES], newest[24] = "";
	bool home = fleet.config.placement == PLACEMENT_HOME;
	if (home)
		o->epoch = fleet_epoch(); /* it is ours under whatever incarnation */
	if (!w->link || !own_of(o, prefix, own))
		return;
	if (o->newest_seen > o->newest_told)
		newest[put_u64(newest, o->newest_seen)] = 0;
	const struct slice args[] = { slice_str(own), slice_str(pop ? pop->name : ""), slice_str(pop && set ? pop->value : ""), slice_str(newest),
				      home ? SLICE_LIT("1") : SLICE_LIT("") };
	tell(w, &script_field, o->account_id, args, ARRAY_LEN(args));
	o->newest_told = o->newest_seen;
}

void owner_tell_pops(struct owners *w, struct owner *o)
{
	LIST_FOREACH(&o->holds, it) {
		struct maildrop_hold *m = owner_maildrop_of(CONTAINER_OF(it, struct owner_hold, link));
		struct pop_field f;
		if (!m || !m->lock->held)
			continue;
		pop_field_fill(&f, m->lock, slice_str(m->lock->peer));
		owner_tell(w, o, &f, true);
	}
}

void owner_tell_release(struct owners *w, const struct owner *o)
{
	char own[FLEET_OWN_BYTES], prefix[FLEET_OWN_BYTES], newest[24] = "";
	if (!w->link || !own_of(o, prefix, own))
		return;
	if (o->newest_seen)
		newest[put_u64(newest, o->newest_seen)] = 0;
	const struct slice args[] = { slice_str(own), slice_str(newest) };
	tell(w, &script_release, o->account_id, args, ARRAY_LEN(args));
}

void owner_forget_in_redis(struct owners *w, const struct owner *o)
{
	char own[FLEET_OWN_BYTES], prefix[FLEET_OWN_BYTES];
	if (!w->link || !own_of(o, prefix, own))
		return;
	const struct slice args[] = { slice_str(own) };
	tell(w, &script_forget, o->account_id, args, ARRAY_LEN(args));
}

void owner_wish(struct owners *w, const struct owner_place *at, uint64_t account_id)
{
	char key[FLEET_KEY_BYTES + 1], id[24];
	if (!w->link)
		return;
	snprintf(key, sizeof(key), "pf:w:{%s}", at->node);
	id[put_u64(id, account_id)] = 0;
	const struct slice push[] = { SLICE_LIT("RPUSH"), slice_str(key), slice_str(id) };
	const struct slice expire[] = { SLICE_LIT("PEXPIRE"), slice_str(key), SLICE_LIT("60000") };
	(void)redis_tell(w->link, &(struct redis_command){ .args = push, .count = 3, .key = 1 });
	(void)redis_tell(w->link, &(struct redis_command){ .args = expire, .count = 3, .key = 1 });
}

/* ---- claiming again ---- */

#define CLAIM_FIRST 7  /* EVALSHA, name, 1, key, own, prefix, gen */
#define CLAIM_POPS_MAX 24 /* of an SDPS host; more are not shown until they come or go */

/* One account's claim, in memory of its own while it is under way. */
struct claim {
	uint64_t account_id, take;
	char key[FLEET_KEY_BYTES + 1], own[FLEET_OWN_BYTES], prefix[FLEET_OWN_BYTES], newest[24];
	struct pop_field pops[CLAIM_POPS_MAX];
	struct slice args[CLAIM_FIRST + 2 * CLAIM_POPS_MAX];
	struct redis_command command;
};
static_assert_c(CLAIM_FIRST + 2 * CLAIM_POPS_MAX <= REDIS_ARGS_MAX, "a claim is one command");

static bool claim_fill(struct claim *c, const struct owner *o)
{
	size_t n = 0, pops = 0;
	if (!own_of(o, c->prefix, c->own))
		return false;
	c->account_id = o->account_id;
	c->take = o->take;
	size_t key_bytes = owner_key(o->account_id, c->key);
	c->newest[put_u64(c->newest, o->newest_seen)] = 0;
	c->args[n++] = SLICE_LIT("EVALSHA");
	c->args[n++] = slice_of(script_claim.sha, 40);
	c->args[n++] = SLICE_LIT("1");
	c->args[n++] = slice_of(c->key, key_bytes);
	c->args[n++] = slice_str(c->own);
	c->args[n++] = slice_str(c->prefix);
	c->args[n++] = slice_str(c->newest);
	LIST_FOREACH(&o->holds, it) {
		struct maildrop_hold *m = owner_maildrop_of(CONTAINER_OF(it, struct owner_hold, link));
		if (!m || !m->lock->held || pops == CLAIM_POPS_MAX)
			continue;
		pop_field_fill(&c->pops[pops], m->lock, slice_str(m->lock->peer));
		c->args[n++] = slice_str(c->pops[pops].name);
		c->args[n++] = slice_str(c->pops[pops++].value);
	}
	c->command = (struct redis_command){ .args = c->args, .count = n, .key = 3 };
	return true;
}

/* What came of it. False: not decided. */
static bool claim_judge(struct owners *w, const struct claim *c, enum err e, const struct redis_answer *a, const char *run_id)
{
	struct table_node *n = table_find_u64(&w->accounts, c->account_id);
	struct owner *o = n ? CONTAINER_OF(n, struct owner, node) : NULL;
	if (!o || o->take != c->take)
		return true; /* let go meanwhile, or taken anew */
	if (e != OK || a->value.kind != REDIS_INTEGER || strcmp(a->run_id, run_id) != 0)
		return false;
	if (a->value.integer == 1)
		return true;
	log_event(LOG_WARN, "fleet.lost_at_master", LOG_U64("account", c->account_id), LOG_Z("run_id", run_id));
	o->epoch = 0;
	owner_end_all(o, OWNER_END_LOST);
	return true;
}

#define CLAIMS_AT_ONCE REDIS_ASK_ALL_MAX

struct claims {
	struct claim claim[CLAIMS_AT_ONCE];
	struct redis_command commands[CLAIMS_AT_ONCE];
	struct redis_answer answers[CLAIMS_AT_ONCE];
	enum err errs[CLAIMS_AT_ONCE];
	size_t count;
};

static bool claims_send(struct owners *w, struct claims *b, const char *run_id)
{
	bool fine = true;
	if (!b->count)
		return true;
	for (size_t i = 0; i < b->count; i++)
		b->commands[i] = b->claim[i].command;
	(void)redis_ask_all(w->link, b->commands, b->count, b->answers, b->errs);
	for (size_t i = 0; i < b->count; i++) {
		fine &= claim_judge(w, &b->claim[i], b->errs[i], &b->answers[i], run_id);
		redis_answer_release(&b->answers[i]);
	}
	b->count = 0;
	return fine;
}

/* Ids first: the registry changes while we wait. */
static uint64_t *owned_ids(const struct owners *w, size_t *count_out)
{
	uint64_t *ids = xmalloc((w->accounts.count + 1) * sizeof(*ids));
	*count_out = 0;
	for (struct table_node *n = table_first(&w->accounts); n; n = table_next(&w->accounts, n)) {
		const struct owner *o = CONTAINER_OF(n, struct owner, node);
		if (o->state == OWNER_OURS && o->epoch == fleet_epoch() && o->epoch)
			ids[(*count_out)++] = o->account_id;
	}
	return ids;
}

/* Is this account kept at this master? *elsewhere_out: certainly not. */
static bool belongs(struct owners *w, uint64_t id, const char *run_id, bool *elsewhere_out)
{
	char key[FLEET_KEY_BYTES + 1], at[REDIS_RUN_ID_BYTES + 1];
	bool known = redis_run_id(w->link, slice_of(key, owner_key(id, key)), at); /* false: not connected, and so about to ask again */
	*elsewhere_out = known && strcmp(at, run_id) != 0 && redis_is_cluster(w->link);
	return known && strcmp(at, run_id) == 0;
}

void owners_tell_pops(struct owners *w)
{
	for (struct table_node *n = table_first(&w->accounts); n; n = table_next(&w->accounts, n))
		owner_tell_pops(w, CONTAINER_OF(n, struct owner, node));
}

bool owners_claim(struct owners *w, const char *run_id)
{
	if (fleet.config.placement == PLACEMENT_HOME)
		return true; /* nothing is decided there */
	if (w->stopping || !w->link)
		return false;
	struct claims *b = xcalloc(1, sizeof(*b));
	size_t count;
	uint64_t *ids = owned_ids(w, &count);
	bool fine = true;
	w->claiming++;
	for (size_t i = 0; i < count && fine; i++) {
		bool elsewhere;
		struct table_node *n = table_find_u64(&w->accounts, ids[i]);
		if (!n)
			continue;
		if (!belongs(w, ids[i], run_id, &elsewhere)) {
			fine = elsewhere;
			if (!fine)
				redis_distrust(w->link); /* a link that nobody uses may be with the old master still */
			continue;
		}
		b->count += claim_fill(&b->claim[b->count], CONTAINER_OF(n, struct owner, node));
		if (b->count == CLAIMS_AT_ONCE)
			fine = claims_send(w, b, run_id);
	}
	fine = fine && claims_send(w, b, run_id);
	free(ids);
	free(b);
	if (--w->claiming == 0)
		waitq_wake_all(&w->done);
	return fine;
}
