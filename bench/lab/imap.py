# SPDX-License-Identifier: Apache-2.0
"""imap: what a list of messages, a search, a sort costs the server, in a mailbox of many messages.

Two equal mailboxes per server, delivered by LMTP: every message is different, with names, encoded words, references, and every
other one in two parts. Each row is one command, run some times on one connection; the servers take turns, row by row and round
by round; the medians of the server's CPU are compared. The first time of each row is a column of its own: Dovecot reads all
messages then and writes its cache, Penfold has noted at delivery what it needs. The two rows with a target have a mailbox that nobody
has looked into before. Every answer is counted: so many FETCH lines or numbers as there must be."""

import os
import random
import smtplib
import socket
import statistics
import time

from . import table
from .bench import say
from .server import DOMAIN, PASSWORD, Failed

# row, command, target of Dovecot's CPU over Penfold's
SECOND = "SUBJECT"  # the row that has the second mailbox
ROWS = [
    ("ENVELOPE", "FETCH 1:* (ENVELOPE)", 5),
    ("list", "FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)", None),
    ("header fields", "FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (FROM TO CC SUBJECT DATE MESSAGE-ID REFERENCES)])", None),
    ("PREVIEW", "FETCH 1:* (PREVIEW)", None),
    ("SUBJECT", "SEARCH SUBJECT \"minutes\"", 3),
    ("FROM", "SEARCH FROM \"ann\"", None),
    ("SENTSINCE", "SEARCH SENTSINCE 1-Feb-2025", None),
    ("BODY", "SEARCH BODY \"no such words\"", None),
    ("sort date", "SORT (REVERSE DATE) UTF-8 ALL", None),
    ("sort subject", "SORT (SUBJECT) UTF-8 ALL", None),
    ("threads", "THREAD REFERENCES UTF-8 ALL", None),
]
SUBJECTS = "invoice meeting reply order holiday photo report minutes budget draft urgent question garden server backup notice".split()
PEOPLE = [("Ann Example", "ann@example.org"), ("Bob Builder", "bob.builder@example.net"), ("=?utf-8?q?J=C3=BCrgen_M=C3=BCller?=", "jm@example.de"),
          ("Carl", "carl@lists.example.org"), ("\"Zoe, Q.\"", "zoe@example.com")]


