"""Synthetic pairing of real recordings: modalities of different corpora, joined by their labels.

An utterance takes its audio from one corpus, its video or words from others: from utterances of
the same class, drawn at random. Each signal is real, but no two of them belong together. Given the
label the modalities are independent, so that nothing can be learned from one about the other but
the label itself: a true null case for the question whether cross-attention helps.

Classes are matched by name (``ALIASES``: joy and happiness are happy); those that not all corpora
have are left out. For each class as many utterances are made as the smallest corpus has, each of
its utterances used at most once.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES, Corpus
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.errors import InputError, check_path, check_whole

ALIASES = {
    "angry": ("angry", "anger", "ang", "mad"),
    "disgust": ("disgust", "disgusted", "dis"),
    "fearful": ("fearful", "fear", "afraid", "fea"),
    "happy": ("happy", "happiness", "joy", "joyful", "hap"),
    "neutral": ("neutral", "neu"),
    "sad": ("sad", "sadness"),
    "surprised": ("surprised", "surprise", "sur"),
}  # a class -> its names elsewhere; any other class is matched by its own name
_KNOWN = {name: one for one, names in ALIASES.items() for name in names}


def paired(audio: str = "", video: str = "", text: str = "", seed: int = 0) -> Corpus:
    """Synthetic pairing of real recordings: modalities of two or three corpora, joined by label.

    ``audio``, ``video`` and ``text`` are corpus folders, at least two of them; of each the modality
    of that name is taken. The speaker is that of the audio, dialogue and words are those of the
    text; the columns ``audio_id``, ``video_id`` and ``text_id`` say what was paired.

    Raises ``InputError`` for fewer than two folders, one that is no corpus or lacks its modality,
    and corpora that share fewer than two classes.
    """
    check_whole("paired: seed", seed, at_least=0)
    asked = {"audio": audio, "video": video, "text": text}
    folders = {m: check_path(f"paired: {m}", given) for m, given in asked.items() if given}
    if len(folders) < 2:
        raise InputError(
            f"paired: {len(folders)} corpus folders given; at least two of audio=FOLDER, "
            f"video=FOLDER and text=FOLDER expected"
        )
    sources = {m: _open_source(folder, m) for m, folder in folders.items()}
    rows = _rows_of_classes(sources)
    classes = _shared(rows)
    drawn, labels = _draw(rows, classes, seed)
    features = {m: sources[m].features[m].take(drawn[m]) for m in drawn}
    recipe = {m: sources[m].recipe.get(m, {}) for m in drawn}
    table = _describe(sources, drawn, labels)
    name = f"synthetic pairing of {_enumerate([s.name for s in sources.values()])}"
    notes = _notes(sources, rows, classes, len(table))
    return Corpus(name, classes, table, features, recipe, notes=tuple(notes))


def _open_source(folder: Path, modality: str) -> Corpus:
    corpus = read_corpus(folder)
    corpus.require([modality])
    return corpus


def class_name(given: str) -> str:
    """The name under which classes of different corpora are compared.

    >>> class_name("Happiness")
    'happy'
    """
    name = given.strip().lower()
    return _KNOWN.get(name, name)


def _rows_of_classes(sources: dict[str, Corpus]) -> dict[str, dict[str, np.ndarray]]:
    """modality -> class -> the rows of its corpus that have the modality."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for modality, corpus in sources.items():
        there = corpus.features[modality].lengths > 0
        names = np.array([class_name(name) for name in corpus.classes], dtype=object)
        of_rows = names[corpus.labels]
        found[modality] = {
            name: np.flatnonzero(there & (of_rows == name)) for name in dict.fromkeys(names)
        }
    return found


def _shared(rows: dict[str, dict[str, np.ndarray]]) -> tuple[str, ...]:
    """The classes of which every corpus has utterances, in alphabetical order."""
    names = [{name for name, found in of.items() if len(found)} for of in rows.values()]
    shared = tuple(sorted(set.intersection(*names)))
    if len(shared) < 2:
        told = "; ".join(
            f"{m}: {', '.join(sorted(found)) or 'none'}"
            for m, found in zip(rows, names, strict=True)
        )
        raise InputError(f"paired: {len(shared)} shared classes, at least 2 expected ({told})")
    return shared


def _draw(
    rows: dict[str, dict[str, np.ndarray]], classes: tuple[str, ...], seed: int
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """modality -> the row drawn for each utterance, and the labels (n,)."""
    parts: dict[str, list[np.ndarray]] = {m: [] for m in rows}
    sizes = []
    for label, name in enumerate(classes):
        sizes.append(min(len(of[name]) for of in rows.values()))
        for modality, of in rows.items():
            # a stream of its own, so that another partner leaves the draw of this one as it is
            rng = np.random.default_rng([seed, label, MODALITIES.index(modality)])
            parts[modality].append(rng.permutation(of[name])[: sizes[-1]])
    drawn = {m: np.concatenate(found) for m, found in parts.items()}
    return drawn, np.repeat(np.arange(len(classes), dtype=np.int64), sizes)


def _describe(
    sources: dict[str, Corpus], drawn: dict[str, np.ndarray], labels: np.ndarray
) -> pd.DataFrame:
    """The utterance table: what is known of each utterance comes from the corpus that knows it."""
    columns: dict[str, object] = {
        "id": [f"pair-{i + 1:05d}" for i in range(len(labels))],
        "label": labels,
    }
    for column, modality in (("speaker", "audio"), ("dialogue", "text"), ("text", "text")):
        known = sources[modality].known(column) if modality in sources else None
        if known is not None:
            columns[column] = known[drawn[modality]]
    for modality, rows in drawn.items():
        columns[f"{modality}_id"] = sources[modality].utterances["id"].to_numpy()[rows]
    return pd.DataFrame(columns)


def _notes(
    sources: dict[str, Corpus],
    rows: dict[str, dict[str, np.ndarray]],
    classes: tuple[str, ...],
    made: int,
) -> list[str]:
    """What a reader of results on this corpus must know."""
    notes = [
        "Synthetic pairing of real recordings: the modalities of an utterance come from different "
        "recordings of the same class, so they are independent given the label."
    ]
    for modality, corpus in sources.items():
        dropped = {n: len(x) for n, x in rows[modality].items() if n not in classes and len(x)}
        names = ", ".join(f"{name} ({count})" for name, count in sorted(dropped.items()))
        left = f"; classes left out: {names}" if dropped else ""
        notes.append(f"{modality} of {corpus.name}: {made} of {len(corpus)} utterances used{left}.")
    return notes


def _enumerate(names: list[str]) -> str:
    """'A, B and C'."""
    return f"{', '.join(names[:-1])} and {names[-1]}"
