"""What a corpus is: labelled utterances, and for each modality one ragged array of frames.

Tensors and arrays of this module, with n utterances and F features a frame:

- ``Ragged.values`` (N_frames, F) float32, all frames of all utterances, one after the other;
- ``Ragged.offsets`` (n + 1,) int64: utterance i is ``values[offsets[i]:offsets[i + 1]]``.
  No frames (``offsets[i] == offsets[i + 1]``) means that the modality is missing: that is legal.

On disk a corpus is a folder: ``corpus.json``, ``utterances.csv``, for each modality
``<modality>.values.npy`` and ``<modality>.offsets.npy`` (opened memory-mapped, never unpickled),
and, where there are any, ``events.csv`` (the truth of a planted corpus), ``folds.csv`` (published
folds) and ``clips.csv`` (where the media lie).
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mmer_lib.errors import InputError, printable, unknown
from mmer_lib.features.base import Clip

if TYPE_CHECKING:
    from mmer_lib.corpora.folds import Fold

MODALITIES = ("audio", "video", "text")  # always in this order: A, V, T in names
PARTS = ("train", "dev", "test")
RESERVED = "content"  # the column of a corpus folder's table that holds Corpus.content
_SLICE_BYTES = 1 << 25  # looked at together, so that memory stays small whatever the corpus


@dataclass(frozen=True)
class Ragged:
    """Sequences of different lengths in one array (see the module's first lines).

    Raises ``InputError`` if the arrays do not fit together.
    """

    values: np.ndarray  # (N_frames, F) float32
    offsets: np.ndarray  # (n + 1,) int64

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.dtype != np.float32:
            raise InputError(
                f"Ragged: values must be a (frames, features) float32 array, "
                f"not {self.values.dtype} of shape {self.values.shape}"
            )
        if self.offsets.ndim != 1 or self.offsets.dtype != np.int64 or len(self.offsets) < 1:
            raise InputError(
                f"Ragged: offsets must be an (n + 1,) int64 array, "
                f"not {self.offsets.dtype} of shape {self.offsets.shape}"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise InputError(
                f"Ragged: offsets must run from 0 to the {len(self.values)} frames there are, "
                f"not from {self.offsets[0]} to {self.offsets[-1]}"
            )
        if np.any(self.offsets[1:] < self.offsets[:-1]):
            raise InputError("Ragged: offsets must never fall")
        if not self.width:
            raise InputError("Ragged: frames of no feature; at least one expected")

    @classmethod
    def from_list(cls, sequences: Sequence[np.ndarray], width: int) -> Ragged:
        """Join arrays of shape (T_i, width), T_i = 0 allowed."""
        lengths = [len(s) for s in sequences]
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
        kept = [np.asarray(s, dtype=np.float32).reshape(-1, width) for s in sequences if len(s)]
        values = np.concatenate(kept) if kept else np.zeros((0, width), np.float32)
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> np.ndarray:
        """The frames of utterance i: (T_i, F)."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[i] for i in range(len(self)))

    @property
    def width(self) -> int:
        """F, the number of features a frame."""
        return int(self.values.shape[1])

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64: frames of each utterance, 0 = missing."""
        return np.diff(self.offsets)

    def take(self, indices: np.ndarray) -> Ragged:
        """The utterances at ``indices``, in that order, copied into memory."""
        return Ragged.from_list([self[int(i)] for i in indices], self.width)


@dataclass(frozen=True)
class Corpus:
    """Labelled utterances with one ragged array of frames a modality.

    ``utterances`` has one row an utterance with at least the columns ``id`` (unique) and ``label``
    (0 .. C - 1, an index into ``classes``); ``speaker``, ``dialogue``, ``split`` (train, dev,
    test) and ``text`` are read where they exist; ``content`` is reserved for the folder.
    ``recipe[modality]`` says how the features were made: ``features`` (a description), ``rate``
    (frames a second; None = unknown) and, where the source was padded, ``padded_length`` and
    ``padding`` (the F numbers of a padding frame).
    ``events`` is the planted truth, one row an event: ``id, modality, frame, role, key, value``.
    ``published`` gives published folds: a row an utterance, a column a fold, cells train, dev,
    test or empty.

    Raises ``InputError`` if the pieces do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    utterances: pd.DataFrame
    features: dict[str, Ragged]
    recipe: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: pd.DataFrame | None = None
    published: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()  # what a reader must know: e.g. utterances that were dropped
    clips: pd.DataFrame | None = None  # where the media lie: id, modality, path, start, end, half
    media: Path | None = None  # the folder below which the clips' paths are
    path: Path | None = None  # the folder it was read from

    def __post_init__(self) -> None:
        _check_corpus(self)

    def __len__(self) -> int:
        return len(self.utterances)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities there are, in the order audio, video, text."""
        return tuple(m for m in MODALITIES if m in self.features)

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 class indices."""
        return self.utterances["label"].to_numpy(np.int64)

    @property
    def widths(self) -> dict[str, int]:
        """Features a frame, for each modality."""
        return {m: self.features[m].width for m in self.modalities}

    def known(self, column: str) -> np.ndarray | None:
        """A column of ``utterances`` as strings, or None if it is absent or entirely empty."""
        if column not in self.utterances or self.utterances[column].isna().all():
            return None
        return self.utterances[column].fillna("").astype(str).to_numpy(dtype=object, copy=True)

    def find(self, utterance: str) -> int:
        """The row of an utterance id. Raises ``InputError`` with a near one if there is none."""
        rows = np.flatnonzero(self.utterances["id"] == utterance)
        if not len(rows):
            near = get_close_matches(utterance, self.utterances["id"], n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"one is {self.utterances['id'][0]!r}"
            raise InputError(f"corpus {self.name!r} has no utterance {utterance!r}: {hint}")
        return int(rows[0])

    def clip(self, modality: str, row: int) -> Clip | None:
        """Where an utterance is heard, seen (audio, video) or read; None where it is not known."""
        if modality == "text":
            words = self.known("text")
            return None if words is None or not words[row] else Clip(words=words[row])
        if self.clips is None or self.media is None:
            return None
        mine = self.clips["id"] == self.utterances["id"].iloc[row]
        found = self.clips[mine & (self.clips["modality"] == modality)]
        if found.empty:
            return None
        one = found.iloc[0]
        end = None if pd.isna(one["end"]) else float(one["end"])
        half = "" if pd.isna(one["half"]) else str(one["half"])
        return Clip(self._medium(str(one["path"])), float(one["start"]), end, half)

    def _medium(self, name: str) -> Path:
        """A file below ``media``.

        Links that lead elsewhere are followed where the media are the user's own: releases are
        spread over disks so. Media that came inside the corpus folder may be somebody else's, and
        a link in them must not make this user's files part of what he shows around.
        """
        assert self.media is not None
        file = self.media / name
        came_along = self.path is not None and self.media.is_relative_to(self.path)
        if came_along and not file.resolve().is_relative_to(self.media.resolve()):
            raise InputError(f"{file} leads out of {self.media}: its media must lie in the corpus")
        return file

    def require(self, modalities: Iterable[str]) -> None:
        """Raise ``InputError`` unless all ``modalities`` are there."""
        for modality in modalities:
            if modality not in self.features:
                have = ", ".join(self.modalities)
                raise InputError(
                    f"corpus {self.name!r} has no {modality}: it has {have}. "
                    f"Choose configurations that use only these"
                )

    def take(self, indices: np.ndarray) -> Corpus:
        """The utterances at ``indices`` as a corpus of its own (features copied)."""
        rows = self.utterances.iloc[indices].reset_index(drop=True)
        events = self.events
        if events is not None:
            events = events[events["id"].isin(rows["id"])].reset_index(drop=True)
        clips = self.clips
        if clips is not None:
            clips = clips[clips["id"].isin(rows["id"])].reset_index(drop=True)
        published = self.published
        if published is not None:
            published = published.iloc[indices].reset_index(drop=True)
        features = {m: ragged.take(indices) for m, ragged in self.features.items()}
        return replace(
            self,
            utterances=rows,
            features=features,
            events=events,
            clips=clips,
            published=published,
            path=None,
        )

    @cached_property
    def hashes(self) -> dict[str, str]:
        """A content hash for each part that decides a result: the table and each modality.

        A corpus read from its folder carries the hashes recorded there; else they are computed.
        """
        table = self.utterances.to_csv(index=False)
        if self.published is not None:
            table += self.published.to_csv(index=False)
        described = json.dumps([list(self.classes), self.recipe], sort_keys=True)
        hashes = {"utterances": blake2b(table.encode(), described.encode())}
        for modality in self.modalities:
            ragged = self.features[modality]
            hashes[modality] = blake2b(ragged.values, ragged.offsets)
        return hashes

    @property
    def fingerprint(self) -> str:
        """16 hex digits: equal when labels, groups, folds and frames are equal."""
        return blake2b(json.dumps(self.hashes, sort_keys=True).encode())

    @cached_property
    def content(self) -> np.ndarray:
        """(n,) strings, equal where two utterances have the same frames in every modality.

        Recorded and computed as ``hashes`` are.
        """
        hashes = [
            blake2b(*(self.features[m][i] for m in self.modalities)) for i in range(len(self))
        ]
        return np.array(hashes, dtype=object)

    def folds(self, protocol: str = "random", n_folds: int = 5, seed: int = 0) -> list[Fold]:
        """Train, dev and test parts: see :func:`mmer_lib.corpora.folds.make_folds`."""
        from mmer_lib.corpora.folds import make_folds

        asked = f"{protocol!r} {n_folds!r} {seed!r}"
        if asked not in self._drawn:
            self._drawn[asked] = make_folds(self, protocol, n_folds, seed)
        return list(self._drawn[asked])

    @cached_property
    def _drawn(self) -> dict[str, list[Fold]]:
        """The folds that were asked for: on a small corpus they cost as much as half an epoch."""
        return {}

    def save(self, path: str | Path) -> Path:
        """Write the corpus folder: see :func:`mmer_lib.corpora.folder.save_corpus`."""
        from mmer_lib.corpora.folder import save_corpus

        return save_corpus(self, Path(path))


def blake2b(*parts: bytes | np.ndarray) -> str:
    """16 hex digits of bytes and arrays, read a slice at a time (memory-mapped ones included)."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, bytes):
            digest.update(part)
            continue
        digest.update(repr((part.shape, part.dtype.str)).encode())
        for _, rows in _slices(part):
            digest.update(np.ascontiguousarray(rows).data)
    return digest.hexdigest()


def _slices(values: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, rows) of an array, piece by piece; what was read of a file is given back."""
    step = max(1, _SLICE_BYTES * len(values) // max(1, values.nbytes))
    for start in range(0, len(values), step):
        yield start, values[start : start + step]
        release(values)


def release(values: np.ndarray) -> None:
    """Give back the memory that reading a memory-mapped array took (the file keeps the data).

    The pages would go when memory is short, but until then they count as ours. Does nothing to
    an array in memory or where the system has no such call.
    """
    if isinstance(values, np.memmap) and values.mode == "r" and hasattr(mmap, "MADV_DONTNEED"):
        values._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def check_finite(values: np.ndarray, where: str) -> None:
    """Raise ``InputError`` naming ``where``, the count and the first index of NaN or infinity."""
    bad, first = 0, None
    for start, rows in _slices(values):
        wrong = ~np.isfinite(rows)
        if wrong.any():
            bad += int(wrong.sum())
            if first is None:
                at = np.argwhere(wrong)[0]
                first = (start + int(at[0]), *(int(j) for j in at[1:]))
    if first is not None:
        index = ", ".join(map(str, first))
        raise InputError(
            f"{where}: {bad} values are NaN or infinite, the first at [{index}]. "
            f"Features must be finite numbers: mend or drop these frames"
        )


def _check_corpus(corpus: Corpus) -> None:
    """What every corpus must satisfy but for finite features.

    Those are checked where files of others are read and where a corpus is saved; a corpus folder
    is taken at the word of its recorded hashes (see folder.py). A corpus made in memory is not
    checked: ``Scaler.fit`` refuses what is not finite in a training part.
    """
    table, name = corpus.utterances, corpus.name
    if RESERVED in table:
        raise InputError(
            f"corpus {name!r}: the column {RESERVED!r} of the utterance table is reserved for the "
            f"hashes of the frames: give yours another name"
        )
    for column in ("id", "label"):
        if column not in table:
            raise InputError(f"corpus {name!r}: the utterance table has no column {column!r}")
    if not len(table):
        raise InputError(f"corpus {name!r} has no utterance")
    if len(corpus.classes) < 2:
        raise InputError(f"corpus {name!r}: {len(corpus.classes)} class given, at least 2 expected")
    for word in (name, *corpus.classes):
        if printable(word) != word:
            raise InputError(f"corpus {name!r}: {word!r} holds a character that cannot be seen")
    if len(set(corpus.classes)) < len(corpus.classes) or "" in corpus.classes:
        raise InputError(f"corpus {name!r}: classes {corpus.classes}; each needs a name of its own")
    check_text(table, f"corpus {name!r}")
    if (table["id"].isna() | (table["id"] == "")).any():
        raise InputError(f"corpus {name!r}: an utterance has no id")
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise InputError(f"corpus {name!r}: utterance id {twice!r} appears twice; ids are unique")
    labels = table["label"]
    if not pd.api.types.is_integer_dtype(labels):
        raise InputError(f"corpus {name!r}: labels must be integers, not {labels.dtype}")
    outside = ~labels.between(0, len(corpus.classes) - 1)
    if outside.any():
        row = table[outside].iloc[0]
        raise InputError(
            f"corpus {name!r}: label {row['label']} of utterance {row['id']!r} is outside "
            f"0..{len(corpus.classes) - 1} ({outside.sum()} in all)"
        )
    if not corpus.features:
        raise InputError(f"corpus {name!r} has no modality; expected at least one of {MODALITIES}")
    for modality, ragged in corpus.features.items():
        if modality not in MODALITIES:
            raise unknown("modality", modality, MODALITIES)
        if len(ragged) != len(table):
            raise InputError(
                f"corpus {name!r}: {modality} has {len(ragged)} sequences "
                f"for {len(table)} utterances"
            )
    split = corpus.known("split")
    if split is not None:
        _check_parts(split, f"the split column of corpus {name!r}")
    if corpus.published is not None:
        _check_published(corpus.published, table["id"], name)


def check_text(table: pd.DataFrame, where: str) -> None:
    """Raise ``InputError`` for text that no CSV file can hold: halves of characters, zeros."""
    for column in table.select_dtypes(exclude="number"):
        written = "\n".join(map(str, table[column]))
        if "\0" in written or not _is_unicode(written):
            wrong = next(x for x in map(str, table[column]) if "\0" in x or not _is_unicode(x))
            raise InputError(f"{where}: {column} {wrong[:80]!r} holds characters that do not exist")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_published(published: pd.DataFrame, ids: pd.Series, name: str) -> None:
    if "id" not in published or published["id"].tolist() != ids.tolist():
        raise InputError(
            f"corpus {name!r}: the published folds (folds.csv) must have the ids of the utterance "
            f"table in the same order"
        )
    for fold in published.columns.drop("id"):
        given = ["" if pd.isna(part) else str(part) for part in published[fold]]
        _check_parts(given, f"published fold {fold!r} of corpus {name!r}")


def _check_parts(given: Iterable[str], where: str) -> None:
    for part in sorted(set(given) - {*PARTS, ""}):
        raise unknown(f"part in {where}:", part, PARTS)
