"""Many fusions at once: what a score costs, and what is left when frames or modalities are lost."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from matplotlib.transforms import Bbox

from mmer_lib.errors import unknown
from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import (
    FUSION_COLOURS,
    GREY,
    INK,
    PALE,
    dress,
    figure_of,
    fusion_colour,
    legend_below,
    need,
    own_axes,
    rows,
    split_name,
)
from mmer_lib.stats import summary

NAMED = ("self", "cross", "mean", "joint")  # fusions that every figure of the zoo names
# Lines of fusions without a fixed colour (Okabe & Ito 2008), and of curves that cover each other.
LINE_COLOURS = (INK, "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("-", "--", ":", "-.")


# What a fusion may cost -> how an axis calls it.
COSTS = {
    "megaflops": "matrix products of one utterance (million operations)",
    "parameters": "parameters of the whole model",
    "fusion_parameters": "parameters of the fusion",
    "seconds": "seconds to train one run",
}


def cost(
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    metric: str = "balanced_accuracy",
    ax: Axes | None = None,
    by: str = "megaflops",
    chosen: str = "",
) -> Axes:
    """Score over the cost ``by``; the best, the cheapest, ``NAMED`` and ``chosen`` are named.

    ``runs`` is a table of runs; ``costs`` has the columns ``name`` and ``by``, one of ``COSTS``.
    A cost of 0 (a fusion without parameters) stands at the left, under its own tick.
    """
    if by not in COSTS:
        raise unknown("cost", by, COSTS)
    need(costs, ["name", by], "costs")
    kept = costs[["name", by]].rename(columns={by: "cost"})
    scores = summary(runs, metric).merge(kept, left_on="configuration", right_on="name")
    need(scores, ["mean"], "configurations with a cost")
    ax = own_axes(ax, (7.4, 4.4))
    scores["cost"] = _scale_cost(ax, scores["cost"])
    for row in rows(scores):
        colour, one = fusion_colour(row.configuration), row.configuration == chosen
        line = {"color": colour if one else PALE, "lw": 3 if one else 2, "zorder": 1 + 2 * one}
        ax.plot([row.cost] * 2, [100 * row.low, 100 * row.high], **line)
        ax.plot(row.cost, 100 * row.mean, "o", color=colour, markersize=12 if one else 7,
                zorder=2 + 2 * one, markeredgecolor=INK if one else colour)  # fmt: skip
    _name_dots(ax, scores[_told(scores) | (scores["configuration"] == chosen)], chosen)
    title = "What does a point cost? Each dot is a fusion, near the size of cross where it can be"
    return dress(ax, title, COSTS[by], f"{metric_label(metric)} (%)", grid="both")


def _scale_cost(ax: Axes, found: pd.Series[float]) -> pd.Series[float]:
    """Where costs stand on a logarithmic axis, with a place of its own for 0."""
    above = found[found > 0]
    if above.empty:
        return found
    least, most = float(above.min()), float(above.max())
    ax.set_xscale("log")
    decades = 10.0 ** np.arange(np.floor(np.log10(least)), np.log10(most) + 1)
    marks = [t for t in np.outer(decades, [1, 2, 5]).ravel() if 0.7 * least <= t <= 1.4 * most]
    big = least >= 1000
    labels = [f"{t / 1000:g}k" if big else f"{t:g}" for t in marks]
    zero = least / 2
    if len(above) < len(found):
        marks, labels = [zero, *marks], ["0", *labels]
    ax.set_xticks(marks, labels)
    ax.xaxis.set_minor_locator(NullLocator())
    return found.where(found > 0, zero)


def _name_dots(ax: Axes, scores: pd.DataFrame, chosen: str) -> None:
    """Names beside dots, the chosen one first; one that would cover another is left out."""
    figure_of(ax).canvas.draw()
    order = scores.sort_values("configuration", key=lambda names: names != chosen, kind="stable")
    taken: list[Bbox] = []
    for row in rows(order):
        text = ax.annotate(
            split_name(row.configuration)[0], (row.cost, 100 * row.mean), (7, 5), zorder=6,
            textcoords="offset points", fontsize=8.5, color=INK,
            fontweight="bold" if row.configuration == chosen else "normal",
        )  # fmt: skip
        box = text.get_window_extent()
        if any(box.overlaps(other) for other in taken):
            text.remove()
        else:
            taken.append(box)


def _told(scores: pd.DataFrame) -> pd.Series[bool]:
    """Which dots get a name: few, so that names do not cover each other."""
    fusion = scores["configuration"].map(lambda name: split_name(name)[0])
    best = scores["mean"].rank(ascending=False) <= 3
    cheapest = scores["cost"] == scores["cost"].min()
    named: pd.Series[bool] = fusion.isin(NAMED) | best | cheapest
    return named


def loss_curves(
    track: pd.DataFrame,
    highlight: Sequence[str] = (),
    metric: str = "balanced_accuracy",
    chance: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Scores over the share of frames that were lost; ``highlight`` in colour, others pale.

    ``track`` is that of ``robustness.run_track("loss", ...)``: ``configuration, fold, share`` and
    scores. Folds are averaged.
    """
    need(track, ["configuration", "share", metric], "frame-loss track")
    means = (
        track.groupby(["configuration", "share"], sort=False)[metric].mean().mul(100).reset_index()
    )
    ax = own_axes(ax, (7.4, 4.4))
    styles = _line_styles(highlight)
    for name, curve in means.groupby("configuration", sort=False):
        style = styles.get(str(name), {"color": PALE, "lw": 1.1, "zorder": 1})
        ax.plot(100 * curve["share"], curve[metric], **style)
    if chance is not None:
        ax.axhline(100 * chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    ax.set_ylim(0, min(100.0, float(np.nanmax(means[metric])) + 6))
    legend_below(figure_of(ax), ax.get_legend_handles_labels()[0])
    title = "How much is left when frames are lost? Pale: the other fusions"
    return dress(ax, title, "frames lost (%)", f"{metric_label(metric)} (%)", grid="y")


def _line_styles(highlight: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, dashes and label of each line that stands out; no two are alike."""
    spare, dashes = cycle(LINE_COLOURS), cycle(DASHES)
    styles = {}
    for name in highlight:
        colour = FUSION_COLOURS.get(split_name(name)[0]) or next(spare)
        styles[name] = {"color": colour, "ls": next(dashes), "lw": 2.2, "zorder": 3, "label": name}
    return styles


def subsets(track: pd.DataFrame, metric: str = "balanced_accuracy", ax: Axes | None = None) -> Axes:
    """Scores of each configuration with each subset of the modalities there: a table in colour.

    ``track`` is that of ``robustness.run_track("missing", ...)``: ``configuration, present`` and
    scores. Rows and columns keep its order; folds are averaged.
    """
    need(track, ["configuration", "present", metric], "missing-modality track")
    means = track.groupby(["configuration", "present"], sort=False)[metric].mean().unstack() * 100
    means = means.loc[track["configuration"].unique(), track["present"].unique()]
    high, wide = means.shape
    ax = own_axes(ax, (3.0 + 0.62 * wide, 1.7 + 0.3 * high))
    top = float(np.nanmax(means))
    image = ax.imshow(means, cmap="cividis", vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(means.to_numpy()):
        ink = INK if value > 0.6 * top else "white"
        ax.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8.5, color=ink)
    ax.set_xticks(range(wide), list(means.columns))
    ax.set_yticks(range(high), list(means.index))
    bar = figure_of(ax).colorbar(image, ax=ax, fraction=0.05, pad=0.03)
    bar.set_label(f"{metric_label(metric)} (%)", fontsize=9)
    title = "What is left when modalities are missing? Read a row from left to right"
    return dress(ax, title, "modalities that are there", "configuration", spines=False)
