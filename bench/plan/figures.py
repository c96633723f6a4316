# SPDX-License-Identifier: Apache-2.0
"""figures: every number of the report, from the raw data and what the plan was asked for. Pure: same input, same output.

derive() gives {key: {"value": number, "text": words}}. The page writes nothing but these into <data> elements, so that a number
in it can be looked up here by its key, and whoever doubts it can follow it to raw.json: the arithmetic is all in this file,
judge.py and stats.py."""

import math

from . import judge, stats, workload

DEFAULTS = {"accounts": 1e6, "headroom": 30.0, "spare": 1, "nic_gbit": 10.0}
KERNEL_BYTES = 4800            # of the kernel for the server's end of a connection: slab, measured for research, not here
CACHE_BYTES = (256 + 64 + 32) * 2**20  # the server's caches at their default bounds: accounts, directory, logins
DISK_SLACK = 1.5               # logs are compacted when half of one is dead: between 1 and 2
RAM_SHARE = 0.8                # of a node's memory for the server; the rest is the page cache's and the system's

SI = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def short(value, digits=3):
    """Three digits, for people: 1.27 M."""
    for size, letter in SI:
        if abs(value) >= size * 0.9995:
            return _digits(value / size, digits) + " " + letter
    return _digits(value, digits) + " "


def _digits(value, digits):
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value)) + 1e-9))
    return "%.*f" % (min(places, 6), value)


def whole(value):
    return "{:,.0f}".format(value)


class Figures(dict):
    def put(self, key, value, text=None):
        self[key] = {"value": value, "text": whole(value) if text is None else text}
        return value

    def of(self, key):
        return self[key]["value"]

    def bytes(self, key, value):
        return self.put(key, value, short(value) + "B")

    def count(self, key, value):
        """Rounded to three digits, as people say it."""
        size = 10 ** max(0, math.floor(math.log10(max(1, abs(value)))) - 2)
        return self.put(key, value, whole(round(value / size) * size))

    def ms(self, key, value):
        return self.put(key, value, _digits(value, 2 if value < 10 else 3) + " ms")

    def percent(self, key, value):
        return self.put(key, value, ("%.0f %%" if abs(value) >= 0.1 or value == 0 else "%.1f %%") % (100 * value))


def derive(raw, settings):
    asked = {**DEFAULTS, **settings}
    profile = workload.Profile(raw["profile"], raw["profile_name"])
    f = Figures()
    _runs(f, raw, profile)
    _found(f, raw, profile)
    _points(f, raw, profile)
    _scaling(f, raw, profile)
    _costs(f, raw, profile)
    _use(f, raw, profile, asked)
    _plan(f, raw, profile, asked)
    _believe(f, raw, profile)
    return f


def best_shards(raw):
    """The number of shards with the highest rate, of those that held it a second time, if any did."""
    held = [n for n, found in raw["search"].items() if found["held"]] or list(raw["search"])
    return max((int(n) for n in held), key=lambda n: raw["search"][str(n)]["accounts"])


def point(raw, shards, percent):
    """The last run at so many percent of the found rate."""
    return [r for r in raw["runs"] if r["kind"] == "point" and r["shards"] == shards and r["percent"] == percent][-1]


def verdict(run, profile):
    return "doubt" if judge.doubts(run, profile) else "missed" if judge.misses(run, profile) else "good"


def _runs(f, raw, profile):
    """One line a run, for the table and the first plot."""
    for r in raw["runs"]:
        key = "run.%d." % r["number"]
        f.put(key + "number", r["number"])
        f.put(key + "shards", r["shards"])
        f.count(key + "accounts", r["accounts"])
        operations = sum(s["operations"] for s in r["streams"])
        f.count(key + "per_s", operations / r["window_s"])
        share, _ = judge.worst(r, profile)
        f.percent(key + "goal", share)
        f.put(key + "server", judge.cores_used(r), "%.2f" % judge.cores_used(r))
        f.put(key + "self", r["self_cpu_us"] / 1e6 / r["window_s"], "%.2f" % (r["self_cpu_us"] / 1e6 / r["window_s"]))
        f.put(key + "others", r["others_cores"], "%.2f" % r["others_cores"])
        late = max([judge.late_ms(s) for s in r["streams"]], default=0)
        f.ms(key + "late", late)
        littles = [judge.little_of(r, s) for s in r["streams"] if s["latency"]["count"] >= judge.FEW]
        f.put(key + "little_n", sum(x[0] for x in littles), "%.2f" % sum(x[0] for x in littles))
        f.put(key + "little_xr", sum(x[1] for x in littles), "%.2f" % sum(x[1] for x in littles))
        f.put(key + "errors", sum(s["errors"] for s in r["streams"]))
        if r["percent"]:
            f.put(key + "percent", r["percent"], "%d %%" % r["percent"])


