# SPDX-License-Identifier: Apache-2.0
"""SDPS from outside: hosts, their users and their locks, *ENV, and the two living clients, fetchmail and getmail."""
import json
import os
import poplib
import re
import subprocess

import pytest

from penfold import DOMAIN, PASSWORD, Penfold, Pop3, settled

HOST = 'vision25.example.net'
SECOND = 'the other word'


@pytest.fixture
def host(tmp_path):
    """A server with the host maildrop vision25.example.net, which has two passwords."""
    with Penfold(tmp_path, extra='') as p:
        add_host(p)
        yield p


def add_host(p, name=HOST, *more):
    p.run('sdps', 'add', name, '--tenant', 'demo', '--mode', 'maildrop', '--password-stdin', *more, stdin=f'{PASSWORD}\n{SECOND}\n'.encode())
    settled(lambda: login(p, name).quit())


def login(p, user, password=PASSWORD):
    return Pop3(p.pop3_port, user, password)


def put(p, text, *users, sender='sender@remote.example', host=HOST):
    p.deliver(f'From: {sender}\r\nSubject: {text}\r\n\r\n{text}\r\n'.encode(), *(f'{u}@{host}' for u in users), sender=sender)


def subjects(pop):
    return [re.search(rb'\r\nSubject: ([^\r]*)', pop.retr(n + 1))[1].decode() for n in range(pop.stat()[0])]


def env(pop, number):
    status, lines, _ = pop.pop._longcmd(f'*ENV {number}')
    assert status.startswith(b'+OK')
    return [l.decode() for l in lines]


def test_who_sees_what(host):
    put(host, 'for fred', 'fred')
    put(host, 'for jane', 'jane')
    put(host, 'for both', 'fred', 'jane')
    put(host, 'for Fred', 'FRED')
    put(host, 'for a quoted fred', '"fred"')
    put(host, 'for fred and something', 'fred+something')
    everything = ['for fred', 'for jane', 'for both', 'for both', 'for Fred', 'for a quoted fred', 'for fred and something']
    freds = ['for fred', 'for both', 'for Fred', 'for a quoted fred']
    for word in (PASSWORD, SECOND):
        for user in ('vision25', HOST, 'VISION25.Example.net'):
            with login(host, user, word) as pop:
                assert sorted(subjects(pop)) == sorted(everything)
        for user in ('fred+vision25', f'fred+{HOST}', 'fred@vision25', f'fred@{HOST}', 'fred%vision25', 'Fred+Vision25'):
            with login(host, user, word) as pop:
                assert subjects(pop) == freds, user
                assert pop.retr(1).startswith(b'Return-Path: <sender@remote.example>\r\n')
        with login(host, 'jane+vision25', word) as pop:
            assert subjects(pop) == ['for jane', 'for both']
        with login(host, 'fred+something+vision25', word) as pop:
            assert subjects(pop) == ['for fred and something']
        with login(host, 'nobody-yet+vision25', word) as pop:
            assert pop.stat() == (0, 0)
    for user in ('vision25', 'fred+vision25', 'fred+vision26', 'vision26', 'ann+vision25'):
        with pytest.raises(poplib.error_proto, match=r'\[AUTH\]'):
            login(host, user, 'wrong')
    with pytest.raises(poplib.error_proto, match=r'\[AUTH\]'):
        login(host, 'ann', SECOND)


def test_a_user_deletes_only_his_own(host):
    put(host, 'one', 'fred', 'jane')
    put(host, 'two', 'fred')
    with login(host, 'fred+vision25') as pop:
        for n in range(pop.stat()[0]):
            pop.dele(n + 1)
    with login(host, 'fred+vision25') as pop:
        assert pop.stat()[0] == 0
    with login(host, 'jane+vision25') as pop:
        assert subjects(pop) == ['one']
    with login(host, 'vision25') as pop:
        assert env(pop, 1)[3] == f'jane@{HOST}'
        pop.dele(1)
    with login(host, 'jane+vision25') as pop:
        assert pop.stat()[0] == 0


def test_unique_ids_are_the_same_for_host_and_user(host):
    put(host, 'one', 'jane')
    put(host, 'two', 'fred')
    with login(host, 'vision25') as pop:
        whole = pop.uidl()
    with login(host, 'fred+vision25') as pop:
        assert pop.uidl() == whole[1:]
    host.restart()
    with login(host, 'fred+vision25') as pop:
        assert pop.uidl() == whole[1:]


