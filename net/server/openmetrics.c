/* SPDX-License-Identifier: Apache-2.0 */
/* openmetrics.c - see openmetrics.h. */
#include "net/server/openmetrics.h"

#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/metrics.h"
#include "core/run/shard.h"
#include "net/fleet/fleet.h"
#include "net/listen.h"
#include "net/server/drain.h"
#include "net/server/probe.h"
#include "net/verb.h"
#include "tenancy/auth.h"
#include "tenancy/directory.h"
#include "tenancy/tenant_figure.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef PENFOLD_JEMALLOC
#include <jemalloc/jemalloc.h>
#endif

/* ---- the form ---- */

static void escaped(struct buf *out, struct slice s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (s.ptr[i] == '\\' || s.ptr[i] == '"')
			buf_printf(out, "\\%c", s.ptr[i]);
		else if (s.ptr[i] == '\n')
			buf_printf(out, "\\n");
		else
			buf_put(out, &s.ptr[i], 1);
	}
}

void om_label(struct buf *out, const char *key, struct slice value)
{
	buf_printf(out, "%s=\"", key);
	escaped(out, value);
	buf_printf(out, "\"");
}

static void header(struct buf *out, const char *name, const char *type, const char *unit, const char *help)
{
	buf_printf(out, "# TYPE penfold_%s %s\n", name, type);
	if (unit[0])
		buf_printf(out, "# UNIT penfold_%s %s\n", name, unit);
	buf_printf(out, "# HELP penfold_%s ", name);
	escaped(out, slice_str(help));
	buf_printf(out, "\n");
}

void om_family(struct buf *out, const char *name, enum om_kind kind, const char *unit, const char *help)
{
	static const char *const types[] = { [OM_COUNTER] = "counter", [OM_GAUGE] = "gauge", [OM_INFO] = "info" };
	header(out, name, types[kind], unit, help);
}

static void sample_start(struct buf *out, const char *name, const char *suffix, const char *labels)
{
	buf_printf(out, "penfold_%s%s", name, suffix);
	if (labels[0])
		buf_printf(out, "{%s}", labels);
}

void om_sample(struct buf *out, const char *name, enum om_kind kind, const char *labels, uint64_t value)
{
	static const char *const suffixes[] = { [OM_COUNTER] = "_total", [OM_GAUGE] = "", [OM_INFO] = "_info" };
	sample_start(out, name, suffixes[kind], labels);
	buf_printf(out, " %llu\n", (unsigned long long)value);
}

/* Nanoseconds as seconds, exactly. */
static void seconds(struct buf *out, uint64_t ns) { buf_printf(out, "%llu.%09llu", (unsigned long long)(ns / 1000000000), (unsigned long long)(ns % 1000000000)); }

/* ---- what METRIC_... defines ---- */

static bool ends_with(const char *name, const char *end)
{
	size_t n = strlen(name), e = strlen(end);
	return n > e && strcmp(name + n - e, end) == 0;
}

static void number(struct buf *out, bool ns, uint64_t value)
{
	if (ns)
		seconds(out, value);
	else
		buf_printf(out, "%llu", (unsigned long long)value);
}

/* One bucket for each power of two: sixteen of our steps. */
static void histogram(struct buf *out, const struct metric *m)
{
	uint64_t steps[HISTOGRAM_STEPS], sum = metric_steps(m, steps), count = 0;
	bool ns = ends_with(m->name, "_ns");
	char name[128];
	snprintf(name, sizeof name, "%.*s%s", (int)(strlen(m->name) - (ns ? 3 : 0)), m->name, ns ? "_seconds" : "");
	header(out, name, "histogram", ns ? "seconds" : "", m->help);
	for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
		uint64_t upper = histogram_upper(i);
		count += steps[i];
		if ((upper & (upper + 1)) != 0 || (ns && upper < 1000) || i == HISTOGRAM_STEPS - 1)
			continue;
		buf_printf(out, "penfold_%s_bucket{le=\"", name);
		if (ns)
			seconds(out, upper);
		else
			buf_printf(out, "%llu.0", (unsigned long long)upper); /* canonical: a float */
		buf_printf(out, "\"} %llu\n", (unsigned long long)count);
	}
	buf_printf(out, "penfold_%s_bucket{le=\"+Inf\"} %llu\npenfold_%s_count %llu\npenfold_%s_sum ", name, (unsigned long long)count, name,
		   (unsigned long long)count, name);
	number(out, ns, sum);
	buf_printf(out, "\n");
}

