# SPDX-License-Identifier: Apache-2.0
"""Structures made at delivery: what is answered without reading a message, and what when none was stored."""
import base64
import glob
import imaplib
import os
import random
import re
import socket

import pytest

from penfold import PASSWORD, Penfold

MARK = b'a-word-that-stands-in-the-body-alone'


@pytest.fixture
def server(tmp_path):
    with Penfold(tmp_path) as p:
        yield p


def login(p, name='ann'):
    m = imaplib.IMAP4('127.0.0.1', p.imap_port)
    m.login(p.address(name), PASSWORD)
    m.select()
    return m


def digest(parts):
    return (b'From: lists@example.org\r\nSubject: digest\r\nContent-Type: multipart/digest; boundary=b\r\n\r\n'
            + b''.join(b'--b\r\n\r\nFrom: %d@example.org\r\nSubject: number %d\r\n\r\ntext %d\r\n' % (n, n, n) for n in range(parts))
            + b'--b\r\nContent-Type: text/plain\r\n\r\nthe last words\r\n--b--\r\n')


def flatten(data):
    return b''.join(b''.join(d) if isinstance(d, tuple) else d for d in data if d)


def damage(p):
    """Changes a byte of the stored message's text, behind the server's back."""
    hit = 0
    for name in glob.glob(os.path.join(p.data, '**', 'L.*'), recursive=True):
        with open(name, 'r+b') as f:
            at = f.read().rfind(MARK)  # the first is in the preview
            if at >= 0:
                f.seek(at)
                f.write(b'A')
                hit += 1
    assert hit == 1


def test_bytes_are_not_read_for_what_was_noted(server):
    """A message whose text is damaged cannot be read; all that its structure tells is told."""
    server.deliver(b'From: Ann <ann@remote.example>\r\nTo: bob@remote.example\r\nSubject: Re: apples\r\nDate: Tue, 14 Jan 2025 09:30:00 +0000\r\n'
                   b'Message-ID: <1@remote.example>\r\n\r\n' + MARK + b'\r\n', 'ann')
    damage(server)
    m = login(server)
    assert m.fetch('1', '(BODY.PEEK[])')[0] == 'NO'
    for item, want in (('ENVELOPE', b'"Re: apples"'), ('BODYSTRUCTURE', b'"text" "plain"'), ('BODY', b'"text" "plain"'), ('PREVIEW', b'PREVIEW "%s"' % MARK),
                       ('BODY.PEEK[HEADER.FIELDS (SUBJECT DATE)]', b'Subject: Re: apples\r\nDate: Tue'), ('BINARY.SIZE[1]', b'BINARY.SIZE[1] 38'),
                       ('RFC822.SIZE', b'RFC822.SIZE'), ('INTERNALDATE', b'INTERNALDATE')):
        typ, data = m.fetch('1', f'({item})')
        assert typ == 'OK' and want in flatten(data), (item, data)
    for keys in ('SUBJECT apples', 'FROM ann', 'TO bob', 'SENTON 14-Jan-2025', 'SENTBEFORE 15-Jan-2025', 'HEADER message-id "1@"', 'NOT CC x',
                 'OR SUBJECT pears SENTSINCE 1-Jan-2025', 'SINCE 1-Jan-2025 SUBJECT re'):
        assert m.search(None, *keys.split(' ')) == ('OK', [b'1']), keys
    assert m.search(None, 'SUBJECT', 'pears') == ('OK', [b''])
    assert m.sort('(SUBJECT DATE FROM TO CC DISPLAYFROM ARRIVAL SIZE)', 'UTF-8', 'ALL') == ('OK', [b'1'])
    for how in ('REFERENCES', 'ORDEREDSUBJECT', 'REFS'):
        assert m.thread(how, 'UTF-8', 'ALL') == ('OK', [b'(1)'])
    assert m.search(None, 'HEADER', 'X-Other', 'y')[0] == 'NO'  # of a field that is not kept: the header must be read
    m.logout()


