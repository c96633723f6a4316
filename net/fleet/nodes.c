/* SPDX-License-Identifier: Apache-2.0 */
/* nodes.c - see nodes.h. */
#include "net/fleet/nodes.h"

#include "net/fleet/fleet_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES_KEY SLICE_LIT("pf:nodes")
enum { BATCH = 16 }; /* commands that leave in one write */

/* ---- this node's place in the list ---- */

void nodes_tell(struct redis *link)
{
	char now[24];
	now[put_u64(now, (uint64_t)clock_wall_s())] = 0;
	const struct slice args[] = { SLICE_LIT("HSET"), NODES_KEY, slice_str(fleet.config.node), slice_str(now) };
	const struct redis_command c = { .args = args, .count = 4, .key = 1 };
	(void)redis_tell(link, &c); /* lost: the next renewal says it again */
}

/* Waited for: a link that is closed next may not have sent what was only told. */
void nodes_untell(struct redis *link, const char *node)
{
	const struct slice args[] = { SLICE_LIT("HDEL"), NODES_KEY, slice_str(node) };
	const struct redis_command c = { .args = args, .count = 3, .key = 1 };
	struct redis_answer a;
	(void)redis_ask(link, &c, &a);
	redis_answer_release(&a);
}

/* ---- the others ---- */

static void set_address(struct owner_place *at, struct slice address)
{
	if (address.len < sizeof(at->address) && !slice_eq(address, SLICE_LIT("-")))
		memcpy(at->address, address.ptr, address.len);
}

static const char *no_address(const struct owner_place *at) { return at->address[0] ? NULL : "it has no peer.address"; }

/* As the configuration takes names: what else stands in Redis is nobody's, and would reach an operator's terminal. */
static bool good_name(struct slice name)
{
	for (size_t i = 0; i < name.len; i++) {
		char c = name.ptr[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.'))
			return false;
	}
	return name.len && name.len <= FLEET_NODE_BYTES_MAX;
}

static struct fleet_peer *add(struct fleet_peer *peers, size_t *count_io, struct slice name)
{
	if (!good_name(name) || *count_io == FLEET_NODES_MAX || slice_eq(name, slice_str(fleet.config.node)))
		return NULL;
	struct fleet_peer *p = &peers[(*count_io)++];
	*p = (struct fleet_peer){ .why = NULL };
	memcpy(p->at.node, name.ptr, name.len);
	return p;
}

static int by_name(const void *a, const void *b)
{
	const struct fleet_peer *x = a, *y = b;
	return strcmp(x->at.node, y->at.node);
}

static size_t from_list(struct fleet_peer *peers)
{
	size_t count = 0;
	for (unsigned i = 0; i < fleet.config.node_count; i++) {
		struct fleet_peer *p = add(peers, &count, slice_str(fleet.config.nodes[i].name));
		if (!p)
			continue;
		if (fleet.config.nodes[i].address)
			set_address(&p->at, slice_str(fleet.config.nodes[i].address));
		p->why = no_address(&p->at);
	}
	return count;
}

/* "INCARNATION ADDRESS" */
static void take_lease(struct fleet_peer *p, enum err e, const struct redis_answer *a)
{
	struct slice v = e == OK && a->value.kind == REDIS_STRING ? a->value.text : slice_of("", 0);
	if (v.len > FLEET_INCARNATION_BYTES && v.ptr[FLEET_INCARNATION_BYTES] == ' ') {
		memcpy(p->at.incarnation, v.ptr, FLEET_INCARNATION_BYTES);
		set_address(&p->at, slice_from(v, FLEET_INCARNATION_BYTES + 1));
		p->why = no_address(&p->at);
	} else {
		p->why = e == OK ? "it has no lease" : "Redis did not say where it is";
	}
}

static void ask_leases(struct redis *link, struct fleet_peer *peers, size_t count)
{
	struct redis_command commands[BATCH];
	struct slice args[BATCH][2];
	char keys[BATCH][FLEET_KEY_BYTES + 1];
	struct redis_answer *answers = xcalloc(BATCH, sizeof(*answers));
	enum err errs[BATCH];
	for (size_t at = 0; at < count; at += BATCH) {
		size_t n = min_size(BATCH, count - at);
		for (size_t i = 0; i < n; i++) {
			snprintf(keys[i], sizeof(keys[i]), "pf:n:{%s}", peers[at + i].at.node);
			args[i][0] = SLICE_LIT("GET");
			args[i][1] = slice_str(keys[i]);
			commands[i] = (struct redis_command){ .args = args[i], .count = 2, .key = 1 };
		}
		(void)redis_ask_all(link, commands, n, answers, errs);
		for (size_t i = 0; i < n; i++) {
			take_lease(&peers[at + i], errs[i], &answers[i]);
			redis_answer_release(&answers[i]);
		}
	}
	free(answers);
}

/* Those that have been gone for long are nobody's question any more. */
static size_t forget_old(struct redis *link, struct fleet_peer *peers, size_t count)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		bool old = !peers[i].at.incarnation[0] && peers[i].seen_s + FLEET_NODE_FORGET_S < clock_wall_s();
		if (old)
			nodes_untell(link, peers[i].at.node);
		else
			peers[kept++] = peers[i];
	}
	return kept;
}

