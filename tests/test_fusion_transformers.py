"""Transformer blocks against torch's, then what each of the transformer fusions promises."""

from __future__ import annotations

import pytest
import torch
from small import random_sequences, randomize
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmer_lib.corpora import MODALITIES
from mmer_lib.errors import InputError
from mmer_lib.fusion import Fusion, FusionConfig, build_fusion
from mmer_lib.fusion.blocks import Block, Stack, inner_sizes
from mmer_lib.pooling import masked_mean

WIDTH, HEADS = 12, 3
LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
LOOSE = {"rtol": 1e-9, "atol": 1e-9}


def build(name: str, modalities=MODALITIES, seed: int = 0, **switches) -> Fusion:
    config = FusionConfig(modalities, WIDTH, HEADS, **switches)
    return randomize(build_fusion(name, config).double(), seed).eval()


def inputs(lengths=LENGTHS, modalities=MODALITIES, seed: int = 1):
    return random_sequences({m: lengths[m] for m in modalities}, WIDTH, seed)


def zero(*layers: nn.Module) -> None:
    with torch.no_grad():
        for layer in layers:
            for parameter in layer.parameters():
                parameter.zero_()


def quiet(fusion: Fusion) -> Fusion:
    """The last linear layer of every attention and every feed-forward net is zero."""
    for module in fusion.modules():
        if isinstance(module, Block):
            zero(module.attention.out_proj)
            if module.feed is not None:
                zero(module.feed[-1])
    return fusion


def means(fusion: Fusion, sequences, masks) -> Tensor:
    """mm(x_m) of the projected sequences, (B, M, I)."""
    x = fusion.projected(sequences)
    return torch.stack([masked_mean(x[m], masks[m]) for m in x], dim=1)


# Blocks


@pytest.mark.parametrize("expansion", [1, 4])
def test_a_block_that_reads_itself_equals_torchs_encoder_layer(expansion):
    ours = randomize(Block(WIDTH, HEADS, 0.0, expansion).double()).eval()
    theirs = nn.TransformerEncoderLayer(
        WIDTH, HEADS, expansion * WIDTH, 0.0, batch_first=True, norm_first=True
    ).double()
    theirs.self_attn.load_state_dict(ours.attention.state_dict())
    pairs = [(theirs.norm1, ours.norm), (theirs.norm2, ours.feed[0]),
             (theirs.linear1, ours.feed[1]), (theirs.linear2, ours.feed[3])]  # fmt: skip
    for to, of in pairs:
        to.load_state_dict(of.state_dict())
    sequences, masks = inputs()
    z, mask = sequences["audio"], masks["audio"]
    expected = theirs(z, src_key_padding_mask=~mask)
    torch.testing.assert_close(ours(z, z, mask)[0][mask], expected[mask])


def test_a_block_adds_attention_over_the_source_and_then_a_feed_forward_net():
    block = randomize(Block(WIDTH, HEADS, 0.0, 2).double()).eval()
    sequences, masks = inputs()
    z, source, mask = sequences["audio"], sequences["text"], masks["text"]
    middle = z + block.attention(block.norm(z), block.norm(source), mask)[0]
    torch.testing.assert_close(block(z, source, mask)[0], middle + block.feed(middle))


def test_a_source_without_a_real_step_adds_nothing():
    block = randomize(Block(WIDTH, HEADS, 0.0, expansion=0).double()).eval()
    sequences, masks = inputs(LENGTHS | {"text": [6, 0, 2, 4]})
    out, weights = block(sequences["audio"], sequences["text"], masks["text"], need_weights=True)
    assert torch.equal(out[1], sequences["audio"][1])
    assert (weights[1] == 0).all()


def test_a_stack_reads_the_same_source_again_and_again():
    blocks = [randomize(Block(WIDTH, HEADS, 0.0).double(), seed) for seed in (1, 2)]
    sequences, masks = inputs()
    z, source, mask = sequences["audio"], sequences["text"], masks["text"]
    expected = blocks[1](blocks[0](z, source, mask)[0], source, mask)[0]
    torch.testing.assert_close(Stack(blocks)(z, source, mask)[0], expected)


@pytest.mark.parametrize(
    ("published", "width", "heads", "expected"),
    [(44, 120, 6, (44, 4)), (96, 120, 6, (96, 6)), (56, 120, 6, (56, 4)), (60, 120, 6, (60, 6)),
     (44, 12, 3, (4, 2)), (44, 60, 6, (22, 2)), (44, 3, 1, (2, 1))],
)  # fmt: skip
def test_the_inner_width_keeps_its_proportion_and_the_heads_divide_it(
    published, width, heads, expected
):
    assert inner_sizes(FusionConfig(MODALITIES, width, heads), published) == expected


