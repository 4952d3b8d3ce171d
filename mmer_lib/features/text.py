"""Words into vectors, without a network: hashed character n-grams, and files of word vectors.

- text -> ``spans`` (T, 2): where its words lie, as character offsets into what ``read_words`` gave
- words -> ``values`` (T, F) float32, one row a word; text has no clock, so ``times`` are NaN

References: Bojanowski et al. (2017), a word as the sum of its character n-grams; Achlioptas (2003),
random signs keep inner products on average; Pennington et al. (2014), the GloVe files.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmer_lib.errors import InputError, check_path, check_whole
from mmer_lib.features.base import Clip, Extractor, Track, Unreadable
from mmer_lib.features.wordfile import WordTable, word_table

_LARGEST = 1 << 24  # bytes; a transcript of one utterance is never that long

# Windows-1252 read as Latin-1 leaves its quotes and dashes as control characters: mended here.
_CONTROLS = {
    code: bytes([code]).decode("cp1252", errors="ignore") or None for code in range(0x80, 0xA0)
}
_INVISIBLE = dict.fromkeys((0x200B, 0x2060, 0xFEFF, 0xAD))  # zero-width spaces, soft hyphen
_SPACES = re.compile(r"\s+")
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")

_TOKEN = re.compile(
    r"\d+(?:[.,:]\d+)+(?![^\W_])"  # numbers, prices and times of day: 3.5  1,000  10:30
    r"|[^\W_]+(?:['’][^\W_]+)*"  # words with the apostrophes inside them: don't
    r"|(\S)\1*"  # any other character, repeated: ?  !!!  ...
)
_CONTRACTION = re.compile(r"(.+?)(n['’]t|['’](?:s|m|d|re|ve|ll))", re.IGNORECASE)


def read_words(clip: Clip) -> str:
    """The text of a clip: its words, or its file in UTF-8, UTF-16 with a mark, or Windows-1252.

    White space of any kind becomes single blanks, accents are composed (Unicode NFC) and stray
    Windows-1252 controls become the quotes and dashes they were; doing it twice changes nothing.
    All spans are offsets into the text returned. Raises ``Unreadable`` if the file cannot be read,
    is no text, or holds no words.
    """
    text = _decode(clip.path) if clip.words is None and clip.path else clip.words or ""
    if _BINARY.search(text):
        raise Unreadable(f"{clip.where()}: holds control characters, so it is no plain text")
    text = unicodedata.normalize("NFC", text.translate(_CONTROLS).translate(_INVISIBLE))
    text = _SPACES.sub(" ", text).strip()
    if not text:
        raise Unreadable(f"{clip.where()}: no words; a transcript with at least one expected")
    return text


def _decode(path: Path) -> str:
    try:
        with open(path, "rb") as stream:
            data = stream.read(_LARGEST + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unreadable(f"{path}: {reason}. Expected a text file that can be read") from error
    if len(data) > _LARGEST:
        raise Unreadable(f"{path}: larger than {_LARGEST >> 20} MB, so it is no transcript")
    marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    known = "UTF-8, UTF-16 with a byte order mark or Windows-1252"
    raise Unreadable(f"{path}: no text in {known}. Save it as UTF-8")


def words(text: str) -> list[tuple[int, int]]:
    """Where the words of ``text`` lie: spans [from, to), in order; nothing but blanks is left out.

    Words keep their apostrophes, numbers their points; punctuation stands alone, and a run of the
    same character is one token.

    >>> words("Don't go... now?!")
    [(0, 5), (6, 8), (8, 11), (12, 15), (15, 16), (16, 17)]
    """
    # Combining marks are parts of words in many scripts, but no word characters to `re`.
    shadow = text
    if not text.isascii():
        shadow = "".join("a" if unicodedata.category(c)[0] == "M" else c for c in text)
    return [found.span() for found in _TOKEN.finditer(shadow)]


def _track(rows: list[np.ndarray], spans: list[tuple[int, int]], width: int) -> Track:
    values = np.array(rows, dtype=np.float32).reshape(len(rows), width)  # (T, F)
    return Track(values, np.full(len(rows), np.nan), np.array(spans, np.int64).reshape(-1, 2))


@dataclass(frozen=True, kw_only=True)
class Hashed(Extractor):
    """Vectors of words that need no weights: words of similar spelling get similar vectors.

    A word is the sum of its character n-grams of 3 to 5 letters with its ends marked, and of
    itself, as in Bojanowski et al. (2017); but the vector of an n-gram is not learned: its signs
    are the bits of its hash (Achlioptas 2003). Capitals are ignored. The same on every machine.
    """

    modality: ClassVar[str] = "text"
    size: int = 64  # F

    def __post_init__(self) -> None:
        check_whole("size", self.size, at_least=1, at_most=1 << 16)
        if self.longest is not None:
            check_whole("longest", self.longest, at_least=1)

    @property
    def width(self) -> int:
        """F = ``size``."""
        return self.size

    @property
    def rate(self) -> float | None:
        """Words have no clock."""
        return None

    def describe(self) -> str:
        """One line for a reader."""
        return f"{self.size} numbers a word: signed hashes of its character 3- to 5-grams"

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers."""
        return {"name": "hashed", "size": self.size, "longest": self.longest}

    def read(self, clip: Clip) -> str:
        """The text, see ``read_words``."""
        return read_words(clip)

    def encode(self, media: Sequence[str]) -> list[Track]:
        """A row of unit length a word."""
        return [self._encode(text).first(self.longest) for text in media]

    def _encode(self, text: str) -> Track:
        spans = words(text)
        rows = [_hashed_word(text[a:b].casefold(), self.size) for a, b in spans]
        return _track(rows, spans, self.size)


