# SPDX-License-Identifier: Apache-2.0
"""folder: a report's files. index.html is a function of raw.json and settings.json, so it can be made and verified at any time."""

import csv
import io
import json
import os

from . import figures, judge, page, stats, workload


class Unusable(Exception):
    """The folder has no report that can be read."""


def read(where):
    """(raw, settings)."""
    try:
        with open(os.path.join(where, "raw.json")) as f:
            raw = json.load(f)
        with open(os.path.join(where, "settings.json")) as f:
            settings = json.load(f)
    except (OSError, ValueError) as e:
        raise Unusable("%s: %s" % (where, e)) from None
    if raw.get("format") != 1:
        raise Unusable("%s: raw.json is of another version" % where)
    return raw, settings


def write_raw(where, raw):
    os.makedirs(where, exist_ok=True)
    with open(os.path.join(where, "raw.json"), "w") as f:
        head = {k: v for k, v in raw.items() if k != "runs"}
        f.write(json.dumps(head)[:-1] + ", \"runs\": [\n" + ",\n".join(json.dumps(r, separators=(",", ":")) for r in raw["runs"]) + "\n]}\n")
    with open(os.path.join(where, "runs.csv"), "w") as f:
        f.write(table(raw))


def table(raw):
    """One line for each stream of each run."""
    profile = workload.Profile(raw["profile"], raw["profile_name"])
    out = io.StringIO()
    w = csv.writer(out, lineterminator="\n")
    w.writerow(["run", "kind", "shards", "accounts", "percent", "stream", "offered_per_s", "offered", "operations", "window_s", "errors", "p50_ms",
                "p95_ms", "p99_ms", "p999_ms", "max_ms", "mean_ms", "little_n", "little_xr", "late_p99_ms", "in_bytes", "out_bytes",
                "server_cores", "generator_cores", "others_cores", "server_rss_bytes", "server_write_bytes", "server_read_bytes", "commits",
                "verdict"])
    for r in raw["runs"]:
        verdict = "doubt" if judge.doubts(r, profile) else "missed" if judge.misses(r, profile) else "good"
        for s in r["streams"]:
            b, n = s["latency"]["buckets"], s["latency"]["count"]
            little = judge.little_of(r, s)
            w.writerow([r["number"], r["kind"], r["shards"], "%.0f" % r["accounts"], r["percent"] or "", s["tag"], s["offered_per_s"], s["offered"],
                        s["operations"], r["window_s"], s["errors"], *("%.4f" % (stats.percentile(b, p) / 1e6) for p in (50, 95, 99, 99.9)),
                        "%.4f" % (s["latency"]["max_ns"] / 1e6), "%.4f" % (s["latency"]["sum_ns"] / 1e6 / n if n else 0),
                        "%.4f" % little[0], "%.4f" % little[1], "%.4f" % judge.late_ms(s), s["in_bytes"], s["out_bytes"],
                        "%.4f" % judge.cores_used(r), "%.4f" % (r["self_cpu_us"] / 1e6 / r["window_s"]), r["others_cores"],
                        r["server_end"]["rss_bytes"], r["server_end"]["write_bytes"] - r["server_start"]["write_bytes"],
                        r["server_end"]["read_bytes"] - r["server_start"]["read_bytes"], r["commits"], verdict])
    return out.getvalue()


def write_report(where, settings):
    """The report from raw.json; settings given now replace those of last time. Returns the figures."""
    path = os.path.join(where, "settings.json")
    kept = {}
    if os.path.exists(path):
        with open(path) as f:
            kept = json.load(f)
    with open(path, "w") as f:
        f.write(json.dumps({**kept, **settings}, indent=1) + "\n")
    raw, settings = read(where)
    f = figures.derive(raw, settings)
    with open(os.path.join(where, "index.html"), "w") as out:
        out.write(page.html(f, raw, settings))
    return f


def verify(where):
    """0 when index.html and runs.csv are what the raw data say, to the byte; else 1 and where they differ."""
    raw, settings = read(where)
    good = True
    for name, made in (("index.html", page.html(figures.derive(raw, settings), raw, settings)), ("runs.csv", table(raw))):
        try:
            with open(os.path.join(where, name), newline="") as f:
                there = f.read()
        except OSError as e:
            raise Unusable(str(e)) from None
        if there == made:
            print("%s/%s: follows from raw.json" % (where, name))
            continue
        good = False
        for number, (a, b) in enumerate(zip(there.split("\n"), made.split("\n")), 1):
            if a != b:
                print("%s/%s: line %d is not what raw.json says:\n- %s\n+ %s" % (where, name, number, a[:300], b[:300]))
                break
    return 0 if good else 1
