# SPDX-License-Identifier: Apache-2.0
"""SEARCH and SORT against a naive model over generated messages."""
import base64
import imaplib
import random

import pytest

from penfold import PASSWORD, Penfold

WORDS = ['apple', 'Birne', 'größe', 'quince', 'ÄPFEL', 'Ωmega', 'plum', 'straße']
COUNT = 150


def fold(text):
    import unicodedata
    return ''.join(unicodedata.normalize('NFKD', c.title() if len(c.title()) == 1 else c) for c in text)


class Message:
    def __init__(self, rng, n):
        self.n, self.subject, self.day = n, ' '.join(rng.sample(WORDS, 2)), rng.randrange(1, 29)
        self.sender, self.text = f'{rng.choice(["ann", "bob", "zoe"])}{n % 7}', ' '.join(rng.choice(WORDS) for _ in range(rng.randrange(0, 2000)))
        self.flags = {f for f in ('\\Seen', '\\Flagged', 'work') if rng.random() < 0.4}
        charset, how = rng.choice(['utf-8', 'utf-16']), rng.choice(['base64', 'quoted'])
        if how == 'quoted':
            charset = 'utf-8'
            body = ''.join('=%02X' % b + ('=\r\n' if i % 25 == 24 else '') for i, b in enumerate(self.text.encode())).encode()
        else:
            body = base64.encodebytes(self.text.encode(charset)).replace(b'\n', b'\r\n')
        cte = 'base64' if how == 'base64' else 'quoted-printable'
        subject = '=?utf-8?B?' + base64.b64encode(self.subject.encode()).decode() + '?='
        self.bytes = (f'From: {self.sender}@remote.example\r\nSubject: {subject}\r\nDate: {self.day} Mar 2024 23:59:00 -1100\r\nMIME-Version: 1.0\r\n'
                      f'Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {cte}\r\n\r\n').encode() + body


def key(rng, depth=0):
    """A search key and the same as a function of the model."""
    kind = rng.randrange(10 if depth < 4 else 7)
    word = rng.choice(WORDS)[rng.randrange(2):]
    if kind == 0:
        return f'SUBJECT "{word}"', lambda m: fold(word) in fold(m.subject)
    if kind == 1:
        return f'BODY "{word}"', lambda m: fold(word) in fold(m.text)
    if kind == 2:
        return 'FROM "ANN3@"', lambda m: m.sender == 'ann3'
    if kind == 3:
        day = rng.randrange(1, 29)
        return rng.choice([(f'SENTON {day}-Mar-2024', lambda m: m.day == day), (f'SENTBEFORE {day}-Mar-2024', lambda m: m.day < day),
                           (f'SENTSINCE "{day}-Mar-2024"', lambda m: m.day >= day)])
    if kind == 4:
        size = rng.randrange(0, 20000)
        return rng.choice([(f'LARGER {size}', lambda m: len(m.bytes) > size), (f'SMALLER {size}', lambda m: len(m.bytes) < size)])
    if kind == 5:
        return rng.choice([('SEEN', lambda m: '\\Seen' in m.flags), ('UNFLAGGED', lambda m: '\\Flagged' not in m.flags),
                           ('KEYWORD WORK', lambda m: 'work' in m.flags)])
    if kind == 6:
        a, b = sorted((rng.randrange(1, COUNT + 1), rng.randrange(1, COUNT + 1)))
        return f'{b}:{a}', lambda m: a <= m.n <= b
    (x, f), (y, g) = key(rng, depth + 1), key(rng, depth + 1)
    return [(f'NOT {x}', lambda m: not f(m)), (f'OR {x} {y}', lambda m: f(m) or g(m)), (f'({x} {y})', lambda m: f(m) and g(m))][kind - 7]


def test_model(tmp_path):
    rng = random.Random(6)
    with Penfold(tmp_path) as server:
        c = imaplib.IMAP4('127.0.0.1', server.imap_port)
        c.login(server.address('ann'), PASSWORD)
        c._encoding = 'utf-8'
        messages = [Message(rng, n) for n in range(1, COUNT + 1)]
        for m in messages:
            m.bytes += b'' if m.bytes.endswith(b'\r\n') else b'\r\n'
            assert c.append('INBOX', '(' + ' '.join(m.flags) + ')', None, m.bytes)[0] == 'OK'
        c.select()
        for _ in range(300):
            text, matches = key(rng)
            status, (got,) = c.search('UTF-8', text)
            assert status == 'OK', (text, got)
            assert [int(x) for x in got.split()] == [m.n for m in messages if matches(m)], text
        for criteria, by in (('SIZE', lambda m: len(m.bytes)), ('REVERSE DATE', lambda m: -m.day), ('FROM SUBJECT', lambda m: (fold(m.sender), fold(m.subject).encode()))):
            status, (got,) = c.sort(f'({criteria})', 'UTF-8', 'ALL')
            assert [int(x) for x in got.split()] == [m.n for m in sorted(messages, key=by)], criteria
        c.logout()
