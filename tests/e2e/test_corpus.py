# SPDX-License-Identifier: Apache-2.0
"""Every message of the corpus comes back byte for byte, whoever brings it and whoever reads it; UIDLs stay."""
import glob
import mailbox
import os
import shutil
import subprocess

import pytest

from corpus import corpus
from penfold import DOMAIN, PASSWORD, Penfold

OWN = (b'Return-Path:', b'Delivered-To:', b'Received:')


def without_trace(message):
    """The message as it was handed over: without the lines that delivery put in front of it."""
    lines = message.split(b'\r\n')
    at = 0
    for name in OWN:
        assert lines[at].startswith(name), (name, lines[:5])
        at += 1
        while lines[at][:1] in (b' ', b'\t') and name == b'Received:':
            at += 1
    return b'\r\n'.join(lines[at:])


def need(program):
    path = shutil.which(program) or shutil.which(program, path='/usr/sbin:/usr/bin:/sbin')
    if not path:
        pytest.fail(f'{program} is missing; make test-deps installs it')
    return path


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    """A server whose ann holds the corpus, delivered by smtplib."""
    messages = [m for _, m in corpus()]
    with Penfold(tmp_path_factory.mktemp('corpus')) as p:
        with p.lmtp() as l:
            for m in messages:
                for r, (code, text) in l.replies('sender@remote.example', [f'ann@{DOMAIN}'], m).items():
                    assert code == 250, (m[:200], code, text)
        yield p, messages


def test_corpus_is_large():
    assert len(corpus()) >= 400


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
        for n in list(range(1, len(messages), 7)):
            whole = pop.retr(n)
            assert b''.join(l + b'\r\n' for l in pop.pop.top(n, 999999999)[1]) == whole
            head, sep, body = whole.partition(b'\r\n\r\n')
            for k in (0, 1, 3):
                got = b''.join(l + b'\r\n' for l in pop.pop.top(n, k)[1])
                want = head + sep + b''.join(l + b'\r\n' for l in body.split(b'\r\n')[:-1][:k]) if sep else whole
                assert got == want, (n, k)


def test_curl(filled):
    p, messages = filled
    url = f'pop3://127.0.0.1:{p.pop3_port}/'
    for n in range(1, len(messages) + 1, 29):
        r = subprocess.run([need('curl'), '-s', '-u', f'ann@{DOMAIN}:{PASSWORD}', f'{url}{n}'], stdout=subprocess.PIPE, timeout=60)
        assert r.returncode == 0
        assert without_trace(r.stdout) == messages[n - 1], n


def maildir_messages(folder):
    """{what the messages are, LF ends made CRLF}"""
    out = []
    for path in glob.glob(os.path.join(folder, '*', '*')):
        with open(path, 'rb') as f:
            out.append(f.read().replace(b'\r\n', b'\n').replace(b'\n', b'\r\n'))
    return out


def same_messages(got, want):
    """The same messages in any order; readers write LF, so compare with LF."""
    assert len(got) == len(want)
    assert sorted(got) == sorted(want)


def small(messages):
    """What line-based readers with bounded headers can carry (their bounds, not ours): no header line above 500 octets."""
    return [m for m in messages if all(len(l) < 500 for l in m.partition(b'\r\n\r\n')[0].split(b'\r\n'))]


