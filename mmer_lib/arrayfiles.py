"""Array files of others, ``.npy`` and ``.npz``: nothing in them is run, and memory is bounded.

numpy reads both, but for files that were made to do harm some doors are open: a zip may unpack to
a thousand times its size, a header may announce an array that the file does not hold (numpy asks
for the memory first), a member may be no array, and damage comes as a dozen kinds of exceptions.
Here every way out is an array or ``InputError``.
"""

from __future__ import annotations

import math
import struct
import tokenize
import warnings
from collections.abc import Iterable
from io import SEEK_END
from lzma import LZMAError
from pathlib import Path
from typing import IO
from zipfile import BadZipFile, ZipFile, ZipInfo
from zlib import error as ZlibError

import numpy as np

from mmer_lib.errors import InputError

LARGEST = 1 << 28  # bytes that any archive may unpack to; a larger one to
RATIO = 20  # times its size on disk (arrays of features hardly shrink; a bomb does, to 1/1000)
_LAST_CHARACTER = 0x10FFFF  # of Unicode
_DAMAGE = (  # what reading a damaged file may raise
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError, SyntaxError,
    MemoryError, RuntimeError, struct.error, tokenize.TokenError, BadZipFile, ZlibError, LZMAError,
)  # fmt: skip


def open_array(file: Path) -> np.ndarray:
    """A ``.npy`` file, memory-mapped and never unpickled, or ``InputError`` naming the file."""
    if not file.is_file():
        raise InputError(f"{file} is missing: the folder is not whole")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers of Python 2 are fine; shapes may overflow
            return np.lib.format.open_memmap(file, mode="r")
    except _DAMAGE as error:
        raise InputError(
            f"{file} is not a plain .npy array: {_reason(error)}. "
            f"Save it with numpy.save(..., allow_pickle=False)"
        ) from error


def read_arrays(file: Path, names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` file, or those of ``names`` that it has, read into memory.

    Raises ``InputError`` that names the file for one that is missing, damaged, no archive of plain
    arrays, or unpacks to more than memory should hold.
    """
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected an .npz file")
    try:
        with file.open("rb") as stream:
            return unpack_arrays(stream, names)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{file} is not a plain .npz file: {_reason(error)}. Save plain arrays with numpy.savez"
        ) from error


def unpack_arrays(stream: IO[bytes], names: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """``read_arrays`` of an open file; raises ``ValueError`` that says what is wrong with it."""
    try:
        if stream.read(6) == np.lib.format.MAGIC_PREFIX:
            raise ValueError("it is one .npy array; expected an .npz file of named arrays")
        packed = stream.seek(0, SEEK_END)
        with ZipFile(stream) as archive:
            members = _members(archive, None if names is None else set(names), packed)
            return {name: _read_member(archive, member) for name, member in members.items()}
    except _DAMAGE as error:
        raise ValueError(_reason(error)) from error


def _members(archive: ZipFile, wanted: set[str] | None, packed: int) -> dict[str, ZipInfo]:
    """Name -> member, each name once and all of them together of bearable size."""
    found: dict[str, ZipInfo] = {}
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if wanted is not None and name not in wanted:
            continue
        if name in found:
            raise ValueError(f"it holds {name!r} twice")
        found[name] = member
    unpacked, most = sum(m.file_size for m in found.values()), max(LARGEST, RATIO * packed)
    if unpacked > most:
        raise ValueError(f"its {packed:,} bytes unpack to {unpacked:,}, more than {most:,}")
    return found


def _read_member(archive: ZipFile, member: ZipInfo) -> np.ndarray:
    """An array that is as large as its member; numpy would make room for any that is announced."""
    with archive.open(member) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shape, dtype = _read_header(stream, member.filename)
        announced = math.prod(shape) * dtype.itemsize
        if announced != member.file_size - stream.tell():
            raise ValueError(
                f"{member.filename!r} announces {announced} bytes and holds "
                f"{member.file_size - stream.tell()}"
            )
        stream.seek(0)
        array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
    if not is_text(array):
        raise ValueError(f"{member.filename!r} holds text with characters that do not exist")
    return array


def is_text(array: np.ndarray) -> bool:
    """Whether text in an array is text; numpy looks at it when it makes a ``str``, and then fails.

    No number beyond Unicode, no half of a pair, no zero before the end. True of other arrays.
    """
    if array.dtype.kind != "U" or not array.size:
        return True
    flat = np.ascontiguousarray(array).reshape(-1)
    points = flat.view(f"{array.dtype.str[0]}u4").reshape(len(flat), -1)  # (n, characters)
    inside = (points[:, :-1] == 0) & (points[:, 1:] != 0)
    halves = (points >= 0xD800) & (points < 0xE000)
    return not (inside.any() or halves.any() or (points > _LAST_CHARACTER).any())


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype that an array's header states."""
    if stream.read(6) != np.lib.format.MAGIC_PREFIX:
        raise ValueError(f"{name!r} is no array")
    first = stream.read(2)[:1] == b"\1"
    formats = np.lib.format
    read = formats.read_array_header_1_0 if first else formats.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError("it holds pickled Python objects")
    return shape, dtype


def _reason(error: BaseException) -> str:
    """One line for what a library raised."""
    said = str(error)
    if any(word in said for word in ("pickle", "Object array", "Python objects")):
        return "it holds pickled Python objects, which could run code when read"
    return (said.splitlines() or [type(error).__name__])[0][:200]
