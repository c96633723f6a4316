# SPDX-License-Identifier: Apache-2.0
"""A small fleet for the end-to-end tests: one Redis, several Penfold nodes on one data folder.

    with Fleet(tmp_path, nodes=2) as f:
        f.deliver(b'Subject: hello\r\n\r\nhi\r\n', 'ann', at=1)
        with f[0].pop3('ann') as pop: ...

Times are short, but long enough for a busy machine: TTL_MS is what a new master and a dead node cost. Skipped where there is no
redis-server.
"""
import os
import poplib
import random
import re
import shutil
import signal
import smtplib
import socket
import subprocess
import threading
import time

import pytest

from penfold import Penfold

TTL_MS = 2400


def redis_port():
    """As free_ports, apart from them: the port of a Redis that is killed for a while must not be taken by a server that another test starts."""
    while True:
        port = random.randrange(25000, 26000)
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(('127.0.0.1', port))
                return port
            except OSError:
                continue


class Redis:
    """redis-server on a port of its own; more arguments as they stand on its command line."""

    def __init__(self, folder, *more, port=None, config=None):
        if not shutil.which('redis-server'):
            pytest.skip('no redis-server on this machine')
        self.folder = str(folder)
        self.port = port or redis_port()
        self.address = f'127.0.0.1:{self.port}'
        self.more, self.config = more, config
        self.process = None
        os.makedirs(self.folder, exist_ok=True)
        self.start()

    def start(self):
        command = ['redis-server'] + ([self.config] if self.config else []) + [
            '--bind', '127.0.0.1', '--port', str(self.port), '--dir', self.folder, '--loglevel', 'warning', *self.more]
        if not self.config:
            command += ['--save', '']
        with open(os.path.join(self.folder, 'log'), 'ab') as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        end = time.time() + 20
        while True:
            try:
                assert self('PING') == 'PONG'
                return
            except (OSError, AssertionError):
                assert time.time() < end and self.process.poll() is None, open(os.path.join(self.folder, 'log')).read()
                time.sleep(0.02)

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def __call__(self, *args):
        """One command; a reply as text, number, list or None."""
        with socket.create_connection(('127.0.0.1', self.port), 5) as s:
            s.settimeout(10)
            out = b'*%d\r\n' % len(args) + b''.join(b'$%d\r\n%s\r\n' % (len(a), a) for a in (str(x).encode() for x in args))
            s.sendall(out)
            return self.reply(s.makefile('rb'))

    def reply(self, f):
        line = f.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b'+':
            return rest.decode()
        if kind == b':':
            return int(rest)
        if kind == b'$':
            n = int(rest)
            return None if n < 0 else f.read(n + 2)[:-2].decode()
        if kind == b'*':
            return [self.reply(f) for _ in range(int(rest))]
        raise AssertionError(line)

    def hash(self, key):
        flat = self('HGETALL', key)
        return dict(zip(flat[::2], flat[1::2]))

    def __enter__(self):
        return self

    def __exit__(self, *args):
        self.kill()


class Wire:
    """A node's own way to Redis, which can be cut and mended: the node lives and talks to its clients, but not to Redis."""

    def __init__(self, port):
        self.to, self.open, self.lock = port, True, threading.Lock()
        self.pairs = set()
        self.listener = socket.create_server(('127.0.0.1', 0))
        self.address = '127.0.0.1:%d' % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(('127.0.0.1', self.to), 5) if self.open else None
            except OSError:
                far = None
            if not far:
                near.close()
                continue
            far.settimeout(None)
            for s in (near, far):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.pairs |= {near, far}
            for a, b in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(a, b), daemon=True).start()

    def copy(self, a, b):
        try:
            while True:
                data = a.recv(65536)
                if not data:
                    break
                b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            self.pairs -= {a}
        a.close()

    def cut(self):
        self.open = False
        with self.lock:
            for s in self.pairs:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def mend(self):
        self.open = True


