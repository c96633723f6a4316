# SPDX-License-Identifier: Apache-2.0
"""Bearer tokens over POP3 with curl and mpop: keys and signatures are OpenSSL's."""
import base64
import json
import os
import subprocess
import time

import pytest

from penfold import DOMAIN, settled
from test_sasl import capa, mpop
from tls import TlsPenfold

ANN, BOB = f'ann@{DOMAIN}', f'bob@{DOMAIN}'
ISSUER, AUDIENCE = 'https://login.test.example', 'penfold'
MESSAGE = b'From: a@remote.example\r\nSubject: found\r\n\r\nby SASL\r\n'


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b'=')


class Key:
    """A key pair of the issuer's, by the openssl command."""

    def __init__(self, folder, kid, kind):
        self.kid, self.kind, self.path = kid, kind, os.path.join(folder, f'{kid}.pem')
        how = {'RS256': ['RSA', '-pkeyopt', 'rsa_keygen_bits:2048'], 'ES256': ['EC', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'EdDSA': ['ED25519']}[kind]
        subprocess.run(['openssl', 'genpkey', '-algorithm', *how, '-out', self.path], check=True, stderr=subprocess.DEVNULL)

    def der(self):
        return subprocess.run(['openssl', 'pkey', '-in', self.path, '-pubout', '-outform', 'DER'], check=True, capture_output=True).stdout

    def jwk(self):
        public = self.der()
        if self.kind == 'ES256':
            more = {'kty': 'EC', 'crv': 'P-256', 'x': b64(public[-64:-32]).decode(), 'y': b64(public[-32:]).decode()}
        elif self.kind == 'EdDSA':
            more = {'kty': 'OKP', 'crv': 'Ed25519', 'x': b64(public[-32:]).decode()}
        else:  # SubjectPublicKeyInfo of 2,048 bits: the modulus, then 02 03 01 00 01
            more = {'kty': 'RSA', 'n': b64(public[-261:-5]).decode(), 'e': b64(public[-3:]).decode()}
        return {'kid': self.kid, 'use': 'sig', 'alg': self.kind, **more}

    def sign(self, data):
        path = self.path + '.data'
        with open(path, 'wb') as f:
            f.write(data)
        how = ['pkeyutl', '-sign', '-rawin', '-inkey', self.path, '-in', path] if self.kind == 'EdDSA' else ['dgst', '-sha256', '-sign', self.path, path]
        signature = subprocess.run(['openssl', *how], check=True, capture_output=True).stdout
        if self.kind != 'ES256':
            return signature
        r_len = signature[3]  # SEQUENCE { INTEGER r, INTEGER s }
        r, s = signature[4:4 + r_len], signature[6 + r_len:]
        return r.lstrip(b'\0').rjust(32, b'\0') + s.lstrip(b'\0').rjust(32, b'\0')

    def token(self, name=ANN, header=None, **claims):
        header = {'alg': self.kind, 'typ': 'JWT', 'kid': self.kid, **(header or {})}
        claims = {'iss': ISSUER, 'aud': [AUDIENCE, 'other'], 'exp': int(time.time()) + 600, 'email': name, **claims}
        said = b64(json.dumps(header).encode()) + b'.' + b64(json.dumps(claims).encode())
        return (said + b'.' + b64(self.sign(said))).decode()


def write_set(path, *keys):
    with open(path + '.new', 'w') as f:
        json.dump({'keys': [k.jwk() for k in keys] + [{'kty': 'oct', 'k': 'c2VjcmV0'}]}, f)
    os.rename(path + '.new', path)


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp('oauth')
    keys = {kind: Key(str(folder), f'k{n}', kind) for n, kind in enumerate(('RS256', 'ES256', 'EdDSA'))}
    path = str(folder / 'keys.json')
    write_set(path, *keys.values())
    extra = f'oauth: {{ keys: {path}, issuer: "{ISSUER}", audience: {AUDIENCE} }}'
    with TlsPenfold(folder, extra=extra, accounts=('ann', 'bob')) as p:
        p.keys, p.keys_path = keys, path
        settled(lambda: p.deliver(MESSAGE, 'ann', 'bob'))
        yield p


def curl(p, mechanism, user, token, tls=True):
    url = f'pop3s://127.0.0.1:{p.pops_port}/1' if tls else f'pop3://127.0.0.1:{p.pop3_port}/1'
    return subprocess.run(['curl', '-sS', '-m', '20', '--cacert', p.chain, '-u', f'{user}:', '--oauth2-bearer', token, '--login-options',
                           f'AUTH={mechanism}', url], capture_output=True)


def let_in(done):
    assert done.returncode in (0, 67), done
    return done.returncode == 0 and b'by SASL' in done.stdout


def logged(p, *words):
    with open(p.log_path) as f:
        log = f.read()
    for word in words:
        assert word in log, word


def test_offered(server):
    assert {'OAUTHBEARER', 'XOAUTH2'} <= set(capa(server))


@pytest.mark.parametrize('mechanism', ['OAUTHBEARER', 'XOAUTH2'])
@pytest.mark.parametrize('kind', ['RS256', 'ES256', 'EdDSA'])
def test_curl(server, mechanism, kind):
    key = server.keys[kind]
    token = key.token()
    assert let_in(curl(server, mechanism, ANN, token))
    assert not let_in(curl(server, mechanism, BOB, token))  # somebody else's
    assert not let_in(curl(server, mechanism, ANN, token[:-4] + 'AAAA'))


def test_tokens_that_prove_nothing(server):
    key, other = server.keys['ES256'], server.keys['RS256']
    stranger = Key(server.folder, 'stranger', 'ES256')
    stranger.kid = key.kid
    for bad in (key.token(exp=int(time.time()) - 100), key.token(nbf=int(time.time()) + 1000), key.token(iss='https://else.example'),
                key.token(aud='else'), key.token(header={'kid': 'k0'}), key.token(header={'alg': 'none'}), key.token(header={'alg': 'HS256'}),
                other.token(header={'alg': 'HS256'}), stranger.token(), key.token(email=f'nobody@{DOMAIN}'), key.token(email=None), 'x.y.z', 'x'):
        assert not let_in(curl(server, 'OAUTHBEARER', ANN, bad, tls=False)), bad
    assert let_in(curl(server, 'OAUTHBEARER', ANN, key.token(exp=int(time.time()) - 5), tls=False))  # clocks differ
    settled(lambda: logged(server, 'it has expired', 'it is not valid yet', 'it is of another issuer', 'it is for another audience',
                           'its signature is wrong', 'it names nobody here'))


@pytest.mark.parametrize('mechanism', ['oauthbearer', 'xoauth2'])
def test_mpop(server, tmp_path, mechanism):
    """Its first line holds the whole token."""
    long_token = server.keys['RS256'].token(groups=['x' * 40] * 20)
    assert len(long_token) > 1600  # more than 2,048 octets of a line
    for user, token, good in ((ANN, long_token, True), (ANN, server.keys['ES256'].token(), True), (BOB, long_token, False)):
        where = tmp_path / f'{user}{len(token)}'
        where.mkdir()
        done, found = mpop(server, where, mechanism, user, token, True)
        assert (done.returncode == 0 and len(found) == 1) == good, done


def test_told_in_json(server):
    """RFC 7628 section 3.2.2 and 3.2.3, to the byte."""
    def said(token, answer):
        with server.raw() as s, s.makefile('rb') as f:
            f.readline()
            message = f'n,a={ANN},\x01host=mail.test.example\x01port=110\x01auth=Bearer {token}\x01\x01'
            s.sendall(b'AUTH OAUTHBEARER\r\n')
            assert f.readline() == b'+ \r\n'
            s.sendall(base64.b64encode(message.encode()) + b'\r\n')
            line = f.readline()
            if line.startswith(b'+OK'):
                return line, None
            s.sendall(answer + b'\r\nQUIT\r\n')
            return json.loads(base64.b64decode(line[2:])), f.readline()

    assert said(server.keys['EdDSA'].token(), b'AQ==')[0].startswith(b'+OK')
    for answer in (b'AQ==', b'*', b''):
        problem, end = said('x.y.z', answer)
        assert problem == {'status': 'invalid_token'} and end.startswith(b'-ERR [AUTH]')
    assert said('', b'AQ==')[0] == {'status': 'invalid_token'}  # a client that asks what it needs


def test_keys_are_changed_under_way(server):
    key, fresh = server.keys['ES256'], Key(server.folder, 'fresh', 'ES256')
    token, fresh_token = key.token(), fresh.token()

    def coming_in(t):
        assert let_in(curl(server, 'OAUTHBEARER', ANN, t))

    try:
        write_set(server.keys_path, fresh)
        settled(lambda: coming_in(fresh_token), 10)
        assert not let_in(curl(server, 'OAUTHBEARER', ANN, token))
        with open(server.keys_path, 'w') as f:
            f.write('{"keys": [')  # half of a file: the keys stay
        came_in = []

        def refused():
            came_in.append(let_in(curl(server, 'OAUTHBEARER', ANN, fresh_token)))
            logged(server, 'auth.keys_refused')
        settled(refused, 10)
        assert all(came_in + [let_in(curl(server, 'OAUTHBEARER', ANN, fresh_token))])
    finally:
        write_set(server.keys_path, *server.keys.values())
        settled(lambda: coming_in(token), 10)


def test_wrong_configurations(server, tmp_path):
    for text, word in ((f'oauth: {{ keys: {server.keys_path} }}', 'oauth.issuer'), ('oauth: { issuer: x }', 'oauth.keys'),
                       (f'oauth: {{ keys: {server.keys_path}, issuer: x, audience: y, leeway_s: 7200 }}', 'leeway_s')):
        path = tmp_path / 'penfold.yaml'
        path.write_text(f'data: {tmp_path}/data\n{text}\n')
        done = subprocess.run([server.binary, '--config', str(path), 'config', 'check'], capture_output=True, text=True)
        assert done.returncode == 2 and word in done.stdout + done.stderr, done
