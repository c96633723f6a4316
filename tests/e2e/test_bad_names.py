# SPDX-License-Identifier: Apache-2.0
"""Names that mean something to somebody: through every way in, to every directory and both forms of the log, they are bytes."""
import base64
import json
import re

import pytest

from fleet import Redis
from penfold import CHEAP_HASH, DOMAIN, Penfold, settled

EVIL = 'level=alarm event=evil'
CLASSES = {
    'format_strings': [b'%s%s%s%n', b'%n%n%n%n%n%n', b'%2147483647d', b'%x.%p'],
    'CR': [b'ann\r' + EVIL.encode()],
    'LF': [b'ann\n' + EVIL.encode()],
    'CR_LF': [b'ann\r\n' + EVIL.encode() + b'\r\n', b'ann\r\nDEL pf:u:bert@demo.example\r\n'],
    'NUL': [b'ann\0', b'\0', b'ann\0@demo.example'],
    'percent_braces': [b'%{user}', b'%{env:HOME}', b'%u', b'%d', b'${jndi:ldap://x/y}', b'{bert}', b'%%'],
    'tabs': [b'ann\t' + EVIL.encode(), b'a\tnn', b'ann\t.'],
    'quotes': [b'ann"', b"ann'", b'" ' + EVIL.encode() + b' x="', b'ann\\"', b'ann\\', b'","event":"evil', b'`id`', b'$(id)'],
    'SQL': [b"' OR '1'='1", b"x'; DROP TABLE accounts; --", b"ann'/*", b"' UNION SELECT stored FROM credentials --", b'an_', b'an%'],
    'LDAP': [b'*', b'an*', b'*)(uid=*', b'ann)(|(uid=*))', b'\\2a', b'ann,dc=example'],
    'files': [b'../../etc/passwd', b'/etc/passwd', b'ann:x:0:0', b'#ann', b'pf:u:bert'],
    '8_bit': [b'\xff\xfe', b'ann\xc3', b'\xc0\xaf', b'ann\xe2\x80\xae'],
    'controls': [b'ann\x1b[31m', b'ann\x07\x08', b'\x7f'],
}


def said(s):
    """One line, or none and the end."""
    out = b''
    while not out.endswith(b'\n'):
        more = s.recv(4096)
        if not more:
            break
        out += more
    return out


def by_user(p, name):
    with p.raw() as s:
        said(s)
        s.sendall(b'USER ' + name + b'\r\nPASS secret word\r\nQUIT\r\n')
        out = b''
        while more := s.recv(4096):
            out += more
    return out


def by_auth(p, name):
    with p.raw() as s:
        said(s)
        s.sendall(b'AUTH PLAIN ' + base64.b64encode(b'\0' + name + b'\0secret word') + b'\r\n')
        return said(s)


def by_rcpt(p, name):
    with p.raw(p.lmtp_port) as s:
        said(s)
        s.sendall(b'LHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<' + name + b'>\r\nRSET\r\nQUIT\r\n')
        out = b''
        while more := s.recv(4096):
            out += more
    return out


def lines_of(text, form):
    """Each line of the log as a mapping: a line that cannot be read so, somebody else has written."""
    for line in text.splitlines():
        if form == 'json':
            yield json.loads(line)
        else:
            assert re.fullmatch(r'(time=\S+ )?level=\w+ event=[\w.]+( \w+=("([^"\\]|\\.)*"|[^\s"]*))*', line), line
            yield dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s"]*)', line))


@pytest.fixture(scope='module', params=['keys', 'json'])
def server(request, tmp_path_factory):
    tmp = tmp_path_factory.mktemp('names')
    redis = Redis(tmp / 'redis')
    redis('HSET', f'pf:u:bert@{DOMAIN}', 'password', CHEAP_HASH)
    users = tmp / 'users'
    users.write_text(f'carl@{DOMAIN}:{CHEAP_HASH}\n')
    extra = (f'log: {{ form: {request.param}, level: debug }}\npop3: {{ auth_failures_max: 1000 }}\nredis: {{ address: "{redis.address}" }}\n'
             f'directories: [ {{ type: sqlite }}, {{ type: passwd-file, path: {users}, tenant: demo }}, {{ type: redis, tenant: demo }} ]\n')
    try:
        with Penfold(tmp, extra=extra) as p:
            p.form, p.redis = request.param, redis

            def ready():
                for name in ('ann', 'bert', 'carl'):
                    p.pop3(name).quit()
            settled(ready, 30)
            yield p
    finally:
        redis.kill()


@pytest.mark.parametrize('kind', CLASSES)
def test_class(server, kind):
    p = server
    names = CLASSES[kind]
    before = sorted(p.redis('KEYS', 'pf:u:*'))
    for name in names:
        full = name + b'@' + DOMAIN.encode()
        assert b'-ERR' in by_user(p, name), name
        assert by_auth(p, full).startswith(b'-ERR'), name
        assert not re.search(rb'^250 2\.1\.5', by_rcpt(p, full), re.M), name
    # everybody is there, and comes in
    for name in ('ann', 'bert', 'carl'):
        p.pop3(name).quit()
    assert sorted(p.redis('KEYS', 'pf:u:*')) == before
    assert p.json('account', 'list', f'ann@{DOMAIN}')

    def logged():  # each refusal is one line, and nobody wrote another
        lines = list(lines_of(p.log(), p.form))
        assert sum(1 for l in lines if l['event'] == 'pop3.refused') >= len(names)
        assert not any(l['event'] == 'evil' or l['level'] == 'alarm' for l in lines)
    settled(logged, 15)