static void one_metric(void *arg, const struct metric *m)
{
	struct buf *out = arg;
	char name[128];
	if (m->kind == METRIC_KIND_HISTOGRAM) {
		histogram(out, m);
		return;
	}
	bool counter = m->kind == METRIC_KIND_COUNTER;
	snprintf(name, sizeof name, "%.*s", (int)(strlen(m->name) - (counter && ends_with(m->name, "_total") ? 6 : 0)), m->name);
	om_family(out, name, counter ? OM_COUNTER : OM_GAUGE, ends_with(name, "_bytes") ? "bytes" : "", m->help);
	int64_t value = metric_read(m).value;
	om_sample(out, name, counter ? OM_COUNTER : OM_GAUGE, "", value < 0 ? 0 : (uint64_t)value);
}

/* ---- what is kept per shard ---- */

struct shard_figure {
	const char *name, *unit, *help;
	enum om_kind kind;
	bool net; /* in struct net_stats, else shard_stats */
	size_t at;
};
#define RUN(member) false, offsetof(struct shard_stats, member)
#define NET(member) true, offsetof(struct net_stats, member)
static const struct shard_figure shard_figures[] = {
	{ "shard_loops", "", "turns of the loop", OM_COUNTER, RUN(loops) },
	{ "shard_completions", "", "completions from the kernel", OM_COUNTER, RUN(completions) },
	{ "shard_cq_overflows", "", "times that the completion queue was full", OM_COUNTER, RUN(cq_overflows) },
	{ "shard_enters", "", "system calls to begin and wait", OM_COUNTER, RUN(enters) },
	{ "shard_syncs", "", "syncs of files", OM_COUNTER, RUN(syncs) },
	{ "shard_accept_pauses", "", "times that there were no descriptors for a connection", OM_COUNTER, RUN(accept_pauses) },
	{ "shard_recv_starved", "", "receives that found no free buffer", OM_COUNTER, RUN(recv_starved) },
	{ "shard_stale_completions", "", "late or double completions, dropped", OM_COUNTER, RUN(stale_completions) },
	{ "shard_lag_nanoseconds", "nanoseconds", "how long a turn took of late", OM_GAUGE, RUN(lag_ns) },
	{ "shard_lag_max_nanoseconds", "nanoseconds", "the longest turn since the start", OM_GAUGE, RUN(lag_max_ns) },
	{ "sent_memory_bytes", "bytes", "sent from memory", OM_COUNTER, RUN(sent_memory_bytes) },
	{ "sent_read_bytes", "bytes", "sent from files, read into memory", OM_COUNTER, RUN(sent_read_bytes) },
	{ "sent_splice_bytes", "bytes", "sent from files without copying", OM_COUNTER, RUN(sent_splice_bytes) },
	{ "connections_accepted", "", "connections taken", OM_COUNTER, NET(accepted) },
	{ "connections_refused", "", "connections closed at once: too many, or draining", OM_COUNTER, NET(refused) },
	{ "accept_errors", "", "accepts that failed", OM_COUNTER, NET(accept_errors) },
	{ "connections_open", "", "connections open", OM_GAUGE, NET(open) },
	{ "sessions_moved", "", "sessions that went to another shard", OM_COUNTER, NET(moved) },
	{ "sessions_ended_client", "", "ended by the client", OM_COUNTER, NET(closed_by_client) },
	{ "sessions_ended_idle", "", "ended after the idle time", OM_COUNTER, NET(closed_idle) },
	{ "sessions_ended_stalled", "", "ended: the client took no output", OM_COUNTER, NET(closed_stalled) },
	{ "sessions_ended_protocol", "", "ended by the protocol, as by QUIT", OM_COUNTER, NET(closed_by_protocol) },
	{ "sessions_ended_stopping", "", "ended by a stop, a drain or a kick", OM_COUNTER, NET(closed_stopping) },
	{ "sessions_ended_broken", "", "ended: a reply could not be completed", OM_COUNTER, NET(closed_broken) },
	{ "lines", "", "lines from clients", OM_COUNTER, NET(lines) },
	{ "received_bytes", "bytes", "from clients", OM_COUNTER, NET(bytes_in) },
	{ "sent_bytes", "bytes", "to clients", OM_COUNTER, NET(bytes_out) },
};

