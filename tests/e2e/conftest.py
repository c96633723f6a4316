# SPDX-License-Identifier: Apache-2.0
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from penfold import Penfold  # noqa: E402


@pytest.fixture
def penfold(tmp_path):
    """A server with the account ann@demo.example."""
    with Penfold(tmp_path) as p:
        yield p