def _found(f, raw, profile):
    for shards, found in raw["search"].items():
        key = "found.%s." % shards
        f.count(key + "accounts", found["accounts"])
        if found["bad"]:
            f.count(key + "bad", found["bad"])
        f.count(key + "per_s", found["accounts"] * profile.operations_per_1000_s() / 1000)
        run = point(raw, int(shards), 100)
        f.put(key + "cores", judge.cores_used(run), "%.2f" % judge.cores_used(run))
        f.put(key + "shards", int(shards))
    n = best_shards(raw)
    f.put("best.shards", n)
    f.put("best.held", int(raw["search"][str(n)]["held"]))
    f.count("best.accounts", raw["search"][str(n)]["accounts"])
    f.count("best.per_s", f.of("found.%d.per_s" % n))


def _points(f, raw, profile):
    """Latencies at 80, 100 and 120 % for the best number of shards."""
    n = best_shards(raw)
    for percent in (80, 100, 120):
        run = point(raw, n, percent)
        f.put("point.%d" % percent, percent, "%d %%" % percent)
        for s in run["streams"]:
            key = "point.%d.%s." % (percent, s["tag"])
            buckets = s["latency"]["buckets"]
            for p in (50, 95, 99, 99.9):
                f.ms(key + "p%g" % p, stats.percentile(buckets, p) / 1e6)
            low, high = stats.percentile_interval(buckets, profile.stream(s["tag"]).percent)
            f.ms(key + "low", low / 1e6)
            f.ms(key + "high", high / 1e6)
            f.count(key + "per_s", s["operations"] / run["window_s"])
    for s in profile.streams:
        f.ms("goal.%s" % s.name, s.goal_ms)
        f.put("goal.%s.percent" % s.name, s.percent, "p%g" % s.percent)


def full_rates(raw, profile):
    """[(shards, accounts a server of so many busy cores would hold)]: from CPU, of believed runs that loaded it well."""
    out = []
    for r in raw["runs"]:
        found = raw["search"].get(str(r["shards"]))
        if r["kind"] in ("search", "point") and found and not judge.doubts(r, profile) and 0.6 <= r["accounts"] / found["accounts"] <= 1.01 \
                and not judge.misses(r, profile):
            out.append((r["shards"], r["accounts"] * r["shards"] / judge.cores_used(r)))
    return out


def _scaling(f, raw, profile):
    points = full_rates(raw, profile)
    for n in sorted({n for n, _ in points}):
        mean, half = stats.mean_interval([x for m, x in points if m == n])
        f.put("usl.at.%d.n" % n, n)
        f.count("usl.at.%d.mean" % n, mean)
        f.put("usl.at.%d.runs" % n, len([1 for m, _ in points if m == n]))
        if half is not None:
            f.count("usl.at.%d.half" % n, half)
    if not points:
        return
    fit = stats.usl_fit(points)
    f.count("usl.rate", fit["rate"])
    f.put("usl.points", len(points))
    f.put("usl.distinct", len(fit["distinct"]))
    f.put("usl.freedom", fit["freedom"])
    f.put("usl.rms", fit["rms"], "%.1f %%" % (100 * fit["rms"]))
    for name in ("sigma", "kappa"):
        if fit[name] is not None:
            f.put("usl." + name, fit[name], "%.4f" % fit[name])
        if fit[name + "_half"] is not None:
            f.put("usl.%s_half" % name, fit[name + "_half"], "%.4f" % fit[name + "_half"])
    if fit["rate_half"] is not None:
        f.count("usl.rate_half", fit["rate_half"])
    if fit["peak"] is not None:
        f.put("usl.peak", fit["peak"], "%.0f" % fit["peak"])
    for i, (n, measured, fitted, relative) in enumerate(fit["residuals"]):
        f.put("usl.residual.%d.n" % i, n)
        f.count("usl.residual.%d.measured" % i, measured)
        f.count("usl.residual.%d.fitted" % i, fitted)
        f.put("usl.residual.%d" % i, relative, "%+.1f %%" % (100 * relative))


def _costs(f, raw, profile):
    """What one operation takes of the server: each stream alone in a closed loop, the server busy; and all together."""
    for r in raw["runs"]:
        if r["kind"] == "closed":
            s = r["streams"][0]
            _cost(f, "cost.%s." % s["tag"], r, [s])
    for shards in raw["search"]:
        r = point(raw, int(shards), 100)
        _cost(f, "cost.all.%s." % shards, r, r["streams"])


