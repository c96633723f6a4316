/* SPDX-License-Identifier: Apache-2.0 */
/*
 * status_page.c - status.h's JSON as a page that can be read on a wall and on a telephone.
 *
 * Every text goes through put_text, whoever chose it; every number through put_number.  There is no other way into the page.
 */
#include "net/server/status.h"

#include "core/base/limits.h"

#include <string.h>
#include <time.h>

#define LIT(out, text) buf_put(out, text, sizeof(text) - 1)

static const char style[] =
	":root{color-scheme:light dark;--bg:#f5f6f8;--card:#fff;--ink:#1a2230;--dim:#5c6675;--line:#e1e5ea;--good:#0f7b45;--bad:#b3261e;--bar:#3b6fd4}"
	"@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1b212a;--ink:#e6eaf0;--dim:#98a3b3;--line:#2c3541;--good:#56c98a;--bad:#ff8a80;--bar:#6f9df0}}"
	"*{box-sizing:border-box}body{margin:0 auto;max-width:1180px;padding:20px;background:var(--bg);color:var(--ink);font:14px/1.45 system-ui,sans-serif}"
	"h1{font-size:20px;margin:0}h2{font-size:15px;margin:0 0 10px}header{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:baseline;margin-bottom:16px}"
	".dim,small{color:var(--dim)}.good{color:var(--good);font-weight:600}.bad{color:var(--bad);font-weight:600}"
	".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(240px,1fr));gap:12px;margin-bottom:12px}"
	".tile,section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:12px 14px}"
	".tile b{display:block;font-size:24px;line-height:1.25;font-variant-numeric:tabular-nums}"
	".two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:12px}section{margin-bottom:12px;overflow-x:auto;min-width:0}"
	"table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{text-align:right;padding:4px 8px;border-top:1px solid var(--line);white-space:nowrap}"
	"th{color:var(--dim);font-weight:500;border-top:0}th.l,td.l{text-align:left}td.name{white-space:normal;overflow-wrap:anywhere}"
	".bar{display:inline-block;height:8px;border-radius:4px;background:var(--bar);vertical-align:middle}a{color:inherit}footer{color:var(--dim)}";

/* ---- the only ways in ---- */

static void put_text(struct buf *out, const char *z)
{
	for (; *z; z++) {
		switch (*z) {
		case '<': LIT(out, "&lt;"); break;
		case '>': LIT(out, "&gt;"); break;
		case '&': LIT(out, "&amp;"); break;
		case '"': LIT(out, "&quot;"); break;
		case '\'': LIT(out, "&#39;"); break;
		default:
			if ((unsigned char)*z >= 32 && *z != 127)
				buf_put(out, z, 1);
			else
				LIT(out, "\xef\xbf\xbd");
		}
	}
}

static double value_of(const json_t *v) { return json_is_number(v) ? json_number_value(v) : 0; }

/* 1234567 as 1 234 567, with thin spaces that do not break. */
static void put_count(struct buf *out, uint64_t n)
{
	char digits[24];
	size_t len = put_u64(digits, n);
	for (size_t i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			LIT(out, "&#8239;");
		buf_put(out, &digits[i], 1);
	}
}

static void put_number(struct buf *out, const json_t *v)
{
	double d = value_of(v);
	if (json_is_null(v) || !v)
		LIT(out, "&ndash;");
	else if (json_is_integer(v))
		put_count(out, (uint64_t)json_integer_value(v));
	else
		buf_printf(out, d >= 100 ? "%.0f" : d >= 10 ? "%.1f" : d >= 0.1 ? "%.2f" : d > 0 ? "%.3f" : "0", d);
}

static void put_bytes(struct buf *out, double n)
{
	static const char *const units[] = { "B", "KB", "MB", "GB", "TB", "PB" };
	unsigned u = 0;
	for (; n >= 1000 && u + 1 < ARRAY_LEN(units); u++)
		n /= 1000;
	buf_printf(out, n >= 100 || !u ? "%.0f %s" : "%.1f %s", n, units[u]);
}

/* ---- pieces ---- */

static const json_t *get(const json_t *o, const char *key) { return json_object_get(o, key); }
static const char *string(const json_t *o, const char *key)
{
	const char *z = json_string_value(get(o, key));
	return z ? z : "";
}

static void cell(struct buf *out, const json_t *o, const char *key)
{
	LIT(out, "<td>");
	put_number(out, get(o, key));
}

static void text_cell(struct buf *out, const char *z)
{
	LIT(out, "<td class=\"l name\">");
	put_text(out, z[0] ? z : "-");
}

