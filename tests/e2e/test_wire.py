# SPDX-License-Identifier: Apache-2.0
"""Replays the transcripts of tests/wire (see the README there): whole, byte by byte, and line by line."""
import base64
import itertools
import os
import re
import socket

import pytest

from penfold import DOMAIN, PASSWORD, TOP, Penfold

WIRE = os.path.join(TOP, 'tests', 'wire')
FILES = sorted(os.path.relpath(os.path.join(folder, name), WIRE)
               for folder, _, names in os.walk(WIRE) for name in names if name.endswith('.txt'))
ESCAPE = re.compile(r'\\(r|n|0|\\|\{|x[0-9a-fA-F]{2})|\{(\w+)\}')
BYTES = {'r': b'\r', 'n': b'\n', '0': b'\0', '\\': b'\\', '{': b'{'}
numbers = itertools.count(1)


def expand(text, names):
    out, at = b'', 0
    for m in ESCAPE.finditer(text):
        out += text[at:m.start()].encode()
        if m[2]:
            out += names[m[2]]
        else:
            out += BYTES[m[1]] if m[1] in BYTES else bytes([int(m[1][1:], 16)])
        at = m.end()
    return out + text[at:].encode()


def read_transcript(path, names):
    """Messages, and steps: ('C', bytes), ('S', compiled pattern), ('...', None), ('closed', None)."""
    messages, message, steps = [], b'', []
    with open(path, encoding='utf-8', newline='\n') as f:
        for number, line in enumerate(f.read().split('\n'), 1):
            mark, text = line[:2], line[3:]
            if not line or line.startswith('#'):
                continue
            if line == 'M.':
                messages.append(message)
                message = b''
            elif mark == 'M:':
                message += expand(text, names) + b'\r\n'
            elif mark in ('C:', 'C-'):
                steps.append(('C', expand(text, names) + (b'\r\n' if mark == 'C:' else b''), number))
            elif mark == 'S:':
                steps.append(('S', re.compile(re.escape(expand(text, names)), re.S), number))
            elif mark == 'S~':
                quoted = {k: re.escape(v.decode()).encode() for k, v in names.items()}
                steps.append(('S', re.compile(re.sub(rb'\{(name|user)\}', lambda m: quoted[m[1].decode()], text.encode()), re.S), number))
            elif line == 'S...':
                steps.append(('...', None, number))
            elif line == 'closed':
                steps.append(('closed', None, number))
            else:
                raise ValueError(f'{path}:{number}: {line}')
    assert not message, f'{path}: a message without its end'
    return messages, steps


class Client:
    def __init__(self, port):
        self.s = socket.create_connection(('127.0.0.1', port), timeout=20)
        self.s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b''

    def line(self):
        while b'\r\n' not in self.buffer:
            try:
                chunk = self.s.recv(65536)
            except ConnectionResetError:
                chunk = b''
            if not chunk:
                return None
            self.buffer += chunk
        line, self.buffer = self.buffer.split(b'\r\n', 1)
        return line

    def send(self, data, piece):
        try:
            for at in range(0, len(data), piece):
                self.s.sendall(data[at:at + piece])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the transcript says whether the server may close


def check(client, steps, path):
    """The server's side of the steps."""
    skipping = False
    for kind, pattern, number in steps:
        where = f'{path}:{number}'
        if kind == '...':
            skipping = True
        elif kind == 'closed':
            assert client.line() is None, f'{where}: the connection is still open'
        elif kind == 'S':
            while True:
                line = client.line()
                assert line is not None, f'{where}: closed, wanted {pattern.pattern!r}'
                if pattern.fullmatch(line):
                    break
                assert skipping, f'{where}: got {line!r}, wanted {pattern.pattern!r}'
            skipping = False


def replay(server, path, how):
    name = f'wire{next(numbers)}'
    user, password = f'{name}@{DOMAIN}'.encode(), PASSWORD.encode()
    names = {'user': user, 'name': name.encode(), 'password': password, 'b64user': base64.b64encode(user),
             'b64password': base64.b64encode(password), 'b64plain': base64.b64encode(b'\0' + user + b'\0' + password)}
    messages, steps = read_transcript(os.path.join(WIRE, path), names)
    server.add_account(name)
    for message in messages:
        server.deliver(message, name)
    client = Client(server.pop3_port if path.startswith('pop3') else server.lmtp_port)
    try:
        if how == 'lines':
            for step in steps:
                if step[0] == 'C':
                    client.send(step[1], len(step[1]) or 1)
                else:
                    check_now(client, steps, step, path)
        else:
            everything = b''.join(step[1] for step in steps if step[0] == 'C')
            client.send(everything, 1 if how == 'bytes' else len(everything) or 1)
            check(client, steps, path)
    finally:
        client.s.close()


def check_now(client, steps, step, path):
    """One step in the midst of a dialogue; '...' waits for the step behind it."""
    at = steps.index(step)
    if step[0] == 'S' and at and steps[at - 1][0] == '...':
        check(client, steps[at - 1:at + 1], path)
    elif step[0] != '...':
        check(client, [step], path)


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('wire')) as p:
        yield p


@pytest.mark.parametrize('path', FILES)
def test_transcript(server, path):
    for how in ('lines', 'whole', 'bytes'):
        replay(server, path, how)
