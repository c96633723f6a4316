# SPDX-License-Identifier: Apache-2.0
"""A tenant's settings in a running server: retention, where deleted mail goes, logins without TLS, protocols."""
import base64
import poplib
import re

import pytest

from penfold import PASSWORD, Penfold, settled

MESSAGE = b'Subject: hello\r\n\r\nhi\r\n'


@pytest.fixture
def p(tmp_path):
    with Penfold(tmp_path, extra='expire: { day_s: 2, sweep_s: 1 }\n', accounts=('ann', 'bert')) as p:
        yield p


def count(p, name):
    with p.pop3(name) as pop:
        return pop.stat()[0]


def capa(p, name):
    with p.pop3(name) as pop:
        return {k: v for k, v in pop.pop.capa().items()}


def expired(p):
    """How many messages the sweep, and logins, have deleted so far."""
    log = p.log()
    swept = sum(int(n) for n in re.findall(r'event=account\.expired .*?messages=(\d+)', log))
    return swept, sum(int(n) for n in re.findall(r'event=pop3\.expired .*?messages=(\d+)', log))


def test_days(p):
    p.deliver(MESSAGE, 'ann', 'bert')
    p.deliver(MESSAGE, 'ann')
    p.run('tenant', 'set', 'demo', 'expire_days=1')

    def swept():  # nobody logs in, and yet it goes
        assert expired(p)[0] == 3
    settled(swept, 60)
    assert count(p, 'ann') == count(p, 'bert') == 0
    assert capa(p, 'ann')['EXPIRE'] == ['1']
    p.kill()  # it is gone for good
    p.run('tenant', 'set', 'demo', 'expire_days=never')
    p.start()
    assert count(p, 'ann') == 0
    p.deliver(MESSAGE, 'ann')
    assert capa(p, 'ann')['EXPIRE'] == ['NEVER']
    assert count(p, 'ann') == 1


def test_at_login_at_latest(tmp_path):
    with Penfold(tmp_path, extra='expire: { day_s: 2, sweep_s: 86400 }\n') as p:
        p.run('tenant', 'set', 'demo', 'expire_days=1')
        p.deliver(MESSAGE, 'ann')

        def gone():
            assert count(p, 'ann') == 0
        settled(gone, 60)

        def told():
            assert expired(p) == (0, 1)
        settled(told, 15)


def test_what_was_downloaded(p):
    p.run('tenant', 'set', 'demo', 'expire_days=0')

    def announced():
        assert capa(p, 'ann')['EXPIRE'] == ['0']
    settled(announced, 15)
    for _ in range(3):
        p.deliver(MESSAGE, 'ann')
    with p.pop3('ann') as pop:
        pop.retr(2)
        pop.pop.top(1, 0)
        pop.pop.rset()
    assert count(p, 'ann') == 2
    pop = p.pop3('ann')
    pop.retr(1)
    pop.close()  # no QUIT
    settled(lambda: count(p, 'ann'), 15)
    assert count(p, 'ann') == 2


def test_to_trash(p):
    p.run('tenant', 'set', 'demo', 'deletion=trash', 'quota_messages=2', 'expire_days=100')

    def seen():  # all of these changes are seen, or none
        assert capa(p, 'ann')['EXPIRE'] == ['100']
    settled(seen, 15)
    p.deliver(MESSAGE, 'ann')
    p.deliver(MESSAGE, 'ann')
    with p.pop3('ann') as pop:
        pop.dele(1)
    assert count(p, 'ann') == 1
    # what lies in Trash counts for the quota
    with p.lmtp() as l:
        assert l.replies('a@b.example', ['ann@demo.example'], MESSAGE)['ann@demo.example'][0] in (452, 552)
    p.restart()
    assert count(p, 'ann') == 1


def hear(s, line):
    s.sendall(line + b'\r\n')
    out = b''
    while not out.endswith(b'\n'):
        out += s.recv(4096)
    return out


def test_tls_wanted_by_a_tenant(p):
    p.run('tenant', 'add', 'lax')
    p.run('domain', 'add', 'lax.example', '--tenant', 'lax')
    p.add_account('carl@lax.example')
    p.run('tenant', 'set', 'demo', 'plaintext_login=no')

    def refused():
        with p.raw() as s:
            s.recv(4096)
            mine = hear(s, b'USER ann@demo.example')
            assert mine.startswith(b'-ERR') and b'clear' in mine
            assert hear(s, b'USER nobody@demo.example') == mine == hear(s, b'USER ann')
            assert hear(s, b'USER carl@lax.example').startswith(b'+OK')
            right = base64.b64encode(b'\0ann@demo.example\0' + PASSWORD.encode())
            wrong = base64.b64encode(b'\0nobody@demo.example\0x')
        with p.raw() as s:
            s.recv(4096)
            assert hear(s, b'AUTH PLAIN ' + right) == hear(s, b'AUTH PLAIN ' + wrong) == mine
        with p.raw(p.imap_port) as s:
            s.recv(4096)
            mine = hear(s, b'a LOGIN ann@demo.example "' + PASSWORD.encode() + b'"')
            assert mine.startswith(b'a NO [PRIVACYREQUIRED]')
            assert hear(s, b'a LOGIN nobody@demo.example x') == mine == hear(s, b'a AUTHENTICATE PLAIN ' + right) == hear(s, b'a AUTHENTICATE PLAIN ' + wrong)
            assert hear(s, b'a LOGIN carl@lax.example "' + PASSWORD.encode() + b'"').startswith(b'a OK')
    settled(refused, 15)
    p.run('tenant', 'set', 'demo', 'plaintext_login=default')
    settled(lambda: count(p, 'ann'), 15)


def test_protocols(p):
    """pop3 and lmtp, of the tenant and of an account, seen within a second or so; imap has its own tests."""
    def refused():
        try:
            p.pop3('ann').close()
        except poplib.error_proto:
            return
        raise AssertionError('he came in')

    def rcpt(expected):
        with p.lmtp() as l:
            l.ehlo_or_helo_if_needed()
            l.mail('a@b.example')
            assert l.rcpt('ann@demo.example')[0] // 100 == expected
    assert count(p, 'ann') == 0
    p.run('tenant', 'set', 'demo', 'pop3=no')
    settled(refused, 15)
    rcpt(2)
    p.run('account', 'set', 'ann@demo.example', 'pop3=yes')
    settled(lambda: count(p, 'ann'), 15)
    p.run('tenant', 'set', 'demo', 'lmtp=no')
    settled(lambda: rcpt(5), 15)
    assert count(p, 'ann') == 0
    p.run('account', 'set', 'ann@demo.example', 'pop3=no', 'lmtp=yes')
    settled(refused, 15)
    settled(lambda: rcpt(2), 15)
