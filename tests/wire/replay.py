#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Replays transcripts (see README in this folder) against a running server.

    replay.py --address 127.0.0.1:1110 --user ann@demo.example [--password secret] [--lmtp 127.0.0.1:1024]
              [--lines] [--whole] [--bytes] [--cuts SEED] pop3/capa.txt ...

--lines waits for each answer, --whole sends everything at once, --bytes one byte at a time, --cuts pieces of random sizes; without
any of them all four are done. Transcripts that need a fresh account or deliver messages want a maildrop that is empty;
messages are delivered to --lmtp. Exit status 1 and one line for each transcript that went otherwise.

tests/e2e/test_wire.py does the same with a server and an account of its own for each dialogue.
"""
import argparse
import base64
import os
import random
import re
import smtplib
import socket
import sys

ESCAPE = re.compile(r'\\(r|n|0|\\|\{|x[0-9a-fA-F]{2})|\{(\w+)\}')
BYTES = {'r': b'\r', 'n': b'\n', '0': b'\0', '\\': b'\\', '{': b'{'}
HOWS = ('lines', 'whole', 'bytes', 'cuts')


def names_of(user, password):
    """What stands in braces in a transcript; both arguments are bytes."""
    return {'user': user, 'name': user.split(b'@')[0], 'password': password, 'b64user': base64.b64encode(user),
            'b64password': base64.b64encode(password), 'b64plain': base64.b64encode(b'\0' + user + b'\0' + password)}


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
    """Messages, and steps: ('C', bytes), ('S', compiled pattern), ('...', None), ('closed', None), each with its line number."""
    messages, message, steps, envelope = [], b'', [], ('sender@remote.example', None)
    with open(path, encoding='utf-8', newline='\n') as f:
        for number, line in enumerate(f.read().split('\n'), 1):
            mark, text = line[:2], line[3:]
            if not line or line.startswith('#'):
                continue
            if line == 'M.':
                messages.append((message, *envelope))
                message = b''
            elif mark in ('H:', 'T:'):
                pass  # of read_needs
            elif mark == 'E:':
                envelope = tuple(text.replace('<>', '').split(' ', 1)) if ' ' in text else (text, None)
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


def read_needs(path):
    """What the transcript wants of its account: 'H' = the mode of the SDPS host that it is, 'T' = [settings of its tenant]."""
    needs = {'H': None, 'T': []}
    with open(path, encoding='utf-8', newline='\n') as f:
        for line in f.read().split('\n'):
            if line[:2] == 'H:':
                needs['H'] = line[3:]
            elif line[:2] == 'T:':
                needs['T'] += line[3:].split()
    return needs


class Client:
    def __init__(self, address):
        self.s = socket.create_connection(address, timeout=20)
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
        """In pieces of piece() bytes."""
        try:
            at = 0
            while at < len(data):
                n = piece()
                self.s.sendall(data[at:at + n])
                at += n
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
            line = client.line()
            assert line is None, f'{where}: the connection is still open: {line!r}'
        elif kind == 'S':
            while True:
                line = client.line()
                assert line is not None, f'{where}: closed, wanted {pattern.pattern!r}'
                if pattern.fullmatch(line):
                    break
                assert skipping, f'{where}: got {line!r}, wanted {pattern.pattern!r}'
            skipping = False


def in_turns(client, steps, path):
    """Waits for each answer before the next line; '...' waits for the step behind it."""
    before = None
    for step in steps:
        if step[0] == 'C':
            client.send(step[1], lambda: max(len(step[1]), 1))
        elif step[0] != '...':
            check(client, [before, step] if before and before[0] == '...' else [step], path)
        before = step


def replay(address, path, steps, how, seed=1):
    """Holds one dialogue; AssertionError with file and line when it goes otherwise."""
    client = Client(address)
    try:
        if how == 'lines':
            in_turns(client, steps, path)
            return
        everything = b''.join(step[1] for step in steps if step[0] == 'C')
        dice = random.Random(f'{seed} {path}')
        piece = {'whole': lambda: len(everything), 'bytes': lambda: 1, 'cuts': lambda: dice.choice((1, 2, 3, 7, 40, 200))}[how]
        client.send(everything, piece)
        check(client, steps, path)
    finally:
        client.s.close()


def endpoint(text):
    host, port = text.rsplit(':', 1)
    return host.strip('[]'), int(port)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--address', type=endpoint, required=True)
    p.add_argument('--lmtp', type=endpoint)
    p.add_argument('--user', default='ann@demo.example', help='for transcripts with H: the full name of the SDPS host')
    p.add_argument('--password', default='secret')
    for how in ('lines', 'whole', 'bytes'):
        p.add_argument('--' + how, action='append_const', dest='hows', const=how)
    p.add_argument('--cuts', type=int, metavar='SEED')
    p.add_argument('files', nargs='+')
    o = p.parse_args()
    hows = (o.hows or []) + (['cuts'] if o.cuts is not None else []) or HOWS
    failed = 0
    for path in o.files:
        messages, steps = read_transcript(path, names_of(o.user.encode(), o.password.encode()))
        for how in hows:
            try:
                for message, sender, local in messages:
                    with smtplib.LMTP(*o.lmtp) as l:
                        l.sendmail(sender, [f'{local}@{o.user}' if local else o.user], message)
                replay(o.address, path, steps, how, o.cuts or 1)
            except (AssertionError, OSError) as e:
                failed += 1
                print(f'{path} ({how}): {e}')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
