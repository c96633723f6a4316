/* SPDX-License-Identifier: Apache-2.0 */
/* admin_verbs.c - see admin_verbs.h. */
#include "net/server/admin_verbs.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/run/clock.h"
#include "core/run/shard.h"
#include "net/roster.h"
#include "net/server/drain.h"
#include "net/server/reload.h"
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
	log_event(LOG_INFO, "admin.kick", LOG_U64("uid", who->uid), LOG_STR("account", filter.login), LOG_STR("tenant", filter.tenant),
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
	char *user = slice_dup(lock->user);
	json_object_set_new(o, "user", lock->user.len ? string_json(user) : json_null());
	free(user);
	return o;
}

static void locks_here(void *arg)
{
	struct locks_part *p = arg;
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
	log_event(LOG_WARN, "admin.lock_break", LOG_U64("uid", who->uid), LOG_Z("account", account), LOG_Z("reason", reason));
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

/* ---- which ---- */

static const struct {
	const char *name;
	bool changes;
	json_t *(*answer)(const struct admin_asker *who, json_t *request);
} verbs[] = {
	{ "stats", false, verb_stats },         { "who", false, verb_who },
	{ "kick", true, verb_kick },            { "lock list", false, verb_lock_list },
	{ "lock break", true, verb_lock_break }, { "drain", true, verb_drain },
	{ "drain status", false, verb_drain_status }, { "undrain", true, verb_undrain },
	{ "node list", false, verb_node_list }, { "reload", true, verb_reload },
	{ "usage", false, verb_usage },
};

static json_t *answer_verb(const struct admin_asker *who, json_t *request)
{
	const char *name = text_of(request, "verb");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) != 0)
			continue;
		if (!verbs[i].changes || who->may_change)
			return verbs[i].answer(who, request);
		log_event(LOG_WARN, "admin.denied", LOG_U64("uid", who->uid), LOG_Z("verb", name));
		return refuse("denied", "only root and the server's user may change anything");
	}
	return refuse("syntax", "unknown request");
}

json_t *admin_answer(const struct admin_asker *who, struct slice line)
{
	json_t *request = json_loadb(line.ptr, line.len, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(request)) {
		json_decref(request);
		return refuse("syntax", "expected a JSON object");
	}
	json_t *answer = answer_verb(who, request);
	json_decref(request);
	return answer;
}
