# SPDX-License-Identifier: Apache-2.0
"""kill -9 in a loop under load: what was answered 250 is there once, whole, with the same UIDL; what QUIT answered +OK is gone;
a QUIT without an answer has done all or nothing; a session without QUIT has done nothing.

KILLS sets how often (12 here; the long run of README uses 200).  Each round: two deliverers and one deleting reader per account
work until the server is killed at a random moment; every fourth round it is also killed while it starts.  Then it is started
again and every account is checked.  At the end `penfold fsck` reads all of it and must find nothing wrong, and the counters
must show that what was meant to happen under the kills (takeovers, compaction, stubs, large bodies) did happen.

A kill leaves the page cache as it is; what a power failure would leave is for tests/unit/storage/crash_test.c.
"""
import os
import poplib
import random
import re
import smtplib
import threading
import time
import zlib

from penfold import DOMAIN, Penfold

KILLS = int(os.environ.get('KILLS', '12'))
SEED = int(os.environ.get('KILL_SEED', random.randrange(1 << 32)))
USERS = ['ann', 'bob', 'eve', 'zoe']
GONE = (OSError, EOFError, smtplib.SMTPException, poplib.error_proto)


class Account:
    """What one mailbox was promised, by token."""

    def __init__(self, name):
        self.name = name
        self.address = f'{name}@{DOMAIN}'
        self.lock = threading.Lock()
        self.sent = set()        # handed over, answer unknown
        self.stored = set()      # answered 250, or seen by a reader: shown means durable
        self.uidl = {}           # token -> UIDL, as first seen
        self.deleted = set()     # QUIT answered +OK
        self.doubtful = []       # sets of tokens of a QUIT without an answer: all or nothing
        self.checked = set()     # read whole after a kill

    def saw(self, token, uidl):
        with self.lock:
            self.stored.add(token)
            first = self.uidl.setdefault(token, uidl)
        assert first == uidl, f'the UIDL of {token} changed: {first} {uidl}'


