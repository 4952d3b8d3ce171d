"""The IEMOCAP folds as the attentive-modality-hopping work published them, as a corpus folder.

Source (Yoon et al. 2020): a folder with ``fold01/ ... foldNN/`` - or one that itself holds the
files of one fold - and for each part ``train``, ``dev`` and ``test``

    {part}_label.npy       (n,)               int, class 0 .. 6
    {part}_audio_mfcc.npy  (n, 1000, 120)     float, real frames in {part}_audio_seqN.npy (n,)
    {part}_video.npy       (n, 32, 2048)      float, real frames in {part}_video_seqN.npy (n,)
    {part}_nlp_trans.npy   (n, 128)           int, indices into W_embedding.npy, 0 = padding
    {part}_text.npy        (n, 128, 300)      float, optional: those vectors, used where it is
    W_embedding.npy        (vocabulary, 300)  float, in the fold's folder or beside the folds

Every utterance is in every fold, each time in another part, so frames are stored once and the
folds become the ``published`` table. Nothing in the source names an utterance: it is recognised by
a hash of its real frames and its label; equal ones in a fold are told apart by their order.

Sources are read memory-mapped and written as they come: memory stays far below 1 GB.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from mmer_lib.arrayfiles import open_array
from mmer_lib.corpora.arrays import FLOATS, INTEGERS, expect
from mmer_lib.corpora.base import (
    PARTS,
    RESERVED,
    Corpus,
    Ragged,
    blake2b,
    check_finite,
    release,
)
from mmer_lib.corpora.folder import (
    ArrayWriter,
    new_folder,
    read_corpus,
    write_tables,
)
from mmer_lib.errors import InputError, check_path, unknown

WITHOUT_VIDEO = ("keep", "drop", "released")
COUNTS = {
    "angry": 1103,
    "excited": 1041,
    "happy": 595,
    "sad": 1084,
    "frustrated": 1849,
    "surprise": 107,
    "neutral": 1708,
}  # published; no two are equal, so that they tell which index is which class
_ABOUT: dict[str, dict[str, Any]] = {
    "audio": {"features": "MFCC with deltas, 10 ms steps", "rate": 100.0},
    "video": {"features": "ResNet-101 of the speaker's half of the picture", "rate": 3.0},
    "text": {"features": "GloVe word vectors, one a token", "rate": None},
}
_TOGETHER = 64  # utterances read before their memory is given back


def processed(path: str | Path, dest: str | Path, without_video: str = "keep") -> Corpus:
    """Convert the published folds under ``path`` into the corpus folder ``dest``, and open it.

    ``without_video`` says what becomes of utterances whose video has no frame: ``keep`` them with
    video missing, ``drop`` them, or do as the ``released`` code does: drop them from a part unless
    the only one is the part's first. Prosody is not used. Float64 becomes float32.

    Raises ``InputError``, and leaves nothing at ``dest``, for a file that is missing, pickled or
    of the wrong rank, width, length or dtype; lengths beyond the arrays; features that are not
    finite; labels that are no class; a part without utterances; a ``dest`` that exists already
    or cannot be written.
    """
    if without_video not in WITHOUT_VIDEO:
        raise unknown("choice for without_video:", without_video, WITHOUT_VIDEO)
    source, target = check_path("path", path), check_path("dest", dest)
    parts = _open_parts(source)
    shapes = _common_shapes(parts)
    kept = [part.kept(without_video) for part in parts]
    with new_folder(target) as folder:
        with ExitStack() as stack:
            writers = {
                modality: stack.enter_context(closing(ArrayWriter(folder, modality, width)))
                for modality, (_, width) in shapes.items()
            }
            union = _Union(writers)
            bar = stack.enter_context(tqdm(total=sum(map(len, parts)), unit="row", disable=None))
            for part, keep in zip(parts, kept, strict=True):
                for i, frames in part.read():
                    union.add(part, i, frames, bool(keep[i]))
                    bar.update()
        write_tables(_describe(union, parts, folder), folder)
    return read_corpus(target)


# -- the source ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sequences:
    """The padded sequences of one modality in one part."""

    file: Path
    values: np.ndarray  # (n, T, F) floats, or (n, T) indices into ``embedding``
    lengths: np.ndarray  # (n,) real frames
    padding: np.ndarray  # (F,) float32, a padding row
    embedding: np.ndarray | None = None  # (V, F)
    trim: bool = False  # lengths are stated nowhere: the padding rows at the end do not count

    @property
    def shape(self) -> tuple[int, int]:
        """Padded length and features: (T, F)."""
        return int(self.values.shape[1]), len(self.padding)

    def frames(self, i: int) -> np.ndarray:
        """The real frames of utterance i: (T_i, F) float32."""
        rows = self.values[i, : self.lengths[i]]
        if self.embedding is not None:
            rows = self.embedding[rows]
        with np.errstate(over="ignore"):  # what overflows is infinite and told of below
            frames = np.array(rows, dtype=np.float32)
        if not np.isfinite(frames).all():
            check_finite(self.values, str(self.file))  # counts them in the whole file
            raise InputError(
                f"{self.file}: row {i} holds numbers too large for float32: mend or rescale them"
            )
        if self.trim:
            real = np.flatnonzero((frames != self.padding).any(axis=1))
            frames = frames[: real[-1] + 1 if len(real) else 0]
        return frames

    def release(self) -> None:
        """Give back the memory of what was read."""
        release(self.values)
        if self.embedding is not None:
            release(self.embedding)


@dataclass(frozen=True)
class _Part:
    """One part of one fold, as it lies on disk."""

    fold: str
    name: str  # train, dev or test
    labels: np.ndarray  # (n,) int64
    sequences: dict[str, _Sequences]

    def __len__(self) -> int:
        return len(self.labels)

    def kept(self, without_video: str) -> np.ndarray:
        """(n,) bool: the utterances that stay."""
        present = self.sequences["video"].lengths > 0
        spared = without_video == "released" and np.flatnonzero(~present).tolist() == [0]
        if without_video == "keep" or spared:
            return np.ones(len(self), dtype=bool)
        if not present.any():
            raise InputError(
                f"{self.sequences['video'].file}: no utterance of the {self.name} part has video, "
                f"so without_video={without_video!r} leaves none; choose 'keep'"
            )
        return present

    def read(self) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Every utterance: its row and the frames of each modality."""
        for i in range(len(self)):
            yield i, {modality: s.frames(i) for modality, s in self.sequences.items()}
            if i % _TOGETHER == _TOGETHER - 1 or i == len(self) - 1:
                for sequences in self.sequences.values():
                    sequences.release()


