# SPDX-License-Identifier: Apache-2.0
"""The command line: tenants, domains, accounts, imports, with and without a running server."""
import base64
import json
import os
import poplib
import pty
import pwd
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time

import pytest

from penfold import BINARY, DOMAIN, PASSWORD, Penfold

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 3
SSHA = '{SSHA}wUHB24xGvJ5ET2A3NY59sp5lk2cBAv9zYWx0'  # "secret pass"
SHA512 = ('{SHA512-CRYPT}$6$6Y9n4x51NrwkdVuv$Mq8RgIPbrC8oL7HRjUJBcbv/THkxxXfObV.FnVCy5ZhuanvYtPk.rFE1NZEwbbsRkBjh779Bq0rdqiISbHifX/')
MESSAGE = b'Subject: hello\r\n\r\nhi\r\n'


@pytest.fixture
def cli(tmp_path):
    """penfold --data FOLDER ...; returns (status, stdout, stderr)."""
    data = str(tmp_path / 'data')

    def run(*args, stdin=b''):
        r = subprocess.run([BINARY, '--data', data, *args], input=stdin, capture_output=True, timeout=60)
        return r.returncode, r.stdout.decode(), r.stderr.decode()

    run.data = data
    return run


@pytest.fixture
def demo(cli):
    for args in (('tenant', 'add', 'demo'), ('domain', 'add', DOMAIN, '--tenant', 'demo')):
        assert cli(*args)[0] == OK
    return cli


def listed(cli, *args):
    status, out, err = cli(*args, '--json')
    assert status == OK, err
    return json.loads(out)


# ---- what a newcomer meets ----

VERBS = ['tenant add', 'tenant list', 'tenant remove', 'tenant set', 'domain add', 'domain list', 'domain remove', 'account add', 'account app-password add',
         'account app-password list', 'account app-password remove', 'account import',
         'account list', 'account password', 'account purge', 'account remove', 'account set', 'certificate add', 'certificate list',
         'certificate remove']


@pytest.mark.parametrize('verb', VERBS)
def test_help(cli, verb):
    status, out, err = cli(*verb.split(), '--help')
    assert status == OK and err == ''
    assert out.startswith(f'usage: penfold [--config FILE] [--json] {verb}')
    assert not os.path.exists(cli.data)  # asking for help makes nothing


def test_first_steps(cli):
    assert cli('tenant', 'add', 'Demo') == (OK, 'tenant Demo added\n', '')
    assert cli('domain', 'add', 'B\u00dcCHER.example', '--tenant', 'demo')[0] == OK
    assert cli('domain', 'add', 'alias.example', '--alias-of', 'b\u00fccher.example')[0] == OK
    assert cli('account', 'add', 'Ann@b\u00fccher.example', '--password-stdin', stdin=b'a b c\n')[0] == OK
    assert [d['name'] for d in listed(cli, 'domain', 'list')] == ['alias.example', 'xn--bcher-kva.example']
    accounts = listed(cli, 'account', 'list')
    assert [(a['name'], a['tenant'], a['scheme']) for a in accounts] == [('ann@xn--bcher-kva.example', 'demo', 'YESCRYPT')]
    tenants = listed(cli, 'tenant', 'list')
    assert [(t['name'], t['domains'], t['accounts']) for t in tenants] == [('demo', 2, 1)]
    assert os.stat(os.path.join(cli.data, 'directory.db')).st_mode & 0o077 == 0  # nobody else reads hashes


