# SPDX-License-Identifier: Apache-2.0
"""SASL with two more clients that are not ours: GNU SASL's own tool over IMAP, and fetchmail's AUTH over POP3 and IMAP."""
import os
import subprocess

import pytest

from kdc import Kdc
from penfold import DOMAIN, settled
from test_sasl import KEYS, MESSAGE, SECRET, USER, offered
from tls import TlsPenfold

ANN = f'ann@{DOMAIN}'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp('saslclients')
    with Kdc(folder, ann='secret', stranger='secret') as kdc:
        was = dict(os.environ)
        os.environ.update(kdc.env)
        try:
            with TlsPenfold(folder, extra=f'gssapi: {{ keytab: {kdc.keytab} }}') as p:
                p.kdc = kdc
                p.run('tenant', 'set', 'demo', 'plain_passwords=yes')
                p.run('account', 'add', USER, '--password-stdin', '--scheme', 'PLAIN', stdin=f'{SECRET}\n'.encode())
                p.run('account', 'add', KEYS, '--password-stdin', '--scheme', 'SCRAM-SHA-256', stdin=f'{SECRET}\n'.encode())
                settled(lambda: p.deliver(MESSAGE, 'plain', 'keys', 'ann'))
                settled(lambda: offered(p))
                yield p
        finally:
            os.environ.clear()
            os.environ.update(was)


def gsasl(p, mechanism, user, password, env=None):
    """Its way through IMAP: CAPABILITY, AUTHENTICATE, LOGOUT. What it said, and whether it says that it is in."""
    done = subprocess.run(['gsasl', '--imap', f'--connect=localhost:{p.imap_port}', '--no-starttls', '-m', mechanism, '-a', user, '-z', user,
                           '-p', password, '--service=imap', '--hostname=localhost', '--quality-of-protection=qop-auth'],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    said = (done.stdout + done.stderr).decode(errors='replace')
    return done.returncode == 0 and ' OK ' in said, said


@pytest.mark.parametrize('mechanism,user', [('PLAIN', USER), ('LOGIN', USER), ('CRAM-MD5', USER), ('SCRAM-SHA-1', USER), ('SCRAM-SHA-256', USER),
                                            ('SCRAM-SHA-256', KEYS)])
def test_gsasl(server, mechanism, user):
    good, said = gsasl(server, mechanism, user, SECRET)
    assert good, said
    for name, password in ((user, 'wrong'), (f'nobody@{DOMAIN}', SECRET)):
        good, said = gsasl(server, mechanism, name, password)
        assert not good and 'AUTHENTICATIONFAILED' in said, said


def test_gsasl_with_a_ticket(server):
    good, said = gsasl(server, 'GSSAPI', ANN, '', env=server.kdc.ticket('ann', 'secret'))
    assert good, said
    good, said = gsasl(server, 'GSSAPI', ANN, '', env=server.kdc.ticket('stranger', 'secret'))
    assert not good, said


def fetchmail(p, tmp_path, protocol, auth, user, password, env=None):
    rc, out = tmp_path / 'fetchmailrc', tmp_path / 'out'
    port = {'pop3': p.pop3_port, 'imap': p.imap_port}[protocol]
    rc.write_text(f"""poll localhost protocol {protocol} port {port} auth {auth}
  user "{user}" {f'password "{password}"' if password else ''} keep fetchall sslproto ''
  mda "cat >> {out}"
""")
    rc.chmod(0o600)
    done = subprocess.run(['fetchmail', '-f', str(rc), '--nosyslog', '--pidfile', str(tmp_path / 'pid'), '-i', str(tmp_path / 'ids'), '-v', '-v'],
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    return (out.read_bytes() if out.exists() else b''), (done.stdout + done.stderr).decode(errors='replace')


@pytest.mark.parametrize('protocol', ['pop3', 'imap'])
def test_fetchmail_cram_md5(server, tmp_path, protocol):
    got, said = fetchmail(server, tmp_path, protocol, 'cram-md5', USER, 'wrong')
    assert not got and 'CRAM-MD5' in said, said
    got, said = fetchmail(server, tmp_path, protocol, 'cram-md5', USER, SECRET)
    assert b'by SASL' in got and 'CRAM-MD5' in said, said
    assert '> PASS' not in said and ' LOGIN "' not in said, said


@pytest.mark.parametrize('protocol', ['pop3', 'imap'])
def test_fetchmail_gssapi(server, tmp_path, protocol):
    got, said = fetchmail(server, tmp_path, protocol, 'gssapi', ANN, '', env={**os.environ, **server.kdc.ticket('ann', 'secret')})
    assert b'by SASL' in got and 'GSSAPI' in said, said