def _open_parts(path: Path) -> list[_Part]:
    """All parts of all folds, in order, with everything but the features checked."""
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; expected one that holds fold01/, fold02/, ...")
    folds = [d for d in path.iterdir() if d.is_dir() and re.fullmatch(r"fold\d+", d.name)]
    folds.sort(key=lambda folder: int(folder.name.removeprefix("fold")))
    if not folds and not any(path.glob("*_label.npy")):
        raise InputError(
            f"{path} holds neither fold01/, fold02/, ... nor the files of one fold "
            f"(train_label.npy, train_audio_mfcc.npy, ...): choose the folder of the folds"
        )
    parts = []
    for folder in folds or [path]:
        embedding = _open_embedding(folder)
        name = folder.name if folds else "fold01"
        parts += [_open_part(folder, name, part, embedding) for part in PARTS]
    return parts


def _open_part(folder: Path, fold: str, part: str, embedding: np.ndarray | None) -> _Part:
    file = folder / f"{part}_label.npy"
    labels = _integers(file, ("utterances",), len(COUNTS), "classes")
    if not len(labels):
        raise InputError(f"{file}: the {part} part has no utterance; expected at least one")
    sequences = {
        "audio": _open_frames(folder, f"{part}_audio_mfcc", f"{part}_audio_seqN", len(labels)),
        "video": _open_frames(folder, f"{part}_video", f"{part}_video_seqN", len(labels)),
        "text": _open_text(folder, part, len(labels), embedding),
    }
    return _Part(fold, part, labels, sequences)


