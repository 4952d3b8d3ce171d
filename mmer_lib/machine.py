"""How many cores and how much memory this process may use: the least of what the machine has, what
its group is granted (control groups of Linux: containers, batch systems) and its own limits. And
how much room there is on its disks.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED = 1 << 60  # what the first version of control groups writes for no limit is above


@dataclass(frozen=True)
class Limits:
    """``cores`` may be a fraction; ``memory_gb`` is what is free, None if it cannot be known."""

    cores: float
    cores_why: str
    memory_gb: float | None
    memory_why: str


def read_limits(root: Path = Path("/")) -> Limits:
    """What holds for this process now; ``root`` is where ``proc`` and ``sys`` are."""
    cores = {f"the machine has {os.cpu_count() or 1}": float(os.cpu_count() or 1)}
    if hasattr(os, "sched_getaffinity"):
        cores["all that this process is bound to"] = float(len(os.sched_getaffinity(0)))
    if (granted := _least(map(_granted_cores, _groups(root, "cpu")))) is not None:
        cores["granted to its control group"] = granted
    memory = {}
    with suppress(ImportError):
        import psutil

        memory["free on the machine"] = float(psutil.virtual_memory().available)
    if (left := _least(map(_memory_left, _groups(root, "memory")))) is not None:
        memory["left to its control group"] = left
    if (limit := _address_space()) is not None:
        memory["by `ulimit -v`"] = limit
    fewest = min(cores, key=lambda why: cores[why])
    if not memory:
        return Limits(cores[fewest], fewest, None, "")
    least = min(memory, key=lambda why: memory[why])
    return Limits(cores[fewest], fewest, memory[least] / 1e9, least)


def free_gb(folder: Path) -> float:
    """Room in GB where a folder is or would be made; ``OSError`` if nothing can be written."""
    there = nearest(folder)
    with tempfile.TemporaryFile(dir=there) as file:
        file.write(b"room for a byte")
    return shutil.disk_usage(there).free / 1e9


def nearest(folder: Path) -> Path:
    """``folder``, or the nearest above it that is there."""
    whole = folder.absolute()
    return next((p for p in (whole, *whole.parents) if p.exists()), whole)


def _least(found: Iterator[float | None]) -> float | None:
    return min((n for n in found if n is not None), default=None)


def _groups(root: Path, controller: str) -> list[Path]:
    """The folders of the groups that this process is in, of either version, up to the top.

    In a container the path of a group may be that of the host: what is there of it is taken.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = root / "sys/fs/cgroup" / (controller if names else "")
        own = top / path.lstrip("/")
        folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _granted_cores(group: Path) -> float | None:
    """Of a group; None for no limit."""
    with suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        quota, period = ((group / f"cpu.cfs_{n}_us").read_text() for n in ("quota", "period"))
        return None if int(quota) < 0 else int(quota) / int(period)
    return None


def _memory_left(group: Path) -> float | None:
    """Bytes that a group may still take, its cache of files counted as free; None for no limit."""
    for most, used, kept in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(OSError, ValueError):
            limit = (group / most).read_text().strip()
            if limit == "max" or int(limit) > _UNLIMITED:
                return None
            taken = int((group / used).read_text())
            about = dict(x.split(" ", 1) for x in (group / "memory.stat").read_text().splitlines())
            return max(0.0, int(limit) - taken + int(about.get(kept, 0)))
    return None


def _address_space() -> float | None:
    """The limit of this process in bytes, if it has one."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else float(soft)
