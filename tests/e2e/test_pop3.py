# SPDX-License-Identifier: Apache-2.0
"""POP3 from outside: the session lock, the snapshot, deletion, pipelining, strange sockets."""
import poplib
import re
import socket
import struct
import threading
import time

import pytest

from penfold import DOMAIN, PASSWORD, Penfold, read_all, settled

MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
LOGIN = f'USER ann@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode()


def test_second_session_is_refused_at_once(penfold):
    with penfold.pop3('ann'):
        began = time.time()
        with pytest.raises(poplib.error_proto, match=r'\[IN-USE\]'):
            penfold.pop3('ann')
        assert time.time() - began < 2
    with penfold.pop3('ann'):
        pass


def test_mail_arrives_while_the_maildrop_is_held(penfold):
    penfold.deliver(MESSAGE, 'ann')
    with penfold.pop3('ann') as pop:
        assert pop.stat()[0] == 1
        penfold.deliver(MESSAGE, 'ann')
        assert pop.stat()[0] == 1
        assert len(pop.uidl()) == 1
        pop.dele(1)
    with penfold.pop3('ann') as pop:
        assert pop.stat()[0] == 1


def test_deletion_needs_quit(penfold):
    penfold.deliver(MESSAGE, 'ann')
    pop = penfold.pop3('ann')
    pop.dele(1)
    pop.close()
    for _ in range(100):
        try:
            with penfold.pop3('ann') as pop:
                assert pop.stat()[0] == 1
                return
        except poplib.error_proto:
            time.sleep(0.1)
    pytest.fail('the lock of a dropped connection was not released')


def test_half_open_session_does_not_lock_its_user_out(penfold):
    """The client is gone without a word (its socket was reset): the next login succeeds within seconds."""
    s = penfold.raw()
    s.sendall(LOGIN + b'STAT\r\n')
    time.sleep(0.3)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
    end = time.time() + 10
    while True:
        try:
            with penfold.pop3('ann'):
                return
        except poplib.error_proto:
            assert time.time() < end
            time.sleep(0.1)


SESSION = LOGIN + b'STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 2 0\r\nDELE 1\r\nRSET\r\nNOOP\r\nCAPA\r\nQUIT\r\n'


def test_whole_session_in_one_segment_and_byte_by_byte(penfold):
    penfold.deliver(b'.dot first\r\n\r\n.\r\n..\r\n', 'ann')
    penfold.deliver(MESSAGE, 'ann')
    with penfold.raw() as s:
        greeting = s.recv(1000)
        s.sendall(SESSION)
        whole = read_all(s)
    with penfold.raw() as s:
        assert s.recv(1000)[:3] == greeting[:3]
        for i in range(len(SESSION)):
            s.sendall(SESSION[i:i + 1])
        assert read_all(s) == whole
    assert whole.count(b'\r\n.\r\n') == 5
    assert b'\r\n..dot first\r\n' in whole


def test_half_closed_client_gets_all_its_replies(penfold):
    penfold.deliver(MESSAGE, 'ann')
    with penfold.raw() as s:
        s.sendall(SESSION)
        s.shutdown(socket.SHUT_WR)
        got = read_all(s).split(b'\r\n')
        assert got[-1] == b'' and got[-2].startswith(b'+OK') and len(got) > 20


def test_big_message_streams(tmp_path):
    with Penfold(tmp_path) as p:
        line = b'0123456789' * 7 + b'\r\n'
        message = b'Subject: big\r\n\r\n.first\r\n' + line * (100_000_000 // len(line)) + b'.last\r\n'
        before = rss(p)
        p.deliver(message, 'ann')
        with p.pop3('ann') as pop:
            got = pop.retr(1)
            assert pop.sizes()[0] == len(got)
            assert got.endswith(message)
        assert rss(p) - before < 40_000, 'kilobytes of memory for a message of 100 MB'


def rss(p):
    with open(f'/proc/{p.process.pid}/status') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])