def _open_frames(folder: Path, name: str, lengths_name: str, n: int) -> _Sequences:
    file = folder / f"{name}.npy"
    values = expect(open_array(file), file, FLOATS, (n, "time", "features"))
    stop = values.shape[1] + 1
    lengths = _integers(folder / f"{lengths_name}.npy", (n,), stop, f"lengths in {file.name}")
    return _Sequences(file, values, lengths, np.zeros(values.shape[2], np.float32))


def _open_text(folder: Path, part: str, n: int, embedding: np.ndarray | None) -> _Sequences:
    """Text as vectors where they are there, else as indices into the embedding."""
    vectors, indices = folder / f"{part}_text.npy", folder / f"{part}_nlp_trans.npy"
    if not vectors.exists():
        if not indices.exists():
            raise InputError(
                f"{indices} is missing, and {vectors.name} too: one of them must hold the text"
            )
        if embedding is None:
            raise InputError(
                f"{folder / 'W_embedding.npy'} is missing, in this folder and beside the folds: "
                f"{indices.name} holds indices into it"
            )
        stop = len(embedding)
        tokens = _integers(indices, (n, "time"), stop, "rows of W_embedding.npy")
        padding = np.array(embedding[0], np.float32)
        return _Sequences(indices, tokens, _tokens_before_zero(tokens), padding, embedding)
    wanted: int | str = "features" if embedding is None else embedding.shape[1]
    values = expect(open_array(vectors), vectors, FLOATS, (n, "time", wanted))
    width = values.shape[2]
    padding = np.array(embedding[0] if embedding is not None else np.zeros(width), np.float32)
    if indices.exists():
        tokens = expect(open_array(indices), indices, INTEGERS, (n, values.shape[1]))
        return _Sequences(vectors, values, _tokens_before_zero(tokens), padding)
    return _Sequences(vectors, values, np.full(n, values.shape[1]), padding, trim=True)


def _tokens_before_zero(tokens: np.ndarray) -> np.ndarray:
    """(n, T) indices -> (n,) positions of the first 0, T where there is none."""
    return (np.pad(tokens, ((0, 0), (0, 1))) == 0).argmax(axis=1)


def _open_embedding(folder: Path) -> np.ndarray | None:
    """(V, F) from the fold's folder or from beside the folds; None if in neither."""
    for file in (folder / "W_embedding.npy", folder.parent / "W_embedding.npy"):
        if file.exists():
            values = expect(open_array(file), file, FLOATS, ("vocabulary", "features"))
            if not len(values):
                raise InputError(f"{file} has no row; expected at least the padding row 0")
            check_finite(values, str(file))
            return values
    return None


def _integers(file: Path, shape: tuple[int | str, ...], stop: int, what: str) -> np.ndarray:
    """An int64 array of whole numbers in 0 .. stop - 1, which are ``what``."""
    values = np.array(expect(open_array(file), file, INTEGERS, shape), dtype=np.int64)
    wrong = np.argwhere((values < 0) | (values >= stop))
    if len(wrong):
        index = tuple(map(int, wrong[0]))
        raise InputError(
            f"{file}: {len(wrong)} numbers are outside 0..{stop - 1} ({what}), "
            f"the first is {values[index]} at {list(index)}"
        )
    return values


def _common_shapes(parts: list[_Part]) -> dict[str, tuple[int, int]]:
    """Padded length and width of every modality, the same in all parts of all folds."""
    first = parts[0].sequences
    for part in parts:
        for modality, sequences in part.sequences.items():
            if not sequences.shape[0]:
                raise InputError(
                    f"{sequences.file} holds no time step for any utterance; one or more expected"
                )
            if sequences.shape != first[modality].shape:
                raise InputError(
                    f"{sequences.file} has (length, features) = {sequences.shape} a sequence, but "
                    f"{first[modality].file} has {first[modality].shape}: they must agree"
                )
    return {modality: sequences.shape for modality, sequences in first.items()}


# -- the corpus ------------------------------------------------------------------------------------


