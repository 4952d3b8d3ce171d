"""How time and memory grow with the length of audio, the batch, the modalities, and the runs.

A training step of the controlled self and cross at the paper's sizes in float32, ours and the
plain way in the same precision, while one thing grows and all else stays:

- ``audio``: frames of audio, beside 32 of video and 128 of text, a quarter of the batch at once,
  which changes the time and not its exponent;
- ``batch``: utterances of 1000, 32 and 128 frames;
- ``modalities``: A, AV, AVT, with as many frames each, so that none outweighs the others;
- ``runs``: of a small plan on the embedded corpus, one after the other in this process.

Where seconds = c size^e, a line through log seconds over log size has the slope e. It is fitted by
least squares to the upper part, sizes of at least a quarter of the series' largest: below, what
costs the same at every size hides the exponent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import nan, sqrt
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.bench.loads import PAPER, Load
from mmer_lib.bench.measure import (
    Peak,
    Say,
    Settings,
    in_fresh_process,
    one_thread,
    take_in_turn,
)
from mmer_lib.corpora.synthetic import synthetic
from mmer_lib.model import parse_configuration
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan, run_plan
from mmer_lib.train import TrainConfig

FUSIONS = ("self", "cross")
UPPER = 4  # the fit begins at the largest size over this
FOLDS = 2  # of the small plan


@dataclass(frozen=True)
class Sizes:
    """What grows, how far, and what stays."""

    audio: tuple[int, ...] = (125, 250, 500, 1000, 1500, 2000)
    batch: tuple[int, ...] = (4, 8, 16, 32)
    modalities: tuple[str, ...] = ("A", "AV", "AVT")
    runs: tuple[int, ...] = (2, 4, 8, 16)  # even: the small plan has two folds
    lengths: Mapping[str, int] = field(default_factory=lambda: dict(PAPER))
    even_length: int = 500  # of every modality while their number grows
    most_weights: int = 1 << 28  # of a pair and batch, 1 GB: beyond, the plain way is left out
    utterances: int = 60  # of the small plan's corpus
    epochs: int = 2


@dataclass(frozen=True)
class Point:
    """One size of one series: how it is done, and what weighs it in a process of its own."""

    grows: str
    size: int
    fusion: str
    configuration: str
    way: str
    make: Callable[[], Callable[[], object]]
    weigh: Callable[[], float]


def bench_growth(
    settings: Settings, say: Say, sizes: Sizes = Sizes(), memory: bool = True
) -> pd.DataFrame:
    """A row a size, with the exponents of its series.

    Columns: ``grows, size, fusion, configuration, way, seconds, seconds_exponent, seconds_error``
    and with ``memory`` likewise ``mb``. An error is that of the slope, NaN with two sizes. Memory
    is that of two steps (or the runs) at the peak, above model and batch.
    """
    points = list(_step_points(sizes, max(1, settings.batch_size // 4)))
    points += _run_points(sizes)
    table = pd.DataFrame([_told(point) for point in points])
    for what in table["grows"].unique():
        say(f"growth with {what}: time of {settings.repeats} each")
        chosen = {str(i): points[i].make() for i in table.index[table["grows"] == what]}
        for i, seconds in take_in_turn(chosen, settings.repeats).items():
            table.loc[int(i), "seconds"] = seconds
    table = add_exponents(table, "seconds")
    if not memory:
        return table
    say("growth: memory, each size in a process of its own")
    return add_exponents(table.assign(mb=[point.weigh() for point in points]), "mb")


def fit_exponent(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Slope of log values over log sizes in the upper part, and its standard error.

    NaN where there are too few sizes (two for a slope, three for an error) or a value is not above
    0.
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    upper = (x >= x.max() / UPPER) & (y > 0)
    x, y = np.log(x[upper]), np.log(y[upper])
    if len(x) < 2:
        return nan, nan
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    if len(x) < 3:
        return slope, nan
    rest = y - slope * x
    return slope, sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x))


def add_exponents(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The table with ``{what}_exponent`` and ``{what}_error`` of every series."""
    table = table.copy()
    for _, series in table.groupby(["grows", "fusion", "way"], sort=False):
        found = fit_exponent(series["size"].to_list(), series[what].to_list())
        table.loc[series.index, [f"{what}_exponent", f"{what}_error"]] = found
    return table


def _told(point: Point) -> dict[str, Any]:
    columns = ("grows", "size", "fusion", "configuration", "way")
    return {name: getattr(point, name) for name in columns}


def _step_points(sizes: Sizes, batch_size: int) -> Iterator[Point]:
    """Steps while audio, batch or modalities grow, where a fusion can and the plain way fits."""
    for grows, size, letters, batch, lengths in _shapes(sizes, batch_size):
        for fusion in FUSIONS[: len(letters)]:  # cross needs two modalities
            for way in ("ours", "plain"):
                load = Load(f"{fusion}-{letters}", batch, lengths, way)
                if way == "ours" or _most_weights(load) <= sizes.most_weights:
                    make = partial(_step_of, load)
                    yield Point(grows, size, fusion, load.name, way, make, load.megabytes)


def _shapes(
    sizes: Sizes, batch_size: int
) -> Iterator[tuple[str, int, str, int, Mapping[str, int]]]:
    """(what grows, how large, letters, batch, lengths)"""
    for frames in sizes.audio:
        yield "audio", frames, "AVT", batch_size, {**sizes.lengths, "audio": frames}
    for batch in sizes.batch:
        yield "batch", batch, "AVT", batch, sizes.lengths
    for letters in sizes.modalities:
        even = dict.fromkeys(sizes.lengths, sizes.even_length)
        yield "modalities", len(letters), letters, batch_size, even


def _step_of(load: Load) -> Callable[[], object]:
    return load.steps().train


def _most_weights(load: Load) -> int:
    """Attention weights of the largest pair in a batch."""
    config = parse_configuration(load.name)
    longest = sorted(load.lengths[m] for m in config.modalities)
    query, source = (longest[-1], longest[-1]) if config.fusion == "self" else longest[-2:]
    return load.batch_size * config.heads * query * source


def _run_points(sizes: Sizes) -> Iterator[Point]:
    """Whole runs, one after the other."""
    for runs in sizes.runs:
        for fusion in FUSIONS:
            given = (f"{fusion}-AVT", runs, sizes.utterances, sizes.epochs)
            make = partial(partial, do_runs, *given)
            weigh = partial(in_fresh_process, weigh_runs, *given)
            yield Point("runs", runs, fusion, given[0], "ours", make, weigh)


def do_runs(name: str, runs: int, utterances: int, epochs: int) -> None:
    """``runs`` of ``name`` on the embedded corpus, two folds, into a store that is thrown away."""
    train = TrainConfig(epochs=epochs, patience=epochs)
    corpus = synthetic(utterances)
    plan = Plan(corpus, (name,), n_folds=FOLDS, seeds=runs // FOLDS, train=train)
    with tempfile.TemporaryDirectory(prefix="mmer-") as folder:
        run_plan(plan, ResultStore(folder), jobs=1)


def weigh_runs(name: str, runs: int, utterances: int, epochs: int) -> float:
    """MB at the peak of ``do_runs``, above what this process held before."""
    with one_thread(), Peak() as held:
        do_runs(name, runs, utterances, epochs)
    return held.more
