# SPDX-License-Identifier: Apache-2.0
"""Open sessions of accounts that may not be here any more: suspended, removed, protocol off, another password."""
import poplib
import sqlite3

import pytest

from penfold import PASSWORD, Penfold, settled

MESSAGE = b'Subject: x\r\n\r\nhello\r\n'


EVE = 'eve@other.example'


@pytest.fixture
def served(tmp_path):
    with Penfold(tmp_path, accounts=('ann', 'bob')) as p:
        p.run('tenant', 'add', 'other')
        p.run('domain', 'add', 'other.example', '--tenant', 'other')
        p.add_account(EVE)
        yield p


def by_hand(p, sql):
    db = sqlite3.connect(f'{p.data}/directory.db', timeout=10)
    with db:
        db.execute(sql)
    db.close()


def last_words(c):
    """What comes without a question, up to the end."""
    c.pop.sock.settimeout(20)
    line = c.pop.file.readline()
    assert c.pop.file.readline() == b''
    c.close()
    return line


def is_alive(c):
    return c.pop.noop().startswith(b'+OK')


def logged(p, words):
    def check():
        assert words in p.log()
    settled(check, 10)


@pytest.mark.parametrize('how', ['verb', 'by hand', 'account'])
def test_suspension_ends_sessions_without_update(served, how):
    p = served
    p.deliver(MESSAGE, EVE)
    c, ann = p.pop3(EVE), p.pop3('ann')
    c.dele(1)
    if how == 'verb':
        p.run('tenant', 'suspend', 'other')
    elif how == 'by hand':
        by_hand(p, "UPDATE tenants SET suspended = 1 WHERE name = 'other'")
    else:
        by_hand(p, "UPDATE accounts SET suspended = 1 WHERE local_part = 'eve'")
    words = last_words(c)
    assert words.startswith(b'-ERR [AUTH] ') and b'nothing was deleted' in words
    with pytest.raises(poplib.error_proto, match='AUTH'):
        p.pop3(EVE)
    assert is_alive(ann)
    ann.quit()
    by_hand(p, 'UPDATE tenants SET suspended = NULL')
    by_hand(p, 'UPDATE accounts SET suspended = NULL')

    def back():
        c = p.pop3(EVE)
        assert c.stat()[0] == 1  # without update
        c.quit()
    settled(back, 10)
    logged(p, 'reason=suspended')


def test_a_removed_account_and_a_protocol_taken_away(served):
    p = served
    c, ann, bob = p.pop3(EVE), p.pop3('ann'), p.pop3('bob')
    p.run('account', 'remove', EVE)
    assert last_words(c).startswith(b'-ERR [AUTH] ')
    by_hand(p, "UPDATE accounts SET pop3 = 0 WHERE local_part = 'bob'")
    assert last_words(bob).startswith(b'-ERR [AUTH] ')
    assert is_alive(ann)


def test_another_password_ends_sessions_where_the_tenant_asks(served):
    p = served
    p.run('tenant', 'set', 'other', 'end_on_password_change=yes')
    c, ann = p.pop3(EVE), p.pop3('ann')
    p.run('account', 'password', p.address('ann'), '--password-stdin', stdin=b'changed1\n')
    p.run('account', 'password', EVE, '--password-stdin', stdin=b'changed2\n')
    assert last_words(c).startswith(b'-ERR [AUTH] ')
    assert is_alive(ann)  # its tenant does not ask
    again = p.pop3(EVE, 'changed2')
    bob = p.pop3('bob')
    by_hand(p, "UPDATE accounts SET suspended = 1 WHERE local_part = 'bob'")
    last_words(bob)  # so all were looked at, and nothing had changed for her
    assert is_alive(again)


def test_a_login_that_is_being_proved_while_its_account_is_suspended(tmp_path):
    """The suspension comes while the password is being looked at: whichever is first, nobody stays in."""
    with Penfold(tmp_path, accounts=('ann',)) as p:
        for _ in range(3):
            with p.raw() as slow:
                slow.settimeout(60)
                slow.recv(200)
                slow.sendall(b'USER ann@demo.example\r\nPASS ' + PASSWORD.encode() + b'\r\n')
                by_hand(p, 'UPDATE accounts SET suspended = 1')
                got = b''
                while b'-ERR' not in got:
                    part = slow.recv(4096)
                    assert part, got  # in, or not: but never in for long
                    got += part
                assert b'[AUTH]' in got
            by_hand(p, 'UPDATE accounts SET suspended = NULL')
            settled(lambda: p.pop3('ann').quit(), 10)


def test_imap_sessions_are_told_too(served):
    """At rest, in IDLE, and with a folder selected; the other tenant's stay."""
    p = served

    def come(name):
        s = p.raw(p.imap_port)
        s.settimeout(20)
        f = s.makefile('rb')
        f.readline()
        s.sendall(b'a LOGIN ' + p.address(name).encode() + b' "' + PASSWORD.encode() + b'"\r\n')
        assert f.readline().startswith(b'a OK')
        return s, f
    idle, selected, resting, ann = come(EVE), come(EVE), come(EVE), come('ann')
    selected[0].sendall(b'b SELECT INBOX\r\n')
    idle[0].sendall(b'b SELECT INBOX\r\nc IDLE\r\n')
    for s, f in (selected, idle):
        while not f.readline().startswith(b'b OK'):
            pass
    assert idle[1].readline().startswith(b'+')
    p.run('tenant', 'suspend', 'other')
    for s, f in (idle, selected, resting):
        assert f.readline().startswith(b'* BYE [AUTHORIZATIONFAILED] ')
        assert f.readline() == b''
    ann[0].sendall(b'd NOOP\r\n')
    assert ann[1].readline().startswith(b'd OK')
    s, f = ann
    by_hand(p, "UPDATE accounts SET imap = 0 WHERE local_part = 'ann'")
    assert f.readline().startswith(b'* BYE [AUTHORIZATIONFAILED] ')
    used = {u['tenant']: u for u in p.json('stats', '--tenants')['tenants']}
    assert used['other']['sessions'] == 3 and used['demo']['sessions'] == 1 and used['other']['bytes_out'] > 500
