# SPDX-License-Identifier: Apache-2.0
"""Which back end runs: chosen by itself where the host refuses io_uring (seccomp, locked memory), told once with cause and
cure, shown in the metrics and in `stats`; forced where it is refused, the server does not start and says why."""
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import pytest
from penfold import BACKEND, BINARY, DOMAIN, TOP, Penfold, free_ports

REFUSE = os.path.join(TOP, 'tests', 'e2e', 'refuse.py')
MESSAGE = b'From: a@example.org\r\nSubject: hello\r\n\r\nhi\r\n'


def refusing(folder, how):
    """A program that is penfold on such a host."""
    path = os.path.join(str(folder), 'penfold-' + how)
    with open(path, 'w') as f:
        f.write('#!/bin/sh\nexec ' + shlex.join([sys.executable, REFUSE, how, BINARY]) + ' "$@"\n')
    os.chmod(path, 0o755)
    return path


def backends_shown(p, http_port):
    """What `stats` says, and the metrics."""
    stats = json.loads(p.run('--json', 'stats').stdout)
    with urllib.request.urlopen(f'http://127.0.0.1:{http_port}/metrics', timeout=10) as r:
        metric = re.search(r'^penfold_io_backend_info\{backend="(\w+)"\} 1', r.read().decode(), re.M)
    return stats['backend'], metric and metric[1]


def mail_goes_through(p):
    p.deliver(MESSAGE, 'ann')
    with p.pop3('ann') as pop:
        assert pop.stat()[0] == 1
        assert b'Subject: hello' in pop.retr(1)


def warnings_in(p):
    return [line for line in p.log().splitlines() if 'event=run.backend' in line]


def test_what_is_asked_for_runs_and_is_shown(tmp_path):
    port = free_ports(1)[0]
    with Penfold(tmp_path, extra=f'http: {{ address: "127.0.0.1:{port}" }}\nio: {{ backend: epoll }}') as p:
        assert backends_shown(p, port) == ('epoll', 'epoll')
        assert b'io backend epoll\n' in p.run('stats').stdout
        mail_goes_through(p)
        assert not warnings_in(p)  # it was meant


def test_the_suite_runs_on_what_it_was_told(tmp_path):
    port = free_ports(1)[0]
    with Penfold(tmp_path, extra=f'http: {{ address: "127.0.0.1:{port}" }}') as p:
        shown = backends_shown(p, port)
        assert shown[0] == shown[1]
        assert shown[0] == BACKEND or (BACKEND == 'auto' and (shown[0] == 'io_uring' or len(warnings_in(p)) == 1))


@pytest.mark.parametrize('how', ['io_uring_setup', 'io_uring_enter'])
def test_a_seccomp_profile_that_refuses_rings(tmp_path, how):
    port = free_ports(1)[0]
    with Penfold(tmp_path, binary=refusing(tmp_path, how), shards=3,
                 extra=f'http: {{ address: "127.0.0.1:{port}" }}\nio: {{ backend: auto }}') as p:
        mail_goes_through(p)
        assert backends_shown(p, port) == ('epoll', 'epoll')
        told = warnings_in(p)
        assert len(told) == 1, told
        assert 'level=warn' in told[0] and f'seccomp profile ({how})' in told[0] and 'run with a profile that allows' in told[0]


def test_forced_where_it_is_refused_it_does_not_start(tmp_path):
    p = Penfold(tmp_path, binary=refusing(tmp_path, 'io_uring_setup'), extra='io: { backend: io_uring }')
    p.setup()
    r = subprocess.run([p.binary, '--config', p.config, 'serve'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=60)
    assert r.returncode == 2
    assert b'seccomp profile (io_uring_setup)' in r.stdout and b'event=run.backend ' not in r.stdout


@pytest.fixture
def open_folder():
    """A folder that nobody may write."""
    path = tempfile.mkdtemp(prefix='penfold-', dir=os.environ.get('TMPDIR', '/tmp'))
    if os.geteuid() == 0:
        os.chown(path, 65534, 65534)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_too_little_locked_memory(open_folder):
    wrapped = refusing(open_folder, 'memlock')
    if subprocess.run([wrapped, '--help'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip('an ordinary user cannot run the program where it was built')
    port = free_ports(1)[0]
    p = Penfold(open_folder, binary=wrapped, extra=f'http: {{ address: "127.0.0.1:{port}" }}\nio: {{ backend: auto }}')
    if os.geteuid() == 0:
        os.chmod(p.config, 0o644)
    with p:
        mail_goes_through(p)
        shown = backends_shown(p, port)
        if shown[0] == 'io_uring':
            pytest.skip('this kernel (5.12 to 6.12) does not count rings as locked memory')
        assert shown == ('epoll', 'epoll')
        told = warnings_in(p)
        assert len(told) == 1 and 'RLIMIT_MEMLOCK is 4 KiB' in told[0] and 'LimitMEMLOCK' in told[0]


def test_tools_run_on_such_a_host_too(tmp_path):
    with Penfold(tmp_path) as p:
        mail_goes_through(p)
    p.binary = refusing(tmp_path, 'io_uring_setup')
    assert p.run('fsck', f'ann@{DOMAIN}').returncode == 0
