# SPDX-License-Identifier: Apache-2.0
"""The models of ownership, searched by Spin: fence.pml (storage/fence.h, own.h) and lock.pml (net/fleet).

Each row names a model, its switches, and what the search must say: "complete" (searched to the end, no error) or
"violates" (a mutant: with that rule left out the property breaks, so the search can see it).  `make test` runs the short
rows; MODELS=long (make models) runs all of them, some for minutes and gigabytes.  README.md has what each row is for.
"""
import os
import re
import shutil
import subprocess

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = os.environ.get('MODELS') == 'long'
MEMORY_MIB = int(os.environ.get('MODELS_MIB', '5000'))

S = 'GENS=4 MSGS=1 RMAX=1'
S2 = 'GENS=4 MSGS=1 RMAX=2'

SHORT = [
    ('fence', 'GENS=3 MSGS=1 RMAX=1', 'complete'),
    ('fence', 'GENS=3 MSGS=1 RMAX=1 CRASH=1', 'complete'),
    ('fence', f'{S}', 'complete'),
    ('fence', f'{S} REOPEN M_REOPENNOLOOK', 'violates'),
    ('fence', f'{S2} M_NOTOMB', 'violates'),
    ('fence', f'{S2} M_STUBNOLOOK', 'violates'),
    ('fence', f'{S2} M_RENAMEFIRST', 'violates'),
    ('fence', f'{S2} M_NOCHECK', 'violates'),
    ('lock', 'INCS=2 CRASH=1 SETTLE', 'complete'),
    ('lock', 'INCS=2 GAP TIMEOUT', 'complete'),
    ('lock', 'INCS=2 LOSS=1 SETTLE', 'complete'),
    ('lock', 'CRASH=1 SETTLE M_REFRESH', 'violates'),
    ('lock', 'TWIN M_SETXX', 'violates'),
    ('lock', 'M_SAMEINC', 'violates'),
    ('lock', 'TTL=3 TIMEOUT M_OWNVALUE', 'violates'),
    ('lock', 'LATE M_RELNOTOKEN', 'violates'),
    ('lock', 'INCS=2 LOSS=1 M_NOREPLYCHECK', 'violates'),
    ('lock', 'INCS=2 LOSS=1 M_NOWAIT', 'violates'),
    ('lock', 'INCS=2 LOSS=1 M_NOCLAIM', 'violates'),
    ('lock', 'M_MONOTONIC', 'violates'),
]

ALL = [
    ('fence', f'{S} CRASH=1', 'complete'),
    ('fence', f'{S} POWER=1', 'complete'),
    ('fence', f'{S} SEAL', 'complete'),
    ('fence', f'{S} READONLY', 'complete'),
    ('fence', f'{S} MERGE', 'complete'),
    ('fence', f'{S} REOPEN', 'complete'),
    ('fence', f'{S2}', 'complete'),
    ('fence', 'GENS=4 MSGS=2 RMAX=1', 'complete'),
    ('fence', f'{S2} ASCENDING NODAMAGE', 'complete'),
    ('fence', f'{S} ASCENDING CRASH=1', 'complete'),
    ('fence', f'{S2} SILLY LOWFIRST', 'complete'),
    ('fence', f'{S} SILLY LOWFIRST MERGE', 'complete'),
    ('fence', f'{S2} STRICT', 'violates'),
    ('fence', f'{S} POWER=1 STRICT', 'violates'),
    ('fence', f'{S2} ASCENDING', 'violates'),
    ('fence', f'{S} SILLY', 'violates'),
    ('fence', f'{S} SILLY NODAMAGE', 'violates'),
    ('fence', 'GENS=4 MSGS=2 RMAX=1 M_NOUIDNEXT', 'violates'),
    ('fence', f'{S2} M_STUBFREES', 'violates'),
    ('fence', f'{S2} M_LOOKORDER', 'violates'),
    ('fence', f'{S2} M_NOOWN', 'violates'),
    ('fence', f'{S2} M_DESCENDING', 'violates'),
    ('fence', f'{S2} POWER=1 M_NOSTUBSYNC', 'violates'),
    ('fence', f'{S2} POWER=1 M_NOSTUBSYNC NODAMAGE', 'violates'),
    ('fence', f'{S} POWER=1 M_NODIRSYNC', 'violates'),
    ('fence', 'GENS=4 MSGS=2 RMAX=0 POWER=1 M_NOOLDSYNC', 'violates'),
    ('fence', 'GENS=4 MSGS=1 RMAX=3 M_NORELIST', 'violates'),
    ('fence', f'{S} READONLY M_RONOLOOK', 'violates'),
    ('lock', '', 'complete'),
    ('lock', 'SETTLE', 'complete'),
    ('lock', 'TIMEOUT SETTLE', 'complete'),
    ('lock', 'TWIN', 'complete'),
    ('lock', 'INCS=2 LATE', 'complete'),
    ('lock', 'INCS=2 LATE TIMEOUT', 'complete'),
    ('lock', 'INCS=3 CRASH=1 SETTLE', 'complete'),
    ('lock', 'INCS=2 TTL=3', 'complete'),
    ('lock', 'INCS=2 LOSS=1 TIMEOUT SETTLE', 'complete'),
    ('lock', 'INCS=2 LOSS=1 CRASH=1 SETTLE', 'complete'),
    ('lock', 'INCS=2 LOSS=2', 'complete'),
    ('lock', 'INCS=2 CRASH=1 M_SETXX', 'complete'),
    ('lock', 'INCS=2 LOSS=1 M_STEALOTHERMASTER', 'complete'),
]


def search(model, switches, folder):
    """Builds Spin's verifier of one variant and runs it; (errors, finished, output)."""
    shutil.copy(os.path.join(HERE, model + '.pml'), folder)
    defines = ['-D' + s for s in switches.split()]
    subprocess.run(['spin', *defines, '-a', model + '.pml'], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['cc', '-O2' if LONG else '-O1', '-w', '-DSAFETY', '-DCOLLAPSE', f'-DMEMLIM={MEMORY_MIB}', '-DVECTORSZ=2048',
                    '-o', 'pan', 'pan.c'], cwd=folder, check=True)
    run = subprocess.run(['./pan', '-m10000000', '-w24' if LONG else '-w20', '-n'] + (['-E'] if model == 'lock' else []),
                         cwd=folder, capture_output=True, text=True, timeout=3600)
    found = re.search(r'errors: (\d+)', run.stdout)
    assert found, run.stdout + run.stderr
    finished = not re.search(r'Search not completed|out of memory|max search depth too small', run.stdout)
    return int(found.group(1)), finished, run.stdout


@pytest.mark.skipif(not shutil.which('spin'), reason='spin is not installed')
@pytest.mark.parametrize('model, switches, expected', SHORT + (ALL if LONG else []), ids=lambda x: x.replace(' ', ',') or 'plain')
def test_variant(tmp_path, model, switches, expected):
    errors, finished, output = search(model, switches, tmp_path)
    if expected == 'complete':
        assert errors == 0 and finished, output
    else:
        assert errors > 0 and 'assertion violated' in output, output
