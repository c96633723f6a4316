/* SPDX-License-Identifier: Apache-2.0 */
/* admin_verbs.c - see admin_verbs.h. */
#include "net/server/admin_verbs.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/roster.h"
#include "net/server/admin_fleet.h"
#include "net/server/drain.h"
#include "net/server/reload.h"
#include "net/server/upgrade.h"
#include "tenancy/maildrop_lock.h"
#include "tenancy/usage.h"

#include <stdlib.h>
#include <string.h>

static const char *node_name = "localhost";

void admin_configure(const char *node) { node_name = node; }

static json_t *refuse(const char *code, const char *words) { return json_pack("{s:s, s:s}", "error", words, "code", code); }
static json_t *refuse_err(enum err e) { return refuse(err_name(e), "it could not be done now; ask again"); }

static const char *text_of(json_t *request, const char *key)
{
	const char *text = json_string_value(json_object_get(request, key));
	return text ? text : "";
}

/* Bytes that are no UTF-8 become '?'. */
static json_t *string_json(const char *text)
{
	json_t *s = json_string(text);
	if (s)
		return s;
	char *copy = xstrdup(text);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	s = json_string(copy);
	free(copy);
	return s;
}

/* ---- who, kick ---- */

/* False: something in it has the wrong type. */
static bool filter_of(json_t *request, struct roster_filter *out, bool *any_out)
{
	static const char *const texts[] = { "account", "tenant", "protocol", "address" };
	*out = (struct roster_filter){ 0 };
	struct slice *to[] = { &out->login, &out->tenant, &out->protocol, &out->address };
	*any_out = false;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		json_t *v = json_object_get(request, texts[i]);
		if (v && (!json_is_string(v) || !json_string_length(v)))
			return false;
		if (v)
			*to[i] = slice_of(json_string_value(v), json_string_length(v));
		*any_out |= v != NULL;
	}
	json_t *session = json_object_get(request, "session");
	out->by_session = session != NULL;
	*any_out |= session != NULL;
	if (session && (!json_is_integer(session) || json_integer_value(session) < 0))
		return false;
	out->session = session ? (uint64_t)json_integer_value(session) : 0;
	return true;
}

static json_t *session_json(const struct roster_entry *e)
{
	json_t *o = json_pack("{s:s, s:I, s:i, s:s, s:s, s:b, s:s}", "node", node_name, "session", (json_int_t)e->session, "shard", (int)e->shard,
			      "protocol", e->protocol, "state", e->state, "working", e->working, "peer", e->peer);
	json_object_set_new(o, "account", e->login[0] ? string_json(e->login) : json_null());
	json_object_set_new(o, "account_id", e->account_id ? json_integer((json_int_t)e->account_id) : json_null());
	json_object_set_new(o, "tenant", e->tenant[0] ? string_json(e->tenant) : json_null());
	json_object_set_new(o, "tls", e->tls ? json_string(e->tls) : json_null());
	json_object_set_new(o, "since", json_integer(clock_wall_s() - (json_int_t)(e->age_ms / 1000)));
	json_object_set_new(o, "quiet_ms", json_integer((json_int_t)e->quiet_ms));
	json_object_set_new(o, "bytes_in", json_integer((json_int_t)e->bytes_in));
	json_object_set_new(o, "bytes_out", json_integer((json_int_t)e->bytes_out));
	return o;
}

static json_t *verb_who(const struct admin_asker *who, json_t *request)
{
	struct roster_filter filter;
	struct roster roster;
	bool any;
	(void)who;
	if (!filter_of(request, &filter, &any))
		return refuse("syntax", "a filter has the wrong type");
	enum err e = roster_list(&filter, ROSTER_ENTRIES_MAX, &roster);
	if (e != OK)
		return refuse_err(e);
	json_t *list = json_array();
	for (size_t i = 0; i < roster.count; i++)
		json_array_append_new(list, session_json(&roster.entries[i]));
	json_t *answer = json_pack("{s:o, s:I, s:b}", "sessions", list, "matched", (json_int_t)roster.matched, "truncated",
				   roster.matched > roster.count);
	roster_free(&roster);
	return answer;
}

