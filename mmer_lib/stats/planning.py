"""How many folds, repeats and seeds would settle the question?

With K folds, R repeats and S seeds a comparison has R K replicates, each the mean of S differences
between seeds. From the ``Components`` of a study with K0 folds, a replicate has the variance

    v = (difference_fold^2 + difference_seed^2 / S) * K / K0

because the same utterances cut into more folds give smaller test parts, and most of what a score
varies by is which utterances are in them. The standard error of the tests is
sqrt(v * (1/(R K) + n_test/n_learn)), judged by K - 1 degrees of freedom; n_test/n_learn is
1/(K - 1) but for a constant that the study tells. The same formula is taken for the true spread of
the mean: shared training utterances correlate the folds as much as the correction assumes. Where
folds were independent, powers above a half would be larger than stated here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats

from mmer_lib.errors import InputError
from mmer_lib.stats.components import Components
from mmer_lib.stats.evidence import check_level, check_share
from mmer_lib.stats.tables import Floats

Size = tuple[int, int, float]  # folds, repeats, seeds

DESIGNS: tuple[Size, ...] = tuple(product((5, 10, 20), (1, 3, 10), (1, 2, 5, 10, 20, 50)))
MOST_DATA = 1000.0  # times the utterances there are; more is never
_NODES = (np.arange(2000) + 0.5) / 2000  # quantiles of the observed variance to average over


@dataclass(frozen=True)
class Goal:
    """What a study is for: to find ``difference`` or to show less than ``margin``, as shares.

    ``power`` is wanted of either test at level ``alpha``.
    """

    difference: float = 0.02
    margin: float = 0.01
    power: float = 0.8
    alpha: float = 0.05

    def __post_init__(self) -> None:
        for name in ("difference", "margin", "power"):
            check_share(name, getattr(self, name))
        check_level(self.alpha)


@dataclass(frozen=True)
class Planning:
    """Designs and what they can do.

    ``grid``: a row a design, columns ``folds, repeats, seeds, runs`` (of one pair),
    ``power_difference`` (to find a true difference of the goal's size), ``power_equivalence`` (to
    show less than its margin where there is none), ``finds``, ``shows`` (is its power reached?).
    ``present``: the same for the design that the components are from.
    ``data_difference``, ``data_equivalence``: how many times the utterances the present design
    would need, or infinity.
    """

    goal: Goal
    grid: pd.DataFrame
    present: pd.Series[float]
    data_difference: float
    data_equivalence: float

    @property
    def cheapest_difference(self) -> pd.Series[float] | None:
        """The design of the grid with the fewest runs that finds the difference, or None."""
        return _cheapest(self.grid[self.grid["finds"]])

    @property
    def cheapest_equivalence(self) -> pd.Series[float] | None:
        """The design of the grid with the fewest runs that shows equivalence, or None."""
        return _cheapest(self.grid[self.grid["shows"]])

    def sentence(self) -> str:
        """The plan in words."""
        now, goal = self.present, self.goal
        said = [
            f"The present design ({_words(now)}) finds a true difference of "
            f"{100 * goal.difference:g} points with power {now['power_difference']:.2f}, and shows "
            f"that there is none beyond {100 * goal.margin:g} with {now['power_equivalence']:.2f}."
        ]
        for what, design, times in (
            ("find it", self.cheapest_difference, self.data_difference),
            ("show equivalence", self.cheapest_equivalence, self.data_equivalence),
        ):
            wish = f"To {what} with power {goal.power:g}"
            data = f"{times:.3g} times the utterances" if math.isfinite(times) else "other data"
            if design is None:
                said.append(f"{wish}, no design looked at is enough: it takes {data}.")
            else:
                said.append(f"{wish}, {_words(design)} would do ({design['runs']:.0f} runs).")
        return " ".join(said)


def plan(
    components: Components,
    difference: float = 0.02,
    margin: float = 0.01,
    power: float = 0.8,
    alpha: float = 0.05,
    designs: Iterable[Size] = DESIGNS,
) -> Planning:
    """Powers of both tests for every one of ``designs``: (folds, repeats, seeds).

    Raises ``InputError`` for a difference, margin, power or alpha out of range, no design or one
    with fewer than 2 folds, 1 repeat or 1 seed, and components without any spread.
    """
    goal = Goal(difference, margin, power, alpha)
    looked_at = list(designs)
    if not looked_at:
        raise InputError("no design to plan with: give (folds, repeats, seeds) at least once")
    present = (components.n_folds, components.n_repeats, components.n_seeds)
    return Planning(
        goal,
        grid=pd.DataFrame([_row(components, design, goal) for design in looked_at]),
        present=pd.Series(_row(components, present, goal), dtype=float),
        data_difference=_data_needed(components, present, goal, test=0),
        data_equivalence=_data_needed(components, present, goal, test=1),
    )


def powers(
    components: Components, design: Size, goal: Goal, data: float = 1.0
) -> tuple[float, float]:
    """Power to find the goal's difference, and to show equivalence where there is none.

    ``design``: (folds, repeats, seeds); ``data``: how many times the utterances that the components
    were measured on. Raises ``InputError`` as :func:`plan`.
    """
    folds, repeats, seeds = design
    if folds < 2 or repeats < 1 or seeds < 1:
        raise InputError(f"design {design}: expected at least 2 folds, 1 repeat and 1 seed")
    inner = components.difference_fold**2 + components.difference_seed**2 / seeds
    variance = inner * folds / components.n_folds / data
    if not variance > 0:
        raise InputError("components without any spread: there is nothing to plan by")
    uneven = components.overlap * (components.n_folds - 1)  # 1 for folds of equal size
    se = math.sqrt(variance * (1 / (repeats * folds) + uneven / (folds - 1)))
    free = repeats * folds - 1
    observed = np.sqrt(stats.chi2.ppf(_NODES, free) / free)  # standard errors over the true one
    df = folds - 1
    return (
        _find(goal.difference / se, stats.t.ppf(1 - goal.alpha / 2, df) * observed),
        _show(goal.margin / se, stats.t.ppf(1 - goal.alpha, df) * observed),
    )


def _find(effect: float, reach: Floats) -> float:
    """Power of the two-sided t test at ``effect`` standard errors; limits ``reach``, as likely."""
    return float((stats.norm.sf(reach - effect) + stats.norm.cdf(-reach - effect)).mean())


def _show(margin: float, reach: Floats) -> float:
    """Power of the two one-sided tests at no difference, the margin in standard errors."""
    return float(np.maximum(2 * stats.norm.cdf(margin - reach) - 1, 0).mean())


def _row(components: Components, design: Size, goal: Goal) -> dict[str, float]:
    """A design and what it can do."""
    folds, repeats, seeds = design
    find, show = powers(components, design, goal)
    return {
        "folds": folds, "repeats": repeats, "seeds": seeds, "runs": 2 * folds * repeats * seeds,
        "power_difference": find, "power_equivalence": show,
        "finds": find >= goal.power, "shows": show >= goal.power,
    }  # fmt: skip


def _data_needed(components: Components, design: Size, goal: Goal, test: int) -> float:
    """How many times the utterances ``design`` needs for the goal's power of one test."""

    def short(times: float) -> float:
        return powers(components, design, goal, times)[test] - goal.power

    if short(1.0) >= 0:
        return 1.0
    if short(MOST_DATA) < 0:
        return math.inf
    return float(optimize.brentq(short, 1.0, MOST_DATA, rtol=1e-3))


def _cheapest(designs: pd.DataFrame) -> pd.Series[float] | None:
    if designs.empty:
        return None
    ordered = designs.sort_values(["runs", "folds", "repeats"], kind="stable")
    return ordered.iloc[0].astype(float)


def _words(row: pd.Series[float]) -> str:
    """A design in words: 5 folds x 10 seeds, 2 x 10 folds x 5 seeds."""
    repeats = f"{row['repeats']:g} x " if row["repeats"] > 1 else ""
    return f"{repeats}{row['folds']:g} folds x {row['seeds']:g} seeds"
