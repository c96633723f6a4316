# SPDX-License-Identifier: Apache-2.0
"""SEARCH against a naive model: generated messages, random programs of keys, every answer compared."""
import random
import re

import pytest

from penfold import Penfold
from test_imap import Wire

WORDS = ['apple', 'Brücke', 'cafe', 'delta', 'Eins', 'naïve', 'zebra']
COUNT = 120


class Message:
    def __init__(self, rng, number):
        self.number = self.uid = number
        self.subject = ' '.join(rng.sample(WORDS, 2))
        self.body = ' '.join(rng.choices(WORDS, k=5))
        self.sender = rng.choice(['ann', 'bob', 'cid'])
        self.day = rng.randrange(1, 29)
        self.flags = {f for f in ('\\Seen', '\\Flagged', '\\Answered', 'Work') if rng.random() < 0.4}

    def bytes(self):
        return (f'From: {self.sender}@remote.example\r\nSubject: {self.subject}\r\nDate: {self.day} Jan 2025 12:00:00 +0000\r\n'
                f'MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n{self.body}\r\n').encode()


def key(rng, depth):
    """A search key, and what it means."""
    kind = rng.randrange(9 if depth else 6)
    word = rng.choice(WORDS)
    def literal(text):
        return f'{{{len(text.encode())}+}}\r\n{text}'
    if kind == 0:
        return f'SUBJECT {literal(word.upper())}', lambda m: word.lower() in m.subject.lower()
    if kind == 1:
        return f'BODY {literal(word)}', lambda m: word.lower() in m.body.lower()
    if kind == 2:
        flag, name = rng.choice([('\\Seen', 'SEEN'), ('\\Flagged', 'FLAGGED'), ('\\Answered', 'ANSWERED'), ('Work', 'KEYWORD Work')])
        un = rng.random() < 0.5
        return ('UN' if un else '') + name, lambda m: (flag in m.flags) != un
    if kind == 3:
        day, how = rng.randrange(1, 29), rng.choice(['SENTBEFORE', 'SENTON', 'SENTSINCE'])
        return f'{how} {day}-Jan-2025', lambda m: {'SENTBEFORE': m.day < day, 'SENTON': m.day == day, 'SENTSINCE': m.day >= day}[how]
    if kind == 4:
        who = rng.choice(['ann', 'bob', 'REMOTE', 'nobody'])
        return f'FROM {who}', lambda m: who.lower() in f'{m.sender}@remote.example'
    if kind == 5:
        a, b = sorted((rng.randrange(1, COUNT + 1), rng.randrange(1, COUNT + 1)))
        return f'{rng.choice(["", "UID "])}{a}:{b}', lambda m: a <= m.number <= b
    one, two = key(rng, depth - 1), key(rng, depth - 1)
    if kind == 6:
        return f'NOT {one[0]}', lambda m: not one[1](m)
    if kind == 7:
        return f'OR {one[0]} {two[0]}', lambda m: one[1](m) or two[1](m)
    return f'({one[0]} {two[0]})', lambda m: one[1](m) and two[1](m)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    rng = random.Random(7)
    messages = [Message(rng, i + 1) for i in range(COUNT)]
    with Penfold(tmp_path_factory.mktemp('search')) as p:
        w = Wire(p, 'ann')
        for m in messages:
            data = m.bytes()
            w.send(f'APPEND INBOX ({" ".join(sorted(m.flags))}) {{{len(data)}+}}')
            w.s.sendall(data + b'\r\n')
            _, answer = w.until(b't%d' % w.n)
            assert answer.startswith(b'OK'), answer
        w.ok('NOOP')
        yield w, messages


@pytest.mark.parametrize('seed', range(4))
def test_random_programs(folder, seed):
    w, messages = folder
    rng = random.Random(seed)
    for _ in range(60):
        text, means = key(rng, 3)
        lines, answer = w.cmd(f'SEARCH CHARSET UTF-8 {text}')
        assert answer.startswith(b'OK'), (text, answer)
        found = [int(n) for line in lines if line.startswith(b'* SEARCH') for n in line.split()[2:]]
        assert found == [m.number for m in messages if means(m)], text
        lines, answer = w.cmd(f'UID SEARCH RETURN (COUNT MIN) CHARSET UTF-8 {text}')
        count, = [int(re.search(rb'COUNT (\d+)', line)[1]) for line in lines if line.startswith(b'* ESEARCH')]
        assert count == len(found), text


def test_ten_thousand_parentheses(folder):
    """Bounded, whatever the depth; the session goes on."""
    w, _ = folder
    _, answer = w.cmd('SEARCH ' + '(' * 10000 + 'ALL' + ')' * 10000)
    assert answer.startswith((b'BAD', b'NO')), answer
    _, answer = w.cmd('SEARCH ' + 'NOT ' * 10000 + 'ALL')
    assert answer.startswith((b'BAD', b'NO', b'OK')), answer
    w.ok('NOOP')
