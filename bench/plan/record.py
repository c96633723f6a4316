# SPDX-License-Identifier: Apache-2.0
"""record: the shape of a live server's sessions, out of its log, without anybody in it.

Read are the events pop3.login, pop3.end, imap.login, imap.end and lmtp.delivery (log level info, keys or JSON). Written is a
profile (workload.py) with what was measured - rates, how many messages sessions take, sizes and recipients of deliveries, how
many sessions wait - and for each stream a file of the times at which its operations began, for `replay`.

What is left out is the point: no name, address, domain, tenant, id or session number is written, not even scrambled; times
begin at zero and are rounded to 10 ms, sizes are rounded up to half a power of two, counts of messages to one digit. A folder
made here may be given away."""

import datetime
import json
import math
import os
import re
import sys

from .workload import Wrong

HELD_S = 60.0       # an IMAP session that lasts longer waits; a shorter one looks
READ_BYTES = 16384  # an IMAP session that was sent more has read mail
STEPS_MAX = 16      # of a distribution
FIELD = re.compile(r'([a-z_0-9]+)=("(?:[^"\\]|\\.)*"|[^ ]*)')


def event(line):
    """{field: text} of a line of either form; None of anything else."""
    line = line.strip()
    if line.startswith("{"):
        try:
            return json.loads(line)
        except ValueError:
            return None
    fields = {key: value.strip('"') for key, value in FIELD.findall(line)}
    return fields if "event" in fields and "time" in fields else None


def seconds(text):
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None


def rounded_bytes(n):
    """Up to half a power of two: 1024, 1448, 2048 ..."""
    return max(512, math.ceil(2 ** (math.ceil(math.log2(max(1, n)) * 2) / 2)))


def rounded_count(n):
    return n if n < 10 else round(n, -int(math.log10(n)))


def steps(values):
    """"VALUE:SHARE,..." of what was seen, the rarest put to their neighbours."""
    counts = {}
    for v in values:
        counts[v] = counts.get(v, 0) + 1
    while len(counts) > STEPS_MAX:
        least = min(counts, key=lambda v: (counts[v], v))
        near = min((v for v in counts if v != least), key=lambda v: (abs(v - least), v))
        counts[near] += counts.pop(least)
    total = sum(counts.values())
    return ",".join("%d:%.2f" % (v, 100 * n / total) for v, n in sorted(counts.items()))


class Shape:
    """What is kept while the log is read: times and sizes by kind of operation; names only to count them."""

    def __init__(self):
        self.first = self.last = None
        self.users, self.open, self.mails = set(), {}, {}
        self.starts = {}                       # stream: [seconds]
        self.takes = {"fetch": [], "keep": []}  # messages fetched by a session
        self.messages = []                      # in a mailbox at login
        self.tls = {"pop3": [0, 0], "imap": [0, 0]}
        self.waited_s, self.wait_starts = 0.0, []
        self.delivered = []                     # (octets, recipients)

    def take(self, e):
        at, kind = seconds(e.get("time", "")), e.get("event", "")
        if at is None:
            return
        self.first = at if self.first is None else min(self.first, at)
        self.last = at if self.last is None else max(self.last, at)
        if kind in ("pop3.login", "imap.login"):
            protocol = kind[:4]
            self.users.add(e.get("user"))
            self.open[(protocol, e.get("session"))] = at
            self.tls[protocol][e.get("tls", "no") != "no"] += 1
            if "messages" in e:
                self.messages.append(rounded_count(int(e["messages"])))
        elif kind in ("pop3.end", "imap.end"):
            began = self.open.pop((kind[:4], e.get("session")), None)
            if began is not None:
                (self.pop3_end if kind == "pop3.end" else self.imap_end)(e, began, at)
        elif kind == "lmtp.delivery" and e.get("result") == "stored":
            self.users.add(e.get("user"))
            mail = self.mails.setdefault((e.get("session"), e.get("id")), [at, 0, 0])
            mail[1] = max(mail[1], int(e.get("bytes", 0)))
            mail[2] += 1

    def begin(self, stream, at):
        self.starts.setdefault(stream, []).append(at)

    def pop3_end(self, e, began, _at):
        got, gone = int(e.get("retrieved", 0)), int(e.get("deleted", 0))
        if not got:
            self.begin("check", began)
        else:
            self.begin("fetch" if gone else "keep", began)
            self.takes["fetch" if gone else "keep"].append(got)

    def imap_end(self, e, began, at):
        if at - began > HELD_S:
            self.waited_s += at - began
            self.begin("reconnect", began)
        else:
            self.begin("read" if int(e.get("sent_bytes", 0)) > READ_BYTES else "look", began)

    def finish(self):
        for (protocol, _), began in self.open.items():  # still there at the end of the log
            if protocol == "imap" and self.last - began > HELD_S:
                self.waited_s += self.last - began
                self.begin("reconnect", began)
        for at, octets, recipients in self.mails.values():
            self.begin("deliver", at)
            self.delivered.append((rounded_bytes(octets), min(100, recipients)))


