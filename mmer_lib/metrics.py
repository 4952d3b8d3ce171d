"""Scores of a run, and what the field calls them.

Arrays of this module, with n utterances and C classes:

- ``labels`` (n,) integers in 0 .. C - 1, the truth;
- ``predicted`` (n,) integers in 0 .. C - 1;
- ``probabilities`` (n, C) rows that sum to one; the prediction is the largest of a row.

All scores are shares in [0, 1]. "Weighted" and "unweighted" accuracy mean opposite things to the
speech-emotion literature and to the paper's released code, so this package never uses these names
for a number: it says ``accuracy`` and ``balanced_accuracy``, and ``decode`` translates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmer_lib.errors import InputError, unknown

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# What each community calls each number: vocabulary -> term -> metric of this package.
NAMES: dict[str, dict[str, str]] = {
    "literature": {  # speech emotion recognition: weighted by class size = plain accuracy
        "WA": "accuracy",
        "weighted": "accuracy",
        "weighted accuracy": "accuracy",
        "UA": "balanced_accuracy",
        "UWA": "balanced_accuracy",
        "UAR": "balanced_accuracy",
        "unweighted": "balanced_accuracy",
        "unweighted accuracy": "balanced_accuracy",
        "unweighted average recall": "balanced_accuracy",
    },
    "released code": {  # the paper's: the two function bodies are swapped
        "WA": "balanced_accuracy",
        "weighted": "balanced_accuracy",
        "weighted accuracy": "balanced_accuracy",
        "UA": "accuracy",
        "UWA": "accuracy",
        "unweighted": "accuracy",
        "unweighted accuracy": "accuracy",
    },
    "package": {
        "accuracy": "accuracy",
        "balanced accuracy": "balanced_accuracy",
        "macro F1": "macro_f1",
    },
}
_READ = ("paper_weighted", "paper_unweighted")  # the paper's two numbers, in the paper's words


def accuracy(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int | None = None
) -> float:
    """Share of utterances whose class was found. Raises ``InputError`` as :func:`confusion`."""
    counts = confusion(labels, predicted, n_classes)
    return float(np.trace(counts) / counts.sum())


def balanced_accuracy(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int | None = None
) -> float:
    """Mean recall over the classes that occur in ``labels`` (Brodersen et al. 2010)."""
    return float(np.nanmean(per_class_recall(labels, predicted, n_classes)))


def macro_f1(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int | None = None
) -> float:
    """Mean F1 over the classes that occur in ``labels`` or in ``predicted``.

    A class that occurs in neither has no F1 and is left out, as in scikit-learn's default.
    """
    counts = confusion(labels, predicted, n_classes)
    occurrences = counts.sum(axis=0) + counts.sum(axis=1)  # (C,) = 2 hits + misses + false alarms
    seen = occurrences > 0
    return float(np.mean(2 * np.diag(counts)[seen] / occurrences[seen]))


def per_class_recall(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int | None = None
) -> Floats:
    """Share of each class's utterances that were found: (C,), NaN for a class with none."""
    counts = confusion(labels, predicted, n_classes)
    truth = counts.sum(axis=1)  # (C,)
    recall = np.full(len(counts), np.nan)
    np.divide(np.diag(counts), truth, out=recall, where=truth > 0)
    return recall


def confusion(
    labels: npt.ArrayLike, predicted: npt.ArrayLike, n_classes: int | None = None
) -> Ints:
    """Counts (C, C): row = the true class, column = the predicted one.

    ``n_classes`` is C; None means as many as occur. Raises ``InputError`` for arrays that are
    empty, not integers, of different lengths, or hold a class outside 0 .. C - 1.
    """
    truth, guess = (
        _classes("labels", labels, n_classes),
        _classes("predicted", predicted, n_classes),
    )
    if len(truth) != len(guess):
        raise InputError(
            f"{len(truth)} labels but {len(guess)} predictions: give one prediction a label"
        )
    c = n_classes if n_classes is not None else int(max(truth.max(), guess.max())) + 1
    return np.bincount(truth * c + guess, minlength=c * c).reshape(c, c).astype(np.int64)


