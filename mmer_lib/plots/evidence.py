"""How far to trust a verdict: the tests' error rates, where the spread is, what power there is."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmer_lib.errors import InputError
from mmer_lib.plots.style import (
    GREY,
    INK,
    VERDICT_COLOURS,
    count,
    crown,
    dress,
    figure_of,
    label_outer,
    legend_below,
    make_panels,
    need,
    own_axes,
    rows,
)
from mmer_lib.stats import Components, Planning

SHADES = ("#88CCEE", "#0072B2", "#332288", "#117733", "#999933")
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (3, 1, 1, 1)))
WRONG, RIGHT = "#D55E00", "#0072B2"  # tests that keep their promise, and those that do not
PARTS = {"fold": "#56B4E9", "fold x configuration": "#D55E00", "seed": "#BBBBBB"}


def habits(answers: pd.DataFrame, alpha: float = 0.05, ax: Axes | None = None) -> Axes:
    """How often each test cries "different" at nothing, and what it says of this very pair.

    ``answers`` is that of ``stats.habits``. Bars: false positives in simulated designs, from the
    most favourable (dark) to the least; diamonds: on real cross-validations, whose folds overlap.
    """
    columns = ["test", "p", "says", "false_positives_low", "false_positives_high"]
    need(answers, [*columns, "overlap_low", "overlap_high", "default"], "habits")
    ax = own_axes(ax, (8.4, 1.7 + 0.4 * len(answers)))
    for y, row in enumerate(rows(answers)):
        _rate_bar(ax, y, row, alpha)
    ax.axvline(100 * alpha, color=INK, linewidth=1, linestyle=(0, (4, 2)), zorder=1)
    ax.set_yticks(range(len(answers)), list(answers["test"]))
    for tick, default in zip(ax.get_yticklabels(), answers["default"], strict=True):
        tick.set_fontweight("bold" if default else "normal")
    ax.set_ylim(len(answers) - 0.4, -0.6)
    ax.set_xlim(0, None)
    promised = f"promised: {100 * alpha:g} %"
    handles = [
        Patch(color=GREY, alpha=0.55, linewidth=0, label="best design"),
        Patch(color=GREY, alpha=0.28, linewidth=0, label="worst design"),
        Line2D([], [], color=GREY, marker="D", markersize=5, label="cross-validation"),
        Line2D([], [], color=INK, linewidth=1, linestyle=(0, (4, 2)), label=promised),
    ]
    legend_below(figure_of(ax), handles)
    title = "How often does a test find what is not there? Right: what it says here"
    return dress(ax, title, "studies without any difference called different (%)", grid="x")


def _rate_bar(ax: Axes, y: int, row: Any, alpha: float) -> None:
    """One test: its ranges of false positives and, at the right, its answer."""
    high = 100 * row.false_positives_high
    colour = WRONG if max(row.false_positives_high, row.overlap_high) > 1.2 * alpha else RIGHT
    ax.barh(y, high, 0.62, color=colour, alpha=0.28, linewidth=0)
    ax.barh(y, 100 * row.false_positives_low, 0.62, color=colour, alpha=0.55, linewidth=0)
    overlap = [100 * row.overlap_low, 100 * row.overlap_high]
    ax.plot(overlap, [y, y], color=colour, marker="D", markersize=4.5, linewidth=1.6)
    shown = "" if np.isnan(row.p) else f" (p {_p(row.p)})"
    colour = VERDICT_COLOURS["different" if row.says == "different" else "inconclusive"]
    ax.text(
        1.02, y, (row.says or "needs predictions") + shown, va="center", fontsize=9, color=colour,
        transform=ax.get_yaxis_transform(), fontweight="bold" if row.default else "normal",
    )  # fmt: skip


def _p(p: float) -> str:
    return "< .001" if p < 0.001 else f"= {p:.3f}".replace("0.", ".", 1)


def components(found: Mapping[str, Components], ax: Axes | None = None) -> Axes:
    """Where the variance of a run comes from: a bar a comparison, its parts side by side.

    ``found`` maps a name, of a pair say, to ``stats.variance_components``.
    """
    if not found:
        raise InputError("no components given: there is nothing to draw")
    ax = own_axes(ax, (7.6, 1.7 + 0.5 * len(found)))
    for y, one in enumerate(found.values()):
        start = 0.0
        for part, share in one.shares().items():
            ax.barh(y, 100 * share, 0.66, left=start, color=PARTS[str(part)], linewidth=0)
            if share > 0.06:
                text = f"{100 * share:.0f} %"
                ax.text(start + 50 * share, y, text, ha="center", va="center", fontsize=9)
            start += 100 * share
        deviation = 100 * np.sqrt(one.fold**2 + one.interaction**2 + one.seed**2)
        ax.text(101, y, f"sd {deviation:.2f}", va="center", fontsize=9, color=GREY)
    ax.set_yticks(range(len(found)), [fill(name, 26) for name in found])
    ax.set_ylim(len(found) - 0.4, -0.6)
    ax.set_xlim(0, 100)
    legend_below(figure_of(ax), [Patch(color=c, label=part) for part, c in PARTS.items()])
    title = "What do runs differ by? More seeds help against the grey part alone"
    return dress(ax, title, "share of a run's variance (%); sd of a run in points")


def power(planning: Planning) -> Figure:
    """Power of both tests by seeds a fold: a colour a number of folds, a dash a number of draws.

    ``planning`` is that of ``stats.plan``; the cross is the present design.
    """
    goal = planning.goal
    figure, panels = make_panels(2, columns=2, size=(4.75, 3.1), shared=True)
    titles = {
        "power_difference": f"find {count(100 * goal.difference, 'point')}",
        "power_equivalence": f"show less than {count(100 * goal.margin, 'point')}",
    }
    for ax, (column, title) in zip(panels, titles.items(), strict=True):
        _power_panel(ax, planning, column)
        dress(ax, title, grid="y", small=True)
    label_outer(panels, 2, "seeds a fold", "power (%)")
    handles = [
        *(Line2D([], [], color=c, label=f"{k:g} folds") for k, c in _shades(planning).items()),
        *(
            Line2D([], [], color=GREY, linestyle=style, label=_draws(repeats))
            for repeats, style in _dashes(planning).items()
        ),
        Line2D([], [], color=INK, marker="X", linestyle="", label="present design"),
    ]
    return crown(figure, "Which design would settle it? Above the dashed line it does", handles)


def _power_panel(ax: Axes, planning: Planning, column: str) -> None:
    grid = planning.grid.sort_values("seeds")
    for row in rows(grid.drop_duplicates(["folds", "repeats"])):
        line = grid[(grid["folds"] == row.folds) & (grid["repeats"] == row.repeats)]
        colour, style = _shades(planning)[row.folds], _dashes(planning)[row.repeats]
        ax.plot(line["seeds"], 100 * line[column], color=colour, linestyle=style)
    now = planning.present
    ax.plot(now["seeds"], 100 * now[column], "X", color=INK, markersize=9, zorder=5)
    ax.axhline(100 * planning.goal.power, color=INK, linewidth=1, linestyle=(0, (4, 2)))
    ticks = sorted(planning.grid["seeds"].unique())
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_ylim(0, 103)


def _shades(planning: Planning) -> dict[float, str]:
    """A colour for each number of folds."""
    return dict(zip(sorted(planning.grid["folds"].unique()), cycle(SHADES), strict=False))


def _dashes(planning: Planning) -> dict[float, Any]:
    """A line style for each number of repeats."""
    return dict(zip(sorted(planning.grid["repeats"].unique()), cycle(DASHES), strict=False))


def _draws(repeats: float) -> str:
    return "drawn once" if repeats == 1 else f"drawn {repeats:g} times"
