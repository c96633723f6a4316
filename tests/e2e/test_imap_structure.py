# SPDX-License-Identifier: Apache-2.0
"""Structures made at delivery: what is answered without reading a message, and what when none was stored."""
import glob
import imaplib
import os
import re

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
