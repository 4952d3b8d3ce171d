"""Real corpora for tests: not part of the repository, so tests of them skip where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_data(name: str) -> Path:
    """The file ``name`` under the folder of real data; skips the test if it is not there.

    The folder is ``$MMER_TEST_DATA``, else ``shared/data`` beside the repository.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    file = Path(os.environ.get("MMER_TEST_DATA", beside)) / name
    if not file.exists():
        pytest.skip(f"{file} is not there: real data is not part of the repository")
    return file
