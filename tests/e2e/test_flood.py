# SPDX-License-Identifier: Apache-2.0
"""One tenant floods, another's users go on: every session of theirs succeeds. How fast is measured by bench/flood.py."""
import os
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'bench'))
import flood
from penfold import Penfold

POLLS = 30


@pytest.fixture
def served(tmp_path):
    with Penfold(tmp_path, accounts=(), extra=flood.LIMITS) as p:
        flood.setup(p)
        yield p


@pytest.mark.parametrize('kind', flood.KINDS)
def test_nobody_else_is_refused(served, kind):
    p = served
    with flood.Flood(p, kind, 24, processes=2) as f:
        for i in range(POLLS):
            flood.poll(p, flood.VICTIMS[i % len(flood.VICTIMS)])  # raises if anything fails
        p.deliver(b'Subject: y\r\n\r\nanother\r\n', *flood.VICTIMS)
    if kind != 'idle':
        assert f.done  # there was a flood
    usage = {t['tenant']: t for t in p.json('stats', '--tenants')['tenants']}
    assert usage['victim']['sessions'] == POLLS and usage['victim']['logins_failed'] == 0
    assert usage['victim']['deliveries'] == 2 * len(flood.VICTIMS)
    if kind == 'passwords':
        assert usage['flood']['logins_failed'] > 0
    if kind == 'deliveries':
        assert usage['flood']['deliveries'] > 0
