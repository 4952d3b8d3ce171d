"""What runs said of each utterance: recalls with intervals, confusions, baselines, calibration.

A frame of predictions has one row an utterance of a run: ``configuration``, ``fold``, ``seed``,
``id``, ``label``, ``predicted`` (class indices) and ``confidence``, the probability of the class
that was predicted. ``gather_predictions`` makes it from a table of runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mmer_lib import metrics
from mmer_lib.errors import InputError, unknown
from mmer_lib.stats.evidence import check_level
from mmer_lib.stats.tables import Floats, name_folds, need_columns

PREDICTIONS = ("configuration", "fold", "seed", "id", "label", "predicted")


def gather_predictions(table: pd.DataFrame, read: Callable[[str], Any]) -> pd.DataFrame:
    """The predictions of every run of ``table``, in its order.

    ``read`` gives what a run said by its ``key``: ``ids`` (n,), ``labels`` (n,) and
    ``probabilities`` (n, C), as ``ResultStore.predictions`` does.
    """
    need_columns(table, ("key", "configuration", "fold", "seed"), "the table of runs")
    folds = name_folds(table)
    return pd.concat(
        [
            _one_run(read(key)).assign(configuration=name, fold=fold, seed=seed)
            for key, name, fold, seed in zip(
                table["key"], table["configuration"], folds, table["seed"], strict=True
            )
        ],
        ignore_index=True,
    )[[*PREDICTIONS, "confidence"]]


def _one_run(said: Any) -> pd.DataFrame:
    probabilities = np.asarray(said.probabilities, dtype=np.float64)
    return pd.DataFrame(
        {
            "id": said.ids,
            "label": said.labels,
            "predicted": probabilities.argmax(axis=1),
            "confidence": probabilities.max(axis=1),
        }
    )


def recall_intervals(
    predictions: pd.DataFrame, classes: Sequence[str], alpha: float = 0.05
) -> pd.DataFrame:
    """Recall of every class with an interval for new data: a row a configuration and class.

    Columns: ``configuration, emotion, recall, low, high, n_utterances, n_per_fold, n_effective``.

    ``recall`` is over the utterances of all folds, each counted by the share of seeds that found
    it. Utterances of a fold share a model, so its recalls spread more than that of a coin would:
    from the deviations of the folds comes a standard error (that of a ratio, corrected for overlap
    as in ``compare``), from that the number of independent utterances that would have it,
    ``n_effective`` = recall (1 - recall) / se^2, at most the number there are; and with it Wilson's
    interval with t of K - 1 degrees of freedom for z (Dean & Pagano 2015). It stays within [0, 1]
    and is honest where a class has twenty utterances a fold. With one fold utterances are the only
    replicates: Wilson's plain interval. NaN for a class that does not occur.

    Raises ``InputError`` for missing columns, classes without a name, and utterances that several
    folds test (a repeated cross-validation: choose one draw).
    """
    need_columns(predictions, PREDICTIONS, "the frame of predictions")
    check_level(alpha)
    _check_classes(predictions, classes)
    folds = predictions.drop_duplicates(["fold", "id"])
    if folds["id"].duplicated().any():
        twice = folds.loc[folds["id"].duplicated(), "id"].iloc[0]
        raise InputError(f"utterance {twice!r} is tested by several folds: choose one draw of them")
    rows = []
    for name, runs in predictions.groupby("configuration", sort=False):
        for index, emotion in enumerate(classes):
            row = _recall(runs[runs["label"] == index], runs["fold"].nunique(), alpha)
            rows.append({"configuration": name, "emotion": emotion} | row)
    return pd.DataFrame(rows)


def _recall(said: pd.DataFrame, n_folds: int, alpha: float) -> dict[str, float]:
    """Recall and interval from the predictions of the utterances of one class."""
    found = (said["label"] == said["predicted"]).groupby([said["fold"], said["id"]]).mean()
    folds = found.groupby(level="fold").agg(["sum", "size"])
    hits, counts = (folds[name].to_numpy(np.float64) for name in ("sum", "size"))
    n = counts.sum()
    if not n:
        blank = dict.fromkeys(("recall", "low", "high"), math.nan)
        return blank | {"n_utterances": 0, "n_per_fold": 0.0, "n_effective": 0.0}
    recall = hits.sum() / n
    effective, critical = n, float(stats.norm.ppf(1 - alpha / 2))
    if n_folds > 1:
        critical = float(stats.t.ppf(1 - alpha / 2, n_folds - 1))
        # A fold without the class adds nothing to the ratio's deviations.
        variance = ((hits - recall * counts) ** 2).sum() / (n_folds - 1) / (n / n_folds) ** 2
        variance *= 1 / n_folds + 1 / (n_folds - 1)
        inside = recall * (1 - recall)
        effective = min(n, inside / variance) if variance > 0 and inside > 0 else n
    low, high = wilson(recall, effective, critical)
    return {
        "recall": recall, "low": low, "high": high, "n_utterances": int(n),
        "n_per_fold": n / n_folds, "n_effective": effective,
    }  # fmt: skip


def wilson(share: float, n: float, critical: float) -> tuple[float, float]:
    """Wilson's interval (1927) for a share of ``n`` at ``critical`` standard errors."""
    z2 = critical**2 / n
    centre = (share + z2 / 2) / (1 + z2)
    half = critical * math.sqrt(share * (1 - share) / n + z2 / (4 * n)) / (1 + z2)
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_confusion(predictions: pd.DataFrame, n_classes: int) -> dict[str, Floats]:
    """A confusion matrix (C, C) a configuration: counts averaged over seeds, summed over folds.

    Rows are the truth, and each sums to the number of utterances of its class.
    """
    need_columns(predictions, PREDICTIONS, "the frame of predictions")
    found = {}
    for name, runs in predictions.groupby("configuration", sort=False):
        total = np.zeros((n_classes, n_classes))
        for _, fold in runs.groupby("fold"):
            counts = metrics.confusion(fold["label"], fold["predicted"], n_classes)
            total += counts / fold["seed"].nunique()
        found[str(name)] = total
    return found


