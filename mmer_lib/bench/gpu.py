"""What a GPU gives: steps and runs of the paper's grid in four ways, and several processes at once.

The ways are ``TrainConfig.amp`` and ``compile``: neither, one, both. Every process has a context
and so a stream of its own, as the workers of ``mmer sweep --jobs N --device cuda`` have. Kernels
are those of a sweep: the same bits every time, no TF32. On a CPU, for tests, seconds are those of
one process's own work, whatever else runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch

from mmer_lib.bench.flops import count_flops
from mmer_lib.bench.loads import PAPER
from mmer_lib.bench.measure import Say, Settings, one_thread, peak_of, seconds_of, take_in_turn
from mmer_lib.bench.steps import Steps, make_batch
from mmer_lib.corpora import Corpus, Ragged
from mmer_lib.corpora.batches import Part
from mmer_lib.model import PAPER_GRID, ModelConfig, Recognizer, parse_configuration
from mmer_lib.sweep import same_bits
from mmer_lib.train import TrainConfig, compile_forward, fit

WAYS = {  # (amp, compile)
    "float32": (False, False),
    "amp": (True, False),
    "compile": (False, True),
    "amp+compile": (True, True),
}


@dataclass(frozen=True)
class GpuSizes:
    """What is measured."""

    names: tuple[str, ...] = PAPER_GRID
    ways: tuple[str, ...] = tuple(WAYS)
    processes: tuple[int, ...] = (1, 2, 4, 8)
    lengths: Mapping[str, int] = field(default_factory=lambda: dict(PAPER))
    utterances: int = 320  # a run trains and is scored on
    epochs: int = 2
    product: int = 8192  # n of the (n, n) product that stands for the peak


@dataclass(frozen=True)
class Task:
    """What one process does."""

    name: str
    lengths: Mapping[str, int]
    utterances: int
    repeats: int
    train: TrainConfig

    @property
    def config(self) -> ModelConfig:
        """At the lengths that are asked for."""
        return replace(parse_configuration(self.name), lengths=dict(self.lengths))


def bench_gpu(settings: Settings, say: Say, sizes: GpuSizes = GpuSizes()) -> pd.DataFrame:
    """A row a configuration, way and number of processes at once.

    Columns: ``configuration, way, processes``; ``step_seconds`` and ``run_seconds`` as each process
    sees them (medians over processes), ``steps_a_second`` of all together, ``gflops`` of a training
    step's matrix products (see ``flops``), ``share_of_peak``: what all together do of them in a
    second, over what one large product in the way's precision reaches; ``mb`` a process at the peak
    of a step, above model and batch.
    """
    peaks = {amp: _peak_rate(sizes.product, amp, settings.device) for amp in (False, True)}
    flops = {name: _count(name, settings.batch_size, sizes.lengths) for name in sizes.names}
    rows = []
    for processes in sizes.processes:
        with _team(processes) as team:
            for name, way in product(sizes.names, sizes.ways):
                say(f"{processes} at once: {name}, {way}")
                found = _together(team, _task(name, way, settings, sizes))
                found["gflops"] = flops[name] / 1e9
                share = flops[name] * found["steps_a_second"] / peaks[WAYS[way][0]]
                row = {"configuration": name, "way": way, "processes": processes}
                rows.append(row | found | {"share_of_peak": share})
    return pd.DataFrame(rows)


def _task(name: str, way: str, settings: Settings, sizes: GpuSizes) -> Task:
    amp, compiled = WAYS[way]
    train = TrainConfig(
        sizes.epochs, sizes.epochs, batch_size=settings.batch_size, device=settings.device,
        amp=amp, compile=compiled,
    )  # fmt: skip
    return Task(name, sizes.lengths, sizes.utterances, settings.repeats, train)


def _count(name: str, batch_size: int, lengths: Mapping[str, int]) -> int:
    config = replace(parse_configuration(name), lengths=dict(lengths))
    return count_flops(Recognizer(config), make_batch(config, batch_size), learn=True)


def _peak_rate(n: int, half: bool, device: str) -> float:
    """Operations a second of one (n, n) product in bfloat16 or float32, the best of five."""
    x = torch.ones(n, n, device=device, dtype=torch.bfloat16 if half else torch.float32)
    with one_thread(), same_bits(device):
        seconds = [seconds_of(lambda: x @ x, device) for _ in range(6)][1:]
    return 2 * n**3 / max(min(seconds), 1e-9)


Team = list[subprocess.Popen[str]]


@contextmanager
def _team(processes: int) -> Iterator[Team]:
    """Processes that wait for tasks; they are gone afterwards, come what may."""
    start = [sys.executable, "-c", "from mmer_lib.bench.gpu import serve; serve()"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    team: Team = []
    try:
        team += [subprocess.Popen(start, **pipes) for _ in range(processes)]
        yield team
    finally:
        for one in team:
            one.kill()
            one.communicate()


def _together(team: Team, task: Task) -> dict[str, float]:
    """The same task in every process; they begin when all are ready."""
    _tell_all(team, json.dumps(asdict(task)))
    for one in team:
        _line_of(one)  # ready
    _tell_all(team, "go")
    found = pd.DataFrame([json.loads(_line_of(one)) for one in team])
    each = {name: median(found[name]) for name in ("step_seconds", "run_seconds", "mb")}
    return each | {"steps_a_second": float((1 / found["step_seconds"]).sum())}


def _tell_all(team: Team, line: str) -> None:
    for one in team:
        one.stdin.write(f"{line}\n")  # type: ignore[union-attr]
        one.stdin.flush()  # type: ignore[union-attr]


def _line_of(worker: subprocess.Popen[str]) -> str:
    """The next line that a worker says. Its errors go to standard error as they are."""
    line = worker.stdout.readline()  # type: ignore[union-attr]
    if not line:
        raise RuntimeError(f"a process of the bench ended with status {worker.wait()}")
    return line


def serve() -> None:
    """What a process of a team runs: a task a line; prepare, say so, wait, measure, tell."""
    for line in sys.stdin:
        given = json.loads(line)
        task = Task(**{**given, "train": TrainConfig(**given["train"])})
        with one_thread(), same_bits(task.train.device):
            one, part = prepare(task)
            _tell("ready")
            sys.stdin.readline()
            _tell(json.dumps(measure(task, one, part)))


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def prepare(task: Task) -> tuple[Steps, Part]:
    """The model on its device, compiled if asked for, after a first step; and what a run reads."""
    part = _noise(task.config, task.utterances)
    model = Recognizer(task.config).to(task.train.device)
    if task.train.compile:
        compile_forward(model, part, task.train)
    batch = make_batch(task.config, task.train.batch_size).to(task.train.device)
    one = Steps(model, batch, task.train.amp)
    one.train()
    return one, part


def measure(task: Task, one: Steps, part: Part) -> dict[str, float]:
    """``step_seconds, run_seconds, mb``."""
    device = task.train.device
    step = take_in_turn({"step": one.train}, task.repeats, device)["step"]
    model = Recognizer(task.config)
    run = seconds_of(lambda: fit(model, part, part, task.train), device)
    return {"step_seconds": step, "run_seconds": run, "mb": peak_of(one.train, device)}


def _noise(config: ModelConfig, utterances: int) -> Part:
    """Random features of full lengths: nothing is to be learned from them."""
    rng, features = np.random.default_rng(0), {}
    for m in config.modalities:
        shape, width = (utterances, config.lengths[m]), config.features[m]
        frames = rng.standard_normal((shape[0] * shape[1], width), dtype=np.float32)
        features[m] = Ragged(frames, np.arange(shape[0] + 1, dtype=np.int64) * shape[1])
    classes = tuple(map(str, range(config.classes)))
    ids = [f"u{i}" for i in range(utterances)]
    table = pd.DataFrame({"id": ids, "label": np.arange(utterances) % config.classes})
    corpus = Corpus("noise", classes, table, features)
    rows = np.arange(utterances)
    return Part(corpus, rows, config.modalities, None, config.pad_to, config.dtype)
