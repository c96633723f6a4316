# SPDX-License-Identifier: Apache-2.0
"""IMAP from outside: several sessions on one account, what each is told and when, POP3 beside it, other people's clients."""
import imaplib
import os
import re
import shutil
import socket
import subprocess
import time

import pytest

from penfold import PASSWORD, Penfold
from tls import TlsPenfold, trusting

imaplib._MAXLINE = 1 << 26
MESSAGE = b'From: a@remote.example\r\nSubject: %d\r\n\r\nText %d.\r\n'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('imap'), accounts=('ann', 'bob', 'cid', 'dan', 'eve', 'fay', 'gus', 'hal', 'ida')) as p:
        yield p


class Wire:
    """A session by lines: cmd() gives the untagged lines and the tagged one."""

    def __init__(self, server, name, select='INBOX'):
        self.s = socket.create_connection(('127.0.0.1', server.imap_port), 20)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.f = self.s.makefile('rb')
        self.f.readline()
        self.n = 0
        self.ok(f'LOGIN {server.address(name)} "{PASSWORD}"')
        if select:
            self.ok(f'SELECT {select}')

    def send(self, text):
        self.n += 1
        self.s.sendall(f't{self.n} {text}\r\n'.encode())
        return f't{self.n}'.encode()

    def line(self):
        line = self.f.readline()
        assert line, 'closed'
        return line.rstrip(b'\r\n')

    def until(self, tag):
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag + b' '):
                return lines, line[len(tag) + 1:]
            lines.append(line)

    def cmd(self, text):
        return self.until(self.send(text))

    def ok(self, text):
        lines, end = self.cmd(text)
        assert end.startswith(b'OK'), (text, end)
        return lines

    def close(self):
        self.s.close()


def deliver(server, name, count, first=1):
    for i in range(first, first + count):
        server.deliver(MESSAGE % (i, i), name)


def test_idle_is_woken(server):
    """Deliveries, flags and expunges of others reach a session in IDLE, without a word of its own."""
    a, b = Wire(server, 'ann'), Wire(server, 'ann')
    tag = a.send('IDLE')
    assert a.line() == b'+ idling'
    deliver(server, 'ann', 1)
    assert a.line() == b'* 1 EXISTS'
    assert a.line() == b'* 0 RECENT'
    b.ok('NOOP')
    b.ok(r'STORE 1 +FLAGS (\Flagged)')
    assert a.line() == rb'* 1 FETCH (FLAGS (\Flagged))'
    b.ok(r'STORE 1 +FLAGS.SILENT (\Deleted)')
    assert a.line() == rb'* 1 FETCH (FLAGS (\Flagged \Deleted))'
    b.ok('EXPUNGE')
    assert a.line() == b'* 1 EXPUNGE'
    a.s.sendall(b'DONE\r\n')
    assert a.until(tag)[1].startswith(b'OK')
    a.close()
    b.close()


def test_expunges_are_told_only_where_allowed(server):
    """RFC 9051 section 7.5.1: not during FETCH, STORE by numbers; with UID and by NOOP. What has gone can be read until then."""
    deliver(server, 'bob', 4)
    a, b = Wire(server, 'bob'), Wire(server, 'bob')
    b.ok(r'STORE 2 +FLAGS.SILENT (\Deleted)')
    assert b.ok('EXPUNGE') == [b'* 2 EXPUNGE']
    lines = a.ok('FETCH 1:4 (UID BODY.PEEK[TEXT])')
    assert not any(b'EXPUNGE' in line for line in lines)
    assert b'Text 2.' in lines
    assert not any(b'EXPUNGE' in line for line in a.ok(r'STORE 4 +FLAGS (\Seen)'))
    assert a.ok('UID FETCH 4 FLAGS')[-1] == b'* 2 EXPUNGE'
    assert a.ok('FETCH 2 UID') == [b'* 2 FETCH (UID 3)']
    lines = b.ok('NOOP')
    assert lines == [rb'* 3 FETCH (FLAGS (\Seen))']
    a.close()
    b.close()


def test_silent_store_tells_what_others_did(server):
    """RFC 9051 section 6.4.6: with .SILENT the client reckons its own change; what others changed before is told all the same."""
    deliver(server, 'ida', 2)
    a, b = Wire(server, 'ida'), Wire(server, 'ida')
    b.ok(r'STORE 1:2 +FLAGS.SILENT (\Flagged)')
    assert a.ok(r'STORE 1 +FLAGS.SILENT (\Seen)') == [rb'* 1 FETCH (FLAGS (\Flagged \Seen))', rb'* 2 FETCH (FLAGS (\Flagged))']
    b.ok(r'STORE 1 +FLAGS (\Draft)')
    assert a.ok(r'STORE 1 +FLAGS.SILENT (\Seen)') == [rb'* 1 FETCH (FLAGS (\Flagged \Seen \Draft))']  # changes nothing, and tells
    assert a.ok(r'STORE 1 +FLAGS.SILENT (\Answered)') == []
    a.close()
    b.close()


