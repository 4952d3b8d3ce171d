"""Imported, it notes in the file LOG_OF_RUNS which runs are begun and ended.

Workers are forked from a server that imports it, too.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmer_lib import sweep

_execute = sweep.execute


def _note(what: str, key: str) -> None:
    with Path(os.environ["LOG_OF_RUNS"]).open("a") as stream:
        stream.write(f"{what} {key}\n")


def _noted(run: sweep.Run, *rest: Any) -> str:
    _note("begun", run.key)
    key = _execute(run, *rest)
    _note("ended", run.key)
    return key


sweep.execute = _noted
sweep.PRELOAD = (*sweep.PRELOAD, __name__)
