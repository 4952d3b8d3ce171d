"""An epoch on utterances as long as IEMOCAP's: the controlled model beside the plain way.

The plain way pads every utterance to the paper's lengths and scores the test part after the epoch,
as the released code does; ours computes no padding, in batches of similar length, and scores the
development part alone. Both read the same corpus of noise (``lengths``), one fold of five, and
gathering the frames of a batch counts.

A whole epoch of ours is timed. All steps of the plain way cost the same: some are timed in between,
and their median is taken times their number. Seconds are given for the 7,487 utterances of the
paper, in proportion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import pandas as pd
import torch

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.lengths import UTTERANCES, iemocap_like
from mmer_lib.bench.measure import Say, Settings, one_thread, seconds_of
from mmer_lib.bench.steps import train_step
from mmer_lib.corpora import Corpus, Fold
from mmer_lib.corpora.batches import Batch, Part, Scaler
from mmer_lib.model import Recognizer, parse_configuration

NAMES = ("self-AVT", "cross-AVT")
WAYS = ("plain", "ours")
POOL = 16  # batches that are drawn together and sorted by length


def bench_epoch(
    settings: Settings, say: Say, names: tuple[str, ...] = NAMES, utterances: int = 1200
) -> pd.DataFrame:
    """One row a configuration.

    Columns: ``configuration``, ``plain``, ``ours`` (seconds an epoch), ``ratio``, and of what they
    are made: ``plain_training``, ``ours_training``, ``plain_scoring``, ``ours_scoring``.
    """
    corpus = iemocap_like(utterances)
    fold = corpus.folds("random", 5)[0]
    rows = []
    for name in names:
        say(f"{name}: an epoch of {len(fold.train)} utterances, and steps of the plain way")
        with one_thread():
            seconds = _time_ways(name, corpus, fold, settings)
        whole = {key: value * UTTERANCES / utterances for key, value in seconds.items()}
        plain, ours = (whole[f"{way}_training"] + whole[f"{way}_scoring"] for way in WAYS)
        told = {"configuration": name, "plain": plain, "ours": ours, "ratio": plain / ours}
        rows.append(told | whole)
    return pd.DataFrame(rows)


def _time_ways(name: str, corpus: Corpus, fold: Fold, settings: Settings) -> dict[str, float]:
    """Seconds of training and of scoring in an epoch."""
    plain, ours = (_prepare(name, way, corpus, fold, settings) for way in WAYS)
    found = {}
    for what in ("training", "scoring"):
        theirs, own = plain.take(what), ours.take(what)
        next(theirs), next(own)  # the first is not counted
        some, all_of_ours = [], []
        for i in range(ours.count(what)):
            all_of_ours.append(next(own))
            if i % max(1, ours.count(what) // settings.repeats) == 0:
                some.append(next(theirs))
        found[f"plain_{what}"] = median(some) * plain.count(what)
        found[f"ours_{what}"] = sum(all_of_ours)
    return found


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


def _prepare(name: str, way: str, corpus: Corpus, fold: Fold, settings: Settings) -> _Way:
    """``way`` of configuration ``name``, and what it reads."""
    config = parse_configuration(plain_name(name) if way == "plain" else name).for_corpus(corpus)
    model = build_plain(plain_name(name)) if way == "plain" else Recognizer(config)
    scaler = Scaler.fit(corpus, fold.train, config.scaled)

    def read(rows: np.ndarray) -> Part:
        return Part(corpus, rows, config.modalities, scaler, config.pad_to, config.dtype)

    scored = (fold.dev, fold.test) if way == "plain" else (fold.dev,)
    parts = {"training": [read(fold.train)], "scoring": [read(rows) for rows in scored]}
    optimizer = torch.optim.Adam(model.to(settings.device).parameters())
    return _Way(model, optimizer, parts, 1 if way == "plain" else POOL, settings)