def baselines(
    predictions: pd.DataFrame,
    metric: str = "balanced_accuracy",
    permutations: int = 20,
    seed: int = 0,
) -> dict[str, float]:
    """What no model is needed for: ``{"majority": share, "permuted": share}``.

    ``majority`` always answers the largest class; ``permuted`` gives the runs' own answers to the
    wrong utterances of the same fold, averaged over runs and ``permutations`` of each.
    """
    need_columns(predictions, PREDICTIONS, "the frame of predictions")
    if metric not in metrics.METRICS:
        raise unknown("metric", metric, metrics.METRICS)
    n_classes = int(predictions[["label", "predicted"]].to_numpy().max()) + 1
    largest = int(predictions["label"].mode().iloc[0])
    always, permuted = [], []
    rng = np.random.default_rng(seed)
    for _, run in predictions.groupby(["configuration", "fold", "seed"], sort=False):
        labels, answers = run["label"].to_numpy(), run["predicted"].to_numpy()
        constant = np.full(len(labels), largest)
        always.append(metrics.METRICS[metric](labels, constant, n_classes))
        drawn = metrics.permuted_scores(labels, answers, metric, n_classes, permutations, rng)
        permuted.append(drawn.mean())
    return {"majority": float(np.mean(always)), "permuted": float(np.mean(permuted))}


def reliability(predictions: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Are answers as often right as they are sure? A row a configuration and bin of confidence.

    Columns as in ``metrics.reliability``, over all runs of a configuration together, and
    ``configuration`` and ``ece``, the expected calibration error of all its bins.
    """
    need_columns(predictions, (*PREDICTIONS, "confidence"), "the frame of predictions")
    parts = []
    for name, runs in predictions.groupby("configuration", sort=False):
        right = (runs["label"] == runs["predicted"]).to_numpy()
        table = metrics.bin_confidence(runs["confidence"].to_numpy(), right, bins)
        error = metrics.expected_gap(table)
        parts.append(table.assign(configuration=name, ece=error))
    return pd.concat(parts, ignore_index=True)


def _check_classes(predictions: pd.DataFrame, classes: Sequence[str]) -> None:
    top: npt.NDArray[Any] = predictions[["label", "predicted"]].to_numpy()
    if top.min() < 0 or top.max() >= len(classes):
        raise InputError(
            f"predictions hold class {top.max()}, but {len(classes)} classes are named"
        )
