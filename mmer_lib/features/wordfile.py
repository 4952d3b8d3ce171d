"""Files of word vectors, opened without holding more of them than is asked for.

- a text file: a word and its F numbers a line, one blank between them, as GloVe (Pennington et al.
  2014) and word2vec write it; word2vec puts a line with the number of words and F before
- an .npz of ``words`` (V,) text and ``vectors`` (V, F) numbers
"""

from __future__ import annotations

import re
from array import array
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np

from mmer_lib.arrayfiles import read_arrays
from mmer_lib.errors import InputError

_COUNT = re.compile(rb"0*[1-9][0-9]{0,17}")


class WordTable(Protocol):
    """Words with their vectors, ``width`` numbers each."""

    width: int  # F
    entries: int  # words
    digest: str  # of the content

    def find(self, word: str) -> np.ndarray | None:
        """(F,) float32; None if the file does not know ``word``."""


def word_table(path: Path) -> WordTable:
    """The vectors of a file, opened once for as long as it does not change.

    Raises ``InputError`` for a file that is missing, empty, ragged or holds no numbers.
    """
    try:
        found = path.stat()
        return _open_table(str(path), found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise InputError(
            f"word vectors {str(path)!r}: {error.strerror}. Give a text file with a word and its "
            f"numbers a line (glove.6B.300d.txt), or an .npz of words and vectors"
        ) from error


@lru_cache(maxsize=2)
def _open_table(source: str, size: int, changed: int) -> WordTable:
    """The table of a file; its size and time are there so that a change is noticed."""
    path = Path(source)
    return _ArrayTable(path) if path.suffix == ".npz" else _TextTable(path)


class _TextTable:
    """A text file of vectors, indexed: a word and ``width`` numbers a line, one blank between."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, np.ndarray | None] = {}
        digest = blake2b(digest_size=16)
        hashes, places = array("q"), array("q")  # a line: its word, where it begins
        with open(path, "rb") as lines:
            at, announced = self._begin(lines.readline())
            lines.seek(0)
            digest.update(lines.read(at))
            for number, line in enumerate(lines, start=2 if at else 1):
                digest.update(line)
                if not line.isspace():
                    # Python's hash differs between processes: it serves in this one alone, and
                    # the word itself is compared when a line is read.
                    hashes.append(hash(self._word(line, number)))
                    places.append(at)
                at += len(line)
        self.entries = len(hashes)
        self._check_entries(announced)
        self.digest = digest.hexdigest()
        keys = np.frombuffer(hashes, np.int64)
        order = np.argsort(keys, kind="stable")
        self.hashes, self.places = keys[order], np.frombuffer(places, np.int64)[order]

    def _begin(self, line: bytes) -> tuple[int, int | None]:
        """Sets ``width`` by the first line; the header's length in bytes and the words it tells."""
        if b"\0" in line or line.startswith((b"PK", b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff")):
            raise InputError(
                f"{self.path}: binary or packed; expected UTF-8 text with a word and its numbers "
                f"a line, or an .npz of words and vectors. Unpack or convert it"
            )
        parts = line.split()
        if len(parts) == 2 and all(_COUNT.fullmatch(part) for part in parts):
            self.width = int(parts[1])
            return len(line), int(parts[0])
        self.width = 0
        while self.width < len(parts) - 1 and _is_number(parts[-1 - self.width]):
            self.width += 1
        if line and not self.width:
            raise InputError(
                f"{self.path}: the first line holds no word with numbers after it: "
                f"{line[:40].decode(errors='replace').strip()!r}"
            )
        return 0, None

    def _check_entries(self, announced: int | None) -> None:
        if not self.entries:
            raise InputError(f"{self.path}: empty; a word and its numbers a line expected")
        if announced not in (None, self.entries):
            raise InputError(
                f"{self.path}: its first line announces {announced} words, and {self.entries} "
                f"follow: the file is not whole. Copy or download it again"
            )

    def _word(self, line: bytes, number: int) -> bytes:
        """The word of a line; it may hold blanks (". . ." in glove.840B)."""
        line = line.rstrip(b" \r\n")
        blanks = line.count(b" ")
        if blanks == self.width:
            return line[: line.index(b" ")]
        word = line.rsplit(b" ", self.width)[0] if blanks > self.width else line
        if blanks < self.width or not word or _is_number(word.rsplit(b" ", 1)[-1]):
            raise InputError(
                f"{self.path}, line {number}: {blanks} numbers after the word, {self.width} "
                f"expected as in the file's first line, with one blank between them"
            )
        return word

    def find(self, word: str) -> np.ndarray | None:
        """(width,) float32; None if the file does not know ``word``."""
        if word not in self.known:
            self.known[word] = self._read(word.encode("utf-8", "surrogatepass"))
        return self.known[word]

    def _read(self, word: bytes) -> np.ndarray | None:
        key = hash(word)
        first, last = (int(np.searchsorted(self.hashes, key, side)) for side in ("left", "right"))
        with open(self.path, "rb") as lines:
            for place in self.places[first:last]:  # a word that comes twice: its first line
                lines.seek(place)
                line = lines.readline().rstrip(b" \r\n")
                if self._word(line, 0) == word:
                    return self._numbers(word, line[len(word) + 1 :])
        return None

    def _numbers(self, word: bytes, text: bytes) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):  # what overflows is infinite and told of below
                vector = np.array([float(part) for part in text.split(b" ")], np.float32)
        except ValueError as error:
            reason = str(error)
        else:
            reason = "not a finite number"
            if np.isfinite(vector).all():
                return vector
        raise InputError(f"{self.path}: the vector of {word.decode(errors='replace')!r}: {reason}")


def _is_number(text: bytes) -> bool:
    """Whether ``text`` is a number in digits; ``nan`` and ``inf`` are words."""
    try:
        float(text)
    except ValueError:
        return False
    return any(48 <= byte <= 57 for byte in text)


class _ArrayTable:
    """An .npz of ``words`` (V,) text and ``vectors`` (V, F) numbers, in memory."""

    def __init__(self, path: Path) -> None:
        arrays = read_arrays(path, ("words", "vectors"))
        if len(arrays) < 2:
            raise InputError(f"{path}: arrays `words` and `vectors` expected")
        texts, vectors = arrays["words"], arrays["vectors"]
        self._check(path, texts, vectors)
        with np.errstate(over="ignore"):  # what overflows is infinite and told of
            self.vectors = vectors.astype(np.float32)
        if not np.isfinite(self.vectors).all():
            raise InputError(
                f"{path}: vectors hold NaN, infinity or what float32 cannot; finite numbers "
                f"expected"
            )
        self.entries, self.width = vectors.shape
        self.rows = {str(word): row for row, word in reversed(list(enumerate(texts)))}
        digest = blake2b(digest_size=16)
        for content in (texts, vectors):
            digest.update(f"{content.dtype} {content.shape}".encode())
            digest.update(content.tobytes())
        self.digest = digest.hexdigest()

    def _check(self, path: Path, texts: np.ndarray, vectors: np.ndarray) -> None:
        fits = vectors.ndim == 2 and texts.shape == vectors.shape[:1] and vectors.size
        if texts.dtype.kind != "U" or vectors.dtype.kind not in "fiu" or not fits:
            raise InputError(
                f"{path}: words are {texts.dtype} of shape {texts.shape}, vectors {vectors.dtype} "
                f"of shape {vectors.shape}; expected text (V,) and numbers (V, F), not empty"
            )

    def find(self, word: str) -> np.ndarray | None:
        """(width,) float32; None if the file does not know ``word``."""
        row = self.rows.get(word)
        return None if row is None else self.vectors[row]
