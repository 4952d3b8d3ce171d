"""How attention computes, in numbers small enough to read: every step of it, and the hull.

- queries (Tq, D), keys (Ts, D), values (Ts, D); mask (Ts,) bool, True = may be read;
- scores = q k^T, scaled = scores / (sqrt(D) temperature), weights = softmax over the source,
  output = weights values (Vaswani et al. 2017, eq. 1, with a temperature).
"""

from __future__ import annotations

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from mmer_lib.errors import InputError
from mmer_lib.plots.attention import COLOURS, as_plane, hull_corners
from mmer_lib.plots.style import GREY, INK, Floats, crown, dress

ASKS, MEAN, SOURCE = "#0072B2", "#CC79A7", "#D55E00"


@dataclass(frozen=True)
class Attended:
    """Every step of one attention: scores, scaled, weights (Tq, Ts) and output (Tq, D)."""

    scores: Floats
    scaled: Floats  # -inf where a key may not be read
    weights: Floats
    output: Floats


def attend(
    queries: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
) -> Attended:
    """Scaled dot-product attention step by step; where no key may be read all weights are 0.

    Raises ``InputError`` for shapes that do not fit together or a temperature that is not above 0.
    """
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (queries, keys, values))
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != k.shape[1] or len(v) != len(k):
        raise InputError(
            f"attend: queries {q.shape}, keys {k.shape} and values {v.shape} do not fit: expected "
            f"(Tq, D), (Ts, D) and (Ts, anything)"
        )
    if not temperature > 0:
        raise InputError(f"temperature={temperature}: a number above 0 expected")
    allowed = np.ones(len(k), bool) if mask is None else np.asarray(mask, bool)
    scores = q @ k.T  # (Tq, Ts)
    scaled = np.where(allowed, scores / (np.sqrt(q.shape[1]) * temperature), -np.inf)
    weights = np.zeros_like(scaled)
    if allowed.any():
        raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        weights = raised / raised.sum(axis=1, keepdims=True)
    return Attended(scores, scaled, weights, weights @ v)


def qkv_steps(
    queries: npt.ArrayLike,
    keys: npt.ArrayLike,
    values: npt.ArrayLike,
    temperature: float = 1.0,
    mask: npt.ArrayLike | None = None,
) -> Figure:
    """The tables of one attention: what goes in above, and below every step from left to right."""
    q, k, v = (np.asarray(x, dtype=np.float64) for x in (queries, keys, values))
    found = attend(q, k, v, temperature, mask)
    figure = plt.figure(figsize=(11.4, 5.2))
    ax = figure.add_axes((0, 0, 1, 0.93))
    ax.set_axis_off()
    qs, ks, vs = _names("q", len(q)), _names("k", len(k)), _names("v", len(v))
    numbers, columns = _names("number ", q.shape[1]), _names("number ", v.shape[1])
    _table(ax, (0.0, 1.0), q, qs, numbers, "queries q: who asks")
    _table(ax, (4.0, 1.0), k.T, numbers, ks, "keys k: compared with q")
    _table(ax, (8.0, 1.0), v.T, columns, vs, "values v: what is read")
    scaled = f"2 scaled: / ({temperature:g} √{q.shape[1]})"
    _table(ax, (0.0, 0.0), found.scores, qs, ks, "1 scores: q · k", wide=2.3)
    _table(ax, (3.0, 0.0), found.scaled, qs, ks, scaled, wide=2.3)
    _table(ax, (6.0, 0.0), found.weights, qs, ks, "3 softmax: weights", wide=2.3, heat=True)
    _table(ax, (9.0, 0.0), found.output, qs, columns, "4 output: mixed v", wide=2.3)
    ax.set_xlim(-0.2, 12.0)
    ax.set_ylim(-0.05, 2.0)
    return crown(figure, "Who is read, and what comes out? Follow a query's row from left to right")


def _names(letter: str, n: int) -> list[str]:
    return [f"{letter}{i + 1}" for i in range(n)]


