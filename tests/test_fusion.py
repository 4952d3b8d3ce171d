"""What every registered fusion must satisfy, on several sets of modalities and with each switch.

A fusion is in once its formula stands in ``PARAMETERS``; the sets below it say what else to expect.
What a fusion alone promises is tested in ``test_fusion_<module>.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import pytest
import torch
from small import SUBSETS, random_sequences, randomize
from torch import Tensor
from torch.nn import functional as F

from mmer_lib.corpora import MODALITIES
from mmer_lib.errors import InputError
from mmer_lib.fusion import FUSIONS, QUERIES, Fused, Fusion, FusionConfig, build_fusion

SIZES: dict[str, Any] = {"width": 12, "heads": 3, "classes": 4, "hidden": 5}
SETS = (("audio",), ("video", "text"), MODALITIES)
LENGTHS = {"audio": [5, 2, 7, 1], "video": [3, 4, 1, 2], "text": [6, 1, 2, 4]}
ABSENT = ((), (), *SUBSETS)  # what the utterances of LACKING lack: nothing, ..., all modalities
LACKING = {
    m: [0 if m in absent else 1 + (i + n) % 4 for i, absent in enumerate(ABSENT)]
    for n, m in enumerate(LENGTHS)
}


def one_attention(c: FusionConfig) -> int:
    """Numbers of a MultiHeadAttention; query=uniform has neither queries nor keys."""
    inner = c.inner or c.width
    read = inner * (c.width + 1) + c.width * (inner + 1)
    return read if c.query == "uniform" else read + 2 * inner * (c.width + 1)


def joint_size(c: FusionConfig, m: int) -> int:
    return (c.depth or 1) * (one_attention(c) + m * c.width)


def late_size(c: FusionConfig, m: int) -> int:
    return m * ((c.width + 1) * c.hidden + (c.hidden + 1) * c.classes + 1)


def lmf_size(c: FusionConfig, m: int) -> int:
    return 4 * m * (c.width + 1) * 2 * c.width + 4 + 2 * c.width


def block_size(c: FusionConfig, i: int, f: int = 1) -> int:
    """Numbers of a pre-norm block of width i, f times as wide between its two linear layers."""
    attention = (2 if c.query == "uniform" else 4) * i * (i + 1) + 2 * i
    return attention + (2 * f * i * i + (f + 1) * i + 2 * i if f else 0)


def inside(c: FusionConfig, published: int) -> int:
    return c.inner or round(published * c.width / 120)


def mult_size(c: FusionConfig, m: int) -> int:
    i = inside(c, 44)
    wide, all_of_it = (m - 1) * i, m * (m - 1) * i
    layer = m * (m - 1) * block_size(c, i) + m * block_size(c, wide)
    return m * i * (c.width + 1) + (c.depth or 1) * layer + 2 * all_of_it * (all_of_it + 1)


def mbt_size(c: FusionConfig, m: int) -> int:
    i = inside(c, 96)
    return m * i * (c.width + 1) + 6 * i + (c.depth or 2) * m * block_size(c, i)


def emt_size(c: FusionConfig, m: int) -> int:
    i = inside(c, 56)
    each = 2 * block_size(c, i) + block_size(c, i, 0)
    return m * i * (c.width + 1) + m * i * (m * i + 2) + (c.depth or 2) * m * each


def hct_size(c: FusionConfig, m: int) -> int:
    i = inside(c, 60)
    blocks = m + (m - 1 if m > 2 else 0) + (m - 1) + 1
    return m * i * (c.width + 1) + m + blocks * block_size(c, i, 4)


def misa_size(c: FusionConfig, m: int) -> int:
    i = c.inner or c.width
    return m * i * (c.width + 3) + (2 * m + 1) * i * (i + 1) + block_size(c, i, 4)


def iaca_gates(c: FusionConfig, m: int) -> int:
    return m * (m - 1) * 2 * (c.width + 1) + c.width


def se_cross_size(c: FusionConfig, m: int) -> int:
    n, hidden = m * (m - 1), max(1, round(c.width / 60))
    each = one_attention(c) + (c.width + 1) * hidden + (hidden + 1) * c.width
    return n * each + (n + 1) * (n // 2) + (n // 2 + 1) * n


def gated_size(c: FusionConfig, m: int) -> int:
    return (c.depth or 2) * (m - 1) * (one_attention(c) + 2 * c.width * (c.width + 2))


# How many parameters a fusion has with its configuration and the number of modalities.
PARAMETERS: dict[str, Callable[[FusionConfig, int], int]] = {
    "self": lambda c, m: m * one_attention(c),
    "cross": lambda c, m: m * (m - 1) * one_attention(c),
    "selfcross": lambda c, m: m * m * one_attention(c),
    "self_x2": lambda c, m: 2 * m * one_attention(c),
    "cross_tied": lambda c, m: m * (m - 1) // 2 * one_attention(c),
    "selfcross_tied": lambda c, m: (m + m * (m - 1) // 2) * one_attention(c),
    "joint_self": joint_size,
    "joint_cross": joint_size,
    "joint": joint_size,
    "mean": lambda c, m: 0,
    "late": late_size,
    "lmf": lmf_size,
    "vec_cross": lambda c, m: m * (m - 1) * one_attention(c),
    "mult": mult_size,
    "mbt": mbt_size,
    "emt": emt_size,
    "hct": hct_size,
    "misa": misa_size,
    "amh": lambda c, m: (c.depth or 12) * (max(1, m - 1) * c.width + 1) * c.width,
    "iaca": lambda c, m: m * m * one_attention(c) + iaca_gates(c, m),
    "iaca_tied": lambda c, m: (m + m * (m - 1) // 2) * one_attention(c) + iaca_gates(c, m),
    "se_cross": se_cross_size,
    "gated": gated_size,
}
# A vector changes with modalities other than the query and the source of a pair.
MIXING = {
    "joint", "joint_cross", "lmf", "mult", "mbt", "emt", "hct", "misa",
    "amh", "iaca", "iaca_tied", "se_cross", "gated",
}  # fmt: skip
# A row of ``weights`` sums to one over all sources of its query together, ...
SPANNING = {"joint", "joint_cross"}
# ... or to less than one, because the rest lies on tokens that are no frames.
WITH_TOKENS: set[str] = set()
# There is nothing that ``dropout`` could act on.
WITHOUT_DROPOUT = {
    "mean", "late", "lmf",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A registered fusion on a set of modalities, perhaps with one switch set."""

    name: str
    modalities: tuple[str, ...]
    switch: str = ""
    value: Any = None

    def config(self, **more: Any) -> FusionConfig:
        switches = {self.switch: self.value} if self.switch else {}
        return FusionConfig(self.modalities, **SIZES, **switches, **more)

    def build(self, seed: int = 0, dropout: float = 0.0) -> Fusion:
        fusion = build_fusion(self.name, self.config(dropout=dropout))
        return randomize(fusion.double(), seed).eval()

    def inputs(self, lengths=LENGTHS, seed: int = 1):
        given = {m: lengths[m] for m in self.modalities}
        return random_sequences(given, SIZES["width"], seed)

    def __str__(self) -> str:
        letters = "".join(m[0].upper() for m in self.modalities)
        return f"{self.name}-{letters}" + (f",{self.switch}={self.value}" if self.switch else "")


