"""How good a configuration is, and how it became so: bars, confusion matrices, training curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mmer_lib.errors import InputError
from mmer_lib.metrics import label as metric_label
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
    split_name,
    whole_ticks,
)

MODALITY_SETS = ("A", "V", "T", "AV", "AT", "VT", "AVT")
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")  # variants of a fusion, in order of appearance


def score_bars(
    summary: pd.DataFrame,
    published: pd.DataFrame | None = None,
    baselines: Mapping[str, float] | None = None,
    metric: str = "balanced_accuracy",
    ax: Axes | None = None,
) -> Axes:
    """The paper's bars: a group a modality set, a bar a configuration, its interval where known.

    ``summary`` is that of ``stats.summary``; ``published`` has ``configuration`` and ``metric``
    columns (``metrics.read_table`` of the paper's table) and is drawn as diamonds; ``baselines``
    (name -> share, e.g. the majority predictor) are horizontal lines.
    """
    need(summary, ["configuration", "mean", "low", "high"], "summary")
    names = [str(name) for name in summary["configuration"]]
    places, ticks = _bar_places(names)
    hatches = _hatches(names)
    ax = own_axes(ax, (max(5.6, 1.2 + 0.62 * len(names) + 0.3 * len(ticks)), 4.3))
    for row in rows(summary):
        _score_bar(ax, places[row.configuration], row, hatches)
    if published is not None:
        _published_marks(ax, published, metric, places)
    for name, value in (baselines or {}).items():
        style = (0, (4, 2)) if name == next(iter(baselines or {})) else (0, (1, 1.5))
        text = f"{name} {100 * value:.1f}"
        ax.axhline(100 * value, color=INK, linewidth=1.1, linestyle=style, label=text, zorder=3)
    last = max(places.values())  # the first bar is at 0; two bars alone shall not fill the panel
    ax.set_xlim(last / 2 - max(last / 2 + 0.8, 2), last / 2 + max(last / 2 + 0.8, 2))
    ax.set_ylim(0, min(100.0, ax.get_ylim()[1]))
    ax.set_xticks(list(ticks.values()), [group or "-" for group in ticks])
    lines = ax.get_legend_handles_labels()[0]
    legend_below(figure_of(ax), _fusion_handles(names, hatches) + lines)
    told = " Lines: 95 % intervals for new data" if summary["low"].notna().any() else ""
    title = f"How high does each configuration get, and how sure is that?{told}"
    return dress(ax, title, "modality set", f"{metric_label(metric)} (%)", grid="y")


def _bar_places(names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """The x of each configuration's bar, and of each modality set's tick, in the paper's order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(split_name(name)[1], []).append(name)
    known = {group: i for i, group in enumerate(MODALITY_SETS)}
    start, places, ticks = 0.0, {}, {}
    for group in sorted(groups, key=lambda group: known.get(group, len(known))):
        for i, name in enumerate(groups[group]):
            places[name] = start + i
        ticks[group] = start + (len(groups[group]) - 1) / 2
        start += len(groups[group]) + 0.7
    return places, ticks


def _hatches(names: Iterable[str]) -> dict[str, str]:
    """A hatch for each variant (noSP, a flavour, a switch), none for the plain one."""
    variants = sorted(dict.fromkeys(split_name(name)[2] for name in names), key=bool)
    styles = HATCHES if "" in variants else HATCHES[1:]
    return dict(zip(variants, cycle(styles), strict=False))


def _score_bar(ax: Axes, x: float, row: Any, hatches: Mapping[str, str]) -> None:
    """One bar with its number at the foot and its interval."""
    colour, hatch = fusion_colour(row.configuration), hatches[split_name(row.configuration)[2]]
    ax.bar(x, 100 * row.mean, 0.86, color=colour, edgecolor="white", hatch=hatch, linewidth=0)
    if np.isfinite(row.low):
        ax.plot([x, x], [100 * row.low, 100 * row.high], color=INK, linewidth=1.4)
    ax.text(
        x, 1.5, f"{100 * row.mean:.1f}", ha="center", va="bottom", color="white", fontsize=8.5,
        fontweight="bold", bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0}, zorder=4,
    )  # fmt: skip


