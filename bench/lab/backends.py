# SPDX-License-Identifier: Apache-2.0
"""backends: what the same server costs on its two back ends, io_uring and epoll, as ratios.

Two Penfolds of one build take turns on the same rows as in the matrix, and hold the same idle IMAP sessions."""

import re
import resource
import socket

from . import matrix, table
from .bench import say

ROWS = ("login", "check-10", "check-100", "retr-4k", "retr-20k", "retr-2m", "lmtp-1", "lmtp-16", "check-10-2")
BACKENDS = ("io_uring", "epoll")
IDLE_STEPS = (500, 2000)
RETR_SMALL = matrix.Row("retr-4k", "RETR 2 KB", "pop3-retr", "a", 16)


def anonymous(server):
    """Octets of the server's memory that are its own and resident."""
    with open("/proc/%d/status" % server.process.pid, encoding="ascii") as f:
        return int(re.search(r"RssAnon:\s+(\d+)", f.read())[1]) * 1024


def ask(s, text, until):
    s.sendall(text)
    got = b""
    while until not in got:
        chunk = s.recv(4096)
        if not chunk:
            raise OSError("the server closed: %r" % got)
        got += chunk
    return got


def imap_session(server, n, password, idle):
    s = socket.create_connection(("127.0.0.1", server.imap), 30)
    ask(s, b"", b"\r\n")
    if b"a OK" not in ask(s, b"a LOGIN i%d \"%s\"\r\n" % (n, password), b"a "):
        raise OSError("login refused")
    ask(s, b"b SELECT INBOX\r\n", b"b OK")
    if idle:
        ask(s, b"c IDLE\r\n", b"+ ")
        return s
    ask(s, b"c LOGOUT\r\n", b"c OK")
    s.close()
    return None


def idle_imap(server, password):
    """(octets of a session by the slope between two numbers of them)"""
    held, points = [], []
    for n in range(1, IDLE_STEPS[-1] + 1):
        imap_session(server, n, password, False)
    for step in IDLE_STEPS:
        held += [imap_session(server, n, password, True) for n in range(len(held) + 1, step + 1)]
        points.append(anonymous(server))
    for s in held:
        s.close()
    return (points[1] - points[0]) / (IDLE_STEPS[1] - IDLE_STEPS[0])


def run(bench, o):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = [r for r in matrix.ROWS + [RETR_SMALL] if r.key in ROWS and re.search(o.only, r.key)]
    rows = sorted((r for r in wanted if not (o.quick and r.cores > 1)), key=lambda r: (r.cores, ROWS.index(r.key)))
    for i, backend in enumerate(BACKENDS):
        bench.add_penfold_on(backend, sorted({r.kind for r in rows} | {"i"}), i)
    lines, results, cores = [], {}, 1
    for row in rows:
        if row.cores != cores:
            cores = row.cores
            bench.spread(cores)
        bench.fill(row.kind, list(bench.servers.values()))
        results[row.key] = result = matrix.measure(bench, row, o)
        ring, other = (result[b] for b in BACKENDS)
        lines.append([row.title, row.connections, table.show(ring["server_us"]), table.show(other["server_us"]),
                      "%.2f" % table.ratio(other["server_us"], ring["server_us"]), table.show(ring["per_s"], 0), table.show(other["per_s"], 0)])
    if re.search(o.only, "idle"):
        each = []
        for backend in BACKENDS:
            bench.servers[backend].restart()
            each.append(idle_imap(bench.servers[backend], bench.password()))
            say("idle IMAP session, %s: %.0f octets" % (backend, each[-1]))
        results["idle-imap"] = dict(zip(BACKENDS, each))
        lines.append(["IMAP session in IDLE, octets of user memory", IDLE_STEPS[-1], "%.0f" % each[0], "%.0f" % each[1],
                      "%.2f" % table.ratio(each[1], each[0]), "", ""])
    bench.raw["medians"] = results
    return table.text(["operation", "conns", "io_uring us", "epoll us", "epoll/io_uring", "io_uring /s", "epoll /s"], lines)
