"""The tests that papers use, for many studies of two configurations at once.

``Studies`` holds R studies of K folds x S seeds: scores ``a``, ``b`` (R, K, S), and how many test
utterances only a, or only b, got right: ``only_a``, ``only_b`` (R, K, S). Every test of ``TESTS``
takes studies, a margin and a level, and gives arrays (R,) by name; a name it does not give is one
that the test does not have:

- ``p_difference``: two-sided, of no difference;
- ``low``, ``high``: the interval for the difference of the scores;
- ``p_equivalence``: of a difference beyond the margin (the test's own standard error, two
  one-sided tests);
- ``statistic``.

Only the one named ``DEFAULT`` decides in this package. The others are here to be measured
(``calibration``) and shown beside it (``habits``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import stats

from mmer_lib.stats.evidence import judge, over
from mmer_lib.stats.tables import Floats

Evidence = dict[str, Floats]
Singles = npt.NDArray[np.float32]

RESAMPLES = 1000  # of the hierarchical bootstrap
ASO_RESAMPLES = 100  # for the deviation of a violation ratio; more change little
ASO_LIMIT = 0.5


@dataclass(frozen=True)
class Studies:
    """R studies: ``a``, ``b``, ``only_a``, ``only_b`` (R, K, S); ``overlap`` = n_test/n_learn."""

    a: Floats
    b: Floats
    only_a: Floats
    only_b: Floats
    n_test: float
    overlap: float
    n_repeats: int = 1  # draws of the folds, whose folds K counts together

    @property
    def differences(self) -> Floats:
        """a - b: (R, K, S)."""
        return self.a - self.b

    def shifted(self, gap: float) -> Studies:
        """The same studies had a been better by ``gap``, in every run."""
        won = 0.5 * gap * self.n_test
        return replace(self, a=self.a + gap, only_a=self.only_a + won, only_b=self.only_b - won)


@dataclass(frozen=True)
class UsualTest:
    """A test by name: what it takes for replicates, what is wrong with that, and how it is run."""

    name: str
    replicates: str
    flaw: str
    run: Callable[[Studies, float, float], Evidence]
    has_p: bool = True


def paired_t_on_runs(studies: Studies, margin: float, alpha: float) -> Evidence:
    """Paired t over all K x S runs as if they were independent."""
    return _t(_flat(studies.differences), 0.0, margin, alpha)


def paired_t_on_folds(studies: Studies, margin: float, alpha: float) -> Evidence:
    """Paired t over the K fold means, as if the folds were independent."""
    return _t(studies.differences.mean(axis=2), 0.0, margin, alpha)


def corrected_t_on_folds(studies: Studies, margin: float, alpha: float) -> Evidence:
    """The default: over fold means, corrected for overlapping training parts."""
    means = studies.differences.mean(axis=2)
    df = means.shape[1] // studies.n_repeats - 1
    return _t(means, studies.overlap, margin, alpha, df)


def corrected_t_on_runs(studies: Studies, margin: float, alpha: float) -> Evidence:
    """The corrected t over all runs, df K S - 1 (Nadeau & Bengio's as often used)."""
    return _t(_flat(studies.differences), studies.overlap, margin, alpha)


def _t(
    replicates: Floats, overlap: float, margin: float, alpha: float, df: int | None = None
) -> Evidence:
    found = judge(replicates, 1 / replicates.shape[-1] + overlap, margin, alpha, df)
    kept = ("p_difference", "low", "high", "p_equivalence")
    return {"statistic": found["t"]} | {name: found[name] for name in kept}


def wilcoxon_on_runs(studies: Studies, margin: float, alpha: float) -> Evidence:
    """Wilcoxon's signed ranks over all runs (normal approximation, zeros left out)."""
    differences = _flat(studies.differences)
    p, w = np.ones(len(differences)), np.zeros(len(differences))
    some = (differences != 0).any(axis=1)
    if some.any():
        found = stats.wilcoxon(differences[some], axis=1, method="asymptotic")
        p[some], w[some] = found.pvalue, found.statistic
    return {"statistic": w, "p_difference": p}


def mcnemar_pooled(studies: Studies, margin: float, alpha: float) -> Evidence:
    """McNemar's chi2 (uncorrected) over every test utterance of every run, seeds pooled."""
    wins, losses = _flat(studies.only_a).sum(axis=1), _flat(studies.only_b).sum(axis=1)
    total = studies.n_test * _flat(studies.a).shape[1]
    difference = (wins - losses) / total
    se = np.sqrt(wins + losses) / total
    chi2 = over(difference, se) ** 2
    spread = np.sqrt(np.maximum(wins + losses - (wins - losses) ** 2 / total, 0)) / total
    found = _z(difference, spread, margin, alpha)
    return found | {"statistic": chi2, "p_difference": stats.chi2.sf(chi2, 1)}


def mixed_model_wald(studies: Studies, margin: float, alpha: float) -> Evidence:
    """score ~ configuration + (1 | fold) by REML, Wald's z; closed form for a balanced design."""
    y = np.stack([studies.a, studies.b], axis=1)  # (R, 2, K, S)
    k, s = y.shape[2:]
    grand = y.mean(axis=(1, 2, 3), keepdims=True)
    folds = y.mean(axis=(1, 3), keepdims=True) - grand
    configurations = y.mean(axis=(2, 3), keepdims=True) - grand
    within = ((y - grand - folds - configurations) ** 2).sum(axis=(1, 2, 3))
    between = 2 * s * (folds**2).sum(axis=(1, 2, 3))
    df_within, df_between = 2 * k * s - k - 1, k - 1
    variance = within / df_within
    pooled = (within + between) / (df_within + df_between)  # a fold variance of 0
    variance = np.where(between / df_between > variance, variance, pooled)
    difference = studies.differences.mean(axis=(1, 2))
    return _z(difference, np.sqrt(2 * variance / (k * s)), margin, alpha)


def hierarchical_bootstrap(studies: Studies, margin: float, alpha: float) -> Evidence:
    """Folds drawn with replacement, seeds drawn within them; percentile interval."""
    differences = studies.differences
    weights = _bootstrap_weights(*differences.shape[1:])
    means = _flat(differences) @ weights.T  # (R, RESAMPLES)
    low, high = np.quantile(means, [alpha / 2, 1 - alpha / 2], axis=1)
    one_sided = np.minimum((means <= 0).mean(axis=1), (means >= 0).mean(axis=1))
    return {
        "statistic": differences.mean(axis=(1, 2)),
        "p_difference": np.minimum(2 * one_sided, 1), "low": low, "high": high,
        "p_equivalence": np.maximum(
            (means <= -margin).mean(axis=1), (means >= margin).mean(axis=1)
        ),
    }  # fmt: skip


@lru_cache(maxsize=4)
def _bootstrap_weights(k: int, s: int) -> Floats:
    """What each run weighs in each resample: (RESAMPLES, K S), the same for every study."""
    rng = np.random.default_rng(0)
    folds = rng.integers(k, size=(RESAMPLES, k, 1))
    runs = folds * s + rng.integers(s, size=(RESAMPLES, k, s))  # (RESAMPLES, K, S)
    flat = runs.reshape(RESAMPLES, k * s) + k * s * np.arange(RESAMPLES)[:, None]
    counts = np.bincount(flat.ravel(), minlength=RESAMPLES * k * s)
    return counts.reshape(RESAMPLES, k * s) / (k * s)


def almost_stochastic_order(studies: Studies, margin: float, alpha: float) -> Evidence:
    """Almost stochastic order over all runs, either way (Dror et al. 2019; limit .5).

    The statistic is the smaller of the two upper bounds on the violation ratio; there is no p
    value, so ``p_difference`` is 0 where the bound is below the limit and 1 elsewhere.
    """
    rng = np.random.default_rng(0)
    a, b = (_flat(x).astype(np.float32) for x in (studies.a, studies.b))
    n = a.shape[1]
    ratio = _violation(a, b)
    drawn = [rng.integers(n, size=(2, n)) for _ in range(ASO_RESAMPLES)]
    resampled = np.stack([_violation(a[:, one], b[:, two]) for one, two in drawn])
    bound = np.minimum(ratio, 1 - ratio) + stats.norm.ppf(1 - alpha) * resampled.std(axis=0)
    return {"statistic": bound, "p_difference": np.where(bound < ASO_LIMIT, 0.0, 1.0)}


def _violation(a: Singles, b: Singles) -> Floats:
    """The share of the squared quantile differences that speaks against a >= b: (R, n) -> (R,)."""
    gap = np.sort(a, axis=1) - np.sort(b, axis=1)
    against = (np.minimum(gap, 0) ** 2).sum(axis=1, dtype=np.float64)
    total = (gap**2).sum(axis=1, dtype=np.float64)
    ratio: Floats = np.divide(against, total, out=np.full(len(a), 0.5), where=total > 0)
    return ratio


def _z(difference: Floats, se: Floats, margin: float, alpha: float) -> Evidence:
    """A normal test, its interval and two one-sided tests."""
    z, wide = over(difference, se), stats.norm.ppf(1 - alpha / 2) * se
    left = stats.norm.sf(over(difference + margin, se))
    right = stats.norm.cdf(over(difference - margin, se))
    return {
        "statistic": z, "p_difference": 2 * stats.norm.sf(abs(z)),
        "low": difference - wide, "high": difference + wide,
        "p_equivalence": np.maximum(left, right),
    }  # fmt: skip


def _flat(values: Floats) -> Floats:
    """(R, K, S) -> (R, K S)."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


_SHARED = "runs on one fold share its test part"
DEFAULT = "corrected resampled t, fold means"
TESTS: dict[str, UsualTest] = {
    test.name: test
    for test in (
        UsualTest("paired t, all runs", "runs", _SHARED, paired_t_on_runs),
        UsualTest("Wilcoxon, all runs", "runs", _SHARED, wilcoxon_on_runs),
        UsualTest(
            "McNemar, seeds pooled", "utterances",
            "an utterance is counted once a seed, and models differ from fold to fold",
            mcnemar_pooled,
        ),
        UsualTest(
            "mixed model, fold intercept, Wald", "runs",
            "a configuration that suits a fold better is taken for noise between runs",
            mixed_model_wald,
        ),
        UsualTest(
            "hierarchical bootstrap", "folds, then seeds",
            "few folds resample to too little spread, and their overlap is ignored",
            hierarchical_bootstrap,
        ),
        UsualTest(
            "almost stochastic order, eps < .5", "runs",
            _SHARED + ", and a bound on a ratio is no error rate", almost_stochastic_order,
            has_p=False,
        ),
        UsualTest(
            "paired t, fold means", "folds", "training parts of folds overlap", paired_t_on_folds
        ),
        UsualTest(DEFAULT, "folds", "", corrected_t_on_folds),
        UsualTest(
            "corrected resampled t, all runs", "runs",
            "the spread between runs stands for that between folds: safe, hardly ever sure",
            corrected_t_on_runs,
        ),
    )
}  # fmt: skip