static json_t *verb_kick(const struct admin_asker *who, json_t *request)
{
	struct roster_filter filter;
	uint64_t ended;
	bool any;
	if (!filter_of(request, &filter, &any) || !any)
		return refuse("syntax", "expected which sessions: session, account, tenant, protocol or address");
	const char *reason = text_of(request, "reason");
	log_event(LOG_INFO, "admin.kick", LOG_U64("uid", who->uid), LOG_Z("by", text_of(request, "by")), LOG_STR("account", filter.login), LOG_STR("tenant", filter.tenant),
		  LOG_STR("address", filter.address), LOG_STR("protocol", filter.protocol), LOG_Z("reason", reason));
	enum err e = roster_end(&filter, reason[0] ? reason : "kick", json_is_true(json_object_get(request, "now")), &ended);
	return e == OK ? json_pack("{s:I}", "ended", (json_int_t)ended) : refuse_err(e);
}

/* ---- locks ---- */

struct locks_part {
	struct slice account;
	uint64_t account_id; /* 0: all */
	json_t *list;
};

static json_t *lock_json(const struct maildrop_lock *lock)
{
	json_t *o = json_pack("{s:s, s:i, s:I, s:I, s:I}", "node", node_name, "shard", (int)shard_index(), "account_id", (json_int_t)lock->account_id,
			      "since", (json_int_t)lock->since_wall_s, "held_s", (json_int_t)(clock_wall_s() - lock->since_wall_s));
	json_object_set_new(o, "peer", string_json(lock->peer));
	json_object_set_new(o, "token", json_integer((json_int_t)lock->token));
	char *user = slice_dup(lock->user);
	json_object_set_new(o, "user", lock->user.len ? string_json(user) : json_null());
	free(user);
	return o;
}

static void locks_here(void *arg)
{
	struct locks_part *p = arg; /* each with its token, in the list until they are checked */
	for (struct maildrop_lock *lock = NULL; maildrop_lock_next(&lock) && json_array_size(p->list) < LOCKS_LISTED_MAX;)
		if (!p->account_id || lock->account_id == p->account_id)
			json_array_append_new(p->list, lock_json(lock));
}

/* Whose lock it is stands in the roster: the session of that account in TRANSACTION. */
static void name_holders(json_t *list, const struct roster *roster)
{
	size_t i;
	json_t *lock;
	json_array_foreach(list, i, lock) {
		uint64_t id = (uint64_t)json_integer_value(json_object_get(lock, "account_id"));
		for (size_t k = 0; k < roster->count; k++) {
			const struct roster_entry *e = &roster->entries[k];
			if (e->account_id != id)
				continue;
			json_object_set_new(lock, "account", string_json(e->login));
			json_object_set_new(lock, "tenant", string_json(e->tenant));
			json_object_set_new(lock, "session", json_integer((json_int_t)e->session));
			break;
		}
	}
}

/* Does Redis say so too? null: there is no Redis. The token has then served. */
static void check_in_redis(json_t *list)
{
	static const char *const words[] = { [LOCK_REDIS_UNKNOWN] = "unknown", [LOCK_REDIS_AGREES] = "agrees", [LOCK_REDIS_DIFFERS] = "differs" };
	struct lock_check *checks = xcalloc(json_array_size(list) + 1, sizeof(*checks));
	size_t i;
	json_t *lock;
	json_array_foreach(list, i, lock)
		checks[i] = (struct lock_check){ .account_id = (uint64_t)json_integer_value(json_object_get(lock, "account_id")),
						 .token = (uint64_t)json_integer_value(json_object_get(lock, "token")),
						 .user = slice_str(text_of(lock, "user")) };
	if (fleet_on())
		fleet_check_locks(checks, json_array_size(list));
	json_array_foreach(list, i, lock) {
		json_object_del(lock, "token");
		json_object_set_new(lock, "redis", fleet_on() ? json_string(words[checks[i].found]) : json_null());
	}
	free(checks);
}

