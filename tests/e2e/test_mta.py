# SPDX-License-Identifier: Apache-2.0
"""deploy/mta/: Postfix with rspamd beside it, and Exim, each run for real with the files as they are but for names of files and ports."""
import os
import shutil
import signal
import smtplib
import socket
import subprocess

import penfold
import pytest
from penfold import DOMAIN, Penfold, free_ports, settled
from postfix import Postfix
from test_junk import Imap

FOLDER = os.path.join(penfold.TOP, 'deploy', 'mta')
GTUBE = b'XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X'
MARKED_GTUBE = GTUBE.replace(b'XJS', b'YJS')  # rspamd's: to be marked, not refused
EXIM = os.environ.get('EXIM') or shutil.which('exim4') or '/usr/sbin/exim4'
HEADER = b'From: a@remote.example\r\nTo: ann@demo.example\r\nDate: Mon, 02 Feb 2026 10:00:00 +0000\r\nMessage-ID: <%d@remote.example>\r\n'

needs_postfix = [pytest.mark.skipif(os.geteuid() != 0, reason='Postfix starts as root only'),
                 pytest.mark.skipif(not os.path.exists('/usr/sbin/postfix'), reason='this machine has no Postfix')]


def lines_of(name):
    with open(os.path.join(FOLDER, name)) as f:
        return f.read()


def replaced(text, *pairs):
    """Each of the file's own names is there to be replaced."""
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new)
    return text


def open_to_all(folder):
    """Who is not root may pass through pytest's folders."""
    folder = os.path.realpath(folder)
    while folder not in ('/tmp', '/'):
        os.chmod(folder, os.stat(folder).st_mode | 0o011)
        folder = os.path.dirname(folder)


@pytest.fixture(scope='module')
def p(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('mta'), accounts=('ann', 'bob'), extra='lmtp: { junk_header: "X-Spam: Yes" }\n') as p:
        yield p


@pytest.fixture(scope='module')
def rspamd(tmp_path_factory):
    """rspamd's proxy with our local.d, everything else Debian's, no Redis; the port of its milter, or None where there is none."""
    if not shutil.which('rspamd'):
        yield None
        return
    folder = tmp_path_factory.mktemp('rspamd')
    port, = free_ports(1)
    shutil.copytree('/etc/rspamd', folder / 'etc')
    for name in os.listdir(os.path.join(FOLDER, 'rspamd', 'local.d')):
        text = lines_of(f'rspamd/local.d/{name}')
        if '127.0.0.1:11332' in text:
            text = text.replace('127.0.0.1:11332', f'127.0.0.1:{port}')
        (folder / 'etc' / 'local.d' / name).write_text(text)
    for name in ('normal', 'controller', 'fuzzy'):
        (folder / 'etc' / 'local.d' / f'worker-{name}.inc').write_text('enabled = false;\n')
    # this test machine's world ends at loopback
    (folder / 'tlds').write_text('example\norg\n')  # Debian's list takes ten seconds
    (folder / 'etc' / 'local.d' / 'options.inc').write_text(f'url_tld = "{folder}/tlds";\n'
                                                            'dns { nameserver = ["127.0.0.1:1"]; timeout = 0.1s; retransmits = 1; }\nenable_test_patterns = true;\ndisable_hyperscan = true;\n')
    for name in ('rbl', 'surbl', 'fuzzy_check', 'spf', 'dkim', 'dmarc', 'arc', 'asn', 'greylist', 'ratelimit', 'neural', 'replies', 'history_redis', 'bayes_expiry',
                 'phishing', 'mx_check'):
        (folder / 'etc' / 'local.d' / f'{name}.conf').write_text('enabled = false;\n')
    for name in ('run', 'data', 'log'):
        (folder / name).mkdir()
        shutil.chown(folder / name, '_rspamd', '_rspamd')
    open_to_all(folder)
    log = open(folder / 'out', 'wb')
    process = subprocess.Popen(['rspamd', '-f', '-i', '-c', str(folder / 'etc' / 'rspamd.conf'), '--var', f'CONFDIR={folder}/etc', '--var',
                                f'LOCAL_CONFDIR={folder}/etc', '--var', f'RUNDIR={folder}/run', '--var', f'DBDIR={folder}/data', '--var', f'LOGDIR={folder}/log'],
                               stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    log.close()
    try:
        def look():
            if process.poll() is not None:
                pytest.fail('rspamd ended: ' + (folder / 'out').read_text(errors='replace')[-3000:])
            socket.create_connection(('127.0.0.1', port), 2).close()
        settled(look, 30)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope='module')
def postfix(p, rspamd):
    def more(conf, transport):
        shutil.copy(os.path.join(FOLDER, 'penfold_header_checks'), conf)
        text = replaced(lines_of('postfix.cf'), ('hash:/etc/postfix/penfold_domains', DOMAIN), ('lmtp:unix:/run/penfold-lmtp.sock', transport),
                        ('/etc/postfix/penfold_header_checks', f'{conf}/penfold_header_checks'),
                        ('127.0.0.1:11332', f'127.0.0.1:{rspamd or 1}'))
        # the test's sender comes from this host: it is no network of ours here; addresses are asked for without waiting for a table
        return text + 'mynetworks = 127.0.0.2/32\naddress_verify_map =\naddress_verify_poll_count = 20\naddress_verify_poll_delay = 1\n'
    with Postfix(p.lmtp_port, more) as postfix:
        yield postfix