def test_slow_readers_hurt_nobody(tmp_path):
    """Clients that ask for much and take nothing: memory stays flat, others are served."""
    with Penfold(tmp_path, accounts=['ann'] + [f'u{i}' for i in range(40)]) as p:
        p.deliver(b'Subject: x\r\n\r\n' + b'y' * 5_000_000 + b'\r\n', *[f'u{i}' for i in range(40)], 'ann')
        before = rss(p)
        socks = []
        for i in range(40):
            s = p.raw()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(f'USER u{i}@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode() + b'RETR 1\r\n' * 50)
            socks.append(s)
        time.sleep(1)
        began = time.time()
        with p.pop3('ann') as pop:
            assert len(pop.retr(1)) > 5_000_000
        assert time.time() - began < 5
        assert rss(p) - before < 60_000
        for s in socks:
            s.close()


def test_wrong_name_and_wrong_password_look_alike(penfold):
    def answer(user, password):
        with penfold.raw() as s:
            s.recv(1000)
            s.sendall(f'USER {user}\r\nPASS {password}\r\nQUIT\r\n'.encode())
            return read_all(s)
    assert answer(f'ann@{DOMAIN}', 'wrong') == answer(f'nobody@{DOMAIN}', 'wrong') == answer('x@elsewhere.example', 'wrong')
    assert b'[AUTH]' in answer(f'ann@{DOMAIN}', 'wrong')


BAD = [b'', b' ', b'\0', b'\xff\xfe', b'RETR -1', b'RETR 0', b'RETR 18446744073709551616', b'RETR 99999999999999999999999', b'RETR 1 2',
       b'DELE x', b'TOP 1', b'TOP 1 -1', b'TOP 0 0', b'LIST 4294967297', b'UIDL -1', b'%n%s%n%s', b'XTND', b'STAT 1 2 3', b'AUTH NOSUCH',
       b'USER again', b'A' * 1000, b'B' * 100000]


def test_bad_commands_get_an_error_and_harm_nobody(penfold):
    penfold.deliver(MESSAGE, 'ann')
    for bad in BAD:
        with penfold.raw() as s:
            s.settimeout(10)
            s.recv(1000)
            s.sendall(LOGIN + bad + b'\r\nSTAT\r\nQUIT\r\n')
            lines = read_all(s).split(b'\r\n')
            assert lines[0].startswith(b'+OK') and lines[1].startswith(b'+OK'), (bad[:30], lines)
            assert lines[2].startswith(b'-ERR') or bad.startswith(b'STAT'), (bad[:30], lines)
            assert lines[3].startswith(b'+OK 1 '), (bad[:30], lines)


# ---- what a tenant or the configuration sets ----

def capa(s, f):
    s.sendall(b'CAPA\r\n')
    assert f.readline().startswith(b'+OK')
    out = []
    while True:
        line = f.readline()
        if line == b'.\r\n':
            return out
        out.append(line[:-2].decode())


def capa_before(p):
    with p.raw() as s, s.makefile('rb') as f:
        f.readline()
        return capa(s, f)


def capa_after(p):
    with p.raw() as s, s.makefile('rb') as f:
        s.sendall(LOGIN)
        replies = [f.readline() for _ in range(3)]
        assert all(r.startswith(b'+OK') for r in replies), replies
        after = capa(s, f)
        s.sendall(b'QUIT\r\n')
        f.read()
    return after


def test_capabilities(penfold):
    before, after = capa_before(penfold), capa_after(penfold)
    for c in ('TOP', 'UIDL', 'USER', 'SASL PLAIN LOGIN', 'RESP-CODES', 'AUTH-RESP-CODE', 'PIPELINING', 'UTF8', 'LANG', 'LOGIN-DELAY 0', 'EXPIRE NEVER'):
        assert c in before and c in after, c
    assert any(c.startswith('IMPLEMENTATION Penfold') for c in before)
    assert not any(c.startswith('STLS') for c in before)


def test_login_delay_and_expire(penfold):
    p = penfold
    p.run('tenant', 'add', 'strict')
    p.run('domain', 'add', 'strict.example', '--tenant', 'strict')
    p.run('tenant', 'set', 'strict', 'login_delay_s=86400', 'expire_days=7')
    p.run('tenant', 'set', 'demo', 'login_delay_s=2', 'expire_days=30')

    def announced():  # RFC 2449: the strictest of all, before it is known whose client it is
        before = capa_before(p)
        assert 'LOGIN-DELAY 86400 USER' in before and 'EXPIRE 7 USER' in before, before
    settled(announced)
    after = capa_after(p)
    assert 'LOGIN-DELAY 2' in after and 'EXPIRE 30' in after, after
    began = time.time()
    with pytest.raises(poplib.error_proto, match=r'\[LOGIN-DELAY\]'):
        p.pop3('ann')
    while True:  # who asks too often is not put off for longer
        try:
            with p.pop3('ann'):
                break
        except poplib.error_proto:
            assert time.time() - began < 4
            time.sleep(0.1)
    assert time.time() - began > 1


def test_apop(penfold):
    """With a reversible secret, which the tenant must allow."""
    p = penfold
    with p.raw() as s:
        assert b'<' not in s.recv(1000)
    p.run('tenant', 'set', 'demo', 'plain_passwords=yes')
    p.run('account', 'add', f'plain@{DOMAIN}', '--password-stdin', '--scheme', 'PLAIN', stdin=b'open secret\n')
    settled(lambda: p.deliver(MESSAGE, 'plain'))

    def apop(name, secret):
        pop = poplib.POP3('127.0.0.1', p.pop3_port, timeout=10)
        try:
            pop.apop(f'{name}@{DOMAIN}', secret)
            return pop.stat()[0]
        finally:
            pop.close()

    settled(lambda: apop('plain', 'open secret') == 1 or pytest.fail('no message'))
    for name, secret in (('plain', 'wrong'), ('ann', PASSWORD), ('nobody', 'x')):  # ann's is a hash: nothing to compare with
        with pytest.raises(poplib.error_proto, match=r'\[AUTH\]'):
            apop(name, secret)
    with p.pop3('plain', 'open secret'):
        pass
    stamps = set()
    for _ in range(20):
        with p.raw() as s:
            stamps.add(re.search(rb'<[^>]+>', s.recv(1000))[0])
    assert len(stamps) == 20


def test_languages_and_utf8(penfold):
    with penfold.raw() as s, s.makefile('rb') as f:
        f.readline()
        s.sendall(b'LANG\r\n')
        assert f.readline().startswith(b'+OK')
        languages = []
        while (line := f.readline()) != b'.\r\n':
            languages.append(line.split()[0])
        assert b'en' in languages and len(languages) >= 2
        s.sendall(b'LANG de\r\nNOOP\r\nUTF8\r\n' + LOGIN + b'NOOP\r\nRETR 1\r\nLANG tlh\r\nQUIT\r\n')
        lines = f.read().decode().split('\r\n')
    assert lines[0].startswith('+OK de ')
    assert [l[:3] for l in lines[:-1]] == ['+OK', '-ER', '+OK', '+OK', '+OK', '+OK', '-ER', '-ER', '+OK']
    assert 'Nachricht' in lines[6]


def test_wrong_passwords_end_the_connection(tmp_path):
    with Penfold(tmp_path, extra='pop3: { auth_failures_max: 2 }') as p:
        with p.raw() as s:
            s.sendall(f'USER ann@{DOMAIN}\r\nPASS wrong\r\nUSER ann@{DOMAIN}\r\nPASS also wrong\r\n'.encode() + LOGIN + b'STAT\r\n')
            lines = read_all(s).split(b'\r\n')
        assert [l[:4] for l in lines] == [b'+OK ', b'+OK ', b'-ERR', b'+OK ', b'-ERR', b''], lines
        with p.raw() as s:
            s.sendall(f'USER ann@{DOMAIN}\r\nPASS wrong\r\n'.encode() + LOGIN + b'QUIT\r\n')
            assert read_all(s).split(b'\r\n')[-2].startswith(b'+OK')
        assert p.json('stats')['metrics']['pop3_logins_refused_total'] == 3


def test_auto_logout(tmp_path):
    """Silence, and lines that never end, are ended: before login soon, after login later; nothing is deleted, nobody locked out."""
    users = [f'u{i}' for i in range(5)]

    def login(user): return f'USER {user}@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode()
    clients = {  # what is said at first, what is said twice a second then, and the seconds that this may last
        'silent': (b'', b'', 0.8, 2.2),
        'half a word': (b'USER u', b'x', 0.8, 2.2),
        'silent after login': (login('u0') + b'DELE 1\r\n', b'', 2.8, 8),
        'half a word after login': (login('u1') + b'DELE 1\r\nNO', b'O', 2.8, 8),
        'a line too long': (login('u2') + b'DELE 1\r\n' + b'x' * 5000, b'y', 2.8, 8),
        'alive': (login('u3') + b'DELE 1\r\n', b'NOOP\r\n', 9, 99),
    }
    with Penfold(tmp_path, accounts=users, extra='pop3: { login_idle_s: 1, idle_s: 3 }') as p:
        p.deliver(MESSAGE, *users)
        lived = {}

        def live(name, first, drip):
            with p.raw() as s:
                s.sendall(first)
                s.settimeout(0.5)
                began = time.time()
                try:
                    while time.time() - began < 9:
                        try:
                            if not s.recv(65536):
                                break
                        except socket.timeout:
                            s.sendall(drip)
                except OSError:
                    pass
                lived[name] = time.time() - began
        threads = [threading.Thread(target=live, args=(name, first, drip)) for name, (first, drip, _, _) in clients.items()]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        for name, (_, _, least, most) in clients.items():
            assert least < lived[name] < most, lived
        for u in users[:4]:
            settled(lambda: p.pop3(u).close(), 10)
            with p.pop3(u) as pop:
                assert pop.stat()[0] == 1


def test_unknown_names_cost_as_much_time(penfold):
    """The medians of wrong password, unknown name and unknown domain are alike: a hash is made for each."""
    def seconds(user):
        with penfold.raw() as s, s.makefile('rb') as f:
            f.readline()
            s.sendall(f'USER {user}\r\n'.encode())
            f.readline()
            began = time.perf_counter()
            s.sendall(b'PASS wrong\r\n')
            assert b'[AUTH]' in f.readline()
            return time.perf_counter() - began
    users = (f'ann@{DOMAIN}', f'nobody@{DOMAIN}', 'ann@elsewhere.example')
    times = {u: [] for u in users}
    for _ in range(9):
        for u in users:
            times[u].append(seconds(u))
    medians = [sorted(t)[4] for t in times.values()]
    assert max(medians) < 2 * min(medians), medians