static void shards(struct buf *out)
{
	struct shard_stats run[SHARDS_MAX];
	struct net_stats net[SHARDS_MAX];
	unsigned count = probe_hold();
	for (unsigned i = 0; i < count; i++) {
		shard_stats(i, &run[i]);
		net_stats(i, &net[i]);
	}
	probe_let();
	for (size_t f = 0; count && f < ARRAY_LEN(shard_figures); f++) {
		const struct shard_figure *s = &shard_figures[f];
		om_family(out, s->name, s->kind, s->unit, s->help);
		for (unsigned i = 0; i < count; i++) {
			const char *from = s->net ? (const char *)&net[i] : (const char *)&run[i];
			char label[32];
			uint64_t value;
			memcpy(&value, from + s->at, sizeof value);
			snprintf(label, sizeof label, "shard=\"%u\"", i);
			om_sample(out, s->name, s->kind, label, value);
		}
	}
}

/* ---- commands and tenants ---- */

/* Every other bucket of ours; verbs that nobody has used yet are left out. */
static void one_verb(void *arg, const struct verb_figure *f)
{
	struct buf *out = arg;
	uint64_t count = 0;
	char labels[64];
	if (!f->count)
		return;
	snprintf(labels, sizeof labels, "protocol=\"%s\",verb=\"%s\"", f->protocol, f->verb);
	for (unsigned i = 0; i + 1 < VERB_BUCKETS; i++) {
		count += f->cells.bucket[i];
		if (i % 2)
			continue;
		buf_printf(out, "penfold_command_seconds_bucket{%s,le=\"", labels);
		seconds(out, UINT64_C(1) << (VERB_FIRST_BITS + i));
		buf_printf(out, "\"} %llu\n", (unsigned long long)count);
	}
	buf_printf(out, "penfold_command_seconds_bucket{%s,le=\"+Inf\"} %llu\npenfold_command_seconds_count{%s} %llu\npenfold_command_seconds_sum{%s} ", labels,
		   (unsigned long long)f->count, labels, (unsigned long long)f->count, labels);
	seconds(out, f->cells.sum_ns);
	buf_printf(out, "\n");
}

static void commands(struct buf *out)
{
	header(out, "command_seconds", "histogram", "seconds", "from a command's last octet to the end of its work, without what the client lets wait; by verb");
	verbs_walk(one_verb, out);
}

static void tenants(struct buf *out)
{
	static const struct {
		const char *name, *help;
	} families[] = { [TENANT_LOGINS] = { "tenant_logins", "logins that entered a mailbox; the busiest tenants, the rest as other" },
			 [TENANT_TURNED_AWAY] = { "tenant_turned_away", "logins that were right and could not be let in" },
			 [TENANT_DELIVERIES] = { "tenant_deliveries", "copies of messages stored" },
			 [TENANT_DELIVERY_REFUSALS] = { "tenant_delivery_refusals", "copies refused after the data" } };
	struct tenant_figure *top = xcalloc(TENANT_FIGURE_TOP + 1, sizeof *top);
	unsigned count = tenant_figures(top, &top[TENANT_FIGURE_TOP]);
	for (unsigned f = 0; f < TENANT_COUNTS; f++) {
		om_family(out, families[f].name, OM_COUNTER, "", families[f].help);
		for (unsigned i = 0; i <= count; i++) {
			const struct tenant_figure *t = &top[i < count ? i : TENANT_FIGURE_TOP];
			struct buf label;
			buf_init(&label, KIB(4));
			/* a tenant may be called "other", too: the rest alone has no id */
			if (i < count)
				buf_printf(&label, "id=\"%llu\",", (unsigned long long)t->id);
			om_label(&label, "tenant", slice_str(t->name));
			buf_put(&label, "", 1);
			om_sample(out, families[f].name, OM_COUNTER, buf_slice(&label).ptr, t->count[f]);
			buf_release(&label);
		}
	}
	free(top);
}

/* ---- the process ---- */

static void one(struct buf *out, const char *name, enum om_kind kind, const char *unit, uint64_t value, const char *help)
{
	om_family(out, name, kind, unit, help);
	om_sample(out, name, kind, "", value);
}

