# SPDX-License-Identifier: Apache-2.0
"""A new process takes over from a running one: nobody is refused, sessions finish, nothing acknowledged is lost or doubled."""
import collections
import ctypes
import imaplib
import os
import poplib
import re
import shutil
import signal
import socket
import threading
import time
import urllib.request

import pytest

from penfold import BINARY, Lmtp, Penfold, free_ports, settled

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def reaper():
    """A process whose parent has gone becomes ours, so that its exit status is told to us."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


class Successor:
    """What of subprocess.Popen the harness needs, for a process that was not started by us."""

    def __init__(self, pid):
        self.pid = pid
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                return None if os.path.exists(f'/proc/{self.pid}') else 0  # the older's child yet
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, seconds=30):
        end = time.time() + seconds
        while self.poll() is None:
            assert time.time() < end, f'process {self.pid} does not end'
            time.sleep(0.02)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)


def upgrade(p, *args):
    """Returns the older; p.process is the newer."""
    older = p.process
    answer = p.json('upgrade', *args)
    assert answer['pid'] != older.pid
    p.process = Successor(answer['pid'])
    return older


def gone(older, seconds=120):
    assert older.wait(seconds) == 0


def alone(p):
    def check():
        assert f'event=server.upgrade step=alone pid={p.process.pid}' in p.log()
    settled(check, 20)


class Knocking:
    """Clients that come without a pause; whatever they meet that is no answer is kept."""

    def __init__(self, p):
        self.p = p
        self.failures, self.counts = [], collections.Counter()
        self.acknowledged = collections.defaultdict(set)
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(what,)) for what in (self.pop3, self.imap, self.socket, self.deliver, self.login)]

    def run(self, what):
        while not self.over.is_set():
            try:
                what()
                self.counts[what.__name__] += 1
            except Exception as e:  # noqa: whatever it is fails the test
                self.failures.append(f'{time.strftime("%T", time.gmtime())} {what.__name__}: {e!r}')
            time.sleep(0.005)

    def greeting(self, s, start):
        with s:
            s.settimeout(120)
            line = s.recv(200)
            assert line.startswith(start), line

    def pop3(self):
        self.greeting(socket.create_connection(('127.0.0.1', self.p.pop3_port), 120), b'+OK')

    def imap(self):
        self.greeting(socket.create_connection(('127.0.0.1', self.p.imap_port), 120), b'* OK')

    def socket(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(120)
        s.connect(self.p.lmtp_socket)
        self.greeting(s, b'220')

    def deliver(self):
        name = f'm{self.counts["deliver"]}-{len(self.failures)}@upgrade.example'
        with Lmtp('127.0.0.1', self.p.lmtp_port, timeout=120) as l:
            replies = l.replies('s@remote.example', [self.p.address(n) for n in ('ann', 'bob')], f'Message-ID: <{name}>\r\n\r\nx\r\n'.encode())
        for to, (code, text) in replies.items():
            assert code == 250 or (code == 451), (to, code, text)
            if code == 250:
                self.acknowledged[to].add(name)
            self.counts[f'delivery {code}'] += 1

    def login(self):
        try:
            with self.p.pop3('cy', timeout=120) as pop:
                pop.stat()
            self.counts['logged in'] += 1
        except poplib.error_proto as e:
            assert b'wait' in e.args[0] or b'IN-USE' in e.args[0], e

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, kind, value, trace):
        self.over.set()
        for t in self.threads:
            t.join()


def test_nobody_is_refused_and_nothing_is_lost_or_doubled(tmp_path):
    with Penfold(tmp_path, accounts=('ann', 'bob', 'cy')) as p:
        with Knocking(p) as k:
            for turn in range(3):
                before = dict(k.counts)

                def came():
                    assert all(k.counts[w] > before.get(w, 0) + 5 for w in ('pop3', 'imap', 'socket', 'deliver', 'login')), (k.counts, k.failures[:5])
                settled(came, 180)
                older = upgrade(p, '--over', '2')
                gone(older)
                alone(p)
        assert not k.failures, k.failures[:10]
        assert k.counts['delivery 250'] > 20 and k.counts['logged in'] > 5, k.counts
        for name in ('ann', 'bob'):
            with p.pop3(name) as pop:
                there = [re.search(rb'Message-ID: <([^>]+)>', pop.retr(i + 1))[1].decode() for i in range(pop.stat()[0])]
            assert len(there) == len(set(there)), 'doubled'
            assert k.acknowledged[p.address(name)] <= set(there), 'lost'
        assert 'level=alarm' not in p.log()


def test_sessions_in_progress_finish(tmp_path):
    with Penfold(tmp_path, accounts=('ann', 'bob')) as p:
        for i in range(3):
            p.deliver(b'Subject: %d\r\n\r\nhello\r\n' % i, 'ann')
        pop = p.pop3('ann')
        pop.dele(1)
        lmtp = p.lmtp()
        lmtp.ehlo_or_helo_if_needed()
        assert lmtp.mail('s@remote.example')[0] == 250 and lmtp.rcpt(p.address('bob'))[0] == 250 and lmtp.docmd('DATA')[0] == 354
        lmtp.send(b'Subject: half\r\n\r\n')
        box = imaplib.IMAP4('127.0.0.1', p.imap_port)
        box.login(p.address('bob'), 'secret word')
        box.select()
        older = upgrade(p)
        # at rest: told in its protocol's words
        box.sock.settimeout(30)
        assert b'* BYE' in box.readline()
        box.shutdown()
        # at work: goes on
        lmtp.send(b'the other half\r\n.\r\n')
        assert lmtp.getreply()[0] == 250
        lmtp.close()
        # whose maildrop it is has it
        with pytest.raises(poplib.error_proto) as refused:
            p.pop3('ann')
        assert b'wait' in refused.value.args[0] or b'IN-USE' in refused.value.args[0]
        assert b'hello' in pop.retr(2)
        pop.quit()

        def entered():
            with p.pop3('ann') as again:
                assert again.stat()[0] == 2
        settled(entered, 30)
        gone(older)
        alone(p)
        with p.pop3('bob') as bob:
            assert b'the other half' in bob.retr(1) and bob.stat()[0] == 1
        p.restart()  # and the folder is one process's, as ever
        with p.pop3('ann') as again:
            assert again.stat()[0] == 2


def test_what_does_not_come_up_changes_nothing(tmp_path):
    binary = str(tmp_path / 'penfold')
    shutil.copy(BINARY, binary)
    with Penfold(tmp_path, binary=binary) as p:
        p.deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann')
        good = open(p.config).read()
        with open(p.config, 'w') as f:
            f.write(good + 'nonsense: 1\n')
        p.process.send_signal(signal.SIGUSR2)

        def refused():
            assert re.search(r'event=server.upgrade_refused reason=.*nonsense', p.log())
        settled(refused, 20)
        with open(p.config, 'w') as f:
            f.write(good.replace(f'data: {p.data}', f'data: {p.data}2'))
        p.process.send_signal(signal.SIGUSR2)

        def other_folder():
            assert re.search(r'event=server.upgrade_refused reason=.*another data folder', p.log())
        settled(other_folder, 20)
        with open(p.config, 'w') as f:
            f.write(good)
        # a program that ends at once
        os.rename(binary, binary + '.good')
        with open(binary, 'w') as f:
            f.write('#!/bin/sh\nexit 3\n')
        os.chmod(binary, 0o755)
        p.process.send_signal(signal.SIGUSR2)

        def failed():
            assert 'event=server.upgrade_failed' in p.log()
        settled(failed, 20)
        with p.pop3('ann') as pop:
            assert pop.stat()[0] == 1
        os.rename(binary + '.good', binary)
        older = upgrade(p, '--over', '1')
        gone(older)
        with p.pop3('ann') as pop:
            assert pop.stat()[0] == 1


def test_listeners_may_come_and_go(tmp_path):
    http, more = free_ports(2)
    with Penfold(tmp_path, shards=2, extra=f'http: {{ address: "127.0.0.1:{http}" }}\n') as p:
        text = open(p.config).read()
        changed = text.replace(f'protocol: imap, address: "127.0.0.1:{p.imap_port}"', f'protocol: pop3, address: "127.0.0.1:{more}"').replace('shards: 2', 'shards: 1')
        assert changed != text
        with open(p.config, 'w') as f:
            f.write(changed)
        older = upgrade(p, '--over', '1')
        gone(older)
        for port in (p.pop3_port, more, p.pop3_port, more, p.pop3_port):  # both old sockets are taken by the one shard
            with socket.create_connection(('127.0.0.1', port), 10) as s:
                s.settimeout(10)
                assert s.recv(3) == b'+OK'
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', p.imap_port), 10)
        with urllib.request.urlopen(f'http://127.0.0.1:{http}/readyz', timeout=10) as r:
            assert r.status == 200


def test_the_older_is_stopped_while_the_newer_starts(tmp_path):
    """Who stops the server means all of it."""
    binary = str(tmp_path / 'penfold')
    shutil.copy(BINARY, binary)
    with Penfold(tmp_path, binary=binary) as p:
        os.rename(binary, binary + '.good')
        with open(binary, 'w') as f:
            f.write(f'#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n')
        os.chmod(binary, 0o755)
        p.process.send_signal(signal.SIGUSR2)

        def started():
            assert (tmp_path / 'pid').exists() and (tmp_path / 'pid').read_text().strip()
            return Successor(int((tmp_path / 'pid').read_text()))
        sleeper = settled(started, 20)
        assert p.stop(20) == 0
        p.process = None
        assert sleeper.wait(20) == -signal.SIGTERM
