"""The one exception for a user's mistake, and the sentence for a name nobody knows.

``InputError`` is a ``ValueError`` whose message is one line: what was given, what was expected,
what to do. The command line prints that line and exits with status 2; everything else that is
raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A user's mistake, told in one line."""


def unknown(kind: str, given: object, known: Iterable[object]) -> InputError:
    """An error for a name that is not in a registry, with "did you mean" where one is near.

    >>> str(unknown("corpus", "sintetic", ["synthetic", "mosi"]))
    "unknown corpus 'sintetic': did you mean 'synthetic'? Known: synthetic, mosi"
    """
    names = [str(name) for name in known]
    lower = {name.lower(): name for name in reversed(names)}
    near = get_close_matches(str(given).lower(), list(lower), n=1, cutoff=0.6)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    return InputError(f"unknown {kind} {str(given)!r}: {hint}Known: {', '.join(names) or 'none'}")
