# SPDX-License-Identifier: Apache-2.0
"""A history of a fleet under faults, and whether it can have happened by the rules.

Clients read and delete one maildrop at whichever node, an MTA delivers to whichever node, while nodes are killed, put to sleep and cut off from
their Redis, and Redis is killed, put to sleep and emptied.  Afterwards:

    no two sessions: nothing that one session sent after another had been let in was acknowledged
    no mail lost: what was acknowledged by 250 is there, or a QUIT that named it was sent
    no mail doubled, but where an attempt ended without an answer
    no UIDL changed, none given twice
    every lock is free again within a few leases

Seconds: PENFOLD_HISTORY_S (6); a seed: PENFOLD_HISTORY_SEED.
"""
import os
import poplib
import random
import re
import signal
import smtplib
import threading
import time

from fleet import Fleet, serves, wait_until

SECONDS = float(os.environ.get('PENFOLD_HISTORY_S', '6'))
SEED = int(os.environ.get('PENFOLD_HISTORY_SEED', random.randrange(1 << 30)))
TTL_MS = 1600
BROKEN = (poplib.error_proto, OSError, EOFError, AttributeError)


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.sessions = []           # (let in at, [(sent at) of what was acknowledged], node)
        self.acknowledged = set()    # ids with a 250
        self.unsure = set()          # ids with an attempt that had no answer, or a temporary one
        self.uidls = {}              # uidl -> id
        self.ids = {}                # id -> set of uidls
        self.deleting = set()        # ids of which a QUIT was sent
        self.refused = self.accepted = 0
        self.bad = []

    def saw(self, uidl, ident):
        with self.lock:
            if self.uidls.setdefault(uidl, ident) != ident:
                self.bad.append(f'UIDL {uidl}: {self.uidls[uidl]} and {ident}')
            self.ids.setdefault(ident, set()).add(uidl)

    def check(self, rest):
        bad = list(self.bad)
        for a in self.sessions:
            for b in self.sessions:
                late = [t for t in a[1] if t > b[0]] if a is not b and a[0] <= b[0] else []
                if late:
                    bad.append(f'two sessions: {a[2]} was let in at {a[0]:.3f}, {b[2]} at {b[0]:.3f}; the first was acknowledged what it sent at {late[0]:.3f}')
        for ident in self.acknowledged:
            if ident not in rest and ident not in self.deleting:
                bad.append(f'lost: {ident}')
        for ident, uidls in self.ids.items():
            if len(uidls) > 1 and ident not in self.unsure:
                bad.append(f'doubled: {ident} as {uidls}')
        return bad


def read_some(node, h, rng, delete, linger_s=0):
    """One session, held open for a while; returns what it saw."""
    s = node.pop3('ann')
    entry = (time.monotonic(), [], node.name)
    with h.lock:
        h.sessions.append(entry)
    seen = {}
    try:
        def do(f, *args):
            sent = time.monotonic()
            out = f(*args)
            entry[1].append(sent)
            return out
        for number, uidl in enumerate(do(s.uidl), 1):
            ident = re.search(rb'Subject: (.*)\r\n', do(s.retr, number))[1].decode()
            h.saw(uidl, ident)
            seen[number] = ident
            if len(seen) >= 8 and not delete == 'all':
                break
        until = time.monotonic() + linger_s
        while time.monotonic() < until:
            do(s.pop.noop)
            time.sleep(0.05)
        doomed = [n for n in seen if delete == 'all' or rng.random() < delete]
        for n in doomed:
            do(s.dele, n)
        with h.lock:
            h.deleting |= {seen[n] for n in doomed}
        do(s.quit)
    finally:
        s.close()
    return set(seen.values())


def client(f, h, seed, end):
    rng = random.Random(seed)
    while time.time() < end:
        try:
            read_some(rng.choice(f.nodes), h, rng, 0.3, 3 * TTL_MS / 1000 if rng.random() < 0.1 else 0)
            h.accepted += 1
        except BROKEN as e:
            if isinstance(e, poplib.error_proto) and re.match(rb'-ERR \[AUTH|-ERR \[SYS/PERM', bytes(e.args[0] if isinstance(e.args[0], bytes) else b'')):
                h.bad.append(str(e))
            h.refused += 1
        time.sleep(rng.random() * 0.05)


def mta(f, h, seed, end):
    rng = random.Random(seed)
    number = 0
    while time.time() < end:
        ident = f'{seed}-{number}'
        number += 1
        while time.time() < end + 30:
            node = rng.choice(f.nodes)
            try:
                with node.lmtp() as l:
                    code, text = l.replies('s@remote.example', [node.address('ann')], f'Subject: {ident}\r\n\r\nhi\r\n'.encode())[node.address('ann')]
            except (OSError, smtplib.SMTPException):
                code, text = 421, b''
            if code == 250:
                with h.lock:
                    h.acknowledged.add(ident)
                break
            if code >= 500:
                h.bad.append(f'{ident}: {code} {text}')
                break
            h.unsure.add(ident)
            time.sleep(0.05)
        time.sleep(rng.random() * 0.1)


def faults(f, rng, end, said):
    def sleep_node(n, redis):
        n.signal(signal.SIGSTOP)
        time.sleep(rng.choice((0.3, 1.5, 2.5)) * TTL_MS / 1000)
        n.signal(signal.SIGCONT)

    def kill_node(n, redis):
        n.kill()
        time.sleep(rng.random())
        n.start()

    def kill_redis(n, redis):
        redis.kill()
        time.sleep(rng.choice((0, 1, 2)) * TTL_MS / 1000)
        redis.start()

    def sleep_redis(n, redis):
        redis.process.send_signal(signal.SIGSTOP)
        time.sleep(rng.choice((0.5, 2)) * TTL_MS / 1000)
        redis.process.send_signal(signal.SIGCONT)

    def flush_redis(n, redis):
        redis('FLUSHALL')

    def cut_off(n, redis):
        w = f.wires[f.nodes.index(n)]
        w.cut()
        time.sleep(rng.choice((0, 1.5, 2.5)) * TTL_MS / 1000)
        w.mend()
    all_faults = (sleep_node, kill_node, kill_redis, sleep_redis, flush_redis, cut_off)
    while time.time() < end:
        time.sleep(0.3 + rng.random() * 1.5)
        fault = rng.choice(all_faults)
        said.append(fault.__name__)
        owner = f.redis.hash('pf:a:{1}').get('own', '').split('/')[0]
        at_owner = [n for n in f.nodes if n.name == owner]
        fault(rng.choice(at_owner if at_owner and rng.random() < 0.7 else f.nodes), f.redis)


def test_history(tmp_path):
    rng = random.Random(SEED)
    h, said = History(), []
    with Fleet(tmp_path, nodes=3, accounts=('ann',), ttl_ms=TTL_MS, redis_more='idle_ms: 500') as f:
        end = time.time() + SECONDS
        threads = [threading.Thread(target=client, args=(f, h, rng.random(), end)) for _ in range(4)]
        threads += [threading.Thread(target=mta, args=(f, h, i, end)) for i in range(2)]
        for t in threads:
            t.start()
        try:
            faults(f, rng, end, said)
        finally:
            for t in threads:
                t.join()
        for n in f.nodes:
            wait_until(lambda: serves(n))
        rest = read_some(f[0], h, rng, 'all')
        bad = h.check(rest)
        print(f'seed {SEED}: {len(h.sessions)} sessions, {h.refused} turned away or broken, {len(h.acknowledged)} messages, faults: {said}')
        assert not bad, f'seed {SEED}, faults {said}: ' + '\n'.join(bad[:20])
        assert h.sessions and h.acknowledged and said
