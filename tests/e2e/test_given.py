# SPDX-License-Identifier: Apache-2.0
"""Listening sockets from the service manager (LISTEN_FDS), and the systemd units that give them."""
import glob
import os
import shutil
import signal
import socket
import subprocess

import penfold
import pytest
from penfold import Penfold, free_ports, settled

UNITS = os.path.join(penfold.TOP, 'deploy', 'systemd')


def listening(family, address):
    s = socket.socket(family)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if family != socket.AF_UNIX:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(address)
    s.listen(64)
    return s


class Given(Penfold):
    """Started as a service manager starts it: sockets from descriptor 3 on, their names in the environment."""

    def __init__(self, folder, listeners, sockets, **more):
        super().__init__(folder, **more)
        self.sockets = sockets  # (name, socket)
        with open(self.config) as f:
            text = f.read()
        begin, end = text.index('listeners:'), text.index('limits:')
        with open(self.config, 'w') as f:
            f.write(text[:begin] + 'listeners:\n' + ''.join(f'  - {l}\n' for l in listeners) + text[end:])

    def start(self, wait=True, env=None, pid='$$'):
        fds = [s.fileno() for _, s in self.sockets]

        def place():
            high = [os.dup2(fd, 100 + i) for i, fd in enumerate(fds)]
            for i, fd in enumerate(high):
                os.dup2(fd, 3 + i)
            os.closerange(3 + len(high), 100 + len(high))
        names = ':'.join(name for name, _ in self.sockets)
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(['/bin/sh', '-c', f'LISTEN_PID={pid} LISTEN_FDS={len(fds)} LISTEN_FDNAMES={names} exec "$0" --config "$1" serve',
                                             self.binary, self.config], stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=place,
                                            close_fds=False)


