"""Anybody's own recordings as a corpus: a CSV table that says where they lie and what they show.

    audio,video,text,label,speaker,dialogue,split
    audio/a1.wav,video/a1.mp4,We won!,happy,Ana,d1,train
    audio/a2.wav,,words/a2.txt,sad,Ben,d1,test

Needed are ``label`` and at least one of ``audio``, ``video``, ``text``. An empty cell means that
the modality is missing, or that nothing is known. ``text`` is the words themselves, or a ``.txt``
file with them. ``split`` is train, dev or test. ``id`` names an utterance (else its file does);
``start`` and ``end``, in seconds, cut it out of a longer recording. Other columns are kept.

Paths are relative to the folder of the table, or to ``root``, and must stay below it: a manifest
that comes with somebody else's data must not reach other files. The table is UTF-8, else
Windows-1252; its cells are separated by commas.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES, PARTS, RESERVED, Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.corpora.transcripts import decode, read_text
from mmer_lib.errors import InputError, check_path, unknown
from mmer_lib.features.base import Clip

COLUMNS = (*MODALITIES, "label", "speaker", "dialogue", "split", "id", "start", "end")
_WORTHY = COLUMNS[:7]  # of a guess where another name looks like them; id, start, end are short
_DEFAULTS = Extraction()
_CLIPS = ("audio", "video", "start", "end")  # columns that become clips and leave the table


def manifest(
    path: str | Path,
    dest: str | Path,
    extraction: Extraction = _DEFAULTS,
    root: str = "",
) -> Corpus:
    """Your own recordings: a CSV table with audio, video, text, label, speaker, dialogue, split.

    Writes the corpus folder ``dest``; options and errors as in :func:`read_manifest`.
    """
    return build_corpus(read_manifest(path, root), Path(dest), extraction)


def read_manifest(path: str | Path, root: str | Path = "") -> Listing:
    """The recordings listed in the CSV ``path``; paths are below ``root`` (default: its folder).

    Raises ``InputError``, which names the line, for a column that is missing or misspelt, a row of
    another length, an empty label, no medium at all, a file that is missing or outside ``root``, a
    time that is none, an unknown part of the split, and an id or a recording that is there twice.
    """
    file = check_path("path", path)
    below = check_path("root", root) if str(root) else file.parent
    if not below.is_dir():
        raise InputError(f"root={str(below)!r}: no such folder")
    rows = _read_rows(file)
    places = _Places(file, below)
    clips: dict[str, list[Clip | None]] = {
        "audio": [places.clip(row, "audio") for row in rows],
        "video": [places.clip(row, "video") for row in rows],
        "text": [places.words(row) for row in rows],
    }
    places.check()
    _check_media(file, rows, clips)
    _check_split(file, rows)
    classes = tuple(sorted({row.needed("label", file) for row in rows}))
    if len(classes) < 2:
        raise InputError(f"{file}: 1 class ({classes[0]!r}), at least 2 expected in column label")
    table = _make_table(file, rows, clips, classes)
    clips = {m: given for m, given in clips.items() if any(given)}
    return Listing(file.stem, classes, table, clips, below)


# -- the table -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """One row: its first line in the file, and its cells without the blanks around them."""

    line: int
    cells: dict[str, str]

    def get(self, column: str) -> str:
        return self.cells.get(column, "")

    def needed(self, column: str, file: Path) -> str:
        """A cell that must not be empty."""
        if not self.get(column):
            raise InputError(
                f"{file}, line {self.line}: the {column} is empty; every row needs one"
            )
        return self.cells[column]


def _read_rows(file: Path) -> list[_Row]:
    """The rows, each as long as the first line says."""
    if not file.is_file():
        raise InputError(f"{file}: no such file; expected a CSV table with a label column")
    try:
        lines = list(_lines(decode(file.read_bytes())))
    except (OSError, csv.Error) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{file} is not a readable CSV table: {reason}") from error
    if len(lines) < 2:
        raise InputError(f"{file} has no row; expected a line of column names and rows below it")
    columns = [name.lower() if name.lower() in COLUMNS else name for name in lines[0][1]]
    _check_columns(file, columns)
    rows = []
    for line, cells in lines[1:]:
        if len(cells) != len(columns):
            raise InputError(
                f"{file}, line {line}: {len(cells)} cells, but {len(columns)} columns; put cells "
                f"that hold a comma into double quotes"
            )
        rows.append(_Row(line, dict(zip(columns, cells, strict=True))))
    return rows


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """(number of the first line, cells) of everything that is not blank."""
    reader, first = csv.reader(io.StringIO(text, newline=""), strict=True), 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield first, [cell.strip() for cell in cells]
        first = reader.line_num + 1


def _check_columns(file: Path, columns: list[str]) -> None:
    """The needed columns are there, none twice, and none is a known one misspelt."""
    twice = [name for name in columns if name and columns.count(name) > 1]
    if twice:
        raise InputError(f"{file}: column {twice[0]!r} is there twice; names of columns are unique")
    if RESERVED in columns:
        raise InputError(f"{file}: the column name {RESERVED!r} is reserved; give it another name")
    if len(columns) == 1 and (";" in columns[0] or "\t" in columns[0]):
        raise InputError(f"{file}: one column {columns[0][:60]!r}; separate the cells by commas")
    absent = [name for name in _WORTHY if name not in columns]
    for name in columns:
        if name not in COLUMNS and get_close_matches(name.lower(), absent, n=1, cutoff=0.8):
            raise unknown(f"column in {file}:", name, COLUMNS)
    if "label" not in columns:
        raise InputError(f"{file} has no column 'label'; it has {', '.join(columns)}")
    if not set(MODALITIES) & set(columns):
        raise InputError(
            f"{file} has none of the columns {', '.join(MODALITIES)}; it has {', '.join(columns)}"
        )


def _make_table(
    file: Path, rows: list[_Row], clips: dict[str, list[Clip | None]], classes: tuple[str, ...]
) -> pd.DataFrame:
    """The utterance table; empty cells are missing."""
    columns: dict[str, object] = {
        "id": _name_rows(file, rows, clips),
        "label": np.array([classes.index(row.get("label")) for row in rows], np.int64),
    }
    for name in rows[0].cells:
        if name and name not in (*columns, "text", *_CLIPS):
            columns[name] = [row.get(name) or None for row in rows]
    if any(clips["text"]):
        columns["text"] = [None if clip is None else clip.words for clip in clips["text"]]
    return pd.DataFrame(columns)


def _name_rows(file: Path, rows: list[_Row], clips: dict[str, list[Clip | None]]) -> list[str]:
    """The ids given, or else the names of the files, or numbers where these are not unique."""
    if "id" in rows[0].cells:
        _check_once(file, [(row.line, row.needed("id", file)) for row in rows], "id")
        return [row.get("id") for row in rows]
    files = [Path(row.get("audio") or row.get("video")).stem for row in rows]
    if all(files) and len(set(files)) == len(files):
        return files
    return [f"row-{i + 1:05d}" for i in range(len(rows))]


def _check_once(file: Path, given: list[tuple[int, object]], what: str) -> None:
    """Raise ``InputError`` with both lines if something (line, thing) is there twice."""
    first: dict[object, int] = {}
    for line, thing in given:
        if first.setdefault(thing, line) != line:
            named = f" {thing!r}" if isinstance(thing, str) else ""
            raise InputError(
                f"{file}: lines {first[thing]} and {line} have the same {what}{named}; "
                f"each may be there once"
            )


def _check_split(file: Path, rows: list[_Row]) -> None:
    for row in rows:
        if row.get("split") not in ("", *PARTS):
            raise unknown(f"part in {file}, line {row.line}:", row.get("split"), PARTS)


def _check_media(file: Path, rows: list[_Row], clips: dict[str, list[Clip | None]]) -> None:
    """Every row has a medium, and no two rows the same stretch of the same files."""
    stretches: list[tuple[int, object]] = []
    for i, row in enumerate(rows):
        if not any(clips[modality][i] for modality in MODALITIES):
            raise InputError(
                f"{file}, line {row.line}: audio, video and text are all empty; give at least one"
            )
        media = (clips["audio"][i], clips["video"][i])
        if any(media):
            stretches.append((row.line, media))
    _check_once(file, stretches, "recording")


# -- files -----------------------------------------------------------------------------------------


@dataclass
class _Places:
    """Finds what the cells name, and remembers what is not there."""

    file: Path  # the table
    root: Path
    missing: list[str] = field(default_factory=list)

    def clip(self, row: _Row, column: str) -> Clip | None:
        """The stretch of the sound or video file in a cell."""
        if not row.get(column):
            return None
        path = self._find(row, column)
        start = self._seconds(row, "start", lambda x: x >= 0, "0 or more") or 0.0
        end = self._seconds(row, "end", lambda x: x > start, f"more than start ({start:g})")
        return Clip(path, start, end)

    def words(self, row: _Row) -> Clip | None:
        """The words in a cell, or in the file that it names."""
        given = row.get("text")
        if given.lower().endswith(".txt"):
            path = self._find(row, "text", sentence=" " in given)
            given = read_text(path).strip() if path.is_file() else given
        return Clip(words=given) if given else None

    def check(self) -> None:
        """Raise ``InputError`` with the number of files that are missing, and the first."""
        if self.missing:
            n = len(self.missing)
            told = "1 file is missing:" if n == 1 else f"{n} files are missing, the first"
            raise InputError(f"{self.file}: {told} {self.missing[0]}. Mend the path or the root")

    def _find(self, row: _Row, column: str, sentence: bool = False) -> Path:
        """The path in a cell; one that leaves the root is refused, a missing file noted."""
        given = row.get(column)
        path = self.root / given.replace("\\", "/")  # as Windows writes it
        try:
            inside, there = path.resolve().is_relative_to(self.root.resolve()), path.is_file()
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # too long, a zero byte, a ring of links
            raise InputError(
                f"{self.file}, line {row.line}, {column}: {given[:80]!r} is no path"
            ) from error
        if not inside:
            raise InputError(
                f"{self.file}, line {row.line}, {column}: {given!r} leads out of {self.root}; "
                f"files must lie below it. Move the file, or give another root"
            )
        if not there and not sentence:
            self.missing.append(f"{given!r} (line {row.line}, column {column})")
        return path

    def _seconds(
        self, row: _Row, column: str, fits: Callable[[float], bool], wanted: str
    ) -> float | None:
        """A time in a cell; None where it is empty."""
        given = row.get(column)
        try:
            seconds = float(given) if given else None
        except ValueError:
            seconds = math.nan
        if seconds is not None and not (math.isfinite(seconds) and fits(seconds)):
            raise InputError(
                f"{self.file}, line {row.line}, {column}: {given!r}; seconds expected, {wanted}"
            )
        return seconds