def test_outcomes(demo):
    for status, *args in [
            (FAILED, 'tenant', 'add', 'demo'), (USAGE, 'tenant', 'add', 'no spaces'), (USAGE, 'tenant', 'add'), (USAGE, 'tenant', 'add', 'a', 'b'),
            (USAGE, 'tenant', 'add', '--nonsense', 'a'), (USAGE, 'tenant', 'nonsense'), (NOT_FOUND, 'tenant', 'remove', 'nobody'),
            (FAILED, 'tenant', 'remove', 'demo'), (NOT_FOUND, 'tenant', 'list', 'nobody'), (USAGE, 'tenant', 'set', 'demo'),
            (USAGE, 'tenant', 'set', 'demo', 'suspended=perhaps'), (USAGE, 'tenant', 'set', 'demo', 'nonsense=1'), (USAGE, 'tenant', 'set', 'demo', 'quota_bytes'),
            (NOT_FOUND, 'tenant', 'set', 'nobody', 'suspended=yes'),
            (NOT_FOUND, 'tenant', 'suspend', 'nobody'), (NOT_FOUND, 'tenant', 'resume', 'nobody'), (USAGE, 'tenant', 'suspend'),
            (USAGE, 'domain', 'add', 'x.example'), (NOT_FOUND, 'domain', 'add', 'x.example', '--tenant', 'nobody'),
            (USAGE, 'domain', 'add', 'x..example', '--tenant', 'demo'), (USAGE, 'domain', 'add', 'x y', '--tenant', 'demo'),
            (FAILED, 'domain', 'add', DOMAIN.upper(), '--tenant', 'demo'), (NOT_FOUND, 'domain', 'add', 'x.example', '--alias-of', 'y.example'),
            (NOT_FOUND, 'domain', 'remove', 'x.example'), (NOT_FOUND, 'domain', 'list', '--tenant', 'nobody'),
            (NOT_FOUND, 'account', 'add', 'x@nowhere.example', '--no-password'), (USAGE, 'account', 'add', 'x', '--no-password'),
            (USAGE, 'account', 'add', 'x y@' + DOMAIN, '--no-password'), (USAGE, 'account', 'add', 'x\ty@' + DOMAIN, '--no-password'),
            (USAGE, 'account', 'add', 'x' * 65 + '@' + DOMAIN, '--no-password'),
            (NOT_FOUND, 'account', 'remove', 'x@' + DOMAIN), (NOT_FOUND, 'account', 'password', 'x@nowhere.example', '--password-stdin'),
            (NOT_FOUND, 'account', 'set', 'x@' + DOMAIN, 'suspended=yes'), (USAGE, 'account', 'set', 'x@' + DOMAIN, 'login_delay_s'),
            (USAGE, 'account', 'purge'), (NOT_FOUND, 'account', 'purge', 'x@' + DOMAIN), (NOT_FOUND, 'account', 'list', 'x@' + DOMAIN)]:
        got, out, err = demo(*args)
        assert got == status, (args, got, out, err)
        assert out == '' and len(err.splitlines()) == 1, (args, out, err)
    assert [t['accounts'] for t in listed(demo, 'tenant', 'list')] == [0]


def test_settings_are_stored_together_or_not_at_all(demo):
    assert demo('tenant', 'set', 'demo', 'quota_bytes=2G', 'login-delay-s=60', 'over_quota=temporary', 'subaddress_separator=none')[0] == OK
    assert demo('tenant', 'set', 'demo', 'quota_bytes=3G', 'expire_days=x')[0] == USAGE
    s = listed(demo, 'tenant', 'list', 'demo')[0]['settings']
    assert (s['quota_bytes'], s['login_delay_s'], s['over_quota'], s['subaddress_separator'], s['expire_days']) == (2 << 30, 60, 'temporary', 'none', -1)
    assert demo('tenant', 'set', 'demo', 'quota_bytes=default')[0] == OK
    assert listed(demo, 'tenant', 'list', 'demo')[0]['settings']['quota_bytes'] == 0
    demo('account', 'add', 'a@' + DOMAIN, '--no-password')
    assert demo('account', 'set', 'a@' + DOMAIN, 'quota_bytes=10M', 'pop3=no')[0] == OK
    assert demo('account', 'set', 'a@' + DOMAIN, 'over_quota=permanent')[0] == USAGE  # a tenant's only
    s = listed(demo, 'account', 'list')[0]['settings']
    assert (s['quota_bytes'], s['pop3'], s['imap']) == (10 << 20, False, None)


# ---- passwords ----

