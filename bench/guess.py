#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""How honest people fare while 1,000 addresses guess passwords.

100 people poll (open loop, so that nobody's wait hides another's) at the same rate first in quiet, then during the flood, in turn, some rounds; the
attackers come through a PROXY listener from 1,000 addresses, each trying names that exist and names that do not as often as it is let.

    bench/guess.py [--build build] [--rounds 3] [--seconds 5] [--rate 200] [--attempts 400]

prints p50 and p99 of both, their ratio, how much the server's memory grew, and how many guesses were answered.
"""
import argparse
import json
import multiprocessing
import os
import selectors
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'tests', 'e2e'))
from penfold import Memory  # noqa: E402
from proxied import ProxiedPenfold, v1  # noqa: E402


def attack(port, per_second, ending, answered):
    """Opens connections at a rate, says USER and PASS in one go, and reads until the answer or the end."""
    wheel, n, began = selectors.DefaultSelector(), 0, time.monotonic()
    while not ending.is_set():
        while n < (time.monotonic() - began) * per_second and len(wheel.get_map()) < 900:
            n += 1
            s = socket.socket()
            s.setblocking(False)
            s.connect_ex(('127.0.0.1', port))
            wheel.register(s, selectors.EVENT_WRITE, n)
        for key, events in wheel.select(0.02):
            s, k = key.fileobj, key.data
            try:
                if events & selectors.EVENT_WRITE:
                    address = f'198.{18 + k % 2}.{k % 250}.{k % 4 + 1}'
                    s.send(v1(address) + b'USER u%d@demo.example\r\nPASS guess%d\r\n' % (k % 200, k))
                    wheel.modify(s, selectors.EVENT_READ, k)
                    continue
                got = s.recv(4096)
            except OSError:
                got = b''
            if not got or b'-ERR' in got:
                answered.value += b'-ERR' in got
                wheel.unregister(s)
                s.close()


def poll(build, p, rate, seconds):
    done = subprocess.run([os.path.join(build, 'bench', 'load'), '--scenario', 'pop3-check', '--address', f'127.0.0.1:{p.pop3_port}', '--rate', str(rate),
                           '--connections', '100', '--user', 'u%d@demo.example', '--first', '0', '--last', '99', '--password', 'secret word', '--seconds',
                           str(seconds), '--max-errors', '1000', '--json', '-'], stdout=subprocess.PIPE, check=True, timeout=120)
    return json.loads(done.stdout)


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (('--rounds', 3), ('--seconds', 5), ('--rate', 200), ('--attempts', 400)):
        a.add_argument(name, type=int, default=value)
    a.add_argument('--build', default='build')
    o = a.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        extra = 'limits: { connections_per_address: 1000, unauthenticated_per_address: 1000 }'
        with ProxiedPenfold(folder, extra=extra, accounts=[f'u{i}' for i in range(100)], binary=os.path.join(o.build, 'penfold')) as p:
            poll(o.build, p, o.rate, 1)  # everybody has been here before
            quiet, flood = [], []
            answered = multiprocessing.Value('l', 0)
            memory = Memory(p)
            with memory:
                for _ in range(o.rounds):
                    quiet.append(poll(o.build, p, o.rate, o.seconds))
                    ending = multiprocessing.Event()
                    attacker = multiprocessing.Process(target=attack, args=(p.proxy_port, o.attempts, ending, answered))
                    attacker.start()
                    time.sleep(0.5)
                    flood.append(poll(o.build, p, o.rate, o.seconds))
                    ending.set()
                    attacker.join()
            report(o, quiet, flood, memory, answered.value)


def report(o, quiet, flood, memory, answered):
    def middle(runs, what):
        return statistics.median(r['latency'][what + '_us'] for r in runs)
    for what in ('p50', 'p99'):
        q, f = middle(quiet, what), middle(flood, what)
        print(f'{what}: quiet {q:.0f} us, flood {f:.0f} us, ratio {f / q:.2f}')
    print(f'errors of honest people: {sum(r["errors"] for r in flood)}; guesses answered: {answered} of about '
          f'{o.attempts * (o.seconds + 0.5) * o.rounds:.0f}; memory grew by {memory.grown_kib()} KiB')


if __name__ == '__main__':
    main()
