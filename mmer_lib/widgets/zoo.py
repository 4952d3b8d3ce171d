"""The zoo explorer: accuracy against what it costs, for one fusion after the other.

Data for the book: ``metric`` and ``rows``, one a configuration: ``name``, ``mean, low, high``
(shares), ``about`` (a line on what it is and where it is from) and ``costs`` (``axis`` says how
each is called).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mmer_lib import plots
from mmer_lib.errors import InputError
from mmer_lib.fusion import FUSIONS
from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.zoo import COSTS
from mmer_lib.stats import summary
from mmer_lib.widgets.base import Book, Drawn, Explorer, chooser, explore


def zoo_explorer(
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    metric: str = "balanced_accuracy",
    about: Mapping[str, str] | None = None,
) -> Explorer:
    """Choose a cost and a fusion: where it stands among the others, and what it is.

    ``runs`` is a table of runs; ``costs`` as ``plots.cost`` wants it, seconds are added from
    ``runs``. ``about``: configuration -> a line with its source; default: the fusion's docstring.
    Controls: ``e2e-cost``, ``e2e-fusion``; the sentence ``e2e-zoo``.
    """
    prices = gather_costs(runs, costs)
    scores = summary(runs, metric).merge(prices, left_on="configuration", right_on="name")
    scores = scores.sort_values("mean", ascending=False)
    there = [name for name in COSTS if name in prices]
    if scores.empty or not there:
        raise InputError("zoo_explorer: no configuration of the runs has a cost; expected one")
    names = list(scores["configuration"])
    lines = {name: (about or {}).get(name) or describe(name) for name in names}
    controls: dict[str, Any] = {
        "cost": chooser("cost", [(COSTS[name], name) for name in there]),
        "fusion": chooser("fusion", names),
    }

    def draw(cost: str, fusion: str) -> Drawn:
        ax = plots.cost(runs, prices, metric, by=cost, chosen=fusion)
        row: Any = scores.set_index("configuration").loc[fusion]
        text = (
            f"{fusion}: {metric_label(metric)} {100 * row['mean']:.1f} % "
            f"({_interval(row['low'], row['high'])}); {COSTS[cost]}: {row[cost]:,.4g}. "
            f"{lines[fusion]}"
        )
        return Drawn(ax, text, {"cost": cost, "fusion": fusion, "mean": f"{100 * row['mean']:.1f}"})

    text = "Accuracy of every fusion against what it costs; choose one to learn what it is."
    data = {
        "metric": metric_label(metric), "axis": [[name, COSTS[name]] for name in there],
        "rows": [_row(row, there, lines) for row in scores.to_dict("records")],
    }  # fmt: skip
    return explore(controls, draw, "zoo", Book("zoo", "Zoo explorer", text, data))


def gather_costs(runs: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """``costs`` with the mean ``seconds`` of a run beside them, where the runs tell it."""
    if "seconds" not in runs or "seconds" in costs:
        return costs
    return costs.assign(seconds=costs["name"].map(runs.groupby("configuration")["seconds"].mean()))


def describe(name: str) -> str:
    """The first line of a fusion's docstring, which names its source; nothing if unregistered."""
    fusion = FUSIONS.get(plots.split_name(name)[0])
    return ((fusion.__doc__ if fusion else "") or "").strip().split("\n")[0].replace("``", "")


def _interval(low: float, high: float) -> str:
    if math.isnan(low):
        return "no interval with one fold"
    return f"95 % interval {100 * low:.1f} to {100 * high:.1f}"


def _row(row: dict[Any, Any], costs: list[str], lines: Mapping[str, str]) -> dict[str, Any]:
    ends = {k: None if math.isnan(row[k]) else round(row[k], 5) for k in ("mean", "low", "high")}
    return {
        "name": row["configuration"], **ends, "about": lines[row["configuration"]],
        "colour": plots.fusion_colour(row["configuration"]),
        "costs": {name: float(row[name]) for name in costs},
    }  # fmt: skip
