# SPDX-License-Identifier: Apache-2.0
"""Random operations by several IMAP sessions, POP3 and LMTP on one account, beside a model in memory: imap_model.py.

    PENFOLD_MODEL_SECONDS=600 pytest tests/e2e/test_imap_model.py    so long, instead of some runs
    PENFOLD_MODEL_SEED=17     pytest tests/e2e/test_imap_model.py    this seed first, which a failing run has told

A run that fails is made smaller (operations are left out while it still fails) and told as the operations that are left.
"""
import itertools
import os
import random
import re
import time

import pytest

from imap_model import MODES, WEIGHTS, operations, run, shrink
from penfold import Penfold

SECONDS = float(os.environ.get('PENFOLD_MODEL_SECONDS', 0))
SEED = int(os.environ.get('PENFOLD_MODEL_SEED', 0)) or random.SystemRandom().randrange(1 << 30)
ABSENT = {'append': 5, 'lmtp': 3, 'store': 14, 'copy': 6, 'expunge': 10, 'unselect': 8, 'select': 4, 'pop3': 2, 'restart': .3}


@pytest.fixture(scope='module')
def server(tmp_path_factory):
    names = [f'm{i}' for i in range(20000 if SECONDS else 1000)]
    with Penfold(tmp_path_factory.mktemp('model'), accounts=names, extra='store: { flags_sync_ms: 0 }') as p:
        p.fresh = iter(names)
        yield p


def same(wrong, other):
    """Two failures of one kind."""
    return other and re.findall(r'[A-Za-z ]+', other[0])[:3] == re.findall(r'[A-Za-z ]+', wrong[0])[:3]


def try_seeds(server, runs, count, weights, modes=MODES):
    began = time.time()
    for turn in itertools.count():
        if turn >= runs and time.time() - began > SECONDS / 3:
            break
        seed = SEED + turn
        ops = operations(seed, count, weights, len(modes))
        wrong = run(server, next(server.fresh), ops, modes)
        if wrong:
            small = shrink(ops, lambda less: same(wrong, run(server, next(server.fresh), less, modes)), 150)
            again = run(server, next(server.fresh), small, modes) or wrong
            pytest.fail(f'seed {seed}: {wrong[0]}\n{len(small)} operations of {count} are left: {small}\n{again[0]}\n' + '\n'.join(again[1]), pytrace=False)
    print(f'seeds {SEED} to {SEED + turn - 1}, {count} operations each, {time.time() - began:.0f} s')


def test_random_operations(server):
    try_seeds(server, 12, 250, WEIGHTS)


def test_with_restarts_and_kills(server):
    try_seeds(server, 4, 80, {**WEIGHTS, 'restart': 2, 'kill': 6})


def test_a_cache_is_resynchronised(server):
    """QRESYNC: clients that come and go, and others that change things meanwhile; what the cache says then is what is there."""
    try_seeds(server, 8, 150, ABSENT, ['qresync', 'plain', 'qresync', 'condstore'])


def test_shrinking():
    """What is left of a run fails still, and with one less it does not."""
    ops = [('noop', 0, n) for n in range(100)]
    small = shrink(ops, lambda less: {('noop', 0, 17), ('noop', 0, 60)} <= set(less), 300)
    assert small == [('noop', 0, 17), ('noop', 0, 60)]
