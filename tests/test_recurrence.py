"""The compiled loop over a GRU's steps is torch's bidirectional GRU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mmer_lib.encoders import EncoderConfig, SequenceEncoder, run_gru
from mmer_lib.kernels import add_product, padded

LENGTHS = {
    "equal": [6, 6, 6, 6],
    "sorted": [6, 4, 4, 1],
    "unsorted": [2, 6, 1, 5],
    "odd batch": [3, 6, 6, 2, 1],
    "one": [6],
}
SIZES = [4, 5, 9]  # h: multiples of the compiled product's tiles and not


def small_gru(hidden: int = 4, dtype: torch.dtype = torch.float64) -> nn.GRU:
    torch.manual_seed(0)
    return nn.GRU(5, hidden, batch_first=True, bidirectional=True, dtype=dtype)


def inputs(lengths: list[int], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """x (B, 6, 5) and its mask."""
    x = torch.randn(len(lengths), 6, 5, dtype=dtype, requires_grad=True)
    return x, torch.arange(6) < torch.tensor(lengths)[:, None]


def by_torch(gru: nn.GRU, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Each sequence on its own, without padding: the slow obvious way."""
    rows = [gru(one[None, : int(n)])[0][0] for one, n in zip(x, mask.sum(dim=1), strict=True)]
    return nn.utils.rnn.pad_sequence([*rows, x.new_zeros(6, rows[0].shape[1])], True)[:-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m", [0, 1, 3, 4, 9])
@pytest.mark.parametrize(("k", "j"), [(1, 1), (7, 16), (60, 180)])
def test_a_product_in_tiles_is_numpys_and_writes_nothing_beside(m, k, j, dtype):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(dtype) for shape in [(m, k), (k, j)])
    wide = padded(w)
    assert wide.shape[0] == k
    assert 0 <= wide.shape[1] - j < 32
    around = rng.standard_normal((m + 2, wide.shape[1])).astype(dtype)
    out = around.copy()
    add_product(out[1:-1], x, wide)
    np.testing.assert_array_equal(out[[0, -1]], around[[0, -1]])
    np.testing.assert_array_equal(out[1:-1, j:], around[1:-1, j:])
    tolerance = 1e-12 if dtype is np.float64 else 1e-4
    np.testing.assert_allclose(out[1:-1, :j], around[1:-1, :j] + x @ w, rtol=0, atol=tolerance)
    for i in range(m):  # alone as among others
        alone = around[i + 1 : i + 2].copy()
        add_product(alone, x[i : i + 1], wide)
        np.testing.assert_array_equal(alone[0], out[i + 1])


@pytest.mark.parametrize("hidden", SIZES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_outputs_and_gradients_are_those_of_torchs_module(lengths, hidden):
    gru, (x, mask) = small_gru(hidden), inputs(lengths)
    expected, found = by_torch(gru, x, mask), run_gru(gru, x, mask)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    along = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * along).sum(), [x, *gru.parameters()])
    given = torch.autograd.grad((found * along).sum(), [x, *gru.parameters()])
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_in_single_precision_it_is_as_near_to_the_truth_as_torch_is():
    exact, (x, mask) = small_gru(60), inputs([6, 3, 5])
    rounded = small_gru(60, torch.float32)
    rounded.load_state_dict({k: v.float() for k, v in exact.state_dict().items()})
    truth = by_torch(exact, x, mask)
    ours = (run_gru(rounded, x.float(), mask) - truth).abs().max()
    theirs = (by_torch(rounded, x.float(), mask) - truth).abs().max()
    assert ours < 4 * theirs
    assert ours < 1e-6


def test_large_inputs_saturate_and_stay_finite():
    gru, (x, mask) = small_gru(dtype=torch.float32), inputs([6, 2], torch.float32)
    found = run_gru(gru, 1e4 * x, mask)
    torch.testing.assert_close(found, by_torch(gru, 1e4 * x, mask), rtol=0, atol=1e-6)
    found.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_a_number_that_is_none_is_not_hidden():
    gru, (x, mask) = small_gru(dtype=torch.float32), inputs([6, 6], torch.float32)
    x.data[0, 3] = torch.nan
    found = run_gru(gru, x, mask)
    assert found[0].isnan().any()
    assert not found[1].isnan().any()


def test_what_stands_in_the_padding_changes_nothing():
    gru, (x, mask) = small_gru(), inputs(LENGTHS["unsorted"])
    assert torch.equal(run_gru(gru, x, mask), run_gru(gru, x.where(mask[..., None], 1e9), mask))


def test_a_front_of_single_frames_is_the_same_on_packed_and_padded_frames():
    torch.manual_seed(0)
    encoder = SequenceEncoder(EncoderConfig(features=5, width=8, front="project")).double()
    x, mask = inputs(LENGTHS["unsorted"])
    padded = by_torch(encoder.gru, encoder.front(x), mask)
    packed, _ = encoder(x, mask)
    torch.testing.assert_close(packed, padded, rtol=0, atol=1e-13)
    parameters = [x, *encoder.parameters()]
    for a, b in zip(
        torch.autograd.grad(packed.square().sum(), parameters),
        torch.autograd.grad(padded.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_half_precision_is_left_to_torch():
    gru, (x, mask) = small_gru(dtype=torch.bfloat16), inputs([6, 6], torch.bfloat16)
    torch.testing.assert_close(run_gru(gru, x, mask), gru(x)[0])


def test_a_sequence_that_is_missing_gives_zeros():
    gru, (x, mask) = small_gru(), inputs([6, 0])
    out = run_gru(gru, x, mask)
    assert not out[1].any()
    assert out[0].any()
