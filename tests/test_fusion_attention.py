"""Attention itself, what the paper's fusions promise, and their controls and switches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small import SUBSETS, random_sequences, randomize
from torch import nn

from mmer_lib.corpora import MODALITIES
from mmer_lib.errors import InputError
from mmer_lib.fusion import Fused, Fusion, FusionConfig, MultiHeadAttention, build_fusion
from mmer_lib.pooling import masked_mean

WIDTH, HEADS = 12, 3
LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
OTHER_LENGTHS = {"audio": [2, 8, 1, 3], "video": [1, 2, 5, 4], "text": [3, 2, 4, 1]}
paper_case = pytest.mark.parametrize("name", ["self", "cross", "selfcross"])
every_name = pytest.mark.parametrize(
    "name", ["self", "cross", "selfcross", "self_x2", "cross_tied", "selfcross_tied"]
)


def build(
    name: str, modalities: tuple[str, ...] = MODALITIES, seed: int = 0, **switches: Any
) -> Fusion:
    fusion = build_fusion(name, FusionConfig(modalities, WIDTH, HEADS, **switches))
    return randomize(fusion.double(), seed).eval()


def inputs(lengths=LENGTHS, seed: int = 1):
    return random_sequences(lengths, WIDTH, seed)


def assert_same(one: Fused, other: Fused) -> None:
    assert torch.equal(one.present, other.present)
    torch.testing.assert_close(one.vectors, other.vectors)


# Attention


def attention(dropout: float = 0.0, seed: int = 0) -> MultiHeadAttention:
    return randomize(MultiHeadAttention(WIDTH, HEADS, dropout).double(), seed).eval()


def asked_and_read(query=(5, 2, 4, 1), source=(3, 6, 1, 4)):
    sequences, masks = random_sequences({"q": list(query), "s": list(source)}, WIDTH, seed=3)
    return sequences["q"], sequences["s"], masks["q"], masks["s"]


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_equals_torchs_with_the_same_parameters(need_weights):
    ours, theirs = attention(), nn.MultiheadAttention(WIDTH, HEADS, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())  # the names and shapes are the same, too
    query, source, _, mask = asked_and_read()
    out, weights = ours(query, source, mask, need_weights)
    expected, expected_weights = theirs(
        query, source, source, key_padding_mask=~mask, average_attn_weights=False
    )
    torch.testing.assert_close(out, expected)
    if need_weights:
        torch.testing.assert_close(weights, expected_weights)


def test_attention_starts_from_the_same_distribution_as_torchs():
    def spreads(build) -> dict[str, float]:
        torch.manual_seed(0)
        return {name: p.std().item() for name, p in build(120, 6).named_parameters()}

    theirs = spreads(nn.MultiheadAttention)
    assert spreads(MultiHeadAttention) == pytest.approx(theirs, rel=0.05)


def test_one_head_worked_by_hand():
    one = MultiHeadAttention(1, 1).double()
    with torch.no_grad():
        one.in_proj_weight.fill_(1.0)
        one.out_proj.weight.fill_(2.0)
    query = torch.tensor([[[1.0]]], dtype=torch.float64)
    source = torch.tensor([[[0.0], [math.log(3.0)], [50.0]]], dtype=torch.float64)
    out, weights = one(query, source, torch.tensor([[True, True, False]]), need_weights=True)
    # scores 0 and log 3, so weights 1/4 and 3/4 of the values 0 and log 3, times 2
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.75, 0.0])
    assert out.item() == pytest.approx(1.5 * math.log(3.0))


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_source_without_a_real_step_gives_the_bias_of_the_output(need_weights):
    module = attention()
    query, source, _, mask = asked_and_read(source=(3, 0, 1, 4))
    out, weights = module(query, source, mask, need_weights)
    torch.testing.assert_close(out[1], module.out_proj.bias.expand_as(out[1]))
    if need_weights:
        assert torch.equal(weights[1], torch.zeros_like(weights[1]))


def test_heads_must_divide_the_width():
    with pytest.raises(InputError, match="width=12 cannot be split into heads=5"):
        MultiHeadAttention(12, 5)


# What the architecture itself says (Rajan et al. 2022: the temporal mean follows at once)


def test_a_vector_is_a_pooling_of_the_sources_frames_by_the_mean_attention_row():
    module = attention()
    query, source, query_mask, mask = asked_and_read()
    out, weights = module(query, source, mask, need_weights=True)
    row = (weights * query_mask[:, None, :, None]).sum(dim=2)
    row = row / query_mask.sum(dim=1)[:, None, None]  # abar (B, H, Ts)
    w_v, b_v = module.in_proj_weight[2 * WIDTH :], module.in_proj_bias[2 * WIDTH :]
    size = WIDTH // HEADS
    for i in range(len(query)):
        heads = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            values = [w_v[part] @ frame + b_v[part] for frame in source[i]]
            heads.append(sum(row[i, h, s] * value for s, value in enumerate(values)))
        pooled = module.out_proj.weight @ torch.cat(heads) + module.out_proj.bias
        torch.testing.assert_close(masked_mean(out, query_mask)[i], pooled)


def test_a_constant_source_gives_the_same_vector_whatever_asks():
    module = attention()
    query, source, query_mask, mask = asked_and_read()
    constant = torch.ones_like(source) * source[:1, :1]
    vectors = masked_mean(module(query, constant, mask)[0], query_mask)
    other = masked_mean(module(10 * query.flip(0), constant, mask)[0], query_mask)
    torch.testing.assert_close(vectors, other)
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors))


def test_with_uniform_attention_the_query_does_not_matter_at_all():
    module = attention()
    with torch.no_grad():
        module.in_proj_weight[:WIDTH] = 0.0  # W_q
        module.in_proj_bias[:WIDTH] = 0.0
    query, source, query_mask, mask = asked_and_read()
    vectors = masked_mean(module(query, source, mask)[0], query_mask)
    torch.testing.assert_close(vectors, masked_mean(module(-query, source, mask)[0], query_mask))


def test_the_query_matters_through_the_weights():
    module = attention()
    query, source, query_mask, mask = asked_and_read()
    vectors = masked_mean(module(query, source, mask)[0], query_mask)
    other = masked_mean(module(-query, source, mask)[0], query_mask)
    long = mask.sum(dim=1) > 1  # of one frame there is nothing to choose
    assert not torch.isclose(vectors[long], other[long]).all(dim=1).any()
    torch.testing.assert_close(vectors[~long], other[~long])


def test_cross_equals_self_where_inputs_and_parameters_are_equal():
    both = ("audio", "text")
    own, cross = build("self", both), build("cross", both)
    one = own.attentions["audio_audio"].state_dict()
    for module in [*own.attentions.values(), *cross.attentions.values()]:
        module.load_state_dict(one)
    sequences, masks = inputs()
    sequences["text"], masks["text"] = sequences["audio"], masks["audio"]
    assert_same(cross(sequences, masks), own(sequences, masks))


# Which pairs, and how many parameters


@paper_case
def test_a_vector_is_present_where_its_query_and_its_source_are(name):
    lengths = {m: [0 if m in absent else 2 for absent in ((), *SUBSETS)] for m in MODALITIES}
    fusion = build(name)
    fused = fusion(*inputs(lengths))
    for row, absent in enumerate(((), *SUBSETS)):
        expected = [query not in absent and source not in absent for query, source in fusion.pairs]
        assert fused.present[row].tolist() == expected


def test_cross_reads_every_other_modality_and_self_its_own():
    assert build("self").pairs == [(m, m) for m in MODALITIES]
    assert build("cross").pairs == [
        ("audio", "video"), ("audio", "text"), ("video", "audio"),
        ("video", "text"), ("text", "audio"), ("text", "video"),
    ]  # fmt: skip
    assert build("selfcross").pairs == build("self").pairs + build("cross").pairs


@paper_case
def test_weights_are_named_by_query_and_source(name):
    fusion, (sequences, masks) = build(name), inputs()
    weights = fusion(sequences, masks, need_weights=True).weights
    assert list(weights) == fusion.pairs
    for (query, source), w in weights.items():
        assert w.shape == (4, HEADS, max(LENGTHS[query]), max(LENGTHS[source]))


@paper_case
def test_a_vector_reads_its_source_and_no_third_modality(name):
    fusion, (sequences, masks) = build(name), inputs()
    before = fusion(sequences, masks)
    for changed in MODALITIES:
        other = fusion({**sequences, changed: -sequences[changed]}, masks)
        for n, (query, source) in enumerate(fusion.pairs):
            same = torch.allclose(before.vectors[:, n], other.vectors[:, n])
            assert same == (changed not in (query, source)), (query, source, changed)


def test_at_published_sizes_the_counts_are_those_of_the_table():
    counts = {
        name: sum(p.numel() for p in build_fusion(name, FusionConfig(MODALITIES)).parameters())
        for name in ("self", "cross", "selfcross", "self_x2", "cross_tied", "selfcross_tied")
    }
    assert counts == {
        "self": 174_240, "cross": 348_480, "selfcross": 522_720,
        "self_x2": 348_480, "cross_tied": 174_240, "selfcross_tied": 348_480,
    }  # fmt: skip


@paper_case
def test_dropping_one_set_of_vectors_of_both_gives_the_other(name):
    both, one, (sequences, masks) = build("selfcross"), build(name), inputs()
    one.load_state_dict({k: both.state_dict()[k] for k in one.state_dict()})
    kept = [both.pairs.index(pair) for pair in one.pairs]
    torch.testing.assert_close(
        one(sequences, masks).vectors, both(sequences, masks).vectors[:, kept]
    )


def test_each_self_attention_of_self_x2_is_a_self_fusion_of_its_own():
    twice, (sequences, masks) = build("self_x2"), inputs()
    vectors = twice(sequences, masks).vectors
    for copy, end in enumerate(("", "_2")):
        one = build("self", seed=5)
        for m in MODALITIES:
            state = twice.attentions[f"{m}_{m}{end}"].state_dict()
            one.attentions[f"{m}_{m}"].load_state_dict(state)
        expected = one(sequences, masks).vectors
        torch.testing.assert_close(vectors[:, 3 * copy : 3 * copy + 3], expected)


def test_weights_of_self_x2_hold_the_heads_of_both():
    twice, (sequences, masks) = build("self_x2"), inputs()
    weights = twice(sequences, masks, need_weights=True).weights
    assert weights["text", "text"].shape[1] == 2 * HEADS
    second = twice.attentions["text_text_2"](
        sequences["text"], sequences["text"], masks["text"], need_weights=True
    )[1]
    second = second * masks["text"][:, None, :, None]
    torch.testing.assert_close(weights["text", "text"][:, HEADS:], second)


@pytest.mark.parametrize(
    ("tied", "free"), [("cross_tied", "cross"), ("selfcross_tied", "selfcross")]
)
def test_tied_fusions_are_the_free_ones_with_equal_attentions_both_ways(tied, free):
    one, other, (sequences, masks) = build(tied), build(free), inputs()
    for query, source in other.pairs:
        names = (f"{query}_{source}", f"{source}_{query}")
        shared = next(one.attentions[name] for name in names if name in one.attentions)
        other.attentions[names[0]].load_state_dict(shared.state_dict())
    assert_same(one(sequences, masks), other(sequences, masks))


# Switches


@every_name
def test_uniform_attention_equals_attention_with_zero_query_and_key_weights(name):
    uniform, full, (sequences, masks) = build(name, query="uniform"), build(name), inputs()
    for owner, module in uniform.attentions.items():
        other = full.attentions[owner]
        with torch.no_grad():
            for p, values in (
                (other.in_proj_weight, module.in_proj_weight),
                (other.in_proj_bias, module.in_proj_bias),
            ):
                p.zero_()
                p[2 * WIDTH :] = values
            other.out_proj.load_state_dict(module.out_proj.state_dict())
    assert_same(uniform(sequences, masks), full(sequences, masks))


@pytest.mark.parametrize("need_weights", [False, True])
def test_uniform_attention_gives_every_real_frame_the_same_weight(need_weights):
    fusion, (sequences, masks) = build("cross", query="uniform"), inputs()
    fused = fusion(sequences, masks, need_weights)
    for n, (query, source) in enumerate(fusion.pairs):
        module = fusion.attentions[f"{query}_{source}"]
        mean = masked_mean(sequences[source], masks[source])
        values = mean @ module.in_proj_weight.T + module.in_proj_bias
        torch.testing.assert_close(fused.vectors[:, n], module.out_proj(values))
        if need_weights:
            real = masks[query][:, :, None] & masks[source][:, None, :]  # (B, Tq, Ts)
            share = real / masks[source].sum(dim=1)[:, None, None]
            expected = share[:, None].to(mean.dtype).expand(-1, HEADS, -1, -1)
            torch.testing.assert_close(fused.weights[query, source], expected)


@pytest.mark.parametrize("inner", [0, 6, 24])
@pytest.mark.parametrize("query", ["own", "uniform"])
def test_an_attention_has_as_many_parameters_as_its_docstring_says(inner, query):
    module = build("self", ("text",), query=query, inner=inner).attentions["text_text"]
    d, i = WIDTH, inner or WIDTH
    expected = (1 if query == "uniform" else 3) * i * (d + 1) + d * (i + 1)
    assert sum(p.numel() for p in module.parameters()) == expected


def test_attention_of_another_inner_width_worked_out_slowly():
    module = randomize(MultiHeadAttention(WIDTH, HEADS, inner=6).double())
    query, source, _, mask = asked_and_read()
    w_q, w_k, w_v = module.in_proj_weight.chunk(3)  # (6, D) each
    b_q, b_k, b_v = module.in_proj_bias.chunk(3)
    out = module(query, source, mask)[0]
    for i, real in enumerate(mask.sum(dim=1)):
        heads = []
        for part in (slice(0, 2), slice(2, 4), slice(4, 6)):
            q = query[i] @ w_q[part].T + b_q[part]
            k = source[i, :real] @ w_k[part].T + b_k[part]
            v = source[i, :real] @ w_v[part].T + b_v[part]
            heads.append((q @ k.T / math.sqrt(2)).softmax(dim=1) @ v)
        torch.testing.assert_close(out[i], module.out_proj(torch.cat(heads, dim=1)))


def test_heads_must_divide_the_inner_width():
    with pytest.raises(InputError, match="width=8 cannot be split into heads=3"):
        build("self", inner=8)


@paper_case
def test_what_another_utterance_asks_does_not_depend_on_the_own_query(name):
    fusion, (sequences, masks) = build(name), inputs()
    asking = inputs(OTHER_LENGTHS, seed=2)
    asked = fusion(sequences, masks, asking=asking)
    for changed in MODALITIES:
        other = fusion({**sequences, changed: -sequences[changed]}, masks, asking=asking)
        for n, (query, source) in enumerate(fusion.pairs):
            same = torch.allclose(asked.vectors[:, n], other.vectors[:, n])
            assert same == (changed != source), (query, source, changed)


@every_name
def test_each_asking_utterance_meets_the_source_of_the_same_row(name):
    fusion, (sequences, masks) = build(name), inputs()
    others, other_masks = inputs(OTHER_LENGTHS, seed=2)
    fused = fusion(sequences, masks, True, (others, other_masks))
    for n, (query, source) in enumerate(fusion.pairs):
        module = fusion.attentions[fusion.owners[n]]
        out, _ = module(others[query], sequences[source], masks[source])
        torch.testing.assert_close(fused.vectors[:, n], masked_mean(out, other_masks[query]))
        longest = max(OTHER_LENGTHS[query]), max(LENGTHS[source])
        assert fused.weights[query, source].shape[2:] == longest


def test_a_vector_is_absent_where_nobody_asks_or_nothing_is_read():
    fusion, (sequences, masks) = build("cross", ("audio", "text")), inputs()
    others, other_masks = inputs(OTHER_LENGTHS, seed=2)
    masks["text"][0], other_masks["audio"][1] = False, False
    present = fusion(sequences, masks, asking=(others, other_masks)).present
    assert fusion.pairs == [("audio", "text"), ("text", "audio")]
    assert present.tolist() == [[False, True], [False, True], [True, True], [True, True]]


@every_name
@pytest.mark.parametrize("query", ["own", "shuffled", "uniform"])
def test_the_residual_adds_the_mean_of_who_asks(name, query):
    without, with_ = build(name, query=query), build(name, query=query, residual=True)
    sequences, masks = inputs()
    asking = inputs(OTHER_LENGTHS, seed=2) if query == "shuffled" else None
    plain = without(sequences, masks, asking=asking)
    added = with_(sequences, masks, asking=asking)
    asks, ask_masks = asking or (sequences, masks)
    for n, (who, _) in enumerate(without.pairs):
        expected = plain.vectors[:, n] + masked_mean(asks[who], ask_masks[who])
        torch.testing.assert_close(added.vectors[:, n], expected)
