# SPDX-License-Identifier: Apache-2.0
"""Replays the transcripts of tests/wire (see the README there): line by line, whole, byte by byte, and cut at random."""
import itertools
import os
import sys

import pytest

from penfold import DOMAIN, PASSWORD, TOP, Penfold

WIRE = os.path.join(TOP, 'tests', 'wire')
sys.path.insert(0, WIRE)
from replay import HOWS, names_of, read_transcript, replay  # noqa: E402

FILES = sorted(os.path.relpath(os.path.join(folder, name), WIRE)
               for folder, _, names in os.walk(WIRE) for name in names if name.endswith('.txt'))
numbers = itertools.count(1)


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    with Penfold(tmp_path_factory.mktemp('wire')) as p:
        yield p


@pytest.mark.parametrize('path', FILES)
def test_transcript(server, path):
    for how in HOWS:
        name = f'wire{next(numbers)}'
        messages, steps = read_transcript(os.path.join(WIRE, path), names_of(f'{name}@{DOMAIN}'.encode(), PASSWORD.encode()))
        server.add_account(name)
        for message in messages:
            server.deliver(message, name)
        address = ('127.0.0.1', server.pop3_port if path.startswith('pop3') else server.lmtp_port)
        replay(address, path, steps, how)
