"""What every check of an exercise shares: reading an answer, comparing it, and the one line back.

A check is a function of an answer (and, where needed, what it was asked about) that returns a
``Reply``; shown at the end of a cell, it is one line:

    Right: why it is right.
    Not yet: what is wrong with this answer, and a pointer.
    Your turn: replace the ... above.

The body of a check returns the first and raises ``NotYetError`` for the second; whatever is given,
it never ends in a traceback. Answers may be numbers, lists, arrays, tensors or tables.
"""

from __future__ import annotations

import dis
from collections.abc import Callable, Iterable, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from functools import wraps
from numbers import Real
from types import FunctionType
from typing import Any

import numpy as np
import numpy.typing as npt

from mmer_lib.errors import unknown

Floats = npt.NDArray[np.float64]
Wrong = Sequence[tuple[Any, str]]  # an answer, and the mistake that leads to it

ROUNDING = 5e-3  # relative: an answer rounded to three digits is the same answer
CLOSE = 3e-2  # relative: an answer that may be right but for its rounding


@dataclass(frozen=True)
class Reply:
    """What a check has to say; ``right`` is None while there is no answer."""

    right: bool | None
    text: str

    def __repr__(self) -> str:
        """One line, as it stands under a cell."""
        start = {True: "Right", False: "Not yet", None: "Your turn"}[self.right]
        return f"{start}: {self.text}"


class NotYetError(Exception):
    """What is wrong with an answer, and a pointer."""


def check(judge: Callable[..., str]) -> Callable[..., Reply]:
    """A check from a function that returns why an answer is right or raises ``NotYetError``."""

    @wraps(judge)
    def checked(*answers: Any, **context: Any) -> Reply:
        if any(map(is_open, (*answers, *context.values()))):
            return Reply(None, "replace the ... above.")
        try:
            return Reply(True, judge(*answers, **context))
        except NotYetError as error:
            return Reply(False, " ".join(str(error).split()))

    return checked


def is_open(answer: Any) -> bool:
    """Whether an answer is still ``...``, holds one, or is a function that only has that."""
    if isinstance(answer, FunctionType):
        return _is_stub(answer)
    inside = answer.values() if isinstance(answer, Mapping) else answer
    if isinstance(inside, list | tuple | set | ValuesView):
        return any(one is ... for one in inside)
    return answer is ...


def _is_stub(function: FunctionType) -> bool:
    """Whether a function reads nothing, and knows nothing but ``...`` that it could return."""
    steps = (step.opname for step in dis.get_instructions(function))
    reads = any("FAST" in step or "GLOBAL" in step or "DEREF" in step for step in steps)
    told = (None, ..., function.__doc__)
    return not reads and all(constant in told for constant in function.__code__.co_consts)


# -- reading an answer -----------------------------------------------------------------------------


def number(given: Any, name: str) -> float:
    """``given`` as a float; an array or tensor of one number is one, too."""
    if isinstance(given, str) or given is None or isinstance(given, bool):
        raise NotYetError(f"{name} should be a number, not {_say(given)}.")
    values = array(given, name)
    if values.size != 1:
        raise NotYetError(f"{name} should be one number, not {_say_shape(values.shape)}.")
    return float(values.ravel()[0])


def array(given: Any, name: str) -> Floats:
    """``given`` as an array of finite numbers."""
    plain = given.detach().cpu() if hasattr(given, "detach") else given
    try:
        values = np.asarray(plain)
    except (ValueError, TypeError) as error:  # lists of unequal length
        raise NotYetError(f"{name} should be numbers in a regular shape: {error}.") from error
    if values.dtype.kind not in "iuf":
        raise NotYetError(f"{name} should be numbers, not {_say(given)}.")
    if not np.isfinite(values).all():
        raise NotYetError(
            f"{name} has NaN or an infinity in it: where is 0 divided by 0, a logarithm of 0 "
            f"taken, or a softmax of nothing?"
        )
    return values.astype(np.float64)


def choice(given: Any, name: str, known: Iterable[str]) -> str:
    """``given`` as one of the ``known`` words, whatever its case."""
    words = list(known)
    if isinstance(given, str) and given.strip().lower() in words:
        return given.strip().lower()
    if isinstance(given, str):
        raise NotYetError(f"{name}: {unknown('word', given, words)}.")
    raise NotYetError(f"{name} should be one of the words {', '.join(words)}, not {_say(given)}.")


def run(answer: Any, name: str, *arguments: Any) -> Any:
    """What the answer, a function called ``name``, returns; its own errors are told, not thrown."""
    if not callable(answer):
        raise NotYetError(f"{name} should be a function, not {_say(answer)}.")
    try:
        given = answer(*arguments)
    except Exception as error:  # anything may happen in a student's function
        raise NotYetError(f"{name} ends in {type(error).__name__}: {error}.") from error
    if given is None or given is ...:
        raise NotYetError(f"{name} returns nothing: its last line should be `return ...`.")
    return given


# -- comparing it ----------------------------------------------------------------------------------


def expect(
    given: Floats | float, right: npt.ArrayLike, name: str, wrong: Wrong, rounding: float = ROUNDING
) -> None:
    """Raise ``NotYetError`` unless ``given`` is ``right``, by the name of the mistake if known.

    Answers of ``wrong`` that cannot be told from the right one are passed over.
    """
    if near(given, right, rounding):
        return
    for value, mistake in wrong:
        if near(given, value, rounding) and not near(value, right, rounding):
            raise NotYetError(mistake)
    if near(given, 100 * np.asarray(right), rounding):
        raise NotYetError(f"{name} is a hundred times as large, as in percent: divide by 100.")
    if near(given, np.asarray(right) / 100, rounding):
        raise NotYetError(
            f"{name} is a hundredth of what it should be: keep to the unit asked for."
        )
    if near(given, -np.asarray(right), rounding):
        raise NotYetError(f"{name} has the wrong sign: which was subtracted from which?")
    if np.shape(given) != np.shape(right):
        shapes = f"{_say_shape(np.shape(given))} instead of {_say_shape(np.shape(right))}"
        raise NotYetError(f"{name} is {shapes}: look at which axis is summed over.")
    if rounding and near(given, right, CLOSE):
        raise NotYetError(f"{name} is close, but not it: rounded too far? Give three digits.")
    told = f" = {float(given):.6g}" if np.ndim(given) == 0 else ""
    raise NotYetError(f"{name}{told} is not what comes out here. Open the hint, and go by steps.")


def near(given: npt.ArrayLike, other: npt.ArrayLike, rounding: float = ROUNDING) -> bool:
    """Whether two answers are the same but for rounding, relative to the largest number in them."""
    a, b = np.asarray(given, np.float64), np.asarray(other, np.float64)
    if a.shape != b.shape:
        return False
    size = np.nanmax(abs(b), initial=0.0)
    return bool(np.all(abs(a - b) <= rounding * size + 1e-9))


def _say(given: Any) -> str:
    """What was given, in a few words."""
    if isinstance(given, Real | str) or given is None:
        return repr(given)
    return f"a {type(given).__name__}"


def _say_shape(shape: tuple[int, ...]) -> str:
    return f"an array of shape {tuple(shape)}" if shape else "a single number"
