"""The sentiment field's feature files, ``unaligned_50.pkl`` and ``aligned_50.pkl``, as a corpus.

Source: MMSA (Mao et al. 2022, "M-SENA: an integrated platform for multimodal sentiment analysis")
for CMU-MOSI, CMU-MOSEI and CH-SIMS. A dict of the splits ``train``, ``valid`` and ``test``, each

    raw_text  (n,) text                        regression_labels  (n,) float, below 0 = negative
    id        (n,) text, 'video$_$clip'        annotations        (n,) Negative, Neutral, Positive
    text      (n, 50, 768) float, BERT         audio_lengths      (n,) int, unaligned files only
    text_bert (n, 3, 50), its row 1 the mask   vision_lengths     (n,) int, unaligned files only
    audio     (n, T, F) float                  regression_labels_A, _V, _T  (n,), CH-SIMS only
    vision    (n, T, F) float

Real frames are found so:

- text: from the first to the last step of the mask; without ``text_bert``, of the rows not all 0;
- unaligned audio and vision: as many as the lengths say. Files differ in the side that is padded:
  it is that side on which fewer utterances have numbers outside their length;
- aligned audio and vision: the steps of the text, drawn out to every row that is not all 0, so
  that step t is the same word in all modalities and nothing real is lost.

A modality that is all 0 in an utterance is missing there. NaN and infinite numbers (COVAREP writes
-inf, MMSA sets it to 0) become 0 and are counted in a note.

The file is read by ``unpickle``, which can make nothing but arrays and containers. It is mapped,
and frames are written as they come: memory stays far below 1 GB, as long as the file was written
by Python 3 in protocol 3 or later (before, its arrays are text and have to be turned into bytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.corpora.arrays import FLOATS, INTEGERS, expect
from mmer_lib.corpora.base import Corpus, release
from mmer_lib.corpora.folder import (
    ArrayWriter,
    new_folder,
    open_features,
    read_corpus,
    write_tables,
)
from mmer_lib.corpora.unpickle import load_plain
from mmer_lib.errors import InputError, check_path

CLASSES = {
    2: ("negative", "positive"),
    3: ("negative", "neutral", "positive"),
    7: ("strongly negative", "negative", "weakly negative", "neutral",
        "weakly positive", "positive", "strongly positive"),
}  # fmt: skip
SPLITS = {"train": "train", "valid": "dev", "test": "test"}  # theirs -> ours
_SOURCE = {"audio": "audio", "video": "vision", "text": "text"}  # modality -> name in the file
_UNIMODAL = {"A": "audio", "V": "video", "T": "text"}  # CH-SIMS rates each modality by itself
_BETWEEN = "$_$"  # video and clip in an id
_PIECE = 1 << 25  # bytes looked at together, so that memory stays small whatever the file


def mmsa(path: str | Path, dest: str | Path, classes: int = 3) -> Corpus:
    """CMU-MOSI, CMU-MOSEI or CH-SIMS from a feature file of MMSA (.pkl, read safely).

    Converts the file into the corpus folder ``dest``, and opens it.

    ``classes``: 2 is negative (below 0) or positive (above 0), utterances rated 0 left out (Tsai
    et al. 2019); 3 adds neutral, by ``annotations``, without them by the sign; 7 is the rating
    rounded to -3 .. 3, halves to the even number as numpy does, for CMU-MOSI and CMU-MOSEI alone.

    The rating stays as the column ``sentiment``; the dialogue is the video; the split is the
    published one; speakers are not stated.

    Raises ``InputError``, and leaves nothing at ``dest``, for another number of classes, a file
    that holds anything but arrays and containers, parts that are missing or do not fit together,
    and a ``dest`` that exists already or cannot be written.
    """
    if classes not in tuple(CLASSES):
        raise InputError(
            f"mmsa: classes={classes!r}; expected one of {', '.join(map(str, CLASSES))}"
        )
    file, target = check_path("path", path), check_path("dest", dest)
    parts = _open_parts(file)
    table = pd.concat([_read_table(part) for part in parts], ignore_index=True)
    _check_ids(table, file)
    labels, notes = _classify(table, classes, file)
    kept = labels >= 0
    table = table.assign(label=labels)[kept].reset_index(drop=True).drop(columns="annotation")
    with new_folder(target) as folder:
        features, recipe = {}, {}
        for modality in _present(parts):
            recipe[modality], more = _write_modality(parts, modality, kept, folder)
            features[modality] = open_features(folder, modality)
            notes += more
        if not features:
            raise InputError(f"{file} has no features; expected audio, vision or text")
        notes.append("Speakers are not stated; a person may appear in several videos.")
        corpus = Corpus("mmsa", CLASSES[classes], table, features, recipe, notes=tuple(notes))
        write_tables(corpus, folder)
    return read_corpus(target)


# -- the splits ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Part:
    """One split of the file, its members checked as they are taken out."""

    file: Path
    split: str
    members: dict[str, Any]

    def __len__(self) -> int:
        given = self.members["id"]
        return given.size if isinstance(given, np.ndarray) else len(_listed(given))

    def where(self, name: str) -> str:
        """How messages call the member ``name``."""
        return f"{self.file}, {self.split}, {name}"

    def __contains__(self, name: str) -> bool:
        return name in self.members

    def frames(self, name: str) -> np.ndarray:
        """The member ``name`` (n, T, F) of floats."""
        return expect(self._array(name), self.where(name), FLOATS, (len(self), "time", "features"))

    def mask(self) -> np.ndarray:
        """(n, T) bool: the tokens that BERT was given."""
        array = _floats(self._array("text_bert"))
        tokens = expect(array, self.where("text_bert"), FLOATS, (len(self), 3, "time"))
        return np.asarray(tokens[:, 1, :] > 0)

    def lengths(self, name: str) -> np.ndarray:
        """(n,) int64, at least 0."""
        given = self._array(name).reshape(-1)
        lengths = expect(given, self.where(name), INTEGERS, (len(self),)).astype(np.int64)
        if (lengths < 0).any():
            raise InputError(f"{self.where(name)}: length {lengths.min()}; expected 0 or more")
        return lengths

    def ratings(self, name: str) -> np.ndarray:
        """(n,) float64, finite."""
        given = _floats(self._array(name).reshape(-1))
        ratings = expect(given, self.where(name), FLOATS, (len(self),))
        if not np.isfinite(ratings).all():
            raise InputError(f"{self.where(name)}: a rating is NaN or infinite; expected numbers")
        return ratings.astype(np.float64)

    def words(self, name: str) -> list[str]:
        """n texts."""
        given = self.members[name]
        texts = [_text(value) for value in _listed(given)]
        if len(texts) != len(self) or None in texts:
            raise InputError(
                f"{self.where(name)}: {type(given).__name__} of {len(texts)}; expected a text for "
                f"each of the {len(self)} utterances"
            )
        return [text for text in texts if text is not None]

    def _array(self, name: str) -> np.ndarray:
        """The member as an array; lists of numbers become one."""
        given = self.members[name]
        if isinstance(given, np.ndarray) and given.dtype != object:
            return given
        numbers = _listed(given)
        if all(isinstance(value, int | float | np.number) for value in numbers):
            with suppress(OverflowError):  # a whole number beyond any float
                return np.array(numbers)
        raise InputError(
            f"{self.where(name)}: {type(given).__name__} with other things than numbers in it; "
            f"expected an array"
        )


def _floats(array: np.ndarray) -> np.ndarray:
    """Integers as floats, which they may stand for; anything else as it is."""
    return array.astype(np.float64) if array.dtype.kind in INTEGERS else array


def _listed(given: Any) -> list[Any]:
    """The values of an array or list; nothing of anything else."""
    if isinstance(given, np.ndarray):
        return list(given.reshape(-1))
    return list(given) if isinstance(given, list | tuple) else []


def _text(value: Any) -> str | None:
    """Text as it can be written to a file; None if it is none."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    written = value.encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be
    return written.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _open_parts(file: Path) -> list[_Part]:
    """The splits, each with the members that every reading needs."""
    given = load_plain(file)
    if not isinstance(given, dict):
        raise InputError(f"{file} holds a {type(given).__name__}; expected a dict of splits")
    for split in SPLITS:
        if not isinstance(given.get(split), dict):
            names = _named(given)
            raise InputError(f"{file} has no split {split!r}; it has {names}")
        for name in ("id", "regression_labels"):
            if name not in given[split]:
                raise InputError(f"{file}, {split} has no {name!r}; it has {_named(given[split])}")
        if not len(_listed(given[split]["id"])):
            raise InputError(f"{file}, {split} has no utterance; expected at least one")
    return [_Part(file, split, given[split]) for split in SPLITS]


