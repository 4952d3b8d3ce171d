"""Nothing is made on a device by default, half precision stays near float32, compiling keeps names.

No GPU is needed: under ``torch.device("meta")`` whatever is made without naming a device is made on
meta, and meets tensors of the CPU with an error.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from small import learnable_corpus, small_config, small_corpus, small_model, whole_part
from torch import nn
from torch.nn import functional as F

from mmer_lib import encoders, train
from mmer_lib.cli import main
from mmer_lib.encoders import run_gru
from mmer_lib.errors import InputError
from mmer_lib.fusion import FUSIONS, mean_attention
from mmer_lib.fusion.attention import MultiHeadAttention
from mmer_lib.losses import LOSSES, drop_one, extra_loss
from mmer_lib.model import Recognizer
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan
from mmer_lib.train import TrainConfig, build_model, fit, forward, predict

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_model_makes_nothing_on_a_device_by_default(fusion):
    corpus = small_corpus(6, missing=True)
    model = small_model(f"{fusion}-AVT", corpus).train()
    batch = whole_part(model, corpus).collate(np.arange(6))
    with torch.device("meta"):
        output = model(batch)
        output.logits.sum().backward()
        model.eval()(batch, need_weights=True)
    assert output.logits.device.type == "cpu"


def test_losses_make_nothing_on_a_device_by_default():
    corpus = small_corpus(6, missing=True)
    model = small_model("misa-AVT", corpus)
    batch = whole_part(model, corpus).collate(np.arange(6))
    with torch.device("meta"):
        dropped = model(drop_one(batch, np.random.default_rng(0)))
        loss = extra_loss(model(batch), batch.labels, dict.fromkeys(LOSSES, 1.0), dropped)
    assert loss.isfinite()


def test_something_made_by_default_is_found():
    with torch.device("meta"), pytest.raises(RuntimeError, match="device"):
        torch.ones(2).add(torch.zeros(2, device="cpu")).sum().item()


def test_loops_of_the_cpu_are_not_used_on_another_device(monkeypatch):
    def refuse(*_):
        raise AssertionError("a loop of the CPU was used")

    monkeypatch.setattr(encoders, "packed_gru", refuse)
    monkeypatch.setattr(mean_attention._MeanAttention, "apply", refuse)
    attend, frames = MultiHeadAttention(4, 2), torch.empty(2, dtype=torch.long)
    x, far = torch.empty(2, 5, 4, device="meta"), frames.to("meta")
    assert attend.to("meta").mean(x, x, far, far).shape == (2, 4)
    gru = nn.GRU(3, 2, batch_first=True, bidirectional=True, device="meta")
    x = torch.empty(2, 9, 3, device="meta")
    assert run_gru(gru, x, torch.ones(2, 9, dtype=torch.bool)).shape == (2, 9, 4)
    with pytest.raises(AssertionError, match="a loop"):
        MultiHeadAttention(4, 2).mean(torch.ones(2, 5, 4), torch.ones(2, 5, 4), frames, frames)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_half_precision_is_near_float32_and_comes_out_as_float32(fusion):
    corpus = small_corpus(6, missing=True)
    model = small_model(f"{fusion}-AVT", corpus)
    batch = whole_part(model, corpus).collate(np.arange(6))
    exact, half = forward(model, batch), forward(model, batch, amp=True)
    assert half.logits.dtype == half.fused.vectors.dtype == torch.float32
    assert (half.logits != exact.logits).any()
    torch.testing.assert_close(half.logits, exact.logits, rtol=0, atol=0.05)
    F.cross_entropy(half.logits, batch.labels).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_long_sequences_in_half_precision_leave_the_loops_that_know_none(monkeypatch):
    """The weights are as many as the shorter way asks for; gradients are near those of float32."""
    config = small_config("self-A", small_corpus())
    model, x = Recognizer(config).eval(), torch.randn(4, 300, 8)
    mask = torch.ones(4, 300, dtype=torch.bool)
    found = []
    for amp in (False, True):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            sequence, masks = model.encoders["audio"](x, mask)
            out = model.fusion({"audio": sequence}, {"audio": masks}).vectors
        out.float().square().sum().backward()
        found.append([out.float(), model.encoders["audio"].gru.weight_hh_l0.grad.clone()])
    for exact, half in zip(*found, strict=True):
        torch.testing.assert_close(half, exact, rtol=0.1, atol=0.02)


@pytest.fixture(scope="module")
def learned():
    """The model's fit and its predictions, by the settings of the training."""
    corpus = learnable_corpus()
    part = whole_part(small_model("cross-AT", corpus), corpus)

    def learn(**switches):
        model = build_model(small_config("cross-AT", corpus), 0)
        result = fit(model, part, part, TrainConfig(epochs=3, patience=3, **switches))
        return result, predict(model, part, amp=switches.get("amp", False))

    return learn


