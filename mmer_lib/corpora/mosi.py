"""CMU-MOSI with one feature vector an utterance and modality: the time axis is the video.

Source: the utterance-level features of Poria et al. (2017, "Context-dependent sentiment analysis
in user-generated videos"), as one ``.npz``; for each split ``train`` and ``test``

    {split}_text        (n, 100)  float     {split}_label       (n,)  int, 0 negative, 1 positive
    {split}_audio       (n, 73)   float     {split}_video_id    (n,)  text
    {split}_visual      (n, 100)  float     {split}_pos         (n,)  int, place in the video
                                            {split}_transcript  (n,)  text

An utterance's sequence is its context window: itself, up to ``context`` utterances before it and
up to ``context`` after it, cut at the ends of its video. The three modalities share the window.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.arrays import INTEGERS, TEXT, Archive, open_archive
from mmer_lib.corpora.base import Corpus, Ragged
from mmer_lib.errors import InputError, check_whole

CLASSES = ("negative", "positive")
_SPLITS = ("train", "test")
_SOURCE = {"audio": "audio", "video": "visual", "text": "text"}  # modality -> name in the file
_RECIPE = {
    "audio": "openSMILE statistics of an utterance, trained on sentiment; a frame an utterance",
    "video": "3D-CNN features of an utterance, trained on sentiment; a frame an utterance",
    "text": "CNN features of an utterance, trained on sentiment; a frame an utterance",
}


def mosi(path: str | Path, context: int = 5) -> Corpus:
    """CMU-MOSI from the ``.npz`` at ``path``, with ``context`` utterances either side.

    The dialogue is the video; speakers are not stated. ``events`` marks, with role ``utterance``,
    the frame of each window that is the utterance itself.

    Raises ``InputError`` for a ``context`` that is no whole number of at least 0, a file that lacks
    an array or holds one of another shape or dtype, features that are not finite, or a place in a
    video given twice.
    """
    check_whole("mosi: context", context, at_least=0)
    archive = open_archive(path)
    table = pd.concat([_read_table(archive, split) for split in _SPLITS], ignore_index=True)
    if table["id"].duplicated().any():
        twice = table[table["id"].duplicated()].iloc[0]
        raise InputError(
            f"{archive.file}: place {twice['position']} of video {twice['dialogue']!r} is given "
            f"twice; places in a video are unique"
        )
    windows, own = _windows(table, context)
    features = {}
    for modality, name in _SOURCE.items():
        features[modality] = _gather(_read_features(archive, name, table), windows)
    recipe = {modality: {"features": text, "rate": None} for modality, text in _RECIPE.items()}
    notes = (
        "Neighbours in a video share frames of their windows: only folds that keep a video whole "
        "(published, by-dialogue) keep test frames out of training.",
        "Speakers are not stated; a person may appear in several videos.",
    )
    return Corpus("mosi", CLASSES, table, features, recipe, events=_events(table, own), notes=notes)


def _read_table(archive: Archive, split: str) -> pd.DataFrame:
    labels = archive.some(f"{split}_label", INTEGERS)
    shape = (len(labels),)
    videos = archive.get(f"{split}_video_id", TEXT, shape)
    positions = archive.get(f"{split}_pos", INTEGERS, shape)
    return pd.DataFrame(
        {
            "id": [f"{video}-{place:03d}" for video, place in zip(videos, positions, strict=True)],
            "label": labels.astype(np.int64),
            "dialogue": videos.astype(str),
            "split": split,
            "text": archive.get(f"{split}_transcript", TEXT, shape).astype(str),
            "position": positions.astype(np.int64),
        }
    )


def _read_features(archive: Archive, name: str, table: pd.DataFrame) -> np.ndarray:
    """(n, F) float32: both splits, one below the other."""
    parts, width = [], "features"
    for split in _SPLITS:
        n = int((table["split"] == split).sum())
        parts.append(archive.features(f"{split}_{name}", (n, width)))
        width = parts[0].shape[1]
    return np.concatenate(parts)


def _windows(table: pd.DataFrame, context: int) -> tuple[list[np.ndarray], list[int]]:
    """For each utterance the rows of its window, in order, and which of them is its own."""
    windows: list[np.ndarray] = [np.empty(0, np.int64)] * len(table)
    own = [0] * len(table)
    for _, video in table.groupby("dialogue", sort=False):
        rows = video.sort_values("position").index.to_numpy()
        for place, row in enumerate(rows):
            start = max(0, place - context)
            windows[row] = rows[start : place + context + 1]
            own[row] = place - start
    return windows, own


def _gather(vectors: np.ndarray, windows: list[np.ndarray]) -> Ragged:
    """The vectors (n, F) of each window, as sequences."""
    ends = np.cumsum([len(window) for window in windows])
    return Ragged(vectors[np.concatenate(windows)], np.r_[0, ends].astype(np.int64))


def _events(table: pd.DataFrame, own: list[int]) -> pd.DataFrame:
    """Which frame of every sequence is the utterance itself."""
    frames = pd.DataFrame({"id": table["id"], "frame": own, "role": "utterance"})
    both = frames.merge(pd.DataFrame({"modality": list(_SOURCE)}), how="cross")
    both = both.assign(key=-1, value=-1)  # -1: none
    return both[["id", "modality", "frame", "role", "key", "value"]]