def switches_of(kind: type[Fusion]) -> Iterator[tuple[str, Any]]:
    """Every switch that it has, at a value that is not the default."""
    if "uniform" in kind.queries:
        yield "query", "uniform"
    if True in kind.residuals:
        yield "residual", True
    if kind.resizable:
        yield "inner", 9
    if kind.layered:
        yield "depth", 3


CASES = [Case(n, s) for n, kind in FUSIONS.items() for s in SETS if len(s) >= kind.least]
SWITCHED = [Case(n, MODALITIES, *s) for n, kind in FUSIONS.items() for s in switches_of(kind)]
every_case = pytest.mark.parametrize("case", CASES + SWITCHED, ids=str)
asked_case = pytest.mark.parametrize(
    "case",
    [c for c in CASES if "shuffled" in FUSIONS[c.name].queries and len(c.modalities) == 3],
    ids=str,
)


def assert_same(one: Fused, other: Fused, rows=slice(None)) -> None:
    """The same vectors where they are present, and the same logits."""
    assert torch.equal(one.present, other.present[rows])
    torch.testing.assert_close(one.vectors[one.present], other.vectors[rows][one.present])
    assert (one.logits is None) == (other.logits is None)
    if one.logits is not None:
        torch.testing.assert_close(one.logits, other.logits[rows])


