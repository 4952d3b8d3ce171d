"""What a model looks at: attention maps, the mass on planted events, the pooling identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.spatial import ConvexHull, QhullError

from mmer_lib.errors import InputError
from mmer_lib.plots.style import (
    GREY,
    INK,
    MARKERS_LIFT,
    MODALITY_COLOURS,
    Floats,
    as_events,
    crown,
    dress,
    events_of,
    figure_of,
    fusion_colour,
    label_outer,
    legend_below,
    make_panels,
    mark,
    need,
    own_axes,
    role_handles,
    rows,
    say_missing,
    whole_ticks,
)

COLOURS = "cividis"
Events = pd.DataFrame | Sequence[int] | None


def attention_map(
    weights: npt.ArrayLike,
    query_label: str,
    source_label: str,
    events_query: Events = None,
    events_source: Events = None,
    ax: Axes | None = None,
) -> Axes:
    """Attention weights (Tq, Ts), a row a query frame; planted events are marked outside the map.

    Events have a ``frame`` and a ``role`` column, or are plain frame numbers. A map with no query
    or no source frames is drawn as missing.
    """
    w = _weights(weights)
    asking, asked = as_events(events_query), as_events(events_source)
    ax = own_axes(ax, (5.4, 4.6))
    top = float(w.max()) if w.size else 1.0
    _draw(ax, w, asking, asked, top)
    if w.size:
        _colour_bar(figure_of(ax), [ax], top, "attention weight (a row sums to 1)")
    legend_below(figure_of(ax), role_handles([*asking["role"], *asked["role"]]))
    title = f"{query_label} asks {source_label}: where does each query frame look?"
    labels = f"source frame ({source_label})", f"query frame ({query_label})"
    return dress(ax, title, *labels, spines=False, lift=0 if asked.empty else MARKERS_LIFT)


def attention_grid(
    maps: Mapping[tuple[str, str], npt.ArrayLike],
    events: pd.DataFrame | None = None,
    suptitle: str = "",
) -> Figure:
    """All maps of one utterance under one colour scale.

    ``maps`` is (query, source) -> (Tq, Ts): those of a self model stand in a row, others as query
    x source. ``events`` has the columns ``modality, frame, role``.
    """
    if not maps:
        raise InputError("attention_grid: no map given")
    arrays = {pair: _weights(w) for pair, w in maps.items()}
    top = max((float(w.max()) for w in arrays.values() if w.size), default=1.0)
    figure, cells = _grid_cells(list(arrays))
    roles: list[str] = []
    for (query, source), ax in cells.items():
        asking, asked = events_of(events, query), events_of(events, source)
        _draw(ax, arrays[query, source], asking, asked, top)
        labels = f"{source} frame", f"{query} frame (asks)"
        lift = 0 if asked.empty else MARKERS_LIFT
        dress(ax, f"{query} asks {source}", *labels, spines=False, small=True, lift=lift)
        roles += [*asking["role"], *asked["role"]]
    _colour_bar(figure, list(cells.values()), top, "attention weight")
    return crown(
        figure, suptitle or "Does the asking frame look at the answer?", role_handles(roles)
    )


def attention_heads(
    weights: npt.ArrayLike, query_label: str, source_label: str, suptitle: str = ""
) -> Figure:
    """One map a head, from weights (H, Tq, Ts), under one colour scale."""
    w = np.asarray(weights, dtype=np.float64)
    if w.ndim != 3 or 0 in w.shape:
        raise InputError(f"attention_heads: expected (heads, query, source) weights, not {w.shape}")
    columns = 4 if len(w) % 4 == 0 else 3  # the paper's 6 heads fill two rows, ours one
    figure, panels = make_panels(len(w), columns=columns, size=(2.9, 2.5))
    for h, ax in enumerate(panels):
        _draw(ax, _weights(w[h]), as_events(None), as_events(None), float(w.max()))
        dress(ax, f"head {h + 1}", spines=False, small=True)
    label_outer(panels, columns, f"source frame ({source_label})", f"query frame ({query_label})")
    _colour_bar(figure, panels, float(w.max()), "attention weight")
    return crown(figure, suptitle or "Do the heads look at different frames?")


def event_mass(masses: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Attention on the planted answer beside that on the decoys and under equal weights.

    ``masses`` is ``maps.event_mass`` with a ``configuration`` column: ``configuration, mass,
    chance`` (shares) and, where there are any, ``query, source`` (a bar each) and ``role``
    ("answer": the bars; "decoy": open diamonds). Rows of one bar (utterances, runs) are averaged
    and get a 95 % interval of their mean.
    """
    need(masses, ["configuration", "mass", "chance"], "event masses")
    by = [c for c in ("configuration", "query", "source") if c in masses]
    answers = masses[masses["role"] == "answer"] if "role" in masses else masses
    need(answers, by, "event masses of the answer")
    groups = answers.groupby(by, sort=False)
    bars = groups[["mass", "chance"]].mean()
    bars["half"] = 1.96 * groups["mass"].sem().fillna(0)
    if "role" in masses:
        bars["decoy"] = masses[masses["role"] == "decoy"].groupby(by)["mass"].mean()
    bars = bars.reset_index()
    ax = own_axes(ax, (7.0, 1.5 + 0.4 * len(bars)))
    for y, row in enumerate(rows(bars)):
        _mass_bar(ax, y, row)
    pairs = {"query", "source"} <= set(by)
    names = [f": {row.query} asks {row.source}" if pairs else "" for row in rows(bars)]
    ax.set_yticks(range(len(bars)), [*(bars["configuration"] + names)])
    ax.invert_yaxis()
    ax.set_xlim(0, ax.get_xlim()[1])
    handles = [Line2D([], [], color=INK, linewidth=2.4, label="equal weights")]
    if "role" in masses:
        handles.append(Line2D([], [], **_DECOY, label="decoys (mean)"))
    legend_below(figure_of(ax), handles)
    title = "Does attention find the answer? Look for bars far past the mark of equal weights"
    return dress(ax, title, "attention on the planted answer (%)", grid="x")


