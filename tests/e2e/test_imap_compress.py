# SPDX-License-Identifier: Apache-2.0
"""COMPRESS=DEFLATE (RFC 4978) by zlib's own client: in the clear and under TLS, at any cut, with what a client should not send."""
import os
import socket
import zlib

import pytest

from penfold import PASSWORD, Memory, settled
from tls import TlsPenfold, trusting

TEXT = b'Subject: compressible %d\r\n\r\n' + b'the same words again and again, \r\n' * 3000
NOISE = b'Subject: noise\r\n\r\n' + os.urandom(150000).hex().encode() + b'\r\n'


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with TlsPenfold(tmp_path_factory.mktemp('zip'), accounts=('ann', 'bob', 'cid', 'dan', 'eve', 'fay')) as p:
        yield p


class Zip:
    """A session whose bytes are DEFLATE once compress() was called; `cut`: how many bytes a send has."""

    def __init__(self, server, name, tls=False, cut=None, select=True):
        self.s = socket.create_connection(('127.0.0.1', server.imaps_port if tls else server.imap_port), 30)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.s = trusting().wrap_socket(self.s)
        self.cut, self.out, self.into, self.buffer, self.n, self.raw, self.sent = cut, None, None, b'', 0, 0, 0
        self.line()
        self.greeted = self.ok(f'LOGIN {server.address(name)} "{PASSWORD}"', tagged=True)
        if select:
            self.ok('SELECT INBOX')

    def send_raw(self, data):
        self.sent += len(data)
        for at in range(0, len(data), self.cut or len(data)):
            self.s.sendall(data[at:at + (self.cut or len(data))])

    def send(self, data):
        self.send_raw(self.out.compress(data) + self.out.flush(zlib.Z_SYNC_FLUSH) if self.out else data)

    def more(self):
        data = self.s.recv(65536)
        self.raw += len(data)
        self.buffer += self.into.decompress(data) if self.into else data
        return bool(data)

    def read(self, count):
        while len(self.buffer) < count:
            assert self.more(), 'closed'
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def line(self):
        while b'\r\n' not in self.buffer:
            assert self.more(), 'closed'
        line, self.buffer = self.buffer.split(b'\r\n', 1)
        return line

    def until(self, tag):
        """Untagged lines with their literals, and the tagged one."""
        lines = []
        while True:
            line = self.line()
            if line.startswith(tag + b' '):
                return lines, line[len(tag) + 1:]
            while line.endswith(b'}'):
                line += self.read(int(line[line.rindex(b'{') + 1:-1])) + self.line()
            lines.append(line)

    def cmd(self, text, literal=b''):
        self.n += 1
        self.send(b't%d ' % self.n + text.encode() + b'\r\n' + (literal + b'\r\n' if literal else b''))
        return self.until(b't%d' % self.n)

    def ok(self, text, literal=b'', tagged=False):
        lines, end = self.cmd(text, literal)
        assert end.startswith(b'OK'), (text, end)
        return end if tagged else lines

    def begin(self):
        self.out, self.into = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)
        assert not self.buffer
        return self

    def compress(self):
        self.ok('COMPRESS DEFLATE')
        return self.begin()

    def closed(self):
        while self.more():
            pass
        self.s.close()


