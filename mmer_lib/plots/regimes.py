"""Scores and verdicts over kinds of data: a panel a regime, and phase diagrams of verdicts."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import (
    GREY,
    INK,
    crown,
    dress,
    figure_of,
    fusion_colour,
    legend_below,
    make_panels,
    need,
    own_axes,
    rows,
)
from mmer_lib.stats import summary

# A mark for each verdict: who is ahead is said by the colour, how sure that is by the mark.
MARKS = {
    "different": "●",
    "different but within the margin": "○",
    "equivalent": "=",
    "inconclusive": "?",
}


WHO_IS_AHEAD = "Who is ahead on which kind of data?"


def regimes(
    runs: pd.DataFrame,
    metric: str = "balanced_accuracy",
    chance: float | None = None,
    title: str = WHO_IS_AHEAD,
) -> Figure:
    """Every configuration on every kind of data: a panel a ``regime``, a dot and interval each.

    ``runs`` is a table of runs with a column ``regime``; ``chance`` a share that is drawn as a
    dashed line. The intervals are those of ``stats.summary``: of each configuration alone, so that
    two which overlap may still be different.
    """
    need(runs, ["regime", "configuration", metric], "runs")
    found = list(runs.groupby("regime", sort=False))
    names = list(dict.fromkeys(runs["configuration"]))
    high = 0.9 + 0.3 * len(names)
    figure, panels = make_panels(len(found), columns=3, size=(3.1, high), shared=True)
    for ax, (regime, table) in zip(panels, found, strict=True):
        each = [summary(one, metric) for _, one in table.groupby("configuration", sort=False)]
        for row in rows(pd.concat(each)):  # apart: they may come from different tables
            y, colour = names.index(row.configuration), fusion_colour(row.configuration)
            ends = np.clip([100 * row.low, 100 * row.high], 0, 100)
            ax.plot(ends, [y, y], color=colour, linewidth=2)
            ax.plot(100 * row.mean, y, "o", color=colour, markersize=6)
            ax.annotate(
                f"{100 * row.mean:.0f}", (100 * row.mean, y), (0, 5), ha="center",
                textcoords="offset points", fontsize=8, color=INK,
            )  # fmt: skip
        if chance is not None:
            ax.axvline(100 * chance, color=GREY, linestyle="--", linewidth=1)
        dress(ax, str(regime), f"{metric_label(metric)} (%)", grid="x", small=True)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.8)
    panels[0].set_ylabel("configuration", fontsize=9)
    panels[0].set_xlim(right=min(106.0, panels[0].get_xlim()[1]))  # all panels share it
    dashed = "" if chance is None else ", dashed: chance"
    return crown(figure, f"{title} Dots: means, lines: 95 % intervals{dashed}")


def phase_diagram(
    comparisons: pd.DataFrame,
    x: str,
    y: str,
    labels: tuple[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The difference a - b over two properties of the data, with a mark for each verdict.

    ``comparisons`` is that of ``stats.compare_groups`` with the columns ``x`` and ``y``: one pair,
    a row a cell. Cells that were not run stay empty. ``labels``: of the two axes, with units.
    """
    need(comparisons, [x, y, "a", "b", "difference", "verdict"], "comparisons")
    shown = comparisons.pivot(index=y, columns=x, values="difference").sort_index() * 100
    marks = comparisons.pivot(index=y, columns=x, values="verdict").sort_index()
    high, wide = shown.shape
    ax = own_axes(ax, (2.6 + 0.95 * wide, 1.9 + 0.75 * high))
    limit = max(1.0, float(np.nanmax(abs(shown.to_numpy()))))
    image = ax.imshow(
        shown, origin="lower", cmap="vlag", vmin=-limit, vmax=limit, aspect="auto",
    )  # fmt: skip
    for (row, column), value in np.ndenumerate(shown.to_numpy()):
        if np.isfinite(value):
            ink = "white" if abs(value) > 0.6 * limit else INK
            text = f"{value:+.0f}\n{MARKS[str(marks.iat[row, column])]}"
            ax.text(column, row, text, ha="center", va="center", fontsize=9, color=ink)
    ax.set_xticks(range(wide), [f"{v:g}" for v in shown.columns])
    ax.set_yticks(range(high), [f"{v:g}" for v in shown.index])
    first = comparisons.iloc[0]
    bar = figure_of(ax).colorbar(image, ax=ax, fraction=0.05, pad=0.03)
    bar.set_label(f"{first['a']} - {first['b']}, points", fontsize=9)
    handles = [
        Line2D([], [], linestyle="", marker=f"${mark}$", color=INK, label=verdict)
        for verdict, mark in MARKS.items()
        if verdict in set(comparisons["verdict"])
    ]
    legend_below(figure_of(ax), handles)
    title = f"Red: {first['a']} is ahead, blue: {first['b']}. The mark is the verdict"
    x_label, y_label = labels or (x.replace("_", " "), y.replace("_", " "))
    return dress(ax, title, x_label, y_label, spines=False)