def _named(given: dict[Any, Any]) -> str:
    """The first keys of a dict of others; a number among them may have no end."""
    return ", ".join(repr(k)[:40] for k in list(given)[:20] if isinstance(k, str)) or "no names"


# -- labels ----------------------------------------------------------------------------------------


def _read_table(part: _Part) -> pd.DataFrame:
    """Ids, ratings and words of a split; ``annotation`` is empty where there is none."""
    ids = part.words("id")
    columns: dict[str, Any] = {
        "id": ids,
        "dialogue": [name.partition(_BETWEEN)[0] if _BETWEEN in name else None for name in ids],
        "split": SPLITS[part.split],
        "sentiment": part.ratings("regression_labels"),
        "annotation": "",
    }
    if "raw_text" in part:
        columns["text"] = part.words("raw_text")
    if "annotations" in part:
        columns["annotation"] = [text.strip().lower() for text in part.words("annotations")]
    for letter, modality in _UNIMODAL.items():
        if f"regression_labels_{letter}" in part:
            columns[f"sentiment_{modality}"] = part.ratings(f"regression_labels_{letter}")
    return pd.DataFrame(columns)


def _check_ids(table: pd.DataFrame, file: Path) -> None:
    twice = table["id"][table["id"].duplicated()]
    if len(twice):
        raise InputError(f"{file}: id {twice.iloc[0]!r} is there more than once; ids are unique")


