#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How long a fleet takes to serve again, with the times that are set by default: the table in README.md, "Many nodes".

    PENFOLD=build/penfold python3 bench/recovery.py [--rounds 3] [--only WORDS]

Two nodes, one Redis, placement any, all on this machine. In each round something happens to the owner of an account, or to Redis, and a
client tries to log in again every 50 ms; what counts is the time from the event to the login that succeeds. Lowest, middle and highest of
the rounds are printed. A busy machine adds to them; most of each figure is the lease's time, which no machine makes shorter.
"""
import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'tests', 'e2e'))

from fleet import Fleet, Redis, redis_port, wait_until  # noqa: E402
from test_peer import with_keys, with_tls  # noqa: E402

TTL_MS, RENEW_MS, MARGIN_MS = 15000, 5000, 3000  # as core/base/limits.h has them


def fleet(folder, how=with_keys, **more):
    f = Fleet(folder, nodes=2, ttl_ms=TTL_MS, redis_more='idle_ms: 60000', accounts=('ann', 'bob'), **more)
    for n in f.nodes:
        with open(n.config) as c:
            text = c.read()
        text = text.replace(f'renew_ms: {TTL_MS // 8}\n', f'renew_ms: {RENEW_MS}\n').replace(f'margin_ms: {TTL_MS // 8}\n', f'margin_ms: {MARGIN_MS}\n')
        assert f'renew_ms: {RENEW_MS}' in text and f'margin_ms: {MARGIN_MS}' in text
        with open(n.config, 'w') as c:
            c.write(text)
    how(str(folder), f.nodes)
    return f


def log_in(node, name='ann'):
    s = node.login(name)
    if isinstance(s, str):
        return False
    s.quit()
    return True


def until_in(node, since, name='ann'):
    """Seconds; tries anew whatever happens."""
    while time.monotonic() < since + 120:
        try:
            if log_in(node, name):
                return time.monotonic() - since
        except (OSError, EOFError):
            pass
        time.sleep(0.05)
    raise AssertionError('in vain')


def owned(f):
    """A session of ann at the first node, which owns the account from then on."""
    wait_until(lambda: log_in(f[0]))
    wait_until(lambda: (f.redis.hash('pf:a:{1}').get('own') or '').startswith('n1/'))
    return f[0].pop3('ann')


def killed(folder):
    with fleet(folder) as f:
        held = owned(f)  # kept open
        since = time.monotonic()
        f[0].kill()
        took = until_in(f[1], since)
        del held
        return took


def killed_and_started(folder):
    with fleet(folder) as f:
        held = owned(f)  # kept open
        since = time.monotonic()
        f[0].kill()
        f[0].start(wait=False)
        took = until_in(f[0], since)
        del held
        return took


def paused(folder):
    with fleet(folder) as f:
        held = owned(f)  # kept open
        since = time.monotonic()
        f[0].signal(signal.SIGSTOP)
        took = until_in(f[1], since)
        del held
        return took


def drained(folder):
    with fleet(folder) as f:
        held = owned(f)  # kept open
        since = time.monotonic()
        f[0].run('drain', '--grace', '0', '--over', '0')
        # one that comes before all shards have begun to drain is still passed on to it
        while (took := until_in(f[1], since)) and not (f.redis.hash('pf:a:{1}').get('own') or '').startswith('n2/'):
            time.sleep(0.05)
        del held
        return took


def redis_restarted(folder):
    """Empty, as it is without a file; an account that nobody owns."""
    with fleet(folder) as f:
        held = owned(f)  # kept open
        since = time.monotonic()
        f.redis.kill()
        f.redis.start()
        took = until_in(f[1], since, 'bob')
        del held
        return took


def redis_failed_over(folder):
    """The Sentinel makes the replica master."""
    master = Redis(folder / 'r1')
    replica = Redis(folder / 'r2', '--replicaof', f'127.0.0.1 {master.port}')
    port = redis_port()
    (folder / 'sentinel.conf').write_text(f'sentinel monitor pf 127.0.0.1 {master.port} 1\nsentinel down-after-milliseconds pf 1000\n')
    with open(folder / 'sentinel.log', 'wb') as log:
        sentinel = subprocess.Popen(['redis-server', str(folder / 'sentinel.conf'), '--sentinel', '--port', str(port), '--bind', '127.0.0.1'],
                                    stdout=log, stderr=log)
    ask = Redis.__new__(Redis)
    ask.port = port

    def said(*args):
        try:
            return ask(*args)
        except (OSError, AssertionError):
            return None
    try:
        wait_until(lambda: said('SENTINEL', 'REPLICAS', 'pf'))
        wait_until(lambda: 'master_link_status:up' in replica('INFO', 'replication'))
        with fleet(folder, redis=master, redis_keys=f'sentinel: {{ master: pf, addresses: ["127.0.0.1:{port}"] }}') as f:
            claimed = f[1].log().count('event=fleet.claimed')
            wait_until(lambda: said('SENTINEL', 'FAILOVER', 'pf') == 'OK')
            since = time.monotonic()
            # until the Sentinel has cut it off, the old master still gives accounts away
            wait_until(lambda: f[1].log().count('event=fleet.claimed') > claimed)
            return until_in(f[1], since, 'bob')
    finally:
        for s in (master, replica):
            s.kill()
        sentinel.kill()
        sentinel.wait()


def certificate(folder):
    """Of the link between nodes: from the new file to its use."""
    with fleet(folder, how=with_tls) as f:
        with open(folder / 'n0.pem', 'rb') as pem:
            text = pem.read()
        (folder / 'n0.new').write_bytes(text)
        since = time.monotonic()
        os.rename(folder / 'n0.new', folder / 'n0.pem')
        wait_until(lambda: 'event=peer.tls_reloaded' in f[0].log())
        return time.monotonic() - since


def configuration(folder):
    with fleet(folder) as f:
        since = time.monotonic()
        f[0].run('reload')
        return time.monotonic() - since


ROWS = [('node killed; login at another', killed), ('node killed and started again; login there', killed_and_started),
        ('node paused; login at another', paused), ('node drained at once; login at another', drained),
        ('Redis restarted, empty; account that was free', redis_restarted), ('Redis failed over; account that was free', redis_failed_over),
        ('certificate between nodes changed', certificate), ('configuration read again', configuration)]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--only', default='', help='rows whose words contain this')
    args = p.parse_args()
    print('| what happens | lowest | middle | highest |\n|---|---|---|---|')
    for words, measure in (r for r in ROWS if args.only in r[0]):
        took = []
        for _ in range(args.rounds):
            with tempfile.TemporaryDirectory(prefix='penfold-recovery-') as folder:
                took.append(measure(Path(folder)))
        print(f'| {words} | {min(took):.1f} s | {statistics.median(took):.1f} s | {max(took):.1f} s |', flush=True)


if __name__ == '__main__':
    main()