def test_the_lock_excludes_who_would_see_the_same_message(host):
    put(host, 'one', 'fred', 'jane')
    add_host(host, 'other.example.net')

    def refused(user):
        with pytest.raises(poplib.error_proto, match=r'\[IN-USE\]'):
            login(host, user)

    with login(host, 'vision25'):
        refused('vision25')
        refused(HOST)
        refused('fred+vision25')
        refused('nobody-yet+vision25')
        login(host, 'other').quit()
        host.pop3('ann').quit()
    with login(host, 'fred+vision25') as fred, login(host, 'jane+vision25') as jane:
        refused('vision25')
        refused('FRED@vision25')
        with login(host, 'third+vision25') as third:
            assert third.stat()[0] == 0
        assert subjects(fred) == subjects(jane) == ['one']
        put(host, 'later', 'fred')
        assert fred.stat()[0] == 1
        fred.dele(1)
        jane.dele(1)
    with login(host, 'vision25') as pop:
        assert subjects(pop) == ['later']


def test_env(host):
    put(host, 'one', 'fred', 'jane')
    put(host, 'a bounce', 'fred', sender='')
    put(host, 'odd', '"a b"', sender='."x"@remote.example'.replace('."x"', '"x y"'))
    with login(host, 'vision25') as pop:
        ids = pop.uidl()
        for n, (sender, rcpt) in enumerate([('sender@remote.example', f'fred@{HOST}'), ('sender@remote.example', f'jane@{HOST}'), ('', f'fred@{HOST}'),
                                            ('"x y"@remote.example', f'"a b"@{HOST}')]):
            lines = env(pop, n + 1)
            assert lines[0] == ids[n] and re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ', lines[1])
            assert lines[2:] == [sender, rcpt]
        pop.dele(1)
        for what in ('*ENV 1', '*ENV 5', '*ENV 0', '*ENV', '*ENV x'):
            with pytest.raises(poplib.error_proto):
                pop.pop._longcmd(what)
    with login(host, 'jane+vision25') as pop:
        assert env(pop, 1)[2:] == ['sender@remote.example', f'jane@{HOST}']
    host.deliver(b'Subject: x\r\n\r\nx\r\n', 'ann')
    with host.pop3('ann') as pop, pytest.raises(poplib.error_proto, match='unknown'):
        pop.pop._longcmd('*ENV 1')


def test_mode_accounts(penfold):
    """Users with accounts of their own: a further name to log in with, and *ENV."""
    p = penfold
    p.run('sdps', 'add', 'books.example.net', '--tenant', 'demo', '--mode', 'accounts')
    p.add_account('mary@books.example.net')
    p.add_account('ann+books')  # an exact account beats every other reading
    p.add_account('ann@books.example.net', password='another')
    settled(lambda: put(p, 'hello', 'mary', host='books.example.net'))
    for user in ('mary+books', 'mary+books.example.net', 'mary@books', 'mary%books', 'mary@books.example.net'):
        with login(p, user) as pop:
            assert subjects(pop) == ['hello']
            assert env(pop, 1)[2:] == ['sender@remote.example', 'mary@books.example.net']
    for user in ('books', 'books.example.net', 'fred+books'):
        with pytest.raises(poplib.error_proto, match=r'\[AUTH\]'):
            login(p, user)
    with login(p, 'ann+books'), login(p, 'ann@books', 'another'):
        pass
    with p.lmtp() as l:
        assert l.replies('a@b.example', ['nobody@books.example.net', 'mary+books', f'mary+books@{DOMAIN}'], b'x\r\n')['nobody@books.example.net'][0] == 550


def test_exact_accounts_win(host):
    host.add_account(f'own@{HOST}', password='mine')
    settled(lambda: login(host, f'own@{HOST}', 'mine').quit())
    put(host, 'for own', 'own')
    put(host, 'for other', 'other')
    with login(host, 'vision25') as pop, login(host, 'own+vision25', 'mine') as own:
        assert subjects(pop) == ['for other']
        assert subjects(own) == ['for own']
    with pytest.raises(poplib.error_proto, match=r'\[AUTH\]'):
        login(host, 'own+vision25')


def test_mail_is_never_addressed_by_the_login_form(host):
    for address in ('fred+vision25', 'fred@vision25', 'vision25', f'fred+vision25@{DOMAIN}', 'fred%vision25'):
        with host.lmtp() as l:
            assert l.replies('a@b.example', [address], b'x\r\n')[address][0] in (501, 550), address


