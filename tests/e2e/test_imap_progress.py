# SPDX-License-Identifier: Apache-2.0
"""INPROGRESS (RFC 9585): a long SEARCH, SORT or THREAD tells how far it is, a short one says nothing."""
import re

import pytest

from penfold import Penfold
from test_imap import Wire

COUNT = 3000
TOLD = re.compile(rb'\* OK \[INPROGRESS \("(t\d+)" (\d+) (\d+)\)\] (\d+)% so far')


def fill(server):
    """Some thousand messages that must be read to be judged."""
    w = Wire(server, 'ann')
    message = b'Subject: x\r\n\r\n' + b'many words to look through\r\n' * 40
    for _ in range(COUNT // 100):
        w.n += 1
        w.s.sendall(b't%d APPEND INBOX' % w.n + b''.join(b' {%d+}\r\n' % len(message) + message for _ in range(100)) + b'\r\n')
        assert w.until(b't%d' % w.n)[1].startswith(b'OK')
    w.ok('NOOP')
    return w


@pytest.mark.parametrize('command', ['SEARCH TEXT nowhere', 'SORT (SUBJECT) UTF-8 TEXT nowhere', 'THREAD REFS UTF-8 TEXT nowhere'])
def test_progress_is_told(tmp_path, command):
    with Penfold(tmp_path, extra='imap: { progress_ms: 1 }') as server:
        w = fill(server)
        tag = w.send(command)
        lines, end = w.until(tag)
        assert end.startswith(b'OK')
        told = [TOLD.fullmatch(line) for line in lines[:-1]]
        assert told and all(told), lines[:3]
        assert all(m[1] == tag and int(m[3]) == COUNT for m in told)
        done = [int(m[2]) for m in told]
        assert done == sorted(set(done)) and done[-1] < COUNT
        assert lines[-1].split()[1] == command.split()[0].encode()
        w.close()


def test_nothing_is_told_of_what_is_short(tmp_path):
    with Penfold(tmp_path, extra='imap: { progress_ms: 600000 }') as server:
        w = fill(server)
        assert w.ok('SEARCH TEXT nowhere') == [b'* SEARCH']
        w.close()
