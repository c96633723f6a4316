# SPDX-License-Identifier: Apache-2.0
"""matrix: what a session, a RETR and a delivery cost, as ratios to the floor and to Dovecot.

Every row is run against all servers in turn, `rounds` times (A B C A B C ...), and the
medians are compared, so that whatever else the machine does falls on all alike."""

import re
from dataclasses import dataclass, field

from . import table
from .bench import MAILBOXES, say


@dataclass
class Row:
    key: str
    title: str
    scenario: str
    kind: str                 # of mailbox
    connections: int
    to_floor: float = None    # target: at most
    to_peer: float = None     # target: at least
    to_peer_rate: float = None
    cores: int = 1
    peer_connections: int = 16
    slow: bool = False        # not in --quick
    floor: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


def check(messages, kind, cores, **kw):
    return Row("check-%d%s" % (messages, "" if cores == 1 else "-2"),
               "POP3 check, %d messages%s" % (messages, "" if cores == 1 else ", 2 shards"), "pop3-check", kind,
               min(64, MAILBOXES[kind][0]), cores=cores, floor={"messages": messages},
               options={"expect_messages": messages}, **kw)


def lmtp(connections, **kw):
    return Row("lmtp-%d" % connections, "LMTP 4 KB, %d connections" % connections, "lmtp", "l", connections, to_peer=10,
               to_peer_rate=8, peer_connections=connections, floor={"logs": 1}, options={"size": 4096, "pipeline": 2}, **kw)


ROWS = [
    Row("login", "POP3 login, STAT", "pop3-login", "a", 64, floor={"messages": 10}, slow=True),
    check(10, "a", 1, to_floor=2, to_peer=18, slow=True),
    check(100, "b", 1, to_floor=2, to_peer=18),
    check(10000, "c", 1, to_floor=3, slow=True),
    Row("check-pipelined", "POP3 check, 100, pipelined", "pop3-check", "b", 64, floor={"messages": 100}, slow=True,
        options={"pipeline": 8, "expect_messages": 100}),
    Row("retr-20k", "RETR 20 KB", "pop3-retr", "r", 16, to_floor=1.5, floor={"size": 20480, "distinct": 16 * 10}),
    Row("retr-2m", "RETR 2 MB", "pop3-retr", "m", 16, to_floor=1.3, floor={"size": 2 * 1024 * 1024, "distinct": 16 * 3}, slow=True),
    lmtp(1),
    lmtp(4, slow=True),
    lmtp(16),
    lmtp(64, slow=True),
    Row("lmtp-10to", "LMTP 4 KB to 10 people, 16 connections", "lmtp", "l", 16, peer_connections=16, floor={"logs": 1}, slow=True,
        options={"size": 4096, "pipeline": 2, "recipients": 10}),
    check(10, "a", 2, to_floor=2, to_peer=18, slow=True),
    check(100, "b", 2, to_floor=2, to_peer=18, slow=True),
    check(10000, "c", 2, to_floor=3, slow=True),
]


def chosen(o):
    return [row for row in ROWS if re.search(o.only, row.key) and not (o.quick and row.slow and o.only == ".")]


def servers_for(bench, row):
    """sdbox is Dovecot's best store for deliveries, Maildir for everything else."""
    return [s for name, s in bench.servers.items() if name != "dovecot-sdbox" or row.scenario == "lmtp"]


def measure(bench, row, o):
    runs = {server.name: [] for server in servers_for(bench, row)}
    if "floor" in bench.servers:
        bench.servers["floor"].pretend(**row.floor)
    for _ in range(o.rounds):
        for server in servers_for(bench, row):
            peer = server.name.startswith("dovecot")
            options = dict(row.options)
            if server.name == "floor" and row.kind != "l":
                options["expect_messages"] = row.floor.get("messages", 100)
            runs[server.name].append(bench.run(
                server, row.key, row.scenario, row.kind + "%d", 1, MAILBOXES[row.kind][0],
                row.peer_connections if peer else row.connections, seconds=o.seconds, warmup=o.warmup, **options))
    result = {name: {key: table.median(list_, key) for key in ("server_us", "client_us", "per_s")}
              for name, list_ in runs.items()}
    say("%-36s %s" % (row.title, "  ".join("%s %.1f us %.0f/s" % (n, r["server_us"], r["per_s"]) for n, r in result.items())))
    return result


def best_peer(result):
    peers = [r for name, r in result.items() if name.startswith("dovecot")]
    if not peers:
        return {}
    return {"server_us": min(r["server_us"] for r in peers), "per_s": max(r["per_s"] for r in peers)}


def line(row, result):
    penfold = result.get("penfold", {})
    floor = result.get("floor", {})
    peer = best_peer(result)
    return [row.title, row.connections, table.show(penfold.get("server_us")), table.show(floor.get("server_us")),
            table.judged(table.ratio(penfold.get("server_us"), floor.get("server_us")), row.to_floor, True),
            table.show(peer.get("server_us"), 0),
            table.judged(table.ratio(peer.get("server_us"), penfold.get("server_us")), row.to_peer, False),
            table.show(penfold.get("per_s"), 0), table.show(peer.get("per_s"), 0),
            table.judged(table.ratio(penfold.get("per_s"), peer.get("per_s")), row.to_peer_rate, False)]


HEADER = ["operation", "conns", "Penfold us", "floor us", "Penfold/floor", "Dovecot us", "Dovecot/Penfold", "Penfold /s",
          "Dovecot /s", "rate ratio"]


def latency(bench, results, o):
    """p99 of check-mail at 70 % of each server's own closed-loop maximum, arrivals by Poisson."""
    lines = []
    for server in servers_for(bench, ROWS[0]):
        own = results.get("check-100", {}).get(server.name)
        if not own or server.name == "floor": # the generator, not the floor, ends the floor's rate
            continue
        rate = 0.7 * own["per_s"]
        runs = [bench.run(server, "latency-70", "pop3-check", "b%d", 1, 64, 64, rate=rate, seconds=max(o.seconds, 3.0),
                          warmup=o.warmup) for _ in range(o.rounds)]
        p50, p99, p999 = (table.median([r["latency"] for r in runs], k) / 1000 for k in ("p50_us", "p99_us", "p999_us"))
        verdict = "" if server.name != "penfold" else "< 2 ms ok" if p99 < 2 else "< 2 ms MISSED"
        lines.append([server.name, table.show(rate, 0), table.show(p50, 2), table.show(p99, 2), table.show(p999, 2), verdict])
    return lines


def run(bench, o):
    rows = chosen(o)
    kinds = sorted({row.kind for row in rows} | {"b"})
    bench.add_penfold(kinds)
    bench.add_dovecot(kinds)
    if any(row.scenario == "lmtp" for row in rows):
        bench.add_dovecot(["l"], "sdbox")
    bench.add_floor()
    results = {}
    lines = []
    cores = 1
    for row in rows:
        if row.cores != cores:
            cores = row.cores
            bench.spread(cores)
        bench.fill(row.kind, servers_for(bench, row))
        results[row.key] = measure(bench, row, o)
        lines.append(line(row, results[row.key]))
    if cores != 1:
        bench.spread(1)
    bench.raw["medians"] = results
    text = table.text(HEADER, lines)
    late = latency(bench, results, o)
    if late:
        text += "\n\nPOP3 check of 100 messages at 70 % of each one's own maximum (ms)\n" + table.text(
            ["server", "offered/s", "p50", "p99", "p99.9", ""], late)
    return text
