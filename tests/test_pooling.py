"""Pooling over time and over vectors, against numpy on the real rows alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmer_lib.pooling import concatenate, masked_mean, mean_pool, statistical_pool

X = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=torch.bool)


def test_masked_mean_is_the_mean_of_each_sequence_cut_to_its_length():
    alone = torch.stack([x[mask].mean(dim=0) for x, mask in zip(X, MASK, strict=True)])
    torch.testing.assert_close(masked_mean(X, MASK), alone)


def test_masked_mean_of_a_sequence_without_a_real_step_is_zero():
    nothing = torch.zeros(3, 5, dtype=torch.bool)
    assert torch.equal(masked_mean(X, nothing), torch.zeros(3, 4, dtype=X.dtype))


def test_masked_mean_worked_by_hand():
    x = torch.tensor([[[1.0], [3.0], [99.0]]])
    assert masked_mean(x, torch.tensor([[True, True, False]])).item() == 2.0


def test_statistical_pool_is_numpys_mean_and_deviation_of_the_present_vectors():
    vectors, present = X, MASK.clone()
    present[2] = torch.tensor([True, False, True, True, False])
    pooled = statistical_pool(vectors, present, eps=0.0).numpy()
    for row in range(3):
        there = vectors[row][present[row]].numpy()
        expected = np.concatenate([there.mean(axis=0), there.std(axis=0, ddof=1)])
        np.testing.assert_allclose(pooled[row], expected, atol=1e-12)


def test_statistical_pool_worked_by_hand():
    vectors = torch.tensor([[[1.0, 0.0], [3.0, 0.0]]], dtype=torch.float64)
    pooled = statistical_pool(vectors, torch.ones(1, 2, dtype=torch.bool), eps=0.0)
    assert pooled[0].tolist() == pytest.approx([2.0, 0.0, 2.0**0.5, 0.0])


def test_std_first_swaps_the_two_halves():
    plain = statistical_pool(X, MASK)
    swapped = statistical_pool(X, MASK, std_first=True)
    assert torch.equal(swapped, plain.roll(4, dims=1))


def test_one_vector_has_the_deviation_sqrt_eps_and_none_the_mean_zero():
    present = torch.tensor([[True, False], [False, False]])
    pooled = statistical_pool(X[:2, :2], present, eps=0.25)
    assert torch.equal(pooled[0, :4], X[0, 0])
    assert torch.equal(pooled[1, :4], torch.zeros(4, dtype=X.dtype))
    assert torch.equal(pooled[:, 4:], torch.full((2, 4), 0.5, dtype=X.dtype))


@pytest.mark.parametrize("eps", [0.0, 1e-6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_stay_finite_where_the_deviation_is_zero(eps, dtype):
    vectors = torch.ones(4, 3, 2, dtype=dtype, requires_grad=True)
    present = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    statistical_pool(vectors, present, eps).sum().backward()
    assert vectors.grad.isfinite().all()


def test_absent_vectors_change_nothing_and_get_no_gradient():
    present = torch.tensor([[True, True, False]])
    junk = X[:1, :3].clone().requires_grad_()
    other = X[:1, :3].clone()
    other[:, 2] = 1e6
    pooled = statistical_pool(junk, present)
    pooled.sum().backward()
    torch.testing.assert_close(pooled, statistical_pool(other, present))
    assert torch.equal(junk.grad[:, 2], torch.zeros(1, 4, dtype=X.dtype))


def test_concatenate_keeps_the_order_and_puts_zeros_where_a_vector_is_absent():
    vectors = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]])
    together = concatenate(vectors, torch.tensor([[True, False, True]]))
    assert together.tolist() == [[1.0, 2.0, 0.0, 0.0, 5.0, 6.0]]


def test_mean_pool_is_the_mean_of_the_present_vectors():
    vectors = torch.tensor([[[1.0, 2.0], [99.0, 99.0], [5.0, 6.0]]])
    assert mean_pool(vectors, torch.tensor([[True, False, True]])).tolist() == [[3.0, 4.0]]
    assert mean_pool(vectors, torch.zeros(1, 3, dtype=torch.bool)).tolist() == [[0.0, 0.0]]
