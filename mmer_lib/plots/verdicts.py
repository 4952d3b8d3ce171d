"""Is a different from b, or as good as the same: forest, paired folds, posterior."""

from __future__ import annotations

from itertools import pairwise
from textwrap import fill
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy import stats as scipy_stats

from mmer_lib.errors import InputError
from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import (
    GREY,
    INK,
    PALE,
    VERDICT_COLOURS,
    Floats,
    count,
    crown,
    dress,
    figure_of,
    fusion_colour,
    legend_below,
    need,
    own_axes,
    rows,
)
from mmer_lib.stats import Comparison, fold_means


def forest(comparisons: pd.DataFrame, margin: float | None = None, ax: Axes | None = None) -> Axes:
    """Differences with both intervals beside the margin band, a row a comparison.

    ``comparisons`` is that of ``stats.compare_planned``; ``margin`` defaults to its own. Verdicts
    are the frame's: a Holm-corrected one can be milder than its interval, which stands alone.
    """
    intervals = ["low", "high", "low_equivalence", "high_equivalence"]
    columns = ["a", "b", "metric", "margin", "alpha", "difference", *intervals, "verdict"]
    need(comparisons, columns, "comparisons")
    margin = _check_margin(float(comparisons["margin"].iloc[0]) if margin is None else margin)
    ax = own_axes(ax, (8.2, 1.8 + 0.45 * len(comparisons)))
    ax.axvspan(-100 * margin, 100 * margin, color=PALE, zorder=0, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.9, zorder=1)
    for y, row in enumerate(rows(comparisons)):
        _forest_row(ax, y, row)
    ax.set_yticks(range(len(comparisons)), [f"{row.a} - {row.b}" for row in rows(comparisons)])
    ax.set_ylim(len(comparisons) - 0.4, -0.6)
    level = 100 * (1 - float(comparisons["alpha"].iloc[0]))
    handles = [
        Line2D([], [], color=INK, linewidth=1.3, label=f"{level:g} % interval"),
        Line2D([], [], color=INK, linewidth=4.5, label=f"{2 * level - 100:g} % interval"),
        Patch(color=PALE, label=f"margin: {count(100 * margin, 'point')} either way"),
    ]
    legend_below(figure_of(ax), handles)
    title = (
        "Does the thin line miss zero (different)? Does the thick one fit the band (equivalent)?"
    )
    metric = metric_label(str(comparisons["metric"].iloc[0]))
    return dress(ax, title, f"difference in {metric} (points)", grid="x")


def _forest_row(ax: Axes, y: int, row: Any) -> None:
    colour = VERDICT_COLOURS[row.verdict]
    ends = [100 * row.low_equivalence, 100 * row.high_equivalence]
    if np.isfinite(ends).all():  # no spread, no interval
        ax.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.3)
        ax.plot(ends, [y, y], color=colour, linewidth=4.5, solid_capstyle="butt")
    ax.plot(100 * row.difference, y, "o", color="white", markeredgecolor=colour, markersize=6)
    ax.text(
        1.02, y, fill(row.verdict, 20), color=colour, fontsize=9, va="center",
        transform=ax.get_yaxis_transform(),
    )  # fmt: skip


def paired_folds(
    table: pd.DataFrame,
    a: str,
    b: str,
    metric: str = "balanced_accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Scores of ``b`` and ``a`` joined fold by fold (seed means), their runs as faint dots."""
    means = 100 * fold_means(table[table["configuration"].isin([a, b])], metric)
    need(means, [a, b], "table of runs")
    ax = own_axes(ax, (4.8, 4.2))
    for x, name in enumerate((b, a)):
        runs = 100 * table.loc[table["configuration"] == name, metric].to_numpy()
        aside = x + (0.09 if x else -0.09) * (1 + np.linspace(-0.5, 0.5, len(runs)))
        ax.scatter(aside, runs, s=12, color=fusion_colour(name), alpha=0.3, linewidth=0)
        ax.scatter([x] * len(means), means[name], s=36, color=fusion_colour(name), zorder=3)
    for before, after in zip(means[b], means[a], strict=True):
        ax.plot([0, 1], [before, after], color=INK, linewidth=1, alpha=0.7)
    _name_folds(ax, means[a])
    ax.set_xticks([0, 1], [b, a])
    ax.set_xlim(-0.35, 1.5)
    title = "Do all folds agree? Only their means (large dots) are replicates"
    return dress(ax, title, "", f"{metric_label(metric)} (%)", grid="y")


def _name_folds(ax: Axes, ends: pd.Series[float]) -> None:
    """Fold numbers at the right ends of the lines, moved apart where they would overlap."""
    ordered = ends.dropna().sort_values()
    low, high = ax.get_ylim()
    heights = _spread(np.asarray(ordered, np.float64), 0.035 * (high - low))
    for fold, height in zip(ordered.index, heights, strict=True):
        ax.text(1.2, height, f"fold {fold}", fontsize=7.5, color=GREY, va="center")


def _spread(values: Floats, gap: float) -> Floats:
    """Sorted values moved as little as it takes to keep ``gap`` between neighbours."""
    placed = values.copy()
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    return placed - (placed - values).mean() if len(placed) else placed


def posterior(comparison: Comparison, margin: float | None = None, ax: Axes | None = None) -> Axes:
    """Where a - b lies given the data: the correlated t and the margin as region of equivalence.

    A comparison whose replicates all agree on a gap has no posterior, and the panel says so.
    """
    margin = _check_margin(comparison.margin if margin is None else margin)
    centre, scale = 100 * comparison.difference, 100 * comparison.se
    known = np.isfinite(scale)
    reach = max(abs(centre) + (4 * scale if known else 100 * margin), 250 * margin)
    ax = own_axes(ax, (6.4, 3.6))
    colours = (fusion_colour(comparison.b), GREY, fusion_colour(comparison.a))
    x = np.union1d(np.linspace(-reach, reach, 801), [-100 * margin, 100 * margin])
    if known and scale > 0:
        density = scipy_stats.t.pdf((x - centre) / scale, comparison.df) / scale
        edges = [-reach, -100 * margin, 100 * margin, reach]
        for (left, right), colour in zip(pairwise(edges), colours, strict=True):
            inside = (x >= left) & (x <= right)
            ax.fill_between(x[inside], density[inside], color=colour, alpha=0.75, linewidth=0)
        ax.plot(x, density, color=INK, linewidth=1.2)
    else:  # all replicates agree: the whole posterior stands at one place
        ax.axvline(centre, ymax=0.76, color=INK, linewidth=2.5)
    for edge in (-100 * margin, 100 * margin):
        ax.axvline(edge, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), ymax=0.76)
    ax.set_ylim(0, ax.get_ylim()[1] * 1.3)
    ax.set_xlim(-reach, reach)
    ax.set_yticks([])
    if known:
        _posterior_words(ax, comparison, margin, colours)
    else:
        said = "every replicate shows this very gap: its spread is unknown"
        ax.text(0.5, 0.9, said, ha="center", transform=ax.transAxes, color=GREY, fontsize=9)
    sides = f"{comparison.a} - {comparison.b}, {metric_label(comparison.metric)}"
    dashed = f"dashed: margin of {count(100 * margin, 'point')}"
    title = "How much of the posterior lies beyond the margin?"
    return dress(ax, title, f"{sides} (points; {dashed})", "density")


