"""From replicates of a difference to evidence and a verdict, for one study or thousands at once.

Replicates are the numbers taken to be independent: a mean difference a fold, or a run. With their
mean ``m``, standard deviation ``s`` and number ``K``,

    se = s * sqrt(factor),   df = K - 1 (unless given)

where ``factor`` is 1/K for independent replicates and 1/K + n_test/n_learn for folds of a
cross-validation, whose training parts overlap (Nadeau & Bengio 2003).

**No spread.** Replicates that are all 0 come from two copies of one model: se is 0, and a gap
beyond the margin is ruled out. Replicates that agree on any other number say nothing about how far
they would spread, so se is infinite and nothing is shown: with two folds of 40 utterances, two
models of the same quality agree like this in several percent of studies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from mmer_lib.errors import InputError
from mmer_lib.stats.tables import Floats

VERDICTS = ("different", "equivalent", "different but within the margin", "inconclusive")
ROUNDING = 1e-12  # a spread or difference below this is an error of floating-point sums


def judge(
    differences: Floats, factor: float, margin: float, alpha: float, df: int | None = None
) -> dict[str, Floats]:
    """Both tests, intervals and posterior for replicates (..., K): a dict of arrays (...).

    ``t``, ``p_difference`` are the t test with the variance ``factor``, ``t_plain``, ``p_plain``
    the one with 1/K; ``p_equivalence`` is that of two one-sided tests (Schuirmann 1987). With a
    flat prior the posterior's tails ``left``, ``right`` beyond the margin are their p values
    (Corani & Benavoli 2015).
    """
    k = differences.shape[-1]
    df = k - 1 if df is None else df
    mean = _snap(differences.mean(axis=-1))
    spread = _snap(differences.std(axis=-1, ddof=1))
    spread = np.where((spread == 0) & (mean != 0), np.inf, spread)
    se, plain = spread * math.sqrt(factor), spread / math.sqrt(k)
    t, t_plain = over(mean, se), over(mean, plain)
    left = stats.t.sf(over(mean + margin, se), df)
    right = stats.t.cdf(over(mean - margin, se), df)
    wide, narrow = stats.t.ppf(1 - alpha / 2, df) * se, stats.t.ppf(1 - alpha, df) * se
    return {
        "difference": mean, "se": se,
        "low": mean - wide, "high": mean + wide,
        "low_equivalence": mean - narrow, "high_equivalence": mean + narrow,
        "t": t, "p_difference": 2 * stats.t.sf(abs(t), df),
        "t_plain": t_plain, "p_plain": 2 * stats.t.sf(abs(t_plain), k - 1),
        "p_equivalence": np.maximum(left, right), "smallest_margin": abs(mean) + narrow,
        "left": left, "inside": np.clip(1 - left - right, 0, 1), "right": right,
    }  # fmt: skip


def decide(p_difference: float, p_equivalence: float, alpha: float) -> str:
    """One of ``VERDICTS`` from the two tests at level ``alpha``."""
    differ, same = p_difference < alpha, p_equivalence < alpha
    if differ:
        return "different but within the margin" if same else "different"
    return "equivalent" if same else "inconclusive"


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's step-down correction: adjusted p values in the given order.

    Raises ``InputError`` for none, or a value outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests  # heavy

    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"holm: expected a list of p values in [0, 1], not {p.tolist()}")
    return np.asarray(multipletests(p, method="holm")[1], dtype=np.float64)


def check_level(alpha: float) -> None:
    """Raise ``InputError`` for an error rate that is none."""
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha={alpha}: expected a level between 0 and 0.5, e.g. 0.05")


def check_share(name: str, value: float) -> None:
    """Raise ``InputError`` unless ``value``, a margin say, is above 0 and below 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}={value}: expected a share above 0 and below 1; a point is 0.01")


def over(effect: Floats, se: Floats) -> Floats:
    """effect / se, where a standard error of 0 gives 0 for no effect and else infinity."""
    certain = np.where(effect == 0, 0.0, np.copysign(np.inf, effect))
    return np.divide(effect, se, out=certain, where=se > 0)


def _snap(values: Floats) -> Floats:
    """Values with the rounding error of a sum of shares removed around zero."""
    return np.where(abs(values) < ROUNDING, 0.0, values)
