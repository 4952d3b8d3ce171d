"""How numba compiles the loops, and where it keeps them."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from numba import config, njit

from mmer_lib.places import cache_folder, is_writable

_CACHE = cache_folder() / "compiled"
# Where neither can be written each process compiles for itself.
_KEPT = bool(os.environ.get("NUMBA_CACHE_DIR")) or is_writable(_CACHE)

# A product and a sum may be rounded once, all else is computed as it is written. numpy's division,
# since Python's asks for zero every time. NaN and infinity are respected.
_RULES: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}


def compiled(function: Callable[..., Any]) -> Any:
    """numba's ``njit`` that keeps what it compiles in $NUMBA_CACHE_DIR, else in our cache folder.

    By itself numba would write beside the file, which may be in an installed package, and would
    look at that one alone when it asks whether something has changed: so the folder is named after
    all files that are compiled together.
    """
    numbas: Any = config
    before = numbas.CACHE_DIR
    numbas.CACHE_DIR = str(Path(before or _CACHE) / _version())
    try:
        return njit(cache=_KEPT, **_RULES)(function)
    finally:
        numbas.CACHE_DIR = before


def part(function: Callable[..., Any]) -> Any:
    """Of a compiled function, in whose place it is written: it is kept with it."""
    return njit(inline="always", **_RULES)(function)


def _version() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()
