# SPDX-License-Identifier: Apache-2.0
"""POP3 from outside: the session lock, the snapshot, deletion, pipelining, strange sockets."""
import poplib
import re
import socket
import struct
import threading
import time

import pytest

from penfold import DOMAIN, PASSWORD, Penfold, read_all

MESSAGE = b'Subject: one\r\n\r\nbody\r\n'
LOGIN = f'USER ann@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode()


def test_second_session_is_refused_at_once(penfold):
    with penfold.pop3('ann'):
        began = time.time()
        with pytest.raises(poplib.error_proto, match=r'\[IN-USE\]'):
            penfold.pop3('ann')
        assert time.time() - began < 2
    with penfold.pop3('ann'):
        pass


def test_mail_arrives_while_the_maildrop_is_held(penfold):
    penfold.deliver(MESSAGE, 'ann')
    with penfold.pop3('ann') as pop:
        assert pop.stat()[0] == 1
        penfold.deliver(MESSAGE, 'ann')
        assert pop.stat()[0] == 1
        assert len(pop.uidl()) == 1
        pop.dele(1)
    with penfold.pop3('ann') as pop:
        assert pop.stat()[0] == 1


def test_deletion_needs_quit(penfold):
    penfold.deliver(MESSAGE, 'ann')
    pop = penfold.pop3('ann')
    pop.dele(1)
    pop.close()
    for _ in range(100):
        try:
            with penfold.pop3('ann') as pop:
                assert pop.stat()[0] == 1
                return
        except poplib.error_proto:
            time.sleep(0.1)
    pytest.fail('the lock of a dropped connection was not released')


def test_half_open_session_does_not_lock_its_user_out(penfold):
    """The client is gone without a word (its socket was reset): the next login succeeds within seconds."""
    s = penfold.raw()
    s.sendall(LOGIN + b'STAT\r\n')
    time.sleep(0.3)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()
    end = time.time() + 10
    while True:
        try:
            with penfold.pop3('ann'):
                return
        except poplib.error_proto:
            assert time.time() < end
            time.sleep(0.1)


SESSION = LOGIN + b'STAT\r\nLIST\r\nUIDL\r\nRETR 1\r\nTOP 2 0\r\nDELE 1\r\nRSET\r\nNOOP\r\nCAPA\r\nQUIT\r\n'


def test_whole_session_in_one_segment_and_byte_by_byte(penfold):
    penfold.deliver(b'.dot first\r\n\r\n.\r\n..\r\n', 'ann')
    penfold.deliver(MESSAGE, 'ann')
    with penfold.raw() as s:
        greeting = s.recv(1000)
        s.sendall(SESSION)
        whole = read_all(s)
    with penfold.raw() as s:
        assert s.recv(1000)[:3] == greeting[:3]
        for i in range(len(SESSION)):
            s.sendall(SESSION[i:i + 1])
        assert read_all(s) == whole
    assert whole.count(b'\r\n.\r\n') == 5
    assert b'\r\n..dot first\r\n' in whole


def test_half_closed_client_gets_all_its_replies(penfold):
    penfold.deliver(MESSAGE, 'ann')
    with penfold.raw() as s:
        s.sendall(SESSION)
        s.shutdown(socket.SHUT_WR)
        got = read_all(s).split(b'\r\n')
        assert got[-1] == b'' and got[-2].startswith(b'+OK') and len(got) > 20


def test_big_message_streams(tmp_path):
    with Penfold(tmp_path) as p:
        line = b'0123456789' * 7 + b'\r\n'
        message = b'Subject: big\r\n\r\n.first\r\n' + line * (100_000_000 // len(line)) + b'.last\r\n'
        before = rss(p)
        p.deliver(message, 'ann')
        with p.pop3('ann') as pop:
            got = pop.retr(1)
            assert pop.sizes()[0] == len(got)
            assert got.endswith(message)
        assert rss(p) - before < 40_000, 'kilobytes of memory for a message of 100 MB'


def rss(p):
    with open(f'/proc/{p.process.pid}/status') as f:
        return int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])


def test_slow_readers_hurt_nobody(tmp_path):
    """Clients that ask for much and take nothing: memory stays flat, others are served."""
    with Penfold(tmp_path, accounts=['ann'] + [f'u{i}' for i in range(40)]) as p:
        p.deliver(b'Subject: x\r\n\r\n' + b'y' * 5_000_000 + b'\r\n', *[f'u{i}' for i in range(40)], 'ann')
        before = rss(p)
        socks = []
        for i in range(40):
            s = p.raw()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.sendall(f'USER u{i}@{DOMAIN}\r\nPASS {PASSWORD}\r\n'.encode() + b'RETR 1\r\n' * 50)
            socks.append(s)
        time.sleep(1)
        began = time.time()
        with p.pop3('ann') as pop:
            assert len(pop.retr(1)) > 5_000_000
        assert time.time() - began < 5
        assert rss(p) - before < 60_000
        for s in socks:
            s.close()


def test_wrong_name_and_wrong_password_look_alike(penfold):
    def answer(user, password):
        with penfold.raw() as s:
            s.recv(1000)
            s.sendall(f'USER {user}\r\nPASS {password}\r\nQUIT\r\n'.encode())
            return read_all(s)
    assert answer(f'ann@{DOMAIN}', 'wrong') == answer(f'nobody@{DOMAIN}', 'wrong') == answer('x@elsewhere.example', 'wrong')
    assert b'[AUTH]' in answer(f'ann@{DOMAIN}', 'wrong')


BAD = [b'', b' ', b'\0', b'\xff\xfe', b'RETR -1', b'RETR 0', b'RETR 18446744073709551616', b'RETR 99999999999999999999999', b'RETR 1 2',
       b'DELE x', b'TOP 1', b'TOP 1 -1', b'TOP 0 0', b'LIST 4294967297', b'UIDL -1', b'%n%s%n%s', b'XTND', b'STAT 1 2 3', b'AUTH NOSUCH',
       b'USER again', b'A' * 1000, b'B' * 100000]


def test_bad_commands_get_an_error_and_harm_nobody(penfold):
    penfold.deliver(MESSAGE, 'ann')
    for bad in BAD:
        with penfold.raw() as s:
            s.settimeout(10)
            s.recv(1000)
            s.sendall(LOGIN + bad + b'\r\nSTAT\r\nQUIT\r\n')
            lines = read_all(s).split(b'\r\n')
            assert lines[0].startswith(b'+OK') and lines[1].startswith(b'+OK'), (bad[:30], lines)
            assert lines[2].startswith(b'-ERR') or bad.startswith(b'STAT'), (bad[:30], lines)
            assert lines[3].startswith(b'+OK 1 '), (bad[:30], lines)