static enum err collect_locks(uint64_t account_id, json_t **list_out)
{
	struct locks_part p = { .account_id = account_id, .list = json_array() };
	const struct roster_filter pop3 = { .account_id = account_id, .protocol = SLICE_LIT("pop3") };
	struct roster roster;
	enum err e = OK;
	for (unsigned i = 0; e == OK && i < shard_count(); i++)
		e = shard_call(i, "lock list", locks_here, &p);
	if (e == OK)
		e = roster_list(&pop3, ROSTER_ENTRIES_MAX, &roster);
	if (e != OK) {
		json_decref(p.list);
		return e;
	}
	name_holders(p.list, &roster);
	roster_free(&roster);
	*list_out = p.list;
	return OK;
}

static void keep_account(json_t *list, const char *account)
{
	for (size_t i = json_array_size(list); i-- > 0;) {
		const char *name = text_of(json_array_get(list, i), "account");
		if (!slice_eq_nocase(slice_str(name), slice_str(account)))
			json_array_remove(list, i);
	}
}

static json_t *verb_lock_list(const struct admin_asker *who, json_t *request)
{
	json_t *list;
	(void)who;
	enum err e = collect_locks((uint64_t)json_integer_value(json_object_get(request, "account_id")), &list);
	if (e != OK)
		return refuse_err(e);
	if (text_of(request, "account")[0])
		keep_account(list, text_of(request, "account"));
	check_in_redis(list);
	return json_pack("{s:o}", "locks", list);
}

/* A lock lies in the session that holds it, and goes with it: what breaks it is the end of that session, at once and without update. */
static json_t *verb_lock_break(const struct admin_asker *who, json_t *request)
{
	const char *account = text_of(request, "account"), *reason = text_of(request, "reason");
	const struct roster_filter filter = { .login = slice_str(account), .protocol = SLICE_LIT("pop3") };
	uint64_t ended;
	if (!account[0] || !reason[0])
		return refuse("syntax", "expected account and reason");
	log_event(LOG_WARN, "admin.lock_break", LOG_U64("uid", who->uid), LOG_Z("by", text_of(request, "by")), LOG_Z("account", account), LOG_Z("reason", reason));
	enum err e = roster_end(&filter, reason, true, &ended);
	if (e != OK)
		return refuse_err(e);
	return ended ? json_pack("{s:I}", "broken", (json_int_t)ended) : refuse("not_found", "no session holds a lock on that account");
}

/* ---- drain, node ---- */

static const char *drain_word(void)
{
	static const char *const words[] = { [DRAIN_NONE] = "serving", [DRAIN_GRACE] = "grace", [DRAIN_ENDING] = "ending", [DRAIN_DONE] = "drained" };
	return words[drain_now()];
}

static json_t *node_json(void)
{
	const struct roster_filter all = { 0 };
	struct roster roster;
	enum err e = roster_list(&all, 0, &roster);
	if (e != OK)
		return refuse_err(e);
	json_t *o = json_pack("{s:s, s:s, s:I, s:i}", "node", node_name, "state", drain_word(), "sessions", (json_int_t)roster.matched, "shards",
			      (int)shard_count());
	roster_free(&roster);
	return o;
}

static json_t *verb_drain_status(const struct admin_asker *who, json_t *request)
{
	(void)who;
	(void)request;
	return node_json();
}

static json_t *verb_node_list(const struct admin_asker *who, json_t *request)
{
	(void)who;
	(void)request;
	json_t *node = node_json();
	return json_object_get(node, "error") ? node : json_pack("{s:[o]}", "nodes", node);
}

static bool milliseconds(json_t *request, const char *key, uint32_t preset, uint32_t *out)
{
	json_t *v = json_object_get(request, key);
	if (v && (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > DRAIN_MS_MAX))
		return false;
	*out = v ? (uint32_t)json_integer_value(v) : preset;
	return true;
}

static json_t *verb_drain(const struct admin_asker *who, json_t *request)
{
	uint32_t grace_ms, spread_ms;
	if (!milliseconds(request, "grace_ms", DRAIN_GRACE_MS, &grace_ms) || !milliseconds(request, "spread_ms", DRAIN_SPREAD_MS, &spread_ms))
		return refuse("syntax", "times are from 0 to 86400000 ms");
	log_event(LOG_INFO, "admin.drain", LOG_U64("uid", who->uid), LOG_Z("reason", text_of(request, "reason")));
	return drain_begin(grace_ms, spread_ms) ? node_json() : refuse("in_use", "a drain is under way");
}

