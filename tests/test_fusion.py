"""What every registered fusion must satisfy, then attention itself, then what the paper's says."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from small import SUBSETS, random_sequences, randomize
from torch import nn

from mmer_lib.errors import InputError
from mmer_lib.fusion import FUSIONS, Fused, FusionConfig, MultiHeadAttention, build_fusion
from mmer_lib.pooling import masked_mean

WIDTH, HEADS = 12, 3
LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
PAIRS = {"self": lambda m: m, "cross": lambda m: m * (m - 1), "selfcross": lambda m: m * m}


@dataclass(frozen=True)
class Case:
    """A registered fusion on a set of modalities."""

    name: str
    modalities: tuple[str, ...]

    def build(self, seed: int = 0, dropout: float = 0.0) -> nn.Module:
        fusion = build_fusion(self.name, FusionConfig(self.modalities, WIDTH, HEADS, dropout))
        return randomize(fusion.double(), seed).eval()

    def inputs(self, lengths=LENGTHS, seed=1):
        return random_sequences({m: lengths[m] for m in self.modalities}, WIDTH, seed)

    def __str__(self) -> str:
        return f"{self.name}-{''.join(m[0].upper() for m in self.modalities)}"


def all_cases() -> list[Case]:
    """Every fusion on every set of modalities it can be built for."""
    cases = []
    for name in FUSIONS:
        for modalities in SUBSETS:
            try:
                Case(name, modalities).build()
            except InputError:
                continue  # a fusion may need two modalities
            cases.append(Case(name, modalities))
    return cases


every_case = pytest.mark.parametrize("case", all_cases(), ids=str)
paper_case = pytest.mark.parametrize(
    "case", [c for c in all_cases() if c.name in ("self", "cross", "selfcross")], ids=str
)


def assert_same(one: Fused, other: Fused, rows=slice(None)) -> None:
    torch.testing.assert_close(one.vectors, other.vectors[rows])
    assert torch.equal(one.present, other.present[rows])


# The set that every registered fusion passes


def test_every_fusion_is_in_the_shared_set():
    assert set(PAIRS) == set(FUSIONS)
    assert {case.name for case in all_cases()} == set(FUSIONS)
    assert Case("cross", ("audio",)) not in all_cases()


@every_case
@pytest.mark.parametrize("need_weights", [False, True])
def test_junk_in_the_padding_changes_nothing(case, need_weights):
    fusion, (sequences, masks) = case.build(), case.inputs()
    other = {m: torch.where(masks[m].unsqueeze(-1), x, 1e3) for m, x in sequences.items()}
    assert_same(fusion(other, masks, need_weights), fusion(sequences, masks, need_weights))


@every_case
def test_more_padding_changes_nothing(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    longer = {m: nn.functional.pad(x, (0, 0, 0, 3), value=5.0) for m, x in sequences.items()}
    longer_masks = {m: nn.functional.pad(mask, (0, 3)) for m, mask in masks.items()}
    assert_same(fusion(longer, longer_masks), fusion(sequences, masks))


@every_case
def test_the_order_of_the_batch_is_irrelevant(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    order = torch.tensor([2, 0, 3, 1])
    turned = fusion(
        {m: x[order] for m, x in sequences.items()}, {m: k[order] for m, k in masks.items()}
    )
    assert_same(turned, fusion(sequences, masks), order)


@every_case
def test_an_item_alone_equals_itself_in_a_batch(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    together = fusion(sequences, masks)
    for i in range(4):
        cut = {m: slice(0, LENGTHS[m][i]) for m in case.modalities}
        alone = fusion(
            {m: x[i : i + 1, cut[m]] for m, x in sequences.items()},
            {m: mask[i : i + 1, cut[m]] for m, mask in masks.items()},
        )
        assert_same(alone, together, slice(i, i + 1))


@every_case
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    fusion(sequences, masks).vectors.square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@every_case
def test_the_fusion_survives_a_change_of_type(case):
    fusion = build_fusion(case.name, FusionConfig(case.modalities, WIDTH, HEADS)).eval()
    assert {p.dtype for p in fusion.parameters()} == {torch.float32}
    sequences, masks = case.inputs()
    single = fusion({m: x.float() for m, x in sequences.items()}, masks).vectors
    double = fusion.to(torch.float64)(sequences, masks).vectors
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@every_case
def test_every_parameter_is_registered_and_the_count_equals_its_formula(case):
    fusion = case.build()
    pairs = PAIRS[case.name](len(case.modalities))
    assert fusion.n_vectors == pairs
    assert sum(p.numel() for p in fusion.parameters()) == pairs * 4 * WIDTH * (WIDTH + 1)
    assert set(fusion.state_dict()) == {name for name, _ in fusion.named_parameters()}


@every_case
def test_weight_rows_sum_to_one_on_real_rows_and_are_zero_on_padding(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    weights = fusion(sequences, masks, need_weights=True).weights
    assert len(weights) == fusion.n_vectors
    for (query, source), w in weights.items():
        assert w.shape == (4, HEADS, max(LENGTHS[query]), max(LENGTHS[source]))
        real_rows = masks[query][:, None, :].expand(-1, HEADS, -1)
        torch.testing.assert_close(w.sum(dim=-1), real_rows.to(w.dtype))
        read = w.amax(dim=(1, 2)) > 0  # (B, Ts)
        assert torch.equal(read, masks[source])


@every_case
def test_forming_the_weights_changes_no_vector(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    plain = fusion(sequences, masks)
    assert plain.weights == {}
    assert_same(fusion(sequences, masks, need_weights=True), plain)


@every_case
@pytest.mark.parametrize("need_weights", [False, True])
def test_no_subset_of_missing_modalities_gives_a_nan(case, need_weights):
    lengths = {m: [0 if m in absent else 1 for absent in ((), *SUBSETS)] for m in LENGTHS}
    fusion, (sequences, masks) = case.build(), case.inputs(lengths)  # one-frame sequences
    fused = fusion(sequences, masks, need_weights)
    fused.vectors.square().sum().backward()
    for name, tensor in [("vectors", fused.vectors), *fused.weights.items()]:
        assert tensor.isfinite().all(), name
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert fused.present[0].all()
    assert not fused.present[-1].any()


@paper_case
def test_a_vector_is_present_where_its_query_and_its_source_are(case):
    lengths = {m: [0 if m in absent else 2 for absent in ((), *SUBSETS)] for m in LENGTHS}
    fusion, (sequences, masks) = case.build(), case.inputs(lengths)
    fused = fusion(sequences, masks, need_weights=True)
    for row, absent in enumerate(((), *SUBSETS)):
        expected = [query not in absent and source not in absent for query, source in fused.weights]
        assert fused.present[row].tolist() == expected


@every_case
def test_a_present_vector_is_the_same_whoever_else_is_missing(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    gone = case.modalities[-1]
    without = fusion(sequences, {m: k & (m != gone) for m, k in masks.items()})
    torch.testing.assert_close(
        without.vectors[without.present], fusion(sequences, masks).vectors[without.present]
    )


@every_case
def test_dropout_acts_while_training_and_only_then(case):
    plain, dropping = case.build(), case.build(dropout=0.5)
    sequences, masks = case.inputs()
    assert_same(dropping(sequences, masks), plain(sequences, masks))
    for need_weights in (False, True):
        torch.manual_seed(0)
        trained = dropping.train()(sequences, masks, need_weights).vectors
        assert not torch.allclose(trained, plain(sequences, masks).vectors)


def test_an_unknown_fusion_is_told_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown fusion 'crss': did you mean 'cross'"):
        build_fusion("crss", FusionConfig(("audio", "text"), WIDTH, HEADS))


def test_cross_attention_refuses_a_single_modality():
    with pytest.raises(InputError, match="cross fuses 2 modalities or more, not text alone: use self"):
        build_fusion("cross", FusionConfig(("text",), WIDTH, HEADS))


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
    own, cross = Case("self", both).build(), Case("cross", both).build()
    one = own.attentions["audio_audio"].state_dict()
    for module in [*own.attentions.values(), *cross.attentions.values()]:
        module.load_state_dict(one)
    sequences, masks = Case("self", both).inputs()
    sequences["text"], masks["text"] = sequences["audio"], masks["audio"]
    assert_same(cross(sequences, masks), own(sequences, masks))


def test_cross_reads_every_other_modality_and_self_its_own():
    three = ("audio", "video", "text")
    assert Case("self", three).build().pairs == [(m, m) for m in three]
    assert Case("cross", three).build().pairs == [
        ("audio", "video"), ("audio", "text"), ("video", "audio"),
        ("video", "text"), ("text", "audio"), ("text", "video"),
    ]  # fmt: skip


@paper_case
def test_a_vector_reads_its_source_and_no_third_modality(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    before = fusion(sequences, masks, need_weights=True)
    for changed in case.modalities:
        other = fusion({**sequences, changed: -sequences[changed]}, masks)
        for n, (query, source) in enumerate(before.weights):
            same = torch.allclose(before.vectors[:, n], other.vectors[:, n])
            assert same == (changed not in (query, source)), (query, source, changed)
