"""The shorter way to a mean over attention's output equals the long one, dropout included."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from mmer_lib.fusion import FusionConfig, build_fusion
from mmer_lib.fusion.attention import MultiHeadAttention
from mmer_lib.fusion.mean_attention import average, draw_lots, plain_mean_weights, push
from mmer_lib.kernels import BITS, TOP, average_weights
from mmer_lib.pooling import masked_mean

B, TQ, TS, D, H = 3, 7, 9, 12, 3
BLOCK = BITS // 64  # query frames that are worked on together, in float64


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Masks of query (B, TQ) and source (B, TS): one each of full, padded, and not there."""
    query, source = torch.ones(B, TQ, dtype=torch.bool), torch.ones(B, TS, dtype=torch.bool)
    query[1, 4:] = False
    source[1, 2:] = False
    return query, source


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    query = torch.randn(B, TQ, D, dtype=dtype, requires_grad=True)
    return query, torch.randn(B, TS, D, dtype=dtype, requires_grad=True)


def attend(rate: float = 0.0, dtype: torch.dtype = torch.float64) -> MultiHeadAttention:
    torch.manual_seed(1)
    module = MultiHeadAttention(D, H, rate).to(dtype)
    nn.init.normal_(module.in_proj_bias)
    nn.init.normal_(module.out_proj.bias)
    return module


