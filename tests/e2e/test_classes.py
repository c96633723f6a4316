# SPDX-License-Identifier: Apache-2.0
"""Classes of faults that mail servers have had, one test each for logins, TLS and POP3's arguments.

Elsewhere: STLS injection (CVE-2021-33515, CVE-2011-1926): test_tls.test_nothing_is_injected_before_stls and ..._starttls. Cross-protocol
(ALPACA): test_tls.test_other_protocols_are_turned_away. SNI-driven memory (CVE-2017-15130): test_tls.test_hundred_thousand_names. Log and field
injection, format strings: test_defence.test_log_injection_class. A certificate's name told by a proxy (CVE-2019-3814):
test_proxy.test_a_certificate_that_a_proxy_tells_of_logs_nobody_in.
"""
import base64
import hashlib
import os
import re
import stat
import threading

import pytest

from penfold import DOMAIN, PASSWORD, Memory, Penfold, settled
from proxied import Line


@pytest.fixture(scope='module')
def p(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('classes'), accounts=[f'u{i}' for i in range(20)], extra='pop3: { auth_failures_max: 1000 }') as server:
        server.deliver(b'Subject: one\r\n\r\n1\r\n', 'u0')
        yield server


def test_preauth_memory_growth(p):
    """CVE-2017-15132, CVE-2026-27857, CVE-2024-34055: aborted exchanges, long lines and parentheses before login, from many connections."""
    junk = [b'AUTH PLAIN\r\n*\r\n' * 200, b'AUTH LOGIN\r\ndTA=\r\n*\r\n' * 200, b'(' * 3000 + b'\r\n', b'AUTH PLAIN ' + b'A' * 2000 + b'\r\n', b'USER ' + b'x' * 1900 + b'\r\n']
    with Memory(p) as memory:
        for _ in range(3):
            lines = []
            for i in range(150):
                c = Line(p.raw())
                lines.append(c)
                c.s.settimeout(20)
                try:
                    c.s.sendall(junk[i % len(junk)] * 2)
                except OSError:
                    pass
            for c in lines:
                c.close()
    assert memory.grown_kib() < 48 * 1024
    with p.pop3('u0') as pop:
        assert pop.stat()[0] == 1


ARGUMENTS = ['', ' ', ' ' + 'x' * 255, ' ' + 'x' * 4096, ' -1', ' 0', ' 2147483648', ' 4294967296', ' 9223372036854775808', ' 18446744073709551616', ' 1 -1',
             ' %n%s%n%s', ' \x00', ' \xff\xfe', ' 1 1 1', ' +1', ' 0x1']
VERBS = ['USER', 'PASS', 'APOP', 'AUTH', 'STAT', 'LIST', 'RETR', 'DELE', 'NOOP', 'RSET', 'TOP', 'UIDL', 'CAPA', 'LANG', 'UTF8', 'STLS', 'XTND', '*ENV', 'NOPE']


@pytest.mark.parametrize('logged_in', [False, True])
def test_pop3_argument_overflow_and_sign(p, logged_in):
    """CVE-2003-0143, CVE-2006-2502, CVE-2002-1539 (UIDL -1), CVE-1999-0494: every verb with every odd argument, before and after login."""
    for verb in VERBS:
        with Line(p.raw()) as c:
            c.read()
            if logged_in:
                assert c.login('u0', PASSWORD).startswith(b'+OK')
            for argument in ARGUMENTS:
                try:
                    answer = c.ask(verb.encode() + argument.encode('latin-1') + b'\r\n')
                except OSError:
                    answer = b''
                if not answer:  # too many senseless lines: said and closed
                    c = Line(p.raw())
                    c.read()
                    if logged_in:
                        settled(lambda: _ok(c.login('u0', PASSWORD)), 10)
                    continue
                assert re.match(rb'\+OK|-ERR|\+ ', answer), (verb, argument, answer)
                if answer.startswith(b'+ '):
                    assert c.ask('*').startswith(b'-ERR')
                elif answer.startswith(b'+OK') and (verb in ('CAPA', 'RETR', 'TOP') or (verb in ('LIST', 'UIDL', 'AUTH', 'LANG') and not argument.strip())):
                    while c.read() not in (b'.\r\n', b''):
                        pass
            c.close()
    with p.pop3('u0') as pop:
        assert pop.stat()[0] == 1


def _ok(answer):
    assert answer.startswith(b'+OK'), answer


