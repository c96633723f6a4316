# SPDX-License-Identifier: Apache-2.0
"""The PROXY protocol on real connections: headers cut anywhere, bytes behind them, lies, and HAProxy itself."""
import os
import shutil
import socket
import subprocess
import time

import pytest

from penfold import PASSWORD, free_ports, settled
from proxied import LOCAL, SIGNATURE, Line, ProxiedPenfold, ssl_tlv, tlv, v1, v2
from tls import trusting


@pytest.fixture(scope='module')
def p(tmp_path_factory):
    with ProxiedPenfold(tmp_path_factory.mktemp('proxy'), extra='log: { level: debug }') as server:
        server.deliver(b'Subject: hello\r\n\r\nhi\r\n', 'ann')
        yield server


def logged(p, *words):
    def check():
        assert any(all(w in line for w in words) for line in p.log().splitlines()), words
    settled(check, 10)


@pytest.mark.parametrize('header', [v1('203.0.113.9'), v2('203.0.113.9'), v2('203.0.113.9', tlvs=tlv(5, b'id') + ssl_tlv(version=b'TLSv1.3'))])
def test_a_header_cut_at_every_byte(p, header):
    with p.raw(p.proxy_port) as s:
        for i in range(len(header)):
            s.sendall(header[i:i + 1])
        assert Line(s).read().startswith(b'+OK')


def test_what_comes_behind_the_header_is_the_clients(p):
    """In one segment with it, cut in two at every place."""
    for header in (v1('203.0.113.9'), v2('203.0.113.9')):
        whole = header + b'NOOP\r\nQUIT\r\n'
        for cut in list(range(len(header) - 2, len(whole), 3)):
            with p.raw(p.proxy_port) as s:
                s.sendall(whole[:cut])
                s.sendall(whole[cut:])
                c = Line(s)
                assert c.read().startswith(b'+OK')
                assert c.read().startswith(b'-ERR') and c.read().startswith(b'+OK')


def test_the_headers_address_is_the_clients(p):
    with Line(p.raw(p.proxy_port), v2('2001:db8::77', 4242)) as c:
        c.read()
        assert c.login('ann', PASSWORD).startswith(b'+OK')
        c.ask('QUIT')
    logged(p, 'event=pop3.login', '[2001:db8::77]:4242')
    with p.come('203.0.113.50') as c:
        c.read()
        assert c.login('ann', 'wrong').startswith(b'-ERR')
    logged(p, 'event=pop3.refused', '203.0.113.50:4711', 'wrong-password')


def test_a_client_of_a_proxy_is_not_local(p):
    """The proxy is on this machine; its client is not, and must not send a password in the clear."""
    with p.come('203.0.113.9', p.secure_port) as c:
        c.read()
        assert c.ask('USER ann').startswith(b'-ERR')
    with Line(p.raw(p.secure_port), v2('203.0.113.9', tlvs=ssl_tlv(version=b'TLSv1.3'))) as c:  # TLS ends at the proxy
        c.read()
        assert c.login('ann', PASSWORD).startswith(b'+OK')
        c.ask('QUIT')


def test_a_certificate_that_a_proxy_tells_of_logs_nobody_in(p):
    """CVE-2019-3814 and its kind: a name in a TLV, verified or not, is for the log."""
    for verify in (0, 1):
        with Line(p.raw(p.secure_port), v2('203.0.113.9', tlvs=ssl_tlv(client=7, verify=verify, cn=b'ann@demo.example'))) as c:
            c.read()
            assert c.ask('STAT').startswith(b'-ERR')
            assert c.ask('AUTH EXTERNAL =').startswith(b'-ERR')
    logged(p, 'event=proxy.client', 'certificate_name=ann@demo.example')