static enum err from_redis(struct redis *link, struct fleet_peer *peers, size_t *count_out)
{
	const struct slice args[] = { SLICE_LIT("HGETALL"), NODES_KEY };
	const struct redis_command c = { .args = args, .count = 2, .key = 1 };
	struct redis_answer a;
	enum err e = redis_ask(link, &c, &a);
	for (size_t i = 0; e == OK && a.value.kind == REDIS_ARRAY && i + 1 < a.value.count; i += 2) {
		uint64_t seen_s;
		struct fleet_peer *p = add(peers, count_out, redis_item_text(&a.value, i));
		if (p && slice_u64(redis_item_text(&a.value, i + 1), INT32_MAX * (uint64_t)4, &seen_s))
			p->seen_s = (int64_t)seen_s;
	}
	redis_answer_release(&a);
	if (e != OK)
		return e;
	ask_leases(link, peers, *count_out);
	*count_out = forget_old(link, peers, *count_out);
	return OK;
}

enum err fleet_peers(struct fleet_peer **peers_out, size_t *count_out)
{
	struct owners *w = owners_here();
	struct fleet_peer *peers = xcalloc(FLEET_NODES_MAX, sizeof(*peers));
	enum err e = OK;
	*count_out = 0;
	if (fleet.config.node_count)
		*count_out = from_list(peers);
	else if (fleet.on)
		e = w && w->link ? from_redis(w->link, peers, count_out) : ERR_TEMP;
	if (e != OK) {
		free(peers);
		peers = NULL;
		*count_out = 0;
	} else {
		qsort(peers, *count_out, sizeof(*peers), by_name);
	}
	*peers_out = peers;
	return e;
}

/* ---- locks ---- */

static enum lock_in_redis compare(const struct lock_check *c, enum err e, const struct redis_answer *a)
{
	char token[17];
	if (e != OK || (a->value.kind != REDIS_STRING && a->value.kind != REDIS_NIL))
		return LOCK_REDIS_UNKNOWN;
	snprintf(token, sizeof(token), "%016" PRIx64, c->token);
	return slice_starts_nocase(a->value.text, slice_str(token)) ? LOCK_REDIS_AGREES : LOCK_REDIS_DIFFERS;
}

static void check_some(struct redis *link, struct lock_check **checks, size_t n)
{
	struct redis_command commands[BATCH];
	struct slice args[BATCH][3];
	char keys[BATCH][FLEET_KEY_BYTES + 1];
	struct pop_field *fields = xcalloc(BATCH, sizeof(*fields));
	struct redis_answer *answers = xcalloc(BATCH, sizeof(*answers));
	enum err errs[BATCH];
	for (size_t i = 0; i < n; i++) {
		const struct maildrop_lock like = { .token = checks[i]->token, .user = checks[i]->user };
		pop_field_fill(&fields[i], &like, slice_of("", 0));
		args[i][0] = SLICE_LIT("HGET");
		args[i][1] = slice_of(keys[i], owner_key(checks[i]->account_id, keys[i]));
		args[i][2] = slice_str(fields[i].name);
		commands[i] = (struct redis_command){ .args = args[i], .count = 3, .key = 1 };
	}
	(void)redis_ask_all(link, commands, n, answers, errs);
	for (size_t i = 0; i < n; i++) {
		checks[i]->found = compare(checks[i], errs[i], &answers[i]);
		redis_answer_release(&answers[i]);
	}
	free(answers);
	free(fields);
}

/* Those that do not agree so far. True: some do not agree still. */
static bool check_round(struct redis *link, struct lock_check *checks, size_t count)
{
	struct lock_check *some[BATCH];
	size_t n = 0;
	bool left = false;
	for (size_t i = 0; i < count; i++) {
		if (checks[i].found != LOCK_REDIS_AGREES)
			some[n++] = &checks[i];
		if (n < BATCH && (i + 1 < count || !n))
			continue;
		check_some(link, some, n);
		for (; n; n--)
			left |= some[n - 1]->found == LOCK_REDIS_DIFFERS;
	}
	return left;
}

void fleet_check_locks(struct lock_check *checks, size_t count)
{
	struct owners *w = owners_here();
	for (size_t i = 0; i < count; i++)
		checks[i].found = LOCK_REDIS_UNKNOWN;
	if (!w || !w->link || !count || !check_round(w->link, checks, count))
		return;
	fiber_sleep(FLEET_AGAIN_MS);
	if (owners_here() && owners_here()->link)
		(void)check_round(owners_here()->link, checks, count);
}
