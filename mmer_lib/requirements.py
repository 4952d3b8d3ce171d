"""What this package needs, as pyproject.toml says it, read with nothing but Python itself.

``packaging`` would read it, too; it may be among what is missing where this is asked.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

_CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*([\d.]+)")


def requirements(root: Path) -> dict[str, dict[str, str]]:
    """Extra ("" for what is always needed) -> package -> range; empty if nothing says it.

    What an extra asks for by naming another stands with it; the extra of all is left out. ``root``
    is the folder that holds this package: a clone, or site-packages.
    """
    about = project(root)
    lists = {"": about.get("dependencies", []), **about.get("optional-dependencies", {})}
    return {extra: _unfold(extra, lists) for extra in lists if extra != "all"}


def _unfold(extra: str, lists: Mapping[str, list[str]]) -> dict[str, str]:
    """Package -> range of an extra and of those that it names: ``mmer[video]``."""
    found: dict[str, str] = {}
    for text in lists[extra]:
        inner = re.match(r"mmer\[([\w,-]+)\]", text)
        if inner is None:
            name, wanted = _split(text.partition(";")[0])
            found[name] = wanted
        else:
            for other in inner[1].split(","):
                found |= _unfold(other, lists)
    return found


def project(root: Path) -> dict[str, Any]:
    """The table ``project`` of pyproject.toml in ``root``; else what the installed package says."""
    with suppress(OSError, ValueError, KeyError):
        table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if table["name"] == "mmer":
            return dict(table)
    with suppress(metadata.PackageNotFoundError):
        extras: dict[str, list[str]] = {}
        for text in metadata.requires("mmer") or []:
            needed, _, marker = text.partition(";")
            extra = re.search(r"""extra == ["']([\w-]+)["']""", marker)
            extras.setdefault(extra[1] if extra else "", []).append(needed.strip())
        return {
            "requires-python": metadata.metadata("mmer")["Requires-Python"],
            "dependencies": extras.pop("", []),
            "optional-dependencies": extras,
        }
    return {}


def _split(requirement: str) -> tuple[str, str]:
    """``numpy>=2,<3`` -> ``("numpy", ">=2,<3")``."""
    name = re.match(r"[\w.-]+", requirement)
    assert name is not None
    return name[0], requirement[name.end() :].strip()


def in_range(version: str, wanted: str) -> bool:
    """Whether a version is in a range such as ``>=2.0,<3``; what follows its numbers is left aside.

    >>> in_range("2.13.0+cpu", ">=2.6,<3"), in_range("3.0", ">=2.6,<3")
    (True, False)
    """
    return all(_holds(version, *found) for found in _CLAUSE.findall(wanted))


def _holds(version: str, sign: str, bound: str) -> bool:
    a, b = _numbers(version), _numbers(bound)
    longest = max(len(a), len(b))
    a, b = (n + (0,) * (longest - len(n)) for n in (a, b))
    return {">=": a >= b, "<=": a <= b, "==": a == b, "!=": a != b, ">": a > b, "<": a < b}[sign]


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found[0].split("."))) if found else (0,)
