"""Many fusions at once: what a score costs, and what is left of it when frames are lost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from mmer_lib.metrics import label as metric_label
from mmer_lib.plots.style import (
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


def cost(
    runs: pd.DataFrame,
    costs: pd.DataFrame,
    metric: str = "balanced_accuracy",
    ax: Axes | None = None,
) -> Axes:
    """Score over the work of one forward pass; the best, the cheapest and ``NAMED`` are named.

    ``runs`` is a table of runs; ``costs`` has the columns ``name`` and ``megaflops``.
    """
    need(costs, ["name", "megaflops"], "costs")
    scores = summary(runs, metric).merge(costs, left_on="configuration", right_on="name")
    need(scores, ["mean"], "configurations with a cost")
    ax = own_axes(ax, (7.4, 4.4))
    for row in rows(scores):
        colour = fusion_colour(row.configuration)
        ax.plot([row.megaflops] * 2, [100 * row.low, 100 * row.high], color=PALE, lw=2, zorder=1)
        ax.plot(row.megaflops, 100 * row.mean, "o", color=colour, markersize=7, zorder=2)
    for row in rows(scores[_told(scores)]):
        ax.annotate(
            split_name(row.configuration)[0], (row.megaflops, 100 * row.mean), (6, 4),
            textcoords="offset points", fontsize=8.5, color=INK,
        )  # fmt: skip
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    title = "What does a point cost? Each dot is a fusion near the parameters of cross-attention"
    label = "matrix products of one utterance (million operations)"
    return dress(ax, title, label, f"{metric_label(metric)} (%)", grid="both")


def _told(scores: pd.DataFrame) -> list[bool]:
    """Which dots get a name: few, so that names do not cover each other."""
    fusion = scores["configuration"].map(lambda name: split_name(name)[0])
    best = scores["mean"].rank(ascending=False) <= 3
    cheapest = scores["megaflops"] == scores["megaflops"].min()
    return [bool(named) for named in fusion.isin(NAMED) | best | cheapest]


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
    palette = sns.color_palette("colorblind", max(1, len(highlight)))
    colours = dict(zip(highlight, palette, strict=False))
    for name, curve in means.groupby("configuration", sort=False):
        shown = name in colours
        ax.plot(
            100 * curve["share"], curve[metric], color=colours.get(str(name), PALE),
            lw=2.2 if shown else 1.1, zorder=3 if shown else 1, label=str(name) if shown else None,
        )  # fmt: skip
    if chance is not None:
        ax.axhline(100 * chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    ax.set_ylim(0, min(100.0, float(np.nanmax(means[metric])) + 6))
    legend_below(figure_of(ax), ax.get_legend_handles_labels()[0])
    title = "How much is left when frames are lost? Pale: the other fusions"
    return dress(ax, title, "frames lost (%)", f"{metric_label(metric)} (%)", grid="y")
