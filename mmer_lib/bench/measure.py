"""How things are measured: in turn, in one thread, in CPU seconds, medians; memory in a process.

Other work on a machine weighs less on CPU seconds than on a clock, and what is taken in turn is
slowed alike: so ratios of one run hold where seconds do not. On CUDA the clock is read instead,
when the device has finished.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil
import torch

import mmer_lib
from mmer_lib.errors import InputError
from mmer_lib.sweep import one_thread
from mmer_lib.train import TrainConfig

WARM_UP = 1
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """What is asked of every part of the bench."""

    repeats: int = 5  # measured after one that is not counted
    batch_size: int = 32  # utterances a step
    device: str = "cpu"


def take_in_turn(
    work: Mapping[str, Callable[[], object]], repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each of ``work``, all of it ``repeats`` times in turn, in one thread."""
    taken: dict[str, list[float]] = {name: [] for name in work}
    with one_thread():
        for turn in range(WARM_UP + repeats):
            for name, step in work.items():
                seconds = seconds_of(step, device)
                taken[name] += [seconds] if turn >= WARM_UP else []
    return {name: median(values) for name, values in taken.items()}


def seconds_of(step: Callable[[], object], device: str = "cpu") -> float:
    """CPU seconds of this process; on CUDA seconds until the device has finished."""
    if device == "cpu":
        started = time.process_time()
        step()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of a module gives in a new interpreter, where nothing else is counted.

    Arguments and answer are anything that JSON can hold.
    """
    code = (
        f"import json; from {function.__module__} import {function.__name__} as f; "
        f"print(json.dumps(f(*json.loads({json.dumps(arguments)!r}))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


class Peak:
    """MB that this process holds at ``most``, looked at every few milliseconds by a thread."""

    def __enter__(self) -> Peak:
        self.process = psutil.Process()
        self.before = self.most = self._hold()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def more(self) -> float:
        """MB at the peak, above what was held before."""
        return self.most - self.before

    def _watch(self) -> None:
        while not self.done.wait(0.003):
            self.most = max(self.most, self._hold())

    def _hold(self) -> float:
        return float(self.process.memory_info().rss / 1e6)


def peak_of(work: Callable[[], object], device: str = "cpu") -> float:
    """MB at the peak of ``work`` above those before; on CUDA of what torch allocates there."""
    if device == "cpu":
        with Peak() as held:
            work()
        return held.more
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def check_device(device: str) -> None:
    """Raises ``InputError`` for a device that is no device's name, or not there."""
    if TrainConfig(device=device).device != "cpu" and not torch.cuda.is_available():
        raise InputError(f"device={device!r}: this torch sees no CUDA device; use cpu")


def describe_machine(device: str = "cpu") -> dict[str, str]:
    """What the numbers hold for."""
    told = {
        "mmer": mmer_lib.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": str(os.cpu_count()),
        "threads used": "1",
    }
    return told if device == "cpu" else told | {"device": torch.cuda.get_device_name(device)}
