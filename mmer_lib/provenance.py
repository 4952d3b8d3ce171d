"""Where a result comes from: versions, commit, machine, date. Nothing of it names a person.

``machine`` is the system, the architecture and the kind of processor; no host, user or folder is
ever written. ``commit`` is that of the repository that this library lies in, None elsewhere (as
installed from an index), and ``modified`` whether a file that git knows had changed, figures left
aside: those are what a study writes.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmer_lib

PACKAGES = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib")  # decide numbers
LIBRARY = Path(mmer_lib.__file__).resolve().parent


def provenance() -> dict[str, Any]:
    """``mmer, python, packages, commit, modified, machine, date`` (UTC), as JSON can hold them."""
    commit, modified = read_commit()
    return {
        "mmer": mmer_lib.__version__,
        "python": platform.python_version(),
        "packages": _versions(PACKAGES),
        "commit": commit,
        "modified": modified,
        "machine": describe_machine(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@cache
def read_commit(folder: Path = LIBRARY) -> tuple[str | None, bool | None]:
    """The commit that the code in ``folder`` is from, and whether it was changed since.

    (None, None) outside a repository, in one that does not know the code, and without git. Read
    once a process, as the code is.
    """
    known = _git(folder, "ls-files", "--", "__init__.py")
    commit = _git(folder, "rev-parse", "HEAD") if known else None
    if not commit:
        return None, None
    changed = _git(
        folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", ":(exclude,top)figures"
    )
    return commit, None if changed is None else bool(changed)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git answers about ``folder``; None if it cannot."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True,
            env={**plain, "GIT_OPTIONAL_LOCKS": "0"}, timeout=20,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@cache
def describe_machine() -> str:
    """System, architecture and kind of processor: ``Linux x86_64, AMD EPYC 7B13``."""
    kind = f"{platform.system()} {platform.machine()}"
    processor = _processor()
    return f"{kind}, {processor}" if processor else kind


def _processor() -> str:
    """The kind of processor as the system tells it, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        told = platform.processor()
        return "" if told == platform.machine() else told
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return " ".join(next(names, "").split())


@cache
def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
