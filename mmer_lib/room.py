"""What a folder can do, tried in it: room, and the abilities of its file system.

A folder that is not there yet is judged by the nearest one above it; nothing is left behind.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from pathlib import Path


def free_gb(folder: Path) -> float:
    """Room in GB. Raises ``OSError`` if nothing can be written there."""
    there = _nearest(folder)
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"room for a byte")
    return shutil.disk_usage(there).free / 1e9


def lacking(folder: Path) -> list[str]:
    """What a result store needs and ``folder`` cannot do.

    Folders that are renamed whole, files that are mapped into memory, and locked. Raises
    ``OSError`` if nothing can be written there.
    """
    with tempfile.TemporaryDirectory(prefix=".mmer-", dir=_nearest(folder)) as own:
        beside, run = Path(own, "beside"), Path(own, "run")
        beside.mkdir()
        (beside / "file").write_bytes(b"whole")
        try:
            beside.rename(run)
        except OSError:
            return ["renaming of folders"]
        return [what for what, works in (_MAPS, _LOCKS) if not works(run / "file")]


def _can_map(file: Path) -> bool:
    with file.open("r+b") as opened:
        try:
            mmap.mmap(opened.fileno(), 0).close()
        except (OSError, ValueError):
            return False
    return True


def _can_lock(file: Path) -> bool:
    try:
        import fcntl
    except ImportError:  # no such locks on this system, so none are used
        return True
    with file.open("r+b") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


_MAPS, _LOCKS = ("memory-mapped files", _can_map), ("locks", _can_lock)


def _nearest(folder: Path) -> Path:
    """``folder``, or the nearest above it that is there."""
    whole = folder.absolute()
    return next((p for p in (whole, *whole.parents) if p.exists()), whole)
