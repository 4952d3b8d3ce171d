"""Fusions of mean vectors: against slow sums, whole tensors and single models."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small import random_sequences, randomize
from torch.nn import functional as F

from mmer_lib.corpora import MODALITIES
from mmer_lib.fusion import Fusion, FusionConfig, build_fusion
from mmer_lib.pooling import masked_mean, statistical_pool

WIDTH = 6
SIZES: dict[str, Any] = {"width": WIDTH, "heads": 2, "classes": 4, "hidden": 5}
LENGTHS = {"audio": [5, 2, 7], "video": [3, 4, 1], "text": [6, 1, 2]}
BOTH = ("audio", "text")


def build(name: str, modalities: tuple[str, ...] = MODALITIES, **switches: Any) -> Fusion:
    fusion = build_fusion(name, FusionConfig(modalities, **SIZES, **switches))
    return randomize(fusion.double()).eval()


def inputs(seed: int = 1):
    return random_sequences(LENGTHS, WIDTH, seed)


def means(sequences, masks):
    return {m: masked_mean(sequences[m], masks[m]) for m in sequences}


def test_at_published_sizes_the_counts_are_those_of_the_table():
    counts = {
        name: sum(p.numel() for p in build_fusion(name, FusionConfig(MODALITIES)).parameters())
        for name in ("mean", "late", "lmf", "vec_cross")
    }
    assert counts == {"mean": 0, "late": 23_064, "lmf": 348_724, "vec_cross": 348_480}


@pytest.mark.parametrize("name", ["mean", "late", "lmf", "vec_cross"])
def test_the_order_of_the_frames_is_irrelevant(name):
    fusion, (sequences, masks) = build(name), inputs()
    turned = {m: x.flip(1) for m, x in sequences.items()}
    fused = fusion(turned, {m: k.flip(1) for m, k in masks.items()})
    torch.testing.assert_close(fused.vectors, fusion(sequences, masks).vectors)


# mean


def test_the_vectors_of_mean_are_the_means():
    sequences, masks = inputs()
    vectors = build("mean")(sequences, masks).vectors
    torch.testing.assert_close(vectors, torch.stack(list(means(sequences, masks).values()), dim=1))


def test_statistical_pooling_of_two_means_is_half_their_sum_and_their_distance_over_sqrt_2():
    sequences, masks = inputs()
    fused = build("mean", BOTH)(sequences, masks)
    x, y = fused.vectors.unbind(1)
    pooled = statistical_pool(fused.vectors, fused.present, eps=0.0)
    expected = torch.cat([(x + y) / 2, (x - y).abs() / math.sqrt(2)], dim=1)
    torch.testing.assert_close(pooled, expected)


# late


def set_mix(fusion: Fusion, values: list[float]) -> None:
    with torch.no_grad():
        fusion.mix.copy_(torch.tensor(values))


def alone(fusion: Fusion, sequences, masks):
    """Class probabilities (B, C) of every modality."""
    return {m: fusion.heads[m](x).softmax(dim=1) for m, x in means(sequences, masks).items()}


def test_late_fusion_starts_as_the_plain_average_of_the_probabilities():
    assert build_fusion("late", FusionConfig(MODALITIES)).mix.tolist() == [0.0] * 3
    fusion, (sequences, masks) = build("late"), inputs()
    set_mix(fusion, [0.0] * 3)
    average = sum(alone(fusion, sequences, masks).values()) / 3
    torch.testing.assert_close(fusion(sequences, masks).logits.exp(), average)


@pytest.mark.parametrize("chosen", range(3))
def test_late_fusion_with_all_weight_on_one_modality_is_that_modality(chosen):
    fusion, (sequences, masks) = build("late"), inputs()
    set_mix(fusion, [100.0 if n == chosen else 0.0 for n in range(3)])
    expected = alone(fusion, sequences, masks)[MODALITIES[chosen]]
    torch.testing.assert_close(fusion(sequences, masks).logits.exp(), expected)


def test_late_fusion_worked_by_hand():
    fusion, (sequences, masks) = build("late"), inputs()
    set_mix(fusion, [math.log(2.0), math.log(1.0), math.log(5.0)])
    p = alone(fusion, sequences, masks)
    expected = (2 * p["audio"] + p["video"] + 5 * p["text"]) / 8
    fused = fusion(sequences, masks)
    torch.testing.assert_close(fused.logits.exp(), expected)
    assert fused.gates["mix"][0].tolist() == pytest.approx([2 / 8, 1 / 8, 5 / 8])


def test_late_fusion_shares_the_weight_of_a_missing_modality_among_the_others():
    fusion, (sequences, masks) = build("late"), inputs()
    set_mix(fusion, [math.log(2.0), math.log(1.0), math.log(5.0)])
    p = alone(fusion, sequences, masks)
    masks["text"][1] = False
    fused = fusion(sequences, masks)
    torch.testing.assert_close(fused.logits[1].exp(), (2 * p["audio"][1] + p["video"][1]) / 3)
    assert fused.gates["mix"][1].tolist() == pytest.approx([2 / 3, 1 / 3, 0.0])


def test_late_fusion_without_any_modality_answers_from_its_biases():
    fusion, (sequences, masks) = build("late"), inputs()
    nothing = {m: torch.zeros_like(k) for m, k in masks.items()}
    fused = fusion(sequences, nothing)
    zero = torch.zeros(WIDTH, dtype=torch.float64)
    p = torch.stack([fusion.heads[m](zero).softmax(dim=0) for m in MODALITIES])
    expected = (fusion.mix.softmax(dim=0)[:, None] * p).sum(dim=0)
    torch.testing.assert_close(fused.logits.exp(), expected.expand_as(fused.logits))
    assert not fused.present.any()


def test_late_fusion_stays_finite_where_a_modality_is_sure():
    fusion, (sequences, masks) = build("late"), inputs()
    fusion({m: 1e4 * x for m, x in sequences.items()}, masks).logits.logsumexp(1).sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())


# lmf


def test_low_rank_fusion_equals_the_contraction_with_the_whole_outer_product():
    fusion, (sequences, masks) = build("lmf"), inputs()
    a, v, t = (F.pad(x, (1, 0), value=1.0) for x in means(sequences, masks).values())
    outer = torch.einsum("bi,bj,bk->bijk", a, v, t)  # (B, D + 1, D + 1, D + 1)
    whole = torch.einsum(
        "r,rio,rjo,rko->ijko", fusion.weight, *(fusion.factors[m] for m in MODALITIES)
    )
    expected = torch.einsum("bijk,ijko->bo", outer, whole) + fusion.bias
    fused = fusion(sequences, masks)
    assert fused.vectors.shape == (3, 1, 2 * WIDTH)
    torch.testing.assert_close(fused.vectors[:, 0], expected)


def test_low_rank_fusion_keeps_the_products_of_the_modalities_that_are_left():
    fusion, (sequences, masks) = build("lmf"), inputs()
    masks["video"][:] = False
    a, _, t = (F.pad(x, (1, 0), value=1.0) for x in means(sequences, masks).values())
    constant = fusion.factors["video"][:, 0]  # (R, 2D), of the 1
    factors = fusion.factors
    expected = sum(
        fusion.weight[r] * (a @ factors["audio"][r]) * constant[r] * (t @ factors["text"][r])
        for r in range(4)
    )
    fused = fusion(sequences, masks)
    assert fused.present.all()
    torch.testing.assert_close(fused.vectors[:, 0], expected + fusion.bias)


# vec_cross


@pytest.mark.parametrize("inner", [0, 4])
def test_vector_cross_attention_worked_out_channel_by_channel(inner):
    fusion, (sequences, masks) = build("vec_cross", inner=inner), inputs()
    fused, mean = fusion(sequences, masks, need_weights=True), means(sequences, masks)
    size = inner or WIDTH
    for n, (query, source) in enumerate(fusion.pairs):
        module = fusion.attentions[f"{query}_{source}"]
        for b in range(3):
            q = module.query(mean[query][b])
            k, v = module.key(mean[source][b]), module.value(mean[source][b])
            rows = [(q[i] * k / math.sqrt(size)).softmax(dim=0) for i in range(size)]
            mixed = torch.stack([row @ v for row in rows])
            torch.testing.assert_close(fused.vectors[b, n], module.out(mixed))
            torch.testing.assert_close(
                fused.aux[f"channels_{query}_{source}"][b], torch.stack(rows)
            )


def test_rows_of_the_map_over_channels_sum_to_one():
    fused = build("vec_cross")(*inputs(), need_weights=True)
    assert len(fused.aux) == 6
    for channels in fused.aux.values():
        assert channels.shape == (3, WIDTH, WIDTH)
        torch.testing.assert_close(channels.sum(dim=2), torch.ones_like(channels[:, 0]))
    assert build("vec_cross")(*inputs()).aux == {}


def test_vector_cross_attention_adds_the_mean_of_who_asks_as_its_residual():
    without, with_ = build("vec_cross"), build("vec_cross", residual=True)
    (sequences, masks), (others, other_masks) = inputs(), inputs(seed=2)
    asking = (others, other_masks)
    plain = without(sequences, masks, asking=asking).vectors
    added = with_(sequences, masks, asking=asking).vectors
    for n, (query, _) in enumerate(without.pairs):
        expected = plain[:, n] + masked_mean(others[query], other_masks[query])
        torch.testing.assert_close(added[:, n], expected)


def test_vector_cross_attention_of_a_constant_source_vector_ignores_who_asks():
    fusion, (sequences, masks) = build("vec_cross"), inputs()
    for module in fusion.attentions.values():  # the same value in every channel
        torch.nn.init.zeros_(module.value.weight)
        torch.nn.init.ones_(module.value.bias)
    one = fusion(sequences, masks).vectors
    torch.testing.assert_close(one, fusion(sequences, masks, asking=inputs(seed=2)).vectors)