def test_an_inner_width_that_is_asked_for_must_be_divisible_by_the_heads():
    assert inner_sizes(FusionConfig(MODALITIES, WIDTH, HEADS, inner=9), 44) == (9, 3)
    with pytest.raises(InputError, match="width=10 cannot be split into heads=3"):
        build("mbt", inner=10)


@pytest.mark.parametrize(
    ("name", "count"),
    [("mult", 370_260), ("mbt", 372_960), ("emt", 358_680), ("hct", 373_623), ("misa", 320_280)],
)
def test_at_published_sizes_the_counts_are_near_that_of_cross_attention(name, count):
    fusion = build_fusion(name, FusionConfig(MODALITIES))
    assert sum(p.numel() for p in fusion.parameters()) == count
    assert count == pytest.approx(348_480, rel=0.085)


# MulT


def test_mult_with_zeroed_output_layers_is_the_identity():
    fusion, (sequences, masks) = quiet(build("mult")), inputs()
    zero(fusion.mix[-1])
    expected = means(fusion, sequences, masks).repeat(1, 1, 2)  # a copy for each of two sources
    torch.testing.assert_close(fusion(sequences, masks).vectors, expected)


@pytest.mark.parametrize(("depth", "shuffled"), [(1, False), (2, False), (2, True)])
def test_mult_equals_its_equations_an_utterance_at_a_time(depth, shuffled):
    fusion, (sequences, masks) = build("mult", depth=depth), inputs()
    turned = {m: lengths[::-1] for m, lengths in LENGTHS.items()}
    asks, ask_masks = inputs(turned, seed=2) if shuffled else (sequences, masks)
    given = fusion(sequences, masks, asking=(asks, ask_masks) if shuffled else None).vectors
    for i in range(4):
        start = {m: fusion.project[m](asks[m][i][ask_masks[m][i]])[None] for m in MODALITIES}
        x = {m: fusion.project[m](sequences[m][i][masks[m][i]])[None] for m in MODALITIES}
        every = {m: torch.ones(1, x[m].shape[1], dtype=torch.bool) for m in MODALITIES}
        rows = []
        for m in MODALITIES:
            crossed = []
            for n in MODALITIES:
                z = start[m]
                for block in fusion.cross[f"{m}_{n}"].blocks if n != m else []:
                    z = block(z, x[n], every[n])[0]
                crossed += [z] if n != m else []
            y = torch.cat(crossed, dim=2)
            for block in fusion.own[m].blocks:
                y = block(y, y, torch.ones(y.shape[:2], dtype=torch.bool))[0]
            rows.append(y[0].mean(dim=0))
        v = torch.cat(rows)
        first, _, second = fusion.mix
        v = v + second(first(v).relu())
        torch.testing.assert_close(given[i].flatten(), v, **LOOSE)


def test_in_mult_a_partner_that_asks_replaces_the_target_and_not_the_sources():
    fusion, (sequences, masks) = build("mult"), inputs()
    zero(fusion.mix[-1])  # so that vectors do not mix
    others = inputs(seed=2)
    asked = fusion(sequences, masks, asking=others).vectors
    changed = {**sequences, "audio": -sequences["audio"]}
    other = fusion(changed, masks, asking=others).vectors
    torch.testing.assert_close(other[:, 0], asked[:, 0])  # audio is its target
    assert not torch.isclose(other[:, 1:], asked[:, 1:]).all(dim=2).any()


def test_in_mult_a_partner_has_nothing_to_say_where_there_is_no_source():
    fusion, (sequences, masks) = build("mult"), inputs()
    masks["video"] = masks["text"] = torch.zeros(4, 1, dtype=torch.bool)
    sequences = {m: x[:, : masks[m].shape[1]] for m, x in sequences.items()}
    assert fusion(sequences, masks).present[0].tolist() == [True, False, False]
    asked = fusion(sequences, masks, asking=inputs(seed=2))
    assert asked.present[0].tolist() == [False, True, True]  # only audio can be read
    others, other_masks = inputs(seed=2)
    others["audio"] = -others["audio"]  # it has nothing to read, so it passes nothing on
    again = fusion(sequences, masks, asking=(others, other_masks))
    torch.testing.assert_close(again.vectors[:, 1:], asked.vectors[:, 1:])


# Bottleneck transformer


