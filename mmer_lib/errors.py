"""The one exception for a user's mistake, and the checks of what was given that all parts share.

``InputError`` is a ``ValueError`` whose message is one line: what was given, what was expected,
what to do. The command line prints that line and exits with status 2; everything else that is
raised is a defect of ours and keeps its traceback. ``Notice`` is a warning in one line: the work
goes on, but its user must know.
"""

from __future__ import annotations

import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from typing import Any

# What a terminal obeys or hides instead of showing it: control characters, marks that turn the
# direction of text or take no room, line ends of Unicode, halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_NAME = 200  # characters that are looked at of a name that is not known
_LONGEST = (900, 300)  # characters that are kept of the beginning and of the end of a message


def printable(text: str, lines: bool = False) -> str:
    """``text`` with all that could fool a terminal or its reader as escapes; ``lines`` may stay.

    >>> print(printable("red: \\x1b[31m"))
    red: \\x1b[31m
    """
    return _UNSEEN.sub(lambda m: m[0] if lines and m[0] == "\n" else _escape(m[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


class InputError(ValueError):
    """A user's mistake, told in one line.

    Messages quote files of others: what a terminal would obey is escaped, and of what is endless
    the middle is left out. The end stays, as it says what to do.
    """

    def __init__(self, message: str = "") -> None:
        told = _UNSEEN.sub(lambda m: " " if m[0] in "\n\r\t" else _escape(m[0]), message)
        first, last = _LONGEST
        super().__init__(told if len(told) <= first + last else f"{told[:first]} … {told[-last:]}")


class Notice(UserWarning):
    """What a user must know though the work goes on, told in one line."""


def notify(text: str) -> None:
    """Warn with a ``Notice`` in the name of the first caller outside the library.

    So each cell of a notebook tells it anew, where the library would tell it once.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("mmer_lib."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, Notice, stacklevel=level)


def unknown(kind: str, given: object, known: Iterable[object]) -> InputError:
    """An error for a name that is not in a registry, with "did you mean" where one is near.

    >>> str(unknown("corpus", "sintetic", ["synthetic", "mosi"]))
    "unknown corpus 'sintetic': did you mean 'synthetic'? Known: synthetic, mosi"
    """
    names, asked = [str(name) for name in known], str(given)[:_NAME]
    lower = {name.lower(): name for name in reversed(names)}
    near = get_close_matches(asked.lower(), list(lower), n=1, cutoff=0.6)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    return InputError(f"unknown {kind} {asked!r}: {hint}Known: {', '.join(names) or 'none'}")


def check_whole(name: str, given: Any, at_least: int, at_most: float = math.inf) -> int:
    """``given`` as an int if it is a whole number in that range, numpy's included, no bool.

    >>> check_whole("seeds", 3, at_least=1)
    3
    """
    whole = isinstance(given, Integral) and not isinstance(given, bool)
    if whole and at_least <= given <= at_most:
        return int(given)
    wanted = f"at least {at_least}" if math.isinf(at_most) else f"{at_least} .. {at_most:.0f}"
    raise InputError(f"{name}={given!r}: a whole number of {wanted} expected")


def check_number(
    name: str, given: Any, fits: Callable[[float], bool], expected: str = "a number"
) -> float:
    """``given`` as a float if it is a number that ``fits``, numpy's included, no bool.

    >>> check_number("lr", 1, lambda x: x > 0, "a number above 0")
    1.0
    """
    number = isinstance(given, Real) and not isinstance(given, bool)
    if number and fits(given):
        return float(given)
    raise InputError(f"{name}={given!r}: {expected} expected")


def check_path(name: str, given: object) -> Path:
    """``given`` as a path if it is text or a path, and one that can be looked for."""
    if not isinstance(given, str | os.PathLike):
        raise InputError(f"{name}={given!r}: the path of a file or folder expected")
    path = Path(given)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except (OSError, ValueError) as error:  # too long, a folder that is closed to us, a zero in it
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}={str(given)[:80]!r}: {reason}. Give another path") from error
    return path
