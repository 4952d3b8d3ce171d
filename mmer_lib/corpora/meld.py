"""MELD: lines of the series Friends with emotion and sentiment, and where they are heard and seen.

Source: Poria et al. (2019, "MELD: a multimodal multi-party dataset for emotion recognition in
conversations"). Read are the tables and, where they were unpacked, the clips of the release::

    train_sent_emo.csv    train_splits/dia0_utt0.mp4
    dev_sent_emo.csv      dev_splits_complete/dia0_utt0.mp4
    test_sent_emo.csv     output_repeated_splits_test/dia0_utt0.mp4
                          output_repeated_splits_test/final_videos_testdia93_utt5.mp4

either in the folder that is given, in its folders ``train``, ``dev``, ``test``, or one folder
further down (``MELD.Raw``). Tables may also be called ``meld_train.csv`` and so on. Where the test
part has a clip under both names, the one of the longer name is taken: users of the release found
that it is the one that fits the table.

The numbers of dialogues begin again in each part, so that ours carry the part: ``train-12``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import PARTS, Corpus
from mmer_lib.corpora.media import Extraction, Listing, build_corpus
from mmer_lib.corpora.transcripts import read_text
from mmer_lib.errors import InputError, check_path, unknown
from mmer_lib.features.base import Clip

CLASSES = {  # the order of the release's own numbers
    "emotion": ("neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"),
    "sentiment": ("neutral", "positive", "negative"),
}
UTTERANCES = {"train": 9989, "dev": 1109, "test": 2610}  # published

_NEEDED = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")
_FOLDERS = {
    "train": "train_splits",
    "dev": "dev_splits_complete",
    "test": "output_repeated_splits_test",
}
_CLIP = re.compile(r"(final_videos_test)?dia(\d+)_utt(\d+)\.mp4")
_TIME = re.compile(r"(\d{1,3}):(\d{1,2}):(\d{1,2})[,.](\d{1,9})")
_DEFAULTS = Extraction()


def meld(
    path: str | Path,
    dest: str | Path,
    extraction: Extraction = _DEFAULTS,
    classes: str = "emotion",
) -> Corpus:
    """MELD: lines of the series Friends, 7 emotions or 3 sentiments; clips where there are any.

    Writes the corpus folder ``dest``; options and errors as in :func:`read_meld`.
    """
    return build_corpus(read_meld(path, classes), Path(dest), extraction)


def read_meld(path: str | Path, classes: str = "emotion") -> Listing:
    """The utterances of the tables in the folder ``path`` (see the module's first lines).

    ``classes`` is ``emotion`` or ``sentiment``; both are columns as well. ``split`` is the
    published one. Text alone is enough: without any mp4 there is no audio and no video, and a note
    says what was looked for. Columns beside the usual ones: ``season``, ``episode``, ``start`` and
    ``end`` (s in the episode), where the table has them.

    Raises ``InputError`` for a folder without tables, a table without a column, an unknown emotion
    or sentiment, a dialogue or utterance that is no number, or an utterance that is there twice.
    """
    if classes not in CLASSES:
        raise unknown("classes of meld:", classes, CLASSES)
    folder = check_path("path", path)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected one with train_sent_emo.csv")
    places = _places(folder)
    files = {part: file for part in PARTS if (file := _find_table(places, part))}
    if not files:
        raise InputError(
            f"{folder} has no table of MELD: expected train_sent_emo.csv, dev_sent_emo.csv or "
            f"test_sent_emo.csv in it"
        )
    rows = [row for part, file in files.items() for row in _read_table(file, part)]
    if not rows:
        raise InputError(f"{folder}: the tables have no utterance: {', '.join(map(str, files))}")
    table = pd.DataFrame(rows)
    table.insert(
        1, "label", np.array([CLASSES[classes].index(c) for c in table[classes]], np.int64)
    )
    films = [film for part in files for film in _find_films(places, part, rows)]
    text = [Clip(words=str(row["text"])) if row["text"] else None for row in rows]
    return Listing(
        name="meld",
        classes=CLASSES[classes],
        utterances=table,
        clips={**({"audio": films, "video": films} if any(films) else {}), "text": text},
        root=folder,
        notes=(_counted(table), *_about_films(table, films)),
    )


# -- where things lie ------------------------------------------------------------------------------


def _places(folder: Path) -> list[Path]:
    """The folder and those in it, nearest first."""
    return [folder, *sorted(inside for inside in folder.iterdir() if inside.is_dir())]


def _find_table(places: list[Path], part: str) -> Path | None:
    names = (f"{part}_sent_emo.csv", f"meld_{part}.csv")
    files = (
        around / name for place in places for around in (place, place / part) for name in names
    )
    return next((file for file in files if file.is_file()), None)


def _find_films(places: list[Path], part: str, rows: list[dict[str, object]]) -> list[Clip | None]:
    """The clip of each utterance of the part."""
    name = _FOLDERS[part]
    folders = (around / name for place in places for around in (place, place / part))
    folder = next((folder for folder in folders if folder.is_dir()), None)
    there: dict[str, Path] = {}
    for file in sorted(folder.iterdir()) if folder else ():
        known = _CLIP.fullmatch(file.name)  # what macOS adds, ._dia0_utt0.mp4, is none
        if known:
            utterance = f"{part}-{int(known.group(2))}-{int(known.group(3))}"
            if known.group(1) or utterance not in there:
                there[utterance] = file
    mine = [str(row["id"]) for row in rows if row["split"] == part]
    return [Clip(there[utterance]) if utterance in there else None for utterance in mine]


# -- the tables ------------------------------------------------------------------------------------


def _read_table(file: Path, part: str) -> Iterator[dict[str, object]]:
    """A row an utterance, in the order of the file."""
    first: dict[str, int] = {}
    for line, row in _read_lines(file):
        made = _read_row(row, part, f"{file}, line {line}")
        name = str(made["id"])
        if name in first:
            raise InputError(
                f"{file}, line {line}: utterance {row['Utterance_ID']} of dialogue "
                f"{row['Dialogue_ID']} is there already, in line {first[name]}; take one away"
            )
        first[name] = line
        yield made


def _read_lines(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, cells by column); what a short line lacks is empty."""
    reader = csv.DictReader(io.StringIO(read_text(file), newline=""), restval="")
    try:
        columns = reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        for column in _NEEDED:
            if column not in columns:
                has = ", ".join(columns) or "none"
                raise InputError(f"{file} has no column {column!r}; it has {has}")
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        raise InputError(f"{file}, line {reader.line_num}: no readable CSV: {error}") from error


def _read_row(row: dict[str, str], part: str, where: str) -> dict[str, object]:
    dialogue = _number(row["Dialogue_ID"], f"{where}: Dialogue_ID")
    utterance = _number(row["Utterance_ID"], f"{where}: Utterance_ID")
    labels = {}
    for kind in CLASSES:
        labels[kind] = row[kind.capitalize()].strip().lower()
        if labels[kind] not in CLASSES[kind]:
            raise unknown(f"{kind} in {where}:", row[kind.capitalize()], CLASSES[kind])
    return {
        "id": f"{part}-{dialogue}-{utterance}",
        "speaker": row["Speaker"].strip() or None,
        "dialogue": f"{part}-{dialogue}",
        "split": part,
        **labels,
        "season": row.get("Season", "").strip() or None,
        "episode": row.get("Episode", "").strip() or None,
        "start": _seconds(row.get("StartTime", "")),
        "end": _seconds(row.get("EndTime", "")),
        "text": row["Utterance"].strip() or None,
    }


def _number(given: str, where: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,9}\s*", given):
        raise InputError(f"{where} is {given!r}; a whole number from 0 on expected")
    return int(given)


def _seconds(given: str) -> float:
    """``00:16:16,059`` -> 976.059; NaN for what is no time."""
    clock = _TIME.fullmatch(given.strip())
    if clock is None:
        return float("nan")
    hours, minutes, seconds = (int(clock.group(i)) for i in (1, 2, 3))
    return 3600 * hours + 60 * minutes + seconds + float(f"0.{clock.group(4)}")


# -- notes -----------------------------------------------------------------------------------------


def _counted(table: pd.DataFrame) -> str:
    there = {part: int((table["split"] == part).sum()) for part in PARTS}
    if there == UTTERANCES:
        return f"Counts as published: {len(table):,} utterances."
    listed = ", ".join(
        f"{part} {there[part]:,} ({there[part] - UTTERANCES[part]:+,})"
        for part in PARTS
        if there[part] != UTTERANCES[part]
    )
    return f"Counts depart from the published ones: {listed}."


def _about_films(table: pd.DataFrame, films: list[Clip | None]) -> Iterator[str]:
    gone = [name for name, film in zip(table["id"], films, strict=True) if film is None]
    if len(gone) == len(films):
        yield (
            "There is no audio and no video: expected files such as "
            "train_splits/dia0_utt0.mp4 beside the tables."
        )
    elif gone:
        yield f"{len(gone):,} of {len(films):,} utterances have no clip, e.g. {gone[0]}."
