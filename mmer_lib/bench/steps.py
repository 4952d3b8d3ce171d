"""One training step and one evaluation at the paper's sizes, ours beside the plain way.

Random features, batch 32: text 128 x 300, video 32 x 2048, audio 1000 x 120. Both ways are run in
turn, in one thread; times are medians of process CPU seconds, so that other work on the machine
weighs less, and ratios are of one run. Memory is the peak of a process that takes two steps, above
what it held before.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import pandas as pd
import psutil
import torch
from torch.nn import functional as F

import mmer_lib
from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.corpora.batches import Batch
from mmer_lib.model import ModelConfig, Recognizer, parse_configuration

NAMES = ("self-AVT@released,double=false", "cross-AVT@released,double=false")
WAYS = ("plain", "ours")
WARM_UP = 1


def bench_steps(
    names: tuple[str, ...] = NAMES,
    batch_size: int = 32,
    repeats: int = 5,
    memory: bool = True,
    say: Callable[[str], None] = lambda text: None,
) -> pd.DataFrame:
    """One row a configuration: seconds of both ways, and how many times faster ours is.

    Columns: ``configuration``, ``train_plain``, ``train_ours``, ``train_ratio``, likewise ``eval``,
    and with ``memory`` ``mb_plain``, ``mb_ours``, ``mb_share``. ``say`` is told of progress.
    """
    rows = []
    for name in names:
        say(f"{name}: time of {repeats} steps each")
        row = {"configuration": name} | _time_ways(name, batch_size, repeats)
        if memory:
            say(f"{name}: memory")
            row |= {f"mb_{way}": _peak_memory(name, way, batch_size) for way in WAYS}
            row["mb_share"] = row["mb_ours"] / row["mb_plain"]
        rows.append(row)
    return pd.DataFrame(rows)


def make_batch(config: ModelConfig, size: int) -> Batch:
    """Random features of the configuration's shapes, without padding."""
    rng = torch.Generator().manual_seed(0)
    shapes = {m: (size, config.lengths[m], config.features[m]) for m in config.modalities}
    return Batch(
        {m: torch.randn(s, dtype=config.dtype, generator=rng) for m, s in shapes.items()},
        {m: torch.ones(s[:2], dtype=torch.bool) for m, s in shapes.items()},
        torch.randint(config.classes, (size,), generator=rng),
        torch.arange(size),
    )


class Way:
    """A model with its optimiser and a batch, ready to take steps."""

    def __init__(self, name: str, way: str, batch_size: int) -> None:
        ours = Recognizer(parse_configuration(name if way == "ours" else plain_name(name)))
        self.model = ours if way == "ours" else build_plain(plain_name(name), ours)
        self.batch = make_batch(self.model.config, batch_size)
        self.optimizer = torch.optim.Adam(self.model.parameters())

    def train(self) -> None:
        """One step of Adam."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.batch).logits, self.batch.labels).backward()
        self.optimizer.step()

    @torch.no_grad()
    def eval(self) -> None:
        """One forward pass."""
        self.model.eval()
        self.model(self.batch)


def _time_ways(name: str, batch_size: int, repeats: int) -> dict[str, Any]:
    """Medians of both ways, taken in turn."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ways = {way: Way(name, way, batch_size) for way in WAYS}
        work = {f"{t}_{w}": getattr(ways[w], t) for t in ("train", "eval") for w in WAYS}
        taken: dict[str, list[float]] = {key: [] for key in work}
        for turn in range(WARM_UP + repeats):
            for key, step in work.items():
                seconds = _cpu_seconds(step)
                taken[key] += [seconds] if turn >= WARM_UP else []
    finally:
        torch.set_num_threads(threads)
    return _with_ratios({key: median(values) for key, values in taken.items()})


def _with_ratios(seconds: Mapping[str, float]) -> dict[str, Any]:
    """``train_plain``, ``train_ours``, ``train_ratio``, and so on."""
    row: dict[str, Any] = {}
    for what in ("train", "eval"):
        plain, ours = seconds[f"{what}_plain"], seconds[f"{what}_ours"]
        row |= {f"{what}_plain": plain, f"{what}_ours": ours, f"{what}_ratio": plain / ours}
    return row


def _cpu_seconds(step: Callable[[], None]) -> float:
    started = time.process_time()
    step()
    return time.process_time() - started


def _peak_memory(name: str, way: str, batch_size: int) -> float:
    """MB of a fresh process, so that nothing of another way is counted."""
    code = (
        f"from {__name__} import measure_memory; print(measure_memory(*{(name, way, batch_size)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measure_memory(name: str, way: str, batch_size: int) -> float:
    """MB of this process at its peak in two training steps, above what it held before."""
    torch.set_num_threads(1)
    one = Way(name, way, batch_size)
    with _Peak() as held:
        one.train()
        one.train()
    return held.most - held.before


class _Peak:
    """MB that this process holds, looked at every few milliseconds by a thread."""

    def __enter__(self) -> _Peak:
        self.process = psutil.Process()
        self.before = self.most = self._hold()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.wait(0.003):
            self.most = max(self.most, self._hold())

    def _hold(self) -> float:
        return float(self.process.memory_info().rss / 1e6)


def describe_machine() -> dict[str, str]:
    """What the numbers hold for."""
    return {
        "mmer": mmer_lib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "threads used": "1",
    }
