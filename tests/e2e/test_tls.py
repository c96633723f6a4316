# SPDX-License-Identifier: Apache-2.0
"""TLS from outside: clients that are not ours, STLS and STARTTLS, injection, certificates by name and their swaps, tickets.

TLS_LONG=1: every one of 100,000 names is asked for, 2,000 resumptions instead of 60, 10,000 idle sessions instead of 2,000.
"""
import json
import os
import poplib
import re
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

from penfold import BINARY, DOMAIN, PASSWORD, TOP
from tls import TlsPenfold, make_pair, trusting

LONG_RUN = os.environ.get('TLS_LONG', '0') != '0'
MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
LONG = b'Subject: long\r\n\r\n' + b''.join(b'line %d of a long message, with .dots\r\n.\r\n' % i for i in range(60000))
poplib._MAXLINE = 1 << 30


@pytest.fixture
def server(tmp_path):
    with TlsPenfold(tmp_path) as p:
        yield p


def log_in(pop):
    pop.user(f'ann@{DOMAIN}')
    pop.pass_(PASSWORD)
    return pop


def implicit(p, context=None, timeout=30):
    return poplib.POP3_SSL('127.0.0.1', p.pops_port, context=context or p.trust(), timeout=timeout)


def whole(pop, number):
    return b''.join(l + b'\r\n' for l in pop.retr(number)[1])


def rss_kib(pid):
    with open(f'/proc/{pid}/status') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read()).group(1))


# ---- clients ----

@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_poplib(server, version):
    server.deliver(MESSAGE, 'ann')
    server.deliver(LONG, 'ann')
    for way in ('implicit', 'stls'):
        context = server.trust(minimum_version=version, maximum_version=version)
        if way == 'implicit':
            pop = implicit(server, context)
        else:
            pop = poplib.POP3('127.0.0.1', server.pop3_port, timeout=30)
            assert 'STLS' in pop.capa()
            pop.stls(context)
        assert 'STLS' not in pop.capa() and 'USER' in pop.capa()
        assert pop.sock.version() == {ssl.TLSVersion.TLSv1_2: 'TLSv1.2', ssl.TLSVersion.TLSv1_3: 'TLSv1.3'}[version]
        log_in(pop)
        assert pop.stat()[0] == 2
        assert whole(pop, 2).endswith(LONG.replace(b'\r\n..', b'\r\n.'))
        assert whole(pop, 1).endswith(MESSAGE)
        pop.quit()


def test_old_versions_are_refused(server):
    r = subprocess.run(['openssl', 's_client', '-connect', f'127.0.0.1:{server.pops_port}', '-tls1_1', '-cipher', 'ALL@SECLEVEL=0'],
                       input=b'', capture_output=True, timeout=30)
    assert b'+OK' not in r.stdout and r.returncode != 0


def test_only_13_where_told(tmp_path):
    with TlsPenfold(tmp_path, listener=', tls_min: "1.3"') as p:
        with pytest.raises((ssl.SSLError, OSError)):
            implicit(p, p.trust(maximum_version=ssl.TLSVersion.TLSv1_2))
        log_in(implicit(p)).quit()


def test_openssl_s_client(server):
    for args in (['-connect', f'127.0.0.1:{server.pops_port}'], ['-connect', f'127.0.0.1:{server.pop3_port}', '-starttls', 'pop3']):
        r = subprocess.run(['openssl', 's_client', *args, '-quiet', '-crlf', '-CAfile', server.chain, '-verify_return_error', '-alpn', 'pop3'],
                           input=f'USER ann@{DOMAIN}\nPASS {PASSWORD}\nSTAT\nQUIT\n'.encode(), capture_output=True, timeout=30)
        assert b'+OK 0 0' in r.stdout, r


