"""ICT-MMMO: word-level sequences of film reviews, three aligned modalities.

Source: the features of the memory fusion network (Zadeh et al. 2018), as one ``.npz``; for each
of ``train``, ``valid`` (our dev) and ``test``

    {split}_audio   (n, 20, 74)   float    {split}_text  (n, 20, 300)  float, absent for train
    {split}_visual  (n, 20, 36)   float    {split}_y     (n,)          float, rating 1 .. 5

Sequences are padded with zeros, on the left or on the right. A step is a word and all modalities
are aligned to it, so the real part is the same for all: from the first to the last step that is
not zero in at least one of them. Zero rows inside stay, as they carry time: a word during which
no face was seen has zeros in video. A modality that is absent or all zero is missing.

Classes: ratings are 1 to 5 in half points, 3 in the middle. *Positive* is a rating above 3.0, that
is 3.5 or more; *negative* is the rest, so a neutral 3.0 counts as not positive. The rating itself
is kept in the column ``rating``, so that it can be cut elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.arrays import FLOATS, Archive, open_archive
from mmer_lib.corpora.base import PARTS, Corpus, Ragged
from mmer_lib.errors import InputError

CLASSES = ("negative", "positive")
MIDDLE = 3.0  # of the scale of ratings; positive is above it
_SPLITS = {"train": "train", "valid": "dev", "test": "test"}  # name in the file -> ours
_SOURCE = {"audio": "audio", "video": "visual", "text": "text"}  # modality -> name in the file
_RECIPE = {
    "audio": "COVAREP, mean over a word",
    "video": "FACET, mean over a word; zeros where no face was seen",
    "text": "GloVe word vectors",
}


def mmmo(path: str | Path) -> Corpus:
    """ICT-MMMO from the ``.npz`` at ``path``, with its published split.

    Raises ``InputError`` for a file that lacks an array or holds one of another shape or dtype,
    features that are not finite, or a rating outside 1 .. 5.
    """
    archive = open_archive(path)
    tables: list[pd.DataFrame] = []
    sequences: dict[str, list[np.ndarray]] = {modality: [] for modality in _SOURCE}
    widths: dict[str, int] = {}
    for name, split in _SPLITS.items():
        ratings = _read_ratings(archive, f"{name}_y")
        tables.append(_table(split, ratings))
        padded = _read_padded(archive, name, len(ratings), widths)
        for modality, frames in _cut(padded, len(ratings)).items():
            sequences[modality] += frames
    table = pd.concat(tables, ignore_index=True)
    features = {m: Ragged.from_list(sequences[m], width) for m, width in widths.items()}
    recipe = {modality: {"features": _RECIPE[modality], "rate": None} for modality in features}
    silent = pd.Series([len(frames) == 0 for frames in sequences["text"]]).groupby(table["split"])
    counts = [f"{split} {silent.sum()[split]} of {silent.size()[split]}" for split in PARTS]
    notes = (
        f"Positive is a rating above {MIDDLE}; a rating of {MIDDLE} counts as negative.",
        f"Utterances without text: {', '.join(counts)}.",
        "Speakers and videos are not stated: whether one is in train and test cannot be known.",
    )
    return Corpus("mmmo", CLASSES, table, features, recipe, notes=notes)


def _read_ratings(archive: Archive, name: str) -> np.ndarray:
    ratings = archive.some(name, FLOATS)
    outside = np.flatnonzero(~((ratings >= 1) & (ratings <= 5)))  # NaN is outside too
    if len(outside):
        raise InputError(
            f"{archive.where(name)}: {len(outside)} ratings are outside 1..5, the first is "
            f"{ratings[outside[0]]} at [{outside[0]}]"
        )
    return ratings


def _table(split: str, ratings: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"{split}-{i:03d}" for i in range(len(ratings))],
            "label": (ratings > MIDDLE).astype(np.int64),
            "split": split,
            "rating": ratings.astype(float),
        }
    )


def _read_padded(
    archive: Archive, split: str, n: int, widths: dict[str, int]
) -> dict[str, np.ndarray]:
    """(n, T, F) of each modality the split has; T is the same for all.

    F must be as in ``widths``, which takes up those of modalities that are met first here.
    """
    padded: dict[str, np.ndarray] = {}
    time: int | str = "time"
    for modality, name in _SOURCE.items():
        if modality == "text" and f"{split}_{name}" not in archive:
            continue  # published so: the training part has no text
        width = widths.get(modality, "features")
        padded[modality] = archive.features(f"{split}_{name}", (n, time, width))
        _, time, widths[modality] = padded[modality].shape
    return padded


def _cut(padded: dict[str, np.ndarray], n: int) -> dict[str, list[np.ndarray]]:
    """The real part of every sequence; no frames where a modality is missing."""
    shown = {modality: (x != 0).any(axis=2) for modality, x in padded.items()}  # (n, T)
    anything = np.any(list(shown.values()), axis=0)
    sequences: dict[str, list[np.ndarray]] = {}
    for modality in _SOURCE:
        sequences[modality] = []
        for i in range(n):
            if modality not in padded or not shown[modality][i].any():
                sequences[modality].append(np.empty((0, 0), np.float32))
                continue
            real = np.flatnonzero(anything[i])
            sequences[modality].append(padded[modality][i, real[0] : real[-1] + 1])
    return sequences
