# SPDX-License-Identifier: Apache-2.0
"""IMAP in numbers: what an idle session takes, plain and under TLS; a large folder in bounded memory, others served meanwhile."""
import json
import os
import subprocess
import sys

import pytest

from penfold import BINARY, DOMAIN, PASSWORD, TOP, Penfold
from tls import TlsPenfold

LONG_RUN = bool(os.environ.get('PENFOLD_LONG'))
COUNT = 10000 if LONG_RUN else 5000  # fewer, and tables that double are most of it

@pytest.fixture(scope='module')
def load_binary():
    build = os.path.dirname(os.path.abspath(BINARY))
    subprocess.run(['make', '-s', '-C', TOP, 'BUILD=' + os.path.relpath(build, TOP), os.path.join(os.path.relpath(build, TOP), 'bench/load')], check=True)
    return os.path.join(build, 'bench/load')


def idle_octets(p, load_binary, port, *more):
    """User memory of each session in IDLE with INBOX selected, beyond the first quarter of them (whose buffers are everybody's). All accounts
    have been opened before: what is kept of an account without a session is not the session's. A session alone is 888 octets (connection and session 768,
    view 112, tag 8). What the rest is has not been found, POP3 measured in this way has it too; so the goals of 1024 and 4096 are not
    reached, and the bounds here only keep the figures from growing."""
    def load(scenario, connections, *options):
        r = subprocess.run([load_binary, '--scenario', scenario, '--address', f'127.0.0.1:{port}', '--user', f'u%d@{DOMAIN}', '--password',
                            PASSWORD, '--last', str(COUNT), '--connections', str(connections), '--timeout', '120', '--server-pid',
                            str(p.process.pid), '--json', '-', *more, *options], stdout=subprocess.PIPE, timeout=600)
        figures = json.loads(r.stdout)
        assert r.returncode == 0, figures
        return figures
    grown = {}
    for n in (COUNT // 4, COUNT):
        load('imap-login', 16, '--count', str(COUNT))
        idle = load('imap-idle', n, '--hold', '1')
        assert idle['opened'] == n
        grown[n] = idle['server_end']['anon_bytes'] - idle['server_before']['anon_bytes']
        p.restart()
    each = (grown[COUNT] - grown[COUNT // 4]) / (COUNT - COUNT // 4)
    print(f'{COUNT} sessions in IDLE: {grown[COUNT] / COUNT:.0f} octets each, {each:.0f} beyond the first {COUNT // 4}')
    return each


def test_idle_memory(tmp_path, load_binary):
    with Penfold(tmp_path) as p:
        p.import_accounts([f'u{i}' for i in range(1, COUNT + 1)])
        assert idle_octets(p, load_binary, p.imap_port) < 1280


def test_idle_memory_under_tls(tmp_path, load_binary):
    with TlsPenfold(tmp_path) as p:
        p.import_accounts([f'u{i}' for i in range(1, COUNT + 1)])
        assert idle_octets(p, load_binary, p.imaps_port, '--tls', 'implicit') < 4352


def test_a_large_folder(tmp_path):
    """bench/large.py with 20,000: what is kept to open it is far from what its messages are; FETCH of all streams to a client that does
    not read at first; another session's polls go on meanwhile."""
    count = 20000
    with Penfold(tmp_path, shards=1) as p:
        def large(*more):
            r = subprocess.run([sys.executable, os.path.join(TOP, 'bench', 'large.py'), '--address', f'127.0.0.1:{p.imap_port}', '--user', p.address('ann'),
                                '--password', PASSWORD, '--server-pid', str(p.process.pid), '--messages', str(count), '--json', *more],
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
            assert r.returncode == 0, r.stdout.decode()
            return r.stdout
        large('--fill-only')
        p.restart()
        f = json.loads(large())
        print(f)
        assert f['open']['memory_octets'] < 100 * count + (4 << 20)
        assert f['select again']['memory_octets'] < 1 << 20
        assert f['fetch']['told'] == count and f['fetch']['memory_octets'] < 1 << 20
        assert f['fetch']['polls'] > 50  # in the second in which nothing is read, if not before: the shard is free
