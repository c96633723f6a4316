# SPDX-License-Identifier: Apache-2.0
"""A rolling restart of three nodes behind HAProxy while mail comes and people read: each node is drained, stopped and started again. Whatever a
client meets meanwhile is over when it tries again, as MTAs and mail programs do; every message acknowledged is there.

    pytest -s tests/e2e/test_rolling.py      prints what clients met; PENFOLD_ROLLS=5 goes round five times"""
import collections
import imaplib
import os
import poplib
import re
import shutil
import smtplib
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest

from fleet import Fleet, serves, wait_until
from penfold import DOMAIN, PASSWORD, Lmtp, free_ports, settled

HAPROXY = shutil.which('haproxy') or '/usr/sbin/haproxy'
ACCOUNTS = ['ann'] + [f'u{i}' for i in range(11)]
ROLLS = int(os.environ.get('PENFOLD_ROLLS', '1'))

pytestmark = pytest.mark.skipif(not os.path.exists(HAPROXY), reason='haproxy is not installed')


class Balanced(Fleet):
    """With HAProxy in front of POP3, IMAP and LMTP, as deploy/loadbalancer has it: by readiness, the next node if one does not answer."""

    def __init__(self, folder):
        http = free_ports(3)
        super().__init__(folder, nodes=3, accounts=ACCOUNTS, shards=1, extra='HTTP')
        self.http = dict(zip((n.name for n in self.nodes), http))
        for n in self.nodes:
            with open(n.config) as f:
                text = f.read()
            with open(n.config, 'w') as f:
                f.write(text.replace('\nHTTP', f'\nhttp: {{ address: "127.0.0.1:{self.http[n.name]}" }}'))
        self.pop3, self.imap, self.lmtp = free_ports(3)
        self.config = os.path.join(self.folder, 'haproxy.cfg')
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'deploy', 'loadbalancer', 'haproxy.cfg')) as f:
            head = f.read().split('\nlisten ')[0]
        head = head.replace('maxconn 100000', 'maxconn 500').replace('inter 2s', 'inter 100ms').replace(' port 8080', '').replace(' send-proxy-v2', '')
        with open(self.config, 'w') as f:
            f.write(head + '\n')
            for way, port in (('pop3', self.pop3), ('imap', self.imap), ('lmtp', self.lmtp)):
                f.write(f'\nlisten {way}\n    bind 127.0.0.1:{port}\n')
                for n in self.nodes:
                    f.write(f"    server {n.name} 127.0.0.1:{getattr(n, way + '_port')} port {self.http[n.name]}\n")

    def __enter__(self):
        super().__enter__()
        with open(os.path.join(self.folder, 'haproxy.log'), 'wb') as log:
            self.haproxy = subprocess.Popen([HAPROXY, '-db', '-f', self.config], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

        def look():
            with socket.create_connection(('127.0.0.1', self.pop3), 2) as s:
                assert s.recv(3) == b'+OK'
        settled(look, 20)
        return self

    def __exit__(self, *exc):
        if getattr(self, 'haproxy', None):
            self.haproxy.terminate()
            self.haproxy.wait(20)
        super().__exit__(*exc)

    def ready(self, n):
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.http[n.name]}/readyz', timeout=5) as r:
                return r.status == 200
        except (OSError, urllib.error.HTTPError):
            return False


