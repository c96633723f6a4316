# SPDX-License-Identifier: Apache-2.0
"""imap-sessions: what IMAP costs the server a session and a command: a client that checks for mail with few and many messages, SELECT
of a very large folder, APPEND of 4 KB that is durable when it is answered.

Equal mailboxes per server; each row is run some times on each server in turn, round by round, and the medians of the server's CPU an
operation are compared. Both servers have seen every mailbox once before."""

import os
import statistics

from . import table
from .bench import say
from .imap import Client, cost, fill, message
from .server import DOMAIN, Failed

COPY_MAX = 16384  # messages of one COPY
LARGE = "Large"


class Check:
    """LOGIN, SELECT INBOX, UID FETCH 1:* (FLAGS), LOGOUT, on a connection of its own."""

    def __init__(self, server, who, messages, times):
        self.server, self.who, self.messages, self.times = server, who, messages, times

    def run(self, _):
        for _ in range(self.times):
            c = Client(self.server, self.who)
            told = c.run("UID FETCH 1:* (FLAGS)").count(b" FETCH (")
            c.run("LOGOUT")
            c.close()
            if told != self.messages:
                raise Failed("told of %d messages" % told)
        return b""


class Select(Client):
    def __init__(self, server, who, times):
        super().__init__(server, who)
        self.times = times

    def run(self, command):
        if command != "row":
            return super().run(command)
        for _ in range(self.times):
            super().run("SELECT " + LARGE)
        return b""


class Append(Client):
    def __init__(self, server, who, times):
        super().__init__(server, who)
        self.times, self.text = times, message(1, 4096)

    def run(self, command):
        if command != "row":
            return super().run(command)
        for _ in range(self.times):
            super().run("APPEND INBOX {%d+}\r\n%s" % (len(self.text.encode()), self.text))
        return b""


def fill_large(server, who, messages):
    c = Client(server, who)
    text = message(1, 1000)
    c.run("CREATE " + LARGE)
    c.run("APPEND %s {%d+}\r\n%s" % (LARGE, len(text.encode()), text))
    there = 1
    while there < messages:
        c.run("SELECT " + LARGE)
        n = min(there, messages - there, COPY_MAX)
        c.run("COPY 1:%d %s" % (n, LARGE))
        there += n
    c.close()
    say("filled %s of %s with %d messages" % (LARGE, server.name, messages))


def run(bench, o):
    many, large = (1000, 10000) if o.quick else (10000, 100000)
    bench.add_penfold(["a"], imap=True)
    bench.add_dovecot(["a"])
    servers = list(bench.servers.values())
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    rows = [("check mail, 100 messages", 15, 20), ("check mail, %d" % many, 15, 5), ("SELECT of %d" % large, 10, 20), ("APPEND of 4 KB", 10, 50)]
    clients = {}
    for server in servers:
        fill(server, "a1@" + DOMAIN, 100, 4096)
        fill(server, "a2@" + DOMAIN, many, 4096)
        fill_large(server, "a3@" + DOMAIN, large)
        kinds = (Check(server, "a1@" + DOMAIN, 100, rows[0][2]), Check(server, "a2@" + DOMAIN, many, rows[1][2]),
                 Select(server, "a3@" + DOMAIN, rows[2][2]), Append(server, "a4@" + DOMAIN, rows[3][2]))
        clients.update(((server.name, row[0]), kind) for row, kind in zip(rows, kinds))
    costs = {server.name: {row[0]: [] for row in rows} for server in servers}
    for turn in range(o.rounds + 1):
        for name, _, times in rows:
            for server in servers:
                us, _ = cost(server, clients[server.name, name], "row")
                if turn:
                    costs[server.name][name].append(us / times)
        say("round %d of %d" % (turn, o.rounds))
    bench.raw["imap-sessions"] = costs
    lines = []
    for name, target, _ in rows:
        p, d = (statistics.median(costs[s][name]) if s in costs else None for s in ("penfold", "dovecot-maildir"))
        lines.append([name, table.show(p, 0), table.show(d, 0), table.judged(table.ratio(d, p), target, False)])
    return table.text(["us an operation", "Penfold", "Dovecot", "ratio"], lines)
