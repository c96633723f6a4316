# SPDX-License-Identifier: Apache-2.0
"""Replays the transcripts of tests/wire (see the README there): line by line, whole, byte by byte, and cut at random."""
import itertools
import os
import sys

import pytest

from penfold import DOMAIN, PASSWORD, TOP, Penfold, Pop3, settled
from sink import Sink

WIRE = os.path.join(TOP, 'tests', 'wire')
sys.path.insert(0, WIRE)
from replay import HOWS, names_of, read_needs, read_transcript, replay  # noqa: E402

FILES = sorted(os.path.relpath(os.path.join(folder, name), WIRE)
               for folder, _, names in os.walk(WIRE) for name in names if name.endswith('.txt'))
numbers = itertools.count(1)


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Sink() as sink, Penfold(tmp_path_factory.mktemp('wire'), extra=f'xmit: {{ address: "127.0.0.1:{sink.port}" }}') as p:
        yield p


@pytest.fixture(scope='module')
def other_server(tmp_path_factory):
    """For transcripts whose tenant changes what is offered to everybody before login."""
    with Penfold(tmp_path_factory.mktemp('other')) as p:
        p.run('tenant', 'set', 'demo', 'plain_passwords=yes')
        settled(lambda: offers_cram(p))
        yield p


def offers_cram(p):
    with p.raw() as s, s.makefile('rb') as f:
        f.readline()
        s.sendall(b'AUTH\r\n')
        assert b'CRAM-MD5\r\n' in list(iter(f.readline, b'.\r\n'))


def make_account(server, path):
    """A fresh account as the transcript wants it; its name."""
    name, needs = f'wire{next(numbers)}', read_needs(path)
    if not needs['H'] and not needs['T']:
        server.add_account(name)
        return f'{name}@{DOMAIN}'
    server.run('tenant', 'add', name)
    if needs['T']:
        server.run('tenant', 'set', name, *needs['T'])
    if needs['H']:
        server.run('sdps', 'add', f'{name}.host.example', '--tenant', name, '--mode', needs['H'], '--password-stdin', stdin=PASSWORD.encode() + b'\n')
        return f'{name}.host.example'
    server.run('domain', 'add', f'{name}.example', '--tenant', name)
    server.add_account(f'{name}@{name}.example')
    return f'{name}@{name}.example'


@pytest.mark.parametrize('path', FILES)
def test_transcript(request, path):
    offers = any(setting.startswith('plain_passwords=') for setting in read_needs(os.path.join(WIRE, path))['T'])
    server = request.getfixturevalue('other_server' if offers else 'server')
    for how in HOWS:
        name = make_account(server, os.path.join(WIRE, path))
        messages, steps = read_transcript(os.path.join(WIRE, path), names_of(name.encode(), PASSWORD.encode()))
        if DOMAIN not in name:
            settled(lambda: Pop3(server.pop3_port, name, PASSWORD).quit())  # a tenant that is set after it was added, too
        for message, sender, local in messages:
            server.deliver(message, f'{local}@{name}' if local else name, sender=sender)
        port = {'pop3': server.pop3_port, 'imap': server.imap_port, 'lmtp': server.lmtp_port}[path.split(os.sep)[0]]
        address = ('127.0.0.1', port)
        replay(address, path, steps, how)