def test_facts_are_logged(p):
    header = v2('203.0.113.61', tlvs=tlv(2, b'mail.example.com') + tlv(5, b'unique-77') + ssl_tlv(version=b'TLSv1.2'))
    with Line(p.raw(p.proxy_port), header) as c:
        c.read()
    logged(p, 'event=proxy.client', 'unique-77', 'mail.example.com', 'TLSv1.2', '203.0.113.61')


def test_implicit_tls_behind_the_header(p):
    for header in (v1('203.0.113.9'), v2('203.0.113.9')):
        s = p.raw(p.tls_port)
        s.sendall(header)
        with trusting(p.chain).wrap_socket(s, server_hostname='mail.test.example') as t, Line(t) as c:
            assert c.read().startswith(b'+OK')
            assert c.login('ann', PASSWORD).startswith(b'+OK')
            assert c.ask('QUIT').startswith(b'+OK')


def test_a_client_hello_in_the_headers_segment(p):
    """Header and ClientHello leave together, as TCP may join them; cut at every place around the seam."""
    import ssl
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    t = trusting(p.chain).wrap_bio(incoming, outgoing, server_hostname='mail.test.example')
    with pytest.raises(ssl.SSLWantReadError):
        t.do_handshake()
    header, hello = v2('203.0.113.9'), outgoing.read()
    whole = header + hello
    for cut in list(range(len(header) - 2, len(header) + 8)) + [len(whole)]:
        with p.raw(p.tls_port) as s:
            s.sendall(whole[:cut])
            time.sleep(0.002)
            s.sendall(whole[cut:])
            s.settimeout(10)
            assert s.recv(1) == b'\x16', cut  # a handshake record: the ServerHello


BAD = [b'GET / HTTP/1.0\r\n\r\n', b'CAPA\r\n', b'PROXY TCP4 1.2.3.4\r\n', b'PROXY ' + b'x' * 200, SIGNATURE + b'\x21\x11\xff\xff',
       SIGNATURE + b'\x31\x11\x00\x0c' + b'x' * 12, b'\x16\x03\x01\x02\x00\x01' + b'\0' * 100, b'\r\n\r\n\0\r\nQUIX', b'\0' * 5000]


@pytest.mark.parametrize('port', ['proxy_port', 'secure_port', 'tls_port', 'proxy_lmtp_port'])
def test_no_header_is_no_client(p, port):
    for bad in BAD:
        with p.raw(getattr(p, port)) as s:
            s.sendall(bad)
            s.settimeout(10)
            try:
                assert s.recv(100) == b'', bad
            except ConnectionResetError:
                pass


def test_who_is_not_trusted(tmp_path):
    """Speaks for himself where it may, and then a header is but a wrong command; is turned away where a proxy is required."""
    with ProxiedPenfold(tmp_path, trusted='"192.0.2.0/24"') as p:
        with Line(p.raw(p.proxy_port)) as c:
            assert c.read().startswith(b'+OK')
            assert c.ask(v1('127.0.0.1')).startswith(b'-ERR')
            assert c.login('ann', 'wrong').startswith(b'-ERR')
        logged(p, 'event=pop3.refused', 'peer=127.0.0.1:')
        for port in (p.required_port, p.tls_port):
            with p.raw(port) as s:
                s.settimeout(10)
                try:
                    assert s.recv(100) == b''
                except ConnectionResetError:
                    pass
        logged(p, 'event=proxy.not_trusted')


def test_health_checks_are_quiet(p):
    before = [l for l in p.log().splitlines() if 'level=warn' in l or 'pop3.end' in l]
    for check in (b'', LOCAL, b'PROXY UNKNOWN\r\n'):
        for port in (p.proxy_port, p.secure_port):
            with p.raw(port) as s:
                if check:
                    s.sendall(check)
                    assert Line(s).read().startswith(b'+OK')
    with p.raw(p.proxy_lmtp_port) as s:
        s.sendall(LOCAL)
        assert Line(s).read().startswith(b'220')
    with p.raw(p.tls_port) as s:
        s.sendall(LOCAL)
    assert [l for l in p.log().splitlines() if 'level=warn' in l or 'pop3.end' in l] == before


