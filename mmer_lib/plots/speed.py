"""What things take: how time and memory grow, and what every fusion of the zoo costs.

Both draw the tables of ``mmer bench`` and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from mmer_lib.plots.style import (
    GREY,
    INK,
    PALE,
    crown,
    dress,
    fusion_colour,
    make_panels,
    need,
    split_name,
)

# What grows -> title of its column and unit of its axis.
GROWTHS = {
    "audio": ("Longer audio", "frames of audio"),
    "batch": ("More utterances a step", "utterances a step"),
    "modalities": ("More modalities", "modalities of equal length"),
    "runs": ("More runs", "runs, one after the other"),
}
QUANTITIES = {"seconds": "CPU seconds", "mb": "peak memory (MB)"}
LEAST_RISE = 10  # an axis spans so much, so that what stays the same looks as if it did
WAYS: dict[str, tuple[Any, str]] = {"ours": ("-", "o"), "plain": (":", "s")}


def growth(table: pd.DataFrame) -> Figure:
    """Seconds (above) and MB (below) over what grows, a column each, with fitted exponents.

    ``table`` is that of ``bench.bench_growth``: ``grows, size, fusion, way``, and ``seconds``,
    ``seconds_exponent``, ``seconds_error``, likewise ``mb`` or none of these.
    """
    need(table, ["grows", "size", "fusion", "way", "seconds", "seconds_exponent"], "growth table")
    whats = [what for what in QUANTITIES if what in table]
    columns = [str(name) for name in table["grows"].unique()]
    figure, panels = make_panels(len(whats) * len(columns), len(columns), (3.2, 3.5))
    for i, what in enumerate(whats):
        for ax, name in zip(panels[i * len(columns) :], columns, strict=False):
            _grow(ax, table[table["grows"] == name], what)
            title, unit = GROWTHS.get(name, (name, name))
            y_label = QUANTITIES[what] if name == columns[0] else ""
            dress(ax, "" if i else title, unit, y_label, grid="both", small=True)
    fusions = table["fusion"].unique()
    handles = [
        Line2D([], [], color=fusion_colour(f), lw=2, label=f"{f}-attention") for f in fusions
    ]
    handles += [
        Line2D([], [], color=INK, linestyle=line, marker=marker, markersize=5, label=_way(way))
        for way, (line, marker) in WAYS.items()
        if way in set(table["way"])
    ]
    handles.append(Line2D([], [], color=PALE, lw=8, label="where the exponent is fitted"))
    return crown(figure, "How steep are the lines? An exponent of 1: twice as much takes twice as "
                 "long; of 2: four times", handles)  # fmt: skip


def _way(way: str) -> str:
    return {"ours": "our way", "plain": "torch's own modules"}.get(way, way)


def _grow(ax: Axes, table: pd.DataFrame, what: str) -> None:
    """One panel: a line a series, its exponent in the legend."""
    for (fusion, way), series in table.groupby(["fusion", "way"], sort=False):
        line, marker = WAYS.get(str(way), ("-", "o"))
        told = _exponent(series[f"{what}_exponent"].iloc[0], series[f"{what}_error"].iloc[0])
        ax.plot(
            series["size"], series[what], color=fusion_colour(str(fusion)), linestyle=line, lw=1.6,
            marker=marker, markersize=4.5, label=f"{fusion}, {_way(str(way))}: {told}",
        )  # fmt: skip
    ax.set(xscale="log", yscale="log")
    sizes = sorted(table["size"].unique())
    ax.axvspan(max(sizes[-1] / 4, sizes[0]), sizes[-1], color=PALE, alpha=0.55, lw=0, zorder=0)
    named = [a for a, b in zip(sizes, [*sizes[1:], np.inf], strict=True) if b > 1.4 * a]
    ax.set_xticks(named, [f"{size:g}" for size in named])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    low, high = ax.get_ylim()
    low, high = min(low, high / LEAST_RISE), max(high, low * LEAST_RISE)
    ax.set_ylim(low, high * (high / low) ** 0.45)  # room for the legend
    ax.legend(fontsize=7, frameon=False, loc="upper left", title="exponent", title_fontsize=7.5,
              alignment="left")  # fmt: skip


def _exponent(slope: float, error: float) -> str:
    """``1.62 ± 0.03``; without an error where two sizes leave none."""
    if np.isnan(slope):
        return "one size"
    return f"{slope:.2f}" + ("" if np.isnan(error) else f" ± {error:.2f}")


# Column of the zoo's table -> title of its panel.
PRICES = {
    "fusion_parameters": "Parameters of the fusion\n(thousand)",
    "megaflops": "Matrix products, evaluation\n(million operations)",
    "train_ms": "Training step\n(ms an utterance)",
    "mb": "Peak memory of a step\n(MB)",
}
SCALES = {"fusion_parameters": 1000.0}
FLOOR = "mean"  # the fusion that looks at no frame: what all pay


def zoo_cost(table: pd.DataFrame) -> Figure:
    """A row a fusion, the cheapest to train above; the dashed line is what ``mean`` costs.

    ``table`` is that of ``bench.bench_zoo``: ``configuration`` and some of ``PRICES``.
    """
    need(table, ["configuration", "train_ms"], "zoo table")
    prices = [price for price in PRICES if price in table]
    shown = table.sort_values("train_ms", ascending=False, kind="stable")
    shown = shown.assign(fusion=[split_name(name)[0] for name in shown["configuration"]])
    size = (2.35, 1.0 + 0.22 * len(shown))
    figure, panels = make_panels(len(prices), len(prices), size)
    for ax, price in zip(panels, prices, strict=True):
        _bars(ax, shown, price)
        ax.set_yticks(range(len(shown)), shown["fusion"] if ax is panels[0] else [])
        dress(ax, "", small=True).tick_params(axis="y", length=0)
        ax.set_title(PRICES[price], loc="left", fontsize=9.5, fontweight="bold", color=INK)
    if FLOOR not in set(shown["fusion"]):
        return crown(figure, "What does each fusion cost?")
    told = f"{FLOOR}: encoders and head alone"
    floor = Line2D([], [], color=INK, linestyle="--", lw=1, label=told)
    title = "What does each fusion cost? Right of the dashed line is what it adds to the encoders"
    return crown(figure, f"{title} that all share", [floor])


def _bars(ax: Axes, shown: pd.DataFrame, price: str) -> None:
    """One panel: bars with their numbers, and the floor."""
    values = shown[price] / SCALES.get(price, 1.0)
    ax.barh(range(len(shown)), values, height=0.68, color=[_colour(f) for f in shown["fusion"]])
    for y, value in enumerate(values):
        ax.annotate(
            _number(value), (value, y), (4, 0), textcoords="offset points", va="center",
            fontsize=7.5, color=INK, bbox={"facecolor": "white", "linewidth": 0, "pad": 0.8},
        )  # fmt: skip
    ax.set_xlim(0, 1.25 * float(values.max()))
    ax.set_ylim(-0.6, len(shown) - 0.4)
    floor = values[shown["fusion"] == FLOOR]
    if len(floor) and float(floor.iloc[0]) > 0:
        ax.axvline(float(floor.iloc[0]), color=INK, linestyle="--", lw=1)


def _colour(fusion: str) -> str:
    """The paper's fusions keep their colours, all others are grey."""
    return fusion_colour(fusion) if fusion in ("self", "cross", "selfcross") else GREY


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
