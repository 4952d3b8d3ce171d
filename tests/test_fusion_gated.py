"""What gates and hops promise: set by hand, the simpler mechanism comes back."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from small import SUBSETS, random_sequences, randomize
from torch import nn
from torch.nn import functional as F

from mmer_lib.corpora import MODALITIES
from mmer_lib.fusion import Fusion, FusionConfig, build_fusion
from mmer_lib.pooling import masked_mean

CONFIG = FusionConfig(MODALITIES, width=12, heads=3)
PUBLISHED = FusionConfig(MODALITIES)
LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
PAIRS = [("audio", "video"), ("audio", "text"), ("video", "audio"),
         ("video", "text"), ("text", "audio"), ("text", "video")]  # fmt: skip


def build(name: str, config: FusionConfig = CONFIG, seed: int = 0) -> Fusion:
    return randomize(build_fusion(name, config).double(), seed).eval()


def inputs(lengths=LENGTHS, seed: int = 1):
    return random_sequences(lengths, CONFIG.width, seed)


def zero(*modules: nn.Module) -> None:
    with torch.no_grad():
        for module in modules:
            for parameter in module.parameters():
                parameter.zero_()


def without(masks, *gone: str):
    return {m: torch.zeros_like(k) if m in gone else k for m, k in masks.items()}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("amh", 347_040), ("iaca", 524_292), ("iaca_tied", 350_052), ("se_cross", 352_137),
     ("gated", 349_440)],
)  # fmt: skip
def test_at_published_sizes_the_parameters_are_as_many_as_in_the_definition(name, parameters):
    with torch.device("meta"):
        fusion = build_fusion(name, PUBLISHED)
    assert sum(p.numel() for p in fusion.parameters()) == parameters


# amh


def hop_by_hand(fusion: Fusion, sequences, masks, item: int) -> list[torch.Tensor]:
    """The vectors of one utterance, hop by hop and frame by frame."""
    frames = {m: sequences[m][item][masks[m][item]] for m in MODALITIES}
    vectors = {m: sum(frames[m]) / len(frames[m]) for m in MODALITIES}
    for hop, target in zip(fusion.hops, ["video", "audio", "text"] * 4, strict=True):
        asks = torch.cat([vectors[m] for m in MODALITIES if m != target])
        query = hop.weight @ asks + hop.bias
        scores = [(query @ frame).exp() for frame in frames[target]]
        vectors[target] = sum(
            s / sum(scores) * frame for s, frame in zip(scores, frames[target], strict=True)
        )
    return list(vectors.values())


def test_hopping_equals_a_walk_through_its_hops():
    fusion, (sequences, masks) = build("amh"), inputs()
    fused = fusion(sequences, masks)
    for item in range(4):
        by_hand = torch.stack(hop_by_hand(fusion, sequences, masks, item))
        torch.testing.assert_close(fused.vectors[item], by_hand)


def test_one_hop_leaves_the_other_two_at_their_means():
    fusion, (sequences, masks) = build("amh", replace(CONFIG, depth=1)), inputs()
    audio, video, text = fusion(sequences, masks).vectors.unbind(dim=1)
    assert torch.equal(audio, masked_mean(sequences["audio"], masks["audio"]))
    assert torch.equal(text, masked_mean(sequences["text"], masks["text"]))
    assert not torch.allclose(video, masked_mean(sequences["video"], masks["video"]))


def test_hops_that_ask_nothing_leave_every_vector_at_its_mean():
    fusion, (sequences, masks) = build("amh"), inputs()
    zero(fusion)
    means = [masked_mean(sequences[m], masks[m]) for m in MODALITIES]
    torch.testing.assert_close(fusion(sequences, masks).vectors, torch.stack(means, dim=1))


@pytest.mark.parametrize("hops", [1, 2, 3, 5, 12])
def test_the_targets_take_turns_in_the_published_order(hops):
    targets = build("amh", replace(CONFIG, depth=hops)).targets
    assert targets == (["video", "audio", "text"] * 4)[:hops]


@pytest.mark.parametrize("modalities", SUBSETS, ids="-".join)
def test_on_fewer_modalities_all_others_ask_and_one_alone_asks_itself(modalities):
    fusion = build("amh", replace(CONFIG, modalities=modalities))
    sequences, masks = inputs({m: LENGTHS[m] for m in modalities})
    weights = fusion(sequences, masks, need_weights=True).weights
    expected = {(n, m) for n in modalities for m in modalities if n != m}
    assert set(weights) == (expected or {(modalities[0], modalities[0])})
    assert {hop.in_features for hop in fusion.hops} == {12 * max(1, len(modalities) - 1)}


def test_the_weights_of_the_last_hop_make_the_vector_and_both_askers_show_them():
    fusion, (sequences, masks) = build("amh"), inputs()
    fused = fusion(sequences, masks, need_weights=True)
    for n, source in enumerate(MODALITIES):
        maps = [w for (_, read), w in fused.weights.items() if read == source]
        assert [w.shape for w in maps] == [(4, 4, 1, max(LENGTHS[source]))] * 2  # 12 hops / 3
        torch.testing.assert_close(maps[0], maps[1])
        vector = maps[0][:, -1] @ sequences[source]  # (B, 1, D)
        torch.testing.assert_close(fused.vectors[:, n], vector.squeeze(1))


def test_a_modality_that_is_missing_shows_no_weights_as_an_asker():
    fusion, (sequences, masks) = build("amh"), inputs()
    weights = fusion(sequences, without(masks, "audio"), need_weights=True).weights
    assert (weights["audio", "text"] == 0).all()
    assert (weights["video", "text"].sum(dim=3) - 1).abs().max() < 1e-9


def test_a_modality_that_the_published_order_does_not_name_comes_last():
    names = ("touch", "text", "video")
    assert build("amh", replace(CONFIG, modalities=names, depth=3)).targets == [
        "video", "text", "touch",
    ]  # fmt: skip


def test_a_missing_modality_asks_as_zeros():
    fusion, (sequences, masks) = build("amh", replace(CONFIG, depth=1)), inputs()
    missing = without(masks, "audio")
    fused = fusion(sequences, missing)
    assert torch.equal(fused.present.any(dim=0), torch.tensor([False, True, True]))
    zeros = {**sequences, "audio": torch.zeros_like(sequences["audio"])}
    torch.testing.assert_close(fused.vectors[:, 1], fusion(zeros, masks).vectors[:, 1])


def test_of_one_modality_that_is_left_the_bias_chooses_the_frames():
    fusion, (sequences, masks) = build("amh", replace(CONFIG, depth=1)), inputs()
    vector = fusion(sequences, without(masks, "audio", "text")).vectors[:, 1]
    scores = (sequences["video"] @ fusion.hops[0].bias).masked_fill(~masks["video"], -math.inf)
    expected = (scores.softmax(dim=1).unsqueeze(2) * sequences["video"]).sum(dim=1)
    torch.testing.assert_close(vector, expected)


# iaca


def force(fusion: Fusion, choice: int) -> None:
    """Gates of stage 1 all to self (0) or to cross (1), stage 2 to equal scores."""
    zero(fusion.frame_gates, fusion.vector_gate)
    with torch.no_grad():
        for gate in fusion.frame_gates.values():
            gate.bias[choice] = 1e3


@pytest.mark.parametrize(
    ("name", "like", "switches"),
    [
        ("iaca", "cross", {}),
        ("iaca", "cross", {"residual": True}),
        ("iaca", "cross", {"query": "uniform"}),
        ("iaca", "cross", {"inner": 6}),
        ("iaca_tied", "cross_tied", {}),
    ],
)
def test_gates_forced_to_cross_give_cross_with_its_weights(name, like, switches):
    config = replace(CONFIG, **switches)
    fusion, cross, (sequences, masks) = build(name, config), build(like, config, 7), inputs()
    fusion.cross.load_state_dict(cross.state_dict())
    force(fusion, 1)
    ours = fusion(sequences, masks, need_weights=True)
    theirs = cross(sequences, masks, need_weights=True)
    torch.testing.assert_close(ours.vectors, theirs.vectors)
    assert torch.equal(ours.present, theirs.present)
    for pair, w in theirs.weights.items():
        torch.testing.assert_close(ours.weights[pair], w)


@pytest.mark.parametrize("residual", [False, True])
def test_gates_forced_to_self_give_the_vectors_of_self_once_for_each_partner(residual):
    config = replace(CONFIG, residual=residual)
    fusion, own, (sequences, masks) = build("iaca", config), build("self", config, 7), inputs()
    fusion.own.load_state_dict(own.state_dict())
    force(fusion, 0)
    expected = own(sequences, masks).vectors.repeat_interleave(2, dim=1)  # a, a, v, v, t, t
    torch.testing.assert_close(fusion(sequences, masks).vectors, expected)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_frames_gate_is_a_sharp_softmax_of_its_cross_attended_feature(shuffled):
    fusion, (sequences, masks) = build("iaca"), inputs()
    zero(fusion.vector_gate)
    lengths = {m: given[::-1] for m, given in LENGTHS.items()} if shuffled else LENGTHS
    asks, ask_masks = inputs(lengths, seed=2) if shuffled else (sequences, masks)
    fused = fusion(sequences, masks, asking=(asks, ask_masks) if shuffled else None)
    for n, (q, s) in enumerate(PAIRS):
        own, _ = fusion.own.attentions[f"{q}_{q}"](asks[q], sequences[q], masks[q])
        c, _ = fusion.cross.attentions[f"{q}_{s}"](asks[q], sequences[s], masks[s])
        gate = fusion.frame_gates[f"{q}_{s}"]
        assert (fused.aux[f"{q}_{s}"][~ask_masks[q]] == 0).all()
        for item in range(4):
            total, share = torch.zeros(12, dtype=torch.float64), []
            for t in range(lengths[q][item]):
                w_1, w_2 = ((gate.weight @ c[item, t] + gate.bias) / 0.1).softmax(dim=0)
                total = total + w_1 * own[item, t] + w_2 * c[item, t]
                share.append(w_2)
            torch.testing.assert_close(fused.vectors[item, n], total / len(share))
            torch.testing.assert_close(
                fused.aux[f"{q}_{s}"][item, : len(share)], torch.stack(share)
            )
            torch.testing.assert_close(fused.gates["cross"][item, n], sum(share) / len(share))


def test_the_second_gate_scales_the_vectors_by_their_share_of_the_attention():
    fusion, (sequences, masks) = build("iaca"), inputs()
    after = fusion(sequences, masks)
    u = fusion.vector_gate.weight[0].clone()
    zero(fusion.vector_gate)
    before = fusion(sequences, masks)
    shares = (before.vectors @ u / 0.1).softmax(dim=1)  # (B, n)
    torch.testing.assert_close(after.gates["vectors"], shares)
    torch.testing.assert_close(after.vectors, 6 * shares.unsqueeze(2) * before.vectors)
    torch.testing.assert_close(before.gates["vectors"], torch.full_like(shares, 1 / 6))


def test_where_the_source_is_missing_the_vector_is_that_of_self_and_stays_present():
    fusion, (sequences, masks) = build("iaca"), inputs()
    zero(fusion.vector_gate)
    fused = fusion(sequences, without(masks, "text"))
    assert fused.present[0].tolist() == [q != "text" for q, _ in PAIRS]
    own = fusion.own(sequences, masks).vectors
    torch.testing.assert_close(fused.vectors[:, PAIRS.index(("audio", "text"))], own[:, 0])
    torch.testing.assert_close(fused.vectors[:, PAIRS.index(("video", "text"))], own[:, 1])
    assert (fused.gates["cross"][:, PAIRS.index(("audio", "text"))] == 0).all()
    expected = torch.tensor([0.0 if q == "text" else 1 / 4 for q, _ in PAIRS]).double()
    torch.testing.assert_close(fused.gates["vectors"], expected.expand(4, 6))


def test_a_partner_asks_of_whatever_is_there_of_the_utterance():
    fusion, (sequences, masks) = build("iaca"), inputs()
    fused = fusion(sequences, without(masks, "audio"), asking=(sequences, masks))
    assert fused.present.all()  # audio's partner asks video and text
    assert (fused.gates["cross"][:, PAIRS.index(("audio", "text"))] == 1).all()
    left = fusion(sequences, without(masks, "audio", "text"), asking=(sequences, masks))
    expected = [pair != ("audio", "text") and pair != ("text", "audio") for pair in PAIRS]
    assert left.present[0].tolist() == expected


def test_the_tied_variant_shares_cross_attentions_and_nothing_else():
    fusion = build("iaca_tied")
    assert list(fusion.cross.attentions) == ["audio_video", "audio_text", "video_text"]
    assert len(fusion.own.attentions) == 3
    assert len(fusion.frame_gates) == 6


# se_cross


@pytest.mark.parametrize("switches", [{}, {"residual": True}, {"query": "uniform"}])
def test_gates_at_zero_give_exactly_a_quarter_of_cross(switches):
    config = replace(CONFIG, **switches)
    fusion, cross, (sequences, masks) = (
        build("se_cross", config),
        build("cross", config, 7),
        inputs(),
    )
    fusion.load_state_dict(cross.state_dict(), strict=False)
    zero(fusion.channel_gates, fusion.pair_gate)
    assert torch.equal(fusion(sequences, masks).vectors, 0.25 * cross(sequences, masks).vectors)


def test_gates_before_the_mean_over_time_are_gates_behind_it():
    fusion, (sequences, masks) = build("se_cross"), inputs()
    fused = fusion(sequences, masks)
    for n, (q, s) in enumerate(PAIRS):
        o, _ = fusion.attentions[f"{q}_{s}"](sequences[q], sequences[s], masks[s])
        first, _, second, _ = fusion.channel_gates[f"{q}_{s}"]
        hidden = F.leaky_relu(first(masked_mean(o, masks[q])))
        gate = torch.sigmoid(second(hidden))  # (B, D)
        torch.testing.assert_close(fused.gates["channels"][:, n], gate)
        expected = masked_mean(o * gate.unsqueeze(1), masks[q]) * fused.gates["pairs"][:, n, None]
        torch.testing.assert_close(fused.vectors[:, n], expected)


def test_the_reduction_leaves_two_hidden_units_at_the_published_width_and_one_at_least():
    for width, hidden in [(120, 2), (240, 4), (12, 1)]:
        fusion = build("se_cross", FusionConfig(MODALITIES, width, heads=6))
        assert fusion.channel_gates["audio_text"][0].out_features == hidden
        assert fusion.pair_gate[0].out_features == 3


def test_an_absent_vector_is_nothing_to_the_gate_over_pairs():
    fusion, (sequences, masks) = build("se_cross"), inputs()
    missing = without(masks, "video")
    fused = fusion(sequences, missing)
    cross = build("cross")
    cross.load_state_dict({k: v for k, v in fusion.state_dict().items() if "attentions" in k})
    gated = fused.gates["channels"] * cross(sequences, missing).vectors
    squeezed = gated.mean(dim=2)  # (B, n)
    squeezed[:, [n for n, pair in enumerate(PAIRS) if "video" in pair]] = 0.0
    torch.testing.assert_close(fused.gates["pairs"], fusion.pair_gate(squeezed))


# gated


def close_gates(fusion: Fusion) -> None:
    with torch.no_grad():
        for block in fusion.blocks.values():
            block.gate.weight.zero_()
            block.gate.bias.fill_(-1e9)


def test_with_gates_at_zero_the_others_have_no_influence_at_all():
    fusion, (sequences, masks) = build("gated"), inputs()
    close_gates(fusion)
    fused = fusion(sequences, masks)
    other = {**sequences, "audio": -sequences["audio"], "video": sequences["video"] + 9}
    assert torch.equal(fusion(other, masks).vectors, fused.vectors)
    assert torch.equal(fusion(sequences, without(masks, "audio", "video")).vectors, fused.vectors)
    p = sequences["text"]
    for block in fusion.blocks.values():
        p = block.norm(p)
    torch.testing.assert_close(fused.vectors[:, 0], masked_mean(p, masks["text"]))
    assert all((gate == 0).all() for gate in fused.gates.values())


def test_with_open_gates_each_of_the_others_matters():
    fusion, (sequences, masks) = build("gated"), inputs()
    before = fusion(sequences, masks).vectors
    for m in MODALITIES:
        assert not torch.allclose(fusion({**sequences, m: -sequences[m]}, masks).vectors, before)


def test_the_gated_chain_equals_its_equations_one_block_after_the_other():
    fusion, (sequences, masks) = build("gated"), inputs()
    fused = fusion(sequences, masks, need_weights=True)
    p, gates = sequences["text"], {"audio": [], "video": []}
    for name in ("audio_1", "video_1", "audio_2", "video_2"):
        m, block = name.split("_")[0], fusion.blocks[name]
        theirs = nn.MultiheadAttention(12, 3, batch_first=True).double()
        theirs.load_state_dict(block.attend.state_dict())
        h, _ = theirs(p, sequences[m], sequences[m], key_padding_mask=~masks[m])
        g = 1 / (1 + torch.exp(-(p @ block.gate.weight.T + block.gate.bias)))
        p = p + (h @ block.value.weight.T + block.value.bias) * g
        centred = p - p.mean(dim=2, keepdim=True)
        p = centred / (centred.square().mean(dim=2, keepdim=True) + 1e-5).sqrt()
        p = p * block.norm.weight + block.norm.bias
        gates[m].append(masked_mean(g, masks["text"]))
    torch.testing.assert_close(fused.vectors[:, 0], masked_mean(p, masks["text"]))
    for m, given in gates.items():
        torch.testing.assert_close(fused.gates[m], torch.stack(given, dim=1))  # (B, 2, D)
    assert {pair: w.shape[1] for pair, w in fused.weights.items()} == {
        ("text", "audio"): 6, ("text", "video"): 6,  # three heads, two rounds
    }  # fmt: skip


@pytest.mark.parametrize(
    ("modalities", "primary"),
    [(MODALITIES, "text"), (("video", "text"), "text"), (("audio", "video"), "audio")],
)
def test_text_is_the_primary_and_else_the_first_modality(modalities, primary):
    fusion = build("gated", replace(CONFIG, modalities=modalities))
    assert fusion.primary == primary
    assert fusion.sources == tuple(m for m in modalities if m != primary)


@pytest.mark.parametrize(
    ("gone", "primary", "reads"),
    [
        (("text",), "audio", ("video",)),
        (("text", "audio"), "video", ()),
        (("audio",), "text", ("video",)),
        (("audio", "video"), "text", ()),
    ],
)
def test_where_modalities_are_missing_the_first_that_is_there_reads_the_rest(gone, primary, reads):
    fusion, (sequences, masks) = build("gated"), inputs()
    fused = fusion(sequences, without(masks, *gone))
    p = sequences[primary]
    for name in ("audio_1", "video_1", "audio_2", "video_2"):
        m, block = name.split("_")[0], fusion.blocks[name]
        s = 0.0
        if m in reads:
            h, _ = block.attend(p, sequences[m], masks[m])
            s = block.value(h) * block.gate(p).sigmoid()
        p = block.norm(p + s)
    torch.testing.assert_close(fused.vectors[:, 0], masked_mean(p, masks[primary]))
    assert fused.present.all()
    assert {m for m, gate in fused.gates.items() if gate.any()} == set(reads)


def test_utterances_with_different_primaries_share_a_batch():
    lengths = {"audio": [5, 2, 7, 0], "video": [3, 4, 1, 2], "text": [6, 0, 2, 0]}
    fusion, (sequences, masks) = build("gated"), inputs(lengths)
    fused = fusion(sequences, masks, need_weights=True)
    alone = [
        fusion({m: x[i : i + 1] for m, x in sequences.items()},
               {m: k[i : i + 1] for m, k in masks.items()}).vectors
        for i in range(4)
    ]  # fmt: skip
    torch.testing.assert_close(fused.vectors, torch.cat(alone))
    for w in fused.weights.values():
        assert w.shape[2] == 6  # frames of text, although audio has more
        assert w.sum(dim=(1, 2, 3)).bool().tolist()[1::2] == [False, False]


def test_only_the_depth_decides_the_number_of_rounds():
    assert list(build("gated", replace(CONFIG, depth=1)).blocks) == ["audio_1", "video_1"]
    assert len(build("gated", replace(CONFIG, depth=3)).blocks) == 6