def assert_same_losses(one: Fused, other: Fused) -> None:
    torch.testing.assert_close(one.losses, other.losses)


def number(fused: Fused) -> Tensor:
    """A sum, each number with a weight of its own, of all that training can act on."""
    logits = [] if fused.logits is None else [fused.logits]
    total = torch.stack(list(fused.losses.values())).sum() if fused.losses else torch.zeros(())
    for tensor in [fused.vectors * fused.present.unsqueeze(-1), *logits]:
        total = total + (tensor * torch.linspace(1, 3, tensor.numel()).view_as(tensor).sin()).sum()
    return total


def test_every_fusion_is_in_the_shared_set():
    assert set(PARAMETERS) == set(FUSIONS)
    assert set(FUSIONS) >= MIXING | SPANNING | WITH_TOKENS | WITHOUT_DROPOUT


@every_case
@pytest.mark.parametrize("need_weights", [False, True])
def test_junk_in_the_padding_changes_nothing(case, need_weights):
    fusion, (sequences, masks) = case.build(), case.inputs(LACKING)
    other = {m: torch.where(masks[m].unsqueeze(-1), x, 1e3) for m, x in sequences.items()}
    junk, clean = fusion(other, masks, need_weights), fusion(sequences, masks, need_weights)
    assert_same(junk, clean)
    assert_same_losses(junk, clean)


