"""Runs side by side: how much faster two processes are, how soon they start, what they hold.

Random features with the lengths of IEMOCAP (see ``lengths``), models at the paper's sizes.

- *Throughput*: the same runs by one worker process and by two, in turn, on the clock, since that is
  what two processes shorten; medians. The fork server is there already, but workers are started and
  the corpus is opened within the time. Other work on the machine makes the ratio smaller: the CPU
  seconds of the same runs say how much of a loss is due to sharing caches and memory.
- *Start-up*: from the order to a worker's first line with everything imported that a run needs, in
  a new process: of the first worker, and of a further one.
- *Memory*: PSS (Linux) of all that was started, in the middle of a training step of all workers,
  when each has read the whole fold. Pages that processes share are counted once in a sum of PSS.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import psutil
from torch.nn import functional as F

from mmer_lib.bench.lengths import UTTERANCES, iemocap_like
from mmer_lib.bench.measure import Say, Settings, in_fresh_process
from mmer_lib.corpora.base import Corpus
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.store import ResultStore
from mmer_lib.sweep import PRELOAD, Plan, Run, execute, in_working_order, make_parts
from mmer_lib.train import TrainConfig, build_model
from mmer_lib.workers import METHOD, as_finished

NAMES = ("self-AVT", "cross-AVT", "cross-AT", "self-VT")
LARGEST = "self-AVT"  # whose memory is measured
FEW = 400  # utterances of the plan that is timed
WORKERS = 4  # whose memory is beside that of one
_PRELOAD = (*PRELOAD, __name__)


def bench_sweep(
    settings: Settings, say: Say, utterances: int = UTTERANCES, few: int = FEW
) -> pd.DataFrame:
    """One row; memory of a corpus of ``utterances``, time of a plan on a corpus of ``few``.

    Columns: ``wall_one``, ``wall_two`` and ``throughput`` (one / two), ``cpu_one``, ``cpu_two``
    (seconds of the same runs); ``first_start``, ``further_start`` (seconds); on Linux ``mb_one``,
    ``mb_four`` and ``memory`` (four / one).
    """
    row: dict[str, Any] = {"plan": f"{', '.join(NAMES)}; 2 folds"}
    say("start-up of workers")
    row |= in_fresh_process(measure_start)
    say(f"throughput: {settings.repeats} times {2 * len(NAMES)} runs by one process and by two")
    row |= _measure_throughput(iemocap_like(few), settings)
    if sys.platform == "linux":
        say(f"memory of 1 and of {WORKERS} workers: a corpus of {utterances} utterances is written")
        row |= _measure_memory(iemocap_like(utterances), settings.batch_size)
    return pd.DataFrame([row])


# -- throughput ------------------------------------------------------------------------------------


def _measure_throughput(corpus: Corpus, settings: Settings) -> dict[str, float]:
    """Medians of the plan's seconds by one worker and by two."""
    train = TrainConfig(epochs=1, batch_size=settings.batch_size)
    runs = in_working_order(Plan(corpus, NAMES, n_folds=2, seeds=1, train=train).runs(), corpus)
    taken: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    list(as_finished(abs, [0], 1, _PRELOAD))  # the server is there from now on
    with share(corpus) as shared:
        for _ in range(settings.repeats):
            for jobs, found in taken.items():
                found.append(_time_runs(shared, runs, jobs))
    wall, cpu = ({jobs: median(t[i] for t in taken[jobs]) for jobs in taken} for i in (0, 1))
    return {
        "wall_one": wall[1], "wall_two": wall[2], "throughput": wall[1] / wall[2],
        "cpu_one": cpu[1], "cpu_two": cpu[2],
    }  # fmt: skip


def _time_runs(shared: SharedCorpus, runs: list[Run], jobs: int) -> tuple[float, float]:
    """Seconds on the clock until all runs are done, and their CPU seconds."""
    with tempfile.TemporaryDirectory(prefix="mmer-") as folder:
        ResultStore(folder)
        started = time.perf_counter()
        cpu = sum(as_finished(partial(time_run, shared, Path(folder)), runs, jobs, _PRELOAD))
        return time.perf_counter() - started, cpu


def time_run(shared: SharedCorpus, store: Path, run: Run) -> float:
    """CPU seconds of a run in this process."""
    started = time.process_time()
    execute(run, shared.open(), ResultStore(store))
    return time.process_time() - started


# -- start-up --------------------------------------------------------------------------------------


def measure_start() -> dict[str, float]:
    """Seconds from the order to the first line of a worker: the first, and a further one."""
    return {"first_start": _seconds_to_start(), "further_start": _seconds_to_start()}


def _seconds_to_start() -> float:
    ordered = time.monotonic()
    return next(as_finished(first_line, [0], 1, _PRELOAD)) - ordered


def first_line(_: int) -> float:
    """The clock of the machine, when all that a run needs is imported."""
    for module in PRELOAD:
        __import__(module)
    return time.monotonic()


# -- memory ----------------------------------------------------------------------------------------


def _measure_memory(corpus: Corpus, batch_size: int) -> dict[str, float]:
    """MB of one worker and of several on the same fold, each in a new process."""
    with tempfile.TemporaryDirectory(prefix="mmer-") as folder:
        path = str(corpus.save(Path(folder) / "corpus"))
        given = (path, corpus.fingerprint, batch_size)
        del corpus
        one, four = (in_fresh_process(measure_held, *given, jobs) for jobs in (1, WORKERS))
    return {"mb_one": one, "mb_four": four, "memory": four / one}


def measure_held(folder: str, fingerprint: str, batch_size: int, jobs: int) -> float:
    """MB of ``jobs`` workers, and of the server that they are forked from, in a training step."""
    shared = SharedCorpus(Path(folder), fingerprint)
    with tempfile.TemporaryDirectory(prefix="mmer-") as meeting:
        hold = partial(hold_fold, shared, batch_size, Path(meeting), jobs)
        return sum(as_finished(hold, range(jobs), jobs, _PRELOAD))


def hold_fold(shared: SharedCorpus, batch_size: int, meeting: Path, jobs: int, seed: int) -> float:
    """MB of this process before the backward pass of a step, when all ``jobs`` are there.

    The worker of seed 0 adds those of the server.
    """
    plan = Plan(shared.open(), (LARGEST,), seeds=1, train=TrainConfig(batch_size=batch_size))
    run = plan.runs()[0]
    model, parts = build_model(run.config, seed), make_parts(run.config, run.fold, plan.corpus)
    for part in parts.values():
        deque(part.batches(batch_size, np.random.default_rng(seed)), maxlen=0)
    batch = next(parts["train"].batches(batch_size, np.random.default_rng(seed)))
    loss = F.cross_entropy(model(batch).logits, batch.labels)
    _meet(meeting / "here", jobs)
    held = sum(process.memory_full_info().pss for process in _mine(seed)) / 1e6
    _meet(meeting / "measured", jobs)
    loss.backward()
    return float(held)


def _mine(seed: int) -> Iterator[psutil.Process]:
    """This process; for seed 0 the server, too."""
    yield psutil.Process()
    if seed == 0 and METHOD == "forkserver":
        yield psutil.Process(os.getppid())


def _meet(place: Path, jobs: int) -> None:
    """Wait until ``jobs`` processes have come here."""
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < jobs:
        time.sleep(0.05)