def test_one_too_large_to_be_noted_is_read(server):
    server.deliver(digest(490), 'ann')
    m = login(server)
    assert m.fetch('1', '(PREVIEW (LAZY))') == ('OK', [b'1 (PREVIEW NIL)'])
    assert m.search(None, 'SUBJECT', 'digest') == ('OK', [b'1'])
    assert m.fetch('1', '(PREVIEW)') == ('OK', [b'1 (PREVIEW "the last words")'])
    assert m.fetch('1', '(PREVIEW (LAZY))') == ('OK', [b'1 (PREVIEW "the last words")'])  # it is remembered now
    structure = flatten(m.fetch('1', '(BODYSTRUCTURE)')[1])
    assert len(re.findall(rb'"number \d+"', structure)) == 490
    assert flatten(m.fetch('1', '(BODY.PEEK[490.HEADER])')[1]).count(b'number 489') == 1
    m.logout()


def test_a_header_too_large_to_be_kept_is_searched_whole(server):
    """Fields above their bound are cut off in the structure; SEARCH and HEADER.FIELDS see all of them."""
    many = b','.join(b'\r\n %d@example.org' % n for n in range(6000))
    server.deliver(b'From: ann@remote.example\r\nTo:' + many + b'\r\nSubject: behind it\r\n\r\ntext\r\n', 'ann')
    m = login(server)
    assert m.search(None, 'TO', '"5999@example"') == ('OK', [b'1'])
    assert m.search(None, 'SUBJECT', 'behind') == ('OK', [b'1'])
    assert m.search(None, 'NOT', 'SUBJECT', 'before') == ('OK', [b'1'])
    data = flatten(m.fetch('1', '(BODY.PEEK[HEADER.FIELDS (TO SUBJECT)])')[1])
    assert b'5999@example.org\r\nSubject: behind it\r\n\r\n' in data
    m.logout()


# ---- stored and made anew: the same answers ----

PADDING = b''.join(b'--b\r\nContent-Type: application/x-none; name="%s"\r\n\r\n\r\n' % (b'%04d' % n * 20) for n in range(420))
NAMES = ['Ann Example', 'Jürgen Müller', '山田太郎', 'Zoë "Z" Q.', '']
WORDS = ['apples', 'Birnen', 'größe', 'ÄPFEL', '日本語', 'Ωmega', 'plum', 'straße', '[list]', 'Re:', 'fwd:', '(fwd)']


def word(rng, text):
    """As mailers write it: encoded in some charset, raw, or as it is."""
    how, charset = rng.randrange(4), rng.choice(['utf-8', 'utf-8', 'iso-8859-1', 'windows-1252', 'iso-2022-jp', 'koi8-u'])
    try:
        raw = text.encode(charset)
    except UnicodeError:
        charset, raw = 'utf-8', text.encode()
    if how == 0:
        return b'=?%s?B?%s?=' % (charset.encode(), base64.b64encode(raw))
    if how == 1:
        return b'=?%s?q?%s?=' % (charset.upper().encode(), b''.join(b'=%02X' % b if b != 32 else b'_' for b in raw))
    return text.encode() if how == 2 or not text.isascii() else raw


def people(rng):
    one = [b'%s <%s@example.%s>' % (word(rng, rng.choice(NAMES)), rng.choice([b'ann', b'Bob', b'zoe', b'"q uote"']), rng.choice([b'org', b'net']))
           for _ in range(rng.choice([1, 1, 2, 5]))]
    kind = rng.randrange(8)
    return b'bare@example.org (a comment)' if kind == 0 else b'friends: ' + b', '.join(one) + b';' if kind == 1 else b',\r\n '.join(one)