class Clients:
    """Each a thread: does one thing again and again; what is over by itself is counted, anything else is a complaint."""

    def __init__(self, fleet):
        self.fleet, self.ending = fleet, threading.Event()
        self.met, self.complaints, self.done = collections.Counter(), [], collections.Counter()
        self.acknowledged = {name: [] for name in ACCOUNTS}
        jobs = [(self.bring, n) for n in range(3)] + [(self.poll, n) for n in range(2)] + [(self.look, n) for n in range(2)]
        self.threads = [threading.Thread(target=self.run, args=job, daemon=True) for job in jobs]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.ending.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive()

    def run(self, work, n):
        i = 0
        while not self.ending.is_set():
            name = ACCOUNTS[(n + 5 * i) % len(ACCOUNTS)]
            i += 1
            try:
                work(name, f'{n}-{i}')
                self.done[work.__name__] += 1
            except (OSError, EOFError, smtplib.SMTPException, imaplib.IMAP4.abort) as e:  # the connection went: a client connects again
                self.met[f'{work.__name__}: {type(e).__name__}'] += 1
            except poplib.error_proto as e:
                self.over_by_itself(work, str(e), ('[SYS/TEMP]', '[IN-USE]', '-ERR EOF'))  # EOF is poplib's own word: the connection went
            except imaplib.IMAP4.error as e:
                self.over_by_itself(work, str(e), ('[UNAVAILABLE]', '[INUSE]'))
            time.sleep(0.01)

    def over_by_itself(self, work, text, words):
        self.met[f'{work.__name__}: {text[:60]}'] += 1
        if not any(w in text for w in words):
            self.complaints.append(f'{work.__name__}: {text}')

    def bring(self, name, key):
        """As an MTA: the same message until it is taken. An answer lost on the way may make it come twice."""
        text = f'Subject: {key}\r\n\r\nx\r\n'.encode()
        end = time.time() + 60
        while True:
            try:
                with Lmtp('127.0.0.1', self.fleet.lmtp, timeout=20) as l:
                    (code, said), = l.replies('', [f'{name}@{DOMAIN}'], text).values()
            except (OSError, smtplib.SMTPException) as e:
                code, said = 421, type(e).__name__.encode()
            if code == 250:
                self.acknowledged[name].append(key)
                return
            self.met[f'bring: {code} {said.decode()[:40]}'] += 1
            if code >= 500 or time.time() > end:
                self.complaints.append(f'bring: {code} {said!r}')
                return
            time.sleep(0.05)

    def poll(self, name, _):
        pop = poplib.POP3('127.0.0.1', self.fleet.pop3, timeout=20)
        try:
            pop.user(f'{name}@{DOMAIN}')
            pop.pass_(PASSWORD)
            count = pop.stat()[0]
            if count:
                pop.retr(count)
            pop.quit()
        finally:
            pop.close()

    def look(self, name, _):
        imap = imaplib.IMAP4('127.0.0.1', self.fleet.imap, 20)
        try:
            imap.login(f'{name}@{DOMAIN}', PASSWORD)
            kind, data = imap.select('INBOX', readonly=True)
            if kind != 'OK':
                raise imap.error(str(data))
            if int(data[0]):
                imap.fetch(data[0].decode(), '(BODY.PEEK[HEADER])')
            imap.logout()
        except BaseException:
            imap.sock.close()
            raise


def subjects(fleet, name):
    def fetch():
        pop = poplib.POP3('127.0.0.1', fleet.pop3, timeout=30)
        try:
            pop.user(f'{name}@{DOMAIN}')
            pop.pass_(PASSWORD)
            texts = [b'\n'.join(pop.top(i + 1, 0)[1]) for i in range(pop.stat()[0])]
            pop.quit()
        finally:
            pop.close()
        return [re.search(rb'(?m)^Subject: (\S+)', t)[1].decode() for t in texts]
    return settled(fetch, 30)


def test_rolling_restart(tmp_path):
    with Balanced(tmp_path) as f:
        with Clients(f) as clients:
            wait_until(lambda: all(clients.done[w] >= 5 for w in ('bring', 'poll', 'look')))
            for _ in range(ROLLS):
                for n in f.nodes:
                    before = sum(clients.done.values())
                    n.run('drain', '--grace', '1', '--over', '1', '--wait')
                    assert n.stop() == 0
                    wait_until(lambda: sum(clients.done.values()) > before + 10)  # the others go on
                    n.start()
                    wait_until(lambda: f.ready(n) and serves(n))
            before = sum(clients.done.values())
            wait_until(lambda: sum(clients.done.values()) > before + 20)
        twice = 0
        for name in ACCOUNTS:
            there = collections.Counter(subjects(f, name))
            missing = [k for k in clients.acknowledged[name] if not there[k]]
            assert not missing, f'{name}: acknowledged and not there: {missing}'
            twice += sum(c - 1 for c in there.values())
        print(f'\n{dict(clients.done)}; {twice} messages came twice; clients met: {dict(clients.met)}')
        assert not clients.complaints, clients.complaints[:10]
