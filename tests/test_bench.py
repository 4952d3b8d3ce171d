"""The plain way computes what ours does, and the table holds both. Times decide no test."""

from __future__ import annotations

import json

import pytest
import torch

from mmer_lib.bench import Settings, bench_epoch, bench_grid, bench_steps, build_plain, plain_name
from mmer_lib.bench.steps import NAMES, Way, make_batch
from mmer_lib.cli import main
from mmer_lib.model import Recognizer, parse_configuration

FIELDS = [f"{w}_{k}" for w in ("train", "eval") for k in ("plain", "ours", "ratio")]


@pytest.mark.parametrize("name", NAMES)
def test_the_released_model_in_float64_is_that_of_torchs_modules(name):
    """At the paper's sizes: outputs within 1e-12, gradients of all parameters within 1e-10."""
    torch.manual_seed(0)
    ours = Recognizer(parse_configuration(plain_name(name))).eval()
    plain = build_plain(plain_name(name), ours).eval()
    batch = make_batch(ours.config, 2)
    along = torch.randn(2, ours.config.classes, dtype=torch.float64)
    for model in (ours, plain):
        found = model(batch).logits
        (found * along).sum().backward()
        model.logits = found.detach()
    torch.testing.assert_close(ours.logits, plain.logits, rtol=0, atol=1e-12)
    theirs = {n.replace(".same.", "."): p.grad for n, p in plain.named_parameters()}
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[key], rtol=0, atol=1e-10)


def test_a_step_of_each_way_learns():
    for way in ("plain", "ours"):
        one = Way(NAMES[1], way, batch_size=2)
        before = [p.detach().clone() for p in one.model.parameters()]
        one.train()
        assert all((a != b).any() for a, b in zip(before, one.model.parameters(), strict=True))


def test_the_command_prints_a_table_with_the_machine_and_writes_it(tmp_path, capsys):
    file = tmp_path / "bench.json"
    assert main(["bench", "steps", "--repeats", "1", "--batch-size", "1", "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "torch: " in printed
    assert "train_ratio" in printed
    report = json.loads(file.read_text())
    assert [row["configuration"] for row in report["steps"]] == list(NAMES)
    for row in report["steps"]:
        assert all(row[field] > 0 for field in [*FIELDS, "mb_plain", "mb_ours", "mb_share"])
        assert row["train_ratio"] == pytest.approx(row["train_plain"] / row["train_ours"])


def test_a_folder_that_is_missing_is_told_before_anything_is_measured(tmp_path, capsys):
    assert main(["bench", "--json", str(tmp_path / "none" / "bench.json")]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_a_part_that_is_unknown_is_told_with_those_there_are(capsys):
    assert main(["bench", "stepz"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err


def test_memory_can_be_left_out():
    table = bench_steps(Settings(1, 1), print, NAMES[1:], memory=False)
    assert not [c for c in table.columns if c.startswith("mb_")]


def test_an_epoch_is_timed_from_its_training_and_its_scoring():
    (row,) = bench_epoch(Settings(1, 4), print, ("self-T",), utterances=30).to_dict("records")
    for way in ("released", "padded", "ours"):
        assert row[way] == pytest.approx(row[f"{way}_training"] + row[f"{way}_scoring"])
        assert row[f"{way}_scoring"] > 0
    for way in ("released", "padded"):
        assert row[f"over_{way}"] == pytest.approx(row[way] / row["ours"])


def test_the_padded_way_attends_over_every_frame_of_audio():
    model = build_plain("self-A@released,double=true,time_mixing=false")
    assert model.config.encoder("audio").front == "project"
    assert model.config.double


def test_the_grid_is_summed_over_its_configurations():
    table = bench_grid(Settings(1, 4), print, ("self-T", "self-V"), utterances=30)
    assert list(table["configuration"]) == ["self-T", "self-V", "all"]
    first = table.iloc[0]
    assert first["study"] == pytest.approx(first["epoch"] * 30 * 50 / 86400)
    assert table["study"].iloc[2] == pytest.approx(table["study"].iloc[:2].sum())