@pytest.mark.parametrize(("depth", "heard"), [(1, False), (2, True)])
def test_video_reaches_text_through_the_bottleneck_after_two_layers(depth, heard):
    fusion, (sequences, masks) = build("mbt", depth=depth), inputs()
    before = fusion(sequences, masks).vectors
    after = fusion({**sequences, "video": -sequences["video"]}, masks).vectors
    same = torch.isclose(before, after).all(dim=2)  # (B, M)
    assert not same[:, 1].any()  # video itself
    assert same[:, 2].tolist() == [not heard] * 4


def test_mbt_equals_its_equations_an_utterance_at_a_time():
    fusion, (sequences, masks) = build("mbt"), inputs(LENGTHS | {"video": [3, 0, 1, 2]})
    given = fusion(sequences, masks)
    for i in range(4):
        here = [m for m in MODALITIES if masks[m][i].any()]
        x = {m: fusion.project[m](sequences[m][i][masks[m][i]])[None] for m in here}
        z = fusion.bottleneck[None]
        for layer in range(2):
            tokens = []
            for m in here:
                both = torch.cat([x[m], z], dim=1)
                out, _ = fusion.blocks[f"{m}_{layer}"](
                    both, both, torch.ones(both.shape[:2], dtype=torch.bool)
                )
                x[m] = out[:, :-4]
                tokens.append(out[:, -4:])
            z = sum(tokens) / len(tokens)
        expected = torch.stack([fusion.norm(x[m])[0].mean(dim=0) for m in here])
        torch.testing.assert_close(given.vectors[i][given.present[i]], expected, **LOOSE)


def test_the_mass_on_the_bottleneck_is_four_of_all_keys_under_uniform_attention():
    fusion, (sequences, masks) = build("mbt", query="uniform"), inputs()
    aux = fusion(sequences, masks, need_weights=True).aux
    for m in MODALITIES:
        steps = masks[m].sum(dim=1)
        torch.testing.assert_close(aux[f"bottleneck_{m}"], 4 / (steps + 4).double())


# Efficient multimodal transformer


def test_the_context_has_a_row_for_each_modality_and_asks_each_of_them():
    fusion, (sequences, masks) = build("emt"), inputs()
    fused = fusion(sequences, masks, need_weights=True)
    assert fusion.n_vectors == 6  # three rows of G, three means
    for m in MODALITIES:
        assert fused.aux[f"context_{m}"].shape == (4, HEADS, 3, max(LENGTHS[m]))
    torch.testing.assert_close(fused.gates["context"].sum(dim=1), torch.ones(4).double())


def test_of_emt_with_zeroed_output_layers_context_and_frames_stay_the_means():
    fusion, (sequences, masks) = quiet(build("emt")), inputs()
    expected = means(fusion, sequences, masks).repeat(1, 2, 1)
    torch.testing.assert_close(fusion(sequences, masks).vectors, expected)


@pytest.mark.parametrize("depth", [1, 2])
def test_emt_equals_its_equations_an_utterance_at_a_time(depth):
    fusion, (sequences, masks) = (
        build("emt", depth=depth),
        inputs(LENGTHS | {"video": [3, 0, 1, 2]}),
    )
    given, first, last = fusion(sequences, masks), fusion.score[0], fusion.score[2]
    for i in range(4):
        frames = {m: sequences[m][i][masks[m][i]] for m in MODALITIES}
        x = {m: fusion.project[m](frames[m])[None] for m in MODALITIES}
        here = torch.tensor([[len(frames[m]) > 0 for m in MODALITIES]])
        g = torch.stack([x[m][0].sum(dim=0) / max(1, len(frames[m])) for m in MODALITIES])[None]
        for layer in range(depth):
            asked = []
            for m in (m for m in MODALITIES if len(frames[m])):
                real = torch.ones(x[m].shape[:2], dtype=torch.bool)
                read = fusion.to_context[f"{m}_{layer}"](g, x[m], real)[0]
                asked.append(fusion.within[f"{m}_{layer}"](read, read, here)[0])
                x[m] = fusion.to_frames[f"{m}_{layer}"](x[m], g, here)[0]
            flat = torch.stack([c.flatten() for c in asked])  # (modalities here, V)
            scores = (flat @ first.weight.T + first.bias).tanh() @ last.weight[0]
            share = scores.softmax(dim=0)
            g = sum(a * c for a, c in zip(share, asked, strict=True))
        means = [x[m][0].mean(dim=0) for m in MODALITIES if len(frames[m])]
        expected = torch.cat([g[0][here[0]], torch.stack(means)])
        torch.testing.assert_close(given.vectors[i][given.present[i]], expected, **LOOSE)
        torch.testing.assert_close(given.gates["context"][i][here[0]], share, **LOOSE)


