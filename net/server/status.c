/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - see status.h: the figures, as JSON. */
#include "net/server/status.h"

#include "core/base/limits.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/listen.h"
#include "net/server/probe.h"
#include "net/verb.h"
#include "tenancy/auth.h"
#include "tenancy/directory.h"
#include "tenancy/tenant_figure.h"

#include <stdlib.h>
#include <string.h>

static const char *node_name = "localhost";

void status_configure(const char *node) { node_name = node; }

static json_t *number(uint64_t n) { return json_integer((json_int_t)min_u64(n, INT64_MAX)); }
static json_t *milliseconds(uint64_t ns) { return json_real((double)ns / 1e6); }

/* Bytes that are no UTF-8 become '?'. */
static json_t *text(const char *z)
{
	json_t *s = json_string(z);
	if (s)
		return s;
	char *copy = xstrdup(z);
	for (char *p = copy; *p; p++)
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	s = json_string(copy);
	free(copy);
	return s;
}

/* ---- totals and rates ---- */

enum { LOGINS, LOGINS_REFUSED, IN_USE, DELIVERIES, DELIVERIES_REFUSED, MESSAGES_SENT, SLOW, TOTALS };
/* What the keys of `totals` are made of; a NULL ends a sum. */
static const struct {
	const char *key, *metric[3];
} totals[TOTALS] = {
	[LOGINS] = { "logins", { "pop3_logins_total", "imap_logins_total", NULL } },
	[LOGINS_REFUSED] = { "logins_refused", { "pop3_logins_refused_total", "imap_logins_refused_total", NULL } },
	[IN_USE] = { "in_use", { "pop3_in_use_total", NULL, NULL } },
	[DELIVERIES] = { "deliveries", { "lmtp_copies_stored_total", NULL, NULL } },
	[DELIVERIES_REFUSED] = { "deliveries_refused", { "lmtp_copies_refused_total", NULL, NULL } },
	[MESSAGES_SENT] = { "messages_sent", { "pop3_messages_sent_total", NULL, NULL } },
	[SLOW] = { "slow_commands", { "slow_commands_total", NULL, NULL } },
};

struct sample {
	uint64_t at_ns, total[TOTALS];
};
static struct {
	struct sample last, before; /* the rates are of `before` to now; `last` becomes it when it is old enough */
} seen;

static void one_total(void *arg, const struct metric *m)
{
	struct sample *s = arg;
	for (unsigned t = 0; t < TOTALS; t++)
		for (unsigned i = 0; i < ARRAY_LEN(totals[t].metric) && totals[t].metric[i]; i++)
			if (!strcmp(m->name, totals[t].metric[i]))
				s->total[t] += (uint64_t)metric_read(m).value;
}

static void add_totals(json_t *o)
{
	struct sample now = { .at_ns = probe_boot_ns() };
	json_t *sums = json_object(), *rates = json_object();
	metrics_each(one_total, &now);
	if (!seen.last.at_ns || now.at_ns - seen.last.at_ns >= STATUS_RATE_S_MIN * 1000000000ull) {
		seen.before = seen.last;
		seen.last = now;
	}
	double over_s = seen.before.at_ns ? (double)(now.at_ns - seen.before.at_ns) / 1e9 : 0;
	for (unsigned t = 0; t < TOTALS; t++) {
		json_object_set_new(sums, totals[t].key, number(now.total[t]));
		json_object_set_new(rates, totals[t].key, over_s > 0 ? json_real((double)(now.total[t] - seen.before.total[t]) / over_s) : json_null());
	}
	json_object_set_new(o, "totals", sums);
	json_object_set_new(o, "rate_over_s", over_s > 0 ? json_real(over_s) : json_null());
	json_object_set_new(o, "per_second", rates);
}

/* ---- shards ---- */

static json_t *shard_json(unsigned i, uint64_t *open, uint64_t *accepted, uint64_t *refused)
{
	struct shard_stats run;
	struct net_stats net;
	shard_stats(i, &run);
	net_stats(i, &net);
	*open += net.open;
	*accepted += net.accepted;
	*refused += net.refused;
	json_t *o = json_pack("{s:i}", "shard", (int)i);
	json_object_set_new(o, "connections", number(net.open));
	json_object_set_new(o, "commands", number(net.lines));
	json_object_set_new(o, "lag_ms", milliseconds(run.lag_ns));
	json_object_set_new(o, "lag_max_ms", milliseconds(run.lag_max_ns));
	json_object_set_new(o, "syncs", number(run.syncs));
	json_object_set_new(o, "cq_overflows", number(run.cq_overflows));
	json_object_set_new(o, "received_bytes", number(net.bytes_in));
	json_object_set_new(o, "sent_bytes", number(net.bytes_out));
	return o;
}

static void add_shards(json_t *o)
{
	uint64_t open = 0, accepted = 0, refused = 0;
	json_t *list = json_array();
	unsigned count = probe_hold();
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, shard_json(i, &open, &accepted, &refused));
	probe_let();
	json_object_set_new(o, "connections", json_pack("{s:I, s:I, s:I}", "open", (json_int_t)open, "accepted", (json_int_t)accepted, "refused",
							(json_int_t)refused));
	json_object_set_new(o, "shards", list);
}

/* ---- commands ---- */

