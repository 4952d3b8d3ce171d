"""What the usual tests would have said, each beside how often it is wrong. For teaching only."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mmer_lib.errors import InputError
from mmer_lib.stats.calibration import measured, split_scenarios
from mmer_lib.stats.evidence import check_level
from mmer_lib.stats.predictions import PREDICTIONS
from mmer_lib.stats.tables import Floats, count_draws, need_columns, overlap, pair_runs
from mmer_lib.stats.usual import DEFAULT, TESTS, Studies, UsualTest

ANY_MARGIN = 0.01  # habits have no equivalence test, so none is shown
MCNEMAR = "McNemar, seeds pooled"  # the one test that needs predictions


def habits(
    table: pd.DataFrame,
    a: str,
    b: str,
    metric: str = "balanced_accuracy",
    predictions: pd.DataFrame | None = None,
    alpha: float = 0.05,
    rates: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """A row a test: what it says of a and b, and its false positives as measured.

    Columns: ``test``, ``replicates``, ``statistic``, ``p`` (NaN for almost stochastic order, which
    has none), ``says`` ("different" or "not significant"; empty where the test could not be run),
    ``low``, ``high``; shares of studies with nothing to find in which it says "different":
    ``false_positives_low``, ``false_positives_high`` over three sizes of fold x configuration,
    ``overlap_low``, ``overlap_high`` over real cross-validations; ``flaw``; ``default``: is it the
    test that this package decides by?

    McNemar's test is of accuracy, whatever the ``metric``, and needs ``predictions``, as
    ``gather_predictions`` gives them. ``rates`` is a table of ``measure``: by default the one that
    comes with the package. Raises ``InputError`` as ``compare``, and for folds with unequal seeds.
    """
    check_level(alpha)
    studies = _one_study(pair_runs(table, a, b, metric), a, b, predictions)
    rates = measured() if rates is None else rates
    rows = [_row(test, studies, alpha, rates) for test in TESTS.values()]
    return pd.DataFrame(rows)


def _one_study(pairs: pd.DataFrame, a: str, b: str, predictions: pd.DataFrame | None) -> Studies:
    """The runs of a and b as a single study: arrays (1, K, S)."""
    grids = {
        side: pairs.pivot(index="fold", columns="seed", values=f"score_{side}") for side in "ab"
    }
    if grids["a"].isna().any(axis=None):
        raise InputError("the usual tests need every seed in every fold: run those missing")
    if len(grids["a"]) < 2:
        raise InputError("the runs have 1 fold, but tests of new data need at least 2")
    shape = (1, *grids["a"].shape)
    only_a, only_b, n_test = _wins(predictions, a, b, shape)
    scores = [grids[side].to_numpy(np.float64)[None] for side in "ab"]
    return Studies(scores[0], scores[1], only_a, only_b, n_test, overlap(pairs), count_draws(pairs))


def _wins(
    predictions: pd.DataFrame | None, a: str, b: str, shape: tuple[int, ...]
) -> tuple[Floats, Floats, float]:
    """Utterances that only a, and only b, got right: (1, K, S), and their mean number."""
    if predictions is None:
        unknown = np.full(shape, np.nan)
        return unknown, unknown, 1.0
    need_columns(predictions, PREDICTIONS, "the frame of predictions")
    right = predictions.assign(right=predictions["label"] == predictions["predicted"])
    sides = [
        right[right["configuration"] == name].set_index(["fold", "seed", "id"])["right"]
        for name in (a, b)
    ]
    if not sides[0].index.sort_values().equals(sides[1].index.sort_values()):
        raise InputError(f"{a} and {b} did not predict the same utterances in the same runs")
    won_a = sides[0]
    won_b = sides[1].reindex(won_a.index)
    counts = [
        side.groupby(level=["fold", "seed"]).sum().unstack("seed").to_numpy(np.float64)[None]
        for side in (won_a & ~won_b, won_b & ~won_a)
    ]
    if counts[0].shape != shape:
        raise InputError(f"predictions are of {counts[0].shape[1:]} folds x seeds, not {shape[1:]}")
    return counts[0], counts[1], len(won_a) / (shape[1] * shape[2])


def _row(test: UsualTest, studies: Studies, alpha: float, rates: pd.DataFrame) -> dict[str, object]:
    """One test on one study, beside its measured rates."""
    runs = not (test.name == MCNEMAR and np.isnan(studies.only_a).any())
    found = test.run(studies, ANY_MARGIN, alpha) if runs else {"p_difference": np.full(1, np.nan)}
    p = float(found["p_difference"][0])
    parts = split_scenarios(rates[rates["test"] == test.name])
    plain, real = (part["false_positives"] for part in parts)
    return {
        "test": test.name,
        "replicates": test.replicates,
        "statistic": float(found["statistic"][0]) if runs else np.nan,
        "p": p if test.has_p else np.nan,
        "says": "" if np.isnan(p) else "different" if p < alpha else "not significant",
        "low": float(found["low"][0]) if "low" in found else np.nan,
        "high": float(found["high"][0]) if "high" in found else np.nan,
        "false_positives_low": plain.min(), "false_positives_high": plain.max(),
        "overlap_low": real.min(), "overlap_high": real.max(),
        "flaw": test.flaw, "default": test.name == DEFAULT,
    }  # fmt: skip
