# SPDX-License-Identifier: Apache-2.0
"""SASL over POP3 with clients that are not ours: curl and mpop (libgsasl), in the clear from this host and over TLS."""
import os
import subprocess

import pytest

from penfold import DOMAIN, PASSWORD, settled
from tls import TlsPenfold

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


def mpop(p, tmp_path, mechanism, user, password, tls):
    where = tmp_path / 'mail'
    where.mkdir(exist_ok=True)
    for sub in ('cur', 'new', 'tmp'):
        (where / sub).mkdir(exist_ok=True)
    rc = tmp_path / 'mpoprc'
    rc.write_text(f'''account x
host 127.0.0.1
port {p.pops_port if tls else p.pop3_port}
tls {'on' if tls else 'off'}
tls_starttls off
{'tls_trust_file ' + p.chain if tls else ''}
auth {mechanism}
user {user}
password "{password}"
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
