# SPDX-License-Identifier: Apache-2.0
"""Every message of the corpus comes back byte for byte, whoever brings it and whoever reads it; UIDLs stay.

Brought by smtplib's LMTP, swaks and Postfix; read by poplib, curl, mpop, getmail and fetchmail.  A reader that has bounds of
its own, or mends what it thinks is broken, gets the messages that it can carry; the bounds stand at `tame`.
"""
import glob
import mailbox
import os
import re
import shutil
import smtplib
import subprocess

import pytest

from corpus import corpus, real_looking
from penfold import DOMAIN, PASSWORD, Lmtp, Penfold, without_trace
from postfix import Postfix

FIELD = re.compile(rb'[!-9;-~]+:|[ \t]')


def tame(message):
    """What MTAs and readers carry unchanged: a header as RFC 5322 has it, no header line that begins with a dot (fetchmail
    leaves those stuffed), no line above 8,000 octets."""
    header, end, _ = message.partition(b'\r\n\r\n')
    lines = header.split(b'\r\n')
    return (end and lines[0][:1] not in b' \t' and all(FIELD.match(l) and l[:1] != b'.' for l in lines)
            and all(len(l) < 8000 for l in message.split(b'\r\n')))


def need(program):
    path = shutil.which(program, path=os.environ['PATH'] + ':/usr/sbin:/sbin')
    if not path:
        pytest.fail(f'{program} is missing; make test-deps installs it')
    return path