def test_quota_of_a_maildrop(host):
    host.run('account', 'set', f'@{HOST}', 'quota_messages=2')

    def full():
        with host.lmtp() as l:
            assert l.replies('a@b.example', [f'fred@{HOST}'], b'x\r\n')[f'fred@{HOST}'][0] == 552
    put(host, 'one', 'fred')
    put(host, 'two', 'jane')
    settled(full)
    assert host.run('account', 'set', f'@{DOMAIN}', 'quota_messages=2', check=False).returncode == 3
    assert host.run('account', 'remove', f'@{HOST}', check=False).returncode != 0


# ---- the clients ----

def fetchmail(p, tmp_path, user, body, server='', status=0):
    rc, out = tmp_path / 'fetchmailrc', tmp_path / 'out'
    out.mkdir(exist_ok=True)
    rc.write_text(f"""poll 127.0.0.1 service {p.pop3_port} protocol sdps no dns {server}
  user "{user}" password "{PASSWORD}" {body} sslproto '' no rewrite fetchall
  mda "cat > $(mktemp {out}/%T.XXXXXXXXXX)"
""")
    rc.chmod(0o600)
    r = subprocess.run(['fetchmail', '--fetchmailrc', str(rc), '--nosyslog', '--pidfile', str(tmp_path / 'pid'), '-v', '-v'], timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, 'HOME': str(tmp_path), 'FETCHMAILHOME': str(tmp_path)})
    assert r.returncode == status, r.stdout.decode()
    found = {}
    for path in sorted(out.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        found.setdefault(path.name.split('.')[0], []).append(re.search(rb'\nSubject: ([^\r\n]*)', path.read_bytes())[1].decode())
        path.unlink()
    return found, r.stdout.decode()


def test_fetchmail_multidrop(host, tmp_path):
    """One login for the host, and each message goes to the local user whom the envelope names, whatever its header says."""
    for n in range(20):
        put(host, f'f{n}', 'fred')
        put(host, f'j{n}', 'jane', sender='' if n % 3 == 0 else 'x@remote.example')
    host.deliver(f'From: a@b.example\r\nTo: jane@{HOST}\r\nSubject: said otherwise\r\n\r\nx\r\n'.encode(), f'fred@{HOST}')
    host.deliver(f'From: a@b.example\r\nTo: undisclosed-recipients:;\r\nSubject: twice\r\n\r\nx\r\n'.encode(), f'fred@{HOST}', f'jane@{HOST}')
    got, said = fetchmail(host, tmp_path, 'vision25', 'to fred=localfred jane=localjane here', f'aka {HOST}')
    assert set(got) == {'localfred', 'localjane'}, said
    assert sorted(got['localfred']) == sorted([f'f{n}' for n in range(20)] + ['said otherwise', 'twice'])
    assert sorted(got['localjane']) == sorted([f'j{n}' for n in range(20)] + ['twice'])
    with login(host, 'vision25') as pop:
        assert pop.stat() == (0, 0)


def test_fetchmail_of_one_user(host, tmp_path):
    put(host, 'one', 'fred', 'jane')
    put(host, 'a bounce', 'fred', sender='')
    got, said = fetchmail(host, tmp_path, 'fred+vision25', 'is me here')
    assert got == {'me': ['one', 'a bounce']}, said
    with login(host, 'vision25') as pop:
        assert subjects(pop) == ['one']
    with login(host, 'fred+vision25'):
        got, said = fetchmail(host, tmp_path, 'vision25', 'is me here', status=9)  # PS_LOCKBUSY: it will come again
        assert not got


# getmail 6 hands bytes to destinations that want text, so that no delivery of a multidrop works: its retriever is asked by itself.
GETMAIL = r"""
import json, sys
from getmailcore.retrievers import MultidropSDPSRetriever
folder, port, user, password = sys.argv[1:]
r = MultidropSDPSRetriever(getmaildir=folder, server='127.0.0.1', port=int(port), username=user, password=password)
r.checkconf()
r.initialize({'use_netrc': False, 'netrc_file': None, 'to_oldmail_on_each_mail': False})
found = []
for msgid in list(r):
    m = r.getmsg(msgid)
    found.append([m.content()['Subject'], m.sender.decode(), m.recipient.decode()])
    r.delivered(msgid)
    r.delmsg(msgid)
r.quit()
print(json.dumps(found))
"""


def test_getmail_multidrop(host, tmp_path):
    """It asks for *ENV after RETR."""
    want = []
    for n in range(3):
        put(host, f'f{n}', 'fred')
        put(host, f'j{n}', 'jane', sender='')
        want += [[f'f{n}', 'sender@remote.example', f'fred@{HOST}'], [f'j{n}', '', f'jane@{HOST}']]
    r = subprocess.run(['/usr/bin/python3', '-c', GETMAIL, str(tmp_path), str(host.pop3_port), 'vision25', PASSWORD], timeout=60,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert r.returncode == 0, r.stdout.decode()
    assert json.loads(r.stdout.splitlines()[-1]) == want
    with login(host, 'vision25') as pop:
        assert pop.stat() == (0, 0)


# ---- the command line ----

def test_verbs(penfold):
    p = penfold

    def fails(status, *args, stdin=None):
        r = p.run(*args, stdin=stdin, check=False)
        assert r.returncode == status and len(r.stderr.splitlines()) == 1, (args, r)

    add = ('sdps', 'add', HOST, '--tenant', 'demo', '--mode', 'maildrop', '--password-stdin')
    fails(3, 'sdps', 'add', HOST, '--tenant', 'nobody', '--mode', 'maildrop', '--password-stdin', stdin=b'x\n')
    fails(2, 'sdps', 'add', HOST, '--tenant', 'demo', '--password-stdin', stdin=b'x\n')
    fails(2, 'sdps', 'add', HOST, '--mode', 'maildrop', '--password-stdin', stdin=b'x\n')
    fails(2, 'sdps', 'add', HOST, '--tenant', 'demo', '--mode', 'accounts', '--password-stdin', stdin=b'x\n')
    fails(1, *add, stdin=b'')
    fails(1, *add, stdin=b'x\n' + b'y' * 600 + b'\n')
    assert p.json('sdps', 'list') == []
    p.run(*add, stdin=b'only one\n')
    fails(1, *add, stdin=b'x\n')
    p.run('sdps', 'add', 'books.example.net', '--tenant', 'demo', '--mode', 'accounts')
    p.run('tenant', 'add', 'other')
    fails(1, 'sdps', 'add', 'vision25.example.com', '--tenant', 'other', '--mode', 'accounts')
    p.run('sdps', 'add', 'vision25.example.com', '--tenant', 'other', '--mode', 'accounts', '--no-short-name')
    hosts = {h['name']: h for h in p.json('sdps', 'list')}
    assert set(hosts) == {HOST, 'books.example.net', 'vision25.example.com'}
    assert (hosts[HOST]['short_name'], hosts[HOST]['mode'], hosts[HOST]['passwords'], hosts[HOST]['tenant']) == ('vision25', 'maildrop', 1, 'demo')
    assert hosts['vision25.example.com']['short_name'] is None
    assert [h['name'] for h in p.json('sdps', 'list', '--tenant', 'other')] == ['vision25.example.com']
    settled(lambda: login(p, 'vision25', 'only one').quit())
    put(p, 'one', 'fred')
    p.run('sdps', 'password', HOST, '--password-stdin', stdin=b'new one\nnew two\n')
    fails(1, 'sdps', 'password', 'books.example.net', '--password-stdin', stdin=b'x\n')
    fails(3, 'sdps', 'password', DOMAIN, '--password-stdin', stdin=b'x\n')
    settled(lambda: login(p, 'vision25', 'new two').quit())
    login(p, 'fred+vision25', 'new one').quit()
    with pytest.raises(poplib.error_proto):
        login(p, 'vision25', 'only one')
    assert b'vision25' in p.run('sdps', 'list').stdout
    assert b'maildrop' in p.run('sdps', 'add', '--help').stdout
    fails(3, 'sdps', 'remove', DOMAIN)
    assert p.json('sdps', 'remove', 'books.example.net')['domain_removed']
    gone = p.json('sdps', 'remove', HOST)
    assert gone['domain_removed'] and gone['mail'] == 'kept'
    assert [r['name'] for r in p.json('account', 'list', '--removed')] == [f'@{HOST}']

    def refused():
        with p.lmtp() as l:
            assert l.replies('a@b.example', [f'fred@{HOST}'], b'x\r\n')[f'fred@{HOST}'][0] == 550
    settled(refused)
    with pytest.raises(poplib.error_proto):
        login(p, 'vision25', 'new one')
