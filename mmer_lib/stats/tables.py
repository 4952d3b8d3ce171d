"""Reading a table of runs: what is checked before anything is computed from it.

A table has one row a run: ``configuration``, ``fold``, ``seed`` and any scores that are shares in
[0, 1]. Where it has them, ``STUDY`` says that the runs belong together, ``COUNTS`` how much was
learned from and tested on, and ``fold_seed`` which draw of folds a fold is from: several draws are
a repeated cross-validation, and then each fold of each draw is a fold of its own. A table
from which runs are left out (a store's, where some are damaged) names them in its
``attrs["left_out"]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmer_lib.errors import InputError, unknown

Floats = npt.NDArray[np.float64]

KEYS = ("configuration", "fold", "seed")
# What runs of one study have in common; "semantics": what configurations meant to the version.
STUDY = ("corpus", "fingerprint", "protocol", "n_folds", "semantics")
COUNTS = ("n_train", "n_dev", "n_test")  # utterances; the first two are what a fit learns from


def fold_means(table: pd.DataFrame, metric: str = "balanced_accuracy") -> pd.DataFrame:
    """Scores averaged over seeds: a row a fold, a column a configuration, NaN where none ran."""
    rows = read_scores(table, metric)
    means = rows.groupby(["fold", "configuration"])["score"].mean().unstack("configuration")
    return means[list(rows["configuration"].unique())].rename_axis(columns=None)


def read_scores(
    table: pd.DataFrame, metric: str, configurations: Sequence[str] | None = None
) -> pd.DataFrame:
    """Checked rows of ``configurations`` (all by default) with the metric as column ``score``.

    Raises ``InputError`` for an empty table, unknown columns or configurations, scores that are no
    shares, runs given twice, and rows of more than one study.
    """
    need_columns(table, KEYS, "the table of runs")
    numeric = table.select_dtypes("number").columns.difference(list(KEYS))
    if metric not in numeric:
        raise unknown("metric", metric, numeric)
    names = table["configuration"]
    for name in configurations or ():
        if name not in set(names):
            raise unknown("configuration", name, names.unique())
    kept = [c for c in (*KEYS, *STUDY, *COUNTS, "fold_seed") if c in table]
    rows = table[kept].assign(score=table[metric].astype(np.float64), fold=name_folds(table))
    if configurations is not None:
        rows = rows[names.isin(list(configurations))]
    _check_rows(rows, metric)
    return rows


def pair_runs(table: pd.DataFrame, a: str, b: str, metric: str) -> pd.DataFrame:
    """A row a (fold, seed): ``score_a``, ``score_b`` and the counts, or ``InputError``."""
    if a == b:
        raise InputError(f"{a!r} is compared with itself: name two configurations")
    rows = read_scores(table, metric, [a, b])
    left, right = (
        rows[rows["configuration"] == name].set_index(["fold", "seed"]) for name in (a, b)
    )
    for name, missing in [
        (b, left.index.difference(right.index)),
        (a, right.index.difference(left.index)),
    ]:
        if len(missing):
            raise InputError(
                f"{a} and {b} are not paired: {name} lacks {_runs(missing)}. "
                f"Run them, or leave these runs out on both sides"
                + "".join(f". {said}" for said in say_left_out(table))
            )
    shared = left.drop(columns=["configuration", "score"])
    pairs = shared.assign(score_a=left["score"], score_b=right["score"])
    if "n_test" in shared:
        pairs["n_test_b"] = right["n_test"]
    return pairs.reset_index()


def say_left_out(table: pd.DataFrame) -> tuple[str, ...]:
    """A sentence on runs that a table lacks because they are damaged, or none."""
    keys = list(table.attrs.get("left_out", ()))
    if not keys:
        return ()
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    runs = "1 damaged run is" if len(keys) == 1 else f"{len(keys)} damaged runs are"
    return (f"Incomplete: {runs} left out of the table ({shown}), see `mmer store verify`.",)


def overlap(runs: pd.DataFrame) -> float:
    """n_test / n_learn, averaged over folds; 1 / (folds of a draw - 1) for a table without counts.

    NaN for a single fold without counts, where nothing can be known.
    """
    if "n_test" in runs and "n_train" in runs:
        learn = runs[[c for c in ("n_train", "n_dev") if c in runs]].sum(axis=1)
        return float((runs["n_test"] / learn).groupby(runs["fold"]).mean().mean())
    folds = runs["fold"].nunique() / count_draws(runs)
    return 1 / (folds - 1) if folds > 1 else np.nan


def count_draws(runs: pd.DataFrame) -> int:
    """How many times the folds were drawn: 1, or the repeats of a repeated cross-validation."""
    return max(1, runs["fold_seed"].nunique()) if "fold_seed" in runs else 1


def name_folds(table: pd.DataFrame) -> pd.Series[Any]:
    """The folds; of a repeated cross-validation with the draw that each is from."""
    if count_draws(table) == 1:
        return table["fold"]
    return table["fold"].astype(str) + " of draw " + table["fold_seed"].astype(str)


def free_folds(runs: pd.DataFrame) -> int:
    """Degrees of freedom for new data: the folds of one draw less one, and at least 1."""
    return max(1, runs["fold"].nunique() // count_draws(runs) - 1)


def need_columns(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise ``InputError`` unless ``table`` has a row and all ``columns``."""
    if not len(table):
        raise InputError(f"{what} is empty: run `mmer sweep` first")
    for column in columns:
        if column not in table:
            have = ", ".join(map(str, table.columns))
            raise InputError(f"{what} has no column {column!r}; it has {have}")


def _check_rows(rows: pd.DataFrame, metric: str) -> None:
    """Raise ``InputError`` unless ``rows`` are whole runs of one study with scores in [0, 1]."""
    outside = rows[~rows["score"].between(0, 1)]  # NaN is outside too
    if len(outside):
        first = outside.iloc[0]
        raise InputError(
            f"{metric} of {first['configuration']}, fold {first['fold']}, seed {first['seed']} is "
            f"{first['score']:g}: expected a share in [0, 1] ({len(outside)} such runs)"
        )
    for column in STUDY:
        if column in rows and rows[column].nunique(dropna=False) > 1:
            values = ", ".join(map(str, rows[column].unique()[:3]))
            raise InputError(f"the runs differ in {column} ({values}): choose those of one study")
    twice = rows[rows.duplicated(list(KEYS))]
    if len(twice):
        first = twice.iloc[0]
        raise InputError(
            f"{first['configuration']}, fold {first['fold']}, seed {first['seed']} is in the table "
            f"more than once: choose the runs of one study (one corpus, one training setting)"
        )
    for column in COUNTS:
        if column in rows and not (rows[column] > 0).all():
            raise InputError(f"{column} must be above 0 in every run: it counts utterances")


def _runs(index: pd.Index[Any], most: int = 3) -> str:
    """(fold, seed) pairs in words: "fold 0 seed 1, fold 2 seed 0 and 4 more"."""
    named = ", ".join(f"fold {fold} seed {seed}" for fold, seed in index[:most])
    return named + (f" and {len(index) - most} more" if len(index) > most else "")