def count_flops(fusion: Fusion, steps: int) -> int:
    lengths = {m: [steps] for m in MODALITIES}
    with FlopCounterMode(display=False) as counter:
        fusion(*random_sequences(lengths, WIDTH), need_weights=True)
    return counter.get_total_flops()


@pytest.mark.parametrize(("name", "linear"), [("emt", True), ("mbt", False), ("mult", False)])
def test_the_cost_of_emt_grows_with_time_and_not_with_its_square(name, linear):
    costs = [count_flops(build(name), steps) for steps in (10, 20, 30)]
    assert (costs[2] - costs[1] == costs[1] - costs[0]) == linear


def test_the_last_layers_frames_reach_the_means_and_no_row_of_the_context():
    fusion, (sequences, masks) = build("emt"), inputs()
    before = fusion(sequences, masks).vectors
    zero(fusion.to_frames["audio_1"].feed[-1])
    after = fusion(sequences, masks).vectors
    torch.testing.assert_close(after[:, [0, 1, 2, 4, 5]], before[:, [0, 1, 2, 4, 5]])
    assert not torch.isclose(after[:, 3], before[:, 3]).all(dim=1).any()


def test_a_missing_modality_has_no_share_in_the_context():
    fusion, (sequences, masks) = build("emt"), inputs(LENGTHS | {"video": [3, 0, 1, 2]})
    share = fusion(sequences, masks).gates["context"]
    assert ((share > 0) == torch.stack([k.any(dim=1) for k in masks.values()], dim=1)).all()


# Hierarchical transformer


def test_equal_numbers_scale_every_modality_by_one():
    fusion, (sequences, masks) = quiet(build("hct")), inputs()
    for number in (0.0, 0.7):
        with torch.no_grad():
            fusion.gate.fill_(number)
        fused = fusion(sequences, masks)
        torch.testing.assert_close(fused.gates["scale"], torch.ones(4, 3).double())
        torch.testing.assert_close(fused.vectors, means(fusion, sequences, masks))


def test_the_modality_of_the_largest_number_is_primary_and_asks_the_others():
    fusion, (sequences, masks) = quiet(build("hct")), inputs()
    with torch.no_grad():
        fusion.gate.copy_(torch.tensor([-1.0, 0.0, 2.0]))
    fused = fusion(sequences, masks, need_weights=True)
    assert set(fused.weights) == {
        ("audio", "audio"), ("video", "video"), ("text", "text"),
        ("video", "audio"), ("audio", "video"), ("text", "video"), ("text", "audio"),
    }  # fmt: skip
    scale = 3 * fusion.gate.softmax(dim=0)
    expected = scale[:, None] * means(fusion, sequences, masks)
    torch.testing.assert_close(fused.vectors, expected[:, [2, 1, 0]])  # primary first


def test_a_role_is_absent_where_the_modality_that_has_it_is():
    fusion, (sequences, masks) = build("hct"), inputs(LENGTHS | {"audio": [0, 2, 7, 1]})
    with torch.no_grad():
        fusion.gate.copy_(torch.tensor([-1.0, 0.0, 2.0]))  # audio is last
    assert fusion(sequences, masks).present.tolist() == [[True, True, False], *[[True] * 3] * 3]


def test_hct_of_the_primary_equals_its_equations():
    fusion, (sequences, masks) = build("hct"), inputs()
    p, a, b = fusion.ranked()
    scale = dict(zip(MODALITIES, 3 * fusion.gate.softmax(dim=0), strict=True))
    x = {m: scale[m] * fusion.project[m](sequences[m]) for m in MODALITIES}
    x = {m: fusion.own[m](x[m], x[m], masks[m])[0] for m in MODALITIES}
    h = [
        fusion.across[0](x[a], x[b], masks[b])[0],
        fusion.across[1](x[b], x[a], masks[a])[0],
    ]
    u = fusion.primary[0](x[p], h[0], masks[a])[0]
    u = fusion.primary[1](u, h[1], masks[b])[0]
    u = fusion.last(u, u, masks[p])[0]
    expected = [masked_mean(s, masks[m]) for s, m in ((u, p), (h[0], a), (h[1], b))]
    torch.testing.assert_close(fusion(sequences, masks).vectors, torch.stack(expected, dim=1))


def test_at_the_start_the_first_modality_is_primary():
    assert build_fusion("hct", FusionConfig(MODALITIES)).ranked() == list(MODALITIES)