@pytest.mark.parametrize('tls', [False, True])
@pytest.mark.parametrize('cut', [None, 1])
def test_all_bytes_are_the_same(server, tls, cut):
    name = ['ann', 'bob', 'cid', 'dan'][2 * tls + bool(cut)]
    for i in range(3):
        server.deliver(TEXT % i, name)
    server.deliver(NOISE, name)
    plain, zipped = Zip(server, name), Zip(server, name, tls, cut)
    assert b'COMPRESS=DEFLATE' in zipped.greeted
    zipped.compress()
    assert b'COMPRESS' not in zipped.ok('CAPABILITY')[0]
    assert zipped.cmd('COMPRESS DEFLATE')[1] == b'BAD DEFLATE is on already'
    before = zipped.raw, plain.raw
    for what in ('UID FETCH 1:3 (FLAGS BODY.PEEK[])', 'FETCH 1:* (ENVELOPE BODYSTRUCTURE UID)', 'UID FETCH 4 BODY.PEEK[]', 'FETCH 2 BODY.PEEK[TEXT]<7.90000>'):
        assert zipped.ok(what) == plain.ok(what)
        if what.startswith('UID FETCH 1:3'):
            assert 10 * (zipped.raw - before[0]) < plain.raw - before[1], 'it has not shrunk'
    big = TEXT % 9 * (1 if cut else 20)
    zipped.ok('APPEND INBOX {%d+}' % len(big), literal=big)
    zipped.ok('NOOP')
    assert big in zipped.ok('UID FETCH 5 BODY.PEEK[]')[0]
    plain.ok('NOOP')
    zipped.n += 1
    zipped.send(b't%d IDLE\r\n' % zipped.n)
    assert zipped.line() == b'+ idling'
    plain.ok(r'STORE 1 +FLAGS (\Flagged)')
    assert zipped.line() == rb'* 1 FETCH (FLAGS (\Flagged))'
    zipped.send(b'DONE\r\n')
    assert zipped.until(b't%d' % zipped.n)[1].startswith(b'OK')
    assert zipped.cmd('UNAUTHENTICATE')[1].startswith(b'NO [CANNOT]')
    zipped.cut = None  # it is answered, and TLS shut, when its last octet is known, which may be before the flush behind it has come
    lines, end = zipped.cmd('LOGOUT')
    assert lines == [b'* BYE good bye'] and end.startswith(b'OK')
    zipped.closed()
    plain.s.close()


def test_a_client_refers_to_what_it_said_before(server):
    """Its history is kept while the session waits."""
    z = Zip(server, 'eve', tls=True).compress()
    word = os.urandom(400).hex()
    z.ok(f'SEARCH SUBJECT {word}')
    before = z.sent
    for _ in range(20):
        assert z.ok(f'SEARCH SUBJECT {word}') == [b'* SEARCH']
    assert z.sent - before < 20 * 60  # of 820 octets each
    for level in (0, 1, 9):  # streams of other kinds behind it, none refers to what it did not say itself
        z.out = zlib.compressobj(level, wbits=-15)
        assert z.ok(f'SEARCH OR SUBJECT {word} SUBJECT {word}') == [b'* SEARCH']
    big = b'Subject: x\r\n\r\n' + os.urandom(40000).hex().encode() + b'\r\n'  # more than a window
    for _ in range(3):
        z.ok('APPEND INBOX {%d+}' % len(big), literal=big)
    assert z.ok('SEARCH SUBJECT x') == [b'* SEARCH 1 2 3']
    z.s.close()


def test_a_block_that_does_not_end(server):
    """Commands that are there, though their block goes on, and blocks at odd bits."""
    z = Zip(server, 'eve').compress()
    z.out = zlib.compressobj(wbits=-15)
    whole = z.out.compress(b'a NOOP\r\nb NOOP\r\n') + z.out.flush(zlib.Z_PARTIAL_FLUSH)
    z.send_raw(whole[:-1])
    z.until(b'a')
    z.send_raw(whole[-1:])
    z.until(b'b')
    for i in range(30):
        z.send_raw(z.out.compress(b'c%d NOOP\r\n' % i) + z.out.flush(zlib.Z_PARTIAL_FLUSH if i % 3 else zlib.Z_FULL_FLUSH))
        z.until(b'c%d' % i)
    z.send_raw(z.out.compress(b'd NOOP\r\n') + z.out.flush(zlib.Z_FINISH))  # the last block of all: answered, then the end
    z.until(b'd')
    z.closed()


def test_what_came_with_the_command(server):
    """RFC 4978: what is behind COMPRESS is DEFLATE, in the same segment too; never is it taken as it stands."""
    z = Zip(server, 'fay')
    out = zlib.compressobj(wbits=-15)
    z.send_raw(b'a COMPRESS DEFLATE\r\n' + out.compress(b'b NOOP\r\n') + out.flush(zlib.Z_SYNC_FLUSH))
    assert z.line().startswith(b'a OK')
    z.out, z.into = out, zlib.decompressobj(-15)
    z.buffer, rest = b'', z.buffer
    z.buffer = z.into.decompress(rest)
    assert z.line().startswith(b'b OK')
    assert z.ok('NOOP') == []
    z.s.close()
    z = Zip(server, 'fay')
    z.send_raw(b'a COMPRESS DEFLATE\r\nb CREATE injected\r\n')
    assert z.line().startswith(b'a OK')
    z.into = zlib.decompressobj(-15)
    z.buffer, rest = b'', z.buffer
    z.buffer = z.into.decompress(rest)
    assert z.line() == b'* BYE what you send is not DEFLATE'
    z.closed()
    assert Zip(server, 'fay').ok('LIST "" injected') == []


