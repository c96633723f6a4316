# SPDX-License-Identifier: Apache-2.0
"""page: the report as one HTML file without any other: no script, no font, no picture from elsewhere.

Every number stands in a <data> element whose id is its key in figures.derive() and whose value is the number before rounding; marks
of plots carry theirs as attributes. A test holds all of them against the raw data."""

from html import escape

from . import figures, judge, plot, workload

STYLE = """
:root{--bg:#fbfbf9;--card:#fff;--ink:#1c1e21;--soft:#5d646d;--line:#dfe1e4;--c0:#2563b8;--c1:#c2570c;--c2:#7a3fb0;--c3:#0f7f72;--c4:#a8326b;--c5:#5b6b00;--bad:#b3261e;--good:#1d7a3c;--over:#b3261e12;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--bg:#14161a;--card:#1c1f25;--ink:#e8eaed;--soft:#9aa3ad;--line:#333942;--c0:#74a9f0;--c1:#f0975a;--c2:#c39bee;--c3:#5cc7b8;--c4:#ef8fbb;--c5:#c0cf5c;--bad:#ff8a80;--good:#7ccf95;--over:#ff8a8018}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;line-height:1.25;margin:0 0 4px}h2{font-size:18px;margin:38px 0 6px}h3{font-size:15px;margin:0 0 6px}
p{margin:6px 0;max-width:78ch}.soft,small,figcaption{color:var(--soft)}.lead{font-size:18px;line-height:1.5;margin:16px 0}.lead data,.tile data{font-weight:650}
data{font-variant-numeric:tabular-nums}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:18px 0}
.tile,figure,.box{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:14px 16px;margin:0}.tile b{display:block;font-size:24px;line-height:1.25}.tile span{font-size:13px;color:var(--soft)}
.two{align-items:start;display:grid;grid-template-columns:repeat(auto-fit,minmax(420px,1fr));gap:14px}@media (max-width:480px){.two{grid-template-columns:1fr}}figcaption{font-size:13px;margin-top:4px}
svg{width:100%;height:auto;display:block}svg text{font:12px system-ui,sans-serif;fill:var(--soft)}svg .name{fill:var(--ink);font-size:13px}svg .note{font-size:11px;fill:var(--bad)}svg .label{font-weight:650;fill:var(--cc)}
.grid{stroke:var(--line);stroke-width:1}.axis{stroke:var(--soft);stroke-width:1}.goal{stroke:var(--bad);stroke-width:1.5}.over{fill:var(--over)}.ideal{stroke:var(--soft);stroke-dasharray:4 4;fill:none}
.line{fill:none;stroke:var(--cc);stroke-width:2;opacity:.55}.found{stroke:var(--cc);stroke-width:1.5;stroke-dasharray:2 3}.mark{fill:var(--cc);stroke:var(--cc);stroke-width:1.6}.mark.missed{fill:var(--card)}.mark.doubt{fill:var(--card);stroke:var(--soft)}.whisker{stroke:var(--cc);stroke-width:3;opacity:.35}
.bar{fill:var(--c0)}.bar.full{fill:var(--c1)}.c0{--cc:var(--c0)}.c1{--cc:var(--c1)}.c2{--cc:var(--c2)}.c3{--cc:var(--c3)}.c4{--cc:var(--c4)}.c5{--cc:var(--c5)}
.key{font-size:13px;color:var(--soft)}.key i{display:inline-block;width:10px;height:10px;border-radius:50%;border:2px solid var(--cc,var(--soft));background:var(--cc);margin:0 5px 0 14px}.key i:first-child{margin-left:0}.key i.missed,.key i.doubt{background:none}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:14px;width:100%}th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}th{color:var(--soft);font-weight:500;vertical-align:bottom}th:first-child,td:first-child{text-align:left;padding-left:0}td:first-child small{white-space:normal;display:inline-block;min-width:150px}
.dense th,.dense td{padding:4px 6px;font-size:13px}.miss{color:var(--bad)}.ok{color:var(--good)}.warn{border-left:4px solid var(--c1);margin:8px 0}details{margin:10px 0}summary{cursor:pointer;color:var(--soft)}code{font:13px ui-monospace,monospace}pre{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px}ul{padding-left:20px;max-width:82ch}
"""

