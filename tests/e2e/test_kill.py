# SPDX-License-Identifier: Apache-2.0
"""kill -9 in a loop under load: what was answered 250 is there once with the same UIDL, what QUIT answered +OK is gone,
a QUIT without an answer has done all or nothing, a session without QUIT has done nothing.

KILLS sets how often (12 here; the long run of README uses 200). Each round: deliverers and one deleting reader per account
work until the server is killed at a random moment; then it is started again and every account is checked.
"""
import os
import random
import re
import socket
import threading
import time

import poplib
import smtplib

from penfold import DOMAIN, Penfold

KILLS = int(os.environ.get('KILLS', '12'))
USERS = ['ann', 'bob', 'eve', 'zoe']
GONE = (OSError, EOFError, smtplib.SMTPException, poplib.error_proto)


class Account:
    """What one mailbox was promised: token -> state."""

    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        self.sent = set()        # handed over, answer unknown
        self.stored = set()      # answered 250
        self.uidl = {}           # token -> UIDL, as seen
        self.deleted = set()     # QUIT answered +OK
        self.doubtful = []       # sets of tokens of a QUIT without answer: all or nothing


def token_of(message):
    return re.search(rb'X-Token: (\S+)', message)[1].decode()


def deliverer(p, account, round_, stop):
    n = 0
    while not stop.is_set():
        try:
            with p.lmtp() as l:
                for _ in range(20):
                    token = f'{account.name}-{round_}-{threading.get_ident()}-{n}'
                    n += 1
                    body = b'X-Token: ' + token.encode() + b'\r\n\r\n' + b'x' * random.choice([10, 3000, 70000]) + b'\r\n'
                    with account.lock:
                        account.sent.add(token)
                    code, _ = l.replies('s@remote.example', [f'{account.name}@{DOMAIN}'], body)[f'{account.name}@{DOMAIN}']
                    if code == 250:
                        with account.lock:
                            account.stored.add(token)
                    if stop.is_set():
                        break
        except GONE:
            time.sleep(0.01)


def reader(p, account, stop):
    """Deletes some messages a session; every third session ends without QUIT."""
    n = 0
    while not stop.is_set():
        n += 1
        try:
            pop = p.pop3(account.name)
        except GONE:
            time.sleep(0.01)
            continue
        marked = set()
        try:
            uidls = pop.uidl()
            for number in random.sample(range(1, len(uidls) + 1), min(len(uidls), 5)):
                token = token_of(b'\r\n'.join(pop.pop.top(number, 0)[1]))
                with account.lock:
                    assert account.uidl.setdefault(token, uidls[number - 1]) == uidls[number - 1]
                pop.dele(number)
                marked.add(token)
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


def check(p, account):
    with p.pop3(account.name) as pop:
        uidls = pop.uidl()
        tokens = [token_of(b'\r\n'.join(pop.pop.top(n, 0)[1])) for n in range(1, len(uidls) + 1)]
    assert len(set(tokens)) == len(tokens), 'a message is there twice'
    assert len(set(uidls)) == len(uidls)
    here = set(tokens)
    assert here <= account.sent
    for marked in account.doubtful:
        marked &= account.stored | here
        left = marked & here
        assert left == marked or not left, f'half a QUIT: {left} of {marked}'
        if not left:
            account.deleted |= marked
    account.doubtful = []
    lost = account.stored - account.deleted - here
    assert not lost, f'answered 250 and lost: {lost}'
    assert not account.deleted & here, f'deleted and back: {account.deleted & here}'
    for token, uidl in zip(tokens, uidls):
        assert account.uidl.setdefault(token, uidl) == uidl, f'the UIDL of {token} changed'
    account.sent = account.sent & (here | account.stored)
    account.stored |= here


def test_kill(tmp_path):
    p = Penfold(tmp_path, accounts=USERS, extra='store: { seal_bytes: 1 MiB }')
    p.setup()
    accounts = [Account(u) for u in USERS]
    delivered = 0
    for round_ in range(KILLS):
        p.start()
        stop = threading.Event()
        threads = [threading.Thread(target=deliverer, args=(p, a, round_, stop)) for a in accounts for _ in range(2)]
        threads += [threading.Thread(target=reader, args=(p, a, stop)) for a in accounts]
        for t in threads:
            t.start()
        time.sleep(random.uniform(0.05, 1.0))
        p.kill()
        stop.set()
        for t in threads:
            t.join(60)
            assert not t.is_alive()
        p.start()
        for a in accounts:
            check(p, a)
        delivered = sum(len(a.stored) for a in accounts)
        if round_ % 2:
            assert p.stop() == 0
        else:
            p.kill()
    print(f'{KILLS} kills under load, {delivered} messages answered 250, {sum(len(a.deleted) for a in accounts)} deleted by QUIT')
    assert delivered > KILLS
