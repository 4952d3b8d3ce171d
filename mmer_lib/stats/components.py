"""Where the spread of scores comes from: folds, fold x configuration, seeds.

The model, fitted in points to all runs of some configurations on the same folds and seeds:

    score ~ configuration + (1 | fold) + (1 | fold:configuration) + residual (seeds)

Two roads lead to its components. REML (statsmodels' mixed model) is asked first. Its optimisers can
stop early and return variances, or even fixed effects, of 0 without a word when a variance is tiny,
so its answer is taken only if

1. it says that it converged, with the fixed effects equal to the raw differences of means;
2. where all components of the analysis of variance are above 0, it agrees with them: in a balanced
   design the two are then the same estimate, in an uneven one they are near each other.

Otherwise the analysis of variance (unweighted means, Searle et al. 1992) answers, and ``note`` says
so. A component that it finds below 0 is one that cannot be told from 0.

A comparison sees only differences. ``difference_fold`` and ``difference_seed`` are the deviations
of a - b between folds and between the seeds of a fold, averaged over pairs of configurations; what
two runs of one seed share has dropped out of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmer_lib.errors import InputError
from mmer_lib.stats.tables import Floats, count_draws, overlap, read_scores

AGREEMENT = 0.02  # REML and the analysis of variance may differ by this share of a variance
UNEVEN = 0.5  # the same, where folds have unequal numbers of seeds and the estimates are two


@dataclass(frozen=True)
class Components:
    """Standard deviations in shares; ``overlap`` is n_test / n_learn, 1/(K - 1) for equal folds.

    ``n_folds`` are those of one draw, of which there are ``n_repeats``.
    ``largest_gap``: by how many points the fixed effects miss the raw differences of means.
    """

    configurations: tuple[str, ...]
    metric: str
    n_folds: int
    n_seeds: float  # harmonic mean over folds
    overlap: float
    fold: float
    interaction: float
    seed: float
    difference_fold: float
    difference_seed: float
    method: str = "given"
    largest_gap: float = math.nan
    note: str = ""
    n_repeats: int = 1

    def shares(self) -> pd.Series[float]:
        """How much of a run's variance each component is: they sum to 1."""
        names = {"fold": "fold", "interaction": "fold x configuration", "seed": "seed"}
        variances = pd.Series({text: getattr(self, name) ** 2 for name, text in names.items()})
        return variances / variances.sum() if variances.sum() > 0 else variances

    def sentence(self) -> str:
        """The components in words."""
        parts = ", ".join(f"{100 * share:.0f} % {name}" for name, share in self.shares().items())
        run = 100 * math.sqrt(self.fold**2 + self.interaction**2 + self.seed**2)
        text = (
            f"A run of {self.metric.replace('_', ' ')} deviates by {run:.2f} points: {parts}. "
            f"A difference deviates by {100 * self.difference_fold:.2f} points between folds and "
            f"{100 * self.difference_seed:.2f} between seeds of a fold ({self.method})."
        )
        return f"{text} {self.note}".strip()


def variance_components(
    table: pd.DataFrame,
    metric: str = "balanced_accuracy",
    configurations: Sequence[str] | None = None,
) -> Components:
    """Components of the runs of ``configurations`` (all by default, at least two).

    Raises ``InputError`` as ``compare`` for tables that cannot be read, for fewer than two
    configurations, folds, or seeds in every fold, for runs that only some configurations have, and
    for scores that are all the same.
    """
    rows = read_scores(table, metric, configurations)
    runs = _grid(rows, metric)
    moments = _moments(runs)
    points, method, gap, note = _choose(runs, moments)
    return Components(
        configurations=tuple(map(str, runs.columns)), metric=metric,
        n_folds=moments.n_folds // count_draws(rows), n_repeats=count_draws(rows),
        n_seeds=moments.n_seeds, overlap=overlap(rows),
        fold=points[0] / 100, interaction=points[1] / 100, seed=points[2] / 100,
        difference_fold=moments.difference_fold / 100,
        difference_seed=moments.difference_seed / 100,
        method=method, largest_gap=gap, note=note,
    )  # fmt: skip


@dataclass(frozen=True)
class _Moments:
    """The analysis of variance, in squared points; an estimate below 0 is left as it is."""

    n_folds: int
    n_seeds: float
    variances: tuple[float, float, float]  # fold, fold x configuration, seed
    difference_fold: float  # deviations in points
    difference_seed: float

    def deviations(self) -> tuple[float, float, float]:
        """What is below 0 is 0."""
        fold, interaction, seed = (math.sqrt(max(v, 0.0)) for v in self.variances)
        return fold, interaction, seed


