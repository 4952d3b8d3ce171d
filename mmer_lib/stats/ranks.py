"""Mean ranks over folds, after Demsar (2006): a picture of the order, not the test.

In each fold the configurations are ranked by their mean over seeds (1 is best, ties share their
ranks). With k configurations, N folds and mean ranks R_j,

    chi2 = 12 N / (k (k + 1)) * (sum R_j^2 - k (k + 1)^2 / 4),   df = k - 1    (Friedman)
    F    = (N - 1) chi2 / (N (k - 1) - chi2),   df = k - 1, (k - 1)(N - 1)     (Iman-Davenport)
    CD   = q_alpha * sqrt(k (k + 1) / (6 N))                                   (Nemenyi)

with q_alpha the studentized range over sqrt(2). These take folds as independent, which those of a
cross-validation are not, and forget how far apart two scores are: they order, and a verdict comes
from ``compare_all``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import stats

from mmer_lib.errors import InputError
from mmer_lib.stats.evidence import check_level
from mmer_lib.stats.tables import fold_means


@dataclass(frozen=True)
class Ranks:
    """Mean ranks (best first) over ``n_blocks`` folds, and what Demsar's procedure makes of them.

    ``critical_difference``: two mean ranks closer than this are joined in the diagram.
    """

    mean_ranks: pd.Series[float]
    n_blocks: int
    alpha: float
    chi2: float
    p_chi2: float
    f: float
    df: tuple[int, int]
    p_f: float
    critical_difference: float
    metric: str = ""

    def groups(self) -> list[tuple[str, ...]]:
        """The largest sets of neighbours within the critical difference; none of one alone."""
        names = [str(name) for name in self.mean_ranks.index]
        ranks = self.mean_ranks.to_numpy()
        found: list[tuple[str, ...]] = []
        reached = 0
        for first, rank in enumerate(ranks):
            last = int((ranks < rank + self.critical_difference).sum())
            if last > max(reached, first + 1):
                found.append(tuple(names[first:last]))
                reached = last
        return found


def rank_configurations(
    table: pd.DataFrame, metric: str = "balanced_accuracy", alpha: float = 0.05
) -> Ranks:
    """Mean ranks of all configurations of a table of runs; folds are the blocks.

    Raises ``InputError`` for fewer than two configurations or folds, and for a configuration that
    lacks a fold.
    """
    means = fold_means(table, metric)
    holes = means.isna()
    if holes.any(axis=None):
        name = holes.any().idxmax()
        folds = ", ".join(map(str, means.index[holes[name]]))
        raise InputError(f"{name} has no run on fold {folds}: ranks need every fold of each")
    ranks = means.rank(axis=1, ascending=False).mean()
    return judge_ranks(ranks, len(means), alpha, metric)


def judge_ranks(
    mean_ranks: pd.Series[float] | Sequence[float],
    n_blocks: int,
    alpha: float = 0.05,
    metric: str = "",
) -> Ranks:
    """Friedman, Iman-Davenport and Nemenyi from mean ranks over ``n_blocks`` blocks.

    No correction for ties, as in Demsar's worked example. Raises ``InputError`` for fewer than two
    ranks or blocks, and for mean ranks whose sum is not k (k + 1) / 2.
    """
    check_level(alpha)
    ranks = pd.Series(mean_ranks, dtype=float).sort_values(kind="stable")
    k, n = len(ranks), n_blocks
    if k < 2 or n < 2:
        raise InputError(f"{k} configurations on {n} folds: ranks need at least 2 of each")
    if abs(ranks.sum() - k * (k + 1) / 2) > 0.002 * k:  # printed ranks are rounded
        raise InputError(f"mean ranks of {k} must sum to {k * (k + 1) / 2:g}, not {ranks.sum():g}")
    chi2 = 12 * n / (k * (k + 1)) * (float((ranks**2).sum()) - k * (k + 1) ** 2 / 4)
    rest = n * (k - 1) - chi2
    f = (n - 1) * chi2 / rest if rest > 1e-9 else math.inf  # all folds agree on the order
    df = (k - 1, (k - 1) * (n - 1))
    return Ranks(
        mean_ranks=ranks, n_blocks=n, alpha=alpha, metric=metric,
        chi2=chi2, p_chi2=float(stats.chi2.sf(chi2, k - 1)),
        f=f, df=df, p_f=float(stats.f.sf(f, *df)),
        critical_difference=critical_difference(k, n, alpha),
    )  # fmt: skip


def critical_difference(k: int, n_blocks: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of the mean ranks of ``k`` configurations."""
    q = float(stats.studentized_range.ppf(1 - alpha, k, math.inf)) / math.sqrt(2)
    return q * math.sqrt(k * (k + 1) / (6 * n_blocks))
