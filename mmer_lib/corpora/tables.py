"""The tables of a corpus folder: read as text or numbers, and compared with what they must hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES, RESERVED, Corpus
from mmer_lib.errors import InputError
from mmer_lib.features.base import HALVES

EVENTS = ("id", "modality", "frame", "role", "key", "value")
CLIPS = ("id", "modality", "path", "start", "end", "half")
_TEXT_COLUMNS = dict.fromkeys(
    ("id", "speaker", "dialogue", "session", "split", "text", "path", "half", "modality", "role",
     RESERVED), str,
)  # fmt: skip


def read_table(file: Path) -> pd.DataFrame:
    """A CSV file with ids and names kept as text, or ``InputError`` naming the file."""
    if not file.is_file():
        raise InputError(f"{file} is missing: the corpus is not whole, make it again")
    return read_csv(file, dtype=_TEXT_COLUMNS, keep_default_na=False, na_values=[""])


def read_csv(file: Path, **how: object) -> pd.DataFrame:
    """A table whose lines have as many cells as its first one.

    Raises ``InputError`` that names the file. (Where every line has a cell more than there are
    names, pandas would take the first ones for row labels and move all columns by one.)
    """
    try:
        table = pd.read_csv(file, **how)  # type: ignore[call-overload]
    except (ValueError, OverflowError, OSError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{file} is not a readable CSV table: {line}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise InputError(
            f"{file} is not a readable CSV table: its lines have more cells than the first one has "
            f"names of columns"
        )
    return table


def check_events(file: Path, corpus: Corpus) -> None:
    """Planted events are of frames that there are."""
    events = corpus.events
    if events is None:
        return
    _check_columns(file, events, EVENTS)
    if not pd.api.types.is_integer_dtype(events["frame"]) or events["role"].isna().any():
        raise InputError(f"{file}: an event without a role, or a frame that is no whole number")
    lengths = pd.concat(
        [
            pd.DataFrame({"id": corpus.utterances["id"], "modality": m, "length": ragged.lengths})
            for m, ragged in corpus.features.items()
        ]
    )
    left_out = events["modality"].isin(set(MODALITIES) - set(corpus.features))  # of the corpus
    found = events.loc[~left_out, ["id", "modality", "frame"]].merge(
        lengths, "left", ["id", "modality"]
    )
    wrong = found[~((found["frame"] >= 0) & (found["frame"] < found["length"]))]
    if len(wrong):
        one = wrong.iloc[0]
        raise InputError(
            f"{file}: {len(wrong)} events are of frames that are not there, the first of frame "
            f"{one['frame']} of {one['modality']!r} of utterance {one['id']!r}"
        )


def check_clips(file: Path, corpus: Corpus) -> None:
    """Clips are stretches of files below the media's folder."""
    clips = corpus.clips
    if clips is None:
        return
    _check_columns(file, clips, CLIPS)
    for column in ("start", "end"):
        if not pd.api.types.is_numeric_dtype(clips[column]) and clips[column].notna().any():
            raise InputError(f"{file}: {column} is not a column of seconds")
    start, end = (clips[name].astype(float).to_numpy() for name in ("start", "end"))
    stretch = (start >= 0) & np.isfinite(start) & (np.isnan(end) | (start < end) & np.isfinite(end))
    known = clips["modality"].isin(MODALITIES) & clips["half"].fillna("").isin(HALVES)
    inside = np.array([_stays(path) for path in clips["path"]], bool)
    for fits, expected in (
        (stretch, "a start of 0 or more and an end after it"),
        (known.to_numpy(), "a modality, and left, right or nothing as its half"),
        (inside, "a path below the folder of the media, without `..`"),
    ):
        if not fits.all():
            one = clips.iloc[int(np.argmin(fits))]
            raise InputError(f"{file}: clip of utterance {one['id']!r}: {expected} expected")


def _stays(path: object) -> bool:
    """Whether a path, taken from a folder, leads below it (links that its owner laid aside)."""
    if (
        not isinstance(path, str)
        or not path
        or "\0" in path
        or path[0] in "/\\"
        or path[1:2] == ":"
    ):
        return False
    return ".." not in path.replace("\\", "/").split("/")


def _check_columns(file: Path, table: pd.DataFrame, needed: tuple[str, ...]) -> None:
    for column in needed:
        if column not in table:
            raise InputError(f"{file} has no column {column!r}; it has {', '.join(table.columns)}")
