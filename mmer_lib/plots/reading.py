"""One attention map as a reader takes it: real time axes, one row in full, entropy and padding.

- weights (Tq, Ts): a row a query step; what a row gives to all of the source;
- ``Steps``: what the steps of an axis are - seconds, words, bare frames, or mixtures of all time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from mmer_lib.errors import InputError
from mmer_lib.plots.attention import COLOURS
from mmer_lib.plots.style import (
    GREY,
    INK,
    MARKERS_LIFT,
    Floats,
    as_events,
    crown,
    dress,
    mark,
    role_handles,
    whole_ticks,
)

ENTROPY, PADDING, FRAMED = "#0072B2", "#D55E00", "#E8601C"
MOST_WORDS = 26  # under an axis; of more, every second or third is written
MOST_BARS = 60  # with gaps between them
SHORT = 12  # letters of a word under an axis


@dataclass(frozen=True)
class Steps:
    """What the steps of one axis are.

    ``real`` steps are data and those behind them padding (None: that cannot be told apart, as each
    step mixes all of time). ``rate`` is in steps a second and ``words`` has one word a real step,
    where they are known. ``events`` has the columns ``frame`` and ``role``.
    """

    name: str
    real: int | None
    rate: float | None = None
    words: tuple[str, ...] = ()
    events: pd.DataFrame = field(default_factory=lambda: as_events(None))

    @property
    def unit(self) -> str:
        """What the axis counts in."""
        if self.real is None:
            return "steps that mix all of time"
        if self.rate:
            return "seconds"
        return "words" if self.words else "frames"

    def length(self, n: int) -> float:
        """Of ``n`` steps, in the axis' unit."""
        return n / self.rate if self.rate and self.real is not None else float(n)

    def say(self, step: int) -> str:
        """One step in words: "frame 3", "0.52 s", "frame 3 'word'"."""
        if self.real is not None and step >= self.real:
            return f"padding {step}"
        if self.unit == "seconds":
            return f"{(step + 0.5) / float(self.rate or 1):.2f} s"
        word = f" '{self.words[step]}'" if self.unit == "words" else ""
        return f"{'step' if self.real is None else 'frame'} {step}{word}"


def row_entropy(weights: npt.ArrayLike) -> Floats:
    """Entropy of every row in shares of log(Ts), the most there can be: (..., Ts) -> (...).

    1: all the same weight, 0: one step has all. Of a single step it is 0. A row that sums to less
    than one (a block of a joint attention) is read as if it summed to one.
    """
    w = np.asarray(weights, dtype=np.float64)
    if w.shape[-1] < 2:
        return np.zeros(w.shape[:-1])
    shares = w / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300)
    terms = np.where(shares > 0, -shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0)
    entropy: Floats = np.clip(terms.sum(axis=-1) / np.log(w.shape[-1]), 0.0, 1.0)
    return entropy


def padding_mass(weights: npt.ArrayLike, source: Steps) -> Floats:
    """What every row gives to padding: (..., Ts) -> (...); NaN where that cannot be told."""
    w = np.asarray(weights, dtype=np.float64)
    if source.real is None:
        return np.full(w.shape[:-1], np.nan)
    mass: Floats = w[..., source.real :].sum(axis=-1)
    return mass


def attention_reading(
    weights: npt.ArrayLike, query: Steps, source: Steps, step: int = 0, title: str = ""
) -> Figure:
    """A map, the row of query ``step`` as bars below it, and every row's entropy and padding mass.

    ``weights`` (Tq, Ts). Hatched stretches are padding; planted events are marked at the edges.
    Raises ``InputError`` for another shape, no step at all, or a step that is not there.
    """
    w = _map(weights)
    if not 0 <= step < len(w):
        raise InputError(f"step {step} of the query: there are 0 .. {len(w) - 1}")
    figure, axes = plt.subplots(
        2, 2, figsize=(9.4, 6.4), layout="constrained",
        gridspec_kw={"width_ratios": [3.4, 1], "height_ratios": [2.6, 1]},
    )  # fmt: skip
    _draw_map(axes[0, 0], w, query, source, step)
    _draw_row(axes[1, 0], w[step], query, source, step)
    _draw_strip(axes[0, 1], w, query, source, step)
    _say_row(axes[1, 1], w, query, source, step)
    handles: list[Any] = role_handles([*query.events["role"], *source.events["role"]])
    if max(w.shape[0] - _real(query, w.shape[0]), w.shape[1] - _real(source, w.shape[1])):
        handles.append(Patch(facecolor="white", edgecolor=GREY, hatch="////", label="padding"))
    said = title or f"{query.name} asks {source.name}: where does each {query.name} step look?"
    return crown(figure, said, handles)


def _map(weights: npt.ArrayLike) -> Floats:
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 2 or 0 in w.shape:
        raise InputError(f"attention_reading: expected (query, source) weights, not {w.shape}")
    return w


def _real(steps: Steps, n: int) -> int:
    return n if steps.real is None else min(steps.real, n)