def test_auth_thread_dos(p):
    """CVE-2025-59028, CVE-2019-10691, CVE-2020-12674: bad base64 and bad UTF-8 hurt no other login."""
    ending, broken = threading.Event(), []
    bad = [b'AUTH PLAIN ====\r\n', b'AUTH PLAIN ' + base64.b64encode(b'\xff\xfe\0\xff\0\xff') + b'\r\n', b'AUTH PLAIN AAA\r\n', b'AUTH LOGIN\r\n\xff\xff\r\n',
           b'AUTH CRAM-MD5\r\n\r\n', b'AUTH PLAIN AA==\r\n', b'USER \xff\xff\r\nPASS \xff\r\n']

    def hurt():
        while not ending.is_set():
            with Line(p.raw()) as c:
                for b in bad:
                    try:
                        c.s.sendall(b)
                    except OSError:
                        break

    def honest(k):
        try:
            for _ in range(15):
                with p.pop3(f'u{k}') as pop:
                    pop.stat()
        except Exception as e:
            broken.append(repr(e))
    for k in range(1, 9):  # their passwords have been verified a moment ago, as those of clients that poll have
        p.pop3(f'u{k}').quit()
    attackers = [threading.Thread(target=hurt, daemon=True) for _ in range(4)]
    friends = [threading.Thread(target=honest, args=(k,)) for k in range(1, 9)]
    for t in attackers + friends:
        t.start()
    for t in friends:
        t.join(60)
    ending.set()
    for t in attackers:
        t.join(30)
    assert not broken, broken


def test_auth_cache_key_mix_up(tmp_path):
    """CVE-2025-30189: users with equal passwords, and logins that are each other's beginnings, with the cache of verified logins cold and warm."""
    names = {'a': 'same', 'b': 'same', 'ab': 'c', 'abc': 'same', 'x': 'yz', 'xy': 'z'}
    with Penfold(tmp_path, accounts=(), extra='pop3: { auth_failures_max: 1000 }') as p:
        p.run('account', 'import', stdin=''.join(  # hashes that cost nothing: hundreds are made here
            f'{n}@{DOMAIN}:{{SHA256}}{base64.b64encode(hashlib.sha256(w.encode()).digest()).decode()}\n' for n, w in names.items()).encode())

        def every():
            for name in names:
                for password in {*names.values(), 'bc', 'ab', ''}:
                    with Line(p.raw()) as c:
                        c.read()
                        got = c.login(name, password)
                        assert got.startswith(b'+OK') == (password == names[name]), (name, password, got)
                        if got.startswith(b'+OK'):
                            c.ask('QUIT')
                    with p.raw() as s:
                        c = Line(s)
                        c.read()
                        got = c.ask(b'AUTH PLAIN ' + base64.b64encode(f'\0{name}\0{password}'.encode()) + b'\r\n')
                        assert got.startswith(b'+OK') == (password == names[name]), (name, password, got)
                        if got.startswith(b'+OK'):
                            c.ask('QUIT')
        every()
        every()


def test_connection_reuse_carries_no_identity(p):
    """CVE-2019-18928: a session begins with nothing of those before it, whose memory it may have."""
    for i in range(40):
        with Line(p.raw()) as c:
            c.read()
            if i % 4 == 0:
                c.login('u0', PASSWORD)
            elif i % 4 == 1:
                c.ask('USER u0')
            elif i % 4 == 2:
                c.ask('AUTH LOGIN')
        with Line(p.raw()) as c:
            c.read()
            for verb in ('STAT', 'LIST', 'RETR 1', f'PASS {PASSWORD}', 'DELE 1'):
                assert c.ask(verb).startswith(b'-ERR'), (i, verb)


def test_apop_weakness(tmp_path):
    """CVE-2007-1558: off unless a tenant keeps readable passwords; then the stamp is an RFC 822 msg-id, another each time."""
    with Penfold(tmp_path) as p:
        with Line(p.raw()) as c:
            assert b'<' not in c.read()
            assert c.ask('APOP ann ' + '0' * 32).startswith(b'-ERR')
        p.run('tenant', 'set', 'demo', 'plain_passwords=yes')

        def stamp():
            with Line(p.raw()) as c:
                m = re.search(rb'<[0-9a-f]{32}@[a-z0-9.-]+>\r\n$', c.read())
                assert m
                return m[0]
        settled(stamp, 10)
        assert len({stamp() for _ in range(20)}) == 20


def test_management_plane(p):
    """CVE-2017-12628, CVE-2023-51518: nothing but the named listeners is there, and the admin socket is the owner's alone."""
    mode = os.stat(os.path.join(p.data, 'penfold.sock')).st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600
    listening = set()
    inodes = {os.readlink(f'/proc/{p.process.pid}/fd/{fd}') for fd in os.listdir(f'/proc/{p.process.pid}/fd')
              if os.path.islink(f'/proc/{p.process.pid}/fd/{fd}')}
    for name in ('tcp', 'tcp6', 'udp', 'udp6'):
        with open(f'/proc/net/{name}') as f:
            for line in f.readlines()[1:]:
                word = line.split()
                if f'socket:[{word[9]}]' in inodes and (word[3] == '0A' or name.startswith('udp')):
                    listening.add(int(word[1].split(':')[1], 16))
    assert listening == {p.pop3_port, p.lmtp_port, p.imap_port}
