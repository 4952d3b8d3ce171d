"""Runs one by one: strips by fold with their clouds, and what choosing the epoch would buy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import stats as scipy_stats

from mmer_lib.errors import unknown
from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import (
    GREY,
    INK,
    Floats,
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
from mmer_lib.stats import fold_means
from mmer_lib.stats.tables import name_folds

BOUGHT = "#D55E00"  # what peeking at the test part buys


def rain_clouds(
    table: pd.DataFrame,
    configurations: Sequence[str],
    metric: str = "balanced_accuracy",
) -> Figure:
    """Every run as a drop, fold by fold, its fold's mean as a bar; at the right all runs' cloud.

    Runs of one fold share its test part and cluster: only the bars are replicates.
    """
    shown = table[table["configuration"].isin(list(configurations))]
    means = 100 * fold_means(shown, metric) if len(shown) else pd.DataFrame()
    for name in configurations:
        if name not in means:
            raise unknown("configuration", name, table["configuration"].unique())
    scores = 100 * shown.assign(fold=name_folds(shown)).set_index(["configuration", "fold"])[metric]
    figure, (strip, cloud) = make_panels(2, columns=2, size=(4.2, 3.4))
    strip.sharey(cloud)
    width = 0.8 / len(configurations)
    for i, name in enumerate(configurations):
        start = (i + 0.5) * width - 0.4
        for x, fold in enumerate(means.index):
            runs = np.atleast_1d(scores.loc[[(name, fold)]].to_numpy(np.float64))
            _drops(strip, x + start, runs, float(means.loc[fold, name]), width, name)
        _cloud(cloud, i, scores.loc[[name]].to_numpy(np.float64), name)
    strip.set_xticks(range(len(means)), [str(fold) for fold in means.index])
    cloud.set_xticks(range(len(configurations)), list(configurations))
    cloud.set_xlim(-0.6, len(configurations) - 0.4)
    dress(strip, "Fold by fold", "fold", f"{metric_label(metric)} (%)", grid="y", small=True)
    dress(cloud, "All runs in one heap", "", "", grid="y", small=True)
    handles = [
        Line2D([], [], color=fusion_colour(name), marker="o", linestyle="", label=name)
        for name in configurations
    ]
    handles.append(Line2D([], [], color=INK, linewidth=2.2, label="mean of a fold"))
    return crown(figure, "Do runs cluster by fold? The heap forgets which belong together", handles)


def _drops(ax: Axes, x: float, runs: Floats, mean: float, width: float, configuration: str) -> None:
    """The runs of one fold, spread a little sideways, under the bar of their mean."""
    aside = 0.5 * width * np.linspace(-0.5, 0.5, len(runs)) if len(runs) > 1 else 0.0
    ax.plot([x - 0.4 * width, x + 0.4 * width], [mean, mean], color=INK, linewidth=2.2)
    colour = fusion_colour(configuration)
    ax.scatter(x + aside, runs, s=14, color=colour, alpha=0.6, linewidth=0, zorder=3)


def _cloud(ax: Axes, x: int, runs: Floats, configuration: str) -> None:
    """All runs of a configuration: half a violin, its drops beside, quartiles and median."""
    colour = fusion_colour(configuration)
    if np.ptp(runs) > 0:
        density_of = scipy_stats.gaussian_kde(runs)
        beyond = 2.5 * float(density_of.factor * runs.std(ddof=1))
        reach = np.linspace(runs.min() - beyond, runs.max() + beyond, 200)
        density = density_of(reach)
        right = x + 0.08 + 0.36 * density / density.max()
        ax.fill_betweenx(reach, x + 0.08, right, color=colour, alpha=0.45, linewidth=0)
    aside = x - 0.14 + 0.16 * np.linspace(-0.5, 0.5, len(runs))
    ax.scatter(aside, runs, s=10, color=colour, alpha=0.5, linewidth=0)
    low, middle, high = np.quantile(runs, [0.25, 0.5, 0.75])
    ax.plot([x + 0.02] * 2, [low, high], color=INK, linewidth=3.2, solid_capstyle="butt")
    ax.plot(x + 0.02, middle, "o", color="white", markeredgecolor=INK, markersize=4.5)


def epoch_choice(selected: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What choosing the epoch on the test part would have bought: a row a configuration.

    ``selected`` is that of ``stats.selection``: test accuracy at the last epoch, at the one chosen
    on development, and at the one best on test.
    """
    need(selected, ["configuration", "chosen", "last", "best", "inflation"], "selection")
    ax = own_axes(ax, (7.6, 1.7 + 0.4 * len(selected)))
    for y, row in enumerate(rows(selected)):
        ends = [100 * row.chosen, 100 * row.best]
        ax.plot(ends, [y, y], color=BOUGHT, linewidth=3, alpha=0.55, solid_capstyle="butt")
        ax.plot(100 * row.last, y, "|", color=GREY, markersize=11, markeredgewidth=2)
        ax.plot(ends[0], y, "o", color=INK, markersize=7)
        ax.plot(ends[1], y, "o", color="white", markeredgecolor=BOUGHT, markersize=7)
        ax.text(
            1.02, y, f"+{100 * row.inflation:.1f} points", va="center", fontsize=9, color=BOUGHT,
            transform=ax.get_yaxis_transform(),
        )  # fmt: skip
    ax.set_yticks(range(len(selected)), list(selected["configuration"]))
    ax.set_ylim(len(selected) - 0.4, -0.6)
    marks = [
        Line2D([], [], color=GREY, marker="|", markersize=11, markeredgewidth=2, linestyle=""),
        Line2D([], [], color=INK, marker="o", markersize=7, linestyle=""),
        Line2D([], [], color="white", marker="o", markersize=7, linestyle=""),
    ]
    marks[2].set_markeredgecolor(BOUGHT)
    words = ("last epoch", "chosen on development", "best on test")
    for mark, text in zip(marks, words, strict=True):
        mark.set_label(text)
    legend_below(figure_of(ax), marks)
    title = "How much would be won by peeking? From the honest dot to the best epoch on test"
    return dress(ax, title, "test accuracy (%)", grid="x")
