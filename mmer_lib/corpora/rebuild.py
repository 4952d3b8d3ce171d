"""Arrays from what numpy writes about them into pickles: the calls, answered here with data.

For ``unpickle``. A pickle names the functions that make an array again; they are never looked up.
``CALLS`` has our answer to each of them, which checks dtype, shape and the number of bytes before
numpy sees any of it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ALLOWED = (  # what numpy and Python write for arrays, in their older and newer names
    "numpy.ndarray",
    "numpy.dtype",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.core.numeric._frombuffer",
    "numpy._core.numeric._frombuffer",
    "_codecs.encode",  # bytes, in protocols 0 to 2: only into latin-1, by str.encode itself
    "builtins.bytes",  # no bytes, likewise
    "__builtin__.bytes",
    "collections.OrderedDict",  # becomes a dict
)
_DTYPE = re.compile(r"[<>|=]?([biufSUO])(\d{0,9})")  # truth, numbers, text, objects
_LAST_CHARACTER = 0x10FFFF  # of Unicode
_DEPTH = 32  # axes of an array, as numpy allowed them when these files were made


class Refused(Exception):
    """Something in the file that is not let in; ``load_plain`` adds where."""


# -- what the stack may hold besides plain data ----------------------------------------------------


@dataclass(frozen=True)
class Name:
    """A name from ``ALLOWED``: only that, no object of Python's."""

    name: str


@dataclass
class DType:
    """A dtype as the file describes it; its byte order comes with its state."""

    kind: str
    size: int  # bytes, in text characters; 0: not stated
    order: str = "="

    def numpy(self) -> np.dtype:
        """The dtype, if there is one like that."""
        try:
            return np.dtype(f"{self.order}{self.kind}{self.size or ''}")
        except (TypeError, ValueError) as error:
            raise Refused(f"there is no dtype {self.kind}{self.size}") from error

    def set(self, state: Any) -> None:
        """Take the byte order from the state; whatever is more than plain is refused."""
        if not isinstance(state, tuple) or len(state) < 5:
            raise Refused("a dtype with a state that numpy does not write")
        order, parts = word(state[1]), state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in parts):
            raise Refused("a dtype that is not that of plain numbers or text")
        self.order = order


@dataclass
class Pending:
    """An array between its making and its state; ``slots`` are the memos that wait for it."""

    slots: list[int] = field(default_factory=list)


class Arguments(tuple[Any, ...]):
    """A tuple with a name or dtype in it: for a call or a state, and nowhere else."""


INNER = (Name, DType, Pending, Arguments)


def plain(value: Any) -> Any:
    """``value`` unless it means something to the machine alone."""
    if isinstance(value, INNER):
        raise Refused(f"{told(value)} in a place where only data may be")
    return value


def tuple_of(items: list[Any]) -> tuple[Any, ...]:
    """The items as a tuple, marked where it is for the machine alone."""
    if any(isinstance(item, Pending) for item in items):
        raise Refused("an array that is used before it has its content")
    return (Arguments if any(isinstance(item, INNER) for item in items) else tuple)(items)


def told(value: Any) -> str:
    """How messages call a thing on the stack."""
    if isinstance(value, Name):
        return f"the name {value.name!r}"
    return f"a {type(value).__name__.strip('_').lower()}"


# -- the calls, answered with data -----------------------------------------------------------------


def _encode(arguments: tuple[Any, ...]) -> bytes:
    if len(arguments) != 2 or not isinstance(arguments[0], str):
        raise Refused("a call of _codecs.encode that is not on text")
    if word(arguments[1]).replace("-", "") != "latin1":
        raise Refused(f"_codecs.encode into {word(arguments[1])[:40]!r}; only latin1 is known")
    return arguments[0].encode("latin-1")


def _no_bytes(arguments: tuple[Any, ...]) -> bytes:
    if arguments:
        raise Refused("a call of bytes with arguments")
    return b""