def test_the_mean_and_its_gradients_are_those_of_torchs_module():
    ours, (query, source), (q_mask, s_mask) = attend(), inputs(), padded()
    theirs = nn.MultiheadAttention(D, H, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict(ours.state_dict())
    long = theirs(query, source, source, key_padding_mask=~s_mask)[0]
    expected = masked_mean(long, q_mask)
    found = ours.mean(query, source, q_mask.sum(dim=1), s_mask.sum(dim=1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)

    along = torch.randn(B, D, dtype=torch.float64)
    wanted = torch.autograd.grad((expected * along).sum(), [query, source, *theirs.parameters()])
    given = torch.autograd.grad((found * along).sum(), [query, source, *ours.parameters()])
    for a, b in zip(given, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("missing", ["query", "source", "both"])
def test_where_query_or_source_is_missing_it_says_what_the_long_way_says(missing):
    module, (query, source), (q_mask, s_mask) = attend(), inputs(), padded()
    if missing != "source":
        q_mask[2] = False
    if missing != "query":
        s_mask[2] = False
    expected = masked_mean(module(query, source, s_mask)[0], q_mask)
    found = module.mean(query, source, q_mask.sum(dim=1), s_mask.sum(dim=1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in (query, source, *module.parameters()))


def some_heads(b: int, h: int, tq: int, ts: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    shape = {"dtype": torch.float64, "requires_grad": True}
    return torch.randn(b, tq, h, 4, **shape), torch.randn(b, ts, h, 4, **shape)


class _MeanWeights(torch.autograd.Function):
    """Averaged weights alone, with the gradients that the whole takes from them."""

    @staticmethod
    def forward(ctx, q, k, asked, read, rate):
        ctx.lots = draw_lots(rate)
        w, norm = average(q, k, asked, read, ctx.lots)
        ctx.save_for_backward(q, k, asked, read, norm)
        return w

    @staticmethod
    def backward(ctx, grad):
        with torch.no_grad():
            return *push(*ctx.saved_tensors, grad.contiguous(), ctx.lots), None, None, None


def mean_weights(q, k, asked, read, rate=0.0) -> torch.Tensor:
    return _MeanWeights.apply(q, k, asked, read, rate)


def plain_mean(q: torch.Tensor, k: torch.Tensor, asked: list[int], read: list[int]) -> torch.Tensor:
    """Utterance by utterance, as the formula says."""
    means = []
    for i, (a, r) in enumerate(zip(asked, read, strict=True)):
        scores = torch.einsum("qhd,shd->hqs", q[i, :a], k[i, :r]) / math.sqrt(q.shape[3])
        weights = scores.softmax(dim=-1).mean(dim=1)
        means.append(torch.nn.functional.pad(weights, (0, k.shape[1] - r)))
    return torch.stack(means)


@pytest.mark.parametrize("most", [1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 5 * BLOCK + 3])
def test_every_utterance_is_read_over_its_real_frames_in_however_many_blocks(most):
    asked, read = [most, max(1, most // 3), 1], [1, 9, 5]
    q, k = some_heads(3, 3, most, 9)
    found = mean_weights(q, k, torch.tensor(asked), torch.tensor(read))
    expected = plain_mean(q, k, asked, read)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    along = torch.randn_like(expected)
    wanted = torch.autograd.grad((expected * along).sum(), (q, k))
    for a, b in zip(torch.autograd.grad((found * along).sum(), (q, k)), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


def test_large_scores_do_not_overflow():
    q, k = some_heads(2, 2, 5, 6)
    found = mean_weights(1e3 * q, k, torch.tensor([5, 5]), torch.tensor([6, 6]))
    torch.testing.assert_close(found, plain_mean(1e3 * q, k, [5, 5], [6, 6]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("frame", [0, 4, 5])
def test_a_number_that_is_none_is_not_hidden_and_stays_in_its_head(dtype, bad, frame):
    q, k = (x.detach().to(dtype) for x in some_heads(2, 2, 5, 6))
    clean = mean_weights(q, k, torch.tensor([5, 5]), torch.tensor([6, 6]))
    k[0, frame, 1, 2] = bad
    found = mean_weights(q, k, torch.tensor([5, 5]), torch.tensor([6, 6]))
    assert found[0, 1].isnan().all()
    found[0, 1] = clean[0, 1]
    assert torch.equal(found, clean)


def test_a_gradient_that_is_no_number_stays_with_its_utterance():
    q, k = some_heads(2, 2, 2 * BLOCK, 6)
    asked, read = torch.tensor([2 * BLOCK, 5]), torch.tensor([6, 6])
    k.data[0, 3, 1, 2] = torch.nan
    given = torch.autograd.grad(mean_weights(q, k, asked, read).square().sum(), (q, k))
    for grad in given:
        assert grad[0].isnan().any()
        assert grad[1].isfinite().all()


def test_where_nothing_is_compiled_the_numbers_are_the_same():
    """What a GPU is given: the same function in torch's own operations."""
    q, k = (x.detach() for x in some_heads(4, 2, 5, 6))
    asked, read = torch.tensor([5, 2, 0, 3]), torch.tensor([6, 1, 4, 0])
    by_torch = plain_mean_weights(q, k, asked, read, 0.0)
    torch.testing.assert_close(mean_weights(q, k, asked, read), by_torch, rtol=0, atol=1e-14)
    assert not by_torch[2:].any()


@pytest.mark.parametrize("fusion", ["self", "cross", "selfcross", "cross_tied"])
@pytest.mark.parametrize("residual", [False, True])
def test_a_fusion_without_maps_gives_the_vectors_of_one_with_maps(fusion, residual):
    torch.manual_seed(0)
    module = build_fusion(fusion, FusionConfig(("audio", "text"), D, H, residual=residual))
    (audio, text), (a_mask, t_mask) = inputs(torch.float32), padded()
    read = ({"audio": audio, "text": text}, {"audio": a_mask, "text": t_mask})
    plain, short = module(*read, need_weights=True), module(*read)
    torch.testing.assert_close(short.vectors, plain.vectors, rtol=1e-5, atol=1e-6)
    assert short.weights == {}
    assert set(plain.weights)


# -- dropout ---------------------------------------------------------------------------------------


def drop(rate: float, n: int = 4, tq: int = 300, ts: int = 400, seed: int = 0) -> np.ndarray:
    """Which of (n, tq, ts) weights are kept: what row t adds to the mean of the rows before it."""
    kept = np.empty((n, tq, ts), bool)
    mean, before = np.zeros((1, n, ts)), np.zeros((1, n, ts))
    k = np.zeros((1, ts, n, 1))  # all weights are equal
    q, norm = np.zeros((1, tq, n, 1)), np.empty((1, n, 2, tq))
    lots = np.uint64(seed), np.uint32(rate * TOP)
    for t in range(tq):
        mean[:] = 0
        average_weights(q, k, np.array([t + 1]), np.array([ts]), norm, mean, *lots)
        mean *= (t + 1) * (1 - lots[1] / TOP)  # the sum of what is kept
        kept[:, t] = (mean - before)[0] > 0.5 / ts
        before[:] = mean
    np.testing.assert_allclose(mean[0], kept.sum(axis=1) / ts)
    return kept


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_has_its_rate_over_all_and_in_every_column_and_row(rate):
    kept = drop(rate)
    for axes in ((0, 1, 2), (0, 1), (2,)):
        share, count = 1 - kept.mean(axis=axes), np.prod([kept.shape[a] for a in axes])
        worst = np.abs(share - rate).max() / math.sqrt(rate * (1 - rate) / count)
        assert worst < (4 if axes == (0, 1, 2) else 6)


@pytest.mark.parametrize("lag", [(0, 0, 1), (0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 0, 0), (0, 0, 32)])
def test_what_is_dropped_does_not_depend_on_its_neighbours(lag):
    kept = drop(0.5)
    here = kept[tuple(slice(0, n - k) for n, k in zip(kept.shape, lag, strict=True))]
    there = kept[tuple(slice(k, None) for k in lag)]
    correlation = np.corrcoef(here.ravel(), there.ravel())[0, 1]
    assert abs(correlation) * math.sqrt(here.size) < 4


def test_an_utterance_drops_the_same_weights_however_long_the_others_are():
    q, k = (x.detach() for x in some_heads(1, 2, 2 * BLOCK, 6))
    asked, read, drawn = torch.tensor([BLOCK + 1]), torch.tensor([5]), []
    for tq, ts in ((BLOCK + 1, 5), (2 * BLOCK, 6)):
        torch.manual_seed(0)
        drawn.append(mean_weights(q[:, :tq].contiguous(), k[:, :ts].contiguous(), asked, read, 0.4))
    assert torch.equal(drawn[0], drawn[1][..., :5])


def test_other_seeds_drop_other_weights_and_one_seed_the_same():
    a, again, b = drop(0.5), drop(0.5), drop(0.5, seed=1)
    assert (a == again).all()
    assert abs((a == b).mean() - 0.5) < 4 * 0.5 / math.sqrt(a.size)


def test_what_is_kept_is_scaled_so_that_nothing_changes_on_average():
    q, k = (x.detach().float() for x in some_heads(B, H, TQ, TS))
    asked, read = torch.tensor([TQ, 4, TQ]), torch.tensor([TS, TS, 2])
    torch.manual_seed(0)
    drawn = torch.stack([mean_weights(q, k, asked, read, 0.3) for _ in range(4000)])
    error = drawn.std(dim=0) / math.sqrt(len(drawn))
    difference = drawn.mean(dim=0) - mean_weights(q, k, asked, read)
    assert ((difference / error)[error > 0].abs() < 5).all()
    assert not difference[error == 0].any()


def test_dropout_follows_torchs_seed_and_its_gradient_is_that_of_what_was_kept():
    q, k = some_heads(2, 2, 5, 6)
    asked, read = torch.tensor([5, 3]), torch.tensor([4, 6])

    def kept(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(7)
        return mean_weights(q, k, asked, read, 0.4)

    assert torch.equal(kept(q, k), kept(q, k))
    assert (kept(q, k) != mean_weights(q, k, asked, read)).any()
    assert torch.autograd.gradcheck(kept, (q, k), atol=1e-8)


def test_heads_and_utterances_drop_other_weights():
    q, k = (torch.zeros_like(x) for x in some_heads(2, 2, 40, 50))
    torch.manual_seed(0)
    w = mean_weights(q, k, torch.tensor([40, 40]), torch.tensor([50, 50]), 0.5).flatten(0, 1)
    assert len(torch.unique(w, dim=0)) == 4


def test_almost_everything_may_be_dropped():
    q, k = some_heads(2, 2, 5, 6)
    w = mean_weights(q, k, torch.tensor([5, 5]), torch.tensor([6, 6]), 1 - 1e-12)
    assert not w.any()
