#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds io_uring to a container runtime's own default profile, whichever version that is:

    add-io-uring.py [DEFAULT.json] > with-io-uring.json

DEFAULT.json is /usr/share/containers/seccomp.json (podman, CRI-O) unless given; Docker's and containerd's are compiled in, and published in the
same form by their projects. Everything else stays as the runtime has it."""
import json
import sys

CALLS = ('io_uring_enter', 'io_uring_register', 'io_uring_setup')


def with_io_uring(profile):
    for rule in profile['syscalls']:  # a later rule that refuses them would win
        if rule['action'] != 'SCMP_ACT_ALLOW':
            rule['names'] = [n for n in rule['names'] if n not in CALLS]
    profile['syscalls'] = [r for r in profile['syscalls'] if r['names']]
    profile['syscalls'].append({'names': list(CALLS), 'action': 'SCMP_ACT_ALLOW', 'args': [], 'includes': {}, 'excludes': {}})
    return profile


if __name__ == '__main__':
    with open(sys.argv[1] if len(sys.argv) > 1 else '/usr/share/containers/seccomp.json') as f:
        json.dump(with_io_uring(json.load(f)), sys.stdout, indent=1)
    sys.stdout.write('\n')
