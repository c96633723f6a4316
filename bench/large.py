#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a large folder costs: its opening, FETCH 1:* (FLAGS) of all of it, and what another session's poll waits meanwhile.

    bench/large.py --address 127.0.0.1:1143 --user ann@demo.example --password secret --server-pid PID [--messages 1000000] [--fill-only] [--json]

Fills the folder Large (of an account of one's own) by APPEND and COPY as far as it is not filled, then measures: LOGIN and SELECT (seconds,
how the server's memory grows), the FETCH by a client that does not read for a second and then reads all, and the
answers to STATUS that another session asks for every few milliseconds. Restart the server behind --fill-only to measure a cold opening."""
import argparse
import json
import multiprocessing
import re
import socket
import sys
import time

COPY_MAX = 32768  # messages of one COPY


class Session:
    def __init__(self, o):
        host, port = o.address.rsplit(":", 1)
        self.s = socket.create_connection((host, int(port)), 600)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.s.recv(4096)
        self.n, self.told = 0, 0
        self.run('LOGIN "%s" "%s"' % (o.user, o.password))

    def run(self, command, pause=0.0):
        """The answer's beginning and end; .told: its FETCH lines, .octets: its length."""
        self.n += 1
        tag = b"\r\nt%d " % self.n
        self.s.sendall(tag[2:] + command.encode() + b"\r\n")
        time.sleep(pause)
        self.told = self.octets = 0
        head, last = b"", b"\r\n"
        while True:
            piece = self.s.recv(1 << 20)
            if not piece:
                sys.exit("closed in " + command)
            self.told += (last[-7:] + piece).count(b" FETCH (")  # one that is cut is whole in this piece, and was not in the last
            self.octets += len(piece)
            if len(head) < 1 << 16:
                head += piece
            last = (last + piece)[-4096:]
            at = last.rfind(tag)
            if at >= 0 and last.endswith(b"\r\n"):
                if not last[at:].startswith(tag + b"OK"):
                    sys.exit("%s: %r" % (command, last[at:]))
                return head


def memory(o):
    """RssAnon in octets"""
    with open("/proc/%d/status" % o.server_pid) as f:
        return 1024 * int(re.search(r"RssAnon:\s+(\d+)", f.read())[1])


def count(s):
    return int(re.search(rb"MESSAGES (\d+)", s.run("STATUS Large (MESSAGES)"))[1])


def fill(s, o):
    if b"Large" not in s.run('LIST "" Large'):
        s.run("CREATE Large")
    there = count(s)
    if not there:
        text = "From: a@remote.example\r\nSubject: one of many\r\n\r\nText.\r\n"
        s.run("APPEND Large {%d+}\r\n%s" % (len(text), text))
        there = 1
    while there < o.messages:
        s.run("SELECT Large")
        n = min(there, o.messages - there, COPY_MAX)
        s.run("COPY 1:%d Large" % n)
        there += n
    s.run("UNSELECT") if there > 1 else None


class Poller:
    """Another session of the same account, so on the same shard; a process of its own, so that it waits for the server alone."""

    def __init__(self, o):
        self.session, self.o, self.over = Session(o), o, multiprocessing.Event()
        self.here, self.there = multiprocessing.Pipe()

    def start(self):
        self.process = multiprocessing.Process(target=self.poll, daemon=True)
        self.process.start()

    def poll(self):
        ms, most = [], 0
        while not ms or not self.over.is_set():
            began = time.perf_counter()
            self.session.run("STATUS INBOX (MESSAGES)")
            ms.append(1000 * (time.perf_counter() - began))
            most = max(most, memory(self.o))
            time.sleep(0.003)
        self.there.send((sorted(ms), most))

    def end(self):
        """(memory at most, figures)"""
        self.over.set()
        ms, most = self.here.recv()
        self.process.join()
        return most, {"polls": len(ms), "poll_median_ms": ms[len(ms) // 2], "poll_p99_ms": ms[len(ms) * 99 // 100], "poll_max_ms": ms[-1]}


def opened(o):
    """LOGIN and SELECT by the first session: what is kept of the account is read then."""
    before, began = memory(o), time.perf_counter()
    s = Session(o)
    s.run("SELECT Large")
    return s, {"seconds": time.perf_counter() - began, "memory_octets": memory(o) - before}


def measured(o, do):
    poller = Poller(o)
    before = memory(o)
    poller.start()
    began = time.perf_counter()
    do()
    seconds = time.perf_counter() - began
    most, polls = poller.end()
    return {"seconds": seconds, "memory_octets": max(most, memory(o)) - before, **polls}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--address", default="127.0.0.1:1143")
    p.add_argument("--user", required=True)
    p.add_argument("--password", required=True)
    p.add_argument("--server-pid", type=int, required=True)
    p.add_argument("--messages", type=int, default=1000000)
    p.add_argument("--fill-only", action="store_true")
    p.add_argument("--json", action="store_true")
    o = p.parse_args()
    if o.fill_only:
        fill(Session(o), o)
        return
    out = {}
    s, out["open"] = opened(o)
    out["select again"] = measured(o, lambda: s.run("SELECT Large"))
    out["fetch"] = measured(o, lambda: s.run("FETCH 1:* (FLAGS)", pause=1.0))
    out["fetch"].update(told=s.told, octets=s.octets)
    if s.told != o.messages:
        sys.exit("told of %d messages" % s.told)
    if o.json:
        print(json.dumps(out))
    else:
        for name, f in out.items():
            print(name + ": " + ", ".join("%s %s" % (k.replace("_", " "), round(v, 2)) for k, v in f.items()))


if __name__ == "__main__":
    main()
