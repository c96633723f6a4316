# SPDX-License-Identifier: Apache-2.0
"""SASL over POP3 with clients that are not ours: curl and mpop (libgsasl), in the clear from this host and over TLS."""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import subprocess

import pytest

from penfold import DOMAIN, PASSWORD, settled
from tls import TlsPenfold, trusting

USER, KEYS, SECRET = f'plain@{DOMAIN}', f'keys@{DOMAIN}', 'open, secret='
MESSAGE = b'From: a@remote.example\r\nSubject: found\r\n\r\nby SASL\r\n'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with TlsPenfold(tmp_path_factory.mktemp('sasl')) as p:
        p.run('tenant', 'set', 'demo', 'plain_passwords=yes')
        p.run('account', 'add', USER, '--password-stdin', '--scheme', 'PLAIN', stdin=f'{SECRET}\n'.encode())
        p.run('account', 'add', KEYS, '--password-stdin', '--scheme', 'SCRAM-SHA-256', stdin=f'{SECRET}\n'.encode())
        settled(lambda: p.deliver(MESSAGE, 'plain', 'keys', 'ann'))
        settled(lambda: offered(p))
        yield p


def offered(p):
    assert 'SCRAM-SHA-256' in capa(p)


def capa(p):
    with p.raw() as s, s.makefile('rb') as f:
        f.readline()
        s.sendall(b'CAPA\r\n')
        return next(l for l in iter(f.readline, b'.\r\n') if l.startswith(b'SASL')).decode().split()


def curl(p, mechanism, user, password, tls=False):
    url = f'pop3s://127.0.0.1:{p.pops_port}/1' if tls else f'pop3://127.0.0.1:{p.pop3_port}/1'
    return subprocess.run(['curl', '-sS', '-m', '20', '--cacert', p.chain, '-u', f'{user}:{password}', '--login-options', f'AUTH={mechanism}', url],
                          capture_output=True)


@pytest.mark.parametrize('mechanism', ['PLAIN', 'LOGIN', 'CRAM-MD5'])
@pytest.mark.parametrize('tls', [False, True])
def test_curl(server, mechanism, tls):
    right = curl(server, mechanism, USER, SECRET, tls)
    assert right.returncode == 0 and b'by SASL' in right.stdout, right
    for user, password in ((USER, 'wrong'), (f'nobody@{DOMAIN}', SECRET)):
        assert curl(server, mechanism, user, password, tls).returncode == 67  # login denied
    if mechanism == 'CRAM-MD5':  # keys and hashes do not do
        assert curl(server, mechanism, f'ann@{DOMAIN}', PASSWORD, tls).returncode == 67


def mpop(p, tmp_path, mechanism, user, password, tls, more=''):
    where = tmp_path / 'mail'
    where.mkdir(exist_ok=True)
    for sub in ('cur', 'new', 'tmp'):
        (where / sub).mkdir(exist_ok=True)
    rc = tmp_path / 'mpoprc'
    (tmp_path / 'secret').write_text(password + '\n')  # a token is longer than a line of the file may be
    rc.write_text(f'''account x
host 127.0.0.1
port {p.pops_port if tls else p.pop3_port}
tls {'on' if tls else 'off'}
tls_starttls off
{'tls_trust_file ' + p.chain if tls else ''}
auth {mechanism}
user {user}
passwordeval "cat {tmp_path}/secret"
{more}
delivery maildir {where}
uidls_file {tmp_path}/uidls
keep on
''')
    rc.chmod(0o600)
    done = subprocess.run(['mpop', '-C', str(rc), '-q', 'x'], capture_output=True, timeout=30)
    found = [(where / 'new' / f).read_bytes() for f in os.listdir(where / 'new')]
    return done, found


@pytest.mark.parametrize('mechanism,user,tls', [
    ('cram-md5', USER, True), ('scram-sha-1', USER, False), ('scram-sha-256', USER, False), ('scram-sha-256', KEYS, False),
    ('scram-sha-256', KEYS, True), ('plain', KEYS, True)])
