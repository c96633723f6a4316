#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What one tenant's users feel while another tenant floods: p50 and p99 of a poll, quiet and under each flood, in turn."""
import argparse
import multiprocessing
import os
import shutil
import socket
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, 'tests', 'e2e'))
import penfold  # noqa: E402

VICTIMS = [f'user{i}@victim.example' for i in range(20)]
FLOODERS = [f'f{i}@flood.example' for i in range(20)]
PASSWORD = penfold.PASSWORD.encode()
# Nobody is exempt, so that victims and flooders stand in their networks' lines; no other bound or delay keeps the flood away.
LIMITS = ('limits: { exempt: [], connections_per_address: 100000, connections_per_net24: 100000, unauthenticated_max: 100000,'
          ' unauthenticated_per_address: 100000, failures_free: 1000, login_failures_free: 1000, delay_ms_max: 0 }')
MAIL = (b'LHLO flood.example\r\n' + b''.join(b'MAIL FROM:<s@x.example>\r\nRCPT TO:<f%d@flood.example>\r\nDATA\r\nSubject: x\r\n\r\n' % (i % 20) +
        b'0123456789' * 400 + b'\r\n.\r\n' for i in range(50)))


def setup(p):
    """Two tenants; the flooding one's passwords are dear to check."""
    for tenant, names in (('victim', VICTIMS), ('flood', FLOODERS)):
        p.run('tenant', 'add', tenant)
        p.run('domain', 'add', f'{tenant}.example', '--tenant', tenant)
        if tenant == 'victim':
            p.run('account', 'import', stdin=''.join(f'{n}:{penfold.CHEAP_HASH}\n' for n in names).encode())
        else:
            p.run('tenant', 'set', 'flood', 'password_scheme=BLF-CRYPT')
            for n in names:
                p.add_account(n)
    for n in VICTIMS:
        p.deliver(b'Subject: x\r\n\r\n' + b'0123456789\r\n' * 100, n)


def poll(p, name):
    """Seconds of one whole session; raises if anything in it fails."""
    began = time.perf_counter()
    with p.pop3(name) as c:
        assert c.stat()[0] == 1
        c.retr(1)
    return time.perf_counter() - began


class Flood:
    """Processes whose threads do one thing again and again, each on connections of its own, from 127.0.1.x to 127.0.4.x: other networks than the
    victims'. Processes, so that the interpreter that measures does not wait for those that flood."""

    def __init__(self, p, kind, threads, processes=4):
        self.p, self.over, self.count = p, multiprocessing.Event(), multiprocessing.Value('Q', 0)
        self.processes = [multiprocessing.Process(target=self.flood, args=(kind, n, threads // processes), daemon=True) for n in range(processes)]

    def __enter__(self):
        for q in self.processes:
            q.start()
        time.sleep(1)
        return self

    def __exit__(self, *_):
        self.over.set()
        for q in self.processes:
            q.join(20)
            q.kill()
        self.done = self.count.value

    def flood(self, kind, n, threads):
        os.nice(19)  # as if they ran elsewhere: what they take of the cores is not the server's doing
        for i in range(threads):
            threading.Thread(target=self.run, args=(getattr(self, kind), n * threads + i), daemon=True).start()
        self.over.wait()

    def run(self, what, i):
        while not self.over.is_set():
            try:
                what(i)
                with self.count.get_lock():
                    self.count.value += 1
            except OSError:
                time.sleep(0.01)

    def connect(self, i, port=None):
        return socket.create_connection(('127.0.0.1', port or self.p.pop3_port), 15, source_address=(f'127.0.{1 + i % 4}.{1 + i % 200}', 0))

    def passwords(self, i):
        with self.connect(i) as s:
            s.recv(200)
            s.sendall(b'USER f%d@flood.example\r\nPASS wrong%d\r\n' % (i % 20, i))
            while b'-ERR' not in s.recv(400) and not self.over.is_set():
                pass

    def idle(self, i):
        held = [self.connect(i) for _ in range(40)]
        while not self.over.is_set():
            time.sleep(0.1)
        for s in held:
            s.close()

    def pipelines(self, i):
        with self.connect(i) as s:
            s.sendall(b'CAPA\r\n' * 20000)
            s.shutdown(socket.SHUT_WR)
            while s.recv(1 << 18) and not self.over.is_set():
                pass

    def deliveries(self, i):
        with self.connect(i, self.p.lmtp_port) as s:
            s.sendall(MAIL + b'QUIT\r\n')
            while s.recv(1 << 16) and not self.over.is_set():
                pass


KINDS = ('passwords', 'idle', 'pipelines', 'deliveries')


def measure(p, seconds):
    """Sorted seconds of the victims' polls, one after another: what is measured is the server, not this program."""
    times, end = [], time.time() + seconds
    while time.time() < end:
        times.append(poll(p, VICTIMS[len(times) % len(VICTIMS)]))
    return sorted(times)


def at(times, share):
    return times[min(len(times) - 1, int(len(times) * share))] * 1000


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--binary', default=penfold.BINARY)
    a.add_argument('--seconds', type=float, default=5, help='of each measurement')
    a.add_argument('--rounds', type=int, default=3)
    a.add_argument('--threads', type=int, default=40, help='of each flood')
    a.add_argument('--only', choices=KINDS, action='append')
    o = a.parse_args()
    folder = tempfile.mkdtemp(prefix='penfold-flood-')
    with penfold.Penfold(folder, accounts=(), binary=o.binary, extra=LIMITS) as p:
        setup(p)
        measure(p, 1)
        found = {}
        for _ in range(o.rounds):
            for kind in o.only or KINDS:
                found.setdefault((kind, 'quiet'), []).extend(measure(p, o.seconds))
                with Flood(p, kind, o.threads) as f:
                    found.setdefault((kind, 'flood'), []).extend(measure(p, o.seconds))
                found[kind] = found.get(kind, 0) + f.done
    shutil.rmtree(folder, ignore_errors=True)
    print('flood       polls  quiet p50   p99   flooded p50   p99   ratio p50  p99   rounds of the flood')
    for kind in o.only or KINDS:
        q, f = sorted(found[kind, 'quiet']), sorted(found[kind, 'flood'])
        print(f'{kind:<11} {len(f):5}  {at(q, .5):7.2f} {at(q, .99):7.2f}   {at(f, .5):7.2f} {at(f, .99):7.2f}   '
              f'{at(f, .5) / at(q, .5):7.1f} {at(f, .99) / at(q, .99):6.1f}   {found[kind]}')


if __name__ == '__main__':
    main()
