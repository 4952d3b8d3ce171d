"""How long things take: ours beside the plain way of doing the same, in one run."""

from mmer_lib.bench.baseline import build_plain, plain_name
from mmer_lib.bench.steps import bench_steps, describe_machine

__all__ = ["bench_steps", "build_plain", "describe_machine", "plain_name"]