def make_message(token, size):
    """The body follows from the token."""
    line = b'%08x' % zlib.crc32(token.encode()) * 9 + b'\r\n'
    return b'X-Token: ' + token.encode() + b'\r\nX-Size: %d\r\n\r\n' % size + (line * (size // len(line) + 1))[:size - 2] + b'\r\n'


def token_of(message):
    return re.search(rb'X-Token: (\S+)', message)[1].decode()


def assert_whole(message):
    size = int(re.search(rb'X-Size: (\d+)', message)[1])
    assert message.endswith(make_message(token_of(message), size)), 'a message is not as it was sent'


def deliverer(p, account, round_, stop, rnd, sizes):
    n = 0
    while not stop.is_set():
        try:
            with p.lmtp() as l:
                for _ in range(20):
                    token = f'{account.name}-{round_}-{threading.get_ident()}-{n}'
                    n += 1
                    message = make_message(token, rnd.choice(sizes))
                    with account.lock:
                        account.sent.add(token)
                    code, _ = l.replies('s@remote.example', [account.address], message)[account.address]
                    if code == 250:
                        with account.lock:
                            account.stored.add(token)
                    if stop.is_set():
                        break
        except GONE:
            time.sleep(0.01)


def read_and_delete(account, pop, rnd, share):
    """Marks some messages; the tokens."""
    uidls, marked = pop.uidl(), set()
    for number in rnd.sample(range(1, len(uidls) + 1), int(len(uidls) * share)):
        if rnd.random() < .2:
            message = pop.retr(number)
            assert_whole(message)
        else:
            message = b'\r\n'.join(pop.pop.top(number, 0)[1])
        token = token_of(message)
        account.saw(token, uidls[number - 1])
        pop.dele(number)
        marked.add(token)
    return marked


def reader(p, account, stop, rnd, share):
    """Deletes some messages a session; every third session ends without QUIT."""
    n = 0
    while not stop.is_set():
        n += 1
        try:
            pop = p.pop3(account.name)
        except GONE:
            time.sleep(0.01)
            continue
        try:
            marked = read_and_delete(account, pop, rnd, share)
            if n % 3 == 0:
                pop.close()
                continue
            try:
                pop.pop.quit()
            except GONE:
                with account.lock:
                    account.doubtful.append(marked)
                raise
            with account.lock:
                account.deleted |= marked
        except GONE:
            try:
                pop.close()
            except OSError:
                pass
            time.sleep(0.01)


class Worker(threading.Thread):
    """A thread whose failure is the test's."""

    def __init__(self, what, *args):
        super().__init__(target=what, args=args, daemon=True)
        self.error = None

    def run(self):
        try:
            super().run()
        except BaseException as e:  # pylint: disable=broad-except
            self.error = e

    def end(self):
        self.join(60)
        assert not self.is_alive()
        if self.error:
            raise self.error


def check(p, account, rnd):
    with p.pop3(account.name) as pop:
        uidls = pop.uidl()
        tokens = [token_of(b'\r\n'.join(pop.pop.top(n, 0)[1])) for n in range(1, len(uidls) + 1)]
        for n, token in enumerate(tokens, 1):
            if token not in account.checked or rnd.random() < .05:
                assert_whole(pop.retr(n))
                account.checked.add(token)
    here = set(tokens)
    assert len(here) == len(tokens), 'a message is there twice'
    assert len(set(uidls)) == len(uidls)
    assert here <= account.sent, f'there, but never sent or gone before: {here - account.sent}'
    for marked in account.doubtful:
        left = marked & here
        assert left == marked or not left, f'half a QUIT: {left} of {marked}'
        if not left:
            account.deleted |= marked
    account.doubtful = []
    lost = account.stored - account.deleted - here
    assert not lost, f'answered 250 and lost: {lost}'
    assert not account.deleted & here, f'deleted and back: {account.deleted & here}'
    for token, uidl in zip(tokens, uidls):
        account.saw(token, uidl)
    account.sent &= account.stored  # what had no answer and is not there now must never come


def kill_in_the_start(p, rnd):
    p.start(wait=False)
    time.sleep(rnd.uniform(0, 0.06))
    p.kill()


def one_round(p, accounts, round_, rnd, sizes, share):
    stop = threading.Event()
    def dice(): return random.Random(rnd.random())
    workers = [Worker(deliverer, p, a, round_, stop, dice(), sizes) for a in accounts for _ in range(2)]
    workers += [Worker(reader, p, a, stop, dice(), share) for a in accounts]
    for w in workers:
        w.start()
    time.sleep(rnd.uniform(0.05, 1.0))
    figures = p.json('stats')['metrics']
    time.sleep(rnd.uniform(0, 0.1))
    p.kill()
    stop.set()
    for w in workers:
        w.end()
    return figures


def kill_many_times(p, *how):
    """The counters, added up."""
    p.setup()
    try:
        return kill_and_check(p, *how)
    finally:
        if p.process:
            p.kill()


def kill_and_check(p, kills, sizes, share):
    print(f'KILL_SEED={SEED}')
    rnd = random.Random(SEED)
    accounts = [Account(u) for u in USERS]
    totals = {}
    for round_ in range(kills):
        p.start()
        figures = one_round(p, accounts, round_, rnd, sizes, share)
        for name, value in figures.items():
            if isinstance(value, int):
                totals[name] = totals.get(name, 0) + value
        if round_ % 4 == 3:
            kill_in_the_start(p, rnd)
        p.start()
        for a in accounts:
            check(p, a, rnd)
        totals['takeovers'] = totals.get('takeovers', 0) + p.json('stats')['metrics']['store_takeovers_total']
        if round_ % 2:
            assert p.stop() == 0
        else:
            p.kill()
    p.run('fsck')
    stored, deleted = sum(len(a.stored) for a in accounts), sum(len(a.deleted) for a in accounts)
    print(f'{kills} kills under load, {stored} messages stored, {deleted} deleted by QUIT; {totals}')
    assert stored > kills and deleted > kills
    assert totals['takeovers'] > 0, 'kills leave unsealed accounts'
    assert totals['store_damage_total'] == 0 and totals['store_messages_damaged_total'] == 0
    return totals


def test_kill(tmp_path):
    """Small messages, logs as they are by default."""
    p = Penfold(tmp_path, accounts=USERS)
    kill_many_times(p, KILLS - KILLS // 2, [10, 3000, 70000], .3)


def test_kill_compacting(tmp_path):
    """Logs of 1 MiB that are half dead in no time, bodies in files of their own from 64 KiB on, a few above 1 MiB; accounts
    pushed out of memory."""
    p = Penfold(tmp_path, accounts=USERS, extra='store: { seal_bytes: 1 MiB, memory_body_bytes: 32 KiB, file_body_bytes: 64 KiB, warm_bytes_max: 1 MiB }')
    totals = kill_many_times(p, KILLS // 2, [10, 20000, 40000, 60000, 100000, 1_500_000], .6)
    assert totals['store_compactions_total'] > 0, 'nothing was compacted: the load is too small'
    assert totals['store_stubs_total'] > 0
    assert sum(name.startswith('B.') for _, _, names in os.walk(p.data) for name in names) > 0