static json_t *verb_undrain(const struct admin_asker *who, json_t *request)
{
	log_event(LOG_INFO, "admin.undrain", LOG_U64("uid", who->uid), LOG_Z("reason", text_of(request, "reason")));
	return drain_end() ? node_json() : refuse("not_found", "no drain is under way");
}

static json_t *verb_reload(const struct admin_asker *who, json_t *request)
{
	log_event(LOG_INFO, "admin.reload", LOG_U64("uid", who->uid), LOG_Z("reason", text_of(request, "reason")));
	return reload_now();
}

static json_t *verb_upgrade(const struct admin_asker *who, json_t *request)
{
	uint32_t over_ms;
	if (!milliseconds(request, "over_ms", UPGRADE_OVER_MS, &over_ms))
		return refuse("syntax", "times are from 0 to 86400000 ms");
	log_event(LOG_INFO, "admin.upgrade", LOG_U64("uid", who->uid), LOG_Z("reason", text_of(request, "reason")));
	return upgrade_begin(over_ms);
}

static json_t *verb_upgrade_status(const struct admin_asker *who, json_t *request)
{
	(void)who;
	(void)request;
	return upgrade_status();
}

static json_t *verb_stats(const struct admin_asker *who, json_t *request)
{
	(void)who;
	(void)request;
	return admin_stats();
}

/* What was counted up to now goes to the file, where the asker reads it. */
static json_t *verb_usage(const struct admin_asker *who, json_t *request)
{
	(void)who;
	(void)request;
	enum err e = usage_flush();
	return e == OK ? json_pack("{s:b}", "written", 1) : refuse("temporary", "the figures could not be written to usage.db");
}

/* ---- of the whole fleet ---- */

static void add_list(json_t *into, json_t *from, const char *key) { json_array_extend(json_object_get(into, key), json_object_get(from, key)); }

static void add_number(json_t *into, json_t *from, const char *key)
{
	json_int_t sum = json_integer_value(json_object_get(into, key)) + json_integer_value(json_object_get(from, key));
	json_object_set_new(into, key, json_integer(sum));
}

static void merge_who(json_t *into, json_t *from)
{
	json_t *list = json_object_get(into, "sessions");
	add_list(into, from, "sessions");
	add_number(into, from, "matched");
	while (json_array_size(list) > ROSTER_ENTRIES_MAX)
		json_array_remove(list, json_array_size(list) - 1);
	json_object_set_new(into, "truncated", json_boolean(json_integer_value(json_object_get(into, "matched")) > (json_int_t)json_array_size(list)));
}

static void merge_kick(json_t *into, json_t *from) { add_number(into, from, "ended"); }
static void merge_locks(json_t *into, json_t *from) { add_list(into, from, "locks"); }
static void merge_broken(json_t *into, json_t *from) { add_number(into, from, "broken"); }
static void merge_nodes(json_t *into, json_t *from) { add_list(into, from, "nodes"); }

static json_t *empty_who(void) { return json_pack("{s:[], s:i, s:b}", "sessions", "matched", 0, "truncated", 0); }
static json_t *empty_kick(void) { return json_pack("{s:i}", "ended", 0); }
static json_t *empty_locks(void) { return json_pack("{s:[]}", "locks"); }
static json_t *empty_broken(void) { return json_pack("{s:i}", "broken", 0); }
static json_t *empty_nodes(void) { return json_pack("{s:[]}", "nodes"); }

struct verb_entry {
	const char *name;
	bool changes;
	json_t *(*answer)(const struct admin_asker *who, json_t *request);
	json_t *(*empty)(void);                    /* the answer of nobody; NULL: asks this node alone */
	void (*merge)(json_t *into, json_t *from);
};

/* Nothing was found, which is no error as long as others are asked too. */
static bool found_nothing(json_t *answer) { return !strcmp(text_of(answer, "code"), "not_found"); }

static void add_unanswered(json_t *to, const char *node, const char *why)
{
	json_array_append_new(to, json_pack("{s:s, s:s}", "node", node, "why", why));
}

static void add_reply(const struct verb_entry *v, json_t *into, json_t *unanswered, const struct admin_reply *r)
{
	if (!r->answer)
		add_unanswered(unanswered, r->node.at.node, r->why);
	else if (!json_object_get(r->answer, "error"))
		v->merge(into, r->answer);
	else if (!found_nothing(r->answer))
		add_unanswered(unanswered, r->node.at.node, text_of(r->answer, "error"));
}