class Node(Penfold):
    """One of several processes on one data folder."""

    def __init__(self, folder, name, data, redis, shards=2, extra='', placement='any', ttl_ms=TTL_MS, redis_more='', **more):
        self.name = name
        os.makedirs(folder, exist_ok=True)
        super().__init__(folder, shards=shards, extra=f'''
node: {name}
placement: {placement}
net: {{ stop_grace_ms: 500 }}
redis:
  {redis}
  ttl_ms: {ttl_ms}
  renew_ms: {ttl_ms // 8}
  margin_ms: {ttl_ms // 8}
  {redis_more}
{extra}''', **more)
        own = self.data
        self.data = data or own
        with open(self.config) as f:
            text = f.read()
        with open(self.config, 'w') as f:
            f.write(text.replace(f'data: {own}\n', f'data: {self.data}\n'))

    def signal(self, number):
        self.process.send_signal(number)

    def login(self, name='ann'):
        """The session, or what the server said instead."""
        try:
            return self.pop3(name)
        except poplib.error_proto as e:
            return e.args[0].decode()


class Fleet:
    def __init__(self, folder, nodes=2, accounts=('ann', 'bob'), redis=None, redis_keys=None, known=True, **more):
        self.folder = str(folder)
        self.known = known
        self.redis = redis or Redis(os.path.join(self.folder, 'redis'))
        data = os.path.join(self.folder, 'data')
        # without keys of its own each node has a wire of its own
        self.wires = [] if redis_keys else [Wire(self.redis.port) for _ in range(nodes)]
        keys = [redis_keys] * nodes if redis_keys else [f'address: "{w.address}"' for w in self.wires]
        self.nodes = [Node(os.path.join(self.folder, f'n{i + 1}'), f'n{i + 1}', data, keys[i], accounts=accounts, **more) for i in range(nodes)]

    def __getitem__(self, i):
        return self.nodes[i]

    def __enter__(self):
        try:
            # a master that the fleet has known for long: else the first start waits for one TTL
            if self.known:
                run_id = re.search(r'run_id:(\w+)', self.redis('INFO', 'server'))[1]
                self.redis('HSET', 'pf:m', 'run', run_id, 'at', 1)
            self.nodes[0].setup()
            for n in self.nodes:
                n.start()
            for n in self.nodes:
                wait_until(lambda: serves(n))
        except BaseException:
            self.__exit__(BaseException, None, None)
            raise
        return self

    def __exit__(self, kind, value, trace):
        bad = []
        for n in self.nodes:
            if not n.process:
                continue
            n.signal(signal.SIGCONT)
            try:
                code = n.stop()
            except AssertionError as e:
                code = e
            if code:
                bad.append(f'{n.name}: {code}\n' + n.log()[-4000:])
        self.redis.kill()
        for w in self.wires:
            w.listener.close()
        if kind is None:
            assert not bad, '\n'.join(bad)


def wait_until(check, seconds=60):
    """Waits for an event; a busy machine may take its time."""
    end = time.time() + seconds
    while True:
        got = check()
        if got:
            return got
        assert time.time() < end, 'in vain'
        time.sleep(0.05)


def serves(node, name='ann'):
    """The node takes accounts: its lease is there and no new master is waited for."""
    s = node.login(name)
    if isinstance(s, str):
        assert 'SYS/TEMP' in s or 'IN-USE' in s, s
        return False
    s.quit()
    return True


def deliver(node, message, name='ann', seconds=60):
    """As an MTA: again while the answer is temporary. Returns how many refusals there were."""
    refusals = 0
    end = time.time() + seconds
    while True:
        try:
            with node.lmtp() as l:
                code, text = l.replies('s@remote.example', [node.address(name)], message)[node.address(name)]
        except (OSError, smtplib.SMTPException) as e:
            code, text = 421, str(e).encode()
        if code == 250:
            return refusals
        assert 400 <= code < 500, (code, text)
        refusals += 1
        assert time.time() < end, (code, text)
        time.sleep(0.1)
