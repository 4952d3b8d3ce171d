"""Runs side by side: how much faster two processes are, how soon they start, what they hold.

Random features with the lengths of IEMOCAP (see ``lengths``), models at the paper's sizes.

- *Throughput*: the same runs by one worker process and by two, in turn, on the clock, since that is
  what two processes shorten; medians. The fork server is there already, but workers are started and
  the corpus is opened within the time. Other work on the machine makes the ratio smaller. What is
  ours to lose shows all the same: CPU seconds that grow when two share caches and memory, and time
  in which one of the two has no run (``busy_two`` is the share of time in which they have). With a
  core for each, the ratio is 2 cpu_one / cpu_two * busy_two.
- *Start-up*: from the order to a worker's first line with everything imported that a run needs, in
  a new process: of the first worker, for which the server imports, and of a further one.
- *Memory*: PSS (Linux) of workers and server when all have read the whole fold, and in the middle
  of a training step of all. In a sum of PSS, pages that processes share are counted once; what a
  step computes is shared with nobody.
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
from mmer_lib.corpora.folder import read_corpus
from mmer_lib.corpora.shared import SharedCorpus, share
from mmer_lib.store import ResultStore
from mmer_lib.sweep import PRELOAD, Plan, Run, execute, in_working_order, make_parts
from mmer_lib.train import TrainConfig, build_model
from mmer_lib.workers import METHOD, as_finished

NAMES = ("self-AVT", "cross-AVT", "cross-AT", "self-VT")
FEW = 400  # utterances of the plan that is timed
WORKERS = 4  # whose memory is beside that of one
_PRELOAD = (*PRELOAD, __name__)


def bench_sweep(
    settings: Settings,
    say: Say,
    utterances: int = UTTERANCES,
    few: int = FEW,
    names: tuple[str, ...] = NAMES,
) -> pd.DataFrame:
    """One row; memory of a corpus of ``utterances``, time of a plan on a corpus of ``few``.

    ``names``: the configurations of the plan; memory is that of the first.

    Columns: ``wall_one``, ``wall_two`` and ``throughput`` (one / two), ``cpu_one``, ``cpu_two``
    (seconds of the same runs), ``busy_two`` (a share); ``first_start``, ``further_start`` (seconds;
    and ``_cpu``); on Linux ``mb_one``, ``mb_four`` and ``memory`` (four / one), and the same in a
    ``step_``.
    """
    row: dict[str, Any] = {"plan": f"{', '.join(names)}; 2 folds"}
    say("start-up of workers")
    row |= in_fresh_process(measure_start)
    say(f"throughput: {settings.repeats} times {2 * len(names)} runs by one process and by two")
    row |= _measure_throughput(iemocap_like(few), names, settings)
    if sys.platform == "linux":
        say(f"memory of 1 and of {WORKERS} workers: a corpus of {utterances} utterances is written")
        row |= _measure_memory(iemocap_like(utterances), names[0], settings.batch_size)
    return pd.DataFrame([row])


# -- throughput ------------------------------------------------------------------------------------


def _measure_throughput(
    corpus: Corpus, names: tuple[str, ...], settings: Settings
) -> dict[str, float]:
    """Medians of the plan's seconds by one worker and by two."""
    train = TrainConfig(epochs=1, batch_size=settings.batch_size)
    runs = in_working_order(Plan(corpus, names, n_folds=2, seeds=1, train=train).runs(), corpus)
    taken: dict[int, list[tuple[float, float, float]]] = {1: [], 2: []}
    list(as_finished(abs, [0], 1, _PRELOAD))  # the server is there from now on
    with share(corpus) as shared:
        for _ in range(settings.repeats):
            for jobs, found in taken.items():
                found.append(_time_runs(shared, runs, jobs))
    one, two = ([median(values) for values in zip(*found, strict=True)] for found in taken.values())
    return {
        "wall_one": one[0], "wall_two": two[0], "throughput": one[0] / two[0],
        "cpu_one": one[1], "cpu_two": two[1], "busy_two": two[2],
    }  # fmt: skip


def _time_runs(shared: SharedCorpus, runs: list[Run], jobs: int) -> tuple[float, float, float]:
    """Seconds on the clock until all is done, CPU seconds, and the share of time spent in runs."""
    with tempfile.TemporaryDirectory(prefix="mmer-") as folder:
        ResultStore(folder)
        started = time.perf_counter()
        done = list(as_finished(partial(time_run, shared, Path(folder)), runs, jobs, _PRELOAD))
        seconds = time.perf_counter() - started
    return seconds, sum(cpu for cpu, _ in done), sum(wall for _, wall in done) / (jobs * seconds)


