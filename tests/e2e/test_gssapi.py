# SPDX-License-Identifier: Apache-2.0
"""GSSAPI over POP3 against a real KDC, with curl, mpop (libgsasl), and a client that says what no client should."""
import base64
import os
import subprocess

import pytest

from kdc import Gss, Kdc
from penfold import DOMAIN, Penfold, settled
from test_oauth import logged
from test_sasl import capa

ANN, BOB = f'ann@{DOMAIN}', f'bob@{DOMAIN}'
MESSAGE = b'From: a@remote.example\r\nSubject: found\r\n\r\nby SASL\r\n'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gssapi')
    with Kdc(folder, ann='secret', bob='secret', stranger='secret', **{'ann/admin': 'secret'}) as kdc:
        was = dict(os.environ)
        os.environ.update(kdc.env)
        try:
            with Penfold(folder, extra=f'gssapi: {{ keytab: {kdc.keytab} }}', accounts=('ann', 'bob')) as p:
                p.kdc, p.ann = kdc, kdc.ticket('ann', 'secret')
                settled(lambda: p.deliver(MESSAGE, 'ann', 'bob'))
                yield p
        finally:
            os.environ.clear()
            os.environ.update(was)


def curl(p, env, authzid=None):
    more = ['--sasl-authzid', authzid] if authzid else []
    return subprocess.run(['curl', '-sS', '-m', '20', '-u', 'whoever@else.example:', '--login-options', 'AUTH=GSSAPI', *more, f'pop3://localhost:{p.pop3_port}/1'],
                          env=env, capture_output=True)


def test_offered(server):
    assert 'GSSAPI' in capa(server)


def test_curl(server):
    for authzid in (None, ANN):
        done = curl(server, server.ann, authzid)
        assert done.returncode == 0 and f'for <{ANN}>'.encode() in done.stdout, done
    assert curl(server, server.ann, BOB).returncode == 67  # a ticket of somebody else's
    assert curl(server, {**server.kdc.env, 'KRB5CCNAME': 'FILE:/nonexistent'}).returncode != 0
    for name in ('stranger', 'ann/admin'):  # good tickets of nobody here
        assert curl(server, server.kdc.ticket(name, 'secret')).returncode == 67
    settled(lambda: logged(server, 'a principal that is no login here: ann/admin@DEMO.EXAMPLE'))


def test_mpop(server, tmp_path):
    rc = tmp_path / 'mpoprc'
    for sub in ('cur', 'new', 'tmp'):
        (tmp_path / 'mail' / sub).mkdir(parents=True)
    for env, good in ((server.kdc.ticket('stranger', 'secret'), False), (server.ann, True)):
        rc.write_text(f'account x\nhost localhost\nport {server.pop3_port}\ntls off\nauth gssapi\nuser {ANN}\ndelivery maildir {tmp_path}/mail\n'
                      f'uidls_file {tmp_path}/uidls\nkeep on\n')
        rc.chmod(0o600)
        done = subprocess.run(['mpop', '-C', str(rc), '-q', 'x'], env=env, capture_output=True, timeout=30)
        assert (done.returncode == 0) == good and len(os.listdir(tmp_path / 'mail' / 'new')) == good, done


class Client:
    """One POP3 connection with an exchange under way."""

    def __init__(self, p):
        os.environ['KRB5CCNAME'] = p.ann['KRB5CCNAME']
        self.s = p.raw()
        self.f = self.s.makefile('rb')
        self.f.readline()
        self.gss = Gss()

    def say(self, data, start=b''):
        self.s.sendall(start + base64.b64encode(data) + b'\r\n')
        line = self.f.readline().rstrip()
        return base64.b64decode(line[2:]) if line.startswith(b'+ ') else line

    def layer(self):
        """Up to the server's offer."""
        over, token = self.gss.step()
        self.first = token
        while True:
            answer = self.say(token, b'AUTH GSSAPI ' if token is self.first else b'')
            assert not answer.startswith(b'-ERR'), answer
            if over:
                break
            over, token = self.gss.step(answer)
        return self.gss.unwrap(answer)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.f.close()
        self.s.close()


def test_layers_and_names(server):
    for answer, good in ((b'\1\0\0\0', True), (b'\1\0\0\0' + ANN.encode(), True), (b'\1\0\0\0ann', True), (b'\1\0\0\0' + BOB.encode(), False),
                         (b'\1\0\0\0nobody@' + DOMAIN.encode(), False), (b'\1\0\0\0ann\0', False), (b'\2\0\0\0', False), (b'\4\0\4\0', False), (b'\1\0\4\0', False),
                         (b'\0\0\0\0', False), (b'\1\0\0', False), (b'', False)):
        with Client(server) as c:
            assert c.layer() == b'\1\0\0\0'
            assert c.say(c.gss.wrap(answer)).startswith(b'+OK' if good else b'-ERR'), answer


def test_replayed_and_senseless(server):
    with Client(server) as c:
        c.layer()
        assert c.say(b'not wrapped').startswith(b'-ERR [AUTH]')
        assert c.say(c.first, b'AUTH GSSAPI ').startswith(b'-ERR [AUTH]')  # its token again: the replay cache knows it
        assert c.say(b'x' * 5000, b'AUTH GSSAPI ').startswith(b'-ERR [AUTH]')
    with Client(server) as c:
        c.s.sendall(b'AUTH GSSAPI\r\n')
        assert c.f.readline() == b'+ \r\n'
        assert c.say(b'').startswith(b'-ERR')
    settled(lambda: logged(server, 'replay', 'sasl.gssapi_refused'))


def test_keys_are_changed_under_way(server):
    server.kdc.admin(f'ktadd -k {server.kdc.keytab} pop/localhost')  # a new key; tickets of the old one are none any more, but its key stays
    assert curl(server, server.ann).returncode == 0
    assert curl(server, server.kdc.ticket('ann', 'secret')).returncode == 0


def test_wrong_configurations(server, tmp_path):
    for text, word in (('gssapi: { realm: X }', 'gssapi.keytab'), ('gssapi: { keytab: x, domain: y }', 'gssapi.realm')):
        path = tmp_path / 'penfold.yaml'
        path.write_text(f'data: {tmp_path}/data\n{text}\n')
        done = subprocess.run([server.binary, '--config', str(path), 'config', 'check'], capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stdout + done.stderr, done
    path.write_text(f'data: {tmp_path}/data\ngssapi: {{ keytab: {tmp_path}/none }}\nlisteners:\n  - {{ protocol: pop3, address: "unix:{tmp_path}/s" }}\n')
    done = subprocess.run([server.binary, '--config', str(path), 'serve'], capture_output=True, text=True, timeout=30)
    assert done.returncode == 2 and 'sasl.keytab_failed' in done.stderr and f'{path}:2: gssapi.keytab' in done.stderr, done