def _cost(f, key, r, streams):
    operations = max(1, sum(s["operations"] for s in streams))
    us = (r["server_end"]["cpu_us"] - r["server_start"]["cpu_us"]) / operations
    f.put(key + "cpu_us", us, _digits(us, 3) + " µs")
    f.bytes(key + "write", (r["server_end"]["write_bytes"] - r["server_start"]["write_bytes"]) / operations)
    f.bytes(key + "read", (r["server_end"]["read_bytes"] - r["server_start"]["read_bytes"]) / operations)
    f.bytes(key + "in", sum(s["out_bytes"] for s in streams) / operations)
    f.bytes(key + "out", sum(s["in_bytes"] for s in streams) / operations)


def session_bytes(raw):
    """User memory of a session that waits; 0 where none were held."""
    held = raw.get("held")
    return max(0.0, (held["held_bytes"] - held["before_bytes"]) / held["sessions"]) if held and held["sessions"] else 0.0


def _use(f, raw, profile, asked):
    """What is used of each resource of this machine at the found rate, and where it would end."""
    n = best_shards(raw)
    run, machine, disk = point(raw, n, 100), raw["machine"], raw["disk"]
    accounts, window = run["accounts"], run["window_s"]
    in_s = sum(s["out_bytes"] for s in run["streams"]) / window
    out_s = sum(s["in_bytes"] for s in run["streams"]) / window
    write_s = (run["server_end"]["write_bytes"] - run["server_start"]["write_bytes"]) / window
    commits_s = run["commits"] / (raw["settings"]["seconds"] + raw["settings"]["warmup"])  # counted over both
    each = session_bytes(raw)
    f.bytes("held.user", each)
    f.bytes("held.kernel", KERNEL_BYTES)
    f.put("held.sessions", raw.get("held", {}).get("sessions", 0))
    base = max(0.0, run["server_end"]["rss_bytes"] - each * sum(s["opened"] for s in run["streams"] if profile.stream(s["tag"]).idle))
    f.bytes("memory.base", base)
    f.bytes("memory.caches", CACHE_BYTES)
    per_account = profile.idle_per_account * (each + KERNEL_BYTES)
    f.bytes("memory.per_account", per_account)
    memory = base + CACHE_BYTES + accounts * per_account
    nic = asked["nic_gbit"] * 1e9 / 8
    busy = judge.cores_used(run) + run["self_cpu_us"] / 1e6 / window + run["others_cores"]
    for key, used, limit in (("cpu", judge.cores_used(run), n), ("disk_bytes", write_s, disk["bytes_per_s"]),
                             ("disk_syncs", commits_s, disk["syncs_per_s"]), ("network", max(in_s, out_s), nic),
                             ("memory", memory, RAM_SHARE * machine["memory_bytes"]),
                             ("machine", busy, machine["cores"])):
        f.percent("use.%s" % key, used / limit)
        f.count("use.%s.accounts" % key, accounts / (used / limit) if used else 0)
    f.put("use.cpu.used", judge.cores_used(run), "%.2f" % judge.cores_used(run))
    f.put("use.machine.used", busy, "%.2f" % busy)
    f.put("use.machine.limit", machine["cores"])
    f.bytes("use.disk_bytes.used", write_s)
    f.count("use.disk_syncs.used", commits_s)
    f.bytes("use.network.used", max(in_s, out_s))
    f.bytes("use.memory.used", memory)
    f.put("use.cpu.limit", n)
    f.bytes("use.disk_bytes.limit", disk["bytes_per_s"])
    f.count("use.disk_syncs.limit", disk["syncs_per_s"])
    f.bytes("use.network.limit", nic)
    f.bytes("use.memory.limit", RAM_SHARE * machine["memory_bytes"])
    f.put("per.cpu", judge.cores_used(run) / accounts * 1e5, "%.3f" % (judge.cores_used(run) / accounts * 1e5))
    f.bytes("per.write_s", write_s / accounts * 1e5)
    f.count("per.commits_s", commits_s / accounts * 1e5)
    f.bytes("per.in_s", in_s / accounts * 1e5)
    f.bytes("per.out_s", out_s / accounts * 1e5)
    f.put("per.accounts", 100000)
    f.put("others", max(r["others_cores"] for r in raw["runs"]), "%.1f" % max(r["others_cores"] for r in raw["runs"]))


