"""The verdict explorer: margin, confidence and the number of folds, and what then follows.

Data for the book: ``cases``, one a pair: ``a``, ``b`` and ``designs``, one a number of folds:
``folds``, ``differences`` (the replicates, shares), ``factor`` (of their variance) and ``df``, from
which its script computes the t distributions. ``start`` and ``unit`` say how it opens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmer_lib import plots
from mmer_lib.errors import InputError
from mmer_lib.stats import Comparison, compare
from mmer_lib.stats.tables import name_folds
from mmer_lib.widgets.base import Book, Drawn, Explorer, chooser, explore, slider, whole_slider

MARGINS = (0.1, 10.0)  # points
CONFIDENCES = (80.0, 99.5)  # %


def verdict_explorer(
    table: pd.DataFrame,
    pairs: list[tuple[str, str]],
    metric: str = "balanced_accuracy",
    margin: float = 0.01,
    alpha: float = 0.05,
    estimand: str = "new data",
) -> Explorer:
    """Move margin, confidence and folds, and watch the verdict on a pair of configurations.

    ``table`` is a table of runs and ``pairs`` those to choose from, as for ``stats.compare``.
    Controls: ``e2e-pair``, ``e2e-margin``, ``e2e-confidence`` and, where there are several to
    choose from, ``e2e-folds``, the first so many; the sentence ``e2e-verdict``.
    """
    folds = list(dict.fromkeys(name_folds(table)))
    least = 2 if estimand == "new data" else 1
    controls: dict[str, Any] = {
        "pair": chooser("pair", [(f"{a} against {b}", (a, b)) for a, b in pairs], pairs[0]),
        "margin": slider("margin, points", 100 * margin, *MARGINS, 0.1),
        "confidence": slider("confidence, %", 100 * (1 - alpha), *CONFIDENCES, 0.5),
    }
    if len(folds) > least:
        controls["folds"] = whole_slider("folds, the first", len(folds), least, len(folds))

    def draw(
        pair: tuple[str, str], margin: float, confidence: float, folds: int = len(folds)
    ) -> Drawn:
        level = 1 - confidence / 100
        one = compare(_first(table, folds), *pair, metric, margin / 100, level, estimand)
        state = {
            "verdict": one.verdict, "margin": f"{margin:.1f}", "confidence": f"{confidence:g}",
            "folds": folds, "pair": ":".join(pair),
        }  # fmt: skip
        return Drawn(plots.verdict(one), one.sentence(), state)

    numbers = range(least, len(folds) + 1) if len(folds) > least else [len(folds)]
    data = {
        "cases": [_case(table, pair, metric, estimand, list(numbers)) for pair in pairs],
        "start": {"margin": 100 * margin, "confidence": 100 * (1 - alpha)},
        "margins": MARGINS, "confidences": CONFIDENCES,
        "unit": "fold" if estimand == "new data" else "seed",
    }  # fmt: skip
    text = "What margin, confidence and number of folds make of one difference."
    return explore(controls, draw, "verdict", Book("verdict", "Verdict explorer", text, data))


def _first(table: pd.DataFrame, folds: int) -> pd.DataFrame:
    """The runs of the first so many folds."""
    names = name_folds(table)
    return table[names.isin(list(dict.fromkeys(names))[:folds])]


def _case(
    table: pd.DataFrame, pair: tuple[str, str], metric: str, estimand: str, numbers: list[int]
) -> dict[str, Any]:
    """One pair with every number of folds that can be judged."""
    designs = []
    for k in numbers:
        try:
            one = compare(_first(table, k), *pair, metric, estimand=estimand)
        except InputError:  # too few of something: the book's slider starts behind it
            continue
        designs.append(
            {"folds": k, "differences": list(one.differences), "factor": _factor(one), "df": one.df}
        )
    return {"a": pair[0], "b": pair[1], "designs": designs}


def _factor(one: Comparison) -> float:
    """What the replicates' variance is multiplied by: 1/K, and more where folds overlap."""
    spread = float(np.std(one.differences, ddof=1))
    known = np.isfinite(one.se) and spread > 0
    return float((one.se / spread) ** 2) if known else 1 / len(one.differences)