def _ordered(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise Refused("an OrderedDict that is made with arguments")
    return {}


def _dtype(arguments: tuple[Any, ...]) -> DType:
    found = _DTYPE.fullmatch(word(arguments[0])) if arguments else None
    if found is None:
        given = word(arguments[0])[:40] if arguments else ""
        raise Refused(f"a dtype {given!r} that is not that of plain numbers or text")
    kind, size = found.group(1), int(found.group(2) or 0)
    return DType(kind, size)


def _reconstruct(arguments: tuple[Any, ...]) -> Pending:
    if not arguments or arguments[0] != Name("numpy.ndarray"):
        raise Refused("an array of a class of its own")
    return Pending()


def _scalar(arguments: tuple[Any, ...]) -> Any:
    if len(arguments) != 2:
        raise Refused("a numpy number without its value")
    dtype, data = arguments
    return _array(data, dtype, (), "C")[()]


def _frombuffer(arguments: tuple[Any, ...]) -> np.ndarray:
    if len(arguments) not in (4, 5):
        raise Refused("an array with arguments that numpy does not write")
    data, dtype, shape, order, *axes = arguments
    if word(order) != "K":
        return _array(data, dtype, shape, order)
    array = _array(data, dtype, shape, "C")
    _check_shape(*axes or [None])
    if sorted(axes[0]) != list(range(array.ndim)):
        raise Refused(f"an array whose axes are {axes[0]}")
    return array.transpose(axes[0])


def array_of_state(state: Any) -> np.ndarray:
    """(version, shape, dtype, is it column by column, content), as numpy writes it."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Refused("an array with a state that numpy does not write")
    shape, dtype, turned, data = state[-4:]  # without a version in the oldest files
    if not isinstance(turned, bool | int):
        raise Refused("an array with a state that numpy does not write")
    return _array(data, dtype, shape, "F" if turned else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """The array, if ``data`` is exactly as long as ``dtype`` and ``shape`` say."""
    if not isinstance(dtype, DType) or word(order) not in ("C", "F"):
        raise Refused("an array with a dtype or order that numpy does not write")
    _check_shape(shape)
    n = math.prod(shape)
    if dtype.kind == "O":
        return _objects(data, n).reshape(shape, order=order)
    plain = dtype.numpy()
    raw = _buffer(data)
    if not (plain.itemsize or len(raw)) and n <= 1:  # one empty text
        return np.zeros(shape, f"{plain.kind}1")
    if len(raw) != n * plain.itemsize or not plain.itemsize:
        raise Refused(
            f"an array of shape {shape} and dtype {plain.str} with {len(raw)} bytes; "
            f"{n * plain.itemsize} expected"
        )
    if plain.kind == "b":
        raw = raw != 0  # any byte; as a truth value numpy knows 0 and 1 alone
    if plain.kind == "U" and (raw.view(f"{plain.str[0]}u4") > _LAST_CHARACTER).any():
        raise Refused("text with characters that do not exist")
    return raw.view(plain).reshape(shape, order=order)


def size_of_copy(made: Any) -> int:
    """Bytes that an answer takes anew; an array that looks into the file takes none."""
    if isinstance(made, np.ndarray):
        return made.nbytes if made.flags.owndata or made.dtype.kind in "bO" else 0
    if isinstance(made, np.generic):
        return int(made.nbytes)
    return len(made) if isinstance(made, bytes) else 0


def _check_shape(shape: Any) -> None:
    fits = isinstance(shape, tuple) and len(shape) <= _DEPTH
    if not fits or not all(type(length) is int and 0 <= length < 1 << 48 for length in shape):
        raise Refused(f"an array of shape {_shape_told(shape)}")


def _shape_told(shape: Any) -> str:
    """A shape in a message: of what is none only the kind, as its text may be endless."""
    if isinstance(shape, tuple) and all(isinstance(length, int | float) for length in shape):
        return str(shape)[:80]
    return f"that is {told(shape)}"


def _buffer(data: Any) -> np.ndarray:
    """Content as uint8, without a copy."""
    if isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 1:
        return data
    if isinstance(data, bytes):
        return np.frombuffer(data, np.uint8)
    raise Refused(f"an array with {told(data)} as its content")


def _objects(data: Any, n: int) -> np.ndarray:
    """Text and numbers of any length; nothing else is let into an array of objects."""
    if not isinstance(data, list) or len(data) != n:
        raise Refused(f"an array of {n} objects whose content is no list of as many")
    made = np.empty(n, object)
    for i, value in enumerate(data):
        if value is not None and not isinstance(value, str | bytes | int | float | np.generic):
            raise Refused(f"an array of objects with {told(value)} in it")
        made[i] = value
    return made


def word(value: Any) -> str:
    """Text, as Python 2 and 3 write it."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if not isinstance(value, str):
        raise Refused(f"{told(value)} where a word is expected")
    return value


CALLS: dict[str, Callable[[tuple[Any, ...]], Any]] = {
    "_reconstruct": _reconstruct,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
    "dtype": _dtype,
    "encode": _encode,
    "bytes": _no_bytes,
    "OrderedDict": _ordered,
}