def test_passwords_are_never_arguments(demo):
    assert demo('account', 'add', 'a@' + DOMAIN, '--password', 'x')[0] == USAGE
    assert demo('account', 'add', 'a@' + DOMAIN, 'x')[0] == USAGE
    status, _, err = demo('account', 'add', 'a@' + DOMAIN)  # no terminal
    assert status != OK and '--password-stdin' in err
    assert demo('account', 'add', 'a@' + DOMAIN, '--password-stdin', stdin=b'')[0] != OK
    assert demo('account', 'add', 'a@' + DOMAIN, '--password-stdin', stdin=b'\n')[0] != OK
    assert demo('account', 'add', 'a@' + DOMAIN, '--password-stdin', stdin=b'x' * 600)[0] != OK
    assert demo('account', 'add', 'a@' + DOMAIN, '--password-stdin', stdin=b'a\0b\n')[0] != OK
    assert listed(demo, 'account', 'list') == []


def test_schemes(demo):
    for scheme in ('ARGON2ID', 'bcrypt', 'SHA512-CRYPT', 'SSHA256'):
        assert demo('account', 'add', f'{scheme.lower()}@{DOMAIN}', '--password-stdin', '--scheme', scheme, stdin=b'x\n')[0] == OK
    assert demo('account', 'add', f'n@{DOMAIN}', '--password-stdin', '--scheme', 'NTLM', stdin=b'x\n')[0] == USAGE
    assert demo('account', 'add', f'p@{DOMAIN}', '--password-stdin', '--scheme', 'PLAIN', stdin=b'x\n')[0] == FAILED  # the tenant did not ask for it
    assert demo('tenant', 'set', 'demo', 'plain_passwords=yes', 'schemes=ARGON2ID', 'password_scheme=ARGON2ID')[0] == OK
    assert demo('account', 'add', f'p@{DOMAIN}', '--password-stdin', '--scheme', 'PLAIN', stdin=b'x\n')[0] == OK
    assert demo('account', 'add', f'q@{DOMAIN}', '--password-stdin', '--scheme', 'SSHA', stdin=b'x\n')[0] == FAILED
    assert demo('account', 'add', f'q@{DOMAIN}', '--password-stdin', stdin=b'x\n')[0] == OK
    schemes = {a['name'].split('@')[0]: a['scheme'] for a in listed(demo, 'account', 'list')}
    assert schemes == {'argon2id': 'ARGON2ID', 'bcrypt': 'BLF-CRYPT', 'sha512-crypt': 'SHA512-CRYPT', 'ssha256': 'SSHA256', 'p': 'PLAIN', 'q': 'ARGON2ID'}


def test_a_terminal_is_asked_without_echo(demo):
    def typed(*lines):
        pid, fd = pty.fork()
        if pid == 0:
            os.execv(BINARY, [BINARY, '--data', demo.data, 'account', 'add', 'tty@' + DOMAIN])
        out = b''
        for line in lines:
            while not out.endswith(b': '):
                out += os.read(fd, 1024)
            os.write(fd, line + b'\n')
            out += os.read(fd, 1)
        try:
            while True:
                chunk = os.read(fd, 1024)
                if not chunk:
                    break
                out += chunk
        except OSError:  # the other side is gone
            pass
        os.close(fd)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out

    status, out = typed(b'top secret', b'top secre')
    assert status == FAILED and b'differ' in out
    status, out = typed(b'top secret', b'top secret')
    assert status == OK and b'secret' not in out
    assert listed(demo, 'account', 'list')[0]['name'] == 'tty@' + DOMAIN


# ---- strange names are only names ----

@pytest.mark.parametrize('local', ["o'brien", '%s%n%x', 'a`id`b', '$id$', "x'--", '{0}', '%{user}', '*', '__proto__', 'j\u00f6rg'])
def test_strange_names(demo, local):
    name = f'{local}@{DOMAIN}'
    assert demo('account', 'add', name, '--no-password') == (OK, f'account {name} added\n', '')
    assert [a['name'] for a in listed(demo, 'account', 'list')] == [name]
    assert demo('account', 'list', name)[1].splitlines()[1].startswith(name)
    assert demo('account', 'remove', name)[0] == OK
    assert listed(demo, 'account', 'list') == []


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become somebody else')
def test_root_leaves_nothing_of_its_own():
    folder = tempfile.mkdtemp()
    try:
        os.chmod(folder, 0o755)
        p = Penfold(folder, extra='user: nobody')
        with p:  # set up by root, served by nobody
            within_a_second(lambda: p.deliver(MESSAGE, 'ann'))
            p.run('account', 'set', f'ann@{DOMAIN}', 'quota_messages=5')
            with p.pop3('ann') as pop:
                assert pop.stat()[0] == 1
            nobody = pwd.getpwnam('nobody').pw_uid
            for at, _, files in os.walk(p.data):
                assert all(os.stat(os.path.join(at, f)).st_uid == nobody for f in files + ['.']), at
    finally:
        shutil.rmtree(folder)


