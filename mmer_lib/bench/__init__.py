"""How long things take: ours beside the plain way of doing the same, in one run."""

from collections.abc import Callable

import pandas as pd

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.epoch import bench_epoch, bench_grid
from mmer_lib.bench.gpu import bench_gpu
from mmer_lib.bench.growth import bench_growth
from mmer_lib.bench.measure import Say, Settings, check_device, describe_machine
from mmer_lib.bench.steps import bench_steps
from mmer_lib.bench.study import bench_study
from mmer_lib.bench.sweeps import bench_sweep
from mmer_lib.bench.zoo import bench_zoo

# What can be measured, in this order; each gives one table.
PARTS: dict[str, Callable[[Settings, Say], pd.DataFrame]] = {
    "steps": bench_steps,
    "epoch": bench_epoch,
    "grid": bench_grid,
    "growth": bench_growth,
    "zoo": bench_zoo,
    "sweep": bench_sweep,
    "study": bench_study,
    "gpu": bench_gpu,
}
ON_CUDA = ("steps", "grid", "gpu")  # what --device cuda measures; all but gpu runs on a CPU

__all__ = [
    "ON_CUDA",
    "PARTS",
    "Say",
    "Settings",
    "bench_epoch",
    "bench_gpu",
    "bench_grid",
    "bench_growth",
    "bench_steps",
    "bench_study",
    "bench_sweep",
    "bench_zoo",
    "build_plain",
    "check_device",
    "describe_machine",
    "plain_name",
]
