"""What the bench of the sweep measures, on tiny corpora. Times and sizes decide no test."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mmer_lib.bench import Settings, sweeps
from mmer_lib.bench.lengths import iemocap_like
from mmer_lib.bench.sweeps import bench_sweep, hold_fold, measure_held, time_run
from mmer_lib.cli import main
from mmer_lib.corpora.shared import share
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan
from mmer_lib.train import TrainConfig


def test_the_same_runs_are_timed_for_one_worker_and_for_two(tmp_path, monkeypatch):
    """What is timed are whole runs: they lie in the store afterwards."""
    corpus = iemocap_like(40)
    train = TrainConfig(epochs=1, batch_size=8)
    (run, *_) = Plan(corpus, ("self-T",), n_folds=2, seeds=1, train=train).runs()
    store = ResultStore(tmp_path / "store")
    with share(corpus) as shared:
        assert min(time_run(shared, store.path, run)) > 0
    assert store.keys() == [run.key]


@pytest.mark.skipif(sys.platform != "linux", reason="PSS is Linux's")
def test_a_step_holds_more_than_the_fold_and_all_workers_are_counted(tmp_path):
    """Each worker and the server hold some MB of their own, so more of them hold more."""
    path = iemocap_like(60).save(tmp_path / "corpus")
    (one, one_step), (three, three_step) = (measure_held(str(path), "self-T", 8, n) for n in (1, 3))
    assert 0 < one < one_step < three_step
    assert one < three


@pytest.mark.skipif(sys.platform != "linux", reason="PSS is Linux's")
def test_the_server_is_counted_once(tmp_path, monkeypatch):
    corpus = iemocap_like(40)
    train = TrainConfig(batch_size=8)
    runs = Plan(corpus, ("self-T",), seeds=2, train=train).runs()[:2]
    asked: list[Any] = []
    monkeypatch.setattr(sweeps, "_workers_and_server", lambda with_it: asked.append(with_it) or ())
    with share(corpus) as shared:
        for run in runs:
            hold_fold(shared, Path(tmp_path), 1, run)
    assert asked == [True, True, False, False]  # twice in each worker


@pytest.mark.slow
def test_the_command_tells_and_writes_what_was_measured_and_its_ratios(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("mmer_lib.bench.PARTS", {"sweep": bench_few})
    file = tmp_path / "bench.json"
    assert main(["bench", "sweep", "--repeats", "1", "--batch-size", "8", "--json", str(file)]) == 0
    printed = capsys.readouterr()
    assert "throughput" in printed.out
    assert [line.split(":")[0] for line in printed.err.splitlines()[:2]] == [
        "start-up of workers", "throughput",
    ]  # fmt: skip
    (row,) = json.loads(file.read_text())["sweep"]
    assert row["plan"] == "self-T, cross-VT; 2 folds"
    assert row["throughput"] == pytest.approx(row["wall_one"] / row["wall_two"])
    assert all(row[n] > 0 for n in ("cpu_one", "cpu_two", "first_start", "further_start"))
    assert 0 < row["busy_two"] < 1
    if sys.platform == "linux":
        assert row["memory"] == pytest.approx(row["mb_four"] / row["mb_one"])
        assert row["step_memory"] == pytest.approx(row["step_mb_four"] / row["step_mb_one"])


def bench_few(settings: Settings, say: Any) -> pd.DataFrame:
    return bench_sweep(settings, say, utterances=40, few=40, names=("self-T", "cross-VT"))