def test_renegotiation_is_refused(server):
    """s_client's R asks for one in TLS 1.2: the connection ends."""
    c = subprocess.Popen(['openssl', 's_client', '-connect', f'127.0.0.1:{server.pops_port}', '-tls1_2', '-crlf'], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    time.sleep(1)
    c.stdin.write(b'R\n')
    c.stdin.flush()
    out, _ = c.communicate(timeout=20)
    assert b'+OK' in out and b'RENEGOTIATING' in out and b'alert' in out
    log_in(implicit(server)).quit()


def test_curl(server):
    server.deliver(MESSAGE, 'ann')
    user = f'ann@{DOMAIN}:{PASSWORD}'
    for url, more in ((f'pop3s://mail.test.example:{server.pops_port}/1', []), (f'pop3://mail.test.example:{server.pop3_port}/1', ['--ssl-reqd'])):
        port = url.split(':')[2].split('/')[0]
        r = subprocess.run(['curl', '-s', '--cacert', server.chain, '--resolve', f'mail.test.example:{port}:127.0.0.1', '-u', user, *more, url],
                           capture_output=True, timeout=30)
        assert r.returncode == 0 and r.stdout.endswith(MESSAGE), r


@pytest.mark.parametrize('way', ['stls', 'implicit'])
def test_fetchmail(server, tmp_path, way):
    server.deliver(MESSAGE, 'ann')
    server.deliver(MESSAGE, 'ann')
    box = tmp_path / 'box'
    rc = tmp_path / 'fetchmailrc'
    port, tls = (server.pops_port, 'ssl') if way == 'implicit' else (server.pop3_port, "sslproto 'TLS1.2+'")
    rc.write_text(f'''poll 127.0.0.1 protocol pop3 port {port}
  user "ann@{DOMAIN}" password "{PASSWORD}" {tls} sslcertck sslcertfile "{server.chain}" sslcommonname "mail.test.example"
  mda "cat >> {box}"\n''')
    rc.chmod(0o600)
    r = subprocess.run(['fetchmail', '-f', str(rc), '--pidfile', str(tmp_path / 'pid'), '-v', '--nosyslog'], capture_output=True, timeout=60,
                       env={**os.environ, 'HOME': str(tmp_path), 'FETCHMAILHOME': str(tmp_path)})
    assert r.returncode == 0, r
    assert box.read_bytes().count(b'Subject: one') == 2
    with server.pop3('ann') as pop:
        assert pop.stat()[0] == 0
    assert 'tls=TLSv1' in server.log()


@pytest.mark.parametrize('way', ['stls', 'implicit'])
def test_mpop(server, tmp_path, way):
    server.deliver(MESSAGE, 'ann')
    box = tmp_path / 'box'
    rc = tmp_path / 'mpoprc'
    rc.write_text(f'''account default
host 127.0.0.1
port {server.pops_port if way == 'implicit' else server.pop3_port}
tls on
tls_starttls {'off' if way == 'implicit' else 'on'}
tls_trust_file {server.chain}
auth user
user ann@{DOMAIN}
password "{PASSWORD}"
uidls_file {tmp_path}/uidls
delivery mbox {box}
keep on
''')
    rc.chmod(0o600)
    r = subprocess.run(['mpop', '-C', str(rc)], capture_output=True, timeout=60)
    assert r.returncode == 0, r
    assert b'Subject: one' in box.read_bytes()


def test_swaks_lmtp(server):
    for port, tls in ((server.lmtp_port, '--tls'), (server.lmtps_port, '--tls-on-connect')):
        r = subprocess.run(['swaks', '--protocol', 'LMTP', '--server', '127.0.0.1', '--port', str(port), tls, '--from', 'a@remote.example', '--to',
                            f'ann@{DOMAIN}', '--body', 'by swaks'], capture_output=True, timeout=60)
        assert r.returncode == 0, r
    with server.pop3('ann') as pop:
        assert pop.stat()[0] == 2
        assert b'with LMTPS id' in pop.retr(1) and b'by swaks' in pop.retr(2)


def test_lmtp_large(server):
    with server.lmtp() as l:
        l.ehlo_or_helo_if_needed()
        assert l.has_extn('starttls')
        l.starttls(context=trusting())
        l.ehlo_or_helo_if_needed()
        assert not l.has_extn('starttls')
        for r, (code, text) in l.replies('a@remote.example', [f'ann@{DOMAIN}'], LONG).items():
            assert code == 250, text
    with server.pop3('ann') as pop:
        assert pop.retr(1).endswith(LONG.replace(b'\r\n..', b'\r\n.'))


# ---- what must not happen ----

def command_injection(server, port, command, begin, injected, probe, wanted, forbidden):
    """`command` with what is injected behind it, cut at every point; then a handshake: nothing injected is ever answered.
    What would come later than the segment with the command is part of the handshake, and would only end it."""
    text = command + injected
    for cut in range(1, len(text) + 1):
        s = server.raw(port)
        f = s.makefile('rb', buffering=0)
        f.readline()
        s.sendall(text[:cut])
        if cut < len(command):
            time.sleep(0.002)
            s.sendall(text[cut:])
        while not (line := f.readline()).startswith(begin):
            assert line
        t = trusting().wrap_socket(s)
        t.settimeout(0.02)
        try:
            got = t.recv(4096)
            assert not got, got
        except (TimeoutError, ssl.SSLWantReadError):
            pass
        t.settimeout(10)
        t.sendall(probe)
        answer = b''
        while wanted not in answer:
            chunk = t.recv(4096)
            assert chunk, answer
            answer += chunk
        assert forbidden not in answer, answer
        t.close()


def test_nothing_is_injected_before_stls(server):
    command_injection(server, server.pop3_port, b'STLS\r\n', b'+OK begin', f'USER ann@{DOMAIN}\r\nCAPA\r\n'.encode(),
                      f'PASS {PASSWORD}\r\nNOOP\r\n'.encode(), b'-ERR log in first\r\n', b'TOP')
    assert 'pop3.login' not in server.log()


def test_nothing_is_injected_before_starttls(server):
    command_injection(server, server.lmtp_port, b'LHLO evil\r\nSTARTTLS\r\n', b'220 2.0.0 begin', b'LHLO evil\r\nMAIL FROM:<a@evil.example>\r\n',
                      b'MAIL FROM:<b@good.example>\r\nNOOP\r\n', b'250 2.0.0 OK', b'sender taken')


def test_login_in_clear_is_refused_elsewhere(tmp_path):
    """In a network namespace with an address that is not loopback's: the unit tests have the words, this the way there."""
    script = tmp_path / 'inside.py'
    script.write_text(f'''
import sys; sys.path.insert(0, {os.path.dirname(os.path.abspath(__file__))!r})
import imaplib, pathlib, poplib, subprocess
from penfold import *
from tls import TlsPenfold, trusting
subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
subprocess.run(['ip', 'addr', 'add', '192.0.2.1/32', 'dev', 'lo'], check=True)
p = TlsPenfold(pathlib.Path({str(tmp_path / 'server')!r}))
text = open(p.config).read()
plain = free_ports(1)[0]
text = text.replace(f'address: "127.0.0.1:{{p.pop3_port}}"', f'address: "0.0.0.0:{{p.pop3_port}}"')
text = text.replace(f'address: "127.0.0.1:{{p.imap_port}}"', f'address: "0.0.0.0:{{p.imap_port}}"')
text = text.replace('listeners:\\n', f'listeners:\\n  - {{{{ protocol: pop3, address: "0.0.0.0:{{plain}}", plaintext: true, tls: none }}}}\\n')
open(p.config, 'w').write(text)
with p:
    def client(host, port):
        s = socket.create_connection((host, port), 10, source_address=(host, 0))
        return s, s.makefile('rwb', buffering=0)
    s, f = client('192.0.2.1', p.pop3_port)
    f.readline()
    f.write(b'USER ann@demo.example\\r\\n'); assert f.readline() == b'-ERR logins want TLS here: say STLS first\\r\\n'
    f.write(b'CAPA\\r\\n'); capa = b''.join(iter(f.readline, b'.\\r\\n')); assert b'USER' not in capa and b'SASL' not in capa and b'STLS' in capa
    s, f = client('192.0.2.1', p.imap_port)
    hello = f.readline().replace(b"]", b" ").split()
    f.write(b'a CAPABILITY\\r\\n'); told = f.readline().split(); assert f.readline().startswith(b'a OK')
    for words in (hello, told):
        assert b'LOGINDISABLED' in words and b'STARTTLS' in words and not [w for w in words if w.startswith(b'AUTH=')], words
    for line in (b'b LOGIN ann@demo.example x', b'c AUTHENTICATE PLAIN AGEAeA==', b'd AUTHENTICATE LOGIN'):
        f.write(line + b'\\r\\n'); assert f.readline().startswith(line[:1] + b' NO [PRIVACYREQUIRED] '), line
    imap = imaplib.IMAP4('192.0.2.1', p.imap_port, timeout=10)
    imap.starttls(trusting()); assert 'LOGINDISABLED' not in imap.capabilities and 'AUTH=PLAIN' in imap.capabilities
    imap.login('ann@demo.example', PASSWORD); imap.logout()
    pop = poplib.POP3('192.0.2.1', p.pop3_port, timeout=10)
    pop.stls(trusting()); pop.user('ann@demo.example'); pop.pass_(PASSWORD); pop.quit()
    for host, port in (('192.0.2.1', plain), ('127.0.0.1', p.pop3_port)):
        pop = poplib.POP3(host, port, timeout=10); pop.user('ann@demo.example'); pop.pass_(PASSWORD); pop.quit()
print('all good')
''')
    os.mkdir(tmp_path / 'server')
    r = subprocess.run(['unshare', '-rn', 'python3', str(script)], capture_output=True, timeout=60)
    if b'unshare' in r.stderr and b'failed' in r.stderr:
        pytest.skip('no network namespaces here: ' + r.stderr.decode())
    assert b'all good' in r.stdout, r.stderr.decode()


def test_other_protocols_are_turned_away(server):
    for alpn in (['h2'], ['http/1.1', 'h2'], ['imap']):
        context = trusting()
        context.set_alpn_protocols(alpn)
        with pytest.raises((ssl.SSLError, OSError)):
            implicit(server, context)
    context = trusting()
    context.set_alpn_protocols(['h2', 'pop3'])
    pop = implicit(server, context)
    assert pop.sock.selected_alpn_protocol() == 'pop3'
    pop.close()
    for context in (None, trusting()):  # an HTTP request, outside TLS and in it
        s = server.raw(server.pops_port)
        s = context.wrap_socket(s) if context else s
        s.sendall(b'POST / HTTP/1.1\r\nHost: x\r\n\r\nUSER ann\r\nCAPA\r\n')
        got = b''
        try:
            while chunk := s.recv(4096):
                got += chunk
        except OSError:
            pass
        assert b'TOP' not in got and b'-ERR' not in got


# ---- certificates ----

def shown(port, name):
    """The subject of the certificate served for a name."""
    with socket.create_connection(('127.0.0.1', port), 10) as s:
        with trusting().wrap_socket(s, server_hostname=name) as t:
            der = t.getpeercert(True)
    return der


def der_of(path):
    with open(path) as f:
        return ssl.PEM_cert_to_DER_cert(f.read())


def eventually(what, seconds=5):
    end = time.time() + seconds
    while time.time() < end:
        if what():
            return
        time.sleep(0.05)
    assert what()


def test_names_and_swaps(tmp_path):
    names = tmp_path / 'names'
    p = TlsPenfold(tmp_path, tls=f', certificates: {names}')
    ann, _ = make_pair(str(names / 'mail.ann.example'), 'mail.ann.example', 'fullchain.pem', 'privkey.pem')
    wild, _ = make_pair(str(names / '_.wild.example'), '*.wild.example', 'tls.crt', 'tls.key', rsa=True)
    with p:
        assert shown(p.pops_port, 'mail.ann.example') == der_of(ann)
        assert shown(p.pops_port, 'any.wild.example') == der_of(wild)
        assert shown(p.pops_port, 'other.example') == der_of(p.chain)
        old = der_of(ann)
        make_pair(str(names / 'mail.ann.example'), 'mail.ann.example', 'fullchain.pem', 'privkey.pem')
        eventually(lambda: shown(p.pops_port, 'mail.ann.example') == der_of(ann) != old)
        pop = implicit(p, trusting())
        good = der_of(p.chain)
        make_pair(str(tmp_path), 'mail.test.example', chain='cert.pem', key='unused.pem')  # no longer fits its key
        time.sleep(2.5)
        assert shown(p.pops_port, 'other.example') == good
        assert 'tls.certificate_refused' in p.log() and 'do not belong together' in p.log()
        make_pair(str(tmp_path), 'mail.test.example')
        p.process.send_signal(signal.SIGHUP)
        eventually(lambda: shown(p.pops_port, 'other.example') == der_of(p.chain))
        log_in(pop).quit()  # connected before all that
    # a bad pair at the start is told in one line
    make_pair(str(tmp_path), 'mail.test.example', chain='cert.pem', key='unused.pem')
    p.start(wait=False)
    assert p.process.wait(20) == 2
    p.process = None
    assert 'tls.certificate_unusable' in p.log() and 'tls.certificate"' in p.log()


def test_expiry_is_told(server):
    """The metric has the second openssl reads from the file, also after a swap."""
    def told():
        end = subprocess.run(['openssl', 'x509', '-noout', '-enddate', '-in', server.chain], check=True, stdout=subprocess.PIPE, text=True).stdout
        return server.json('stats')['metrics']['tls_certificate_expires_seconds'] == ssl.cert_time_to_seconds(end.strip().split('=')[1])
    eventually(told, 15)
    make_pair(os.path.dirname(server.chain), 'mail.test.example', days=3)
    eventually(told, 15)


def test_expiry_is_warned_of(tmp_path):
    """The default pair and one by name, once it is asked for; a renewal ends it. Zero days: no word."""
    names = tmp_path / 'names'
    make_pair(str(names / 'mail.ann.example'), 'mail.ann.example', 'tls.crt', 'tls.key', days=9)
    make_pair(str(names / 'mail.bob.example'), 'mail.bob.example', 'tls.crt', 'tls.key', days=60)
    for days, wanted in ((10, 2), (0, 0)):
        folder = tmp_path / str(days)
        folder.mkdir()
        p = TlsPenfold(folder, tls=f', certificates: {names}, expiry_warn_days: {days}')
        make_pair(str(folder), 'mail.test.example', days=3)
        with p:
            def expiring():
                return p.json('stats')['metrics']['tls_certificates_expiring']
            for name in ('mail.ann.example', 'mail.bob.example'):
                shown(p.pops_port, name)
            eventually(lambda: expiring() == wanted and p.json('stats')['metrics']['tls_certificate_expires_seconds'], 15)
            warned = [line for line in p.log().splitlines() if 'event=tls.certificate_expires ' in line]
            assert len(warned) == wanted, warned
            if wanted:
                assert any(f'certificate={p.chain}' in line and 'days_left=2' in line and 'level=warn' in line for line in warned)
                assert any('mail.ann.example/tls.crt' in line and 'days_left=8' in line for line in warned)
                make_pair(str(folder), 'mail.test.example', days=30)
                eventually(lambda: expiring() == 1, 15)


def test_hundred_swaps_under_load(server):
    """Clients handshake all the time while the pair is swapped: none fails, none sees anything but one of the pairs."""
    pairs = [make_pair(os.path.join(server.folder, f'pair{i}'), 'mail.test.example') for i in range(8)]
    good = {der_of(c) for c, _ in pairs} | {der_of(server.chain)}
    seen, failed, stop = set(), [], threading.Event()

    def client():
        while not stop.is_set():
            try:
                der = shown(server.pops_port, None)
                seen.add(der)
                assert der in good
            except Exception as e:  # noqa: BLE001
                failed.append(repr(e))
    threads = [threading.Thread(target=client) for _ in range(3)]
    for t in threads:
        t.start()
    for i in range(100):
        chain, key = pairs[i % len(pairs)]
        for source, target in ((key, server.key), (chain, server.chain)):
            with open(source, 'rb') as f, open(target + '.new', 'wb') as g:
                g.write(f.read())
            os.rename(target + '.new', target)
        if i % 2:
            server.process.send_signal(signal.SIGHUP)
        time.sleep(0.05)
    time.sleep(1.5)
    stop.set()
    for t in threads:
        t.join()
    assert not failed, failed[:3]
    assert len(seen) >= 3
    assert shown(server.pops_port, None) == der_of(server.chain)


def test_hundred_thousand_names(tmp_path):
    """A folder of 100,000 names costs nothing until they are asked for; asked for, memory is bounded by the cache."""
    asked = 100000 if LONG_RUN else 4000
    names = tmp_path / 'names'
    chain, key = make_pair(str(names / 'all'), 'all.example', 'tls.crt', 'tls.key')
    for i in range(100000):
        os.symlink('all', names / f'n{i}.many.example')
    with TlsPenfold(tmp_path, tls=f', certificates: {names}, cache_bytes_max: 1 MiB') as p:
        wanted, fallback = der_of(chain), der_of(p.chain)
        for i in range(0, 1000):
            assert shown(p.pops_port, f'n{i * 97 % 100000}.many.example') == wanted
        before = rss_kib(p.process.pid)
        for i in range(1000, asked):  # 97 and 100,000 have no common factor: each name once
            assert shown(p.pops_port, f'n{i * 97 % 100000}.many.example') == wanted
        for i in range(1000):
            assert shown(p.pops_port, f'unknown{i}.nowhere.example') == fallback
        grown = rss_kib(p.process.pid) - before
        print(f'{asked} names asked for: {grown} KiB more than after 1000')
        assert grown < 4096


def test_certificate_verbs(tmp_path):
    names = tmp_path / 'names'
    names.mkdir()
    with TlsPenfold(tmp_path, tls=f', certificates: {names}') as p:
        p.run('tenant', 'add', 'other')
        p.run('domain', 'add', f'sub.{DOMAIN}', '--tenant', 'other')

        def add(name, tenant, pair, check=True):
            return p.run('certificate', 'add', name, '--tenant', tenant, '--certificate', pair[0], '--key', pair[1], check=check)
        mine = make_pair(str(tmp_path / 'mine'), f'mail.{DOMAIN}')
        wild = make_pair(str(tmp_path / 'wild'), f'*.sub.{DOMAIN}')
        add(f'Mail.{DOMAIN}', 'demo', mine)
        eventually(lambda: shown(p.pops_port, f'mail.{DOMAIN}') == der_of(mine[0]))
        add(f'*.sub.{DOMAIN}', 'other', wild)
        eventually(lambda: shown(p.pops_port, f'any.sub.{DOMAIN}') == der_of(wild[0]))
        assert [c['name'] for c in p.json('certificate', 'list')] == [f'*.sub.{DOMAIN}', f'mail.{DOMAIN}']
        # not theirs, not for that name, not a pair, no name
        for name, tenant, pair, words in ((f'*.sub.{DOMAIN}', 'demo', wild, b'in no domain of tenant demo'), (f'pop.{DOMAIN}', 'demo', mine, b'is not for'),
                                          (f'mail.{DOMAIN}', 'other', mine, b'in no domain'), (f'mail.{DOMAIN}', 'demo', (mine[0], wild[1]), b'belong together'),
                                          ('../../etc', 'demo', mine, b'no host name'), ('*.*.example', 'demo', mine, b'no host name')):
            r = add(name, tenant, pair, check=False)
            assert r.returncode in (1, 2) and words in r.stderr and len(r.stderr.splitlines()) == 1, r
        # renewed by adding it again
        mine = make_pair(str(tmp_path / 'mine'), f'mail.{DOMAIN}')
        add(f'mail.{DOMAIN}', 'demo', mine)
        eventually(lambda: shown(p.pops_port, f'mail.{DOMAIN}') == der_of(mine[0]))
        p.run('certificate', 'remove', f'mail.{DOMAIN}')
        eventually(lambda: shown(p.pops_port, f'mail.{DOMAIN}') == der_of(p.chain))
        assert p.run('certificate', 'remove', f'mail.{DOMAIN}', check=False).returncode == 3


# ---- tickets ----

def session_of(port, session=None, version=None):
    """(resumed, ticket) of a connection."""
    context = session[0] if session else trusting(**({'maximum_version': version} if version else {}))
    with socket.create_connection(('127.0.0.1', port), 10) as s:
        with context.wrap_socket(s, session=session[1] if session else None) as t:
            assert t.recv(100).startswith(b'+OK')
            t.sendall(b'QUIT\r\n')
            t.recv(100)
            return t.session_reused, (context, t.session)


@pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tickets_across_shards_and_processes(tmp_path, version):
    keys = tmp_path / 'ticket.keys'
    keys.write_text(os.urandom(32).hex() + '\n')
    os.mkdir(tmp_path / 'a')
    os.mkdir(tmp_path / 'b')
    with TlsPenfold(tmp_path / 'a', shards=4, tls=f', ticket_keys: {keys}') as a, TlsPenfold(tmp_path / 'b', shards=2, tls=f', ticket_keys: {keys}') as b:
        resumed, ticket = session_of(a.pops_port, version=version)
        assert not resumed
        for i in range(2000 if LONG_RUN else 60):  # each connection on whatever shard the kernel picks
            resumed, ticket = session_of((a, b)[i % 2].pops_port, ticket)
            assert resumed, i
        # a restart, and a new secret in front
        old = keys.read_text()
        keys.write_text(os.urandom(32).hex() + '\n' + old)
        a.restart()
        resumed, ticket = session_of(a.pops_port, ticket)
        assert resumed
        time.sleep(1.5)
        resumed, ticket = session_of(b.pops_port, ticket)
        assert resumed


def test_rsa(tmp_path):
    with TlsPenfold(tmp_path, rsa=True) as p:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            log_in(implicit(p, p.trust(maximum_version=version))).quit()
        errors = []

        def many():
            try:
                for _ in range(20):
                    log = implicit(p, trusting())
                    log.quit()
            except Exception as e:  # noqa: BLE001
                errors.append(repr(e))
        threads = [threading.Thread(target=many) for _ in range(4)]
        [t.start() for t in threads]
        [t.join() for t in threads]
        assert not errors, errors[:2]


# ---- connections ----

def decrypted(o, inn, s):
    """Some plain bytes, however many segments they come in."""
    while True:
        inn.write(s.recv(16384))
        try:
            return o.read(100)
        except ssl.SSLWantReadError:
            pass


def test_one_send_each(server):
    """What costs a TLS session its CPU besides the cipher: sends. The server's flight is one, the ticket leaves with the greeting, the
    end of TLS with the last answer; full or resumed. A send is one segment on the loopback, and the client's kernel counts them."""
    context, ticket, segments = trusting(), None, []
    for again in range(6):
        s = server.raw(server.pops_port)
        out, inn = ssl.MemoryBIO(), ssl.MemoryBIO()
        o = context.wrap_bio(inn, out, session=ticket)
        with pytest.raises(ssl.SSLWantReadError):
            o.do_handshake()
        s.sendall(out.read())
        while True:
            inn.write(s.recv(16384))
            try:
                o.do_handshake()
                break
            except ssl.SSLWantReadError:
                pass
        assert o.session_reused == bool(again) and o.version() == 'TLSv1.3'
        s.sendall(out.read())
        assert decrypted(o, inn, s).startswith(b'+OK') and o.session.has_ticket
        ticket = o.session
        o.write(b'QUIT\r\n')
        s.sendall(out.read())
        assert decrypted(o, inn, s).startswith(b'+OK')
        while True:
            try:
                assert o.read(100) == b''  # close_notify
                break
            except ssl.SSLWantReadError:
                inn.write(s.recv(16384))
        segments.append(struct.unpack_from('I', s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152)[0])  # tcpi_data_segs_in
        s.close()
    assert min(segments) == min(segments[1:]) == 3, segments  # the kernel may have sent one again


def test_slow_and_silent(server):
    """A client that stops in a handshake, one byte at a time, one that goes away, one that reads slowly, one that says nothing."""
    server.deliver(LONG, 'ann')
    s = server.raw(server.pops_port)
    out, inn = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = trusting().wrap_bio(inn, out)
    with pytest.raises(ssl.SSLWantReadError):
        o.do_handshake()
    for b in out.read():
        s.sendall(bytes([b]))
    s.settimeout(5)
    while True:
        inn.write(s.recv(1))
        try:
            o.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
    s.sendall(out.read())
    while True:
        inn.write(s.recv(7))
        try:
            assert o.read(3) == b'+OK'
            break
        except ssl.SSLWantReadError:
            pass
    s.close()
    for _ in range(20):  # gone in the midst
        s = server.raw(server.pops_port)
        s.sendall(b'\x16\x03\x01\x02\x00\x01')
        s.close()
    pop = log_in(implicit(server))
    pop.sock.sendall(b'RETR 1\r\n')
    time.sleep(0.3)
    got = b''
    while not got.endswith(b'\r\n.\r\n'):
        got += pop.sock.recv(20000)
    assert LONG.replace(b'\r\n.', b'\r\n..')[-1000:] in got
    pop.quit()


def test_idle_memory(tmp_path):
    """The server's memory for each idle TLS 1.3 session that has logged in, its connection and POP3 session included, by bench/load.
    All accounts have logged in before: what is kept of an account (caches with bounds of their own) is not the session's. The few MiB of
    buffers that the first hundred bring along are told apart by the slope between two numbers; at 10,000 they are counted in."""
    count = 10000 if LONG_RUN else 5000  # pages that are half full are noise of some 100 KiB
    build = os.path.dirname(os.path.abspath(BINARY))
    subprocess.run(['make', '-s', '-C', TOP, 'BUILD=' + os.path.relpath(build, TOP), os.path.join(os.path.relpath(build, TOP), 'bench/load')], check=True)
    with TlsPenfold(tmp_path) as p:
        p.import_accounts([f'u{i}' for i in range(1, count + 1)])

        def load(scenario, connections, *more):
            r = subprocess.run([os.path.join(build, 'bench/load'), '--scenario', scenario, '--address', f'127.0.0.1:{p.pops_port}', '--tls',
                                'implicit', '--user', f'u%d@{DOMAIN}', '--password', PASSWORD, '--last', str(count), '--connections',
                                str(connections), '--timeout', '120', '--server-pid', str(p.process.pid), '--json', '-', *more],
                               stdout=subprocess.PIPE, timeout=600)
            figures = json.loads(r.stdout)
            assert r.returncode == 0, figures
            return figures
        grown = {}
        for n in (count // 4, count):
            load('pop3-login', 16, '--count', str(count))
            idle = load('pop3-idle', n, '--hold', '1')
            assert idle['opened'] == idle['tls_full'] == n
            grown[n] = idle['server_end']['rss_bytes'] - idle['server_before']['rss_bytes']
            p.restart()
        slope = (grown[count] - grown[count // 4]) / (count - count // 4)
        print(f'{count} idle TLS sessions: {grown[count] / count:.0f} bytes each, {slope:.0f} beyond the first {count // 4}')
        assert slope < 4096
        assert not LONG_RUN or grown[count] < 4096 * count
