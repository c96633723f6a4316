# SPDX-License-Identifier: Apache-2.0
"""podman with a store of its own, in whichever way it works on this machine: a container in a container, mixed control groups and limits that may
not be raised are all met in the wild."""
import os
import resource
import shutil
import subprocess

import pytest

# crun knows no host with both kinds of control groups: there it gets a view without the newer one
ONE_KIND = ['unshare', '--mount', 'sh', '-c', 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$@"', 'sh']
WAYS = (('crun', ['--cgroups', 'disabled'], []), ('crun', ['--cgroups', 'disabled'], ONE_KIND), ('runc', [], []), ('crun', [], []))


class Podman:
    def __init__(self, folder, rootfs):
        """Tries the ways with a root file system that has Penfold; skips the test if none works."""
        self.folder = folder
        # not above what we have, which podman would try: it may not be ours to raise
        files, processes = (n if 0 < n < 4096 else 4096 for n in (resource.getrlimit(r)[1] for r in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC)))
        self.machine = ['--network', 'host', '--ulimit', f'nofile={files}:{files}', '--ulimit', f'nproc={processes}:{processes}']
        self.run_options = ['--rm', '--read-only', '--cap-drop', 'all', '--security-opt', 'no-new-privileges']
        said = []
        for self.runtime, self.cgroups, self.before in WAYS:
            if not shutil.which(self.runtime):
                continue
            r = subprocess.run(self.argv([], ['--rootfs', rootfs, '/usr/bin/penfold', 'config', 'check']), capture_output=True, text=True, timeout=60)
            if r.returncode == 0:
                return
            said.append(f'{self.runtime}: {(r.stderr or r.stdout).strip()[-200:]}')
        pytest.skip('no container runtime works on this machine: ' + ('; '.join(said) or 'neither crun nor runc is installed'))

    def plain(self, args):
        return [*self.before, shutil.which('podman', path=os.defpath + ':/usr/bin:/usr/local/bin'), '--root', f'{self.folder}/store', '--runroot',
                f'{self.folder}/run', '--storage-driver', 'vfs', '--cgroup-manager', 'cgroupfs', '--events-backend', 'none', '--runtime', self.runtime, *args]

    def argv(self, options, what):
        return self.plain(['run', *self.machine, *self.cgroups, *self.run_options, *options, *what])

    def call(self, *args, **more):
        r = subprocess.run(self.plain(args), capture_output=True, timeout=60, **more)
        assert r.returncode == 0, r.stdout + r.stderr
        return r