def greeting(address, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.settimeout(20)
        s.connect(address)
        return s.recv(100)


@pytest.fixture
def ports():
    return free_ports(3)


def test_sockets_by_name(tmp_path, ports):
    """A name with two sockets, one without; what nobody asked for is closed; who connects during a restart waits."""
    v4 = listening(socket.AF_INET, ('127.0.0.1', ports[0]))
    v6 = listening(socket.AF_INET6, ('::1', ports[0]))
    other = listening(socket.AF_INET, ('127.0.0.1', ports[1]))
    path = str(tmp_path / 'given.sock')
    local = listening(socket.AF_UNIX, path)
    p = Given(tmp_path, ['{ protocol: pop3, address: "systemd:pop3" }', '{ protocol: lmtp, address: "systemd:lmtp" }',
                         f'{{ protocol: imap, address: "127.0.0.1:{ports[2]}" }}'],
              [('pop3', v4), ('other', other), ('lmtp', local), ('pop3', v6)], shards=2)
    other_port = ports[1]
    with p:
        p.pop3_port = ports[0]
        for _ in range(8):  # whichever shard takes it
            assert greeting(('127.0.0.1', ports[0])).startswith(b'+OK')
            assert greeting(('::1', ports[0]), socket.AF_INET6).startswith(b'+OK')
            assert greeting(path, socket.AF_UNIX).startswith(b'220 ')
        settled(lambda: greeting(('127.0.0.1', ports[2])), 10)
        other.close()  # ours; the server's copy is closed already, so nobody listens
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(('127.0.0.1', other_port), 5)
        assert 'event=net.socket_unasked name=other' in p.log()
        p.sockets = [s for s in p.sockets if s[0] != 'other']

        assert p.stop() == 0
        assert os.path.exists(path), 'the file belongs to the service manager'
        early = socket.create_connection(('127.0.0.1', ports[0]), 20)
        p.start()
        assert early.recv(3) == b'+OK'
        early.close()
        with p.pop3('ann') as pop:
            assert pop.stat() == (0, 0)


def test_drain_leaves_the_socket_to_the_manager(tmp_path, ports):
    """A drained server must not shut down what is not its own: connections are closed at once, and after undrain served again."""
    s = listening(socket.AF_INET, ('127.0.0.1', ports[0]))
    with Given(tmp_path, ['{ protocol: pop3, address: "systemd:pop3" }'], [('pop3', s)]) as p:
        assert greeting(('127.0.0.1', ports[0])).startswith(b'+OK')
        p.run('drain', '--grace', '0', '--over', '0')
        settled(lambda: greeting_is(ports[0], b''), 10)
        assert s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        p.run('undrain')
        settled(lambda: greeting_is(ports[0], b'+OK'), 10)


def greeting_is(port, expected):
    try:
        line = greeting(('127.0.0.1', port))
    except ConnectionResetError:
        line = b''
    assert line[:3] == expected


def refused(p, **more):
    p.setup()
    p.start(**more)
    assert p.process.wait(20) == 2
    p.process = None
    return p.log()


def test_refusals(tmp_path, ports):
    """No such name; sockets of another process; a socket that does not listen; an address that is none."""
    s = listening(socket.AF_INET, ('127.0.0.1', ports[0]))
    for i, (name, more) in enumerate((('pop', {}), ('pop3', {'pid': '1'}))):
        (tmp_path / str(i)).mkdir()
        p = Given(tmp_path / str(i), ['{ protocol: pop3, address: "systemd:pop3" }'], [(name, s)])
        assert 'no socket of this name came from the service manager' in refused(p, **more)
    deaf = socket.socket()
    deaf.bind(('127.0.0.1', ports[1]))
    (tmp_path / 'deaf').mkdir()
    assert 'no stream socket that listens' in refused(Given(tmp_path / 'deaf', ['{ protocol: pop3, address: "systemd:pop3" }'], [('pop3', deaf)]))
    (tmp_path / 'none').mkdir()
    p = Given(tmp_path / 'none', ['{ protocol: pop3, address: "systemd:" }'], [])
    r = p.run('config', 'check', check=False)
    assert r.returncode and b'systemd:NAME' in r.stderr + r.stdout


@pytest.mark.skipif(not shutil.which('systemd-socket-activate'), reason='systemd-socket-activate (package systemd) is not installed')
def test_by_systemds_own_tool(tmp_path, ports):
    """The protocol as systemd itself speaks it."""
    p = Given(tmp_path, ['{ protocol: pop3, address: "systemd:pop3" }'], [])
    p.setup()
    with open(p.log_path, 'ab') as log:
        p.process = subprocess.Popen(['systemd-socket-activate', '-l', f'127.0.0.1:{ports[0]}', '--fdname=pop3', p.binary, '--config', p.config, 'serve'],
                                     stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        settled(lambda: greeting_is(ports[0], b'+OK'), 20)
    finally:
        assert p.stop() == 0


class Manager:
    """A service manager's ear: NOTIFY_SOCKET."""

    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.s.bind(path.replace('@', '\0', 1) if path.startswith('@') else path)
        self.s.settimeout(20)

    def hears(self, word):
        """The next message with it."""
        while True:
            text = self.s.recv(4096).decode().split('\n')
            if word in text:
                return text


@pytest.mark.parametrize('abstract', [False, True])
def test_the_manager_is_told(tmp_path, abstract):
    """Ready when it serves, alive at half of the watchdog's time, stopping; a server that hangs says no more."""
    path = f'@penfold-test-{os.getpid()}' if abstract else str(tmp_path / 'notify')
    manager = Manager(path)
    p = Penfold(tmp_path)
    p.setup()
    p.start(wait=False, env={'NOTIFY_SOCKET': path, 'WATCHDOG_USEC': '400000'})
    try:
        assert 'STATUS=serving' in manager.hears('READY=1')
        assert greeting(('127.0.0.1', p.pop3_port)).startswith(b'+OK')  # ready means that
        for _ in range(3):
            manager.hears('WATCHDOG=1')
        p.process.send_signal(signal.SIGSTOP)
        manager.s.settimeout(1)
        with pytest.raises(TimeoutError):
            for _ in range(20):  # what was on its way; then nothing
                manager.hears('WATCHDOG=1')
        p.process.send_signal(signal.SIGCONT)
        manager.s.settimeout(20)
        manager.hears('WATCHDOG=1')
    finally:
        p.process.send_signal(signal.SIGCONT)
        assert p.stop() == 0
    manager.hears('STOPPING=1')


# ---- the units ----

def unit_folder(tmp_path):
    """The units, with the program where it is here, and the group that LMTP's socket is for."""
    folder = tmp_path / 'units'
    folder.mkdir()
    for path in glob.glob(os.path.join(UNITS, '*.service')) + glob.glob(os.path.join(UNITS, '*.socket')):
        with open(path) as f:
            (folder / os.path.basename(path)).write_text(f.read().replace('/usr/bin/penfold', penfold.BINARY))
    return sorted(str(f) for f in folder.iterdir())


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze (package systemd) is not installed')
def test_units_verify(tmp_path):
    r = subprocess.run(['systemd-analyze', 'verify', '--man=no', *unit_folder(tmp_path)], capture_output=True, text=True, timeout=60)
    ours = [l for l in (r.stdout + r.stderr).splitlines() if 'penfold' in l]
    assert r.returncode == 0 and not ours, r.stdout + r.stderr


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze (package systemd) is not installed')
def test_service_is_hardened(tmp_path):
    """systemd's own judgement, 0 (closed) to 10 (open): at most 2.0."""
    service, = [f for f in unit_folder(tmp_path) if f.endswith('.service')]
    r = subprocess.run(['systemd-analyze', 'security', '--offline=true', '--no-pager', '--threshold=20', service], capture_output=True, text=True,
                       timeout=60)
    assert r.returncode == 0 and 'Overall exposure level for penfold.service' in r.stdout, r.stdout + r.stderr


def test_units_and_configuration_name_the_same_sockets(tmp_path):
    """Each socket unit gives one name that the sample configuration takes, and the service brings them all."""
    names = []
    for path in glob.glob(os.path.join(UNITS, '*.socket')):
        with open(path) as f:
            keys = [l.strip().partition('=')[::2] for l in f if '=' in l and not l.startswith('#')]
        names += [v for k, v in keys if k == 'FileDescriptorName']
        assert dict(keys)['Service'] == 'penfold.service'
        with open(os.path.join(UNITS, 'penfold.service')) as f:
            assert os.path.basename(path) in f.read()
    with open(os.path.join(UNITS, 'penfold.yaml')) as f:
        text = f.read()
    assert sorted(names) == sorted(part.split('"')[0] for part in text.split('"systemd:')[1:])
    config = tmp_path / 'penfold.yaml'
    config.write_text(text)
    r = subprocess.run([penfold.BINARY, '--config', str(config), 'config', 'check'], capture_output=True, text=True, timeout=30)
    assert r.returncode == 0, r.stdout + r.stderr
