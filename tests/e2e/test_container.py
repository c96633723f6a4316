# SPDX-License-Identifier: Apache-2.0
"""The image's root file system under a real container runtime (podman, with crun or runc, whichever works here): read-only, without a user of
the host, without capabilities; with the runtime's default seccomp profile, that and io_uring, and our own. A mail goes in by LMTP and
out by POP3. With PENFOLD_IMAGE (make image-test) the image itself, too."""
import glob
import json
import os
import shutil
import subprocess

import penfold
import pytest
from penfold import DOMAIN, PASSWORD, Lmtp, Pop3, free_ports, settled, without_trace
from podman import Podman

DEPLOY = os.path.join(penfold.TOP, 'deploy')
USER = 10001
DEFAULT_PROFILE = '/usr/share/containers/seccomp.json'

pytestmark = [pytest.mark.skipif(not shutil.which('podman'), reason='podman is not installed'),
              pytest.mark.skipif(os.geteuid() != 0, reason='rootless containers need sub-ids: run the tests as root'),
              pytest.mark.skipif(not os.path.exists(DEFAULT_PROFILE), reason=f'no {DEFAULT_PROFILE} (golang-github-containers-common)')]


@pytest.fixture(scope='module')
def rootfs(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp('image') / 'rootfs')
    r = subprocess.run([os.path.join(DEPLOY, 'image', 'rootfs.sh'), penfold.BINARY, folder], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr
    return folder


@pytest.fixture(scope='module')
def box(tmp_path_factory, rootfs):
    """A copy to run: podman puts files of its own into it."""
    folder = str(tmp_path_factory.mktemp('box') / 'rootfs')
    subprocess.run(['cp', '-a', rootfs, folder], check=True)
    return folder


@pytest.fixture(scope='module')
def podman(tmp_path_factory, box):
    return Podman(tmp_path_factory.mktemp('podman'), box)


@pytest.fixture(scope='module')
def with_io_uring(tmp_path_factory):
    path = tmp_path_factory.mktemp('seccomp') / 'with-io-uring.json'
    r = subprocess.run([os.path.join(DEPLOY, 'seccomp', 'add-io-uring.py')], capture_output=True, timeout=30)
    assert r.returncode == 0, r.stderr
    path.write_bytes(r.stdout)
    return str(path)


class Container:
    """A server in a container; its log is podman's output."""

    def __init__(self, podman, folder, what, options=(), backend='auto'):
        self.podman, self.folder, self.name = podman, folder, f'penfold-test-{os.getpid()}-{os.path.basename(str(folder))}'
        self.pop3_port, self.lmtp_port, self.http_port = free_ports(3)
        self.log_path = os.path.join(folder, 'log')
        data, config = os.path.join(folder, 'data'), os.path.join(folder, 'penfold.yaml')
        os.mkdir(data, 0o700)
        os.chown(data, USER, USER)
        with open(config, 'w') as f:
            f.write(f'''data: /var/lib/penfold
shards: 2
listeners:
  - {{ protocol: pop3, address: "127.0.0.1:{self.pop3_port}" }}
  - {{ protocol: lmtp, address: "127.0.0.1:{self.lmtp_port}" }}
http: {{ address: "127.0.0.1:{self.http_port}" }}
io: {{ backend: {backend} }}
log: {{ form: json }}
''')
        os.chmod(config, 0o644)
        with open(self.log_path, 'wb') as log:
            self.process = subprocess.Popen(podman.argv([*(['--user', f'{USER}:{USER}'] if '--rootfs' in what else []), *options, '--name', self.name, '--volume', f'{data}:/var/lib/penfold',
                                                         '--volume', f'{config}:/etc/penfold/penfold.yaml:ro'], what),
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def log(self):
        with open(self.log_path, errors='replace') as f:
            return f.read()

    def events(self):
        return [json.loads(l) for l in self.log().splitlines() if l.startswith('{')]

    def tool(self, *args, **more):
        return self.podman.call('exec', *(['-i'] if 'input' in more else []), self.name, '/usr/bin/penfold', *args, **more)

    def greets(self):
        """True: it serves. False: it has ended."""
        def look():
            if self.process.poll() is None:
                with Lmtp('127.0.0.1', self.lmtp_port, timeout=10):
                    pass
        settled(look, 40)
        return self.process.poll() is None

    def mail_goes_through(self):
        self.tool('tenant', 'add', 'demo')
        self.tool('domain', 'add', DOMAIN, '--tenant', 'demo')
        self.tool('account', 'add', f'ann@{DOMAIN}', '--password-stdin', input=PASSWORD.encode() + b'\n')
        message = b'Subject: in a box\r\n\r\n' + b'0123456789' * 20000 + b'\r\n'

        def deliver():
            with Lmtp('127.0.0.1', self.lmtp_port, timeout=30) as l:
                (code, text), = l.replies('', [f'ann@{DOMAIN}'], message).values()
                assert code == 250, text
        settled(deliver, 10)
        with Pop3(self.pop3_port, f'ann@{DOMAIN}', PASSWORD) as pop:
            assert without_trace(pop.retr(1)) == message

    def stop(self):
        """As an orchestrator does."""
        if self.process.poll() is None:
            self.podman.call('stop', '--time', '20', self.name)
        return self.process.wait(40)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if self.process.poll() is None:
            subprocess.run(self.podman.plain(['kill', self.name]), capture_output=True, timeout=30)
            self.process.wait(30)


def serve(folder):
    return ['--rootfs', folder, '/usr/bin/penfold', 'serve']


def has_other_backend(tmp_path):
    """Does this program know one that does without io_uring?"""
    config = tmp_path / 'epoll.yaml'
    config.write_text('data: nowhere\nlisteners: [{ protocol: pop3, address: "127.0.0.1:1110" }]\nio: { backend: epoll }\n')
    return subprocess.run([penfold.BINARY, '--config', str(config), 'config', 'check'], capture_output=True, timeout=30).returncode == 0


@pytest.mark.parametrize('profile', ['with-io-uring', 'penfold.json'])
def test_profiles_with_io_uring(tmp_path, podman, box, with_io_uring, profile):
    path = with_io_uring if profile == 'with-io-uring' else os.path.join(DEPLOY, 'seccomp', 'penfold.json')
    with Container(podman, str(tmp_path), serve(box), ['--security-opt', f'seccomp={path}'], backend='io_uring') as c:
        assert c.greets(), c.log()
        c.mail_goes_through()
        assert c.stop() == 0, c.log()
        assert c.events()[-1]['event'] == 'server.end'


def test_default_profile(tmp_path, podman, box):
    """Where the default refuses io_uring: the other back end serves and says why once; a program without one ends and says why."""
    with Container(podman, str(tmp_path), serve(box)) as c:
        served = c.greets()
        if served:
            c.mail_goes_through()
            assert c.stop() == 0, c.log()
        refusals = [e for e in c.events() if 'io_uring' in json.dumps(e)]
        with open(DEFAULT_PROFILE) as f:
            refused = 'io_uring_setup' not in json.dumps([r for r in json.load(f)['syscalls'] if r['action'] == 'SCMP_ACT_ALLOW'])
        assert served or refused, c.log()
        assert served or not has_other_backend(tmp_path), c.log()
        if refused:
            assert len(refusals) == 1 and 'seccomp' in json.dumps(refusals), c.log()
        if not served:
            assert c.process.wait(30) not in (0, None)


def test_io_uring_asked_for_and_refused(tmp_path, podman, box):
    """Who asks for io_uring by name gets it or an end that names cause and cure."""
    path = os.path.join(DEPLOY, 'seccomp', 'penfold.json')
    with open(path) as f:
        profile = json.load(f)
    for rule in profile['syscalls']:
        rule['names'] = [n for n in rule['names'] if not n.startswith('io_uring')]
    profile['syscalls'] = [r for r in profile['syscalls'] if r['names']]
    without = tmp_path / 'without.json'
    without.write_text(json.dumps(profile))
    with Container(podman, str(tmp_path), serve(box), ['--security-opt', f'seccomp={without}'], backend='io_uring') as c:
        assert c.process.wait(40) not in (0, None)
        assert 'seccomp' in c.log()


def calls_of(sets, names):
    """The calls that systemd means by names of calls and of sets."""
    out = set()
    for name in names:
        out |= calls_of(sets, sets[name]) if name.startswith('@') else {name}
    return out


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='systemd-analyze (package systemd) is not installed')
def test_the_services_own_filter(tmp_path, podman, box):
    """SystemCallFilter= of penfold.service, made a profile: the service lives with what it allows."""
    listing = subprocess.run(['systemd-analyze', 'syscall-filter', '--no-pager'], capture_output=True, text=True, check=True, timeout=30).stdout
    sets, name = {}, None
    for line in listing.splitlines():
        word = line.strip()
        if line.startswith('@'):
            name, sets[line.strip()] = line.strip(), []
        elif line.startswith('    ') and name and not word.startswith('#'):
            sets[name].append(word)
    allowed = calls_of(sets, ['@default'])
    with open(os.path.join(DEPLOY, 'systemd', 'penfold.service')) as f:
        filters = [l.strip().partition('=')[2] for l in f if l.startswith('SystemCallFilter=')]
    assert len(filters) == 3
    for text in filters:
        names = calls_of(sets, text.lstrip('~').split())
        allowed = allowed - names if text.startswith('~') else allowed | names
    assert {'io_uring_setup', 'fdatasync'} <= allowed and not {'mount', 'setuid', 'reboot', 'chown'} & allowed
    runtime = {'capset', 'setgroups', 'setgid', 'setuid', 'setresgid', 'setresuid'}  # before it starts the program
    path = tmp_path / 'service.json'
    path.write_text(json.dumps({'defaultAction': 'SCMP_ACT_ERRNO', 'defaultErrnoRet': 1, 'archMap': [
        {'architecture': 'SCMP_ARCH_X86_64', 'subArchitectures': []}, {'architecture': 'SCMP_ARCH_AARCH64', 'subArchitectures': []}],
        'syscalls': [{'names': sorted(allowed | runtime), 'action': 'SCMP_ACT_ALLOW'}]}))
    with Container(podman, str(tmp_path), serve(box), ['--security-opt', f'seccomp={path}'], backend='io_uring') as c:
        assert c.greets(), c.log()
        c.mail_goes_through()
        assert c.stop() == 0, c.log()


def test_what_is_in_it(rootfs):
    """Small, no shell, nothing that gives rights, each library's origin on record."""
    size = sum(os.lstat(os.path.join(folder, n)).st_size for folder, _, names in os.walk(rootfs) for n in names)
    assert size < 50 << 20
    programs = [f for d in ('bin', 'sbin', 'usr/bin', 'usr/sbin') for f in glob.glob(f'{rootfs}/{d}/*')]
    assert {os.path.basename(f) for f in programs} == {'penfold'}
    for folder, _, names in os.walk(rootfs):
        for n in names:
            st = os.lstat(os.path.join(folder, n))
            assert not st.st_mode & 0o6000, n
            assert st.st_mode & 0o170000 == 0o120000 or not st.st_mode & 0o002, n
    recorded = set(os.listdir(f'{rootfs}/var/lib/dpkg/status.d'))
    assert {'libc6', 'liburing2', 'libsqlite3-0', 'android-libboringssl', 'ca-certificates'} <= recorded
    for package in recorded:
        assert os.path.exists(f'{rootfs}/usr/share/doc/{package}/copyright'), package
    assert os.stat(f'{rootfs}/var/lib/penfold').st_uid == USER


def test_made_twice_it_is_the_same(tmp_path, rootfs):
    again = str(tmp_path / 'again')
    subprocess.run([os.path.join(DEPLOY, 'image', 'rootfs.sh'), penfold.BINARY, again], check=True, capture_output=True, timeout=120)
    r = subprocess.run(['diff', '-r', '--no-dereference', rootfs, again], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


def image():
    return os.environ.get('PENFOLD_IMAGE')


@pytest.mark.skipif(not image(), reason='make image-test builds the image and runs this')
def test_the_image(tmp_path, podman, with_io_uring):
    """By its own entry point, user and configuration."""
    podman.call('load', '--input', image())
    r = podman.call('image', 'inspect', 'penfold')
    config = json.loads(r.stdout)[0]['Config']
    assert config['User'] == f'{USER}:{USER}' and config['Cmd'] == ['serve'] and config['StopSignal'] == 'SIGTERM'
    with Container(podman, str(tmp_path), ['penfold'], ['--security-opt', f'seccomp={with_io_uring}'], backend='io_uring') as c:
        assert c.greets(), c.log()
        c.mail_goes_through()
        assert c.stop() == 0, c.log()
