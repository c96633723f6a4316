# SPDX-License-Identifier: Apache-2.0
"""Bad input by IMAP that a transcript cannot hold: endless nesting, literals of 2^63, sets of a million ranges, names that lead out."""
import contextlib

import pytest

from penfold import Penfold
from test_imap import Wire

HUGE = 2 ** 63
PARENS = 10000


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('bad')) as p:
        p.deliver(b'Subject: x\r\n\r\ny\r\n', 'ann')
        yield p


@pytest.fixture
def wire(server):
    w = Wire(server, 'ann')
    yield w
    w.close()


@pytest.mark.parametrize('command', [
    'STORE 1 FLAGS ', 'FETCH 1 ', 'LIST ', 'LIST "" ', 'STATUS INBOX ', 'ID ', 'SELECT INBOX ', 'CREATE x ', 'SORT ', 'THREAD ',
    'APPEND INBOX ', 'APPEND INBOX CATENATE ', 'UID REPLACE 1 INBOX ', 'SEARCH RETURN ', 'ENABLE ', 'FETCH 1 BODY[HEADER.FIELDS ',
    'UID FETCH 1 FLAGS ', 'GETQUOTA ', 'COPY 1 ', 'NOOP ', ''])
def test_ten_thousand_parentheses(wire, command):
    """BAD, and the session goes on; closed lists are no better than open ones."""
    for text in ('(' * PARENS, '(' * PARENS + ')' * PARENS):
        assert wire.cmd(command + text)[1].startswith(b'BAD'), command
    wire.ok('NOOP')


@pytest.mark.parametrize('command', ['APPEND INBOX ', 'LOGIN ', 'UID REPLACE 1 INBOX ', 'APPEND INBOX CATENATE (TEXT ', 'APPEND INBOX CATENATE (URL ',
                                     'SEARCH SUBJECT ', 'X '])
@pytest.mark.parametrize('size', [HUGE, HUGE - 1, 2 ** 64, 10 ** 30])
def test_literals_of_two_to_the_sixty_third(server, wire, command, size):
    """Who waits is refused and goes on; who does not is told BYE, because nobody can swallow so much."""
    end = wire.cmd(f'{command}{{{size}}}')[1]
    assert end.startswith((b'NO', b'BAD')) and b'TOOBIG' in end or b'BADURL' in end, end
    wire.ok('NOOP')
    wire.send(f'{command}{{{size}+}}')
    assert wire.line().startswith(b'* BYE')
    assert wire.f.readline() == b''
    again = Wire(server, 'ann')
    assert len(again.ok('FETCH 1:* UID')) == 1
    again.close()


def test_a_set_of_a_million_ranges(server, wire):
    """Longer than a line may be: BAD. As many as a line holds: taken. A line as good as endless: BAD, BYE."""
    many = ','.join(str(n) for n in range(1, 120001, 2))
    assert wire.cmd(f'UID FETCH {many} FLAGS')[1].startswith(b'BAD [TOOBIG]')
    most = ','.join(str(n) for n in range(1, 20000, 2))
    assert wire.ok(f'UID FETCH {most} (UID)') == [b'* 1 FETCH (UID 1)']
    assert wire.ok('UID FETCH ' + '1:*,' * 10000 + '1 (UID)') == [b'* 1 FETCH (UID 1)']
    assert wire.cmd('FETCH ' + ':' * 10000 + ' FLAGS')[1].startswith(b'BAD')
    assert wire.cmd('FETCH ' + '9' * 10000 + ' FLAGS')[1].startswith(b'BAD')
    million = ','.join(str(n) for n in range(1, 2000001, 2))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        wire.send(f'UID FETCH {million} FLAGS')
    assert wire.line() == b't%d BAD [TOOBIG] the line is too long' % wire.n
    assert wire.line() == b'* BYE the line has no end'
    assert wire.f.readline() == b''


NAMES = ['..', '.', '../x', 'a/../b', 'a/./b', 'a//b', '/a', '//', '/', 'INBOX/..', '&AC4ALg-', '&AC4ALg-/x', 'a&AC8-b&-&', '&AAA-', 'a&AAA-b',
         '&AAoACg-', '&2AA-', '&AC8-', '&ACo-', 'a%', '*', '\x7f', 'a' * 1001, '/'.join(['..'] * 100)]


@pytest.mark.parametrize('name', NAMES)
def test_names_that_lead_out(wire, name):
    """None can be made, renamed to or appended to; NO or BAD, never a folder and never the end of the session."""
    before = wire.ok('LIST "" *')
    for command in ('CREATE "%s"', 'RENAME INBOX "%s"', 'SUBSCRIBE "%s"', 'SELECT "%s"', 'STATUS "%s" (MESSAGES)', 'COPY 1 "%s"', 'DELETE "%s"',
                    'APPEND "%s" CATENATE (URL ";UID=1")', 'UID REPLACE 1 "%s" CATENATE (URL ";UID=1")'):
        end = wire.cmd(command % name)[1]
        assert end.startswith((b'NO', b'BAD')), (command, end)
        if command.startswith('SELECT'):
            wire.ok('SELECT INBOX')
    wire.s.sendall(b'n LIST "" *\r\n')
    assert wire.until(b'n')[0] == before


def test_bytes_of_every_kind(wire):
    """Each byte in a tag, a command, an atom, a quoted string: an answer to each line, and the session lives as long as it may."""
    for byte in range(256):
        if byte in (10, 13):
            continue
        c = bytes([byte])
        for line in (b'x' + c + b' NOOP', b'x NO' + c + b'OP', b'x STATUS IN' + c + b'BOX (MESSAGES)', b'x STATUS "IN' + c + b'BOX" (MESSAGES)'):
            wire.s.sendall(line + b'\r\nz NOOP\r\n')
            lines = wire.until(b'z')
            assert lines[1].startswith(b'OK'), line
            assert len(lines[0]) >= 1, line
