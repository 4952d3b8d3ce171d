"""MISA: the two halves, and the three losses against slow versions and by hand."""

from __future__ import annotations

import pytest
import torch
from small import random_sequences, randomize
from torch import Tensor

from mmer_lib.corpora import MODALITIES
from mmer_lib.fusion import Fusion, FusionConfig, build_fusion
from mmer_lib.fusion.misa import difference, moment_distance, overlap, similarity
from mmer_lib.pooling import masked_mean

LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
ALL = torch.ones(6, dtype=torch.bool)


def build(seed: int = 0) -> Fusion:
    return randomize(build_fusion("misa", FusionConfig(MODALITIES, 12, 3)).double(), seed).eval()


def draw(n: int = 6, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)).double()


def test_private_halves_have_encoders_of_their_own_and_shared_halves_one():
    fusion, (sequences, masks) = build(), random_sequences(LENGTHS, 12, 1)
    aux = fusion(sequences, masks).aux
    for i, m in enumerate(MODALITIES):
        u = fusion.project[m](masked_mean(sequences[m], masks[m]))
        torch.testing.assert_close(aux["private"][:, i], fusion.private[m](u).sigmoid())
        torch.testing.assert_close(aux["shared"][:, i], fusion.shared(u).sigmoid())


def test_a_projection_is_normalised_behind_its_relu():
    fusion, (sequences, masks) = build(), random_sequences(LENGTHS, 12, 1)
    for m in MODALITIES:
        linear, _, norm = fusion.project[m]
        e = masked_mean(sequences[m], masks[m])
        u = (e @ linear.weight.T + linear.bias).clamp(min=0)
        u = (u - u.mean(dim=1, keepdim=True)) / (u.var(dim=1, correction=0)[:, None] + 1e-5).sqrt()
        torch.testing.assert_close(fusion.project[m](e), u * norm.weight + norm.bias)


def test_the_vectors_are_the_halves_that_have_read_each_other():
    fusion, (sequences, masks) = build(), random_sequences(LENGTHS, 12, 1)
    fused = fusion(sequences, masks, need_weights=True)
    tokens = torch.cat([fused.aux["private"], fused.aux["shared"]], dim=1)
    torch.testing.assert_close(fused.vectors, fusion.block(tokens, tokens, fused.present)[0])
    assert fused.aux["tokens"].shape == (4, 3, 6, 6)


def test_utterances_that_lack_modalities_add_to_no_loss_but_of_what_they_have():
    fusion = build()
    lengths = {m: [*n, 0] for m, n in LENGTHS.items()}
    sequences, masks = random_sequences(lengths, 12, 1)
    with_empty = fusion(sequences, masks).losses
    without = fusion(
        {m: x[:4] for m, x in sequences.items()}, {m: k[:4] for m, k in masks.items()}
    ).losses
    torch.testing.assert_close(with_empty, without)


def test_reconstruction_is_the_error_of_what_the_halves_tell_of_the_utterance():
    fusion, (sequences, masks) = build(), random_sequences(LENGTHS, 12, 1)
    fused = fusion(sequences, masks)
    errors = []
    for i, m in enumerate(MODALITIES):
        u = fusion.project[m](masked_mean(sequences[m], masks[m]))
        told = fusion.decode[m](fused.aux["private"][:, i] + fused.aux["shared"][:, i])
        errors.append(torch.nn.functional.mse_loss(told, u))
    given, expected = fused.losses["reconstruction"], sum(errors) / 3
    torch.testing.assert_close(given, expected)
    weight = fusion.project["audio"][0].weight  # it moves what is told and what is to be told
    gradients = [torch.autograd.grad(x, weight, retain_graph=True)[0] for x in (given, expected)]
    torch.testing.assert_close(*gradients)


def test_moments_of_a_coin_and_of_a_constant_differ_by_hand():
    coin = torch.tensor([[0.0], [1.0]]).double()
    constant = torch.full((2, 1), 0.25).double()
    # means .5 and .25; central moments of the coin: 1/4, 0, 1/16, 0
    both = torch.ones(2, dtype=torch.bool)
    assert moment_distance(coin, constant, both).item() == pytest.approx(0.25 + 0.25 + 0.0625)


