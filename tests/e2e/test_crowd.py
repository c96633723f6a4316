# SPDX-License-Identifier: Apache-2.0
"""Clients in numbers: a thousand that crawl, sockets that die at random points, ten thousand that idle.

Figures are differences within one run: what the server's own memory (RssAnon) grows by, how its other clients' polls compare
before and during, how many descriptors it has before and after.
"""
import os
import random
import resource
import selectors
import socket
import struct
import time

import pytest

from penfold import DOMAIN, PASSWORD, Memory, Penfold, settled

MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
BIG = b'Subject: big\r\n\r\n' + b'0123456789abcdef\r\n' * 60000  # a megabyte


def login(name):
    return f'USER {name}@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode()


def descriptors(p):
    """(sockets, files)"""
    kinds = []
    for fd in os.listdir(f'/proc/{p.process.pid}/fd'):
        try:
            kinds.append(os.readlink(f'/proc/{p.process.pid}/fd/{fd}').startswith('socket:'))
        except OSError:  # closed meanwhile
            pass
    return sum(kinds), len(kinds) - sum(kinds)


def connect(port, receive_bytes=0):
    s = socket.socket()
    if receive_bytes:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    s.connect(('127.0.0.1', port))
    s.setblocking(False)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()


def poll_seconds(p, name):
    """One client that checks its mail; a new connection, so that accepting counts."""
    began = time.perf_counter()
    with p.pop3(name) as pop:
        pop.stat()
    return time.perf_counter() - began