def test_an_account_that_was_never_used(tmp_path):
    """UIDVALIDITY is a number above 0 and stays; INBOX is subscribed; looking by names alone writes nothing."""
    with Penfold(tmp_path, accounts=('new', 'old')) as p:
        a, b = Wire(p, 'new', None), Wire(p, 'old', None)
        assert a.ok('LSUB "" *') == [b'* LSUB () "/" INBOX']
        assert a.ok('STATUS INBOX (MESSAGES)') == [b'* STATUS INBOX (MESSAGES 0)']
        told = int(re.search(rb'UIDVALIDITY (\d+)', a.ok('STATUS INBOX (UIDVALIDITY)')[0])[1])
        assert told > 0
        text = b'\n'.join(b.ok('EXAMINE INBOX'))
        other = int(re.search(rb'UIDVALIDITY (\d+)', text)[1])
        assert other > 0 and b'MAILBOXID (F1-%d)' % other in text
        deliver(p, 'old', 1)
        assert b.ok('NOOP')[0] == b'* 1 EXISTS'
        p.kill()
        p.start()
        for name, validity in (('new', told), ('old', other)):
            c = Wire(p, name, None)
            assert b'* OK [UIDVALIDITY %d] they stay' % validity in c.ok('SELECT INBOX')
            c.close()


def test_pop3_deletion_is_an_expunge(server):
    deliver(server, 'cid', 3)
    a = Wire(server, 'cid')
    with server.pop3('cid') as pop:
        uidls = [u.split()[1] for u in pop.pop.uidl()[1]]
        pop.pop.dele(2)
    assert a.ok('NOOP') == [b'* 2 EXPUNGE']
    assert a.ok('UID FETCH 1:* UID') == [b'* 1 FETCH (UID 1)', b'* 2 FETCH (UID 3)']
    with server.pop3('cid') as pop:
        assert [u.split()[1] for u in pop.pop.uidl()[1]] == [uidls[0], uidls[2]]
    a.close()


def test_acknowledged_is_kept(tmp_path):
    """What was acknowledged is there after a kill: folders, messages, copies, subscriptions; flags after their time."""
    with Penfold(tmp_path, extra='store: { flags_sync_ms: 0 }') as p:
        a = Wire(p, 'ann')
        a.ok('CREATE Work/x')
        a.ok('SUBSCRIBE Work/x')
        tag = a.send('APPEND Work/x (kept \\Seen) {23+}\r\nSubject: x\r\n\r\nkept...\r\n')
        assert a.until(tag)[1].startswith(b'OK')
        p.deliver(MESSAGE % (1, 1), 'ann')
        a.ok('NOOP')
        a.ok('COPY 1 Work/x')
        a.ok(r'STORE 1 +FLAGS (\Answered)')
        p.kill()
        p.start()
        b = Wire(p, 'ann', 'Work/x')
        assert b.ok('FETCH 1:* (FLAGS UID)') == [rb'* 1 FETCH (FLAGS (\Seen kept) UID 1)', b'* 2 FETCH (FLAGS () UID 2)']
        b.ok('SELECT INBOX')
        assert b.ok('FETCH 1 FLAGS') == [rb'* 1 FETCH (FLAGS (\Answered))']
        assert any(line.endswith(b' Work/x') for line in b.ok('LSUB "" *'))
        b.close()
        a.close()


def test_many_messages_stream(server):
    """Some ten thousand: FETCH 1:* goes on as the client reads, others are served meanwhile, and all of it is told once."""
    deliver(server, 'dan', 1)
    a = Wire(server, 'dan')
    for _ in range(13):
        a.ok('COPY 1:* INBOX')
    count = 1 << 13
    a.ok('SELECT INBOX')
    tag = a.send('FETCH 1:* (FLAGS UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])')
    b = Wire(server, 'dan')  # on the same shard, while a's output is full
    assert b.ok('STATUS INBOX (MESSAGES)') == [b'* STATUS INBOX (MESSAGES %d)' % count]
    lines, end = a.until(tag)
    assert end.startswith(b'OK')
    assert [int(m[1]) for m in (re.match(rb'\* (\d+) FETCH', line) for line in lines) if m] == list(range(1, count + 1))
    a.ok(r'STORE 1:* +FLAGS.SILENT (\Deleted)')
    lines = b.ok('NOOP')
    assert len(lines) == count
    assert len(a.ok('EXPUNGE')) == count
    assert b.ok('NOOP') == [b'* %d EXPUNGE' % 1] * count
    a.close()
    b.close()