_DECOY: dict[str, Any] = {
    "linestyle": "", "marker": "D", "markersize": 6, "color": "white", "markeredgecolor": INK,
}  # fmt: skip


def _mass_bar(ax: Axes, y: int, row: Any) -> None:
    """A bar with its interval, the mark of equal weights, and the decoys."""
    ax.barh(y, 100 * row.mass, color=fusion_colour(row.configuration), height=0.68)
    ends = [100 * (row.mass - row.half), 100 * (row.mass + row.half)]
    ax.plot(ends, [y, y], color=INK, linewidth=1.2)
    ax.plot([100 * row.chance] * 2, [y - 0.42, y + 0.42], color=INK, linewidth=2.4)
    if np.isfinite(getattr(row, "decoy", np.nan)):
        ax.plot(100 * row.decoy, y, **_DECOY, clip_on=False)  # whole at 0, too


def pooling_identity(
    frames: npt.ArrayLike,
    answers: npt.ArrayLike,
    ax: Axes | None = None,
    title: str = "Can any query draw an answer out of the hull of the source's frames?",
) -> Axes:
    """What a fused vector can be: every answer lies within the hull of the source's frames.

    ``frames`` (Ts, 2) are the source's frames as one head passes them on (projected to two
    numbers); ``answers`` (n, 2) the time-averaged attention output for n different queries. Each is
    a weighted mean of the frames, so none leaves their convex hull, whatever asks.
    """
    source, outputs = as_plane("frames", frames), as_plane("answers", answers)
    ax = own_axes(ax, (5.0, 4.4))
    corners = hull_corners(source)
    ax.fill(*corners.T, facecolor="#DCE8F2", edgecolor=GREY, linewidth=1, zorder=1)
    ax.scatter(
        outputs[:, 0], outputs[:, 1], s=12, color="#0072B2", alpha=0.5, linewidth=0, label="answers"
    )
    ax.scatter(source[:, 0], source[:, 1], s=70, color="#D55E00", zorder=3, label="source frames")
    for i, (x, y) in enumerate(source):
        ax.annotate(f"{i}", (x, y), color="white", fontsize=7, ha="center", va="center", zorder=4)
    legend_below(figure_of(ax), ax.get_legend_handles_labels()[0])
    return dress(ax, title, "first coordinate", "second coordinate", grid="both")


