"""What a study takes before it is begun: seconds an epoch and memory, measured here; the rest told.

Each configuration trains an epoch on a sample, with the lengths of the corpus in question, in a
process of its own: CPU seconds of one thread, in batches of similar length, and the most memory
that the process held. A study is a plan on its corpus, or on a small stand-in whose folds have the
right shares. Seconds of a run are those of an epoch, in proportion to the learning part of its
fold, times a number of epochs that is drawn, as nobody knows when a run will stop. The scores on
the test part at the end, and opening the corpus, are left out.

How long the runs take on several workers is played through (``mmer_lib.schedule``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmer_lib.bench.epoch import EPOCHS, POOL, Rows, prepare, sum_one_epoch
from mmer_lib.bench.lengths import SPEAKERS, UTTERANCES, iemocap_like
from mmer_lib.bench.measure import Peak, Say, Settings, one_thread
from mmer_lib.corpora import Corpus
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.errors import InputError
from mmer_lib.experiments import list_table
from mmer_lib.schedule import Conditions, draw_epochs, scaling
from mmer_lib.sweep import PRELOAD, Plan, in_working_order
from mmer_lib.train import TrainConfig
from mmer_lib.workers import as_finished

SAMPLE = 200  # utterances of an epoch that is measured
STAND_IN = 350  # utterances of a corpus whose folds have the shares of IEMOCAP's
PATIENCE = TrainConfig().patience
MANY = 143  # seeds of the paper's grid that make 10,010 runs
_GRID = 0.8 * UTTERANCES  # utterances of the learning part in `mmer bench grid`


@dataclass(frozen=True)
class Study:
    """A plan, and how many times more utterances there are than in the plan's corpus."""

    name: str
    plan: Plan
    scale: float = 1.0

    def seconds(self, measured: pd.DataFrame, epochs: float, seed: int = 0) -> np.ndarray:
        """Seconds (n,) of the runs as a sweep hands them out, their epochs drawn about a mean."""
        one = replace(self.plan, seeds=1)  # seeds follow each other, and cost the same
        runs = in_working_order(one.runs(), one.corpus)
        each = measured.set_index("configuration")["ms"] / 1000
        learn = np.array([len(run.fold.train) + len(run.fold.dev) for run in runs])
        an_epoch = each[[run.config.name for run in runs]].to_numpy() * learn * self.scale
        drawn = draw_epochs(
            len(runs) * self.plan.seeds, epochs, PATIENCE, np.random.default_rng(seed)
        )
        return np.repeat(an_epoch, self.plan.seeds) * drawn


def known_studies(seeds: int = 10, sizes: Mapping[str, int] | None = None) -> list[Study]:
    """The paper's grid, the zoo, and leaving one speaker out, at IEMOCAP's sizes."""
    corpus, scale, model = iemocap_like(STAND_IN), UTTERANCES / STAND_IN, dict(sizes or {})
    grid, zoo = (tuple(list_table(t, sizes=model)) for t in "AC")
    return [
        Study("the paper's grid", Plan(corpus, grid, seeds=seeds, model=model), scale),
        Study("the zoo", Plan(corpus, zoo, seeds=seeds, model=model), scale),
        Study("one speaker out", Plan(corpus, grid, "by-speaker", SPEAKERS, seeds, model=model),
              scale),
    ]  # fmt: skip


def many_runs(sizes: Mapping[str, int] | None = None) -> Study:
    """The paper's grid with so many seeds that it has some 10,000 runs."""
    study = known_studies(MANY, sizes)[0]
    runs = len(study.plan.configurations) * study.plan.n_folds * MANY
    return Study(f"{runs:,} runs", study.plan, study.scale)


