# SPDX-License-Identifier: Apache-2.0
"""Other people's IMAP clients that keep a copy, or that somebody sits before: offlineimap, mbsync run once more, neomutt in a terminal (tmux)."""
import os
import re
import shutil
import subprocess

import pytest

from penfold import PASSWORD, Penfold, settled
from test_imap import MESSAGE, Wire, deliver


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('clients'), accounts=('ann', 'bob', 'cid')) as p:
        yield p


def fill(w, count, first=0):
    text = MESSAGE.decode()
    for start in range(first, first + count, 100):
        tag = w.send('APPEND INBOX ' + ''.join(f'{" " if i > start else ""}{{{len(text % (i, i))}+}}\r\n{text % (i, i)}'
                                               for i in range(start, min(start + 100, first + count))))
        assert w.until(tag)[1].startswith(b'OK')


def numbers(folder):
    """Of the messages of a Maildir, with their names."""
    out = {}
    for sub in ('cur', 'new'):
        for name in os.listdir(os.path.join(folder, sub)):
            with open(os.path.join(folder, sub, name), 'rb') as f:
                number = int(re.search(rb'Subject: (\d+)', f.read())[1])
            assert number not in out, 'twice'
            out[number] = os.path.join(folder, sub, name)
    return out


def state(w, folder):
    """{number: flags} of a folder there, and what else says whether anything was done: UIDNEXT, HIGHESTMODSEQ."""
    text = b'\n'.join(w.ok(f'EXAMINE {folder}')).decode()
    lines = b'\n'.join(w.ok('FETCH 1:* (FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])')).decode()
    flags = re.findall(r'FETCH \(FLAGS \(([^)]*)\)', lines)
    found = [int(n) for n in re.findall(r'Subject: (\d+)', lines)]
    assert len(found) == len(set(found)) == len(flags)
    return dict(zip(found, flags)), re.search(r'UIDNEXT (\d+)', text)[1], re.search(r'HIGHESTMODSEQ (\d+)', text)[1]


def both_ways(server, tmp_path, name, sync, inbox, count=300):
    """Down, changes on both sides, up and down; then once more, which must do nothing."""
    w = Wire(server, name)
    fill(w, count)
    sync()
    assert sorted(numbers(inbox)) == list(range(count))
    here = numbers(inbox)
    for n in range(5):
        os.unlink(here[n])
    os.rename(here[7], os.path.join(inbox, 'cur', os.path.basename(here[7]).split(':')[0] + ':2,FS'))
    with open(os.path.join(inbox, 'new', '1234567.x.y'), 'wb') as f:
        f.write((MESSAGE % (count, count)).replace(b'\r\n', b'\n'))
    w.ok('SELECT INBOX')
    w.ok(rf'STORE 20:24 +FLAGS (\Answered)')
    w.ok(rf'STORE {count - 9}:{count} +FLAGS.SILENT (\Deleted)')
    w.ok('EXPUNGE')
    fill(w, 3, count + 1)
    sync()
    sync()
    want = set(range(5, count - 10)) | set(range(count, count + 4))
    before = state(w, 'INBOX')
    assert set(before[0]) == set(numbers(inbox)) == want
    assert set(before[0][7].split()) >= {r'\Flagged', r'\Seen'} and r'\Answered' in before[0][20]
    assert sum('R' in path.rsplit(',', 1)[-1] for path in numbers(inbox).values() if ':2,' in path) == 5
    names = sorted(numbers(inbox).values())
    sync()
    assert state(w, 'INBOX') == before and sorted(numbers(inbox).values()) == names
    w.close()