static void ask_others(const struct verb_entry *v, const struct admin_asker *who, json_t *request, const char *only, json_t *into)
{
	struct admin_reply *replies;
	size_t count;
	json_t *unanswered = json_array(), *there = json_deep_copy(request);
	json_object_set_new(there, "here", json_true());
	json_object_set_new(there, "uid", json_integer(who->uid));
	json_object_set_new(there, "by", json_string(node_name));
	enum err e = admin_ask_others(there, only, &replies, &count);
	json_decref(there);
	if (e != OK)
		add_unanswered(unanswered, *only ? only : "*", "the other nodes are not known now: Redis does not answer");
	else if (*only && !count)
		add_unanswered(unanswered, only, "no such node is known");
	for (size_t i = 0; i < count; i++)
		add_reply(v, into, unanswered, &replies[i]);
	admin_replies_free(replies, count);
	json_object_set_new(into, "unanswered", unanswered);
}

/* This node's answer first; if it is an error there is nothing to ask the others. */
static json_t *answer_fleet(const struct verb_entry *v, const struct admin_asker *who, json_t *request)
{
	const char *only = text_of(request, "node");
	bool here = json_is_true(json_object_get(request, "here")) || who->of_node || !strcmp(only, node_name);
	bool one = json_object_get(request, "session") && !*only; /* of this node: its number says nothing elsewhere */
	json_t *answer = *only && !here ? v->empty() : v->answer(who, request);
	if (here || one || (json_object_get(answer, "error") && !found_nothing(answer)))
		return answer;
	if (found_nothing(answer)) {
		json_decref(answer);
		answer = v->empty();
	}
	ask_others(v, who, request, only, answer);
	return answer;
}

/* ---- which ---- */

static const struct verb_entry verbs[] = {
	{ "stats", false, verb_stats, NULL, NULL },
	{ "who", false, verb_who, empty_who, merge_who },
	{ "kick", true, verb_kick, empty_kick, merge_kick },
	{ "lock list", false, verb_lock_list, empty_locks, merge_locks },
	{ "lock break", true, verb_lock_break, empty_broken, merge_broken },
	{ "node list", false, verb_node_list, empty_nodes, merge_nodes },
	{ "drain", true, verb_drain, NULL, NULL },
	{ "drain status", false, verb_drain_status, NULL, NULL },
	{ "undrain", true, verb_undrain, NULL, NULL },
	{ "reload", true, verb_reload, NULL, NULL },
	{ "upgrade", true, verb_upgrade, NULL, NULL },
	{ "upgrade status", false, verb_upgrade_status, NULL, NULL },
	{ "usage", false, verb_usage, NULL, NULL },
};

static json_t *answer_verb(const struct admin_asker *who, json_t *request)
{
	const char *name = text_of(request, "verb");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		const struct verb_entry *v = &verbs[i];
		if (strcmp(v->name, name) != 0 || (who->of_node && !v->empty))
			continue;
		if (!v->changes || who->may_change)
			return v->empty ? answer_fleet(v, who, request) : v->answer(who, request);
		log_event(LOG_WARN, "admin.denied", LOG_U64("uid", who->uid), LOG_Z("verb", name));
		return refuse("denied", "only root and the server's user may change anything");
	}
	return refuse("syntax", "unknown request");
}

/* Another node's request bears who asked there, and has been judged there. */
static struct admin_asker asker_of(const struct admin_asker *who, json_t *request)
{
	if (!who->of_node)
		return *who;
	return (struct admin_asker){ .uid = (uint32_t)json_integer_value(json_object_get(request, "uid")), .may_change = true, .of_node = true };
}

json_t *admin_answer(const struct admin_asker *who, struct slice line)
{
	json_t *request = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(request)) {
		json_decref(request);
		return refuse("syntax", "expected a JSON object");
	}
	struct admin_asker asker = asker_of(who, request);
	if (!who->of_node)
		json_object_del(request, "by"); /* it goes to the log */
	json_t *answer = answer_verb(&asker, request);
	json_decref(request);
	return answer;
}