# ---- import ----

def test_import_reports_lines(demo):
    lines = ['# a comment', '', f'good@{DOMAIN}:{SSHA}:1000:1000::/home/good::userdb_quota_rule=*:storage=1G', 'no colon', f'x@elsewhere.example:{SSHA}',
             f'ntlm@{DOMAIN}:{{NTLM}}x', f'plain@{DOMAIN}:{{PLAIN}}x', f'dear@{DOMAIN}:$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW',
             f'locked@{DOMAIN}:!', f'bad name@{DOMAIN}:{SSHA}', f'tab\there@{DOMAIN}:{SSHA}', f'bare@{DOMAIN}:{SHA512[14:]}\r', f'good@{DOMAIN}:{SSHA}',
             f'quota@{DOMAIN}:{SSHA}::::::userdb_quota_rule=*:storage=much', f"o'x@{DOMAIN}:{SSHA}"]
    text = '\n'.join(lines).encode()
    status, out, err = demo('account', 'import', '--strict', stdin=text)
    assert status == FAILED and out == '' and 'nothing was imported' in err
    assert listed(demo, 'account', 'list') == []

    status, out, err = demo('account', 'import', stdin=text)
    assert status == FAILED and out == '3 accounts added, 0 replaced, 10 lines left out\n'
    assert [int(l.split()[1].rstrip(':')) for l in err.splitlines()] == [4, 5, 6, 7, 8, 9, 10, 11, 13, 14]
    accounts = {a['name'].split('@')[0]: a for a in listed(demo, 'account', 'list')}
    assert sorted(accounts) == ['bare', 'good', "o'x"]
    assert accounts['good']['settings']['quota_bytes'] == 1 << 30 and accounts['bare']['scheme'] == 'SHA512-CRYPT'

    again = demo('account', 'import', '--replace', '--json', stdin=f'good@{DOMAIN}:{SHA512}'.encode())
    assert again[0] == OK and json.loads(again[1])['replaced'] == 1
    assert {a['name']: a['scheme'] for a in listed(demo, 'account', 'list')}[f'good@{DOMAIN}'] == 'SHA512-CRYPT'


def test_import_adds_domains_of_its_tenant_only(demo):
    assert demo('tenant', 'add', 'other')[0] == OK
    status, out, err = demo('account', 'import', '--tenant', 'other', stdin=f'a@new.example:{SSHA}\nb@{DOMAIN}:{SSHA}\nc@bad.example:{{NTLM}}x\n'.encode())
    assert status == FAILED and [l.split(':')[0] for l in err.splitlines()] == ['line 2', 'line 3']
    assert {(d['name'], d['tenant']) for d in listed(demo, 'domain', 'list')} == {('new.example', 'other'), (DOMAIN, 'demo')}  # no bad.example
    assert demo('account', 'import', '--tenant', 'nobody', stdin=f'a@n2.example:{SSHA}\n'.encode())[0] != OK


def test_import_of_100000_takes_seconds_while_a_server_runs(tmp_path):
    text = ''.join(f'user{i}@d{i // 1000}.example:{SHA512}:::::::\n' for i in range(100000)).encode()
    with Penfold(tmp_path) as p:
        began = time.time()
        r = p.run('account', 'import', '--tenant', 'demo', stdin=text)
        took = time.time() - began
        assert r.stdout == b'100000 accounts added, 0 replaced, 0 lines left out\n'
        assert took < 30, took  # two seconds on an idle machine
        time.sleep(1)
        with p.pop3('user77777@d77.example', 'secret pass') as pop:
            assert pop.stat() == (0, 0)


# ---- a running server sees changes within a second ----

def within_a_second(check):
    end = time.time() + 1.5  # and half a one for a busy machine's processes to start
    while True:
        try:
            return check()
        except (poplib.error_proto, AssertionError):
            if time.time() > end:
                raise
            time.sleep(0.05)


