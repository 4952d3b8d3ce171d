"""What more workers bring: speed-up and idle time of studies of several sizes."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from mmer_lib.plots.style import INK, PALE, crown, dress, make_panels, need

# Okabe & Ito (2008), with a marker each, so that no colour is needed to tell them apart.
_LOOKS = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "D"), ("#CC79A7", "^"), ("#56B4E9", "v"))


def scaling(table: pd.DataFrame) -> Figure:
    """Speed-up (left) and the share of time that workers are idle (right) over their number.

    ``table`` is that of ``bench.outlook.foresee``: ``study, runs, workers, speedup, idle``.
    """
    need(table, ["study", "runs", "workers", "speedup", "idle"], "table of workers")
    figure, (left, right) = make_panels(2, 2, (4.3, 3.7))
    handles = []
    for i, (study, its) in enumerate(table.groupby("study", sort=False)):
        colour, marker = _LOOKS[i % len(_LOOKS)]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "lw": 1.7}
        left.plot(its["workers"], its["speedup"], **look)
        right.plot(its["workers"], 100 * its["idle"], **look)
        handles.append(Line2D([], [], label=_named(str(study), int(its["runs"].iloc[0])), **look))
    counts = sorted(table["workers"].unique())
    left.plot(counts, counts, color=PALE, lw=9, zorder=1)  # seen behind what lies on it
    handles.append(Line2D([], [], color=PALE, lw=9, label="ideal"))
    left.set_yscale("log")
    for ax in (left, right):
        _mark_counts(ax, counts)
    left.set_yticks(counts, [f"{n:g}" for n in counts])
    left.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g} %"))
    right.set_ylim(0, max(10.0, 105 * float(table["idle"].max())))
    dress(left, "Speed-up", "workers", "times as fast as one after the other", "both", small=True)
    dress(right, "Time without a run", "workers", "share of the workers' time", "both", small=True)
    return crown(figure, "How many workers are worth having? As long as the line is the ideal one",
                 handles)  # fmt: skip


def _named(study: str, runs: int) -> str:
    """``the zoo: 1,250 runs``."""
    told = f"{runs:,} runs"
    return study if told in study else f"{study}: {told}"


def _mark_counts(ax: Axes, counts: list[int]) -> None:
    """A logarithmic axis that names the numbers of workers there are."""
    ax.set_xscale("log")
    ax.set_xticks(counts, [f"{n:g}" for n in counts])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.tick_params(axis="x", colors=INK)
