"""Is configuration a different from b, or as good as the same: one pair, planned pairs, all pairs.

With K folds and S seeds, a comparison first averages over seeds within a fold,
``d_k = mean_s(a_ks - b_ks)``, because for a claim about new data the folds are the replicates and
runs are not. It then asks two questions that are not each other's opposite: is there a difference,
and is it smaller than a margin (see ``evidence``)?

**Repeats.** A table with several draws of the folds (``fold_seed``) is a repeated cross-validation:
each fold of each draw is a replicate with the same correction. Deviation: Bouckaert & Frank (2004)
take the degrees of freedom of all R K replicates; on real cross-validations that calls up to .10 of
equal learners different, so they are those of one draw here, K - 1, with which it is .03 at most.

**Constant scores.** Two configurations that agree in every run are legal: one model under two
names, which is `equivalent`. Two that score two different constants in every run are not: such
numbers are means copied to every run, or no scores at all, and have no spread to judge by. One
that is constant (a model that always answers one class) against one that varies is legal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from mmer_lib.errors import InputError, unknown
from mmer_lib.stats.evidence import check_level, check_share, decide, holm, judge
from mmer_lib.stats.ranks import rank_configurations
from mmer_lib.stats.tables import (
    Floats,
    count_draws,
    free_folds,
    need_columns,
    overlap,
    pair_runs,
    read_scores,
    say_left_out,
)

ESTIMANDS = ("new data", "new seeds")

# What "new data" means, by how the folds were drawn.
_CLAIMS = {
    "random": "new utterances from the same speakers and dialogues (folds over utterances)",
    "by-speaker": "new speakers like these",
    "by-dialogue": "new dialogues like these",
    "by-session": "new sessions like these",
}


@dataclass(frozen=True)
class Comparison:
    """The evidence on a - b in one metric, and its verdict. Shares throughout: 0.01 is a point.

    ``low``, ``high``: the 1 - alpha interval; ``low_equivalence``, ``high_equivalence``: the
    1 - 2 alpha interval, which lies inside the margin exactly when the equivalence test rejects.
    ``left``, ``inside``, ``right``: posterior probabilities that a - b is below -margin, within it,
    above margin. ``t_plain``, ``p_plain``: the plain paired t on the replicates, a sensitivity
    check. ``p_holm``: ``p_difference`` after Holm's correction, where several were planned.
    ``n_folds`` counts the folds of all ``n_repeats`` draws.
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
    n_repeats: int = 1

    def sentence(self) -> str:
        """The result in words that a paper could print, with the caveats that apply."""
        return " ".join([self._found(), self._judged(), *self.caveats])

    def _found(self) -> str:
        test = "corrected resampled t" if self.estimand == "new data" else "paired t over seeds"
        level = f"{100 * (1 - self.alpha):g} % interval"
        interval = f"{level} {100 * self.low:+.2f} to {100 * self.high:+.2f}"
        holm = "" if self.p_holm is None else f", after Holm {say_p(self.p_holm)}"
        tested = f"{test}({self.df}) = {self.t:.2f}, {say_p(self.p_difference)}{holm}"
        folds = say_count(self.n_folds // self.n_repeats, "fold")
        design = f"{folds} x {say_count(self.n_seeds, 'seed')}"
        if self.n_repeats > 1:
            design = f"{self.n_repeats} x {design}"
        return (
            f"{self.a} against {self.b}, {self.metric.replace('_', ' ')}: "
            f"{100 * self.difference:+.2f} points "
            f"({interval if math.isfinite(self.se) else f'no {level}'}; {design}; {tested})."
        )

    def _judged(self) -> str:
        ahead = self.a if self.difference > 0 else self.b
        margin = say_count(100 * self.margin, "point")
        meaning = {
            "different": f"{ahead} is ahead; a gap of less than {margin} is not shown",
            "equivalent": f"a gap of {margin} or more, either way, is ruled out",
            "different but within the margin": f"{ahead} is ahead, by less than {margin}",
            "inconclusive": f"neither a difference nor a gap of less than {margin} is shown, "
            "and 'not significant' is not 'the same'",
        }[self.verdict]
        smallest = f"{100 * self.smallest_margin:.2f} points"
        return (
            f"Verdict: {self.verdict} - {meaning} (equivalence {say_p(self.p_equivalence)}; "
            f"smallest margin that would pass: {smallest if math.isfinite(self.se) else 'none'})."
        )

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

    ``metric`` is any column of scores that are shares. ``estimand`` "new data" takes folds as the
    replicates (at least 2 are needed); "new seeds" asks only about other seeds on these very folds
    and takes seeds as the replicates (at least 2).

    Raises ``InputError`` for unknown names, folds or seeds that one side lacks, too few
    replicates, scores that are missing or outside [0, 1], two different constants (see above),
    rows of more than one study, and a margin or alpha out of range.
    """
    _check_settings(margin, alpha, estimand)
    pairs = pair_runs(table, a, b, metric)
    differences = _replicates(pairs, estimand)
    _check_constants(pairs, a, b, metric)
    factor, df = 1 / len(differences), len(differences) - 1
    if estimand == "new data":
        factor, df = factor + overlap(pairs), free_folds(pairs)
    evidence = {k: float(v) for k, v in judge(differences, factor, margin, alpha, df).items()}
    return Comparison(
        a=a, b=b, metric=metric, estimand=estimand, margin=margin, alpha=alpha,
        n_folds=pairs["fold"].nunique(), n_repeats=count_draws(pairs),
        n_seeds=int(pairs.groupby("fold")["seed"].nunique().max()),
        mean_a=float(pairs.groupby("fold")["score_a"].mean().mean()),
        mean_b=float(pairs.groupby("fold")["score_b"].mean().mean()),
        differences=tuple(map(float, differences)),
        df=df,
        verdict=decide(evidence["p_difference"], evidence["p_equivalence"], alpha),
        caveats=(
            *_caveats(pairs, (a, b), estimand, alpha, evidence["se"]),
            *say_left_out(table),
        ),
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
    return _corrected([compare(table, a, b, metric, margin, alpha, estimand) for a, b in wanted])


def compare_groups(
    table: pd.DataFrame,
    pairs: Iterable[tuple[str, str]],
    by: str | Sequence[str],
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> pd.DataFrame:
    """The same pairs on each of several data sets, a row a data set and pair.

    ``by`` names the column or columns of ``table`` that tell the data sets apart; they come first
    in the answer. All of it is one family for Holm's correction. Otherwise as
    :func:`compare_planned`.
    """
    columns = [by] if isinstance(by, str) else list(by)
    need_columns(table, columns, "table of runs")
    wanted = [tuple(pair) for pair in pairs]
    _check_pairs(wanted)
    alone, places = [], []
    for place, runs in table.groupby(columns, sort=False):
        alone += [compare(runs, a, b, metric, margin, alpha, estimand) for a, b in wanted]
        places += [place] * len(wanted)
    groups = pd.DataFrame(places, columns=columns)
    return pd.concat([groups, _corrected(alone)], axis=1)


def _corrected(alone: list[Comparison]) -> pd.DataFrame:
    """One family of comparisons as a frame, their difference tests corrected by Holm."""
    corrected = holm([one.p_difference for one in alone])
    rows = [
        replace(one, p_holm=float(p), verdict=decide(float(p), one.p_equivalence, alpha=one.alpha))
        for one, p in zip(alone, corrected, strict=True)
    ]
    columns = [field.name for field in fields(Comparison)]
    values = [[getattr(row, name) for name in columns] for row in rows]
    return pd.DataFrame(values, columns=columns).assign(sentence=[row.sentence() for row in rows])


def compare_all(
    table: pd.DataFrame,
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> pd.DataFrame:
    """Every pair of configurations, a row each, Holm over all of them.

    Columns as in :func:`compare_planned`, and ``rank_a``, ``rank_b``: the mean ranks over folds
    (1 is best), a picture of the order and not a test (see :func:`rank_configurations`). In each
    row a is the one with the better rank. Raises as :func:`compare`, and for one configuration.
    """
    ranks = rank_configurations(table, metric, alpha).mean_ranks
    found = compare_planned(table, combinations(ranks.index, 2), metric, margin, alpha, estimand)
    return found.assign(rank_a=found["a"].map(ranks), rank_b=found["b"].map(ranks))


def planned_pairs(configurations: Iterable[str]) -> list[tuple[str, str]]:
    """The paper's question: each ``cross-X`` with its ``self-X``, where both are there."""
    names = list(dict.fromkeys(configurations))
    pairs = [(name, "self-" + name.removeprefix("cross-")) for name in names]
    return [(a, b) for a, b in pairs if a.startswith("cross-") and b in names]


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
    check_level(alpha)
    rows = read_scores(table, metric)
    groups = rows.groupby("configuration", sort=False)
    return pd.DataFrame([_alone(str(name), group, alpha) for name, group in groups])


def _alone(name: str, runs: pd.DataFrame, alpha: float) -> dict[str, Any]:
    """A row of :func:`summary`."""
    means = runs.groupby("fold")["score"].mean().to_numpy()
    k, mean = len(means), float(means.mean())
    se = half = math.nan
    if k > 1:
        se = float(means.std(ddof=1)) * math.sqrt(1 / k + overlap(runs))
        half = float(stats.t.ppf(1 - alpha / 2, free_folds(runs))) * se
    return {
        "configuration": name, "mean": mean, "low": mean - half, "high": mean + half, "se": se,
        "sd": float(runs["score"].std(ddof=1)) if len(runs) > 1 else 0.0,
        "n_folds": k, "n_seeds": runs["seed"].nunique(), "n_runs": len(runs),
    }  # fmt: skip


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


def _check_constants(pairs: pd.DataFrame, a: str, b: str, metric: str) -> None:
    """Raise ``InputError`` if each side has one score in all its runs, and not the same one."""
    scores = pairs[["score_a", "score_b"]]
    one_a, one_b = scores.iloc[0]
    if (scores == scores.iloc[0]).all(axis=None) and one_a != one_b:
        raise InputError(
            f"constant scores: {metric} is {one_a:g} in every run of {a} and {one_b:g} in every "
            f"run of {b}, so nothing can be known of its spread. Give each run its own score, not "
            f"a mean; a model that always answers one class needs other training"
        )


def _caveats(
    pairs: pd.DataFrame, names: tuple[str, str], estimand: str, alpha: float, se: float
) -> tuple[str, ...]:
    """What a reader must know beside the numbers, a sentence each; the first names the estimand."""
    k = pairs["fold"].nunique()
    planned = int(pairs["n_folds"].iloc[0]) * count_draws(pairs) if "n_folds" in pairs else k
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
        "Repeats draw folds from the same utterances: they steady the answer, but are no new "
        "data.": count_draws(pairs) > 1,
        **_degenerate(pairs, names, se),
    }
    return tuple(sentence for sentence, applies in said.items() if applies)


