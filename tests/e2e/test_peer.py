# SPDX-License-Identifier: Apache-2.0
"""Sessions and mail that come to a node which does not own the account: passed on to the owner, with placement any and home.

What a client sees is what it would see at the owner; what it must never see is an update by a session whose way was broken.
"""
import imaplib
import os
import poplib
import secrets
import shutil
import socket
import ssl
import struct
import subprocess
import time

import pytest

from fleet import Fleet, deliver, serves, wait_until
from penfold import DOMAIN, PASSWORD, Penfold, free_ports, read_all, settled, without_trace
from test_imap_compress import Zip

GONE = (poplib.error_proto, OSError, EOFError, AttributeError)  # the last: poplib has closed it


def make_authority(folder, names):
    """A CA and a pair for each file's name, for what it names ("DNS:n1"); returns the CA's file."""
    def openssl(*args):
        subprocess.run(['openssl', *args], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.makedirs(folder, exist_ok=True)
    ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
    openssl('req', '-x509', *ec, '-days', '30', '-subj', '/CN=fleet', '-keyout', 'ca.key', '-out', 'ca.pem')
    for n, named in names.items():
        with open(os.path.join(folder, f'{n}.ext'), 'w') as f:
            f.write(f'subjectAltName = {named}\n')
        openssl('req', *ec, '-subj', f'/CN={n}', '-keyout', f'{n}.key', '-out', f'{n}.csr')
        openssl('x509', '-req', '-in', f'{n}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30', '-out', f'{n}.pem',
                '-extfile', f'{n}.ext')
    return os.path.join(folder, 'ca.pem')


def add(node, text):
    with open(node.config, 'a') as f:
        f.write(text + '\n')


def with_keys(folder, nodes):
    """In the clear over loopback, with the fleet's key."""
    path = os.path.join(folder, 'fleet.key')
    with open(path, 'w') as f:
        f.write(secrets.token_hex(32) + '\n')
    for n in nodes:
        n.peer_port, = free_ports(1)
        add(n, f'peer: {{ address: "127.0.0.1:{n.peer_port}", key_file: {path} }}')


def with_tls(folder, nodes, named='DNS:{0}'):
    ca = make_authority(folder, {f'n{i}': named.format(n.name) for i, n in enumerate(nodes)})
    for i, n in enumerate(nodes):
        n.peer_port, = free_ports(1)
        pair = os.path.join(folder, f'n{i}')
        add(n, f'peer: {{ address: "127.0.0.1:{n.peer_port}", certificate: {pair}.pem, key: {pair}.key, ca: {ca} }}')


def peers(folder, how, **more):
    f = Fleet(folder, nodes=2, redis_more='idle_ms: 600000', **more)
    how(os.path.join(str(folder), 'keys') if how is with_tls else str(folder), f.nodes)
    return f


@pytest.fixture(scope='module', params=[with_keys, with_tls], ids=['key', 'tls'])
def fleet(request, tmp_path_factory):
    with peers(tmp_path_factory.mktemp('peer'), request.param, accounts=('ann', 'bob')) as f:
        yield f


def owner(f, name='ann'):
    """The owner of an account, made sure of, and the other one."""
    def ask():
        s = f[0].login(name)
        assert not isinstance(s, str) or 'wait' in s, s
        if isinstance(s, str):
            return None
        s.quit()
        return f.redis.hash('pf:a:{%d}' % (1 if name == 'ann' else 2)).get('own')
    own = wait_until(ask)
    nodes = list(f.nodes)
    return nodes if own.startswith('n1/') else nodes[::-1]


def sessions(node, protocol=None):
    return [s for s in node.json('who')['sessions'] if protocol in (None, s['protocol'])]


def dele_all(session):
    for i in range(session.stat()[0]):
        session.dele(i + 1)
    session.quit()


def test_as_at_the_owner(fleet):
    at, other = owner(fleet)
    small = b'Subject: small\r\n\r\n.dot\r\n'
    large = b'Subject: large\r\n\r\n' + b'0123456789abcdef' * 4 * 1024 * 24 + b'\r\n'  # held back on the way: many outputs full
    deliver(at, small)
    deliver(at, large)
    with at.pop3('ann') as s:
        uidl, sizes = s.uidl(), s.sizes()
    s = other.pop3('ann')
    assert s.uidl() == uidl and s.sizes() == sizes
    assert without_trace(s.retr(1)) == small and without_trace(s.retr(2)) == large
    with pytest.raises(poplib.error_proto):
        s.retr(3)
    # in use at once, from both
    for node in (at, other):
        said = node.login()
        assert isinstance(said, str) and said.startswith('-ERR [IN-USE] '), said
    passed, = sessions(other, 'proxied')
    there, = sessions(at, 'pop3')
    assert passed['peer'] == there['peer'] and passed['account'] == there['account'] == f'ann@{DOMAIN}' and passed['state'] == 'proxied'
    dele_all(s)
    with other.pop3('ann') as s:
        assert s.stat() == (0, 0)
    wait_until(lambda: not sessions(other, 'proxied') and not sessions(at, 'pop3'))


def test_who_is_refused_stays(fleet):
    at, other = owner(fleet)
    with at.pop3('ann'):
        with other.raw() as s:
            f = s.makefile('rb')
            f.readline()
            s.sendall(b'USER ann\r\nPASS secret word\r\n')
            assert f.readline().startswith(b'+OK')
            assert f.readline().startswith(b'-ERR [IN-USE] ')
            s.sendall(b'USER bob\r\nPASS secret word\r\nSTAT\r\nQUIT\r\n')  # another login in the same connection, all in one burst
            assert [f.readline()[:3] for _ in range(4)] == [b'+OK'] * 4
            assert f.readline() == b''


def test_half_closed(fleet):
    """Who ends his sending gets his answers, and the update."""
    at, other = owner(fleet)
    deliver(at, b'Subject: x\r\n\r\nx\r\n')
    with other.raw() as s:
        s.sendall(b'USER ann\r\nPASS secret word\r\nDELE 1\r\nQUIT\r\n')
        s.shutdown(socket.SHUT_WR)
        said = read_all(s).split(b'\r\n')
        assert [l[:3] for l in said if l] == [b'+OK'] * 5, said
    with at.pop3('ann') as s:
        assert s.stat()[0] == 0


def test_mail_meanwhile(fleet):
    """A session at one node, mail by the other, of both kinds of owner: no 451 any more; each recipient with a reply of its own."""
    at, other = owner(fleet)
    with at.pop3('ann') as s:
        assert deliver(other, b'Subject: by the other\r\n\r\n.x\r\n') == 0
        big = b'Subject: big\r\n\r\n' + b'x' * 70 + b'\r\n' * 1 + (b'y' * 70 + b'\r\n') * 20000
        assert deliver(other, big) == 0  # from a spool file
        assert s.stat()[0] == 0  # the folder as it was when it was locked
        with other.lmtp() as l:
            replies = l.replies('s@remote.example', [f'ann@{DOMAIN}', f'nobody@{DOMAIN}', f'bob@{DOMAIN}'], b'Subject: all\r\n\r\nx\r\n')
        assert [c for c, _ in replies.values()].count(250) == 2 and replies[f'nobody@{DOMAIN}'][0] == 550
    with at.pop3('ann') as s:
        assert s.stat()[0] == 3
        assert without_trace(s.retr(1)) == b'Subject: by the other\r\n\r\n.x\r\n'
        assert without_trace(s.retr(2)) == big
        dele_all(s)
        s.pop = at.pop3('ann').pop
    with at.pop3('bob') as s:
        dele_all(s)
        s.pop = at.pop3('bob').pop


def test_a_client_that_goes(fleet):
    """No QUIT, no update; and the lock is free at once."""
    at, other = owner(fleet)
    deliver(at, b'Subject: stays\r\n\r\nx\r\n')
    s = other.pop3('ann')
    s.dele(1)
    s.close()
    wait_until(lambda: not sessions(at, 'pop3') and not sessions(other, 'proxied'))
    with at.pop3('ann') as s:
        assert s.stat()[0] == 1
    # kicked where it came in, kicked where it is
    for node, protocol in ((other, 'proxied'), (at, 'pop3')):
        s = other.pop3('ann')
        s.dele(1)
        node.run('kick', '--account', f'ann@{DOMAIN}')
        with pytest.raises(GONE):
            s.quit()
        wait_until(lambda: not sessions(at, 'pop3') and not sessions(other, 'proxied'))
    with at.pop3('ann') as s:
        assert s.stat()[0] == 1
        dele_all(s)
        s.pop = at.pop3('ann').pop


def test_strangers_at_the_peers_door(fleet):
    """Who is no node gets nothing done."""
    at, other = owner(fleet)
    for words in (b'', b'USER ann\r\nPASS secret word\r\n', b'\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c' + bytes(12), os.urandom(5000)):
        with socket.create_connection(('127.0.0.1', at.peer_port), 10) as s:
            try:
                s.sendall(words)
                s.shutdown(socket.SHUT_WR)
                assert b'taken' not in read_all(s)
            except OSError:
                pass
    assert serves(at) and serves(other)


def test_owner_killed(tmp_path):
    """The owner is killed amid a session that was passed on: it ends without update, and the other node has the mail soon after."""
    with peers(tmp_path, with_keys) as f:
        at, other = owner(f)
        deliver(other, b'Subject: stays\r\n\r\nx\r\n')
        s = other.pop3('ann')
        s.dele(1)
        at.kill()
        with pytest.raises(GONE):
            s.quit()

        def again():
            s = other.login()
            if isinstance(s, str):
                assert 'wait' in s, s
                return None
            with s:
                return s.stat()[0]
        assert wait_until(again) == 1
        wait_until(lambda: not sessions(other, 'proxied'))


def test_owner_drained(tmp_path):
    with peers(tmp_path, with_keys) as f:
        at, other = owner(f)
        deliver(at, b'Subject: one\r\n\r\nx\r\n')
        s = other.pop3('ann')
        at.run('drain', '--grace', '0', '--over', '0')
        with pytest.raises(GONE):
            for _ in range(600):
                s.pop.noop()
                time.sleep(0.1)
        # it lets go of what nobody holds there, and the other one takes it
        def here():
            s = other.login()
            if isinstance(s, str):
                assert 'wait' in s, s
                return False
            s.quit()
            return f.redis.hash('pf:a:{1}')['own'].startswith(other.name + '/')
        wait_until(here)
        assert deliver(other, b'Subject: two\r\n\r\nx\r\n') == 0


@pytest.fixture(scope='module')
def homes(tmp_path_factory):
    """Local disks, no Redis: an account's home is computed."""
    folder = str(tmp_path_factory.mktemp('homes'))
    names = [f'u{i}' for i in range(8)]
    ports = free_ports(2)
    listed = ', '.join('{ name: n%d, address: "127.0.0.1:%d" }' % (i + 1, p) for i, p in enumerate(ports))
    key = os.path.join(folder, 'fleet.key')
    with open(key, 'w') as f:
        f.write(secrets.token_hex(32))
    nodes = [Penfold(tmp_path_factory.mktemp(f'n{i + 1}'), accounts=names, extra=f'''
node: n{i + 1}
placement: home
nodes: [ {listed} ]
peer: {{ address: "127.0.0.1:{p}", key_file: {key} }}
''') for i, p in enumerate(ports)]
    nodes[0].setup()
    os.makedirs(nodes[1].data, mode=0o700)
    for file in os.listdir(nodes[0].data):
        if file.startswith('directory.db'):
            shutil.copy2(os.path.join(nodes[0].data, file), nodes[1].data)
    with nodes[0], nodes[1]:
        yield nodes, names


def test_homes(homes):
    nodes, names = homes
    for i, name in enumerate(names):
        nodes[i % 2].deliver(b'Subject: %s\r\n\r\nx\r\n' % name.encode(), name)
    passed = 0
    for name in names:
        seen = []
        for node in nodes:
            with node.pop3(name) as s:
                seen.append((s.uidl(), s.retr(1)))
                passed += len(sessions(node, 'proxied'))
                said = [n.raw() for n in nodes]
                for r in said:
                    f = r.makefile('rb')
                    f.readline()
                    r.sendall(b'USER %s\r\nPASS secret word\r\n' % name.encode())
                    f.readline()
                    assert f.readline().startswith(b'-ERR [IN-USE] ')
                    r.close()
        assert seen[0] == seen[1] and len(seen[0][0]) == 1
    assert passed == len(names)  # each is at home once
    # one message for all: those of the other node in one transaction there
    nodes[0].deliver(b'Subject: all\r\n\r\nx\r\n', *names)
    for name in names:
        with nodes[1].pop3(name) as s:
            assert s.stat()[0] == 2


# ---- IMAP ----

class Imap(imaplib.IMAP4):
    """Logged in; the whole answer to the login in `greeting`."""

    def __init__(self, node, name='ann'):
        super().__init__('127.0.0.1', node.imap_port, timeout=30)
        self.login(f'{name}@{DOMAIN}', PASSWORD)


def test_imap_as_at_the_owner(fleet):
    at, other = owner(fleet)
    large = b'Subject: large\r\n\r\n' + (b'0123456789abcdef' * 4 + b'\r\n') * 20000
    deliver(at, b'Subject: small\r\n\r\nx\r\n')
    deliver(at, large)
    here, there = Imap(at), Imap(other)
    assert there.capabilities == here.capabilities
    answers = []
    for c in (here, there):
        c.select('INBOX')
        answers.append((c.fetch('1:*', '(UID FLAGS RFC822.SIZE ENVELOPE)'), c.fetch('2', '(BODY.PEEK[])')))
    assert answers[0] == answers[1] and without_trace(answers[1][1][1][0][1]) == large
    # what one does the other is told, in IDLE, through the node between them
    there.send(b'i IDLE\r\n')
    assert there.readline().startswith(b'+')
    here.store('1', '+FLAGS', '(\\Flagged)')
    told = there.readline()
    assert b'1 FETCH' in told and b'\\Flagged' in told
    there.send(b'DONE\r\n')
    assert there.readline().startswith(b'i OK')
    there.append('INBOX', None, None, b'Subject: by the other\r\n\r\nx\r\n')
    assert here.noop()[0] == 'OK' and here.untagged_responses['EXISTS'][-1] == b'3'
    passed, = sessions(other, 'proxied')
    assert passed['account'] == f'ann@{DOMAIN}' and len(sessions(at, 'imap')) == 2
    # DEFLATE is between the client and the owner; the node between them passes it on as it is
    zipped = Zip(other, 'ann').compress()
    body, = zipped.ok('FETCH 2 BODY.PEEK[]')
    assert large.split(b'\r\n\r\n', 1)[1] in body and zipped.raw < len(large) // 10
    zipped.ok('LOGOUT')
    zipped.closed()
    wait_until(lambda: len(sessions(other, 'proxied')) == 1)
    # pipelined behind the login
    with socket.create_connection(('127.0.0.1', other.imap_port), 20) as s, s.makefile('rb') as f:
        f.readline()
        s.sendall(f'x LOGIN ann@{DOMAIN} "{PASSWORD}"\r\ny SELECT INBOX\r\nz LOGOUT\r\n'.encode())
        said = f.read().split(b'\r\n')
        assert [l[:4] for l in said if l[:1] in b'xyz' and l] == [b'x OK', b'y OK', b'z OK'], said
    here.store('1:*', '+FLAGS', '(\\Deleted)')
    here.expunge()
    there.logout()
    here.logout()
    wait_until(lambda: not sessions(other, 'proxied') and not sessions(at, 'imap'))


def test_imap_who_is_refused_stays(fleet):
    """Too many sessions of the account at its owner: NO, and the connection goes on where it came in."""
    at, other = owner(fleet)
    at.run('tenant', 'set', 'demo', 'account_sessions_max=1')
    try:
        def full():
            with Imap(at), socket.create_connection(('127.0.0.1', other.imap_port), 20) as s, s.makefile('rb') as f:
                f.readline()
                s.sendall(f'x LOGIN ann@{DOMAIN} "{PASSWORD}"\r\ny NOOP\r\n'.encode())
                said = f.readline()
                assert said.startswith(b'x NO [LIMIT] '), said
                assert f.readline().startswith(b'y OK')
        settled(full, 20)
    finally:
        at.run('tenant', 'set', 'demo', 'account_sessions_max=default')


def test_imap_owner_killed(tmp_path):
    """BYE or an end; and soon the other node has the account, and every flag that was acknowledged by the commit of a later command."""
    with peers(tmp_path, with_keys) as f:
        at, other = owner(f)
        deliver(other, b'Subject: stays\r\n\r\nx\r\n')
        c = Imap(other)
        c.select('INBOX')
        c.create('Kept')
        c.copy('1', 'Kept')
        at.kill()
        with pytest.raises((imaplib.IMAP4.abort, OSError)):
            for _ in range(100):
                c.noop()

        def again():
            try:
                c = Imap(other)
            except (imaplib.IMAP4.error, OSError) as e:
                assert 'wait' in str(e) or 'UNAVAILABLE' in str(e), e
                return None
            return c.select('Kept')[1][0]
        assert wait_until(again) == b'1'


def test_imap_at_home(homes):
    nodes, names = homes
    for name in names:
        seen = []
        for node in nodes:
            with Imap(node, name) as c:
                c.select('INBOX')
                seen.append(c.uid('FETCH', '1:*', '(FLAGS INTERNALDATE)'))
        assert seen[0] == seen[1]