def verdict(comparison: Comparison) -> Figure:
    """The posterior and, on the same axis, the replicates and both intervals against the margin.

    The verdict is the title: *different* where the thin interval misses zero, *equivalent* where
    the thick one fits the band of the margin.
    """
    figure, (top, low) = plt.subplots(
        2, 1, figsize=(7.2, 5.4), layout="constrained", gridspec_kw={"height_ratios": [2, 1.1]}
    )
    posterior(comparison, ax=top)
    top.set_title("", loc="left")
    label, ends = top.get_xlabel(), top.get_xlim()
    top.set_xlabel("")
    _draw_evidence(low, comparison)
    points = 100 * np.asarray(comparison.differences)
    reach = max(ends[1], 1.1 * float(abs(points).max()))
    for ax in (top, low):
        ax.set_xlim(-reach, reach)
    dress(low, "", label, grid="x", small=True)
    return crown(figure, f"{comparison.a} against {comparison.b}: {comparison.verdict}")


def _draw_evidence(ax: Axes, comparison: Comparison) -> None:
    """Two intervals and the replicates, in points."""
    colour, margin = VERDICT_COLOURS[comparison.verdict], 100 * comparison.margin
    ax.axvspan(-margin, margin, color=PALE, zorder=0, linewidth=0)
    ax.axvline(0, color=INK, linewidth=0.9)
    level = 100 * (1 - comparison.alpha)
    wide = [100 * comparison.low, 100 * comparison.high]
    narrow = [100 * comparison.low_equivalence, 100 * comparison.high_equivalence]
    if np.isfinite(wide).all():
        ax.plot(wide, [0, 0], color=colour, linewidth=1.6)
        ax.plot(narrow, [1, 1], color=colour, linewidth=5, solid_capstyle="butt")
    for y in (0, 1):
        ax.plot(100 * comparison.difference, y, "o", color="white", markeredgecolor=colour)
    points = 100 * np.asarray(comparison.differences)
    ax.plot(points, np.full(len(points), 2), "|", color=INK, markersize=13, markeredgewidth=1.6)
    unit = "folds" if comparison.estimand == "new data" else "seeds"
    names = [f"{level:g} %: is 0 outside?", f"{2 * level - 100:g} %: in the margin?"]
    ax.set_yticks([0, 1, 2], [*names, f"{len(points)} {unit}"])
    ax.set_ylim(2.6, -0.6)


def _posterior_words(
    ax: Axes, comparison: Comparison, margin: float, colours: tuple[str, str, str]
) -> None:
    """The three probabilities, each over its part of the panel."""
    names = (f"{comparison.b} ahead", "within the margin", f"{comparison.a} ahead")
    shares = _shares(comparison, margin)
    for i, (name, share) in enumerate(zip(names, shares, strict=True)):
        ax.text(
            (0.02, 0.5, 0.98)[i], 0.97, f"{fill(name, 20)}\n{100 * share:.1f} %", va="top",
            ha=("left", "center", "right")[i], transform=ax.transAxes, fontsize=9,
            fontweight="bold", color=INK if i == 1 else colours[i],
        )  # fmt: skip


def _shares(comparison: Comparison, margin: float) -> tuple[float, float, float]:
    """Probabilities left of, inside and right of ``margin``."""
    if comparison.se == 0:
        below, above = comparison.difference <= -margin, comparison.difference >= margin
        return float(below), float(not below and not above), float(above)
    place = {"df": comparison.df, "loc": comparison.difference, "scale": comparison.se}
    left = float(scipy_stats.t.cdf(-margin, **place))
    right = float(scipy_stats.t.sf(margin, **place))
    return left, 1 - left - right, right


def _check_margin(margin: float) -> float:
    if not 0 < margin < 1:
        raise InputError(f"margin={margin}: expected a share above 0 and below 1; a point is 0.01")
    return margin