def median_poll(p, name, count=60):
    return sorted(poll_seconds(p, name) for _ in range(count))[count // 2]


# ---- a thousand that crawl ----

class Crawler:
    """What one of them says at first, once a second, and takes once a second."""

    def __init__(self, port, first=b'', drip=b'', takes=None, receive_bytes=0):
        self.s = connect(port, receive_bytes)
        self.drip, self.takes = drip, takes
        self.alive = True
        if first:
            self.s.send(first)

    def crawl(self):
        try:
            if self.drip:
                self.s.send(self.drip)
            if self.takes is None:
                self.s.recv(65536)
            elif self.takes:
                self.s.recv(self.takes)
        except BlockingIOError:
            pass
        except OSError:
            self.alive = False


def crowd(p, n, round_):
    """n of each of four kinds."""
    out = []
    for i in range(n):
        out.append(Crawler(p.pop3_port))                                                            # never says a word
        out.append(Crawler(p.pop3_port, b'USER ', b'x'))                                            # one byte a second, no line
        out.append(Crawler(p.pop3_port, login(f'slow{round_ * n + i}') + b'RETR 1\r\n' * 20, takes=1, receive_bytes=2048))  # reads one byte a second
        out.append(Crawler(p.lmtp_port, f'LHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@{DOMAIN}>\r\nDATA\r\nSubject: drip'.encode(), b'd'))
    return out


def test_a_thousand_crawlers(tmp_path):
    n, rounds = 250, 2
    slow = [f'slow{i}' for i in range(n * rounds)]
    with Penfold(tmp_path, accounts=['ann', 'bob'] + slow, extra='pop3: { login_idle_s: 600 }\nstore: { log_fds_max: 64 }') as p:
        with p.lmtp() as l:
            rcpts = [f'{s}@{DOMAIN}' for s in slow]
            assert all(code == 250 for code, _ in l.replies('s@remote.example', rcpts, BIG).values())
        p.deliver(MESSAGE, 'bob')
        before = median_poll(p, 'bob')
        fds, first = descriptors(p), Memory(p).before
        grown = []
        for round_ in range(rounds):
            clients = crowd(p, n, round_)
            for _ in range(3):
                for c in clients:
                    c.crawl()
                time.sleep(1)
            # every one of them is in, and where it should be
            settled(lambda: open_sessions(p, 4 * n), 10)
            memory, began = Memory(p), time.time()
            with memory:
                times = []
                while time.time() - began < 4:
                    for c in clients:
                        c.crawl()
                    times += [poll_seconds(p, 'bob') for _ in range(20)]
            during = sorted(times)[len(times) // 2]
            grown.append(memory.before - first)
            assert all(c.alive for c in clients), 'somebody was thrown out'
            assert memory.grown_kib() < 4096, 'memory grows while they crawl'
            assert during < 5 * before + 0.002, f'a poll took {before * 1000:.1f} ms, among crawlers {during * 1000:.1f} ms'
            print(f'{4 * n} crawlers: {(memory.before - first) / (4 * n):.1f} KiB each; a poll takes {before * 1000:.2f} ms without, {during * 1000:.2f} ms with them')
            for c in clients:
                reset(c.s)
            settled(lambda: closed(p, fds, 64), 15)
        # REPLY_BYTES_MAX is 64 KiB: what a reader who takes nothing may cost; the others cost next to nothing
        assert grown[0] < n * 64 + 3 * n * 16
        assert grown[1] < grown[0] + 8192, f'the second thousand cost more: {grown} KiB'
        with p.pop3('ann') as pop:
            assert pop.stat() == (0, 0)
        with p.pop3('slow0') as pop:  # nobody is locked out
            assert pop.stat()[0] == 1


def open_sessions(p, least):
    assert sum(s['open'] for s in p.json('stats')['shards']) >= least


def closed(p, before, files_more=16):
    """Every socket is gone; of logs and bodies that were opened meanwhile a bounded number may stay so."""
    sockets, files = descriptors(p)
    assert sockets <= before[0] and files <= before[1] + files_more, (sockets, files, before)


# ---- sockets that die ----

def test_sockets_that_die_at_random_points(tmp_path):
    """Half-closed, reset, closed with unread replies, at any byte of a session; then all is as it was."""
    seed = random.randrange(1 << 32)
    print(f'seed {seed}')
    rnd = random.Random(seed)
    names = ['ann', 'bob', 'eve']
    sessions = [login(n) + b'STAT\r\nUIDL\r\nRETR 1\r\nTOP 1 1\r\nDELE 1\r\nRSET\r\nRETR 1\r\nCAPA\r\nNOOP\r\n' for n in names]
    sessions += [b'CAPA\r\nAUTH PLAIN\r\nnonsense\r\nUSER x\r\nPASS y\r\n']
    # without an end of data: nothing of these may be stored
    mails = [f'LHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<ann@{DOMAIN}>\r\nRCPT TO:<bob@{DOMAIN}>\r\nDATA\r\nSubject: x\r\n'.encode() + b'z' * 40000,
             f'LHLO x.example\r\nMAIL FROM:<>\r\nRCPT TO:<eve@{DOMAIN}>\r\nBDAT 300000 LAST\r\n'.encode() + b'z' * 290000]
    with Penfold(tmp_path, accounts=names) as p:
        p.deliver(BIG, *names)
        for n in names:
            with p.pop3(n) as pop:
                assert len(pop.retr(1)) > len(BIG)
        fds, memory = descriptors(p), Memory(p)
        with memory:
            end, count = time.time() + 6, 0
            while time.time() < end:
                text = rnd.choice(sessions + mails)
                port = p.lmtp_port if text in mails else p.pop3_port
                with socket.create_connection(('127.0.0.1', port), 5) as s:
                    s.settimeout(5)
                    count += 1
                    cut = rnd.randrange(len(text)) if rnd.random() < .8 else len(text)
                    try:
                        s.sendall(text[:cut])
                        if rnd.random() < .4:
                            s.recv(rnd.choice([1, 100, 65536]))
                        how = rnd.choice(['half', 'reset', 'close', 'linger', 'half, read'])
                        if how.startswith('half'):
                            s.shutdown(socket.SHUT_WR)
                        if how == 'half, read':
                            while s.recv(1 << 20):
                                pass
                        if how == 'linger':
                            time.sleep(rnd.random() * 0.02)
                        if how == 'reset':
                            reset(s)
                    except OSError:
                        pass
        assert count > 100
        print(f'{count} sockets died')
        settled(lambda: closed(p, fds), 15)
        assert memory.grown_kib() < 32 << 10
        for n in names:
            def whole():
                with p.pop3(n) as pop:
                    assert pop.stat()[0] == 1
                    assert pop.retr(1).endswith(BIG)
            settled(whole, 10)


# ---- ten thousand that idle ----

class Logins:
    """Many logins at once by one thread: each connection says USER and PASS and is done when PASS was answered."""

    def __init__(self, p):
        self.p = p

    def open(self, names, at_once=200):
        """The sockets, logged in and idle."""
        done, waiting, names = [], selectors.DefaultSelector(), list(names)
        names.reverse()
        open_ = 0
        while names or open_:
            while names and open_ < at_once:
                s = connect(self.p.pop3_port)
                s.send(login(names.pop()))
                waiting.register(s, selectors.EVENT_READ, bytearray())
                open_ += 1
            ready = waiting.select(20)
            assert ready, 'a login had no answer for 20 s'
            for key, _ in ready:
                chunk = key.fileobj.recv(4096)
                assert chunk, bytes(key.data)
                key.data.extend(chunk)
                if key.data.count(b'\r\n') == 3:
                    assert key.data.splitlines()[2].startswith(b'+OK'), bytes(key.data)
                    waiting.unregister(key.fileobj)
                    done.append(key.fileobj)
                    open_ -= 1
        waiting.close()
        return done


def test_ten_thousand_idle_sessions(tmp_path):
    """Less than 1 KiB of user memory each, account, view, lock and connection together, once their accounts are warm."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10000, hard - 2000)
    if count < 2000:
        pytest.skip(f'only {hard} descriptors')
    try:
        names = [f'idle{i}' for i in range(count)]
        with Penfold(tmp_path, accounts=names) as p:
            logins = Logins(p)
            warm = 500
            for at in range(0, count, warm):  # every account once, never more than these at a time
                for s in logins.open(names[at:at + warm]):
                    reset(s)
            settled(lambda: open_at_most(p, 10), 15)
            before = Memory(p).before
            held = logins.open(names)
            settled(lambda: open_sessions(p, count), 10)
            each = (Memory(p).before - before) * 1024 / count
            print(f'{count} idle sessions after login: {each:.0f} bytes of user memory each')
            memory = {k: v for k, v in p.json('stats').items() if k == 'memory'}
            if memory:
                print(memory)
            assert each < 1024, f'{each:.0f} bytes'
            for s in held[:20]:  # and they are alive
                s.setblocking(True)
                s.settimeout(10)
                s.sendall(b'STAT\r\n')
                assert s.recv(100) == b'+OK 0 0\r\n'
            for s in held:
                reset(s)
            settled(lambda: open_at_most(p, 10), 20)
            assert p.stop() == 0
            p.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_at_most(p, most):
    assert sum(s['open'] for s in p.json('stats')['shards']) <= most