def send(postfix, number, body, to='ann', header=b''):
    with smtplib.SMTP('127.0.0.1', postfix.port, timeout=60) as smtp:
        refused = smtp.sendmail('a@remote.example', [f'{to}@{DOMAIN}'], header + HEADER % number + b'Subject: n%d\r\n\r\n' % number + body + b'\r\n')
    assert not refused
    postfix.wait_until_empty(30)


def messages(p, folder, name='ann'):
    with Imap(p, name) as imap:
        count = imap.count(folder) or 0
        return [imap.fetch(str(i + 1), 'BODY.PEEK[]')[1][0][1] for i in range(count)]


class TestPostfix:
    pytestmark = needs_postfix

    def test_mail_arrives(self, p, postfix):
        send(postfix, 1, b'hello')
        assert any(b'Subject: n1' in m for m in messages(p, 'INBOX'))

    def test_unknown_addresses_are_refused_to_the_sender(self, postfix):
        """While it is connected: nothing is queued and bounced."""
        with smtplib.SMTP('127.0.0.1', postfix.port, timeout=60) as smtp:
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                smtp.sendmail('a@remote.example', [f'nobody@{DOMAIN}', 'a@elsewhere.example'], HEADER % 2 + b'\r\nx\r\n')
        codes = {a: c for a, (c, _) in refused.value.recipients.items()}
        assert codes[f'nobody@{DOMAIN}'] == 550 and codes['a@elsewhere.example'] in (454, 554)
        postfix.wait_until_empty(30)

    def test_forged_marks_do_not_count(self, p, postfix):
        send(postfix, 3, b'not spam', 'bob', header=b'X-Spam: Yes\r\nX-Other: kept\r\n')
        assert [m for m in messages(p, 'INBOX', 'bob') if b'Subject: n3' in m and b'X-Other: kept' in m and b'X-Spam: Yes' not in m]
        assert not messages(p, 'Junk', 'bob')

    def test_rspamd_marks_and_penfold_files(self, p, postfix, rspamd):
        if not rspamd:
            pytest.skip('rspamd is not installed')
        send(postfix, 4, MARKED_GTUBE)
        assert any(b'Subject: n4' in m and b'X-Spam: Yes' in m for m in messages(p, 'Junk'))
        with smtplib.SMTP('127.0.0.1', postfix.port, timeout=60) as smtp:
            with pytest.raises(smtplib.SMTPDataError):
                smtp.sendmail('a@remote.example', [f'ann@{DOMAIN}'], HEADER % 5 + b'Subject: n5\r\n\r\n' + GTUBE + b'\r\n')


@pytest.mark.skipif(not os.path.exists(EXIM), reason='Exim is not installed (make exim-test brings it)')
class TestExim:
    @pytest.fixture
    def exim(self, p, tmp_path):
        """Exim with our parts, all its files in a folder of the test's."""
        for folder in tmp_path, os.path.dirname(p.lmtp_socket):
            open_to_all(folder)
        spool = tmp_path / 'spool'
        spool.mkdir()
        for folder in spool, tmp_path:
            shutil.chown(folder, 'nobody', 'nogroup')
        text = replaced(lines_of('exim.conf'), ('/run/penfold-lmtp.sock', p.lmtp_socket))
        config = tmp_path / 'exim.conf'
        unpacked = os.path.join(os.path.dirname(EXIM), 'root', 'usr', 'sbin', 'exim4')  # it starts itself again
        config.write_text(f'''exim_path = {unpacked if os.path.exists(unpacked) else EXIM}
exim_user = nobody
exim_group = nogroup
spool_directory = {spool}
log_file_path = {tmp_path}/%slog
primary_hostname = exim.test.example
keep_environment =
tls_advertise_hosts =
''' + text)
        os.chmod(config, 0o644)

        def run(*args, **more):
            r = subprocess.run([EXIM, '-C', str(config), *args], capture_output=True, text=True, timeout=60, **more)
            r.log = '\n'.join(f.read_text() for f in tmp_path.glob('*log'))
            return r
        return run

    def test_exim_takes_the_file_as_it_is(self):
        r = subprocess.run([EXIM, '-C', os.path.join(FOLDER, 'exim.conf'), '-bV'], capture_output=True, text=True, timeout=60)
        assert r.returncode == 0 and 'Configuration file is' in r.stdout, r.stdout + r.stderr

    def test_routes(self, exim):
        r = exim('-bt', f'ann@{DOMAIN}')
        assert r.returncode == 0 and 'router = penfold, transport = penfold_lmtp' in r.stdout, r.stdout + r.stderr
        assert exim('-bt', 'ann@elsewhere.example').returncode != 0

    def test_mail_arrives(self, exim, p):
        """Submitted, routed and delivered by LMTP; a forged mark is taken out."""
        r = exim('-odf', '-f', 'a@remote.example', f'bob@{DOMAIN}', f'ann@{DOMAIN}', input='X-Spam: Yes\nSubject: by exim\n\nhello\n')
        assert r.returncode == 0, r.stdout + r.stderr
        said = r.log + r.stderr  # to which of the two depends on whom it runs as
        assert said.count('250 2.0.0 stored') == 2 and 'Completed' in said, said
        for name in 'ann', 'bob':
            assert any(b'Subject: by exim' in m for m in messages(p, 'INBOX', name))