def test_qresync_agrees_with_a_cache(server):
    """A client that keeps {uid: flags}: what it is told of a time of absence makes its cache equal to the truth."""
    deliver(server, 'eve', 12)
    a, b = Wire(server, 'eve', None), Wire(server, 'eve')
    a.ok('ENABLE QRESYNC')
    for turn in range(6):
        lines = a.ok('SELECT INBOX') if turn == 0 else a.ok(f'SELECT INBOX (QRESYNC ({validity} {modseq}))')
        if turn == 0:
            cache = {}
            state = lines
            for line in a.ok('UID FETCH 1:* (FLAGS)'):
                m = re.match(rb'\* \d+ FETCH \(FLAGS \(([^)]*)\) UID (\d+)', line)
                cache[int(m[2])] = m[1]
        else:
            state = lines
            for line in lines:
                if m := re.match(rb'\* VANISHED \(EARLIER\) (\S+)', line):
                    for part in m[1].split(b','):
                        first, _, last = part.partition(b':')
                        for uid in range(int(first), int(last or first) + 1):
                            cache.pop(uid, None)
                elif m := re.match(rb'\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)', line):
                    cache[int(m[1])] = m[2]
        text = b'\n'.join(state)
        validity = int(re.search(rb'UIDVALIDITY (\d+)', text)[1])
        modseq = int(re.search(rb'HIGHESTMODSEQ (\d+)', text)[1])
        b.ok('NOOP')
        truth = {}
        for line in b.ok('UID FETCH 1:* (FLAGS)'):
            m = re.match(rb'\* \d+ FETCH \(FLAGS \(([^)]*)\) UID (\d+)', line)
            truth[int(m[2])] = m[1]
        assert cache == truth, turn
        a.ok('UNSELECT')
        b.ok(rf'STORE {turn + 1} +FLAGS (\Flagged k{turn})')
        b.ok(rf'STORE {turn + 2} +FLAGS (\Deleted)')
        b.ok('EXPUNGE')
        deliver(server, 'eve', 1, 100 + turn)
        b.ok('NOOP')
    a.close()
    b.close()


def test_python_imaplib(server):
    deliver(server, 'fay', 2)
    m = imaplib.IMAP4('127.0.0.1', server.imap_port)
    m.login(server.address('fay'), PASSWORD)
    assert m.select()[1] == [b'2']
    assert m.create('Entw&APw-rfe')[0] == 'OK'
    assert m.append('"Entw&APw-rfe"', r'(\Draft)', imaplib.Time2Internaldate(time.time()), b'Subject: x\r\n\r\nx' * 1)[0] == 'OK'
    typ, data = m.fetch('1', '(FLAGS BODY[])')
    assert typ == 'OK' and data[0][1].endswith(b'Text 1.\r\n')
    assert m.store('1', '+FLAGS', r'\Deleted')[0] == 'OK'
    assert m.expunge()[1] == [b'1']
    assert any(b'Entw&APw-rfe' in line for line in m.list()[1])
    assert m.logout()[0] == 'BYE'


@pytest.mark.skipif(not shutil.which('curl'), reason='curl is not there')
def test_curl(server, tmp_path):
    url = f'imap://127.0.0.1:{server.imap_port}'
    user = ['-s', '--max-time', '20', '-u', f'{server.address("gus")}:{PASSWORD}']
    (tmp_path / 'm').write_bytes(MESSAGE % (7, 7))
    subprocess.run(['curl', *user, f'{url}/INBOX', '-T', str(tmp_path / 'm')], check=True)
    got = subprocess.run(['curl', *user, f'{url}/INBOX;MAILINDEX=1'], check=True, stdout=subprocess.PIPE).stdout
    assert got == MESSAGE % (7, 7)