def _plan(f, raw, profile, asked):
    n, machine = best_shards(raw), raw["machine"]
    accounts, headroom = asked["accounts"], asked["headroom"] / 100
    usable = f.of("best.accounts") * (1 - headroom)
    free = RAM_SHARE * machine["memory_bytes"] - f.of("memory.base") - CACHE_BYTES
    by_memory = free / f.of("memory.per_account") if f.of("memory.per_account") else math.inf
    needed = max(1, math.ceil(accounts / min(usable, by_memory)))
    nodes = needed + int(asked["spare"])
    f.put("plan.accounts", accounts)
    f.percent("plan.headroom", headroom)
    f.put("plan.spare", int(asked["spare"]))
    f.count("plan.usable", min(usable, by_memory))
    f.put("plan.needed", needed)
    f.put("plan.nodes", nodes)
    f.put("plan.shards", n)
    f.put("plan.cores", nodes * n)
    f.percent("plan.load", accounts / nodes / f.of("best.accounts"))
    f.percent("plan.load_failed", accounts / needed / f.of("best.accounts"))
    per_node = accounts / needed
    memory = f.of("memory.base") + CACHE_BYTES + per_node * f.of("memory.per_account")
    f.bytes("plan.memory", memory)
    f.bytes("plan.memory_all", nodes * memory)
    f.put("plan.ram", memory / RAM_SHARE, "%d GB" % math.ceil(memory / RAM_SHARE / 1e9))
    f.count("plan.connections", per_node * profile.idle_per_account)
    f.count("plan.descriptors", per_node * profile.idle_per_account + 8192)
    f.bytes("plan.stored", profile.stored_bytes)
    f.bytes("plan.disk", accounts * profile.stored_bytes * DISK_SLACK)
    f.put("plan.slack", DISK_SLACK, "%g" % DISK_SLACK)
    per_s = {key: f.of("per." + key) / 1e5 for key in ("write_s", "commits_s", "in_s", "out_s")}
    f.bytes("plan.write_s", per_node * per_s["write_s"])
    f.count("plan.commits_s", per_node * per_s["commits_s"])
    f.put("plan.in_mbit", per_node * per_s["in_s"] * 8 / 1e6, short(per_node * per_s["in_s"] * 8) + "bit/s")
    f.put("plan.out_mbit", per_node * per_s["out_s"] * 8 / 1e6, short(per_node * per_s["out_s"] * 8) + "bit/s")
    daily = delivered_bytes_s(raw, profile) * 3600 / profile.peak_share * accounts
    f.bytes("plan.daily", daily)
    f.put("plan.cores_per_100k", nodes * n / accounts * 1e5, "%.2f" % (nodes * n / accounts * 1e5))
    f.put("plan.nic", asked["nic_gbit"], "%g Gbit/s" % asked["nic_gbit"])


def delivered_bytes_s(raw, profile):
    """Octets delivered a second to one account in the peak hour."""
    run = point(raw, best_shards(raw), 100)
    return sum(s["payload_bytes"] for s in run["streams"] if profile.stream(s["tag"]).scenario == "lmtp") / run["window_s"] / run["accounts"]


def _believe(f, raw, profile):
    judged = [r for r in raw["runs"] if r["kind"] != "closed"]
    doubted = [r for r in judged if judge.doubts(r, profile)]
    f.put("believe.runs", len(judged))
    f.put("believe.doubted", len(doubted))
    f.put("believe.crowded", len([r for r in judged if judge.crowded(r)]))
    f.put("believe.operations", sum(s["operations"] for r in raw["runs"] for s in r["streams"]))
    f.put("believe.errors", sum(s["errors"] for r in judged if not judge.doubts(r, profile) for s in r["streams"]))
    gaps = [abs(n - xr) / max(n, xr, 1e-9) for r in judged if not judge.doubts(r, profile) and not judge.misses(r, profile)
            for n, xr in [judge.little_of(r, s)[:2] for s in r["streams"] if s["latency"]["count"] >= judge.FEW]]
    f.put("believe.little", max(gaps, default=0), "%.1f %%" % (100 * max(gaps, default=0)))
    f.put("setup.population", profile.accounts)
    f.put("setup.messages", raw["fill"]["messages"])
    f.bytes("setup.bytes", raw["fill"]["bytes"])
    f.put("setup.seconds", raw["settings"]["seconds"], "%g s" % raw["settings"]["seconds"])
    f.put("setup.warmup", raw["settings"]["warmup"], "%g s" % raw["settings"]["warmup"])
    f.put("setup.seed", raw["settings"]["seed"])
    f.put("setup.took", raw["took_s"], "%.0f s" % raw["took_s"])
    f.put("setup.cores", raw["machine"]["cores"])
    f.bytes("setup.memory", raw["machine"]["memory_bytes"])
    f.put("setup.load", raw["machine"]["load_average"], "%.2f" % raw["machine"]["load_average"])