def _published_marks(
    ax: Axes, published: pd.DataFrame, metric: str, places: Mapping[str, float]
) -> None:
    need(published, ["configuration", metric], "published table")
    shown = published[published["configuration"].isin(list(places))]
    x = [places[name] + 0.24 for name in shown["configuration"]]  # beside the interval
    ax.scatter(
        x, 100 * shown[metric], marker="D", s=26, color="white", edgecolor=INK, zorder=4,
        label="published (IEMOCAP)",
    )  # fmt: skip


def _fusion_handles(names: Iterable[str], hatches: Mapping[str, str]) -> list[Any]:
    """A legend entry for each fusion and variant."""
    handles = {}
    for name in names:
        fusion, _, variant = split_name(name)
        text = f"{fusion} {variant.replace('nosp', 'noSP')}".strip()
        handles[text] = Patch(
            facecolor=fusion_colour(name), edgecolor="white", hatch=hatches[variant], label=text
        )
    return list(handles.values())


def confusion(counts: npt.ArrayLike, classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """Confusion matrix (C, C), rows truth: counts or sums of counts, drawn in % of each row."""
    matrix, c = np.asarray(counts, dtype=np.float64), len(classes)
    if matrix.shape != (c, c) or not c:
        raise InputError(f"confusion of {c} classes must be ({c}, {c}), not {matrix.shape}")
    truth = matrix.sum(axis=1, keepdims=True)  # (C, 1)
    share = 100 * np.divide(matrix, truth, out=np.zeros_like(matrix), where=truth > 0)
    ax = own_axes(ax, (2.6 + 0.62 * c, 1.7 + 0.5 * c))
    sns.heatmap(
        share, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100, ax=ax, linewidths=1,
        xticklabels=list(classes), yticklabels=list(classes),
        cbar_kws={"label": "% of the true class", "fraction": 0.05},
    )  # fmt: skip
    ax.tick_params(axis="y", rotation=0)
    if max(map(len, classes)) > 4:
        for tick in ax.get_xticklabels():
            tick.set(rotation=40, horizontalalignment="right", rotation_mode="anchor")
    return dress(
        ax, "Which class is taken for which?", "predicted class", "true class", spines=False
    )


def training_curves(histories: pd.DataFrame) -> Figure:
    """Losses by epoch, a panel a configuration, a line a run, a dot at the epoch that was kept.

    Columns: ``configuration, epoch, train_loss, dev_loss, dev_accuracy`` and, where there are
    several runs of a configuration, ``fold`` and ``seed``. Without a ``best_epoch`` column the kept
    epoch is the first with the best development accuracy.
    """
    columns = ["configuration", "epoch", "train_loss", "dev_loss", "dev_accuracy"]
    need(histories, columns, "histories")
    names = [str(name) for name in histories["configuration"].unique()]
    figure, panels = make_panels(len(names), columns=4, size=(2.9, 2.3), shared=True)
    for ax, name in zip(panels, names, strict=True):
        _loss_panel(ax, name, histories[histories["configuration"] == name])
    label_outer(panels, 4, "epoch", "loss (nats)")
    handles = [
        Line2D([], [], color=GREY, linestyle="--", label="training"),
        Line2D([], [], color=INK, label="development"),
        Line2D([], [], color=INK, marker="o", linestyle="", label="epoch kept"),
    ]
    title = "Where does the development loss part from the training loss?"
    return crown(figure, title, handles)


def _loss_panel(ax: Axes, name: str, history: pd.DataFrame) -> None:
    """The runs of one configuration; the title has their mean development accuracy."""
    accuracies = []
    by = [column for column in ("fold", "seed") if column in history] or ["configuration"]
    for _, run in history.groupby(by):
        kept = run.iloc[_kept_row(run)]
        accuracies.append(kept["dev_accuracy"])
        ax.plot(run["epoch"], run["train_loss"], color=GREY, linewidth=1, linestyle="--")
        ax.plot(run["epoch"], run["dev_loss"], color=fusion_colour(name), linewidth=1.3)
        ax.plot(kept["epoch"], kept["dev_loss"], "o", color=fusion_colour(name), markersize=4.5)
    ax.xaxis.set_major_locator(whole_ticks(4))
    dress(ax, f"{name}: dev {100 * np.mean(accuracies):.0f} %", grid="y", small=True)


def _kept_row(run: pd.DataFrame) -> int:
    """The position of the kept epoch in a run's history."""
    if "best_epoch" in run:
        return int((run["epoch"] == run["best_epoch"]).to_numpy().argmax())
    return int(run["dev_accuracy"].to_numpy().argmax())
