"""From a table of runs to a verdict: is configuration a different from b, or as good as the same?

The table has one row a run: ``configuration``, ``fold``, ``seed`` and any scores that are shares in
[0, 1]. With K folds and S seeds, a comparison first averages over seeds within a fold,
``d_k = mean_s(a_ks - b_ks)``, because for a claim about new data the folds are the replicates and
runs are not. Then, with one standard error for everything,

    se = s_d * sqrt(1/K + n_test/n_learn),   df = K - 1

(Nadeau & Bengio 2003; n_learn counts train and dev, both decide the fitted model; without counts
n_test/n_learn is 1/(K - 1)), it asks two questions that are not each other's opposite:

- is there a difference? The corrected resampled t test;
- is it smaller than a margin? Two one-sided tests (Schuirmann 1987), and beside them the posterior
  of the correlated t (Corani & Benavoli 2015) with the margin as region of practical equivalence.

Everything is a share: one point is 0.01. A difference is always a - b.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mmer_lib.errors import InputError, unknown

Floats = npt.NDArray[np.float64]

KEYS = ("configuration", "fold", "seed")
STUDY = ("corpus", "fingerprint", "protocol", "n_folds")  # what runs of one study have in common
COUNTS = ("n_train", "n_dev", "n_test")  # utterances; the first two are what a fit learns from
ESTIMANDS = ("new data", "new seeds")
VERDICTS = ("different", "equivalent", "different but within the margin", "inconclusive")
ROUNDING = 1e-12  # a spread or difference below this is an error of floating-point sums

# What "new data" means, by how the folds were drawn.
_CLAIMS = {
    "random": "new utterances from the same speakers and dialogues (folds over utterances)",
    "by-speaker": "new speakers like these",
    "by-dialogue": "new dialogues like these",
}


@dataclass(frozen=True)
class Comparison:
    """The evidence on a - b in one metric, and its verdict. Shares throughout: 0.01 is a point.

    ``low``, ``high``: the 1 - alpha interval; ``low_equivalence``, ``high_equivalence``: the
    1 - 2 alpha interval, which lies inside the margin exactly when the equivalence test rejects.
    ``left``, ``inside``, ``right``: posterior probabilities that a - b is below -margin, within it,
    above margin. ``t_plain``, ``p_plain``: the plain paired t on the replicates, a sensitivity
    check. ``p_holm``: ``p_difference`` after Holm's correction, where several were planned.
    """

    a: str
    b: str
    metric: str
    estimand: str
    margin: float
    alpha: float
    n_folds: int
    n_seeds: int
    mean_a: float
    mean_b: float
    differences: tuple[float, ...]  # the replicates: one a fold ("new seeds": one a seed)
    difference: float
    se: float
    df: int
    low: float
    high: float
    low_equivalence: float
    high_equivalence: float
    t: float
    p_difference: float
    t_plain: float
    p_plain: float
    p_equivalence: float
    smallest_margin: float
    left: float
    inside: float
    right: float
    verdict: str
    caveats: tuple[str, ...] = ()
    p_holm: float | None = None

    def sentence(self) -> str:
        """The result in words that a paper could print, with the caveats that apply."""
        points, level = 100 * self.margin, 100 * (1 - self.alpha)
        test = "corrected resampled t" if self.estimand == "new data" else "paired t over seeds"
        holm = "" if self.p_holm is None else f", after Holm {_p(self.p_holm)}"
        found = (
            f"{self.a} against {self.b}, {self.metric.replace('_', ' ')}: "
            f"{100 * self.difference:+.2f} points ({level:g} % interval "
            f"{100 * self.low:+.2f} to {100 * self.high:+.2f}; {_count(self.n_folds, 'fold')} x "
            f"{_count(self.n_seeds, 'seed')}; {test}({self.df}) = {self.t:.2f}, "
            f"{_p(self.p_difference)}{holm})."
        )
        ahead = self.a if self.difference > 0 else self.b
        margin = _count(points, "point")
        judged = {
            "different": f"{ahead} is ahead; a gap of less than {margin} is not shown",
            "equivalent": f"a gap of {margin} or more, either way, is ruled out",
            "different but within the margin": f"{ahead} is ahead, by less than {margin}",
            "inconclusive": f"neither a difference nor a gap of less than {margin} is shown, "
            "and 'not significant' is not 'the same'",
        }[self.verdict]
        judged = (
            f"Verdict: {self.verdict} - {judged} (equivalence {_p(self.p_equivalence)}; smallest "
            f"margin that would pass: {100 * self.smallest_margin:.2f} points)."
        )
        return " ".join([found, judged, *self.caveats])

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a number that is not finite becomes None."""

        def plain(value: Any) -> Any:
            if isinstance(value, tuple):
                return list(value)
            return None if isinstance(value, float) and not math.isfinite(value) else value

        return {name: plain(value) for name, value in asdict(self).items()}