def section(name, **keys):
    return "[%s]\n%s\n" % (name, "".join("%s = %s\n" % (k, v) for k, v in keys.items() if v is not None))


def profile(s, accounts):
    """The profile's text, and {stream: times}."""
    took = max(1.0, s.last - s.first)
    out = [section("profile", title="A recorded server", about="The shape of a server's sessions over %.0f s of its log." % took,
                   source="Recorded by bench/plan record; names, addresses and contents were not written.", errors="0.1",
                   stored_bytes="%d" % (50 * 75e3), keeps="30", population=str(max(10, min(6000, rounded_count(int(accounts))))),
                   idle_per_account="%.4f" % (s.waited_s / took / accounts), peak_share="10")]
    tls = {p: "resumed" if n[1] > n[0] else "none" for p, n in s.tls.items()}
    boxes = steps(s.messages) if s.messages else "0"

    def mean(values):
        return max(1, round(sum(values) / len(values))) if values else 1

    kinds = {
        "check": dict(what="POP3 session that took nothing", scenario="pop3-check", pool="lookers", tls=tls["pop3"]),
        "keep": dict(what="POP3 session that left mail", scenario="pop3-fetch", pool="lookers", tls=tls["pop3"],
                     options="--keep --newest %d" % mean(s.takes["keep"])),
        "fetch": dict(what="POP3 session that took all and deleted", scenario="pop3-fetch", pool="takers", tls=tls["pop3"]),
        "look": dict(what="IMAP session, short", scenario="imap-check", pool="lookers", tls=tls["imap"]),
        "reconnect": dict(what="IMAP session that then waited", scenario="imap-login", pool="lookers", tls=tls["imap"]),
        "read": dict(what="IMAP session that read mail", scenario="imap-fetch", pool="lookers", tls=tls["imap"], options="--newest 5"),
        "deliver": dict(what="delivery", scenario="lmtp", pool="takers", options="--pipeline 2 --size %s --recipients %s" % (
            steps([b for b, _ in s.delivered]), steps([n for _, n in s.delivered])) if s.delivered else None),
    }
    for name, share, messages in (("lookers", 50, boxes), ("takers", 50, "0")):
        if any(kinds[k]["pool"] == name for k in s.starts):
            out.append(section("pool " + name, share=share, messages=messages.replace(",", ", "), bytes="4096"))
    times = {}
    for kind, words in kinds.items():
        if kind in s.starts:
            times[kind] = sorted(round(t - s.first, 2) for t in s.starts[kind])
            out.append(section("stream " + kind, **words, per_1000_s="%.6g" % (1000 * len(times[kind]) / took / accounts), connections="128",
                               goal="p99 500", arrivals="arrivals-%s.txt" % kind))
    return "\n".join(out), times


def run(log, out, accounts):
    shape = Shape()
    with sys.stdin if log == "-" else open(log, encoding="utf-8", errors="replace") as f:
        for line in f:
            e = event(line)
            if e:
                shape.take(e)
    if shape.first is None:
        raise Wrong("%s: no event of a server's log in it" % log)
    shape.finish()
    if not shape.starts:
        raise Wrong("%s: no session and no delivery in it" % log)
    text, times = profile(shape, accounts or max(1, len(shape.users)))
    os.makedirs(out, exist_ok=True)
    with open(os.path.join(out, "profile.conf"), "w") as f:
        f.write(text)
    for name, at in times.items():
        with open(os.path.join(out, "arrivals-%s.txt" % name), "w") as f:
            f.write("".join("%.2f\n" % t for t in at))
    print("%s: %.0f s of log, %s" % (out, shape.last - shape.first, ", ".join("%d %s" % (len(t), n) for n, t in sorted(times.items()))))
    return 0