def _degenerate(pairs: pd.DataFrame, names: tuple[str, str], se: float) -> dict[str, bool]:
    """Caveats on scores that do not vary as those of trained models do."""
    identical = bool((pairs["score_a"] == pairs["score_b"]).all())
    many = identical or len(pairs) > 2  # two runs of one side may agree by chance
    constant = [many and pairs[side].nunique() == 1 for side in ("score_a", "score_b")]
    said = {
        f"The two score the same in all {len(pairs)} runs (one model under two names?), so the "
        "spread is unknown, not zero.": identical,
        "All replicates differ by the same amount, so the spread is unknown and no test is "
        "possible.": not math.isfinite(se),
    }
    for name, side, same in zip(names, ("score_a", "score_b"), constant, strict=True):
        score = f"{100 * pairs[side].iloc[0]:.2f} %"
        said[f"{name} scores {score} in every run: does it always answer one class?"] = same
    return said


def _claim(pairs: pd.DataFrame, estimand: str) -> str:
    """What the verdict is a claim about."""
    k = pairs["fold"].nunique()
    if estimand == "new seeds":
        split = "; a single split can answer no more" if k == 1 else ""
        return (
            f"The claim is about new seeds on {'this' if k == 1 else 'these'} very "
            f"{say_count(k, 'fold')}: it says nothing about new data or speakers{split}."
        )
    protocol = str(pairs["protocol"].iloc[0]) if "protocol" in pairs else ""
    return f"The claim is about {_CLAIMS.get(protocol, 'new data like these folds')}."


def _check_settings(margin: float, alpha: float, estimand: str) -> None:
    check_share("margin", margin)
    check_level(alpha)
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


def say_count(n: float, noun: str) -> str:
    """A number with its noun: 1 fold, 5 folds."""
    return f"{n:g} {noun}" if n == 1 else f"{n:g} {noun}s"


def say_p(p: float) -> str:
    """A p value in print: three decimals, no leading zero."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)