Metric = Callable[[npt.ArrayLike, npt.ArrayLike, int | None], float]

METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}


def scores(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> dict[str, float]:
    """Every metric of ``METRICS`` from class probabilities (n, C): name -> share.

    Raises ``InputError`` for probabilities that are not (n, C), not finite, negative, or whose
    rows do not sum to one.
    """
    p = _probabilities(probabilities)
    return {name: score(labels, p.argmax(axis=1), p.shape[1]) for name, score in METRICS.items()}


def permuted_scores(
    labels: npt.ArrayLike,
    predicted: npt.ArrayLike,
    metric: str = "balanced_accuracy",
    n_classes: int | None = None,
    permutations: int = 1000,
    seed: int | np.random.Generator = 0,
) -> Floats:
    """Scores of the same answers given to the wrong utterances: (permutations,).

    Their mean is what the answers' frequencies alone are worth; the share that reaches the true
    score is a permutation test of whether anything was learned. Raises ``InputError`` as
    :func:`confusion`, and for an unknown metric.
    """
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    counts = confusion(labels, predicted, n_classes)  # also checks
    answers = np.tile(np.asarray(predicted), (permutations, 1))
    shuffled = np.random.default_rng(seed).permuted(answers, axis=1)  # (P, n)
    return np.array([METRICS[metric](labels, one, len(counts)) for one in shuffled])


def reliability(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10
) -> pd.DataFrame:
    """How often answers of like confidence are right: a row a bin that has any.

    Columns: ``low, high`` (of the bin), ``confidence`` (mean probability of the class answered),
    ``accuracy``, ``share`` (of all answers), ``n``. Raises ``InputError`` as :func:`scores`, and
    for fewer than one bin.
    """
    p = _probabilities(probabilities)
    confusion(labels, p.argmax(axis=1), p.shape[1])  # checks the labels
    return bin_confidence(p.max(axis=1), p.argmax(axis=1) == np.asarray(labels), bins)


def bin_confidence(
    confidence: Floats, right: npt.NDArray[np.bool_], bins: int = 10
) -> pd.DataFrame:
    """:func:`reliability` of answers (n,) of known confidence that were ``right`` or not."""
    if bins < 1:
        raise InputError(f"bins={bins}: expected at least 1")
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)  # (n,)
    n = np.bincount(place, minlength=bins)
    some = n > 0
    sums = [np.bincount(place, values, bins)[some] for values in (confidence, right)]
    edges = np.arange(bins + 1) / bins
    columns = {
        "low": edges[:-1][some], "high": edges[1:][some], "confidence": sums[0] / n[some],
        "accuracy": sums[1] / n[some], "share": n[some] / n.sum(), "n": n[some],
    }  # fmt: skip
    return pd.DataFrame(columns)


def expected_gap(table: pd.DataFrame) -> float:
    """The mean gap between confidence and accuracy of a reliability table, by shares."""
    return float((table["share"] * abs(table["confidence"] - table["accuracy"])).sum())


def calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 10) -> float:
    """Expected calibration error with bins of equal width (Guo et al. 2017).

    It is above 0 by chance alone, the more so the fewer utterances a bin has: compare it only
    between runs of the same test part.
    """
    return expected_gap(reliability(labels, probabilities, bins))


def label(metric: str) -> str:
    """How a metric is written in text and figures: ``balanced_accuracy`` -> balanced accuracy."""
    terms = {name: term for term, name in NAMES["package"].items()}
    return terms.get(metric, metric.replace("_", " "))


def decode(term: str, vocabulary: str) -> str:
    """The metric of this package that ``vocabulary`` calls ``term``.

    >>> decode("WA", "literature"), decode("WA", "released code")
    ('accuracy', 'balanced_accuracy')

    Raises ``InputError`` for a vocabulary not in ``NAMES`` or a term not in the vocabulary.
    """
    if vocabulary not in NAMES:
        raise unknown("vocabulary", vocabulary, NAMES)
    metrics = {_plain(known): metric for known, metric in NAMES[vocabulary].items()}
    if _plain(term) not in metrics:
        raise unknown(f"{vocabulary} metric", term, NAMES[vocabulary])
    return metrics[_plain(term)]