def _classify(table: pd.DataFrame, classes: int, file: Path) -> tuple[np.ndarray, list[str]]:
    """(n,) int64 labels, -1 = left out, and what is to be said of them."""
    sentiment = table["sentiment"].to_numpy(np.float64)
    signs = np.sign(sentiment).astype(np.int64)
    if classes == 7:
        if np.abs(sentiment).max() <= 1:
            raise InputError(
                f"{file}: no rating is beyond -1 .. 1, as in CH-SIMS; 7 classes need ratings from "
                f"-3 to 3. Use classes=2 or classes=3"
            )
        return np.clip(np.rint(sentiment), -3, 3).astype(np.int64) + 3, []
    if classes == 2:
        zeros = int((signs == 0).sum())
        notes = [f"{zeros} utterances rated 0, neither negative nor positive, were left out."]
        return np.where(signs == 0, -1, (signs > 0).astype(np.int64)), notes if zeros else []
    return _three_classes(table["annotation"], signs, file)


def _three_classes(
    annotation: pd.Series, signs: np.ndarray, file: Path
) -> tuple[np.ndarray, list[str]]:
    """By the annotations where every utterance has one, else by the sign of the rating."""
    if (annotation == "").any():
        note = "Not every utterance has an annotation: the classes are the signs of the ratings."
        return signs + 1, [note]
    unknown = sorted(set(annotation) - set(CLASSES[3]))
    if unknown:
        raise InputError(
            f"{file}: annotation {unknown[0]!r}; expected {', '.join(CLASSES[3])}, in any case"
        )
    labels = annotation.map({name: i for i, name in enumerate(CLASSES[3])}).to_numpy(np.int64)
    other = int((labels != signs + 1).sum())
    note = f"The annotation of {other} utterances is not the sign of their rating; it is the label."
    return labels, [note] if other else []


# -- features --------------------------------------------------------------------------------------


def _present(parts: list[_Part]) -> list[str]:
    """The modalities that all splits have."""
    found = []
    for modality, name in _SOURCE.items():
        lacking = [part for part in parts if name not in part]
        if lacking and len(lacking) < len(parts):
            raise InputError(
                f"{lacking[0].file}: {name} is missing in {lacking[0].split}, but not in every "
                f"split; a modality is in all of them or in none"
            )
        if not lacking:
            found.append(modality)
    return found


@dataclass
class _Count:
    """What has been met while the frames of a modality were read."""

    replaced: int = 0  # numbers that were NaN or infinite
    outside: int = 0  # utterances with numbers outside their length
    missing: int = 0  # utterances that are all 0


