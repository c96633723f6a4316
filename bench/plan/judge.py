# SPDX-License-Identifier: Apache-2.0
"""judge: is a run to be believed, and was it good enough?

Both are pure functions of a run's raw figures and the profile, so that the report judges a run again exactly as the search did.

*Believed* is about the generator: it was not late, not busy beyond what leaves it free, it offered what it was asked to offer, and
Little's law holds between its counters and its latencies. A run that is not believed is not used for anything.
*Good enough* is about the server: every stream kept up and kept its goal, and errors stayed below the profile's share."""

import math

from . import stats

LAG_SHARE = 0.25       # of the goal: so late may the generator's 99th percentile be
LAG_MS_MIN = 1.0
SELF_CORES_MAX = 0.92  # of its one core
KEPT_UP = 0.03         # so much of what was offered may have piled up in a window, or ...
KEPT_UP_S = 0.2        # ... what comes in so long, whichever is more
OTHERS_CORES = 0.35    # used by other programs: a goal that was missed meanwhile is asked about again
FEW = 20               # operations below which a percentile or Little's law says nothing


def little_of(run, stream):
    window = run["window_s"]
    latency = stream["latency"]
    return stats.little(stream["present_s"], window, latency["count"], latency["sum_ns"] / 1e9, stream["present_start"],
                        stream["present_end"], latency["max_ns"] / 1e9)


def late_ms(stream):
    return stats.percentile(stream["lag"]["buckets"], 99) / 1e6


def doubts(run, profile):
    """Why the run is not to be believed: [words]; empty when it is."""
    out = []
    cores = run["self_cpu_us"] / 1e6 / run["window_s"]
    if cores > SELF_CORES_MAX and run["kind"] != "closed":  # which asks for costs, not for latencies
        out.append("the generator used %.2f of its core" % cores)
    for stream in run["streams"]:
        spec = profile.stream(stream["tag"])
        if not spec.idle and run["kind"] != "closed":
            most = max(LAG_MS_MIN, LAG_SHARE * spec.goal_ms)
            if late_ms(stream) > most:
                out.append("%s: the generator was %.1f ms late (p99; %.1f allowed)" % (spec.name, late_ms(stream), most))
            wanted = stream["offered_per_s"] * run["window_s"]
            if wanted and abs(stream["offered"] - wanted) > 4.5 * math.sqrt(wanted) + 1:
                out.append("%s: %d arrivals offered where %.0f were due" % (spec.name, stream["offered"], wanted))
        n, xr, _, _, good = little_of(run, stream)
        if stream["latency"]["count"] >= FEW and not good:
            out.append("%s: %.3f operations present by the counters, %.3f by Little's law" % (spec.name, n, xr))
    return out


def misses(run, profile):
    """What was not good enough: [words]; empty when all goals are kept."""
    out = []
    done = sum(s["operations"] for s in run["streams"])
    errors = sum(s["errors"] for s in run["streams"])
    if errors > profile.errors * max(1, done + errors):
        text = next((s["error_text"][0] for s in run["streams"] if s["error_text"]), "")
        out.append("%d errors of %d operations (%s)" % (errors, done + errors, text))
    for stream in run["streams"]:
        spec = profile.stream(stream["tag"])
        if stream["latency"]["count"] >= FEW:
            ms = stats.percentile(stream["latency"]["buckets"], spec.percent) / 1e6
            if ms > spec.goal_ms:
                out.append("%s: p%g %.0f ms (goal %.0f)" % (spec.name, spec.percent, ms, spec.goal_ms))
        grown = stream["present_end"] - stream["present_start"]
        if not spec.idle and grown > 10 + max(KEPT_UP, KEPT_UP_S / run["window_s"]) * stream["offered"]:
            out.append("%s: %d more waiting at the end than at the beginning" % (spec.name, grown))
    return out


def worst(run, profile):
    """(share of its goal, stream) of the stream that is nearest to its goal, or furthest beyond."""
    shares = [(stats.percentile(s["latency"]["buckets"], profile.stream(s["tag"]).percent) / 1e6 / profile.stream(s["tag"]).goal_ms, s["tag"])
              for s in run["streams"] if s["latency"]["count"] >= FEW]
    return max(shares, default=(0.0, ""))


def crowded(run):
    """Somebody else took so much of the machine that a missed goal may be his."""
    return run["others_cores"] > OTHERS_CORES


def cores_used(run):
    """The server's CPU, in cores."""
    return (run["server_end"]["cpu_us"] - run["server_start"]["cpu_us"]) / 1e6 / run["window_s"]