def test_five_moments_of_a_skewed_coin_count_by_hand():
    coin = torch.tensor([[0.0], [0.0], [1.0]]).double()
    constant = torch.full((3, 1), 1 / 3).double()
    # central moments of the coin, from the second to the fifth: 2/9, 2/27, 2/27, 10/243
    found = moment_distance(coin, constant, torch.ones(3, dtype=torch.bool))
    assert found.item() == pytest.approx(100 / 243)


def test_equal_distributions_have_no_distance_and_a_finite_gradient():
    x = draw().requires_grad_()
    total = moment_distance(x, x.detach().flip(0), ALL)
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-12)
    assert x.grad.isfinite().all()


def test_similarity_is_the_mean_over_pairs_of_rows_that_have_both():
    shared = [draw(seed=i) for i in range(3)]
    there = torch.ones(6, 3, dtype=torch.bool)
    there[:2, 1] = False
    rows = there[:, 1]
    expected = [
        moment_distance(shared[0][rows], shared[1][rows], ALL[:4]),
        moment_distance(shared[0], shared[2], ALL),
        moment_distance(shared[1][rows], shared[2][rows], ALL[:4]),
    ]
    torch.testing.assert_close(similarity(shared, there), sum(expected) / 3)


def test_overlap_equals_a_slow_version_and_is_zero_for_separate_directions():
    x, y = draw(seed=1), draw(seed=2)
    rows = [v - v.mean(dim=0) for v in (x, y)]
    rows = [v / v.norm(dim=1, keepdim=True) for v in rows]
    entries = [
        sum(rows[0][n, i] * rows[1][n, j] for n in range(6)) ** 2
        for i in range(4)
        for j in range(4)
    ]
    torch.testing.assert_close(overlap(x, y, ALL), sum(entries) / 16, rtol=1e-4, atol=0.0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]).double()
    assert overlap(signs[:, :1], signs[:, 1:], ALL[:4]).item() == pytest.approx(0)


def test_difference_sums_private_with_shared_and_private_with_private():
    private, shared = [draw(seed=i) for i in range(2)], [draw(seed=i + 5) for i in range(2)]
    there = torch.ones(6, 2, dtype=torch.bool)
    expected = (
        overlap(private[0], shared[0], ALL)
        + overlap(private[1], shared[1], ALL)
        + overlap(private[0], private[1], ALL)
    )
    torch.testing.assert_close(difference(private, shared, there), expected)


def test_difference_counts_the_rows_that_have_what_it_compares():
    private, shared = [draw(seed=i) for i in range(2)], [draw(seed=i + 5) for i in range(2)]
    there = torch.tensor([[True, False], [False, True], *[[True, True]] * 4])
    rows = [there[:, 0], there[:, 1]]
    expected = (
        overlap(private[0][rows[0]], shared[0][rows[0]], ALL[:5])
        + overlap(private[1][rows[1]], shared[1][rows[1]], ALL[:5])
        + overlap(private[0][2:], private[1][2:], ALL[:4])
    )
    torch.testing.assert_close(difference(private, shared, there), expected)


def test_of_a_modality_that_is_missing_no_token_asks_or_is_read():
    sequences, masks = random_sequences({**LENGTHS, "video": [3, 0, 1, 2]}, 12, 1)
    tokens = build()(sequences, masks, need_weights=True).aux["tokens"]  # (B, H, 2 M, 2 M)
    assert (tokens[1, :, [1, 4]] == 0).all()
    assert (tokens[1, :, :, [1, 4]] == 0).all()
    assert (tokens[0] > 0).all()


def test_an_utterance_alone_has_finite_losses_and_gradients():
    fusion = build()
    sequences, masks = random_sequences({m: [1] for m in MODALITIES}, 12, 1)
    losses = fusion(sequences, masks).losses
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert fusion.shared.weight.grad.isfinite().all()