def test_a_run_in_half_precision_learns_much_as_in_float32(learned):
    (exact, sure), (half, told) = learned(), learned(amp=True)
    assert np.isfinite(half.history[["train_loss", "dev_loss"]]).all(axis=None)
    assert (half.history["dev_loss"] != exact.history["dev_loss"]).any()
    np.testing.assert_allclose(half.history["dev_loss"], exact.history["dev_loss"], atol=0.05)
    np.testing.assert_allclose(told.probabilities, sure.probabilities, atol=0.05)
    assert all(value.dtype == torch.float32 for value in half.state.values())


@needs_compiler
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_run_gives_the_same_with_the_same_names(learned):
    (exact, sure), (compiled, told) = learned(), learned(compile=True)
    assert list(compiled.state) == list(exact.state)
    np.testing.assert_allclose(compiled.history["dev_loss"], exact.history["dev_loss"], atol=0.05)
    np.testing.assert_allclose(told.probabilities, sure.probabilities, atol=0.05)


def test_a_compiler_that_fails_is_told_in_one_line(learned, monkeypatch):
    from torch._inductor.exc import InductorError

    def fail(self, batch, need_weights=False):
        raise InductorError(RuntimeError("no compiler"), None)

    monkeypatch.setattr(Recognizer, "compile", lambda self, dynamic: None)
    monkeypatch.setattr(Recognizer, "forward", fail)
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler .* or leave --compile out"):
        learned(compile=True)


def test_half_precision_of_float64_is_refused_before_the_first_run():
    plan = Plan(learnable_corpus(), ("self-AT@released",), train=TrainConfig(amp=True))
    with pytest.raises(InputError, match="computes in float64"):
        plan.runs()


@pytest.mark.parametrize("switch", ["amp", "compile"])
def test_a_switch_of_the_training_is_part_of_a_runs_key(switch):
    def key(**given):
        return Plan(learnable_corpus(), ("self-T",), train=TrainConfig(**given)).runs()[0].key

    assert key() == key(**{switch: False}) != key(**{switch: True})
    with pytest.raises(InputError, match=f"{switch}='yes': true or false expected"):
        key(**{switch: "yes"})


def test_both_switches_are_reached_from_the_command_line(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(train, "compile_forward", lambda model, part, config: compiled.append(1))
    corpus = "synthetic,utterances=40,classes=3,features=6,longest=7"
    sizes = ["--width", "12", "--heads", "3", "--folds", "2", "--seeds", "1", "--epochs", "1"]
    asked = ["sweep", corpus, "--models", "self-T", *sizes, "--amp", "--compile"]
    assert main([*asked, "--store", str(tmp_path)]) == 0
    store = ResultStore(tmp_path)
    settings = [store.run(key)["specification"]["train"] for key in store.keys()]  # noqa: SIM118
    assert len(settings) == len(compiled) == 2
    assert all(one["amp"] and one["compile"] for one in settings)
