# SPDX-License-Identifier: Apache-2.0
"""measure: all runs of one plan, in order, into one raw dict. Nothing is concluded here but where to measure next.

For the first number of shards: a pilot at a low rate, from whose CPU the first guess is made (for more of them it is what fewer
have held); steps up until a goal is missed; bisection between the last good and the first bad, as far as the time allows; then 80,
100 and 120 % of what was found, the 100 % lowered where it does not hold a second time. Then, at the first number of shards, each stream alone (what does one operation cost) and sessions held
(what does one cost that waits)."""

import os
import resource
import time

from . import house as house_module
from . import judge, stats
from .house import House

CLOSE_ENOUGH = 1.07    # good and bad rate so near to each other end the search
RUNS_MAX = 10          # of one search
HELD_MAX = 2000        # sessions held for the memory of one
ALONE_S = 2.0


def expected_s(o):
    """A guess for the progress bar."""
    one = o.seconds + o.warmup + 0.6
    return 15 + len(o.shards) * (min(12, o.runs + 4) * one + 2) + 6 * (min(ALONE_S, o.seconds) + 1) + 5


class Measurement:
    def __init__(self, o, profile, progress, network):
        self.o, self.profile, self.progress = o, profile, progress
        self.house = House(profile, o.build, o.work, o.port, progress)
        self.seed = o.seed
        self.again = o.again
        self.before_s = 0.0
        self.raw = {"format": 1, "profile_name": profile.name, "profile": profile.text, "network": network,
                    "settings": {"seconds": o.seconds, "warmup": o.warmup, "shards": o.shards, "seed": o.seed}, "runs": []}

    def all(self, finish):
        """Measures; finish(raw) is called before the folder of mail is taken down, which may take its time. Returns what it returns."""
        with self.house as house:
            self.progress.step("making %d accounts" % self.profile.accounts)
            house.create(self.o.shards[0])
            self.raw["machine"] = house.machine(self.raw["network"])
            self.progress.step("delivering what lies in the mailboxes")
            messages, octets = house.fill()
            self.progress.step("asking the disk")
            self.raw["fill"] = {"messages": messages, "bytes": octets}
            self.raw["disk"] = house.disk()
            self.raw["search"] = {}
            self.before_s = self.progress.elapsed()
            for i, shards in enumerate(self.o.shards):
                if i:
                    house.start(shards)
                self.raw["search"][str(shards)] = self._one_size(shards)
            house.start(self.o.shards[0])
            self._alone()
            self._held()
            self.raw["took_s"] = round(self.progress.elapsed(), 1)
            done = finish(self.raw)
            self.progress.step("taking the mail down")
        return done

    # ---- one run

    def run(self, kind, shards, accounts, streams, seconds=None, warmup=None, percent=None, closed=0):
        """Runs the streams at the rates of so many accounts (closed: in a closed loop of so many connections)."""
        house = self.house
        seconds, warmup = seconds or self.o.seconds, self.o.warmup if warmup is None else warmup
        lines = [house.stream_words(s, 0 if closed else accounts, closed or None) for s in streams]
        before = house.server.counters()["metrics.store_commits_total"], house_module.busy_s(), _children_s(), self._server_s(), time.monotonic()
        self.seed += 1
        figures = house.mix(lines, seconds, warmup, self.seed, 1 if shards == 1 and os.cpu_count() > 1 else None)
        after = house.server.counters()["metrics.store_commits_total"], house_module.busy_s(), _children_s(), self._server_s(), time.monotonic()
        took = after[4] - before[4]
        others = (after[1] - before[1]) - (after[2] - before[2]) - (after[3] - before[3])
        figures.update(kind=kind, number=len(self.raw["runs"]) + 1, shards=shards, accounts=accounts, percent=percent, took_s=round(took, 3),
                       commits=after[0] - before[0], others_cores=round(max(0.0, others / took), 3))
        for stream in figures["streams"]:
            for name in ("latency", "lag"):
                stream[name]["buckets"] = stats.coarse(stream[name]["buckets"], 5 if name == "latency" else 2)
        self.raw["runs"].append(figures)
        return figures

    def _server_s(self):
        group = self.house.server.group
        if group.measured:
            path = os.path.join(group.measured, "cpuacct.usage")
            if os.path.exists(path):
                with open(path) as f:
                    return int(f.read()) / 1e9
            with open(os.path.join(group.measured, "cpu.stat")) as f:
                return int(f.readline().split()[1]) / 1e6
        with open("/proc/%d/stat" % self.house.server.process.pid) as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # ---- the search

    def _try(self, kind, shards, accounts, percent=None):
        """One run at a rate; again if it is not to be believed. Returns (run, "good" | "bad" | "doubt")."""
        verdict = "doubt"
        for _ in range(3):
            self.progress.step("%s: %s for %s accounts" % (_shards(shards), "searching, load" if kind == "search" else "%d %%, load" % (percent or 0)
                                                         if kind == "point" else kind, _thousands(accounts)))
            run = self.run(kind, shards, accounts, self.profile.streams, percent=percent)
            missed = judge.misses(run, self.profile)
            verdict = "doubt" if judge.doubts(run, self.profile) else "bad" if missed else "good"
            if missed and judge.cores_used(run) > 0.9 * shards:
                return run, "bad"  # the server is full: whatever the generator does, this rate is not good
            if verdict == "good" or not self._again(run, verdict):
                break
        return run, verdict

    def _again(self, run, verdict):
        """Is it worth another run: was it the generator's, or a neighbour's, fault? Bounded over the whole plan."""
        if self.again and self.progress.elapsed() < self.o.minutes * 54 and (verdict == "doubt" or judge.crowded(run)):
            self.again -= 1
            return True
        return False

    def _one_size(self, shards):
        """The highest rate that keeps the goals: {"accounts", "ended_by", "good", "bad"}."""
        per_account = self.profile.operations_per_1000_s() / 1000
        until = self._until(shards)
        smaller = self.raw["search"].get(str(self.o.shards[self.o.shards.index(shards) - 1]))
        good, bad, ended = None, None, "bound"
        if smaller:  # what fewer shards have held, and some more
            level = smaller["accounts"] * min(1.6, max(1.0, 0.8 * shards / self.o.shards[self.o.shards.index(shards) - 1]))
        else:
            level = self.o.pilot / per_account
            run, verdict = self._try("pilot", shards, level)
            good, bad, ended = (level, None, "bound") if verdict == "good" else (None, level, "goal")
            level *= min(40, max(2, 0.8 * shards / max(1e-3, judge.cores_used(run)))) if good else 1 / 3
        for _ in range(self.o.runs):
            if good and self.progress.elapsed() > until:
                break
            run, verdict = self._try("search", shards, level)
            if verdict == "good":
                good = level
            else:
                bad = level
                ended = "generator" if verdict == "doubt" else "goal"
            if good and bad and bad / good <= CLOSE_ENOUGH:
                break
            if not bad:
                level = good * min(2.0, max(1.15, 0.97 * shards / max(1e-3, judge.cores_used(run))))
            elif not good:
                level = bad / 2
            else:
                level = (good * bad) ** 0.5
        return self._points(shards, good or bad / 2, bad, ended)  # the points tell whether that holds, and the report says if not

    def _until(self, shards):
        """When this search must have found what it can, for all to end in time."""
        count, one, rest = len(self.o.shards), self.o.seconds + self.o.warmup + 1, 8 * (ALONE_S + 1) + 10
        share = (self.o.minutes * 60 - self.before_s - rest) / count
        return self.before_s + share * (self.o.shards.index(shards) + 1) - 3.5 * one

    def _points(self, shards, good, bad, ended):
        """The rate must hold a second time; then the points below and above it."""
        for last in (False, False, True):
            _, verdict = self._try("point", shards, good, percent=100)
            if verdict == "good" or last:
                break
            ended = "generator" if verdict == "doubt" else "goal"
            bad, good = good, good * 0.92
            for run in self.raw["runs"]:
                if run["percent"] == 100 and run["shards"] == shards:
                    run.update(kind="search", percent=None)
        for percent in (80, 120):
            self._try("point", shards, good * percent / 100, percent=percent)
        return {"accounts": good, "bad": bad, "ended_by": ended, "held": verdict == "good"}

    # ---- what one operation costs, and one session that waits

    def _alone(self):
        shards = self.o.shards[0]
        for stream in self.profile.streams:
            if stream.idle:
                continue
            self.progress.step("%s alone" % stream.name)
            self.run("closed", shards, 0, [stream], seconds=min(ALONE_S, self.o.seconds), warmup=min(0.5, self.o.warmup), closed=min(16, stream.connections))

    def _held(self):
        held = next((s for s in self.profile.streams if s.idle), None)
        if not held:
            return
        count = min(HELD_MAX, held.last - held.first + 1, held.connections if self.o.small else HELD_MAX)
        self.progress.step("holding %d sessions" % count)
        self.house.start(self.o.shards[0])
        server = self.house.server
        port = server.port_of(held)
        words = ["--address", "127.0.0.1:%d" % port, "--first", str(held.first), "--last", str(held.last)] + \
            (["--tls", "implicit"] if held.tls != "none" else [])
        self.house.run_load(["--scenario", "imap-login", "--count", str(count), "--connections", "16", *words])
        figures = self.house.run_load(["--scenario", "imap-idle", "--hold", "1", "--connections", str(count), *words])
        self.raw["held"] = {"sessions": figures["opened"], "tls": held.tls != "none",
                            "before_bytes": figures["server_before"]["rss_bytes"], "held_bytes": figures["server_end"]["rss_bytes"]}


def _children_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _thousands(n):
    return "{:,.0f}".format(n)


def _shards(n):
    return "1 shard" if n == 1 else "%d shards" % n