@lru_cache(maxsize=1 << 15)
def _hashed_word(word: str, size: int) -> np.ndarray:
    """(size,) of length 1."""
    total = np.sum([_signs(gram, size) for gram in _ngrams(word)], axis=0, dtype=np.int64)
    if not total.any():  # the signs of an even number of n-grams can cancel
        total = _signs(f"<{word}>", size).astype(np.int64)
    return (total / np.sqrt(np.sum(total**2))).astype(np.float32)


def _ngrams(word: str) -> list[str]:
    marked = f"<{word}>"
    starts = ((n, i) for n in (3, 4, 5) for i in range(len(marked) - n + 1))
    return [marked[i : i + n] for n, i in starts] + [marked]


def _signs(gram: str, size: int) -> np.ndarray:
    """(size,) of -1 and +1: the bits of as many hashes as are needed."""
    data = gram.encode("utf-8", "surrogatepass")
    needed = -(-size // 512)
    digest = b"".join(blake2b(data, salt=i.to_bytes(8, "little")).digest() for i in range(needed))
    bits = np.unpackbits(np.frombuffer(digest, np.uint8), count=size)
    return bits.astype(np.int8) * 2 - 1


@dataclass(frozen=True, kw_only=True)
class WordVectors(Extractor):
    """Vectors from a GloVe- or word2vec-style text file, or from an .npz of ``words``, ``vectors``.

    A word is looked up as it stands, in lower case, and with a straight apostrophe; a contraction
    the file does not know is cut as in the Penn Treebank (do|n't, two rows); a run of punctuation
    is looked up as one character. What is still unknown gets zeros, see ``unknown``.

    A text file is passed through once, for its hash and the place of each word (16 bytes a word,
    35 MB for the 2.2 million of glove.840B); vectors are read when their word is asked for. An
    .npz is held in memory whole. One process does it all (``batched``), so that it happens once.

    Raises ``InputError`` for a file that is missing, empty, ragged or holds no numbers.
    """

    modality: ClassVar[str] = "text"
    batched: ClassVar[bool] = True
    source: str

    def __post_init__(self) -> None:
        if self.longest is not None:
            check_whole("longest", self.longest, at_least=1)
        if not check_path("word vectors", self.source).is_file():
            raise InputError(
                f"word vectors {self.source!r}: no such file. Give a text file with a word and its "
                f"numbers a line (glove.6B.300d.txt), or an .npz of words and vectors"
            )

    @property
    def width(self) -> int:
        """F, the numbers a word has in the file."""
        return self._table().width

    @property
    def rate(self) -> float | None:
        """Words have no clock."""
        return None

    def describe(self) -> str:
        """One line for a reader."""
        table = self._table()
        return f"{table.width} numbers a word, from a file of {table.entries} words"

    def recipe(self) -> dict[str, Any]:
        """Everything that decides the numbers: the hash of the file, not its name."""
        return {"name": "word vectors", "content": self._table().digest, "longest": self.longest}

    def read(self, clip: Clip) -> str:
        """The text, see ``read_words``."""
        return read_words(clip)

    def encode(self, media: Sequence[str]) -> list[Track]:
        """A row a word, zeros for a word that is not in the file."""
        return [self._encode(text).first(self.longest) for text in media]

    def unknown(self, text: str) -> list[str]:
        """The words of ``text`` that get zeros."""
        return [text[a:b] for (a, b), row in self._rows(text) if row is None]

    def _encode(self, text: str) -> Track:
        found = self._rows(text)
        zeros = np.zeros(self.width, np.float32)
        rows = [zeros if row is None else row for _, row in found]
        return _track(rows, [span for span, _ in found], self.width)

    def _rows(self, text: str) -> list[tuple[tuple[int, int], np.ndarray | None]]:
        table, rows = self._table(), []
        for start, end in words(text):
            whole = _first_known(table, text[start:end])
            cut = _CONTRACTION.fullmatch(text, start, end) if whole is None else None
            if cut is None:
                rows.append(((start, end), whole))
                continue
            rows += [(cut.span(part), _first_known(table, cut[part])) for part in (1, 2)]
        return rows

    def _table(self) -> WordTable:
        return word_table(Path(self.source))


def _first_known(table: WordTable, word: str) -> np.ndarray | None:
    straight = word.replace("’", "'")
    spellings = [word, word.lower(), straight, straight.lower()]
    if not word[0].isalnum():
        spellings.append(word[0])  # !!! -> !
    vectors = (table.find(spelling) for spelling in dict.fromkeys(spellings))
    return next((vector for vector in vectors if vector is not None), None)