def test_mpop(filled, tmp_path):
    p, messages = filled
    maildir = tmp_path / 'maildir'
    mailbox.Maildir(str(maildir), create=True)
    r = subprocess.run([need('mpop'), '--file=/dev/null', '--host=127.0.0.1', f'--port={p.pop3_port}', '--tls=off', '--auth=user', '--keep=on',
                        '--received-header=off', f'--user=ann@{DOMAIN}', f'--passwordeval=echo "{PASSWORD}"',
                        f'--uidls-file={tmp_path}/uidls', f'--delivery=maildir,{maildir}'],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert r.returncode == 0, r.stdout
    same_messages([without_trace(m) for m in maildir_messages(str(maildir))], messages)


def test_getmail(filled, tmp_path):
    p, messages = filled
    maildir = tmp_path / 'maildir'
    mailbox.Maildir(str(maildir), create=True)
    rc = tmp_path / 'getmailrc'
    rc.write_text(f'''[retriever]
type = SimplePOP3Retriever
server = 127.0.0.1
port = {p.pop3_port}
username = ann@{DOMAIN}
password = {PASSWORD}
[destination]
type = Maildir
path = {maildir}/
[options]
delete = false
delivered_to = false
received = false
''')
    r = subprocess.run([need('getmail'), f'--getmaildir={tmp_path}', f'--rcfile={rc}'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=180)
    assert r.returncode == 0, r.stdout
    got = maildir_messages(str(maildir))
    assert len(got) == len(messages), r.stdout[-500:]
    # getmail parses and writes again: awkward headers change in its hands, so bodies are what must agree
    assert sorted(m.partition(b'\r\n\r\n')[2] for m in got if b'\r\n\r\n' in m) == \
        sorted(m.partition(b'\r\n\r\n')[2] for m in messages if b'\r\n\r\n' in m)


def test_fetchmail(tmp_path):
    messages = small([m for _, m in corpus(120, 0)])
    with Penfold(tmp_path / 's') as p:
        p.deliver(messages[0], 'ann')
        with p.lmtp() as l:
            for m in messages[1:]:
                assert l.replies('sender@remote.example', [f'ann@{DOMAIN}'], m)[f'ann@{DOMAIN}'][0] == 250
        out = tmp_path / 'out'
        out.mkdir()
        rc = tmp_path / 'fetchmailrc'
        rc.write_text(f'''poll 127.0.0.1 service {p.pop3_port} protocol pop3 no dns uidl
  user "ann@{DOMAIN}" password "{PASSWORD}" is "me" here
  no rewrite mda "cat > {out}/$(mktemp -u XXXXXXXX)" fetchall
''')
        rc.chmod(0o600)
        env = {**os.environ, 'HOME': str(tmp_path), 'FETCHMAILHOME': str(tmp_path)}
        r = subprocess.run([need('fetchmail'), '--fetchmailrc', str(rc), '--invisible', '--nosyslog', '--pidfile', str(tmp_path / 'pid')],
                           env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert r.returncode == 0, r.stdout[-2000:]
        got = [f.read_bytes().replace(b'\r\n', b'\n').replace(b'\n', b'\r\n') for f in out.iterdir()]
        bodies = sorted(m.partition(b'\r\n\r\n')[2] for m in got)
        assert bodies == sorted(m.partition(b'\r\n\r\n')[2] for m in messages)
        with p.pop3('ann') as pop:
            assert pop.stat() == (0, 0)  # fetchall without keep deletes


def test_swaks(penfold, tmp_path):
    messages = [m for _, m in corpus(20, 25)][-45:]
    for n, m in enumerate(messages):
        data = tmp_path / f'{n}'
        stuffed = (b'\r\n' + m).replace(b'\r\n.', b'\r\n..')[2:]
        data.write_bytes(stuffed + b'.')
        r = subprocess.run([need('swaks'), '--protocol', 'LMTP', '--server', f'127.0.0.1:{penfold.lmtp_port}', '--to', f'ann@{DOMAIN}',
                            '--from', 'sender@remote.example', '--no-data-fixup', '--data', f'@{data}', '--silent', '2'],
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert r.returncode == 0, r.stdout
    with penfold.pop3('ann') as pop:
        assert [without_trace(pop.retr(n + 1)) for n in range(len(messages))] == messages


def test_unix_socket(penfold):
    from penfold import Lmtp
    with Lmtp(penfold.lmtp_socket) as l:
        assert l.replies('', [f'ann@{DOMAIN}'], b'Subject: by unix socket\r\n\r\nx\r\n')[f'ann@{DOMAIN}'][0] == 250
    with penfold.pop3('ann') as pop:
        assert pop.retr(1).startswith(b'Return-Path: <>\r\n')


def test_uidls_stay(filled):
    p, messages = filled
    with p.pop3('ann') as pop:
        before = pop.uidl()
    assert len(set(before)) == len(messages)
    assert all(1 <= len(u) <= 70 for u in before)
    p.restart()
    with p.pop3('ann') as pop:
        assert pop.uidl() == before
    assert p.stop() == 0
    caches = 0
    for folder, _, names in os.walk(os.path.join(p.data, 'a')):
        for name in names:
            if not name.startswith(('L.', 'B.')):
                os.unlink(os.path.join(folder, name))
                caches += 1
    p.start()
    with p.pop3('ann') as pop:
        assert pop.uidl() == before
        assert without_trace(pop.retr(len(messages))) == messages[-1]
    assert caches > 0