static void tile(struct buf *out, const char *what, const json_t *all, const char *key)
{
	LIT(out, "<div class=tile><span class=dim>");
	put_text(out, what);
	LIT(out, "</span><b>");
	put_number(out, get(get(all, "totals"), key));
	LIT(out, "</b><small>");
	if (json_is_number(get(get(all, "per_second"), key))) {
		put_number(out, get(get(all, "per_second"), key));
		LIT(out, " a second");
	} else {
		LIT(out, "since the start");
	}
	LIT(out, "</small></div>");
}

static void top(struct buf *out, const json_t *all)
{
	uint64_t s = (uint64_t)value_of(get(all, "uptime_s"));
	bool ready = json_is_true(get(all, "ready"));
	buf_printf(out, "<header><h1>Penfold <span class=dim>on</span> ");
	put_text(out, string(all, "node"));
	buf_printf(out, "</h1><span class=%s id=state>", ready ? "good" : "bad");
	put_text(out, string(all, "state"));
	LIT(out, "</span><span class=dim>version ");
	put_text(out, string(all, "version"));
	buf_printf(out, ", up %llud %02llu:%02llu:%02llu</span></header>", (unsigned long long)(s / 86400), (unsigned long long)(s / 3600 % 24),
		   (unsigned long long)(s / 60 % 60), (unsigned long long)(s % 60));
}

static void tiles(struct buf *out, const json_t *all)
{
	const json_t *c = get(all, "connections");
	LIT(out, "<div class=tiles><div class=tile><span class=dim>connections open</span><b id=open>");
	put_number(out, get(c, "open"));
	LIT(out, "</b><small>");
	put_number(out, get(c, "accepted"));
	LIT(out, " taken, ");
	put_number(out, get(c, "refused"));
	LIT(out, " refused</small></div>");
	tile(out, "logins", all, "logins");
	tile(out, "wrong name or password", all, "logins_refused");
	tile(out, "maildrop in use", all, "in_use");
	tile(out, "deliveries", all, "deliveries");
	tile(out, "deliveries refused", all, "deliveries_refused");
	tile(out, "messages fetched (POP3)", all, "messages_sent");
	tile(out, "slow commands", all, "slow_commands");
	LIT(out, "</div>");
}

/* ---- tables ---- */

static void waited(struct buf *out, const json_t *s)
{
	const char *key;
	json_t *v;
	json_int_t most = 0, sum = 0, took = json_integer_value(get(s, "ms"));
	const char *what = "nothing: it worked";
	json_object_foreach(json_object_get(s, "waited_ms"), key, v) {
		sum += json_integer_value(v);
		if (json_integer_value(v) > most) {
			most = json_integer_value(v);
			what = key;
		}
	}
	if (most < took - sum)
		what = "its turn, or it worked";
	LIT(out, "<td class=l>");
	put_text(out, what);
	if (most >= took - sum && most) {
		LIT(out, " <small>");
		put_count(out, (uint64_t)most);
		LIT(out, " ms</small>");
	}
}

static void slow(struct buf *out, const json_t *all)
{
	size_t i;
	json_t *s;
	LIT(out, "<section id=slow><h2>Slow lately, and what it waited for</h2>");
	if (!json_array_size(get(all, "slow"))) {
		LIT(out, "<p class=dim>No command was slow.</p></section>");
		return;
	}
	LIT(out, "<table><tr><th class=l>UTC<th class=l>account<th class=l>tenant<th class=l>from<th class=l>command<th>ms<th class=l>waited for");
	json_array_foreach(get(all, "slow"), i, s) {
		time_t at = (time_t)(json_integer_value(get(s, "at_ms")) / 1000);
		struct tm tm;
		char clock[16] = "";
		if (gmtime_r(&at, &tm))
			strftime(clock, sizeof clock, "%H:%M:%S", &tm);
		LIT(out, "<tr><td class=l>");
		put_text(out, clock);
		text_cell(out, string(s, "account"));
		text_cell(out, string(s, "tenant"));
		text_cell(out, string(s, "peer"));
		LIT(out, "<td class=l>");
		put_text(out, string(s, "protocol"));
		LIT(out, " ");
		put_text(out, string(s, "verb"));
		cell(out, s, "ms");
		waited(out, s);
	}
	LIT(out, "</table></section>");
}

