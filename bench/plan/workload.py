# SPDX-License-Identifier: Apache-2.0
"""workload: a profile file: who the accounts are, what arrives how often, and what counts as good enough.

A profile is an INI file (Python's configparser, `;` or `#` begin comments):

    [profile]
    title    = one line
    about    = what it stands for
    source   = where its numbers come from
    errors   = 0.1           ; percent of operations that may fail
    stored_bytes = 2.0e6     ; what an account keeps, on average: for the plan's disk
    keeps    = 30            ; days that a delivered message stays, for the plan's growth; 0: it is fetched and deleted
    population = 6000        ; accounts made for the test; the rates of N accounts are played on them
    idle_per_account = 0.4   ; connections held in IDLE at the peak, for the plan's memory

    [pool NAME]              ; a share of the population, with the same mail in it
    share    = 20            ; percent
    messages = 10:40, 50:40, 300:20     ; how many lie there at the beginning: NUMBER:SHARE, ...
    bytes    = 4096          ; of each of them

    [stream NAME]            ; one kind of operation
    what     = words for the report
    scenario = pop3-check    ; of bench/load: build/bench/load --help
    pool     = NAME
    per_1000_s = 0.333       ; arrivals a second of 1,000 accounts in the peak hour; none for imap-idle
    tls      = none | full | resumed
    goal     = p99 250       ; this percentile of the latency may be so many milliseconds
    connections = 64         ; how many the generator may use at once (imap-idle: holds all the time)
    options  = --newest 1 --keep        ; more words for bench/load
    arrivals = FILE          ; made by `record`: times in seconds, one a line, for `replay`; `run` draws from Poisson all the same

A stream with scenario imap-idle has no arrivals: its operations are begun by mail that another stream delivers to
the same pool. Errors name the file, the section and what was expected.
"""

import configparser
import os

SCENARIOS = ("pop3-login", "pop3-check", "pop3-fetch", "lmtp", "imap-login", "imap-check", "imap-fetch", "imap-idle")
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "profiles")


class Wrong(Exception):
    """A profile is not as it should be."""


def _number(section, key, where, default=None, low=0.0, high=1e15):
    text = section.get(key)
    if text is None and default is not None:
        return default
    try:
        value = float(text)
    except (TypeError, ValueError):
        raise Wrong("%s: %s: expected a number, not %r" % (where, key, text)) from None
    if not low <= value <= high:
        raise Wrong("%s: %s: expected %g to %g, not %g" % (where, key, low, high, value))
    return value


def weights(text, where):
    """[(value, share)] of "VALUE:SHARE, ..."; shares are made to sum up to 1."""
    out = []
    for part in text.split(","):
        value, _, share = part.strip().partition(":")
        try:
            out.append((float(value), float(share or 1)))
        except ValueError:
            raise Wrong("%s: expected NUMBER:SHARE, ..., not %r" % (where, part.strip())) from None
    total = sum(share for _, share in out)
    if not total > 0:
        raise Wrong("%s: the shares sum up to nothing" % where)
    return [(value, share / total) for value, share in out]


class Pool:
    def __init__(self, name, section, where):
        self.name = name
        self.share = _number(section, "share", where, low=0.01, high=100) / 100
        self.messages = weights(section.get("messages", "0"), where + ": messages")
        self.bytes = int(_number(section, "bytes", where, 4096, 1, 1e8))
        self.first = self.last = 0  # accounts, once the population is cut up

    def parts(self):
        """(first, last, messages): ranges of accounts with the same number of messages."""
        count, at, done = self.last - self.first + 1, self.first, 0.0
        out = []
        for value, share in self.messages:
            done += share
            end = self.first - 1 + round(count * done)
            if end >= at:
                out.append((at, end, int(value)))
                at = end + 1
        return out


class Stream:
    def __init__(self, name, section, where):
        self.name = name
        self.what = section.get("what", name)
        self.scenario = section.get("scenario", "")
        if self.scenario not in SCENARIOS:
            raise Wrong("%s: scenario: expected one of %s, not %r" % (where, ", ".join(SCENARIOS), self.scenario))
        self.idle = self.scenario == "imap-idle"
        self.pool = section.get("pool", "")
        self.per_1000_s = 0.0 if self.idle else _number(section, "per_1000_s", where, low=1e-9)
        self.tls = section.get("tls", "none")
        if self.tls not in ("none", "full", "resumed") or (self.tls != "none" and self.scenario == "lmtp"):
            raise Wrong("%s: tls: expected none, full or resumed (lmtp: none), not %r" % (where, self.tls))
        self.connections = int(_number(section, "connections", where, 64, 1, 20000))
        self.options = section.get("options", "").split()
        self.arrivals = section.get("arrivals")
        goal = section.get("goal", "").split()
        try:
            self.percent, self.goal_ms = float(goal[0].lstrip("p")), float(goal[1])
        except (IndexError, ValueError):
            raise Wrong("%s: goal: expected \"p99 250\", not %r" % (where, " ".join(goal))) from None