def message(n, size):
    rng = random.Random(n)
    who = ["%s <%s>" % p for p in rng.choices(PEOPLE, k=5)]
    subject = rng.choice(["", "Re: ", "=?utf-8?b?R3LDvMOfZQ==?= "]) + " ".join(rng.choices(SUBJECTS, k=4))
    head = ["From: " + who[0], "To: " + ", ".join(who[1:1 + rng.randint(1, 3)]), "Subject: " + subject,
            "Date: %d Jan 2025 %02d:%02d:00 +0100" % (1 + n % 31, n % 24, n % 60) if n % 2 else "Date: Sat, %d Feb 2025 10:%02d:00 -0500" % (1 + n % 28, n % 60),
            "Message-ID: <%d.%x@example.org>" % (n, rng.getrandbits(48)), "MIME-Version: 1.0"]
    if n % 3 == 0 and n:
        head.append("References: <%d@example.org>\r\n <%d@example.org>" % (n // 2, n - 1))
    for i in range(8):
        head.append("X-Trace-%d: %x" % (i, rng.getrandbits(200)))
    lines = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz    ", k=70)) for _ in range(max(2, size // 72 - 14))]
    if n % 2:
        return "\r\n".join(head + ["Content-Type: text/plain; charset=utf-8", "", *lines, ""])
    parts = "--%d\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n--%d\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>%s\r\n--%d--\r\n"
    half = len(lines) // 2
    return "\r\n".join(head + ["Content-Type: multipart/alternative; boundary=%d" % n, "", parts % (n, "\r\n".join(lines[:half]), n, "\r\n".join(lines[half:]), n)])


def fill(server, who, messages, size):
    began = time.monotonic()
    with smtplib.LMTP("127.0.0.1", server.lmtp) as l:
        for n in range(messages):
            l.sendmail("sender@bench.example", [who], message(n, size).encode())
    say("filled %s with %d messages in %.1f s" % (server.name, messages, time.monotonic() - began))


class Client:
    """Commands on a socket, answers read to the tagged line and thrown away but for their counts."""

    def __init__(self, server, who):
        self.sock = socket.create_connection(("127.0.0.1", server.imap), 60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.recv(4096)
        self.number = 0
        self.run('LOGIN "%s" "%s"' % (who, PASSWORD))
        self.run("SELECT INBOX")

    def run(self, command):
        self.number += 1
        tag = b"t%d" % self.number
        self.sock.sendall(tag + b" " + command.encode() + b"\r\n")
        pieces, last = [], b""
        while b"\r\n" + tag + b" " not in last and not last.startswith(tag + b" "):
            piece = self.sock.recv(1 << 20)
            if not piece:
                raise Failed("closed in " + command)
            pieces.append(piece)
            last = (last + piece)[-2048:]
        while not last.endswith(b"\r\n"):
            piece = self.sock.recv(1 << 16)
            pieces.append(piece)
            last += piece
        answer = b"".join(pieces)
        if not last[last.rindex(tag + b" "):].startswith(tag + b" OK"):
            raise Failed("%s: %r" % (command, last[-200:]))
        return answer

    def close(self):
        self.sock.close()


def counted(command, answer):
    """How many messages an answer tells of."""
    if command.startswith("FETCH"):
        return answer.count(b" FETCH (")
    line = next((l for l in answer.split(b"\r\n") if l.startswith((b"* SEARCH", b"* SORT", b"* THREAD"))), b"")
    return sum(w.isdigit() for w in line.replace(b"(", b" ").replace(b")", b" ").split())


def cost(server, client, command):
    """(CPU microseconds of the server, messages told)."""
    before = server.group.cpu_us(server.process.pid)
    answer = client.run(command)
    # what goes on behind the answer (a cache that is written) belongs to it
    while True:
        time.sleep(0.05)
        after = server.group.cpu_us(server.process.pid)
        time.sleep(0.05)
        if server.group.cpu_us(server.process.pid) - after < 1000:
            return after - before, counted(command, answer)


def run(bench, o):
    messages, size = (1000, 4096) if o.quick else (10000, 4096)
    bench.add_penfold(["a"], imap=True)
    bench.add_dovecot(["a"])
    servers = list(bench.servers.values())
    os.sched_setaffinity(0, {os.cpu_count() - 1})
    for server in servers:
        fill(server, "a1@" + DOMAIN, messages, size)
        if hasattr(server, "copy_mailbox"):
            server.copy_mailbox("a1", ["a2"])
        else:
            fill(server, "a2@" + DOMAIN, messages, size)
    clients = {(server.name, n): Client(server, "a%d@%s" % (n, DOMAIN)) for server in servers for n in (1, 2)}
    first = {server.name: {} for server in servers}
    costs = {server.name: {row[0]: [] for row in ROWS} for server in servers}
    for turn in range(o.rounds + 1):
        for name, command, _ in ROWS:
            told = set()
            for server in servers:
                us, count = cost(server, clients[server.name, 2 if name == SECOND else 1], command)
                told.add(count)
                if turn == 0:
                    first[server.name][name] = us
                else:
                    costs[server.name][name].append(us)
            if len(told) != 1 or (command.startswith("FETCH") and told != {messages}):
                raise Failed("%s: the servers tell of different numbers of messages: %s" % (command, sorted(told)))
        say("round %d of %d" % (turn, o.rounds))
    for client in clients.values():
        client.close()
    bench.raw["imap"] = {"messages": messages, "size": size, "first": first, "us": costs}
    lines = []
    for name, command, target in ROWS:
        p, d = (statistics.median(costs[s][name]) / messages if s in costs else None for s in ("penfold", "dovecot-maildir"))
        fp, fd = (first[s][name] / messages if s in first else None for s in ("penfold", "dovecot-maildir"))
        lines.append([name, table.show(fp, 2), table.show(fd, 2), table.judged(table.ratio(fd, fp), target, False),
                      table.show(p, 2), table.show(d, 2), table.judged(table.ratio(d, p), target, False)])
    return table.text(["us a message", "first: Penfold", "Dovecot", "ratio", "again: Penfold", "Dovecot", "ratio"], lines)
