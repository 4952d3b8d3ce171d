"""What runs say of the utterances: recall by class, and whether confidence can be believed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mmer_lib.plots.style import (
    GREY,
    INK,
    crown,
    dress,
    figure_of,
    fusion_colour,
    label_outer,
    legend_below,
    make_panels,
    need,
    own_axes,
    rows,
)

COLUMNS = 4


def recalls(intervals: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Recall of every class with its interval, configurations below each other.

    ``intervals`` is that of ``stats.recall_intervals``; classes stand in its order, with the number
    of their utterances.
    """
    columns = ["configuration", "emotion", "recall", "low", "high", "n_utterances"]
    need(intervals, columns, "recalls")
    names = list(intervals["configuration"].unique())
    emotions = list(intervals["emotion"].unique())
    ax = own_axes(ax, (7.2, 1.7 + 0.24 * len(emotions) * (len(names) + 0.8)))
    for row in rows(intervals):
        y = emotions.index(row.emotion) + 0.7 * (
            (names.index(row.configuration) + 0.5) / len(names)
        )
        colour = fusion_colour(row.configuration)
        ax.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.6)
        ax.plot(100 * row.recall, y, "o", color=colour, markersize=5)
    counts = intervals.drop_duplicates("emotion").set_index("emotion")["n_utterances"]
    labels = [f"{emotion} ({counts[emotion]:,})" for emotion in emotions]
    ax.set_yticks(np.arange(len(emotions)) + 0.35, labels)
    ax.set_ylim(len(emotions) - 0.15, -0.15)
    ax.set_xlim(0, 100)
    handles = [
        Line2D([], [], color=fusion_colour(name), marker="o", markersize=5, label=name)
        for name in names
    ]
    legend_below(figure_of(ax), handles)
    title = "Which classes are found, and how surely do we know? Lines: intervals for new data"
    return dress(ax, title, "recall (%); in brackets: utterances", grid="x")


def reliability(table: pd.DataFrame) -> Figure:
    """Confidence against accuracy, a panel a configuration; on the diagonal answers are honest.

    ``table`` is that of ``stats.reliability``: dots grow with the share of the answers.
    """
    columns = ["configuration", "confidence", "accuracy", "share", "low", "high", "ece"]
    need(table, columns, "reliability table")
    names = list(table["configuration"].unique())
    figure, panels = make_panels(len(names), columns=COLUMNS, size=(2.35, 2.5), shared=True)
    for ax, name in zip(panels, names, strict=True):
        _reliability_panel(ax, str(name), table[table["configuration"] == name])
    label_outer(panels, COLUMNS, "confidence (%)", "right (%)")
    handles = [
        Line2D([], [], color=GREY, linestyle=(0, (4, 2)), label="as sure as right"),
        Line2D([], [], color=INK, marker="o", linestyle="", label="answers of like confidence"),
    ]
    title = "As often right as sure? Below the diagonal too sure. Off: mean gap in points (ECE)"
    return crown(figure, title, handles)


def _reliability_panel(ax: Axes, name: str, bins: pd.DataFrame) -> None:
    ax.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=(0, (4, 2)))
    colour = fusion_colour(name)
    for row in rows(bins):  # the gap that the calibration error averages
        ax.plot([100 * row.confidence] * 2, [100 * row.confidence, 100 * row.accuracy],
                color=colour, linewidth=1.2, alpha=0.45)  # fmt: skip
    ax.plot(100 * bins["confidence"], 100 * bins["accuracy"], color=colour, linewidth=1)
    sizes = 12 + 320 * bins["share"]
    ax.scatter(
        100 * bins["confidence"], 100 * bins["accuracy"], s=sizes, color=colour, linewidth=0,
        zorder=3, clip_on=False,
    )  # fmt: skip
    ax.set_xlim(0, 100)
    ax.set_ylim(0, 100)
    ax.set_aspect("equal")
    dress(ax, f"{name}: {100 * bins['ece'].iloc[0]:.1f} off", grid="both", small=True)