def read_table(table: pd.DataFrame, vocabulary: str) -> pd.DataFrame:
    """A published table with its ``paper_*`` and ``sd_*`` columns named as this package would.

    ``paper_weighted`` becomes ``accuracy`` under "literature" and ``balanced_accuracy`` under
    "released code"; ``sd_weighted`` becomes ``accuracy_sd`` or ``balanced_accuracy_sd``.
    """
    renamed = {}
    for column in map(str, table.columns):
        kind, _, term = column.partition("_")
        if kind in ("paper", "sd") and term:
            renamed[column] = decode(term, vocabulary) + ("_sd" if kind == "sd" else "")
    return table.rename(columns=renamed).assign(reading=vocabulary)


def compare_readings(published: pd.DataFrame, earlier: pd.DataFrame) -> pd.DataFrame:
    """Against earlier systems, does it matter which vocabulary the paper's two numbers are read in?

    ``published`` has ``configuration, modalities, paper_weighted, paper_unweighted``; ``earlier``
    has ``system, modalities, accuracy, balanced_accuracy``. A row a configuration, system of the
    same modalities and metric: ``earlier`` (the system's score), ``literature`` and
    ``released_code`` (the paper's, in either reading), ``literature_says`` and
    ``released_code_says`` ("ahead", "behind" or "level"), and ``changes``: do they disagree?
    """
    pairs = published.merge(earlier, on="modalities")
    parts = []
    for metric in ("accuracy", "balanced_accuracy"):
        part = pairs[["configuration", "modalities", "system"]].assign(metric=metric)
        part["earlier"] = pairs[metric]
        for vocabulary in ("literature", "released code"):
            column = next(
                c for c in _READ if decode(c.removeprefix("paper_"), vocabulary) == metric
            )
            name = vocabulary.replace(" ", "_")
            gap = (pairs[column] - pairs[metric]).round(6)
            part[name] = pairs[column]
            part[f"{name}_says"] = np.select([gap > 0, gap < 0], ["ahead", "behind"], "level")
        part["changes"] = part["literature_says"] != part["released_code_says"]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _plain(term: str) -> str:
    return " ".join(term.lower().replace("_", " ").replace("-", " ").split())


def _classes(what: str, given: npt.ArrayLike, n_classes: int | None) -> Ints:
    """``given`` as (n,) class indices, or ``InputError``."""
    array = np.asarray(given)
    if array.ndim != 1 or not len(array):
        raise InputError(f"{what} must be a list of classes, not an array of shape {array.shape}")
    if array.dtype.kind not in "iu":
        raise InputError(f"{what} must be whole numbers (class indices), not {array.dtype}")
    if array.min() < 0 or (n_classes is not None and array.max() >= n_classes):
        top = "" if n_classes is None else f" .. {n_classes - 1}"
        worst = array.min() if array.min() < 0 else array.max()
        raise InputError(f"{what} hold class {worst}: expected classes 0{top or ' and above'}")
    return array.astype(np.int64)


def _probabilities(given: npt.ArrayLike) -> Floats:
    """``given`` as (n, C) probabilities, or ``InputError``."""
    array: npt.NDArray[Any] = np.asarray(given)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind != "f":
        raise InputError(
            f"probabilities must be an (utterances, classes) array of numbers, "
            f"not {array.dtype} of shape {array.shape}"
        )
    p = array.astype(np.float64)
    wrong = ~np.isfinite(p).all(axis=1) | (p < 0).any(axis=1) | (abs(p.sum(axis=1) - 1) > 1e-3)
    if wrong.any():
        raise InputError(
            f"{wrong.sum()} of {len(p)} rows of probabilities are no probabilities (first: row "
            f"{int(wrong.argmax())}): each must be finite, 0 or above, and sum to 1"
        )
    return p
