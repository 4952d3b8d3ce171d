"""One attention over all frames: against one softmax over the whole block matrix, and each mask."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small import SUBSETS, random_sequences, randomize
from torch import Tensor

from mmer_lib.corpora import MODALITIES
from mmer_lib.errors import InputError
from mmer_lib.fusion import Fused, FusionConfig, build_fusion
from mmer_lib.fusion.joint import JointFusion, count_bias
from mmer_lib.pooling import masked_mean

WIDTH, HEADS = 12, 3
LENGTHS = {"audio": [9, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
OTHER_LENGTHS = {"audio": [2, 8, 1, 3], "video": [1, 2, 5, 4], "text": [3, 2, 4, 1]}
READS = {
    "joint_self": lambda query, source: query == source,
    "joint_cross": lambda query, source: query != source,
    "joint": lambda query, source: True,
}
every_mask = pytest.mark.parametrize("name", READS)


def build(name: str, seed: int = 0, **switches: Any) -> JointFusion:
    fusion = build_fusion(name, FusionConfig(MODALITIES, WIDTH, HEADS, **switches))
    return randomize(fusion.double(), seed).eval()


def inputs(lengths=LENGTHS, seed: int = 1):
    return random_sequences(lengths, WIDTH, seed)


def run(name: str, lengths=LENGTHS, **switches: Any) -> Fused:
    return build(name, **switches)(*inputs(lengths), need_weights=True)


def mass(fused: Fused, query: str, source: str) -> Tensor:
    """Of each row of a block: (B, H, Tq)."""
    return fused.weights[query, source].sum(dim=3)


def slow_layer(
    name: str, layer, asks: dict[str, Tensor], x: dict[str, Tensor]
) -> dict[str, Tensor]:
    """A layer for ONE utterance without padding, with the whole T x T matrix: (T_m, D) each."""
    module, size = layer.attention, WIDTH // HEADS
    tagged = torch.cat([asks[m] + layer.embedding[m] for m in MODALITIES])
    frames = torch.cat([x[m] + layer.embedding[m] for m in MODALITIES])
    of_query = [m for m in MODALITIES for _ in asks[m]]
    of_key = [m for m in MODALITIES for _ in x[m]]
    log_n = {m: math.log(len(x[m])) for m in MODALITIES}
    rows = [[-log_n[s] if READS[name](q, s) else -math.inf for s in of_key] for q in of_query]
    bias = torch.tensor(rows, dtype=torch.float64)  # (T, T)
    weights, biases = module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3)
    inputs = (tagged, frames, frames)
    q, k, v = (x @ w.T + b for x, w, b in zip(inputs, weights, biases, strict=True))
    heads = []
    for part in (slice(h * size, (h + 1) * size) for h in range(HEADS)):
        scores = q[:, part] @ k[:, part].T / math.sqrt(size) + bias
        heads.append(scores.softmax(dim=1) @ v[:, part])
    out = module.out_proj(torch.cat(heads, dim=1))
    return dict(zip(MODALITIES, out.split([len(asks[m]) for m in MODALITIES]), strict=True))


@every_mask
@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_it_equals_one_softmax_over_all_frames_of_each_utterance(
    name, need_weights, residual, depth
):
    fusion, (sequences, masks) = build(name, residual=residual, depth=depth), inputs()
    vectors = fusion(sequences, masks, need_weights).vectors
    for i in range(4):
        x = {m: sequences[m][i, : LENGTHS[m][i]] for m in MODALITIES}
        for number, layer in enumerate(fusion.layers, start=1):
            out = slow_layer(name, layer, x, x)
            adds = residual or number < depth
            x = {m: x[m] + out[m] if adds else out[m] for m in MODALITIES}
        expected = torch.stack([x[m].mean(dim=0) for m in MODALITIES])
        torch.testing.assert_close(vectors[i], expected)


@every_mask
@pytest.mark.parametrize("residual", [False, True])
def test_frames_of_another_utterance_ask_in_place_of_the_own_ones(name, residual):
    fusion, (sequences, masks) = build(name, residual=residual), inputs()
    others, other_masks = inputs(OTHER_LENGTHS, seed=2)
    vectors = fusion(sequences, masks, asking=(others, other_masks)).vectors
    for i in range(4):
        x = {m: sequences[m][i, : LENGTHS[m][i]] for m in MODALITIES}
        asks = {m: others[m][i, : OTHER_LENGTHS[m][i]] for m in MODALITIES}
        out = slow_layer(name, fusion.layers[0], asks, x)
        for n, m in enumerate(MODALITIES):
            expected = out[m].mean(dim=0) + (asks[m].mean(dim=0) if residual else 0.0)
            torch.testing.assert_close(vectors[i, n], expected)


# Only the mask differs


@pytest.mark.parametrize("depth", [1, 2])
def test_the_three_have_the_same_parameters_and_the_same_start(depth):
    states = []
    for name in READS:
        torch.manual_seed(0)
        config = FusionConfig(MODALITIES, depth=depth)
        states.append(build_fusion(name, config).state_dict())
    assert sum(p.numel() for p in states[0].values()) == depth * 58_440
    for state in states[1:]:
        assert list(state) == list(states[0])
        assert all(torch.equal(p, states[0][key]) for key, p in state.items())


@every_mask
def test_the_blocks_of_weights_are_those_that_the_mask_allows(name):
    fused = run(name)
    allowed = [(q, s) for q in MODALITIES for s in MODALITIES if READS[name](q, s)]
    assert sorted(fused.weights) == sorted(allowed)
    for (query, source), w in fused.weights.items():
        assert w.shape == (4, HEADS, max(LENGTHS[query]), max(LENGTHS[source]))


@every_mask
def test_a_vector_reads_the_modalities_that_the_mask_allows(name):
    fusion, (sequences, masks) = build(name), inputs()
    before = fusion(sequences, masks).vectors
    for changed in MODALITIES:
        after = fusion({**sequences, changed: -sequences[changed]}, masks).vectors
        for n, query in enumerate(MODALITIES):
            asks_or_is_read = changed == query or READS[name](query, changed)
            assert torch.allclose(before[:, n], after[:, n]) == (not asks_or_is_read)


def test_under_the_self_mask_it_equals_one_shared_attention_run_a_modality():
    fusion, (sequences, masks) = build("joint_self"), inputs()
    fused = fusion(sequences, masks, need_weights=True)
    layer = fusion.layers[0]
    for n, m in enumerate(MODALITIES):
        x = sequences[m] + layer.embedding[m]
        out, weights = layer.attention(x, x, masks[m], need_weights=True)
        torch.testing.assert_close(fused.vectors[:, n], masked_mean(out, masks[m]))
        real = masks[m][:, None, :, None]
        torch.testing.assert_close(fused.weights[m, m], weights * real)


def test_with_two_modalities_the_cross_mask_is_one_shared_cross_attention():
    names = ("audio", "text")
    fusion = build_fusion("joint_cross", FusionConfig(names, WIDTH, HEADS))
    fusion, (sequences, masks) = randomize(fusion.double()).eval(), inputs()
    vectors, layer = fusion(sequences, masks).vectors, fusion.layers[0]
    tagged = {m: sequences[m] + layer.embedding[m] for m in names}
    for n, (query, source) in enumerate((names, names[::-1])):
        out, _ = layer.attention(tagged[query], tagged[source], masks[source])
        torch.testing.assert_close(vectors[:, n], masked_mean(out, masks[query]))


@every_mask
def test_of_several_layers_the_last_ones_weights_are_given(name):
    fusion, (sequences, masks) = build(name, depth=2), inputs()
    first, second = fusion.layers
    read = first(sequences, sequences, masks)[0]
    x = {m: sequences[m] + read[m] for m in MODALITIES}
    blocks = second(x, x, masks, need_weights=True)[1]
    weights = fusion(sequences, masks, need_weights=True).weights
    assert list(weights) == list(blocks)
    for (query, source), w in weights.items():
        torch.testing.assert_close(w, blocks[query, source] * masks[query][:, None, :, None])


# Mass


@every_mask
def test_the_masses_of_a_rows_blocks_sum_to_one(name):
    fused, masks = run(name), inputs()[1]
    for query in MODALITIES:
        total = sum(mass(fused, q, s) for q, s in fused.weights if q == query)
        real = masks[query][:, None].expand_as(total).to(total.dtype)
        torch.testing.assert_close(total, real)


@every_mask
def test_where_scores_say_nothing_each_modality_has_equal_mass_whatever_its_length(name):
    fused, masks = run(name, query="uniform"), inputs()[1]
    for query, source in fused.weights:
        sources = sum(READS[name](query, s) for s in MODALITIES)
        block = mass(fused, query, source)
        real = masks[query][:, None].expand_as(block)
        torch.testing.assert_close(block, real / sources, check_dtype=False)


def test_what_is_added_to_the_scores_worked_by_hand():
    audio = torch.tensor([[True, True, True, False], [True, False, False, False], [False] * 4])
    text = torch.tensor([[True, False], [False, False], [False, False]])
    bias = count_bias([audio, text], torch.float64)
    third, none = -math.log(3), -math.inf
    expected = [[third] * 3 + [none, 0.0, none], [0.0] + [none] * 5, [0.0] * 6]
    torch.testing.assert_close(bias, torch.tensor(expected, dtype=torch.float64))


def test_repeating_the_frames_of_a_modality_takes_no_mass_from_the_others():
    fusion, (sequences, _) = build("joint"), inputs()
    masks = {m: torch.ones(x.shape[:2], dtype=torch.bool) for m, x in sequences.items()}
    plain = fusion(sequences, masks, need_weights=True)
    sequences = {**sequences, "video": sequences["video"].repeat(1, 3, 1)}
    masks = {**masks, "video": masks["video"].repeat(1, 3)}
    again = fusion(sequences, masks, need_weights=True)
    torch.testing.assert_close(again.vectors, plain.vectors)
    torch.testing.assert_close(mass(again, "text", "video"), mass(plain, "text", "video"))


def test_own_mass_is_the_mean_over_heads_and_real_queries():
    fused = run("joint")
    for i in range(4):
        rows = [mass(fused, m, m)[i, h, t] for m in MODALITIES for h in range(HEADS)
                for t in range(LENGTHS[m][i])]  # fmt: skip
        torch.testing.assert_close(fused.aux["own_mass"][i], torch.stack(rows).mean())


def test_own_mass_is_one_under_the_self_mask_zero_under_cross_and_a_third_by_chance():
    def own(name: str, **switches: Any) -> list[float]:
        return run(name, **switches).aux["own_mass"].tolist()

    assert own("joint_self") == pytest.approx([1.0] * 4)
    assert own("joint_cross") == [0.0] * 4
    assert own("joint", query="uniform") == pytest.approx([1 / 3] * 4)
    assert all(0 < m < 1 and abs(m - 1 / 3) > 1e-3 for m in own("joint"))
    assert build("joint")(*inputs()).aux == {}


# Missing modalities


@every_mask
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("need_weights", [False, True])
def test_a_vector_is_present_where_it_asks_and_has_something_to_read(name, depth, need_weights):
    absent = ((), *SUBSETS)
    lengths = {m: [0 if m in gone else 2 for gone in absent] for m in MODALITIES}
    fusion = build(name, depth=depth)
    fused = fusion(*inputs(lengths), need_weights)
    number = fused.vectors.square().sum()
    number.backward()
    assert number.isfinite()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    for i, gone in enumerate(absent):
        left = [m for m in MODALITIES if m not in gone]
        expected = [m in left and any(READS[name](m, s) for s in left) for m in MODALITIES]
        assert fused.present[i].tolist() == expected


def test_with_one_modality_left_nothing_can_be_read_across():
    lengths = {"audio": [3, 0], "video": [0, 0], "text": [0, 0]}
    fused = run("joint_cross", lengths)
    assert not fused.present.any()
    assert all(torch.equal(w, torch.zeros_like(w)) for w in fused.weights.values())
    assert fused.aux["own_mass"].tolist() == [0.0, 0.0]
    alone = run("joint", lengths)
    assert alone.present.tolist() == [[True, False, False], [False] * 3]
    assert alone.aux["own_mass"].tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("need_weights", [False, True])
def test_where_nothing_can_be_read_a_layer_gives_the_bias_of_its_output(need_weights):
    layer = build("joint_cross").layers[0]
    sequences, masks = inputs({"audio": [3, 2], "video": [0, 2], "text": [0, 2]})
    out = layer(sequences, sequences, masks, need_weights)[0]["audio"]
    bias = layer.attention.out_proj.bias
    torch.testing.assert_close(out[0], bias.expand_as(out[0]))
    assert not torch.isclose(out[1], bias).any()


def test_chance_shares_the_mass_among_the_modalities_that_are_there():
    lengths = {"audio": [5, 5, 5], "video": [2, 2, 0], "text": [1, 0, 0]}
    own = run("joint", lengths, query="uniform").aux["own_mass"]
    assert own.tolist() == pytest.approx([1 / 3, 1 / 2, 1.0])


def test_another_utterance_cannot_ask_through_several_layers():
    with pytest.raises(InputError, match=r"query=shuffled with depth=2: .* use depth=1"):
        build("joint", query="shuffled", depth=2)