static void tenancy(struct buf *out)
{
	struct auth_stats auth;
	struct directory_stats d;
	auth_stats(&auth);
	directory_stats(&d);
	one(out, "auth_verified_hits", OM_COUNTER, "", auth.verified_hits, "logins verified without a hash");
	one(out, "auth_hashes", OM_COUNTER, "", auth.hashes, "password hashes computed");
	one(out, "auth_refused", OM_COUNTER, "", auth.refused, "logins refused: wrong name or password");
	one(out, "auth_denied", OM_COUNTER, "", auth.denied, "logins denied: suspended, or protocol off");
	one(out, "auth_shed", OM_COUNTER, "", auth.shed, "logins that found no turn at a hash in time");
	one(out, "auth_hashing", OM_GAUGE, "", auth.hashing, "hashes under way");
	one(out, "auth_waiting", OM_GAUGE, "", auth.waiting, "logins waiting for their turn at a hash");
	one(out, "directory_hits", OM_COUNTER, "", d.hits, "look-ups answered by the cache");
	one(out, "directory_misses", OM_COUNTER, "", d.misses, "look-ups asked of the directory");
	one(out, "directory_joined", OM_COUNTER, "", d.joined, "look-ups that shared another's question");
	one(out, "directory_stale_served", OM_COUNTER, "", d.stale_served, "stale answers served while the directory was down");
	one(out, "directory_failed", OM_COUNTER, "", d.failed, "look-ups that failed");
	one(out, "directory_changes", OM_COUNTER, "", d.changes, "changes of the directory seen");
	one(out, "directory_cache_bytes", OM_GAUGE, "bytes", d.cache_bytes, "memory of the directory's cache");
	one(out, "directory_cache_entries", OM_GAUGE, "", d.cache_entries, "entries in it");
}

#ifdef PENFOLD_JEMALLOC
static uint64_t jemalloc_value(const char *name)
{
	size_t value = 0, bytes = sizeof value;
	return mallctl(name, &value, &bytes, NULL, 0) == 0 ? value : 0;
}
#endif

static void memory(struct buf *out)
{
#ifdef PENFOLD_JEMALLOC
	uint64_t epoch = 1;
	size_t bytes = sizeof epoch;
	(void)mallctl("epoch", &epoch, &bytes, &epoch, bytes); /* else the figures are those of the last time */
	one(out, "memory_allocated_bytes", OM_GAUGE, "bytes", jemalloc_value("stats.allocated"), "allocated by the server");
	one(out, "memory_active_bytes", OM_GAUGE, "bytes", jemalloc_value("stats.active"), "in pages that hold some of it");
	one(out, "memory_metadata_bytes", OM_GAUGE, "bytes", jemalloc_value("stats.metadata"), "the allocator's own");
	one(out, "memory_resident_bytes", OM_GAUGE, "bytes", jemalloc_value("stats.resident"), "resident by the allocator");
#else
	(void)out;
#endif
}

static void process(struct buf *out)
{
	uint64_t descriptors = 0;
	DIR *d = opendir("/proc/self/fd");
	while (d && readdir(d))
		descriptors++;
	if (d)
		closedir(d);
	one(out, "descriptors_open", OM_GAUGE, "", descriptors > 3 ? descriptors - 3 : 0, "open file descriptors");
	one(out, "uptime_seconds", OM_GAUGE, "seconds", probe_uptime_s(), "since the start");
	one(out, "draining", OM_GAUGE, "", drain_wanted(), "1 while the server is being drained");
	one(out, "ready", OM_GAUGE, "", probe_ready(NULL), "1 while /readyz says yes");
	one(out, "fleet_lease_left_milliseconds", OM_GAUGE, "milliseconds", fleet_lease_left_ms(probe_boot_ns()), "until the deadline of this node's lease; 0: past it, or no fleet");
	one(out, "log_lines_dropped", OM_COUNTER, "", log_dropped(), "lines of the log that were lost");
	char backend[48];
	snprintf(backend, sizeof backend, "backend=\"%s\"", shard_backend());
	om_family(out, "io_backend", OM_INFO, "", "the door to the kernel: io_uring or epoll");
	om_sample(out, "io_backend", OM_INFO, backend, 1);
	om_family(out, "build", OM_INFO, "", "what runs here");
	om_sample(out, "build", OM_INFO, "version=\"" PENFOLD_VERSION "\"", 1);
}

void openmetrics_write(struct buf *out)
{
	metrics_each(one_metric, out);
	shards(out);
	commands(out);
	tenants(out);
	tenancy(out);
	memory(out);
	process(out);
	buf_printf(out, "# EOF\n");
}