static void commands(struct buf *out, const json_t *all)
{
	size_t i;
	json_t *c;
	double most = 0;
	LIT(out, "<section id=commands><h2>Commands</h2><table><tr><th class=l>command<th>count<th>mean ms<th>half within<th>99 % within<th class=l>time in all");
	json_array_foreach(get(all, "commands"), i, c)
		most = value_of(get(c, "mean_ms")) * value_of(get(c, "count")) > most ? value_of(get(c, "mean_ms")) * value_of(get(c, "count")) : most;
	json_array_foreach(get(all, "commands"), i, c) {
		double all_ms = value_of(get(c, "mean_ms")) * value_of(get(c, "count"));
		LIT(out, "<tr><td class=l>");
		put_text(out, string(c, "protocol"));
		LIT(out, " ");
		put_text(out, string(c, "verb"));
		cell(out, c, "count");
		cell(out, c, "mean_ms");
		cell(out, c, "p50_ms");
		cell(out, c, "p99_ms");
		buf_printf(out, "<td class=l><span class=bar style=\"width:%.0fpx\"></span>", most > 0 ? 1 + 79 * all_ms / most : 1);
	}
	LIT(out, "</table></section>");
}

static void latencies(struct buf *out, const json_t *all)
{
	size_t i;
	json_t *l;
	LIT(out, "<section><h2>Behind them</h2><table><tr><th class=l>what<th>count<th>half within, ms<th>99 % within<th>longest");
	json_array_foreach(get(all, "latencies"), i, l) {
		LIT(out, "<tr><td class=l>");
		put_text(out, string(l, "what"));
		cell(out, l, "count");
		cell(out, l, "p50_ms");
		cell(out, l, "p99_ms");
		cell(out, l, "max_ms");
	}
	LIT(out, "</table><p class=dim>Passwords: ");
	put_number(out, get(get(all, "passwords"), "from_cache"));
	LIT(out, " from the cache, ");
	put_number(out, get(get(all, "passwords"), "hashed"));
	LIT(out, " hashed, ");
	put_number(out, get(get(all, "passwords"), "waiting"));
	LIT(out, " waiting, ");
	put_number(out, get(get(all, "passwords"), "shed"));
	LIT(out, " shed.<br>Directory: ");
	put_number(out, get(get(all, "directory"), "hits"));
	LIT(out, " from the cache, ");
	put_number(out, get(get(all, "directory"), "misses"));
	LIT(out, " asked, ");
	put_number(out, get(get(all, "directory"), "failed"));
	LIT(out, " failed.</p></section>");
}

static void shards(struct buf *out, const json_t *all)
{
	size_t i;
	json_t *s;
	LIT(out, "<section id=shards><h2>Shards</h2><table><tr><th>shard<th>connections<th>lines<th>turn, ms<th>longest<th>syncs<th>in<th>out");
	json_array_foreach(get(all, "shards"), i, s) {
		LIT(out, "<tr>");
		cell(out, s, "shard");
		cell(out, s, "connections");
		cell(out, s, "commands");
		cell(out, s, "lag_ms");
		cell(out, s, "lag_max_ms");
		cell(out, s, "syncs");
		LIT(out, "<td>");
		put_bytes(out, value_of(get(s, "received_bytes")));
		LIT(out, "<td>");
		put_bytes(out, value_of(get(s, "sent_bytes")));
	}
	LIT(out, "</table></section>");
}

static void tenants(struct buf *out, const json_t *all)
{
	size_t i;
	json_t *t;
	LIT(out, "<section id=tenants><h2>Tenants</h2><table><tr><th class=l>tenant<th>logins<th>turned away<th>deliveries<th>refused");
	json_array_foreach(get(all, "tenants"), i, t) {
		LIT(out, "<tr>");
		if (json_is_null(get(t, "id"))) {
			LIT(out, "<td class=l><i class=dim>all others</i>");
		} else {
			text_cell(out, string(t, "tenant"));
		}
		cell(out, t, "logins");
		cell(out, t, "turned_away");
		cell(out, t, "deliveries");
		cell(out, t, "delivery_refusals");
	}
	LIT(out, "</table></section>");
}

void status_page_write(struct buf *out)
{
	json_t *all = status_json();
	LIT(out, "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width,initial-scale=1\">");
	buf_printf(out, "<meta http-equiv=refresh content=%d><link rel=icon href=\"data:,\"><title>Penfold on ", STATUS_REFRESH_S);
	put_text(out, string(all, "node"));
	LIT(out, "</title><style>");
	buf_put(out, style, sizeof style - 1);
	LIT(out, "</style></head><body>");
	top(out, all);
	tiles(out, all);
	slow(out, all);
	LIT(out, "<div class=two><div>");
	commands(out, all);
	LIT(out, "</div><div>");
	shards(out, all);
	latencies(out, all);
	tenants(out, all);
	LIT(out, "</div></div>");
	buf_printf(out, "<footer>Counts are since the start of this process; the page loads itself every %d seconds. The same for programs: "
			"<a href=\"/status.json\">/status.json</a>, <a href=\"/metrics\">/metrics</a>.</footer></body></html>\n",
		   STATUS_REFRESH_S);
	json_decref(all);
}
