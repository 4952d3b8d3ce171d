"""Train, dev and test parts of a corpus, and what leaks from one into another.

Protocols:

- ``published``: the split the corpus came with (one fold), or its published folds;
- ``random``: class-stratified folds over utterances (the habit; it leaks speakers);
- ``by-speaker`` / ``by-dialogue`` / ``by-session``: no speaker (dialogue, session) is in two parts
  of a fold. With as many folds as there are groups, each is tested once: leave one speaker (one
  session) out.

Test parts of all but the first tile the corpus. The development part is an eighth of what remains.
The report of every fold counts what its learning part (train and dev: both decide the fitted
model) shares with its test part.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import PARTS, Corpus
from mmer_lib.errors import InputError, check_whole, unknown

PROTOCOLS = ("published", "random", "by-speaker", "by-dialogue", "by-session")
MAX_SEED = 2**32 - 1  # of the splitters of scikit-learn
DEV_PARTS = 8  # the development part is one of this many parts of what is not test


@dataclass(frozen=True)
class Leakage:
    """How many of each the learning part (train + dev) shares with the test part.

    None means that it cannot be known, because the corpus does not say it of every utterance.
    """

    speakers: int | None
    dialogues: int | None
    transcripts: int | None
    duplicates: int  # utterances of test whose frames are, byte for byte, also in train or dev

    def sentence(self) -> str:
        """One line for a reader."""
        counted = {
            "speakers": self.speakers,
            "dialogues": self.dialogues,
            "transcripts": self.transcripts,
            "duplicated utterances": self.duplicates,
        }
        known = [f"{n} {what}" for what, n in counted.items() if n is not None]
        hidden = [what for what, n in counted.items() if n is None]
        why = "(the corpus does not say, or not of all)"
        tail = f"; cannot be known: {', '.join(hidden)} {why}" if hidden else ""
        return f"the learning part (train and dev) and test share {', '.join(known)}{tail}"


def worst_leakage(folds: Iterable[Fold]) -> Leakage:
    """Of each kind the most that any of the folds shares; what is unknown of one is unknown."""
    reports = [asdict(fold.leakage) for fold in folds]
    worst: dict[str, Any] = {}
    for kind in reports[0]:
        counts = [report[kind] for report in reports]
        worst[kind] = None if None in counts else max(counts)
    return Leakage(**worst)


@dataclass(frozen=True)
class Fold:
    """Row numbers of a corpus, sorted int64; the parts never overlap."""

    index: int  # 0 .. n_folds - 1
    protocol: str
    n_folds: int
    seed: int
    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray
    leakage: Leakage
    note: str = ""  # where the fold departs from what its protocol promises, and what train lacks


def make_folds(corpus: Corpus, protocol: str, n_folds: int, seed: int) -> list[Fold]:
    """The folds of ``corpus`` under ``protocol``; ``published`` ignores ``n_folds``.

    Raises ``InputError`` for an unknown protocol, a grouping the corpus does not have or leaves
    blank for some utterances, numbers that are not whole, more folds than groups or utterances,
    or a part with no utterance.
    """
    if protocol not in PROTOCOLS:
        raise unknown("fold protocol", protocol, PROTOCOLS)
    seed = check_whole("seed of the folds", seed, at_least=0, at_most=MAX_SEED)
    n_folds = check_whole("n_folds", n_folds, at_least=1 if protocol == "published" else 2)
    if protocol == "published":
        parts = _published_parts(corpus, seed)
    else:
        parts = _grouped_parts(corpus, protocol, n_folds, seed)
    folds = []
    for k, (assigned, note) in enumerate(parts):
        rows = {part: np.flatnonzero(assigned == part) for part in PARTS}
        for part in PARTS:
            if not len(rows[part]):
                raise InputError(
                    f"corpus {corpus.name!r}: the {part} part of fold {k} ({protocol}) has no "
                    f"utterance; expected at least one in each of train, dev and test"
                )
        leakage = measure_leakage(corpus, np.r_[rows["train"], rows["dev"]], rows["test"])
        note = "; ".join(filter(None, [note, *_untrained(corpus, rows["train"])]))
        folds.append(Fold(k, protocol, len(parts), seed, **rows, leakage=leakage, note=note))
    return folds


def _untrained(corpus: Corpus, train: np.ndarray) -> Iterator[str]:
    """A sentence for every modality that no utterance of the training part has."""
    for modality in corpus.modalities:
        if not corpus.features[modality].lengths[train].any():
            yield (
                f"no utterance of the training part has {modality}: what a model makes of it in "
                f"dev and test is untrained"
            )


def possible_protocols(corpus: Corpus, n_folds: int = 2) -> list[str]:
    """The protocols that ``corpus`` allows with ``n_folds`` folds."""

    def groups(column: str) -> int:
        names = corpus.known(column)
        return 0 if names is None or _count_blank(names) else len(set(names))

    allowed = {
        "published": corpus.published is not None or corpus.known("split") is not None,
        "random": len(corpus) >= n_folds,
        "by-speaker": groups("speaker") >= n_folds,
        "by-dialogue": groups("dialogue") >= n_folds,
        "by-session": groups("session") >= n_folds,
    }
    return [protocol for protocol in PROTOCOLS if allowed[protocol]]


def measure_leakage(corpus: Corpus, learn: np.ndarray, test: np.ndarray) -> Leakage:
    """What rows ``learn`` and rows ``test`` of ``corpus`` have in common."""

    def shared(column: str) -> int | None:
        names = corpus.known(column)
        if names is None or _count_blank(names[np.r_[learn, test]]):
            return None
        return len(set(names[learn]) & set(names[test]))

    learned = set(corpus.content[learn])
    duplicates = sum(frames in learned for frames in corpus.content[test])
    return Leakage(shared("speaker"), shared("dialogue"), shared("text"), duplicates)


def _count_blank(names: np.ndarray) -> int:
    """Of how many utterances the corpus does not say it."""
    return sum(not name.strip() for name in names)


def _published_parts(corpus: Corpus, seed: int) -> list[tuple[np.ndarray, str]]:
    """One array of part names and a note for each published fold."""
    if corpus.published is not None:
        columns = [c for c in corpus.published.columns if c != "id"]
        return [(corpus.published[c].fillna("").to_numpy(dtype=object), "") for c in columns]
    split = corpus.known("split")
    if split is None:
        raise InputError(
            f"corpus {corpus.name!r} has no published split: choose one of the protocols "
            f"{', '.join(PROTOCOLS[1:])}"
        )
    if (split == "dev").any():
        return [(split, "")]
    learn = np.flatnonzero(split == "train")
    dev, note = _choose_dev(corpus, learn, corpus.known("dialogue"), seed)
    split[dev] = "dev"
    return [(split, f"no dev part was published: {note or 'drawn from train'}")]


def _grouped_parts(
    corpus: Corpus, protocol: str, n_folds: int, seed: int
) -> list[tuple[np.ndarray, str]]:
    groups = None
    if protocol != "random":
        column = protocol.removeprefix("by-")
        groups = corpus.known(column)
        if groups is None:
            raise InputError(
                f"corpus {corpus.name!r} has no {column} column, so {protocol} folds cannot be "
                f"made: add the column or choose another protocol"
            )
        if blank := _count_blank(groups):
            raise InputError(
                f"corpus {corpus.name!r}: the {column} of {blank} of {len(corpus)} utterances is "
                f"blank, so {protocol} folds cannot be kept apart: fill it in, take these "
                f"utterances out, or choose another protocol"
            )
    units = len(corpus) if groups is None else len(set(groups))
    what = "utterances" if groups is None else f"{protocol.removeprefix('by-')}s"
    if n_folds > units:
        raise InputError(
            f"{n_folds} folds asked for, but corpus {corpus.name!r} has only {units} {what}: "
            f"ask for {units} or fewer"
        )
    everything = np.arange(len(corpus))
    parts = []
    for test in _split(corpus, everything, groups, n_folds, seed):
        assigned = np.full(len(corpus), "train", dtype=object)
        assigned[test] = "test"
        learn = np.flatnonzero(assigned == "train")
        dev, note = _choose_dev(corpus, learn, groups, seed)
        assigned[dev] = "dev"
        parts.append((assigned, note))
    return parts


def _choose_dev(
    corpus: Corpus, learn: np.ndarray, groups: np.ndarray | None, seed: int
) -> tuple[np.ndarray, str]:
    """Rows of ``learn`` to hold back for development, and a note if groups had to be broken."""
    note = ""
    if groups is not None and len(set(groups[learn])) < 2:
        groups, note = None, "dev is drawn from the one group that is left for learning"
    units = len(learn) if groups is None else len(set(groups[learn]))
    if units < 2:
        return learn[:0], note
    inside = None if groups is None else groups[learn]
    rows = _split(corpus, learn, inside, min(DEV_PARTS, units), seed)[0]
    return rows, note


def _split(
    corpus: Corpus, rows: np.ndarray, groups: np.ndarray | None, n: int, seed: int
) -> list[np.ndarray]:
    """``rows`` in ``n`` parts of like class shares, no group in two of them."""
    from sklearn.model_selection import (  # heavy, so imported where it is used
        GroupKFold,
        KFold,
        StratifiedGroupKFold,
        StratifiedKFold,
    )

    labels = corpus.labels[rows]
    rare = pd.Series(labels).value_counts().max() < n  # too rare to stratify at all
    if groups is None:
        splitter = (KFold if rare else StratifiedKFold)(n, shuffle=True, random_state=seed)
    elif rare:
        splitter = GroupKFold(n, shuffle=True, random_state=seed)
    else:
        splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # classes rarer than n are spread as far as they go
        warnings.simplefilter("ignore", UserWarning)
        parts = [rows[test] for _, test in splitter.split(rows, labels, groups)]
    if any(len(part) == 0 for part in parts):  # the greedy stratified splitter may starve a part
        whole = GroupKFold(n, shuffle=True, random_state=seed)
        parts = [rows[test] for _, test in whole.split(rows, labels, groups)]
    return parts
