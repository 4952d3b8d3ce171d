"""What all figures share: one palette, panels, titles, legends and event markers.

The palette is safe for colour-blind readers: fusions and modalities after Okabe & Ito (2008),
verdicts after Tol (2021). A fusion and a modality have the same colour in every figure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill
from typing import Any, Literal
from zlib import crc32

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from mmer_lib.errors import InputError

Floats = npt.NDArray[np.float64]

DPI = 150
INK, GREY, PALE = "#222222", "#8A8A8A", "#E3E3E3"
FUSION_COLOURS = {"self": "#0072B2", "cross": "#D55E00", "selfcross": "#009E73"}
# One attention under three masks: compared side by side, so never alike.
JOINT_COLOURS = {"joint_self": "#332288", "joint_cross": "#CC6677", "joint": "#6699CC"}
OTHER_COLOURS = ("#332288", "#999933", "#44AA99", "#CC6677", "#661100", "#6699CC")
MODALITY_COLOURS = {"audio": "#E69F00", "video": "#56B4E9", "text": "#CC79A7"}
VERDICT_COLOURS = {
    "different": "#882255",
    "different but within the margin": "#AA4499",
    "equivalent": "#117733",
    "inconclusive": "#777777",
}
# Roles of planted events -> marker and colour.
ROLES = {
    "ask": ("v", "#0072B2"),
    "answer": ("*", "#D55E00"),
    "decoy": ("X", "#777777"),
    "emotion": ("o", "#009E73"),
    "word": ("o", "#CC79A7"),
    "apex": ("^", "#56B4E9"),
    "stress": ("D", "#E69F00"),
}
OTHER_ROLE = ("d", INK)
MARKERS_LIFT = 12  # points above a panel that event markers take


def split_name(configuration: str) -> tuple[str, str, str]:
    """Fusion, modality letters and the rest of a configuration's name.

    >>> split_name("cross-AV-nosp@released")
    ('cross', 'AV', 'nosp@released')

    A name that is no configuration is its own fusion with no modalities.
    """
    at = min((configuration.find(c) for c in "@," if c in configuration), default=None)
    head, flavour = configuration[:at], "" if at is None else configuration[at:]
    fusion, _, rest = head.partition("-")
    modalities, _, variant = rest.partition("-")
    return fusion, modalities, variant + flavour


def fusion_colour(configuration: str) -> str:
    """The colour of a configuration's fusion: a few are fixed, that of others follows from a name.

    Two of the others may share one.
    """
    fusion = split_name(configuration)[0]
    other = OTHER_COLOURS[crc32(fusion.encode()) % len(OTHER_COLOURS)]
    return {**JOINT_COLOURS, **FUSION_COLOURS}.get(fusion, other)


def figure_of(ax: Axes) -> Figure:
    """The whole figure that ``ax`` stands in."""
    figure = ax.get_figure(root=True)
    if figure is None:
        raise InputError("these Axes belong to no figure: they were removed")
    return figure


def own_axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """``ax``, or the one Axes of a new figure of ``size`` inches."""
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def make_panels(
    n: int, columns: int, size: tuple[float, float], shared: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure of n panels of ``size`` inches in rows of at most ``columns``."""
    wide = min(n, columns)
    high = -(-n // wide)
    figure, axes = plt.subplots(
        high, wide, figsize=(0.7 + size[0] * wide, 0.8 + size[1] * high), layout="constrained",
        squeeze=False, sharex=shared, sharey=shared,
    )  # fmt: skip
    for ax in axes.flat[n:]:
        ax.set_axis_off()
    return figure, list(axes.flat[:n])


def label_outer(panels: Sequence[Axes], columns: int, x_label: str, y_label: str) -> None:
    """Axis labels (and shared tick labels) below the lowest panels and beside the first ones."""
    wide = min(len(panels), columns)
    for i, ax in enumerate(panels):
        if i + wide >= len(panels):
            ax.set_xlabel(x_label, fontsize=9)
            ax.tick_params(labelbottom=True)
        if i % wide == 0:
            ax.set_ylabel(y_label, fontsize=9)


def dress(
    ax: Axes,
    title: str,
    x_label: str = "",
    y_label: str = "",
    grid: Literal["both", "x", "y", ""] = "",
    spines: bool = True,
    small: bool = False,
    lift: float = 0,
) -> Axes:
    """Title, labels and the house's look; ``lift`` is room above the panel, in points."""
    size = 9.5 if small else 11.5
    text = _wrap(title, _title_room(ax), size)
    ax.set_title(text, loc="left", fontsize=size, fontweight="bold", color=INK, pad=7 + lift)
    ax.set_xlabel(x_label, fontsize=9 if small else 10)
    ax.set_ylabel(y_label, fontsize=9 if small else 10)
    ax.tick_params(labelsize=8 if small else 9, color=GREY)
    for name, spine in ax.spines.items():
        spine.set_visible(spines and name in ("left", "bottom"))
        spine.set_color(GREY)
    if grid:
        ax.grid(axis=grid, color=PALE, linewidth=0.8)
        ax.set_axisbelow(True)
    return ax


def _title_room(ax: Axes) -> float:
    """Inches for a title: about the panel's width, less what long tick labels will take of it."""
    whole = figure_of(ax).get_figwidth()
    longest = max((len(tick.get_text()) for tick in ax.get_yticklabels()), default=0)
    return min(1.1 * ax.get_position().width * whole, whole - 0.8 - 0.08 * longest)


def _wrap(title: str, inches: float, size: float) -> str:
    """A bold title of ``size`` points in lines that fit; a letter is about 2/3 as wide as high."""
    return fill(title, max(18, int(inches * 72 / (0.675 * size))))


def crown(figure: Figure, title: str, handles: Sequence[Any] = ()) -> Figure:
    """A title over all panels of ``figure`` and, below them, a legend."""
    text = _wrap(title, figure.get_figwidth(), 12)
    figure.suptitle(text, fontsize=12, fontweight="bold", color=INK, x=0.01, ha="left")
    legend_below(figure, handles)
    return figure


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A frameless legend under everything else."""
    if handles:
        columns = max(1, min(len(handles), int(figure.get_figwidth() / 1.45)))
        figure.legend(
            handles=list(handles), loc="outside lower center", ncols=columns, frameon=False,
            fontsize=9,
        )  # fmt: skip


def whole_ticks(most: int) -> MaxNLocator:
    """A locator of at most ``most`` whole numbers."""
    return MaxNLocator(most, integer=True, min_n_ticks=1)


def say_missing(ax: Axes) -> None:
    """An empty panel that says so."""
    ax.text(
        0.5, 0.5, "missing", transform=ax.transAxes, ha="center", va="center", color=GREY,
        fontsize=12, fontstyle="italic",
    )  # fmt: skip
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_facecolor("#F6F6F6")


def count(n: float, noun: str) -> str:
    """A number with its noun: 1 point, 0.5 points."""
    return f"{n:g} {noun}" if n == 1 else f"{n:g} {noun}s"


def rows(frame: pd.DataFrame) -> list[Any]:
    """The rows as named tuples."""
    return list(frame.itertuples())


def need(frame: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Raise ``InputError`` unless ``frame`` has ``columns`` and at least one row."""
    missing = [column for column in columns if column not in frame]
    if missing:
        have = ", ".join(map(str, frame.columns))
        raise InputError(f"{what} without column {', '.join(missing)}: there are {have}")
    if frame.empty:
        raise InputError(f"{what} with no row: there is nothing to draw")


def as_events(given: pd.DataFrame | Sequence[int] | None) -> pd.DataFrame:
    """Events as a frame with ``frame`` and ``role``; plain frame numbers have the role "event"."""
    if isinstance(given, pd.DataFrame):
        if given.empty:
            return as_events(None)
        need(given, ["frame"], "events")
        return given if "role" in given else given.assign(role="event")
    return pd.DataFrame({"frame": list(given if given is not None else []), "role": "event"})


def events_of(events: pd.DataFrame | None, modality: str) -> pd.DataFrame:
    """The events of one modality of an utterance."""
    if events is None or events.empty:
        return as_events(None)
    need(events, ["modality", "frame", "role"], "events")
    return as_events(events[events["modality"] == modality])


def mark(ax: Axes, events: pd.DataFrame, side: Literal["top", "right"], length: int) -> None:
    """Markers just outside an edge of a map of ``length`` frames, at the events' frames.

    Raises ``InputError`` for an event that lies outside the map.
    """
    top = side == "top"
    place = ax.get_xaxis_transform() if top else ax.get_yaxis_transform()
    away = ScaledTranslation(
        0 if top else 8 / 72, 8 / 72 if top else 0, figure_of(ax).dpi_scale_trans
    )
    for role, group in events.groupby("role"):
        frames, edge = group["frame"].to_numpy(), np.ones(len(group))
        if frames.min() < 0 or frames.max() >= length:
            raise InputError(
                f"an event ({role}) at frame {frames.max()} of {length} frames: "
                f"give the events of this utterance and modality"
            )
        marker, colour = ROLES.get(str(role), OTHER_ROLE)
        # A line artist, not a scatter: only that is seen by the layout.
        line = Line2D(
            *((frames, edge) if top else (edge, frames)), marker=marker, markersize=7.5,
            color=colour, markeredgewidth=0, linestyle="", transform=place + away, clip_on=False,
        )  # fmt: skip
        ax.add_artist(line)


def role_handles(roles: Iterable[str]) -> list[Line2D]:
    """Legend entries of event roles, in the order of ``ROLES``."""
    names = list(dict.fromkeys(roles))
    handles = []
    for role in sorted(names, key=[*ROLES, *names].index):
        handle = Line2D([], [], linestyle="", markersize=7.5, markeredgewidth=0, label=role)
        marker, colour = ROLES.get(role, OTHER_ROLE)
        handle.set(marker=marker, color=colour)
        handles.append(handle)
    return handles
