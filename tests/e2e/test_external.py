# SPDX-License-Identifier: Apache-2.0
"""Client certificates and AUTH EXTERNAL with curl, mpop, OpenSSL and Python's ssl."""
import base64
import os
import socket
import ssl
import subprocess

import pytest

from penfold import DOMAIN, free_ports, settled
from test_oauth import logged
from test_sasl import mpop
from tls import TlsPenfold, trusting

ANN, BOB = f'ann@{DOMAIN}', f'bob@{DOMAIN}'
MESSAGE = b'From: a@remote.example\r\nSubject: found\r\n\r\nby SASL\r\n'


def openssl(*args):
    subprocess.run(['openssl', *args], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Authority:
    """Signs certificates by the openssl command; paths are prefixes of .pem and .key."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name)
        self.serial = 100
        openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '30', '-subj', f'/CN={name}',
                '-addext', 'keyUsage=keyCertSign,cRLSign', '-keyout', self.path + '.key', '-out', self.path + '.pem')

    def issue(self, name, cn, alt=None, usage='clientAuth'):
        path = f'{self.path}-{name}'
        self.serial += 1
        with open(path + '.ext', 'w') as f:
            f.write(f'extendedKeyUsage={usage}\n' + (f'subjectAltName={alt}\n' if alt else ''))
        openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', f'/CN={cn}', '-keyout', path + '.key',
                '-out', path + '.csr')
        openssl('x509', '-req', '-in', path + '.csr', '-CA', self.path + '.pem', '-CAkey', self.path + '.key', '-set_serial', str(self.serial),
                '-days', '10', '-extfile', path + '.ext', '-out', path + '.pem')
        return path + '.pem', path + '.key'

    def revoked(self, serial):
        """A revocation list with one number on it."""
        with open(self.path + '.index', 'w') as f:
            f.write(f'R\t351231000000Z\t260101000000Z\t{serial:X}\tunknown\t/CN=x\n')
        with open(self.path + '.cnf', 'w') as f:
            f.write(f'[ca]\ndefault_ca=x\n[x]\ndatabase={self.path}.index\ndefault_md=sha256\ndefault_crl_days=10\n')
        openssl('ca', '-config', self.path + '.cnf', '-gencrl', '-cert', self.path + '.pem', '-keyfile', self.path + '.key', '-out', self.path + '.crl')
        with open(self.path + '.crl') as f:
            return f.read()


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp('external')
    ours, stranger = Authority(str(folder), 'ours'), Authority(str(folder), 'stranger')
    trust = str(folder / 'trust.pem')
    write(trust, ours.path + '.pem')
    p = TlsPenfold(folder, listener=f', client_ca: {trust}', accounts=('ann', 'bob'))
    p.cn_port, = free_ports(1)
    with open(p.config) as f:
        text = f.read()
    with open(p.config, 'w') as f:
        f.write(text.replace('listeners:\n', f'''listeners:
  - {{ protocol: pop3, address: "127.0.0.1:{p.cn_port}", tls: implicit, client_ca: {trust}, client_certificate: required, client_name: cn }}
'''))
    with p:
        p.trust_path, p.ours, p.stranger = trust, ours, stranger
        p.ann = ours.issue('ann', BOB, f'email:{ANN}')  # the two names differ: each listener looks where it was told
        settled(lambda: p.deliver(MESSAGE, 'ann', 'bob'))
        yield p


def write(path, *parts):
    with open(path + '.new', 'w') as f:
        for part in parts:
            f.write(part if '-----' in part else open(part).read())
    os.rename(path + '.new', path)


class Session:
    """POP3 by Python's ssl with a pair, or without."""

    def __init__(self, port, pair=None, session=None, context=None, **more):
        self.context = context or trusting(**more)
        if pair:
            self.context.load_cert_chain(*pair)
        self.s = self.context.wrap_socket(socket.create_connection(('127.0.0.1', port), 10), session=session)
        self.f = self.s.makefile('rb')
        assert self.f.readline().startswith(b'+OK')

    def say(self, line):
        self.s.sendall(line + b'\r\n')
        return self.f.readline().rstrip()

    def mechanisms(self):
        self.say(b'CAPA')
        return [l for l in iter(self.f.readline, b'.\r\n') if l.startswith(b'SASL')][0].decode().split()[1:]

    def external(self, name=None):
        return self.say(b'AUTH EXTERNAL ' + (base64.b64encode(name.encode()) if name else b'='))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.f.close()
        self.s.close()


def shut_out(port, pair=None, **more):
    try:
        Session(port, pair, **more).f.close()
    except (ssl.SSLError, ConnectionError, AssertionError):
        return
    raise AssertionError('let in')


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_names(server, version):
    versions = {'minimum_version': version, 'maximum_version': version}
    with Session(server.pops_port, server.ann, **versions) as s:
        assert 'EXTERNAL' in s.mechanisms()
        assert s.external(BOB).startswith(b'-ERR [AUTH]')  # somebody else
        assert s.external(f'nobody@{DOMAIN}').startswith(b'-ERR [AUTH]')
        assert s.external('ann').startswith(b'+OK')  # another spelling
    with Session(server.pops_port, server.ann, **versions) as s:
        assert s.say(b'AUTH EXTERNAL') == b'+' and s.say(b'').startswith(b'+OK')
    with Session(server.cn_port, server.ann, **versions) as s:
        assert s.external(ANN).startswith(b'-ERR [AUTH]')
        assert s.external().startswith(b'+OK')
        assert s.say(b'STAT').startswith(b'+OK 1 ')
    with Session(server.pops_port, **versions) as s:  # optional
        assert 'EXTERNAL' not in s.mechanisms() and s.external(ANN).startswith(b'-ERR no such mechanism')
    shut_out(server.cn_port, **versions)  # required


def test_certificates_that_prove_nothing(server):
    o, pops = server.ours, server.pops_port
    shut_out(pops, server.stranger.issue('ann', ANN, f'email:{ANN}'))
    shut_out(pops, o.issue('server', ANN, f'email:{ANN}', usage='serverAuth'))
    shut_out(pops, (server.chain, server.key))  # self-signed
    for name, alt in (('dns', 'DNS:mail.test.example'), ('two', f'email:{ANN},email:{BOB}'), ('none', None)):
        with Session(pops, o.issue(name, ANN, alt)) as s:  # good, but it names nobody
            assert 'EXTERNAL' not in s.mechanisms()
    with Session(pops, o.issue('nobody', ANN, f'email:nobody@{DOMAIN}')) as s:
        assert s.external().startswith(b'-ERR [AUTH]')
    settled(lambda: logged(server, 'unable to get local issuer certificate', 'unsupported certificate purpose'))


def test_tickets_of_elsewhere_do_not_come_in(server):
    with_stls = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
    with Session(server.pops_port, server.ann, context=with_stls) as s:
        first = s.s.session
        assert s.external().startswith(b'+OK')
    with Session(server.pops_port, session=first, context=with_stls) as s:
        assert not s.s.session_reused  # the certificate is checked each time
        assert s.external().startswith(b'+OK')


def test_authorities_are_changed_under_way(server):
    late = server.stranger.issue('late', ANN, f'email:{ANN}')

    def in_with(pair):
        with Session(server.pops_port, pair) as s:
            assert s.external(ANN).startswith(b'+OK')

    def revoked():
        shut_out(server.pops_port, server.ann)

    try:
        write(server.trust_path, server.ours.path + '.pem', server.stranger.path + '.pem')
        settled(lambda: in_with(late), 10)
        in_with(server.ann)
        write(server.trust_path, server.ours.path + '.pem', server.ours.revoked(101))
        settled(revoked, 10)
        with open(server.trust_path, 'w') as f:
            f.write('-----BEGIN')
        settled(lambda: logged(server, 'tls.client_ca_refused'), 10)
        revoked()
    finally:
        write(server.trust_path, server.ours.path + '.pem')
        settled(lambda: in_with(server.ann), 10)


def test_curl(server):
    for user, code in ((ANN, 0), (BOB, 67)):
        done = subprocess.run(['curl', '-sS', '-m', '20', '--cacert', server.chain, '--cert', server.ann[0], '--key', server.ann[1], '-u', f'{user}:',
                               '--login-options', 'AUTH=EXTERNAL', f'pop3s://127.0.0.1:{server.pops_port}/1'], capture_output=True)
        assert done.returncode == code and (b'by SASL' in done.stdout) == (code == 0), done


def test_mpop(server, tmp_path):
    more = f'tls_cert_file {server.ann[0]}\ntls_key_file {server.ann[1]}'
    for user, good in ((BOB, False), (ANN, True)):
        done, found = mpop(server, tmp_path, 'external', user, '', True, more)
        assert (done.returncode == 0 and len(found) == 1) == good, done


def test_openssl(server):
    done = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{server.cn_port}', '-cert', server.ann[0], '-key', server.ann[1], '-quiet'],
                          input=b'AUTH EXTERNAL =\r\nQUIT\r\n', capture_output=True, timeout=20)
    assert done.stdout.count(b'+OK') == 3, done


def test_wrong_configurations(server, tmp_path):
    listener = 'protocol: pop3, address: "127.0.0.1:1"'
    tls = f'tls: {{ certificate: {server.chain}, key: {server.key} }}\n'
    for text, word in ((f'listeners:\n  - {{ {listener}, client_ca: x }}', 'expected a listener with TLS'),
                       (f'{tls}listeners:\n  - {{ {listener}, client_certificate: required }}', 'expected client_ca')):
        path = tmp_path / 'penfold.yaml'
        path.write_text(f'data: {tmp_path}/data\n{text}\n')
        done = subprocess.run([server.binary, '--config', str(path), 'config', 'check'], capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stdout + done.stderr, done
