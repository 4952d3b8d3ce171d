"""Where files are kept that can be made again: in a folder of the user, never in the package."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile


def cache_folder(given: str | Path = "") -> Path:
    """The folder for what can be made again: ``given``, else $MMER_CACHE, else ~/.cache/mmer."""
    if given:
        return Path(given)
    if named := os.environ.get("MMER_CACHE"):
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "mmer"


def is_writable(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
