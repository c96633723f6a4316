# SPDX-License-Identifier: Apache-2.0
"""IMAP among the house's rules: the roster, limits, the defence against guessing, owners in a fleet."""
import json
import socket
import time

import pytest

from fleet import Fleet, wait_until
from penfold import PASSWORD, Penfold, settled
from test_imap import Wire

HOUSE = 'limits: { exempt: [], sessions_per_account: 2, failures_free: 2, login_failures_free: 2, delay_first_ms: 150, delay_ms_max: 400 }'


@pytest.fixture(scope='module')
def house(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('house'), accounts=('ann', 'bob', 'cid'), extra=HOUSE) as p:
        yield p


def raw(p):
    s = socket.create_connection(('127.0.0.1', p.imap_port), 20)
    f = s.makefile('rb')
    assert f.readline().startswith(b'* OK')
    return s, f


def login(p, name, password):
    """The tagged answer, and how long it took."""
    s, f = raw(p)
    with s, f:
        began = time.monotonic()
        s.sendall(f'a LOGIN {p.address(name)} "{password}"\r\n'.encode())
        return f.readline(), time.monotonic() - began


def test_sessions_are_listed_and_kicked(house):
    idle, other = Wire(house, 'ann'), Wire(house, 'bob')
    idle.send('IDLE')
    assert idle.line().startswith(b'+')
    def states():
        sessions = json.loads(house.run('who', '--json').stdout)['sessions']
        assert sorted((s['protocol'], s['state'], s['account']) for s in sessions) == [
            ('imap', 'idle', 'ann@demo.example'), ('imap', 'selected', 'bob@demo.example')]
    settled(states, 10)
    house.run('kick', '--account', 'ann@demo.example', '--reason', 'test')
    assert idle.f.readline().startswith(b'* BYE ') and idle.f.readline() == b''
    other.ok('NOOP')
    other.ok('LOGOUT')


def test_too_many_sessions_of_an_account(house):
    one, two = Wire(house, 'bob'), Wire(house, 'bob')
    answer, _ = login(house, 'bob', PASSWORD)
    assert answer.startswith(b'a NO [LIMIT] ') and b'account' in answer and b'wait' in answer
    one.ok('LOGOUT')
    def free():
        assert login(house, 'bob', PASSWORD)[0].startswith(b'a OK')
    settled(free, 10)
    two.ok('LOGOUT')


def test_guesses_wait_and_why_tells(house):
    """Behind the free ones a wrong password waits, whether LOGIN or AUTHENTICATE brings it; nothing else of the session is lost."""
    took = [login(house, 'cid', f'guess {i}') for i in range(5)]
    assert all(a.startswith(b'a NO [AUTHENTICATIONFAILED]') for a, _ in took), took
    assert took[-1][1] >= 0.15 and took[-1][1] > took[0][1]
    why = json.loads(house.run('why', house.address('cid'), '--json').stdout)['decisions']
    assert {d['protocol'] for d in why} == {'imap'}
    assert 'delayed' in {d['decision'] for d in why} and 'refused' in {d['decision'] for d in why}
    s, f = raw(house)
    with s, f:
        began = time.monotonic()
        s.sendall(b'a AUTHENTICATE PLAIN AGNpZEBkZW1vLmV4YW1wbGUAbm8=\r\nb NOOP\r\n')  # cid@demo.example, no
        assert f.readline().startswith(b'a NO ') and time.monotonic() - began >= 0.15
        assert f.readline().startswith(b'b OK')


def test_an_owner_keeps_an_account_while_imap_is_there(tmp_path):
    """A session in IDLE holds its account on its node; when it goes, the account may."""
    with Fleet(tmp_path, nodes=2, accounts=('ann', 'bob')) as fleet:
        one = wait_until(lambda: came(fleet[0]))
        assert fleet.redis.hash('pf:a:{1}')['own'].startswith('n1/')
        fleet[0].deliver(b'Subject: x\r\n\r\nhello\r\n', 'ann')
        one.ok('NOOP')
        one.ok('LOGOUT')
        two = wait_until(lambda: came(fleet[1]))
        assert two.ok('STATUS INBOX (MESSAGES)')[0].endswith(b'(MESSAGES 1)')
        assert fleet.redis.hash('pf:a:{1}')['own'].startswith('n2/')
        two.ok('LOGOUT')


def came(node):
    try:
        return Wire(node, 'ann')
    except AssertionError:
        return None
