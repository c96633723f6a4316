# SPDX-License-Identifier: Apache-2.0
"""A passwd-file beside the embedded directory, in a running server; who logs in how."""
import os
import poplib
import subprocess

import pytest

from fleet import Redis
from penfold import BINARY, CHEAP_HASH, DOMAIN, PASSWORD, Penfold, settled

MESSAGE = b'Subject: hello\r\n\r\nhi\r\n'


@pytest.fixture
def p(tmp_path):
    users = tmp_path / 'users'
    users.write_text(f'bert@{DOMAIN}:{CHEAP_HASH}\n')
    extra = ('auth: { master_separator: "*" }\n'
             f'directories: [ {{ type: sqlite }}, {{ type: passwd-file, path: {users}, tenant: demo, domain: {DOMAIN} }} ]\n')
    with Penfold(tmp_path, extra=extra) as p:
        p.users = users
        yield p


def write(p, text):
    fresh = p.users.with_suffix('.new')
    fresh.write_text(text)
    os.rename(fresh, p.users)


def refused(p, name, password=PASSWORD):
    with pytest.raises(poplib.error_proto) as e:
        p.pop3(name, password).close()
    return str(e.value)


def stat(p, login, password=PASSWORD):
    with p.pop3(login, password) as pop:
        return pop.stat()[0]


def logged(p, text):
    def check():
        assert text in p.log()
    settled(check, 15)


def test_file_follows(p):
    # the tenant is there only after the start: the file's accounts wait for it, then come in
    settled(lambda: stat(p, 'bert'), 15)
    p.deliver(MESSAGE, 'bert')
    assert stat(p, f'BERT@{DOMAIN.upper()}') == 1
    assert stat(p, 'ann') == 0  # SQLite's goes on beside it
    assert refused(p, 'bert', 'wrong') == refused(p, 'nobody', 'wrong') == refused(p, 'ann', 'wrong')
    write(p, f'carl:{CHEAP_HASH}\n')
    settled(lambda: stat(p, 'carl'), 15)
    assert '[AUTH]' in refused(p, 'bert')
    write(p, 'this is no passwd-file\n')
    logged(p, 'event=directory.file_refused')
    assert stat(p, 'carl') == 0
    write(p, f'bert:{CHEAP_HASH}\n')
    settled(lambda: stat(p, 'bert'), 15)
    assert stat(p, 'bert') == 1  # his mail waited for him
    p.restart()
    assert stat(p, 'bert') == 1


def last_words(c):
    c.pop.sock.settimeout(20)
    line = c.pop.file.readline()
    assert c.pop.file.readline() == b''
    c.close()
    return line


def test_a_suspension_ends_sessions_of_every_directory(p):
    settled(lambda: stat(p, 'bert'), 15)
    of_the_file, of_sqlite = p.pop3('bert'), p.pop3('ann')
    p.run('tenant', 'suspend', 'demo')
    assert last_words(of_the_file).startswith(b'-ERR [AUTH] ')
    assert last_words(of_sqlite).startswith(b'-ERR [AUTH] ')


def test_master_comes_in(p):
    settled(lambda: stat(p, 'bert'), 15)
    p.deliver(MESSAGE, 'bert')
    p.run('account', 'set', f'ann@{DOMAIN}', 'master=tenant')
    settled(lambda: stat(p, f'bert@{DOMAIN}*ann@{DOMAIN}'), 15)
    assert stat(p, f'bert@{DOMAIN}*ann@{DOMAIN}') == 1
    wrong = refused(p, f'bert@{DOMAIN}*ann@{DOMAIN}', 'wrong')
    assert refused(p, f'ann@{DOMAIN}*bert@{DOMAIN}') == wrong == refused(p, f'nobody@{DOMAIN}*ann@{DOMAIN}')
    logged(p, f'user=bert@{DOMAIN} master=ann@{DOMAIN}')


@pytest.fixture
def r(tmp_path):
    redis = Redis(tmp_path / 'redis')
    yield redis
    redis.kill()


def test_redis(r, tmp_path):
    extra = (f'redis: {{ address: "{r.address}" }}\nauth: {{ cache_ttl_s: 600 }}\n'
             'directories: [ { type: sqlite }, { type: redis, tenant: demo } ]\n')
    r('HSET', f'pf:u:carl@{DOMAIN}', 'password', CHEAP_HASH, 'quota_messages', 2)
    with Penfold(tmp_path, extra=extra) as p:
        settled(lambda: stat(p, 'carl'), 20)  # the tenant, and the node's lease, come after the start
        p.deliver(MESSAGE, 'carl')
        p.deliver(MESSAGE, 'Carl+tag')
        assert stat(p, 'carl') == 2
        with p.lmtp() as l:
            assert list(l.replies('a@b.example', [f'carl@{DOMAIN}'], MESSAGE).values())[0][0] in (452, 552)
        assert refused(p, 'carl', 'wrong') == refused(p, 'nobody', 'wrong')
        r('HSET', f'pf:u:dora@{DOMAIN}', 'password', CHEAP_HASH)
        settled(lambda: stat(p, 'dora'), 15)  # a name that was not there a moment ago
        assert stat(p, 'ann') == 0
        r.kill()
        # cached logins go on, the others hear that they must wait
        settled(lambda: stat(p, 'carl'), 20)
        assert stat(p, 'carl') == 2
        assert '[AUTH]' in refused(p, 'carl', 'wrong')
        assert 'wait' in refused(p, 'new')
        assert stat(p, 'ann') == 0
        with p.lmtp() as l:
            assert list(l.replies('a@b.example', [f'new@{DOMAIN}'], MESSAGE).values())[0][0] == 451
        r.start()
        r('DEL', f'pf:u:carl@{DOMAIN}')
        r('HSET', f'pf:u:new@{DOMAIN}', 'password', CHEAP_HASH)
        settled(lambda: stat(p, 'new'), 20)

        def gone():
            try:
                stat(p, 'carl')
            except poplib.error_proto as e:
                assert '[AUTH]' in str(e)
                return
            raise AssertionError('he came in')
        settled(gone, 20)


@pytest.mark.parametrize('text, expected', [
    ('{ type: passwd-file, tenant: demo }', 'expected path'),
    ('{ type: passwd-file, path: /x }', 'tenant'),
    ('{ type: sqlite, path: /x }', 'expected nothing beside sqlite'),
    ('{ type: sqlite }, { type: sqlite }', 'expected sqlite once'),
    ('{ type: redis }', 'expected tenant'),
    ('{ type: redis, tenant: demo }', 'expected redis.address'),
    ('{ type: ldap }', 'directories[1].type'),
])
def test_configuration(tmp_path, text, expected):
    config = tmp_path / 'penfold.yaml'
    config.write_text(f'data: {tmp_path}/data\ndirectories: [ {text} ]\n')
    r = subprocess.run([BINARY, '--config', config, 'config', 'check'], capture_output=True, timeout=60)
    assert r.returncode != 0 and expected in r.stderr.decode() + r.stdout.decode()