def test_mpop(server, tmp_path, mechanism, user, tls):
    done, found = mpop(server, tmp_path, mechanism, user, 'wrong', tls)
    assert done.returncode != 0 and not found
    done, found = mpop(server, tmp_path, mechanism, user, SECRET, tls)
    assert done.returncode == 0 and len(found) == 1 and b'by SASL' in found[0], done


class Bound:
    """POP3 through openssl s_client, which tells the exporter's value: the channel as another TLS sees it."""

    def __init__(self, port):
        self.p = subprocess.Popen(['openssl', 's_client', '-connect', f'127.0.0.1:{port}', '-tls1_3', '-keymatexport', 'EXPORTER-Channel-Binding',
                                   '-keymatexportlen', '32', '-ign_eof', '-nocommands'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=subprocess.DEVNULL)
        self.exporter = None
        for line in self.p.stdout:
            if b'Keying material: ' in line:
                self.exporter = bytes.fromhex(line.split()[-1].decode())
            if line.startswith(b'+OK'):
                break

    def say(self, line):
        self.p.stdin.write(line + b'\r\n')
        self.p.stdin.flush()
        while not (answer := self.p.stdout.readline()).startswith((b'+', b'-ERR')):
            assert answer
        return answer.rstrip()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.p.kill()
        self.p.wait()
        self.p.stdin.close()
        self.p.stdout.close()


def scram_plus(c, hash_name, user, password, binding, kind='tls-exporter'):
    """A client of RFC 5802 by Python's own sums; the last answer, and whether the server's signature was right."""
    H, mechanism = hash_name.replace('-', '').lower(), f'SCRAM-{hash_name}-PLUS'
    mac = lambda key, data: hmac.digest(key, data, H)  # noqa: E731
    bare, gs2 = f'n={user},r=rOprNGfwEbeRWgbNEkqO'.encode(), f'p={kind},,'.encode()
    answer = c.say(b'AUTH ' + mechanism.encode() + b' ' + base64.b64encode(gs2 + bare))
    assert answer.startswith(b'+ '), answer
    first = base64.b64decode(answer[2:])
    nonce, salt, rounds = (part[2:] for part in first.split(b','))
    salted = hashlib.pbkdf2_hmac(H, password.encode(), base64.b64decode(salt), int(rounds))
    without = b'c=' + base64.b64encode(gs2 + binding) + b',r=' + nonce
    message = bare + b',' + first + b',' + without
    key = mac(salted, b'Client Key')
    proof = bytes(a ^ b for a, b in zip(key, mac(hashlib.new(H, key).digest(), message)))
    answer = c.say(base64.b64encode(without + b',p=' + base64.b64encode(proof)))
    if not answer.startswith(b'+ '):
        return answer, False
    signed = base64.b64decode(answer[2:]) == b'v=' + base64.b64encode(mac(mac(salted, b'Server Key'), message))
    return c.say(b''), signed


@pytest.mark.parametrize('hash_name,user', [('SHA-256', KEYS), ('SHA-256', USER), ('SHA-1', USER)])
def test_bound_to_the_channel(server, hash_name, user):
    with Bound(server.pops_port) as c, Bound(server.pops_port) as other:
        assert len(c.exporter) == 32 and c.exporter != other.exporter
        answer, _ = scram_plus(c, hash_name, user, SECRET, other.exporter)  # somebody stands between two channels
        assert b'[AUTH]' in answer
        answer, signed = scram_plus(c, hash_name, user, SECRET, c.exporter)
        assert answer.startswith(b'+OK') and signed
    assert f'SCRAM-{hash_name}-PLUS' not in capa(server)  # no TLS, nothing to bind to


class Ssl:
    """POP3 by Python's ssl, which tells tls-unique and the server's certificate."""

    def __init__(self, port, **more):
        self.s = trusting(**more).wrap_socket(socket.create_connection(('127.0.0.1', port), 10))
        self.f = self.s.makefile('rb')
        assert self.f.readline().startswith(b'+OK')

    def say(self, line):
        self.s.sendall(line + b'\r\n')
        return self.f.readline().rstrip()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.f.close()
        self.s.close()


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_bound_to_the_certificate_and_to_the_handshake(server, version):
    versions = {'minimum_version': version, 'maximum_version': version}
    with Ssl(server.pops_port, **versions) as c, Ssl(server.pops_port, **versions) as other:
        end_point = hashlib.sha256(c.s.getpeercert(True)).digest()
        assert b'[AUTH]' in scram_plus(c, 'SHA-256', KEYS, SECRET, hashlib.sha256(b'another').digest(), 'tls-server-end-point')[0]
        if version == ssl.TLSVersion.TLSv1_2:
            unique, others = c.s.get_channel_binding(), other.s.get_channel_binding()
            assert b'[AUTH]' in scram_plus(c, 'SHA-256', KEYS, SECRET, others, 'tls-unique')[0]
            answer, signed = scram_plus(other, 'SHA-1', USER, SECRET, others, 'tls-unique')
            assert answer.startswith(b'+OK') and signed and unique != others
        else:
            assert b'[AUTH]' in c.say(b'AUTH SCRAM-SHA-256-PLUS ' + base64.b64encode(f'p=tls-unique,,n={KEYS},r=x'.encode()))
        answer, signed = scram_plus(c, 'SHA-256', KEYS, SECRET, end_point, 'tls-server-end-point')
        assert answer.startswith(b'+OK') and signed


def test_a_resumed_handshake_has_no_certificate(server):
    context = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    session = None
    for resumed in (False, True):
        with context.wrap_socket(socket.create_connection(('127.0.0.1', server.pops_port), 10), session=session) as s, s.makefile('rb') as f:
            f.readline()
            session = s.session
            assert s.session_reused == resumed
            s.sendall(b'AUTH SCRAM-SHA-256-PLUS ' + base64.b64encode(f'p=tls-server-end-point,,n={KEYS},r=x'.encode()) + b'\r\n')
            assert f.readline().startswith(b'-ERR [AUTH]' if resumed else b'+ ')


def test_salts_of_nobody_outlive_a_restart(server):
    def salt(name):
        with server.raw() as s, s.makefile('rb') as f:
            f.readline()
            s.sendall(b'AUTH SCRAM-SHA-256 ' + base64.b64encode(f'n,,n={name},r=x'.encode()) + b'\r\n')
            return base64.b64decode(f.readline()[2:]).split(b',', 1)[1]

    before = salt('nobody@demo.example')
    assert before.endswith(b',i=4096')
    server.restart()
    assert salt('nobody@demo.example') == before != salt('somebody@demo.example')


def test_offered_by_the_tenant_whose_name_the_client_gives(server):
    """One tenant keeps plain passwords, the other does not: each is told apart by the server's name in the handshake (SNI)."""
    server.run('tenant', 'add', 'strict')
    server.run('domain', 'add', 'strict.example', '--tenant', 'strict')

    def words(name, port, ask, end):
        context = trusting(server.chain, check_hostname=False)
        with context.wrap_socket(socket.create_connection(('127.0.0.1', port)), server_hostname=name) as s, s.makefile('rb') as f:
            greeting = f.readline()
            s.sendall(ask)
            return greeting, b''.join(iter(f.readline, end))

    def told_apart():
        for name, plain in ((DOMAIN, True), (f'mail.{DOMAIN}', True), ('pop.eu.strict.example', False), ('strict.example', False), ('unknown.example', True), (None, True)):
            greeting, capa_lines = words(name, server.pops_port, b'CAPA\r\n', b'.\r\n')
            assert (b'<' in greeting, b'CRAM-MD5' in capa_lines, b'SCRAM-SHA-256-PLUS' in capa_lines) == (plain, plain, plain), (name, greeting, capa_lines)
            greeting, capability = words(name, server.imaps_port, b'a CAPABILITY\r\n', b'a OK that is all\r\n')
            assert (b'CRAM-MD5' in greeting, b'AUTH=CRAM-MD5' in capability) == (plain, plain), (name, greeting, capability)
            assert b'AUTH=PLAIN' in capability
    settled(told_apart, 10)