class _Union:
    """Every utterance once, whatever the number of folds it is in."""

    def __init__(self, writers: dict[str, ArrayWriter]) -> None:
        self.writers = writers
        self.utterances: list[dict[str, object]] = []  # id, label, content
        self.published: dict[str, dict[int, str]] = {}  # fold -> row -> part
        self.labels: dict[tuple[str, int, int], int] = {}  # of all that was met, kept or not
        self._rows: dict[tuple[str, int, int], int] = {}
        self._met: dict[str, Counter[tuple[str, int]]] = {}  # fold -> how often

    def add(self, part: _Part, i: int, frames: dict[str, np.ndarray], keep: bool) -> None:
        """Take row ``i`` of ``part``: write its frames if it is new, note its part in the fold."""
        label = int(part.labels[i])
        content = blake2b(*frames.values())
        met = self._met.setdefault(part.fold, Counter())
        key = (content, label, met[content, label])
        met[content, label] += 1
        self.labels[key] = label
        rows = self.published.setdefault(part.fold, {})
        if not keep:
            return
        if key not in self._rows:
            self._rows[key] = len(self.utterances)
            name = f"{part.fold}-{part.name}-{i:05d}"  # where it was met first
            self.utterances.append({"id": name, "label": label, RESERVED: content})
            for modality, writer in self.writers.items():
                writer.append(frames[modality])
        rows[self._rows[key]] = part.name


def _describe(union: _Union, parts: list[_Part], folder: Path) -> Corpus:
    """The corpus around the arrays that were written to ``folder``."""
    table = pd.DataFrame(union.utterances)
    content = table.pop(RESERVED).to_numpy(dtype=object)
    published = pd.DataFrame({"id": table["id"]})
    for fold, rows in union.published.items():
        published[fold] = [rows.get(row, "") for row in range(len(table))]
    features = {
        modality: Ragged(open_array(writer.values), np.asarray(open_array(writer.offsets)))
        for modality, writer in union.writers.items()
    }
    recipe = {
        modality: {
            **_ABOUT[modality],
            "padded_length": sequences.shape[0],
            "padding": [float(x) for x in sequences.padding],
        }
        for modality, sequences in parts[0].sequences.items()
    }
    classes, named = _name_classes(list(union.labels.values()))
    notes = (named, *_notes(union, parts, published, features["text"]))
    corpus = Corpus(
        "iemocap-folds", classes, table, features, recipe, published=published, notes=notes
    )
    corpus.__dict__["content"] = content  # known already, so not computed again
    return corpus


def _name_classes(labels: list[int]) -> tuple[tuple[str, ...], str]:
    """Names for the indices, as far as the number of utterances of each tells them."""
    counts = np.bincount(labels, minlength=len(COUNTS)).tolist()
    by_count = {count: name for name, count in COUNTS.items()}
    if sorted(counts) == sorted(by_count):
        note = "The order of the classes is not published; their counts, all different, name them."
        return tuple(by_count[count] for count in counts), note
    note = (
        f"The order of the classes is not published, and the counts {counts} are not the "
        f"published ones, so the classes have no names."
    )
    return tuple(f"class {index}" for index in range(len(counts))), note


def _notes(
    union: _Union, parts: list[_Part], published: pd.DataFrame, text: Ragged
) -> Iterator[str]:
    """What a reader of results on these folds must know."""
    yield (
        "Speakers, dialogues and transcripts are not in these folds: whether the same speaker or "
        "dialogue is in train and test cannot be known from them."
    )
    yield "Utterance-level prosody ({part}_audio_prosody.npy) is not used."
    yield (
        "Nothing names an utterance: it is recognised in every fold by its frames and label, and "
        "its id says where it was met first."
    )
    everywhere = int((published.drop(columns="id") != "").all(axis=1).sum())
    if everywhere < len(published):
        yield f"{everywhere} of {len(published)} utterances are in every one of the folds."
    dropped = len(union.labels) - len(union.utterances)
    if dropped:
        yield f"{dropped} utterances without video were dropped from every fold."
    first = parts[0].sequences["text"]
    if first.trim and int(text.lengths.min()) == first.shape[0]:
        yield (
            "No text ends in padding rows, so padding may count as words: put W_embedding.npy, "
            "whose row 0 is the padding, beside the folds and convert again."
        )
