#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""compare: Penfold, Dovecot and the bare floor, interleaved on this machine; one table of ratios.

    bench/compare.py --quick             two minutes, the main rows
    bench/compare.py --out build/bench/results    the whole matrix, raw figures beside it
    bench/compare.py --idle              memory of idle sessions
    bench/compare.py --growth            cost against mailbox size
    bench/compare.py --imap              lists, searches and sorts of 10,000 messages by IMAP
    bench/compare.py --imap-sessions     checking mail, SELECT of a large folder, APPEND
    bench/compare.py --tls               login sessions over TLS 1.3 against the bare handshake
    bench/compare.py --backends          Penfold on io_uring against Penfold on epoll

Server CPU per operation is what counts; rates depend on what the generator leaves. At one
shard the servers run on core 0 and the generator on core 1; at two shards all share both.
bench/README.md says what each figure means. Needs root for Dovecot and for exact CPU
figures. Exit 1 if anything went wrong; a missed target is a word in the table."""

import argparse
import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lab import backends, growth, idle, imap, imap_sessions, matrix, namespace, secure
from lab.bench import Bench, say
from lab.server import Failed


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--quick", action="store_true", help="fewer rows, one round, short runs")
    p.add_argument("--idle", action="store_true", help="memory of idle authenticated sessions")
    p.add_argument("--growth", action="store_true", help="cost against mailbox size, warm and cold")
    p.add_argument("--tls", action="store_true", help="login sessions over TLS 1.3, full and resumed")
    p.add_argument("--imap", action="store_true", help="FETCH, SEARCH, SORT and THREAD over 10,000 messages (--quick: 1,000)")
    p.add_argument("--imap-sessions", action="store_true", help="IMAP: checking mail, SELECT of 100,000, durable APPEND")
    p.add_argument("--backends", action="store_true", help="Penfold's two back ends against each other")
    p.add_argument("--only", default=".", metavar="REGEX", help="rows by key: check-100, retr-20k, lmtp-16, ...")
    p.add_argument("--rounds", type=int, help="runs per server and row (3; quick 1)")
    p.add_argument("--seconds", type=float, help="of each run (3; quick 2)")
    p.add_argument("--warmup", type=float, default=1.0, help="seconds before each")
    p.add_argument("--sessions", type=int, default=10000, help="--idle: how many")
    p.add_argument("--no-dovecot", action="store_true")
    p.add_argument("--no-penfold", action="store_true", help="floor and Dovecot alone")
    p.add_argument("--build", default="build", help="where penfold, bench/load and bench/floor are")
    p.add_argument("--work", default="/tmp", help="folder for the servers' mail: a real disk, open to all users")
    p.add_argument("--congestion", default="cubic", help="TCP congestion control, in a network namespace of its own (cubic);"
                   " host: the host's network as it is")
    p.add_argument("--port", type=int, default=20000, help="first of 400 loopback ports")
    p.add_argument("--out", metavar="DIR", help="write the table and raw JSON here")
    o = p.parse_args()
    o.rounds = o.rounds or (1 if o.quick else 3)
    o.seconds = o.seconds or (2.0 if o.quick else 3.0)
    return o


def main():
    o = options()
    what_by_name = {"idle": idle, "growth": growth, "tls": secure, "backends": backends, "imap": imap, "imap-sessions": imap_sessions}
    name = next((n for n in what_by_name if getattr(o, n.replace("-", "_"))), "matrix")
    what = what_by_name.get(name, matrix)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # tidy up as for Ctrl-C
    if os.getloadavg()[0] > 0.7:
        say("the machine is busy (load %.1f): trust the ratios, not the figures" % os.getloadavg()[0])
    if o.congestion != "host":
        why = namespace.enter(o.congestion)
        if why:
            say("in the host's network: " + why)
    try:
        with Bench(o) as bench:
            text = what.run(bench, o)
            bench.save(name, text)
            print(text)
    except Failed as e:
        sys.exit("compare: %s" % e)
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    main()
