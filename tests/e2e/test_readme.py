# SPDX-License-Identifier: Apache-2.0
"""A newcomer's path: the blocks of README.md behind a line <!-- run: NAME -->, line by line, with nothing changed but ports and folders.

clone and demo, fleet: here. container: with PENFOLD_IMAGE (make image-test), as its first line takes minutes; otherwise its options are looked up."""
import os
import re
import shlex
import shutil
import signal
import subprocess
import time

import penfold
import pytest
from penfold import free_ports
from podman import Podman

needs_clients = [pytest.mark.skipif(not shutil.which('curl'), reason='curl is not installed'),
                 pytest.mark.skipif(not shutil.which('swaks'), reason='swaks is not installed')]
BUILD = os.path.dirname(penfold.BINARY)


def block(name):
    """The commands of a block, each a line."""
    with open(os.path.join(penfold.TOP, 'README.md')) as f:
        text = f.read()
    m = re.search(rf'<!-- run: {name} -->\n\n((?:    .*\n)+)', text)
    assert m, f'README.md has no block {name}'
    return [l[4:] for l in m[1].splitlines()]


def test_every_block_is_run_here():
    with open(os.path.join(penfold.TOP, 'README.md')) as f:
        assert sorted(re.findall(r'<!-- run: (\w+) -->', f.read())) == ['clone', 'container', 'demo', 'fleet']


def changed(line, replacements):
    for old, new in replacements.items():
        line = line.replace(old, new)
    return line


def run(line, replacements, cwd=penfold.TOP, env=None):
    """As typed. Delivers and reads only what is in the line; must succeed and, if it reads mail, show some."""
    r = subprocess.run(['bash', '-c', changed(line, replacements)], cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})})
    assert r.returncode == 0, f'{line}\n{r.stdout[-3000:]}{r.stderr[-3000:]}'
    if line.startswith('curl'):
        assert re.search(r'(?mi)^subject: ', r.stdout), f'{line}\n{r.stdout[-2000:]}'
    if line.startswith('swaks'):
        assert '250 2.0.0 stored' in r.stdout, r.stdout
    return r.stdout