@pytest.mark.skipif(not shutil.which('offlineimap'), reason='offlineimap is not there')
def test_offlineimap(server, tmp_path):
    rc = tmp_path / 'rc'
    rc.write_text(f'''[general]
accounts = a
metadata = {tmp_path}/meta
ui = quiet
[Account a]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = {tmp_path}/mail
[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {server.imap_port}
remoteuser = {server.address('ann')}
remotepass = {PASSWORD}
ssl = no
starttls = no
auth_mechanisms = LOGIN
''')

    def sync():
        r = subprocess.run(['offlineimap', '-o', '-c', str(rc)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                           env={**os.environ, 'HOME': str(tmp_path)})
        assert r.returncode == 0, r.stdout.decode()
    both_ways(server, tmp_path, 'ann', sync, os.path.join(tmp_path, 'mail', 'INBOX'))


@pytest.mark.skipif(not shutil.which('mbsync'), reason='isync is not there')
def test_mbsync_once_more_does_nothing(server, tmp_path):
    rc = tmp_path / 'rc'
    rc.write_text(f'''IMAPAccount p
Host 127.0.0.1
Port {server.imap_port}
User {server.address('bob')}
Pass "{PASSWORD}"
SSLType None
AuthMechs LOGIN

IMAPStore far
Account p

MaildirStore near
Path {tmp_path}/mail/
Inbox {tmp_path}/mail/INBOX

Channel c
Far :far:
Near :near:
Create Both
Expunge Both
SyncState *
''')
    (tmp_path / 'mail').mkdir()

    def sync():
        r = subprocess.run(['mbsync', '-c', str(rc), 'c'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert r.returncode == 0, r.stdout.decode()
    both_ways(server, tmp_path, 'bob', sync, os.path.join(tmp_path, 'mail', 'INBOX'), 1000)


@pytest.mark.skipif(not shutil.which('neomutt') or not shutil.which('tmux'), reason='neomutt or tmux is not there')
def test_neomutt(server, tmp_path):
    """Opens INBOX, hears of new mail, reads one, flags one, deletes one, saves one to a folder that it makes."""
    deliver(server, 'cid', 4)
    rc = tmp_path / 'rc'
    rc.write_text(f'''set folder = imap://127.0.0.1:{server.imap_port}/
set imap_user = "{server.address('cid')}"
set imap_pass = "{PASSWORD}"
set imap_authenticators = "login"
set ssl_starttls = no
set ssl_force_tls = no
set spoolfile = +INBOX
set timeout = 1
set mail_check = 1
set confirm_append = no
set confirm_create = no
set delete = yes
set quit = yes
set wait_key = no
set header_cache = {tmp_path}/cache
set index_format = "N%C %Z subject=%s."
''')
    tmux = ['tmux', '-S', str(tmp_path / 's'), '-f', '/dev/null']
    env = {**os.environ, 'HOME': str(tmp_path), 'TERM': 'xterm', 'LC_ALL': 'C.UTF-8'}

    def keys(*what):
        subprocess.run([*tmux, 'send-keys', *what], check=True, env=env)

    def screen():
        return subprocess.run([*tmux, 'capture-pane', '-p'], check=True, stdout=subprocess.PIPE, env=env).stdout.decode()

    def shows(*what):
        def check():
            text = screen()
            assert all(w in text for w in what), text
        settled(check, 20)

    def there(folder, want):
        """{number: a flag that it must have, or None}"""
        def check():
            flags = state(w, folder)[0]
            assert set(flags) == set(want) and all(f is None or f in flags[n] for n, f in want.items()), flags
        settled(check, 20)
    w = Wire(server, 'cid', None)
    subprocess.run([*tmux, 'new-session', '-d', '-x', '100', '-y', '30', 'neomutt', '-n', '-F', str(rc)], check=True, env=env)
    try:
        shows('subject=1.', 'subject=4.')
        deliver(server, 'cid', 1, 5)
        shows('subject=5.')
        keys('1', 'Enter', 'Enter')
        shows('Text 1.')
        keys('i')
        shows('subject=2.')
        keys('2', 'Enter')
        keys('F')
        keys('3', 'Enter')
        keys('d')
        keys('4', 'Enter')
        keys('s')
        shows('Save to mailbox')
        keys('C-u')
        keys('-l', '=Kept')
        keys('Enter')
        settled(lambda: w.ok('SELECT Kept'), 20)
        keys('$')
        there('Kept', {4: None})
        there('INBOX', {1: r'\Seen', 2: r'\Flagged', 5: None})
        keys('q')
    finally:
        subprocess.run([*tmux, 'kill-server'], check=False, env=env, stderr=subprocess.DEVNULL)
        w.close()