def compare(
    table: pd.DataFrame,
    a: str,
    b: str,
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> Comparison:
    """Compare configurations ``a`` and ``b``, run on the same folds and seeds.

    ``estimand`` "new data" takes folds as the replicates (at least 2 are needed); "new seeds" asks
    only about other seeds on these very folds and takes seeds as the replicates (at least 2).

    Raises ``InputError`` for unknown names, folds or seeds that one side lacks, too few
    replicates, scores that are missing or outside [0, 1], rows of more than one study, and a
    margin or alpha out of range.
    """
    _check_settings(margin, alpha, estimand)
    pairs = _paired(table, a, b, metric)
    differences = _replicates(pairs, estimand)
    factor = 1 / len(differences) + (_overlap(pairs) if estimand == "new data" else 0.0)
    evidence = {k: float(v) for k, v in judge(differences, factor, margin, alpha).items()}
    return Comparison(
        a=a, b=b, metric=metric, estimand=estimand, margin=margin, alpha=alpha,
        n_folds=pairs["fold"].nunique(),
        n_seeds=int(pairs.groupby("fold")["seed"].nunique().max()),
        mean_a=float(pairs.groupby("fold")["score_a"].mean().mean()),
        mean_b=float(pairs.groupby("fold")["score_b"].mean().mean()),
        differences=tuple(map(float, differences)),
        df=len(differences) - 1,
        verdict=decide(evidence["p_difference"], evidence["p_equivalence"], alpha),
        caveats=_caveats(pairs, estimand, alpha, evidence["se"]),
        **evidence,
    )  # fmt: skip


def compare_planned(
    table: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> pd.DataFrame:
    """Planned comparisons, a row a pair, the difference tests corrected by Holm.

    Columns are the fields of :class:`Comparison` (verdicts use ``p_holm``; intervals and the
    equivalence tests are each on their own) and ``sentence``. Raises as :func:`compare`, and for
    no pair or one that is given twice.
    """
    wanted = [tuple(pair) for pair in pairs]
    _check_pairs(wanted)
    alone = [compare(table, a, b, metric, margin, alpha, estimand) for a, b in wanted]
    corrected = holm([one.p_difference for one in alone])
    rows = [
        replace(one, p_holm=float(p), verdict=decide(float(p), one.p_equivalence, alpha))
        for one, p in zip(alone, corrected, strict=True)
    ]
    columns = [field.name for field in fields(Comparison)]
    values = [[getattr(row, name) for name in columns] for row in rows]
    return pd.DataFrame(values, columns=columns).assign(sentence=[row.sentence() for row in rows])


def planned_pairs(configurations: Iterable[str]) -> list[tuple[str, str]]:
    """The paper's question: each ``cross-X`` with its ``self-X``, where both are there."""
    names = list(dict.fromkeys(configurations))
    pairs = [(name, "self-" + name.removeprefix("cross-")) for name in names]
    return [(a, b) for a, b in pairs if a.startswith("cross-") and b in names]


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """Holm's step-down correction: adjusted p values in the given order.

    Raises ``InputError`` for none, or a value outside [0, 1].
    """
    from statsmodels.stats.multitest import multipletests  # heavy

    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise InputError(f"holm: expected a list of p values in [0, 1], not {p.tolist()}")
    return np.asarray(multipletests(p, method="holm")[1], dtype=np.float64)


def decide(p_difference: float, p_equivalence: float, alpha: float) -> str:
    """One of ``VERDICTS`` from the two tests at level ``alpha``."""
    differ, same = p_difference < alpha, p_equivalence < alpha
    if differ:
        return "different but within the margin" if same else "different"
    return "equivalent" if same else "inconclusive"


def judge(differences: Floats, factor: float, margin: float, alpha: float) -> dict[str, Floats]:
    """Both tests, intervals and posterior for replicates (..., K): a dict of arrays (...).

    ``factor`` is the variance of the mean in units of the replicates' variance: 1/K when they are
    independent, 1/K + n_test/n_learn for folds of a cross-validation. Works on many studies at
    once. No spread at all is legal: se is 0 and every p value follows from the mean alone.
    """
    k, df = differences.shape[-1], differences.shape[-1] - 1
    mean = _snap(differences.mean(axis=-1))
    spread = _snap(differences.std(axis=-1, ddof=1))
    se, plain = spread * math.sqrt(factor), spread / math.sqrt(k)
    t, t_plain = _over(mean, se), _over(mean, plain)
    # With a flat prior the posterior's tails beyond the margin are the two one-sided p values.
    left = stats.t.sf(_over(mean + margin, se), df)
    right = stats.t.cdf(_over(mean - margin, se), df)
    wide, narrow = stats.t.ppf(1 - alpha / 2, df) * se, stats.t.ppf(1 - alpha, df) * se
    return {
        "difference": mean, "se": se,
        "low": mean - wide, "high": mean + wide,
        "low_equivalence": mean - narrow, "high_equivalence": mean + narrow,
        "t": t, "p_difference": 2 * stats.t.sf(abs(t), df),
        "t_plain": t_plain, "p_plain": 2 * stats.t.sf(abs(t_plain), df),
        "p_equivalence": np.maximum(left, right), "smallest_margin": abs(mean) + narrow,
        "left": left, "inside": np.clip(1 - left - right, 0, 1), "right": right,
    }  # fmt: skip


def fold_means(table: pd.DataFrame, metric: str = "balanced_accuracy") -> pd.DataFrame:
    """Scores averaged over seeds: a row a fold, a column a configuration, NaN where none ran."""
    rows = _scores(table, metric)
    means = rows.groupby(["fold", "configuration"])["score"].mean().unstack("configuration")
    return means[list(rows["configuration"].unique())].rename_axis(columns=None)


def summary(
    table: pd.DataFrame, metric: str = "balanced_accuracy", alpha: float = 0.05
) -> pd.DataFrame:
    """Each configuration alone, a row each, in the table's order.

    Columns: ``configuration, mean, low, high, se, sd, n_folds, n_seeds, n_runs``.

    ``mean`` is the mean over folds of seed means; ``low`` and ``high`` its 1 - alpha interval for
    new data, with the standard error of :func:`compare` (NaN for one fold, where it cannot be
    known); ``sd`` is over runs, as the paper reports (0 for one run). These intervals do not decide
    a comparison: the folds are shared, so use :func:`compare`.
    """
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha={alpha}: expected a level between 0 and 0.5, e.g. 0.05")
    rows = _scores(table, metric)
    groups = rows.groupby("configuration", sort=False)
    return pd.DataFrame([_alone(str(name), group, alpha) for name, group in groups])


def _alone(name: str, runs: pd.DataFrame, alpha: float) -> dict[str, Any]:
    """A row of :func:`summary`."""
    means = runs.groupby("fold")["score"].mean().to_numpy()
    k, mean = len(means), float(means.mean())
    se = half = math.nan
    if k > 1:
        se = float(means.std(ddof=1)) * math.sqrt(1 / k + _overlap(runs))
        half = float(stats.t.ppf(1 - alpha / 2, k - 1)) * se
    return {
        "configuration": name, "mean": mean, "low": mean - half, "high": mean + half, "se": se,
        "sd": float(runs["score"].std(ddof=1)) if len(runs) > 1 else 0.0,
        "n_folds": k, "n_seeds": runs["seed"].nunique(), "n_runs": len(runs),
    }  # fmt: skip


def _paired(table: pd.DataFrame, a: str, b: str, metric: str) -> pd.DataFrame:
    """A row a (fold, seed): ``score_a``, ``score_b`` and the counts, or ``InputError``."""
    if a == b:
        raise InputError(f"{a!r} is compared with itself: name two configurations")
    rows = _scores(table, metric, [a, b])
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
            )
    shared = left.drop(columns=["configuration", "score"])
    pairs = shared.assign(score_a=left["score"], score_b=right["score"])
    if "n_test" in shared:
        pairs["n_test_b"] = right["n_test"]
    return pairs.reset_index()


def _scores(
    table: pd.DataFrame, metric: str, configurations: Sequence[str] | None = None
) -> pd.DataFrame:
    """Checked rows of ``configurations`` (all by default) with the metric as column ``score``."""
    if not len(table):
        raise InputError("the table of runs is empty: run `mmer sweep` first")
    for column in KEYS:
        if column not in table:
            have = ", ".join(map(str, table.columns))
            raise InputError(f"the table of runs has no column {column!r}; it has {have}")
    numeric = table.select_dtypes("number").columns.difference(list(KEYS))
    if metric not in numeric:
        raise unknown("metric", metric, numeric)
    names = table["configuration"]
    for name in configurations or ():
        if name not in set(names):
            raise unknown("configuration", name, names.unique())
    kept = [c for c in (*KEYS, *STUDY, *COUNTS) if c in table]
    rows = table[kept].assign(score=table[metric].astype(np.float64))
    if configurations is not None:
        rows = rows[names.isin(list(configurations))]
    _check_rows(rows, metric)
    return rows


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


def _replicates(pairs: pd.DataFrame, estimand: str) -> Floats:
    """The independent differences that ``estimand`` has: a fold's, or a seed's, mean of a - b."""
    unit = "fold" if estimand == "new data" else "seed"
    n = pairs[unit].nunique()
    if n < 2 and unit == "fold":
        raise InputError(
            "the runs have 1 fold, but a claim about new data needs at least 2 (folds are its "
            "replicates): run more folds, or ask about these very folds with estimand='new seeds'"
        )
    if n < 2:
        raise InputError("the runs have 1 seed, but a claim about new seeds needs at least 2")
    if unit == "seed" and len(pairs) != n * pairs["fold"].nunique():
        raise InputError(
            "a claim about new seeds needs every seed in every fold: run those missing"
        )
    differences = (pairs["score_a"] - pairs["score_b"]).groupby(pairs[unit]).mean()
    return differences.to_numpy(np.float64)


def _overlap(runs: pd.DataFrame) -> float:
    """n_test / n_learn, averaged over folds; 1 / (K - 1) for a table without counts."""
    if "n_test" not in runs or "n_train" not in runs:
        return 1 / (runs["fold"].nunique() - 1)
    learn = runs[[c for c in ("n_train", "n_dev") if c in runs]].sum(axis=1)
    return float((runs["n_test"] / learn).groupby(runs["fold"]).mean().mean())


def _caveats(pairs: pd.DataFrame, estimand: str, alpha: float, se: float) -> tuple[str, ...]:
    """What a reader must know beside the numbers, a sentence each; the first names the estimand."""
    k = pairs["fold"].nunique()
    planned = int(pairs["n_folds"].iloc[0]) if "n_folds" in pairs else k
    smallest = 2 / 2**k  # two-sided p of a sign-flip test whose K differences all agree in sign
    uneven = pairs.groupby("fold")["seed"].nunique().nunique() > 1
    unlike = "n_test_b" in pairs and bool((pairs["n_test"] != pairs["n_test_b"]).any())
    said = {
        _claim(pairs, estimand): True,
        f"With {k} folds an exact sign-flip or Wilcoxon test on the fold means can never reject "
        f"(its smallest p is {smallest:g}).": estimand == "new data" and smallest > alpha,
        f"Only {k} of the {planned} folds have been run.": k < planned,
        "Folds have unequal numbers of seeds; each fold counts the same.": uneven,
        "The two were tested on different numbers of utterances.": unlike,
        "All replicates agree exactly, so the spread is unknown, not zero.": se == 0,
    }
    return tuple(sentence for sentence, applies in said.items() if applies)


def _claim(pairs: pd.DataFrame, estimand: str) -> str:
    """What the verdict is a claim about."""
    k = pairs["fold"].nunique()
    if estimand == "new seeds":
        split = "; a single split can answer no more" if k == 1 else ""
        return (
            f"The claim is about new seeds on {'this' if k == 1 else 'these'} very "
            f"{_count(k, 'fold')}: it says nothing about new data or speakers{split}."
        )
    protocol = str(pairs["protocol"].iloc[0]) if "protocol" in pairs else ""
    return f"The claim is about {_CLAIMS.get(protocol, 'new data like these folds')}."


def _check_settings(margin: float, alpha: float, estimand: str) -> None:
    if not 0 < margin < 1:
        raise InputError(f"margin={margin}: expected a share above 0 and below 1; a point is 0.01")
    if not 0 < alpha < 0.5:
        raise InputError(f"alpha={alpha}: expected a level between 0 and 0.5, e.g. 0.05")
    if estimand not in ESTIMANDS:
        raise unknown("estimand", estimand, ESTIMANDS)


def _check_pairs(pairs: list[tuple[str, ...]]) -> None:
    if not pairs:
        raise InputError("no pair to compare: give at least one, e.g. ('cross-AVT', 'self-AVT')")
    seen = set()
    for pair in pairs:
        if len(pair) != 2:
            raise InputError(f"{pair!r} is no pair: expected two configurations")
        if frozenset(pair) in seen:
            raise InputError(f"the pair {pair[0]}, {pair[1]} is given twice")
        seen.add(frozenset(pair))


def _runs(index: pd.Index[Any], most: int = 3) -> str:
    """(fold, seed) pairs in words: "fold 0 seed 1, fold 2 seed 0 and 4 more"."""
    named = ", ".join(f"fold {fold} seed {seed}" for fold, seed in index[:most])
    return named + (f" and {len(index) - most} more" if len(index) > most else "")


def _snap(values: Floats) -> Floats:
    """Values with the rounding error of a sum of shares removed around zero."""
    return np.where(abs(values) < ROUNDING, 0.0, values)


def _over(effect: Floats, se: Floats) -> Floats:
    """effect / se, where a standard error of 0 gives 0 for no effect and else infinity."""
    certain = np.where(effect == 0, 0.0, np.copysign(np.inf, effect))
    return np.divide(effect, se, out=certain, where=se > 0)


def _count(n: float, noun: str) -> str:
    return f"{n:g} {noun}" if n == 1 else f"{n:g} {noun}s"


def _p(p: float) -> str:
    """A p value in print: three decimals, no leading zero."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
