# SPDX-License-Identifier: Apache-2.0
import os
import resource
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from penfold import Penfold  # noqa: E402

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))  # a user's soft limit of 1024 is less than some tests hold


@pytest.fixture
def penfold(tmp_path):
    """A server with the account ann@demo.example."""
    with Penfold(tmp_path) as p:
        yield p