@pytest.mark.skipif(not shutil.which('fetchmail'), reason='fetchmail is not there')
def test_fetchmail_by_imap(server, tmp_path):
    deliver(server, 'gus', 2, 50)
    rc = tmp_path / 'fetchmailrc'
    rc.write_text(f'poll 127.0.0.1 service {server.imap_port} protocol imap auth password user "{server.address("gus")}" '
                  f'password "{PASSWORD}" mda "cat >> {tmp_path}/box; echo >> {tmp_path}/box" sslproto ""\n')
    rc.chmod(0o600)
    subprocess.run(['fetchmail', '-f', str(rc), '--nodetach', '--all', '--nosyslog', '-i', str(tmp_path / 'ids'),
                    '--pidfile', str(tmp_path / 'pid')], env={**os.environ, 'HOME': str(tmp_path), 'FETCHMAILHOME': str(tmp_path)},
                   check=False, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    box = (tmp_path / 'box').read_bytes()
    assert b'Text 50.' in box and b'Text 51.' in box


@pytest.mark.skipif(not shutil.which('mbsync'), reason='isync is not there')
def test_mbsync_both_ways(server, tmp_path):
    """A thousand messages down, changes on both sides, up again: no difference and no duplicate."""
    count = 1000
    a = Wire(server, 'hal')
    text = b'From: a@remote.example\r\nSubject: %06d\r\n\r\nText.\r\n'
    for start in range(0, count, 100):
        tag = a.send('APPEND INBOX ' + ''.join(f'{" " if i > start else ""}{{{len(text % i)}+}}\r\n{(text % i).decode()}' for i in range(start, start + 100)))
        assert a.until(tag)[1].startswith(b'OK')
    rc = tmp_path / 'mbsyncrc'
    rc.write_text(f'''IMAPAccount p
Host 127.0.0.1
Port {server.imap_port}
User {server.address('hal')}
Pass "{PASSWORD}"
SSLType None
AuthMechs LOGIN

IMAPStore far
Account p

MaildirStore near
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
''')
    (tmp_path / 'mail').mkdir()

    def sync():
        r = subprocess.run(['mbsync', '-c', str(rc), 'c'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert r.returncode == 0, r.stdout.decode()

    def near(folder='INBOX'):
        return [os.path.join(tmp_path, 'mail', folder, sub, name) for sub in ('cur', 'new') for name in os.listdir(tmp_path / 'mail' / folder / sub)]

    def subjects(paths):
        return sorted(int(re.search(rb'Subject: (\d+)', open(path, 'rb').read())[1]) for path in paths)

    sync()
    assert subjects(near()) == list(range(count))
    for path in near():
        if subjects([path])[0] < 10:
            os.unlink(path)  # gone on this side
    with open(tmp_path / 'mail' / 'INBOX' / 'new' / '1.x.y', 'wb') as f:
        f.write((text % count).replace(b'\r\n', b'\n'))
    a.ok('NOOP')
    a.ok('CREATE Other')
    a.ok('MOVE 990:1000 Other')  # gone on that side
    a.ok(r'STORE 20 +FLAGS (\Flagged)')
    sync()
    sync()
    want = list(range(10, 989)) + [count]
    assert subjects(near()) == want
    assert subjects(near('Other')) == list(range(989, count))
    a.ok('NOOP')
    there = [int(m[1]) for line in a.ok('FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]') if (m := re.match(rb'Subject: (\d+)', line))]
    assert sorted(there) == want
    assert sum('F' in path.rsplit(',', 1)[-1] for path in near()) == 1
    a.close()


def test_tls(tmp_path):
    """Implicit and by STARTTLS; what came in the clear behind STARTTLS is never executed (invariant 10)."""
    with TlsPenfold(tmp_path) as p:
        for way in ('implicit', 'starttls'):
            if way == 'implicit':
                m = imaplib.IMAP4_SSL('127.0.0.1', p.imaps_port, ssl_context=p.trust())
                assert 'STARTTLS' not in m.capabilities
            else:
                m = imaplib.IMAP4('127.0.0.1', p.imap_port)
                assert 'STARTTLS' in m.capabilities
                m.starttls(p.trust())
                assert 'STARTTLS' not in m.capabilities
            assert m.login(p.address('ann'), PASSWORD)[0] == 'OK'
            assert m.append('INBOX', None, None, b'Subject: x\r\n\r\n' + b'x' * 70 * 1000)[0] == 'OK'
            m.select()
            assert m.fetch('*', 'BODY.PEEK[TEXT]')[1][0][1] == b'x' * 70 * 1000 + b'\r\n'
            m.logout()
        s = p.raw(p.imap_port)
        f = s.makefile('rb', buffering=0)
        f.readline()
        s.sendall(f'a STARTTLS\r\nb LOGIN {p.address("ann")} "{PASSWORD}"\r\n'.encode())
        assert f.readline().startswith(b'a OK')
        t = trusting().wrap_socket(s)
        t.sendall(b'c NAMESPACE\r\n')
        assert t.recv(4096) == b'c BAD log in first\r\n'
        t.close()


def test_a_line_too_long_is_answered_by_its_tag(server):
    """The client waits for an answer that bears the tag; the session stays in step, also behind a literal."""
    w = Wire(server, 'hal')
    for octets in (70000, 400000):
        _, answer = w.cmd('UID FETCH ' + ','.join(['100000'] * (octets // 7)) + ' (UID)')
        assert answer.startswith(b'BAD [TOOBIG]')
        w.ok('NOOP')
    _, answer = w.cmd('STATUS {5+}\r\nINBOX (' + 'MESSAGES ' * 10000 + ')')
    assert answer.startswith(b'BAD [TOOBIG]')
    w.ok('NOOP')
    w.ok('LOGOUT')