def rcpt(p, address):
    with p.lmtp() as l:
        l.ehlo_or_helo_if_needed()
        l.mail('sender@remote.example')
        return l.rcpt(address)[0]


def refused(p, name, password=PASSWORD):
    try:
        p.pop3(name, password).close()
    except poplib.error_proto as e:
        return str(e)
    raise AssertionError(f'{name} was let in')


def test_running_server_follows(penfold):
    p = penfold
    assert rcpt(p, f'eve@{DOMAIN}') == 550
    assert 'AUTH' in refused(p, 'eve')
    p.add_account('eve')

    def eve_is_there():
        p.pop3('eve').close()
        assert rcpt(p, f'eve@{DOMAIN}') == 250
    within_a_second(eve_is_there)

    p.run('account', 'password', f'eve@{DOMAIN}', '--password-stdin', stdin=b'another one\n')

    def another_password():
        assert 'AUTH' in refused(p, 'eve')
        p.pop3('eve', 'another one').close()
    within_a_second(another_password)

    p.run('tenant', 'set', 'demo', 'suspended=yes')

    def suspended():
        assert rcpt(p, f'ann@{DOMAIN}') != 250
        assert refused(p, 'ann') != refused(p, 'ann', 'wrong')  # who knows the password is told, nobody else
        assert refused(p, 'ann', 'wrong') == refused(p, 'nobody', 'wrong')
    within_a_second(suspended)

    p.run('tenant', 'set', 'demo', 'suspended=no')
    within_a_second(lambda: p.pop3('ann').close())
    p.run('tenant', 'suspend', 'demo')
    within_a_second(suspended)
    p.run('tenant', 'resume', 'demo')
    within_a_second(lambda: p.pop3('ann').close())

    # by hand in the database, as good as ours: first the tenant, then an account
    def by_hand_tenant(value):
        with sqlite3.connect(os.path.join(p.data, 'directory.db')) as db:
            db.execute("UPDATE tenants SET suspended = ? WHERE name = 'demo'", (value,))
        db.close()
    by_hand_tenant(1)
    within_a_second(suspended)
    by_hand_tenant(0)
    within_a_second(lambda: p.pop3('ann').close())

    with sqlite3.connect(os.path.join(p.data, 'directory.db')) as db:
        db.execute("UPDATE accounts SET suspended = 1 WHERE local_part = 'ann'")
    db.close()

    def by_hand():
        assert refused(p, 'ann') != refused(p, 'ann', 'wrong')
    within_a_second(by_hand)


def test_login_forms_over_the_wire(penfold):
    p = penfold
    p.run('domain', 'add', 'alias.example', '--alias-of', DOMAIN)
    p.deliver(MESSAGE, 'ann')

    def all_forms():
        for login in (f'ann@{DOMAIN}', f'ANN@{DOMAIN.upper()}', 'ann@alias.example', f'ann%{DOMAIN}', f'ann+tag@{DOMAIN}', 'ann', 'ann+tag'):
            with poplib_session(p, login) as pop:
                assert pop.stat()[0] == 1, login
    within_a_second(all_forms)


def poplib_session(p, login):
    from penfold import Pop3
    return Pop3(p.pop3_port, login, PASSWORD)


# ---- removed accounts ----

def account_folders(p):
    return sum('L.' in f for _, _, files in os.walk(p.data) for f in files)


def test_removed_and_purged_while_it_runs(penfold):
    p = penfold
    p.add_account('bob')
    within_a_second(lambda: p.deliver(MESSAGE, 'ann', 'bob'))
    files = account_folders(p)
    assert files >= 2
    p.run('account', 'remove', f'bob@{DOMAIN}')
    within_a_second(lambda: (refused(p, 'bob'), None))
    assert [(r['name'], r['purge']) for r in p.json('account', 'list', '--removed')] == [(f'bob@{DOMAIN}', False)]
    # a new bob starts empty, for ids are never used again
    p.add_account('bob')

    def new_bob():
        with p.pop3('bob') as pop:
            assert pop.stat() == (0, 0)
    within_a_second(new_bob)
    assert p.json('account', 'purge', f'bob@{DOMAIN}') == {'accounts': 1, 'by_server': True}
    end = time.time() + 20
    while p.json('account', 'list', '--removed') and time.time() < end:
        time.sleep(0.2)
    assert p.json('account', 'list', '--removed') == []
    assert 'event=account.purged' in p.log()
    with p.pop3('ann') as pop:
        assert pop.stat()[0] == 1


