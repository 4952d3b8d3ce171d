"""The test part changed: modalities missing, frames lost, sequences of another utterance.

A change gets (modality, row of the corpus, frames (T, F)) and gives frames (T', F), before they
are scaled and padded (``corpora.batches.Part.with_change``). Scores are those of ``metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd

from mmer_lib.corpora.base import MODALITIES
from mmer_lib.corpora.batches import Part, pair_up
from mmer_lib.errors import InputError, check_number, check_whole
from mmer_lib.maps import check_query, swap_askers
from mmer_lib.metrics import METRICS, scores
from mmer_lib.model import LETTERS, ModelConfig, Recognizer
from mmer_lib.train import predict

SHARES = tuple(round(0.1 * i, 1) for i in range(10))  # of frames that are lost: 0 .. .9
LETTER_OF = {modality: letter for letter, modality in LETTERS.items()}

# Missing modalities


def missing_modalities(model: Recognizer, part: Part) -> pd.DataFrame:
    """Scores with each subset of the modalities there, from all of them to one.

    Columns: present (letters of AVT), n_present, silent (share of utterances without a frame left,
    of which the model answers from its biases), accuracy, balanced_accuracy, macro_f1.

    A model without masks reads a missing modality as one of padding. Raises ``InputError`` for a
    model with one modality.
    """
    check_several(model.config)
    rows = []
    for n in range(len(model.config.modalities), 0, -1):
        for present in combinations(model.config.modalities, n):
            left = part.with_change(partial(_only, present))
            lengths = [part.corpus.features[m].lengths[part.rows] for m in present]
            rows.append({
                "present": "".join(LETTER_OF[m] for m in present),
                "n_present": n,
                "silent": float((np.sum(lengths, axis=0) == 0).mean()),
                **_score(model, left),
            })  # fmt: skip
    return pd.DataFrame(rows)


def check_several(config: ModelConfig) -> None:
    """Raise ``InputError`` for a model with one modality."""
    if len(config.modalities) < 2:
        raise InputError(
            f"{config.name!r} reads {config.modalities[0]} alone: what is asked here needs a model "
            f"with two modalities or more"
        )


def _only(present: Sequence[str], modality: str, row: int, frames: np.ndarray) -> np.ndarray:
    return frames if modality in present else frames[:0]


# Lost frames


def frame_loss(
    model: Recognizer, part: Part, shares: Sequence[float] = SHARES, seed: int = 0
) -> pd.DataFrame:
    """Scores when each frame is lost with probability ``share``: a row a share.

    Columns: share, lost (the share of frames that was), accuracy, balanced_accuracy, macro_f1.
    What is lost at a share is lost at every larger one, and is the same for every model: it
    follows from ``seed``, the utterance and the modality. One frame of a sequence always stays, as
    a missing modality is another track. Frames that stay close up.

    Raises ``InputError`` for shares outside [0, 1), and a model that mixes time positions.
    """
    check_positions(model.config)
    check_whole("seed", seed, at_least=0)
    rows = []
    for share in shares:
        check_number("share", share, lambda x: 0 <= x < 1, "a share in [0, 1)")
        rest = part.with_change(partial(_thin, seed, share))
        row = {"share": float(share), "lost": _measure_loss(part, share, seed)}
        rows.append(row | _score(model, rest))
    return pd.DataFrame(rows)


def check_positions(config: ModelConfig) -> None:
    """Raise ``InputError`` for a model in which a frame is known by its position."""
    if config.time_mixing:
        raise InputError(
            f"{config.name!r} weighs frames by their position, and a lost one shifts all that "
            f"follow: use the controlled flavour or time_mixing=false"
        )


def kept_frames(seed: int, share: float, modality: str, row: int, length: int) -> np.ndarray:
    """Which frames of a sequence stay when ``share`` of them is lost: (length,) bool.

    Each frame has a number in [0, 1) of its own and is lost where that is below ``share``; the one
    with the largest number stays.
    """
    rng = np.random.default_rng([seed, MODALITIES.index(modality), row])
    number = rng.random(length)
    return (number >= share) | (number == number.max(initial=0))


def _thin(seed: int, share: float, modality: str, row: int, frames: np.ndarray) -> np.ndarray:
    return frames[kept_frames(seed, share, modality, row, len(frames))]


def _measure_loss(part: Part, share: float, seed: int) -> float:
    """The share of all frames of a part that is lost."""
    before = after = 0
    for modality in part.modalities:
        lengths = part.corpus.features[modality].lengths
        for row in part.rows:
            before += int(lengths[row])
            after += int(kept_frames(seed, share, modality, row, lengths[row]).sum())
    return 1 - after / max(before, 1)


def loss_area(curve: pd.DataFrame) -> pd.DataFrame:
    """The area under each curve of ``frame_loss`` over its range of shares: the mean score.

    A row a run, by all columns of ``curve`` but share, lost and the scores. Columns: those,
    accuracy, balanced_accuracy, macro_f1 (areas, shares as the scores are, so that
    ``stats.compare`` reads them), and kept_accuracy, ... (area / score with the fewest lost).

    Raises ``InputError`` for a curve with fewer than two shares, or two rows of one.
    """
    names = [name for name in METRICS if name in curve]
    if "share" not in curve or not names:
        raise InputError("loss_area: expected what frame_loss gives, a row a share with its scores")
    by = [c for c in curve if c not in ("share", "lost", *names)]
    groups = curve.groupby(by, sort=False, dropna=False) if by else [((), curve)]
    rows = []
    for key, one in groups:
        rows.append(dict(zip(by, key, strict=True)) | _area(one.sort_values("share"), names))
    return pd.DataFrame(rows)


def _area(curve: pd.DataFrame, names: list[str]) -> dict[str, float]:
    share = curve["share"].to_numpy(np.float64)
    if len(share) < 2 or (np.diff(share) == 0).any():
        raise InputError(
            f"loss_area: a curve has the shares {share.tolist()}: two or more expected, each once; "
            f"keep the columns that tell runs apart"
        )
    width = share[-1] - share[0]
    areas = {name: float(np.trapezoid(curve[name], share) / width) for name in names}
    first = curve.iloc[0]
    return areas | {
        f"kept_{name}": area / first[name] if first[name] else np.nan
        for name, area in areas.items()
    }


# Swapped partners


def swapped_partners(model: Recognizer, part: Part, seed: int = 0) -> pd.DataFrame:
    """Scores when one modality in turn comes from another utterance: a row a modality.

    Columns: swapped (``nothing`` in the first row), n_swapped, accuracy, balanced_accuracy,
    macro_f1, and accuracy_drop, ...: what the swap costs. The label stays that of the other
    modalities. Partners are drawn among utterances that have the modality; one in C shares the
    label by chance.

    Raises ``InputError`` for a model with one modality, and a part of one utterance.
    """
    check_several(model.config)
    whole = _score(model, part)
    rows = [{"swapped": "nothing", "n_swapped": 0, **whole, **_drops(whole, whole)}]
    for modality in model.config.modalities:
        partners = pair_up(part.corpus, part.rows, seed, alike=(modality,))
        found = _score(model, part.with_change(partial(_swap, part, modality, partners)))
        there = part.corpus.features[modality].lengths[part.rows] > 0
        n = int((there & (partners[part.rows] != part.rows)).sum())
        rows.append({"swapped": modality, "n_swapped": n, **found, **_drops(whole, found)})
    return pd.DataFrame(rows)


def _swap(
    part: Part, swapped: str, partners: np.ndarray, modality: str, row: int, frames: np.ndarray
) -> np.ndarray:
    if modality != swapped:
        return frames
    return part.corpus.features[modality][int(partners[row])]


def _drops(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_drop": before[name] - after[name] for name in before}


def swap_sensitivity(
    model: Recognizer, part: Part, rows: np.ndarray | None = None, seed: int = 0
) -> pd.DataFrame:
    """How far the class probabilities move when a partner's sequences ask in place of the own.

    A row an utterance of ``rows`` (default: the whole part) that has a partner with the same
    modalities. Columns: id, label, moved (total variation of the probabilities, in [0, 1]),
    changed (is the answer another?), true_drop (what the true class loses). The sources stay the
    own ones; a model whose attention nobody steers moves by 0.

    Raises ``InputError`` for a model without a query that could be replaced.
    """
    check_query(model.config)
    own, other = swap_askers(part, part.rows if rows is None else rows, seed)
    before, after = predict(model, own), predict(model, other)
    p, q = before.probabilities.astype(np.float64), after.probabilities.astype(np.float64)
    true = np.arange(len(p)), before.labels
    return pd.DataFrame({
        "id": before.ids,
        "label": before.labels,
        "moved": 0.5 * abs(p - q).sum(axis=1),
        "changed": p.argmax(axis=1) != q.argmax(axis=1),
        "true_drop": p[true] - q[true],
    })  # fmt: skip


def _score(model: Recognizer, part: Part) -> dict[str, float]:
    said = predict(model, part)
    return scores(said.labels, said.probabilities)