@pytest.mark.parametrize('bad', ['COMPRESS', 'COMPRESS ', 'COMPRESS GZIP', 'COMPRESS DEFLATE now', 'COMPRESS DEFLATED', 'COMPRESS (DEFLATE)'])
def test_bad_arguments_switch_nothing_on(server, bad):
    z = Zip(server, 'fay', select=False)
    assert z.cmd(bad)[1].startswith(b'BAD')
    assert z.ok('NOOP') == []
    z.s.close()


def test_the_end_of_a_flush_behind_logout(server):
    """The answer is not overtaken by a reset when what belongs to the command's own block comes after the end was decided."""
    z = Zip(server, 'fay').compress()
    z.out = zlib.compressobj(wbits=-15)
    whole = z.out.compress(b'a LOGOUT\r\n') + z.out.flush(zlib.Z_SYNC_FLUSH)
    z.send_raw(whole[:-4])
    while b'a OK' not in z.buffer:
        assert z.more()
    for byte in whole[-4:]:
        z.send_raw(bytes([byte]))
    z.closed()  # without an error


def test_not_before_login(server):
    with socket.create_connection(('127.0.0.1', server.imap_port), 20) as s, s.makefile('rb') as f:
        assert b'COMPRESS' not in f.readline()
        s.sendall(b'a COMPRESS DEFLATE\r\nb NOOP\r\n')
        assert f.readline().startswith(b'a BAD') and f.readline().startswith(b'b OK')


def test_bombs(server):
    """64 MiB in 64 KiB: a line without an end, a literal that is too large, a million empty lines' worth of nothing."""
    bomb = zlib.compressobj(9, wbits=-15)
    endless = bomb.compress(b'a SEARCH SUBJECT ' + b'x' * (64 << 20)) + bomb.flush(zlib.Z_SYNC_FLUSH)
    with Memory(server) as memory:
        z = Zip(server, 'fay').compress()
        try:
            z.send_raw(endless)
            while z.more():
                pass
        except OSError:
            pass
        assert b'a BAD [TOOBIG]' in z.buffer and b'* BYE' in z.buffer
        z.s.close()
        z = Zip(server, 'fay').compress()
        z.send_raw(b'\x00\x00\x00\xff\xff' * 200000)  # stored blocks of no bytes
        assert z.ok('NOOP') == []
        z.s.close()
    assert memory.grown_kib() < 8192
    for garbage in (b'\xff' * 100, b'\x07', os.urandom(50) + b'\xff' * 300, zlib.compress(b'b NOOP\r\n')):
        z = Zip(server, 'fay').compress()
        z.send_raw(garbage)
        z.s.shutdown(socket.SHUT_WR)
        z.closed()
    assert Zip(server, 'fay').ok('NOOP') == []


def test_what_a_waiting_session_keeps(server):
    """What its client has said and no more, and nothing when it is gone."""
    def kept():
        metrics = server.json('stats')['metrics']
        return metrics['net_compressing'], metrics['net_compressed_bytes']

    def gone():
        assert kept() == (0, 0)

    settled(gone, 20)
    sessions = [Zip(server, 'bob').compress() for _ in range(40)]
    for z in sessions:
        z.ok('UID FETCH 1:* (FLAGS)')
        z.ok('NOOP')
    count, kept_bytes = kept()
    assert count == 40 and 0 < kept_bytes < 40 * 200
    sessions[0].out = zlib.compressobj(wbits=-15)
    whole = sessions[0].out.compress(b'a NOOP\r\nb NOOP\r\n') + sessions[0].out.flush(zlib.Z_PARTIAL_FLUSH)
    sessions[0].send_raw(whole[:-1])  # amid a block
    sessions[0].until(b'a')
    assert 40 << 10 <= kept()[1] < (40 << 10) + 40 * 200
    for z in sessions:
        z.s.close()
    settled(gone, 20)