def time_run(shared: SharedCorpus, store: Path, run: Run) -> tuple[float, float]:
    """CPU seconds of a run in this process, and seconds on the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    execute(run, shared.open(), ResultStore(store))
    return time.process_time() - cpu, time.perf_counter() - wall


# -- start-up --------------------------------------------------------------------------------------


def measure_start() -> dict[str, float]:
    """Seconds from the order to the first line of a worker: the first, and a further one."""
    seconds: dict[str, float] = {}
    for which in ("first", "further"):
        ordered, spent = time.monotonic(), _children_cpu()
        began, cpu = next(as_finished(first_line, [0], 1, _PRELOAD))
        seconds |= {f"{which}_start": began - ordered, f"{which}_start_cpu": cpu - spent}
    return seconds


def first_line(_: int) -> tuple[float, float]:
    """The machine's clock and the CPU seconds spent, when all that a run needs is imported."""
    for module in PRELOAD:
        __import__(module)
    return time.monotonic(), sum(_cpu(process) for process in _workers_and_server(True))


def _children_cpu() -> float:
    """CPU seconds of the server, if it is there."""
    return sum(_cpu(child) for child in psutil.Process().children() if METHOD == "forkserver")


def _cpu(process: psutil.Process) -> float:
    return float(process.cpu_times().user + process.cpu_times().system)


def _workers_and_server(server: bool) -> Iterator[psutil.Process]:
    """This worker, and the process that it was forked from."""
    yield psutil.Process()
    if server and METHOD == "forkserver":
        yield psutil.Process(os.getppid())


# -- memory ----------------------------------------------------------------------------------------


def _measure_memory(corpus: Corpus, name: str, batch_size: int) -> dict[str, float]:
    """MB of one worker and of several on the same fold, each in a new process."""
    with tempfile.TemporaryDirectory(prefix="mmer-") as folder:
        path = str(corpus.save(Path(folder) / "corpus"))
        del corpus
        row: dict[str, float] = {}
        held = {n: in_fresh_process(measure_held, path, name, batch_size, n) for n in (1, WORKERS)}
    for i, when in enumerate(("", "step_")):
        one, four = held[1][i], held[WORKERS][i]
        row |= {f"{when}mb_one": one, f"{when}mb_four": four, f"{when}memory": four / one}
    return row


def measure_held(folder: str, name: str, batch_size: int, jobs: int) -> list[float]:
    """MB of ``jobs`` workers and their server: the fold read, and in a training step."""
    train = TrainConfig(batch_size=batch_size)
    runs = Plan(read_corpus(Path(folder)), (name,), seeds=jobs, train=train).runs()[:jobs]
    shared = SharedCorpus(Path(folder), read_corpus(Path(folder)).fingerprint)
    with tempfile.TemporaryDirectory(prefix="mmer-") as meeting:
        hold = partial(hold_fold, shared, Path(meeting), jobs)
        found = list(as_finished(hold, runs, jobs, _PRELOAD))
    return [sum(one[i] for one in found) for i in (0, 1)]


def hold_fold(shared: SharedCorpus, meeting: Path, jobs: int, run: Run) -> tuple[float, float]:
    """MB of this process (seed 0: and of the server) when all ``jobs`` are equally far.

    First when it has read the whole fold, then between forward and backward pass of a step.
    """
    model = build_model(run.config, run.seed)
    parts = make_parts(run.config, run.fold, shared.open())
    for part in parts.values():
        deque(part.batches(run.train.batch_size), maxlen=0)
    read = _hold_together(meeting / "read", jobs, run)
    batch = next(parts["train"].batches(run.train.batch_size, np.random.default_rng(run.seed)))
    loss = F.cross_entropy(model(batch).logits, batch.labels)
    step = _hold_together(meeting / "step", jobs, run)
    loss.backward()
    return read, step


def _hold_together(place: Path, jobs: int, run: Run) -> float:
    """MB held, while all workers are here."""
    _meet(place.with_suffix(".here"), jobs)
    mine = _workers_and_server(run.seed == 0)
    held = sum(process.memory_full_info().pss for process in mine) / 1e6
    _meet(place.with_suffix(".measured"), jobs)
    return float(held)


def _meet(place: Path, jobs: int) -> None:
    """Wait until ``jobs`` processes have come here."""
    place.mkdir(exist_ok=True)
    (place / str(os.getpid())).touch()
    while len(list(place.iterdir())) < jobs:
        time.sleep(0.05)