def header(rng, n):
    lines = []
    for name in rng.sample([b'From', b'To', b'Cc', b'Bcc', b'Reply-To', b'Sender'], rng.randrange(1, 7)):
        lines.append(rng.choice([name, name.lower(), name.upper()]) + b': ' + people(rng))
    if rng.random() < .9:
        lines.append(b'Subject:' + rng.choice([b' ', b'', b'\r\n ']) + rng.choice([b' ', b'\r\n\t']).join(word(rng, w) for w in rng.choices(WORDS, k=rng.randrange(1, 6))))
    if rng.random() < .8:
        lines.append(rng.choice([b'Date: %d Mar 2024 23:%02d:00 %+05d', b'Date: Fri, %d mar 24 1:%02d %+05d', b'Date: March %d (%d:%d)'])
                     % (rng.randrange(1, 29), rng.randrange(60), rng.choice([0, 100, -1100])))
    lines.append(b'Message-ID: <%d@x>' % n)
    if n and rng.random() < .6:
        lines.append(rng.choice([b'References', b'In-Reply-To']) + b': ' + b'\r\n '.join(b'<%d@x>' % rng.randrange(n) for _ in range(rng.randrange(1, 4))))
    lines += [b'X-Other: ' + word(rng, rng.choice(WORDS)), b'MIME-Version: 1.0', b'Content-Type: multipart/mixed; boundary=b']
    return b'\r\n'.join(lines[:-2] if rng.random() < .5 else rng.sample(lines[:-2], len(lines) - 2)) + b'\r\n' + b'\r\n'.join(lines[-2:])


def questions(rng):
    some = rng.choice(WORDS + ['example.org', 'zoe@', 'Jürgen', '山', 'q uote'])
    quoted = b'"' + some.encode() + b'"'
    key = rng.choice([b'SUBJECT ' + quoted, b'FROM ' + quoted, b'TO ' + quoted, b'CC ' + quoted, b'BCC ' + quoted, b'HEADER Reply-To ' + quoted,
                      b'HEADER references "<3@x>"', b'HEADER Message-Id 5', b'HEADER X-Other ' + quoted, b'TEXT ' + quoted, b'SENTON %d-Mar-2024' % rng.randrange(1, 29),
                      b'SENTBEFORE 15-Mar-2024', b'SENTSINCE 9-Mar-2024', b'HEADER Date ""', b'BODY hello'])
    return key if rng.random() < .5 else rng.choice([b'NOT ', b'OR SEEN ', b'OR FROM ann ', b'SUBJECT e ']) + key


def test_stored_and_made_anew_are_the_same(server):
    """Two accounts get the same headers and texts; in one the structures are too large to be stored, so that each is made when it is asked for."""
    seed = int(os.environ.get('PENFOLD_SEED', random.randrange(1 << 30)))
    rng = random.Random(seed)
    server.add_account('bob')
    m, k = login(server), login(server, 'bob')
    for c in (m, k):
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for n in range(60):
        head, text = header(rng, n), b'--b\r\n\r\nHello, %s\r\n' % rng.choice(WORDS).encode()
        for c, more in ((m, b''), (k, PADDING)):  # of one internal date: what has no Date is sorted by that
            c.append('INBOX', None, f'"14-Jan-2025 10:{n:02d}:00 +0000"', head + b'\r\n\r\n' + text + more + b'--b--\r\n')
    m.noop()
    k.noop()
    assert k.fetch('7', '(PREVIEW (LAZY))') == ('OK', [b'7 (PREVIEW NIL)'])
    assert m.fetch('7', '(PREVIEW (LAZY))') != ('OK', [b'7 (PREVIEW NIL)'])

    def both(ask, what):
        a, b = ask(m), ask(k)
        assert a == b and a[0] == 'OK', (seed, what, a, b)
        return a
    for n in range(1, 61):
        both(lambda c: c.fetch(str(n), '(ENVELOPE PREVIEW BODY.PEEK[HEADER.FIELDS (FROM TO CC BCC SUBJECT DATE MESSAGE-ID REFERENCES)])'), n)
    found = 0
    for _ in range(40):
        keys = questions(rng)
        found += len(both(lambda c: c.search('UTF-8', keys), keys)[1][0].split())
    assert found > 100, seed
    for _ in range(12):
        by = ' '.join(rng.choice(['', 'REVERSE ']) + c for c in rng.sample(['SUBJECT', 'FROM', 'TO', 'CC', 'DATE', 'DISPLAYFROM', 'DISPLAYTO'], rng.randrange(1, 5)))
        both(lambda c: c.sort(f'({by})', 'UTF-8', 'ALL'), by)
    for how in ('REFERENCES', 'ORDEREDSUBJECT', 'REFS'):
        both(lambda c: c.thread(how, 'UTF-8', 'ALL'), how)
    m.logout()
    k.logout()