def _write_modality(
    parts: list[_Part], modality: str, kept: np.ndarray, folder: Path
) -> tuple[dict[str, Any], list[str]]:
    """Write the real frames of the utterances kept; their recipe and what is to be said of them."""
    name = _SOURCE[modality]
    arrays = [part.frames(name) for part in parts]
    shapes = sorted({array.shape[1:] for array in arrays})
    if len(shapes) > 1:
        raise InputError(f"{parts[0].file}: {name} has the shapes {shapes} in its splits; one only")
    (longest, width), count = shapes[0], _Count()
    spans, ends = [], np.cumsum([len(part) for part in parts])
    for part, array, mine in zip(parts, arrays, np.split(kept, ends[:-1]), strict=True):
        real = _real_rows(array) & mine[:, None]  # (n, T)
        found = np.where(_anywhere(real), _find_spans(part, modality, real, count), 0)
        count.missing += int((found[mine, 0] == found[mine, 1]).sum())
        spans.append(found)
    frames = _real_frames(arrays, np.concatenate(spans), count)
    with closing(ArrayWriter(folder, modality, width)) as writer:
        for taken, mine in zip(frames, kept, strict=True):
            if mine:
                writer.append(taken)
    described = f"{name} of {parts[0].file.name}"
    recipe = {"features": described, "rate": None, "padded_length": int(longest)}
    return recipe, list(_tell(name, count))


def _tell(name: str, count: _Count) -> Iterator[str]:
    if count.replaced:
        yield f"{name}: {count.replaced} numbers that were NaN or infinite are 0."
    if count.outside:
        yield f"{name}: {count.outside} utterances have numbers outside their length; left out."
    if count.missing:
        yield f"{name}: {count.missing} utterances have none."


def _find_spans(part: _Part, modality: str, real: np.ndarray, count: _Count) -> np.ndarray:
    """(n, 2) int64: the first real frame of each utterance and the one after the last.

    ``real`` (n, T) is True where a row is not all 0.
    """
    lengths = f"{_SOURCE[modality]}_lengths"
    if lengths in part:
        return _spans_of_lengths(part.lengths(lengths), real, count)
    if "text_bert" not in part:
        return _reach(real)
    mask = part.mask()
    if mask.shape == real.shape:
        return _reach(mask if modality == "text" else mask | real)
    if modality == "text":
        raise InputError(
            f"{part.where('text_bert')}: {mask.shape[1]} steps, but text has {real.shape[1]}"
        )
    return _reach(real)  # neither aligned nor with lengths


def _utterances(array: np.ndarray) -> Iterator[np.ndarray]:
    """Each (T, F) of (n, T, F); what was read of the file is given back piece by piece."""
    step = max(1, _PIECE * len(array) // max(1, array.nbytes))
    for i, rows in enumerate(array):
        yield rows
        if i % step == step - 1:
            release(array)


def _real_rows(array: np.ndarray) -> np.ndarray:
    """(n, T) bool: the rows that are not all 0."""
    real = np.zeros(array.shape[:2], bool)
    for i, rows in enumerate(_utterances(array)):
        real[i] = np.any(rows != 0, axis=1)
    return real


def _anywhere(real: np.ndarray) -> np.ndarray:
    """(n, T) bool -> (n, 1): whether an utterance has any True."""
    return np.any(real, axis=1, keepdims=True)


def _reach(real: np.ndarray) -> np.ndarray:
    """(n, T) bool -> (n, 2): from the first True to after the last; 0, 0 where there is none."""
    starts = real.argmax(axis=1)
    stops = real.shape[1] - real[:, ::-1].argmax(axis=1)
    return np.where(_anywhere(real), np.stack([starts, stops], axis=1), 0)


def _spans_of_lengths(lengths: np.ndarray, real: np.ndarray, count: _Count) -> np.ndarray:
    """The first or the last ``lengths`` frames: the stretch with fewer numbers outside it."""
    steps = np.arange(real.shape[1])
    lengths = np.where(_anywhere(real), np.minimum(lengths, len(steps))[:, None], 0)  # (n, 1)
    after = np.any(real & (steps >= lengths), axis=1)  # outside the first ones
    before = np.any(real & (steps < len(steps) - lengths), axis=1)  # outside the last ones
    ends = np.full_like(lengths, len(steps))
    if before.sum() < after.sum():
        count.outside += int(before.sum())
        return np.hstack([ends - lengths, ends])
    count.outside += int(after.sum())
    return np.hstack([np.zeros_like(lengths), lengths])


def _real_frames(
    arrays: list[np.ndarray], spans: np.ndarray, count: _Count
) -> Iterator[np.ndarray]:
    """The frames (T, F) within each span, as finite float32."""
    every = (rows for array in arrays for rows in _utterances(array))
    for rows, (start, stop) in zip(every, spans, strict=True):
        with np.errstate(over="ignore"):  # what overflows is infinite, and counted
            taken = rows[start:stop].astype(np.float32)
        wrong = ~np.isfinite(taken)
        count.replaced += int(wrong.sum())
        yield np.where(wrong, np.float32(0), taken)
