"""What a corpus holds: classes, sequence lengths, folds and what leaks, and one utterance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mmer_lib.errors import InputError
from mmer_lib.plots.style import (
    GREY,
    INK,
    MODALITY_COLOURS,
    PALE,
    Floats,
    crown,
    dress,
    events_of,
    figure_of,
    make_panels,
    mark,
    need,
    own_axes,
    role_handles,
    say_missing,
    whole_ticks,
)

ONE_AXIS = 3  # lengths within this factor share one frame axis
# Parts of a fold: light, middle and dark, so that they are told apart without colour as well.
PART_COLOURS = {"train": "#9FC3DE", "dev": "#D9A520", "test": "#B8410F"}
MOST_GROUPS = 60  # groups in one picture, the largest


def class_balance(labels: npt.ArrayLike, classes: Sequence[str], ax: Axes | None = None) -> Axes:
    """Utterances a class, largest first: the first share is what a majority predictor scores."""
    given = np.asarray(labels)
    if given.ndim != 1 or not len(given) or given.min() < 0 or given.max() >= len(classes):
        raise InputError(f"class_balance: expected labels in 0 .. {len(classes) - 1}, at least one")
    counts = np.bincount(given, minlength=len(classes))
    order = np.argsort(-counts, kind="stable")
    ax = own_axes(ax, (6.4, 1.3 + 0.36 * len(classes)))
    bars = ax.barh(range(len(classes)), counts[order], color="#5B7FA6", height=0.72)
    shares = [f" {n} ({100 * n / counts.sum():.0f} %)" for n in counts[order]]
    ax.bar_label(bars, shares, fontsize=9, color=INK)
    ax.set_yticks(range(len(classes)), [classes[i] for i in order])
    ax.invert_yaxis()
    ax.set_xlim(0, counts.max() * 1.24)
    ax.xaxis.set_major_locator(whole_ticks(7))
    title = "How unequal are the classes? Always saying the first one scores its share"
    return dress(ax, title, "utterances", grid="x")


def lengths(
    frames: Mapping[str, npt.ArrayLike], rates: Mapping[str, float | None] | None = None
) -> Figure:
    """Sequence lengths, a panel a modality; utterances without frames are counted as missing.

    ``frames`` maps a modality to (n,) frame counts; ``rates`` to frames a second, where known.
    """
    if not frames:
        raise InputError("lengths: no modality given")
    figure, panels = make_panels(len(frames), columns=3, size=(3.3, 2.6))
    for ax, (modality, given) in zip(panels, frames.items(), strict=True):
        rate = (rates or {}).get(modality)
        unit = f"frames ({rate:g} a second)" if rate else "frames"
        _length_panel(ax, modality, np.asarray(given), unit)
    return crown(figure, "How long are the sequences, and how many are missing?")


def _length_panel(ax: Axes, modality: str, counts: npt.NDArray[np.int64], unit: str) -> None:
    present, missing = counts[counts > 0], int((counts == 0).sum())
    if len(present):
        span = int(np.ptp(present))
        few = span < 40
        colour = MODALITY_COLOURS.get(modality, GREY)
        sns.histplot(
            present, ax=ax, discrete=few, bins="auto" if few else 30, color=colour,
            edgecolor="white", alpha=1,
        )  # fmt: skip
        if span < 6:
            ax.set_xlim(present.min() - 3, present.max() + 3)
        ax.xaxis.set_major_locator(whole_ticks(5))
        ax.yaxis.set_major_locator(whole_ticks(6))
    else:
        say_missing(ax)
    title = f"{modality}: {missing} of {len(counts)} missing" if missing else modality
    dress(ax, title, unit, "utterances", grid="y" if len(present) else "", small=True)


def leakage(reports: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """What learning and test parts share: a row a protocol or fold, a column a kind of thing.

    Cells are counts; NaN or None says that it cannot be known.
    """
    need(reports, [], "leakage reports")
    counts = reports.astype(np.float64).to_numpy()
    high, wide = counts.shape
    ax = own_axes(ax, (2.4 + 1.25 * wide, 1.5 + 0.42 * high))
    for (y, x), n in np.ndenumerate(counts):
        colour = PALE if np.isnan(n) else "#F2C6A8" if n > 0 else "white"
        ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, edgecolor=GREY))
        text = "unknown" if np.isnan(n) else f"{n:g}"
        weight = "bold" if n > 0 else "normal"
        ax.text(x, y, text, ha="center", va="center", fontsize=10, color=INK, fontweight=weight)
    ax.set_xlim(-0.5, wide - 0.5)
    ax.set_ylim(high - 0.5, -0.5)
    ax.set_xticks(range(wide), [fill(str(column), 12) for column in reports.columns])
    ax.set_yticks(range(high), [str(name) for name in reports.index])
    title = "What do learning and test part share? A coloured cell may flatter the score"
    return dress(ax, title, "how many are in both parts", spines=False)


def order_groups(groups: pd.DataFrame, most: int = MOST_GROUPS) -> pd.DataFrame:
    """The ``most`` largest groups, from those of train alone to those of test alone."""
    sizes = groups.sum(axis=1)
    kept = groups.loc[sizes.sort_values(ascending=False, kind="stable").index[:most]]
    shares = kept.div(kept.sum(axis=1), axis=0)
    order = (shares["test"] + 0.01 * shares["dev"]).sort_values(kind="stable")
    return kept.loc[order.index]


def fold_parts(
    groups: pd.DataFrame,
    classes: pd.DataFrame,
    leakage: Mapping[str, float | None],
    group: str = "speaker",
    title: str = "",
) -> Figure:
    """One fold: the parts of every group, the classes of every part, and what leaks into test.

    ``groups`` and ``classes`` count utterances, a row a group (class), with the columns ``train,
    dev, test``; ``leakage`` maps a kind of thing to how many of it learning part and test share,
    None where that cannot be known. A column of more than one colour is a group that leaks.
    """
    need(classes, list(PART_COLOURS), "classes of a fold")
    figure = plt.figure(figsize=(9.4, 5.8), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.1, 1], width_ratios=[1.7, 1])
    _draw_groups(figure.add_subplot(grid[0, :]), groups, group)
    _draw_classes(figure.add_subplot(grid[1, 0]), classes)
    _draw_leaks(figure.add_subplot(grid[1, 1]), leakage)
    handles = [Patch(color=c, label=p) for p, c in PART_COLOURS.items()]
    return crown(figure, title or "Who is in which part? A mixed column is in two", handles)


def _draw_groups(ax: Axes, groups: pd.DataFrame, group: str) -> None:
    """A column a group, its utterances of each part on top of each other."""
    if groups.empty:
        say_missing(ax)
        dress(ax, f"the corpus does not name a {group}", f"{group}s", "utterances", small=True)
        return
    shown = order_groups(groups)
    base = np.zeros(len(shown))
    for part, colour in PART_COLOURS.items():
        high = shown[part].to_numpy(np.float64)
        ax.bar(range(len(shown)), high, bottom=base, color=colour, width=0.85)
        base = base + high
    few = len(shown) <= 30
    longest = max(len(str(name)) for name in shown.index)
    ax.set_xticks(range(len(shown)) if few else [], [str(n) for n in shown.index] if few else [])
    ax.tick_params(axis="x", rotation=60 if longest * len(shown) > 90 else 0)
    ax.set_xlim(-0.6, len(shown) - 0.4)
    ax.set_ylim(0, 1.08 * float(base.max()))
    mixed = int(((shown > 0).sum(axis=1) > 1).sum())
    of = f"the {len(shown)} largest of {len(groups)}" if len(groups) > len(shown) else "all"
    said = f"a column a {group}: {mixed} of {len(shown)} are in more than one part"
    dress(ax, said, f"{group}s ({of})", "utterances", grid="y", small=True)


def _draw_classes(ax: Axes, classes: pd.DataFrame) -> None:
    at = np.arange(len(classes))
    for i, (part, colour) in enumerate(PART_COLOURS.items()):
        total = max(1, int(classes[part].sum()))
        ax.barh(at + 0.27 * (i - 1), 100 * classes[part] / total, height=0.26, color=colour)
    ax.set_yticks(at, [str(name) for name in classes.index])
    ax.invert_yaxis()
    dress(ax, "are the classes alike in all parts?", "share of the part (%)", grid="x", small=True)


def _draw_leaks(ax: Axes, leakage: Mapping[str, float | None]) -> None:
    ax.set_axis_off()
    ax.set_title(
        "in learning part AND test", loc="left", fontsize=9.5, fontweight="bold", color=INK
    )
    for i, (what, n) in enumerate(leakage.items()):
        text = "unknown" if n is None else f"{n:g}"
        colour, weight = (PART_COLOURS["test"], "bold") if n else (GREY, "normal")
        y = 0.88 - 0.25 * i
        ax.text(0.3, y, text, ha="right", va="center", fontsize=13 if n else 10, color=colour,
                fontweight=weight)  # fmt: skip
        ax.text(0.36, y, what, ha="left", va="center", fontsize=10, color=INK)


def utterance(
    frames: Mapping[str, npt.ArrayLike], events: pd.DataFrame | None = None, title: str = ""
) -> Figure:
    """An utterance's features: a heat map a modality over its frames, planted events marked above.

    ``frames`` maps a modality to (T, F), T = 0 where it is missing; ``events`` has the columns
    ``modality, frame, role``. Modalities of like lengths share one frame axis, else each has its
    own.
    """
    arrays = {m: np.asarray(x, dtype=np.float64) for m, x in frames.items()}
    if not arrays or any(x.ndim != 2 for x in arrays.values()):
        raise InputError("utterance: expected a (frames, features) array for each modality")
    sizes = [len(x) for x in arrays.values() if len(x)]
    longest = max(sizes) if sizes and max(sizes) <= ONE_AXIS * min(sizes) else None
    size = (8.0, 0.9 + 1.6 * len(arrays))
    figure, panels = plt.subplots(len(arrays), 1, figsize=size, layout="constrained", squeeze=False)
    roles: list[str] = []
    for ax, (modality, x) in zip(panels[:, 0], arrays.items(), strict=True):
        planted = events_of(events, modality)
        _feature_panel(ax, modality, x, planted, longest)
        roles += list(planted["role"])
    lowest = max((i for i, x in enumerate(arrays.values()) if len(x)), default=len(arrays) - 1)
    panels[lowest, 0].set_xlabel("frame", fontsize=10)
    said = title or "In which frames of each modality does something happen?"
    return crown(figure, said, role_handles(roles))


def _feature_panel(
    ax: Axes, modality: str, x: Floats, events: pd.DataFrame, longest: int | None
) -> None:
    if not len(x):
        say_missing(ax)
        dress(ax, "", "", f"{modality}\n", spines=False)
        return
    limit = float(np.percentile(abs(x), 99)) or 1.0
    image = ax.imshow(
        x.T, aspect="auto", cmap="vlag", vmin=-limit, vmax=limit, interpolation="nearest",
        origin="lower",
    )  # fmt: skip
    bar = figure_of(ax).colorbar(image, ax=ax, fraction=0.025, pad=0.01)
    bar.set_label("value", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    mark(ax, events, "top", len(x))
    dress(ax, "", "", f"{modality}\nfeature", spines=False, small=True)
    ax.set_xlim(-0.5, (longest or len(x)) - 0.5)
    ax.xaxis.set_major_locator(whole_ticks(10))
    ax.yaxis.set_major_locator(whole_ticks(3))