def as_plane(what: str, given: npt.ArrayLike) -> Floats:
    """``given`` as (n, 2) points, n at least 1, or ``InputError`` that calls them ``what``."""
    points = np.asarray(given, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise InputError(f"{what} must be (n, 2) points of a plane, not of shape {points.shape}")
    return points


def hull_corners(points: Floats) -> Floats:
    """The corners of the convex hull, in order; of points on one line, its two ends."""
    try:
        return np.asarray(points[ConvexHull(points).vertices], dtype=np.float64)
    except (QhullError, ValueError):
        order = np.lexsort(points.T)
        return np.asarray(points[order[[0, -1]]], dtype=np.float64)


def _draw(ax: Axes, w: Floats, asking: pd.DataFrame, asked: pd.DataFrame, top: float) -> None:
    """A heat map with its events on top (source) and on the right (query), or "missing"."""
    if not w.size:
        say_missing(ax)
        return
    ax.imshow(w, aspect="auto", cmap=COLOURS, vmin=0, vmax=top or 1.0, interpolation="nearest")
    ax.xaxis.set_major_locator(whole_ticks(6))
    ax.yaxis.set_major_locator(whole_ticks(6))
    mark(ax, asked, "top", w.shape[1])
    mark(ax, asking, "right", w.shape[0])


def _colour_bar(figure: Figure, panels: Sequence[Axes], top: float, text: str) -> None:
    scale = ScalarMappable(Normalize(0, top or 1.0), COLOURS)
    bar = figure.colorbar(scale, ax=list(panels), fraction=0.04, pad=0.03)
    bar.set_label(text, fontsize=9)
    bar.ax.tick_params(labelsize=8)


def _grid_cells(
    pairs: Sequence[tuple[str, str]],
) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    """A figure with an Axes a pair: one row for self models, else queries x sources."""
    if all(query == source for query, source in pairs):
        figure, panels = make_panels(len(pairs), columns=len(pairs), size=(3.2, 2.8))
        return figure, dict(zip(pairs, panels, strict=True))
    queries = _by_modality(query for query, _ in pairs)
    sources = _by_modality(source for _, source in pairs)
    size = (0.9 + 2.9 * len(sources), 0.8 + 2.6 * len(queries))
    figure, axes = plt.subplots(
        len(queries), len(sources), squeeze=False, layout="constrained", figsize=size
    )
    cells = {}
    for (i, j), ax in np.ndenumerate(axes):
        if (queries[i], sources[j]) in pairs:
            cells[queries[i], sources[j]] = ax
        else:
            ax.set_axis_off()
    return figure, cells


def _by_modality(names: Iterable[str]) -> list[str]:
    """Distinct names in the order audio, video, text, others after them."""
    order = {name: i for i, name in enumerate(MODALITY_COLOURS)}
    return sorted(set(names), key=lambda name: (order.get(name, len(order)), name))


def _weights(given: npt.ArrayLike) -> Floats:
    """``given`` as (Tq, Ts) finite weights, or ``InputError``."""
    w = np.asarray(given, dtype=np.float64)
    if w.ndim != 2:
        raise InputError(
            f"attention weights must be (query frames, source frames), not of shape {w.shape}: "
            f"choose an utterance and a head, or average the heads"
        )
    if not np.isfinite(w).all():
        raise InputError(f"attention weights: {(~np.isfinite(w)).sum()} of {w.size} are not finite")
    return w
