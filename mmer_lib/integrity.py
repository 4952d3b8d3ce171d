"""Is a run as it was written? Sizes and hashes of its files, and its key, made again.

``run.json`` is written last and tells of its run:

- ``specification``: everything that decides the numbers; ``key`` is its hash and names the folder;
- ``files``: size and hash of each other file;
- ``digest``: a hash of ``run.json`` itself, without this entry.

It must be, byte for byte, what would be written today for the content that it has, so that no byte
of it can change unseen. A look at every ``run.json`` and at the sizes is cheap and comes before
every table; hashes are made again whenever a file is read, and by ``mmer store verify``.

All this finds accidents, and edits of some files. Who rewrites the numbers, the predictions and
every hash alike is not found: against that, keep the digests elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECORD = "run.json"


class Damage(ValueError):
    """What is wrong with a run, in words."""


class Extra(Damage):
    """A file that does not belong to a run: its numbers are sound."""


def spec_key(spec: Mapping[str, Any]) -> str:
    """16 hex digits of a JSON-able specification; the order of its keys does not matter."""
    text = json.dumps(spec, sort_keys=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def render(content: Mapping[str, Any]) -> bytes:
    """JSON as this package writes it."""
    return (json.dumps(content, indent=1) + "\n").encode()


def sign(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with a hash of itself as the last entry, ``digest``."""
    return {**content, "digest": _hash(render(content))}


def read_signed(file: Path) -> dict[str, Any]:
    """What ``sign`` made and was written. Raises ``Damage`` if it is anything else."""
    raw = _read(file)
    try:
        signed: dict[str, Any] = json.loads(raw)
        content = {name: value for name, value in signed.items() if name != "digest"}
        if "digest" in signed and render(sign(content)) == raw:
            return content
    except (ValueError, AttributeError, RecursionError):
        pass
    raise Damage(f"{file.name} is not as it was written")


def seal(about: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
    """The content of ``run.json`` for a run with these other files, by name."""
    told = {name: {"bytes": len(raw), "blake2b": _hash(raw)} for name, raw in files.items()}
    return sign({**about, "files": told})


def read_run(folder: Path) -> dict[str, Any]:
    """What ``run.json`` tells of the run in ``folder``, every other file being there in its size.

    Raises ``Damage`` if one is not, and for a key that is not that of the folder or not the hash
    of the specification.
    """
    about = read_signed(folder / RECORD)
    try:
        key, spec, files = about["key"], about["specification"], dict(about["files"])
        made, sizes = spec_key(spec), {name: int(kept["bytes"]) for name, kept in files.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise Damage(f"{RECORD} lacks what every run has") from error
    if key != folder.name:
        raise Damage(f"it is run {key}, moved here from its folder")
    if made != key:
        raise Damage(f"the key of its specification is {made}")
    for name, size in sizes.items():
        check_size(folder / name, size)
    return about


def check_size(file: Path, size: int) -> None:
    """Raise ``Damage`` unless ``file`` is there and has ``size`` bytes."""
    try:
        found = file.stat().st_size
    except OSError as error:
        raise _unreadable(file, error) from error
    if found != size:
        raise Damage(f"{file.name} has {found} bytes, {size} were written")


def read_file(folder: Path, about: Mapping[str, Any], name: str) -> bytes:
    """A file of a run that ``read_run`` gave ``about``; raises ``Damage`` if any byte changed."""
    if name not in about["files"]:
        raise Damage(f"{RECORD} knows of no {name}")
    raw = _read(folder / name)
    if _hash(raw) != about["files"][name]["blake2b"]:
        raise Damage(f"{name} is not as it was written")
    return raw


def check_extra(folder: Path, about: Mapping[str, Any]) -> None:
    """Raise ``Extra`` for anything in ``folder`` that is not of its run; hidden files may be."""
    names = {file.name for file in folder.iterdir() if not file.name.startswith(".")}
    extra = sorted(names - {RECORD, *about["files"]})
    if extra:
        raise Extra(f"{', '.join(extra)} does not belong to it")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> Damage:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return Damage(f"{file.name} is missing")
    return Damage(f"{file.name} cannot be read ({error.strerror or error})")


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