def run(*argv, seconds=120, **more):
    r = subprocess.run([need(argv[0]), *argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, **more)
    assert r.returncode == 0, b"\n".join(re.findall(rb"(?i)[^\n]*(?:error|warn|fail)[^\n]*", r.stdout) + [r.stdout[-500:]]).decode(errors="replace")
    return r.stdout


def deliver_all(p, messages, name='ann'):
    with p.lmtp() as l:
        for m in messages:
            for _, (code, text) in l.replies('sender@remote.example', [f'{name}@{DOMAIN}'], m).items():
                assert code == 250, (m[:200], code, text)


def saved(paths):
    """What a reader wrote, its LF ends made CRLF again."""
    out = []
    for path in paths:
        with open(path, 'rb') as f:
            out.append(f.read().replace(b'\r\n', b'\n').replace(b'\n', b'\r\n'))
    return out


def assert_same(got, want):
    """The same messages, each as often, in any order."""
    got, want = sorted(got), sorted(want)
    for g, w in zip(got, want):
        assert g == w
    assert len(got) == len(want)


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    """A server whose ann holds the corpus, delivered by smtplib."""
    messages = [m for _, m in corpus()]
    with Penfold(tmp_path_factory.mktemp('corpus')) as p:
        deliver_all(p, messages)
        yield p, messages


def test_corpus_is_large():
    messages = [m for _, m in corpus()]
    assert len(messages) >= 400
    assert len(set(messages)) >= 400
    assert len(list(filter(tame, messages))) >= 350


# ---- readers ----

def test_poplib(filled):
    p, messages = filled
    with p.pop3('ann') as pop:
        count, total = pop.stat()
        sizes = pop.sizes()
        assert count == len(messages) == len(sizes)
        assert total == sum(sizes)
        for n, m in enumerate(messages, 1):
            got = pop.retr(n)
            assert len(got) == sizes[n - 1]
            assert without_trace(got) == m, n


def test_top(filled):
    p, messages = filled
    with p.pop3('ann') as pop:
        for n in range(1, len(messages) + 1, 5):
            whole = pop.retr(n)
            assert b''.join(l + b'\r\n' for l in pop.pop.top(n, 999999999)[1]) == whole
            head, sep, body = whole.partition(b'\r\n\r\n')
            for k in (0, 1, 3):
                got = b''.join(l + b'\r\n' for l in pop.pop.top(n, k)[1])
                want = head + sep + b''.join(l + b'\r\n' for l in body.split(b'\r\n')[:-1][:k]) if sep else whole
                assert got == want, (n, k)


def test_curl(filled, tmp_path):
    """All of them in one connection."""
    p, messages = filled
    jobs = tmp_path / 'jobs'
    with open(jobs, 'w') as f:
        f.write(f'user = "ann@{DOMAIN}:{PASSWORD}"\nsilent\nfail\n')
        for n in range(1, len(messages) + 1):
            f.write(f'url = "pop3://127.0.0.1:{p.pop3_port}/{n}"\noutput = "{tmp_path}/{n}"\n')
    run('curl', '-K', str(jobs))
    for n, m in enumerate(messages, 1):
        assert without_trace((tmp_path / str(n)).read_bytes()) == m, n


def test_mpop(filled, tmp_path):
    p, messages = filled
    maildir = tmp_path / 'maildir'
    mailbox.Maildir(str(maildir), create=True)
    run('mpop', '--file=/dev/null', '--host=127.0.0.1', f'--port={p.pop3_port}', '--tls=off', '--auth=user', '--keep=on', '--received-header=off',
        f'--user=ann@{DOMAIN}', f'--passwordeval=echo "{PASSWORD}"', f'--uidls-file={tmp_path}/uidls', f'--delivery=maildir,{maildir}')
    assert_same(map(without_trace, saved(glob.glob(f'{maildir}/*/*'))), messages)


def test_getmail(filled, tmp_path):
    """getmail hands over what it reads by LMTP, to another account of ours (its other ways fork, and wait for a child that was
    too quick for them until a time-out).  It parses and writes again, so it gets what people send, and bodies
    must agree but for the ">" that it puts before "From" and the folds of the parts' headers."""
    p, _ = filled
    messages = [real_looking(n) for n in range(300)]
    p.add_account('real')
    p.add_account('getmail')
    deliver_all(p, messages, 'real')
    rc = tmp_path / 'getmailrc'
    rc.write_text(f'''[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {p.pop3_port}
username = real@{DOMAIN}
password = {PASSWORD}
[destination]
type = MDA_lmtp
host = 127.0.0.1
port = {p.lmtp_port}
override = getmail@{DOMAIN}
[options]
delete = false
delivered_to = false
received = false
''')

    def body(m):
        header, _, text = m.partition(b'\r\n\r\n')
        text = re.sub(rb'^>From ', b'From ', text, flags=re.M)
        return re.sub(rb'\s+', b' ', text) if b'boundary=' in header else text

    run('getmail', f'--getmaildir={tmp_path}', f'--rcfile={rc}')
    with p.pop3('getmail') as pop:
        got = [pop.retr(n + 1) for n in range(pop.stat()[0])]
    assert_same(map(body, got), map(body, messages))


def test_fetchmail(filled, tmp_path):
    """As people run it: every message is taken and deleted."""
    p, messages = filled
    messages = list(filter(tame, messages))
    out = tmp_path / 'out'
    out.mkdir()
    rc = tmp_path / 'fetchmailrc'
    p.add_account('fetch')
    deliver_all(p, messages, 'fetch')
    rc.write_text(f'''poll 127.0.0.1 service {p.pop3_port} protocol pop3 no dns uidl
  user "fetch@{DOMAIN}" password "{PASSWORD}" is "me" here sslproto ''
  no rewrite mda "cat > $(mktemp {out}/XXXXXXXXXX)" fetchall
''')
    rc.chmod(0o600)
    run('fetchmail', '--fetchmailrc', str(rc), '--invisible', '--nosyslog', '--pidfile', str(tmp_path / 'pid'),
        env={**os.environ, 'HOME': str(tmp_path), 'FETCHMAILHOME': str(tmp_path)})
    assert_same(map(without_trace, saved(out.iterdir())), messages)
    with p.pop3('fetch') as pop:
        assert pop.stat() == (0, 0)


# ---- writers ----

def test_swaks(penfold, tmp_path):
    """swaks sends what it is given, dots and end included; a process a message, so a sample of all kinds."""
    messages = [m for _, m in corpus()]
    messages = messages[::20] + messages[-100:-80]
    for n, m in enumerate(messages):
        data = tmp_path / f'{n}'
        data.write_bytes((b'\r\n' + m).replace(b'\r\n.', b'\r\n..')[2:] + b'.')
        run('swaks', '--protocol', 'LMTP', '--server', f'127.0.0.1:{penfold.lmtp_port}', '--to', f'ann@{DOMAIN}', '--from', 'sender@remote.example',
            '--no-data-fixup', '--data', f'@{data}', '--silent', '2')
    with penfold.pop3('ann') as pop:
        assert [without_trace(pop.retr(n + 1)) for n in range(len(messages))] == messages


@pytest.mark.skipif(os.geteuid() != 0, reason='Postfix starts as root only')
@pytest.mark.skipif(not os.path.exists('/usr/sbin/postfix') and os.path.exists('/usr/sbin/sendmail'), reason='this machine has another mail server')
@pytest.mark.parametrize('way', ['tcp', 'unix'])
def test_postfix(tmp_path, way):
    """By SMTP to a Postfix, from its queue by LMTP to us."""
    messages = [m for _, m in corpus() if tame(m)]
    with Penfold(tmp_path) as p:
        if way == 'unix':  # Postfix does not run as we do: its socket lies where it can reach it
            messages = messages[::6]
        with Postfix(p.lmtp_port if way == 'tcp' else p.lmtp_socket) as postfix:
            with smtplib.SMTP('127.0.0.1', postfix.port, timeout=60) as smtp:
                for m in messages:
                    smtp.sendmail('sender@remote.example', [f'ann@{DOMAIN}'], m, ['BODY=8BITMIME'])
            postfix.wait_until_empty(60)
        with p.pop3('ann') as pop:
            got = [without_trace(pop.retr(n + 1)) for n in range(pop.stat()[0])]
    # Postfix's own line in front
    assert_same([re.sub(rb'\AReceived: from [^\r\n]+(?:\r\n\t[^\r\n]+)*\r\n', b'', m) for m in got], messages)


def test_unix_socket(penfold):
    with Lmtp(penfold.lmtp_socket) as l:
        assert l.replies('', [f'ann@{DOMAIN}'], b'Subject: by unix socket\r\n\r\nx\r\n')[f'ann@{DOMAIN}'][0] == 250
    with penfold.pop3('ann') as pop:
        assert pop.retr(1).startswith(b'Return-Path: <>\r\n')


# ---- UIDLs ----

def delete_caches(p):
    """Everything in the accounts' folders but logs and bodies; returns how many files."""
    count = 0
    for folder, _, names in os.walk(os.path.join(p.data, 'a')):
        for name in names:
            if not name.startswith(('L.', 'B.')):
                os.unlink(os.path.join(folder, name))
                count += 1
    return count


def test_uidls_and_messages_stay(filled):
    """Across a restart, kill -9, caches deleted while the server is stopped and while it runs, and fsck --rebuild."""
    p, messages = filled

    def same():
        with p.pop3('ann') as pop:
            assert pop.uidl() == before
            for n in (1, len(messages) // 2, len(messages)):
                assert without_trace(pop.retr(n)) == messages[n - 1]

    with p.pop3('ann') as pop:
        before = pop.uidl()
    assert len(set(before)) == len(messages)
    assert all(1 <= len(u) <= 70 and all(0x21 <= ord(c) <= 0x7e for c in u) for u in before)
    p.restart()
    same()
    p.kill()
    p.start()
    same()
    assert p.stop() == 0
    assert delete_caches(p) >= 1
    p.start()
    same()
    assert p.stop() == 0
    result = p.json('fsck', '--rebuild')
    assert result['errors'] == 0 and result['messages'] >= len(messages)
    assert delete_caches(p) >= 1, 'fsck --rebuild makes state files'
    p.run('fsck', '--rebuild')
    p.start()
    same()
    delete_caches(p)
    same()
    p.kill()
    p.start()
    same()