static void one_command(void *arg, const struct verb_figure *f)
{
	json_t *list = arg;
	if (!f->count)
		return;
	json_t *o = json_pack("{s:s, s:s}", "protocol", f->protocol, "verb", f->verb);
	json_object_set_new(o, "count", number(f->count));
	json_object_set_new(o, "mean_ms", milliseconds(f->cells.sum_ns / f->count));
	json_object_set_new(o, "p50_ms", milliseconds(verb_quantile_ns(f, 500)));
	json_object_set_new(o, "p99_ms", milliseconds(verb_quantile_ns(f, 990)));
	json_array_append_new(list, o);
}

static json_t *slow_json(const struct verb_slow *s)
{
	json_t *o = json_pack("{s:s, s:s, s:I, s:I, s:I}", "protocol", s->protocol, "verb", s->verb, "ms", (json_int_t)s->took_ms, "at_ms",
			      (json_int_t)s->at_wall_ms, "session", (json_int_t)s->session);
	json_t *waited = json_object();
	json_object_set_new(o, "account", s->account[0] ? text(s->account) : json_null());
	json_object_set_new(o, "tenant", s->tenant[0] ? text(s->tenant) : json_null());
	json_object_set_new(o, "peer", text(s->peer));
	for (unsigned i = 0; i < FIBER_WAITS; i++)
		json_object_set_new(waited, verb_wait_words[i], number(s->waited_ms[i]));
	json_object_set_new(o, "waited_ms", waited);
	return o;
}

static void add_commands(json_t *o)
{
	struct verb_slow slow[VERB_SLOW_KEPT];
	json_t *commands = json_array(), *slowest = json_array();
	verbs_walk(one_command, commands);
	unsigned count = verb_slow_last(slow);
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(slowest, slow_json(&slow[i]));
	json_object_set_new(o, "commands", commands);
	json_object_set_new(o, "slow", slowest);
}

/* ---- tenants, and what lies behind ---- */

static json_t *tenant_json(const struct tenant_figure *t)
{
	json_t *o = json_object();
	json_object_set_new(o, "id", t->id ? number(t->id) : json_null());
	json_object_set_new(o, "tenant", text(t->name));
	json_object_set_new(o, "logins", number(t->count[TENANT_LOGINS]));
	json_object_set_new(o, "turned_away", number(t->count[TENANT_TURNED_AWAY]));
	json_object_set_new(o, "deliveries", number(t->count[TENANT_DELIVERIES]));
	json_object_set_new(o, "delivery_refusals", number(t->count[TENANT_DELIVERY_REFUSALS]));
	return o;
}

static void add_tenants(json_t *o)
{
	struct tenant_figure *top = xcalloc(TENANT_FIGURE_TOP + 1, sizeof *top);
	json_t *list = json_array();
	unsigned count = tenant_figures(top, &top[TENANT_FIGURE_TOP]);
	for (unsigned i = 0; i < count; i++)
		json_array_append_new(list, tenant_json(&top[i]));
	json_array_append_new(list, tenant_json(&top[TENANT_FIGURE_TOP]));
	json_object_set_new(o, "tenants", list);
	free(top);
}

static void one_latency(void *arg, const struct metric *m)
{
	static const char *const names[][2] = { { "run_sync_ns", "sync of a file" }, { "store_commit_ns", "commit" }, { "lmtp_deliver_ns", "delivery" },
						{ "run_lag_ns", "turn of a shard" } };
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(m->name, names[i][0]) != 0)
			continue;
		struct metric_value v = metric_read(m);
		json_t *o = json_pack("{s:s}", "what", names[i][1]);
		json_object_set_new(o, "count", number(v.count));
		json_object_set_new(o, "p50_ms", milliseconds(v.p50));
		json_object_set_new(o, "p99_ms", milliseconds(v.p99));
		json_object_set_new(o, "max_ms", milliseconds(v.max));
		json_array_append_new(arg, o);
	}
}

static void add_behind(json_t *o)
{
	struct auth_stats a;
	struct directory_stats d;
	json_t *list = json_array();
	auth_stats(&a);
	directory_stats(&d);
	metrics_each(one_latency, list);
	json_object_set_new(o, "latencies", list);
	json_object_set_new(o, "passwords", json_pack("{s:I, s:I, s:I, s:I, s:I}", "from_cache", (json_int_t)a.verified_hits, "hashed", (json_int_t)a.hashes,
						      "hashing", (json_int_t)a.hashing, "waiting", (json_int_t)a.waiting, "shed", (json_int_t)a.shed));
	json_object_set_new(o, "directory", json_pack("{s:I, s:I, s:I}", "hits", (json_int_t)d.hits, "misses", (json_int_t)d.misses, "failed",
						      (json_int_t)d.failed));
}

json_t *status_json(void)
{
	const char *why = "";
	bool ready = probe_ready(&why);
	json_t *o = json_pack("{s:s, s:s, s:b}", "version", PENFOLD_VERSION, "node", node_name, "ready", ready);
	json_object_set_new(o, "state", json_string(ready ? "serving" : why));
	json_object_set_new(o, "uptime_s", number(probe_uptime_s()));
	add_shards(o);
	add_totals(o);
	add_behind(o);
	add_commands(o);
	add_tenants(o);
	return o;
}