class Profile:
    def __init__(self, text, name, folder="."):
        self.text, self.name, self.folder = text, name, folder
        parser = configparser.ConfigParser(inline_comment_prefixes=(";", "#"), interpolation=None)
        try:
            parser.read_string(text, name)
            head = parser["profile"]
        except (configparser.Error, KeyError) as e:
            raise Wrong("%s: %s" % (name, str(e).replace("\n", " "))) from None
        self.title = head.get("title", name)
        self.about = " ".join(head.get("about", "").split())
        self.source = " ".join(head.get("source", "").split())
        self.errors = _number(head, "errors", name + ": [profile]", 0.1, 0, 100) / 100
        self.stored_bytes = _number(head, "stored_bytes", name + ": [profile]")
        self.keeps_days = _number(head, "keeps", name + ": [profile]", 0.0)
        self.population = int(_number(head, "population", name + ": [profile]", 6000, 10, 1e6))
        self.idle_per_account = _number(head, "idle_per_account", name + ": [profile]", 0.0, 0, 100)
        self.peak_share = _number(head, "peak_share", name + ": [profile]", 10.0, 100 / 24 - 0.01, 100) / 100
        self.pools, self.streams = {}, []
        for section in parser.sections():
            kind, _, what = section.partition(" ")
            where = "%s: [%s]" % (name, section)
            if kind == "pool":
                self.pools[what] = Pool(what, parser[section], where)
            elif kind == "stream":
                self.streams.append(Stream(what, parser[section], where))
            elif section != "profile":
                raise Wrong("%s: expected [profile], [pool NAME] or [stream NAME]" % where)
        self._cut()

    def _cut(self):
        if not self.streams:
            raise Wrong("%s: no [stream NAME]" % self.name)
        if not any(s.per_1000_s for s in self.streams):
            raise Wrong("%s: no stream has arrivals" % self.name)
        for s in self.streams:
            if s.pool not in self.pools:
                raise Wrong("%s: [stream %s]: pool: there is no [pool %s]" % (self.name, s.name, s.pool))
        total = sum(p.share for p in self.pools.values())
        if total > 1.0001:
            raise Wrong("%s: the pools' shares sum up to %g %%" % (self.name, 100 * total))
        at = 1
        for p in self.pools.values():
            p.first, p.last = at, at + max(1, round(self.population * p.share)) - 1
            at = p.last + 1
        # a maildrop is locked by its session: streams of sessions on one pool share its accounts between them
        self.accounts = at - 1
        for p in self.pools.values():
            sharers = [s for s in self.streams if s.pool == p.name and s.scenario.startswith("pop3-")]
            size = (p.last - p.first + 1) // max(1, len(sharers))
            for i, s in enumerate(sharers):
                s.first, s.last = p.first + i * size, p.first + (i + 1) * size - 1
                if size < 1:
                    raise Wrong("%s: [pool %s]: fewer accounts than streams" % (self.name, p.name))
            for s in self.streams:
                if s.pool == p.name and s not in sharers:
                    s.first, s.last = p.first, p.last
        for s in self.streams:
            s.connections = min(s.connections, s.last - s.first + 1)

    def operations_per_1000_s(self):
        return sum(s.per_1000_s for s in self.streams)

    def stream(self, name):
        return next(s for s in self.streams if s.name == name)


def load(name):
    """By name (profiles/NAME.conf), by file, or by a folder that `record` wrote."""
    path = name
    if os.path.isdir(path):
        path = os.path.join(path, "profile.conf")
    elif not os.path.exists(path):
        path = os.path.join(HERE, name + ".conf")
    try:
        with open(path) as f:
            text = f.read()
    except OSError as e:
        raise Wrong("%s: %s; there are: %s" % (name, e.strerror, ", ".join(names()))) from None
    base = os.path.splitext(os.path.basename(path))[0]
    if base == "profile":
        base = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return Profile(text, base, os.path.dirname(os.path.abspath(path)))


def names():
    return sorted(f[:-5] for f in os.listdir(HERE) if f.endswith(".conf"))