class Foreground:
    """A script that stays in the foreground until Ctrl-C; ready when it has said so."""

    def __init__(self, argv, says, log, env):
        self.log = log
        with open(log, 'wb') as out:
            self.process = subprocess.Popen(argv, cwd=penfold.TOP, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **env},
                                            start_new_session=True)
        end = time.time() + 120
        while says not in self.said():
            if self.process.poll() is not None or time.time() > end:
                self.__exit__()
                raise AssertionError(f'{argv}:\n' + self.said()[-4000:])
            time.sleep(0.05)

    def said(self):
        with open(self.log, errors='replace') as f:
            return f.read()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        """Ctrl-C reaches all that the terminal started; as one does, again if nothing seems to happen: a shell may miss the one that
        comes just as it begins to wait."""
        for _ in range(4):
            if self.process.poll() is not None:
                break
            os.killpg(self.process.pid, signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def ports():
    pop3, imap, lmtp = free_ports(3)
    return ({'PENFOLD_POP3_PORT': str(pop3), 'PENFOLD_IMAP_PORT': str(imap), 'PENFOLD_LMTP_PORT': str(lmtp)},
            {'127.0.0.1:1110': f'127.0.0.1:{pop3}', '127.0.0.1:1143': f'127.0.0.1:{imap}', '127.0.0.1:1024': f'127.0.0.1:{lmtp}'})


def test_clone(tmp_path):
    """Cloned from where we are; the third line is the next test's, here is seen that a clone has all that it starts."""
    clone, enter, make = block('clone')
    assert clone.startswith('git clone https://') and enter == 'cd penfold' and make == 'make run'
    if not os.path.exists(os.path.join(penfold.TOP, '.git')):
        pytest.skip('not a git work tree')
    url = clone.split()[2]
    run(f'{clone} && {enter} && {make} --dry-run', {url: f'{penfold.TOP} penfold'}, cwd=tmp_path)
    missing = [f for f in ('deploy/run-demo.sh', 'deploy/run-fleet.sh', 'deploy/install-deps.sh', 'deploy/image/build.sh', 'deploy/seccomp/penfold.json')
               if not os.access(tmp_path / 'penfold' / f, os.X_OK if f.endswith('.sh') else os.R_OK)]
    assert not missing


class TestCommands:
    pytestmark = needs_clients

    def test_demo(self, tmp_path):
        env, replaced = ports()
        replaced.update({'build/demo': str(tmp_path / 'demo'), 'build/penfold': penfold.BINARY})
        with Foreground(['deploy/run-demo.sh'], 'Penfold is running', tmp_path / 'out', {**env, 'PENFOLD': penfold.BINARY, 'PENFOLD_DEMO':
                                                                                         os.path.relpath(tmp_path / 'demo', penfold.TOP)}):
            for line in block('demo'):
                run(line, replaced)

    @pytest.mark.skipif(not shutil.which('redis-server'), reason='redis-server is not installed')
    @pytest.mark.skipif(not (shutil.which('haproxy') or os.path.exists('/usr/sbin/haproxy')), reason='haproxy is not installed')
    def test_fleet(self, tmp_path):
        env, replaced = ports()
        replaced.update({'build/fleet': str(tmp_path / 'fleet'), 'build/penfold': penfold.BINARY})
        base = twelve_in_a_row()
        with Foreground(['deploy/run-fleet.sh'], 'Ctrl-C stops all', tmp_path / 'out',
                        {**env, 'PENFOLD': penfold.BINARY, 'PENFOLD_FLEET': str(tmp_path / 'fleet'), 'PENFOLD_FLEET_PORT': str(base - 4)}) as fleet:
            for line in block('fleet'):
                run(line, replaced)
        assert fleet.process.returncode == 0, fleet.said()
        for n in 1, 2, 3:
            assert 'server.end err=ok' in (tmp_path / 'fleet' / f'n{n}.log').read_text()

    @pytest.mark.skipif(not os.environ.get('PENFOLD_IMAGE'), reason='make image-test runs this')
    def test_container(self, tmp_path):
        """With a store of its own, on the host's network, with limits that this machine can give: a podman in front of podman adds them."""
        env, replaced = ports()
        pop3, lmtp = env['PENFOLD_POP3_PORT'], env['PENFOLD_LMTP_PORT']
        config = tmp_path / 'penfold.yaml'
        with open(os.path.join(penfold.TOP, 'deploy', 'image', 'penfold.yaml')) as f:
            config.write_text(f.read().replace(':1110', f':{pop3}').replace(':1024', f':{lmtp}').replace(':1143', ':' + env['PENFOLD_IMAP_PORT'])
                              .replace(':8080', f':{free_ports(1)[0]}'))
        rootfs = str(tmp_path / 'rootfs')
        subprocess.run([os.path.join(penfold.TOP, 'deploy', 'image', 'rootfs.sh'), penfold.BINARY, rootfs], check=True, timeout=120)
        podman = Podman(tmp_path, rootfs)
        (tmp_path / 'bin').mkdir()
        wrapper = tmp_path / 'bin' / 'podman'
        wrapper.write_text(f'''#!/bin/bash
if [ "$1" = run ]; then
	shift
	args=(run {shlex.join(podman.machine + podman.cgroups)} --volume {config}:/etc/penfold/penfold.yaml:ro)
	while [ $# -gt 0 ]; do
		if [ "$1" = --publish ]; then shift; else args+=("$1"); fi
		shift
	done
	set -- "${{args[@]}}"
fi
exec {shlex.join(podman.plain([]))} "$@"
''')
        wrapper.chmod(0o755)
        config.chmod(0o644)
        env = {'PATH': f'{tmp_path}/bin:{os.environ["PATH"]}'}
        first, *rest = block('container')
        assert first == 'make image'  # make image-test has done it
        replaced['build/image/penfold.tar'] = os.environ['PENFOLD_IMAGE']
        try:
            for line in rest:
                if line.startswith('swaks'):
                    time_to_see(line, replaced, env)
                else:
                    run(line, replaced, env=env)
        finally:
            subprocess.run([str(wrapper), 'rm', '--force', 'penfold'], capture_output=True, timeout=60)


def time_to_see(line, replaced, env):
    """The server sees a new account within a second."""
    end = time.time() + 20
    while True:
        try:
            return run(line, replaced, env=env)
        except AssertionError:
            if time.time() > end:
                raise
            time.sleep(0.2)


def twelve_in_a_row():
    """The first of twelve ports that are free."""
    import socket
    for base in range(24000, 24980, 12):
        try:
            for port in range(base, base + 12):
                with socket.socket() as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    s.bind(('127.0.0.1', port))
            if not set(range(base, base + 12)) & set(penfold.GIVEN):
                return base
        except OSError:
            continue
    raise AssertionError('no twelve ports are free')


@pytest.mark.skipif(not shutil.which('podman'), reason='podman is not installed')
def test_the_containers_options_are_podmans():
    for line in block('container'):
        words = re.sub(r'^.*\| ', '', line).split()
        if words[0] != 'podman':
            continue
        known = subprocess.run(['podman', words[1], '--help'], capture_output=True, text=True, timeout=60).stdout
        for option in (w for w in words[2:] if w.startswith('--') and w not in ('--tenant', '--password-stdin')):
            assert re.search(rf'(?m){option.split("=")[0]}\b', known), (words[1], option)


def test_make_targets_that_are_named():
    """README names no target that there is not."""
    with open(os.path.join(penfold.TOP, 'README.md')) as f:
        names = set(re.findall(r'(?:^    |`)make ([a-z][a-z-]*)', f.read(), re.M))
    with open(os.path.join(penfold.TOP, 'Makefile')) as f:
        targets = set(re.findall(r'(?m)^([a-z][a-z-]*):', f.read()))
    assert names and names <= targets, names - targets


def test_the_service_installs(tmp_path):
    """The lines of "As a service" that copy files, into a folder; what the others name is there then."""
    with open(os.path.join(penfold.TOP, 'README.md')) as f:
        lines = [l[4:].rstrip('\n') for l in f if l.startswith(('    install -', '    systemd-sysusers', '    systemctl enable'))]
    copies = [l for l in lines if l.startswith('install')]
    assert len(copies) == 5 and len(lines) == 7
    for folder in ('usr/bin', 'usr/lib/sysusers.d', 'etc/systemd/system', 'etc/sysctl.d'):
        (tmp_path / folder).mkdir(parents=True)
    for line in copies:
        words = line.split(' ')
        words[-1] = f'{tmp_path}{words[-1]}'
        run(' '.join(words), {'build/penfold': penfold.BINARY})
    units = tmp_path / 'etc' / 'systemd' / 'system'
    for unit in lines[-1].split()[3:]:
        assert (units / unit).exists(), unit
    assert os.access(tmp_path / 'usr' / 'bin' / 'penfold', os.X_OK)
    if shutil.which('systemd-sysusers') and os.geteuid() == 0:
        (tmp_path / 'etc' / 'group').write_text('')
        (tmp_path / 'etc' / 'passwd').write_text('')
        subprocess.run(['systemd-sysusers', f'--root={tmp_path}'], check=True, capture_output=True, timeout=30)
        assert 'penfold:' in (tmp_path / 'etc' / 'passwd').read_text()


def test_sysctl_names_what_there_is():
    """But for what is marked as perhaps missing (a hyphen) and what a container does not show."""
    with open(os.path.join(penfold.TOP, 'deploy', 'systemd', 'penfold.sysctl')) as f:
        keys = [l.split('=')[0].strip() for l in f if '=' in l and not l.startswith('#')]
    assert len(keys) >= 7
    for key in keys:
        path = '/proc/sys/' + key.lstrip('-').replace('.', '/')
        assert key.startswith('-') or os.path.exists(path) or not os.path.isdir(os.path.dirname(path)) or key.startswith('net.'), key