RESOURCES = {"machine": "CPU, machine", "cpu": "CPU, server", "disk_bytes": "disk, octets", "disk_syncs": "disk, syncs", "network": "network", "memory": "memory"}

LOADS = (3, 2, 4)  # colours of 80, 100 and 120 %


class Page:
    def __init__(self, f, raw, settings):
        self.f, self.raw, self.settings = f, raw, settings
        self.profile = workload.Profile(raw["profile"], raw["profile_name"])
        self.n = figures.best_shards(raw)
        self.out, self.used = [], set()

    def d(self, key):
        """The figure as an element. The same figure may stand in several places; its id only in the first."""
        x = self.f[key]
        mark = "" if key in self.used else ' id="%s"' % escape(key)
        self.used.add(key)
        return '<data%s data-key="%s" value="%s">%s</data>' % (mark, escape(key), repr(x["value"]), escape(x["text"]))

    def add(self, text):
        self.out.append(text)

    def has(self, key):
        return key in self.f

    # ---- the parts

    def head(self):
        d, m = self.d, self.raw["machine"]
        self.add("<h1>%s: what this server holds</h1>" % escape(self.profile.title))
        self.add('<p class="soft">%s</p>' % escape(self.profile.about))
        self.add('<p class="lead">%s %s</p>' % (self.first(), self.second()))
        self.add('<div class="tiles">%s</div>' % "".join('<div class="tile"><b>%s</b><span>%s</span></div>' % t for t in (
            (d("best.accounts"), "accounts this machine holds, %s" % self.shards(self.n, d("best.shards"))),
            (d("plan.nodes"), "nodes of %s for %s accounts, %s of them to spare" % (self.shards(self.n, d("plan.shards")), d("plan.accounts"), d("plan.spare"))),
            (d("plan.ram"), "memory a node, %s idle connections" % d("plan.connections")),
            (d("plan.disk"), "disk for all mail, %s a day more" % d("plan.daily")),
            (d("plan.out_mbit"), "out of a node at the peak, %s in" % d("plan.in_mbit")))))
        self.add('<p class="soft">Measured on %s, %s cores, %s of memory, Linux %s, %s, %s; %s. Arrivals are open loop (Poisson), latencies count '
                 'from the moment an operation was meant to start.</p>' % (
                     escape(m["cpu"]), d("setup.cores"), d("setup.memory"), _number_words(m["kernel"]), _number_words(m["filesystem"]),
                     "network: " + _number_words(self.raw["network"]), '<time>%s</time>' % escape(m["when"])))
        if not self.f.of("best.held"):
            self.add('<p class="box warn"><b>Not to be relied on:</b> the load that was found did not hold when it was measured again, for no number of '
                     "shards. Measure on a machine that does nothing else.</p>")
        if m["filesystem"] in ("tmpfs", "ramfs"):
            self.add('<p class="box warn">The mail lay in memory, not on a disk (--work): what is said of disks, and of deliveries, means nothing.</p>')
        if self.f.of("believe.crowded") or self.f.of("believe.doubted"):
            self.add('<p class="box warn">The machine was not quiet: in %s of %s runs other programs took more than a third of a core (at most %s '
                     'cores), and %s runs were not believed. Trust the ratios more than the figures, and measure again on a quiet machine.</p>' % (
                         d("believe.crowded"), d("believe.runs"), d("others"), d("believe.doubted")))

    def shards(self, n, element):
        return element + (" shard" if n == 1 else " shards")

    def first(self):
        d = self.d
        return "For %s accounts: <b>%s nodes</b> like this one (%s + %s to spare), together %s cores." % (
            d("plan.accounts"), d("plan.nodes"), d("plan.needed"), d("plan.spare"), d("plan.cores"))

    def second(self):
        d, top = self.d, self.resources()[0]
        found = self.raw["search"][str(self.n)]
        text = "At the peak each runs at %s of what it can do, %s when %s of them %s failed. " % (
            d("plan.load"), d("plan.load_failed"), d("plan.spare"), "has" if self.f.of("plan.spare") == 1 else "have")
        if found["ended_by"] == "bound":
            return text + "The search was ended before a goal was missed: the server may hold more."
        if found["ended_by"] == "generator":
            return text + "The search ended at the load generator's limit, not the server's: the server may hold more."
        if top == "machine" and self.f.of("use.machine") >= 0.8:
            return text + ("What gives way first is <b>CPU</b>: %s of the machine's is in use when the goals are just kept, the server's own share of its "
                           "cores is %s; the load generator and others have the rest.") % (d("use.machine"), d("use.cpu"))
        if self.f.of("use.%s" % top) >= 0.8:
            return text + "What gives way first is <b>%s</b>, %s of it in use when the goals are just kept." % (RESOURCES[top], d("use.%s" % top))
        return text + "The goals are missed before any resource is full: nearest is <b>%s</b> with %s." % (RESOURCES[top], d("use.%s" % top))

    def resources(self):
        return sorted(RESOURCES, key=lambda k: -self.f.of("use.%s" % k))

    def load(self):
        f, d = self.f, self.d
        self.add("<h2>How much load keeps the goals</h2>")
        runs = []
        for r in self.raw["runs"]:
            if r["kind"] in ("closed",):
                continue
            share, stream = judge.worst(r, self.profile)
            verdict = figures.verdict(r, self.profile)
            runs.append((r["number"], r["shards"], r["accounts"], max(share, 1e-3), verdict,
                         "run %d: %s accounts, %s uses %.0f %% of its goal, %s" % (r["number"], figures.whole(r["accounts"]), stream, 100 * share, verdict)))
        found = [(int(n), x["accounts"], "%s: %s" % ("1 shard" if n == "1" else n + " shards", f["found.%s.accounts" % n]["text"]))
                 for n, x in sorted(self.raw["search"].items(), key=lambda i: int(i[0]))]
        key = "".join('<i class="c%d"></i>%s' % (i % 6, self.shards(int(n), d("found.%s.shards" % n)))
                      for i, n in enumerate(sorted(self.raw["search"], key=int)))
        self.add('<div class="two"><figure><h3>Worst stream against its goal, each run a mark</h3>%s<div class="key">%s<i class="c0 missed"></i>'
                 'a goal missed<i class="doubt"></i>not believed</div></figure>' % (plot.goals(runs, found), key))
        rows = [(s.name, s.goal_ms, [(p, f.of("point.%d.%s.p%g" % (p, s.name, s.percent)) if "point.%d.%s.p%g" % (p, s.name, s.percent) in f
                                      else self.any_percentile(p, s), f.of("point.%d.%s.low" % (p, s.name)),
                                      f.of("point.%d.%s.high" % (p, s.name))) for p in (80, 100, 120)]) for s in self.profile.streams]
        key = "".join('<i class="c%d"></i>%s' % (i, d("point.%d" % p)) for i, p in zip(LOADS, (80, 100, 120)))
        self.add('<figure><h3>Latencies at three loads, %s</h3>%s<div class="key">%s of the found load</div></figure></div>' % (
            self.shards(self.n, d("best.shards")), plot.latencies(rows, dict(zip((80, 100, 120), LOADS))), key))
        doubted = [d("point.%d" % p) for p in (80, 100, 120) if judge.doubts(figures.point(self.raw, self.n, p), self.profile)]
        if doubted:
            self.add('<p class="miss">Not believed: the run%s at %s. The figures at that load say nothing of the server.</p>' % (
                "s" if len(doubted) > 1 else "", ", ".join(doubted)))
        for n in sorted(self.raw["search"], key=int):
            self.add("<p>%s</p>" % self.found_words(n))

    def any_percentile(self, percent, stream):
        run = figures.point(self.raw, self.n, percent)
        s = next(x for x in run["streams"] if x["tag"] == stream.name)
        return figures.stats.percentile(s["latency"]["buckets"], stream.percent) / 1e6

    def found_words(self, n):
        d, found = self.d, self.raw["search"][n]
        words = "With %s the goals hold up to <b>%s accounts</b> (%s operations/s, %s cores of the server busy)" % (
            self.shards(int(n), d("found.%s.shards" % n)), d("found.%s.accounts" % n), d("found.%s.per_s" % n), d("found.%s.cores" % n))
        if found["bad"]:
            words += " and were missed at %s" % d("found.%s.bad" % n)
        words += {"goal": ".", "bound": "; the search was ended before a goal was missed.", "generator": "; there the load generator, not the server, came to its end."}[found["ended_by"]]
        return words + ("" if found["held"] else " <span class=\"miss\">The rate did not hold when it was measured again: the machine's other work decides "
                        "here.</span>")

    def latency_table(self):
        d, out = self.d, []
        for s in self.profile.streams:
            cells = []
            for p in (80, 100, 120):
                key = "point.%d.%s." % (p, s.name)
                over = self.any_percentile(p, s) > s.goal_ms
                cells.append("".join("<td%s>%s</td>" % (' class="miss"' if over and q == s.percent else "", d(key + "p%g" % q)) for q in (50, 95, 99, 99.9)))
            out.append("<tr><td>%s<br><small>%s</small></td><td>%s<br>%s</td>%s</tr>" % (
                escape(s.name), _number_words(s.what), d("goal.%s" % s.name), d("goal.%s.percent" % s.name), "".join(cells)))
        heads = "".join("<th colspan=4>at %s</th>" % d("point.%d" % p) for p in (80, 100, 120))
        percents = "".join("<th>%s</th>" % w for w in ("<abbr>p50</abbr>", "<abbr>p95</abbr>", "<abbr>p99</abbr>", "<abbr>p99.9</abbr>")) * 3
        self.add('<details><summary>All percentiles</summary><div class="box scroll"><table class="dense"><thead><tr><th rowspan=2>stream</th><th rowspan=2>goal</th>%s</tr>'
                 "<tr>%s</tr></thead><tbody>%s</tbody></table></div></details>" % (heads, percents, "".join(out)))

    def where(self):
        d, f = self.d, self.f
        self.add("<h2>Where it saturates first</h2>")
        order = self.resources()
        rows = [(RESOURCES[k], f.of("use.%s" % k), "full at %s accounts" % figures.short(f.of("use.%s.accounts" % k)).strip()) for k in order]
        self.add('<div class="two"><figure><h3>In use at the found load, %s</h3>%s</figure>' % (self.shards(self.n, d("best.shards")), plot.bars(rows)))
        lines = "".join("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>" % (
            RESOURCES[k], d("use.%s.used" % k) + unit, d("use.%s.limit" % k) + unit, d("use.%s" % k), d("use.%s.accounts" % k))
            for k in order for unit in [{"cpu": " cores", "machine": " cores", "disk_bytes": "/s", "disk_syncs": "/s", "network": "/s", "memory": ""}[k]])
        self.add('<div class="box scroll"><table><thead><tr><th>resource</th><th>used</th><th>limit</th><th>share</th><th>full at accounts</th></tr></thead>'
                 "<tbody>%s</tbody></table><p><small>CPU, server: its processes; the limit is a core for each shard%s. CPU, machine: with the generator and whatever else ran. Disk: what it wrote and how often it "
                 "synced, against what this disk did by itself with parallel writers. Network: application octets against a card of %s. Memory: the process "
                 "and its caches at their bounds, idle connections at %s each of the process (%s held and measured) and %s of the kernel (assumed).</small></p></div></div>" % (
                     lines, ", which it shares with the generator" if self.n >= self.raw["machine"]["cores"] else "", d("plan.nic"), d("held.user"),
                     d("held.sessions"), d("held.kernel")))

    def costs(self):
        d = self.d
        self.add("<h2>What one operation costs</h2>")
        rows = []
        for s in self.profile.streams:
            if self.has("cost.%s.cpu_us" % s.name):
                rows.append((escape(s.name) + "<br><small>%s</small>" % _number_words(s.what), "cost.%s." % s.name))
        for n in sorted(self.raw["search"], key=int):
            rows.append(("<b>all together</b>, %s, at the found load" % self.shards(int(n), d("found.%s.shards" % n)), "cost.all.%s." % n))
        body = "".join("<tr><td>%s</td>%s</tr>" % (name, "".join("<td>%s</td>" % d(key + k) for k in ("cpu_us", "write", "read", "in", "out"))) for name, key in rows)
        self.add('<div class="box scroll"><table><thead><tr><th>operation</th><th>CPU</th><th>disk, written</th><th>disk, read</th><th>network, in</th>'
                 "<th>network, out</th></tr></thead><tbody>%s</tbody></table><p><small>Single operations: alone in a closed loop, %s, the server busy, which is when an "
                 "operation is cheapest. Written octets are what the kernel counts in pages.</small></p></div>" % (
                     body, self.shards(self.raw["settings"]["shards"][0], d("found.%d.shards" % self.raw["settings"]["shards"][0]))))

    def scaling(self):
        d, f = self.d, self.f
        self.add("<h2>How it grows with shards</h2>")
        if not self.has("usl.rate"):
            self.add("<p>No run loaded the server well enough and was believed: nothing can be fitted.</p>")
            return
        points = figures.full_rates(self.raw, self.profile)
        rate, sigma, kappa = f.of("usl.rate"), f["usl.sigma"]["value"] if self.has("usl.sigma") else 0, f["usl.kappa"]["value"] if self.has("usl.kappa") else 0
        most = max(n for n, _ in points)
        xs = [most * i / 40 for i in range(1, 41)]
        curve = [(x, figures.stats.usl(x, rate, sigma, kappa)) for x in xs]
        svg = plot.scaling(points, curve, [(0, 0), (most, rate * most)], most)
        at = "; ".join("%s: %s%s (%s runs)" % (self.shards(f.of("usl.at.%d.n" % n), d("usl.at.%d.n" % n)), d("usl.at.%d.mean" % n),
                                               " ± %s" % d("usl.at.%d.half" % n) if self.has("usl.at.%d.half" % n) else "", d("usl.at.%d.runs" % n))
                       for n in sorted({n for n, _ in points}))
        words = ["<p>Accounts that would fill the server's cores, from its CPU in the believed runs: %s.</p>" % at]
        law = '<span class="given">X(n) = λn / (1 + σ(n − 1) + κn(n − 1))</span>'
        words.append("<p>Universal Scalability Law, %s: λ = %s%s%s%s; residuals %s rms over %s points, %s degrees of freedom.</p>" % (
            law, d("usl.rate"), self.half("usl.rate_half"),
            ", σ (contention) = %s%s" % (d("usl.sigma"), self.half("usl.sigma_half")) if self.has("usl.sigma") else "",
            ", κ (coherence) = %s%s" % (d("usl.kappa"), self.half("usl.kappa_half")) if self.has("usl.kappa") else "",
            d("usl.rms"), d("usl.points"), d("usl.freedom")))
        words.append("<p>%s</p>" % self.cannot())
        rest = "".join("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>" % (d("usl.residual.%d.n" % i), d("usl.residual.%d.measured" % i),
                       d("usl.residual.%d.fitted" % i), d("usl.residual.%d" % i)) for i in range(len(points)))
        words.append("<details><summary>Residuals</summary><table><thead><tr><th>shards</th><th>measured</th><th>fitted</th><th>residual</th></tr></thead><tbody>%s"
                     "</tbody></table></details>" % rest)
        self.add('<div class="two"><figure>%s</figure><div class="box">%s</div></div>' % (svg, "".join(words)))

    def half(self, key):
        return " ± %s" % self.d(key) if self.has(key) else ""

    def cannot(self):
        distinct = self.f.of("usl.distinct")
        if distinct >= 3:
            peak = " The most throughput would be at %s shards, an extrapolation." % self.d("usl.peak") if self.has("usl.peak") else ""
            return "Three parameters from %s numbers of shards.%s Nodes were not measured: the plan adds them up." % (self.d("usl.distinct"), peak)
        what = "κ is held at zero, and with it a peak cannot be told" if distinct == 2 else "neither σ nor κ can be told"
        return ("<b>What cannot be fitted:</b> with %s number%s of shards %s. The law is only a description of these points; it is not used to plan for "
                "larger machines. On these cores the generator ran, too. Nodes were not measured: the plan adds up nodes of the size that was, which share "
                "nothing but the directory and Redis.") % (self.d("usl.distinct"), "" if distinct == 1 else "s", what)

    def plan(self):
        d = self.d
        self.add("<h2>The plan</h2>")
        rows = (("accounts, in the peak hour of this profile", d("plan.accounts")),
                ("headroom that stays free", d("plan.headroom")),
                ("accounts a node may carry", d("plan.usable")),
                ("nodes", "%s + %s to spare = %s" % (d("plan.needed"), d("plan.spare"), d("plan.nodes"))),
                ("cores, all nodes", "%s; %s for a hundred thousand accounts" % (d("plan.cores"), d("plan.cores_per_100k"))),
                ("load of a node, all well", d("plan.load")),
                ("load of a node, the spare ones failed", d("plan.load_failed")),
                ("memory of the server on a node", "%s, so a machine with %s" % (d("plan.memory"), d("plan.ram"))),
                ("idle connections of a node", "%s; LimitNOFILE at least %s" % (d("plan.connections"), d("plan.descriptors"))),
                ("disk for all mail", "%s (%s an account, times %s)" % (d("plan.disk"), d("plan.stored"), d("plan.slack"))),
                ("disk, written on a node", "%s/s, %s syncs/s" % (d("plan.write_s"), d("plan.commits_s"))),
                ("mail that arrives a day, all nodes", d("plan.daily")),
                ("network of a node", "%s in, %s out" % (d("plan.in_mbit"), d("plan.out_mbit"))))
        body = "".join("<tr><td>%s</td><td>%s</td></tr>" % (_number_words(a), b) for a, b in rows)
        self.add('<div class="box scroll" style="max-width:780px"><table><tbody>%s</tbody></table></div>' % body)
        self.add("<p><small>A node is this machine with its shards. Mail on disk is multiplied for what compaction has not collected yet. Per node figures are those of the remaining nodes when the spare ones have failed. One "
                 "hundred thousand accounts of this profile use %s cores, write %s/s, receive %s/s and send %s/s.</small></p>" % (
                     d("per.cpu"), d("per.write_s"), d("per.in_s"), d("per.out_s")))

    def believe(self):
        d = self.d
        self.add("<h2>Why these numbers can be believed</h2>")
        self.add("<ul><li>%s operations were made and every answer was checked, bodies by digest; %s errors in believed runs.</li>"
                 "<li>Each run was held against Little's law, operations present by counters against throughput times latency: at most %s apart. The generator "
                 "must not be late, must offer what it was asked to, and must not fill its core; %s of %s runs failed that and are used for nothing.</li>"
                 "<li>Each run: %s of warm-up, %s measured, %s accounts with %s messages (%s). Seed %s. All took %s.</li></ul>" % (
                     d("believe.operations"), d("believe.errors"), d("believe.little"), d("believe.doubted"), d("believe.runs"), d("setup.warmup"),
                     d("setup.seconds"), d("setup.population"), d("setup.messages"), d("setup.bytes"), d("setup.seed"), d("setup.took")))
        self.add("<p>What they cannot say: it is loopback, so half of TCP's cost is the generator's, there is no device and no loss. The accounts of the "
                 "profile are played on fewer real ones, so caches are warmer than they will be; the password hash is the cheapest and logins are remembered. "
                 "Fewer sessions were held in the runs than the plan has; their memory was measured apart and multiplied. The generator shares the machine.</p>")
        rows = []
        for r in self.raw["runs"]:
            key, verdict = "run.%d." % r["number"], figures.verdict(r, self.profile)
            kind = {"closed": "alone: " + r["streams"][0]["tag"]}.get(r["kind"], r["kind"])
            if r["percent"]:
                kind = d(key + "percent")
            else:
                kind = escape(kind)
            why = judge.doubts(r, self.profile) + judge.misses(r, self.profile)
            word = {"good": "good", "missed": "missed", "doubt": "not believed"}[verdict]
            if r["kind"] == "closed":
                word, why = "cost", []
            rows.append("<tr><td>%s</td><td>%s</td><td>%s</td>%s<td class=\"%s\"><abbr title=\"%s\">%s</abbr></td></tr>" % (
                d(key + "number"), kind, d(key + "shards"), "".join("<td>%s</td>" % d(key + k) for k in (
                    "accounts", "per_s", "goal", "server", "self", "others", "late", "little_n", "little_xr", "errors")),
                {"good": "ok"}.get(word, "miss" if word in ("missed", "not believed") else ""), escape("; ".join(why)), word))
        self.add('<details><summary>All runs</summary><div class="box scroll"><table class="dense"><thead><tr><th>run</th><th>what</th><th>shards</th><th>accounts</th><th>op/s</th>'
                 "<th>goal used</th><th>server cores</th><th>generator cores</th><th>other cores</th><th>late</th><th>present, counted</th><th>present, by Little</th>"
                 "<th>errors</th><th></th></tr></thead><tbody>%s</tbody></table></div></details>" % "".join(rows))
        self.add("<details><summary>The profile</summary><p>%s</p><pre>%s</pre></details>" % (_number_words(self.profile.source), _number_words(self.raw["profile"])))

    def again(self):
        self.add("<h2>Again, and from the raw data</h2><p>Every number here follows from <code>raw.json</code> and <code>settings.json</code> beside this file "
                 "(<code>runs.csv</code> has the runs as a table); its key is shown by the browser's inspector.</p>"
                 "<pre>python3 bench/plan verify  DIR     <span class=\"soft\"># makes this page again and compares it to the byte</span>\n"
                 "python3 bench/plan figures DIR     <span class=\"soft\"># every number by its key, before rounding</span>\n"
                 "make plan PROFILE=%s OUT=DIR     <span class=\"soft\"># measures again</span></pre>" % _number_words(self.profile.name))

    def html(self):
        for part in (self.head, self.load, self.latency_table, self.where, self.plan, self.costs, self.scaling, self.believe, self.again):
            part()
        return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
                '<link rel="icon" href="data:,"><title>Penfold capacity: %s</title><style>%s</style></head><body><main>\n%s\n</main></body></html>\n' % (
                    escape(self.profile.title), STYLE, "\n".join(self.out)))


def _number_words(text):
    """Words that may have digits which are nobody's measurement: names, versions, the profile."""
    return '<span class="given">%s</span>' % escape(text)


def html(f, raw, settings):
    return Page(f, raw, settings).html()


def sentence(f):
    doubt = "" if f.of("best.held") else "NOT to be relied on (the load did not hold when measured again): "
    return doubt + "this machine holds %s accounts (%s shards); %s accounts need %s nodes (%s of them spare), %s cores, %s of memory a node, %s of disk" % tuple(
        f[k]["text"] for k in ("best.accounts", "best.shards", "plan.accounts", "plan.nodes", "plan.spare", "plan.cores", "plan.ram", "plan.disk"))