@every_case
def test_more_padding_changes_nothing(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    longer = {m: F.pad(x, (0, 0, 0, 3), value=5.0) for m, x in sequences.items()}
    longer_masks = {m: F.pad(k, (0, 3)) for m, k in masks.items()}
    more, less = fusion(longer, longer_masks), fusion(sequences, masks)
    assert_same(more, less)
    assert_same_losses(more, less)


@every_case
def test_the_order_of_the_batch_is_irrelevant(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    order = torch.tensor([2, 0, 3, 1])
    turned = fusion(
        {m: x[order] for m, x in sequences.items()}, {m: k[order] for m, k in masks.items()}
    )
    plain = fusion(sequences, masks)
    assert_same(turned, plain, order)
    assert_same_losses(turned, plain)


@every_case
def test_an_item_alone_equals_itself_in_a_batch(case):
    fusion, (sequences, masks) = case.build(), case.inputs(LACKING)
    together = fusion(sequences, masks)
    for i in range(len(together.present)):
        cut = {m: (slice(i, i + 1), slice(0, max(1, LACKING[m][i]))) for m in case.modalities}
        alone = fusion(
            {m: sequences[m][at] for m, at in cut.items()},
            {m: masks[m][at] for m, at in cut.items()},
        )
        assert_same(alone, together, slice(i, i + 1))


@every_case
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    sequences = {m: x.requires_grad_() for m, x in sequences.items()}
    number(fusion(sequences, masks)).backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@every_case
def test_a_gradient_reaches_the_real_frames_of_every_modality_and_no_padding(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    sequences = {m: x.requires_grad_() for m, x in sequences.items()}
    number(fusion(sequences, masks)).backward()
    for m, x in sequences.items():
        assert torch.equal(x.grad.abs().sum(dim=2) > 0, masks[m]), m


@every_case
def test_the_fusion_survives_a_change_of_type(case):
    fusion = build_fusion(case.name, case.config()).eval()
    assert {p.dtype for p in fusion.parameters()} <= {torch.float32}
    sequences, masks = case.inputs()
    single = fusion({m: x.float() for m, x in sequences.items()}, masks).vectors
    double = fusion.to(torch.float64)(sequences, masks).vectors
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-5)


@every_case
def test_every_parameter_is_registered_and_the_count_equals_its_formula(case):
    fusion = case.build()
    expected = PARAMETERS[case.name](case.config(), len(case.modalities))
    assert sum(p.numel() for p in fusion.parameters()) == expected
    assert set(fusion.state_dict()) == {name for name, _ in fusion.named_parameters()}


@every_case
def test_the_shapes_are_those_that_the_fusion_announces(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    fused = fusion(sequences, masks, need_weights=True)
    assert fused.vectors.shape == (4, fusion.n_vectors, fusion.vector_width)
    assert fused.present.shape == (4, fusion.n_vectors)
    assert fused.present.dtype == torch.bool
    assert (fused.logits is not None) == fusion.classifies
    if fused.logits is not None:
        assert fused.logits.shape == (4, SIZES["classes"])
    assert all(x.shape[0] == 4 for x in [*fused.gates.values(), *fused.aux.values()])
    assert all(x.shape == () for x in fused.losses.values())


@every_case
def test_weight_rows_sum_to_one_on_real_rows_and_are_zero_on_padding(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    weights = fusion(sequences, masks, need_weights=True).weights
    sums: dict[Any, Tensor] = {}
    for (query, source), w in weights.items():
        assert w.shape[0] == 4
        assert torch.equal(w.amax(dim=(1, 2)) > 0, masks[source])
        rows = query if case.name in SPANNING else (query, source)
        sums[rows] = sums.get(rows, 0) + w.sum(dim=3)  # (B, H, Tq)
    for rows, total in sums.items():
        real = masks[rows if isinstance(rows, str) else rows[0]]
        if total.shape[2] == 1:  # a vector asks
            real = real.any(dim=1, keepdim=True)
        real = real[:, None].expand_as(total)
        assert torch.equal(total > 0, real), rows
        if case.name in WITH_TOKENS:
            assert total.max() < 1, rows
        else:
            torch.testing.assert_close(total, real.to(total.dtype), msg=str(rows))


@every_case
def test_forming_the_weights_changes_no_vector(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    plain = fusion(sequences, masks)
    assert plain.weights == {}
    assert_same(fusion(sequences, masks, need_weights=True), plain)


@every_case
@pytest.mark.parametrize("need_weights", [False, True])
def test_no_subset_of_missing_modalities_gives_a_nan(case, need_weights):
    lengths = {m: [min(1, n) for n in LACKING[m]] for m in LACKING}  # one-frame sequences
    fusion, (sequences, masks) = case.build(), case.inputs(lengths)
    sequences = {m: x.requires_grad_() for m, x in sequences.items()}
    fused = fusion(sequences, masks, need_weights)
    number(fused).backward()
    for field in fields(fused):
        given = getattr(fused, field.name)
        for tensor in given.values() if isinstance(given, dict) else [given]:
            assert tensor is None or tensor.isfinite().all(), field.name
    assert all(x.grad.isfinite().all() for x in sequences.values())
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert fused.present[0].all()
    assert not fused.present[-1].any()


@every_case
def test_a_present_vector_is_the_same_whoever_else_is_missing(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    whole, same = fusion(sequences, masks), []
    for gone in case.modalities:
        without = fusion(sequences, {m: k & (m != gone) for m, k in masks.items()})
        there = without.present
        same.append(torch.allclose(without.vectors[there], whole.vectors[there]))
    mixes = case.name in MIXING and case.modalities == MODALITIES
    assert all(same) or case.name in MIXING
    assert not (mixes and all(same)), "it is named in MIXING for nothing"


@every_case
def test_dropout_acts_while_training_and_only_then(case):
    plain, dropping = case.build(), case.build(dropout=0.5)
    sequences, masks = case.inputs()
    assert_same(dropping(sequences, masks), plain(sequences, masks))
    for need_weights in (False, True):
        torch.manual_seed(0)
        trained = dropping.train()(sequences, masks, need_weights).vectors
        same = torch.allclose(trained, plain(sequences, masks).vectors)
        assert same == (case.name in WITHOUT_DROPOUT)


# Switches


@pytest.mark.parametrize("case", SWITCHED, ids=str)
def test_a_switch_changes_what_the_fusion_gives(case):
    sequences, masks = case.inputs()
    plain = Case(case.name, case.modalities).build()(sequences, masks)
    given = case.build()(sequences, masks).vectors
    assert given.shape != plain.vectors.shape or not torch.allclose(given, plain.vectors)


@asked_case
def test_an_utterance_that_asks_for_itself_changes_nothing(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    assert_same(fusion(sequences, masks, asking=(sequences, masks)), fusion(sequences, masks))


@asked_case
def test_who_asks_matters_but_not_the_padding_of_who_asks(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    turned = {m: [1 + n for n in lengths[::-1]] for m, lengths in LENGTHS.items()}
    others, other_masks = case.inputs(turned, seed=2)
    asked = fusion(sequences, masks, asking=(others, other_masks))
    assert not torch.allclose(asked.vectors, fusion(sequences, masks).vectors)
    junk = {m: torch.where(other_masks[m].unsqueeze(-1), x, 1e3) for m, x in others.items()}
    assert_same(fusion(sequences, masks, asking=(junk, other_masks)), asked)


@asked_case
def test_rows_of_weights_are_the_real_frames_of_who_asks(case):
    fusion, (sequences, masks) = case.build(), case.inputs()
    turned = {m: [1 + n for n in lengths[::-1]] for m, lengths in LENGTHS.items()}
    asking = case.inputs(turned, seed=2)
    sums: dict[Any, Tensor] = {}
    for (query, source), w in fusion(sequences, masks, True, asking).weights.items():
        rows = query if case.name in SPANNING else (query, source)
        sums[rows] = sums.get(rows, 0) + w.sum(dim=3)  # (B, H, Tq)
    for rows, total in sums.items():
        real = asking[1][rows if isinstance(rows, str) else rows[0]][:, None].expand_as(total)
        torch.testing.assert_close(total, real.to(total.dtype), msg=str(rows))


@pytest.mark.parametrize("name", FUSIONS)
def test_a_switch_that_a_fusion_does_not_have_is_refused(name):
    kind = FUSIONS[name]
    refused: list[tuple[str, Any]] = [("query", q) for q in QUERIES if q not in kind.queries]
    refused += [("residual", r) for r in (False, True) if r not in kind.residuals]
    refused += [
        (s, 6) for s, has in (("inner", kind.resizable), ("depth", kind.layered)) if not has
    ]
    for switch, value in refused:
        with pytest.raises(InputError, match=f"^{switch}={str(value).lower()}: {name} "):
            build_fusion(name, Case(name, MODALITIES, switch, value).config())


def test_an_unknown_fusion_is_told_with_the_nearest_name():
    with pytest.raises(InputError, match="unknown fusion 'crss': did you mean 'cross'"):
        build_fusion("crss", Case("crss", ("audio", "text")).config())


@pytest.mark.parametrize("modalities", [(), ("audio", "audio"), ("audio", "text", "audio")])
def test_modalities_that_are_none_or_named_twice_are_refused(modalities):
    with pytest.raises(InputError, match=r"modalities=.*: at least one expected, and each only "):
        build_fusion("self", Case("self", modalities).config())


@pytest.mark.parametrize("name", [name for name, kind in FUSIONS.items() if kind.least == 2])
def test_a_fusion_of_several_modalities_refuses_a_single_one(name):
    with pytest.raises(InputError, match=f"{name} fuses 2 modalities or more, not text alone: use"):
        build_fusion(name, Case(name, ("text",)).config())
