"""How long things take: ours beside the plain way of doing the same, in one run."""

from collections.abc import Callable

import pandas as pd

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.epoch import bench_epoch, bench_grid
from mmer_lib.bench.measure import Say, Settings, describe_machine
from mmer_lib.bench.steps import bench_steps
from mmer_lib.bench.study import bench_study
from mmer_lib.bench.sweeps import bench_sweep

# What can be measured, in this order; each gives one table.
PARTS: dict[str, Callable[[Settings, Say], pd.DataFrame]] = {
    "steps": bench_steps,
    "epoch": bench_epoch,
    "grid": bench_grid,
    "sweep": bench_sweep,
    "study": bench_study,
}

__all__ = [
    "PARTS",
    "Say",
    "Settings",
    "bench_epoch",
    "bench_grid",
    "bench_steps",
    "bench_study",
    "bench_sweep",
    "build_plain",
    "describe_machine",
    "plain_name",
]