# -- measuring -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sample:
    """On what is measured: ``corpus``, or noise like IEMOCAP; model switches; batches."""

    corpus: Corpus | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    pool: int = POOL

    @property
    def about(self) -> dict[str, Any]:
        """What the seconds hold for."""
        of = "iemocap-like" if self.corpus is None else self.corpus.fingerprint
        return {"corpus": of, **self.model, "batch_size": self.batch_size, "pool": self.pool}

    def measure(self, names: Iterable[str], say: Say) -> Iterator[dict[str, Any]]:
        """A row a configuration, one after the other, so that they can be kept.

        ``configuration``; ``ms``, of an epoch and an utterance of the learning part; ``mb``, the
        most that the process held.
        """
        corpus = iemocap_like(SAMPLE) if self.corpus is None else self.corpus
        if len(corpus) > SAMPLE:
            drawn = np.random.default_rng(0).permutation(len(corpus))[:SAMPLE]
            corpus = corpus.take(np.sort(drawn))
        with share(corpus) as shared:
            for name in names:
                say(f"{name}: an epoch of {len(corpus)} utterances")
                work = partial(measure_epoch, shared, dict(self.model), self.batch_size, self.pool)
                (found,) = as_finished(work, [name], 1, [*PRELOAD, __name__])
                yield {"configuration": name, **found}


def measure_epoch(
    shared: SharedCorpus, model: dict[str, Any], batch_size: int, pool: int, name: str
) -> dict[str, float]:
    """Of this process; a first batch is not counted. An eighth of the utterances is scored."""
    corpus, settings = shared.open(), Settings(batch_size=batch_size)
    rows = np.random.default_rng(0).permutation(len(corpus))
    dev, train = np.sort(rows[: len(rows) // 8 + 1]), np.sort(rows[len(rows) // 8 + 1 :])
    with one_thread(), Peak() as held:
        way = prepare(name, "ours", corpus, Rows(train, dev, dev), settings, pool, model)
        seconds = sum(sum_one_epoch(way, what) for what in ("training", "scoring"))
    return {"ms": 1000 * seconds / len(corpus), "mb": held.most}


def read_measured(file: Path, about: Mapping[str, Any]) -> pd.DataFrame:
    """What ``mmer plan --json`` has kept, or ``mmer bench grid --json``, which has no memory.

    Raises ``InputError`` if it cannot be read, or holds for something else than ``about``.
    """
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if "grid" in kept:
            grid = pd.DataFrame(kept["grid"]).dropna(subset=["epoch"])
            ms = 1000 * grid["epoch"] / _GRID
            table = pd.DataFrame({"configuration": grid["configuration"], "ms": ms, "mb": np.nan})
            of = {**Sample().about, "width": 120, "heads": 6}
        else:
            table, of = pd.DataFrame(kept["epochs"])[["configuration", "ms", "mb"]], kept["about"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file} cannot be read: the --json of an earlier `mmer plan` or `mmer bench grid` "
            f"expected"
        ) from error
    other = [key for key in about if about[key] != of.get(key)]
    if other:
        told = ", ".join(f"{key}={of.get(key)}, here {about[key]}" for key in other)
        raise InputError(f"{file} was measured for {told}: leave it out, and it is measured here")
    return table


# -- telling ---------------------------------------------------------------------------------------


def foresee(
    studies: Sequence[Study],
    measured: pd.DataFrame,
    workers: Sequence[int],
    conditions: Conditions,
    epochs: float = EPOCHS,
    repeats: int = 1,
) -> pd.DataFrame:
    """What studies take: a row a study and number of workers.

    Columns: ``study``, ``configurations``, ``folds``, ``seeds``, ``runs``, ``core_hours``, ``mb``
    (of the configuration that holds most) and those of ``schedule.scaling``.
    """
    held = measured.set_index("configuration")["mb"]
    tables = []
    for study in studies:
        seconds, plan = study.seconds(measured, epochs), study.plan
        configurations = len(plan.configurations)
        about = {
            "study": study.name,
            "configurations": configurations,
            "folds": len(seconds) // (configurations * plan.seeds),
            "seeds": plan.seeds,
            "runs": len(seconds),
            "core_hours": seconds.sum() / 3600,
            "mb": held[list(plan.configurations)].max(),
        }
        played = scaling(seconds, workers, conditions, repeats)
        tables.append(pd.concat([pd.DataFrame([about] * len(played)), played], axis=1))
    return pd.concat(tables, ignore_index=True)
