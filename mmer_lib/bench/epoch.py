"""An epoch on utterances as long as IEMOCAP's: the controlled model beside two plain ways.

- ``released``: the released model, whose audio attends over 500 mixed steps;
- ``padded``: the controlled model, whose audio attends over up to 1000 frames, run likewise;
- ``ours``: the controlled model without padding, in batches of similar length.

Both plain ways run torch's own modules in float64, pad every utterance to the paper's lengths, and
score the test part after the epoch, as the released code does; ours scores the development part
alone. All read one corpus of noise (``lengths``), one fold of five, and gathering the frames of a
batch counts.

A whole epoch of ours is timed. All steps of a plain way cost the same: some are timed in between,
and their median is taken times their number. Seconds are given for the 7,487 utterances of the
paper, in proportion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from statistics import median
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.lengths import UTTERANCES, iemocap_like
from mmer_lib.bench.measure import Say, Settings, one_thread, seconds_of
from mmer_lib.bench.steps import train_step
from mmer_lib.corpora import Corpus, Fold
from mmer_lib.corpora.batches import Batch, Part, Scaler
from mmer_lib.model import PAPER_GRID, Recognizer, parse_configuration

NAMES = ("self-AVT", "cross-AVT")
WAYS = ("released", "padded", "ours")
EPOCHS, RUNS = 30, 50  # of a run, as patience stops many; folds x seeds of the paper
POOL = 16  # batches that are drawn together and sorted by length


def bench_epoch(
    settings: Settings, say: Say, names: tuple[str, ...] = NAMES, utterances: int = 1200
) -> pd.DataFrame:
    """One row a configuration.

    Columns: ``configuration``; seconds an epoch of each way; ``over_released`` and ``over_padded``,
    how many times faster ours is; and of what the seconds are made, ``ours_training``,
    ``ours_scoring`` and so on.
    """
    corpus = iemocap_like(utterances)
    fold = corpus.folds("random", 5)[0]
    rows = []
    for name in names:
        say(f"{name}: an epoch of {len(fold.train)} utterances, and steps of the plain way")
        with one_thread():
            seconds = _time_ways(name, corpus, fold, settings)
        whole = {key: value * UTTERANCES / utterances for key, value in seconds.items()}
        total = {way: whole[f"{way}_training"] + whole[f"{way}_scoring"] for way in WAYS}
        over = {f"over_{way}": total[way] / total["ours"] for way in WAYS[:2]}
        row: dict[str, str | float] = {"configuration": name, **total, **over, **whole}
        rows.append(row)
    return pd.DataFrame(rows)


def _time_ways(name: str, corpus: Corpus, fold: Fold, settings: Settings) -> dict[str, float]:
    """Seconds of training and of scoring in an epoch."""
    ways = {way: prepare(name, way, corpus, fold, settings) for way in WAYS}
    found = {}
    for what in ("training", "scoring"):
        taken = {way: one.take(what) for way, one in ways.items()}
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for one in taken.values():
            next(one)  # the first is not counted
        count = ways["ours"].count(what)
        for i in range(count):
            now = WAYS if i % max(1, count // settings.repeats) == 0 else ("ours",)
            for way in now:
                seconds[way].append(next(taken[way]))
        for way in WAYS[:2]:
            found[f"{way}_{what}"] = median(seconds[way]) * ways[way].count(what)
        found[f"ours_{what}"] = sum(seconds["ours"])
    return found


def bench_grid(
    settings: Settings, say: Say, names: tuple[str, ...] = PAPER_GRID, utterances: int = 600
) -> pd.DataFrame:
    """What the published study costs: one row a configuration of its grid, and the sum.

    Columns: ``configuration``, ``epoch`` (seconds), ``run`` (hours, of 30 epochs) and ``study``
    (days of one core, or of the GPU, of 50 runs one after the other).
    """
    corpus = iemocap_like(utterances)
    fold = corpus.folds("random", 5)[0]
    rows = []
    for name in names:
        say(f"{name}: an epoch of {len(fold.train)} utterances")
        way = prepare(name, "ours", corpus, fold, settings)
        with one_thread():
            seconds = sum(sum_one_epoch(way, what) for what in ("training", "scoring"))
        rows.append((name, seconds * UTTERANCES / utterances))
    table = pd.DataFrame(rows, columns=["configuration", "epoch"])
    table["run"] = table["epoch"] * EPOCHS / 3600
    table["study"] = table["run"] * RUNS / 24
    total = pd.DataFrame({"configuration": ["all"], "study": [table["study"].sum()]})
    return pd.concat([table, total], ignore_index=True)


def sum_one_epoch(way: _Way, what: str) -> float:
    """Seconds of it, after a batch that is not counted."""
    taken = way.take(what)
    next(taken)
    return sum(islice(taken, way.count(what)))


@dataclass(frozen=True)
class _Way:
    """A model with the parts that it learns from and is scored on in an epoch."""

    model: Recognizer
    optimizer: torch.optim.Optimizer
    parts: dict[str, list[Part]]  # of training, of scoring
    pool: int
    settings: Settings

    def count(self, what: str) -> int:
        """How many batches an epoch has of it."""
        return sum(-(-len(part) // self.settings.batch_size) for part in self.parts[what])

    def take(self, what: str) -> Iterator[float]:
        """Seconds of one batch after the other, without end."""
        work = self._learn if what == "training" else self._score
        for seed in itertools.count():
            rng = np.random.default_rng(seed) if what == "training" else None
            for part in self.parts[what]:
                batches = part.batches(self.settings.batch_size, rng, self.pool)
                for _ in range(-(-len(part) // self.settings.batch_size)):
                    yield seconds_of(partial(work, batches), self.settings.device)

    def _learn(self, batches: Iterator[Batch]) -> None:
        train_step(self.model, self.optimizer, next(batches).to(self.settings.device))

    @torch.no_grad()
    def _score(self, batches: Iterator[Batch]) -> None:
        self.model.eval()
        self.model(next(batches).to(self.settings.device))


class Rows(NamedTuple):
    """The parts of a sample that is no fold of its corpus."""

    train: np.ndarray
    dev: np.ndarray
    test: np.ndarray


def prepare(
    name: str,
    way: str,
    corpus: Corpus,
    fold: Fold | Rows,
    settings: Settings,
    pool: int = POOL,
    switches: Mapping[str, Any] = MappingProxyType({}),
) -> _Way:
    """``way`` of configuration ``name``, and what it reads; ``pool`` is that of ours."""
    kinds = {"ours": name, "released": plain_name(name), "padded": _padded_name(name)}
    config = parse_configuration(kinds[way], **switches).for_corpus(corpus)
    model = Recognizer(config) if way == "ours" else build_plain(kinds[way])
    scaler = Scaler.fit(corpus, fold.train, config.scaled)

    def read(rows: np.ndarray) -> Part:
        return Part(corpus, rows, config.modalities, scaler, config.pad_to, config.dtype)

    scored = (fold.dev,) if way == "ours" else (fold.dev, fold.test)
    parts = {"training": [read(fold.train)], "scoring": [read(rows) for rows in scored]}
    optimizer = torch.optim.Adam(model.to(settings.device).parameters())
    return _Way(model, optimizer, parts, pool if way == "ours" else 1, settings)


def _padded_name(name: str) -> str:
    """The model of ``name`` that attends over every frame, in the released code's precision."""
    return f"{plain_name(name)},time_mixing=false"
