"""Losses beside cross-entropy: slow versions, numbers by hand, what is missing, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from small import small_corpus, small_model, whole_part
from torch import Tensor
from torch.nn import functional as F

from mmer_lib.errors import InputError
from mmer_lib.fusion import Fused
from mmer_lib.losses import (
    LOSSES,
    TEMPERATURE,
    check_losses,
    drop_one,
    extra_loss,
    parse_losses,
    write_losses,
)
from mmer_lib.model import Output

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])
CLOSE = {"rtol": 1e-4, "atol": 1e-6}  # of length one but for an eps


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def output(vectors: Tensor, present: Tensor | None = None, seed: int = 0, **losses) -> Output:
    present = torch.ones(vectors.shape[:2], dtype=torch.bool) if present is None else present
    return Output(draw(len(vectors), 3, seed=seed), Fused(vectors, present, losses=losses), {})


def some() -> tuple[Tensor, Tensor]:
    """Vectors (6, 3, 4) of which some, and all of one utterance, are not present."""
    present = torch.ones(6, 3, dtype=torch.bool)
    present[0, 1] = present[2, 0] = present[4, 1] = False
    present[5] = False
    return draw(6, 3, 4), present


def value(name: str, given: Output, dropped: Output | None = None) -> Tensor:
    return LOSSES[name](given, LABELS[: len(given.logits)], dropped)


# Contrastive


def test_the_contrastive_loss_of_vectors_that_all_coincide_is_the_log_of_their_number():
    same = draw(1, 1, 4).expand(6, 3, 4)
    assert value("contrastive", output(same)).item() == pytest.approx(math.log(6))


def test_the_contrastive_loss_equals_a_slow_version():
    vectors, present = some()
    pairs = []
    for i, j in ((0, 1), (0, 2), (1, 2)):
        rows = [n for n in range(6) if present[n, i] and present[n, j]]
        terms = []
        for query, key in ((i, j), (j, i)):
            for n in rows:
                scores = [
                    F.cosine_similarity(vectors[n, query], vectors[k, key], dim=0) / TEMPERATURE
                    for k in rows
                ]
                terms.append(torch.stack(scores).logsumexp(dim=0) - scores[rows.index(n)])
        pairs.append(sum(terms) / len(terms))
    found = value("contrastive", output(vectors, present))
    torch.testing.assert_close(found, sum(pairs) / 3, **CLOSE)


def test_utterances_that_find_each_other_at_once_have_nearly_no_contrastive_loss():
    apart = torch.eye(6).double()[:, None].expand(6, 2, 6)
    expected = math.log(1 + 5 * math.exp(-1 / TEMPERATURE))
    assert value("contrastive", output(apart)).item() == pytest.approx(expected, rel=1e-4)


# Supervised contrastive


def test_the_supervised_loss_of_vectors_that_all_coincide_is_the_log_of_the_others():
    same = draw(1, 1, 4).expand(6, 3, 4)
    assert value("supcon", output(same)).item() == pytest.approx(math.log(5))


def test_the_supervised_loss_equals_a_slow_version():
    vectors, present = some()
    z = F.normalize((vectors * present[..., None]).flatten(1), dim=1)
    terms = []
    for i in range(5):  # nothing is known of the last
        alike = [p for p in range(5) if p != i and LABELS[p] == LABELS[i]]
        scores = {a: z[i] @ z[a] / TEMPERATURE for a in range(5) if a != i}
        total = torch.stack(list(scores.values())).logsumexp(dim=0)
        if alike:
            terms.append(sum(total - scores[p] for p in alike) / len(alike))
    found = value("supcon", output(vectors, present))
    assert len(terms) == 4  # utterance 3 is alone in its class
    torch.testing.assert_close(found, sum(terms) / 4, **CLOSE)


@pytest.mark.parametrize("n", [1, 2])
def test_without_two_utterances_of_a_class_the_supervised_loss_is_zero(n):
    vectors = draw(n, 2, 4).requires_grad_()
    found = value("supcon", output(vectors))
    found.backward()
    assert found.item() == 0
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


# Missing view


def test_views_that_agree_have_no_loss_and_others_that_of_their_divergence():
    full, other = output(draw(6, 2, 4)), output(draw(6, 2, 4), seed=1)
    assert value("missing_view", full, full).item() == pytest.approx(0)
    p, q = full.logits.softmax(dim=1), other.logits.softmax(dim=1)
    divergence = (p * (p / q).log()).sum() / 6
    torch.testing.assert_close(value("missing_view", full, other), divergence)


def test_the_full_view_teaches_and_does_not_learn():
    full, other = output(draw(6, 2, 4)), output(draw(6, 2, 4), seed=1)
    full.logits.requires_grad_()
    other.logits.requires_grad_()
    value("missing_view", full, other).backward()
    assert full.logits.grad is None
    assert other.logits.grad.abs().max() > 0


def test_without_the_other_view_that_is_told():
    with pytest.raises(InputError, match="the output of the batch after drop_one is needed"):
        value("missing_view", output(draw(6, 2, 4)))


# All


def test_the_extra_loss_is_the_weighted_sum():
    given = output(draw(6, 2, 4), one=torch.tensor(2.0), two=torch.tensor(3.0))
    assert value("misa", given).item() == 5.0
    expected = 0.1 * value("contrastive", given) + 0.3 * 5.0
    torch.testing.assert_close(
        extra_loss(given, LABELS, {"contrastive": 0.1, "misa": 0.3}), expected
    )


@pytest.mark.parametrize("name", ["contrastive", "supcon"])
def test_a_vector_that_is_not_present_changes_no_loss(name):
    vectors, present = some()
    junk = torch.where(present[..., None], vectors, 1e3)
    torch.testing.assert_close(
        value(name, output(junk, present)), value(name, output(vectors, present))
    )


@pytest.mark.parametrize("name", ["contrastive", "supcon", "missing_view"])
def test_the_order_of_the_batch_is_irrelevant(name):
    vectors, present = some()
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    given, other = output(vectors, present), output(vectors, present, seed=1)
    turned = [
        Output(o.logits[order], Fused(vectors[order], present[order]), {}) for o in (given, other)
    ]
    expected = LOSSES[name](given, LABELS, other)
    torch.testing.assert_close(LOSSES[name](turned[0], LABELS[order], turned[1]), expected)


@pytest.mark.parametrize("name", ["contrastive", "supcon", "misa"])
def test_where_nothing_is_present_a_loss_is_zero_and_has_a_gradient(name):
    vectors = torch.zeros(6, 3, 4).double().requires_grad_()
    found = value(name, output(vectors, torch.zeros(6, 3, dtype=torch.bool)))
    found.backward()
    assert found.item() == 0
    assert torch.equal(vectors.grad, torch.zeros_like(vectors))


@pytest.mark.parametrize("name", ["contrastive", "supcon"])
def test_vectors_of_zeros_have_a_finite_gradient(name):
    vectors = torch.zeros(6, 3, 4).double().requires_grad_()
    value(name, output(vectors)).backward()
    assert vectors.grad.isfinite().all()


# The dropped view


def test_one_modality_is_dropped_in_every_utterance_and_never_the_last():
    corpus = small_corpus(40, missing=True)
    model = small_model("self-AVT", corpus)
    part = whole_part(model, corpus)
    batch = part.collate(part.rows)
    view = drop_one(batch, np.random.default_rng(0))
    before, after = (
        torch.stack([k.any(dim=1) for k in b.masks.values()], dim=1).long() for b in (batch, view)
    )
    gone = (before - after).sum(dim=1)
    assert torch.equal(gone, (before.sum(dim=1) > 1).long())
    assert ((before - after).sum(dim=0) > 0).all()  # each of them somewhere
    for m, x in view.sequences.items():
        dropped = before[:, list(view.masks).index(m)] > after[:, list(view.masks).index(m)]
        assert (x[dropped] == 0).all()
        assert torch.equal(x[~dropped], batch.sequences[m][~dropped])
        assert torch.equal(view.masks[m][~dropped], batch.masks[m][~dropped])
    assert torch.equal(view.labels, batch.labels)


def test_what_is_dropped_is_fixed_by_the_generator():
    corpus = small_corpus()
    part = whole_part(small_model("self-AVT", corpus), corpus)
    batch = part.collate(part.rows)
    views = [drop_one(batch, np.random.default_rng(seed)).masks for seed in (0, 0, 1)]
    assert all(torch.equal(views[0][m], views[1][m]) for m in batch.masks)
    assert not all(torch.equal(views[0][m], views[2][m]) for m in batch.masks)


# How they are written


def test_weights_are_read_from_text_and_written_in_one_way():
    weights = parse_losses("misa=0.30, contrastive=1")
    assert weights == {"contrastive": 1.0, "misa": 0.3}
    assert write_losses(weights) == "contrastive=1.0,misa=0.3"
    assert parse_losses(write_losses(weights)) == weights
    assert parse_losses("") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contrastiv=1", "unknown loss 'contrastiv': did you mean 'contrastive'"),
        ("misa", "losses: misa='': a weight above 0, as in contrastive=0.1, expected"),
        ("misa=much", "losses: misa='much': a weight above 0"),
        ("misa=0", "losses: misa=0.0: a weight above 0"),
        ("misa=-1", "losses: misa=-1.0: a weight above 0"),
        ("misa=inf", "losses: misa=inf: a weight above 0"),
        ("misa=nan", "losses: misa=nan: a weight above 0"),
        ("misa=1,misa=2", "losses='misa=1,misa=2': misa is given twice"),
        (None, "losses=None: text such as contrastive=0.1,misa=0.3 expected"),
    ],
)
def test_losses_that_cannot_be_read_are_told_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as raised:
        parse_losses(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("contrastive", "self-T", "contrastive: 'self-T' has one vector, so there is no pair"),
        ("missing_view", "self-T", "missing_view: 'self-T' has one modality, so none can be"),
        ("misa", "cross-AT", "misa: 'cross-AT' has no such losses; use the fusion misa"),
    ],
)
def test_a_loss_that_means_nothing_to_a_model_is_refused(name, model, message):
    with pytest.raises(InputError, match=message):
        check_losses({name: 0.1}, small_model(model, small_corpus()))


def test_every_loss_suits_the_fusion_misa():
    check_losses(dict.fromkeys(LOSSES, 0.1), small_model("misa-AT", small_corpus()))