def test_purged_without_a_server(penfold):
    p = penfold
    p.deliver(MESSAGE, 'ann')
    p.stop()
    before = account_folders(p)
    out = json.loads(p.run('account', 'remove', f'ann@{DOMAIN}', '--purge', '--json').stdout)
    assert out['mail'] == 'deleted'
    assert account_folders(p) < before
    assert p.json('account', 'list', '--removed') == []
    p.start()
    refused(p, 'ann')


# ---- application passwords, masters ----

def test_application_passwords(penfold):
    p = penfold
    ann = f'ann@{DOMAIN}'
    added = p.json('account', 'app-password', 'add', ann, 'phone')
    assert added['added'] == 'phone' and len(added['secret']) == 27
    p.run('account', 'app-password', 'add', ann, 'mail reader', '--protocols', 'imap', '--password-stdin', stdin=b'made-by-another-machine\n')
    within_a_second(lambda: p.pop3('ann', added['secret']).close())
    p.pop3('ann').close()  # its own password goes on
    assert 'AUTH' in refused(p, 'ann', 'made-by-another-machine')
    listed = p.json('account', 'app-password', 'list', ann)
    assert [(a['name'], a['protocols']) for a in listed] == [('mail reader', ['imap']), ('phone', ['pop3', 'imap'])]
    p.run('account', 'app-password', 'remove', ann, 'phone')
    within_a_second(lambda: refused(p, 'ann', added['secret']))


def test_application_passwords_are_long(demo):
    assert demo('account', 'add', f'ann@{DOMAIN}', '--no-password')[0] == OK
    add = ('account', 'app-password', 'add', f'ann@{DOMAIN}', 'x')
    assert demo(*add, '--password-stdin', stdin=b'short\n')[0] == USAGE
    assert demo(*add, '--protocols', 'smtp')[0] == USAGE
    assert demo('account', 'app-password', 'remove', f'ann@{DOMAIN}', 'x')[0] == NOT_FOUND
    status, secret, _ = demo(*add)
    assert status == OK and len(secret.strip()) == 27
    assert demo(*add)[0] == FAILED  # the name is taken
    assert secret.strip().encode() not in open(os.path.join(demo.data, 'directory.db'), 'rb').read()


def test_master_by_authzid(penfold):
    p = penfold
    p.add_account('boss')
    p.deliver(MESSAGE, 'ann')
    p.run('account', 'set', f'boss@{DOMAIN}', 'master=tenant')

    def plain(authzid, authcid, password):
        with socket.create_connection(('127.0.0.1', p.pop3_port), timeout=20) as s:
            f = s.makefile('rwb')
            f.readline()
            token = base64.b64encode(b'\0'.join(x.encode() for x in (authzid, authcid, password)))
            f.write(b'AUTH PLAIN ' + token + b'\r\nSTAT\r\nQUIT\r\n')
            f.flush()
            return f.readline(), f.readline()

    def comes_in():
        assert plain(f'ann@{DOMAIN}', f'boss@{DOMAIN}', PASSWORD)[1].startswith(b'+OK 1 ')
    within_a_second(comes_in)
    wrong = plain(f'ann@{DOMAIN}', f'boss@{DOMAIN}', 'wrong')[0]
    assert wrong.startswith(b'-ERR [AUTH]')
    for who, by, password in (('ann', 'nobody', PASSWORD), ('nobody', 'boss', PASSWORD), ('boss', 'ann', PASSWORD)):
        assert plain(f'{who}@{DOMAIN}', f'{by}@{DOMAIN}', password)[0] == wrong
    assert f'user=ann@{DOMAIN} master=boss@{DOMAIN}' in p.log()
    assert p.run('tenant', 'set', 'demo', 'master=tenant', check=False).returncode != 0  # an account's, never everybody's
