"""The part for a GPU runs on a CPU at tiny sizes; without a GPU its absence is one line."""

from __future__ import annotations

import pytest
import torch

from mmer_lib.bench import Settings, bench_gpu
from mmer_lib.bench.gpu import WAYS, GpuSizes, Task, measure, prepare
from mmer_lib.bench.measure import peak_of
from mmer_lib.cli import main
from mmer_lib.train import TrainConfig

SHORT = {"audio": 8, "video": 5, "text": 6}
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize("way", ["float32", "amp"])
def test_a_process_measures_a_step_and_a_run(way):
    amp, compiled = WAYS[way]
    train = TrainConfig(1, 1, batch_size=4, amp=amp, compile=compiled)
    task = Task("self-AT", SHORT, utterances=8, repeats=1, train=train)
    one, part = prepare(task)
    assert one.amp == amp
    assert len(part) == 8
    found = measure(task, one, part)
    assert found["step_seconds"] > 0
    assert found["run_seconds"] > 0
    assert found["mb"] >= 0


def test_several_processes_give_a_row_a_task_with_what_all_do_together():
    sizes = GpuSizes(
        ("self-T", "self-A"), ("float32",), (2,), SHORT, utterances=8, epochs=1, product=64
    )
    rows = bench_gpu(Settings(1, 4), lambda text: None, sizes).to_dict("records")
    assert [(row["configuration"], row["way"], row["processes"]) for row in rows] == [
        ("self-T", "float32", 2),
        ("self-A", "float32", 2),
    ]
    for row in rows:
        assert row["steps_a_second"] > 1 / row["step_seconds"]  # of two
        assert row["gflops"] > 0
        assert row["share_of_peak"] > 0


def test_the_peak_of_what_makes_a_large_tensor_is_its_size():
    assert 20 < peak_of(lambda: torch.ones(10**7)) < 80  # 40 MB


def test_all_four_ways_are_measured():
    assert set(WAYS.values()) == {(a, c) for a in (False, True) for c in (False, True)}


@without_gpu
@pytest.mark.parametrize("asked", [[], ["steps"], ["gpu"], ["all"]])
def test_without_a_gpu_asking_for_one_is_told_in_one_line(asked, capsys):
    assert main(["bench", *asked, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == (
        "mmer: device='cuda': this torch sees no CUDA device; use cpu\n"
    )


@pytest.mark.parametrize(
    ("asked", "told"),
    [(["gpu"], "gpu is not measured with --device cpu: add --device cuda"),
     (["zoo", "--device", "cuda"], "zoo is not measured with --device cuda: steps, grid, gpu are"),
     (["steps", "--device", "tpu"], "device='tpu': cpu, cuda or cuda:N expected")],
)  # fmt: skip
def test_a_part_that_a_device_does_not_have_is_told(asked, told, capsys):
    assert main(["bench", *asked]) == 2
    assert told in capsys.readouterr().err
