"""Where a result comes from: versions, commit, machine, date, and the data that it was made of.

A run has this in its ``run.json``, a figure in its PNG (``plots.save(..., of=runs)``), a table in a
JSON of its name beside it (``write_table``), an executed notebook in its record.

    of     [{"corpus": name, "fingerprint": ..., "study": ..., "runs": n, "keys": hash of all}]
    made   mmer, python, packages, commit, modified, machine, date (UTC)

``fingerprint`` is the hash of a corpus; ``study`` of all that the runs of one plan share: corpus,
protocol, folds, training, sizes; ``keys`` of the keys of these runs, each of which is the hash of
the run's whole specification. So the two that show the same ``of`` are of the same runs.

Nothing of it names a person.
``machine`` is the system, the architecture and the kind of processor; no host, user or folder is
ever written. ``commit`` is that of the repository that this library lies in, None elsewhere (as
installed from an index), and ``modified`` whether a file that git knows had changed, figures and
summaries left aside: those are what a study writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import mmer_lib
from mmer_lib.errors import InputError

PACKAGES = ("torch", "numpy", "pandas", "scipy", "scikit-learn", "matplotlib")  # decide numbers
SOURCE = ("corpus", "fingerprint", "study")  # columns of a table of runs that tell of its data
LIBRARY = Path(mmer_lib.__file__).resolve().parent
WRITTEN = ("figures", "notebooks/summaries")  # by a study, in the repository


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
    aside = [f":(exclude,top){written}" for written in WRITTEN]
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", *aside)
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


# -- of what it was made ---------------------------------------------------------------------------


def describe_sources(of: Any) -> list[dict[str, Any]]:
    """What ``of`` names as the data of a figure or table, as JSON can hold it.

    A corpus (by ``name`` and ``fingerprint``), a table of runs (by its columns ``SOURCE`` and
    ``key``), what ``read_summary`` tells of a summary (its ``source``), or several of these.
    Raises ``InputError`` for anything else.
    """
    several = of if isinstance(of, list | tuple) else [of]
    return [entry for one in several if one is not None for entry in _describe_source(one)]


def _describe_source(of: Any) -> Iterator[dict[str, Any]]:
    columns = getattr(of, "columns", None)
    if isinstance(of, Mapping) and "source" in of:
        yield dict(of["source"])
    elif columns is not None and {*SOURCE, "key"} <= {*columns}:
        for names, runs in of.groupby(list(SOURCE), sort=True):
            keys = sorted(set(runs["key"]))
            told = dict(zip(SOURCE, map(str, names), strict=True))
            yield told | {"runs": len(keys), "keys": _digest(" ".join(keys).encode())}
    elif columns is not None and "source" in of.attrs:
        yield dict(of.attrs["source"])
    elif hasattr(of, "fingerprint"):
        yield {"corpus": str(of.name), "fingerprint": str(of.fingerprint)}
    else:
        raise InputError(
            f"of={type(of).__name__}: a corpus, a table of runs of the store, or what read_summary "
            f"tells expected, or a list of them"
        )


def write_table(table: Any, file: str | Path, of: Any = None) -> Path:
    """Write a frame as CSV, and beside it a JSON of its name that says where it comes from.

    The JSON holds the hash of the CSV: ``read_provenance`` gives nothing for a file that was
    changed since.
    """
    path, sources = Path(file), describe_sources(of)
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, lineterminator="\n")
    about = {
        "of": sources,
        "made": provenance(),
        "table": path.name,
        "hash": _digest(path.read_bytes()),
    }
    path.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return path


def read_provenance(file: str | Path) -> dict[str, Any] | None:
    """``of`` and ``made`` of a table that ``write_table`` wrote, None if there is nothing true."""
    path = Path(file)
    try:
        about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        if about["hash"] == _digest(path.read_bytes()):
            return {"of": list(about["of"]), "made": dict(about["made"])}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def describe_file(file: str | Path) -> dict[str, Any]:
    """A file as a source: its name and the hash of its bytes."""
    return {"file": Path(file).name, "hash": _digest(Path(file).read_bytes())}


def say(about: Mapping[str, Any]) -> str:
    """``of`` and ``made`` in a line for readers; nothing for what says neither."""
    sources = [_say_source(one) for one in about.get("of", [])]
    if len(sources) > 3:
        sources[3:] = [f"and {len(sources) - 3} more"]
    parts = [f"Data: {'; '.join(sources)}"] if sources else []
    made = about.get("made")
    if made:
        changed = " (changed)" if made.get("modified") else ""
        commit = f"commit {made['commit'][:7]}{changed}" if made.get("commit") else "no commit"
        code = f"mmer {made['mmer']}, {commit}, torch {made.get('packages', {}).get('torch', '-')}"
        parts.append(f"Made {str(made['date'])[:10]} by {code}, on {made['machine']}")
    return ". ".join(parts)


def _say_source(one: Mapping[str, Any]) -> str:
    if "file" in one:
        return f"{one['file']} ({one['hash']})"
    said = f"{one['corpus']} ({one['fingerprint']})"
    if "study" in one:
        said += f", study {one['study']}, {one['runs']} runs ({one['keys']})"
    return said


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()
