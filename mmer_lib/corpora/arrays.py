"""Arrays from files of others, checked where they come in: dtype, shape, finite numbers.

Every check raises ``InputError`` with the file (and member) it is about, what was given and what
was expected. Nothing is ever unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmer_lib.arrayfiles import read_arrays
from mmer_lib.corpora.base import check_finite
from mmer_lib.errors import InputError, check_path

FLOATS, INTEGERS, TEXT = "f", "iu", "U"  # kinds of numpy dtypes
_WHOLE = 2**63 - 1  # the largest number of int64
_KINDS = {FLOATS: "floats", INTEGERS: "integers", TEXT: "text"}


def expect(
    array: np.ndarray, where: str | Path, kinds: str, shape: tuple[int | str, ...]
) -> np.ndarray:
    """``array`` itself if its dtype and shape are as expected.

    ``shape`` gives a number for a length that is fixed and a name ("time") for one that is free.
    """
    fits = array.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == given
        for wanted, given in zip(shape, array.shape, strict=True)
    )
    if array.dtype.kind in kinds and fits:
        _check_content(array, where, shape)
        return array
    named = " or ".join(name for kind, name in _KINDS.items() if kind in kinds)
    wanted = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    raise InputError(
        f"{where}: {array.dtype} array of shape {array.shape}; expected {named} of shape ({wanted})"
    )


def _check_content(array: np.ndarray, where: str | Path, shape: tuple[int | str, ...]) -> None:
    """What dtype and shape do not say: frames have features, numbers fit."""
    if "features" in shape and not array.shape[shape.index("features")]:
        raise InputError(f"{where}: array of shape {array.shape}; expected at least one feature")
    if array.dtype.kind == "u" and array.dtype.itemsize == 8 and (array > _WHOLE).any():
        raise InputError(f"{where}: {array.max()} is too large; expected numbers below 2^63")


def expect_features(
    array: np.ndarray, where: str | Path, shape: tuple[int | str, ...]
) -> np.ndarray:
    """``array`` as float32 if it holds floats of ``shape`` that are finite as float32."""
    with np.errstate(over="ignore"):  # what overflows is infinite and told of below
        values = expect(array, where, FLOATS, shape).astype(np.float32, copy=False)
    check_finite(values, str(where))
    return values


@dataclass(frozen=True)
class Archive:
    """The arrays of an ``.npz`` file, checked as they are taken out."""

    file: Path
    arrays: dict[str, np.ndarray]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def where(self, name: str) -> str:
        """How messages call the member ``name``."""
        return f"{self.file}, {name}"

    def get(self, name: str, kinds: str, shape: tuple[int | str, ...]) -> np.ndarray:
        """The member ``name`` with the dtype and shape expected."""
        return expect(self._member(name), self.where(name), kinds, shape)

    def some(self, name: str, kinds: str) -> np.ndarray:
        """The member ``name``, one value an utterance, at least one."""
        values = self.get(name, kinds, ("utterances",))
        if not len(values):
            raise InputError(f"{self.where(name)} has no utterance; expected at least one")
        return values

    def features(self, name: str, shape: tuple[int | str, ...]) -> np.ndarray:
        """The member ``name`` as finite float32."""
        return expect_features(self._member(name), self.where(name), shape)

    def _member(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            raise InputError(
                f"{self.file} has no array {name!r}; it holds {', '.join(self.arrays) or 'none'}"
            )
        return self.arrays[name]


def open_archive(path: str | Path) -> Archive:
    """Read an ``.npz`` file into memory."""
    file = check_path("path", path)
    return Archive(file, read_arrays(file))
