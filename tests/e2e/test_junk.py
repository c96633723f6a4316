# SPDX-License-Identifier: Apache-2.0
"""Mail that a spam filter marked goes to the folder whose use is Junk, where the tenant and the account want that."""
import concurrent.futures
import imaplib
import re

import pytest
from penfold import PASSWORD, Penfold, settled

MARKED = b'X-Spam: Yes, score=17.5\r\nSubject: win\r\n\r\nnow\r\n'
CLEAN = b'X-Spam: No\r\nSubject: hello\r\n\r\nyou\r\n'


class Imap(imaplib.IMAP4):
    def __init__(self, p, name):
        super().__init__('127.0.0.1', p.imap_port, 30)
        self.login(p.address(name), PASSWORD)

    def count(self, folder):
        kind, data = self.select(f'"{folder}"', readonly=True)
        return int(data[0]) if kind == 'OK' else None

    def uses(self):
        """name -> attributes, of all folders"""
        kind, data = self._simple_command('LIST', '""', '"*"', 'RETURN', '(SPECIAL-USE SUBSCRIBED)')
        assert kind == 'OK'
        lines = [l.decode() for l in self._untagged_response(kind, data, 'LIST')[1]]
        return {l.split('"/" ')[1].strip('"'): set(l[1:l.index(')')].split()) for l in lines}


@pytest.fixture(scope='module')
def p(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('junk'), accounts=('ann', 'bob', 'eve', 'pop', 'all', 'own'), shards=2,
                 extra='lmtp: { junk_header: "X-Spam: Yes" }\n') as p:
        yield p


def test_marked_mail_goes_to_junk(p):
    p.deliver(CLEAN, 'ann')
    with Imap(p, 'ann') as imap:
        assert set(imap.uses()) == {'INBOX'}
    p.deliver(MARKED, 'ann', 'bob')
    for name in 'ann', 'bob':
        with Imap(p, name) as imap:
            assert {'\\Junk', '\\Subscribed'} <= imap.uses()['Junk']
            assert imap.count('Junk') == 1
            assert imap.count('INBOX') == (1 if name == 'ann' else 0)
            imap.select('Junk')
            assert imap.fetch('1', 'BODY.PEEK[]')[1][0][1].endswith(MARKED)
    with p.pop3('ann') as pop:
        assert pop.stat()[0] == 1
    assert re.search(rb'\blmtp_copies_junk_total\W+2\b', p.run('stats').stdout)


def test_the_folder_that_has_the_use(p):
    with Imap(p, 'own') as imap:
        imap._simple_command('CREATE', '"M&APw-ll"', '(USE (\\Junk))')
        p.deliver(MARKED, 'own')
        assert set(imap.uses()) == {'INBOX', 'M&APw-ll'}
        assert imap.count('M&APw-ll') == 1


def test_many_at_once_make_one_folder(p):
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: p.deliver(MARKED, 'all'), range(24)))
    with Imap(p, 'all') as imap:
        assert sorted(imap.uses()) == ['INBOX', 'Junk']
        assert (imap.count('Junk'), imap.count('INBOX')) == (24, 0)


def test_not_where_it_is_not_wanted(p):
    """A tenant's and an account's setting; without IMAP nobody would find it."""
    def inbox_takes(name, before):
        p.deliver(MARKED, name)
        with p.pop3(name) as pop:
            assert pop.stat()[0] > before

    p.run('account', 'set', p.address('pop'), 'imap=no')
    settled(lambda: inbox_takes('pop', 0), 5)
    p.run('tenant', 'set', 'demo', 'junk=no')
    settled(lambda: inbox_takes('eve', 0), 5)
    p.run('account', 'set', p.address('eve'), 'junk=yes')

    def junk_takes():
        p.deliver(MARKED, 'eve')
        with Imap(p, 'eve') as imap:
            assert imap.count('Junk')
    settled(junk_takes, 5)
    p.run('tenant', 'set', 'demo', 'junk=default')


def test_by_default_nothing_is_marked(tmp_path):
    with Penfold(tmp_path) as p:
        p.deliver(MARKED, 'ann')
        with p.pop3('ann') as pop:
            assert pop.stat()[0] == 1
    (tmp_path / 'bad').mkdir()
    bad = Penfold(tmp_path / 'bad', extra='lmtp: { junk_header: "X Spam: Yes" }\n')
    r = bad.run('config', 'check', check=False)
    assert r.returncode and b'lmtp.junk_header' in r.stderr + r.stdout
