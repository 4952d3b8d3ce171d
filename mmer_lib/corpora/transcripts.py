"""Text files as people saved them: bytes in, mended text out.

Transcripts of public releases come in several encodings, and some went through a wrong one on
their way. ``read_text`` takes UTF-8 (with or without a mark), UTF-16 with a mark, else
Windows-1252, and mends the two usual wounds:

- control characters U+0080..U+009F are Windows-1252 bytes taken for Latin-1: U+0092 is ``’``;
- ``â€™`` is UTF-8 taken for Windows-1252: again ``’``.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from mmer_lib.errors import InputError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_UNDEFINED = {0x81, 0x8D, 0x8F, 0x90, 0x9D}  # bytes that Windows-1252 leaves free
_WINDOWS = {
    byte: chr(byte) if byte in _UNDEFINED else bytes([byte]).decode("cp1252")
    for byte in range(0x80, 0xA0)
}
# UTF-8 of Latin-1 letters begins with the byte C2 or C3, that of typographic signs with E2; the
# bytes that follow are 80 .. BF.
_FIRST = {"Â": 0xC2, "Ã": 0xC3, "â": 0xE2}
_NEXT = {
    **{chr(byte): byte for byte in range(0x80, 0xC0)},
    **{character: byte for byte, character in _WINDOWS.items()},
}
_TWICE = re.compile("[ÂÃ]{0}|â{0}{0}".format("[" + re.escape("".join(_NEXT)) + "]"))
_SIGNS = {*map(chr, range(0x2000, 0x2070)), "€", "™"}


def read_text(file: Path) -> str:
    """The text of ``file``, mended. Raises ``InputError`` if it cannot be read."""
    try:
        return mend(decode(file.read_bytes()))
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error


def decode(content: bytes) -> str:
    """Bytes as text, by mark, as UTF-8, else as Windows-1252; never fails."""
    if content.startswith(_UTF16):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1").translate(_WINDOWS)


def mend(text: str) -> str:
    """Undo a wrong encoding where its traces are plain.

    >>> mend("It\\u00e2\\u20ac\\u2122s caf\\u00c3\\u00a9 time, isn\\u0092t it")
    'It’s café time, isn’t it'
    """
    return _TWICE.sub(_undo, text).translate(_WINDOWS)


def _undo(match: re.Match[str]) -> str:
    given = match.group()
    following = [_NEXT[character] for character in given[1:]]
    try:
        mended = bytes([_FIRST[given[0]], *following]).decode("utf-8")
    except UnicodeDecodeError:
        return given
    return mended if len(given) == 2 or mended in _SIGNS else given
