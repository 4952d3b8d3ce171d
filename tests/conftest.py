"""What every test runs under: one thread a process, figures without a screen, no notebook bars."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and torch are imported: tests run side by side
os.environ["MPLBACKEND"] = "Agg"
os.environ["TQDM_DISABLE"] = "1"

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def _own_processes() -> Iterator[None]:
    """Worker processes end with the file that started them: joblib would keep them for the next."""
    yield
    from joblib.externals.loky import reusable_executor

    if reusable_executor._executor is not None:
        reusable_executor._executor.shutdown(wait=True, kill_workers=True)