def _table(
    ax: Axes, corner: tuple[float, float], x: Floats, rows: list[str], columns: list[str],
    title: str, wide: float = 3.0, heat: bool = False,
) -> None:  # fmt: skip
    """Numbers in cells within a place 1 high; with ``heat`` coloured from 0 to 1."""
    left, low = corner[0] + (0.75 if len(rows[0]) > 3 else 0.3), corner[1]
    cell, high = (corner[0] + wide + 0.3 - left) / len(columns), 0.68 / len(rows)
    colour = plt.get_cmap(COLOURS)
    ax.text(corner[0], low + 0.9, title, fontsize=10.5, fontweight="bold", color=INK)
    for j, name in enumerate(columns):
        ax.text(left + (j + 0.5) * cell, low + 0.81, name, ha="center", fontsize=9, color=GREY)
    for (i, j), number in np.ndenumerate(x):
        place = (left + j * cell, low + 0.1 + 0.68 - (i + 1) * high)
        face = colour(float(number)) if heat else "#EDEDED"
        ax.add_patch(Rectangle(place, 0.97 * cell, 0.95 * high, facecolor=face, linewidth=0))
        text = f"{number:.2f}" if np.isfinite(number) else "masked"
        ink = INK if not heat or number > 0.6 else "white"
        ax.text(place[0] + 0.48 * cell, place[1] + 0.47 * high, text, ha="center", va="center",
                fontsize=10, color=ink if np.isfinite(number) else GREY)  # fmt: skip
    for i, name in enumerate(rows):
        ax.text(left - 0.06, low + 0.78 - (i + 0.5) * high, name, ha="right", va="center",
                fontsize=9, color=GREY)  # fmt: skip


def pooling_view(
    frames: npt.ArrayLike, queries: npt.ArrayLike, chosen: int = 0, reach: float | None = None
) -> Figure:
    """Where queries stand, and where their answers lie: inside the hull of the source's frames.

    ``frames`` (Ts, 2) are keys and values in one, ``queries`` (Tq, 2) ask them. Answers are
    joined to the query they belong to; the star is their mean over the query's time. ``reach``
    fixes the half width of the panel. Raises ``InputError`` for points that are not of a plane.
    """
    e, q = as_plane("frames", frames), as_plane("queries", queries)
    if not 0 <= chosen < len(q):
        raise InputError(f"query {chosen}: there are 0 .. {len(q) - 1}")
    found = attend(q, e, e)
    figure, (ax, bars) = plt.subplots(
        1, 2, figsize=(9.6, 4.9), layout="constrained", gridspec_kw={"width_ratios": [1.5, 1]}
    )
    _draw_plane(ax, e, q, found, chosen)
    limit = reach or 1.15 * float(max(abs(e).max(), abs(q).max())) or 1.0
    ax.set_xlim(-limit, limit)
    ax.set_ylim(-limit, limit)
    ax.set_aspect("equal")
    _draw_shares(bars, found.weights, chosen)
    return crown(figure, "Can any query draw its answer out of the hull of the source's frames?")


def _draw_plane(ax: Axes, e: Floats, q: Floats, found: Attended, chosen: int) -> None:
    ax.fill(*hull_corners(e).T, facecolor="#DCE8F2", edgecolor=GREY, linewidth=1, zorder=1)
    for i, (query, answer) in enumerate(zip(q, found.output, strict=True)):
        strong = 1.0 if i == chosen else 0.3
        ax.plot(*np.c_[query, answer], color=ASKS, linewidth=1.2, linestyle=":", alpha=strong)
        ax.plot(*query, "D", color="white", markeredgecolor=ASKS, markersize=10, alpha=strong)
        ax.plot(*answer, "o", color=ASKS, markersize=9, alpha=strong, zorder=4)
    for j, place in enumerate(e):
        ax.plot(*place, "o", color=SOURCE, markersize=13, zorder=3)
        ax.annotate(f"{j + 1}", place, color="white", fontsize=8, ha="center", va="center",
                    zorder=3, fontweight="bold")  # fmt: skip
    ax.plot(*found.output.mean(axis=0), "*", color=MEAN, markersize=20, zorder=5,
            markeredgecolor="white")  # fmt: skip
    for marker, colour, edge, text in (
        ("D", "white", ASKS, "query (pale: other frames)"),
        ("o", ASKS, ASKS, "its answer"),
        ("*", MEAN, MEAN, "mean of all answers"),
        ("o", SOURCE, SOURCE, "source frames, their hull"),
    ):
        ax.plot([], [], marker, color=colour, markeredgecolor=edge, label=text)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, frameon=False, fontsize=9)
    dress(ax, "one plane: what asks and what is read", "first number", "second number", "both",
          small=True)  # fmt: skip


def _draw_shares(ax: Axes, weights: Floats, chosen: int) -> None:
    at = np.arange(weights.shape[1])
    ax.barh(at - 0.2, weights[chosen], height=0.38, color=ASKS)
    ax.barh(at + 0.2, weights.mean(axis=0), height=0.38, color=MEAN)
    ax.set_yticks(at, [f"frame {j + 1}" for j in at])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    handles = [
        Patch(color=ASKS, label="of the query"),
        Patch(color=MEAN, label="mean, all queries"),
    ]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2,
              frameon=False, fontsize=9)  # fmt: skip
    dress(ax, "its mixture: weights sum to one", "weight of a source frame", grid="x",
          small=True)  # fmt: skip
