"""The loop for long sequences is torch's bidirectional GRU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmer_lib import encoders
from mmer_lib.encoders import run_gru
from mmer_lib.recurrence import bidirectional_gru

LENGTHS = {"equal": [6, 6, 6, 6], "sorted": [6, 4, 4, 1], "unsorted": [2, 6, 1, 5]}


def small_gru() -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(5, 4, batch_first=True, bidirectional=True, dtype=torch.float64)


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_outputs_and_gradients_are_those_of_torchs_module(lengths):
    gru, x = small_gru(), torch.randn(4, 6, 5, dtype=torch.float64, requires_grad=True)
    count = torch.tensor(lengths)
    expected = run_gru(gru, x, torch.arange(6) < count[:, None])
    found = bidirectional_gru(gru, x, count)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)

    along = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * along).sum(), [x, *gru.parameters()])
    given = torch.autograd.grad((found * along).sum(), [x, *gru.parameters()])
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_what_stands_in_the_padding_changes_nothing():
    gru, x = small_gru(), torch.randn(4, 6, 5, dtype=torch.float64)
    count = torch.tensor(LENGTHS["unsorted"])
    junk = torch.where((torch.arange(6) < count[:, None]).unsqueeze(-1), x, 1e9)
    assert torch.equal(bidirectional_gru(gru, x, count), bidirectional_gru(gru, junk, count))


def test_long_sequences_learn_by_the_loop_and_the_rest_by_torch(monkeypatch):
    gru, mask = small_gru().float(), torch.ones(2, encoders.LONG, dtype=torch.bool)
    used = []
    loop = encoders.bidirectional_gru
    monkeypatch.setattr(encoders, "bidirectional_gru", lambda *a: used.append(1) or loop(*a))
    x = torch.randn(2, encoders.LONG, 5)
    by_loop = run_gru(gru, x, mask)
    with torch.no_grad():
        by_torch = run_gru(gru, x, mask)
    run_gru(gru, x[:, 1:], mask[:, 1:])
    assert len(used) == 1
    torch.testing.assert_close(by_loop, by_torch, rtol=1e-5, atol=1e-6)


def test_a_sequence_that_is_missing_gives_zeros():
    gru, mask = small_gru().float(), torch.ones(2, encoders.LONG, dtype=torch.bool)
    mask[1] = False
    out = run_gru(gru, torch.randn(2, encoders.LONG, 5), mask)
    assert not out[1].any()
    assert out[0].any()
