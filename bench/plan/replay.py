# SPDX-License-Identifier: Apache-2.0
"""replay: a recorded shape, played at the times it had (or so many times as fast) on a server made for it."""

import os

from lab import namespace

from . import judge, stats, workload
from .house import House
from .progress import Progress


def times(path, speed):
    with open(path) as f:
        return [float(line) / speed for line in f if line.strip()]


def run(o):
    profile = workload.load(o.dir)
    if o.congestion != "host":
        namespace.enter(o.congestion)
    recorded = {}
    for s in profile.streams:
        if not s.arrivals:
            raise workload.Wrong("%s: [stream %s] has no recorded times; run --profile plays it" % (o.dir, s.name))
        recorded[s.name] = times(os.path.join(profile.folder, s.arrivals), o.speed)
    seconds = max(t[-1] for t in recorded.values() if t) + 1
    progress = Progress(seconds + 15)
    with House(profile, o.build, o.work, o.port, progress) as house:
        progress.step("making %d accounts and their mail" % profile.accounts)
        house.create(o.shards)
        house.fill()
        for name, at in recorded.items():
            house.arrivals[name] = os.path.join(house.work, name + ".times")
            with open(house.arrivals[name], "w") as f:
                f.write("".join("%.4f\n" % t for t in at))
        progress.step("playing %.0f s" % seconds)
        figures = house.mix([house.stream_words(s, 0) for s in profile.streams], seconds, 0, o.seed)
    progress.end()
    figures.update(kind="replay", others_cores=0)
    good = True
    print("%-12s %9s %9s %9s %9s %7s" % ("stream", "recorded", "played", "p50 ms", "p99 ms", "errors"))
    for s in figures["streams"]:
        b = s["latency"]["buckets"]
        good = good and s["errors"] == 0 and s["operations"] == len(recorded[s["tag"]])
        print("%-12s %9d %9d %9.2f %9.2f %7d" % (s["tag"], len(recorded[s["tag"]]), s["operations"], stats.percentile(b, 50) / 1e6,
                                                stats.percentile(b, 99) / 1e6, s["errors"]))
    print("the server used %.3f cores" % judge.cores_used(figures))
    for words in judge.doubts(figures, profile) + ([] if good else ["not everything that was recorded was played without an error"]):
        print("not to be believed: " + words)
        good = False
    return 0 if good else 1