def test_a_silent_proxy_does_not_stay(p):
    s = p.raw(p.proxy_port)
    s.sendall(b'PROXY TCP4 ')
    s.settimeout(30)
    assert s.recv(1) == b''
    s.close()
    logged(p, 'event=proxy.silent')


# ---- HAProxy ----

HAPROXY = shutil.which('haproxy') or '/usr/sbin/haproxy'


@pytest.fixture
def haproxy(p, tmp_path):
    plain, modern, tls, lmtp = free_ports(4)
    pem = tmp_path / 'both.pem'
    pem.write_bytes(open(p.chain, 'rb').read() + open(p.key, 'rb').read())
    config = tmp_path / 'haproxy.cfg'
    config.write_text(f'''
global
    maxconn 100
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen plain
    bind 127.0.0.1:{plain}
    server s 127.0.0.1:{p.proxy_port} send-proxy check check-send-proxy inter 200
listen modern
    bind 127.0.0.1:{modern}
    server s 127.0.0.1:{p.proxy_port} send-proxy-v2 check check-send-proxy inter 200
listen tls
    bind 127.0.0.1:{tls} ssl crt {pem}
    server s 127.0.0.1:{p.secure_port} send-proxy-v2-ssl-cn proxy-v2-options ssl,authority,crc32c,unique-id check check-send-proxy inter 200
    unique-id-format %{{+X}}o\\ %ci%cp%rt
listen lmtp
    bind 127.0.0.1:{lmtp}
    server s 127.0.0.1:{p.proxy_lmtp_port} send-proxy-v2
''')
    log = open(tmp_path / 'haproxy.log', 'wb')
    process = subprocess.Popen([HAPROXY, '-db', '-f', str(config)], stdout=log, stderr=log)

    def up():
        assert process.poll() is None, open(tmp_path / 'haproxy.log').read()
        for port in (plain, modern):
            with socket.create_connection(('127.0.0.1', port), 5) as s:
                s.settimeout(5)
                assert s.recv(3) == b'+OK'
    try:
        settled(up, 20)
        yield {'plain': plain, 'modern': modern, 'tls': tls, 'lmtp': lmtp}
    finally:
        process.terminate()
        process.wait(20)


def visit(port, client, wrap=None):
    s = socket.create_connection(('127.0.0.1', port), 10, source_address=(client, 0))
    name = s.getsockname()
    with Line(wrap(s) if wrap else s) as c:
        assert c.read().startswith(b'+OK')
        assert c.login('ann', PASSWORD).startswith(b'+OK')
        assert c.ask('QUIT').startswith(b'+OK')
    return f'{name[0]}:{name[1]}'


def test_haproxy_in_front(p, haproxy):
    me = visit(haproxy['plain'], '127.0.7.1')
    logged(p, 'event=pop3.login', f'peer={me}')
    me = visit(haproxy['modern'], '127.0.7.2')
    logged(p, 'event=pop3.login', f'peer={me}')
    me = visit(haproxy['tls'], '127.0.7.3', lambda s: trusting(p.chain).wrap_socket(s, server_hostname='mail.test.example'))
    logged(p, 'event=pop3.login', f'peer={me}')
    logged(p, 'event=proxy.client', f'peer={me}', 'tls_version=TLSv1.3', 'authority=mail.test.example')


def test_haproxy_in_front_of_lmtp(p, haproxy):
    import smtplib
    with smtplib.LMTP('127.0.0.1', haproxy['lmtp'], timeout=30, source_address=('127.0.7.9', 0)) as l:
        l.sendmail('a@remote.example', ['ann@demo.example'], b'Subject: by haproxy\r\n\r\nx\r\n')
    with p.pop3('ann') as pop:
        received = [pop.retr(i + 1) for i in range(pop.stat()[0])]
    assert any(b'by haproxy' in m and b'127.0.7.9' in m for m in received)