def _draw_map(ax: Axes, w: Floats, query: Steps, source: Steps, step: int) -> None:
    tq, ts = w.shape
    image = ax.imshow(
        w, aspect="auto", cmap=COLOURS, vmin=0, vmax=float(w.max()) or 1.0, interpolation="nearest"
    )
    bar = ax.figure.colorbar(image, ax=ax, location="left", fraction=0.045, pad=0.02)
    bar.set_label("attention weight", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    ax.add_patch(_frame(step, ts, left=-0.5))
    mark(ax, source.events, "top", ts)
    mark(ax, query.events, "right", tq)
    lift = MARKERS_LIFT if len(source.events) else 0
    title = f"a row a step of {query.name}; framed: the row below"
    dress(ax, title, "", f"{query.name} asks ({query.unit})", spines=False, small=True, lift=lift)
    _place(ax, query, tq, vertical=True)
    _place(ax, source, ts)
    if _real(source, ts) < ts:
        _hatch(ax, (_real(source, ts) - 0.5, -0.5), ts - _real(source, ts), tq)
    if _real(query, tq) < tq:
        _hatch(ax, (-0.5, _real(query, tq) - 0.5), ts, tq - _real(query, tq))


def _frame(step: int, wide: float, left: float = 0.0) -> Rectangle:
    """A frame around the row of ``step``."""
    return Rectangle(
        (left, step - 0.5), wide, 1, facecolor="none", edgecolor=FRAMED, linewidth=2, zorder=4
    )


def _hatch(ax: Axes, corner: tuple[float, float], wide: float, high: float) -> None:
    look: dict[str, Any] = {
        "fill": False,
        "edgecolor": "white",
        "alpha": 0.45,
        "hatch": "////",
        "linewidth": 0,
    }
    ax.add_patch(Rectangle(corner, wide, high, **look))


def _place(ax: Axes, steps: Steps, n: int, vertical: bool = False) -> None:
    """Ticks of one axis in its unit: words, seconds, or step numbers."""
    axis = ax.yaxis if vertical else ax.xaxis
    if steps.unit == "words":
        every = max(1, -(-len(steps.words) // MOST_WORDS))
        at = range(0, len(steps.words), every)
        axis.set_ticks(list(at), [_short(steps.words[i]) for i in at])
        if not vertical:
            ax.tick_params(axis="x", rotation=45 if len(steps.words) > 5 else 0)
    elif steps.unit == "seconds":
        rate = float(steps.rate or 1)
        marks = [t for t in MaxNLocator(6).tick_values(0, n / rate) if 0 <= t <= n / rate]
        axis.set_ticks([t * rate - 0.5 for t in marks], [f"{t:g}" for t in marks])
    else:
        axis.set_major_locator(whole_ticks(8))


def _short(word: str) -> str:
    return word if len(word) <= SHORT else word[: SHORT - 1] + "…"


def _draw_row(ax: Axes, row: Floats, query: Steps, source: Steps, step: int) -> None:
    real = _real(source, len(row))
    look: list[dict[str, Any]] = [{"color": ENTROPY}, {"color": PADDING, "hatch": "////"}]
    shape: dict[str, Any] = {"width": 1.0}  # many bars become one surface
    if len(row) <= MOST_BARS:
        shape = {"width": 0.85, "edgecolor": "white"}
    for part, style in zip((slice(0, real), slice(real, None)), look, strict=True):
        ax.bar(np.arange(len(row))[part], row[part], **shape, **style)
    ax.axhline(1 / len(row), color=INK, linewidth=1, linestyle="--")
    ax.set_xlim(-0.5, len(row) - 0.5)
    ax.set_ylim(0, max(float(row.max()) * 1.12, 1.6 / len(row)))
    labels = f"{source.name} is read ({source.unit})", "weight"
    title = f"the row of {query.say(step)}; dashed: equal weights"
    dress(ax, title, *labels, grid="y", small=True)
    _place(ax, source, len(row))


def _draw_strip(ax: Axes, w: Floats, query: Steps, source: Steps, step: int) -> None:
    """Entropy as bars and padding mass as dots, a row a query step, beside the map."""
    rows = np.arange(len(w))
    ax.barh(rows, row_entropy(w), height=0.8, color=ENTROPY, alpha=0.55)
    mass = padding_mass(w, source)
    if np.isfinite(mass).all():
        ax.plot(mass, rows, "o", color=PADDING, markersize=min(6, 160 / len(w)))
    ax.add_patch(_frame(step, 1.04))
    ax.set_ylim(len(w) - 0.5, -0.5)
    ax.set_xlim(-0.01, 1.06)
    ax.set_yticks([])
    dress(ax, "every row", "entropy (bars), padding (dots)", grid="x", small=True)


def _say_row(ax: Axes, w: Floats, query: Steps, source: Steps, step: int) -> None:
    """Entropy and padding mass of the row and of all rows, in numbers."""
    ax.set_axis_off()
    mass = padding_mass(w, source)
    unknown = "cannot be told:\nits steps mix all of time"
    lines = [
        ("entropy, share of log(keys)", ENTROPY),
        (f"this row {row_entropy(w)[step]:.2f}, all rows {row_entropy(w).mean():.2f}", INK),
        ("mass on padding", PADDING),
        (f"this row {mass[step]:.2f}, all rows {mass.mean():.2f}", INK)
        if np.isfinite(mass).all()
        else (unknown, INK),
    ]
    for i, (text, colour) in enumerate(lines):
        weight = "bold" if i % 2 == 0 else "normal"
        ax.text(0, 0.9 - 0.22 * i, text, color=colour, fontsize=9, fontweight=weight, va="top")
