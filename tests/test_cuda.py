"""On a GPU: the numbers of a CPU but for rounding, and the same bits every time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import learnable_corpus, small_corpus, small_model, whole_part
from torch.nn import functional as F

from mmer_lib.corpora.batches import Batch
from mmer_lib.fusion import FUSIONS
from mmer_lib.model import Recognizer
from mmer_lib.store import ResultStore
from mmer_lib.sweep import Plan, run_plan, same_bits
from mmer_lib.train import TrainConfig

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def in_float64(batch: Batch) -> Batch:
    sequences = {m: x.double() for m, x in batch.sequences.items()}
    return Batch(sequences, batch.masks, batch.labels, batch.rows)


def numbers(model: Recognizer, batch: Batch, device: str, maps: bool = False) -> list[torch.Tensor]:
    """Logits and gradients. Evaluation: dropout is off. Without cuDNN, which gives none there."""
    model.to(device).zero_grad(set_to_none=True)
    batch = batch.to(device)
    with same_bits(device), torch.backends.cudnn.flags(enabled=False):
        logits = model.eval()(batch, need_weights=maps).logits
        F.cross_entropy(logits, batch.labels).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return [x.detach().cpu() for x in [logits, *gradients]]


@pytest.mark.parametrize("fusion", FUSIONS)
def test_outputs_and_gradients_are_those_of_a_cpu_with_maps_and_without(fusion):
    corpus = small_corpus(6, missing=True)
    model = small_model(f"{fusion}-AVT", corpus).double()
    batch = in_float64(whole_part(model, corpus).collate(np.arange(6)))
    expected = numbers(model, batch, "cpu")
    for maps in (False, True):
        found = numbers(model, batch, "cuda", maps)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-11)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_networks_of_cudnn_give_the_outputs_of_a_cpu(fusion):
    corpus = small_corpus(6, missing=True)
    model = small_model(f"{fusion}-AVT", corpus).eval()
    batch = whole_part(model, corpus).collate(np.arange(6))
    with torch.no_grad(), same_bits("cuda"):
        expected = model(batch).logits
        found = model.to("cuda")(batch.to("cuda")).logits.cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("amp", [False, True])
def test_sweeps_on_a_gpu_give_the_same_bits_whatever_the_jobs(amp, tmp_path):
    train = TrainConfig(epochs=2, patience=2, batch_size=8, device="cuda", amp=amp)
    corpus, sizes = learnable_corpus(), {"width": 12, "heads": 3}
    plan = Plan(corpus, ("self-AVT", "cross-AVT"), n_folds=2, seeds=1, train=train, model=sizes)
    tables = []
    for name, jobs in (("once", 1), ("again", 1), ("together", 2)):
        store = ResultStore(tmp_path / name)
        tables.append(run_plan(plan, store, jobs=jobs).drop(columns="seconds"))
        for key in tables[0]["key"]:
            assert store.run(key)["provenance"]["device"] == torch.cuda.get_device_name()
            first = ResultStore(tmp_path / "once").predictions(key).probabilities
            np.testing.assert_array_equal(store.predictions(key).probabilities, first)
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])