def _grid(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Scores in points: a row a (fold, seed), a column a configuration, without holes."""
    runs = 100 * rows.pivot(index=["fold", "seed"], columns="configuration", values="score")
    if runs.shape[1] < 2:
        raise InputError("variance components need at least 2 configurations: there is 1")
    holes = runs.isna()
    if holes.any(axis=None):
        name = holes.any().idxmax()
        fold, seed = runs.index[int(holes[name].to_numpy().argmax())]
        raise InputError(f"{name} lacks fold {fold} seed {seed}, which other configurations have")
    seeds = runs.groupby(level="fold").size()
    if len(seeds) < 2:
        raise InputError("the runs have 1 fold: the spread between folds needs at least 2")
    if seeds.min() < 2:
        raise InputError(
            f"fold {seeds.idxmin()} has 1 seed: the spread between seeds needs at least 2 in a fold"
        )
    if np.ptp(runs.to_numpy()) == 0:
        score = float(runs.to_numpy()[0, 0])
        raise InputError(f"constant scores: {metric} is {score:g} % in every run")
    return runs


def _moments(runs: pd.DataFrame) -> _Moments:
    """Unweighted-means analysis of variance of fold x configuration with seeds in the cells."""
    folds = runs.groupby(level="fold")
    cells, seeds = folds.mean(), folds.size()  # (K, C), (K,)
    k, c, s = len(cells), cells.shape[1], float(1 / (1 / seeds).mean())
    within = (runs - folds.transform("mean")).to_numpy()  # (N, C)
    free = len(runs) - k
    seed = float((within**2).sum() / (c * free))
    alone = within - within.mean(axis=1, keepdims=True)  # without what runs of a seed share
    alone_seed = float((alone**2).sum() / ((c - 1) * free))
    means = cells.to_numpy()
    rows = means.mean(axis=1, keepdims=True)
    crossed = means - rows - means.mean(axis=0) + means.mean()
    both = float((crossed**2).sum() / ((k - 1) * (c - 1)))
    fold = float(rows.var(ddof=1)) - both / c
    return _Moments(
        n_folds=k, n_seeds=s, variances=(fold, both - seed / s, seed),
        difference_fold=math.sqrt(max(2 * (both - alone_seed / s), 0)),
        difference_seed=math.sqrt(2 * alone_seed),
    )  # fmt: skip


def _choose(
    runs: pd.DataFrame, moments: _Moments
) -> tuple[tuple[float, float, float], str, float, str]:
    """Deviations in points, the method, the gap of the fixed effects in points, and a note."""
    fitted = _fit_mixed_model(runs)
    if fitted is None:
        why = "the mixed model did not converge"
    elif fitted[1] > _tolerance(runs, moments):
        why = f"the mixed model's effects miss the raw means by {fitted[1]:.3g} points"
    elif not _agree(runs, fitted[0], moments):
        why = "the mixed model contradicts the analysis of variance"
    else:
        fold, interaction, seed = map(float, np.sqrt(np.maximum(fitted[0], 0)))
        return (fold, interaction, seed), "mixed model, REML", fitted[1], ""
    gap = math.nan if fitted is None else fitted[1]
    return moments.deviations(), "analysis of variance", gap, f"({why}.)"


def _tolerance(runs: pd.DataFrame, moments: _Moments) -> float:
    """How far fixed effects may lie from raw means: uneven seeds weigh folds differently."""
    spread = moments.difference_fold + moments.difference_seed
    return 1e-3 if _balanced(runs) else max(1e-3, 0.5 * spread / math.sqrt(moments.n_folds))


def _agree(runs: pd.DataFrame, reml: Floats, moments: _Moments) -> bool:
    """Whether both methods say the same, where the design says that they must."""
    if min(moments.variances) <= 0:
        return True
    near = AGREEMENT if _balanced(runs) else UNEVEN
    return bool(np.allclose(reml, moments.variances, rtol=near, atol=1e-4))


def _balanced(runs: pd.DataFrame) -> bool:
    return bool(runs.groupby(level="fold").size().nunique() == 1)


def _fit_mixed_model(runs: pd.DataFrame) -> tuple[Floats, float] | None:
    """REML variances (fold, fold x configuration, seed) and the gap of the fixed effects.

    None where the optimiser gives up.
    """
    from statsmodels.formula.api import mixedlm  # heavy

    names = {name: f"c{i:04d}" for i, name in enumerate(map(str, runs.columns))}
    long = runs.rename(columns=names).reset_index().melt(["fold", "seed"], value_name="score")
    means = runs.groupby(level="fold").mean().mean().to_numpy()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # boundary and convergence: judged by the caller
        try:
            model = mixedlm(
                "score ~ 0 + configuration", long, groups="fold", re_formula="1",
                vc_formula={"configuration": "0 + C(configuration)"},
            )  # fmt: skip
            fit = model.fit(reml=True, method=["nm", "bfgs"])
        except (np.linalg.LinAlgError, ValueError):
            return None
    found = np.array([float(fit.cov_re.iloc[0, 0]), float(fit.vcomp[0]), float(fit.scale)])
    effects = np.asarray(fit.fe_params, dtype=np.float64)
    if not (fit.converged and np.isfinite(found).all()):
        return None
    gap = (effects - effects[0]) - (means - means[0])
    return found, float(abs(gap).max())
